//! Members carry one another's sealed messages: nobody is missed because two were not there at once.

use crate::world::{Flying, World};
use oob_engine::{
    envelope::Screened,
    event::Event,
    input::{Arrived, Input, LinkId},
    model::MessageState,
};
use oob_proto::{
    DeviceId, Message,
    wire::{self, Frame, frame::Kind},
};

const DAY_MS: u64 = 86_400_000;

fn state(world: &World, from: usize, to: usize) -> MessageState {
    world.log(from, to).last().expect("a message").state
}

/// Three people who met, so that each knows the others' keys; no link is open.
fn acquainted(names: &[&str]) -> World {
    let mut world = World::organisation(names);
    for a in 0..names.len() {
        for b in a + 1..names.len() {
            let link = world.connect(a, b);
            world.settle();
            world.cut(link);
        }
    }
    world
}

#[test]
fn a_message_arrives_though_sender_and_addressee_were_never_there_at_once() {
    let mut world = acquainted(&["Dana", "Sam", "Rosa"]);
    let link = world.connect(0, 1);
    world.settle();
    let (conversation, number) = world.send(0, 2, "Rosa, call the bank.");
    world.rest();
    assert_eq!(state(&world, 0, 2), MessageState::Held);
    assert_eq!(world.log(0, 2)[0].held_by, [world.member(1)]);
    let owed = world.engine(0).snapshot().owed.clone();
    assert_eq!(owed[&world.member(2)].messages, 1);
    assert_eq!(owed[&world.member(2)].held, 1);
    assert_eq!(world.engine(1).snapshot().held, 1, "and not more than the message");
    world.cut(link);
    world.kill(0);
    // The third was restarted meanwhile, and its disk lost power.
    world.kill(1);
    world.start(1);
    world.connect(1, 2);
    world.settle();
    assert_eq!(world.texts(2, 0), ["Rosa, call the bank."]);
    // The receipt goes the same way back.
    world.kill(2);
    world.start(0);
    world.connect(0, 1);
    world.settle();
    let receipt = world.history(0).receipt(&conversation, number).unwrap().unwrap();
    assert_eq!((receipt.state, receipt.delivered), (MessageState::Delivered, 1));
    assert_eq!(world.engine(0).snapshot().outbox, 0);
    let states: Vec<MessageState> = world.devices[0]
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Receipt(receipt) => Some(receipt.state),
            _ => None,
        })
        .collect();
    assert_eq!(states, [MessageState::Held, MessageState::Delivered]);
}

#[test]
fn along_a_chain_of_four_everything_arrives_once_and_nothing_stays_behind() {
    let mut world = World::organisation(&["Dana", "Sam", "Rosa", "Eli"]);
    for (a, b) in [(0, 1), (1, 2), (2, 3)] {
        world.connect(a, b);
        world.settle();
    }
    for i in 0..40 {
        for (from, to) in [(0, 3), (3, 0), (1, 3), (0, 2)] {
            world.send(from, to, &format!("m{i}"));
        }
        if i % 5 == 0 {
            world.settle();
        }
    }
    world.settle();
    let expected: Vec<String> = (0..40).map(|i| format!("m{i}")).collect();
    for (from, to) in [(3, 1), (2, 0)] {
        assert_eq!(world.texts(from, to), expected);
    }
    for (from, to) in [(0, 3), (3, 0)] {
        let mut both = world.texts(from, to);
        both.sort();
        let mut twice = [expected.clone(), expected.clone()].concat();
        twice.sort();
        assert_eq!(both, twice);
        assert!(world.log(from, to).iter().all(|message| message.state >= MessageState::Delivered));
    }
    world.rest();
    world.rest();
    for device in 0..4 {
        let snapshot = world.engine(device).snapshot();
        assert_eq!((snapshot.held, snapshot.outbox), (0, 0), "device {device}");
    }
}

#[test]
fn who_holds_the_same_says_so_in_33_bytes() {
    let mut world = acquainted(&["Dana", "Sam", "Rosa"]);
    let link = world.connect(0, 1);
    world.settle();
    for i in 0..300 {
        world.send(0, 2, &format!("m{i}"));
    }
    world.rest();
    world.cut(link);
    let link = world.connect(0, 1);
    world.rest();
    world.cut(link);
    let before = world.wire.len();
    world.connect(0, 1);
    world.settle();
    let records = world.wire[before..].iter().filter(|flying| {
        matches!(
            Frame::read(&flying.frame).unwrap().kind,
            Some(Kind::Envelope(_) | Kind::Have(_) | Kind::RelayCert(_) | Kind::Bundle(_))
        )
    });
    assert_eq!(records.count(), 0, "nothing is said twice");
    world.send(0, 2, "one more");
    world.settle();
    assert_eq!(world.engine(1).snapshot().held, 301);
}

#[test]
fn a_proof_of_opening_is_checked_and_a_false_one_changes_nothing() {
    let mut world = acquainted(&["Dana", "Sam", "Rosa"]);
    let link = world.connect(0, 1);
    world.settle();
    world.send(0, 2, "sealed");
    world.settle();
    assert_eq!(world.engine(1).snapshot().held, 1);
    let dana = world.engine(0).snapshot().me.device;
    let keys = world.engine(1).snapshot().screening.clone();
    let life = keys.relays.keys().find(|(device, _, _)| *device == dana.short()).unwrap().1;
    let false_proof = |seq: u64| {
        let release = wire::Release {
            device: dana.short().to_vec(),
            incarnation: life.0,
            seq,
            preimage: vec![7; 16],
        };
        Frame::new(Kind::Release(release)).encode_to_vec()
    };
    for seq in 0..40 {
        world.arrive(&Flying { from: 0, to: 1, link, frame: false_proof(seq) });
    }
    assert_eq!(world.engine(1).snapshot().held, 1, "nothing is dropped for it");
    // The true one comes from the addressee, after a while.
    let link = world.connect(1, 2);
    world.settle();
    for _ in 0..8 {
        world.pass(5_000);
        world.settle();
    }
    assert_eq!(world.texts(2, 0), ["sealed"]);
    assert_eq!(world.engine(1).snapshot().held, 0);
    world.cut(link);
}

/// A neighbour that sends what no correct one sends is shut out, and may come back when a minute has passed.
#[test]
fn a_neighbour_that_sends_garbage_is_shut_out_for_a_minute() {
    let mut world = acquainted(&["Dana", "Sam"]);
    let link = world.connect(0, 1);
    world.settle();
    for _ in 0..70 {
        if world.links.contains_key(&link) {
            world.arrive(&Flying { from: 0, to: 1, link, frame: b"\xff\xffgarbage".to_vec() });
        }
    }
    assert!(!world.links.contains_key(&link), "the stream is ended");
    let again = world.connect(0, 1);
    assert!(!world.links.contains_key(&again), "and no other is taken");
    world.pass(61_000);
    world.connect(0, 1);
    world.send(0, 1, "sorry");
    world.settle();
    assert_eq!(world.texts(1, 0), ["sorry"]);
}

#[test]
fn what_is_too_old_is_dropped_by_everybody_and_the_next_message_opens() {
    let mut world = acquainted(&["Dana", "Sam", "Rosa"]);
    let link = world.connect(0, 1);
    world.settle();
    // Opened once, so that a session exists, and then five that nobody fetches.
    let with_rosa = world.connect(0, 2);
    world.send(0, 2, "before");
    // What opened the session is carried until its proof is here.
    world.rest();
    world.cut(with_rosa);
    for i in 0..5 {
        world.send(0, 2, &format!("lost {i}"));
        world.settle();
    }
    world.rest();
    assert_eq!(world.engine(1).snapshot().held, 5);
    for _ in 0..23 {
        world.pass(DAY_MS);
        world.settle();
    }
    assert_eq!(world.engine(1).snapshot().held, 0);
    assert_eq!(world.engine(0).snapshot().outbox, 0);
    assert!(world.log(0, 2)[1..].iter().all(|message| message.state == MessageState::Expired));
    assert_eq!(world.log(0, 2)[0].state, MessageState::Delivered);
    world.cut(link);
    world.send(0, 2, "after");
    world.connect(0, 2);
    world.settle();
    assert_eq!(world.texts(2, 0), ["before", "after"]);
    assert_eq!(state(&world, 0, 2), MessageState::Delivered);
}

/// What is given up is a hole in the session; who carries on behind it opens when the author's word on the hole came,
/// though it came by a third.
#[test]
fn a_hole_that_was_given_up_does_not_hold_up_what_follows() {
    let mut world = acquainted(&["Dana", "Sam", "Rosa"]);
    let with_rosa = world.connect(0, 2);
    world.send(0, 2, "before");
    world.settle();
    world.cut(with_rosa);
    world.send(0, 2, "lost");
    world.pass(15 * DAY_MS);
    world.send(0, 2, "in time");
    // The first is 22 days old now, the second 7.
    world.pass(7 * DAY_MS);
    let link = world.connect(0, 1);
    world.settle();
    world.cut(link);
    world.kill(0);
    world.connect(1, 2);
    world.settle();
    assert_eq!(world.texts(2, 0), ["before", "in time"]);
}

/// The first messages to somebody who stayed away were given up. What followed was made to secrets that the addressee looked
/// for under a newer bundle, or had no more: nothing that was written afterwards was ever read.
#[test]
fn whoever_stayed_away_longer_than_a_message_lives_reads_what_comes_later() {
    for (away, expected) in [(7, &["in time", "after"][..]), (40, &["after"])] {
        let mut world = World::organisation(&["Dana", "Rosa"]);
        world.send(0, 1, "lost");
        world.pass(8 * DAY_MS);
        world.pass(7 * DAY_MS);
        world.send(0, 1, "in time");
        for _ in 0..away {
            world.pass(DAY_MS);
        }
        world.connect(0, 1);
        world.settle();
        world.send(0, 1, "after");
        world.rest();
        assert_eq!(world.texts(1, 0), expected, "{away} days later");
    }
}

#[test]
fn a_record_said_to_be_older_than_its_life_is_not_carried() {
    let mut world = acquainted(&["Dana", "Sam", "Rosa"]);
    world.send(0, 2, "sealed");
    let link = world.connect(0, 1);
    // Let the greeting pass, and take the envelope off its way.
    let mut envelope = None;
    while let Some(flying) = world.flying.pop_front() {
        match Frame::read(&flying.frame).unwrap().kind {
            Some(Kind::Envelope(_)) => envelope = Some(flying),
            _ => world.arrive(&flying),
        }
    }
    let mut old = envelope.expect("the envelope went out");
    let genuine = old.clone();
    Frame::add_age(&mut old.frame, 22 * 86_400);
    world.arrive(&old);
    assert_eq!(world.engine(1).snapshot().held, 0);
    world.arrive(&Flying { link, ..genuine });
    assert_eq!(world.engine(1).snapshot().held, 1, "the control: at its true age it is");
}

/// A device full of one author's records takes no more of that author, and all of everybody else's.
#[test]
fn one_author_cannot_use_up_what_is_kept_for_the_others() {
    let mut world = acquainted(&["Dana", "Sam", "Rosa", "Eli"]);
    world.engine(1).set_carry_limit(64 * 1024);
    let link = world.connect(0, 1);
    world.settle();
    for i in 0..200 {
        world.send(0, 2, &format!("much {i}"));
        world.settle();
    }
    let snapshot = world.engine(1).snapshot();
    assert!(snapshot.not_carried > 0 && snapshot.held < 200, "{} carried", snapshot.held);
    world.cut(link);
    let link = world.connect(3, 1);
    world.settle();
    for i in 0..20 {
        world.send(3, 2, &format!("little {i}"));
    }
    world.settle();
    world.cut(link);
    world.connect(1, 2);
    world.settle();
    assert_eq!(world.texts(2, 3).len(), 20, "the one who writes little loses nothing");
    // And who wrote too much has it still.
    world.connect(0, 2);
    world.settle();
    assert_eq!(world.texts(2, 0), (0..200).map(|i| format!("much {i}")).collect::<Vec<_>>());
}

/// By gossip an envelope may come before the one that says how it opens, and before its author's certificate.
#[test]
fn what_comes_before_its_first_flight_opens_when_that_came() {
    let mut world = World::organisation(&["Dana", "Sam"]);
    let link = world.connect(0, 1);
    world.settle();
    for i in 0..6 {
        world.send(0, 1, &format!("m{i}"));
    }
    let flying: Vec<Flying> = world.flying.drain(..).collect();
    let dana = world.devices[0].key;
    for flying in flying.iter().rev() {
        let Arrived { bytes, age_s, frame } = world.screened(1, &flying.frame);
        if let Screened::Envelope(_) = &frame {
            let frame = Box::new(Arrived { bytes, age_s, frame });
            world.input(1, Input::Gossip { from: dana, frame });
        }
    }
    world.settle();
    assert_eq!(world.texts(1, 0), (0..6).map(|i| format!("m{i}")).collect::<Vec<_>>());
    assert_eq!(world.engine(1).snapshot().held, 0);
    let _: LinkId = link;
}

#[test]
fn where_somebody_is_further_away_new_messages_are_published_too() {
    let mut world = World::organisation(&["Dana", "Sam", "Rosa"]);
    world.deaf = true;
    world.connect(0, 1);
    world.settle();
    world.send(0, 2, "nobody else is there");
    assert!(world.published.is_empty(), "control: all who are up are neighbours");
    world.settle();
    world.connect(1, 2);
    world.settle();
    world.pass(2_000);
    world.settle();
    world.send(0, 2, "over two hops");
    assert_eq!(world.published.len(), 1);
    let (from, frame) = world.published.pop().unwrap();
    assert_eq!(from, 0);
    let sam = world.devices[1].key;
    let arrived = Box::new(world.screened(2, &frame));
    world.input(2, Input::Gossip { from: sam, frame: arrived });
    assert_eq!(world.texts(2, 0).last().unwrap(), "over two hops");
    // What gossip lost is found by comparing.
    world.send(0, 2, "lost by gossip");
    world.published.clear();
    for _ in 0..4 {
        world.pass(7_000);
        world.settle();
    }
    assert_eq!(world.texts(2, 0).last().unwrap(), "lost by gossip");
}

#[test]
fn people_see_who_heard_whom() {
    let mut world = acquainted(&["Dana", "Sam", "Rosa"]);
    world.connect(0, 1);
    let link = world.connect(1, 2);
    world.settle();
    world.pass(2_000);
    world.settle();
    let rosa = world.engine(2).snapshot().me.device;
    let sam = world.engine(1).snapshot().me.device;
    assert_eq!(world.engine(0).snapshot().nearby[&rosa].by, sam);
    world.cut(link);
    for _ in 0..24 {
        world.pass(10_000);
        world.settle();
    }
    let now = world.now(0).wall_ms;
    let near = world.engine(0).snapshot().nearby[&rosa];
    let ago = now - near.heard_ms;
    assert!((230_000..=260_000).contains(&ago), "heard {ago} ms ago");
}

/// Who is heard through a neighbour counts as there only as long as that neighbour says so.
#[test]
fn a_neighbour_takes_back_that_somebody_is_near() {
    let mut world = acquainted(&["Dana", "Sam", "Rosa"]);
    world.connect(0, 1);
    let link = world.connect(1, 2);
    world.settle();
    let rosa = world.engine(2).snapshot().me.device;
    assert!(!world.engine(0).snapshot().nearby[&rosa].ended);
    world.pass(2_000);
    world.settle();
    world.cut(link);
    world.pass(2_000);
    world.settle();
    let near = world.engine(0).snapshot().nearby[&rosa];
    assert!(near.ended, "told within two seconds");
    world.connect(1, 2);
    world.pass(2_000);
    world.settle();
    assert!(!world.engine(0).snapshot().nearby[&rosa].ended, "and that she is back");
}

/// Where all are neighbours of one another, each envelope goes to each of them once: whoever gets it from its author
/// knows that the author gives it to the others as well.
#[test]
fn where_all_are_neighbours_one_copy_goes_to_each() {
    let mut world = acquainted(&["Dana", "Sam", "Rosa", "Eli", "Noor"]);
    for a in 0..5 {
        for b in a + 1..5 {
            world.connect(a, b);
        }
    }
    world.rest();
    let before = world.wire.len();
    for i in 0..20 {
        world.send(0, 1, &format!("m{i}"));
        world.settle();
        world.pass(500);
    }
    world.rest();
    let envelopes = world.wire[before..].iter().filter(|flying| {
        matches!(Frame::read(&flying.frame).unwrap().kind, Some(Kind::Envelope(_)))
    });
    // Twenty messages and at most as many receipts, to four others each.
    let copies = envelopes.count();
    assert!(copies <= 2 * 20 * 4, "{copies} copies");
    assert_eq!(world.texts(1, 0).len(), 20);
    for device in 0..5 {
        assert_eq!(world.engine(device).snapshot().held, 0, "device {device}");
    }
}

/// One of two neighbours loses somebody whom the other still has: that somebody is there.
#[test]
fn who_is_lost_by_one_neighbour_and_not_by_the_other_is_near() {
    let mut world = acquainted(&["Dana", "Sam", "Rosa", "Eli"]);
    world.connect(0, 1);
    world.connect(0, 3);
    let links = [world.connect(1, 2), world.connect(3, 2)];
    world.settle();
    let rosa = world.engine(2).snapshot().me.device;
    for (link, ended) in links.into_iter().zip([false, true]) {
        world.pass(2_000);
        world.settle();
        world.cut(link);
        world.pass(2_000);
        world.settle();
        assert_eq!(world.engine(0).snapshot().nearby[&rosa].ended, ended);
    }
}

/// The simulator once missed a message behind its addressee, in a chain whose middle had opened it and had not said so yet.
#[test]
fn what_was_opened_is_passed_on_no_further_and_missed_by_nobody() {
    /// The highest number of an author's records that is here, and the highest that nobody needs.
    fn last(world: &mut World, device: usize, author: &DeviceId) -> (Option<u64>, Option<u64>) {
        let all = world.engine(device).inventory().into_iter();
        let all = all.filter(|((device, _), _)| device == author);
        all.map(|(_, (have, gone))| (have.last(), gone.last())).next().unwrap_or_default()
    }
    let mut world = acquainted(&["Dana", "Sam", "Rosa"]);
    let dana = world.engine(0).snapshot().me.device;
    let link = world.connect(0, 1);
    world.settle();
    world.send(0, 1, "Sam, lock the gate.");
    world.settle();
    assert_eq!(world.texts(1, 0), ["Sam, lock the gate."]);
    world.cut(link);
    world.connect(1, 2);
    world.settle();
    let (have, gone) = last(&mut world, 1, &dana);
    assert!(gone > have, "Sam opened it: nobody needs it");
    let (have, _) = last(&mut world, 2, &dana);
    assert!(have < gone, "and Rosa was not given it");
}

/// Rosa carries every other record of Dana's, more of them than her word has room for. Of the lowest nobody offered her proofs as
/// long as she carried the others.
#[test]
fn who_carries_more_than_its_word_has_room_for_is_given_all_proofs() {
    const EARLY: u64 = 60;
    let mut world = World::organisation(&["Dana", "Sam", "Rosa", "Eli"]);
    let with_rosa = world.connect(0, 2);
    world.settle();
    for n in 0..EARLY + 420 {
        world.send(0, if n < EARLY { 3 } else { 1 }, &format!("{n}"));
        world.send(0, 2, &format!("{n}"));
        world.settle();
    }
    world.rest();
    world.cut(with_rosa);
    let before = world.engine(2).snapshot().held;
    assert!(before >= EARLY + 420, "control: {before}");
    let with_eli = world.connect(0, 3);
    world.rest();
    world.rest();
    assert_eq!(world.texts(3, 0).len() as u64, EARLY);
    world.cut(with_eli);
    // Not by Dana: what she says of her own records is the last word.
    world.connect(3, 2);
    world.rest();
    let held = world.engine(2).snapshot().held;
    assert!(held + EARLY <= before, "{held} of {before}");
}
