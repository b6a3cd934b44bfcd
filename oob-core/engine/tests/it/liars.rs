//! What one neighbour or one member that lies can do to the others: nothing that lasts.

use crate::world::{Flying, World, pass};
use oob_crypto::{SigningKey, signed::sign};
use oob_engine::{
    effect::Answer,
    envelope::{Screened, VerifiedEnvelope},
    input::{Arrived, Command, Input, LinkId},
    model::MessageState,
};
use oob_proto::{
    Incarnation, Message,
    signing::SignedType,
    wire::{self, Frame, frame::Kind},
};
use oob_store::{Area, Bag, Store};
use rand::{SeedableRng, rngs::StdRng};

fn say(world: &mut World, from: usize, to: usize, link: LinkId, kind: Kind) {
    let frame = Frame::new(kind).encode_to_vec();
    world.arrive(&Flying { from, to, link, frame });
}

fn life(world: &mut World, by: usize, of: usize) -> Incarnation {
    let device = world.engine(of).snapshot().me.device;
    let keys = world.engine(by).snapshot().screening.clone();
    let (key, _) = keys.relays.iter().find(|(_, (of, _))| *of == device).expect("a key of its");
    key.1
}

/// A bundle was taken for an old one by the number it names before its signature was looked at, and the record it names
/// for gone: a neighbour could have any message of anybody's refused and settled as if it had come.
#[test]
fn a_bundle_that_nobody_signed_makes_no_record_gone() {
    let mut world = World::organisation(&["Dana", "Sam", "Mallory"]);
    let with_dana = world.connect(0, 1);
    world.settle();
    world.cut(with_dana);
    let link = world.connect(2, 1);
    world.settle();
    assert!(world.links.contains_key(&link));
    let dana = world.engine(0).snapshot().me.device;
    let life = life(&mut world, 1, 0);
    for record_seq in 1..20 {
        let bundle = wire::PrekeyBundle {
            device: dana.to_vec(),
            incarnation: life.0,
            record_seq,
            ..wire::PrekeyBundle::default()
        };
        let payload = bundle.encode_to_vec();
        let signed = wire::Signed { payload, sigs: Vec::new() };
        say(&mut world, 2, 1, link, Kind::Bundle(signed));
    }
    world.connect(0, 1);
    world.settle();
    for i in 0..5 {
        world.send(0, 1, &format!("m{i}"));
    }
    world.settle();
    assert_eq!(world.texts(1, 0), ["m0", "m1", "m2", "m3", "m4"]);
    assert_eq!(world.log(0, 1).last().unwrap().state, MessageState::Delivered);
}

/// An envelope that came before its first flight waits among what is carried, and is found by its tag. Another that
/// bears the same tag hid it for good.
#[test]
fn a_copied_tag_does_not_hide_the_message_that_waits_under_it() {
    let mut world = World::organisation(&["Dana", "Sam", "Mallory"]);
    world.connect(0, 1);
    world.settle();
    let link = world.connect(2, 1);
    world.settle();
    world.send(0, 1, "first");
    world.send(0, 1, "second");
    let envelope = |flying: &Flying| match Frame::read(&flying.frame).unwrap().kind {
        Some(Kind::Envelope(envelope)) => Some(envelope),
        _ => None,
    };
    let flying: Vec<Flying> = world.flying.drain(..).filter(|it| envelope(it).is_some()).collect();
    world.arrive(&flying[1]);
    let genuine = envelope(&flying[1]).unwrap();
    let cover = oob_crypto::envelope::Cover::read(&genuine).unwrap();
    let verified = VerifiedEnvelope {
        id: [9; 32].into(),
        device: world.engine(2).snapshot().me.device,
        incarnation: life(&mut world, 1, 2),
        seq: 1_000,
        head: *cover.head(),
        origin: genuine.origin.clone(),
        ct: genuine.ct.clone(),
    };
    let frame = Screened::Envelope(Box::new(verified));
    let frames = vec![Arrived { bytes: 1, age_s: 0, frame }];
    world.input(1, Input::Frames { link, frames });
    assert_eq!(world.engine(1).snapshot().held, 2, "both wait");
    world.arrive(&flying[0]);
    world.settle();
    assert_eq!(world.texts(1, 0), ["first", "second"]);
    assert_eq!(world.engine(1).snapshot().held, 0);
}

/// What gave way to others' records is not here, and its author must not go away believing that it is.
#[test]
fn what_gave_way_is_not_said_to_be_held() {
    let mut world = World::organisation(&["Dana", "Sam", "Rosa", "Eli"]);
    let with_dana = world.connect(0, 1);
    world.settle();
    world.engine(1).set_carry_limit(64 * 1024);
    for i in 0..90 {
        world.send(0, 2, &format!("much {i}"));
    }
    world.rest();
    let with_eli = world.connect(3, 1);
    for i in 0..30 {
        world.send(3, 2, &format!("little {i}"));
    }
    world.rest();
    world.rest();
    let here = usize::try_from(world.engine(1).snapshot().held).unwrap();
    assert!(world.engine(1).snapshot().not_carried > 0, "there was not room for all");
    let held = |world: &World, from| {
        world.log(from, 2).iter().filter(|message| !message.held_by.is_empty()).count()
    };
    let sam = held(&world, 0) + held(&world, 3);
    assert_eq!(sam, here);
    let _ = (with_dana, with_eli);
}

/// A neighbour says how old a record is. One that said "almost too old" had it dropped, and refused for ever, at once.
#[test]
fn an_age_made_up_does_not_have_a_record_dropped() {
    let mut world = World::organisation(&["Dana", "Sam", "Rosa"]);
    world.connect(0, 1);
    world.settle();
    world.send(0, 2, "sealed");
    let mut envelope = world.flying.pop_front().unwrap();
    assert!(matches!(Frame::read(&envelope.frame).unwrap().kind, Some(Kind::Envelope(_))));
    Frame::add_age(&mut envelope.frame, 21 * 86_400 - 1);
    world.arrive(&envelope);
    assert_eq!(world.engine(1).snapshot().held, 1);
    world.pass(600_000);
    world.pass(600_000);
    assert_eq!(world.engine(1).snapshot().held, 1);
    world.pass(11 * 86_400_000);
    assert_eq!(world.engine(1).snapshot().held, 0, "control: it has an end");
}

/// Ends a device and signs relay certificates as it could, for a key and a generation.
fn certificates_of(world: &mut World, device: usize) -> impl Fn(u8, u32) -> Kind + use<> {
    let org = world.engine(device).snapshot().org.as_ref().unwrap().id;
    let mallory = world.engine(device).snapshot().me.device;
    let incarnation = life(world, 1, device);
    world.kill(device);
    let parts = world.devices[device].disk.parts();
    let rng = StdRng::seed_from_u64(1);
    let store = Store::with_backend(parts, &pass(), rng).unwrap().store;
    let own = store.get(&Bag::new(Area(1), &[]), 0).unwrap().unwrap();
    let identity = wire::StoredIdentity::decode(own.as_slice()).unwrap();
    drop(store);
    let dsk = SigningKey::from_secret(&identity.dsk.try_into().unwrap());
    move |key, generation| {
        let cert = wire::RelayCert {
            device: mallory.to_vec(),
            incarnation: incarnation.0,
            r#gen: generation,
            rlk: SigningKey::from_secret(&[key; 32]).public().to_vec(),
            record_seq: u64::from(key) * 1_000 + u64::from(generation),
        };
        Kind::RelayCert(sign(SignedType::RelayCert, &org, cert.encode_to_vec(), &[&dsk]))
    }
}

/// Each certificate makes every envelope that waits be judged again, so an author is not taken more of them than it can have
/// use for: thirty-two at once, then one in three hours. Whoever passes on more is not to blame.
#[test]
fn relay_certificates_of_one_device_are_taken_at_a_rate() {
    let mut world = World::organisation(&["Dana", "Sam", "Mallory"]);
    let first = world.connect(0, 1);
    world.settle();
    world.cut(first);
    let mallory = world.engine(2).snapshot().me.device;
    let cert = certificates_of(&mut world, 2);
    let link = world.connect(0, 1);
    world.settle();
    let taken = |world: &mut World| {
        let keys = world.engine(1).snapshot().screening.clone();
        let own = keys.relays.keys().filter(|(device, _, _)| *device == mallory.short());
        own.map(|(_, _, generation)| *generation).max().unwrap()
    };
    let before = taken(&mut world);
    assert_eq!(before, 0, "the one it was admitted with");
    for generation in 1..=60 {
        say(&mut world, 0, 1, link, cert(1, generation));
    }
    // One of the thirty-two came when it was admitted.
    assert_eq!(taken(&mut world), 31);
    assert!(world.links.contains_key(&link), "Dana only passed them on");
    for generation in 32..=34 {
        world.pass(3 * 3_600_000);
        for later in [generation, generation + 1] {
            say(&mut world, 0, 1, link, cert(1, later));
        }
        assert_eq!(taken(&mut world), generation, "one in three hours");
    }
}

/// An author gave one generation to two relay keys. Whoever passed one on where the other was known was shut out for it, so
/// that a member could part two others.
#[test]
fn two_certificates_of_one_generation_cost_nobody_but_their_author() {
    let mut world = World::organisation(&["Dana", "Sam", "Mallory"]);
    let first = world.connect(0, 1);
    world.settle();
    world.cut(first);
    let cert = certificates_of(&mut world, 2);
    let link = world.connect(0, 1);
    world.settle();
    for generation in 1..20 {
        say(&mut world, 0, 1, link, cert(1, generation));
        for _ in 0..10 {
            say(&mut world, 0, 1, link, cert(2, generation));
        }
    }
    assert!(world.links.contains_key(&link), "Dana only passed them on");
    let Kind::RelayCert(mut forged) = cert(3, 1) else { unreachable!() };
    forged.payload.push(0);
    for _ in 0..64 {
        if world.links.contains_key(&link) {
            say(&mut world, 0, 1, link, Kind::RelayCert(forged.clone()));
        }
    }
    assert!(!world.links.contains_key(&link), "control: what nobody signed has its price");
}

/// Signs, with the relay key out of a device's own store, that it knows and does not need any record of an author.
fn says_all_is_gone(world: &mut World, liar: usize, author: usize) -> Kind {
    let org = world.engine(liar).snapshot().org.as_ref().unwrap().id;
    let (device, of) =
        (world.engine(liar).snapshot().me.device, world.engine(author).snapshot().me.device);
    let authors_life = life(world, 1, author);
    world.kill(liar);
    let parts = world.devices[liar].disk.parts();
    let store = Store::with_backend(parts, &pass(), StdRng::seed_from_u64(1)).unwrap().store;
    let own = store.get(&Bag::new(Area(1), &[]), 2).unwrap().unwrap();
    let own = wire::StoredLife::decode(own.as_slice()).unwrap();
    store.close().unwrap();
    world.start(liar);
    let have = wire::Have {
        device: device.to_vec(),
        incarnation: own.incarnation,
        r#gen: own.rlk_gen,
        number: own.have_number + 1_000,
        entries: vec![wire::HaveEntry {
            device: of.to_vec(),
            incarnation: authors_life.0,
            have: Vec::new(),
            gone: vec![wire::Range { first: 1, last: u64::MAX }],
            cut: false,
        }],
        ..wire::Have::default()
    };
    let rlk = SigningKey::from_secret(&own.rlk.try_into().unwrap());
    Kind::Have(sign(SignedType::Have, &org, have.encode_to_vec(), &[&rlk]))
}

/// A neighbour signs that all of Dana's records are known to it and not needed. It is given none of them then, and
/// nobody else loses any.
#[test]
fn nobody_can_say_of_others_records_that_they_are_gone() {
    for (liar, left) in [(3, 1), (0, 0)] {
        let mut world = World::organisation(&["Dana", "Sam", "Rosa", "Mallory"]);
        for (a, b) in [(0, 1), (1, 2), (1, 3)] {
            let link = world.connect(a, b);
            world.settle();
            world.cut(link);
        }
        let link = world.connect(0, 1);
        world.settle();
        world.send(0, 2, "sealed");
        world.rest();
        assert_eq!(world.engine(1).snapshot().held, 1);
        world.cut(link);
        let word = says_all_is_gone(&mut world, liar, 0);
        let link = world.connect(liar, 1);
        world.settle();
        say(&mut world, liar, 1, link, word);
        // The control: said by Dana herself it is so.
        assert_eq!(world.engine(1).snapshot().held, left, "said by {liar}");
        world.cut(link);
        world.connect(1, 2);
        world.settle();
        assert_eq!(world.texts(2, 0).len() as u64, left);
    }
}

/// A person writes as many operations of no meaning as the log takes of one, and others, as many again, at another device.
/// Each of the two refused what the other had taken, and with it, as orphans, everything that built on it: the log was in two
/// for good, and nobody on one side heard any more who was admitted or taken out on the other.
#[test]
fn one_who_writes_too_much_does_not_part_two_others() {
    let mut world = World::organisation(&["Dana", "Sam", "Mallory"]);
    let mut more = World::new(&["Eli"]);
    world.devices.append(&mut more.devices);
    let with_sam = world.connect(0, 1);
    world.settle();
    world.cut(with_sam);
    let ops = meaningless(&mut world, 2, 64);
    for (victim, ops) in [(0, &ops[..32]), (1, &ops[32..])] {
        let link = world.connect(2, victim);
        world.settle();
        for op in ops {
            say(&mut world, 2, victim, link, Kind::Log(op.clone()));
        }
        world.flying.clear();
        world.cut(link);
        assert!(world.engine(victim).log_len() > 32, "control: they were taken");
    }
    let invite = world.invite(0);
    let link = world.connect(0, 1);
    world.settle();
    world.join(3, 1, &invite).expect("Sam has heard of the invitation");
    world.settle();
    assert_eq!(world.roster_names(0), world.roster_names(1), "Dana has heard of Eli");
    assert_eq!(world.engine(0).roster_hash(), world.engine(1).roster_hash());
    // They are here to stay.
    world.cut(link);
    let before = world.engine(1).roster_hash();
    world.kill(1);
    world.start(1);
    assert_eq!(world.engine(1).roster_hash(), before);
    world.connect(1, 3);
    world.settle();
    assert_eq!(world.engine(3).roster_hash(), before);
}

/// Operations of a kind that nobody knows, each the first of another life of somebody's own key.
fn meaningless(world: &mut World, author: usize, count: u32) -> Vec<wire::Op> {
    let org = world.engine(author).snapshot().org.as_ref().unwrap().id;
    let Ok(Answer::Show(show)) = world.command(author, Command::JoinShow) else { panic!() };
    let parent = show.ops.last().unwrap().header.as_ref().unwrap().payload.clone();
    let lamport = wire::OpHeader::decode(parent.as_slice()).unwrap().lamport + 1;
    world.kill(author);
    let parts = world.devices[author].disk.parts();
    let store = Store::with_backend(parts, &pass(), StdRng::seed_from_u64(1)).unwrap().store;
    let own = store.get(&Bag::new(Area(1), &[]), 0).unwrap().unwrap();
    let identity = wire::StoredIdentity::decode(own.as_slice()).unwrap();
    store.close().unwrap();
    world.start(author);
    let key = SigningKey::from_secret(&identity.uik.try_into().unwrap());
    let one = |incarnation: u32| {
        let body = [&[0xfa, 0x07, 4][..], &incarnation.to_be_bytes()].concat();
        let header = wire::OpHeader {
            author: key.public().to_vec(),
            incarnation,
            prev: vec![oob_crypto::op_hash(&parent).to_vec()],
            lamport,
            circle: 1,
            body_hash: oob_crypto::body_hash(&body).to_vec(),
            ..wire::OpHeader::default()
        };
        let header = sign(SignedType::Op, &org, header.encode_to_vec(), &[&key]);
        wire::Op { header: Some(header), body }
    };
    (0..count).map(one).collect()
}

/// An operation that was put aside for its author's share, sent again and again: each time all it builds on was copied and
/// its signature checked, and nobody paid for it. No correct neighbour says one twice on a stream.
#[test]
fn repeating_what_was_put_aside_costs_a_neighbour_its_stream() {
    let mut world = World::organisation(&["Dana", "Sam", "Mallory"]);
    let ops = meaningless(&mut world, 2, 40);
    let link = world.connect(2, 0);
    world.settle();
    for op in &ops {
        say(&mut world, 2, 0, link, Kind::Log(op.clone()));
    }
    assert!(world.links.contains_key(&link), "control: each once");
    for _ in 0..100 {
        if world.links.contains_key(&link) {
            say(&mut world, 2, 0, link, Kind::Log(ops[39].clone()));
        }
    }
    assert!(!world.links.contains_key(&link), "she is shut out for a while");
}
