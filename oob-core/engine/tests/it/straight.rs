//! What its addressee takes at once is given to nobody else; what it does not take is, by everybody.

use crate::world::World;
use oob_engine::model::MessageState;
use oob_proto::wire::{Frame, frame::Kind};

const ELEVEN: [&str; 11] =
    ["Dana", "Sam", "Rosa", "Eli", "Noor", "Ida", "Tom", "Mira", "Jan", "Lea", "Ben"];

/// People who are all neighbours of one another.
fn together(names: &[&str]) -> World {
    let mut world = World::organisation(names);
    for a in 0..names.len() {
        for b in a + 1..names.len() {
            world.connect(a, b);
        }
        // The first let them all in: from it they hear of one another.
        world.settle();
    }
    world.rest();
    assert_eq!(world.links.len(), names.len() * (names.len() - 1) / 2);
    world
}

/// Envelopes that left devices since the wire had so many frames: of the first device, and of all others.
fn envelopes(world: &World, since: usize) -> (usize, usize) {
    let all = world.wire[since..].iter().filter(|flying| {
        matches!(Frame::read(&flying.frame).unwrap().kind, Some(Kind::Envelope(_)))
    });
    let (first, others): (Vec<_>, Vec<_>) = all.partition(|flying| flying.from == 0);
    (first.len(), others.len())
}

/// How many envelopes all others but one carry.
fn carried(world: &mut World, but: &[usize]) -> Vec<u64> {
    let others = (1..world.devices.len()).filter(|device| !but.contains(device));
    others.map(|device| world.engine(device).snapshot().held).collect()
}

/// In how many ranges lies what one device knows of the records of the first.
fn ranges_of_the_first(world: &mut World, at: usize) -> usize {
    let first = world.engine(0).snapshot().me.device;
    let inventory = world.engine(at).inventory();
    let known = inventory.into_iter().filter(|((device, _), _)| *device == first);
    let ranges = known.map(|(_, (mut have, gone))| {
        have.union(&gone);
        have.len()
    });
    ranges.max().unwrap_or(0)
}

/// Everybody carried every envelope: ten texts to ten people in one place were a hundred envelopes, and their receipts a
/// hundred more.
#[test]
fn ten_texts_to_ten_neighbours_are_ten_envelopes() {
    let mut world = together(&ELEVEN);
    let before = world.wire.len();
    for round in 0..3 {
        for reader in 1..=10 {
            world.send(0, reader, &format!("round {round}"));
        }
        world.settle();
        world.pass(20);
    }
    world.settle();
    assert_eq!(envelopes(&world, before), (30, 30), "a text and a receipt each");
    for reader in 1..=10 {
        assert_eq!(world.texts(reader, 0), ["round 0", "round 1", "round 2"]);
        assert!(world.log(0, reader).iter().all(|of| of.state == MessageState::Delivered));
    }
    // And nobody comes by them later: what was received is not needed.
    for _ in 0..10 {
        world.pass(1_000);
        world.settle();
    }
    world.rest();
    world.rest();
    assert_eq!(envelopes(&world, before), (30, 30));
    let proofs = world.wire[before..].iter().filter(|flying| {
        matches!(Frame::read(&flying.frame).unwrap().kind, Some(Kind::Release(_)))
    });
    let proofs = proofs.count();
    assert!(proofs <= 60, "{proofs} proofs: none for those who never had it");
    let known = world.engine(0).inventory();
    for device in 0..=10 {
        assert_eq!(world.engine(device).snapshot().held, 0, "device {device}");
        // What each knows of everybody is the same, so that two who meet again have nothing to say.
        let all = |inventory: oob_engine::sim::Inventory| -> Vec<_> {
            let lives = inventory.into_iter().map(|(life, (mut have, gone))| {
                have.union(&gone);
                (life, have)
            });
            lives.collect()
        };
        assert_eq!(all(world.engine(device).inventory()), all(known.clone()), "device {device}");
    }
}

#[test]
fn what_its_addressee_does_not_acknowledge_in_time_is_given_to_everybody() {
    let mut world = together(&ELEVEN[..4]);
    world.send(0, 1, "silence");
    // The stream stands, and nothing comes through.
    world.flying.clear();
    world.pass(499);
    world.settle();
    assert_eq!(carried(&mut world, &[1]), [0, 0]);
    world.pass(1);
    world.settle();
    assert_eq!(carried(&mut world, &[1]), [1, 1]);
    // Who carries it offers it when its author might have given it there in vain.
    world.rest();
    assert_eq!(world.texts(1, 0), ["silence"]);
}

/// What opens a channel is owed until its proof. Where much goes on its reader says only every five seconds what it has: half
/// a second after the message everybody was given it, though its receipt was here.
#[test]
fn a_first_flight_whose_receipt_is_here_is_given_to_nobody_else() {
    let mut world = together(&ELEVEN[..4]);
    for _ in 0..6 {
        world.send(2, 1, "much goes on");
        world.settle();
        world.pass(1_000);
        world.settle();
    }
    world.send(0, 1, "first");
    world.settle();
    assert_eq!(world.log(0, 1)[0].state, MessageState::Delivered);
    let before = world.wire.len();
    for _ in 0..4 {
        world.pass(500);
        world.settle();
    }
    assert_eq!(envelopes(&world, before), (0, 0));
}

#[test]
fn what_was_for_a_link_that_breaks_is_given_to_everybody_at_once() {
    let mut world = together(&ELEVEN);
    world.pass(2_000);
    world.settle();
    for reader in 1..=10 {
        world.send(0, reader, "now");
    }
    assert_eq!(carried(&mut world, &[]), [0; 10]);
    let link = world.links.iter().find(|(_, ends)| **ends == (0, 7)).map(|(id, _)| *id).unwrap();
    world.cut(link);
    world.settle();
    // By those who carry it, who hear in the same moment that its author is not connected with whom it is for.
    for reader in 1..=10 {
        assert_eq!(world.texts(reader, 0), ["now"], "reader {reader}");
    }
    // The same to somebody whom nobody else has a link to either.
    let mut world = together(&ELEVEN);
    world.send(0, 7, "now");
    world.kill(7);
    world.settle();
    assert_eq!(carried(&mut world, &[7]), [1; 9]);
}

#[test]
fn what_is_for_somebody_away_is_given_to_everybody_at_once() {
    let mut world = together(&ELEVEN[..4]);
    world.kill(3);
    world.settle();
    world.send(0, 3, "when you are back");
    world.settle();
    assert_eq!(carried(&mut world, &[3]), [1, 1]);
}

/// What went out straight is noted in memory alone. A device that was killed meanwhile offers it to everybody.
#[test]
fn a_kill_while_only_the_addressee_was_given_it_loses_nothing() {
    let mut world = together(&ELEVEN[..4]);
    world.send(0, 1, "first");
    world.flying.clear();
    world.kill(0);
    world.start(0);
    world.connect(0, 2);
    world.settle();
    world.rest();
    assert_eq!(world.texts(1, 0), ["first"], "from Rosa, who is connected with Sam");
}

/// Many texts to two people in turn leave as many holes in what each of them knows of the author.
#[test]
fn holes_in_what_a_neighbour_knows_of_an_author_are_closed_before_they_are_many() {
    let mut world = together(&ELEVEN[..3]);
    let mut most = 0;
    for i in 0..1_000 {
        world.send(0, 1 + i % 2, "to and fro");
        if i % 4 == 3 {
            world.settle();
            world.pass(2);
        }
        most = most.max(ranges_of_the_first(&mut world, 1));
    }
    assert!((64..200).contains(&most), "{most} ranges, not 500");
    world.settle();
    assert_eq!(world.texts(1, 0).len(), 500);
}

/// Whoever never meets the author hears no word of its own. A hole for each text that went straight was never closed there,
/// and after 16,384 of them nothing of that author was taken any more.
#[test]
fn holes_behind_a_neighbour_are_closed_as_well() {
    let mut world = together(&ELEVEN[..3]);
    let away: Vec<_> =
        world.links.iter().filter(|(_, ends)| **ends == (0, 2)).map(|(l, _)| *l).collect();
    away.into_iter().for_each(|link| world.cut(link));
    world.settle();
    let mut most = 0;
    for i in 0..2_600 {
        world.send(0, 1 + i % 2, "to and fro");
        if i % 4 == 3 {
            world.settle();
            world.pass(2);
        }
        if i % 50 == 49 {
            world.pass(1_000);
            world.settle();
            most = most.max(ranges_of_the_first(&mut world, 2));
        }
    }
    world.settle();
    assert!((128..700).contains(&most), "{most} ranges, not 1,300");
    assert_eq!(world.texts(2, 0).len(), 1_300);
}
