//! A hostile member at Dana's door: a program of steps, one after the other, and what must hold after each whatever they
//! are. At the end Dana and Rosa, who did nothing, must still reach each other.

use super::{
    cast::{CAST, NOW},
    forge::Forge,
    rules::screened_by,
};
use oob_crypto::{
    direct_conversation,
    envelope::{Head, release_of},
};
use oob_engine::{
    Engine, Outcome,
    effect::{Answer, CommandError, Effect},
    envelope::Screened,
    input::{Arrived, Command, Input, LinkId, Ticket},
    model::{AlertText, Message as Written, MessageState, Now, Role, Severity, Text},
    sim::Inventory,
};
use oob_proto::{
    AlertId, ConversationId, MemberId, Message as _, TransportKey,
    wire::{Frame, frame::Kind},
};
use oob_store::backend::CrashDisk;
use rand::{SeedableRng, rngs::StdRng};
use std::collections::VecDeque;

/// Steps of one program; longer ones show what shorter ones do.
const STEPS: usize = 48;

/// Frames kept to be sent again.
const KEPT: usize = 16;

/// What one batch may send at most: what credit allows on two streams, and Have, Hello and addresses beside it.
const SENT: usize = 4 * 1024 * 1024;

/// How often Dana may ask to be woken without time going on.
const WOKEN: usize = 8;

/// The clock of a device never runs longer than this, milliseconds: about thirty years.
const LONGEST_MS: u64 = 1 << 40;

/// The stream between Dana and Rosa in the last act, what they say, how long it may take in turns of two seconds, and
/// how many frames it may take in one.
const ROSA: LinkId = LinkId(1_000_000);
const WORDS: [&str; 2] = ["are you there?", "all clear here"];
const ROUNDS: usize = 30;
const FRAMES: usize = 2_000;

/// Returns the devices of Dana and Sam, and Sam's life, for programs to name.
pub fn names() -> ([u8; 32], [u8; 32], u32) {
    (*CAST.dana.device.as_bytes(), *CAST.sam.device.as_bytes(), CAST.life.0)
}

struct Machine {
    disk: CrashDisk,
    dana: Engine,
    now: Now,
    link: LinkId,
    up: bool,
    /// Inputs are gathered in one batch.
    holds: bool,
    forge: Forge,
    sent: VecDeque<Vec<u8>>,
    given: u64,
    events: u64,
    starts: u64,
    alert: Option<AlertId>,
    closed: bool,
    /// To Rosa, in the last act.
    for_rosa: VecDeque<Vec<u8>>,
}

/// What a restart must not change.
#[derive(Debug, PartialEq)]
struct Facts {
    roster: [u8; 32],
    inventory: Inventory,
    texts: Vec<Vec<Written>>,
    addresses: usize,
    alerts: usize,
}

/// A program: `step u8, u16 length, argument` each; taken if no stream was ended on Sam.
pub fn member(bytes: &[u8]) -> bool {
    let mut machine = played(bytes);
    machine.last_act();
    !machine.closed
}

/// What a program brought about: texts and alerts of Sam's that Dana was shown, receipts of hers, operations.
#[derive(Debug, PartialEq, Eq)]
pub struct Heard {
    pub texts: usize,
    pub delivered: usize,
    pub alerts: usize,
    pub acked: usize,
    pub ops: usize,
    pub epochs: usize,
}

/// Plays a program and says what came of it, so that a test can see that what is forged is believed.
pub fn heard(bytes: &[u8]) -> Heard {
    let mut machine = played(bytes);
    machine.commit();
    let sam = CAST.sam.member(&CAST.org);
    let history = machine.dana.history();
    let log = history.messages(&with_dana(&sam), 0, 1_000).expect("the history is whole");
    let alerts = history.alerts(1_000).expect("the alerts are whole");
    let here = machine.dana.snapshot();
    Heard {
        texts: log.iter().filter(|message| message.author == sam).count(),
        delivered: log
            .iter()
            .filter(|message| message.author != sam && message.state >= MessageState::Delivered)
            .count(),
        alerts: alerts.iter().filter(|(alert, _)| alert.author == sam).count(),
        acked: alerts.iter().map(|(_, acks)| acks.len()).sum(),
        ops: machine.dana.log_len() - CAST.ops.len(),
        epochs: here.screening.headers.len(),
    }
}

fn played(bytes: &[u8]) -> Machine {
    let mut machine = Machine::new();
    let mut rest = bytes;
    for _ in 0..STEPS {
        let Some(([step, len @ ..], after)) = rest.split_first_chunk::<3>() else { break };
        let len = usize::from(u16::from_be_bytes(*len)).min(after.len());
        let (argument, after) = after.split_at(len);
        rest = after;
        machine.step(*step, argument);
    }
    machine
}

impl Machine {
    fn new() -> Self {
        let disk = CAST.dana.copy();
        let dana = CAST.dana.start_on(&disk, NOW, 0);
        let events = dana.snapshot().last_event;
        let mut machine = Self {
            disk,
            dana,
            now: NOW,
            link: LinkId(1),
            up: false,
            holds: false,
            forge: Forge::new(),
            sent: VecDeque::new(),
            given: 0,
            events,
            starts: 0,
            alert: None,
            closed: false,
            for_rosa: VecDeque::new(),
        };
        machine.link_up(&CAST.sam.transport_key());
        machine
    }

    fn step(&mut self, step: u8, argument: &[u8]) {
        let (first, rest) = argument.split_first().map_or((0, argument), |(at, rest)| (*at, rest));
        match step % 16 {
            0 => self.frame(argument.to_vec()),
            1 => {
                let kind = self.forge.signed(first, rest);
                self.say(Some(kind));
            }
            2 => {
                let op = self.forge.op(argument);
                self.say(op);
            }
            3 => {
                let body = self.forge.body(argument);
                self.say(body);
            }
            4 => {
                let ack = self.forge.ack(argument);
                self.say(ack);
            }
            5 => {
                let inner = self.forge.inner(argument);
                self.say(inner);
            }
            6 => {
                if let Some((head, ct)) = argument.split_at_checked(36)
                    && let Ok(mut head) = Head::parse(head)
                {
                    // A proof that somebody opened it can be shown: the preimage is known.
                    if head.tag[0].is_multiple_of(2) {
                        head.release = release_of(&[7; 16]);
                    }
                    let envelope = self.forge.envelope(&head, ct.to_vec());
                    self.say(envelope);
                }
            }
            7 => {
                let grants = self.forge.epoch(first, rest);
                // The other way round it has to wait.
                let turn = usize::from(first & 2 != 0);
                for kind in grants.into_iter().flatten().cycle().skip(turn).take(2) {
                    self.say(Some(kind));
                }
            }
            8 => self.speaks(first, rest),
            9 => self.pass(first, rest.first().copied()),
            10 => self.relink(first),
            11 => self.restart(first),
            12 => self.gossip(argument),
            13 => self.holds = first & 1 != 0,
            14 => {
                let again = self.sent.get(usize::from(first) % KEPT).cloned();
                again.into_iter().for_each(|bytes| self.frame(bytes));
            }
            _ => match first % 5 {
                4 => self.forge.lives(rest.first().copied().unwrap_or(1)),
                0 => self.forge.forget_channel(),
                1 => self.forge.forget_session(),
                2 => self.forge.skip(u64::from(rest.first().copied().unwrap_or(1))),
                _ => self.forge.skip(1 << (rest.first().copied().unwrap_or(1) % 63)),
            },
        }
    }

    fn say(&mut self, kind: Option<Kind>) {
        if let Some(kind) = kind {
            self.frame(Frame::new(kind).encode_to_vec());
        }
    }

    /// Sam's bytes, as one frame of his stream.
    fn frame(&mut self, bytes: Vec<u8>) {
        let arrived = screened(&self.dana, &bytes);
        self.given += bytes.len() as u64;
        self.input(Input::Frames { link: self.link, frames: vec![arrived] });
        self.sent.push_front(bytes);
        self.sent.truncate(KEPT);
    }

    /// The newest frames again, by gossip.
    fn gossip(&mut self, argument: &[u8]) {
        let bytes = match argument {
            [] | [_] => {
                let place = argument.first().map_or(0, |place| usize::from(*place) % KEPT);
                self.sent.get(place).cloned().unwrap_or_default()
            }
            bytes => bytes.to_vec(),
        };
        let arrived = screened(&self.dana, &bytes);
        // The shell gives on what gossip may carry only.
        if matches!(arrived.frame, Screened::Refused(_)) {
            return;
        }
        self.given += bytes.len() as u64;
        let from = CAST.sam.transport_key();
        self.input(Input::Gossip { from, frame: Box::new(arrived) });
    }

    /// Dana does something herself.
    fn speaks(&mut self, which: u8, rest: &[u8]) {
        let text = || Text::parse("can you hear me?").expect("a text");
        let (sam, rosa) = (CAST.sam.member(&CAST.org), CAST.rosa.member(&CAST.org));
        let with = if which & 8 == 0 { sam } else { rosa };
        let command = match which % 8 {
            0 | 1 => Command::Send { to: with, text: text() },
            2 => Command::RaiseAlert {
                severity: Severity::Critical,
                text: AlertText::parse("get out").expect("a text"),
                life_ms: 3_600_000,
                answers: Vec::new(),
            },
            3 => match self.alert {
                Some(id) => Command::AckAlert { id, answer: None },
                None => return,
            },
            4 => Command::MarkRead { conversation: with_dana(&with), up_to: u64::MAX },
            5 => {
                let (role, uses, life_ms) = (Role::Responder, 1, 900_000);
                Command::Invite { role, uses, life_ms, name: None }
            }
            6 if rest.first() == Some(&0xed) => Command::RevokeDevice { device: CAST.sam.device },
            _ => Command::AddAddress { address: "/ip4/10.0.0.9/tcp/4801".into() },
        };
        // She may be refused, as one alert too many is; her store never fails.
        match self.ask(command) {
            Some(Ok(Answer::Alert { id })) => self.alert = Some(id),
            Some(Err(CommandError::Store(why))) => panic!("the store: {why}"),
            Some(Err(CommandError::Internal(what))) => panic!("internal: {what}"),
            _ => {}
        }
    }

    fn pass(&mut self, power: u8, wall: Option<u8>) {
        let ms = 1u64 << (power % 36);
        self.now.mono_ms = self.now.mono_ms.saturating_add(ms).min(LONGEST_MS);
        self.now.wall_ms = match wall {
            None => self.now.wall_ms.saturating_add(ms).min(NOW.wall_ms + LONGEST_MS),
            Some(0) => 0,
            Some(1) => 915_148_800_000,
            Some(2) => 4_070_908_800_000,
            Some(3) => u64::MAX,
            Some(days) => self.now.wall_ms.saturating_add(u64::from(days) * 86_400_000 / 16),
        };
        self.input(Input::Tick);
    }

    fn relink(&mut self, how: u8) {
        if self.up && how & 1 == 0 {
            self.input(Input::LinkDown { link: self.link });
        }
        if how & 2 == 0 {
            self.link = LinkId(self.link.0 + 1);
        }
        // A device that nobody admitted, now and then.
        let mallory = how & 12 == 12;
        let who = if mallory { &CAST.mallory } else { &CAST.sam };
        self.link_up(&who.transport_key());
    }

    fn link_up(&mut self, peer: &TransportKey) {
        self.up = true;
        self.input(Input::LinkUp { link: self.link, peer: *peer });
    }

    fn restart(&mut self, how: u8) {
        let before = (how % 3 < 2).then(|| {
            self.commit();
            self.facts()
        });
        if how.is_multiple_of(3) {
            let other = CAST.dana.start();
            std::mem::replace(&mut self.dana, other).close().expect("memory takes everything");
        }
        if how % 3 == 2 {
            self.disk.power_cut(&mut StdRng::seed_from_u64(u64::from(how)));
        }
        self.starts += 1;
        self.up = false;
        self.dana = CAST.dana.start_on(&self.disk, self.now, self.starts);
        if let Some(before) = before {
            assert_eq!(self.facts(), before, "a restart changed what is here");
        }
        self.events = self.dana.snapshot().last_event;
    }

    fn facts(&self) -> Facts {
        let history = self.dana.history();
        let of = |member: MemberId| {
            history.messages(&with_dana(&member), 0, 1_000).expect("the history is whole")
        };
        Facts {
            roster: self.dana.roster_hash(),
            inventory: self.dana.inventory(),
            texts: [&CAST.sam, &CAST.rosa].map(|who| of(who.member(&CAST.org))).into(),
            addresses: self.dana.snapshot().addresses.len(),
            alerts: history.alerts(1_000).expect("the alerts are whole").len(),
        }
    }

    fn ask(&mut self, command: Command) -> Option<Result<Answer, CommandError>> {
        self.dana
            .handle(Input::Command { ticket: Ticket(1), command: Box::new(command) }, self.now);
        self.commit().replies.pop().map(|reply| reply.result)
    }

    fn input(&mut self, input: Input) {
        self.dana.handle(input, self.now);
        if !self.holds {
            self.commit();
        }
    }

    fn commit(&mut self) -> Outcome {
        let outcome = self.commit_once();
        for _ in 0..WOKEN {
            if self.dana.next_deadline().is_none_or(|due| due > self.now.mono_ms) {
                return outcome;
            }
            self.dana.handle(Input::Tick, self.now);
            self.commit_once();
        }
        panic!("asks to be woken again and again");
    }

    fn commit_once(&mut self) -> Outcome {
        let outcome = self.dana.commit(self.now).expect("memory takes everything");
        let mut sent = 0;
        for effect in &outcome.effects {
            match effect {
                Effect::Send { link, frame } => {
                    sent += frame.len();
                    if *link == ROSA {
                        self.for_rosa.push_back(frame.clone());
                    } else if let Some(Kind::Hello(hello)) =
                        Frame::read(frame).expect("its own frame").kind
                    {
                        self.forge.hears(&hello);
                    }
                }
                Effect::Publish { frame } => sent += frame.len(),
                Effect::Close { link, reason } => {
                    assert_ne!(*reason, "the store could not take it");
                    assert_ne!(*link, ROSA, "Rosa was shut out: {reason}");
                    self.closed = true;
                    if *link == self.link && self.up {
                        self.up = false;
                        self.dana.handle(Input::LinkDown { link: *link }, self.now);
                    }
                }
                _ => {}
            }
        }
        assert!(sent <= SENT, "{sent} bytes sent at once");
        for (number, event) in (self.events + 1..).zip(&outcome.events) {
            assert_eq!(event.number, number);
            self.events = number;
        }
        assert_eq!(self.dana.gauges().overflow(), None);
        let snapshot = self.dana.snapshot();
        // What she carries came from him, or is what she wrote herself.
        let most = 2 * self.given + 256 * 1024;
        assert!(snapshot.carried_bytes <= most, "{} bytes carried", snapshot.carried_bytes);
        for who in [&CAST.dana, &CAST.rosa] {
            assert!(snapshot.roster.devices.contains_key(&who.device), "somebody else was removed");
        }
        outcome
    }

    /// Dana starts again, meets Rosa, and both have something to say.
    fn last_act(&mut self) {
        self.holds = false;
        self.restart(1);
        let mut rosa = Rosa::start(self.now);
        rosa.does(Input::Tick, self.now);
        self.input(Input::LinkUp { link: ROSA, peer: CAST.rosa.transport_key() });
        rosa.does(Input::LinkUp { link: ROSA, peer: CAST.dana.transport_key() }, self.now);
        self.talk(&mut rosa);
        let (dana, to) = (CAST.dana.member(&CAST.org), CAST.rosa.member(&CAST.org));
        let before = self.dana.history().messages(&with_dana(&to), 0, 1_000);
        let before = before.expect("the history is whole").len();
        for text in WORDS {
            let text = || Text::parse(text).expect("a text");
            let sent = self.ask(Command::Send { to, text: text() });
            assert!(matches!(sent, Some(Ok(Answer::Sent { .. }))), "{sent:?}");
            let command = Box::new(Command::Send { to: dana, text: text() });
            rosa.does(Input::Command { ticket: Ticket(1), command }, self.now);
        }
        let told = |log: &[Written], by: &MemberId| -> Vec<String> {
            log.iter().filter(|it| it.author == *by).map(|it| it.text.clone()).collect()
        };
        for _ in 0..ROUNDS {
            self.talk(&mut rosa);
            let log = |at: &Engine| {
                at.history().messages(&with_dana(&to), 0, 1_000).expect("the history is whole")
            };
            let (here, there) = (log(&self.dana), log(&rosa.engine));
            let arrived = |log: &[Written]| {
                log.iter().all(|message| message.state >= MessageState::Delivered)
            };
            if here.len() == before + 2 * WORDS.len() && arrived(&here) && arrived(&there) {
                assert_eq!(told(&here, &to), WORDS, "what Rosa wrote");
                assert!(told(&there, &dana).ends_with(&WORDS.map(String::from)), "what Dana wrote");
                return;
            }
            self.now.mono_ms += 2_000;
            self.now.wall_ms = self.now.wall_ms.saturating_add(2_000);
            self.input(Input::Tick);
            rosa.does(Input::Tick, self.now);
        }
        let log = |at: &Engine| at.history().messages(&with_dana(&to), 0, 1_000);
        let states = |at: &Engine| -> Vec<_> {
            let log = log(at).expect("the history is whole");
            log.into_iter().map(|message| (message.text, message.state)).collect()
        };
        let (here, there) = (states(&self.dana), states(&rosa.engine));
        panic!("Dana and Rosa cannot talk any more: {here:?}, {there:?}");
    }

    /// Lets everything arrive that Dana and Rosa have for each other.
    fn talk(&mut self, rosa: &mut Rosa) {
        for _ in 0..FRAMES {
            let bytes = if let Some(bytes) = self.for_rosa.pop_front() {
                let frames = vec![screened(&rosa.engine, &bytes)];
                rosa.does(Input::Frames { link: ROSA, frames }, self.now);
                continue;
            } else if let Some(bytes) = rosa.for_dana.pop_front() {
                bytes
            } else {
                return;
            };
            let frames = vec![screened(&self.dana, &bytes)];
            self.input(Input::Frames { link: ROSA, frames });
        }
        panic!("Dana and Rosa never fall silent");
    }
}

/// Rosa's device in the last act.
struct Rosa {
    engine: Engine,
    for_dana: VecDeque<Vec<u8>>,
}

impl Rosa {
    fn start(now: Now) -> Self {
        let engine = CAST.rosa.start_on(&CAST.rosa.copy(), now, 0);
        Self { engine, for_dana: VecDeque::new() }
    }

    fn does(&mut self, input: Input, now: Now) {
        self.engine.handle(input, now);
        for effect in self.engine.commit(now).expect("memory takes everything").effects {
            match effect {
                Effect::Send { frame, .. } => self.for_dana.push_back(frame),
                Effect::Close { reason, .. } => panic!("Rosa shuts Dana out: {reason}"),
                _ => {}
            }
        }
    }
}

fn screened(engine: &Engine, bytes: &[u8]) -> Arrived {
    let age_s = Frame::read(bytes).map_or(0, |frame| frame.age);
    Arrived { bytes: bytes.len() as u64, age_s, frame: screened_by(engine, bytes) }
}

fn with_dana(member: &MemberId) -> ConversationId {
    direct_conversation(&CAST.org, &CAST.dana.member(&CAST.org), member)
}
