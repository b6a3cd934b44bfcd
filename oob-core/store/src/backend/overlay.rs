//! What the journal holds and the tree beneath does not yet, sorted in memory, and reads of both together.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, PoisonError, RwLock};

use super::{BackendError, Batch, KeyRange, Kv, Reader};

/// What one write costs in memory beside its bytes, counted against the bound of a table.
const ENTRY_BYTES: usize = 96;

/// Records asked of the tree beneath at a time: enough that asking again costs nothing, and no more than a scan wants by much.
const CHUNK: usize = 4096;

/// A value, or that there is none.
type Entry = Option<Arc<[u8]>>;

/// The newest values of some keys; `None` hides what lies beneath.
#[derive(Debug, Default, Clone)]
pub(super) struct Table {
    entries: BTreeMap<Vec<u8>, Entry>,
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
        let write = |(key, value): &(Vec<u8>, Option<Vec<u8>>)| {
            ENTRY_BYTES + key.len() + value.as_ref().map_or(0, Vec::len)
        };
        batch.writes.iter().map(write).sum()
    }

    fn write(&mut self, batch: &Batch) {
        self.bytes = self.bytes.saturating_add(Self::cost(batch));
        for (key, value) in &batch.writes {
            self.entries.insert(key.clone(), value.as_deref().map(Arc::from));
        }
    }

    /// Returns the writes behind a key, up to so many bytes but one at least, and whether they are the last.
    pub(super) fn piece(&self, after: Option<&[u8]>, bytes: usize) -> (Batch, bool) {
        let mut batch = Batch::default();
        let mut taken = 0_usize;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        for (key, value) in self.entries.range::<[u8], _>((from, Bound::Unbounded)) {
            if taken >= bytes {
                return (batch, false);
            }
            let value = value.as_ref().map(|value| value.to_vec());
            taken = taken.saturating_add(key.len() + value.as_ref().map_or(0, Vec::len));
            batch.writes.push((key.clone(), value));
        }
        (batch, true)
    }
}

/// The table that is written to, and the one that is on its way to the tree beneath.
#[derive(Debug, Default, Clone)]
struct Tables {
    active: Arc<Table>,
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
        // A reader at work keeps what it has; the table is copied then, its values are not.
        self.change(|tables| Arc::make_mut(&mut tables.active).write(batch));
    }

    /// Puts the table aside that was written to and begins another. There must be none aside.
    pub(super) fn freeze(&self) {
        self.change(|tables| tables.frozen = Some(std::mem::take(&mut tables.active)));
    }

    /// Forgets the table that was put aside, since the tree beneath holds it.
    pub(super) fn thaw(&self) {
        let mut gone = None;
        self.change(|tables| gone = tables.frozen.take());
    }

    /// Forgets everything; reads answer [`BackendError::Closed`] from now on.
    pub(super) fn close(&self) {
        *self.tables.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Returns the table that is written to.
    pub(super) fn active(&self) -> Arc<Table> {
        self.now().map(|tables| tables.active).unwrap_or_default()
    }

    /// Returns the table that was put aside.
    pub(super) fn frozen(&self) -> Option<Arc<Table>> {
        self.now().ok()?.frozen
    }

    fn change(&self, act: impl FnOnce(&mut Tables)) {
        let mut tables = self.tables.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(tables) = tables.as_mut() {
            act(tables);
        }
    }

    fn now(&self) -> Result<Tables, BackendError> {
        let tables = self.tables.read().unwrap_or_else(PoisonError::into_inner);
        tables.clone().ok_or(BackendError::Closed)
    }
}

impl Reader for Overlay {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, BackendError> {
        // The tables before the tree: what leaves a table is in the tree by then.
        let tables = self.now()?;
        for table in [Some(&tables.active), tables.frozen.as_ref()].into_iter().flatten() {
            if let Some(value) = table.entries.get(key) {
                return Ok(value.as_ref().map(|value| value.to_vec()));
            }
        }
        if key == self.hidden { Ok(None) } else { self.beneath.get(key) }
    }

    fn scan(&self, range: &KeyRange, reverse: bool, limit: usize) -> Result<Vec<Kv>, BackendError> {
        if range.first > range.last {
            return Ok(Vec::new());
        }
        let tables = self.now()?;
        let frozen = tables.frozen.unwrap_or_default();
        let mut layers =
            [Layer::of(&tables.active, range, reverse), Layer::of(&frozen, range, reverse)];
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

/// The part of a table that a scan wants, in its order.
struct Layer<'a> {
    next: Option<(&'a Vec<u8>, &'a Entry)>,
    rest: std::collections::btree_map::Range<'a, Vec<u8>, Entry>,
    reverse: bool,
}

impl<'a> Layer<'a> {
    fn of(table: &'a Table, range: &KeyRange, reverse: bool) -> Self {
        let bounds =
            (Bound::Included(range.first.as_slice()), Bound::Included(range.last.as_slice()));
        let mut layer = Self { next: None, rest: table.entries.range::<[u8], _>(bounds), reverse };
        layer.step();
        layer
    }

    fn step(&mut self) {
        self.next = if self.reverse { self.rest.next_back() } else { self.rest.next() };
    }

    fn key(&self) -> Option<&[u8]> {
        self.next.map(|(key, _)| key.as_slice())
    }

    /// Returns what this layer says of the key, if it is its next.
    fn take(&mut self, key: &[u8]) -> Option<Entry> {
        let (_, value) = self.next.filter(|(next, _)| next.as_slice() == key)?;
        self.step();
        Some(value.clone())
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
