//! What people and the weather do in a run, drawn from the seed before anything happens: so the same seed tells the same
//! story, whatever the engines make of it.

use super::{
    dice::Dice,
    foe::{self, Foe, Vice},
};
use crate::Faults;
use std::collections::BTreeMap;

/// The smallest organisation that can be split in two with somebody left to talk to on a side.
const LEAST_NODES: usize = 3;

/// As many devices as hold everything of each other (docs/protocol.md, section 10).
const MOST_NODES: usize = 64;

/// A day of virtual time is enough for anybody.
const MOST_MINUTES: u64 = 1_440;

/// What one process holds in memory and checks in minutes.
const MOST_MESSAGES: usize = 100_000;

const MINUTE_MS: u64 = 60_000;
const DAY_MS: i64 = 86_400_000;
const YEAR_MS: i64 = 365 * DAY_MS;

/// The size of a run and what is switched off in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Devices, one per person.
    pub nodes: usize,
    /// Virtual minutes before everything is healed.
    pub minutes: u64,
    /// Messages that are tried at least.
    pub messages: usize,
    /// Others carry what its author cannot deliver: then devices that never see each other talk, and all hold the same.
    pub custody: bool,
    /// Hostile devices, never the admin's; none: up to two in every other seed. Unless asked for there are none.
    pub hostile: Option<usize>,
    /// The one thing that hostile devices do; none: two to four things each.
    pub vice: Option<Vice>,
    /// Times that a device is put back to a copy it made minutes before, never the admin's; none: up to two in two of three
    /// seeds. Unless asked for there are none.
    pub restores: Option<usize>,
    /// What is switched off in every engine.
    pub faults: Faults,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            nodes: 10,
            minutes: 10,
            messages: 1_400,
            custody: true,
            hostile: Some(0),
            vice: None,
            restores: Some(0),
            faults: Faults::default(),
        }
    }
}

impl Settings {
    /// Returns the settings with every number within what a run can be.
    pub fn within_bounds(self) -> Self {
        Self {
            nodes: self.nodes.clamp(LEAST_NODES, MOST_NODES),
            minutes: self.minutes.clamp(2, MOST_MINUTES),
            messages: self.messages.clamp(1, MOST_MESSAGES),
            ..self
        }
    }

    pub(super) fn end_ms(&self) -> u64 {
        self.minutes * MINUTE_MS
    }
}

/// How a device goes down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fall {
    /// The power fails after so many more writes and syncs of the disk; what was not synced is lost or torn.
    Power { steps: u64 },
    /// The process is killed between a commit and its effects.
    Kill,
}

/// Who sees whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Map {
    /// Everybody sees everybody.
    Mesh,
    /// By node, its island.
    Islands(Vec<u8>),
    /// Each sees only the one before and the one behind in this order.
    Chain(Vec<usize>),
}

/// One thing that happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Act {
    /// Somebody joins through any member in sight, or tries again later.
    Join { node: usize },
    /// Somebody writes, several times at once if `count` says so. Who is not there lets another write.
    Say { from: usize, to: usize, count: usize, long: bool },
    /// Somebody reads one of the conversations.
    Read { node: usize },
    /// The first, who is the admin, alerts everybody.
    Alert,
    /// Somebody answers one of the alerts.
    Answer { node: usize, safe: bool },
    /// The admin takes a device out, once everybody is in.
    Revoke { node: usize },
    /// Who sees whom changes.
    Map(Map),
    /// A line ends and is dialled again; the two sides learn of it at different times.
    Reset,
    /// A device goes down, and comes back.
    Fall { node: usize, how: Fall, back_ms: u64 },
    /// A device is closed in peace, and comes back.
    Leave { node: usize, back_ms: u64 },
    /// A clock is set.
    Clock { node: usize, ahead_ms: i64 },
    /// A disk is full for a while.
    Full { node: usize, for_ms: u64 },
}

/// A whole run.
pub(super) struct Story {
    /// In any order.
    pub(super) acts: Vec<(u64, Act)>,
    /// By node, how far its clock is ahead at first.
    pub(super) ahead_ms: Vec<i64>,
    /// Of a thousand batches with an envelope, how many are lost with their line.
    pub(super) loss: u64,
    /// The hostile devices.
    pub(super) foes: BTreeMap<usize, Foe>,
    /// Which device is put back, when its copy is made, and when it is put back.
    pub(super) restores: Vec<(usize, u64, u64)>,
}

impl Story {
    pub(super) fn new(settings: &Settings, seed: u64) -> Self {
        let mut dice = Dice::new(seed, 1);
        let foes = foe::draw(settings.nodes, settings.hostile, settings.vice, seed);
        let loss = dice.between(5..=20);
        let restores = restores(settings, &foes, seed);
        let mut story = Self { acts: Vec::new(), ahead_ms: Vec::new(), loss, foes, restores };
        for _ in 0..settings.nodes {
            story.ahead_ms.push(skew(&mut dice));
        }
        for (node, foe) in &story.foes {
            let ahead_ms = foe.ahead_ms();
            if let (Some(ahead_ms), Some(of)) = (ahead_ms, story.ahead_ms.get_mut(*node)) {
                *of = ahead_ms;
            }
        }
        story.people(settings, &mut dice);
        story.weather(settings, &mut dice);
        story.falls(settings, &mut dice);
        story
    }

    fn people(&mut self, settings: &Settings, dice: &mut Dice) {
        let (nodes, end) = (settings.nodes, settings.end_ms());
        for node in 1..nodes {
            self.acts.push((dice.between(0..=end / 8), Act::Join { node }));
        }
        let mut planned = 0;
        while planned < settings.messages {
            let from = dice.below(nodes);
            let to = (from + 1 + dice.below(nodes - 1)) % nodes;
            let count = if dice.chance(30) { dice.between(2..=40) as usize } else { 1 };
            planned += count;
            let at = dice.between(end / 50..=end - 1);
            self.acts.push((at, Act::Say { from, to, count, long: dice.chance(50) }));
        }
        for _ in 0..settings.messages / 10 {
            self.acts.push((dice.between(end / 10..=end), Act::Read { node: dice.below(nodes) }));
        }
        for _ in 0..2 * settings.minutes {
            self.acts.push((dice.between(end / 20..=end - 1), Act::Alert));
        }
        for _ in 0..2 * settings.minutes * nodes as u64 {
            let act = Act::Answer { node: 1 + dice.below(nodes - 1), safe: dice.chance(500) };
            self.acts.push((dice.between(end / 15..=end), act));
        }
        if dice.chance(350) {
            let act = Act::Revoke { node: 1 + dice.below(nodes - 1) };
            self.acts.push((dice.between(end / 2..=end - end / 6), act));
        }
    }

    fn weather(&mut self, settings: &Settings, dice: &mut Dice) {
        let (nodes, end) = (settings.nodes, settings.end_ms());
        let mut at = dice.between(end / 12..=end / 6);
        let mut first = true;
        while at < end - end / 12 {
            let map = if first || dice.chance(750) {
                let islands = dice.between(2..=3) as u8;
                let mut of: Vec<u8> = (0..nodes).map(|node| node as u8 % islands).collect();
                dice.shuffle(&mut of);
                Map::Islands(of)
            } else {
                let mut order: Vec<usize> = (0..nodes).collect();
                dice.shuffle(&mut order);
                Map::Chain(order)
            };
            first = false;
            self.acts.push((at, Act::Map(map)));
            // Some last less than it takes to notice a dead line.
            at += if dice.chance(250) {
                dice.between(200..=4_000)
            } else {
                dice.between(end / 40..=end / 8)
            };
            self.acts.push((at, Act::Map(Map::Mesh)));
            at += dice.between(end / 60..=end / 8);
        }
        for _ in 0..end / 10_000 {
            self.acts.push((dice.between(end / 20..=end), Act::Reset));
        }
        for _ in 0..3 {
            let act = Act::Clock { node: dice.below(nodes), ahead_ms: skew(dice) };
            self.acts.push((dice.between(end / 4..=end), act));
        }
    }

    fn falls(&mut self, settings: &Settings, dice: &mut Dice) {
        let (nodes, end) = (settings.nodes, settings.end_ms());
        for _ in 0..2 + settings.minutes / 2 {
            let how = match dice.chance(700) {
                true => Fall::Power { steps: dice.between(0..=12) },
                false => Fall::Kill,
            };
            let back_ms = dice.between(500..=end / 12);
            let act = Act::Fall { node: dice.below(nodes), how, back_ms };
            self.acts.push((dice.between(end / 20..=end - 1), act));
        }
        for _ in 0..1 + settings.minutes / 3 {
            let act =
                Act::Leave { node: dice.below(nodes), back_ms: dice.between(1_000..=end / 6) };
            self.acts.push((dice.between(end / 10..=end - 1), act));
        }
        if dice.chance(500) {
            let act = Act::Full { node: dice.below(nodes), for_ms: dice.between(50..=1_000) };
            self.acts.push((dice.between(end / 10..=end - 1), act));
        }
    }
}

/// Draws who is put back, from a stream of its own: each device once, neither the admin's nor a hostile one.
fn restores(settings: &Settings, foes: &BTreeMap<usize, Foe>, seed: u64) -> Vec<(usize, u64, u64)> {
    let mut dice = Dice::new(seed, 5);
    let drawn = dice.below(3);
    let mut nodes: Vec<usize> =
        (1..settings.nodes).filter(|node| !foes.contains_key(node)).collect();
    dice.shuffle(&mut nodes);
    nodes.truncate(settings.restores.unwrap_or(drawn));
    let end = settings.end_ms();
    let mut times = |node| {
        let copied = dice.between(end / 6..=end / 2);
        (node, copied, copied + dice.between(end / 30..=end / 3))
    };
    nodes.into_iter().map(&mut times).collect()
}

/// How far a clock is off: seconds mostly, a year now and then.
fn skew(dice: &mut Dice) -> i64 {
    let sign = if dice.chance(500) { 1 } else { -1 };
    let off = match dice.below(4) {
        0 => YEAR_MS,
        1 => DAY_MS,
        _ => 5_000,
    };
    let share = dice.between(0..=1_000) as i64;
    sign * off / 1_000 * share
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_story_has_what_a_seed_must_show() {
        let settings = Settings::default();
        for seed in 0..50 {
            let story = Story::new(&settings, seed);
            let count =
                |what: fn(&Act) -> bool| story.acts.iter().filter(|(_, act)| what(act)).count();
            assert!(count(|act| matches!(act, Act::Map(Map::Islands(_)))) >= 1);
            assert!(count(|act| matches!(act, Act::Fall { .. })) >= 2);
            assert_eq!(count(|act| matches!(act, Act::Join { .. })), 9);
            assert!((5..=20).contains(&story.loss));
            let said: usize = story
                .acts
                .iter()
                .map(|(_, act)| match act {
                    Act::Say { count, .. } => *count,
                    _ => 0,
                })
                .sum();
            assert!(said >= 1_000);
            assert_eq!(story.acts, Story::new(&settings, seed).acts, "a seed tells one story");
        }
    }
}
