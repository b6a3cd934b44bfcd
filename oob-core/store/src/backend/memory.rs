//! A backend that lives and dies with the process.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use super::{Backend, BackendError, Batch, Boundless, Cells, Gauge, KeyRange, Kv, Parts, Reader};

/// Records of a tree that has no disk.
pub(crate) type Records = BTreeMap<Vec<u8>, Vec<u8>>;

/// A tree in memory, readable from any thread.
#[derive(Clone, Default)]
pub struct MemoryTree(Arc<RwLock<Option<Records>>>);

impl MemoryTree {
    /// Makes an empty tree.
    pub fn new() -> Self {
        Self::holding(Records::new())
    }

    pub(crate) fn holding(records: Records) -> Self {
        Self(Arc::new(RwLock::new(Some(records))))
    }
}

/// Writes a batch to plain records.
pub(crate) fn write(records: &mut Records, batch: &Batch) {
    for (key, value) in &batch.writes {
        match value {
            Some(value) => records.insert(key.to_vec(), value.to_vec()),
            None => records.remove(&**key),
        };
    }
}

impl Backend for MemoryTree {
    fn gauge(&self) -> Arc<dyn Gauge> {
        Arc::new(Boundless)
    }

    fn apply(&mut self, batch: &Batch) -> Result<(), BackendError> {
        let mut records = self.0.write().unwrap_or_else(PoisonError::into_inner);
        write(records.as_mut().ok_or(BackendError::Closed)?, batch);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), BackendError> {
        Ok(())
    }

    fn reader(&self) -> Arc<dyn Reader> {
        Arc::new(self.clone())
    }

    fn close(&mut self) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl Reader for MemoryTree {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, BackendError> {
        let records = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Ok(records.as_ref().ok_or(BackendError::Closed)?.get(key).cloned())
    }

    fn scan(&self, range: &KeyRange, reverse: bool, limit: usize) -> Result<Vec<Kv>, BackendError> {
        if range.first > range.last {
            return Ok(Vec::new());
        }
        let records = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let found = records
            .as_ref()
            .ok_or(BackendError::Closed)?
            .range::<[u8], _>((
                std::ops::Bound::Included(range.first.as_slice()),
                std::ops::Bound::Included(range.last.as_slice()),
            ))
            .map(|(key, value)| (key.clone(), value.clone()));
        Ok(if reverse { found.rev().take(limit).collect() } else { found.take(limit).collect() })
    }
}

/// A file in memory.
#[derive(Debug, Clone, Default)]
pub struct MemoryCells(Vec<u8>);

impl MemoryCells {
    /// Makes an empty file.
    pub fn new() -> Self {
        Self::default()
    }
}

/// Overwrites a part of plain bytes, growing them with zeros as needed.
pub(crate) fn overwrite(file: &mut Vec<u8>, offset: u64, bytes: &[u8]) -> io::Result<()> {
    let at = usize::try_from(offset).map_err(io::Error::other)?;
    let end = at.saturating_add(bytes.len());
    if file.len() < end {
        file.resize(end, 0);
    }
    if let Some(place) = file.get_mut(at..end) {
        place.copy_from_slice(bytes);
    }
    Ok(())
}

impl Cells for MemoryCells {
    fn read(&self) -> io::Result<Vec<u8>> {
        Ok(self.0.clone())
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        overwrite(&mut self.0, offset, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Parts {
    /// Makes the parts of a store that is gone when it is dropped.
    pub fn in_memory() -> Self {
        Self {
            tree: Box::new(MemoryTree::new()),
            slots: Box::new(MemoryCells::new()),
            keyring: Box::new(MemoryCells::new()),
        }
    }
}
