//! How bytes travel: TCP with Noise and Yamux, and QUIC; and where they may not go.

use futures::{FutureExt, future::BoxFuture};
use libp2p::{
    Multiaddr, PeerId, Transport as _,
    core::{
        muxing::StreamMuxerBox,
        transport::{
            Boxed, DialOpts, ListenerId, OrTransport, PortUse, TransportError, TransportEvent,
        },
        upgrade,
    },
    identity::Keypair,
    noise, quic, tcp, yamux,
};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use crate::{
    address::{Place, Transport},
    config::MeshError,
};

/// Longest wait for a dial on a private network.
const CONNECT_NEAR: Duration = Duration::from_secs(2);

/// Longest wait for a dial anywhere else.
const CONNECT_FAR: Duration = Duration::from_secs(8);

/// Longest time somebody who called may take to prove a key; with 64 of them at most, this is what a crowd of
/// half-open connections costs.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// A QUIC connection on which nothing came for so long is dead, and how often it is kept alive.
const QUIC_IDLE_MS: u32 = 4_000;
const QUIC_KEEP_ALIVE: Duration = Duration::from_secs(1);

/// Streams the other side may have open on one connection: a sync stream, join streams, and some about to close.
const STREAMS: usize = 16;

/// Bytes the other side may send ahead of our reading, per stream and in all: what one second of a fast LAN needs is
/// in the socket buffers, so this is only room for one burst of records.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 2 * 1024 * 1024;

type Output = (PeerId, StreamMuxerBox);

/// Builds the transport of a swarm.
pub(crate) fn build(keypair: &Keypair, private_only: bool) -> Result<Boxed<Output>, MeshError> {
    let noise = noise::Config::new(keypair)
        .map_err(|error| MeshError::Transport { reason: error.to_string() })?;
    let mut yamux = yamux::Config::default();
    yamux.set_max_num_streams(STREAMS);
    let tcp = tcp::tokio::Transport::new(tcp::Config::new().nodelay(true))
        .upgrade(upgrade::Version::V1Lazy)
        .authenticate(noise)
        .multiplex(yamux)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));

    let mut config = quic::Config::new(keypair);
    config.handshake_timeout = CONNECT_FAR;
    config.max_idle_timeout = QUIC_IDLE_MS;
    config.keep_alive_interval = QUIC_KEEP_ALIVE;
    config.max_concurrent_stream_limit = u32::try_from(STREAMS).unwrap_or(u32::MAX);
    config.max_stream_data = STREAM_WINDOW;
    config.max_connection_data = CONNECTION_WINDOW;
    let quic = quic::tokio::Transport::new(config)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));

    let both = OrTransport::new(quic, tcp).map(|either, _| either.into_inner());
    Ok(Bounded { inner: both.boxed(), private_only }.boxed())
}

/// The transports with a bound on every wait, and with the one gate through which every dial goes, whoever asked for it.
struct Bounded {
    inner: Boxed<Output>,
    private_only: bool,
}

async fn within<T>(bound: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match tokio::time::timeout(bound, work).await {
        Ok(done) => done,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")),
    }
}

impl libp2p::Transport for Bounded {
    type Output = Output;
    type Error = io::Error;
    type ListenerUpgrade = BoxFuture<'static, io::Result<Output>>;
    type Dial = BoxFuture<'static, io::Result<Output>>;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<io::Error>> {
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        mut opts: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        let Some((place, _)) = Place::from_multiaddr(&address) else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        let near = place.is_private();
        if self.private_only && !near {
            let reason = "outside the private ranges";
            return Err(TransportError::Other(io::Error::new(
                io::ErrorKind::PermissionDenied,
                reason,
            )));
        }
        // QUIC from the listening port opens the way back through our own firewall. TCP from it would let two dials at
        // the same moment meet as one connection with two dialling ends.
        opts.port_use = match place.transport {
            Transport::Quic => PortUse::Reuse,
            Transport::Tcp => PortUse::New,
        };
        let bound = if near { CONNECT_NEAR } else { CONNECT_FAR };
        Ok(within(bound, self.inner.dial(address, opts)?).boxed())
    }

    fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        Pin::new(&mut self.inner)
            .poll(cx)
            .map(|event| event.map_upgrade(|upgrade| within(HANDSHAKE, upgrade).boxed()))
    }
}
