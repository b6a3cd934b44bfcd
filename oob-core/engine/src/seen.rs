//! Which records of each author are here or not needed any more: the duplicate check, and what Have tells.

use crate::{
    model::RangeSet,
    record::RecordRef,
    snapshot::SeenView,
    stored::{self, RecordError},
};
use oob_proto::{DeviceId, Incarnation, wire};
use oob_store::{Order, Store};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Ranges kept per author and life. Members carry everything for one another, so what one was away for comes back
/// whole; holes stay only where something was delivered meanwhile, and are closed by the author's own word. Beyond this
/// bound nothing more of that life is taken until it speaks. Two sets of as many ranges, each with the largest numbers,
/// fit the 1 MiB one stored record may have: an author must not be able to make a batch of anybody's too long.
const RANGES: usize = 16_384;

/// Lives kept per device. For one more, that of the newest bundle, the one goes whose bundle is the oldest; no other life has
/// a way in then, so that what goes is dead for good, with all its records.
const LIVES: usize = 16;

/// Ranges kept of what never came of a life, the highest: below them a removal lets stand what it may.
const UNSEEN: usize = 2_048;

/// Lives told of, in several words where one has no room for them: those of an organisation of 500 with several devices each. A
/// neighbour keeps notes of as many.
const LIVES_TOLD: usize = 4_096;

/// Fewest ranges told of one life, however many lives there are to tell of.
const TOLD: usize = 2;

/// What is known of one life.
#[derive(Debug, Clone, Default)]
struct Life {
    /// Here, or not needed.
    known: RangeSet,
    /// Of these, not needed.
    gone: RangeSet,
    /// Number of the newest bundle of it; 0 if none came while it was the newest of its device.
    bundle_seq: u64,
    /// Of what is gone, what never came: its author says that nobody needs it.
    unseen: RangeSet,
}

impl Life {
    fn have(&self) -> RangeSet {
        self.gone.missing_from(&self.known)
    }
}

/// What is here, by author device and life.
#[derive(Default)]
pub(crate) struct Seen {
    by_author: BTreeMap<DeviceId, BTreeMap<Incarnation, Life>>,
    dirty: BTreeSet<(DeviceId, Incarnation)>,
    /// Grows with each change.
    version: u64,
    /// The newest of it, for whoever screens; as of the last batch that was saved.
    view: Arc<SeenView>,
}

impl Seen {
    /// Loads what is known of one device.
    pub(crate) fn load(&mut self, store: &Store, device: &DeviceId) -> Result<(), RecordError> {
        for (life, bytes) in store.scan(&stored::seen(device), .., Order::Ascending, LIVES)? {
            let raw: wire::StoredRanges = stored::decode(&bytes, "seen")?;
            let Ok(life) = u32::try_from(life) else { continue };
            let known = RangeSet::from_wire(&raw.ranges, RANGES);
            let gone = RangeSet::from_wire(&raw.gone, RANGES).common(&known);
            Arc::make_mut(&mut self.view).note(*device, Incarnation(life), &known);
            let lives = self.by_author.entry(*device).or_default();
            let unseen = RangeSet::from_wire(&raw.unseen, UNSEEN).common(&known);
            let bundle_seq = raw.bundle_seq;
            lives.insert(Incarnation(life), Life { known, gone, bundle_seq, unseen });
        }
        Ok(())
    }

    /// Grows with each change.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }

    fn life(&self, device: &DeviceId, life: Incarnation) -> Option<&Life> {
        self.by_author.get(device)?.get(&life)
    }

    /// Whether a record is here or not needed any more.
    pub(crate) fn contains(&self, of: &RecordRef) -> bool {
        self.life(&of.device, of.incarnation).is_some_and(|life| life.known.contains(of.seq))
    }

    /// Whether all of some numbers are here or not needed any more.
    pub(crate) fn contains_all(
        &self,
        device: &DeviceId,
        life: Incarnation,
        first: u64,
        last: u64,
    ) -> bool {
        let mut all = RangeSet::new();
        all.insert_range(first, last);
        self.life(device, life).is_some_and(|of| of.known.missing_from(&all).is_empty())
    }

    /// Whether another record of a device's life can be noted.
    pub(crate) fn has_room(&self, of: &RecordRef) -> bool {
        let Some(lives) = self.by_author.get(&of.device) else { return true };
        match lives.get(&of.incarnation) {
            Some(life) => life.known.len() < RANGES && life.gone.len() < RANGES,
            None => lives.len() < LIVES,
        }
    }

    /// Takes note of a device's newest bundle. Bundles are numbered across lives, so they tell which life came after which;
    /// returns the life that gave way to this one, if too many were kept.
    pub(crate) fn newest_bundle(
        &mut self,
        device: &DeviceId,
        life: Incarnation,
        bundle_seq: u64,
    ) -> Option<Incarnation> {
        let lives = self.by_author.entry(*device).or_default();
        let full = lives.len() >= LIVES && !lives.contains_key(&life);
        let oldest = lives.iter().filter(|_| full).min_by_key(|(life, of)| (of.bundle_seq, **life));
        let oldest = oldest.map(|(life, _)| *life);
        if let Some(oldest) = oldest {
            lives.remove(&oldest);
        }
        lives.entry(life).or_default().bundle_seq = bundle_seq;
        oldest.into_iter().chain([life]).for_each(|life| self.changed(device, life));
        oldest
    }

    /// Notes a record. Returns false if it was known, or cannot be noted.
    pub(crate) fn mark(&mut self, of: &RecordRef) -> bool {
        if !self.has_room(of) {
            return false;
        }
        let life = self.by_author.entry(of.device).or_default().entry(of.incarnation).or_default();
        let new = life.known.insert(of.seq);
        if new {
            self.changed(&of.device, of.incarnation);
        }
        new
    }

    /// Takes back that a record is here: there was no more room for it.
    pub(crate) fn forget(&mut self, of: &RecordRef) {
        let lives = self.by_author.get_mut(&of.device);
        let Some(life) = lives.and_then(|lives| lives.get_mut(&of.incarnation)) else { return };
        if !life.gone.contains(of.seq) && life.known.remove(of.seq) {
            self.changed(&of.device, of.incarnation);
        }
    }

    /// Notes that a record is not needed any more.
    pub(crate) fn mark_gone(&mut self, of: &RecordRef) {
        if !self.has_room(of) {
            return;
        }
        let life = self.by_author.entry(of.device).or_default().entry(of.incarnation).or_default();
        life.known.insert(of.seq);
        if life.gone.insert(of.seq) {
            self.changed(&of.device, of.incarnation);
        }
    }

    /// Takes an author's own word that nobody needs these of its records; returns those that were here.
    pub(crate) fn give_up(
        &mut self,
        device: &DeviceId,
        incarnation: Incarnation,
        gone: &RangeSet,
    ) -> RangeSet {
        let lives = self.by_author.entry(*device).or_default();
        if gone.is_empty() || (lives.len() >= LIVES && !lives.contains_key(&incarnation)) {
            return RangeSet::new();
        }
        let life = lives.entry(incarnation).or_default();
        let new = life.gone.missing_from(gone);
        if new.is_empty() {
            return new;
        }
        let here = new.common(&life.known);
        life.unseen.union(&life.known.missing_from(&new));
        life.known.union(&new);
        life.gone.union(&new);
        // What an author says can be many ranges; the lowest holes are the oldest.
        if life.known.len() > RANGES {
            let before = life.known.clone();
            life.known.close_lowest(RANGES);
            life.unseen.union(&before.missing_from(&life.known));
        }
        life.gone.close_lowest(RANGES);
        // Never less than what was only said: what there is no room for joins its neighbour.
        life.unseen.close_lowest(UNSEEN);
        self.changed(device, incarnation);
        here
    }

    fn changed(&mut self, device: &DeviceId, life: Incarnation) {
        self.dirty.insert((*device, life));
        self.version = self.version.saturating_add(1);
    }

    /// The newest of what is known, as of the last batch that was saved.
    pub(crate) fn view(&self) -> &Arc<SeenView> {
        &self.view
    }

    pub(crate) fn save_dirty(&mut self, store: &mut Store) {
        for (device, life) in std::mem::take(&mut self.dirty) {
            let Some(of) = self.by_author.get(&device).and_then(|lives| lives.get(&life)) else {
                Arc::make_mut(&mut self.view).forget(device, life);
                store.delete(&stored::seen(&device), u64::from(life.0));
                continue;
            };
            Arc::make_mut(&mut self.view).note(device, life, &of.known);
            let mut unseen = of.unseen.clone();
            unseen.close_lowest(UNSEEN);
            let raw = wire::StoredRanges {
                ranges: of.known.to_wire(RANGES),
                gone: of.gone.to_wire(RANGES),
                bundle_seq: of.bundle_seq,
                unseen: unseen.to_wire(UNSEEN),
            };
            stored::write(store, &stored::seen(&device), u64::from(life.0), &raw);
        }
    }

    /// All lives of all devices of which anything is known, with what is here and what is known.
    pub(crate) fn lives(
        &self,
    ) -> impl Iterator<Item = ((DeviceId, Incarnation), RangeSet, &RangeSet)> + '_ {
        self.by_author.iter().flat_map(|(device, lives)| {
            lives.iter().map(|(life, of)| ((*device, *life), of.have(), &of.known))
        })
    }

    /// What of a set is not needed any more.
    pub(crate) fn gone_of(&self, device: &DeviceId, life: Incarnation, set: &RangeSet) -> RangeSet {
        self.life(device, life).map(|of| of.gone.common(set)).unwrap_or_default()
    }

    /// Lives of a device of which something is known.
    pub(crate) fn lives_of(&self, device: &DeviceId) -> impl Iterator<Item = Incarnation> + '_ {
        self.by_author.get(device).into_iter().flatten().map(|(life, _)| *life)
    }

    /// The highest number of a life that is here or not needed; 0 if none is.
    pub(crate) fn last(&self, device: &DeviceId, life: Incarnation) -> u64 {
        self.life(device, life).and_then(|of| of.known.last()).unwrap_or(0)
    }

    /// What came of a life, whether or not it is needed still.
    pub(crate) fn came(&self, device: &DeviceId, life: Incarnation) -> RangeSet {
        let of = self.life(device, life);
        of.map(|of| of.unseen.missing_from(&of.known)).unwrap_or_default()
    }

    /// What of a life never came, and nobody needs by its author's word.
    pub(crate) fn said(&self, device: &DeviceId, life: Incarnation) -> RangeSet {
        self.life(device, life).map(|of| of.unseen.clone()).unwrap_or_default()
    }

    /// Forgets all of a life but some, as if it had never come: it does not stand.
    pub(crate) fn cut(&mut self, device: &DeviceId, life: Incarnation, standing: &RangeSet) {
        let Some(of) = self.by_author.get_mut(device).and_then(|lives| lives.get_mut(&life)) else {
            return;
        };
        if standing.covers(&of.known) {
            return;
        }
        for set in [&mut of.known, &mut of.gone, &mut of.unseen] {
            *set = set.common(standing);
        }
        self.changed(device, life);
    }

    /// What Have tells of others' records, by life: all that is known, and of what is here as much as fits where a word has
    /// room for so many ranges and tells of so many lives.
    pub(crate) fn entries(
        &self,
        room: usize,
        most: usize,
    ) -> Vec<((DeviceId, Incarnation), wire::HaveEntry)> {
        let lives = self.by_author.values().map(BTreeMap::len).sum::<usize>();
        let lives = lives.min(most).max(1);
        let each = room.checked_div(lives.saturating_mul(2)).unwrap_or(TOLD).max(TOLD);
        let entries = self.lives().map(|((device, life), have, known)| {
            let entry = wire::HaveEntry {
                device: device.to_vec(),
                incarnation: life.0,
                have: have.to_wire(each),
                gone: known.to_wire(each),
                cut: have.len() > each,
            };
            ((device, life), entry)
        });
        entries.take(LIVES_TOLD).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oob_proto::Message;
    use rand::{SeedableRng, rngs::StdRng};

    /// An author chooses its numbers, and what it gives up. With 65,536 ranges the record was longer than the store
    /// takes: every batch with a word of that author's was given up, and all streams were ended.
    #[test]
    fn what_one_life_can_make_of_its_numbers_fits_a_stored_record() {
        let device = DeviceId::from([1; 32]);
        let life = Incarnation(1);
        let mut seen = Seen::default();
        let far = u64::MAX - 400_000;
        for n in 0..40_000 {
            seen.mark(&RecordRef { device, incarnation: life, seq: far + 4 * n });
        }
        for part in 0..40 {
            let mut gone = RangeSet::new();
            (0..1_000).for_each(|n| {
                gone.insert(far + 4_000 * part + 4 * n);
            });
            seen.give_up(&device, life, &gone);
        }
        let of = seen.life(&device, life).unwrap();
        assert!(of.gone.len() > 10_000 && of.known.len() > 10_000, "a large one");
        let raw = wire::StoredRanges {
            ranges: of.known.to_wire(RANGES),
            gone: of.gone.to_wire(RANGES),
            bundle_seq: u64::MAX,
            unseen: of.unseen.to_wire(UNSEEN),
        };
        assert!(raw.encoded_len() < 1 << 20, "{} bytes", raw.encoded_len());
    }

    /// Whoever takes a device says that nobody needs its records up to a high number, and then many small things above: the
    /// first word was forgotten for want of room, and all up to that number had come.
    #[test]
    fn what_was_only_said_is_not_forgotten_for_want_of_room() {
        let mut seen = Seen::default();
        let (device, life) = (DeviceId::from([9; 32]), Incarnation(1));
        let mut gone = RangeSet::new();
        gone.insert_range(100, 1 << 40);
        seen.give_up(&device, life, &gone);
        for n in 1..=2 * UNSEEN as u64 {
            gone.insert((1 << 40) + 2 * n);
        }
        seen.give_up(&device, life, &gone);
        let mut store = Store::in_memory(StdRng::seed_from_u64(1)).unwrap();
        seen.save_dirty(&mut store);
        store.commit().unwrap();
        let mut again = Seen::default();
        again.load(&store, &device).unwrap();
        for seen in [&seen, &again] {
            let came = seen.came(&device, life);
            assert!(!came.contains(100) && !came.contains(1 << 40), "{:?}", came.last());
        }
    }

    /// Of sixteen lives none ever went, so the seventeenth was nobody's.
    #[test]
    fn the_life_of_the_newest_bundle_has_a_place_and_one_that_gave_way_never_again() {
        let device = DeviceId::from([1; 32]);
        let mut seen = Seen::default();
        let first_of = |life| RecordRef { device, incarnation: Incarnation(life), seq: 1 };
        // Numbered at random, as lives are.
        let lives: Vec<u32> = (0..40).map(|n: u32| n.wrapping_mul(2_654_435_761)).collect();
        for (n, life) in (1..).zip(&lives) {
            let dead = seen.newest_bundle(&device, Incarnation(*life), n);
            assert_eq!(dead.is_some(), n > 16);
            assert!(seen.mark(&first_of(*life)), "life {n}");
        }
        let (dead, kept) = lives.split_at(24);
        assert!(dead.iter().all(|life| !seen.has_room(&first_of(*life))), "replays are refused");
        assert!(dead.iter().all(|life| !seen.mark(&first_of(*life))));
        assert!(kept.iter().all(|life| seen.contains(&first_of(*life))), "the newest are kept");
        let mut store = Store::in_memory(StdRng::seed_from_u64(1)).unwrap();
        seen.save_dirty(&mut store);
        let mut again = Seen::default();
        again.load(&store, &device).unwrap();
        assert!(kept.iter().all(|life| again.contains(&first_of(*life))), "after a start too");
        assert_eq!(again.newest_bundle(&device, Incarnation(7), 41), Some(Incarnation(kept[0])));
    }
}
