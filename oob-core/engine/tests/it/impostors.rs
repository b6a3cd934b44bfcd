//! Members who write as somebody else, with all that a member has and more: stolen keys of the reader, and ciphertexts of
//! others under their own name. The envelopes here are past screening, as if its keys had been stolen too.

use crate::{
    removal::{id, kind},
    world::{World, pass},
};
use oob_crypto::{
    Bundle, DhSecret, FirstContact, OlmAccount, OutChannel, PairSession, Sealed,
    envelope::{Head, Life},
};
use oob_engine::{
    envelope::{Screened, VerifiedEnvelope},
    input::{Arrived, Input},
    model::MessageState,
};
use oob_proto::{ConversationId, DeviceId, Incarnation, Message, wire, wire::frame::Kind};
use oob_store::{Area, Bag, Store};
use rand::{SeedableRng, rngs::StdRng};

/// The bundle of a device, as it told everybody.
fn bundle_of(world: &World, device: usize) -> Bundle {
    let hello = world.wire.iter().rev().filter(|flying| flying.from == device);
    let mut bundles = hello.filter_map(|flying| match kind(flying) {
        Kind::Hello(hello) => hello.bundle,
        _ => None,
    });
    Bundle::parse(&bundles.next().unwrap().payload).unwrap()
}

fn life_of(world: &mut World, device: DeviceId) -> Incarnation {
    // Nobody screens own envelopes, so it is asked of two.
    let lives = [0, 1].map(|reader| {
        let keys = world.engine(reader).snapshot().screening.clone();
        keys.relays.iter().find(|(_, (of, _))| *of == device).map(|(relay, _)| relay.1)
    });
    lives.into_iter().flatten().next().unwrap()
}

/// An envelope of this device as it comes out of screening.
fn verified(world: &mut World, device: DeviceId, seq: u64, sealed: Sealed) -> Arrived {
    let incarnation = life_of(world, device);
    let head = Head {
        first_flight: sealed.n.is_none(),
        class: sealed.class,
        life: Life::ThreeWeeks,
        tag: sealed.tag,
        release: sealed.release,
    };
    let envelope = VerifiedEnvelope {
        id: [9; 32].into(),
        device,
        incarnation,
        seq,
        head,
        origin: vec![0; 128],
        ct: sealed.ct,
    };
    Arrived { bytes: 1, age_s: 0, frame: Screened::Envelope(Box::new(envelope)) }
}

/// A receipt by which the author of `about` would be told that all up to `last` was read.
fn receipt(
    conversation: &ConversationId,
    about: DeviceId,
    life: Incarnation,
    last: u64,
) -> Vec<u8> {
    let all = vec![wire::Range { first: 1, last }];
    let ack = wire::Ack {
        conversation: conversation.to_vec(),
        device: about.to_vec(),
        incarnation: life.0,
        delivered: all.clone(),
        read: all,
        ..wire::Ack::default()
    };
    wire::Inner { k: Some(wire::inner::K::Ack(ack)), ..wire::Inner::default() }.encode_to_vec()
}

/// Sam has written to Dana, who has not read it; somebody says as Dana that it was read, proving this Noise key.
fn said_as_dana(named: usize, proving: usize) -> MessageState {
    said_bent(named, proving, |_| {})
}

/// The same with a hand in what was sealed.
fn said_bent(named: usize, proving: usize, bend: fn(&mut Sealed)) -> MessageState {
    let (world, conversation, number) = said(named, proving, 1, bend);
    world.history(1).receipt(&conversation, number).unwrap().unwrap().state
}

/// The same of all messages up to `last`; the world in which it was said, and Sam's message in it.
fn said(
    named: usize,
    proving: usize,
    last: u64,
    bend: fn(&mut Sealed),
) -> (World, ConversationId, u64) {
    let mut world = World::organisation(&["Dana", "Sam", "Mallory"]);
    for (a, b) in [(0, 1), (1, 2)] {
        world.connect(a, b);
        world.settle();
    }
    let (conversation, number) = world.send(1, 0, "is anybody there?");
    world.flying.clear();

    let [dana, sam] = [0, 1].map(|device| id(&mut world, device));
    let inside = id(&mut world, named);
    let org = world.engine(1).snapshot().org.as_ref().unwrap().id;
    let bundle = bundle_of(&world, 1);
    let dnk: DhSecret = world.engine(proving).local_keys().dnk;
    let contact =
        FirstContact { org: &org, my_dnk: &dnk, my_device: &inside, to: &sam, bundle: &bundle };
    let life = life_of(&mut world, sam);
    let said = receipt(&conversation, sam, life, last);
    let mut rng = StdRng::seed_from_u64(1);
    let (_, mut sealed) = OutChannel::open(&mut rng, &contact, 0, &said).unwrap();
    bend(&mut sealed);
    let arrived = verified(&mut world, dana, 5_000, sealed);
    let from = world.devices[2].key;
    world.input(1, Input::Gossip { from, frame: Box::new(arrived) });
    (world, conversation, number)
}

/// Dana acknowledges a thousand messages where Sam has written one: nothing is told of those that follow.
#[test]
fn a_receipt_for_what_was_not_written_yet_says_nothing_of_it_later() {
    let (mut world, conversation, first) = said(0, 0, 1_000, |_| {});
    let (_, second) = world.send(1, 0, "and now?");
    let state = |number| world.history(1).receipt(&conversation, number).unwrap().unwrap().state;
    assert_eq!(state(first), MessageState::Read, "control");
    assert_eq!(state(second), MessageState::Stored);
}

/// Key-compromise impersonation and unknown key share: who signs, who is named inside, and whose Noise key was proved must
/// be one. Mallory has every key but Dana's Noise key.
#[test]
fn a_first_flight_must_prove_the_noise_key_of_the_device_that_signed_it() {
    assert_eq!(said_as_dana(0, 0), MessageState::Read, "control: Dana may say so");
    assert_eq!(said_as_dana(0, 2), MessageState::Stored, "Mallory's Noise key, Dana's name");
    assert_eq!(said_as_dana(2, 2), MessageState::Stored, "Mallory's own, under Dana's relay key");
    assert_eq!(said_as_dana(2, 0), MessageState::Stored, "Mallory's name, Dana's Noise key");
}

/// The release in the head is the hash of what is sealed inside: were it not compared, an author could have carriers keep
/// for ever what was opened long ago, since no proof would fit.
#[test]
fn an_envelope_whose_release_is_not_that_of_its_preimage_is_refused() {
    assert_eq!(said_bent(0, 0, |_| {}), MessageState::Read, "control");
    assert_eq!(said_bent(0, 0, |sealed| sealed.release[0] ^= 1), MessageState::Stored);
}

/// Mallory takes the first flight by which Dana opens a channel to Sam and sends it on as her own, before or after Dana's
/// comes: Sam shows it once, as Dana's.
#[test]
fn a_first_flight_sealed_again_by_another_member_is_nobodys_message_and_takes_nothing_away() {
    for mallory_first in [true, false] {
        let mut world = World::organisation(&["Dana", "Sam", "Mallory"]);
        for (a, b) in [(0, 1), (1, 2)] {
            world.connect(a, b);
            world.settle();
        }
        world.send(0, 1, "from Dana");
        let genuine = world.flying.iter().find(|flying| flying.to == 1).cloned().unwrap();
        world.flying.clear();
        let Kind::Envelope(envelope) = kind(&genuine) else { panic!("no envelope") };
        let head = Head::parse(&envelope.head).unwrap();
        assert!(head.first_flight, "control: it opens a channel");
        let sealed = Sealed {
            n: None,
            tag: head.tag,
            class: head.class,
            release: head.release,
            ct: envelope.ct,
        };
        let mallory = id(&mut world, 2);
        let copy = verified(&mut world, mallory, 5_000, sealed);
        let genuine = world.screened(1, &genuine.frame);
        let order = if mallory_first { [copy, genuine] } else { [genuine, copy] };
        let from = world.devices[2].key;
        for frame in order {
            world.input(1, Input::Gossip { from, frame: Box::new(frame) });
        }
        assert_eq!(world.texts(1, 0), ["from Dana"]);
        assert!(world.texts(1, 2).is_empty());
    }
}

/// The store of a device, from an image of its disk.
fn stolen(world: &World, device: usize) -> Store {
    let disk = world.devices[device].disk.image();
    Store::with_backend(disk.parts(), &pass(), StdRng::seed_from_u64(2)).unwrap().store
}

/// Mallory's own keys, from her disk: what she needs to write what her engine never would.
fn olm_account(world: &World, device: usize) -> OlmAccount {
    let identity = stolen(world, device).get(&Bag::new(Area(1), &[]), 0).unwrap().unwrap();
    let identity = wire::StoredIdentity::decode(identity.as_slice()).unwrap();
    OlmAccount::from_secret(&identity.olm_account).unwrap()
}

/// Seals a Body for Sam as Mallory's device would, with a channel and a session of its own.
fn write_to_sam(world: &mut World, olm: &OlmAccount, seq: u64, body: &wire::Body) {
    let [mallory, sam] = [2, 1].map(|device| id(world, device));
    let org = world.engine(1).snapshot().org.as_ref().unwrap().id;
    let bundle = bundle_of(world, 1);
    let dnk: DhSecret = world.engine(2).local_keys().dnk;
    let contact =
        FirstContact { org: &org, my_dnk: &dnk, my_device: &mallory, to: &sam, bundle: &bundle };
    let mut session = PairSession::outbound(olm, &bundle).unwrap();
    let (olm_type, ciphertext) = session.encrypt(&body.encode_to_vec()).unwrap();
    let inner = wire::Inner {
        olm_session: session.id().to_vec(),
        olm_n: 0,
        olm_type,
        k: Some(wire::inner::K::Olm(ciphertext)),
    };
    let mut rng = StdRng::seed_from_u64(seq);
    let (_, sealed) = OutChannel::open(&mut rng, &contact, 0, &inner.encode_to_vec()).unwrap();
    let arrived = verified(world, mallory, seq, sealed);
    let from = world.devices[2].key;
    world.input(1, Input::Gossip { from, frame: Box::new(arrived) });
}

/// What a member may say inside is bound to what it is: its own device, a life of that device, the conversation of the two,
/// a number, a text within bounds. Anything else is shown to nobody, and what is right is shown afterwards.
#[test]
fn a_body_that_is_not_its_authors_own_is_shown_to_nobody() {
    let mut world = World::organisation(&["Dana", "Sam", "Mallory"]);
    for (a, b) in [(0, 1), (1, 2)] {
        world.connect(a, b);
        world.settle();
    }
    let [dana, mallory] = [0, 2].map(|device| id(&mut world, device));
    let olm = olm_account(&world, 2);
    let life = life_of(&mut world, mallory).0;
    let with_dana = world.conversation(0, 1).to_vec();
    let conversation = world.conversation(2, 1).to_vec();
    let name = |device: &DeviceId, life: u32, seq: u64| {
        [&device.as_bytes()[..8], &life.to_be_bytes(), &seq.to_be_bytes()].concat()
    };
    let said = |text: &str| Some(wire::body::Content::Text(wire::Text { text: text.to_owned() }));
    let good = |seq: u64| wire::Body {
        id: name(&mallory, life, seq),
        conversation: conversation.clone(),
        seq,
        lamport: 1,
        content: said("as myself"),
        ..wire::Body::default()
    };
    let bent = |seq: u64, alter: fn(&mut wire::Body)| {
        let mut body = good(seq);
        alter(&mut body);
        body
    };
    let mut cases = vec![
        ("number 0", bent(5_001, |body| body.seq = 0)),
        ("too many parents", bent(5_002, |body| body.parents = vec![vec![1; 20]; 65])),
        ("no content", bent(5_003, |body| body.content = None)),
        ("no id", bent(5_004, |body| body.id.clear())),
        ("an id that is too long", bent(5_005, |body| body.id.push(0))),
        ("no conversation", bent(5_006, |body| body.conversation.clear())),
    ];
    cases.push(("Dana's device", wire::Body { id: name(&dana, life, 5_010), ..good(5_010) }));
    cases.push((
        "no life of hers",
        wire::Body { id: name(&mallory, life ^ 1, 5_011), ..good(5_011) },
    ));
    cases.push(("Dana and Sam's", wire::Body { conversation: with_dana, ..good(5_012) }));
    cases.push(("an empty text", wire::Body { content: said(""), ..good(5_013) }));
    let long = "x".repeat(oob_proto::limits::TEXT_BYTES + 1);
    cases.push(("a long text", wire::Body { content: said(&long), ..good(5_014) }));
    for (at, (what, body)) in (6_000..).zip(&cases) {
        write_to_sam(&mut world, &olm, at, body);
        assert!(world.texts(1, 2).is_empty() && world.texts(1, 0).is_empty(), "{what}");
    }
    write_to_sam(&mut world, &olm, 7_000, &good(7_000));
    assert_eq!(world.texts(1, 2), ["as myself"], "control");
    // The same message in another envelope, as when it is sealed again for a new channel, is shown once.
    write_to_sam(&mut world, &olm, 7_001, &good(7_000));
    assert_eq!(world.texts(1, 2), ["as myself"]);
}

/// A lamport number says what was known when a message was written. Whoever makes one up far ahead must not use up the
/// numbers of the conversation.
#[test]
fn a_lamport_far_ahead_is_kept_and_not_taken_up() {
    let next_behind = |lamport: u64| {
        let mut world = World::organisation(&["Dana", "Sam", "Mallory"]);
        for (a, b) in [(0, 1), (1, 2)] {
            world.connect(a, b);
            world.settle();
        }
        let mallory = id(&mut world, 2);
        let olm = olm_account(&world, 2);
        let life = life_of(&mut world, mallory).0;
        let body = wire::Body {
            id: [&mallory.as_bytes()[..8], &life.to_be_bytes(), &5_000u64.to_be_bytes()].concat(),
            conversation: world.conversation(2, 1).to_vec(),
            seq: 1,
            lamport,
            content: Some(wire::body::Content::Text(wire::Text { text: "late".to_owned() })),
            ..wire::Body::default()
        };
        write_to_sam(&mut world, &olm, 5_000, &body);
        world.send(1, 2, "answer");
        assert_eq!(world.texts(1, 2), ["late", "answer"]);
        let store = stolen(&world, 1);
        let messages = Bag::new(Area(9), world.conversation(2, 1).as_bytes());
        let stored = [1, 2].map(|number| {
            let bytes = store.get(&messages, number).unwrap().unwrap();
            wire::StoredMessage::decode(bytes.as_slice()).unwrap().lamport
        });
        assert_eq!(stored[0], lamport, "kept as it was said");
        stored[1]
    };
    assert_eq!(next_behind(1_000), 1_001, "control: what may be is taken up");
    assert_eq!(next_behind(1 << 20), (1 << 20) + 1);
    assert_eq!(next_behind((1 << 20) + 1), 1);
    assert_eq!(next_behind(u64::MAX), 1);
}
