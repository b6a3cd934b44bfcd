//! Whole nodes over loopback in one process: what the library promises, seen from outside.

use oob_core::{Event, MessageState, PeerChange, prelude::*};
use std::{
    future::Future,
    path::Path,
    time::{Duration, Instant},
};

/// Longer than anything here takes on a busy machine; a test that hangs says where.
const PATIENCE: Duration = Duration::from_secs(60);

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(PATIENCE, future).await {
        Ok(done) => done,
        Err(_) => panic!("{what} did not happen in {PATIENCE:?}"),
    }
}

fn loopback() -> Vec<String> {
    vec!["/ip4/127.0.0.1/tcp/0".into(), "/ip4/127.0.0.1/udp/0/quic-v1".into()]
}

fn in_memory(name: &str) -> NodeBuilder {
    Node::builder("").in_memory().identity(name).listen(loopback()).mdns(false)
}

fn on_disk(folder: &Path, name: &str) -> NodeBuilder {
    Node::builder(folder)
        .identity(name)
        .passphrase(Passphrase::new("correct horse"))
        .kdf_memory_kib(65_536)
        .listen(loopback())
        .mdns(false)
}

async fn invite(org: &Org) -> Invite {
    org.invite(InviteOptions::default()).await.unwrap().invite
}

/// Dana founds, the others join by her.
async fn team(names: [&str; 2]) -> (Node, Node) {
    let [first, second] = names;
    let dana = in_memory(first).spawn().await.unwrap();
    let org = dana.found("Riverside Clinic").await.unwrap();
    let sam = in_memory(second).spawn().await.unwrap();
    within("joining", sam.join(invite(&org).await)).await.unwrap();
    (dana, sam)
}

async fn until<T>(what: &str, events: &mut Events, mut pick: impl FnMut(Event) -> Option<T>) -> T {
    within(what, async {
        loop {
            let event = events.next().await.expect("the node has stopped");
            if let Some(found) = pick(event) {
                return found;
            }
        }
    })
    .await
}

async fn message(events: &mut Events, text: &str) -> Message {
    until(text, events, |event| match event {
        Event::Message(message) if message.text == text => Some(message),
        _ => None,
    })
    .await
}

async fn state(events: &mut Events, sent: Sent, wanted: MessageState) {
    until(wanted.as_str(), events, |event| match event {
        Event::Receipt(receipt) if receipt.message == sent && receipt.state >= wanted => Some(()),
        _ => None,
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_people_meet_by_an_invitation_and_talk() {
    let dana = in_memory("Dana").spawn().await.unwrap();
    assert!(dana.org().is_none() && dana.me().member.is_none());
    let mut at_dana = dana.events(Cursor::Last);
    let org = dana.found("Riverside Clinic").await.unwrap();
    assert_eq!((org.name(), dana.me().org.unwrap().id), ("Riverside Clinic", org.id()));
    let text = invite(&org).await.to_string();

    let sam = in_memory("Sam").spawn().await.unwrap();
    let mut at_sam = sam.events(Cursor::Last);
    let joined = within("joining", sam.join(text.parse().unwrap())).await.unwrap();
    assert_eq!((joined.id(), joined.name()), (org.id(), "Riverside Clinic"));
    let names: Vec<_> = joined.members().into_iter().map(|m| (m.name, m.me)).collect();
    assert_eq!(names, [("Dana".to_owned(), false), ("Sam".to_owned(), true)]);
    let name = until("joined", &mut at_dana, |event| match event {
        Event::Joined { name, .. } if name != "Dana" => Some(name),
        _ => None,
    });
    assert_eq!(name.await, "Sam");
    until("up", &mut at_dana, |event| match event {
        Event::Peer(PeerChange { reachable: true, member_name, .. }) => {
            assert_eq!(member_name, "Sam");
            Some(())
        }
        _ => None,
    })
    .await;
    let status = dana.status();
    assert!(status.peers.len() == 1 && status.peers[0].reachable, "{status:?}");

    let to_sam = org.person("sam").unwrap();
    let sent = to_sam.send("Mail is compromised. Talk here.").await.unwrap();
    assert_eq!((sent.conversation, sent.number), (to_sam.conversation(), 1));
    let got = message(&mut at_sam, "Mail is compromised. Talk here.").await;
    assert_eq!((got.author.as_str(), got.outgoing, got.id), ("Dana", false, sent.id));
    state(&mut at_dana, sent, MessageState::Delivered).await;

    let to_dana = sam.person_of(got.conversation).unwrap();
    assert_eq!((to_dana.name(), to_dana.id()), ("Dana", got.author_id));
    to_dana.mark_read(got.number).await.unwrap();
    state(&mut at_dana, sent, MessageState::Read).await;
    let receipt = dana.message_state(sent.conversation, sent.number).await.unwrap();
    assert_eq!((receipt.state, receipt.delivered, receipt.expected), (MessageState::Read, 1, 1));

    let answer = to_dana.send("I am here.").await.unwrap();
    let heard = message(&mut at_dana, "I am here.").await;
    assert_eq!(heard.id, answer.id);
    let history: Vec<_> = to_sam.messages(0, 10).await.unwrap();
    let texts: Vec<_> = history.iter().map(|m| (m.number, m.text.as_str(), m.outgoing)).collect();
    assert_eq!(texts, [(1, "Mail is compromised. Talk here.", true), (2, "I am here.", false)]);
    assert_eq!(to_sam.latest(1).await.unwrap()[0].text, "I am here.");

    dana.shutdown().await.unwrap();
    sam.shutdown().await.unwrap();
    let closed = to_sam.send("too late").await.unwrap_err();
    assert_eq!(closed.kind(), ErrorKind::Closed);
    // What was told before the end is told; then there is nothing more.
    within("the end of the events", async { while at_dana.next().await.is_some() {} }).await;
}

/// How long after a join, seen by the one who joins, the first message is there.
async fn first_message_after_a_join() -> Duration {
    let dana = in_memory("Dana").spawn().await.unwrap();
    let org = dana.found("Riverside Clinic").await.unwrap();
    let sam = in_memory("Sam").spawn().await.unwrap();
    let mut at_dana = dana.events(Cursor::Last);
    let joined = within("joining", sam.join(invite(&org).await)).await.unwrap();
    let start = Instant::now();
    joined.person("Dana").unwrap().send("I am in.").await.unwrap();
    message(&mut at_dana, "I am in.").await;
    let took = start.elapsed();
    dana.shutdown().await.unwrap();
    sam.shutdown().await.unwrap();
    took
}

/// It came 250 to 300 ms late, depending on whose key was lower.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_message_after_a_join_does_not_wait() {
    // Keys are drawn at random, so both orders come up; the defect spoils every run, a busy machine most of them at worst.
    let mut took = Vec::new();
    while took.len() < 12 && !took.iter().any(|took| *took < Duration::from_millis(200)) {
        took.push(first_message_after_a_join().await);
    }
    assert!(took.iter().any(|took| *took < Duration::from_millis(200)), "{took:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alert_is_answered_by_everybody_and_counted_by_its_author() {
    let (dana, sam) = team(["Dana", "Sam"]).await;
    let mut at_dana = dana.events(Cursor::Last);
    let mut at_sam = sam.events(Cursor::Start);
    // Says that the link is there and both have greeted.
    dana.org().unwrap().person("Sam").unwrap().send("first").await.unwrap();
    message(&mut at_sam, "first").await;
    let text = "Do not log in. Mail is compromised.";
    let id = dana.alerts().raise(Severity::Critical, text).await.unwrap();
    let before = dana.alerts().get(id).await.unwrap();
    assert!(before.acked.is_empty() && before.unreachable.is_empty(), "{before:?}");
    assert_eq!(before.pending.iter().map(|asked| asked.name.as_str()).collect::<Vec<_>>(), ["Sam"]);
    assert!(before.alert.outgoing && !before.alert.expired);

    // As the program of the crate's documentation does it.
    let acknowledge = async {
        while let Some(event) = at_sam.next().await {
            match event {
                Event::Alert(a) => sam.alerts().acknowledge(a.id).await?,
                Event::AlertAcked(acked) if acked.alert == id => break,
                _ => {}
            }
        }
        Ok::<(), oob_core::Error>(())
    };
    within("the acknowledgement", acknowledge).await.unwrap();
    let acked = |event| match event {
        Event::AlertAcked(acked) if acked.alert == id => Some(acked),
        _ => None,
    };
    let first = until("the count", &mut at_dana, acked).await;
    assert_eq!((first.name.as_str(), first.acked, first.expected), ("Sam", 1, 1));
    sam.alerts().answer(id, "safe").await.unwrap();
    let second = until("the word", &mut at_dana, acked).await;
    assert_eq!((second.answer.as_deref(), second.acked), (Some("safe"), 1));
    for node in [&dana, &sam] {
        let [status] = &node.alerts().list().await.unwrap()[..] else { panic!("not one alert") };
        assert_eq!(status.acked[0].answer.as_deref(), Some("safe"));
        assert!(status.pending.is_empty() && status.unreachable.is_empty());
    }
    let text = id.to_string();
    assert_eq!(sam.alerts().find(&text[..4]).await.unwrap(), id);
    for (beginning, kind) in [("", ErrorKind::NotFound), ("1", ErrorKind::NotFound)] {
        assert_eq!(sam.alerts().find(beginning).await.unwrap_err().kind(), kind);
    }

    // Whoever is away is called so.
    sam.shutdown().await.unwrap();
    until("the link ends", &mut at_dana, |event| match event {
        Event::Peer(PeerChange { reachable: false, .. }) => Some(()),
        _ => None,
    })
    .await;
    let id = dana.alerts().raise(Severity::Info, "All clear").await.unwrap();
    let status = dana.alerts().get(id).await.unwrap();
    assert_eq!(status.unreachable.iter().map(|a| a.name.as_str()).collect::<Vec<_>>(), ["Sam"]);
    assert!(status.pending.is_empty());
    // Of 33 ids two begin alike.
    let mut begun = std::collections::BTreeSet::new();
    let twice = loop {
        let id = dana.alerts().raise(Severity::Info, "again").await.unwrap().to_string();
        let first = id[..1].to_owned();
        if !begun.insert(first.clone()) {
            break first;
        }
    };
    let several = dana.alerts().find(&twice).await.unwrap_err();
    assert_eq!(several.kind(), ErrorKind::Ambiguous);
    let refused = dana.alerts().raise(Severity::Info, " ").await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Empty);
    let unknown = dana.alerts().acknowledge(AlertId::from([7; 32])).await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::NotFound);
    dana.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_sent_while_somebody_is_away_arrive_once_and_in_order() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("sam");
    let dana = in_memory("Dana").spawn().await.unwrap();
    let org = dana.found("Riverside Clinic").await.unwrap();
    let sam = on_disk(&folder, "Sam").spawn().await.unwrap();
    within("joining", sam.join(invite(&org).await)).await.unwrap();
    let mut at_sam = sam.events(Cursor::Last);
    let to_sam = org.person("Sam").unwrap();
    let mut at_dana = dana.events(Cursor::Last);
    let before = to_sam.send("before").await.unwrap();
    message(&mut at_sam, "before").await;
    state(&mut at_dana, before, MessageState::Delivered).await;
    let cursor = at_sam.cursor();
    sam.shutdown().await.unwrap();
    drop(sam);

    let mut last = None;
    for n in 0..50 {
        last = Some(to_sam.send(format!("meanwhile {n}")).await.unwrap());
    }
    assert_eq!(dana.status().outbox, 50);
    let sam = on_disk(&folder, "Sam").spawn().await.unwrap();
    let mut at_sam = sam.events(Cursor::After(cursor));
    let mut got = Vec::new();
    while got.len() < 50 {
        got.push(
            until("a late message", &mut at_sam, |event| match event {
                Event::Message(message) => Some(message.text),
                _ => None,
            })
            .await,
        );
    }
    let expected: Vec<_> = (0..50).map(|n| format!("meanwhile {n}")).collect();
    assert_eq!(got, expected);
    state(&mut at_dana, last.unwrap(), MessageState::Delivered).await;
    let kept = sam.org().unwrap().person("Dana").unwrap().messages(0, 100).await.unwrap();
    assert_eq!(kept.len(), 51);

    // A reader that begins anew is told everything again, by number, without a hole.
    let mut again = sam.events(Cursor::Start);
    let mut numbers = Vec::new();
    while numbers.last().copied() < Some(at_sam.cursor()) {
        let (number, event) = within("replay", again.next_numbered()).await.unwrap();
        assert!(!matches!(event, Event::Lagged { .. }));
        numbers.extend(number);
    }
    assert_eq!(numbers, (1..=numbers.len() as u64).collect::<Vec<_>>());
    sam.shutdown().await.unwrap();
    dana.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_not_heard_of_shows_itself() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("sam");
    let dana = in_memory("Dana").spawn().await.unwrap();
    let org = dana.found("Riverside Clinic").await.unwrap();
    let sam = on_disk(&folder, "Sam").spawn().await.unwrap();
    within("joining", sam.join(invite(&org).await)).await.unwrap();
    sam.shutdown().await.unwrap();
    drop(sam);
    // Noor joins while Sam is away; then Dana leaves, and Sam never hears of Noor from her.
    let noor = in_memory("Noor").spawn().await.unwrap();
    within("joining", noor.join(invite(&org).await)).await.unwrap();
    dana.shutdown().await.unwrap();
    let sam = on_disk(&folder, "Sam").spawn().await.unwrap();
    assert_eq!(sam.org().unwrap().members().len(), 2);

    let mut at_sam = sam.events(Cursor::Last);
    for address in sam.status().listening {
        noor.addresses().add(&address).await.unwrap();
    }
    let to_sam = noor.org().unwrap().person("Sam").unwrap();
    to_sam.send("We have not met.").await.unwrap();
    let got = message(&mut at_sam, "We have not met.").await;
    assert_eq!(got.author, "Noor");
    assert_eq!(sam.org().unwrap().members().len(), 3);
    sam.shutdown().await.unwrap();
    noor.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_opens_with_its_passphrase_and_once_at_a_time() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("dana");
    let kind = |result: Result<Node, Error>| {
        let error = result.unwrap_err();
        assert!(error.hint().is_some(), "{error:?}");
        error.kind()
    };
    let nameless = Node::builder(&folder).passphrase(Passphrase::new("correct horse"));
    assert_eq!(kind(nameless.spawn().await), ErrorKind::NotInitialised);
    assert!(!folder.exists(), "a refusal made a folder");

    let made = on_disk(&folder, "Dana").init_only(Some("Riverside Clinic")).await.unwrap();
    assert!(made.member.is_some());
    assert_eq!((made.name.as_str(), made.org.unwrap().name.as_str()), ("Dana", "Riverside Clinic"));
    let again = on_disk(&folder, "Dana").init_only(None).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AlreadyInitialised);

    let wrong = on_disk(&folder, "Dana").passphrase(Passphrase::new("wrong horse"));
    assert_eq!(kind(wrong.spawn().await), ErrorKind::WrongPassphrase);
    let dana = on_disk(&folder, "Dana").spawn().await.unwrap();
    assert_eq!(dana.me().device, made.device);
    assert_eq!(kind(on_disk(&folder, "Dana").spawn().await), ErrorKind::Busy);
    dana.shutdown().await.unwrap();
    let dana = on_disk(&folder, "Dana").spawn().await.unwrap();
    assert_eq!(dana.me().member, made.member);
    dana.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_get_wrong_is_told_with_a_hint_and_changes_nothing() {
    let (dana, sam) = team(["Dana", "Sam"]).await;
    let org = dana.org().unwrap();
    let check = |error: Error, kind: ErrorKind, hint: &str| {
        assert_eq!(error.kind(), kind, "{error:?}");
        assert!(error.hint().unwrap_or_default().contains(hint), "{error:?}");
    };
    check(org.person("Sma").unwrap_err(), ErrorKind::NotFound, "Sam");
    check(org.person("Zebulon").unwrap_err(), ErrorKind::NotFound, "oob status");
    let to_sam = org.person("Sam").unwrap();
    check(to_sam.send("x".repeat(8193)).await.unwrap_err(), ErrorKind::TooLong, "shorten");
    check(to_sam.send("").await.unwrap_err(), ErrorKind::Empty, "character");
    let myself = org.person("Dana").unwrap();
    assert!(myself.is_me());
    check(myself.send("hello me").await.unwrap_err(), ErrorKind::Yourself, "somebody else");
    assert!(to_sam.messages(0, 10).await.unwrap().is_empty());

    check(dana.found("Another").await.unwrap_err(), ErrorKind::HasOrg, "--home");
    let admin = InviteOptions { role: Role::Admin, ..InviteOptions::default() };
    check(org.invite(admin).await.unwrap_err(), ErrorKind::NotYet, "leave the role out");
    let foreign = sam.org().unwrap().invite(InviteOptions::default()).await.unwrap_err();
    check(foreign, ErrorKind::NotAdmin, "admin");
    check(dana.addresses().add("laptop").await.unwrap_err(), ErrorKind::BadAddress, "4801");
    check(sam.join(invite(&org).await).await.unwrap_err(), ErrorKind::HasOrg, "--home");

    // An invitation for one person, used by a second.
    let once = invite(&org).await;
    let noor = in_memory("Noor").spawn().await.unwrap();
    within("joining", noor.join(once.clone())).await.unwrap();
    let ines = in_memory("Ines").spawn().await.unwrap();
    let used = within("being refused", ines.join(once)).await.unwrap_err();
    check(used, ErrorKind::InviteUsed, "oob invite");
    assert!(ines.org().is_none());
    // A taken name is refused, another one is not; the invitation is not used up by the refusal.
    let next = invite(&org).await;
    let taken = within("being refused", ines.join_as(next.clone(), "noor")).await.unwrap_err();
    check(taken, ErrorKind::NameTaken, "--name");
    within("joining", ines.join(next)).await.unwrap();
    assert_eq!(org.members().len(), 4);

    // Where another node listens nobody else may.
    let taken = dana.status().listening.into_iter().find(|a| a.contains("/tcp/")).unwrap();
    let taken = taken.split("/p2p/").next().unwrap().to_owned();
    let error = in_memory("Omar").listen(vec![taken]).spawn().await.unwrap_err();
    check(error, ErrorKind::AddressInUse, "--listen");
    for node in [dana, sam, noor, ines] {
        node.shutdown().await.unwrap();
    }
}

/// Takes the ten seconds a wrong address is tried for.
#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_to_nowhere_says_where_it_looked() {
    let dana = in_memory("Dana").spawn().await.unwrap();
    let invite = invite(&dana.found("Riverside Clinic").await.unwrap()).await;
    let address = invite.addresses()[0].clone();
    dana.shutdown().await.unwrap();
    let sam = in_memory("Sam").spawn().await.unwrap();
    let error = within("giving up", sam.join(invite)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NobodyReachable, "{error:?}");
    assert!(error.hint().unwrap().contains("oob address add"));
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains(&address), "{cause}");
    assert!(sam.org().is_none());
    sam.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_is_told_what_it_missed() {
    let (dana, sam) = team(["Dana", "Sam"]).await;
    let mut slow = dana.events(Cursor::Last);
    let to_sam = dana.org().unwrap().person("Sam").unwrap();
    let sending = (0..1_500).map(|n| {
        let to_sam = to_sam.clone();
        async move { to_sam.send(format!("{n}")).await.unwrap() }
    });
    within("sending", futures::future::join_all(sending)).await;
    let (first, second) =
        within("telling", async { (slow.next_numbered().await, slow.next_numbered().await) }).await;
    let Some((None, Event::Lagged { missed })) = first else { panic!("{first:?}") };
    let Some((Some(number), _)) = second else { panic!("{second:?}") };
    assert!(missed > 0 && number > missed);
    // Nothing is lost for good: from its number on, the store has it.
    let mut again = dana.events(Cursor::After(number - 1));
    assert_eq!(within("resuming", again.next_numbered()).await.unwrap().0, Some(number));
    dana.shutdown().await.unwrap();
    sam.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_everything_ends_the_node_and_frees_its_home() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("dana");
    let dana = on_disk(&folder, "Dana").spawn().await.unwrap();
    let events = dana.events(Cursor::Last);
    let address = dana.status().listening[0].split("/p2p/").next().unwrap().to_owned();
    drop((dana, events));
    // The end is not waited for by drop; the store says when it is there.
    let again = within("reopening", async {
        loop {
            match on_disk(&folder, "Dana").listen(vec![address.clone()]).spawn().await {
                Ok(node) => return node,
                Err(error) if matches!(error.kind(), ErrorKind::Busy | ErrorKind::AddressInUse) => {
                }
                Err(error) => panic!("{error:?}"),
            }
        }
    })
    .await;
    again.shutdown().await.unwrap();
    again.shutdown().await.unwrap();
}

/// Whoever waits for many together has no say in which of them is polled first.
#[tokio::test]
async fn texts_put_in_line_are_stored_in_that_order_however_they_are_waited_for() {
    let (dana, sam) = team(["Dana", "Sam"]).await;
    let to_sam = dana.org().unwrap().person("Sam").unwrap();
    let mut under_way = Vec::new();
    for number in 0..300 {
        under_way.push(to_sam.begin_send(format!("{number}")).await.unwrap());
    }
    // The last first.
    let mut numbers = Vec::new();
    for sending in under_way.into_iter().rev() {
        numbers.push(within("storing", sending.stored()).await.unwrap().number);
    }
    assert!(numbers.is_sorted_by(|later, earlier| later > earlier), "{numbers:?}");
    assert!(matches!(to_sam.begin_send("").await, Err(error) if error.kind() == ErrorKind::Empty));
    let stored = to_sam.messages(0, 1_000).await.unwrap();
    let texts: Vec<&str> = stored.iter().map(|message| message.text.as_str()).collect();
    let wanted: Vec<String> = (0..300).map(|number| number.to_string()).collect();
    assert_eq!(texts, wanted);
    drop(sam);
}
