//! The tree on disk: sled, with the barrier it lacks.
//!
//! sled's own flush ends in `sync_file_range`, which neither empties the disk's cache nor writes the file's length: a
//! power cut after it loses acknowledged data. So a sync is sled's flush and then an fsync of its file; if sled put a
//! large node into a file of its own, of that file and of the folders too.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;
use std::time::{Duration, Instant};

use super::{Backend, BackendError, Batch, Gauge, KeyRange, Kv, Reader};
use crate::limits::FREE_BYTES;

/// sled's page cache. Half of what was measured to serve a million records well, for laptops that do other things.
const CACHE_BYTES: u64 = 32 << 20;

/// sled's worker threads let go of its file a moment after its last handle; opening again waits this long at most.
const RELEASE_WITHIN: Duration = Duration::from_secs(5);
const RELEASE_STEP: Duration = Duration::from_millis(2);

/// How long sled may take to let go: many times what the slowest disk needs for what is not written yet. Whoever stops a
/// node with a dead disk waits this long.
const CLOSE_WITHIN: Duration = Duration::from_secs(10);

/// A sled database in a folder of its own.
pub struct SledTree {
    db: Handle,
    file: File,
    folder: PathBuf,
    blobs: BTreeSet<OsString>,
}

/// The database, for many to read.
#[derive(Clone)]
struct Handle(Arc<RwLock<Option<sled::Db>>>);

impl SledTree {
    /// Opens the database in a folder, making it if the folder is empty.
    ///
    /// # Errors
    /// If the files are damaged or cannot be used. The files may have been changed even then: sled repairs as it reads.
    pub fn open(folder: &Path) -> Result<Self, BackendError> {
        let db = open_sled(folder)?;
        let file = File::open(folder.join("db"))?;
        let mut tree = Self {
            db: Handle(Arc::new(RwLock::new(Some(db)))),
            file,
            folder: folder.to_path_buf(),
            blobs: BTreeSet::new(),
        };
        // A killed process may have left all of this in memory only; what the log names comes before the log.
        tree.sync_blobs()?;
        tree.file.sync_all()?;
        sync_folder(&tree.folder.join("blobs"))?;
        sync_folder(&tree.folder)?;
        Ok(tree)
    }

    fn list_blobs(&self) -> io::Result<BTreeSet<OsString>> {
        fs::read_dir(self.folder.join("blobs"))?.map(|entry| Ok(entry?.file_name())).collect()
    }

    fn sync_blobs(&mut self) -> io::Result<()> {
        let blobs = self.list_blobs()?;
        let mut made = false;
        for name in blobs.difference(&self.blobs) {
            let path = self.folder.join("blobs").join(name);
            match File::open(&path) {
                Ok(file) => {
                    file.set_permissions(Permissions::from_mode(0o600))?;
                    file.sync_all()?;
                    made = true;
                }
                // sled removed it again, which it may at any time once nothing refers to it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        if made {
            sync_folder(&self.folder.join("blobs"))?;
            sync_folder(&self.folder)?;
        }
        self.blobs = blobs;
        Ok(())
    }
}

/// Returns how many bytes the file system of a folder has left for us.
pub(crate) fn free_bytes(folder: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(folder)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

fn open_sled(folder: &Path) -> Result<sled::Db, BackendError> {
    let started = Instant::now();
    loop {
        let config =
            sled::Config::new().path(folder).flush_every_ms(None).cache_capacity(CACHE_BYTES);
        // Damaged files make sled panic as often as they make it complain.
        let opened = catch_unwind(AssertUnwindSafe(|| config.open()));
        match opened {
            Ok(Ok(db)) => return Ok(db),
            Ok(Err(sled::Error::Io(error)))
                if error.to_string().starts_with("could not acquire lock")
                    && started.elapsed() < RELEASE_WITHIN =>
            {
                thread::sleep(RELEASE_STEP);
            }
            Ok(Err(error)) => return Err(translate(error)),
            Err(_) => return Err(BackendError::Damaged("sled gave up on its files".into())),
        }
    }
}

fn translate(error: sled::Error) -> BackendError {
    match error {
        sled::Error::Io(error) => BackendError::Io(error),
        other => BackendError::Damaged(other.to_string()),
    }
}

impl Handle {
    fn with<T>(&self, act: impl FnOnce(&sled::Db) -> sled::Result<T>) -> Result<T, BackendError> {
        let db = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let db = db.as_ref().ok_or(BackendError::Closed)?;
        catch_unwind(AssertUnwindSafe(|| act(db)))
            .map_err(|_| BackendError::Damaged("sled gave up on its files".into()))?
            .map_err(translate)
    }
}

/// The file system of a folder.
struct Ground(PathBuf);

impl Gauge for Ground {
    fn room(&self, bytes: u64) -> Result<(), BackendError> {
        // A full disk in the middle of a batch leaves sled unusable until it is opened again, so it is not let get there.
        let free = free_bytes(&self.0)?;
        // Each value may be written again with its whole node; a node is a few values.
        let needed = bytes.saturating_mul(4).saturating_add(FREE_BYTES);
        if free < needed { Err(BackendError::Full { free, needed }) } else { Ok(()) }
    }
}

impl Backend for SledTree {
    fn gauge(&self) -> Arc<dyn Gauge> {
        Arc::new(Ground(self.folder.clone()))
    }

    fn apply(&mut self, batch: &Batch) -> Result<(), BackendError> {
        let mut sled_batch = sled::Batch::default();
        for (key, value) in &batch.writes {
            match value {
                Some(value) => sled_batch.insert(key, value),
                None => sled_batch.remove(key),
            }
        }
        self.db.with(|db| db.apply_batch(sled_batch))
    }

    fn sync(&mut self) -> Result<(), BackendError> {
        // sled writes a large node into a file of its own and does not sync it. Its log must not name one that a power cut
        // could take away.
        self.sync_blobs()?;
        self.db.with(|db| db.flush())?;
        self.sync_blobs()?;
        self.file.sync_all()?;
        Ok(())
    }

    fn reader(&self) -> Arc<dyn Reader> {
        Arc::new(self.db.clone())
    }

    fn close(&mut self) {
        let db = self.db.0.write().unwrap_or_else(PoisonError::into_inner).take();
        let Some(db) = db else { return };
        // sled writes and syncs once more as it goes. On a disk that has failed it panics there, or waits for ever.
        let (gone, end) = sync_channel(1);
        let going = thread::Builder::new().name("oob-store-close".into()).spawn(move || {
            let _ = catch_unwind(AssertUnwindSafe(|| drop(db)));
            let _ = gone.send(());
        });
        if going.is_ok() && end.recv_timeout(CLOSE_WITHIN).is_err() {
            tracing::error!(
                "sled does not let go of its files; they stay open until this process ends"
            );
        }
    }
}

impl Drop for SledTree {
    fn drop(&mut self) {
        self.close();
    }
}

impl Reader for Handle {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, BackendError> {
        Ok(self.with(|db| db.get(key))?.map(|value| value.to_vec()))
    }

    fn scan(&self, range: &KeyRange, reverse: bool, limit: usize) -> Result<Vec<Kv>, BackendError> {
        if range.first > range.last {
            return Ok(Vec::new());
        }
        self.with(|db| {
            let found = db.range(range.first.as_slice()..=range.last.as_slice());
            let plain = |kv: sled::Result<(sled::IVec, sled::IVec)>| {
                kv.map(|(key, value)| (key.to_vec(), value.to_vec()))
            };
            if reverse {
                found.rev().take(limit).map(plain).collect()
            } else {
                found.take(limit).map(plain).collect()
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(value: &[u8]) -> Batch {
        Batch::of([(b"key".to_vec(), Some(value.to_vec()))])
    }

    /// sled's flush alone loses data in a power cut. A pipe cannot be synced, so with one in the place of the file a
    /// sync that reaches the barrier fails, and one that leaves it out does not.
    #[test]
    fn sync_ends_in_an_fsync_of_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut tree = SledTree::open(dir.path()).unwrap();
        tree.apply(&batch(b"1")).unwrap();
        tree.sync().unwrap();
        let (_reader, writer) = io::pipe().unwrap();
        tree.file = File::from(std::os::fd::OwnedFd::from(writer));
        tree.apply(&batch(b"2")).unwrap();
        assert!(matches!(tree.sync(), Err(BackendError::Io(_))));
    }

    #[test]
    fn a_file_sled_makes_for_a_large_value_is_ours_alone_and_known() {
        let dir = tempfile::tempdir().unwrap();
        let mut tree = SledTree::open(dir.path()).unwrap();
        tree.apply(&batch(&vec![1; 400_000])).unwrap();
        tree.sync().unwrap();
        assert!(!tree.blobs.is_empty());
        for name in &tree.blobs {
            let meta = fs::metadata(dir.path().join("blobs").join(name)).unwrap();
            assert_eq!(meta.permissions().mode() & 0o777, 0o600);
        }
    }

    #[test]
    fn readers_answer_closed_and_the_files_can_be_opened_again() {
        let dir = tempfile::tempdir().unwrap();
        for round in 0..5u8 {
            let mut tree = SledTree::open(dir.path()).unwrap();
            tree.apply(&batch(&[round])).unwrap();
            tree.sync().unwrap();
            let reader = tree.reader();
            assert_eq!(reader.get(b"key").unwrap().unwrap(), [round]);
            tree.close();
            assert!(matches!(reader.get(b"key"), Err(BackendError::Closed)));
            assert!(matches!(tree.sync(), Err(BackendError::Closed)));
        }
    }
}
