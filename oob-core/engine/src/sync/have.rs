//! Have: the signed word of a device on what it holds. Until members carry each other's envelopes it speaks of the
//! neighbour's own records only.

use crate::{
    model::RangeSet,
    own::{Identity, Life},
};
use oob_crypto::{
    PublicKey,
    signed::{sign, verify},
};
use oob_proto::{DeviceId, Incarnation, Message, OrgId, limits, signing::SignedType, wire};

/// Lives of one device a Have speaks of.
const LIVES: usize = 16;

/// Writes and signs a Have. No envelope below `owed_from` is owed to the reader.
pub(crate) fn have(
    org: &OrgId,
    identity: &Identity,
    life: &mut Life,
    entries: Vec<wire::HaveEntry>,
    owed_from: u64,
) -> wire::Signed {
    let have = wire::Have {
        device: identity.device.to_vec(),
        incarnation: life.incarnation.0,
        r#gen: life.rlk_gen,
        number: life.take_have(),
        entries,
        owed_from,
    };
    sign(SignedType::Have, org, have.encode_to_vec(), &[&life.rlk])
}

/// A Have whose signature holds.
#[derive(Debug)]
pub(crate) struct HaveClaim {
    pub(crate) number: u64,
    pub(crate) incarnation: Incarnation,
    /// Nothing of its own below this is owed to the reader.
    pub(crate) owed_from: u64,
    /// Of the reader's own records, by life: what is there or was given up.
    pub(crate) mine: Vec<(Incarnation, RangeSet)>,
}

impl HaveClaim {
    /// Checks a Have of the device `from`; `relay` finds its relay key.
    pub(crate) fn parse<'a>(
        org: &OrgId,
        from: &DeviceId,
        me: &DeviceId,
        signed: &wire::Signed,
        relay: impl Fn(Incarnation, u32) -> Option<&'a PublicKey>,
    ) -> Option<Self> {
        let raw = wire::Have::decode(signed.payload.as_slice()).ok()?;
        if raw.device != from.as_bytes() {
            return None;
        }
        let key = relay(Incarnation(raw.incarnation), raw.r#gen)?;
        verify(SignedType::Have, org, signed, &[*key]).ok()?;
        let ranges: usize =
            raw.entries.iter().map(|entry| entry.have.len().saturating_add(entry.gone.len())).sum();
        if ranges > limits::HAVE_RANGES {
            return None;
        }
        let mine = raw.entries.iter().filter(|entry| entry.device == me.as_bytes()).map(|entry| {
            let mut ranges = RangeSet::from_wire(&entry.have, limits::HAVE_RANGES);
            ranges.union(&RangeSet::from_wire(&entry.gone, limits::HAVE_RANGES));
            (Incarnation(entry.incarnation), ranges)
        });
        let mine = mine.take(LIVES).collect();
        let incarnation = Incarnation(raw.incarnation);
        Some(Self { number: raw.number, incarnation, owed_from: raw.owed_from, mine })
    }
}
