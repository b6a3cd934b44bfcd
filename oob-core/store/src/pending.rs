//! What was put and deleted since the last commit.

use std::collections::BTreeMap;

use zeroize::Zeroizing;

use crate::bag::KeyClass;
use crate::error::StoreError;
use crate::keys::Address;
use crate::limits::{NAME_BYTES, PAD_BYTES, VALUE_BYTES};

/// A value in the clear on its way to be sealed, or `None` for a deletion.
pub(crate) type Change = Option<Zeroizing<Vec<u8>>>;

/// The batch the next commit writes; the last change of each record wins.
#[derive(Default)]
pub(crate) struct Pending {
    pub(crate) records: BTreeMap<Address, (KeyClass, Change)>,
    pub(crate) secrets: BTreeMap<Vec<u8>, Change>,
}

/// What every batch has beside its changes.
const LEDGER_BYTES: u64 = 24 + 6 + 29 + 256 + 16 + 52;

impl Pending {
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.secrets.is_empty()
    }

    /// Says whether nothing is put.
    pub(crate) fn only_deletes(&self) -> bool {
        self.values().next().is_none()
    }

    /// Refuses what cannot be stored.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        if let Some(name) = self.secrets.keys().find(|n| n.is_empty() || n.len() > NAME_BYTES) {
            return Err(StoreError::BadName { len: name.len() });
        }
        match self.values().map(|value| value.len()).find(|len| *len > VALUE_BYTES) {
            Some(len) => Err(StoreError::ValueTooLong { len }),
            None => Ok(()),
        }
    }

    /// Returns about how many bytes the batch has once sealed; never less than it has.
    pub(crate) fn bytes(&self) -> u64 {
        let changes = (self.records.len() + self.secrets.len()) as u64;
        // Header, tag, length, name and padding of each.
        let value = |value: &Zeroizing<Vec<u8>>| value.len() + 29 + 16 + 4 + 256 + PAD_BYTES;
        let values: u64 = self.values().map(|it| value(it) as u64).sum();
        // The key of each and both lengths; and the ledger, and what stands before a record of the journal.
        values.saturating_add(changes.saturating_mul(24 + 6)).saturating_add(LEDGER_BYTES)
    }

    fn values(&self) -> impl Iterator<Item = &Zeroizing<Vec<u8>>> {
        self.records.values().map(|(_, change)| change).chain(self.secrets.values()).flatten()
    }
}
