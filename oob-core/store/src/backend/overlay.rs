//! What the journal holds and the tree beneath does not yet, sorted in memory, and reads of both together.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};

use super::{BackendError, Batch, Bytes, KeyRange, Kv, Reader, Write};

/// What one write costs in memory beside its bytes, counted against the bound of a table.
const ENTRY_BYTES: usize = 96;

/// Records asked of the tree beneath at a time: enough that asking again costs nothing, and no more than a scan wants by much.
const CHUNK: usize = 4096;

/// What a write counts as at least on its way to the tree beneath, which writes a node for it.
const LEAST: usize = 256;

/// A value, or that there is none.
type Entry = Option<Bytes>;

/// The newest values of some keys; `None` hides what lies beneath. Nobody ever copies a table.
#[derive(Debug, Default)]
pub(super) struct Table {
    entries: BTreeMap<Bytes, Entry>,
    /// Bytes written into it, those written over included: what the tree beneath may need for it at worst.
    bytes: usize,
}

impl Table {
    /// Returns the bytes written into it.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns what these writes will add to [`Self::bytes`].
    pub(super) fn cost(batch: &Batch) -> usize {
        let write = |(key, value): &Write| {
            ENTRY_BYTES + key.len() + value.as_ref().map_or(0, |value| value.len())
        };
        batch.writes.iter().map(write).sum()
    }

    fn write(&mut self, batch: &Batch) {
        self.bytes = self.bytes.saturating_add(Self::cost(batch));
        for (key, value) in &batch.writes {
            self.entries.insert(key.clone(), value.clone());
        }
    }

    /// Returns the part of a range that a scan for so many records can want, in its order: what it finds, and what hides some of
    /// that from it. `hidden` of what it finds here may be hidden by another table.
    fn part(&self, range: &KeyRange, reverse: bool, limit: usize, hidden: usize) -> Vec<Held> {
        let bounds =
            (Bound::Included(range.first.as_slice()), Bound::Included(range.last.as_slice()));
        let mut entries = self.entries.range::<[u8], _>(bounds);
        let mut left = limit.saturating_add(hidden);
        let mut part = Vec::new();
        while left > 0 {
            let next = if reverse { entries.next_back() } else { entries.next() };
            let Some((key, value)) = next else { break };
            left -= usize::from(value.is_some());
            part.push((key.clone(), value.clone()));
        }
        part
    }

    /// Returns the writes behind a key, up to so many bytes but one at least, and whether they are the last. A removal counts as what
    /// it costs the tree.
    pub(super) fn piece(&self, after: Option<&[u8]>, bytes: usize) -> (Batch, bool) {
        let mut batch = Batch::default();
        let mut taken = 0_usize;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        for (key, value) in self.entries.range::<[u8], _>((from, Bound::Unbounded)) {
            if taken >= bytes {
                return (batch, false);
            }
            let bytes = key.len() + value.as_ref().map_or(0, |value| value.len());
            taken = taken.saturating_add(bytes.max(LEAST));
            batch.writes.push((key.clone(), value.clone()));
        }
        (batch, true)
    }
}

/// What a scan takes along of a table.
type Held = (Bytes, Entry);

/// The table that is written to, and the one that is on its way to the tree beneath. Readers have the lock while they look into
/// tables in memory, never while they read the tree.
#[derive(Debug, Default)]
struct Tables {
    active: Table,
    /// Nobody writes to it, so readers may keep it.
    frozen: Option<Arc<Table>>,
}

/// Both tables over a tree. Clones are the same; reads wait for no disk but that of the tree. A scan that
/// lasts while batches come may see one of them in part, as one of the tree alone may.
#[derive(Clone)]
pub(super) struct Overlay {
    /// Nothing once the tree is closed.
    tables: Arc<RwLock<Option<Tables>>>,
    beneath: Arc<dyn Reader>,
    /// The one key that nobody sees.
    hidden: &'static [u8],
}

impl Overlay {
    pub(super) fn new(beneath: Arc<dyn Reader>, hidden: &'static [u8]) -> Self {
        let tables = Arc::new(RwLock::new(Some(Tables::default())));
        Self { tables, beneath, hidden }
    }

    /// Lays a batch over everything.
    pub(super) fn write(&self, batch: &Batch) {
        self.change(|tables| tables.active.write(batch));
    }

    /// Puts the table aside that was written to and begins another. There must be none aside.
    pub(super) fn freeze(&self) {
        self.change(|tables| tables.frozen = Some(Arc::new(std::mem::take(&mut tables.active))));
    }

    /// Forgets the table that was put aside, since the tree beneath holds it.
    pub(super) fn thaw(&self) {
        let mut gone = None;
        self.change(|tables| gone = tables.frozen.take());
        drop(gone);
    }

    /// Forgets everything; reads answer [`BackendError::Closed`] from now on.
    pub(super) fn close(&self) {
        *self.tables.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Returns the bytes written into the table in use.
    pub(super) fn bytes(&self) -> usize {
        self.look(|tables| tables.active.bytes()).unwrap_or(0)
    }

    /// Returns the table that was put aside.
    pub(super) fn frozen(&self) -> Option<Arc<Table>> {
        self.look(|tables| tables.frozen.clone()).ok()?
    }

    fn change(&self, act: impl FnOnce(&mut Tables)) {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(tables) = tables.as_mut() {
            act(tables);
        }
    }

    fn look<T>(&self, act: impl FnOnce(&Tables) -> T) -> Result<T, BackendError> {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        tables.as_ref().map(act).ok_or(BackendError::Closed)
    }
}

impl Reader for Overlay {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, BackendError> {
        // The tables before the tree: what leaves a table is in the tree by then.
        let held = self.look(|tables| {
            let older = || tables.frozen.as_ref()?.entries.get(key).cloned();
            tables.active.entries.get(key).cloned().or_else(older)
        })?;
        match held {
            Some(value) => Ok(value.map(|value| value.to_vec())),
            None if key == self.hidden => Ok(None),
            None => self.beneath.get(key),
        }
    }

    fn scan(&self, range: &KeyRange, reverse: bool, limit: usize) -> Result<Vec<Kv>, BackendError> {
        if range.first > range.last {
            return Ok(Vec::new());
        }
        let (active, frozen) = self.look(|tables| {
            let active = tables.active.part(range, reverse, limit, 0);
            (active, tables.frozen.clone())
        })?;
        // What is removed in the one table may be there in the other.
        let removed = active.iter().filter(|(_, value)| value.is_none()).count();
        let frozen = frozen.map(|table| table.part(range, reverse, limit, removed));
        let mut layers = [Layer::of(active), Layer::of(frozen.unwrap_or_default())];
        let mut beneath = Beneath::of(self, range, reverse, limit);
        let mut found = Vec::new();
        while found.len() < limit {
            let heads = [layers[0].key(), layers[1].key(), beneath.key()?];
            let next = heads.into_iter().flatten();
            let next = if reverse { next.max() } else { next.min() };
            let Some(key) = next.map(<[u8]>::to_vec) else { break };
            let [above, below] = &mut layers;
            // The newest counts; the others are passed over.
            let stored = beneath.take(&key);
            let older = below.take(&key);
            let value = match above.take(&key).or(older) {
                Some(value) => value.map(|value| value.to_vec()),
                None => stored,
            };
            if let Some(value) = value {
                found.push((key, value));
            }
        }
        Ok(found)
    }
}

/// What a scan took along of a table, in its order.
struct Layer {
    next: Option<Held>,
    rest: std::vec::IntoIter<Held>,
}

impl Layer {
    fn of(part: Vec<Held>) -> Self {
        let mut rest = part.into_iter();
        Self { next: rest.next(), rest }
    }

    fn key(&self) -> Option<&[u8]> {
        self.next.as_ref().map(|(key, _)| &**key)
    }

    /// Returns what this layer says of the key, if it is its next.
    fn take(&mut self, key: &[u8]) -> Option<Entry> {
        let (_, value) = self.next.take_if(|(next, _)| **next == *key)?;
        self.next = self.rest.next();
        Some(value)
    }
}

/// What a scan finds in the tree beneath, some at a time.
struct Beneath<'a> {
    overlay: &'a Overlay,
    range: KeyRange,
    reverse: bool,
    chunk: usize,
    read: std::vec::IntoIter<Kv>,
    next: Option<Kv>,
    ended: bool,
}

impl<'a> Beneath<'a> {
    fn of(overlay: &'a Overlay, range: &KeyRange, reverse: bool, limit: usize) -> Self {
        // One more for the key that is hidden.
        let chunk = limit.saturating_add(1).min(CHUNK);
        let (range, read) = (range.clone(), Vec::new().into_iter());
        Self { overlay, range, reverse, chunk, read, next: None, ended: false }
    }

    fn key(&mut self) -> Result<Option<&[u8]>, BackendError> {
        while self.next.is_none() {
            match self.read.next() {
                Some((key, _)) if key == self.overlay.hidden => {}
                Some(record) => self.next = Some(record),
                None if self.ended => return Ok(None),
                None => self.read_on()?,
            }
        }
        Ok(self.next.as_ref().map(|(key, _)| key.as_slice()))
    }

    fn read_on(&mut self) -> Result<(), BackendError> {
        let read = self.overlay.beneath.scan(&self.range, self.reverse, self.chunk)?;
        self.ended = read.len() < self.chunk;
        if let Some((last, _)) = read.last() {
            if !self.reverse {
                // The next key there can be.
                self.range.first = [last.as_slice(), &[0]].concat();
            } else if let Some(before) = before(last) {
                self.range.last = before;
            } else {
                self.ended = true;
            }
        }
        self.read = read.into_iter();
        Ok(())
    }

    fn take(&mut self, key: &[u8]) -> Option<Vec<u8>> {
        self.next.take_if(|(next, _)| next.as_slice() == key).map(|(_, value)| value)
    }
}

/// Returns the highest key of at most as many bytes that lies before one; `None` before the empty key.
fn before(key: &[u8]) -> Option<Vec<u8>> {
    let (last, head) = key.split_last()?;
    let mut before = head.to_vec();
    if let Some(last) = last.checked_sub(1) {
        before.push(last);
        // Longer keys lie between; ours are shorter than this by far.
        before.extend_from_slice(&[0xff; 64]);
    }
    Some(before)
}

#[cfg(test)]
mod tests {
    use super::super::{Backend, MemoryTree};
    use super::*;

    fn put(number: u16, value: Option<&[u8]>) -> Batch {
        Batch::of([(number.to_be_bytes().to_vec(), value.map(<[u8]>::to_vec))])
    }

    fn range() -> KeyRange {
        KeyRange { first: Vec::new(), last: vec![0xff; 2] }
    }

    /// A thousand removals in one piece would hold up whoever reads for as long as a thousand nodes take.
    #[test]
    fn removals_count_as_what_they_cost_the_tree() {
        let overlay = Overlay::new(MemoryTree::new().reader(), b"hidden");
        (0..100).for_each(|number| overlay.write(&put(number, None)));
        let tables = overlay.tables.read().unwrap();
        let table = &tables.as_ref().unwrap().active;
        let (mut after, mut pieces) = (None::<Bytes>, Vec::new());
        loop {
            let (batch, is_last) = table.piece(after.as_deref(), 10 * LEAST);
            pieces.push(batch.writes.len());
            after = batch.writes.last().map(|(key, _)| key.clone());
            if is_last {
                break;
            }
        }
        assert_eq!(pieces, [10; 10]);
    }

    /// A scan takes along what it can want and no more, so that it holds up no commit for longer than that, whatever waits there.
    #[test]
    fn a_scan_takes_no_more_of_a_table_than_it_can_want() {
        let overlay = Overlay::new(MemoryTree::new().reader(), b"hidden");
        (0..1_000).for_each(|number| overlay.write(&put(number, Some(b"x"))));
        (0..5).for_each(|number| overlay.write(&put(number, None)));
        let taken = |reverse, hidden| {
            overlay.look(|tables| tables.active.part(&range(), reverse, 10, hidden)).unwrap().len()
        };
        assert_eq!((taken(false, 0), taken(true, 0), taken(true, 3)), (15, 10, 13));
        let found = overlay.scan(&range(), false, 10).unwrap();
        assert!(found.iter().map(|(key, _)| key[1]).eq(5..15), "{found:?}");
    }

    /// While a scan is on its way through the tree, batches are written and tables change places. It tells what was there when it
    /// began, and the tables it looked at are not its own: before, each of these batches copied the table.
    #[test]
    fn a_scan_on_its_way_holds_up_no_batch() {
        struct Slow(Overlay);
        impl Reader for Slow {
            fn get(&self, _key: &[u8]) -> Result<Option<Vec<u8>>, BackendError> {
                self.0.write(&put(9, Some(b"while it reads")));
                Ok(None)
            }
            fn scan(&self, _: &KeyRange, _: bool, _: usize) -> Result<Vec<Kv>, BackendError> {
                self.0.write(&put(1, Some(b"while it reads")));
                self.0.write(&put(3, Some(b"while it reads")));
                self.0.freeze();
                self.0.thaw();
                Ok(Vec::new())
            }
        }
        let inner = Overlay::new(MemoryTree::new().reader(), b"hidden");
        let overlay = Overlay { beneath: Arc::new(Slow(inner.clone())), ..inner };
        overlay.write(&put(1, Some(b"before")));
        overlay.write(&put(2, Some(b"before")));
        let found = overlay.scan(&range(), false, 10).unwrap();
        assert!(found.iter().all(|(_, value)| value == b"before") && found.len() == 2, "{found:?}");
        assert_eq!(overlay.get(&[0, 7]).unwrap(), None);
        assert_eq!(overlay.get(&[0, 9]).unwrap().unwrap(), b"while it reads");
    }
}
