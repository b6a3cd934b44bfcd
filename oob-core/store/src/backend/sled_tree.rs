//! The tree on disk: sled, with the barrier it lacks.
//!
//! sled's own flush ends in `sync_file_range`, which neither empties the disk's cache nor writes the file's length: a
//! power cut after it loses acknowledged data. So a sync is sled's flush and then an fsync of its file. Large values lie in slices;
//! a store of a version that did not cut them may make sled put a node into a file of its own, which is then synced too.

use std::collections::{BTreeMap, BTreeSet};
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

use super::{Backend, BackendError, Batch, Gauge, KeyRange, Kv, Reader, slices};
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
    /// The files of large nodes that are durable, with their lengths.
    blobs: BTreeMap<OsString, u64>,
}

/// The database, for many to read.
#[derive(Clone)]
struct Handle {
    db: Arc<RwLock<Option<sled::Db>>>,
    /// Held by whoever writes values in slices, and reads them.
    slices: Arc<RwLock<()>>,
}

impl SledTree {
    /// Opens the database in a folder, making it if the folder is empty.
    ///
    /// # Errors
    /// If the files are damaged or cannot be used. The files may have been changed even then: sled repairs as it reads.
    pub fn open(folder: &Path) -> Result<Self, BackendError> {
        sync_what_is_there(folder)?;
        let db = open_sled(folder)?;
        let file = File::open(folder.join("db"))?;
        let mut tree = Self {
            db: Handle { db: Arc::new(RwLock::new(Some(db))), slices: Arc::default() },
            file,
            folder: folder.to_path_buf(),
            blobs: BTreeMap::new(),
        };
        // What the log names comes before the log.
        tree.sync_blobs()?;
        tree.file.sync_all()?;
        sync_folder(&tree.folder.join("blobs"))?;
        sync_folder(&tree.folder)?;
        Ok(tree)
    }

    fn list_blobs(&self) -> io::Result<BTreeMap<OsString, u64>> {
        let mut blobs = BTreeMap::new();
        for entry in fs::read_dir(self.folder.join("blobs"))? {
            let entry = entry?;
            match entry.metadata() {
                Ok(meta) => drop(blobs.insert(entry.file_name(), meta.len())),
                // sled removed it again, which it may at any time once nothing refers to it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(blobs)
    }

    fn sync_blobs(&mut self) -> io::Result<()> {
        let blobs = self.list_blobs()?;
        let mut made = false;
        // By its length too: whoever reads makes sled split nodes, so that another thread may be writing it.
        for (name, _) in blobs.iter().filter(|(name, len)| self.blobs.get(*name) != Some(len)) {
            let path = self.folder.join("blobs").join(name);
            match File::open(&path) {
                Ok(file) => {
                    file.set_permissions(Permissions::from_mode(0o600))?;
                    file.sync_all()?;
                    made = true;
                }
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

/// A killed process may have left the end of sled's log in memory only. sled writes down, durably, how far it read: more than a power
/// cut then leaves is damage to it.
fn sync_what_is_there(folder: &Path) -> io::Result<()> {
    let log = match File::open(folder.join("db")) {
        Ok(log) => log,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    // What the log names comes before the log.
    let mut is_named = false;
    for entry in fs::read_dir(folder.join("blobs"))? {
        File::open(entry?.path())?.sync_all()?;
        is_named = true;
    }
    if is_named {
        sync_folder(&folder.join("blobs"))?;
        sync_folder(folder)?;
    }
    log.sync_all()
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
        let db = self.db.read().unwrap_or_else(PoisonError::into_inner);
        let db = db.as_ref().ok_or(BackendError::Closed)?;
        catch_unwind(AssertUnwindSafe(|| act(db)))
            .map_err(|_| BackendError::Damaged("sled gave up on its files".into()))?
            .map_err(translate)
    }

    /// Returns a value whose first slice may not be its last, whole as of one moment.
    fn whole(&self, db: &sled::Db, key: &[u8]) -> sled::Result<Option<Vec<u8>>> {
        let _held = self.slices.read().unwrap_or_else(PoisonError::into_inner);
        let Some(first) = db.get(key)? else { return Ok(None) };
        let mut value = first.to_vec();
        if slices::may_go_on(key, &first) {
            for (number, slice) in (1..).zip(db.range(slices::range(key))) {
                let (name, slice) = slice?;
                if *name != *slices::name(key, number) {
                    return Err(sled::Error::ReportableBug("a slice of a value is missing".into()));
                }
                value.extend_from_slice(&slice);
            }
        }
        Ok(Some(value))
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
        let len = |value: &Option<super::Bytes>| value.as_ref().map(|value| value.len());
        if !batch.writes.iter().all(|(key, value)| slices::is_sound(key, len(value))) {
            return Err(io::Error::from(io::ErrorKind::InvalidInput).into());
        }
        self.db.with(|db| {
            let mut sled_batch = sled::Batch::default();
            // Slices that this batch has written itself, should it write to a key twice.
            let mut own = BTreeSet::new();
            let mut is_sliced = false;
            for (key, value) in &batch.writes {
                if db.get(key)?.is_some_and(|first| slices::may_go_on(key, &first)) {
                    for slice in db.range(slices::range(key)).keys() {
                        sled_batch.remove(slice?);
                        is_sliced = true;
                    }
                }
                for slice in own.extract_if(slices::range(key), |_| true) {
                    sled_batch.remove(slice);
                }
                let Some(value) = value else {
                    sled_batch.remove(key);
                    continue;
                };
                if value.len() <= slices::SLICE_BYTES {
                    sled_batch.insert(key, value);
                    continue;
                }
                let (first, rest) = slices::cut(key, value);
                sled_batch.insert(&**key, first);
                for (name, slice) in rest {
                    sled_batch.insert(name.clone(), slice);
                    own.insert(name);
                }
                is_sliced = true;
            }
            let _held =
                is_sliced.then(|| self.db.slices.write().unwrap_or_else(PoisonError::into_inner));
            db.apply_batch(sled_batch)
        })
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
        let db = self.db.db.write().unwrap_or_else(PoisonError::into_inner).take();
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
        self.with(|db| match db.get(key)? {
            Some(first) if slices::may_go_on(key, &first) => self.whole(db, key),
            found => Ok(found.map(|value| value.to_vec())),
        })
    }

    fn scan(&self, range: &KeyRange, reverse: bool, limit: usize) -> Result<Vec<Kv>, BackendError> {
        if range.first > range.last {
            return Ok(Vec::new());
        }
        self.with(|db| {
            let mut all = db.range(range.first.as_slice()..=range.last.as_slice());
            let mut found = Vec::new();
            while found.len() < limit {
                let next = if reverse { all.next_back() } else { all.next() };
                let Some((key, value)) = next.transpose()? else { break };
                if slices::is_slice(&key) {
                    continue;
                }
                if !slices::may_go_on(&key, &value) {
                    found.push((key.to_vec(), value.to_vec()));
                } else if let Some(value) = self.whole(db, &key)? {
                    found.push((key.to_vec(), value));
                }
            }
            Ok(found)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use rand::{Rng, SeedableRng, rngs::StdRng};

    use super::super::MemoryTree;
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

    /// A store of a version that did not cut values has them still.
    #[test]
    fn a_file_sled_makes_for_a_large_value_is_ours_alone_and_known() {
        let dir = tempfile::tempdir().unwrap();
        let mut tree = SledTree::open(dir.path()).unwrap();
        tree.db.with(|db| db.insert([7; 24], vec![1; 400_000])).unwrap();
        tree.sync().unwrap();
        assert!(!tree.blobs.is_empty());
        for name in tree.blobs.keys() {
            let meta = fs::metadata(dir.path().join("blobs").join(name)).unwrap();
            assert_eq!(meta.permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(tree.reader().get(&[7; 24]).unwrap().unwrap(), vec![1; 400_000]);
    }

    /// Any change of any value to any other, in any batch; what is read is what a tree in memory gives, and sled makes no file.
    #[test]
    fn large_values_are_read_as_they_were_written_and_make_no_files() {
        any_change(&[]);
    }

    /// The same in a store where an earlier version left values uncut.
    #[test]
    fn values_that_were_never_cut_are_read_and_written_over() {
        let slice = slices::SLICE_BYTES;
        any_change(&[1, slice - 1, slice, slice + 1, 3 * slice, 400_000]);
    }

    fn any_change(uncut: &[usize]) {
        let dir = tempfile::tempdir().unwrap();
        let mut tree = SledTree::open(dir.path()).unwrap();
        let mut model = MemoryTree::new();
        for (key, len) in (0..).zip(uncut) {
            let (key, value) = ([key; 24], vec![9; *len]);
            tree.db.with(|db| db.insert(key, &*value)).unwrap();
            model.apply(&Batch::of([(key.to_vec(), Some(value))])).unwrap();
        }
        let mut random = StdRng::seed_from_u64(1);
        let mut below = |end: usize| random.next_u64() as usize % end;
        let slice = slices::SLICE_BYTES;
        for round in 0..300_u32 {
            let mut batch = Batch::default();
            for _ in 0..1 + below(4) {
                let len = match below(6) {
                    0 => below(100),
                    1 => slice - 1 + below(3),
                    2 => 3 * slice - 1 + below(3),
                    3 => below(20 * slice),
                    4 => below(120 * slice),
                    _ => 0,
                };
                let mut value = round.to_be_bytes().repeat(len / 4 + 1);
                value.truncate(len);
                // Twice to the same key now and then.
                batch
                    .writes
                    .push((vec![below(25) as u8; 24].into(), (len > 0).then(|| value.into())));
            }
            tree.apply(&batch).unwrap();
            model.apply(&batch).unwrap();
            tree.sync().unwrap();
            assert!(!uncut.is_empty() || tree.blobs.is_empty(), "round {round}");
            if round == 150 {
                tree.close();
                tree = SledTree::open(dir.path()).unwrap();
            }
            let (ours, theirs) = (tree.reader(), model.reader());
            for reverse in [false, true] {
                let limit = 1 + below(30);
                // As whoever scans on has them: shorter than keys, longer by a byte, longer by far.
                let mut bound = || [vec![below(27) as u8; 24], vec![0; 2]].concat();
                let (mut first, mut last) = (bound(), bound());
                first.truncate([0, 23, 24, 25][below(4)]);
                last.truncate([23, 24, 25][below(3)]);
                if below(2) == 0 {
                    last.extend([0xff; 64]);
                }
                let range = KeyRange { first, last };
                let read = |reader: &dyn Reader| reader.scan(&range, reverse, limit).unwrap();
                assert!(read(&*ours) == read(&*theirs), "round {round}");
            }
            for key in 0..25 {
                let read = |reader: &dyn Reader| reader.get(&[key; 24]).unwrap();
                assert!(read(&*ours) == read(&*theirs), "round {round}, {key}");
            }
        }
        // No slice outlives its value.
        let all = Batch::of((0..25).map(|key| (vec![key; 24], None::<Vec<u8>>)));
        tree.apply(&all).unwrap();
        assert!(tree.db.with(|db| Ok(db.is_empty())).unwrap());
    }

    /// Two values change places while others read: what they read is the one or the other.
    #[test]
    fn nobody_reads_slices_of_two_values() {
        let dir = tempfile::tempdir().unwrap();
        let mut tree = SledTree::open(dir.path()).unwrap();
        let values = [vec![1; 30 * slices::SLICE_BYTES], vec![2; 7 * slices::SLICE_BYTES + 9]];
        let write = |tree: &mut SledTree, which: usize| {
            tree.apply(&Batch::of([(vec![7; 24], Some(values[which].clone()))])).unwrap();
        };
        write(&mut tree, 0);
        let is_done = AtomicBool::new(false);
        let (reader, values) = (tree.reader(), &values);
        thread::scope(|scope| {
            let reading = scope.spawn(|| {
                let mut seen = [0_u32; 2];
                while !is_done.load(Ordering::Relaxed) {
                    let one = reader.get(&[7; 24]).unwrap().unwrap();
                    let range = KeyRange { first: vec![7; 24], last: vec![8; 24] };
                    let all = reader.scan(&range, true, 2).unwrap();
                    assert_eq!(all.len(), 1);
                    for found in [&one, &all[0].1] {
                        let which = values.iter().position(|value| value == found);
                        seen[which.expect("one of both, whole")] += 1;
                    }
                }
                seen
            });
            for round in 1..400 {
                write(&mut tree, round % 2);
            }
            is_done.store(true, Ordering::Relaxed);
            let seen = reading.join().unwrap();
            assert!(seen.iter().all(|times| *times > 0), "{seen:?}");
        });
    }

    #[test]
    fn what_has_no_room_for_slices_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let mut tree = SledTree::open(dir.path()).unwrap();
        let mut refused = |key: usize, value: usize| {
            let batch = Batch::of([(vec![1; key], Some(vec![1; value]))]);
            tree.apply(&batch).is_err()
        };
        assert!(refused(7, slices::SLICE_BYTES) && refused(26, 1));
        assert!(!refused(7, slices::SLICE_BYTES - 1) && !refused(24, 2 << 20));
        assert!(refused(24, 17 << 20));
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
