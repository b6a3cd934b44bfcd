//! What others may send, and what becomes of it.

use crate::world::{Flying, World};
use oob_engine::{
    envelope::{Refusal, Screened, Verdict, screen},
    input::Input,
};
use oob_proto::{
    Message,
    wire::{self, Frame, frame::Kind},
};

fn envelopes(world: &World, from: usize, to: usize) -> Vec<Flying> {
    let is_envelope = |flying: &&Flying| {
        matches!(Frame::read(&flying.frame).unwrap().kind, Some(Kind::Envelope(_)))
    };
    world
        .wire
        .iter()
        .filter(|flying| flying.from == from && flying.to == to)
        .filter(is_envelope)
        .cloned()
        .collect()
}

fn envelope_of(flying: &Flying) -> wire::Envelope {
    match Frame::read(&flying.frame).unwrap().kind {
        Some(Kind::Envelope(envelope)) => envelope,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_was_seen_is_not_shown_again_even_after_a_restart() {
    let mut world = World::organisation(&["Dana", "Sam"]);
    world.connect(0, 1);
    for i in 0..20 {
        world.send(0, 1, &format!("m{i}"));
    }
    world.settle();
    world.kill(1);
    world.start(1);
    let link = world.connect(0, 1);
    world.settle();
    for mut flying in envelopes(&world, 0, 1) {
        flying.link = link;
        world.arrive(&flying);
    }
    world.settle();
    assert_eq!(world.texts(1, 0).len(), 20);
}

/// An insider with the header key, but not the author's relay key, writes under the author's name.
#[test]
fn an_origin_signed_by_anybody_else_is_refused() {
    let mut world = World::organisation(&["Dana", "Sam", "Mallory"]);
    world.connect(0, 1);
    world.send(0, 1, "genuine");
    world.settle();
    let keys = world.engine(1).snapshot().screening.clone();
    let genuine = envelope_of(&envelopes(&world, 0, 1)[0]);
    assert!(
        matches!(screen(&keys, genuine.clone()), Verdict::Accept(_)),
        "control: the genuine one passes"
    );

    let cover = oob_crypto::envelope::Cover::read(&genuine).unwrap();
    let (epoch, header) = keys
        .headers
        .iter()
        .find(|(_, header)| oob_crypto::envelope::open_origin(header, &cover).is_ok())
        .expect("an epoch opens it");
    let origin = oob_crypto::envelope::open_origin(header, &cover).unwrap();
    let mut rng = <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(3);
    let forger = oob_crypto::SigningKey::generate(&mut rng);
    let device = world.engine(0).snapshot().me.device;
    let org = keys.org.unwrap();
    let forged = oob_crypto::envelope::EnvelopeKeys {
        org: &org,
        epoch: *epoch,
        header_key: header,
        device: &device,
        incarnation: origin.incarnation,
        rlk_gen: origin.rlk_gen,
        rlk: &forger,
    };
    let (forged, _) = oob_crypto::envelope::seal(
        &mut rng,
        &forged,
        origin.seq + 100,
        cover.head(),
        genuine.ct.clone(),
    )
    .unwrap();
    assert!(matches!(screen(&keys, forged.clone()), Verdict::Refuse(Refusal::Forged)));

    // Whoever passes it on may know another key of that generation, by which it holds: its author told each a different one,
    // and had any two neighbours shut each other out.
    world.flying.clear();
    let link = world.links.keys().next().copied().unwrap();
    let bring = |world: &mut World, kind: Kind| {
        let frame = Frame::new(kind).encode_to_vec();
        world.arrive(&Flying { from: 0, to: 1, link, frame });
    };
    (0..100).for_each(|_| bring(&mut world, Kind::Envelope(forged.clone())));
    assert!(world.links.contains_key(&link), "the bearer is not to blame");
    let mut bent = forged;
    bent.head.pop();
    for _ in 0..100 {
        if world.links.contains_key(&link) {
            bring(&mut world, Kind::Envelope(bent.clone()));
        }
    }
    assert!(!world.links.contains_key(&link), "control: what is no envelope has its price");
}

/// A member seals another's ciphertext and tag again under its own origin. Were the tag not bound to the device that
/// uses it, the genuine message would be used up.
#[test]
fn a_member_cannot_use_up_anothers_message_by_sealing_it_again() {
    let mut world = World::organisation(&["Dana", "Sam", "Mallory"]);
    world.connect(0, 1);
    world.send(0, 1, "first");
    world.settle();
    world.send(0, 1, "second");
    // Mallory sees the envelope on its way, and is faster.
    let flying = world.flying.iter().find(|flying| flying.to == 1).cloned().unwrap();
    let genuine = envelope_of(&flying);
    world.connect(2, 1);
    while let Some(other) =
        world.flying.iter().position(|flying| flying.from == 2 || flying.to == 2)
    {
        let other = world.flying.remove(other).unwrap();
        world.arrive(&other);
    }
    let cover = oob_crypto::envelope::Cover::read(&genuine).unwrap();
    let keys = world.engine(1).snapshot().screening.clone();
    let mallory = world.engine(2).snapshot().me.device;
    let verified = oob_engine::envelope::VerifiedEnvelope {
        id: [9; 32].into(),
        device: mallory,
        incarnation: keys.relays.iter().find(|(_, (device, _))| *device == mallory).unwrap().0.1,
        seq: 1_000,
        head: *cover.head(),
        origin: genuine.origin.clone(),
        ct: genuine.ct.clone(),
    };
    let link = *world.links.iter().find(|(_, ends)| ends.0 == 2 || ends.1 == 2).unwrap().0;
    let frames = vec![oob_engine::input::Arrived {
        bytes: 1,
        age_s: 0,
        frame: Screened::Envelope(Box::new(verified)),
    }];
    world.input(1, Input::Frames { link, frames });
    world.settle();
    assert_eq!(world.texts(1, 0), ["first", "second"]);
    assert!(world.texts(1, 2).is_empty());
}

#[test]
fn every_flipped_bit_of_an_envelope_is_refused_and_the_genuine_one_still_opens() {
    let mut world = World::organisation(&["Dana", "Sam"]);
    let link = world.connect(0, 1);
    world.settle();
    world.send(0, 1, "genuine");
    let flying = world.flying.pop_front().unwrap();
    let keys = world.engine(1).snapshot().screening.clone();
    let genuine = envelope_of(&flying);
    let (mut refused, mut all) = (0, 0);
    for part in 0..3 {
        let len = [genuine.head.len(), genuine.origin.len(), genuine.ct.len()][part];
        for place in (0..len).step_by(if part == 2 { 37 } else { 1 }) {
            let mut bad = genuine.clone();
            [&mut bad.head, &mut bad.origin, &mut bad.ct][part][place] ^= 0x10;
            all += 1;
            refused += usize::from(!matches!(screen(&keys, bad.clone()), Verdict::Accept(_)));
            let frame = Frame::new(Kind::Envelope(bad)).encode_to_vec();
            world.arrive(&Flying { from: 0, to: 1, link, frame });
        }
    }
    assert_eq!(refused, all);
    assert!(world.texts(1, 0).is_empty());
    world.arrive(&flying);
    assert_eq!(world.texts(1, 0), ["genuine"]);
}

#[test]
fn garbage_in_every_kind_of_frame_changes_nothing() {
    let mut world = World::organisation(&["Dana", "Sam"]);
    let link = world.connect(0, 1);
    world.settle();
    let version = world.engine(1).snapshot().roster.version;
    let junk = || wire::Signed {
        payload: vec![7; 90],
        sigs: vec![wire::Sig { key: vec![1; 32], sig: vec![2; 64] }],
    };
    let kinds = [
        Kind::Log(wire::Op { header: Some(junk()), body: vec![1, 2, 3] }),
        Kind::Log(wire::Op::default()),
        Kind::Epoch(wire::EpochGrant {
            ring: 9,
            epoch_id: vec![1; 16],
            first_flight: vec![3; 1_400],
        }),
        Kind::RelayCert(junk()),
        Kind::Bundle(junk()),
        Kind::Have(junk()),
        Kind::Credit(wire::Credit { records: u64::MAX, bytes: u64::MAX }),
        Kind::Heartbeat(wire::Heartbeat { time: u64::MAX }),
        Kind::Envelope(wire::Envelope {
            head: vec![1; 36],
            origin: vec![2; 128],
            ct: vec![3; 512],
        }),
    ];
    for kind in kinds {
        let frame = Frame::new(kind).encode_to_vec();
        world.arrive(&Flying { from: 0, to: 1, link, frame });
    }
    assert_eq!(world.engine(1).snapshot().roster.version, version);
    world.send(0, 1, "still here");
    world.settle();
    assert_eq!(world.texts(1, 0), ["still here"]);
}

#[test]
fn a_greeting_of_another_version_or_a_second_one_ends_the_stream() {
    let mut world = World::organisation(&["Dana", "Sam"]);
    for hello in [
        wire::Hello { version: 2, ..wire::Hello::default() },
        wire::Hello { version: 1, heads: vec![vec![0; 32]; 257], ..wire::Hello::default() },
    ] {
        let link = world.connect(0, 1);
        world.flying.clear();
        let frame = Frame::new(Kind::Hello(hello)).encode_to_vec();
        world.arrive(&Flying { from: 0, to: 1, link, frame });
        assert!(!world.links.contains_key(&link));
    }
    let link = world.connect(0, 1);
    world.settle();
    let hello = Frame::new(Kind::Hello(wire::Hello { version: 1, ..wire::Hello::default() }))
        .encode_to_vec();
    world.arrive(&Flying { from: 0, to: 1, link, frame: hello });
    assert!(!world.links.contains_key(&link), "a second greeting");
}

#[test]
fn an_envelope_shows_no_name_text_or_organisation() {
    let marker = "canary-text-5a1e";
    let mut world = World::organisation(&["Dana-canary", "Sam-canary"]);
    world.connect(0, 1);
    world.settle();
    world.send(0, 1, marker);
    world.settle();
    assert_eq!(world.texts(1, 0), [marker], "control: it was said");
    let org = world.engine(0).snapshot().org.as_ref().unwrap().id.to_vec();
    let conversation = world.conversation(0, 1).to_vec();
    let member = world.member(0).to_vec();
    let device = world.engine(0).snapshot().me.device.to_vec();
    for flying in envelopes(&world, 0, 1) {
        for secret in [marker.as_bytes(), b"canary", &org, &conversation, &member, &device] {
            assert!(!flying.frame.windows(secret.len()).any(|window| window == secret));
        }
    }
}

/// Each word of a neighbour on who is near had all that is owed and all who carry it walked over.
#[test]
fn words_on_who_is_near_cost_no_walk_over_what_is_owed() {
    let mut world = World::organisation(&["Dana", "Sam", "Rosa", "Eli"]);
    let link = world.connect(0, 1);
    world.settle();
    for i in 0..20 {
        world.send(0, 2, &format!("m{i}"));
    }
    world.rest();
    let before = world.engine(0).walks();
    let (sam, rosa, eli) = [1, 2, 3].map(|of| world.engine(of).snapshot().me.device).into();
    for n in 0..500u32 {
        let about = if n % 2 == 0 { rosa } else { eli };
        let heard =
            wire::Heard { device: about.short().to_vec(), by: sam.short().to_vec(), ago_s: 0 };
        let nearby = wire::Nearby { heard: vec![heard] };
        let frame = Frame::new(Kind::Nearby(nearby)).encode_to_vec();
        world.arrive(&Flying { from: 1, to: 0, link, frame });
    }
    assert!(world.engine(0).snapshot().nearby.contains_key(&rosa), "control: it was heard");
    assert_eq!(world.engine(0).walks(), before);
}

/// What came here is in the snapshot, so that whoever screens passes it on to nobody a second time; after a restart too.
#[test]
fn what_came_before_is_no_news_in_the_snapshot_even_after_a_restart() {
    use oob_engine::snapshot::Novelty;
    let mut world = World::organisation(&["Dana", "Sam"]);
    world.connect(0, 1);
    for i in 0..20 {
        world.send(0, 1, &format!("m{i}"));
    }
    world.settle();
    let novelty = |world: &mut World, flying: &Flying| {
        let snapshot = world.engine(1).snapshot();
        match screen(&snapshot.screening, envelope_of(flying)) {
            Verdict::Accept(of) => snapshot.seen.novelty(&of.device, of.incarnation, of.seq),
            other => panic!("{other:?}"),
        }
    };
    let all = envelopes(&world, 0, 1);
    assert_eq!(all.len(), 20);
    for restarted in [false, true] {
        if restarted {
            world.kill(1);
            world.start(1);
        }
        for flying in &all {
            assert_eq!(novelty(&mut world, flying), Novelty::Known);
        }
    }
    world.connect(0, 1);
    world.settle();
    world.send(0, 1, "new");
    let fresh = envelopes(&world, 0, 1).pop().unwrap();
    assert_eq!(novelty(&mut world, &fresh), Novelty::New, "control");
}

/// What whoever carries an envelope can tell of it: how long it is, that it opens a channel and to which bundle, and nothing
/// that comes again. (The bundle of a first flight tells a member for whom it is: docs/threat-model.md.)
#[test]
fn envelopes_share_no_bytes_but_their_size_class_and_the_bundle_of_a_first_flight() {
    let mut world = World::organisation(&["Dana", "Sam", "Rosa"]);
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        world.connect(a, b);
    }
    world.settle();
    for i in 0..40 {
        for (a, b) in [(0, 1), (1, 0), (2, 0), (1, 2)] {
            world.send(a, b, &"the same words again ".repeat(1 + i % 20));
        }
        world.settle();
    }
    // The same envelope goes to several: its head tells that it is the same.
    let mut all = std::collections::BTreeMap::new();
    for flying in &world.wire {
        if let Some(Kind::Envelope(envelope)) = Frame::read(&flying.frame).unwrap().kind {
            all.insert(envelope.head.clone(), envelope);
        }
    }
    assert!(all.len() > 200, "texts and receipts: {}", all.len());
    let all: Vec<wire::Envelope> = all.into_values().collect();
    let mut marks = std::collections::BTreeSet::new();
    for envelope in &all {
        let [version, flags, class, life] = *envelope.head.first_chunk().unwrap();
        assert_eq!((version, life), (1, 3));
        assert!(flags < 2);
        assert_eq!(envelope.ct.len(), oob_proto::limits::CLASSES[usize::from(class)]);
        assert_eq!(envelope.origin.len(), 128);
        assert!(marks.insert(&envelope.head[4..20]), "a tag came twice");
        assert!(marks.insert(&envelope.head[20..]), "a release came twice");
    }
    assert_eq!(repeated(&all), None);
    let planted = wire::Envelope { ct: all[7].ct.clone(), ..all[8].clone() };
    assert!(
        repeated(&[all[7].clone(), planted]).is_some(),
        "control: the search finds eight bytes"
    );
}

/// Eight bytes that occur twice behind the first four of the heads, and outside the bundle that a first flight names.
fn repeated(envelopes: &[wire::Envelope]) -> Option<[u8; 8]> {
    /// Key, length and id of the bundle; key and length of what follows.
    const NAMED: usize = 2 + 16 + 3;
    let mut all: Vec<[u8; 8]> = Vec::new();
    for envelope in envelopes {
        let skip = if envelope.head[1] == 1 { NAMED } else { 0 };
        for part in [&envelope.head[4..], &envelope.origin, &envelope.ct[skip..]] {
            all.extend(part.windows(8).map(|window| <[u8; 8]>::try_from(window).unwrap()));
        }
    }
    all.sort_unstable();
    all.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}
