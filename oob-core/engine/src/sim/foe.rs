//! Hostile members: which devices are, and what each of them does. Their engines are the real ones, with all their keys; what
//! they say is tampered with, and more is forged with the same keys (`mischief`).

use super::dice::Dice;
use std::collections::{BTreeMap, BTreeSet};

/// One kind of hostile behaviour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Vice {
    /// Envelopes, answers, alerts, proofs, words on who is near and what it has, all of them for nothing.
    Flood,
    /// Old frames of everybody, by stream and by gossip, those from before a restart too.
    Replay,
    /// Two records with one number, to different neighbours; two words on what it has; two keys of one generation.
    Equivocate,
    /// Says that it has everything, takes everything, passes on nothing of others.
    Withhold,
    /// Others' ciphertexts under its own origin, its own under other numbers.
    Reseal,
    /// Records in the names of others, signed with its own keys.
    Forge,
    /// Ranges, heads, proofs, ages and neighbours that are not so.
    Lie,
    /// Its clock says 1999.
    Past,
    /// Its clock says 2099.
    Future,
}

impl Vice {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Flood,
        Self::Replay,
        Self::Equivocate,
        Self::Withhold,
        Self::Reseal,
        Self::Forge,
        Self::Lie,
        Self::Past,
        Self::Future,
    ];

    /// Returns its word on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Flood => "flood",
            Self::Replay => "replay",
            Self::Equivocate => "equivocate",
            Self::Withhold => "withhold",
            Self::Reseal => "reseal",
            Self::Forge => "forge",
            Self::Lie => "lie",
            Self::Past => "past",
            Self::Future => "future",
        }
    }

    /// Reads its word.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|vice| vice.name() == name)
    }
}

/// Of a thousand seeds, how many have hostile members where nobody says how many.
const SEEDS_WITH: u64 = 500;

/// Most of them in such a seed; and never more than one device in five.
const MOST: u64 = 2;

/// Frames kept for being sent again.
const CAPTURED: usize = 2_048;

/// Milliseconds from 2026-02-02, when every world begins, back to June 1999.
const TO_1999_MS: i64 = -840_000_000_000;

/// And on to the end of 2099.
const TO_2099_MS: i64 = 2_330_000_000_000;

/// What makes a device hostile.
#[derive(Debug)]
pub(super) struct Foe {
    vices: BTreeSet<Vice>,
    /// Sends little of what no correct neighbour sends, so as not to be shut out for it.
    pub(super) careful: bool,
    /// What it ever got, or some of it.
    pub(super) captured: Vec<Vec<u8>>,
    /// The number that its next forged record bears.
    pub(super) next_seq: u64,
}

/// How often each vice was acted on.
pub type Deeds = BTreeMap<Vice, u64>;

impl Foe {
    pub(super) fn does(&self, vice: Vice) -> bool {
        self.vices.contains(&vice)
    }

    pub(super) fn vices(&self) -> Vec<Vice> {
        self.vices.iter().copied().collect()
    }

    /// How far its clock is ahead, if it lies in everything it writes.
    pub(super) fn ahead_ms(&self) -> Option<i64> {
        let past = self.does(Vice::Past).then_some(TO_1999_MS);
        past.or(self.does(Vice::Future).then_some(TO_2099_MS))
    }

    /// Keeps a frame for later.
    pub(super) fn capture(&mut self, frame: &[u8], dice: &mut Dice) {
        let uses = [Vice::Replay, Vice::Reseal, Vice::Lie];
        if !uses.into_iter().any(|vice| self.does(vice)) {
            return;
        }
        if self.captured.len() < CAPTURED {
            self.captured.push(frame.to_vec());
        } else {
            let place = dice.below(CAPTURED);
            self.captured[place] = frame.to_vec();
        }
    }

    /// The next number of a forged record.
    pub(super) fn take_seq(&mut self) -> u64 {
        let seq = self.next_seq;
        self.next_seq = seq.saturating_add(1);
        seq
    }
}

/// Draws the hostile devices of a seed; never the first, who is the only admin.
pub(super) fn draw(
    nodes: usize,
    asked: Option<usize>,
    only: Option<Vice>,
    seed: u64,
) -> BTreeMap<usize, Foe> {
    let mut dice = Dice::new(seed, 3);
    let some = if dice.chance(SEEDS_WITH) { dice.between(1..=MOST) as usize } else { 0 };
    let count = asked.unwrap_or_else(|| some.min(nodes / 5)).min(nodes.saturating_sub(3));
    let mut devices: Vec<usize> = (1..nodes).collect();
    dice.shuffle(&mut devices);
    devices.truncate(count);
    let mut foe = |_: &usize| {
        let mut all = Vice::ALL;
        dice.shuffle(&mut all);
        let how_many = dice.between(2..=4) as usize;
        let vices = match only {
            Some(vice) => BTreeSet::from([vice]),
            None => all.into_iter().take(how_many).collect(),
        };
        // Numbers just ahead of what its engine will use, so that the two meet; or ones that nothing ends.
        let next_seq = match dice.below(3) {
            0 => dice.between(50..=500),
            1 => dice.between(1 << 20..=1 << 40),
            _ => u64::MAX - dice.between(1_000..=100_000),
        };
        Foe { vices, careful: dice.chance(600), captured: Vec::new(), next_seq }
    };
    devices.iter().map(|device| (*device, foe(device))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_seeds_have_hostile_members_and_each_vice_is_drawn() {
        let drawn: Vec<_> = (0..200).map(|seed| draw(20, None, None, seed)).collect();
        let with = drawn.iter().filter(|foes| !foes.is_empty()).count();
        assert!((60..=140).contains(&with), "{with} of 200");
        assert!(drawn.iter().all(|foes| foes.len() <= 2 && !foes.contains_key(&0)));
        for vice in Vice::ALL {
            assert!(drawn.iter().flatten().any(|(_, foe)| foe.does(vice)), "{vice:?}");
            assert_eq!(Vice::parse(vice.name()), Some(vice));
        }
        assert_eq!(draw(5, Some(9), None, 1).len(), 2, "three are left");
        let one = draw(9, Some(1), Some(Vice::Lie), 4);
        assert!(one.values().all(|foe| foe.vices == BTreeSet::from([Vice::Lie])));
    }
}
