//! Local snapshots: sealed copies of the records that the device keeps beside its store, for the day the store is damaged.
//!
//! They lie in `snapshots/`, numbered in the order they were written, since a clock may be wrong. A snapshot is sealed under
//! a key of the root key and carries the root key wrapped as the keyring has it, so it opens with the passphrase alone,
//! also when the keyring is lost.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::backend::sync_folder;
use crate::error::StoreError;
use crate::home::{Home, remove};
use crate::limits::SNAPSHOTS;
use crate::moment::Moment;
use crate::sealed_copy::{About, Contents, CopyKind, CopyWriter};
use crate::store::Store;

/// What the name of a snapshot ends in.
const ENDING: &str = ".oobcopy";

/// What the name of a snapshot that is being written begins with.
const DRAFT: &str = "draft";

/// How many were begun by this process.
static DRAFTS: AtomicU64 = AtomicU64::new(0);

/// Why a draft that was stopped was given up.
const STOPPED: &str = "it was stopped";

/// A snapshot in a home.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Where it lies.
    pub path: PathBuf,
    /// Its place in the order they were written in.
    pub number: u64,
    /// When the file was written, by the file system.
    pub written: Option<SystemTime>,
    /// Its length.
    pub bytes: u64,
}

/// What a home keeps beside its store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Kept {
    /// Snapshots, the newest first.
    pub snapshots: Vec<Snapshot>,
    /// Stores that were put aside, the newest last.
    pub quarantined: Vec<PathBuf>,
}

impl Store {
    /// Looks at what a home keeps beside its store; needs no passphrase and changes nothing.
    pub fn kept(dir: &Path) -> Kept {
        let home = Home::new(dir);
        let aside = fs::read_dir(home.quarantine()).into_iter().flatten().flatten();
        // Whoever owns the home may keep other things there; a store that was put aside is a folder.
        let mut quarantined: Vec<PathBuf> =
            aside.map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
        quarantined.sort();
        Kept { snapshots: list(&home), quarantined }
    }

    /// Begins a snapshot of what is committed now. Whoever has the draft fills it from its moment, on any thread, while the
    /// store goes on, and keeps it. There is none for a store without a folder.
    ///
    /// # Errors
    /// When the disk refuses or has too little room. The store and the snapshots there are as before.
    pub fn begin_snapshot(
        &mut self,
        written_ms: u64,
        owner: &str,
    ) -> Result<Option<Draft>, StoreError> {
        let Some(home) = self.home.as_ref().map(|(home, _)| home.clone()) else { return Ok(None) };
        let about = About { written_ms, commit: self.commit_number(), owner: owner.to_owned() };
        // A copy is no longer than the records it is made of. The commits to come matter more than a snapshot.
        let needed = home.rest().map(|rest| rest.len).map_err(StoreError::io("look at records"))?;
        self.tree.room(needed).map_err(StoreError::from)?;
        let number = list(&home).first().map_or(0, |newest| newest.number).saturating_add(1);
        let (draft, file) = begin(&home).map_err(StoreError::io("make snapshot"))?;
        let place = Place { draft, stage: Mutex::new(Stage::Written) };
        let stop = StopOnDrop(Stop(Arc::new(place)));
        let keyring = &self.keyring;
        let writer = CopyWriter::begin(
            file,
            CopyKind::Snapshot,
            &keyring.store,
            &keyring.wrapped,
            &keyring.root,
            about,
            &mut *self.rng,
        );
        Ok(Some(Draft { writer: writer?, moment: self.moment(), stop, home, number }))
    }
}

/// A snapshot that is being written. Dropped before it is kept, it leaves nothing.
#[derive(Debug)]
pub struct Draft {
    writer: CopyWriter<BufWriter<File>>,
    moment: Moment,
    stop: StopOnDrop,
    home: Home,
    number: u64,
}

impl Draft {
    /// Returns what the snapshot is of, and where it goes.
    pub fn parts(&mut self) -> (&Moment, &mut CopyWriter<BufWriter<File>>) {
        (&self.moment, &mut self.writer)
    }

    /// Returns what stops the writing from elsewhere.
    pub fn stop(&self) -> Stop {
        self.stop.0.clone()
    }

    /// Ends the snapshot and makes it durable. Older ones but the last are removed.
    ///
    /// # Errors
    /// [`StoreError::GivenUp`] if it was stopped; when the disk refuses. The snapshots there are as before.
    pub fn keep(self) -> Result<Contents, StoreError> {
        let Self { writer, moment: _, stop, home, number } = self;
        let (file, contents) = writer.finish()?;
        let keep = || {
            file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
            let to = home.snapshots().join(format!("{number:010}{ENDING}"));
            if !stop.0.0.rename(&to)? {
                return Ok(false);
            }
            sync_folder(&home.snapshots())?;
            for old in list(&home).into_iter().skip(SNAPSHOTS) {
                remove(&old.path)?;
            }
            Ok(true)
        };
        match keep().map_err(StoreError::io("keep snapshot"))? {
            true => Ok(contents),
            false => Err(StoreError::GivenUp { why: STOPPED }),
        }
    }
}

/// Stops the writing of a snapshot, from any thread. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Stop(Arc<Place>);

#[derive(Debug)]
struct Place {
    draft: PathBuf,
    stage: Mutex<Stage>,
}

/// How far a draft is. Who changes it has the lock, so that nothing is done under its name by two.
#[derive(Debug, PartialEq, Eq)]
enum Stage {
    Written,
    Kept,
    Stopped,
}

impl Stop {
    /// Stops the writing: when this returns there is no draft, and there will be no snapshot of it, unless it was kept
    /// before. It waits for no write and no sync.
    pub fn stop(&self) {
        let mut stage = self.0.lock();
        if *stage == Stage::Written {
            *stage = Stage::Stopped;
            // If it stays, the next one that is begun removes it.
            let _ = remove(&self.0.draft);
        }
    }

    /// Refuses where it was stopped.
    ///
    /// # Errors
    /// [`StoreError::GivenUp`].
    pub fn check(&self) -> Result<(), StoreError> {
        match *self.0.lock() {
            Stage::Stopped => Err(StoreError::GivenUp { why: STOPPED }),
            Stage::Written | Stage::Kept => Ok(()),
        }
    }
}

impl Place {
    fn lock(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the draft its name, unless it was stopped.
    fn rename(&self, to: &Path) -> io::Result<bool> {
        let mut stage = self.lock();
        if *stage != Stage::Written {
            return Ok(false);
        }
        fs::rename(&self.draft, to)?;
        *stage = Stage::Kept;
        Ok(true)
    }
}

/// Stops a draft that its writer drops; one that was kept stays.
#[derive(Debug)]
struct StopOnDrop(Stop);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// Snapshots of a home, the newest first.
pub(crate) fn list(home: &Home) -> Vec<Snapshot> {
    let entries = fs::read_dir(home.snapshots()).into_iter().flatten().flatten();
    let mut found: Vec<Snapshot> = entries
        .filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let number = name.strip_suffix(ENDING)?.parse().ok()?;
            let meta = entry.metadata().ok()?;
            let (written, bytes) = (meta.modified().ok(), meta.len());
            Some(Snapshot { path: entry.path(), number, written, bytes })
        })
        .collect();
    found.sort_by_key(|snapshot| std::cmp::Reverse(snapshot.number));
    found
}

fn begin(home: &Home) -> io::Result<(PathBuf, BufWriter<File>)> {
    let folder = home.snapshots();
    if !folder.exists() {
        DirBuilder::new().mode(0o700).create(&folder)?;
    }
    // What an earlier run, or a disk that failed, left.
    for entry in fs::read_dir(&folder)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(DRAFT.as_bytes()) {
            remove(&entry.path())?;
        }
    }
    // A name nobody had before: somebody may still have an earlier draft in hand, whose name must lead to nothing.
    let draft = folder.join(format!("{DRAFT}-{}", DRAFTS.fetch_add(1, Ordering::Relaxed)));
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    Ok((draft.clone(), BufWriter::with_capacity(256 * 1024, options.open(&draft)?)))
}
