//! Epochs: who makes the next, who gets it, which is sent under, and how long it is kept.

use crate::{
    removal::{kind, revoke},
    world::{START_MS, World, pass},
};
use oob_crypto::{SigningKey, body_hash, op_hash, signed::sign};
use oob_engine::{
    effect::Answer,
    input::{Command, Input},
};
use oob_proto::{
    DeviceId, EpochId, Message, OrgId,
    signing::SignedType,
    wire::{self, frame::Kind, op_body},
};
use oob_store::{Area, Bag, Store};
use rand::{SeedableRng, rngs::StdRng};
use std::collections::BTreeMap;

const DAY_MS: u64 = 86_400_000;

/// The epochs a device keeps, the one it sends under first.
fn epochs(world: &mut World, device: usize) -> Vec<EpochId> {
    let keys = world.engine(device).snapshot().screening.clone();
    keys.headers.iter().map(|(epoch, _)| *epoch).collect()
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|i| format!("Person {}", char::from(b'A' + i as u8))).collect()
}

fn organisation(count: usize) -> World {
    let names = names(count);
    World::organisation(&names.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Epochs announced on the wire, by author and ring; each operation once.
fn announced(world: &World) -> BTreeMap<(Vec<u8>, u32), usize> {
    let mut ops = BTreeMap::new();
    for flying in &world.wire {
        if let Kind::Log(op) = kind(flying) {
            ops.insert(op.header.as_ref().unwrap().payload.clone(), op.body);
        }
    }
    let mut count = BTreeMap::new();
    for (header, body) in ops {
        let body = wire::OpBody::decode(body.as_slice()).unwrap();
        if let Some(op_body::Kind::EpochKey(key)) = body.kind {
            let author = wire::OpHeader::decode(header.as_slice()).unwrap().author;
            *count.entry((author, key.ring)).or_insert(0) += 1;
        }
    }
    count
}

/// The secrets of a device, as whoever takes it has them.
fn stolen(world: &World, device: usize) -> wire::StoredIdentity {
    let parts = world.devices[device].disk.image().parts();
    let store = Store::with_backend(parts, &pass(), StdRng::seed_from_u64(1)).unwrap().store;
    let bytes = store.get(&Bag::new(Area(1), &[]), 0).unwrap().unwrap();
    wire::StoredIdentity::decode(bytes.as_slice()).unwrap()
}

fn key(bytes: &[u8]) -> SigningKey {
    SigningKey::from_secret(bytes.try_into().unwrap())
}

/// Certifies a device that has joined nothing as one more of a member; returns it and the operation.
fn second_device(world: &mut World, member: usize, device: usize) -> (DeviceId, wire::Op) {
    let org: OrgId = world.engine(member).snapshot().org.as_ref().unwrap().id;
    let (person, phone) = (stolen(world, member), stolen(world, device));
    let (uik, dsk, transport) = (key(&person.uik), key(&phone.dsk), key(&phone.transport_key));
    let dnk = world.engine(device).local_keys().dnk.public();
    let cert = wire::DeviceCert {
        member: world.member(member).to_vec(),
        dsk: dsk.public().to_vec(),
        dnk: dnk.to_vec(),
        // Any key of the form will do: nothing is sent to this device here.
        olm_id: dnk.to_vec(),
        transport_key: transport.public().to_vec(),
        class: 0,
        site: String::new(),
    };
    let certificate =
        sign(SignedType::Device, &org, cert.encode_to_vec(), &[&uik, &dsk, &transport]);
    let Ok(Answer::Show(show)) = world.command(member, Command::JoinShow) else { panic!() };
    let made = show.ops.last().unwrap().header.as_ref().unwrap();
    let lamport = wire::OpHeader::decode(made.payload.as_slice()).unwrap().lamport;
    let body = wire::OpBody {
        kind: Some(op_body::Kind::Device(wire::Device { certificate: Some(certificate) })),
    };
    let body = body.encode_to_vec();
    let header = wire::OpHeader {
        author: uik.public().to_vec(),
        incarnation: 77,
        seq: 0,
        self_prev: Vec::new(),
        prev: vec![op_hash(&made.payload).to_vec()],
        lamport: lamport + 1,
        time: START_MS,
        circle: 0,
        critical: true,
        body_hash: body_hash(&body).to_vec(),
    };
    let header = sign(SignedType::Op, &org, header.encode_to_vec(), &[&uik]);
    (oob_crypto::device_id(&dsk.public()), wire::Op { header: Some(header), body })
}

fn flows(world: &mut World, a: usize, b: usize) {
    let (there, back) = (world.texts(b, a).len(), world.texts(a, b).len());
    world.send(a, b, "there");
    world.send(b, a, "back");
    world.settle();
    assert_eq!((world.texts(b, a).len(), world.texts(a, b).len()), (there + 2, back + 2));
}

/// Two sides of a cut each take one device out and rotate; neither side's epoch excludes both.
#[test]
fn two_sides_of_a_cut_that_both_rotated_agree_on_one_epoch_that_excludes_both() {
    let mut world = World::organisation(&["Dana", "Sam", "Noor", "Ana", "Kim"]);
    let mut phone = World::new(&["Noor's phone"]);
    world.devices.append(&mut phone.devices);
    let (phone, op) = second_device(&mut world, 2, 5);
    for device in 0..4 {
        world.command(device, Command::Learn { ops: vec![op.clone()] }).unwrap();
    }
    for (a, b) in [(0, 1), (1, 2), (2, 3)] {
        world.connect(a, b);
        world.settle();
    }
    let between = *world.links.iter().find(|(_, ends)| **ends == (1, 2)).unwrap().0;
    world.cut(between);
    let old = epochs(&mut world, 0)[0];
    revoke(&mut world, 0, 4);
    world.command(2, Command::RevokeDevice { device: phone }).unwrap();
    world.settle();
    let sides = [epochs(&mut world, 0)[0], epochs(&mut world, 2)[0]];
    assert!(!sides.contains(&old) && sides[0] != sides[1], "both sides rotated");
    assert_eq!((epochs(&mut world, 1)[0], epochs(&mut world, 3)[0]), (sides[0], sides[1]));
    flows(&mut world, 0, 1);
    flows(&mut world, 2, 3);

    world.connect(1, 2);
    world.settle();
    // Before anybody's turn: messages flow, under what the fewest of the removed may hold.
    for device in [0, 3] {
        assert!(!world.engine(device).snapshot().roster.devices.contains_key(&phone));
    }
    for _ in 0..20 {
        world.pass(1_000);
        world.settle();
    }
    let agreed = epochs(&mut world, 0);
    assert!(!sides.contains(&agreed[0]), "neither side's epoch excludes both");
    for device in 1..4 {
        assert_eq!(epochs(&mut world, device), agreed, "device {device}");
    }
    for (a, b) in [(0, 1), (1, 2), (2, 3)] {
        flows(&mut world, a, b);
    }
    let quiet = announced(&world);
    for _ in 0..5 {
        world.pass(60_000);
        world.settle();
    }
    assert_eq!(announced(&world), quiet, "nobody rotates for the same removals again");
    let turns: usize = quiet.values().sum();
    assert!(turns <= 2 * 2 + 2 * 2, "two sides, and at most two turns: {quiet:?}");
}

/// After a heal somebody has to be first; whoever that is, it may be switched off.
#[test]
fn a_turn_comes_to_everybody_and_who_writes_does_not_wait_for_it() {
    for alone in 1..4 {
        let mut world = organisation(5);
        let stream = world.connect(0, alone);
        world.settle();
        let old = epochs(&mut world, alone)[0];
        revoke(&mut world, 0, 4);
        // The removal arrives and the stream ends before the epoch does.
        while let Some(flying) = world.flying.pop_front() {
            if matches!(kind(&flying), Kind::Log(_)) {
                world.arrive(&flying);
                break;
            }
        }
        world.cut(stream);
        assert_eq!(world.engine(alone).snapshot().roster.devices.len(), 4);
        assert_eq!(epochs(&mut world, alone)[0], old, "not in the same moment");
        let due = world.engine(alone).next_deadline().unwrap();
        assert!(due > world.mono_ms && due <= world.mono_ms + 5 * 2_000, "{due}");
        if alone == 1 {
            world.send(1, 2, "now");
        } else {
            world.pass(due - world.mono_ms - 1);
            assert_eq!(epochs(&mut world, alone)[0], old, "not before its turn");
            world.pass(1);
        }
        assert_ne!(epochs(&mut world, alone)[0], old);
    }
}

#[test]
fn a_fitting_epoch_that_comes_in_time_cancels_the_turn() {
    let mut world = organisation(5);
    for device in 1..4 {
        world.connect(0, device);
    }
    world.settle();
    revoke(&mut world, 0, 4);
    world.settle();
    for _ in 0..10 {
        world.pass(2_000);
        world.settle();
    }
    let by_author = announced(&world);
    // The founding's two, if they ever went over the wire, are Dana's too.
    let authors: std::collections::BTreeSet<_> =
        by_author.keys().map(|(author, _)| author.clone()).collect();
    assert_eq!(authors.len(), 1, "only who removed rotated");
    let agreed = epochs(&mut world, 0);
    assert_eq!(agreed.len(), 4);
    for device in 1..4 {
        assert_eq!(epochs(&mut world, device), agreed);
        let due = world.engine(device).next_deadline().unwrap();
        assert!(due > world.mono_ms, "no turn is left over: {due}");
    }
}

#[test]
fn epochs_are_handed_on_link_by_link_and_to_late_comers() {
    let mut world = organisation(5);
    // 0 - 1 - 2, and 3 comes later, to 2 only.
    for (a, b) in [(0, 1), (1, 2)] {
        world.connect(a, b);
        world.settle();
    }
    revoke(&mut world, 0, 4);
    world.settle();
    let agreed = epochs(&mut world, 0);
    assert_eq!(epochs(&mut world, 2), agreed);
    world.connect(2, 3);
    world.settle();
    assert_eq!(epochs(&mut world, 3), agreed);
    flows(&mut world, 2, 3);
}

#[test]
fn ten_removals_in_a_minute_give_at_most_two_epochs_of_a_ring_by_one_device() {
    let mut world = organisation(14);
    for device in 1..4 {
        world.connect(0, device);
    }
    world.settle();
    let before = epochs(&mut world, 0).len();
    assert_eq!(before, 2);
    let founding = announced(&world);
    for device in 4..14 {
        revoke(&mut world, 0, device);
        world.settle();
        world.pass(5_000);
        world.settle();
    }
    for (by, count) in announced(&world) {
        let count = count - founding.get(&by).copied().unwrap_or(0);
        assert!(count <= 2, "{count} in a minute");
    }
    for _ in 0..40 {
        world.pass(3_000);
        world.settle();
    }
    let agreed = epochs(&mut world, 0);
    for device in 1..4 {
        assert_eq!(epochs(&mut world, device), agreed, "device {device}");
    }
    // The last removed came too late for all but the epoch that is sent under now.
    let last = world.engine(13).snapshot().screening.clone();
    assert!(!last.headers.iter().any(|(epoch, _)| *epoch == agreed[0]));
    let quiet = announced(&world);
    world.pass(120_000);
    world.settle();
    assert_eq!(announced(&world), quiet);
}

#[test]
fn alone_a_device_rotates_once_a_minute_however_many_it_removes() {
    let mut world = organisation(12);
    for device in 2..12 {
        revoke(&mut world, 0, device);
    }
    assert_eq!(epochs(&mut world, 0).len(), 4, "the first at once");
    let due = world.engine(0).next_deadline().unwrap();
    assert_eq!(due, world.mono_ms + 60_000, "further removals wait");
    world.pass(59_999);
    assert_eq!(epochs(&mut world, 0).len(), 4);
    world.pass(1);
    assert_eq!(epochs(&mut world, 0).len(), 6);
    world.pass(600_000);
    assert_eq!(epochs(&mut world, 0).len(), 6);
}

#[test]
fn a_joiner_gets_every_kept_epoch() {
    let mut world = organisation(5);
    let mut newcomers = World::new(&["Ana"]);
    world.devices.append(&mut newcomers.devices);
    for device in 2..5 {
        revoke(&mut world, 0, device);
        world.pass(61_000);
    }
    let kept = epochs(&mut world, 0);
    assert_eq!(kept.len(), 2 + 3 * 2);
    let link = world.invite(0);
    world.join(5, 0, &link).unwrap();
    assert_eq!(epochs(&mut world, 5), kept);
    world.connect(0, 5);
    world.settle();
    flows(&mut world, 0, 5);
}

#[test]
fn a_grant_before_its_announcement_waits_for_it() {
    let mut world = World::organisation(&["Dana", "Sam", "Noor"]);
    let link = world.connect(0, 1);
    world.settle();
    revoke(&mut world, 0, 2);
    let (grants, ops): (Vec<_>, Vec<_>) =
        world.flying.drain(..).partition(|flying| matches!(kind(flying), Kind::Epoch(_)));
    assert_eq!(grants.len(), 2);
    let old = epochs(&mut world, 1);
    // Many that are never announced do not push out what comes last, nor grow without bound.
    let mut junk = grants[0].clone();
    let Kind::Epoch(mut grant) = kind(&junk) else { panic!() };
    for i in 0..100 {
        grant.epoch_id = vec![i; 16];
        junk.frame = oob_proto::wire::Frame::new(Kind::Epoch(grant.clone())).encode_to_vec();
        world.arrive(&junk);
    }
    for flying in &grants {
        world.arrive(flying);
    }
    assert_eq!(epochs(&mut world, 1), old, "nothing is believed that the log does not announce");
    for flying in &ops {
        world.arrive(flying);
    }
    assert_eq!(epochs(&mut world, 1), epochs(&mut world, 0));
    assert!(world.links.contains_key(&link));
}

#[test]
fn an_epoch_is_forgotten_22_days_after_another_took_its_place() {
    let mut world = World::organisation(&["Dana", "Sam", "Noor"]);
    let first = epochs(&mut world, 0);
    world.pass(40 * DAY_MS);
    world.pass(60_001);
    assert_eq!(epochs(&mut world, 0), first, "what is sent under does not age");
    revoke(&mut world, 0, 2);
    let kept = epochs(&mut world, 0);
    assert_eq!(kept.len(), 4);
    for _ in 0..21 {
        world.pass(DAY_MS);
    }
    assert_eq!(epochs(&mut world, 0), kept);
    world.kill(0);
    world.start(0);
    world.input(0, Input::Tick);
    for _ in 0..3 {
        world.pass(DAY_MS);
    }
    let left = epochs(&mut world, 0);
    assert_eq!(left, [kept[0], kept[2]], "those sent under, of both rings");
}
