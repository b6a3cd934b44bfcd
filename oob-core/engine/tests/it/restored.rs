//! Devices whose store was put back: from a copy, which knows that it is one, and as a whole home, which does not.

use crate::world::{World, pass};
use oob_engine::{
    Engine,
    effect::Answer,
    envelope::Screened,
    input::Command,
    model::{AlertText, Severity},
};
use oob_proto::{Incarnation, Message, wire};
use oob_store::{CopyReader, CopyWriter, Kdf, Store, backend::CrashDisk};
use rand::{SeedableRng, rngs::StdRng};
use std::collections::{BTreeMap, BTreeSet};

/// One pass at the floor, so that a test does not wait.
const FAST: Kdf = Kdf { memory_kib: Kdf::FLOOR.memory_kib, passes: 1 };

/// Copies a device's records; returns the copy and how many records are in it.
pub(crate) fn copy_of(world: &mut World, device: usize) -> (Vec<u8>, u64) {
    let now = world.now(device);
    let engine = world.engine(device);
    let mut rng = StdRng::seed_from_u64(77);
    let mut to =
        CopyWriter::backup(Vec::new(), &pass(), FAST, engine.about(now), &mut rng).unwrap();
    engine.back_up(&mut to, &mut |_| {}).unwrap();
    let (bytes, contents) = to.finish().unwrap();
    (bytes, contents.records)
}

/// Starts a device on a new disk with what a copy holds.
pub(crate) fn start_from(world: &mut World, device: usize, copy: &[u8]) {
    let disk = CrashDisk::new();
    let seed = 900_000 + world.mono_ms + device as u64;
    let rng = StdRng::seed_from_u64(seed);
    let mut store = Store::with_backend(disk.parts(), &pass(), rng).unwrap().store;
    let mut reader = CopyReader::open(copy, &pass()).unwrap();
    while let Some((bag, seq, value)) = reader.next_record().unwrap() {
        store.put(&bag, seq, &value);
    }
    store.commit().unwrap();
    let now = world.now(device);
    let engine = Engine::open(store, Box::new(StdRng::seed_from_u64(seed + 1)), now).unwrap();
    world.devices[device].engine = Some(engine);
    world.devices[device].disk = disk;
}

/// Lives of a device that left on the wire, by the certificates everybody saw.
pub(crate) fn lives(world: &World, device: usize) -> BTreeSet<Incarnation> {
    let mut lives = BTreeSet::new();
    for flying in world.wire.iter().filter(|flying| flying.from == device) {
        let Ok(frame) = wire::Frame::read(&flying.frame) else { continue };
        if let Some(wire::frame::Kind::Hello(hello)) = frame.kind {
            for cert in hello.relay_certs {
                let cert = wire::RelayCert::decode(cert.payload.as_slice()).unwrap();
                lives.insert(Incarnation(cert.incarnation));
            }
        }
    }
    lives
}

/// What went over the wire of a device: every envelope by life and number. Panics where one number was given to two.
pub(crate) fn numbers(
    world: &mut World,
    device: usize,
    by: usize,
) -> BTreeMap<(Incarnation, u64), Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut tags = BTreeMap::new();
    let id = world.engine(device).snapshot().me.device;
    let sent = world.wire.iter().map(|flying| flying.frame.clone());
    let frames: Vec<Vec<u8>> = sent.chain(world.spoken.iter().cloned()).collect();
    for frame in frames {
        let arrived = world.screened(by, &frame);
        let Screened::Envelope(envelope) = arrived.frame else { continue };
        if envelope.device != id {
            continue;
        }
        let of = (envelope.incarnation, envelope.seq);
        let before = all.insert(of, envelope.ct.clone());
        assert!(before.is_none_or(|before| before == envelope.ct), "{of:?} was given twice");
        let before = tags.insert(envelope.head.tag, of);
        assert!(before.is_none_or(|before| before == of), "a ratchet was used again for {of:?}");
    }
    all
}

pub(crate) fn count(texts: &[String], text: &str) -> usize {
    texts.iter().filter(|known| *known == text).count()
}

pub(crate) fn alert(world: &mut World, by: usize, text: &str) {
    let command = Command::RaiseAlert {
        severity: Severity::Critical,
        text: AlertText::parse(text).unwrap(),
        life_ms: 86_400_000,
        answers: Vec::new(),
    };
    assert!(matches!(world.command(by, command).unwrap(), Answer::Alert { .. }));
}

pub(crate) fn connect_all(world: &mut World) {
    for (a, b) in [(0, 1), (1, 2), (0, 2)] {
        world.connect(a, b);
    }
    world.rest();
}

#[test]
fn a_copy_holds_every_record_but_the_secret_ones() {
    let mut world = World::organisation(&["Dana", "Sam", "Rosa"]);
    connect_all(&mut world);
    for n in 0..5 {
        world.send(0, 1, &format!("to Sam {n}"));
        world.send(2, 0, &format!("to Dana {n}"));
    }
    alert(&mut world, 2, "the mail server is theirs");
    world.rest();
    world.kill(1);
    world.send(0, 1, "for later");
    world.send(2, 1, "carried by Dana");
    world.rest();
    let (_, copied) = copy_of(&mut world, 0);
    // Two people's sessions and one bundle.
    assert_eq!(world.engine(0).records(), copied + 3);
}

#[test]
fn a_device_restored_from_a_copy_talks_again_and_gets_what_it_lacks() {
    let mut world = World::organisation(&["Dana", "Sam", "Rosa"]);
    connect_all(&mut world);
    world.send(0, 1, "before");
    world.send(1, 0, "before, back");
    world.rest();
    world.kill(2);
    world.send(1, 2, "written while Rosa was away");
    world.rest();
    let (copy, _) = copy_of(&mut world, 1);
    let first = lives(&world, 1);

    // All this Sam's copy knows nothing of; his ratchets and numbers go on.
    for n in 0..4 {
        world.send(1, 0, &format!("after the copy {n}"));
        world.send(0, 1, &format!("after the copy, back {n}"));
    }
    world.rest();
    world.kill(1);
    world.send(0, 1, "while the disk was dead");
    alert(&mut world, 0, "change every password");
    world.rest();

    start_from(&mut world, 1, &copy);
    assert!(world.engine(1).snapshot().me.restored_ms.is_some());
    world.send(1, 0, "I am back");
    world.start(2);
    connect_all(&mut world);
    world.send(0, 1, "good to hear");
    world.send(1, 2, "you too");
    world.rest();

    let now: BTreeSet<_> = lives(&world, 1).difference(&first).copied().collect();
    assert_eq!(now.len(), 1, "a life of its own");
    let sams = world.texts(1, 0);
    for text in ["before", "before, back", "while the disk was dead", "I am back", "good to hear"] {
        assert_eq!(count(&sams, text), 1, "{text} in {sams:?}");
    }
    let danas = world.texts(0, 1);
    for text in ["after the copy 3", "I am back", "good to hear"] {
        assert_eq!(count(&danas, text), 1, "{text} in {danas:?}");
    }
    let rosas = world.texts(2, 1);
    assert_eq!(rosas, ["written while Rosa was away", "you too"]);
    assert_eq!(world.history(1).alerts(10).unwrap().len(), 1);
    let numbers = numbers(&mut world, 1, 0);
    assert!(numbers.keys().any(|(life, _)| now.contains(life)), "he wrote in the new life");
    for device in 0..3 {
        assert_eq!(world.engine(device).snapshot().outbox, 0, "device {device} owes nothing");
    }
}

/// A home copied and put back as a whole, keyring included, opens in peace: nothing in it says that it is old. Its
/// neighbours know.
fn put_back_whole(world: &mut World) {
    connect_all(world);
    world.send(1, 0, "before");
    world.send(0, 1, "before, back");
    world.rest();
    let image = world.devices[1].disk.image();
    for n in 0..3 {
        world.send(1, 0, &format!("after the image {n}"));
        world.send(0, 1, &format!("after the image, back {n}"));
    }
    world.rest();
    world.kill(1);
    world.send(0, 1, "while he was away");
    world.devices[1].disk = image;
    world.start(1);
    assert!(world.engine(1).snapshot().me.restored_ms.is_none(), "he cannot know yet");
    // Sealed with a ratchet and under a number that were used before.
    world.send(1, 0, "written before he met anybody");
}

#[test]
fn a_home_put_back_as_a_whole_begins_another_life_before_it_sends_anything() {
    let mut world = World::organisation(&["Dana", "Sam", "Rosa"]);
    put_back_whole(&mut world);
    let link = world.connect(0, 1);
    world.rest();
    assert!(world.engine(1).snapshot().me.restored_ms.is_some());
    assert!(!world.links.contains_key(&link), "who greeted in the old life greets again");
    connect_all(&mut world);
    world.send(0, 1, "good to hear");
    world.send(1, 0, "likewise");
    world.rest();
    numbers(&mut world, 1, 0);
    let danas = world.texts(0, 1);
    let sams = world.texts(1, 0);
    for text in ["written before he met anybody", "likewise", "good to hear"] {
        assert_eq!((count(&danas, text), count(&sams, text)), (1, 1), "{text}: {danas:?} {sams:?}");
    }
    assert_eq!(count(&sams, "while he was away"), 1);
    for device in 0..3 {
        assert_eq!(world.engine(device).snapshot().outbox, 0, "device {device} owes nothing");
    }
}

/// What the neighbours know outlives their own restart.
#[test]
fn a_neighbour_that_was_restarted_still_knows_the_others_last_word() {
    let mut world = World::organisation(&["Dana", "Sam", "Rosa"]);
    put_back_whole(&mut world);
    world.kill(0);
    world.start(0);
    world.connect(0, 1);
    world.rest();
    assert!(world.engine(1).snapshot().me.restored_ms.is_some());
}

/// The control: where its neighbour shows it nothing, the device takes its own number for free, the neighbour takes what it
/// writes for what it had under that number, and the message never arrives.
#[test]
fn without_its_own_word_shown_to_it_a_home_put_back_loses_what_it_writes() {
    let mut world = World::organisation(&["Dana", "Sam", "Rosa"]);
    put_back_whole(&mut world);
    world.connect(0, 1);
    let sam = world.engine(1).snapshot().me.device;
    for _ in 0..10 {
        while let Some(mut flying) = world.flying.pop_front() {
            let mut frame = wire::Frame::read(&flying.frame).unwrap();
            match &mut frame.kind {
                Some(wire::frame::Kind::Hello(hello)) => hello.yours = None,
                Some(wire::frame::Kind::Have(have)) if flying.from == 0 => {
                    let have = wire::Have::decode(have.payload.as_slice()).unwrap();
                    if have.device == sam.as_bytes() {
                        continue;
                    }
                }
                _ => {}
            }
            flying.frame = frame.encode_to_vec();
            world.arrive(&flying);
        }
        world.pass(6_000);
    }
    assert!(world.engine(1).snapshot().me.restored_ms.is_none());
    assert_eq!(count(&world.texts(0, 1), "written before he met anybody"), 0, "it came after all");
}

/// A word that nobody signed delays a device by a moment and changes nothing: else any member could have every other one
/// begin a life a minute.
#[test]
fn a_neighbours_bare_word_does_not_begin_another_life() {
    let mut world = World::organisation(&["Dana", "Sam"]);
    let link = world.connect(0, 1);
    world.rest();
    world.send(0, 1, "hello");
    world.rest();
    world.cut(link);
    let link = world.connect(0, 1);
    // Dana's greeting says she knows a later word of Sam's than there is.
    let at = world.flying.iter().position(|flying| flying.from == 0).unwrap();
    let mut frame = wire::Frame::read(&world.flying[at].frame).unwrap();
    let Some(wire::frame::Kind::Hello(hello)) = &mut frame.kind else { panic!("no greeting") };
    hello.yours.as_mut().unwrap().number += 1_000;
    world.flying[at].frame = frame.encode_to_vec();
    world.send(1, 0, "I wait a moment");
    world.settle();
    assert!(world.links.contains_key(&link));
    assert_eq!(count(&world.texts(0, 1), "I wait a moment"), 0, "held back");
    world.rest();
    assert_eq!(count(&world.texts(0, 1), "I wait a moment"), 1);
    assert!(world.engine(1).snapshot().me.restored_ms.is_none());
}
