//! The folder of a store: what lies where, who may read it, and who has it open.
//!
//! ```text
//! lock       the number of the process that has the store open
//! keyring    the root key under the passphrase, the last checkpoint
//! slots      keys that can be destroyed
//! store/     the records; among sled's files the journal in front of it, so that both are copied and put aside as one
//! sums       what each part of the records added up to when the store was last closed in peace
//! reserve    room for deletions on a full disk
//! making     only while a store is being made, so that a half-made one is not taken for a lost one
//! trial/     only while a store that was not closed in peace is being looked at
//! snapshots/ sealed copies of the records, numbered
//! new/       only while a copy is put back: the store that is to take the place of the one there
//! quarantine/ stores that were put aside, by date
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use rustix::fs::{FlockOperation, flock};

use crate::backend::sync_folder;
use crate::error::StoreError;
use crate::keyring::Rest;
use crate::sums::FILE_BYTES;

/// The paths of a store.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    dir: PathBuf,
}

/// Held as long as the store is open; the system lets go of the lock after a crash.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Home {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_path_buf() }
    }

    pub(crate) fn keyring(&self) -> PathBuf {
        self.dir.join("keyring")
    }

    pub(crate) fn slots(&self) -> PathBuf {
        self.dir.join("slots")
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.dir.join("store")
    }

    /// Where the journal lies in a folder of records.
    pub(crate) fn journal_in(store: &Path) -> PathBuf {
        store.join("journal")
    }

    pub(crate) fn sums(&self) -> PathBuf {
        self.dir.join("sums")
    }

    pub(crate) fn reserve(&self) -> PathBuf {
        self.dir.join("reserve")
    }

    fn making(&self) -> PathBuf {
        self.dir.join("making")
    }

    fn trial(&self) -> PathBuf {
        self.dir.join("trial")
    }

    /// Where the store that takes the place of another is made.
    pub(crate) fn new_store(&self) -> PathBuf {
        self.dir.join("new")
    }

    /// Only there when the store in `new` is whole; holds the name of the folder the other one goes into.
    fn ready(&self) -> PathBuf {
        self.new_store().join("ready")
    }

    pub(crate) fn snapshots(&self) -> PathBuf {
        self.dir.join("snapshots")
    }

    pub(crate) fn quarantine(&self) -> PathBuf {
        self.dir.join("quarantine")
    }

    pub(crate) fn missing(&self) -> StoreError {
        StoreError::Missing { dir: self.dir.clone() }
    }

    /// Says whether there is a store, or what is left of one.
    pub(crate) fn is_taken(&self) -> bool {
        self.ready().exists()
            || !self.making().exists()
                && [self.keyring(), self.slots(), self.store()].iter().any(|path| path.exists())
    }

    /// Takes the lock; the folder must be there.
    pub(crate) fn lock(&self) -> Result<Lock, StoreError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file =
            options.open(self.dir.join("lock")).map_err(StoreError::io("open lock file"))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut text = String::new();
                // Whatever stands there is only shown; a number longer than this is none.
                let _ = Read::by_ref(&mut file).take(16).read_to_string(&mut text);
                return Err(StoreError::Busy { pid: text.trim().parse().unwrap_or(0) });
            }
            Err(errno) => return Err(StoreError::io("take lock file")(errno.into())),
        }
        match file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())) {
            // The lock is taken all the same; who has it is only shown.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {}
            other => other.map_err(StoreError::io("write lock file"))?,
        }
        Ok(Lock(file))
    }

    /// Makes the folder if there is none; its name is durable on return.
    pub(crate) fn make_folder(&self) -> Result<(), StoreError> {
        let make = || {
            let missing: Vec<&Path> = self.dir.ancestors().filter(|dir| !dir.exists()).collect();
            DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
            for parent in missing.into_iter().filter_map(Path::parent) {
                // The parent of a relative name is the empty path, which cannot be opened.
                let here = parent.as_os_str().is_empty();
                sync_folder(if here { Path::new(".") } else { parent })?;
            }
            Ok(())
        };
        make().map_err(StoreError::io("make folder"))
    }

    /// Clears away a store that was never finished, and notes that one is being made.
    pub(crate) fn begin(&self) -> Result<(), StoreError> {
        let begin = || {
            OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(true)
                .mode(0o600)
                .open(self.making())?
                .sync_all()?;
            sync_folder(&self.dir)?;
            remove(&self.keyring())?;
            remove(&self.slots())?;
            remove(&self.store())?;
            DirBuilder::new().mode(0o700).create(self.store())
        };
        begin().map_err(StoreError::io("make store"))
    }

    /// Notes that the store is whole.
    pub(crate) fn finish(&self) -> Result<(), StoreError> {
        let finish = || {
            sync_folder(&self.dir)?;
            remove(&self.making())?;
            sync_folder(&self.dir)
        };
        finish().map_err(StoreError::io("make store"))
    }

    /// Clears away what an earlier try of putting a copy back left.
    pub(crate) fn clear_new(&self) -> Result<(), StoreError> {
        remove(&self.new_store()).map_err(StoreError::io("clear folder of the new store"))
    }

    /// Notes that the store in `new` is whole and is to take the place of the one there, which goes to a folder of this
    /// name. From here on the exchange is finished by whoever opens the home.
    pub(crate) fn make_ready(&self, name: &str) -> Result<(), StoreError> {
        let write = || {
            remove(&self.new_store().join("lock"))?;
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(true).mode(0o600);
            // Written whole before it has its name: an empty one would be taken for a word.
            let draft = self.new_store().join("ready.draft");
            let mut file = options.open(&draft)?;
            file.write_all(name.as_bytes())?;
            file.sync_all()?;
            fs::rename(&draft, self.ready())?;
            sync_folder(&self.new_store())
        };
        write().map_err(StoreError::io("prepare exchange of the store"))
    }

    /// Finishes an exchange that was made ready: what is there goes into quarantine, what is new takes its place. May be
    /// cut off anywhere and run again. Returns where the old one lies, if there was one.
    pub(crate) fn exchange(&self) -> Result<Option<PathBuf>, StoreError> {
        if !self.ready().exists() {
            return Ok(None);
        }
        let exchange = || {
            let mut name = String::new();
            // Our own file, and still no path is made of anything else in it than digits and the like.
            File::open(self.ready())?.take(64).read_to_string(&mut name)?;
            name.retain(|c| c.is_ascii_alphanumeric() || c == '-');
            let aside = self.quarantine().join(&name);
            let mut put_aside = aside.exists();
            for part in ["slots", "store", "keyring"] {
                let (here, new) = (self.dir.join(part), self.new_store().join(part));
                // Each part lies in `new` until it is in its place.
                if !new.exists() {
                    continue;
                }
                if here.exists() {
                    DirBuilder::new().recursive(true).mode(0o700).create(&aside)?;
                    sync_folder(&self.quarantine())?;
                    fs::rename(&here, aside.join(part))?;
                    sync_folder(&aside)?;
                    put_aside = true;
                }
                fs::rename(&new, &here)?;
                sync_folder(&self.dir)?;
            }
            remove(&self.making())?;
            remove(&self.new_store())?;
            sync_folder(&self.dir)?;
            Ok(put_aside.then_some(aside))
        };
        exchange().map_err(StoreError::io("exchange the store"))
    }

    /// Takes every right from everybody else, whatever the folder was like before.
    pub(crate) fn restrict(&self) -> Result<(), StoreError> {
        let own = || {
            set_mode(&self.dir, 0o700)?;
            for path in [self.keyring(), self.slots(), self.dir.join("lock")] {
                set_mode(&path, 0o600)?;
            }
            for path in [self.reserve(), self.sums()] {
                if path.exists() {
                    set_mode(&path, 0o600)?;
                }
            }
            restrict_tree(&self.store())
        };
        own().map_err(StoreError::io("restrict folder"))
    }

    /// Returns how the tree's files look now: their bytes together, and when the newest of them was written.
    pub(crate) fn rest(&self) -> io::Result<Rest> {
        let mut len = 0_u64;
        let mut newest = UNIX_EPOCH;
        for folder in [self.store(), self.store().join("blobs")] {
            for entry in fs::read_dir(folder)? {
                let meta = entry?.metadata()?;
                if meta.is_file() {
                    len = len.saturating_add(meta.len());
                    newest = newest.max(meta.modified()?);
                }
            }
        }
        let written = newest.duration_since(UNIX_EPOCH).map_err(io::Error::other)?;
        Ok(Rest { len, secs: written.as_secs(), nanos: written.subsec_nanos() })
    }

    /// Returns the file of sums, if there is one of a length that can be.
    pub(crate) fn read_sums(&self) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        File::open(self.sums()).ok()?.take(FILE_BYTES as u64 + 1).read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }

    /// Writes the file of sums; durable on return. One that is torn is none.
    pub(crate) fn write_sums(&self, bytes: &[u8]) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(self.sums())?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    /// Copies the tree, so that a look at it changes nothing. The copy goes when it is dropped.
    pub(crate) fn trial_copy(&self) -> io::Result<Trial> {
        let trial = Trial(self.trial());
        remove(&trial.0)?;
        copy_tree(&self.store(), &trial.0)?;
        Ok(trial)
    }
}

/// A copy of the tree to look at.
pub(crate) struct Trial(pub(crate) PathBuf);

impl Drop for Trial {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.0) {
            tracing::warn!(%error, "copy of the store could not be removed");
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // An empty lock file is not mistaken for a running process by whoever looks at it.
        let _ = self.0.set_len(0);
        // A child that another thread is just starting has the file open too, until it is another program.
        let _ = flock(&self.0, FlockOperation::Unlock);
    }
}

pub(crate) fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn set_mode(path: &Path, mode: u32) -> io::Result<()> {
    let meta = fs::metadata(path)?;
    if meta.permissions().mode() & 0o7777 == mode {
        return Ok(());
    }
    fs::set_permissions(path, Permissions::from_mode(mode))
}

fn restrict_tree(dir: &Path) -> io::Result<()> {
    set_mode(dir, 0o700)?;
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            restrict_tree(&entry.path())?;
        } else {
            set_mode(&entry.path(), 0o600)?;
        }
    }
    Ok(())
}

/// Copies a folder of plain files and folders; anything else in it is not ours and is left out.
fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let target = to.join(entry.file_name());
        if kind.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever starts a program copies what is open, for a moment.
    #[test]
    fn a_copy_of_the_lock_file_holds_nobody_up() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::new(dir.path());
        let lock = home.lock().unwrap();
        let copied = lock.0.try_clone().unwrap();
        assert!(matches!(home.lock(), Err(StoreError::Busy { .. })));
        drop(lock);
        let again = home.lock().unwrap();
        drop(copied);
        assert!(matches!(home.lock(), Err(StoreError::Busy { .. })));
        drop(again);
    }
}
