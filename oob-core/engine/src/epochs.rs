//! The epochs whose secrets are here, which of them to send under, and when this device makes the next.

use crate::{
    cx::Cx,
    model::Ring,
    own::BUNDLE_KEPT_MS,
    roster::{EpochFact, Organisation},
    stored::{self, RecordError},
};
use oob_crypto::{EpochSecret, HeaderKey};
use oob_proto::{DeviceId, EpochId, wire};
use oob_store::{Order, Store};
use std::{cmp::Reverse, collections::BTreeMap};

/// Epochs kept, of both rings; a rotation a minute through half an hour of removals.
const KEPT: usize = 64;

/// An epoch is kept this long after another took its place: the longest life of an envelope and a day.
const KEPT_MS: u64 = BUNDLE_KEPT_MS;

/// This device rotates at most this often: further removals wait for the next turn.
const ROTATED_EVERY_MS: u64 = 60_000;

/// Epoch secrets. In each ring those that fewer removed devices may hold stand behind the others, and of these the
/// newer behind the older: the last is the one to send under.
#[derive(Default)]
pub(crate) struct Epochs {
    kept: Vec<Epoch>,
    next_place: u64,
}

/// One of them.
pub(crate) struct Epoch {
    pub(crate) ring: Ring,
    pub(crate) id: EpochId,
    pub(crate) secret: EpochSecret,
    pub(crate) header: HeaderKey,
    /// None once what announced it does not stand any more.
    fact: Option<EpochFact>,
    place: u64,
    since_ms: u64,
    /// Running time at which another became the one to send under; 0 while it is this one.
    superseded_ms: u64,
}

impl Epoch {
    fn new(ring: Ring, secret: EpochSecret, place: u64, since_ms: u64) -> Self {
        let (id, header) = (secret.id(), secret.header_key());
        Self { ring, id, secret, header, fact: None, place, since_ms, superseded_ms: 0 }
    }

    /// Whether the log announces it: nobody takes a grant of another.
    pub(crate) fn stands(&self) -> bool {
        self.fact.is_some()
    }

    fn rank(&self) -> impl Ord + use<> {
        self.fact.map(|fact| (Reverse(fact.holders), fact.order))
    }

    fn save(&self, store: &mut Store) {
        let raw = wire::StoredEpoch {
            ring: u32::from(self.ring.code()),
            secret: self.secret.export_secret().to_vec(),
            since_ms: self.since_ms,
            superseded_ms: self.superseded_ms,
        };
        stored::write(store, &stored::epochs(), self.place, &raw);
    }
}

impl Epochs {
    /// Loads what is kept; [`Self::judge`] says what the log makes of it.
    pub(crate) fn load(store: &Store) -> Result<Self, RecordError> {
        const AREA: &str = "epoch";
        let unreadable = || RecordError::Unreadable { area: AREA };
        let mut epochs = Self::default();
        for (place, bytes) in store.scan(&stored::epochs(), .., Order::Ascending, KEPT)? {
            let raw: wire::StoredEpoch = stored::decode(&bytes, AREA)?;
            let ring =
                u8::try_from(raw.ring).ok().and_then(Ring::from_code).ok_or_else(unreadable)?;
            let secret = raw.secret.as_slice().try_into().map_err(|_| unreadable())?;
            let mut epoch = Epoch::new(ring, EpochSecret::from_secret(secret), place, raw.since_ms);
            epoch.superseded_ms = raw.superseded_ms;
            epochs.kept.push(epoch);
            epochs.next_place = place.saturating_add(1);
        }
        Ok(epochs)
    }

    /// Takes what the log says of each now.
    pub(crate) fn judge(&mut self, organisation: &Organisation) {
        for epoch in &mut self.kept {
            epoch.fact = organisation.epoch(epoch.ring, epoch.id);
        }
        self.kept.sort_by_key(Epoch::rank);
    }

    /// Keeps a secret; returns whether it is new. If there is no room, the oldest goes of whoever announced the most,
    /// so that nobody drives out what others announced.
    pub(crate) fn learn(
        &mut self,
        cx: &mut Cx<'_>,
        organisation: &Organisation,
        ring: Ring,
        secret: EpochSecret,
    ) -> bool {
        let id = secret.id();
        if self.kept.iter().any(|epoch| epoch.id == id) {
            return false;
        }
        let mut epoch = Epoch::new(ring, secret, self.next_place, cx.now.wall_ms);
        self.next_place = self.next_place.saturating_add(1);
        epoch.fact = organisation.epoch(ring, id);
        epoch.save(cx.store);
        self.kept.push(epoch);
        self.kept.sort_by_key(Epoch::rank);
        while self.kept.len() > KEPT {
            let Some(surplus) = self.surplus() else { break };
            self.forget(cx.store, surplus);
        }
        self.age(cx);
        self.kept.iter().any(|epoch| epoch.id == id)
    }

    /// The one to go when there are too many; never one to send under.
    fn surplus(&self) -> Option<EpochId> {
        let author = |epoch: &Epoch| epoch.fact.map(|fact| fact.author);
        let mut announced: BTreeMap<Option<DeviceId>, usize> = BTreeMap::new();
        for epoch in &self.kept {
            let count = announced.entry(author(epoch)).or_default();
            *count = count.saturating_add(1);
        }
        let sending = Ring::ALL.map(|ring| self.to_send(ring).map(|epoch| epoch.id));
        let spare = self.kept.iter().filter(|epoch| !sending.contains(&Some(epoch.id)));
        // What the log does not announce any more goes first, then by author, then by age.
        let going = spare.min_by_key(|epoch| {
            let count = announced.get(&author(epoch)).copied().unwrap_or_default();
            let order = epoch.fact.map(|fact| fact.order);
            (epoch.stands(), Reverse(count), order)
        });
        going.map(|epoch| epoch.id)
    }

    fn forget(&mut self, store: &mut Store, id: EpochId) {
        for epoch in self.kept.iter().filter(|epoch| epoch.id == id) {
            store.delete(&stored::epochs(), epoch.place);
        }
        self.kept.retain(|epoch| epoch.id != id);
    }

    /// Notes since when each is not the one to send under.
    pub(crate) fn age(&mut self, cx: &mut Cx<'_>) {
        let sending = Ring::ALL.map(|ring| self.to_send(ring).map(|epoch| epoch.id));
        for epoch in &mut self.kept {
            let in_use = sending.contains(&Some(epoch.id));
            if in_use == (epoch.superseded_ms == 0) {
                continue;
            }
            epoch.superseded_ms = if in_use { 0 } else { cx.elapsed_ms.max(1) };
            epoch.save(cx.store);
        }
    }

    /// Forgets those that nothing under way can be under; returns whether there were any.
    pub(crate) fn forget_old(&mut self, cx: &mut Cx<'_>) -> bool {
        let old = |epoch: &&Epoch| {
            epoch.superseded_ms != 0 && cx.elapsed_ms.saturating_sub(epoch.superseded_ms) > KEPT_MS
        };
        let old: Vec<EpochId> = self.kept.iter().filter(old).map(|epoch| epoch.id).collect();
        for id in &old {
            self.forget(cx.store, *id);
        }
        !old.is_empty()
    }

    /// The epoch of a ring to send under: the newest that no device known to be removed may hold. While there is none,
    /// the one that the fewest may hold: this device or another is about to rotate.
    pub(crate) fn to_send(&self, ring: Ring) -> Option<&Epoch> {
        self.kept.iter().rev().find(|epoch| epoch.ring == ring && epoch.stands())
    }

    /// Whether the one to send under excludes everybody known to be removed.
    pub(crate) fn fits(&self, ring: Ring) -> bool {
        self.to_send(ring).is_some_and(|epoch| epoch.fact.is_some_and(|fact| fact.holders == 0))
    }

    pub(crate) fn get(&self, id: &EpochId) -> Option<&Epoch> {
        self.kept.iter().find(|epoch| epoch.id == *id)
    }

    /// All, core ring first, in each the one to send under first.
    pub(crate) fn preferred_first(&self) -> impl Iterator<Item = &Epoch> {
        let of = |ring| self.kept.iter().rev().filter(move |epoch| epoch.ring == ring);
        Ring::ALL.into_iter().flat_map(of)
    }

    /// Ids of all, ascending.
    pub(crate) fn ids(&self) -> Vec<EpochId> {
        let mut ids: Vec<EpochId> = self.kept.iter().map(|epoch| epoch.id).collect();
        ids.sort_unstable();
        ids
    }
}

/// When this device rotates.
#[derive(Debug, Default)]
pub(crate) struct Rotation {
    last_ms: Option<u64>,
    due_ms: Option<u64>,
}

impl Rotation {
    /// Plans one, never within a minute of the last.
    pub(crate) fn plan(&mut self, now_ms: u64, wait_ms: u64) {
        self.due_ms = Some(now_ms.saturating_add(wait_ms).max(self.earliest_ms()));
    }

    /// There is nothing to rotate for.
    pub(crate) fn cancel(&mut self) {
        self.due_ms = None;
    }

    /// Notes that one was made, or could not be.
    pub(crate) fn done(&mut self, now_ms: u64) {
        self.last_ms = Some(now_ms);
        self.due_ms = None;
    }

    /// When the next is to be made.
    pub(crate) fn due_ms(&self) -> Option<u64> {
        self.due_ms
    }

    /// Before this, none is made.
    pub(crate) fn earliest_ms(&self) -> u64 {
        self.last_ms.map_or(0, |last| last.saturating_add(ROTATED_EVERY_MS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cx::{Out, Rng},
        model::Now,
    };
    use oob_proto::OpHash;
    use rand::{SeedableRng, rngs::StdRng};

    fn epoch(ring: Ring, byte: u8, holders: usize, lamport: u64, author: u8) -> Epoch {
        let secret = EpochSecret::from_secret(&[byte; 32]);
        let mut epoch = Epoch::new(ring, secret, u64::from(byte), 0);
        let order = (lamport, OpHash::from([byte; 32]));
        epoch.fact = Some(EpochFact { holders, order, author: DeviceId::from([author; 32]) });
        epoch
    }

    fn kept(kept: Vec<Epoch>) -> Epochs {
        let mut epochs = Epochs { kept, next_place: 1_000 };
        epochs.kept.sort_by_key(Epoch::rank);
        epochs
    }

    fn id(byte: u8) -> EpochId {
        EpochSecret::from_secret(&[byte; 32]).id()
    }

    #[test]
    fn the_newest_that_no_removed_device_holds_is_sent_under_and_else_what_the_fewest_hold() {
        let mut unannounced = epoch(Ring::Core, 9, 0, 99, 1);
        unannounced.fact = None;
        let all = || {
            vec![
                epoch(Ring::Core, 1, 0, 5, 1),
                epoch(Ring::Core, 2, 1, 9, 1),
                epoch(Ring::Core, 3, 0, 7, 1),
                epoch(Ring::Core, 4, 2, 8, 1),
                epoch(Ring::Audience, 5, 3, 50, 1),
            ]
        };
        let mut epochs = all();
        epochs.push(unannounced);
        let epochs = kept(epochs);
        assert_eq!(epochs.to_send(Ring::Core).map(|epoch| epoch.id), Some(id(3)));
        assert!(epochs.fits(Ring::Core) && !epochs.fits(Ring::Audience));
        let order: Vec<EpochId> = epochs.preferred_first().map(|epoch| epoch.id).collect();
        assert_eq!(order, [id(3), id(1), id(2), id(4), id(9), id(5)]);

        let fewest =
            kept(all().into_iter().filter(|epoch| ![id(1), id(3)].contains(&epoch.id)).collect());
        assert_eq!(fewest.to_send(Ring::Core).map(|epoch| epoch.id), Some(id(2)));
        assert!(!fewest.fits(Ring::Core));
        assert!(kept(Vec::new()).to_send(Ring::Core).is_none());
    }

    /// A member that announces many epochs and hands them to everybody pushes out its own.
    #[test]
    fn whoever_announced_the_most_makes_room_and_never_what_is_sent_under() {
        let mut all = vec![epoch(Ring::Core, 1, 0, 1, 1), epoch(Ring::Audience, 2, 0, 2, 1)];
        all.push(epoch(Ring::Core, 3, 0, 3, 2));
        for byte in 10..20 {
            all.push(epoch(Ring::Core, byte, 0, u64::from(byte), 3));
        }
        let mut epochs = kept(all);
        let mut store = Store::in_memory(StdRng::seed_from_u64(1)).unwrap();
        let mut went = Vec::new();
        while let Some(id) = epochs.surplus() {
            epochs.forget(&mut store, id);
            went.push(id);
        }
        let expected = [10, 11, 12, 13, 14, 15, 16, 17];
        assert_eq!(went.get(..8), Some(expected.map(id).as_slice()));
        assert_eq!(went.len(), 11);
        assert_eq!(epochs.ids().len(), 2, "one of each ring stays");
        assert_eq!(epochs.to_send(Ring::Core).map(|epoch| epoch.id), Some(id(19)));
    }

    #[test]
    fn an_epoch_that_comes_back_into_use_does_not_age() {
        let mut store = Store::in_memory(StdRng::seed_from_u64(1)).unwrap();
        let mut rng: Rng = Box::new(StdRng::seed_from_u64(2));
        let mut out = Out::default();
        let now = Now { wall_ms: 1, mono_ms: 1 };
        let mut cx = Cx { store: &mut store, rng: &mut rng, now, elapsed_ms: 10, out: &mut out };
        let (one, two) = (epoch(Ring::Core, 1, 0, 1, 1), epoch(Ring::Core, 2, 0, 2, 1));
        let mut epochs = kept(vec![one, two]);
        epochs.age(&mut cx);
        // The author of the second is taken out, and its announcement does not stand any more.
        epochs.kept.last_mut().unwrap().fact = None;
        epochs.kept.sort_by_key(Epoch::rank);
        cx.elapsed_ms = 20;
        epochs.age(&mut cx);
        cx.elapsed_ms = 10 + KEPT_MS + 1;
        assert!(!epochs.forget_old(&mut cx), "the first is in use, the second is superseded at 20");
        cx.elapsed_ms = 20 + KEPT_MS + 1;
        assert!(epochs.forget_old(&mut cx));
        assert_eq!(epochs.ids(), [id(1)]);
    }
}
