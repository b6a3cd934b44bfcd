//! What fails alone and what ends the node, with whole nodes.

use crate::{
    Cursor, Event, Events, MessageState, Node, NodeBuilder, Passphrase, Sent,
    actor::{HEARS, READS},
    api::InviteOptions,
    commands::Work,
    error::ErrorKind,
};
use oob_mesh::{Health, Source};
use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};
use tokio::time::{sleep, timeout};

/// Longer than anything here takes on a busy machine; a test that hangs says where.
const PATIENCE: Duration = Duration::from_secs(60);

fn on_disk(folder: &Path, name: &str) -> NodeBuilder {
    Node::builder(folder)
        .identity(name)
        .passphrase(Passphrase::new("correct horse"))
        .kdf_memory_kib(65_536)
        .listen(vec!["/ip4/127.0.0.1/tcp/0".into()])
        .mdns(false)
}

async fn until<T>(what: &str, events: &mut Events, mut pick: impl FnMut(Event) -> Option<T>) -> T {
    let found = async {
        loop {
            if let Some(found) = pick(events.next().await.unwrap()) {
                return found;
            }
        }
    };
    timeout(PATIENCE, found).await.unwrap_or_else(|_| panic!("{what} did not happen"))
}

async fn delivered(events: &mut Events, sent: Sent) {
    let wanted = |event| match event {
        Event::Receipt(receipt) => {
            (receipt.message == sent && receipt.state >= MessageState::Delivered).then_some(())
        }
        _ => None,
    };
    until("delivery", events, wanted).await;
}

/// One neighbour's bytes end the network task. The store takes messages meanwhile, reads are answered, the links come back and
/// what was written arrives.
#[tokio::test(flavor = "multi_thread")]
async fn a_network_task_that_fails_is_begun_again_and_the_store_goes_on_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let dana = Node::builder("")
        .in_memory()
        .identity("Dana")
        .listen(vec!["/ip4/127.0.0.1/tcp/0".into()])
        .mdns(false)
        .spawn()
        .await
        .unwrap();
    let sam = on_disk(&folder.path().join("home"), "Sam").spawn().await.unwrap();
    let org = dana.found("Riverside Clinic").await.unwrap();
    let invite = org.invite(InviteOptions::default()).await.unwrap().invite;
    let own = sam.join(invite).await.unwrap();
    let (mut danas, mut sams) = (dana.events(Cursor::Last), sam.events(Cursor::Last));
    let first = own.person("Dana").unwrap().send("before").await.unwrap();
    delivered(&mut sams, first).await;
    while !dana.handle().mesh().peers().iter().any(|peer| peer.gossips) {
        sleep(Duration::from_millis(5)).await;
    }

    let quarantine = sam.handle().mesh().quarantine();
    quarantine.inject(|source, bytes| source == Source::Gossip && bytes == b"poison");
    dana.handle().mesh().publish("poison".into()).unwrap();
    let gone = |event| match event {
        Event::Peer(peer) => (!peer.reachable).then_some(()),
        _ => None,
    };
    until("the fault", &mut sams, gone).await;
    let meanwhile = own.person("Dana").unwrap().send("meanwhile").await.unwrap();
    assert!(sam.failure().is_none() && sam.org().is_some());
    delivered(&mut sams, meanwhile).await;
    let back = org.person("Sam").unwrap().send("and back").await.unwrap();
    delivered(&mut danas, back).await;

    let faults = sam.status().faults;
    assert_eq!((faults.health, faults.network, faults.caught), (Health::Well, 1, 1));
    assert_eq!((faults.tasks, faults.stopped), (0, None));
    assert_eq!(dana.status().faults.network, 0);
    sam.shutdown().await.unwrap();

    // The copy is in the home, and the next run knows it: the same bytes are passed over.
    let copies: Vec<_> = fs::read_dir(folder.path().join("home/evidence")).unwrap().collect();
    assert_eq!(copies.len(), 1);
    assert_eq!(fs::read(copies[0].as_ref().unwrap().path()).unwrap(), b"poison");
    let sam = on_disk(&folder.path().join("home"), "Sam").spawn().await.unwrap();
    let quarantine = sam.handle().mesh().quarantine();
    while quarantine.known() == 0 {
        sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(quarantine.guard(Source::Gossip, &"poison".into(), || ()), None);
}

fn in_memory(name: &str) -> NodeBuilder {
    Node::builder("")
        .in_memory()
        .identity(name)
        .listen(vec!["/ip4/127.0.0.1/tcp/0".into()])
        .mdns(false)
}

/// The task that hears the mesh once began to count links anew when it was begun again: the next link had the number of one
/// that was up, and took its place.
#[tokio::test(flavor = "multi_thread")]
async fn links_keep_their_numbers_when_the_task_that_hears_the_mesh_is_begun_again() {
    let dana = in_memory("Dana").spawn().await.unwrap();
    let sam = in_memory("Sam").spawn().await.unwrap();
    let org = dana.found("Riverside Clinic").await.unwrap();
    let invite = async || org.invite(InviteOptions::default()).await.unwrap().invite;
    let own = sam.join(invite().await).await.unwrap();
    let mut sams = sam.events(Cursor::Last);
    let first = own.person("Dana").unwrap().send("before").await.unwrap();
    delivered(&mut sams, first).await;
    let seen = async |what: &str, is: &dyn Fn() -> bool| {
        let looked = async {
            while !is() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, looked).await.unwrap_or_else(|_| panic!("{what}"));
    };
    seen("no gossip", &|| dana.handle().mesh().peers().iter().any(|peer| peer.gossips)).await;

    sam.handle().failures.ask_to_fail(HEARS);
    dana.handle().mesh().publish("anything".into()).unwrap();
    seen("it did not fail", &|| sam.status().faults.tasks == 1).await;
    let rosa = in_memory("Rosa").spawn().await.unwrap();
    rosa.join(invite().await).await.unwrap();
    seen("a link took another's place", &|| sam.handle().links.len() == 2).await;
    for name in ["Dana", "Rosa"] {
        let sent = own.person(name).unwrap().send("after").await.unwrap();
        delivered(&mut sams, sent).await;
    }
    assert_eq!(sam.status().faults.tasks, 1);
}

/// What makes the reader of a link fail ends that link and nothing else: the rules hear of its end, the link comes back, and
/// what was under way arrives.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_fails_ends_its_link_alone_and_the_link_comes_back() {
    let dana = in_memory("Dana").spawn().await.unwrap();
    let sam = in_memory("Sam").spawn().await.unwrap();
    let org = dana.found("Riverside Clinic").await.unwrap();
    let invite = org.invite(InviteOptions::default()).await.unwrap().invite;
    let own = sam.join(invite).await.unwrap();
    let (mut danas, mut sams) = (dana.events(Cursor::Last), sam.events(Cursor::Last));
    let first = own.person("Dana").unwrap().send("before").await.unwrap();
    delivered(&mut sams, first).await;

    sam.handle().failures.ask_to_fail(READS);
    let sent = org.person("Sam").unwrap().send("under way").await.unwrap();
    for reachable in [false, true] {
        let is = |event| match event {
            Event::Peer(peer) => (peer.reachable == reachable).then_some(()),
            _ => None,
        };
        until("the end of a link, and another one", &mut sams, is).await;
    }
    delivered(&mut danas, sent).await;
    let answer = own.person("Dana").unwrap().send("and an answer").await.unwrap();
    delivered(&mut sams, answer).await;
    let faults = sam.status().faults;
    assert_eq!((faults.health, faults.tasks, faults.network), (Health::Well, 1, 0));
    assert!(sam.failure().is_none());
}

/// Nobody knows what state the rules left: the node ends, every caller is told, and the home is marked for the next start.
#[tokio::test(flavor = "multi_thread")]
async fn a_panic_of_the_rules_ends_the_node_and_marks_the_home() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let dana = on_disk(&home, "Dana").spawn().await.unwrap();
    dana.found("Riverside Clinic").await.unwrap();
    dana.handle().commands().put(Work::Panic).await.unwrap();
    timeout(PATIENCE, dana.stopped()).await.unwrap();
    assert_eq!(dana.failure().unwrap().kind(), ErrorKind::Internal);
    assert_eq!(dana.shutdown().await.unwrap_err().kind(), ErrorKind::Internal);
    assert_eq!(dana.found("Again").await.unwrap_err().kind(), ErrorKind::Internal);
    let (at, why) = Node::stopped_by_itself(&home).unwrap();
    assert!(why.contains("defect") && SystemTime::now() >= at, "{why}");

    // What was acknowledged before is there, and the mark stays for whoever looks.
    let dana = on_disk(&home, "Dana").spawn().await.unwrap();
    assert!(dana.org().is_some() && dana.status().faults.stopped.is_some());
    dana.shutdown().await.unwrap();
    // The control: a node that is told to end leaves no mark of its own.
    fs::remove_file(home.join("fault")).unwrap();
    let dana = on_disk(&home, "Dana").spawn().await.unwrap();
    dana.shutdown().await.unwrap();
    assert_eq!(Node::stopped_by_itself(&home), None);
}
