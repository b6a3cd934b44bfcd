//! Devices that are taken out: what of theirs still counts, and what they still get.

use crate::{
    theft::{Loot, olm_identity},
    world::{Flying, World, pass},
};
use oob_crypto::{
    SigningKey,
    envelope::{Cover, open_origin},
    signed::sign,
};
use oob_engine::{
    effect::{Answer, CommandError},
    envelope::{Refusal, Screened, Verdict, screen},
    event::Event,
    input::{Command, Input},
    model::MessageState,
    snapshot::{Novelty, ScreenKeys},
};
use oob_proto::{
    DeviceId, Incarnation, MemberId, Message,
    signing::SignedType,
    wire::{self, Frame, frame::Kind},
};
use oob_store::{Area, Bag, Store};
use rand::{SeedableRng, rngs::StdRng};
use std::collections::BTreeSet;

pub(crate) fn id(world: &mut World, device: usize) -> DeviceId {
    world.engine(device).snapshot().me.device
}

pub(crate) fn revoke(world: &mut World, by: usize, device: usize) {
    let device = id(world, device);
    world.command(by, Command::RevokeDevice { device }).unwrap();
}

pub(crate) fn kind(flying: &Flying) -> Kind {
    Frame::read(&flying.frame).unwrap().kind.unwrap()
}

/// How many of the envelopes that left show their origin to somebody with these keys, and how many there are.
fn opened(world: &World, since: usize, keys: &ScreenKeys) -> (usize, usize) {
    let envelopes = world.wire[since..].iter().filter_map(|flying| match kind(flying) {
        Kind::Envelope(envelope) => Some(Cover::read(&envelope).unwrap()),
        _ => None,
    });
    let opens = |cover: &Cover| keys.headers.iter().any(|(_, key)| open_origin(key, cover).is_ok());
    let all: Vec<bool> = envelopes.map(|cover| opens(&cover)).collect();
    (all.iter().filter(|opens| **opens).count(), all.len())
}

fn talk(world: &mut World, a: usize, b: usize, messages: usize) {
    for i in 0..messages {
        world.send(a, b, &format!("there {i}"));
        world.send(b, a, &format!("back {i}"));
    }
    world.settle();
}

#[test]
fn a_removed_device_is_closed_at_once_gets_no_epoch_and_opens_no_later_origin() {
    let mut world = World::organisation(&["Dana", "Sam", "Noor"]);
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        world.connect(a, b);
    }
    world.settle();
    let since = world.wire.len();
    talk(&mut world, 0, 1, 50);
    let noors = world.engine(2).snapshot().screening.clone();
    let (seen, all) = opened(&world, since, &noors);
    assert!(seen == all && all >= 100, "control: a member tells {seen} of {all} authors");

    let since = world.wire.len();
    revoke(&mut world, 0, 2);
    world.settle();
    assert_eq!(world.links.values().collect::<Vec<_>>(), [&(0, 1)], "both ended their streams");
    talk(&mut world, 0, 1, 50);
    assert_eq!((world.texts(0, 1).len(), world.texts(1, 0).len()), (200, 200));
    let grants = |to| {
        let to = world.wire[since..].iter().filter(move |flying| flying.to == to);
        to.filter(|flying| matches!(kind(flying), Kind::Epoch(_))).count()
    };
    assert_eq!((grants(1), grants(2)), (2, 0), "one of each ring, to whoever is left");
    let (seen, all) = opened(&world, since, &noors);
    assert!(seen == 0 && all >= 100, "{seen} of {all}");
    let now = world.engine(2).snapshot().screening.clone();
    assert_eq!(opened(&world, since, &now), (0, all), "nor with what came since");

    let again = world.connect(0, 2);
    assert!(!world.links.contains_key(&again), "nor is it let in again");
    assert_eq!(world.roster_names(0), ["Dana", "Noor", "Sam"], "the person stays a member");
}

/// With the disk and the passphrase of the device that was taken out, and all that went over the wire.
#[test]
fn a_removed_member_opens_none_of_a_thousand_later_messages() {
    let mut world = World::organisation(&["Dana", "Sam", "Noor"]);
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        world.connect(a, b);
    }
    world.settle();
    revoke(&mut world, 0, 2);
    world.settle();
    let since = world.wire.len();
    for _ in 0..20 {
        talk(&mut world, 0, 1, 25);
    }
    assert_eq!(world.texts(1, 0).len(), 1_000);
    let noors = world.engine(2).snapshot().screening.clone();
    let (authors, all) = opened(&world, since, &noors);
    assert!(authors == 0 && all >= 1_000, "{authors} authors of {all} are told");
    let texts = |world: &mut World, thief: usize| -> usize {
        world.engine(thief).idle().unwrap();
        let disk = world.devices[thief].disk.image();
        let mut loot = Loot::of(world, thief, &disk);
        let olm = [0, 1].map(|author| olm_identity(world, author));
        let wire = world.wire.clone();
        [(1, 0), (0, 1)].map(|(to, author)| loot.open(&wire, to, &olm[author]).0).iter().sum()
    };
    assert_eq!(texts(&mut world, 2), 0);
    assert!(texts(&mut world, 1) > 500, "control: the same search with the addressee's disk");
}

#[test]
fn only_the_admin_takes_out_others_and_nobody_the_device_in_use() {
    let mut world = World::organisation(&["Dana", "Sam", "Noor"]);
    let ids: Vec<DeviceId> = (0..3).map(|device| id(&mut world, device)).collect();
    let mut refused = |by, device| world.command(by, Command::RevokeDevice { device }).unwrap_err();
    assert_eq!(refused(1, ids[0]), CommandError::NotAdmin);
    assert_eq!(refused(1, ids[1]), CommandError::ThisDevice);
    assert_eq!(refused(0, ids[0]), CommandError::ThisDevice);
    assert_eq!(refused(0, DeviceId::from([7; 32])), CommandError::NoDevice);
    revoke(&mut world, 0, 2);
    let twice = world.command(0, Command::RevokeDevice { device: ids[2] });
    assert_eq!(twice.unwrap_err(), CommandError::NoDevice);
    let to = world.member(2);
    let text = oob_engine::model::Text::parse("too late").unwrap();
    let sent = world.command(0, Command::Send { to, text });
    assert!(matches!(sent, Err(CommandError::NoKeys { .. })), "{sent:?}");
}

/// Has Noor sign, before she is removed, a relay certificate with nearly the highest number there is, and say that nobody
/// needs anything of hers. Dana takes both.
fn leap(world: &mut World) {
    let disk = world.devices[2].disk.image();
    let store = Store::with_backend(disk.parts(), &pass(), StdRng::seed_from_u64(2)).unwrap().store;
    let own = |seq| store.get(&Bag::new(Area(1), &[]), seq).unwrap().unwrap();
    let identity = wire::StoredIdentity::decode(own(0).as_slice()).unwrap();
    let life = wire::StoredLife::decode(own(2).as_slice()).unwrap();
    let dsk = SigningKey::from_secret(&identity.dsk.try_into().unwrap());
    let rlk = SigningKey::from_secret(&life.rlk.try_into().unwrap());
    let (device, org) = (id(world, 2), world.engine(0).snapshot().org.as_ref().unwrap().id);
    let cert = wire::RelayCert {
        device: device.to_vec(),
        incarnation: life.incarnation,
        r#gen: life.rlk_gen + 1,
        rlk: dsk.public().to_vec(),
        record_seq: u64::MAX - 7,
    };
    let all = wire::Range { first: 1, last: u64::MAX - 9 };
    let entry = wire::HaveEntry {
        device: device.to_vec(),
        incarnation: life.incarnation,
        have: Vec::new(),
        gone: vec![all],
        cut: false,
    };
    let have = wire::Have {
        device: device.to_vec(),
        incarnation: life.incarnation,
        r#gen: life.rlk_gen,
        number: life.have_number + 9,
        entries: vec![entry],
        ..wire::Have::default()
    };
    let link = world.links.iter().find(|(_, ends)| **ends == (0, 2)).map(|(link, _)| *link);
    for kind in [
        Kind::RelayCert(sign(SignedType::RelayCert, &org, cert.encode_to_vec(), &[&dsk])),
        Kind::Have(sign(SignedType::Have, &org, have.encode_to_vec(), &[&rlk])),
    ] {
        let frame = Frame::new(kind).encode_to_vec();
        world.arrive(&Flying { from: 2, to: 0, link: link.unwrap(), frame });
    }
    world.flying.clear();
}

/// Sam's stream from Noor was slow: what Noor wrote comes after the removal, some from before it, some from after. Returns what
/// of it Sam sees.
fn late_mail(remove: bool, restart: bool, leaps: bool) -> Vec<String> {
    late_mail_and_receipts(remove, restart, leaps).0
}

/// The same, and how many envelopes of Sam's own it brought about: receipts, since Sam writes nothing.
fn late_mail_and_receipts(remove: bool, restart: bool, leaps: bool) -> (Vec<String>, usize) {
    let mut world = World::organisation(&["Dana", "Sam", "Noor"]);
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        world.connect(a, b);
        world.settle();
    }
    let since = world.wire.len();
    world.send(2, 1, "before");
    world.flying.clear();
    world.send(2, 0, "what Dana last had of Noor");
    world.settle();
    world.send(2, 1, "after");
    world.flying.clear();
    let late: Vec<Flying> = world.wire[since..]
        .iter()
        .filter(|flying| flying.from == 2 && flying.to == 1)
        .filter(|flying| matches!(kind(flying), Kind::Envelope(_)))
        .cloned()
        .collect();
    assert_eq!(late.len(), 2, "what is for Dana goes to Dana alone");
    if leaps {
        leap(&mut world);
    }
    if remove {
        revoke(&mut world, 0, 2);
        world.settle();
    }
    if restart {
        world.kill(1);
        world.start(1);
    }
    let sam = id(&mut world, 1);
    let (since, spoken) = (world.wire.len(), world.spoken.len());
    for flying in &late {
        let frame = Box::new(world.screened(1, &flying.frame));
        let from = world.devices[0].key;
        world.input(1, Input::Gossip { from, frame });
    }
    world.settle();
    world.pass(60_000);
    world.settle();
    let keys = world.engine(0).snapshot().screening.clone();
    let streamed = world.wire[since..].iter().map(|flying| flying.frame.as_slice());
    let left: BTreeSet<&[u8]> =
        streamed.chain(world.spoken[spoken..].iter().map(Vec::as_slice)).collect();
    let of_sam = left.into_iter().filter(|frame| {
        let Some(Kind::Envelope(envelope)) = Frame::read(frame).unwrap().kind else { return false };
        let Verdict::Accept(envelope) = screen(&keys, envelope) else { return false };
        envelope.device == sam
    });
    let receipts = of_sam.count();
    (world.texts(1, 2), receipts)
}

#[test]
fn what_a_removed_device_wrote_before_arrives_and_nothing_after() {
    assert_eq!(late_mail(false, false, false), ["before", "after"], "control: nobody was removed");
    assert_eq!(late_mail(true, false, false), ["before"]);
    assert_eq!(late_mail(true, true, false), ["before"], "its keys are kept");
}

/// The cut was the highest number known: one record with the highest there is, or the word that nobody needs any up to
/// there, and all that was written afterwards stood.
#[test]
fn a_record_with_the_highest_number_does_not_make_what_comes_afterwards_stand() {
    assert_eq!(late_mail(false, false, true), ["before", "after"], "control: nobody was removed");
    assert_eq!(late_mail(true, false, true), ["before"]);
}

/// Noor wrote more than a thousand texts that went to Sam alone, and some to Dana, who takes Noor's device out. A hundred to Rosa,
/// who is away, are carried, between more of those to Sam. Beyond the first thousand numbers that had not come to whoever removed
/// it the lowest of what had come stood, and no more of it than 64 ranges: what was still under way lay behind them.
#[test]
fn what_is_carried_of_a_removed_device_arrives_however_much_went_straight_to_others() {
    let mut world = World::organisation(&["Dana", "Sam", "Noor", "Rosa"]);
    for (a, b) in [(0, 1), (0, 2), (1, 2), (2, 3)] {
        world.connect(a, b);
        world.settle();
    }
    world.rest();
    world.kill(3);
    let noor = id(&mut world, 2);
    for round in 0..55 {
        for n in 0..20 {
            world.send(2, 1, &format!("straight {round} {n}"));
        }
        world.send(2, 0, &format!("to Dana {round}"));
        world.settle();
    }
    world.rest();
    let since = world.wire.len();
    for round in 0..100 {
        world.send(2, 3, &format!("carried {round}"));
        world.send(2, 1, &format!("between {round}"));
        world.settle();
    }
    world.rest();
    let keys = world.engine(0).snapshot().screening.clone();
    let to_dana = world.wire[since..].iter().filter(|flying| (flying.from, flying.to) == (2, 0));
    let carried: BTreeSet<u64> = to_dana
        .filter_map(|flying| match kind(flying) {
            Kind::Envelope(envelope) => match screen(&keys, envelope) {
                Verdict::Accept(envelope) => (envelope.device == noor).then_some(envelope.seq),
                _ => None,
            },
            _ => None,
        })
        .collect();
    assert!((100..110).contains(&carried.len()), "what is between them went to Sam alone");
    assert!(carried.first().is_some_and(|first| *first > 1_100), "{carried:?}");
    revoke(&mut world, 0, 2);
    world.kill(2);
    world.start(3);
    world.connect(0, 3);
    world.rest();
    assert_eq!(world.texts(3, 2).len(), 100);
}

/// It has no way to read it, and whoever holds its keys now need not learn what arrived.
#[test]
fn a_removed_device_gets_no_receipt_for_what_came_in_time() {
    let (texts, receipts) = late_mail_and_receipts(false, false, false);
    assert!(texts.len() == 2 && receipts > 0, "control: {texts:?}, {receipts} receipts");
    for restart in [false, true] {
        assert_eq!(late_mail_and_receipts(true, restart, false), (vec!["before".to_owned()], 0));
    }
}

/// The newest bundle that a device sent, and the number of its record.
fn bundle_of(world: &World, device: usize) -> (Kind, Incarnation, u64) {
    let mut sent = world.wire.iter().rev().filter(|flying| flying.from == device);
    sent.find_map(|flying| {
        let signed = match kind(flying) {
            Kind::Bundle(signed) => signed,
            Kind::Hello(hello) => hello.bundle?,
            _ => return None,
        };
        let raw: wire::PrekeyBundle =
            oob_proto::Message::decode(signed.payload.as_slice()).unwrap();
        let own =
            raw.device == world.devices[device].engine.as_ref()?.snapshot().me.device.to_vec();
        own.then_some((Kind::Bundle(signed), Incarnation(raw.incarnation), raw.record_seq))
    })
    .expect("it gave its bundle to somebody")
}

/// A bundle is a record like any other: what a removed device certified before is taken, so that all end with the same
/// records, and what it certified after that is nobody's. Nothing is sealed to either, and who passes them on is not to blame.
#[test]
fn a_bundle_of_a_removed_device_counts_below_its_cut_and_not_above() {
    let mut world = World::organisation(&["Dana", "Sam", "Eli", "Noor"]);
    // Sam hears of Noor, and of nothing that comes later.
    let stream = world.connect(0, 1);
    world.settle();
    world.cut(stream);
    world.connect(0, 3);
    // The first one of all is in the log; this is the second.
    for _ in 0..8 {
        world.pass(86_400_000);
        world.settle();
    }
    let (first, life, record) = bundle_of(&world, 3);
    let noor = id(&mut world, 3);
    revoke(&mut world, 0, 3);
    world.settle();
    // Noor's device, taken away, goes on for a month and shows itself to Sam, who has not heard of it.
    for _ in 0..30 {
        world.pass(86_400_000);
        world.settle();
    }
    let stray = world.connect(3, 1);
    world.settle();
    world.cut(stray);
    let (later, later_life, later_record) = bundle_of(&world, 3);
    assert!(later_life == life && later_record > record, "{record} and {later_record}");

    let known = |world: &mut World, device: usize, record: u64| {
        world.engine(device).snapshot().seen.novelty(&noor, life, record) == Novelty::Known
    };
    // Eli hears of the removal, and no bundle gets through to it.
    let link = world.connect(0, 2);
    while let Some(flying) = world.flying.pop_front() {
        if !matches!(kind(&flying), Kind::Bundle(_)) {
            world.arrive(&flying);
        }
    }
    assert!(world.engine(2).snapshot().screening.removed.contains_key(&noor));
    assert!(!known(&mut world, 2, record) && !known(&mut world, 2, later_record));
    let say = |world: &mut World, kind: &Kind| {
        let frame = oob_proto::Message::encode_to_vec(&Frame::new(kind.clone()));
        world.arrive(&Flying { from: 0, to: 2, link, frame });
    };
    say(&mut world, &later);
    assert!(!known(&mut world, 2, later_record), "above the cut");
    say(&mut world, &first);
    assert!(known(&mut world, 2, record), "below the cut");
    say(&mut world, &later);
    assert!(!known(&mut world, 2, later_record), "above the cut");
    assert!(world.links.contains_key(&link), "Dana only passed them on");
    let to = world.member(3);
    let text = oob_engine::model::Text::parse("too late").unwrap();
    let sent = world.command(2, Command::Send { to, text });
    assert!(matches!(sent, Err(CommandError::NoKeys { .. })), "{sent:?}");
    // The control: to who has not heard of the removal the later one is as good as any.
    assert!(known(&mut world, 1, later_record));
}

#[test]
fn people_admitted_before_stay_and_those_admitted_after_or_dated_back_do_not() {
    let mut world = World::organisation(&["Dana", "Sam", "Noor"]);
    let mut newcomers = World::new(&["Ana", "Ben"]);
    world.devices.append(&mut newcomers.devices);
    let link = world.invite_for(0, 5, 900_000);
    for device in [1, 2] {
        let stream = world.connect(0, device);
        world.settle();
        world.cut(stream);
    }
    world.join(3, 1, &link).unwrap();
    let stream = world.connect(0, 1);
    world.settle();
    world.cut(stream);
    revoke(&mut world, 0, 1);
    // Sam's device has not heard of it, like one that pretends so: what it writes builds on old operations only.
    world.join(4, 1, &link).unwrap();
    assert_eq!(world.roster_names(4), ["Ana", "Ben", "Dana", "Noor", "Sam"], "control");
    let Ok(Answer::Show(show)) = world.command(4, Command::JoinShow) else { panic!() };
    for device in [0, 2] {
        world.command(device, Command::Learn { ops: show.ops.clone() }).unwrap();
    }
    world.connect(0, 2);
    world.settle();
    for device in [0, 2] {
        assert_eq!(world.roster_names(device), ["Ana", "Dana", "Noor", "Sam"], "device {device}");
    }
}

#[test]
fn a_removal_and_its_epochs_outlast_a_restart() {
    let mut world = World::organisation(&["Dana", "Sam", "Noor"]);
    world.connect(0, 1);
    world.settle();
    revoke(&mut world, 0, 2);
    world.settle();
    let sending = |world: &mut World, device| {
        let keys = world.engine(device).snapshot().screening.clone();
        keys.headers.iter().map(|(epoch, _)| *epoch).collect::<Vec<_>>()
    };
    let before = sending(&mut world, 0);
    assert_eq!(before.len(), 4);
    assert_eq!(sending(&mut world, 1), before);
    for device in [0, 1] {
        world.kill(device);
        world.start(device);
        assert_eq!(sending(&mut world, device), before, "the same, and in the same order");
    }
    world.connect(0, 1);
    world.settle();
    let since = world.wire.len();
    talk(&mut world, 0, 1, 3);
    assert_eq!(world.texts(1, 0).len(), 6);
    let noors = world.engine(2).snapshot().screening.clone();
    assert_eq!(opened(&world, since, &noors).0, 0);
    let stream = world.connect(1, 2);
    assert!(!world.links.contains_key(&stream), "the removal is still known");
    assert_eq!(sending(&mut world, 0), before, "nothing was rotated for it again");
}

/// A removed device that has another invitation in hand does not get in with its old keys, nor is anything answered.
#[test]
fn a_removed_device_is_not_admitted_again() {
    let mut world = World::organisation(&["Dana", "Sam"]);
    let mut taken: Option<wire::JoinAsk> = None;
    let mut newcomers = World::new(&["Ana"]);
    world.devices.append(&mut newcomers.devices);
    let link = world.invite_for(0, 5, 900_000);
    let ana: MemberId = world.join_with(2, 1, &link, |ask| taken = Some(ask.clone())).unwrap();
    let stream = world.connect(0, 1);
    world.settle();
    let shown = world.command(2, Command::JoinShow).unwrap();
    let Answer::Show(show) = shown else { panic!() };
    world.command(0, Command::Learn { ops: show.ops }).unwrap();
    revoke(&mut world, 0, 2);
    world.settle();
    world.cut(stream);
    let ask = taken.unwrap();
    let signed: wire::JoinRequest =
        oob_proto::Message::decode(ask.request.as_ref().unwrap().payload.as_slice()).unwrap();
    let admit = Command::Admit {
        handshake_hash: signed.handshake_hash.as_slice().try_into().unwrap(),
        dnk: oob_crypto::DhPublic::parse(&signed.dnk).unwrap(),
        transport: world.devices[2].key,
        ask,
    };
    let refused = world.command(1, admit).unwrap_err();
    assert!(matches!(refused, CommandError::Join(_)), "{refused:?}");
    let roster = world.engine(1).snapshot().roster.clone();
    assert!(roster.members[&ana].devices.is_empty());
}

/// Screening refuses it before anything is passed on; the snapshot that screens may be older, then the rule refuses it.
#[test]
fn a_removed_devices_later_envelopes_are_refused_by_screening_and_by_the_rule() {
    let mut world = World::organisation(&["Dana", "Sam", "Noor"]);
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        world.connect(a, b);
        world.settle();
    }
    world.send(2, 1, "after");
    let flying = world.flying.iter().find(|flying| flying.to == 1).cloned().unwrap();
    world.flying.clear();
    let old = world.screened(1, &flying.frame);
    assert!(matches!(old.frame, Screened::Envelope(_)), "control");
    revoke(&mut world, 0, 2);
    world.settle();
    let new = world.screened(1, &flying.frame);
    assert!(matches!(new.frame, Screened::Refused(Refusal::Removed)), "{new:?}");
    let from = world.devices[0].key;
    world.input(1, Input::Gossip { from, frame: Box::new(old) });
    assert!(world.texts(1, 2).is_empty());
}

/// The simulator found it: Eli was away when Noor's device was taken out, learned that first, and passed over what Noor
/// had answered before; everybody else kept it.
#[test]
fn what_a_device_answered_before_it_was_removed_comes_to_those_who_were_away() {
    let mut world = World::organisation(&["Dana", "Sam", "Noor", "Eli"]);
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        world.connect(a, b);
    }
    world.settle();
    let raise = Command::RaiseAlert {
        severity: oob_engine::model::Severity::Warning,
        text: oob_engine::model::AlertText::parse("mail is compromised").unwrap(),
        life_ms: 3_600_000,
        answers: Vec::new(),
    };
    let Answer::Alert { id: alert } = world.command(0, raise).unwrap() else { panic!() };
    world.settle();
    world.command(2, Command::AckAlert { id: alert, answer: None }).unwrap();
    world.settle();
    revoke(&mut world, 0, 2);
    world.settle();
    world.connect(0, 3);
    world.settle();
    let answers = |world: &World, device: usize| {
        let (_, answers) = world.history(device).alert(&alert).unwrap().unwrap();
        answers.iter().map(|answer| answer.member).collect::<Vec<_>>()
    };
    assert_eq!(answers(&world, 0), [world.member(2)]);
    assert_eq!(answers(&world, 3), [world.member(2)]);
}

/// What was under way to a device that was taken out read `held` for ever, and whoever had written it waited.
#[test]
fn a_message_to_a_device_removed_before_it_arrived_is_told_to_be_that() {
    let mut world = World::organisation(&["Dana", "Sam", "Rosa"]);
    world.connect(0, 1);
    world.rest();
    world.send(0, 1, "this one arrives");
    world.rest();
    world.kill(1);
    world.connect(0, 2);
    world.rest();
    let late = [0, 2].map(|by| world.send(by, 1, "this one comes too late"));
    world.rest();
    let sam = world.engine(0).snapshot().roster.members[&world.member(1)].devices[0];
    world.command(0, Command::RevokeDevice { device: sam }).unwrap();
    world.rest();
    for (by, (conversation, number)) in [0, 2].into_iter().zip(late) {
        let told = |state: MessageState| {
            let told = world.devices[by].events.iter();
            let told = told.filter_map(|event| match event {
                Event::Receipt(receipt) if receipt.conversation == conversation => Some(receipt),
                _ => None,
            });
            told.filter(|receipt| receipt.state == state).count()
        };
        assert_eq!(told(MessageState::Removed), 1);
        for restarted in [false, true] {
            if restarted {
                world.kill(by);
                world.start(by);
            }
            let receipt = world.history(by).receipt(&conversation, number).unwrap().unwrap();
            assert_eq!((receipt.state, receipt.delivered), (MessageState::Removed, 0));
        }
    }
    let first = world.log(0, 1).remove(0);
    assert_eq!(first.state, MessageState::Delivered, "control: what arrived stays that");
}
