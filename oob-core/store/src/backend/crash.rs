//! A disk in memory that can lose its power, for tests: everything synced stays, of everything else some is lost.
//!
//! Of the tree's batches a prefix survives, whole batches only, which is what an atomic log promises. Of the writes to a file in
//! place any may survive, in any order, and one may be torn.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand_core::Rng;

use super::memory::{MemoryTree, Records, overwrite, write};
use super::{Backend, BackendError, Batch, Cells, Gauge, Journaled, Parts, Reader};

/// A disk whose power can be cut; clones are the same disk.
#[derive(Clone, Default)]
pub struct CrashDisk(Arc<Mutex<Disk>>);

#[derive(Default)]
struct Disk {
    tree: Records,
    batches: Vec<Batch>,
    files: [File; 3],
    /// Whether a journal stands in front of the tree.
    journaled: bool,
    /// Writes and syncs so far.
    steps: u64,
    /// The step at which the power fails.
    cut_at: Option<u64>,
    off: bool,
    fail_sync: bool,
    free: Option<u64>,
}

#[derive(Default)]
struct File {
    durable: Vec<u8>,
    live: Vec<u8>,
    pending: Vec<(u64, Vec<u8>)>,
}

const SLOTS: usize = 0;
const KEYRING: usize = 1;
const JOURNAL: usize = 2;

/// Bytes of each half of the journal: few, so that tests come to its end.
const HALF_BYTES: usize = 16 << 10;

/// What a disk writes whole or not at all.
const SECTOR: usize = 512;

impl CrashDisk {
    /// Makes an empty disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes an empty disk whose tree has a journal in front of it, as the store in a folder has.
    pub fn journaled() -> Self {
        let disk = Self::default();
        disk.lock().journaled = true;
        disk
    }

    /// Returns a deep copy, as [`Self::image`], whose tree has a journal in front of it from now on.
    pub fn with_journal(&self) -> Self {
        let disk = self.image();
        disk.lock().journaled = true;
        disk
    }

    /// Returns the tree without its journal.
    pub fn bare_tree(&self) -> Box<dyn Backend> {
        let disk = self.lock();
        let mut records = disk.tree.clone();
        disk.batches.iter().for_each(|batch| write(&mut records, batch));
        Box::new(CrashTree { disk: self.clone(), live: MemoryTree::holding(records) })
    }

    /// Returns the file of the journal.
    pub fn journal(&self) -> Box<dyn Cells> {
        Box::new(CrashCells { disk: self.clone(), file: JOURNAL })
    }

    /// Returns the parts of the store on this disk. What an earlier store had not synced must have been settled by
    /// [`CrashDisk::power_cut`]. Where the journal refuses, as [`CrashDisk::try_parts`] tells, the tree comes without it.
    pub fn parts(&self) -> Parts {
        self.try_parts().unwrap_or_else(|_| self.with_tree(self.bare_tree()))
    }

    /// As [`CrashDisk::parts`].
    ///
    /// # Errors
    /// If there is a journal and the tree does not fit to it.
    pub fn try_parts(&self) -> Result<Parts, BackendError> {
        let journaled = self.lock().journaled;
        let tree = self.bare_tree();
        Ok(self.with_tree(match journaled {
            true => Box::new(Journaled::open(tree, self.journal(), HALF_BYTES)?),
            false => tree,
        }))
    }

    fn with_tree(&self, tree: Box<dyn Backend>) -> Parts {
        Parts {
            tree,
            slots: Box::new(CrashCells { disk: self.clone(), file: SLOTS }),
            keyring: Box::new(CrashCells { disk: self.clone(), file: KEYRING }),
        }
    }

    /// Returns how many writes and syncs there were.
    pub fn steps(&self) -> u64 {
        self.lock().steps
    }

    /// Lets so many more writes and syncs happen before the power fails.
    pub fn cut_after(&self, steps: u64) {
        let mut disk = self.lock();
        disk.cut_at = Some(disk.steps.saturating_add(steps));
    }

    /// Cuts the power, if it is still on, loses what chance has it, and turns the power on again.
    pub fn power_cut(&self, rng: &mut impl Rng) {
        let mut disk = self.lock();
        let kept = below(rng, disk.batches.len() + 1);
        let batches = std::mem::take(&mut disk.batches);
        batches.iter().take(kept).for_each(|batch| write(&mut disk.tree, batch));
        for (number, file) in disk.files.iter_mut().enumerate() {
            for (offset, bytes) in std::mem::take(&mut file.pending) {
                if number == JOURNAL {
                    file.lose_some(offset, &bytes, rng);
                    continue;
                }
                let kept = match below(rng, 4) {
                    0 => 0,
                    1 => below(rng, bytes.len() + 1),
                    _ => bytes.len(),
                };
                let torn = bytes.get(..kept).unwrap_or_default();
                if !torn.is_empty() {
                    // Memory does not refuse a write.
                    let _ = overwrite(&mut file.durable, offset, torn);
                }
            }
            file.live = file.durable.clone();
        }
        disk.off = false;
        disk.cut_at = None;
    }

    /// Makes the next sync of any part fail, as a dying disk does.
    pub fn fail_next_sync(&self) {
        self.lock().fail_sync = true;
    }

    /// Says how many bytes the disk has left; `None` is plenty.
    pub fn set_free(&self, free: Option<u64>) {
        self.lock().free = free;
    }

    /// Returns a deep copy: the disk as a thief with a disk imager would take it, unsynced writes included.
    pub fn image(&self) -> Self {
        let disk = self.lock();
        let mut tree = disk.tree.clone();
        disk.batches.iter().for_each(|batch| write(&mut tree, batch));
        let file = |file: &File| File {
            durable: file.live.clone(),
            live: file.live.clone(),
            pending: Vec::new(),
        };
        let [slots, keyring, journal] = &disk.files;
        Self(Arc::new(Mutex::new(Disk {
            tree,
            files: [file(slots), file(keyring), file(journal)],
            journaled: disk.journaled,
            ..Disk::default()
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Draws a number below `end`, which is small.
fn below(rng: &mut impl Rng, end: usize) -> usize {
    let end = u64::try_from(end).unwrap_or(u64::MAX).max(1);
    usize::try_from(rng.next_u64() % end).unwrap_or(0)
}

impl File {
    /// Lets all of a write survive, nothing of it, or any of its sectors, since a disk writes them in its own order.
    fn lose_some(&mut self, offset: u64, bytes: &[u8], rng: &mut impl Rng) {
        let kind = below(rng, 4);
        let mut at = offset;
        let mut rest = bytes;
        while !rest.is_empty() {
            let end = SECTOR - usize::try_from(at % SECTOR as u64).unwrap_or(0);
            let (sector, behind) = rest.split_at(end.min(rest.len()));
            if kind == 0 || kind > 1 && below(rng, 2) == 0 {
                // Memory does not refuse a write.
                let _ = overwrite(&mut self.durable, at, sector);
            }
            at = at.saturating_add(sector.len() as u64);
            rest = behind;
        }
    }
}

impl Disk {
    /// Takes one step, or finds the power off. The step at which it fails does not happen.
    fn step(&mut self) -> io::Result<()> {
        if self.off || self.cut_at.is_some_and(|at| self.steps >= at) {
            self.off = true;
            return Err(io::Error::other("power is off"));
        }
        self.steps += 1;
        Ok(())
    }

    fn sync_step(&mut self) -> io::Result<()> {
        self.step()?;
        if std::mem::take(&mut self.fail_sync) {
            return Err(io::Error::other("sync failed"));
        }
        Ok(())
    }
}

impl Gauge for CrashDisk {
    fn room(&self, bytes: u64) -> Result<(), BackendError> {
        match self.lock().free {
            Some(free) if free < bytes => Err(BackendError::Full { free, needed: bytes }),
            _ => Ok(()),
        }
    }
}

struct CrashTree {
    disk: CrashDisk,
    live: MemoryTree,
}

impl Backend for CrashTree {
    fn gauge(&self) -> Arc<dyn Gauge> {
        Arc::new(self.disk.clone())
    }

    fn apply(&mut self, batch: &Batch) -> Result<(), BackendError> {
        let mut disk = self.disk.lock();
        disk.step()?;
        disk.batches.push(batch.clone());
        self.live.apply(batch)
    }

    fn sync(&mut self) -> Result<(), BackendError> {
        let mut disk = self.disk.lock();
        disk.sync_step()?;
        let batches = std::mem::take(&mut disk.batches);
        batches.iter().for_each(|batch| write(&mut disk.tree, batch));
        Ok(())
    }

    fn reader(&self) -> Arc<dyn Reader> {
        self.live.reader()
    }

    fn close(&mut self) {
        self.live.close();
    }
}

struct CrashCells {
    disk: CrashDisk,
    file: usize,
}

impl CrashCells {
    fn with<T>(&self, act: impl FnOnce(&mut Disk, usize) -> io::Result<T>) -> io::Result<T> {
        act(&mut self.disk.lock(), self.file)
    }
}

fn gone() -> io::Error {
    io::Error::other("no such file")
}

impl Cells for CrashCells {
    fn read(&self) -> io::Result<Vec<u8>> {
        self.with(|disk, file| Ok(disk.files.get(file).ok_or_else(gone)?.live.clone()))
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.with(|disk, file| {
            disk.step()?;
            let file = disk.files.get_mut(file).ok_or_else(gone)?;
            file.pending.push((offset, bytes.to_vec()));
            overwrite(&mut file.live, offset, bytes)
        })
    }

    fn sync(&mut self) -> io::Result<()> {
        self.with(|disk, file| {
            disk.sync_step()?;
            let file = disk.files.get_mut(file).ok_or_else(gone)?;
            file.durable = file.live.clone();
            file.pending.clear();
            Ok(())
        })
    }
}
