//! Who carries own records, by their signed word: what people are told as "held by".

use crate::{
    model::RangeSet,
    stored::{self, RecordError},
};
use oob_proto::{DeviceId, Incarnation, MemberId, wire};
use oob_store::{Store, View};
use std::collections::BTreeMap;

/// Ranges kept of one holder and life.
const RANGES: usize = 1_024;

/// Ranges stored of all holders: with numbers of any length they fit the 1 MiB one record may have. Beyond it the oldest
/// numbers of each are not told after a restart until the holder speaks again.
const STORED: usize = 16_384;

/// Own records others carry, by who carries them.
#[derive(Default)]
pub(crate) struct Holders {
    by_device: BTreeMap<DeviceId, (MemberId, BTreeMap<Incarnation, RangeSet>)>,
    dirty: bool,
}

impl Holders {
    pub(crate) fn load(store: &Store) -> Result<Self, RecordError> {
        let raw = stored::read(store, &stored::holders(), stored::ONLY, "holders")?;
        Ok(Self::from_stored(&raw.unwrap_or_default()))
    }

    /// Reads what is committed.
    pub(crate) fn view(view: &View) -> Result<Self, RecordError> {
        let raw = stored::view(view, &stored::holders(), stored::ONLY, "holders")?;
        Ok(Self::from_stored(&raw.unwrap_or_default()))
    }

    fn from_stored(raw: &wire::StoredHolders) -> Self {
        let mut holders = Self::default();
        for raw in &raw.holders {
            let (Ok(device), Ok(member)) = (
                DeviceId::try_from(raw.device.as_slice()),
                MemberId::try_from(raw.member.as_slice()),
            ) else {
                continue;
            };
            let (_, lives) =
                holders.by_device.entry(device).or_insert_with(|| (member, BTreeMap::new()));
            lives.insert(Incarnation(raw.incarnation), RangeSet::from_wire(&raw.have, RANGES));
        }
        holders
    }

    /// Takes what a device says it carries of one own life; returns what of it is new.
    pub(crate) fn say(
        &mut self,
        device: &DeviceId,
        member: &MemberId,
        life: Incarnation,
        have: RangeSet,
    ) -> RangeSet {
        let known = self.by_device.get(device).and_then(|(_, lives)| lives.get(&life));
        let empty = RangeSet::new();
        let before = known.unwrap_or(&empty);
        if *before == have {
            return RangeSet::new();
        }
        self.dirty = true;
        let new = before.missing_from(&have);
        let (_, lives) =
            self.by_device.entry(*device).or_insert_with(|| (*member, BTreeMap::new()));
        // A neighbour may name any life; only what it carries is noted.
        match have.is_empty() {
            true => drop(lives.remove(&life)),
            false => drop(lives.insert(life, have)),
        }
        new
    }

    /// Whether a device carries anything of a life.
    pub(crate) fn knows(&self, device: &DeviceId, life: Incarnation) -> bool {
        self.by_device.get(device).is_some_and(|(_, lives)| lives.contains_key(&life))
    }

    /// Forgets what a device carries: it is not a member's any more.
    pub(crate) fn forget(&mut self, device: &DeviceId) {
        self.dirty |= self.by_device.remove(device).is_some();
    }

    /// The people whose devices carry a record, ascending; the addressee's own devices aside.
    pub(crate) fn of(&self, life: Incarnation, seq: u64, but: &MemberId) -> Vec<MemberId> {
        let holding = self.by_device.values().filter(|(member, lives)| {
            member != but && lives.get(&life).is_some_and(|have| have.contains(seq))
        });
        let mut members: Vec<MemberId> = holding.map(|(member, _)| *member).collect();
        members.sort_unstable();
        members.dedup();
        members
    }

    pub(crate) fn save_if_dirty(&mut self, store: &mut Store) {
        if !std::mem::take(&mut self.dirty) {
            return;
        }
        let all: usize = self.by_device.values().map(|(_, lives)| lives.len()).sum();
        let each = STORED.checked_div(all).unwrap_or(STORED).min(RANGES);
        let holders = self.by_device.iter().flat_map(|(device, (member, lives))| {
            lives.iter().map(|(life, have)| wire::StoredHolder {
                device: device.to_vec(),
                member: member.to_vec(),
                incarnation: life.0,
                have: have.to_wire(each),
            })
        });
        let raw = wire::StoredHolders { holders: holders.collect() };
        stored::write(store, &stored::holders(), stored::ONLY, &raw);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oob_proto::Message;

    /// So many ranges as there are holes, at numbers of any length.
    fn scattered(count: u64, from: u64) -> RangeSet {
        let mut set = RangeSet::new();
        for n in 0..count {
            set.insert(from + 2 * n);
        }
        set
    }

    /// Everybody in a large organisation carries something of every life, with holes everywhere: that must not make the one
    /// record too long, since it would end every batch of ours.
    #[test]
    fn what_everybody_says_to_carry_fits_one_record_and_the_newest_is_kept() {
        let (mut holders, from) = (Holders::default(), u64::MAX - 10_000);
        for device in 0..250_u8 {
            for life in 1..=4 {
                let (device, member) = (DeviceId::from([device; 32]), MemberId::from([device; 32]));
                holders.say(&device, &member, Incarnation(life), scattered(2_000, from));
            }
        }
        let mut store = Store::with_backend(
            oob_store::backend::Parts::in_memory(),
            &oob_store::Passphrase::new("correct horse"),
            <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(1),
        )
        .unwrap()
        .store;
        holders.save_if_dirty(&mut store);
        // Longer than a record may be, it would be refused here.
        store.commit().unwrap();
        let raw: wire::StoredHolders =
            stored::read(&store, &stored::holders(), stored::ONLY, "holders").unwrap().unwrap();
        assert!((400_000..1 << 20).contains(&raw.encoded_len()), "{} bytes", raw.encoded_len());
        let loaded = Holders::load(&store).unwrap();
        let me = MemberId::from([255; 32]);
        let carried = |of: &Holders, n: u64| of.of(Incarnation(2), from + n, &me).len();
        assert_eq!((carried(&holders, 0), carried(&holders, 3_998)), (250, 250));
        assert_eq!((carried(&loaded, 0), carried(&loaded, 3_998)), (0, 250), "the newest are kept");
    }
}
