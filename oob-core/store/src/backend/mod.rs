//! What a store stands on: an ordered tree of bytes, and two small files written in place.
//!
//! Everything above this module sees only these traits. [`SledTree`] with [`Journaled`] in front of it and [`FileCells`] are
//! the real thing, [`MemoryTree`] and [`MemoryCells`] forget everything, and [`CrashDisk`] forgets exactly what was not synced.

mod file_cells;
mod journal;
mod memory;
mod overlay;
mod sled_tree;
mod slices;

// Above journal and overlay, of which they have what is to be written down.
mod descent;

// Above descent, which it does.
mod scribe;

// Above all of these, of which it is made.
mod journaled;

// Above memory and journaled, which it is made of.
mod crash;

use std::io;
use std::sync::Arc;

pub use crash::CrashDisk;
pub use file_cells::{FileCells, JournalFile};
pub use journaled::Journaled;
pub use memory::{MemoryCells, MemoryTree};
pub use sled_tree::SledTree;
pub(crate) use sled_tree::{free_bytes, sync_folder};

/// A record as the tree sees it: key and value.
pub type Kv = (Vec<u8>, Vec<u8>);

/// Both ends of a scan, inclusive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    /// The lowest key that may be returned.
    pub first: Vec<u8>,
    /// The highest key that may be returned.
    pub last: Vec<u8>,
}

/// Bytes that many hold and nobody changes. sled's own, so that what lies in the table is not copied on its way there.
pub type Bytes = sled::IVec;

/// A key and its new value; `None` removes the key.
pub type Write = (Bytes, Option<Bytes>);

/// Writes that happen together or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// Each key once.
    pub writes: Vec<Write>,
}

impl Batch {
    /// Makes a batch of keys and values, each key once.
    pub fn of<K, V>(writes: impl IntoIterator<Item = (K, Option<V>)>) -> Self
    where
        K: Into<Bytes>,
        V: Into<Bytes>,
    {
        let into = |(key, value): (K, Option<V>)| (key.into(), value.map(Into::into));
        Self { writes: writes.into_iter().map(into).collect() }
    }

    /// Returns the bytes of all keys and values.
    pub fn bytes(&self) -> u64 {
        self.writes.iter().map(|(k, v)| (k.len() + v.as_ref().map_or(0, |v| v.len())) as u64).sum()
    }
}

/// Why a backend could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// Too little room for this batch; nothing of it was written.
    #[error("disk is full: {free} bytes free, {needed} needed")]
    Full {
        /// What is left.
        free: u64,
        /// What this batch may need at worst.
        needed: u64,
    },
    /// What is stored cannot be read back.
    #[error("{0}")]
    Damaged(String),
    /// The backend was closed.
    #[error("backend is closed")]
    Closed,
    /// The operating system refused.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Reads of a tree, from any thread, never waiting for a sync.
pub trait Reader: Send + Sync {
    /// Returns the value of a key.
    ///
    /// # Errors
    /// When the tree cannot be read.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, BackendError>;

    /// Returns up to `limit` records of a range, from its last key down if `reverse`.
    ///
    /// # Errors
    /// When the tree cannot be read.
    fn scan(&self, range: &KeyRange, reverse: bool, limit: usize) -> Result<Vec<Kv>, BackendError>;
}

/// How much room there is on the disk of a tree, asked from any thread.
pub trait Gauge: Send + Sync {
    /// Refuses if a batch of so many bytes might not fit.
    ///
    /// # Errors
    /// [`BackendError::Full`].
    fn room(&self, bytes: u64) -> Result<(), BackendError>;
}

/// A disk without an end.
#[derive(Debug, Clone, Copy)]
pub struct Boundless;

impl Gauge for Boundless {
    fn room(&self, _bytes: u64) -> Result<(), BackendError> {
        Ok(())
    }
}

/// An ordered tree with atomic batches and a durable sync.
pub trait Backend: Send {
    /// Returns what asks for room on its disk, whoever has the tree meanwhile.
    fn gauge(&self) -> Arc<dyn Gauge>;

    /// Refuses if a batch of so many bytes might not fit. Called before anything of it is written.
    ///
    /// # Errors
    /// [`BackendError::Full`].
    fn room(&self, bytes: u64) -> Result<(), BackendError> {
        self.gauge().room(bytes)
    }

    /// As [`Backend::room`], for a batch that frees room: where it has a place without, no room is asked for what was put off.
    ///
    /// # Errors
    /// [`BackendError::Full`].
    fn room_beside(&self, bytes: u64) -> Result<(), BackendError> {
        self.room(bytes)
    }

    /// Gets ready to write, once what the tree holds was found whole; what was read is durable on return. Called once, before
    /// anything else is changed.
    ///
    /// # Errors
    /// When the disk refuses.
    fn ready(&mut self) -> Result<(), BackendError> {
        Ok(())
    }

    /// Does what must be done before a batch can be applied; nothing of the batch is written.
    ///
    /// # Errors
    /// [`BackendError::Full`] if there is no room for it, and nothing has changed; after any other error as
    /// [`Backend::apply`].
    fn prepare(&mut self, _batch: &Batch) -> Result<(), BackendError> {
        Ok(())
    }

    /// Writes a batch, whole and in order with the batches before; readers see all of it or nothing.
    ///
    /// # Errors
    /// After any error the tree may hold the batch or not, and must be opened again.
    fn apply(&mut self, batch: &Batch) -> Result<(), BackendError>;

    /// Returns when everything applied so far would survive a power cut.
    ///
    /// # Errors
    /// After any error nothing may be promised any more, and the tree must be opened again.
    fn sync(&mut self) -> Result<(), BackendError>;

    /// Says whether there is work that is better done while nobody waits.
    fn needs_idle(&self) -> bool {
        false
    }

    /// Does some of that work.
    ///
    /// # Errors
    /// [`BackendError::Full`] if there is no room for it, and nothing has changed; after any other error as
    /// [`Backend::sync`].
    fn idle(&mut self) -> Result<(), BackendError> {
        Ok(())
    }

    /// Leaves so much room to others while work that was put off can wait: [`Backend::idle`] and [`Backend::settle`] then find the
    /// disk full so much earlier.
    fn leave(&mut self, _bytes: u64) {}

    /// Does all work that was put off, so that no room is kept for it.
    ///
    /// # Errors
    /// As [`Backend::idle`].
    fn settle(&mut self) -> Result<(), BackendError> {
        Ok(())
    }

    /// Returns a reader of this tree.
    fn reader(&self) -> Arc<dyn Reader>;

    /// Lets go of everything; readers answer [`BackendError::Closed`] from now on.
    fn close(&mut self);
}

/// A small file that is overwritten in place, never copied.
pub trait Cells: Send {
    /// Returns everything in the file.
    ///
    /// # Errors
    /// When the file cannot be read.
    fn read(&self) -> io::Result<Vec<u8>>;

    /// Overwrites part of the file, growing it with zeros as needed.
    ///
    /// # Errors
    /// When the file cannot be written.
    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Returns when everything written so far would survive a power cut.
    ///
    /// # Errors
    /// When the file cannot be synced.
    fn sync(&mut self) -> io::Result<()>;
}

/// The three parts of a store that keep bytes.
pub struct Parts {
    /// The records.
    pub tree: Box<dyn Backend>,
    /// The key slots.
    pub slots: Box<dyn Cells>,
    /// The keyring.
    pub keyring: Box<dyn Cells>,
}
