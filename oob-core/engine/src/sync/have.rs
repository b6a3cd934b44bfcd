//! Have: the signed word of a device on what it holds of everybody's records (docs/protocol.md, section 10).

use crate::{
    model::RangeSet,
    own::{Identity, Life},
};
use oob_crypto::{
    PublicKey, sha256,
    signed::{sign, verify},
};
use oob_proto::{DeviceId, Incarnation, Message, OpHash, OrgId, limits, signing::SignedType, wire};
use std::collections::BTreeMap;

/// One life of one device.
pub(crate) type Key = (DeviceId, Incarnation);

/// Ranges told of the own records.
pub(crate) const OWN_RANGES: usize = 512;

/// Ranges told of all others' records together.
pub(crate) const OTHER_RANGES: usize = limits::HAVE_RANGES - OWN_RANGES;

/// Writes and signs a Have.
pub(crate) fn have(
    org: &OrgId,
    identity: &Identity,
    life: &mut Life,
    entries: Vec<wire::HaveEntry>,
) -> wire::Signed {
    let have = wire::Have {
        device: identity.device.to_vec(),
        incarnation: life.incarnation.0,
        r#gen: life.rlk_gen,
        number: life.take_have(),
        entries,
        run: life.run(),
    };
    sign(SignedType::Have, org, have.encode_to_vec(), &[&life.rlk])
}

/// What a device says of its own records. The word of an author is the last: whatever it does not have up to the end of
/// what it tells, nobody needs. So where not all ranges fit, the lowest are told, and no more than they cover.
pub(crate) fn own_entry(
    device: &DeviceId,
    life: Incarnation,
    last: u64,
    live: &RangeSet,
) -> wire::HaveEntry {
    let mut have: Vec<wire::Range> = live.to_wire(usize::MAX);
    let mut end = last;
    if let Some(cut) = have.get(OWN_RANGES) {
        end = cut.first.saturating_sub(1);
        have.truncate(OWN_RANGES);
    }
    let gone = if end > 0 { vec![wire::Range { first: 1, last: end }] } else { Vec::new() };
    wire::HaveEntry { device: device.to_vec(), incarnation: life.0, have, gone }
}

/// What somebody says of one life.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) key: Key,
    /// Can give.
    pub(crate) have: RangeSet,
    /// Has, or does not need.
    pub(crate) known: RangeSet,
}

impl Told {
    /// The numbers below the lowest that are told, which the word may have had no room for.
    pub(crate) fn untold(&self) -> RangeSet {
        let mut untold = RangeSet::new();
        let lowest = self.known.iter().next().and_then(|(first, _)| first.checked_sub(1));
        if let Some(last) = lowest {
            untold.insert_range(0, last);
        }
        untold
    }
}

/// The newest Have of a neighbour, as it came.
#[derive(Debug, Clone)]
pub(crate) struct Word {
    pub(crate) life: Incarnation,
    pub(crate) number: u64,
    pub(crate) run: u32,
    /// Up to which of its author's own records it tells.
    pub(crate) own_to: u64,
    pub(crate) signed: wire::Signed,
}

/// A Have whose signature holds.
#[derive(Debug)]
pub(crate) struct HaveClaim {
    pub(crate) life: Incarnation,
    pub(crate) generation: u32,
    pub(crate) number: u64,
    pub(crate) run: u32,
    pub(crate) told: Vec<Told>,
}

impl HaveClaim {
    /// Checks a Have of the device `from`; `relay` finds its relay key.
    pub(crate) fn parse<'a>(
        org: &OrgId,
        from: &DeviceId,
        signed: &wire::Signed,
        relay: impl Fn(Incarnation, u32) -> Option<&'a PublicKey>,
    ) -> Option<Self> {
        let raw = wire::Have::decode(signed.payload.as_slice()).ok()?;
        if raw.device != from.as_bytes() || raw.entries.len() > limits::HAVE_ENTRIES {
            return None;
        }
        let key = relay(Incarnation(raw.incarnation), raw.r#gen)?;
        verify(SignedType::Have, org, signed, &[*key]).ok()?;
        let ranges: usize =
            raw.entries.iter().map(|entry| entry.have.len().saturating_add(entry.gone.len())).sum();
        if ranges > limits::HAVE_RANGES.saturating_add(limits::HAVE_ENTRIES) {
            return None;
        }
        // One entry for each life, however often it is named: each costs a look at all that is owed.
        let mut told = BTreeMap::new();
        for entry in &raw.entries {
            let Ok(device) = DeviceId::try_from(entry.device.as_slice()) else { continue };
            let (have, known): &mut (RangeSet, RangeSet) =
                told.entry((device, Incarnation(entry.incarnation))).or_default();
            have.union(&RangeSet::from_wire(&entry.have, limits::HAVE_RANGES));
            known.union(&RangeSet::from_wire(&entry.gone, limits::HAVE_RANGES));
            known.union(have);
        }
        let told = told.into_iter().map(|(key, (have, known))| Told { key, have, known });
        Some(Self {
            life: Incarnation(raw.incarnation),
            generation: raw.r#gen,
            number: raw.number,
            run: raw.run,
            told: told.collect(),
        })
    }
}

/// The 33 bytes that two neighbours compare before anything else: a version, and a hash of the log's heads and of all
/// that is known of everybody's records (docs/protocol.md, section 10.3).
pub(crate) fn equality<'a>(
    heads: impl ExactSizeIterator<Item = &'a OpHash>,
    known: &BTreeMap<Key, RangeSet>,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let count = |len: usize| u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes();
    bytes.extend(count(heads.len()));
    heads.for_each(|head| bytes.extend_from_slice(head.as_bytes()));
    for ((device, life), set) in known.iter().filter(|(_, set)| !set.is_empty()) {
        bytes.extend_from_slice(device.as_bytes());
        bytes.extend_from_slice(&life.0.to_be_bytes());
        bytes.extend(count(set.len()));
        for (first, last) in set.iter() {
            bytes.extend_from_slice(&first.to_be_bytes());
            bytes.extend_from_slice(&last.to_be_bytes());
        }
    }
    let mut equality = vec![limits::VERSION];
    equality.extend_from_slice(&sha256(&bytes));
    equality
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ranges: &[(u64, u64)]) -> RangeSet {
        let mut set = RangeSet::new();
        ranges.iter().for_each(|(first, last)| set.insert_range(*first, *last));
        set
    }

    #[test]
    fn an_author_never_says_that_something_it_still_owes_is_gone() {
        let device = DeviceId::from([1; 32]);
        let mut live = RangeSet::new();
        (1..=2_000u64).for_each(|n| {
            live.insert(n * 2);
        });
        for (live, last) in [(set(&[]), 9), (set(&[(3, 4)]), 9), (live.clone(), 4_000)] {
            let entry = own_entry(&device, Incarnation(1), last, &live);
            assert!(entry.have.len() <= OWN_RANGES);
            let have = RangeSet::from_wire(&entry.have, usize::MAX);
            let mut gone = RangeSet::from_wire(&entry.gone, usize::MAX);
            gone.subtract(&have);
            assert!(gone.common(&live).is_empty());
        }
        let whole = own_entry(&device, Incarnation(1), 9, &set(&[(3, 4)]));
        assert_eq!((whole.have.len(), whole.gone), (1, vec![wire::Range { first: 1, last: 9 }]));
    }

    #[test]
    fn golden_equality() {
        let heads = [OpHash::from([1; 32])];
        let known = [((DeviceId::from([2; 32]), Incarnation(3)), set(&[(1, 5), (9, 9)]))];
        let known = BTreeMap::from(known);
        let bytes = equality(heads.iter(), &known);
        let expected = [
            [0, 0, 0, 1].as_slice(),
            &[1; 32],
            &[2; 32],
            &[0, 0, 0, 3],
            &[0, 0, 0, 2],
            &1u64.to_be_bytes(),
            &5u64.to_be_bytes(),
            &9u64.to_be_bytes(),
            &9u64.to_be_bytes(),
        ]
        .concat();
        assert_eq!(bytes, [[1].as_slice(), &sha256(&expected)].concat());
        let mut empty = known.clone();
        empty.insert((DeviceId::from([7; 32]), Incarnation(0)), RangeSet::new());
        assert_eq!(
            equality(heads.iter(), &empty),
            bytes,
            "a device of which nothing is known says nothing"
        );
    }
}
