//! What happens to devices and lines: dialling, cuts, partitions, falls, and the healing at the end.

use super::{
    lines::Side,
    node::passphrase,
    story::{Act, Fall, Map},
    world::{Happening, World},
};
use crate::{
    Engine,
    effect::Answer,
    input::{Command, Input, LinkId},
};
use oob_store::Store;
use std::sync::Arc;

/// How long a side needs to notice that a line is dead: three seconds, and what its timers are off.
const DEAD_MS: std::ops::RangeInclusive<u64> = 3_000..=3_600;

/// How long the other side of a closed line needs to notice.
const CLOSED_MS: std::ops::RangeInclusive<u64> = 1..=250;

/// How long until somebody is dialled again.
const REDIAL_MS: std::ops::RangeInclusive<u64> = 200..=2_000;

/// How long until somebody is dialled again whom one side does not let in.
const STRANGER_MS: u64 = 5_000;

/// Of a thousand dials, how many happen on both sides at once: two lines, of which one is ended soon.
const TWICE: u64 = 100;

/// Of a thousand runs, how many end as a chain, where each sees two others at most.
const CHAINS: u64 = 250;

impl World {
    /// Dials a pair some time soon, if no dial is under way.
    pub(super) fn redial(&mut self, a: usize, b: usize) {
        let (a, b) = (a.min(b), a.max(b));
        if a != b && self.lines.dialling.insert((a, b)) {
            let ms = self.dice.between(REDIAL_MS);
            self.after(ms, Happening::Dial { a, b });
        }
    }

    pub(super) fn redial_all(&mut self, node: usize) {
        for other in 0..self.nodes.len() {
            self.redial(node, other);
        }
    }

    pub(super) fn dial(&mut self, a: usize, b: usize) {
        self.lines.dialling.remove(&(a, b));
        let able = |node: usize| self.nodes[node].runs() && self.nodes[node].member.is_some();
        if !able(a) || !able(b) || !self.lines.see(a, b) || self.lines.joined(a, b) {
            return;
        }
        self.show(a, b);
        self.show(b, a);
        if !self.nodes[a].runs() || !self.nodes[b].runs() {
            return;
        }
        let strangers = |a: usize, b: usize| !self.nodes[a].knows(&self.nodes[b].key);
        let shuns = |a: usize, b: usize| {
            let (node, other) = (&self.nodes[a], self.nodes[b].device);
            node.engine().shuns(node.clock(self.now_ms).mono_ms).contains(&other)
        };
        if strangers(a, b) || strangers(b, a) || shuns(a, b) || shuns(b, a) {
            // One was taken out, or is shut out, or comes from too far to show how it was admitted.
            self.lines.dialling.insert((a, b));
            self.after(STRANGER_MS, Happening::Dial { a, b });
            return;
        }
        let old: Vec<LinkId> = self.lines.between(a, b).map(|(id, _)| id).collect();
        self.open(a, b);
        if self.dice.chance(TWICE) {
            self.open(a, b);
            let first = self.lines.between(a, b).map(|(id, _)| id).find(|id| !old.contains(id));
            let ms = self.dice.between(CLOSED_MS);
            if let Some(line) = first {
                self.end_line(line, ms);
            }
        }
        // Of two lines the newer counts; the older is ended.
        for line in old {
            let ms = self.dice.between(CLOSED_MS);
            self.end_line(line, ms);
        }
    }

    /// Who was admitted elsewhere shows its admission to a member that has not heard of it.
    fn show(&mut self, newcomer: usize, to: usize) {
        let key = self.nodes[newcomer].key;
        if self.nodes[to].knows(&key) {
            return;
        }
        let shown = self.commands(newcomer, "show", vec![Command::JoinShow]).pop();
        if let Some(Ok(Answer::Show(show))) = shown {
            self.commands(to, "learn", vec![Command::Learn { ops: show.ops }]);
        }
    }

    fn open(&mut self, a: usize, b: usize) {
        let latency_ms = self.dice.between(1..=200);
        let up_ms = [self.now_ms + self.dice.between(0..=20), self.now_ms + latency_ms];
        let line = self.lines.open([a, b], latency_ms, up_ms);
        self.counts.lines += 1;
        for side in [0, 1] {
            self.at(up_ms[side], Happening::Up { line, side });
        }
    }

    pub(super) fn up(&mut self, id: LinkId, side: usize) {
        let Some(line) = self.lines.all.get_mut(&id) else { return };
        if line.sides[side] != Side::Coming {
            return;
        }
        line.sides[side] = Side::Up;
        let (node, other) = (line.ends[side], line.ends[1 - side]);
        let peer = self.nodes[other].key;
        self.input(node, "up", other.to_string(), Input::LinkUp { link: id, peer });
    }

    /// One side is told that a line is down.
    pub(super) fn down(&mut self, id: LinkId, side: usize) {
        let Some(line) = self.lines.all.get_mut(&id) else { return };
        let before = std::mem::replace(&mut line.sides[side], Side::Gone);
        let (ends, over) = (line.ends, line.sides == [Side::Gone; 2]);
        if over {
            self.lines.all.remove(&id);
            self.redial(ends[0], ends[1]);
        }
        self.nodes[ends[side]].held.remove(&id);
        if before == Side::Up {
            let label = ends[1 - side].to_string();
            self.input(ends[side], "down", label, Input::LinkDown { link: id });
        }
    }

    /// Lets both sides notice that a line is over: by a word of the other side, or by its silence.
    fn end_line(&mut self, line: LinkId, ms: u64) {
        let first = self.dice.below(2);
        let more = self.dice.between(CLOSED_MS);
        self.after(ms, Happening::Down { line, side: first });
        self.after(ms + more, Happening::Down { line, side: 1 - first });
    }

    /// Lets both sides of a line that carries nothing any more notice, each in its time. A line cut by a reset is
    /// noticed sooner than one cut by silence.
    pub(super) fn notice(&mut self, line: LinkId, reset: usize) {
        for side in [0, 1] {
            let ms = match reset > 0 && self.dice.chance(500) {
                true => self.dice.between(CLOSED_MS),
                false => self.dice.between(DEAD_MS),
            };
            self.after(ms, Happening::Down { line, side });
        }
    }

    /// A device ends a line.
    pub(super) fn close(&mut self, id: LinkId, node: usize) {
        let Some(line) = self.lines.all.get(&id) else { return };
        let Some(side) = line.ends.iter().position(|end| *end == node) else { return };
        let ms = self.dice.between(CLOSED_MS);
        self.after(0, Happening::Down { line: id, side });
        self.after(ms, Happening::Down { line: id, side: 1 - side });
    }

    /// Changes who sees whom; lines of those who do not see each other any more carry nothing from now on.
    pub(super) fn map(&mut self, map: Map) {
        self.counts.partitions += u64::from(map != Map::Mesh && !self.healed);
        self.lines.map = map;
        let lost: Vec<LinkId> = self
            .lines
            .all
            .iter()
            .filter(|(_, line)| line.carries && !self.lines.see(line.ends[0], line.ends[1]))
            .map(|(id, _)| *id)
            .collect();
        for id in lost {
            if let Some(line) = self.lines.all.get_mut(&id) {
                line.carries = false;
            }
            self.notice(id, 0);
        }
        for node in 0..self.nodes.len() {
            self.redial_all(node);
        }
    }

    pub(super) fn reset(&mut self) {
        let ids: Vec<LinkId> = self.lines.all.keys().copied().collect();
        if let Some(id) = self.dice.pick(&ids) {
            self.end_line(id, 0);
        }
    }

    /// Lets a device go down at the next thing it makes durable: what it writes just now.
    pub(super) fn doom(&mut self, node: usize, how: Fall, back_ms: u64) {
        if !self.nodes[node].runs() || self.nodes[node].doom.is_some() {
            return;
        }
        self.nodes[node].doom = Some((how, back_ms));
        if let Fall::Power { steps } = how {
            self.nodes[node].disk.cut_after(steps);
        }
        if self.nodes[node].member.is_some() {
            let to = (node + 1 + self.dice.below(self.nodes.len() - 1)) % self.nodes.len();
            let count = 1 + self.dice.below(4);
            self.write(node, to, count, false);
        }
    }

    /// A device goes down, now.
    pub(super) fn fall(&mut self, node: usize, how: Fall, back_ms: u64) {
        self.counts.crashes += 1;
        let it = &mut self.nodes[node];
        it.doom = None;
        if how == Fall::Kill {
            // What was written stays with the operating system; what the process would still have done does not.
            it.disk = it.disk.image();
            it.engine = None;
        } else {
            it.disk.cut_after(0);
            it.engine = None;
            it.disk.power_cut(self.dice.rng());
        }
        self.gone(node, how, back_ms);
    }

    pub(super) fn leave(&mut self, node: usize, back_ms: u64) {
        if self.nodes[node].doom.is_some() {
            return;
        }
        let Some(engine) = self.nodes[node].engine.take() else { return };
        self.counts.leaves += 1;
        if let Err(error) = engine.close() {
            self.fail(node, format!("does not close: {error}"));
        }
        self.note(node, "leave", String::new(), String::new());
        self.gone(node, Fall::Kill, back_ms);
    }

    /// What follows a fall on the other side of each line, and when the device comes back.
    pub(super) fn gone(&mut self, node: usize, how: Fall, back_ms: u64) {
        self.nodes[node].held.clear();
        for (line, side) in self.lines.of(node) {
            if let Some(line) = self.lines.all.get_mut(&line) {
                line.sides[side] = Side::Gone;
                line.carries &= how == Fall::Kill;
            }
            let ms = match how {
                Fall::Kill => self.dice.between(CLOSED_MS),
                Fall::Power { .. } => self.dice.between(DEAD_MS),
            };
            self.after(ms, Happening::Down { line, side: 1 - side });
        }
        if !self.healed {
            self.after(back_ms, Happening::Start { node });
        } else {
            self.after(0, Happening::Start { node });
        }
    }

    /// Starts a device from its disk: it tells its person what it had not told before.
    pub(super) fn start(&mut self, node: usize) {
        if self.nodes[node].runs() {
            return;
        }
        let (rng, again) = (self.dice.fork(), self.dice.fork());
        let now_ms = self.now_ms;
        let it = &mut self.nodes[node];
        it.boot_ms = now_ms;
        it.process += 1;
        (it.wake_ms, it.idles, it.waits) = (None, false, false);
        let opened = Store::with_backend(it.disk.parts(), &passphrase(), rng);
        let opened = opened.map_err(|error| error.to_string()).and_then(|opened| {
            let now = it.clock(now_ms);
            Engine::open(opened.store, Box::new(again), now).map_err(|error| error.to_string())
        });
        let mut engine = match opened {
            Ok(engine) => engine,
            Err(error) => return self.fail(node, format!("does not open again: {error}")),
        };
        engine.set_faults(self.settings.faults);
        let snapshot = engine.snapshot();
        let it = &mut self.nodes[node];
        it.keys = Arc::clone(&snapshot.screening);
        it.engine = Some(engine);
        if let (None, Some(member)) = (it.member, snapshot.me.member) {
            self.is_member(node, member);
        }
        self.look_for_removal();
        self.look_at_life(node);
        let caught_up = self.catch_up(node);
        self.check(node, caught_up);
        self.note(node, "start", String::new(), self.nodes[node].told.to_string());
        self.compare(node);
        self.schedule(node);
        self.redial_all(node);
    }

    fn catch_up(&mut self, node: usize) -> Result<(), String> {
        let history = self.nodes[node].engine().history();
        loop {
            let told = self.nodes[node].told;
            let (events, missed) = history.events(told, 256).map_err(|error| error.to_string())?;
            // Those of a life that ended and that nobody was told of never were.
            if missed > 0 && !self.nodes[node].leaps {
                return Err(format!("{missed} events are gone"));
            }
            if events.is_empty() {
                return Ok(());
            }
            for numbered in &events {
                if !self.nodes[node].takes(numbered.number) {
                    return Err(format!("event {} leaps", numbered.number));
                }
                self.book.told(node, numbered)?;
            }
        }
    }

    /// Ends all bad weather: everybody is back, and there is a way from everybody to everybody.
    pub(super) fn heal(&mut self) {
        self.healed = true;
        let removed = self.book.removed;
        let mut order: Vec<usize> = (0..self.nodes.len()).collect();
        // Of the honest there is a way from each to each over the others; the hostile are beside all of it.
        order.retain(|node| Some(*node) != removed && !self.book.hostile.contains(node));
        self.lines.healed = true;
        self.dice.shuffle(&mut order);
        let chain = self.settings.custody && self.dice.chance(CHAINS);
        self.map(if chain { Map::Chain(order) } else { Map::Mesh });
        for node in 0..self.nodes.len() {
            self.nodes[node].disk.set_free(None);
            if let Some((how, back_ms)) = self.nodes[node].doom {
                self.fall(node, how, back_ms);
            }
            self.start(node);
            if self.nodes[node].member.is_none() {
                self.after(0, Happening::Act(Act::Join { node }));
            }
        }
    }
}
