//! Meshes that meet on loopback.

use oob_mesh::{DownReason, Link, Listen, Mesh, MeshConfig, MeshEvent, Transport, start};
use oob_proto::TransportKey;
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};
use tokio::{sync::mpsc, time::timeout};
use zeroize::Zeroizing;

/// Longest wait for anything that must happen: far above every bound of the mesh, so that only a hang meets it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Host {
    pub(crate) mesh: Mesh,
    pub(crate) events: mpsc::Receiver<MeshEvent>,
}

pub(crate) const ANY_PORT: [&str; 2] = ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"];

pub(crate) fn config(seed: u8, listen: &[&str]) -> MeshConfig {
    MeshConfig {
        transport_secret: Zeroizing::new([seed; 32]),
        listen: Listen::Explicit(listen.iter().map(ToString::to_string).collect()),
        mdns: false,
        beacon: true,
        private_only: true,
    }
}

impl Host {
    pub(crate) async fn start(seed: u8) -> Self {
        Self::listening(seed, &ANY_PORT).await
    }

    pub(crate) async fn listening(seed: u8, listen: &[&str]) -> Self {
        let (mesh, events) = start(config(seed, listen)).await.unwrap();
        Self { mesh, events }
    }

    pub(crate) fn key(&self) -> TransportKey {
        self.mesh.local_key()
    }

    /// Where this host listens with `transport`, with `/p2p/`.
    pub(crate) fn address(&self, transport: Transport) -> String {
        let part = match transport {
            Transport::Tcp => "/tcp/",
            Transport::Quic => "/quic-v1",
        };
        self.mesh.listening().into_iter().find(|address| address.contains(part)).unwrap()
    }

    /// The same without `/p2p/`, as a person types it.
    pub(crate) fn typed(&self, transport: Transport) -> String {
        self.address(transport).split("/p2p/").next().unwrap().to_owned()
    }

    pub(crate) async fn allow(&self, others: &[&Host]) {
        self.mesh.allow(others.iter().map(|host| host.key()).collect::<BTreeSet<_>>()).await;
    }

    /// The next event that is not about our own addresses.
    pub(crate) async fn next(&mut self) -> MeshEvent {
        loop {
            let event = timeout(PATIENCE, self.events.recv()).await.expect("an event in time");
            match event.expect("a mesh") {
                MeshEvent::Listening(_) => {}
                event => return event,
            }
        }
    }

    pub(crate) async fn up(&mut self) -> Link {
        match self.next().await {
            MeshEvent::Up(link) => link,
            other => panic!("{other:?} instead of a link"),
        }
    }

    pub(crate) async fn down(&mut self) -> (TransportKey, DownReason) {
        match self.next().await {
            MeshEvent::Down { key, reason } => (key, reason),
            other => panic!("{other:?} instead of the end of a link"),
        }
    }
}

/// Two hosts that admit each other; the first dials the second.
pub(crate) async fn pair(transport: Transport) -> (Host, Host, Link, Link) {
    let (mut a, mut b) = (Host::start(1).await, Host::start(2).await);
    a.allow(&[&b]).await;
    b.allow(&[&a]).await;
    let address = b.address(transport);
    a.mesh.learn(None, &address, oob_mesh::FoundBy::Typed).await.unwrap();
    let (link_a, link_b) = tokio::join!(a.up(), b.up());
    (a, b, link_a, link_b)
}

/// Waits until something holds, looking every few milliseconds; for what no event tells.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
