//! Signed things with one part that does not fit: by another key, for another connection, out of their time. Each with its
//! control: the same with that part right.

use crate::{
    removal::{kind, revoke},
    world::{Flying, World, pass},
};
use oob_crypto::{JoinHandshake, SigningKey, signed::sign};
use oob_engine::{
    effect::{Answer, CommandError, JoinError},
    input::{Command, LinkId},
};
use oob_proto::{
    EpochId, Message, OrgId,
    signing::SignedType,
    wire::{self, Frame, frame::Kind},
};
use oob_store::{Area, Bag, Store};
use rand::{SeedableRng, rngs::StdRng};

/// What a device signs with, and where it stands, as its own store has it.
struct Keys {
    org: OrgId,
    device: Vec<u8>,
    dsk: SigningKey,
    life: wire::StoredLife,
}

/// Takes them out of a device's store, and starts it again.
fn keys_of(world: &mut World, device: usize) -> Keys {
    let snapshot = world.engine(device).snapshot();
    let (org, id) = (snapshot.org.as_ref().unwrap().id, snapshot.me.device);
    world.kill(device);
    let parts = world.devices[device].disk.parts();
    let store = Store::with_backend(parts, &pass(), StdRng::seed_from_u64(1)).unwrap().store;
    let own = |place| store.get(&Bag::new(Area(1), &[]), place).unwrap().unwrap();
    let identity = wire::StoredIdentity::decode(own(0).as_slice()).unwrap();
    let life = wire::StoredLife::decode(own(2).as_slice()).unwrap();
    store.close().unwrap();
    world.start(device);
    let dsk = SigningKey::from_secret(&identity.dsk.try_into().unwrap());
    Keys { org, device: id.to_vec(), dsk, life }
}

fn say(world: &mut World, from: usize, to: usize, link: LinkId, kind: Kind) {
    let frame = Frame::new(kind).encode_to_vec();
    world.arrive(&Flying { from, to, link, frame });
}

/// The same bytes by another key: as that key's, and as if it were the right one's.
fn forged(kind: SignedType, keys: &Keys, payload: &[u8], by: &SigningKey) -> [wire::Signed; 2] {
    let own = sign(kind, &keys.org, payload.to_vec(), &[by]);
    let mut passed_off = own.clone();
    passed_off.sigs[0].key = keys.dsk.public().to_vec();
    [own, passed_off]
}

/// Dana, Sam and Mallory; Sam holds a message of Dana's for Rosa, who is away, and hears Mallory only.
fn one_is_held() -> (World, LinkId) {
    let mut world = World::organisation(&["Dana", "Sam", "Rosa", "Mallory"]);
    for (a, b) in [(0, 1), (1, 2)] {
        let link = world.connect(a, b);
        world.settle();
        world.cut(link);
    }
    let link = world.connect(0, 1);
    world.settle();
    world.send(0, 2, "sealed");
    world.rest();
    world.cut(link);
    let link = world.connect(3, 1);
    world.settle();
    assert_eq!(world.engine(1).snapshot().held, 1);
    (world, link)
}

#[test]
fn a_relay_certificate_by_another_member_gives_it_no_name() {
    let (mut world, link) = one_is_held();
    let dana = keys_of(&mut world, 0);
    let certificate = wire::RelayCert {
        device: dana.device.clone(),
        incarnation: dana.life.incarnation,
        r#gen: dana.life.rlk_gen + 1,
        rlk: SigningKey::from_secret(&[7; 32]).public().to_vec(),
        record_seq: dana.life.next_record,
    };
    let payload = certificate.encode_to_vec();
    let generations = |world: &mut World| {
        let keys = world.engine(1).snapshot().screening.clone();
        let of = keys.relays.iter().filter(|(_, (of, _))| of.to_vec() == dana.device);
        of.map(|((_, _, generation), _)| *generation).max().unwrap()
    };
    let mallory = SigningKey::from_secret(&[8; 32]);
    for bad in forged(SignedType::RelayCert, &dana, &payload, &mallory) {
        say(&mut world, 3, 1, link, Kind::RelayCert(bad));
        assert_eq!(generations(&mut world), dana.life.rlk_gen);
    }
    let good = sign(SignedType::RelayCert, &dana.org, payload, &[&dana.dsk]);
    say(&mut world, 3, 1, link, Kind::RelayCert(good));
    assert_eq!(generations(&mut world), dana.life.rlk_gen + 1, "control: signed by Dana");
}

#[test]
fn a_floor_by_another_member_gives_nothing_up() {
    let (mut world, link) = one_is_held();
    let dana = keys_of(&mut world, 0);
    let all = wire::Range { first: 1, last: dana.life.next_record - 1 };
    let floor = wire::Floor {
        device: dana.device.clone(),
        incarnation: dana.life.incarnation,
        record_seq: dana.life.next_record,
        gone: vec![wire::FloorEntry { incarnation: dana.life.incarnation, ranges: vec![all] }],
    };
    let payload = floor.encode_to_vec();
    let mallory = SigningKey::from_secret(&[8; 32]);
    for bad in forged(SignedType::Floor, &dana, &payload, &mallory) {
        say(&mut world, 3, 1, link, Kind::Floor(bad));
        assert_eq!(world.engine(1).snapshot().held, 1);
    }
    let good = sign(SignedType::Floor, &dana.org, payload, &[&dana.dsk]);
    say(&mut world, 3, 1, link, Kind::Floor(good));
    assert_eq!(world.engine(1).snapshot().held, 0, "control: signed by Dana");
}

/// On Dana's own link: her word counts by the key that signed it, since it is shown to her after she was put back.
#[test]
fn a_have_by_another_key_is_nobodys_word() {
    let (mut world, link) = one_is_held();
    world.cut(link);
    let dana = keys_of(&mut world, 0);
    let rlk = SigningKey::from_secret(&dana.life.rlk.clone().try_into().unwrap());
    let have = wire::Have {
        device: dana.device.clone(),
        incarnation: dana.life.incarnation,
        r#gen: dana.life.rlk_gen,
        number: dana.life.have_number + 1_000,
        entries: vec![wire::HaveEntry {
            device: dana.device.clone(),
            incarnation: dana.life.incarnation,
            have: Vec::new(),
            gone: vec![wire::Range { first: 1, last: u64::MAX }],
            ..wire::HaveEntry::default()
        }],
        ..wire::Have::default()
    };
    let payload = have.encode_to_vec();
    let link = world.connect(0, 1);
    world.settle();
    let other = SigningKey::from_secret(&[8; 32]);
    let [as_its_own, mut passed_off] = forged(SignedType::Have, &dana, &payload, &other);
    passed_off.sigs[0].key = rlk.public().to_vec();
    for bad in [as_its_own, passed_off] {
        say(&mut world, 0, 1, link, Kind::Have(bad));
        assert_eq!(world.engine(1).snapshot().held, 1);
    }
    let good = sign(SignedType::Have, &dana.org, payload, &[&rlk]);
    say(&mut world, 0, 1, link, Kind::Have(good));
    assert_eq!(world.engine(1).snapshot().held, 0, "control: signed by her relay key");
}

/// A grant proves its maker's Noise key; it counts only from the neighbour that is its maker.
#[test]
fn a_grant_is_taken_from_its_maker_alone() {
    let mut world = World::organisation(&["Dana", "Sam", "Noor", "Mallory"]);
    // Sam hears from Dana who Mallory is, or there would be no stream to Mallory.
    let with_dana = world.connect(0, 1);
    world.settle();
    let with_mallory = world.connect(3, 1);
    world.settle();
    assert!(world.links.contains_key(&with_mallory));
    let epochs = |world: &mut World| -> Vec<EpochId> {
        let keys = world.engine(1).snapshot().screening.clone();
        keys.headers.iter().map(|(epoch, _)| *epoch).collect()
    };
    let before = epochs(&mut world);
    revoke(&mut world, 0, 2);
    let (grants, ops): (Vec<_>, Vec<_>) =
        world.flying.drain(..).partition(|flying| matches!(kind(flying), Kind::Epoch(_)));
    ops.iter().for_each(|flying| world.arrive(flying));
    let grants: Vec<_> = grants.into_iter().filter(|grant| grant.to == 1).collect();
    assert_eq!(grants.len(), 2);
    for grant in &grants {
        assert_eq!(grant.link, with_dana);
        world.arrive(&Flying { from: 3, link: with_mallory, ..grant.clone() });
    }
    assert_eq!(epochs(&mut world), before);
    grants.iter().for_each(|grant| world.arrive(grant));
    assert_eq!(epochs(&mut world).len(), before.len() + 2, "control: from Dana");
}

/// Shown to a device that does not have it yet: of one that it has, other bytes of the same name are passed over unread.
#[test]
fn an_operation_that_is_not_as_its_author_signed_it_is_not_taken() {
    let mut world = World::organisation(&["Dana", "Sam"]);
    world.invite(0);
    world.connect(0, 1);
    let mut ops = Vec::new();
    while let Some(flying) = world.flying.pop_front() {
        match kind(&flying) {
            Kind::Log(op) if flying.to == 1 => ops.push(op),
            _ => world.arrive(&flying),
        }
    }
    let [genuine] = ops.as_slice() else { panic!("{} operations", ops.len()) };
    let known = world.engine(1).log_len();
    let mallory = SigningKey::from_secret(&[8; 32]);
    let org = world.engine(0).snapshot().org.as_ref().unwrap().id;
    let signed = genuine.header.as_ref().unwrap();
    let with = |signed: wire::Signed| wire::Op { header: Some(signed), body: genuine.body.clone() };
    let mut altered = signed.clone();
    altered.sigs[0].sig[3] ^= 1;
    let mut unsigned = signed.clone();
    unsigned.sigs.clear();
    let by_another = sign(SignedType::Op, &org, signed.payload.clone(), &[&mallory]);
    let mut passed_off = by_another.clone();
    passed_off.sigs[0].key = signed.sigs[0].key.clone();
    let mut body = genuine.clone();
    let Some(Some(wire::op_body::Kind::Invite(mut invite))) =
        wire::OpBody::decode(body.body.as_slice()).ok().map(|body| body.kind)
    else {
        panic!("another operation")
    };
    invite.uses = 500;
    body.body = wire::OpBody { kind: Some(wire::op_body::Kind::Invite(invite)) }.encode_to_vec();
    for (name, bad) in [
        ("altered", with(altered)),
        ("unsigned", with(unsigned)),
        ("by another", with(by_another)),
        ("passed off", with(passed_off)),
        ("another body", body),
    ] {
        world.command(1, Command::Learn { ops: vec![bad] }).unwrap();
        assert_eq!(world.engine(1).log_len(), known, "{name}");
    }
    world.command(1, Command::Learn { ops: vec![genuine.clone()] }).unwrap();
    assert_eq!(world.engine(1).log_len(), known + 1, "control: as Dana signed it");
}

/// The log says when an invitation was used, and nobody's clock but that: an admitter that takes one after its end admits
/// nobody.
#[test]
fn a_redemption_dated_behind_its_invitations_end_does_not_stand() {
    for (late_ms, expected) in [(1, &["Dana", "Sam"][..]), (0, &["Ana", "Dana", "Sam"])] {
        let mut world = World::organisation(&["Dana", "Sam"]);
        let mut newcomers = World::new(&["Ana"]);
        world.devices.append(&mut newcomers.devices);
        let link = world.invite_for(0, 1, 60_000);
        let ends_ms = world.now(0).wall_ms + 60_000;
        let stream = world.connect(0, 1);
        world.settle();
        world.cut(stream);
        world.join(2, 1, &link).unwrap();
        let Ok(Answer::Show(show)) = world.command(2, Command::JoinShow) else { panic!() };
        let redeemed = show.ops.last().unwrap();
        let signed = redeemed.header.as_ref().unwrap();
        let mut header = wire::OpHeader::decode(signed.payload.as_slice()).unwrap();
        header.time = ends_ms + late_ms;
        let sam = keys_of(&mut world, 1);
        assert_eq!(header.author, sam.dsk.public().to_vec());
        let signed = sign(SignedType::Op, &sam.org, header.encode_to_vec(), &[&sam.dsk]);
        let op = wire::Op { header: Some(signed), body: redeemed.body.clone() };
        world.command(0, Command::Learn { ops: vec![op] }).unwrap();
        assert_eq!(world.roster_names(0), expected, "{late_ms} ms late");
    }
}

/// Whoever shows an organisation's log shows who it is itself: the Noise key of this connection must be the log's.
#[test]
fn a_log_shown_by_somebody_it_does_not_name_is_an_impostors() {
    let mut world = World::new(&["Dana", "Sam", "Mallory"]);
    world.found(0);
    let link = world.invite(0);
    let Ok(Answer::Proof(proof)) = world.command(0, Command::JoinProof) else { panic!() };
    let org = link.org_id.as_slice().try_into().unwrap();
    let mut prepare = |admitter: usize, transport: usize| {
        let (mine, theirs) =
            (world.engine(1).local_keys().dnk, world.engine(admitter).local_keys().dnk);
        let mut rng = StdRng::seed_from_u64(1);
        let (second, one) = JoinHandshake::initiator(&mut rng, &org, &mine).unwrap();
        let (_, two) =
            JoinHandshake::responder(&mut rng, &org, &theirs).unwrap().read(&one).unwrap();
        let (shaken, _) = second.read(&two).unwrap();
        let transport = world.devices[transport].key;
        let command = Command::PrepareJoin {
            link: Box::new(link.clone()),
            name: None,
            proof: proof.clone(),
            handshake_hash: *shaken.handshake_hash(),
            dnk: *shaken.remote(),
            transport,
        };
        world.command(1, command)
    };
    let impostor = CommandError::Join(JoinError::Impostor);
    assert_eq!(prepare(2, 2).unwrap_err(), impostor, "by Mallory as herself");
    assert_eq!(prepare(2, 0).unwrap_err(), impostor, "behind Dana's transport key");
    assert!(prepare(0, 0).is_ok(), "control: by Dana");
}
