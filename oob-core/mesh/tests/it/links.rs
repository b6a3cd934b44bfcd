//! Links between members: coming up, carrying, going down, coming back.

use bytes::Bytes;
use oob_mesh::{
    DownReason, FoundBy, FrameReceiver, FrameSender, Listen, MeshConfig, MeshError, RECEIVE_FRAMES,
    SEND_BYTES, SEND_FRAMES, SendError, Transport, start,
};
use std::time::{Duration, Instant};
use tokio::time::timeout;
use zeroize::Zeroizing;

use crate::support::{Host, PATIENCE, pair, until};

const FRAMES: u32 = 1_000;

/// Frame `n` of the test stream: its number, and a length that differs from its neighbours'.
fn frame(n: u32) -> Bytes {
    let mut frame = vec![0xff; 4 + (n as usize * 37) % 3_000];
    frame[..4].copy_from_slice(&n.to_be_bytes());
    frame.into()
}

async fn send(sender: FrameSender) {
    for n in 0..FRAMES {
        while let Err(error) = sender.try_send(frame(n)) {
            assert_eq!(error, SendError::Full);
            tokio::task::yield_now().await;
        }
    }
}

async fn receive(receiver: &mut FrameReceiver) {
    for n in 0..FRAMES {
        let got = timeout(PATIENCE, receiver.recv()).await.unwrap().unwrap();
        assert_eq!(got, frame(n));
    }
}

async fn carries_in_order(transport: Transport) {
    let (a, _b, mut one, mut two) = pair(transport).await;
    assert_eq!((one.transport, two.transport), (transport, transport));
    assert_eq!((one.outgoing, two.outgoing), (true, false));
    assert_eq!(one.found_by, FoundBy::Typed);
    assert_eq!(two.key, a.key());
    tokio::join!(
        send(one.sender.clone()),
        send(two.sender.clone()),
        receive(&mut one.receiver),
        receive(&mut two.receiver),
    );
    assert_eq!((one.receiver.try_recv(), two.receiver.try_recv()), (None, None));
    let peers = a.mesh.peers();
    assert_eq!((peers.len(), peers[0].key, peers[0].transport), (1, one.key, transport));
}

#[tokio::test]
async fn a_thousand_frames_arrive_in_order_both_ways_over_tcp() {
    carries_in_order(Transport::Tcp).await;
}

#[tokio::test]
async fn a_thousand_frames_arrive_in_order_both_ways_over_quic() {
    carries_in_order(Transport::Quic).await;
}

#[tokio::test]
async fn a_typed_address_without_a_name_finds_the_member_there() {
    let (mut a, mut b) = (Host::start(1).await, Host::start(2).await);
    a.allow(&[&b]).await;
    b.allow(&[&a]).await;
    a.mesh.learn(None, &b.typed(Transport::Tcp), FoundBy::Typed).await.unwrap();
    let (link, _) = tokio::join!(a.up(), b.up());
    assert_eq!(link.key, b.key());
    let known = a.mesh.known();
    assert_eq!((known.len(), known[0].peer), (1, Some(b.key())));
}

#[tokio::test]
async fn an_address_typed_before_anybody_is_there_is_tried_again() {
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port();
    drop(socket);
    let mut a = Host::start(1).await;
    let address = format!("/ip4/127.0.0.1/tcp/{port}");
    a.mesh.learn(None, &address, FoundBy::Typed).await.unwrap();
    until("a first dial fails", || a.mesh.counters().dials_failed > 0).await;
    let mut b = Host::listening(2, &[&address]).await;
    a.allow(&[&b]).await;
    b.allow(&[&a]).await;
    tokio::join!(a.up(), b.up());
}

#[tokio::test]
async fn a_member_removed_from_the_roster_is_cut_off_within_100_ms() {
    for transport in [Transport::Tcp, Transport::Quic] {
        let (mut a, mut b, _one, mut two) = pair(transport).await;
        let start = Instant::now();
        a.allow(&[]).await;
        assert_eq!(a.down().await, (b.key(), DownReason::Removed));
        assert_eq!(b.down().await, (a.key(), DownReason::Closed));
        assert_eq!(two.receiver.recv().await, None);
        let took = start.elapsed();
        assert!(took < Duration::from_millis(100), "{transport:?}: {took:?}");
        assert!(a.mesh.peers().is_empty());
    }
}

#[tokio::test]
async fn both_dialling_at_the_same_moment_ends_in_one_link() {
    for round in 0..12u8 {
        let transport = [Transport::Tcp, Transport::Quic][usize::from(round % 2)];
        let (mut a, mut b) =
            (Host::start(100 + round * 2).await, Host::start(101 + round * 2).await);
        let (to_a, to_b) = (a.typed(transport), b.typed(transport));
        // Addresses of nobody yet are dialled at once by both, without the courtesy of the higher key.
        a.allow(&[&b]).await;
        b.allow(&[&a]).await;
        let (one, two) = tokio::join!(
            a.mesh.learn(None, &to_b, FoundBy::Typed),
            b.mesh.learn(None, &to_a, FoundBy::Typed)
        );
        one.unwrap();
        two.unwrap();
        let (mut one, mut two) = tokio::join!(a.up(), b.up());
        assert_ne!(one.outgoing, two.outgoing, "both mean the same connection");
        one.sender.try_send(frame(1)).unwrap();
        two.sender.try_send(frame(2)).unwrap();
        assert_eq!(two.receiver.recv().await, Some(frame(1)));
        assert_eq!(one.receiver.recv().await, Some(frame(2)));
        // The losing connection is gone by the next heartbeat, and took nothing along.
        let quiet = timeout(Duration::from_millis(300), async {
            tokio::select! { event = a.next() => event, event = b.next() => event }
        });
        assert!(quiet.await.is_err(), "nothing after the one Up");
    }
}

/// A mesh in a runtime of its own, which can be killed the way a process is: without a goodbye.
struct Mortal {
    runtime: Option<tokio::runtime::Runtime>,
}

impl Mortal {
    fn start(seed: u8, listen: Vec<String>, friend: oob_proto::TransportKey) -> (Self, u16, u16) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        runtime.spawn(async move {
            // The sockets of a runtime that was killed are closed a moment later.
            let killed = Instant::now();
            let (mesh, mut events) = loop {
                let config = MeshConfig {
                    transport_secret: Zeroizing::new([seed; 32]),
                    listen: Listen::Explicit(listen.clone()),
                    mdns: false,
                    beacon: false,
                    private_only: true,
                };
                match start(config).await {
                    Ok(started) => break started,
                    Err(MeshError::AddressInUse { .. }) if killed.elapsed() < PATIENCE => {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    Err(error) => panic!("{error}"),
                }
            };
            mesh.allow([friend].into()).await;
            let port = |part: &str| {
                let addresses = mesh.listening();
                let found = addresses.iter().find(|address| address.contains(part)).unwrap();
                found.split('/').nth(4).unwrap().parse::<u16>().unwrap()
            };
            tell.send((port("/tcp/"), port("/udp/"))).unwrap();
            let mut links = Vec::new();
            while let Some(event) = events.recv().await {
                links.push(event);
            }
        });
        let (tcp, udp) = told.recv().unwrap();
        (Self { runtime: Some(runtime) }, tcp, udp)
    }

    fn kill(mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// What is promised of a machine that has time for it.
const IN_TIME: Duration = Duration::from_secs(4);

/// One that has other things to do may be late twice, and no more.
const TRIES: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_peer_is_missed_within_4_s_and_found_again_when_it_is_back() {
    for transport in ["tcp", "quic-v1"] {
        let mut late = Vec::new();
        while late.len() < TRIES {
            let (missed, back) = killed(transport).await;
            if missed < IN_TIME && back < IN_TIME {
                break;
            }
            late.push((missed, back));
        }
        assert!(late.len() < TRIES, "{transport}: missed and back after {late:?}");
    }
}

/// Kills a peer and starts it again; returns how long it took to be missed, and to be found.
async fn killed(transport: &str) -> (Duration, Duration) {
    let mut a = Host::start(1).await;
    let key = a.key();
    let any = crate::support::ANY_PORT.map(str::to_owned).to_vec();
    let (mortal, tcp, udp) =
        tokio::task::spawn_blocking(move || Mortal::start(2, any, key)).await.unwrap();
    let b = {
        // The key of seed 2.
        let host = Host::start(2).await;
        let key = host.key();
        host.mesh.shutdown().await;
        key
    };
    a.mesh.allow([b].into()).await;
    let address = match transport {
        "tcp" => format!("/ip4/127.0.0.1/tcp/{tcp}"),
        _ => format!("/ip4/127.0.0.1/udp/{udp}/quic-v1"),
    };
    a.mesh.learn(Some(b), &address, FoundBy::Typed).await.unwrap();
    let _link = a.up().await;

    let start = Instant::now();
    mortal.kill();
    assert_eq!(a.down().await.0, b);
    let missed = start.elapsed();

    let listen =
        vec![format!("/ip4/127.0.0.1/tcp/{tcp}"), format!("/ip4/127.0.0.1/udp/{udp}/quic-v1")];
    let (mortal, ..) =
        tokio::task::spawn_blocking(move || Mortal::start(2, listen, key)).await.unwrap();
    let back = Instant::now();
    let _link = a.up().await;
    let back = back.elapsed();
    mortal.kill();
    (missed, back)
}

#[tokio::test]
async fn a_mesh_that_shuts_down_says_so_at_once_and_frees_its_ports() {
    let (a, mut b, _one, _two) = pair(Transport::Tcp).await;
    let address = a.typed(Transport::Tcp);
    let start = Instant::now();
    a.mesh.shutdown().await;
    assert_eq!(b.down().await.1, DownReason::Closed);
    // Who is not told misses it after three seconds.
    assert!(start.elapsed() < Duration::from_millis(2_500));
    Host::listening(1, &[&address]).await;
}

#[tokio::test]
async fn a_link_whose_receiver_is_dropped_is_closed() {
    let (mut a, mut b, one, _two) = pair(Transport::Tcp).await;
    drop(one);
    assert_eq!(a.down().await.1, DownReason::Dropped);
    assert_eq!(b.down().await.1, DownReason::Closed);
    tokio::join!(a.up(), b.up());
}

/// The receiver of a link does not read: what the sender can put in is bounded, nothing is lost, and nobody takes the
/// standstill for death.
#[tokio::test]
async fn a_receiver_that_does_not_read_stops_the_sender_and_loses_nothing() {
    for transport in [Transport::Tcp, Transport::Quic] {
        let (mut a, mut b, one, mut two) = pair(transport).await;
        let body = vec![7u8; 16 * 1024];
        let numbered = |n: u32| {
            let mut frame = body.clone();
            frame[..4].copy_from_slice(&n.to_be_bytes());
            Bytes::from(frame)
        };
        let mut sent = 0u32;
        let mut refused_since: Option<Instant> = None;
        // Longer than the silence after which a stream counts as dead.
        while refused_since.is_none_or(|since| since.elapsed() < Duration::from_millis(3_500)) {
            match one.sender.try_send(numbered(sent)) {
                Ok(()) => {
                    sent += 1;
                    refused_since = None;
                }
                Err(error) => {
                    assert_eq!(error, SendError::Full);
                    refused_since.get_or_insert_with(Instant::now);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
        }
        let bytes = sent as usize * body.len();
        assert!(bytes < 16 << 20, "{transport:?}: {} MiB are on the way", bytes >> 20);
        for n in 0..sent {
            assert_eq!(two.receiver.recv().await, Some(numbered(n)));
        }
        let quiet = async {
            tokio::select! { event = a.next() => event, event = b.next() => event }
        };
        assert!(timeout(Duration::from_millis(100), quiet).await.is_err());
    }
}

#[tokio::test]
async fn a_full_queue_says_so_by_count_and_by_bytes() {
    let (_a, _b, one, _two) = pair(Transport::Tcp).await;
    // Without an await in between nothing is taken out, as the test has one thread.
    for _ in 0..SEND_FRAMES {
        one.sender.try_send(Bytes::from_static(b"x")).unwrap();
    }
    assert_eq!(one.sender.try_send(Bytes::from_static(b"x")), Err(SendError::Full));

    let (_a, _b, one, _two) = pair(Transport::Tcp).await;
    let large = Bytes::from(vec![0; 64 * 1024]);
    for _ in 0..SEND_BYTES / large.len() {
        one.sender.try_send(large.clone()).unwrap();
    }
    assert_eq!(one.sender.try_send(Bytes::from_static(b"x")), Err(SendError::Full));
    assert_eq!(RECEIVE_FRAMES, 256);
}
