//! Committed records, for anybody who wants to read beside the owner of the store.

use std::fmt;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use crate::backend::{BackendError, KeyRange, Kv, Reader};
use crate::bag::{Bag, Order};
use crate::error::StoreError;
use crate::keys::{Keys, Prefix, address, seq_of};
use crate::proof::Proof;
use crate::seal::{NO_SLOT, open_in_place, slot_of};

/// A read-only look at the committed records of a store: cheap to clone, usable from any thread, never waiting for a
/// commit to reach the disk.
///
/// A view sees whole batches only. It may see the newest a moment before it is durable, so nothing that leaves the
/// device may be decided by a view. Secrets are not in it.
#[derive(Clone)]
pub struct View {
    pub(crate) reader: Arc<dyn Reader>,
    pub(crate) keys: Arc<Keys>,
    pub(crate) proof: Arc<Proof>,
}

impl fmt::Debug for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("View(..)")
    }
}

impl View {
    /// Returns the committed value of a record.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if it does not open, [`StoreError::Closed`] once the store is closed.
    pub fn get(&self, bag: &Bag, seq: u64) -> Result<Option<Vec<u8>>, StoreError> {
        let key = address(&self.keys.prefix(bag), seq);
        self.proof.check(&key)?;
        self.reader.get(&key)?.map(|stored| self.open(bag, &key, stored)).transpose()
    }

    /// Returns up to `limit` committed records of a bag, with their sequence numbers, starting at the end of the range
    /// that `order` names.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if one does not open, [`StoreError::Closed`] once the store is closed.
    pub fn scan(
        &self,
        bag: &Bag,
        seqs: impl RangeBounds<u64>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        let Some(range) = key_range(&self.keys.prefix(bag), &seqs) else { return Ok(Vec::new()) };
        self.proof.check(&range.first)?;
        let found = self.reader.scan(&range, order == Order::Descending, limit)?;
        found
            .into_iter()
            .map(|(key, stored)| Ok((seq(&key)?, self.open(bag, &key, stored)?)))
            .collect()
    }

    /// Returns the highest committed sequence number of a bag.
    ///
    /// # Errors
    /// [`StoreError::Closed`] once the store is closed.
    pub fn last_seq(&self, bag: &Bag) -> Result<Option<u64>, StoreError> {
        let Some(range) = key_range(&self.keys.prefix(bag), &..) else { return Ok(None) };
        self.proof.check(&range.first)?;
        let found: Vec<Kv> = self.reader.scan(&range, true, 1)?;
        found.first().map(|(key, _)| seq(key)).transpose()
    }

    /// Opens a stored value of a bag.
    pub(crate) fn open(
        &self,
        bag: &Bag,
        key: &[u8],
        stored: Vec<u8>,
    ) -> Result<Vec<u8>, StoreError> {
        let key = key.try_into().map_err(|_| StoreError::damaged("a key has the wrong length"))?;
        if slot_of(&stored)? != NO_SLOT {
            return Err(StoreError::damaged("a record names a key slot it cannot have"));
        }
        let mut plain = open_in_place(self.keys.value(bag.class), &key, stored)?;
        Ok(std::mem::take(&mut *plain))
    }
}

/// Returns the sequence number in a stored key.
pub(crate) fn seq(key: &[u8]) -> Result<u64, StoreError> {
    seq_of(key).ok_or_else(|| StoreError::damaged("a key has the wrong length"))
}

/// Returns the keys of a range of sequence numbers; `None` if it is empty.
pub(crate) fn key_range(prefix: &Prefix, seqs: &impl RangeBounds<u64>) -> Option<KeyRange> {
    let first = match seqs.start_bound() {
        Bound::Unbounded => 0,
        Bound::Included(first) => *first,
        Bound::Excluded(before) => before.checked_add(1)?,
    };
    let last = match seqs.end_bound() {
        Bound::Unbounded => u64::MAX,
        Bound::Included(last) => *last,
        Bound::Excluded(after) => after.checked_sub(1)?,
    };
    (first <= last).then(|| KeyRange {
        first: address(prefix, first).to_vec(),
        last: address(prefix, last).to_vec(),
    })
}

impl From<BackendError> for StoreError {
    fn from(error: BackendError) -> Self {
        match error {
            BackendError::Full { free, needed } => Self::Full { free, needed },
            BackendError::Damaged(what) => Self::Damaged { what },
            BackendError::Closed => Self::Closed,
            BackendError::Io(source) => Self::Io { what: "read or write records", source },
        }
    }
}
