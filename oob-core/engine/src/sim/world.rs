//! The world: the queue of events by (time, number), the devices, and what passes between them.

use super::{
    book::{Book, Violation},
    dice::Dice,
    foe::{Deeds, Foe, Vice},
    ledger::Ledger,
    lines::{Lines, Side},
    node::{Judged, Node, START_MS, Verified, passphrase},
    probe::{self, Inventory, kind_of, name_of},
    restore::Copied,
    story::{Act, Settings, Story},
    trace::{Step, Trace},
};
use crate::{
    Engine, Outcome,
    effect::{Answer, CommandError, Effect, Reply},
    envelope::Screened,
    input::{Arrived, Command, Input, LinkId, Ticket},
    model::{Name, Now},
};
use oob_proto::{DeviceId, MemberId, wire, wire::frame::Kind};
use oob_store::{Store, backend::CrashDisk};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// How long everybody has once all is healed.
pub(super) const HEAL_MS: u64 = 30_000;

/// And where somebody is hostile, who may say that it gives on what it does not: each hop beside it then takes as long as it
/// takes to look again, twice.
pub(super) const HOSTILE_HEAL_MS: u64 = 60_000;

/// What a device says it has is given to nobody else for so long: the longest wait for a proof, and one more look.
const STRAIGHT_MS: u64 = 46_000;

/// How often queues are looked at.
const WATCH_MS: u64 = 1_000;

/// Of these rounds of looking, one also compares a whole history.
const COMPARE_EVERY: u64 = 20;

/// Erasure of replaced keys is made durable this long after a commit.
const IDLE_MS: u64 = 500;

/// Of a thousand inputs, how many wait for others to share a batch.
const SHARED: u64 = 150;

/// Copies of gossip that are lost, of a thousand; as many come twice.
const GOSSIP_LOSS: u64 = 80;

/// Under this line envelopes that came by gossip are held; no stream has it.
const GOSSIP: LinkId = LinkId(0);

/// Steps in which a world may move from one millisecond to the next before it counts as one that never falls silent.
const STEPS_PER_MS: u64 = 100_000;

/// What lies in the queue.
pub(super) enum Happening {
    Act(Act),
    Frames {
        line: LinkId,
        side: usize,
        frames: Vec<Vec<u8>>,
    },
    Gossip {
        to: usize,
        from: usize,
        frame: Vec<u8>,
    },
    Wake {
        node: usize,
        process: u64,
    },
    Idle {
        node: usize,
        process: u64,
    },
    Commit {
        node: usize,
        process: u64,
    },
    Up {
        line: LinkId,
        side: usize,
    },
    Down {
        line: LinkId,
        side: usize,
    },
    Dial {
        a: usize,
        b: usize,
    },
    Start {
        node: usize,
    },
    Room {
        node: usize,
    },
    /// A hostile device acts.
    Mischief {
        node: usize,
    },
    /// A device makes a copy of its store.
    Copy {
        node: usize,
    },
    /// A device is put back to the copy it made.
    PutBack {
        node: usize,
    },
    Watch,
    Heal,
    End,
}

/// What a run counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) partitions: u64,
    pub(super) crashes: u64,
    pub(super) leaves: u64,
    pub(super) restores: u64,
    pub(super) lines: u64,
    pub(super) frames: u64,
    pub(super) bytes: u64,
    pub(super) lost: u64,
}

/// Many devices under one clock.
pub(super) struct World {
    pub(super) settings: Settings,
    pub(super) dice: Dice,
    pub(super) now_ms: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    number: u64,
    pub(super) nodes: Vec<Node>,
    pub(super) lines: Lines,
    pub(super) book: Book,
    pub(super) trace: Trace,
    pub(super) counts: Counts,
    pub(super) invite: Option<wire::InviteLink>,
    /// Batches with an envelope that are lost with their line, of a thousand.
    pub(super) loss: u64,
    pub(super) healed: bool,
    /// A removal that is asked for.
    pub(super) revoking: Option<usize>,
    /// Chance of what hostile devices do: it leaves all other chance as it is.
    pub(super) foe_dice: Dice,
    /// What they did.
    pub(super) deeds: Deeds,
    /// Chance of what is put back.
    pub(super) copy_dice: Dice,
    /// By device, the newest copy it made.
    pub(super) copies: BTreeMap<usize, Copied>,
    ledger: Ledger,
    verified: Verified,
    violation: Option<Violation>,
    inventory: fn(&Engine) -> Inventory,
}

impl World {
    pub(super) fn new(settings: Settings, seed: u64, keep_trace: bool) -> Self {
        let story = Story::new(&settings, seed);
        let mut world = Self {
            settings,
            dice: Dice::new(seed, 2),
            now_ms: 0,
            queue: BTreeMap::new(),
            number: 0,
            nodes: Vec::new(),
            lines: Lines::new(),
            book: Book::default(),
            trace: Trace::new(keep_trace),
            counts: Counts::default(),
            invite: None,
            loss: story.loss,
            healed: false,
            revoking: None,
            foe_dice: Dice::new(seed, 4),
            deeds: Deeds::default(),
            copy_dice: Dice::new(seed, 6),
            copies: BTreeMap::new(),
            ledger: Ledger::default(),
            verified: Verified::new(settings.faults.no_signature_check),
            violation: None,
            inventory: Engine::inventory,
        };
        for (place, ahead_ms) in story.ahead_ms.iter().enumerate() {
            let node = world.device(place, *ahead_ms);
            world.nodes.push(node);
        }
        for (node, foe) in story.foes {
            world.nodes[node].foe = Some(foe);
            world.lines.hostile.insert(node);
            world.book.hostile.insert(node);
            world.book.alarms.hostile.insert(node);
            world.at(0, Happening::Mischief { node });
            world.ledger.pass_over(world.nodes[node].device);
        }
        for (node, copied_ms, back_ms) in story.restores {
            world.at(copied_ms, Happening::Copy { node });
            world.at(back_ms, Happening::PutBack { node });
        }
        for (at_ms, act) in story.acts {
            world.at(at_ms, Happening::Act(act));
        }
        world.at(WATCH_MS, Happening::Watch);
        world.at(settings.end_ms(), Happening::Heal);
        let heal_ms = if world.book.hostile.is_empty() { HEAL_MS } else { HOSTILE_HEAL_MS };
        world.at(settings.end_ms() + heal_ms, Happening::End);
        world
    }

    fn device(&mut self, place: usize, ahead_ms: i64) -> Node {
        let disk = CrashDisk::new();
        let store = Store::with_backend(disk.parts(), &passphrase(), self.dice.fork());
        let store = store.expect("memory does not refuse").store;
        let name = Name::parse(&format!("Person {place}")).expect("a name");
        let now = Now { wall_ms: START_MS.saturating_add_signed(ahead_ms), mono_ms: 0 };
        let rng = Box::new(self.dice.fork());
        let mut engine = Engine::create(store, rng, name, now).expect("memory does not refuse");
        engine.set_faults(self.settings.faults);
        Node::new(engine, disk, ahead_ms)
    }

    /// Runs to the end, or to the first violation.
    pub(super) fn run(&mut self) -> Option<Violation> {
        self.found();
        let mut steps = 0;
        while self.violation.is_none()
            && let Some(((at_ms, _), happening)) = self.queue.pop_first()
        {
            steps = if at_ms == self.now_ms { steps + 1 } else { 0 };
            self.now_ms = at_ms;
            if steps > STEPS_PER_MS {
                self.fail(0, "the devices never fall silent".to_owned());
            } else if matches!(happening, Happening::End) {
                self.end();
                break;
            } else {
                self.happen(happening);
            }
        }
        self.violation.clone()
    }

    pub(super) fn at(&mut self, at_ms: u64, happening: Happening) {
        self.number += 1;
        self.queue.insert((at_ms.max(self.now_ms), self.number), happening);
    }

    pub(super) fn after(&mut self, ms: u64, happening: Happening) {
        self.at(self.now_ms + ms, happening);
    }

    /// Notes the first thing that must not happen.
    pub(super) fn fail(&mut self, node: usize, what: String) {
        let at_ms = self.now_ms;
        self.violation.get_or_insert(Violation { at_ms, node, what });
    }

    pub(super) fn check(&mut self, node: usize, result: Result<(), String>) {
        if let Err(what) = result {
            self.fail(node, what);
        }
    }

    pub(super) fn running(&self) -> Vec<usize> {
        (0..self.nodes.len()).filter(|node| self.nodes[*node].runs()).collect()
    }

    pub(super) fn members(&self) -> Vec<usize> {
        let member = |node: &usize| self.nodes[*node].member.is_some();
        self.running().into_iter().filter(member).collect()
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Act(act) => self.act(act),
            Happening::Frames { line, side, frames } => self.frames(line, side, frames),
            Happening::Gossip { to, from, frame } => self.gossip(to, from, &frame),
            Happening::Wake { node, process } => {
                let it = &mut self.nodes[node];
                if it.runs() && it.process == process && it.wake_ms == Some(self.now_ms) {
                    it.wake_ms = None;
                    self.input(node, "tick", String::new(), Input::Tick);
                }
            }
            Happening::Idle { node, process } => self.idle(node, process),
            Happening::Commit { node, process } => {
                if self.nodes[node].process == process && self.nodes[node].waits {
                    self.commit(node, "batch", String::new());
                }
            }
            Happening::Up { line, side } => self.up(line, side),
            Happening::Down { line, side } => self.down(line, side),
            Happening::Dial { a, b } => self.dial(a, b),
            Happening::Start { node } => self.start(node),
            Happening::Room { node } => self.nodes[node].disk.set_free(None),
            Happening::Mischief { node } => self.mischief(node),
            Happening::Copy { node } => self.copy(node),
            Happening::PutBack { node } => self.put_back(node),
            Happening::Watch => self.watch(),
            Happening::Heal => self.heal(),
            Happening::End => {}
        }
    }

    fn act(&mut self, act: Act) {
        if self.healed && !matches!(act, Act::Join { .. }) {
            return;
        }
        match act {
            Act::Join { node } => self.join(node),
            Act::Say { from, to, count, long } => self.say(from, to, count, long),
            Act::Read { node } => self.read(node),
            Act::Alert => self.alert(),
            Act::Answer { node, safe } => self.answer(node, safe),
            Act::Revoke { node } => self.revoke(node),
            Act::Map(map) => self.map(map),
            Act::Reset => self.reset(),
            Act::Fall { node, how, back_ms } => self.doom(node, how, back_ms),
            Act::Leave { node, back_ms } => self.leave(node, back_ms),
            Act::Clock { node, ahead_ms } => {
                let lies = self.nodes[node].foe.as_ref().and_then(|foe| foe.ahead_ms());
                self.nodes[node].ahead_ms = lies.unwrap_or(ahead_ms);
            }
            Act::Full { node, for_ms } => {
                self.nodes[node].disk.set_free(Some(0));
                self.after(for_ms, Happening::Room { node });
            }
        }
    }

    /// Hands one input in and ends the batch, or lets it wait a little for others to share one.
    pub(super) fn input(&mut self, node: usize, kind: &'static str, label: String, input: Input) {
        let now = self.nodes[node].clock(self.now_ms);
        let process = self.nodes[node].process;
        let Some(engine) = &mut self.nodes[node].engine else { return };
        engine.handle(input, now);
        if self.dice.chance(SHARED) {
            self.note(node, kind, label, "waits".to_owned());
            if !std::mem::replace(&mut self.nodes[node].waits, true) {
                let ms = self.dice.between(0..=20);
                self.after(ms, Happening::Commit { node, process });
            }
        } else {
            self.commit(node, kind, label);
        }
    }

    /// Hands commands in as one batch; gives no reply where the device went down before it could.
    pub(super) fn commands(
        &mut self,
        node: usize,
        kind: &'static str,
        commands: Vec<Command>,
    ) -> Vec<Result<Answer, CommandError>> {
        let it = &mut self.nodes[node];
        let now = it.clock(self.now_ms);
        let Some(engine) = &mut it.engine else { return Vec::new() };
        let label = commands.len().to_string();
        for command in commands {
            it.tickets += 1;
            let (ticket, command) = (Ticket(it.tickets), Box::new(command));
            engine.handle(Input::Command { ticket, command }, now);
        }
        let replies = self.commit(node, kind, label);
        replies.into_iter().map(|reply| reply.result).collect()
    }

    fn commit(&mut self, node: usize, kind: &'static str, label: String) -> Vec<Reply> {
        let it = &mut self.nodes[node];
        it.waits = false;
        let now = it.clock(self.now_ms);
        let steps = it.disk.steps();
        let Some(engine) = &mut it.engine else { return Vec::new() };
        let result = engine.commit(now);
        let wrote = it.disk.steps() != steps;
        let doom = it.doom;
        let outcome = match (result, doom) {
            (Ok(outcome), None) => outcome,
            (Ok(outcome), Some(_)) if !wrote => outcome,
            (_, Some((how, back_ms))) => {
                self.note(node, kind, label, "fell".to_owned());
                self.fall(node, how, back_ms);
                return Vec::new();
            }
            (Err(error), None) => {
                self.fail(node, format!("the engine stopped: {error}"));
                return Vec::new();
            }
        };
        let said: Vec<String> =
            outcome.events.iter().map(|numbered| self.book.words(&numbered.event)).collect();
        self.note(node, kind, label, summary(&outcome, &said.join(", ")));
        let Outcome { effects, replies, events, snapshot } = outcome;
        self.look_at_life(node);
        for numbered in &events {
            let expected = self.nodes[node].told + 1;
            if !self.nodes[node].takes(numbered.number) {
                self.fail(node, format!("event {}, expected {expected}", numbered.number));
            }
            let told = self.book.told(node, numbered);
            self.check(node, told);
        }
        self.spread(node, effects);
        if let Some(snapshot) = snapshot
            && !Arc::ptr_eq(&self.nodes[node].keys, &snapshot.screening)
        {
            self.nodes[node].keys = Arc::clone(&snapshot.screening);
            self.judge_held(node);
        }
        self.schedule(node);
        replies
    }

    pub(super) fn look_at_life(&mut self, node: usize) {
        if self.nodes[node].look_at_life() && self.nodes[node].foe.is_some() {
            self.book.renewed.insert(node);
        }
    }

    /// Ends a batch that waited for company.
    pub(super) fn end_batch(&mut self, node: usize) {
        self.commit(node, "batch", String::new());
    }

    pub(super) fn note(&mut self, node: usize, kind: &'static str, label: String, outcome: String) {
        self.trace.note(Step { at_ms: self.now_ms, node, kind, label, outcome });
    }

    /// Sees to it that a device is woken when it wants to be.
    pub(super) fn schedule(&mut self, node: usize) {
        let it = &mut self.nodes[node];
        let Some(engine) = &it.engine else { return };
        let process = it.process;
        let idles = engine.needs_idle() && !std::mem::replace(&mut it.idles, true);
        let due = engine.next_deadline().map(|mono_ms| mono_ms.saturating_add(it.boot_ms));
        let due = due.map(|due| due.max(self.now_ms + 1));
        let wake = due.filter(|due| it.wake_ms.is_none_or(|at| *due < at));
        if wake.is_some() {
            it.wake_ms = wake;
        }
        if idles {
            self.after(IDLE_MS, Happening::Idle { node, process });
        }
        if let Some(at_ms) = wake {
            self.at(at_ms, Happening::Wake { node, process });
        }
    }

    fn idle(&mut self, node: usize, process: u64) {
        let it = &mut self.nodes[node];
        if it.process != process {
            return;
        }
        it.idles = false;
        let Some(engine) = &mut it.engine else { return };
        let result = if engine.needs_idle() { engine.idle() } else { Ok(()) };
        match (result, it.doom) {
            (Ok(()), _) => {}
            (Err(_), Some((how, back_ms))) => {
                self.note(node, "idle", String::new(), "fell".to_owned());
                self.fall(node, how, back_ms);
            }
            (Err(error), None) => self.fail(node, format!("the engine stopped: {error}")),
        }
    }

    /// Carries effects out.
    fn spread(&mut self, node: usize, effects: Vec<Effect>) {
        let effects = self.tamper(node, effects);
        let mut batches: Vec<(LinkId, Vec<Vec<u8>>)> = Vec::new();
        for effect in effects {
            match effect {
                Effect::Send { link, frame } => {
                    match batches.iter_mut().find(|(of, _)| *of == link) {
                        Some((_, frames)) => frames.push(frame),
                        None => batches.push((link, vec![frame])),
                    }
                }
                Effect::Publish { frame } => self.publish(node, &frame),
                Effect::Close { link, .. } => self.close(link, node),
                Effect::Learned { .. } => {}
            }
        }
        for (link, frames) in batches {
            self.send(node, link, frames);
        }
    }

    pub(super) fn send(&mut self, node: usize, id: LinkId, frames: Vec<Vec<u8>>) {
        self.counts.frames += frames.len() as u64;
        self.counts.bytes += frames.iter().map(|frame| frame.len() as u64).sum::<u64>();
        let letters = frames.iter().any(|frame| kind_of(frame) == "envelope");
        let lose = letters && !self.healed && self.dice.chance(self.loss);
        let Some(line) = self.lines.all.get_mut(&id) else { return };
        let Some(side) = line.ends.iter().position(|end| *end == node) else { return };
        if lose && line.carries {
            line.carries = false;
            self.notice(id, 1);
        }
        let Some(line) = self.lines.all.get_mut(&id) else { return };
        if !line.carries || line.sides[1 - side] == Side::Gone {
            self.counts.lost += frames.len() as u64;
            return;
        }
        let at_ms = (self.now_ms + line.latency_ms).max(line.last_ms[1 - side]);
        line.last_ms[1 - side] = at_ms;
        self.at(at_ms, Happening::Frames { line: id, side: 1 - side, frames });
    }

    /// Gives a frame to everybody reachable: some copies are lost, some come twice, none in the order of another.
    pub(super) fn publish(&mut self, node: usize, frame: &[u8]) {
        for (to, from) in self.lines.ways_from(node) {
            self.counts.frames += 1;
            self.counts.bytes += frame.len() as u64;
            if self.dice.chance(GOSSIP_LOSS) {
                self.counts.lost += 1;
                continue;
            }
            let copies = if self.dice.chance(GOSSIP_LOSS) { 2 } else { 1 };
            for _ in 0..copies {
                let ms = self.dice.between(1..=800);
                self.after(ms, Happening::Gossip { to, from, frame: frame.to_vec() });
            }
        }
    }

    /// Frames arrive at one side of a line.
    fn frames(&mut self, id: LinkId, side: usize, frames: Vec<Vec<u8>>) {
        let Some(line) = self.lines.all.get(&id) else {
            self.counts.lost += frames.len() as u64;
            return;
        };
        let node = line.ends[side];
        if !line.carries || line.sides[side] != Side::Up {
            self.counts.lost += frames.len() as u64;
            return;
        }
        let mut batch = Vec::new();
        let mut unsettled = false;
        for bytes in &frames {
            self.capture(node, bytes);
            let mut judged = self.nodes[node].judge(bytes, self.now_ms, &mut self.verified);
            if matches!(judged, Judged::NotYet(_)) && std::mem::take(&mut unsettled) {
                // What makes it known may have come just before it.
                self.give(node, id, std::mem::take(&mut batch));
                judged = self.nodes[node].judge(bytes, self.now_ms, &mut self.verified);
            }
            match judged {
                Judged::Now(arrived) => {
                    self.witness(node, &arrived);
                    unsettled |= changes_keys(&arrived.frame);
                    batch.push(arrived);
                }
                Judged::NotYet(waiting) => batch.extend(self.nodes[node].hold(id, waiting)),
            }
        }
        self.give(node, id, batch);
    }

    fn give(&mut self, node: usize, link: LinkId, frames: Vec<Arrived>) {
        if frames.is_empty() {
            return;
        }
        let from =
            self.lines.all.get(&link).and_then(|line| line.ends.iter().find(|end| **end != node));
        let label = format!("{} from {}", label(&frames), from.copied().unwrap_or(node));
        self.input(node, "frames", label, Input::Frames { link, frames });
    }

    fn gossip(&mut self, to: usize, from: usize, frame: &[u8]) {
        if !self.nodes[to].runs() {
            self.counts.lost += 1;
            return;
        }
        self.capture(to, frame);
        match self.nodes[to].judge(frame, self.now_ms, &mut self.verified) {
            // The rules are not asked about what came before.
            Judged::Now(arrived)
                if !self.settings.faults.no_duplicate_check
                    && self.nodes[to].knows_record(&arrived) => {}
            Judged::Now(arrived) => self.give_gossip(to, from, arrived),
            Judged::NotYet(waiting) => drop(self.nodes[to].hold(GOSSIP, waiting)),
        }
    }

    fn give_gossip(&mut self, node: usize, from: usize, arrived: Arrived) {
        self.witness(node, &arrived);
        let label = label(std::slice::from_ref(&arrived));
        let from = self.nodes[from].key;
        self.input(node, "gossip", label, Input::Gossip { from, frame: Box::new(arrived) });
    }

    pub(super) fn judge_held(&mut self, node: usize) {
        let ready = self.nodes[node].judge_held(self.now_ms, &mut self.verified);
        for (link, arrived) in ready {
            if link == GOSSIP {
                // Whom it came from says only that it was a member.
                let from = (node + 1) % self.nodes.len();
                arrived.into_iter().for_each(|one| self.give_gossip(node, from, one));
            } else {
                self.give(node, link, arrived);
            }
        }
    }

    /// Holds what an honest device wrote against all that it wrote before.
    fn witness(&mut self, at: usize, arrived: &Arrived) {
        if let Screened::Envelope(envelope) = &arrived.frame
            && let Some(what) = self.ledger.take(envelope)
        {
            let whose = self.whose(&envelope.device);
            self.fail(at, format!("{what} of {whose}"));
        }
    }

    /// Looks at every queue, and now and then at a whole history.
    fn watch(&mut self) {
        self.after(WATCH_MS, Happening::Watch);
        let round = self.now_ms / WATCH_MS;
        for node in self.running() {
            if self.book.hostile.contains(&node) {
                self.judge_held(node);
                continue;
            }
            let engine = self.nodes[node].engine();
            let mono_ms = self.nodes[node].clock(self.now_ms).mono_ms;
            let (overflow, shunned) = (engine.gauges().overflow(), engine.shuns(mono_ms));
            let hostile = self.hostile_devices();
            let odd = engine.oddities().iter().find(|(by, _)| !hostile.contains(by));
            let odd = odd.map(|(_, oddities)| *oddities);
            if let Some(what) = overflow {
                self.fail(node, format!("over its bound: {what}"));
            }
            if let Some(oddities) = odd {
                self.fail(node, format!("from honest members: {oddities:?}"));
            }
            if let Some(honest) = shunned.iter().find(|device| !hostile.contains(device)) {
                let whose = self.whose(honest);
                self.fail(node, format!("shuts out {whose}, who is honest"));
            }
            // Where what is told is not durable yet, it takes a power cut to show it.
            if !self.settings.faults.acknowledge_before_durable
                && round.is_multiple_of(COMPARE_EVERY)
                && (round / COMPARE_EVERY) as usize % self.nodes.len() == node
            {
                self.compare(node);
            }
            self.judge_held(node);
        }
    }

    /// The devices of hostile members; their engines are opened when they run, and their ids do not change.
    fn hostile_devices(&self) -> BTreeSet<DeviceId> {
        let ids = self.nodes.iter().filter(|node| node.foe.is_some()).map(|node| node.device);
        ids.collect()
    }

    /// Those of them that say they have what they have not.
    fn boastful_devices(&self) -> Vec<DeviceId> {
        let boasts = |foe: &Foe| [Vice::Withhold, Vice::Lie].iter().any(|vice| foe.does(*vice));
        let nodes = self.nodes.iter().filter(|node| node.foe.as_ref().is_some_and(boasts));
        nodes.map(|node| node.device).collect()
    }

    pub(super) fn compare(&mut self, node: usize) {
        let compared = self.book.compare(node, self.nodes[node].engine());
        self.check(node, compared);
    }

    fn whose(&self, device: &DeviceId) -> String {
        let of = |node: &Node| node.engine.as_ref().map(|engine| engine.snapshot().me.device);
        match self.nodes.iter().position(|node| of(node).as_ref() == Some(device)) {
            Some(node) if self.book.removed == Some(node) => format!("{node}, who was taken out"),
            Some(node) => node.to_string(),
            None => "somebody who does not run".to_owned(),
        }
    }

    /// Everything must be well now.
    fn end(&mut self) {
        if let Err((node, what)) = self.book.complete() {
            return self.fail(node, what);
        }
        let mut rosters = Vec::new();
        let mut holdings = Vec::new();
        let removed = self.book.removed;
        let hostile = self.hostile_devices();
        let strangers: Vec<MemberId> =
            self.book.hostile.iter().filter_map(|node| self.nodes[*node].member).collect();
        let boastful = self.boastful_devices();
        let counts = |node: &usize| removed != Some(*node) && !self.book.hostile.contains(node);
        for node in (0..self.nodes.len()).filter(counts).collect::<Vec<_>>() {
            if !self.nodes[node].runs() || self.nodes[node].member.is_none() {
                return self.fail(node, "is not a running member at the end".to_owned());
            }
            self.compare(node);
            let engine = self.nodes[node].engine();
            let owed = engine.owed_to(&strangers);
            rosters.push((node, engine.roster_hash()));
            // Of hostile authors each may hold what it was given.
            let mut inventory = (self.inventory)(engine);
            inventory.retain(|(device, _), _| !hostile.contains(device));
            // What is for one that says it has everything is given to nobody else for a while, since it was so told; whoever
            // is further away has it as late as anything else.
            for (life, lately) in engine.sealed_lately(&boastful, STRAIGHT_MS + HOSTILE_HEAL_MS) {
                inventory.entry(life).or_default().1.union(&lately);
            }
            holdings.push((node, inventory));
            let alerts = self.book.alerts_complete(node, engine);
            self.check(node, alerts);
            if !owed.is_empty() {
                let owed = owed.iter().map(|(to, owed)| format!("{owed} to {}", self.whose(to)));
                let owed = owed.collect::<Vec<_>>().join(", ");
                return self.fail(node, format!("still owes messages: {owed}"));
            }
        }
        if let Some((node, _)) = rosters.iter().find(|(_, roster)| *roster != rosters[0].1) {
            return self.fail(*node, "has another roster than the first".to_owned());
        }
        if self.settings.custody
            && let Some((node, what)) = probe::difference(
                &holdings,
                |device| self.whose(device),
                |node, life| self.is_former(node, life),
            )
        {
            self.fail(node, what);
        }
    }
}

/// Whether a frame, once taken, may change what screening knows.
fn changes_keys(frame: &Screened) -> bool {
    matches!(
        frame,
        Screened::Other(Kind::Log(_) | Kind::Epoch(_) | Kind::RelayCert(_) | Kind::Hello(_))
    )
}

/// Kinds of frames and how many of each.
fn label(frames: &[Arrived]) -> String {
    let mut counts: BTreeMap<&'static str, usize> = BTreeMap::new();
    for arrived in frames {
        let name = match &arrived.frame {
            Screened::Envelope(_) => "envelope",
            Screened::Refused(_) => "refused",
            Screened::Other(kind) => name_of(kind),
        };
        *counts.entry(name).or_default() += 1;
    }
    let parts: Vec<String> = counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
    parts.join(", ")
}

fn summary(outcome: &Outcome, said: &str) -> String {
    let taken = outcome.replies.iter().filter(|reply| reply.result.is_ok()).count();
    let (mut sent, mut published, mut closed) = (0, 0, 0);
    for effect in &outcome.effects {
        match effect {
            Effect::Send { .. } => sent += 1,
            Effect::Publish { .. } => published += 1,
            Effect::Close { .. } => closed += 1,
            Effect::Learned { .. } => {}
        }
    }
    let replies = outcome.replies.len();
    format!(
        "{taken}/{replies} taken, [{said}], {sent} sent, {published} published, {closed} closed"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RangeSet;
    use oob_proto::Incarnation;

    fn holding(of: &Engine, own_too: bool) -> Inventory {
        let mut all = RangeSet::new();
        all.insert_range(1, 9);
        let own = of.snapshot().me.device;
        let device = if own_too { own } else { DeviceId::from([7; 32]) };
        [((device, Incarnation(1)), (all, RangeSet::new()))].into()
    }

    fn tiny(inventory: fn(&Engine) -> Inventory) -> Option<Violation> {
        let settings = Settings { nodes: 3, minutes: 2, messages: 20, ..Settings::default() };
        let mut world = World::new(settings.within_bounds(), 1, false);
        world.inventory = inventory;
        world.run()
    }

    #[test]
    fn devices_that_hold_different_sets_at_the_end_are_found() {
        assert_eq!(tiny(|engine| holding(engine, false)), None);
        assert_eq!(tiny(Engine::inventory), None);
        let violation = tiny(|engine| holding(engine, true)).unwrap();
        assert!(violation.what.starts_with("lacks records 1 to 9"), "{violation:?}");
    }
}
