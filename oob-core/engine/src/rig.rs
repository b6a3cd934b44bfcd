//! What the simulator fits into a device: switches that take a safeguard away, so that it can be shown to notice, and
//! counters of what an honest world must never see. Compiled with the feature `sim` only.

use crate::{record::RecordRef, session::OpenedBody};
use oob_proto::DeviceId;
use std::{collections::BTreeMap, sync::Arc};

/// Of so many batches, one is made durable where [`Faults::acknowledge_before_durable`] is set.
const DURABLE_EVERY: u64 = 16;

/// Safeguards to take away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Faults {
    /// A record that came before is shown again: neither its number nor the ratchet's turn nor the number of its body
    /// is looked at.
    pub no_duplicate_check: bool,
    /// Replies, events and effects leave before their batch is durable.
    pub acknowledge_before_durable: bool,
    /// What was lost on its way is not offered again on the next stream.
    pub no_repair: bool,
    /// A neighbour's word that records of others are not needed is taken for everybody's.
    pub believe_gone: bool,
    /// Nobody looks at the signature of an envelope.
    pub no_signature_check: bool,
    /// A device that is put back goes on in the life it was in, whatever its neighbours show it.
    pub same_life: bool,
}

/// What an honest world must never see, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Oddities {
    /// Envelopes for this device that did not open.
    pub unopened: u64,
    /// Bodies that opened and were refused.
    pub refused: u64,
}

/// The switches and counters of one device.
#[derive(Default)]
pub(crate) struct Rig {
    pub(crate) faults: Faults,
    /// By the device that wrote what is odd.
    pub(crate) oddities: BTreeMap<DeviceId, Oddities>,
    /// Walks over all that is owed and all who carry it.
    pub(crate) walks: u64,
    batches: u64,
    opened: BTreeMap<RecordRef, Arc<Vec<OpenedBody>>>,
}

impl Rig {
    /// Counts an envelope that did not open.
    pub(crate) fn unopened(&mut self, by: &DeviceId) {
        self.oddities.entry(*by).or_default().unopened += 1;
    }

    /// Counts a walk over all that is owed.
    pub(crate) fn walked(&mut self) {
        self.walks += 1;
    }

    /// Counts a body that was refused.
    pub(crate) fn refused(&mut self, by: &DeviceId) {
        self.oddities.entry(*by).or_default().refused += 1;
    }

    /// Whether this batch is not made durable yet.
    pub(crate) fn puts_off(&mut self) -> bool {
        self.batches = self.batches.wrapping_add(1);
        self.faults.acknowledge_before_durable && !self.batches.is_multiple_of(DURABLE_EVERY)
    }

    /// What a record brought when it came first, if nobody is to notice that it comes again.
    pub(crate) fn again(&self, of: RecordRef) -> Option<Arc<Vec<OpenedBody>>> {
        self.opened.get(&of).filter(|_| self.faults.no_duplicate_check).cloned()
    }

    /// Keeps what a record brought, if it is to be shown again.
    pub(crate) fn keep(&mut self, of: RecordRef, bodies: Vec<OpenedBody>) -> Arc<Vec<OpenedBody>> {
        let bodies = Arc::new(bodies);
        if self.faults.no_duplicate_check {
            self.opened.insert(of, Arc::clone(&bodies));
        }
        bodies
    }
}
