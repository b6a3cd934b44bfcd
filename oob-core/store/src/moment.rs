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

/// Notes looked at in one read, with the lock that each commit takes too: a fraction of a millisecond.
const NOTES: usize = 1_024;

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

/// What a record was.
type Note = Option<Arc<[u8]>>;

/// Records and what they were, and the last one looked at, if there may be more behind it.
type Notes = (Vec<(Vec<u8>, Note)>, Option<Vec<u8>>);

/// What was overwritten since the moment.
#[derive(Default)]
pub(crate) struct Before(Mutex<Noted>);

#[derive(Default)]
struct Noted {
    /// What each record was, none if it was not there.
    records: BTreeMap<Vec<u8>, Note>,
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
            entry.insert(was.map(Arc::from));
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

    /// Returns the next records of a bag from a sequence number on, at most twice `limit`; none if there are none.
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
        self.view.proof.check(&prefix)?;
        let mut from = from;
        loop {
            let Some(range) = key_range(&prefix, &(from..)) else { return Ok(Vec::new()) };
            let stored = self.view.reader.scan(&range, false, limit)?;
            let mut end = match stored.last() {
                Some((last, _)) if stored.len() >= limit => Some(last.clone()),
                _ => None,
            };
            let (notes, seen) =
                self.notes(range.first, end.as_ref().unwrap_or(&range.last), limit)?;
            let mut found: BTreeMap<Vec<u8>, Vec<u8>> = stored.into_iter().collect();
            if seen.is_some() {
                end = seen;
            }
            for (key, was) in notes {
                match was {
                    Some(was) => found.insert(key, was.to_vec()),
                    None => found.remove(&key),
                };
            }
            if let Some(end) = &end {
                found.retain(|key, _| key <= end);
            }
            // All that was read may be newer than the moment, and more behind it.
            let next = match end {
                Some(end) if found.is_empty() => seq(&end)?.checked_add(1),
                _ => None,
            };
            let Some(next) = next else {
                return found
                    .into_iter()
                    .map(|(key, stored)| Ok((seq(&key)?, self.view.open(bag, &key, stored)?)))
                    .collect();
            };
            from = next;
        }
    }

    /// Returns what records were between two keys: up to so many that were there, and the last key looked at, if there may be
    /// more behind it.
    fn notes(&self, first: Vec<u8>, last: &Vec<u8>, limit: usize) -> Result<Notes, StoreError> {
        let noted = self.before.lock();
        if let Some(why) = noted.given_up {
            return Err(StoreError::GivenUp { why });
        }
        let (mut notes, mut there) = (Vec::new(), 0_usize);
        if first > *last {
            return Ok((notes, None));
        }
        for (key, was) in noted.records.range(first..=last.clone()) {
            notes.push((key.clone(), was.clone()));
            there = there.saturating_add(usize::from(was.is_some()));
            if there >= limit.max(1) || notes.len() >= NOTES {
                return Ok((notes, Some(key.clone())));
            }
        }
        Ok((notes, None))
    }
}
