//! The committed records as they were at one moment, read beside an owner who goes on writing.
//!
//! The store keeps what each later commit overwrites, for as long as somebody holds the moment; a reader lays that over
//! what is stored now. What is overwritten is noted before it is overwritten, and asked for after the reader has read: so
//! it does not matter which of both a read has met.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::bag::Bag;
use crate::error::StoreError;
use crate::limits::MOMENT_BYTES;
use crate::view::{View, key_range, seq};

/// What a noted record takes besides its value: its key, and its place in the map.
const ENTRY_BYTES: usize = 128;

/// The committed records of a store as they were at one moment. It can be read from any thread, and holds up no commit;
/// secrets are not in it.
///
/// It ends when more was overwritten since than the store keeps in memory, and when the store takes another moment: every
/// later read answers [`StoreError::GivenUp`].
pub struct Moment {
    view: View,
    before: Arc<Before>,
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Moment(..)")
    }
}

/// What was overwritten since the moment.
#[derive(Default)]
pub(crate) struct Before(Mutex<Noted>);

#[derive(Default)]
struct Noted {
    /// What each record was, none if it was not there.
    records: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    bytes: usize,
    given_up: Option<&'static str>,
}

impl Before {
    fn lock(&self) -> MutexGuard<'_, Noted> {
        // Nothing that is done with the lock held can stop half-way.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes what a record is before it is overwritten; the first note stands.
    pub(crate) fn note(&self, place: &[u8], was: Option<&[u8]>) {
        let mut noted = self.lock();
        if noted.given_up.is_some() {
            return;
        }
        let bytes = ENTRY_BYTES.saturating_add(was.map_or(0, <[u8]>::len));
        if noted.records.contains_key(place) {
            return;
        }
        if noted.bytes.saturating_add(bytes) > MOMENT_BYTES {
            return noted.give_up("too much was written meanwhile");
        }
        if let Entry::Vacant(entry) = noted.records.entry(place.to_vec()) {
            entry.insert(was.map(<[u8]>::to_vec));
            noted.bytes = noted.bytes.saturating_add(bytes);
        }
    }

    pub(crate) fn give_up(&self, why: &'static str) {
        self.lock().give_up(why);
    }
}

impl Noted {
    fn give_up(&mut self, why: &'static str) {
        *self = Self { given_up: Some(why), ..Self::default() };
    }
}

impl Moment {
    pub(crate) fn of(view: View) -> Self {
        Self { view, before: Arc::default() }
    }

    pub(crate) fn before(&self) -> &Arc<Before> {
        &self.before
    }

    /// Returns the next records of a bag from a sequence number on, at most `limit` and a few more; none if there are none.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if one does not open, [`StoreError::GivenUp`] once the moment has ended,
    /// [`StoreError::Closed`] once the store is closed.
    pub fn page(
        &self,
        bag: &Bag,
        from: u64,
        limit: usize,
    ) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        let prefix = self.view.keys.prefix(bag);
        let mut from = from;
        loop {
            let Some(range) = key_range(&prefix, &(from..)) else { return Ok(Vec::new()) };
            let stored = self.view.reader.scan(&range, false, limit)?;
            let last = match stored.last() {
                Some((last, _)) if stored.len() >= limit => Some(last.clone()),
                _ => None,
            };
            let mut found: BTreeMap<Vec<u8>, Vec<u8>> = stored.into_iter().collect();
            self.lay_over(&mut found, range.first, last.as_ref().unwrap_or(&range.last))?;
            // All that was read may be newer than the moment, and more behind it.
            let next = match last {
                Some(last) if found.is_empty() => seq(&last)?.checked_add(1),
                _ => None,
            };
            let Some(next) = next else {
                return found
                    .into_iter()
                    .map(|(key, stored)| Ok((seq(&key)?, self.view.open(bag, &key, &stored)?)))
                    .collect();
            };
            from = next;
        }
    }

    /// Makes what was read now what it was then, between two keys.
    fn lay_over(
        &self,
        found: &mut BTreeMap<Vec<u8>, Vec<u8>>,
        first: Vec<u8>,
        last: &Vec<u8>,
    ) -> Result<(), StoreError> {
        let noted = self.before.lock();
        if let Some(why) = noted.given_up {
            return Err(StoreError::GivenUp { why });
        }
        if first > *last {
            return Ok(());
        }
        for (key, was) in noted.records.range(first..=last.clone()) {
            match was {
                Some(was) => found.insert(key.clone(), was.clone()),
                None => found.remove(key),
            };
        }
        Ok(())
    }
}
