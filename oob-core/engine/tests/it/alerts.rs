//! Alerts: everybody gets them, answers are counted once a person, and what others forge changes nothing.

use crate::world::{Flying, START_MS, World, pass};
use oob_crypto::{EpochSecret, SigningKey, alert_id, device_id, seal_alert, signed::sign};
use oob_engine::{
    effect::{Answer, CommandError},
    event::Event,
    input::Command,
    model::{Alert, AlertAck, AlertAnswer, AlertText, Severity},
};
use oob_proto::{
    AlertId, DeviceId, Message, OrgId,
    signing::SignedType,
    wire::{self, Frame, frame::Kind},
};
use oob_store::{Area, Bag, Store};
use proptest::prelude::*;
use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};

const DAY_MS: u64 = 86_400_000;

fn text(text: &str) -> AlertText {
    AlertText::parse(text).unwrap()
}

fn raise_for(world: &mut World, device: usize, words: &str, life_ms: u64) -> AlertId {
    let command = Command::RaiseAlert {
        severity: Severity::Critical,
        text: text(words),
        life_ms,
        answers: Vec::new(),
    };
    match world.command(device, command).unwrap() {
        Answer::Alert { id } => id,
        other => panic!("{other:?}"),
    }
}

fn raise(world: &mut World, device: usize, words: &str) -> AlertId {
    raise_for(world, device, words, DAY_MS)
}

fn answer(world: &mut World, device: usize, id: AlertId, word: Option<&str>) {
    let answer = word.map(|word| AlertAnswer::parse(word).unwrap());
    world.command(device, Command::AckAlert { id, answer }).unwrap();
}

/// What a device has of an alert: its text, and who answered what.
fn board(world: &World, device: usize, id: &AlertId) -> Option<(Alert, Vec<AlertAck>)> {
    world.history(device).alert(id).unwrap()
}

fn words(world: &World, device: usize, id: &AlertId) -> Vec<Option<String>> {
    board(world, device, id).unwrap().1.into_iter().map(|ack| ack.answer).collect()
}

fn texts(world: &World, device: usize) -> Vec<String> {
    let all = world.history(device).alerts(usize::MAX).unwrap();
    all.into_iter().map(|(alert, _)| alert.text).collect()
}

fn counts(world: &World, device: usize) -> Vec<(u32, u32)> {
    let count = |event: &Event| match event {
        Event::AlertAcked { acked, expected, .. } => Some((*acked, *expected)),
        _ => None,
    };
    world.devices[device].events.iter().filter_map(count).collect()
}

fn alerted(world: &World, device: usize) -> usize {
    let is_alert = |event: &&Event| matches!(event, Event::Alert(_));
    world.devices[device].events.iter().filter(is_alert).count()
}

/// An organisation whose members have all heard of each other; no link is open.
fn acquainted(names: &[&str]) -> World {
    let mut world = World::organisation(names);
    let links: Vec<_> = (1..names.len()).map(|other| world.connect(0, other)).collect();
    world.settle();
    for link in links {
        world.cut(link);
    }
    world
}

type Change = fn(&mut wire::Alert);

/// Everything somebody can sign and seal with who has a device in hand.
struct Hand {
    dsk: SigningKey,
    device: DeviceId,
    epoch: EpochSecret,
    audience: EpochSecret,
    org: OrgId,
    seq: u64,
}

/// Takes the keys out of a device's own store, and starts it again.
fn hand_of(world: &mut World, device: usize) -> Hand {
    let org = world.engine(device).snapshot().org.as_ref().unwrap().id;
    world.kill(device);
    let parts = world.devices[device].disk.parts();
    let store = Store::with_backend(parts, &pass(), StdRng::seed_from_u64(1)).unwrap().store;
    let own = store.get(&Bag::new(Area(1), &[]), 0).unwrap().unwrap();
    let identity = wire::StoredIdentity::decode(own.as_slice()).unwrap();
    let dsk = SigningKey::from_secret(&identity.dsk.try_into().unwrap());
    let epoch = |ring: u32| {
        let all = store.scan(&Bag::new(Area(3), &[]), .., oob_store::Order::Ascending, 64).unwrap();
        let mut all =
            all.iter().map(|(_, bytes)| wire::StoredEpoch::decode(bytes.as_slice()).unwrap());
        let found = all.find(|epoch| epoch.ring == ring).unwrap();
        EpochSecret::from_secret(&found.secret.try_into().unwrap())
    };
    let (core, audience) = (epoch(0), epoch(1));
    store.close().unwrap();
    world.start(device);
    let device = device_id(&dsk.public());
    Hand { dsk, device, epoch: core, audience, org, seq: 1_000 }
}

impl Hand {
    fn next(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    fn payload(&mut self, change: impl FnOnce(&mut wire::Alert)) -> wire::Alert {
        let mut payload = wire::Alert {
            device: self.device.to_vec(),
            incarnation: 9,
            record_seq: self.next(),
            severity: 1,
            issued: START_MS,
            life_s: 3_600,
            text: format!("alert {}", self.seq),
            ..wire::Alert::default()
        };
        change(&mut payload);
        payload
    }

    fn seal(&self, payload: &[u8]) -> (AlertId, Kind) {
        let signed = sign(SignedType::Alert, &self.org, payload.to_vec(), &[&self.dsk]);
        (alert_id(payload), self.seal_signed(&self.epoch, &signed))
    }

    fn seal_signed(&self, epoch: &EpochSecret, signed: &wire::Signed) -> Kind {
        let mut rng = StdRng::seed_from_u64(self.seq);
        Kind::Alert(seal_alert(&mut rng, &epoch.alert_key(), &epoch.id(), signed).unwrap())
    }

    fn alert(&mut self, change: impl FnOnce(&mut wire::Alert)) -> (AlertId, Kind) {
        let payload = self.payload(change).encode_to_vec();
        self.seal(&payload)
    }

    fn ack(&mut self, alert: AlertId, hlc: u64, answer: &str) -> Kind {
        let payload = wire::AlertAck {
            alert: alert.to_vec(),
            device: self.device.to_vec(),
            incarnation: 9,
            record_seq: self.next(),
            hlc,
            answer: answer.to_owned(),
        };
        let payload = payload.encode_to_vec();
        Kind::AlertAck(sign(SignedType::AlertAck, &self.org, payload, &[&self.dsk]))
    }
}

/// Lets a frame of one device arrive at another, over a link of its own that ends afterwards; what it causes is dropped.
fn deliver(world: &mut World, from: usize, to: usize, kinds: &[Kind]) {
    let link = world.connect(from, to);
    world.settle();
    assert!(world.links.contains_key(&link), "they know each other");
    for kind in kinds {
        let frame = Frame::new(kind.clone()).encode_to_vec();
        world.arrive(&Flying { from, to, link, frame });
    }
    world.cut(link);
}

#[test]
fn an_alert_reaches_everybody_and_each_answer_is_counted_once() {
    // Noor is heard through Sam alone.
    let mut world = acquainted(&["Dana", "Sam", "Noor"]);
    for (a, b) in [(0, 1), (1, 2)] {
        world.connect(a, b);
        world.settle();
    }
    let id = raise(&mut world, 0, "Do not log in. Mail is compromised.");
    world.settle();
    for device in 0..3 {
        let (alert, acks) = board(&world, device, &id).unwrap();
        assert_eq!(alert.text, "Do not log in. Mail is compromised.");
        assert_eq!((alert.author, alert.severity), (world.member(0), Severity::Critical));
        assert_eq!(alert.expires_ms, START_MS + DAY_MS);
        assert_eq!((acks.len(), alerted(&world, device)), (0, 1));
    }
    answer(&mut world, 2, id, None);
    world.settle();
    answer(&mut world, 1, id, Some("safe"));
    world.settle();
    for device in 0..3 {
        assert_eq!(counts(&world, device), [(1, 2), (2, 2)], "{device}");
    }
    let (_, acks) = board(&world, 0, &id).unwrap();
    let said = |member: usize| {
        let member = world.member(member);
        acks.iter().find(|ack| ack.member == member).unwrap().answer.clone()
    };
    assert_eq!((said(1), said(2)), (Some("safe".to_owned()), None));
}

#[test]
fn the_same_answer_again_says_nothing_and_another_one_replaces_it() {
    let mut world = acquainted(&["Dana", "Sam"]);
    world.connect(0, 1);
    world.settle();
    let id = raise(&mut world, 0, "Are you safe?");
    world.settle();
    let sent = |world: &World| world.wire.iter().filter(|flying| flying.from == 1).count();
    answer(&mut world, 1, id, Some("yes"));
    let before = sent(&world);
    answer(&mut world, 1, id, Some("yes"));
    // A program that acknowledges whatever it reads again after a restart takes no word back.
    answer(&mut world, 1, id, None);
    assert_eq!(sent(&world), before);
    answer(&mut world, 1, id, Some("no"));
    assert_eq!(sent(&world), before + 1, "control: another word is sent");
    world.settle();
    assert_eq!(words(&world, 0, &id), [Some("no".to_owned())]);
    assert_eq!(counts(&world, 0), [(1, 1), (1, 1)]);
    // Whoever raised it is not asked.
    answer(&mut world, 0, id, Some("yes"));
    assert_eq!(words(&world, 0, &id).len(), 1);
}

#[test]
fn what_is_refused_at_home_says_why() {
    let mut world = acquainted(&["Dana", "Sam"]);
    let command = |life_ms, answers: usize| Command::RaiseAlert {
        severity: Severity::Info,
        text: text("x"),
        life_ms,
        answers: vec![AlertAnswer::parse("yes").unwrap(); answers],
    };
    for (life_ms, answers) in [(0, 0), (7 * DAY_MS + 1, 0), (1_000, 9)] {
        let refused = world.command(0, command(life_ms, answers)).unwrap_err();
        assert!(matches!(refused, CommandError::OutOfRange { .. }), "{refused}");
    }
    let Ok(Answer::Alert { id }) = world.command(0, command(7 * DAY_MS, 8)) else { panic!() };
    world.connect(0, 1);
    world.settle();
    let command =
        |id, word| Command::AckAlert { id, answer: Some(AlertAnswer::parse(word).unwrap()) };
    let unknown = AlertId::from([7; 32]);
    assert_eq!(world.command(1, command(unknown, "x")).unwrap_err(), CommandError::NoAlert);
    assert!(board(&world, 0, &id).is_some(), "control");
    let mut alone = World::new(&["Kim"]);
    assert_eq!(alone.command(0, command(id, "x")).unwrap_err(), CommandError::NoOrg);
}

#[test]
fn an_alert_that_offers_words_is_answered_with_one_of_them() {
    let mut world = acquainted(&["Dana", "Sam"]);
    world.connect(0, 1);
    world.settle();
    let offered = ["safe", "need help"].map(|word| AlertAnswer::parse(word).unwrap());
    let command = Command::RaiseAlert {
        severity: Severity::Warning,
        text: text("Fire in the east wing"),
        life_ms: DAY_MS,
        answers: offered.to_vec(),
    };
    let Ok(Answer::Alert { id }) = world.command(0, command) else { panic!() };
    world.settle();
    let other = Some(AlertAnswer::parse("maybe").unwrap());
    let refused = world.command(1, Command::AckAlert { id, answer: other }).unwrap_err();
    assert_eq!(refused.to_string(), "the alert can be answered with: safe, need help");
    answer(&mut world, 1, id, Some("need help"));
    world.settle();
    assert_eq!(words(&world, 0, &id), [Some("need help".to_owned())]);
}

#[test]
fn alerts_answers_and_their_events_survive_a_power_cut() {
    let mut world = acquainted(&["Dana", "Sam"]);
    world.connect(0, 1);
    world.settle();
    let id = raise(&mut world, 0, "before the cut");
    world.settle();
    answer(&mut world, 1, id, Some("here"));
    world.settle();
    let live = world.devices[0].events.clone();
    let before = board(&world, 0, &id);
    world.kill(0);
    world.devices[0].disk.power_cut(&mut StdRng::seed_from_u64(3));
    world.start(0);
    assert_eq!(board(&world, 0, &id), before);
    let (stored, _) = world.history(0).events(0, 1_000).unwrap();
    let stored: Vec<Event> = stored.into_iter().map(|numbered| numbered.event).collect();
    assert_eq!(stored, live);
    // What is known stays known: the same frames again tell nobody anything.
    let frames: Vec<Flying> = world.wire.clone();
    let link = world.connect(0, 1);
    world.settle();
    let told = world.devices[0].events.len();
    for mut flying in frames.into_iter().filter(|flying| flying.to == 0) {
        let kind = Frame::read(&flying.frame).unwrap().kind;
        if matches!(kind, Some(Kind::Alert(_) | Kind::AlertAck(_))) {
            flying.link = link;
            world.arrive(&flying);
        }
    }
    assert_eq!(world.devices[0].events.len(), told);
    assert!(world.flying.is_empty(), "nothing is passed on twice");
    // The clock of answers goes on from where it was, whatever the wall clock says now.
    world.devices[1].clock_ahead_ms = -1_000_000;
    answer(&mut world, 1, id, Some("gone home"));
    world.settle();
    assert_eq!(words(&world, 0, &id), [Some("gone home".to_owned())]);
}

/// Acknowledgements are a set: any order, any repetition, before or after their alert, and every device counts the same.
#[test]
fn answers_count_the_same_in_any_order_and_however_often_they_come() {
    let mut world = acquainted(&["Dana", "Sam", "Noor", "Eli", "Rosa"]);
    let mut dana = hand_of(&mut world, 0);
    let mut hands: Vec<Hand> = (1..4).map(|device| hand_of(&mut world, device)).collect();
    let mut rng = StdRng::seed_from_u64(11);
    for round in 0..40 {
        let (id, alert) = dana.alert(|alert| alert.text = format!("round {round}"));
        let mut records = vec![alert];
        let mut expected = std::collections::BTreeMap::new();
        for (place, hand) in hands.iter_mut().enumerate() {
            for _ in 0..rng.random_range(0..4) {
                let hlc = START_MS + rng.random_range(0..3);
                let word = ["", "a", "b"][rng.random_range(0..3)];
                records.push(hand.ack(id, hlc, word));
                let best = expected.entry(world.member(place + 1)).or_insert((hlc, word));
                *best = (*best).max((hlc, word));
            }
        }
        let mut boards = Vec::new();
        for device in [0, 4] {
            let mut order: Vec<Kind> = records.iter().chain(&records).cloned().collect();
            order.shuffle(&mut rng);
            deliver(&mut world, if device == 0 { 4 } else { 0 }, device, &order);
            boards.push(board(&world, device, &id).unwrap().1);
        }
        assert_eq!(boards[0], boards[1], "round {round}");
        let found: Vec<_> = boards[0]
            .iter()
            .map(|ack| (ack.member, (ack.time_ms, ack.answer.as_deref().unwrap_or(""))))
            .collect();
        assert_eq!(found, expected.into_iter().collect::<Vec<_>>(), "round {round}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever bytes come in the place of an alert or an answer, nobody is told anything, and nothing panics.
    #[test]
    fn arbitrary_bytes_are_no_alert(payload in proptest::collection::vec(any::<u8>(), 0..300)) {
        HOSTILE.with_borrow_mut(|stage| {
            let (world, mallory) = stage.get_or_insert_with(|| {
                let mut world = acquainted(&["Dana", "Mallory"]);
                let mallory = hand_of(&mut world, 1);
                (world, mallory)
            });
            let ack = sign(SignedType::AlertAck, &mallory.org, payload.clone(), &[&mallory.dsk]);
            let (_, sealed) = mallory.seal(&payload);
            deliver(world, 1, 0, &[sealed, Kind::AlertAck(ack)]);
            assert_eq!((alerted(world, 0), counts(world, 0).len()), (0, 0));
        });
    }
}

thread_local! {
    static HOSTILE: std::cell::RefCell<Option<(World, Hand)>> = const { std::cell::RefCell::new(None) };
}

#[test]
fn what_is_forged_altered_or_out_of_bounds_is_not_shown_and_not_passed_on() {
    let mut world = acquainted(&["Dana", "Sam", "Mallory"]);
    let (sam, mut mallory) = (hand_of(&mut world, 1), hand_of(&mut world, 2));
    let mut bad: Vec<(&str, Kind)> = Vec::new();
    let forms: [(&str, Change); 14] = [
        ("no text", |alert| alert.text = "  ".to_owned()),
        ("long text", |alert| alert.text = "x".repeat(2_049)),
        ("severity", |alert| alert.severity = 3),
        ("no life", |alert| alert.life_s = 0),
        ("long life", |alert| alert.life_s = 7 * 86_400 + 1),
        ("no time there is", |alert| alert.issued = u64::MAX),
        ("nine answers", |alert| alert.answers = vec!["yes".to_owned(); 9]),
        ("escape in an answer", |alert| alert.answers = vec!["\u{1b}[31m".to_owned()]),
        ("white space around an answer", |alert| alert.answers = vec![" yes".to_owned()]),
        ("drill", |alert| alert.drill = true),
        ("audience", |alert| alert.audience = vec![1]),
        ("short id", |alert| alert.supersedes = vec![1; 31]),
        ("short device", |alert| alert.device.truncate(8)),
        ("no number", |alert| alert.record_seq = 0),
    ];
    for (name, change) in forms {
        bad.push((name, mallory.alert(change).1));
    }
    // In the name of Sam, whose key Mallory does not have.
    let in_sams_name = mallory.payload(|alert| alert.device = sam.device.to_vec()).encode_to_vec();
    bad.push(("another's name", mallory.seal(&in_sams_name).1));
    let good = mallory.payload(|_| {}).encode_to_vec();
    let org = mallory.org;
    for (name, signed) in [
        (
            "signed as something else",
            sign(SignedType::AlertAck, &org, good.clone(), &[&mallory.dsk]),
        ),
        (
            "for another group",
            sign(SignedType::Alert, &[9; 32].into(), good.clone(), &[&mallory.dsk]),
        ),
        ("not signed", wire::Signed { payload: good.clone(), sigs: Vec::new() }),
    ] {
        bad.push((name, mallory.seal_signed(&mallory.epoch, &signed)));
    }
    let signed = sign(SignedType::Alert, &org, good.clone(), &[&mallory.dsk]);
    bad.push(("the other ring", mallory.seal_signed(&mallory.audience, &signed)));
    bad.push(("unknown epoch", mallory.seal_signed(&EpochSecret::from_secret(&[3; 32]), &signed)));
    let Kind::Alert(sealed) = mallory.seal(&good).1 else { panic!() };
    let mut altered = sealed.clone();
    altered.ct[0] ^= 1;
    bad.push(("altered", Kind::Alert(altered)));
    bad.push((
        "oversize",
        Kind::Alert(wire::SealedAlert { ct: vec![0; 60_000], ..sealed.clone() }),
    ));
    bad.push(("no epoch", Kind::Alert(wire::SealedAlert { epoch: Vec::new(), ..sealed.clone() })));
    let stranger = SigningKey::from_secret(&[8; 32]);
    let strange =
        wire::Alert { device: device_id(&stranger.public()).to_vec(), ..mallory.payload(|_| {}) };
    let strange = sign(SignedType::Alert, &org, strange.encode_to_vec(), &[&stranger]);
    bad.push(("unknown device", mallory.seal_signed(&mallory.epoch, &strange)));

    let listening = world.connect(0, 1);
    world.settle();
    let link = world.connect(2, 0);
    world.settle();
    let told = world.devices[0].events.len();
    for (name, kind) in bad {
        let frame = Frame::new(kind).encode_to_vec();
        world.arrive(&Flying { from: 2, to: 0, link, frame });
        assert_eq!(world.devices[0].events.len(), told, "{name}");
        let on = world.flying.iter().filter(|flying| flying.link == listening);
        let on = on.filter(|flying| {
            matches!(Frame::read(&flying.frame).unwrap().kind, Some(Kind::Alert(_)))
        });
        let on = on.count();
        assert_eq!(on, 0, "{name} is passed on");
        assert!(texts(&world, 0).is_empty(), "{name}");
    }
    // The control: the same hand, with nothing wrong.
    let frame = Frame::new(Kind::Alert(sealed)).encode_to_vec();
    world.arrive(&Flying { from: 2, to: 0, link, frame });
    let is_alert =
        |flying: &&Flying| matches!(Frame::read(&flying.frame).unwrap().kind, Some(Kind::Alert(_)));
    let passed_on = world.flying.iter().filter(is_alert).count();
    assert_eq!((world.devices[0].events.len(), passed_on), (told + 1, 1));
}

#[test]
fn forged_answers_count_for_nobody() {
    let mut world = acquainted(&["Dana", "Sam", "Mallory"]);
    let (mut sam, mut mallory) = (hand_of(&mut world, 1), hand_of(&mut world, 2));
    let id = raise(&mut world, 0, "who is there?");
    let in_sams_name = match sam.ack(id, START_MS, "safe") {
        Kind::AlertAck(signed) => {
            sign(SignedType::AlertAck, &mallory.org, signed.payload, &[&mallory.dsk])
        }
        other => panic!("{other:?}"),
    };
    let mut bad = vec![
        Kind::AlertAck(in_sams_name),
        mallory.ack(id, START_MS, &"x".repeat(65)),
        mallory.ack(id, START_MS, "\u{202E}efas"),
        mallory.ack(id, START_MS, "sa\nfe"),
        mallory.ack(id, u64::MAX, "safe"),
    ];
    if let Kind::AlertAck(mut signed) = mallory.ack(id, START_MS, "safe") {
        signed.sigs.clear();
        bad.push(Kind::AlertAck(signed));
    }
    deliver(&mut world, 2, 0, &bad);
    assert!(words(&world, 0, &id).is_empty());
    assert!(counts(&world, 0).is_empty());
    let good = mallory.ack(id, START_MS, "safe");
    deliver(&mut world, 2, 0, &[good]);
    assert_eq!(counts(&world, 0), [(1, 2)], "control");
}

#[test]
fn an_answer_waits_for_its_alert_and_is_counted_once_it_comes() {
    let mut world = acquainted(&["Dana", "Sam", "Noor"]);
    let (mut dana, mut sam) = (hand_of(&mut world, 0), hand_of(&mut world, 1));
    let (id, alert) = dana.alert(|_| {});
    let ack = sam.ack(id, START_MS, "coming");
    deliver(&mut world, 1, 2, &[ack]);
    assert!(counts(&world, 2).is_empty());
    world.kill(2);
    world.start(2);
    deliver(&mut world, 0, 2, &[alert]);
    assert_eq!(words(&world, 2, &id), [Some("coming".to_owned())]);
    assert_eq!(counts(&world, 2), [(1, 2)]);
}

#[test]
fn answers_to_alerts_that_never_come_are_bounded_per_device() {
    let mut world = acquainted(&["Dana", "Sam", "Mallory"]);
    let (mut dana, mut mallory) = (hand_of(&mut world, 0), hand_of(&mut world, 2));
    let real: Vec<(AlertId, Kind)> = (0..2).map(|_| dana.alert(|_| {})).collect();
    let mut flood = vec![mallory.ack(real[0].0, START_MS, "first")];
    for i in 0..255u32 {
        let mut made_up = [0; 32];
        made_up[..4].copy_from_slice(&i.to_be_bytes());
        flood.push(mallory.ack(made_up.into(), START_MS, "x"));
    }
    flood.push(mallory.ack(real[1].0, START_MS, "last"));
    deliver(&mut world, 2, 1, &flood);
    let alerts: Vec<Kind> = real.iter().map(|(_, kind)| kind.clone()).collect();
    deliver(&mut world, 0, 1, &alerts);
    assert!(words(&world, 1, &real[0].0).is_empty(), "the oldest made room");
    assert_eq!(words(&world, 1, &real[1].0), [Some("last".to_owned())]);
}

#[test]
fn a_device_that_floods_with_alerts_or_answers_is_heard_so_often_and_no_more() {
    let mut world = acquainted(&["Dana", "Sam", "Mallory"]);
    let (mut sam, mut mallory) = (hand_of(&mut world, 1), hand_of(&mut world, 2));
    let flood: Vec<Kind> = (0..300).map(|_| mallory.alert(|_| {}).1).collect();
    deliver(&mut world, 2, 0, &flood);
    assert_eq!(alerted(&world, 0), 256);
    // Others are heard, and so is the flooder on another day.
    let other = sam.alert(|alert| alert.text = "from Sam".to_owned());
    deliver(&mut world, 1, 0, &[other.1]);
    let (_, later) = mallory.alert(|alert| alert.issued = START_MS + DAY_MS);
    deliver(&mut world, 2, 0, &[later]);
    assert_eq!(alerted(&world, 0), 258);

    let flood: Vec<Kind> =
        (0..1_100).map(|i| mallory.ack(other.0, START_MS + i, &format!("{i}"))).collect();
    deliver(&mut world, 2, 0, &flood);
    assert_eq!(counts(&world, 0).len(), 1_024);
    assert_eq!(words(&world, 0, &other.0), [Some("1023".to_owned())]);
    world.pass(DAY_MS);
    let later = mallory.ack(other.0, START_MS + 5_000, "another day");
    deliver(&mut world, 2, 0, &[later]);
    assert_eq!(words(&world, 0, &other.0), [Some("another day".to_owned())]);
}

/// The bound of a day is by the author's dates, so that somebody back from a week away gets the whole week; the bound of
/// all is what a liar about dates meets.
#[test]
fn dates_made_up_fill_no_more_than_a_devices_share() {
    let mut world = acquainted(&["Dana", "Sam", "Mallory"]);
    let (mut sam, mut mallory) = (hand_of(&mut world, 1), hand_of(&mut world, 2));
    for day in 0..10 {
        let flood: Vec<Kind> = (0..256)
            .map(|_| mallory.alert(|alert| alert.issued = START_MS + day * DAY_MS).1)
            .collect();
        deliver(&mut world, 2, 0, &flood);
    }
    assert_eq!(alerted(&world, 0), 2_048);
    let (_, other) = sam.alert(|_| {});
    deliver(&mut world, 1, 0, &[other]);
    assert_eq!(alerted(&world, 0), 2_049);
}

/// What has ended makes room, of any day the author likes; what comes is still no more than anybody may raise in that time.
#[test]
fn alerts_that_end_at_once_come_no_faster_than_they_may_be_raised() {
    let mut world = acquainted(&["Dana", "Mallory"]);
    let mut mallory = hand_of(&mut world, 1);
    let mut flood = |day: u64| -> Vec<Kind> {
        let of_day = |alert: &mut wire::Alert| {
            alert.issued = START_MS + day * DAY_MS;
            alert.life_s = 3_600;
        };
        (0..256).map(|_| mallory.alert(of_day).1).collect()
    };
    for day in 0..8 {
        let alerts = flood(day);
        deliver(&mut world, 1, 0, &alerts);
    }
    assert_eq!(alerted(&world, 0), 2_048, "a week of them at once");
    world.pass(2 * 3_600_000);
    let alerts = flood(20);
    deliver(&mut world, 1, 0, &alerts);
    let more = alerted(&world, 0) - 2_048;
    assert!((20..25).contains(&more), "{more} in two hours");
}

#[test]
fn an_alert_ends_by_its_date_or_by_the_time_that_passed_here() {
    let mut world = acquainted(&["Dana", "Sam"]);
    world.connect(0, 1);
    world.settle();
    // Sam's clock stands in another century: what ends there is shown as ended, and nothing is lost.
    world.devices[1].clock_ahead_ms = -27 * 365 * DAY_MS as i64;
    let id = raise_for(&mut world, 0, "one hour", 3_600_000);
    world.settle();
    let expired = |world: &World, device: usize| {
        let (alert, _) = board(world, device, &id).unwrap();
        alert.is_expired(world.now(device).wall_ms)
    };
    assert_eq!((expired(&world, 0), expired(&world, 1)), (false, false));
    world.pass(3_599_000);
    assert_eq!((expired(&world, 0), expired(&world, 1)), (false, false));
    world.pass(1_000);
    world.pass(60_000);
    assert_eq!((expired(&world, 0), expired(&world, 1)), (true, true));
    let (alert, _) = board(&world, 1, &id).unwrap();
    assert!(alert.over, "by the time that passed, since the clock never got there");
}

#[test]
fn ids_are_kept_a_week_after_the_end_and_then_forgotten() {
    let mut world = acquainted(&["Dana", "Mallory"]);
    let mut mallory = hand_of(&mut world, 1);
    let (id, alert) = mallory.alert(|alert| alert.life_s = 86_400);
    let ack = mallory.ack(AlertId::from([5; 32]), START_MS, "to nothing");
    deliver(&mut world, 1, 0, &[alert.clone(), ack]);
    for _ in 0..7 {
        world.pass(DAY_MS);
    }
    deliver(&mut world, 1, 0, &[alert]);
    assert_eq!((alerted(&world, 0), texts(&world, 0).len()), (1, 1), "not shown again");
    world.pass(DAY_MS + 1);
    world.pass(60_000);
    assert!(board(&world, 0, &id).is_none());
    assert!(texts(&world, 0).is_empty());
    let (events, _) = world.history(0).events(0, 1_000).unwrap();
    assert!(!events.iter().any(|numbered| matches!(numbered.event, Event::Alert(_))));
}

#[test]
fn only_an_own_alert_is_superseded() {
    let mut world = acquainted(&["Dana", "Sam", "Mallory"]);
    let (mut sam, mut mallory) = (hand_of(&mut world, 1), hand_of(&mut world, 2));
    let (old, first) = sam.alert(|_| {});
    let (_, hijack) = mallory.alert(|alert| alert.supersedes = old.to_vec());
    deliver(&mut world, 1, 0, std::slice::from_ref(&first));
    deliver(&mut world, 2, 0, std::slice::from_ref(&hijack));
    assert!(!board(&world, 0, &old).unwrap().0.over, "nobody silences another");
    let (_, second) = sam.alert(|alert| alert.supersedes = old.to_vec());
    deliver(&mut world, 1, 0, std::slice::from_ref(&second));
    assert!(board(&world, 0, &old).unwrap().0.over);
    // In the other order the old one is not shown at all.
    let mut world = acquainted(&["Dana", "Sam"]);
    let mut sam = hand_of(&mut world, 1);
    let (old, first) = sam.alert(|_| {});
    let (_, second) = sam.alert(|alert| alert.supersedes = old.to_vec());
    deliver(&mut world, 1, 0, &[second, first]);
    assert!(board(&world, 0, &old).is_none());
    // By somebody else it is, whichever comes first.
    let mut world = acquainted(&["Dana", "Sam", "Mallory"]);
    let (mut sam, mut mallory) = (hand_of(&mut world, 1), hand_of(&mut world, 2));
    let (old, first) = sam.alert(|_| {});
    let (_, hijack) = mallory.alert(|alert| alert.supersedes = old.to_vec());
    deliver(&mut world, 2, 0, &[hijack]);
    deliver(&mut world, 1, 0, &[first]);
    assert!(!board(&world, 0, &old).unwrap().0.over);
}

#[test]
fn a_clock_far_ahead_is_counted_and_not_taken_up() {
    let mut world = acquainted(&["Dana", "Sam", "Noor"]);
    world.connect(0, 1);
    world.connect(0, 2);
    world.settle();
    let id = raise(&mut world, 0, "roll call");
    world.settle();
    world.devices[1].clock_ahead_ms = 73 * 365 * DAY_MS as i64;
    answer(&mut world, 1, id, Some("from the future"));
    world.settle();
    answer(&mut world, 2, id, Some("now"));
    world.settle();
    let (_, acks) = board(&world, 0, &id).unwrap();
    assert_eq!(acks.len(), 2);
    let time = |member: usize| {
        let member = world.member(member);
        acks.iter().find(|ack| ack.member == member).unwrap().time_ms
    };
    assert!(time(1) > START_MS + 70 * 365 * DAY_MS);
    assert!(time(2) < START_MS + DAY_MS, "{}", time(2));
    // Once that clock is right again, its person can still change the answer.
    world.devices[1].clock_ahead_ms = 0;
    answer(&mut world, 1, id, Some("here"));
    world.settle();
    assert!(words(&world, 0, &id).contains(&Some("here".to_owned())));
}
