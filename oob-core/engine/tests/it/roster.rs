//! The roster is a function of the set of operations.

use crate::world::World;
use oob_engine::input::Command;
use oob_proto::{Message, wire};
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};

fn log_of(world: &mut World, device: usize) -> Vec<wire::Op> {
    let Ok(oob_engine::effect::Answer::Show(show)) = world.command(device, Command::JoinShow)
    else {
        panic!()
    };
    show.ops
}

fn roster_of(world: &World, device: usize) -> Vec<String> {
    let snapshot = world.devices[device].engine.as_ref().unwrap().snapshot();
    snapshot
        .roster
        .members
        .values()
        .map(|member| {
            format!("{} {} {:?} {:?}", member.id, member.name, member.roles, member.devices)
        })
        .collect()
}

#[test]
fn two_redemptions_of_one_invitation_on_two_sides_of_a_cut_end_in_one_roster() {
    for seed in 0..6 {
        let mut world = World::organisation(&["Dana", "Sam", "Noor", "Kim"]);
        // One more invitation, good once, used at Sam and at Noor while they cannot hear each other.
        let mut two = World::new(&["Ana", "Ben"]);
        world.devices.append(&mut two.devices);
        world.mono_ms += seed;
        let link = world.invite(0);
        for device in [1, 2] {
            let stream = world.connect(0, device);
            world.settle();
            world.cut(stream);
        }
        world.join(4, 1, &link).unwrap();
        world.join(5, 2, &link).unwrap();
        for (a, b) in [(0, 1), (0, 2), (1, 2), (0, 3)] {
            world.connect(a, b);
            world.settle();
        }
        world.settle();
        let judged = roster_of(&world, 0);
        for device in 1..4 {
            assert_eq!(roster_of(&world, device), judged, "device {device}");
        }
        let admitted =
            world.roster_names(0).into_iter().filter(|name| name == "Ana" || name == "Ben").count();
        assert_eq!(admitted, 1, "good once is good once");
    }
}

#[test]
fn any_order_and_repetition_of_the_same_operations_give_the_same_roster() {
    let mut source = World::organisation(&["Dana", "Sam", "Noor", "Kim"]);
    let ops = log_of(&mut source, 3);
    let judged = roster_of(&source, 3);
    let mut rng = StdRng::seed_from_u64(11);
    for _ in 0..10 {
        let mut target = World::organisation(&["Ida", "Sam"]);
        // A stranger's log changes nothing in another organisation.
        target.command(1, Command::Learn { ops: ops.clone() }).unwrap();
        assert_eq!(target.roster_names(1), ["Ida", "Sam"]);

        // Sam of the same organisation was away: whatever comes in whatever order, again until all parents were there.
        let mut same = World::organisation(&["Dana", "Sam", "Noor", "Kim"]);
        assert_ne!(roster_of(&same, 1), judged, "Sam has not heard of those who came later");
        let mut shuffled: Vec<wire::Op> = ops.iter().chain(&ops).cloned().collect();
        for _ in 0..ops.len() {
            shuffled.shuffle(&mut rng);
            same.command(1, Command::Learn { ops: shuffled.clone() }).unwrap();
        }
        assert_eq!(roster_of(&same, 1), judged);
    }
}

/// One request in two operations is one claim: a copy of it, which any member can make from the log, harms neither the
/// person nor those that person admitted.
#[test]
fn a_request_taken_by_two_admitters_is_one_member_who_admits_others() {
    let mut world = World::organisation(&["Dana", "Sam", "Noor", "Kim"]);
    let mut newcomers = World::new(&["Ana", "Ben"]);
    world.devices.append(&mut newcomers.devices);
    for device in 1..4 {
        let stream = world.connect(0, device);
        world.settle();
        world.cut(stream);
    }
    let link = world.invite(0);
    let mut taken = None;
    world.join_with(4, 1, &link, |ask| taken = Some(ask.clone())).unwrap();
    let request = taken.unwrap().request.unwrap();
    let signed = wire::JoinRequest::decode(request.payload.as_slice()).unwrap();
    let dnk = oob_crypto::DhPublic::parse(&signed.dnk).unwrap();
    for admitter in [2, 3] {
        let ask = wire::JoinAsk { request: Some(request.clone()), ops: link.ops.clone() };
        let handshake_hash = signed.handshake_hash.as_slice().try_into().unwrap();
        let transport = world.devices[4].key;
        world.command(admitter, Command::Admit { ask, handshake_hash, dnk, transport }).unwrap();
    }
    // Ana admits Ben before anybody hears of the copies.
    let second = world.invite(0);
    world.join(5, 4, &second).unwrap();
    for (a, b) in [(0, 1), (0, 2), (0, 3), (1, 4), (0, 1), (0, 2), (0, 3)] {
        let stream = world.connect(a, b);
        world.settle();
        world.cut(stream);
    }
    for device in 0..4 {
        assert_eq!(
            world.roster_names(device),
            ["Ana", "Ben", "Dana", "Kim", "Noor", "Sam"],
            "device {device}"
        );
    }
}

#[test]
fn an_operation_by_a_stranger_or_altered_is_not_taken() {
    let mut world = World::organisation(&["Dana", "Sam"]);
    let ops = log_of(&mut world, 0);
    let before = world.engine(1).snapshot().roster.version;
    for op in &ops {
        let mut body = op.clone();
        body.body.push(0);
        let mut sig = op.clone();
        sig.header.as_mut().unwrap().sigs[0].sig[3] ^= 1;
        let mut header = op.clone();
        header.header.as_mut().unwrap().payload.push(0);
        world.command(1, Command::Learn { ops: vec![body, sig, header] }).unwrap();
    }
    // A well-formed one by a key nobody named.
    let mut rng = StdRng::seed_from_u64(5);
    let stranger = oob_crypto::SigningKey::generate(&mut rng);
    let genuine =
        wire::OpHeader::decode(ops.last().unwrap().header.as_ref().unwrap().payload.as_slice())
            .unwrap();
    let body = wire::OpBody {
        kind: Some(wire::op_body::Kind::Policy(wire::Policy { round: 9, org_name: "Mine".into() })),
    }
    .encode_to_vec();
    let header = wire::OpHeader {
        author: stranger.public().to_vec(),
        seq: 0,
        self_prev: Vec::new(),
        prev: vec![
            oob_crypto::op_hash(&ops.last().unwrap().header.as_ref().unwrap().payload).to_vec(),
        ],
        lamport: genuine.lamport + 1,
        body_hash: oob_crypto::body_hash(&body).to_vec(),
        ..genuine
    };
    let org = world.engine(0).snapshot().org.as_ref().unwrap().id;
    let signed = oob_crypto::signed::sign(
        oob_proto::signing::SignedType::Op,
        &org,
        header.encode_to_vec(),
        &[&stranger],
    );
    world
        .command(1, Command::Learn { ops: vec![wire::Op { header: Some(signed), body }] })
        .unwrap();
    assert_eq!(world.engine(1).snapshot().roster.version, before, "nothing was taken");
}
