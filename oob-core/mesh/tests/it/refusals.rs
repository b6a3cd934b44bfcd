//! What must not work: garbage, taken ports, addresses out of bounds.

use libp2p::{
    Multiaddr, StreamProtocol, SwarmBuilder,
    futures::{AsyncReadExt, AsyncWriteExt, StreamExt},
    identity::Keypair,
    noise, tcp, yamux,
};
use oob_mesh::{AddressError, DownReason, FoundBy, MeshError, MeshEvent, Transport, start};
use oob_proto::TransportKey;
use std::{
    io::Write,
    net::{TcpStream, UdpSocket},
    time::{Duration, Instant},
};

use crate::support::{Host, PATIENCE, config, pair, until};

fn socket(host: &Host, transport: Transport) -> String {
    let address = host.typed(transport);
    let mut parts = address.split('/').skip(2);
    let ip = parts.next().unwrap();
    format!("{ip}:{}", parts.nth(1).unwrap())
}

#[tokio::test]
async fn garbage_on_both_ports_harms_nobody() {
    let (mut a, mut b, mut one, mut two) = pair(Transport::Quic).await;
    let (tcp, udp) = (socket(&b, Transport::Tcp), socket(&b, Transport::Quic));
    let sender = UdpSocket::bind("127.0.0.1:0").unwrap();
    for n in 0..200usize {
        let garbage: Vec<u8> = (0..n * 7 % 1_300).map(|i| (i * 31 + n * 17) as u8).collect();
        sender.send_to(&garbage, &udp).unwrap();
    }
    for n in 0..20u8 {
        let mut stream = TcpStream::connect(&tcp).unwrap();
        let _ = stream.write_all(&vec![n.wrapping_mul(37); 5_000]);
    }
    until("the garbage is counted", || b.mesh.counters().inbound_failed >= 20).await;
    one.sender.try_send(bytes::Bytes::from_static(b"still here")).unwrap();
    assert_eq!(two.receiver.recv().await.unwrap(), &b"still here"[..]);
    two.sender.try_send(bytes::Bytes::from_static(b"me too")).unwrap();
    assert_eq!(one.receiver.recv().await.unwrap(), &b"me too"[..]);
    assert!(a.events.try_recv().is_err() && b.events.try_recv().is_err());
}

/// A handshake may take five seconds: a machine that is too busy lets the crowd's own time pass, which shows nothing.
#[tokio::test]
async fn a_crowd_of_half_open_connections_is_bounded_and_locks_no_member_out() {
    let mut tries = 1;
    while !crowd_was_there_all_the_time().await {
        tries += 1;
        assert!(tries <= 3, "the crowd was gone before the member had its link");
    }
}

async fn crowd_was_there_all_the_time() -> bool {
    // QUIC calls from where it listens: so the member is at another host than the crowd.
    let mut a = Host::listening(1, &["/ip4/127.0.0.2/udp/0/quic-v1"]).await;
    let mut b = Host::start(2).await;
    a.allow(&[&b]).await;
    b.allow(&[&a]).await;
    // Nobody answers there, but it is where the member is said to be.
    b.mesh.learn(Some(a.key()), "/ip4/127.0.0.2/tcp/1", FoundBy::Learned).await.unwrap();
    let tcp = socket(&b, Transport::Tcp);
    let start = Instant::now();
    let crowd: Vec<_> = (0..100).map(|_| TcpStream::connect(&tcp).unwrap()).collect();
    until("the rest is refused", || b.mesh.counters().inbound_refused >= 100 - 32).await;
    a.mesh.learn(None, &b.address(Transport::Quic), FoundBy::Typed).await.unwrap();
    let link = a.up().await;
    b.up().await;
    assert!(link.outgoing, "the member called");
    let was_there =
        start.elapsed() < Duration::from_secs(4) && b.mesh.counters().inbound_failed == 0;
    drop(crowd);
    was_there
}

/// A member that speaks libp2p but not our framing.
#[tokio::test]
async fn a_length_prefix_over_the_limit_closes_the_stream() {
    let mut b = Host::start(2).await;
    let keypair = Keypair::ed25519_from_bytes([9; 32]).unwrap();
    let key = TransportKey::from(keypair.public().try_into_ed25519().unwrap().to_bytes());
    b.mesh.allow([key].into()).await;
    let mut swarm = SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|_| raw::Raw::default())
        .unwrap()
        .build();
    let address: Multiaddr = b.address(Transport::Tcp).parse().unwrap();
    swarm.dial(address).unwrap();
    let (tell, told) = tokio::sync::oneshot::channel();
    let swarming = tokio::spawn(async move {
        let mut tell = Some(tell);
        loop {
            if let libp2p::swarm::SwarmEvent::Behaviour(stream) = swarm.select_next_some().await
                && let Some(tell) = tell.take()
            {
                let _ = tell.send(stream);
            }
        }
    });
    let mut stream = told.await.unwrap();
    stream.write_all(&[0, 0, 0, 3, 1, 2, 3]).await.unwrap();
    stream.flush().await.unwrap();
    let mut link = b.up().await;
    assert_eq!(link.receiver.recv().await.unwrap(), &[1, 2, 3][..]);
    stream.write_all(&u32::MAX.to_be_bytes()).await.unwrap();
    stream.flush().await.unwrap();
    assert_eq!(b.down().await, (key, DownReason::Malformed));
    assert_eq!(b.mesh.counters().frames_malformed, 1);
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
    swarming.abort();
}

/// The smallest behaviour that opens a sync stream on the first connection.
mod raw {
    use super::StreamProtocol;
    use libp2p::{
        Multiaddr, PeerId, Stream,
        core::{Endpoint, transport::PortUse, upgrade::ReadyUpgrade},
        swarm::{
            ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
            NetworkBehaviour, SubstreamProtocol, ToSwarm,
            handler::{ConnectionEvent, FullyNegotiatedOutbound},
        },
    };
    use std::{
        collections::VecDeque,
        convert::Infallible,
        task::{Context, Poll},
    };

    #[derive(Default)]
    pub(crate) struct Raw(VecDeque<Stream>);

    #[derive(Default)]
    pub(crate) struct Handler {
        asked: bool,
        stream: Option<Stream>,
    }

    type Upgrade = ReadyUpgrade<StreamProtocol>;

    impl ConnectionHandler for Handler {
        type FromBehaviour = Infallible;
        type ToBehaviour = Stream;
        type InboundProtocol = Upgrade;
        type OutboundProtocol = Upgrade;
        type InboundOpenInfo = ();
        type OutboundOpenInfo = ();

        fn listen_protocol(&self) -> SubstreamProtocol<Upgrade> {
            SubstreamProtocol::new(ReadyUpgrade::new(StreamProtocol::new("/none")), ())
        }

        fn connection_keep_alive(&self) -> bool {
            true
        }

        fn poll(
            &mut self,
            _: &mut Context<'_>,
        ) -> Poll<ConnectionHandlerEvent<Upgrade, (), Stream>> {
            if !std::mem::replace(&mut self.asked, true) {
                let upgrade = ReadyUpgrade::new(StreamProtocol::new("/oob/sync/1"));
                let protocol = SubstreamProtocol::new(upgrade, ());
                return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
            }
            match self.stream.take() {
                Some(stream) => Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(stream)),
                None => Poll::Pending,
            }
        }

        fn on_behaviour_event(&mut self, event: Infallible) {
            match event {}
        }

        fn on_connection_event(&mut self, event: ConnectionEvent<Upgrade, Upgrade>) {
            if let ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol,
                ..
            }) = event
            {
                self.stream = Some(protocol);
            }
        }
    }

    impl NetworkBehaviour for Raw {
        type ConnectionHandler = Handler;
        type ToSwarm = Stream;

        fn handle_established_inbound_connection(
            &mut self,
            _: ConnectionId,
            _: PeerId,
            _: &Multiaddr,
            _: &Multiaddr,
        ) -> Result<Handler, ConnectionDenied> {
            Ok(Handler::default())
        }

        fn handle_established_outbound_connection(
            &mut self,
            _: ConnectionId,
            _: PeerId,
            _: &Multiaddr,
            _: Endpoint,
            _: PortUse,
        ) -> Result<Handler, ConnectionDenied> {
            Ok(Handler::default())
        }

        fn on_swarm_event(&mut self, _: FromSwarm<'_>) {}

        fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, stream: Stream) {
            self.0.push_back(stream);
        }

        fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Stream, Infallible>> {
            match self.0.pop_front() {
                Some(stream) => Poll::Ready(ToSwarm::GenerateEvent(stream)),
                None => Poll::Pending,
            }
        }
    }
}

#[tokio::test]
async fn an_explicit_port_that_is_taken_is_an_error() {
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    let first = Host::start(1).await;
    for taken in [
        format!("/ip4/127.0.0.1/tcp/{}", tcp.local_addr().unwrap().port()),
        format!("/ip4/127.0.0.1/udp/{}/quic-v1", udp.local_addr().unwrap().port()),
        first.typed(Transport::Tcp),
        first.typed(Transport::Quic),
    ] {
        let error = start(config(2, &[&taken])).await.unwrap_err();
        assert!(
            matches!(&error, MeshError::AddressInUse { address } if *address == taken),
            "{taken}: {error:?}"
        );
    }
}

#[tokio::test]
async fn two_meshes_on_one_host_share_no_port_by_default() {
    let by_default = |seed| {
        let mut config = config(seed, &[]);
        config.listen = oob_mesh::Listen::Default;
        config
    };
    let (one, _events) = start(by_default(1)).await.unwrap();
    let (two, _events) = start(by_default(2)).await.unwrap();
    let port = |mesh: &oob_mesh::Mesh| mesh.moved_port().unwrap_or(oob_mesh::DEFAULT_PORT);
    assert_ne!(port(&one), port(&two));
    assert!(two.moved_port().is_some(), "and the one that moved knows it");
    for address in two.listening() {
        assert!(address.contains(&format!("/{}", port(&two))), "{address}");
    }
}

#[tokio::test]
async fn a_mesh_set_to_private_networks_dials_nowhere_else() {
    let a = Host::start(1).await;
    let far = "/ip4/203.0.113.5/tcp/4801";
    let error = a.mesh.learn(None, far, FoundBy::Typed).await.unwrap_err();
    assert!(matches!(error, AddressError::NotPrivate { .. }));
    let error = a.mesh.open_join(far).await.unwrap_err();
    assert!(matches!(error, MeshError::Address(AddressError::NotPrivate { .. })));
    assert_eq!((a.mesh.counters().dials, a.mesh.known().len()), (0, 0));
}

#[tokio::test]
async fn an_address_of_another_device_is_not_taken_for_this_one() {
    let (a, b, c) = (Host::start(1).await, Host::start(2).await, Host::start(3).await);
    let address = b.address(Transport::Tcp);
    let error = a.mesh.learn(Some(c.key()), &address, FoundBy::Learned).await.unwrap_err();
    assert!(matches!(error, AddressError::OtherPeer { .. }));
}

/// Somebody announces a member at his own address: the member is still found at the right one.
#[tokio::test]
async fn a_forged_address_does_not_keep_a_member_away() {
    let (mut a, mut b, rogue) = (Host::start(1).await, Host::start(2).await, Host::start(3).await);
    b.allow(&[&a]).await;
    let wrong = rogue.typed(Transport::Tcp);
    a.mesh.learn(Some(b.key()), &wrong, FoundBy::Learned).await.unwrap();
    a.allow(&[&b]).await;
    until("the forgery is noticed", || !a.mesh.seen_strangers().is_empty()).await;
    a.mesh.learn(Some(b.key()), &b.typed(Transport::Tcp), FoundBy::Learned).await.unwrap();
    let (link, _) = tokio::join!(a.up(), b.up());
    assert_eq!(link.key, b.key());
    assert!(rogue.mesh.peers().is_empty());
}

#[tokio::test]
async fn a_mesh_that_was_shut_down_refuses_politely() {
    let (a, b) = (Host::start(1).await, Host::start(2).await);
    a.mesh.shutdown().await;
    let to_b = b.address(Transport::Tcp);
    let learned = a.mesh.learn(None, &to_b, FoundBy::Typed).await;
    assert_eq!(learned, Err(AddressError::Stopped));
    assert!(matches!(a.mesh.open_join(&to_b).await, Err(MeshError::Stopped)));
    a.mesh.allow([b.key()].into()).await;
    a.mesh.disconnect(b.key()).await;
    a.mesh.shutdown().await;
}

#[tokio::test]
async fn a_peer_disconnected_by_hand_comes_back() {
    let (mut a, mut b, _one, _two) = pair(Transport::Tcp).await;
    a.mesh.disconnect(b.key()).await;
    assert_eq!(a.down().await.1, DownReason::Asked);
    let MeshEvent::Down { .. } = b.next().await else { panic!("no end") };
    let both = async { tokio::join!(a.up(), b.up()) };
    tokio::time::timeout(PATIENCE, both).await.unwrap();
}
