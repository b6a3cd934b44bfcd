//! What a neighbour is not offered for a while: what it was offered in vain, and, behind a new stream, what it had at the end
//! of the last one and its words have no room for.

use super::have::{Key, Told};
use crate::model::RangeSet;
use oob_proto::Incarnation;
use std::collections::{BTreeMap, BTreeSet};

/// What was offered twice in vain of one author rests so long, and each time twice as long: where there is no room for it,
/// it would be sent again and again. A word of the neighbour that something of that author arrived, or is not needed there
/// any more, ends the rest.
const REST_MS: u64 = 12_000;

/// The longest rest.
const MOST_REST_MS: u64 = 600_000;

/// Ranges noted of what was offered in vain of one life: as many as are noted of what came of it.
const VAIN: usize = 4_096;

/// Ranges kept of one device that went away, 256 KiB.
pub(super) const LEFT_RANGES: usize = 16_384;

/// What a device had, or was offered in vain, when its stream ended: of lives only of which its words have no room for all.
pub(super) struct Left {
    /// How many streams had ended then.
    pub(super) ended: u64,
    /// The device's own life: in another one it may have lost all of it.
    pub(super) life: Incarnation,
    pub(super) theirs: BTreeMap<Key, RangeSet>,
    resting: Resting,
}

/// What of each life is not offered for a while.
#[derive(Debug, Default)]
pub(super) struct Resting(BTreeMap<Key, Rest>);

#[derive(Debug, Default)]
struct Rest {
    set: RangeSet,
    /// All of it that was ever offered in vain; the highest ranges.
    vain: RangeSet,
    until_ms: u64,
    for_ms: u64,
}

impl Left {
    /// The same at the end of another stream, on which nothing was said.
    pub(super) fn again(self, ended: u64) -> Self {
        Self { ended, ..self }
    }

    /// Keeps, of what was known at the end of a stream, the lives that are named, as far as there is room.
    pub(super) fn keep(
        ended: u64,
        life: Incarnation,
        lives: &BTreeSet<Key>,
        mut theirs: BTreeMap<Key, RangeSet>,
        mut resting: Resting,
    ) -> Option<Self> {
        theirs.retain(|key, _| lives.contains(key));
        resting.0.retain(|key, _| lives.contains(key));
        let mut room = LEFT_RANGES;
        let mut fits = |ranges: usize| {
            let fits = ranges <= room;
            room = if fits { room.saturating_sub(ranges) } else { room };
            fits
        };
        theirs.retain(|_, there| fits(there.len()));
        resting.0.retain(|_, rest| fits(rest.set.len().saturating_add(rest.vain.len())));
        let empty = theirs.is_empty() && resting.0.is_empty();
        (!empty).then_some(Self { ended, life, theirs, resting })
    }
}

impl Resting {
    /// What of a life rests.
    pub(super) fn of(&self, key: &Key) -> Option<&RangeSet> {
        self.0.get(key).map(|rest| &rest.set)
    }

    /// Ends the rests of lives of which a word has news, but for what it has no room for; `theirs` is what was known before.
    pub(super) fn hear(&mut self, told: &[Told], theirs: &BTreeMap<Key, RangeSet>) {
        let words: BTreeMap<Key, &Told> = told.iter().map(|told| (told.key, told)).collect();
        self.0.retain(|key, rest| {
            let Some(told) = words.get(key) else { return true };
            let news = match theirs.get(key) {
                Some(before) => !before.covers(&told.known),
                None => !told.known.is_empty(),
            };
            if news {
                let untold = told.untold();
                (rest.set, rest.vain) = (rest.set.common(&untold), rest.vain.common(&untold));
            }
            !news || !rest.vain.is_empty()
        });
    }

    /// Lets rest, of what a word on a new stream has no room for, what the device had at the end of the last one, or was
    /// offered in vain. It may have let go of it since, so it is offered again all the same; returns when.
    pub(super) fn go_on(&mut self, before: &Left, told: &Told, now_ms: u64) -> Option<u64> {
        let untold = told.untold();
        let there = before.theirs.get(&told.key).map(|there| there.common(&untold));
        let there = there.filter(|there| !there.is_empty());
        let was = before.resting.0.get(&told.key);
        let vain = was.map(|was| was.vain.common(&untold)).filter(|vain| !vain.is_empty());
        if there.is_none() && vain.is_none() {
            return None;
        }
        let rest = self.0.entry(told.key).or_default();
        if let (Some(was), Some(vain)) = (was, vain) {
            rest.set.union(&was.set.common(&untold));
            rest.vain.union(&vain);
            (rest.until_ms, rest.for_ms) = (was.until_ms, was.for_ms);
        }
        if let Some(there) = there {
            rest.set.union(&there);
            rest.vain.union(&there);
            rest.for_ms = MOST_REST_MS;
            rest.until_ms = now_ms.saturating_add(MOST_REST_MS);
        }
        rest.vain.keep_highest(VAIN);
        Some(rest.until_ms)
    }

    /// Lets what was offered in vain rest, if its life was offered in vain before.
    pub(super) fn in_vain(&mut self, key: Key, set: &RangeSet, now_ms: u64) {
        let rest = self.0.entry(key).or_default();
        rest.vain.union(set);
        rest.vain.keep_highest(VAIN);
        // Once may be chance: it goes out again at once, and rests if it was in vain again.
        if rest.for_ms > 0 {
            rest.set.union(set);
            rest.until_ms = now_ms.saturating_add(rest.for_ms);
        }
        rest.for_ms = rest.for_ms.saturating_mul(2).clamp(REST_MS, MOST_REST_MS);
    }

    /// Ends the rests that are over; what rested is offered again.
    pub(super) fn wake(&mut self, now_ms: u64) {
        for rest in self.0.values_mut().filter(|rest| rest.until_ms <= now_ms) {
            rest.set = RangeSet::new();
        }
    }

    /// When the next rest is over.
    pub(super) fn wakes_ms(&self) -> Option<u64> {
        let resting = self.0.values().filter(|rest| !rest.set.is_empty());
        resting.map(|rest| rest.until_ms).min()
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{have::Span, link::Link},
        *,
    };
    use crate::{model::LinkId, record::RecordRef};
    use oob_proto::DeviceId;

    const LIFE: Incarnation = Incarnation(5);

    fn offered(link: &mut Link, key: Key, have: &RangeSet, now_ms: u64) -> usize {
        if !link.take_repair(now_ms) {
            return 0;
        }
        link.compare(&key, have.clone(), Vec::new);
        let mut offered = 0;
        while let Some(of) = link.next() {
            link.offer(&of, now_ms);
            offered += 1;
        }
        offered
    }

    /// Two carriers that were both full of one author's records offered each other the rest every six seconds, for ever.
    #[test]
    fn what_there_is_no_room_for_is_offered_less_and_less_until_there_is() {
        let mut link = Link::new(LinkId(1), DeviceId::from([1; 32]));
        let key = (DeviceId::from([2; 32]), Incarnation(3));
        let mut have = RangeSet::new();
        have.insert_range(1, 100);
        link.take_have(LIFE, Span::default(), &[], 0);
        link.repair_at(0);
        let within = |link: &mut Link, from: u64, ms: u64| -> usize {
            let times = (from..from + ms).step_by(1_000);
            times.map(|now| offered(link, key, &have, now)).sum::<usize>() / 100
        };
        let (first, second) =
            (within(&mut link, 0, 3_600_000), within(&mut link, 3_600_000, 3_600_000));
        assert!((4..=16).contains(&first), "{first} times in an hour, not 300");
        assert!((4..=8).contains(&second), "{second} times in the next");
        // Something of that author is not needed there any more: there may be room.
        let mut known = RangeSet::new();
        known.insert(1);
        let told = [Told { key, have: RangeSet::new(), known, cut: false }];
        link.take_have(LIFE, Span::default(), &told, 7_200_000);
        link.repair_at(7_200_000);
        assert!(within(&mut link, 7_200_000, 20_000) > 0);
    }

    /// A word tells so many ranges of each life, the highest: whoever wrote every other number had all neighbours of all
    /// devices offer each other everything below, every six seconds, for as long as it went on.
    #[test]
    fn what_a_word_has_no_room_for_is_not_offered_ever_again() {
        let mut link = Link::new(LinkId(1), DeviceId::from([1; 32]));
        let key = (DeviceId::from([2; 32]), Incarnation(3));
        let of = |seq| RecordRef { device: key.0, incarnation: key.1, seq };
        let (mut have, mut known) = (RangeSet::new(), RangeSet::new());
        link.take_have(LIFE, Span::default(), &[], 0);
        link.repair_at(0);
        let mut offers = BTreeMap::new();
        let mut seq = 1;
        for now_ms in (0..3_600_000).step_by(1_000) {
            if now_ms % 5_000 == 0 {
                // Of what is new the neighbour gives a part, and has the rest from elsewhere.
                for _ in 0..2 {
                    seq += 2;
                    have.insert(seq);
                    known.insert(seq);
                    if seq % 4 == 1 {
                        link.gave(&of(seq));
                    }
                }
                let known = RangeSet::from_wire(&known.to_wire(40), 40);
                link.take_have(
                    LIFE,
                    Span::default(),
                    &[Told { key, have: known.clone(), known, cut: false }],
                    0,
                );
            }
            if link.take_repair(now_ms) {
                link.compare(&key, have.clone(), Vec::new);
            }
            while let Some(of) = link.next() {
                link.offer(&of, now_ms);
                *offers.entry(of.seq).or_insert(0) += 1;
            }
        }
        let most = offers.values().copied().max().unwrap_or(0);
        assert!(most <= 3, "{most} times in an hour, of {} records", have.len());
        // The control: what lies above the lowest that is told, and is not told, is not there, and is offered.
        let lacking = seq - 4;
        known.remove(lacking);
        let known = RangeSet::from_wire(&known.to_wire(40), 40);
        link.take_have(
            LIFE,
            Span::default(),
            &[Told { key, have: known.clone(), known, cut: false }],
            0,
        );
        link.compare(&key, have.clone(), Vec::new);
        let offered: Vec<u64> = std::iter::from_fn(|| link.next()).map(|of| of.seq).collect();
        assert!(offered.contains(&lacking), "{offered:?}");
    }
}
