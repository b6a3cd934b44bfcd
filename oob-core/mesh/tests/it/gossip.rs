//! Gossip: over hops, only after a verdict, only among members, and never without bound.

use bytes::Bytes;
use libp2p::{
    Multiaddr, SwarmBuilder,
    futures::StreamExt,
    gossipsub::{self, IdentTopic, MessageAuthenticity},
    identity::Keypair,
    noise,
    swarm::SwarmEvent,
    tcp, yamux,
};
use oob_mesh::{
    DownReason, FoundBy, GOSSIP_BYTES, Gossip, Link, MeshEvent, SendError, Topic, Transport,
    Verdict,
};
use oob_proto::{OrgId, TransportKey};
use std::time::Duration;
use tokio::time::timeout;

use crate::support::{Host, PATIENCE, until};

fn topic() -> Topic {
    Topic::of(&OrgId::from([7; 32]))
}

impl Host {
    /// Waits for the next message that came by gossip.
    async fn heard(&mut self) -> Gossip {
        loop {
            if let MeshEvent::Gossip(gossip) = self.next().await {
                return gossip;
            }
        }
    }

    /// Waits until everybody linked to this host gossips with it.
    async fn gossips_with(&self, neighbours: usize) {
        until("everybody gossips", || {
            let peers = self.mesh.peers();
            peers.len() == neighbours && peers.iter().all(|peer| peer.gossips)
        })
        .await;
    }
}

/// Connects two hosts that admit each other already. Dropping what this returns ends the link.
async fn connect(a: &mut Host, b: &mut Host, transport: Transport) -> (Link, Link) {
    a.mesh.learn(None, &b.address(transport), FoundBy::Typed).await.unwrap();
    tokio::join!(a.up(), b.up())
}

/// Three in a line, and their links.
struct Line {
    a: Host,
    b: Host,
    c: Host,
    _links: [(Link, Link); 2],
}

/// Three in a line: the ends do not know each other.
async fn line(transport: Transport) -> Line {
    let (mut a, mut b, mut c) = (Host::start(1).await, Host::start(2).await, Host::start(3).await);
    for host in [&a, &b, &c] {
        host.mesh.subscribe(topic()).await;
    }
    a.allow(&[&b]).await;
    b.allow(&[&a, &c]).await;
    c.allow(&[&b]).await;
    let _links =
        [connect(&mut a, &mut b, transport).await, connect(&mut b, &mut c, transport).await];
    a.gossips_with(1).await;
    b.gossips_with(2).await;
    c.gossips_with(1).await;
    Line { a, b, c, _links }
}

fn text(text: &'static str) -> Bytes {
    Bytes::from_static(text.as_bytes())
}

#[tokio::test]
async fn what_a_neighbour_accepts_reaches_who_is_two_hops_away_and_nothing_else_does() {
    for transport in [Transport::Tcp, Transport::Quic] {
        let Line { a, mut b, mut c, _links } = line(transport).await;
        for (body, verdict) in [
            ("ignored", Verdict::Ignore),
            ("rejected", Verdict::Reject),
            ("accepted", Verdict::Accept),
        ] {
            a.mesh.publish(text(body)).unwrap();
            let heard = b.heard().await;
            assert_eq!((heard.from, &heard.data), (a.key(), &text(body)));
            b.mesh.verdict(heard.id, heard.from, verdict).await;
        }
        let heard = c.heard().await;
        assert_eq!((heard.from, heard.data), (b.key(), text("accepted")), "{transport:?}");
        // Time for two rounds in which neighbours name to each other what they have.
        let more = timeout(Duration::from_millis(1_600), c.heard()).await;
        assert!(more.is_err(), "{transport:?}: {more:?}");
        assert_eq!(b.mesh.counters().gossip_rejected, 1);
    }
}

#[tokio::test]
async fn nothing_is_passed_on_while_the_verdict_is_out() {
    let Line { a, mut b, mut c, _links } = line(Transport::Tcp).await;
    a.mesh.publish(text("wait")).unwrap();
    let heard = b.heard().await;
    assert!(timeout(Duration::from_millis(1_000), c.heard()).await.is_err());
    b.mesh.verdict(heard.id, heard.from, Verdict::Accept).await;
    assert_eq!(c.heard().await.data, text("wait"));
}

/// With gossipsub's own ids, all anonymous messages are one and the same, and only the first arrives.
#[tokio::test]
async fn every_message_arrives_once() {
    let Line { a, mut b, c: _c, _links } = line(Transport::Quic).await;
    for body in ["one", "two", "one", "three"] {
        a.mesh.publish(text(body)).unwrap();
    }
    let mut heard = Vec::new();
    while heard.len() < 3 {
        heard.push(b.heard().await.data);
    }
    assert_eq!(heard, ["one", "two", "three"]);
    assert!(timeout(Duration::from_millis(300), b.heard()).await.is_err(), "twice");
}

#[tokio::test]
async fn a_message_over_the_limit_is_not_taken() {
    let Line { a, mut b, c: _c, _links } = line(Transport::Tcp).await;
    let long = Bytes::from(vec![1; GOSSIP_BYTES + 1]);
    assert_eq!(a.mesh.publish(long), Err(SendError::GossipLength { len: GOSSIP_BYTES + 1 }));
    let longest = Bytes::from(vec![1; GOSSIP_BYTES]);
    a.mesh.publish(longest.clone()).unwrap();
    assert_eq!(b.heard().await.data, longest);
}

/// Somebody with a real gossipsub; says whether it was refused.
async fn refuses(b: &Host, keypair: Keypair) -> bool {
    let mut swarm = SwarmBuilder::with_existing_identity(keypair)
        .with_tokio()
        .with_tcp(tcp::Config::default(), noise::Config::new, yamux::Config::default)
        .unwrap()
        .with_behaviour(|_| {
            let config = gossipsub::ConfigBuilder::default()
                .validation_mode(gossipsub::ValidationMode::Anonymous)
                .build()
                .unwrap();
            let mut behaviour: gossipsub::Behaviour =
                gossipsub::Behaviour::new(MessageAuthenticity::Anonymous, config).unwrap();
            behaviour.subscribe(&IdentTopic::new(topic().as_str())).unwrap();
            behaviour
        })
        .unwrap()
        .build();
    swarm.dial(b.address(Transport::Tcp).parse::<Multiaddr>().unwrap()).unwrap();
    let refused = async {
        loop {
            if let SwarmEvent::Behaviour(gossipsub::Event::GossipsubNotSupported { .. }) =
                swarm.select_next_some().await
            {
                return;
            }
        }
    };
    timeout(Duration::from_secs(2), refused).await.is_ok()
}

#[tokio::test]
async fn a_stranger_cannot_speak_gossip() {
    let b = Host::start(2).await;
    b.mesh.subscribe(topic()).await;
    let keypair = Keypair::ed25519_from_bytes([9; 32]).unwrap();
    assert!(refuses(&b, keypair.clone()).await, "a stranger was offered gossip");
    // The control: the same caller, once in the roster, is.
    let key = TransportKey::from(keypair.public().try_into_ed25519().unwrap().to_bytes());
    b.mesh.allow([key].into()).await;
    assert!(!refuses(&b, keypair).await, "a member was refused");
}

#[tokio::test]
async fn a_neighbour_that_does_not_subscribe_is_dialled_again_until_it_does() {
    let (mut a, mut b) = (Host::start(1).await, Host::start(2).await);
    a.mesh.subscribe(topic()).await;
    a.allow(&[&b]).await;
    b.allow(&[&a]).await;
    a.mesh.learn(None, &b.address(Transport::Tcp), FoundBy::Typed).await.unwrap();
    let (first, _other) = tokio::join!(a.up(), b.up());
    assert_eq!(a.down().await, (first.key, DownReason::Deaf));
    assert_eq!(a.mesh.counters().deaf_links, 1);
    b.mesh.subscribe(topic()).await;
    let _second = (a.up().await, b.down().await, b.up().await);
    a.gossips_with(1).await;
    b.gossips_with(1).await;
    a.mesh.publish(text("and now")).unwrap();
    assert_eq!(b.heard().await.data, text("and now"));
    assert_eq!(a.mesh.counters().deaf_links, 1);
}

#[tokio::test]
async fn a_flood_takes_no_more_than_its_share_and_the_link_lives() {
    let Line { mut a, mut b, c: _c, _links } = line(Transport::Tcp).await;
    for n in 0..10_000_u32 {
        let mut body = vec![0; 1_024];
        body[..4].copy_from_slice(&n.to_be_bytes());
        while a.mesh.publish(Bytes::from(body.clone())) == Err(SendError::Full) {
            tokio::task::yield_now().await;
        }
    }
    let all = |b: &Host, a: &Host| {
        let (sent, came) = (a.mesh.counters(), b.mesh.counters());
        sent.gossip_sent + sent.gossip_unsent >= 10_000 && came.gossip_dropped > 0
    };
    until("the flood is over", || all(&b, &a)).await;
    // Nobody has taken anything: what waits is one neighbour's share, a mebibyte with 1 KiB for each.
    let mut waiting = Vec::new();
    while let Ok(Some(MeshEvent::Gossip(gossip))) =
        timeout(Duration::from_millis(500), b.events.recv()).await
    {
        waiting.push(gossip);
    }
    assert_eq!(waiting.len(), 512);
    assert_eq!(b.mesh.peers().len(), 2, "the link lives");
    for gossip in waiting {
        b.mesh.verdict(gossip.id, gossip.from, Verdict::Ignore).await;
    }
    a.gossips_with(1).await;
    // Whatever of the flood is still under way comes first.
    a.mesh.publish(text("after the flood")).unwrap();
    while b.heard().await.data != text("after the flood") {}
    assert!(a.events.try_recv().is_err(), "nothing happened to the link");
}

#[tokio::test]
async fn a_neighbour_whose_messages_are_refused_loses_its_link() {
    let Line { a, mut b, c: _c, _links } = line(Transport::Tcp).await;
    let rejecting = async {
        loop {
            match b.next().await {
                MeshEvent::Gossip(gossip) => {
                    b.mesh.verdict(gossip.id, gossip.from, Verdict::Reject).await;
                }
                MeshEvent::Down { key, reason } => return (key, reason),
                _ => {}
            }
        }
    };
    for n in 0..20_u8 {
        a.mesh.publish(Bytes::from(vec![n; 40])).unwrap();
    }
    let ended = timeout(PATIENCE, rejecting).await.unwrap();
    assert_eq!(ended, (a.key(), DownReason::Misbehaved));
}
