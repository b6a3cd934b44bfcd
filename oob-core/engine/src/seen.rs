//! Which records of each author are here: the duplicate check, and what Have tells.

use crate::{
    model::RangeSet,
    stored::{self, RecordError},
};
use oob_proto::{DeviceId, Incarnation, limits, wire};
use oob_store::{Order, Store};
use std::collections::{BTreeMap, BTreeSet};

/// Ranges kept per author and life. Until members carry each other's envelopes, an author's numbers come with holes
/// where it wrote to others; it says in each Have below which number nothing is owed any more, and those holes are
/// closed. Beyond this bound nothing more is taken until it does.
const RANGES: usize = 65_536;

/// Ranges told in one Have of one life, the newest: what is left out, the author offers again, and it is dropped here.
const TOLD: usize = limits::HAVE_RANGES / LIVES;

/// Lives kept per device.
const LIVES: usize = 16;

/// What is here, by author device and life.
#[derive(Default)]
pub(crate) struct Seen {
    by_author: BTreeMap<DeviceId, BTreeMap<Incarnation, RangeSet>>,
    dirty: BTreeSet<(DeviceId, Incarnation)>,
}

impl Seen {
    /// Loads what is known of one device.
    pub(crate) fn load(&mut self, store: &Store, device: &DeviceId) -> Result<(), RecordError> {
        for (life, bytes) in store.scan(&stored::seen(device), .., Order::Ascending, LIVES)? {
            let raw: wire::StoredRanges = stored::decode(&bytes, "seen")?;
            let Ok(life) = u32::try_from(life) else { continue };
            let ranges = RangeSet::from_wire(&raw.ranges, RANGES);
            self.by_author.entry(*device).or_default().insert(Incarnation(life), ranges);
        }
        Ok(())
    }

    pub(crate) fn contains(&self, device: &DeviceId, life: Incarnation, seq: u64) -> bool {
        self.by_author
            .get(device)
            .and_then(|lives| lives.get(&life))
            .is_some_and(|ranges| ranges.contains(seq))
    }

    /// Whether another record of a device's life can be noted.
    pub(crate) fn has_room(&self, device: &DeviceId, life: Incarnation) -> bool {
        let Some(lives) = self.by_author.get(device) else { return true };
        match lives.get(&life) {
            Some(ranges) => ranges.len() < RANGES,
            None => lives.len() < LIVES,
        }
    }

    /// Closes the holes below a number: the author owes nothing there.
    pub(crate) fn close_below(&mut self, device: &DeviceId, life: Incarnation, number: u64) {
        let Some(ranges) = self.by_author.get_mut(device).and_then(|lives| lives.get_mut(&life))
        else {
            return;
        };
        let Some((first, _)) = ranges.iter().next() else { return };
        // Never beyond what was seen: a number that was not written yet is not given up by anybody.
        let last = number.saturating_sub(1).min(ranges.last().unwrap_or(0));
        let before = ranges.len();
        ranges.insert_range(first, last);
        if ranges.len() != before {
            self.dirty.insert((*device, life));
        }
    }

    /// Notes a record. Returns false if it was here, or if the device has had more lives than are kept.
    pub(crate) fn mark(&mut self, device: &DeviceId, life: Incarnation, seq: u64) -> bool {
        let lives = self.by_author.entry(*device).or_default();
        if lives.len() >= LIVES && !lives.contains_key(&life) {
            return false;
        }
        let ranges = lives.entry(life).or_default();
        let new = ranges.len() < RANGES && ranges.insert(seq);
        if new {
            self.dirty.insert((*device, life));
        }
        new
    }

    /// Lives of a device of which something is here.
    pub(crate) fn lives(&self, device: &DeviceId) -> impl Iterator<Item = Incarnation> + '_ {
        self.by_author.get(device).into_iter().flatten().map(|(life, _)| *life)
    }

    /// The highest number noted of a life; 0 if there is none.
    pub(crate) fn last(&self, device: &DeviceId, life: Incarnation) -> u64 {
        let ranges = self.by_author.get(device).and_then(|lives| lives.get(&life));
        ranges.and_then(RangeSet::last).unwrap_or(0)
    }

    pub(crate) fn save_dirty(&mut self, store: &mut Store) {
        for (device, life) in std::mem::take(&mut self.dirty) {
            let Some(ranges) = self.by_author.get(&device).and_then(|lives| lives.get(&life))
            else {
                continue;
            };
            let raw = wire::StoredRanges { ranges: ranges.to_wire(RANGES), gone: Vec::new() };
            stored::write(store, &stored::seen(&device), u64::from(life.0), &raw);
        }
    }

    /// What is here of one device, as Have tells it.
    pub(crate) fn entries(&self, device: &DeviceId) -> Vec<wire::HaveEntry> {
        let lives = self.by_author.get(device).into_iter().flatten();
        lives
            .map(|(life, ranges)| wire::HaveEntry {
                device: device.to_vec(),
                incarnation: life.0,
                have: ranges.to_wire(TOLD),
                gone: Vec::new(),
            })
            .collect()
    }
}
