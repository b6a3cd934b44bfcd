//! Every envelope that an honest device wrote, as others saw it: no number and no key of a ratchet is used for two.

use crate::{envelope::VerifiedEnvelope, record::RecordRef};
use oob_proto::{DeviceId, EnvelopeId};
use std::collections::{BTreeMap, BTreeSet};

/// The envelopes of a world.
#[derive(Default)]
pub(super) struct Ledger {
    by_number: BTreeMap<RecordRef, EnvelopeId>,
    /// Each message key of a channel has a tag of its own.
    by_tag: BTreeMap<[u8; 16], RecordRef>,
    /// Whose envelopes are not looked at.
    but: BTreeSet<DeviceId>,
}

impl Ledger {
    /// Passes over a device, which is hostile.
    pub(super) fn pass_over(&mut self, device: DeviceId) {
        self.but.insert(device);
    }

    /// Notes an envelope; says what of it was used for another one.
    pub(super) fn take(&mut self, envelope: &VerifiedEnvelope) -> Option<String> {
        let of = envelope.record();
        if self.but.contains(&of.device) {
            return None;
        }
        let id = *self.by_number.entry(of).or_insert(envelope.id);
        if id != envelope.id {
            return Some(format!("number {} is on two envelopes", of.seq));
        }
        let first = *self.by_tag.entry(envelope.head.tag).or_insert(of);
        (first != of).then(|| format!("envelopes {} and {} have one tag", first.seq, of.seq))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use oob_crypto::envelope::{Class, Head, Life};
    use oob_proto::Incarnation;

    #[test]
    fn a_number_or_a_tag_that_comes_again_on_another_envelope_is_found() {
        let head = |tag| Head {
            first_flight: false,
            class: Class::for_len(1).unwrap(),
            life: Life::ThreeWeeks,
            tag: [tag; 16],
            release: [0; 16],
        };
        let of = |id: u8, life, seq, tag| VerifiedEnvelope {
            id: [id; 32].into(),
            device: DeviceId::from([1; 32]),
            incarnation: Incarnation(life),
            seq,
            head: head(tag),
            origin: Vec::new(),
            ct: Vec::new(),
        };
        let mut ledger = Ledger::default();
        assert_eq!(ledger.take(&of(1, 1, 5, 1)), None);
        assert_eq!(ledger.take(&of(1, 1, 5, 1)), None, "the same again");
        assert_eq!(ledger.take(&of(2, 2, 5, 2)), None, "another life");
        assert!(ledger.take(&of(3, 1, 5, 3)).is_some());
        assert!(ledger.take(&of(4, 1, 6, 1)).is_some());
        ledger.pass_over(DeviceId::from([1; 32]));
        assert_eq!(ledger.take(&of(3, 1, 5, 3)), None);
    }
}
