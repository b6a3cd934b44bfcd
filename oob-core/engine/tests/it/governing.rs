//! Several admins: how they come to be, and what one of them cannot do without the others.

use crate::{
    removal::kind,
    world::{World, pass},
};
use oob_crypto::{SigningKey, body_hash, op_hash, signed::sign as sign_bytes};
use oob_engine::{
    effect::{Answer, CommandError},
    input::Command,
    model::{Change, CouncilView, Name},
};
use oob_proto::{
    Message as _, OpHash,
    signing::SignedType,
    wire::{self, frame, op_body},
};
use oob_store::{Area, Bag, Store};
use rand::{SeedableRng, rngs::StdRng};
use std::sync::Arc;

fn council(world: &mut World, device: usize) -> Arc<CouncilView> {
    Arc::clone(&world.engine(device).snapshot().roster.council)
}

fn name(world: &mut World, device: usize) -> String {
    world.engine(device).snapshot().org.as_ref().unwrap().name.to_string()
}

fn op(answer: Result<Answer, CommandError>) -> OpHash {
    match answer {
        Ok(Answer::Proposed { op, .. }) => op,
        other => panic!("{other:?}"),
    }
}

fn propose(world: &mut World, by: usize, of: &[usize], k: usize) -> Result<Answer, CommandError> {
    let members = of.iter().map(|device| world.member(*device)).collect();
    world.command(by, Command::ProposeAdmins { members, k })
}

fn propose_name(world: &mut World, by: usize, name: &str) -> OpHash {
    let name = Name::parse(name).unwrap();
    op(world.command(by, Command::ProposeName { name }))
}

fn sign(world: &mut World, by: usize, op: OpHash) -> Result<Answer, CommandError> {
    world.command(by, Command::SignProposal { op })
}

/// All of these in an organisation, each linked to each; the first three are its admins, and two of them must sign.
fn three_admins(names: &[&str]) -> World {
    let mut world = World::organisation(names);
    for a in 0..names.len() {
        for b in 0..a {
            world.connect(a, b);
        }
    }
    world.settle();
    for device in 0..3 {
        world.command(device, Command::OfferAdmin).unwrap();
    }
    world.settle();
    op(propose(&mut world, 0, &[0, 1, 2], 2));
    world.settle();
    world
}

#[test]
fn one_admin_hands_over_to_three_and_none_of_them_decides_alone() {
    let mut world = World::organisation(&["Dana", "Sam", "Noor", "Rosa"]);
    for a in 0..4 {
        for b in 0..a {
            world.connect(a, b);
        }
    }
    world.settle();
    let alone = council(&mut world, 3);
    assert_eq!((alone.k, alone.seats.len()), (1, 1));
    world.command(1, Command::OfferAdmin).unwrap();
    world.command(1, Command::OfferAdmin).unwrap();
    world.settle();
    let missing = propose(&mut world, 0, &[0, 1, 2], 2).unwrap_err();
    assert_eq!(missing, CommandError::NoOffer { name: "Noor".into() });
    assert_eq!(council(&mut world, 3).offers.len(), 1, "one each, however often it is asked for");
    world.command(2, Command::OfferAdmin).unwrap();
    world.settle();
    for (of, k) in
        [(&[0, 1][..], 2), (&[0, 1, 2], 1), (&[0, 1, 2], 3), (&[], 0), (&[0, 0, 1], 2), (&[0], 2)]
    {
        let refused = propose(&mut world, 0, of, k).unwrap_err();
        assert!(matches!(refused, CommandError::BadCouncil { .. }), "{of:?} {k}: {refused}");
    }
    assert_eq!(propose(&mut world, 3, &[0, 1, 2], 2).unwrap_err(), CommandError::NotAdmin);
    op(propose(&mut world, 0, &[0, 1, 2], 2));
    world.settle();
    for device in 0..4 {
        let council = council(&mut world, device);
        assert_eq!((council.k, council.seats.len()), (2, 3), "device {device}");
        assert!(council.seats.iter().all(|seat| seat.member.is_some()));
        assert!(council.seats.iter().all(|seat| seat.key != alone.seats[0].key), "new keys");
    }

    // A name needs two of three; whoever is none of them signs nothing.
    let renamed = propose_name(&mut world, 1, "North Ward");
    world.settle();
    for device in 0..4 {
        assert_eq!(name(&mut world, device), "Harbour Clinic");
        let council = council(&mut world, device);
        let [open] = council.proposals.as_slice() else { panic!("{:?}", council.proposals) };
        assert_eq!((open.op, open.signed.len()), (renamed, 1));
        assert_eq!(open.change, Change::Name(Name::parse("North Ward").unwrap()));
    }
    assert_eq!(sign(&mut world, 3, renamed).unwrap_err(), CommandError::NotAdmin);
    assert_eq!(sign(&mut world, 1, renamed).unwrap_err(), CommandError::Signed);
    let nothing = OpHash::from([7; 32]);
    assert_eq!(sign(&mut world, 2, nothing).unwrap_err(), CommandError::NoProposal);
    op(sign(&mut world, 2, renamed));
    world.settle();
    for device in 0..4 {
        assert_eq!(name(&mut world, device), "North Ward");
        assert!(council(&mut world, device).proposals.is_empty());
    }
    assert_eq!(sign(&mut world, 0, renamed).unwrap_err(), CommandError::NoProposal);

    // Each of the three invites, also after a start; the fourth does not.
    world.kill(1);
    world.start(1);
    for device in 0..3 {
        world.invite(device);
    }
    let invite = Command::Invite {
        role: oob_engine::model::Role::Responder,
        uses: 1,
        life_ms: 60_000,
        name: None,
    };
    assert_eq!(world.command(3, invite).unwrap_err(), CommandError::NotAdmin);
}

#[test]
fn two_admins_replace_the_third_who_then_decides_nothing() {
    let mut world = three_admins(&["Dana", "Sam", "Noor", "Rosa"]);
    world.command(3, Command::OfferAdmin).unwrap();
    world.settle();
    let set = op(propose(&mut world, 0, &[0, 1, 3], 2));
    world.settle();
    let before = council(&mut world, 2);
    assert!(before.seats.iter().any(|seat| seat.member == Some(world.member(2))));
    op(sign(&mut world, 1, set));
    world.settle();
    let seats: Vec<_> = council(&mut world, 2).seats.iter().map(|seat| seat.member).collect();
    for device in [0, 1, 3] {
        assert!(seats.contains(&Some(world.member(device))), "device {device}");
    }
    // Everybody has another key, and the next one is offered by itself.
    let after = council(&mut world, 0);
    assert!(after.seats.iter().all(|seat| before.seats.iter().all(|old| old.key != seat.key)));
    assert_eq!(after.offers.iter().filter(|seat| seat.member != Some(world.member(2))).count(), 3);
    let refused = world.command(2, Command::ProposeName { name: Name::parse("Mine").unwrap() });
    assert_eq!(refused.unwrap_err(), CommandError::NotAdmin);
    let renamed = propose_name(&mut world, 3, "South Ward");
    world.settle();
    op(sign(&mut world, 0, renamed));
    world.settle();
    assert_eq!(name(&mut world, 2), "South Ward");
}

/// Two proposals of one round on two sides of a cut: whoever signs both would be found out, so nobody is led to.
#[test]
fn nobody_is_led_to_sign_two_sets_that_exclude_each_other() {
    let mut world = three_admins(&["Dana", "Sam", "Noor", "Rosa"]);
    world.command(3, Command::OfferAdmin).unwrap();
    world.settle();
    let links: Vec<_> = world.links.keys().copied().collect();
    links.into_iter().for_each(|link| world.cut(link));
    let one = op(propose(&mut world, 1, &[0, 1, 3], 2));
    let other = op(propose(&mut world, 2, &[0, 2, 3], 2));
    world.connect(1, 2);
    world.settle();
    assert_eq!(council(&mut world, 1).proposals.len(), 2);
    assert_eq!(sign(&mut world, 1, other).unwrap_err(), CommandError::SignedAnother);
    // A later round is another matter: the last word counts.
    let later = op(propose(&mut world, 2, &[0, 2, 3], 2));
    world.settle();
    op(sign(&mut world, 1, later));
    world.connect(0, 1);
    world.connect(0, 2);
    world.settle();
    let in_office = council(&mut world, 0);
    assert!(in_office.seats.iter().any(|seat| seat.member == Some(world.member(2))));
    assert_eq!(sign(&mut world, 0, one).unwrap_err(), CommandError::NoProposal);
    // Nor is an earlier one signed by who signed a later one.
    world.connect(2, 3);
    world.settle();
    let earlier = op(propose(&mut world, 0, &[0, 1, 2], 2));
    world.settle();
    let links: Vec<_> = world.links.keys().copied().collect();
    links.into_iter().for_each(|link| world.cut(link));
    let last = op(propose(&mut world, 2, &[0, 2, 3], 2));
    assert_eq!(sign(&mut world, 2, earlier).unwrap_err(), CommandError::SignedAnother);
    assert_ne!(last, earlier);
}

/// Writes an operation with the key of an admin whose device somebody took, behind another one.
fn forged(world: &mut World, device: usize, behind: OpHash, body: op_body::Kind) -> wire::Op {
    let org = world.engine(device).snapshot().org.as_ref().unwrap().id;
    let of = |op: &wire::Op| op_hash(&op.header.as_ref().unwrap().payload);
    let parent = world.wire.iter().find_map(|flying| match kind(flying) {
        frame::Kind::Log(op) if of(&op) == behind => Some(op.header.unwrap().payload),
        _ => None,
    });
    let lamport = wire::OpHeader::decode(parent.unwrap().as_slice()).unwrap().lamport + 1;
    world.kill(device);
    let parts = world.devices[device].disk.parts();
    let store = Store::with_backend(parts, &pass(), StdRng::seed_from_u64(1)).unwrap().store;
    let own = store.get(&Bag::new(Area(1), &[]), 0).unwrap().unwrap();
    let identity = wire::StoredIdentity::decode(own.as_slice()).unwrap();
    store.close().unwrap();
    world.start(device);
    let key = SigningKey::from_secret(&identity.admin_key.try_into().unwrap());
    let body = wire::OpBody { kind: Some(body) }.encode_to_vec();
    let header = wire::OpHeader {
        author: key.public().to_vec(),
        incarnation: lamport as u32,
        prev: vec![behind.to_vec()],
        lamport,
        circle: 1,
        body_hash: body_hash(&body).to_vec(),
        ..wire::OpHeader::default()
    };
    let header = sign_bytes(SignedType::Op, &org, header.encode_to_vec(), &[&key]);
    wire::Op { header: Some(header), body }
}

/// Names that everybody knows, with keys that only one has; and a set that says whom it takes out, and not that it takes back all
/// that they signed.
#[test]
fn a_proposal_that_is_not_what_it_seems_is_not_signed() {
    let mut world = three_admins(&["Dana", "Sam", "Noor"]);
    propose_name(&mut world, 1, "North Ward");
    world.settle();
    let honest = op(propose(&mut world, 2, &[0, 1, 2], 2));
    world.settle();
    let proposed = council(&mut world, 0);
    let open = proposed.proposals.iter().find(|proposal| proposal.op == honest).unwrap();
    let Change::Admins { seats, .. } = &open.change else { panic!("{open:?}") };
    assert!(seats.iter().all(|seat| seat.offered));
    let snapshot = world.engine(0).snapshot();
    let uik = |device| snapshot.roster.members[&world.member(device)].uik.to_vec();
    let mut rng = StdRng::seed_from_u64(1);
    let own = [0; 3].map(|_| SigningKey::generate(&mut rng).public().to_vec());
    let offered = |device| {
        let of = |seat: &&oob_engine::model::Seat| seat.member == Some(world.member(device));
        seats.iter().find(of).unwrap().key.to_vec()
    };
    let base = world_base(&world);
    let set = |round, admins: [(Vec<u8>, Vec<u8>); 3], cuts| {
        let admins = admins.into_iter().map(|(key, uik)| wire::Admin { key, uik }).collect();
        op_body::Kind::AdminSet(wire::AdminSet { base: base.clone(), round, k: 2, admins, cuts })
    };
    let [x, y, z] = own.clone();
    let strange = set(2, [(x, uik(0)), (y, uik(1)), (z, uik(2))], Vec::new());
    // Her own two keys, each as somebody else's.
    let swapped =
        set(3, [(offered(1), uik(0)), (offered(0), uik(1)), (offered(2), uik(2))], Vec::new());
    // A cut of Sam's that lets nothing stand, though Sam proposed a name before.
    let sams = proposed.seats.iter().find(|seat| seat.member == Some(world.member(1))).unwrap().key;
    let cut = wire::AdminCut { key: sams.to_vec(), lives: Vec::new() };
    let undoes =
        set(4, [(offered(0), uik(0)), (offered(1), uik(1)), (offered(2), uik(2))], vec![cut]);
    let sound =
        set(5, [(offered(0), uik(0)), (offered(1), uik(1)), (offered(2), uik(2))], Vec::new());
    let mut behind = honest;
    let mut last = Vec::new();
    for body in [strange, swapped, undoes, sound] {
        let forged = forged(&mut world, 2, behind, body);
        behind = op_hash(&forged.header.as_ref().unwrap().payload);
        world.command(0, Command::Learn { ops: vec![forged.clone()] }).unwrap();
        world.wire.extend(world.wire.last().cloned().map(|mut flying| {
            flying.frame = wire::Frame::new(frame::Kind::Log(forged)).encode_to_vec();
            flying
        }));
        last.push(behind);
    }
    for strange in &last[..2] {
        let refused = sign(&mut world, 0, *strange).unwrap_err();
        assert!(matches!(refused, CommandError::StrangeKey { .. }), "{refused}");
    }
    assert_eq!(sign(&mut world, 0, last[2]).unwrap_err(), CommandError::Undoes);
    op(sign(&mut world, 0, last[3]));
    assert_eq!(council(&mut world, 0).seats.len(), 3, "control: it is in office");
}

/// The operation that the admins in office come from: the newest set that was said on the wire.
fn world_base(world: &World) -> Vec<u8> {
    let sets = world.wire.iter().filter_map(|flying| match kind(flying) {
        frame::Kind::Log(op) => {
            let body = wire::OpBody::decode(op.body.as_slice()).unwrap().kind;
            let hash = op_hash(&op.header.as_ref().unwrap().payload);
            matches!(body, Some(op_body::Kind::AdminSet(_))).then_some(hash)
        }
        _ => None,
    });
    sets.into_iter().next().unwrap().to_vec()
}
