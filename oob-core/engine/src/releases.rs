//! Proofs that an envelope was opened, so that nobody carries it any longer (docs/protocol.md, section 10). The addressee
//! publishes one a random while after opening; whoever carries the envelope checks it, drops the envelope, and tells
//! the proof on to those who still have it.

use crate::{
    cx::Cx,
    record::RecordRef,
    stored::{self, RecordError},
};
use oob_proto::{DeviceId, Incarnation, wire};
use oob_store::{Order, Store};
use std::collections::{BTreeMap, BTreeSet};

/// Proofs kept; a day of a large incident. Without its proof an envelope is carried until it is too old, no worse.
const KEPT: usize = 131_072;

/// The longest an own proof is kept back, so that when something is opened says little about who opened it.
pub(crate) const DELAY_MS: u64 = 30_000;

/// Own proofs go out together, at most this often: each time is a batch of its own, and with one a message there would be a
/// commit more for each.
const TOGETHER_MS: u64 = 500;

/// When the proof of what is opened now goes out, so long after it as was drawn.
pub(crate) fn goes_out_ms(elapsed_ms: u64, delay_ms: u64) -> u64 {
    let at_ms = elapsed_ms.saturating_add(delay_ms).max(1);
    at_ms.checked_next_multiple_of(TOGETHER_MS).unwrap_or(at_ms)
}

/// One proof.
#[derive(Debug, Clone, Copy)]
struct Released {
    preimage: [u8; 16],
    until_ms: u64,
    batch: u64,
}

/// All proofs.
#[derive(Default)]
pub(crate) struct Releases {
    all: BTreeMap<RecordRef, Released>,
    /// Own ones kept back, by the elapsed time at which they go out.
    waiting: BTreeSet<(u64, RecordRef)>,
    fresh: Vec<wire::StoredRelease>,
    /// How many of a stored batch are left.
    left: BTreeMap<u64, usize>,
    next_batch: u64,
    /// How many are of records of each device.
    by_author: BTreeMap<DeviceId, usize>,
}

impl Releases {
    pub(crate) fn load(store: &Store) -> Result<Self, RecordError> {
        const AREA: &str = "releases";
        let mut releases = Self::default();
        let mut next = 0;
        loop {
            let page = store.scan(&stored::releases(), next.., Order::Ascending, 64)?;
            let Some((last, _)) = page.last() else { return Ok(releases) };
            next = last.saturating_add(1);
            releases.next_batch = next;
            for (batch, bytes) in page {
                let raw: wire::StoredReleases = stored::decode(&bytes, AREA)?;
                for raw in &raw.releases {
                    releases.note(raw, batch).ok_or(RecordError::Unreadable { area: AREA })?;
                }
            }
        }
    }

    fn note(&mut self, raw: &wire::StoredRelease, batch: u64) -> Option<()> {
        let of = RecordRef {
            device: DeviceId::try_from(raw.device.as_slice()).ok()?,
            incarnation: Incarnation(raw.incarnation),
            seq: raw.seq,
        };
        let preimage = raw.preimage.as_slice().try_into().ok()?;
        let released = Released { preimage, until_ms: raw.until_ms, batch };
        if self.all.insert(of, released).is_none() {
            let left = self.left.entry(batch).or_default();
            *left = left.saturating_add(1);
            let count = self.by_author.entry(of.device).or_default();
            *count = count.saturating_add(1);
        }
        if raw.from_ms > 0 {
            self.waiting.insert((raw.from_ms, of));
        }
        Some(())
    }

    /// Notes a proof; one of this device's own goes out at `from_ms` of elapsed time.
    pub(crate) fn put(
        &mut self,
        store: &mut Store,
        of: &RecordRef,
        preimage: [u8; 16],
        until_ms: u64,
        from_ms: Option<u64>,
    ) {
        if self.all.contains_key(of) || !self.make_room(store, &of.device) {
            return;
        }
        let raw = wire::StoredRelease {
            device: of.device.to_vec(),
            incarnation: of.incarnation.0,
            seq: of.seq,
            preimage: preimage.to_vec(),
            until_ms,
            from_ms: from_ms.unwrap_or(0),
        };
        if self.note(&raw, self.next_batch).is_some() {
            self.fresh.push(raw);
        }
    }

    /// Makes room by forgetting the oldest proof of whoever has most, unless the newcomer's author has as many: an author
    /// makes as many proofs as it likes, and must not keep those of others out.
    fn make_room(&mut self, store: &mut Store, device: &DeviceId) -> bool {
        if self.all.len() < KEPT {
            return true;
        }
        let own = self.by_author.get(device).copied().unwrap_or(0).saturating_add(1);
        let most = self.by_author.iter().max_by_key(|(_, count)| **count);
        let Some((most, _)) = most.filter(|(_, count)| **count > own) else { return false };
        let first = RecordRef { device: *most, incarnation: Incarnation(0), seq: 0 };
        let Some(oldest) = self.all.range(first..).next().map(|(of, _)| *of) else { return false };
        self.forget(store, &oldest);
        true
    }

    fn forget(&mut self, store: &mut Store, of: &RecordRef) {
        let Some(released) = self.all.remove(of) else { return };
        if let Some(count) = self.by_author.get_mut(&of.device) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.by_author.remove(&of.device);
            }
        }
        let Some(left) = self.left.get_mut(&released.batch) else { return };
        *left = left.saturating_sub(1);
        // The batch under way is not written yet: it goes with the others once it is too old.
        if *left == 0 && released.batch != self.next_batch {
            self.left.remove(&released.batch);
            store.delete(&stored::releases(), released.batch);
        }
    }

    /// Puts what is new into the pending batch of the store.
    pub(crate) fn save_fresh(&mut self, store: &mut Store) {
        if self.fresh.is_empty() {
            return;
        }
        let raw = wire::StoredReleases { releases: std::mem::take(&mut self.fresh) };
        stored::write(store, &stored::releases(), self.next_batch, &raw);
        self.next_batch = self.next_batch.saturating_add(1);
    }

    /// When the next own proof goes out.
    pub(crate) fn due_ms(&self) -> Option<u64> {
        self.waiting.first().map(|(due, _)| *due)
    }

    /// What was opened here and is not said to be yet.
    #[cfg(feature = "sim")]
    pub(crate) fn kept_back(&self) -> impl Iterator<Item = &RecordRef> {
        self.waiting.iter().map(|(_, of)| of)
    }

    /// Takes the own proofs whose time has come.
    pub(crate) fn take_due(&mut self, elapsed_ms: u64) -> Vec<RecordRef> {
        let mut due = Vec::new();
        while let Some((at, of)) = self.waiting.first().copied().filter(|(at, _)| *at <= elapsed_ms)
        {
            self.waiting.remove(&(at, of));
            due.push(of);
        }
        due
    }

    /// The proof that a record was opened.
    pub(crate) fn get(&self, of: &RecordRef) -> Option<wire::Release> {
        self.all.get(of).map(|released| wire::Release {
            device: of.device.short().to_vec(),
            incarnation: of.incarnation.0,
            seq: of.seq,
            preimage: released.preimage.to_vec(),
        })
    }

    /// What of a life there are proofs of, below a number.
    pub(crate) fn of_life(
        &self,
        (device, incarnation): (DeviceId, Incarnation),
        below: u64,
    ) -> impl Iterator<Item = &RecordRef> {
        let of = |seq| RecordRef { device, incarnation, seq };
        self.all.range(of(0)..of(below)).map(|(of, _)| of)
    }

    /// Forgets proofs of what nobody carries any more.
    pub(crate) fn forget_old(&mut self, cx: &mut Cx<'_>) {
        let old = self.all.iter().filter(|(_, released)| released.until_ms <= cx.elapsed_ms);
        let old: Vec<RecordRef> = old.map(|(of, _)| *of).collect();
        for of in old {
            self.forget(cx.store, &of);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng, rngs::StdRng};

    /// Whoever writes envelopes and opens them filled the table, and nobody heard that anybody else's were opened.
    #[test]
    fn proofs_of_one_author_give_way_to_those_of_others() {
        let mut store = Store::in_memory(StdRng::seed_from_u64(1)).unwrap();
        let mut releases = Releases::default();
        let of = |device: u8, seq| RecordRef {
            device: DeviceId::from([device; 32]),
            incarnation: Incarnation(1),
            seq,
        };
        for seq in 1..=140_000 {
            releases.put(&mut store, &of(1, seq), [7; 16], 9, None);
            if seq % 1_000 == 0 {
                releases.save_fresh(&mut store);
            }
        }
        assert_eq!(releases.all.len(), KEPT);
        assert!(releases.get(&of(1, 140_000)).is_none(), "it is full");
        for seq in 1..=10 {
            releases.put(&mut store, &of(2, seq), [8; 16], 9, None);
        }
        releases.save_fresh(&mut store);
        assert!((1..=10).all(|seq| releases.get(&of(2, seq)).is_some()));
        assert_eq!(releases.all.len(), KEPT);
        assert!(releases.get(&of(1, 10)).is_none(), "the oldest of the other are gone");
        store.commit().unwrap();
        let again = Releases::load(&store).unwrap();
        assert!((1..=10).all(|seq| again.get(&of(2, seq)).is_some()));
    }
}
