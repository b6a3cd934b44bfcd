//! What a beacon leads to. That they are sent and heard takes a network: see the daemon's netlab tests.

use bytes::Bytes;
use oob_mesh::{BEACON_BYTES, FoundBy, SendError, Transport};
use std::{
    net::UdpSocket,
    time::{Duration, Instant},
};

use crate::support::{Host, until};

#[tokio::test]
async fn a_beacon_leads_to_private_addresses_of_roster_peers_and_nowhere_else() {
    let (mut a, mut b, c) = (Host::start(1).await, Host::start(2).await, Host::start(3).await);
    a.allow(&[&b]).await;
    b.allow(&[&a]).await;
    let addresses =
        ["/ip4/8.8.8.8/tcp/4801".to_owned(), "nonsense".to_owned(), b.typed(Transport::Tcp)];
    a.mesh.learn_beacon(c.key(), &[c.typed(Transport::Tcp)]).await;
    a.mesh.learn_beacon(b.key(), &addresses).await;
    let (link, _other) = tokio::join!(a.up(), b.up());
    assert_eq!((link.key, link.found_by), (b.key(), FoundBy::Beacon));
    let known: Vec<_> = a.mesh.known().into_iter().map(|known| known.address).collect();
    assert_eq!(known, [b.typed(Transport::Tcp)]);
    assert_eq!(a.mesh.counters().addresses_refused, 1);
    assert!(a.mesh.seen_strangers().is_empty(), "whoever is in no roster is not even noted");
    assert!(c.mesh.peers().is_empty());
}

/// How long until a device is found that is dialled where nobody answers, and is then heard of elsewhere.
async fn found_elsewhere(by_beacon: bool) -> Duration {
    // The higher key dials, since a beacon is followed without yielding.
    let keys = [Host::start(1).await, Host::start(2).await];
    let [mut a, mut b] = keys;
    if a.key() < b.key() {
        std::mem::swap(&mut a, &mut b);
    }
    a.allow(&[&b]).await;
    b.allow(&[&a]).await;
    // It takes packets and never answers, so a dial lasts as long as a dial may.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let nowhere = format!("/ip4/127.0.0.1/udp/{}/quic-v1", silent.local_addr().unwrap().port());
    a.mesh.learn(Some(b.key()), &nowhere, FoundBy::Learned).await.unwrap();
    until("the dial is under way", || a.mesh.counters().dials == 1).await;
    let start = Instant::now();
    let there = b.typed(Transport::Tcp);
    if by_beacon {
        a.mesh.learn_beacon(b.key(), &[there]).await;
    } else {
        a.mesh.learn(Some(b.key()), &there, FoundBy::Mdns).await.unwrap();
    }
    tokio::join!(a.up(), b.up());
    start.elapsed()
}

/// The first link in a new network took a second and a half: a dial to where the peer had been stood in the way.
#[tokio::test]
async fn a_beacon_takes_the_place_of_a_dial_to_where_the_peer_was() {
    let took = found_elsewhere(true).await;
    assert!(took < Duration::from_millis(500), "{took:?}");
    // The control: what is heard otherwise waits for the dial to end.
    let waited = found_elsewhere(false).await;
    assert!(waited > Duration::from_millis(1_000), "{waited:?}");
}

#[tokio::test]
async fn whoever_listens_on_loopback_only_sends_no_beacon() {
    let a = Host::start(1).await;
    assert_eq!(a.mesh.send_beacon(Bytes::from_static(b"sealed")), Err(SendError::Closed));
    let long = Bytes::from(vec![0; BEACON_BYTES + 1]);
    let len = long.len();
    assert_eq!(a.mesh.send_beacon(long), Err(SendError::BeaconLength { len }));
}
