//! Local snapshots: sealed copies of the records that the device keeps beside its store, for the day the store is damaged.
//!
//! They lie in `snapshots/`, numbered in the order they were written, since a clock may be wrong. A snapshot is sealed under
//! a key of the root key and carries the root key wrapped as the keyring has it, so it opens with the passphrase alone,
//! also when the keyring is lost.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::backend::sync_folder;
use crate::error::StoreError;
use crate::home::{Home, remove};
use crate::limits::SNAPSHOTS;
use crate::sealed_copy::{About, Contents, CopyKind, CopyWriter};
use crate::store::Store;

/// What the name of a snapshot ends in.
const ENDING: &str = ".oobcopy";

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

    /// Writes a snapshot beside the store; `fill` puts into it what is to be kept. Older ones but the last are removed once
    /// it is durable. None is written for a store without a folder.
    ///
    /// # Errors
    /// When the disk refuses or has too little room, or `fill` does. The store and the snapshots there are as before.
    pub fn save_snapshot<E: From<StoreError>>(
        &mut self,
        written_ms: u64,
        owner: &str,
        fill: impl FnOnce(&Self, &mut CopyWriter<BufWriter<File>>) -> Result<(), E>,
    ) -> Result<Option<Contents>, E> {
        let Some(home) = self.home.as_ref().map(|(home, _)| home.clone()) else { return Ok(None) };
        let about = About { written_ms, commit: self.commit_number(), owner: owner.to_owned() };
        // A copy is no longer than the records it is made of. The commits to come matter more than a snapshot.
        let needed = home.rest().map(|rest| rest.len).map_err(StoreError::io("look at records"))?;
        self.tree.room(needed).map_err(StoreError::from)?;
        let number = list(&home).first().map_or(0, |newest| newest.number).saturating_add(1);
        let (draft, file) = begin(&home).map_err(StoreError::io("make snapshot"))?;
        let written = self.write_snapshot(file, about, fill);
        let (file, contents) = match written {
            Ok(written) => written,
            Err(error) => {
                let _ = remove(&draft);
                return Err(error);
            }
        };
        let keep = || {
            file.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()?;
            fs::rename(&draft, home.snapshots().join(format!("{number:010}{ENDING}")))?;
            sync_folder(&home.snapshots())?;
            for old in list(&home).into_iter().skip(SNAPSHOTS) {
                remove(&old.path)?;
            }
            Ok(())
        };
        keep().map_err(StoreError::io("keep snapshot"))?;
        Ok(Some(contents))
    }

    fn write_snapshot<E: From<StoreError>>(
        &mut self,
        file: BufWriter<File>,
        about: About,
        fill: impl FnOnce(&Self, &mut CopyWriter<BufWriter<File>>) -> Result<(), E>,
    ) -> Result<(BufWriter<File>, Contents), E> {
        let keyring = &self.keyring;
        let mut writer = CopyWriter::begin(
            file,
            CopyKind::Snapshot,
            &keyring.store,
            &keyring.wrapped,
            &keyring.root,
            about,
            &mut *self.rng,
        )?;
        fill(self, &mut writer)?;
        Ok(writer.finish()?)
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
    let draft = folder.join("draft");
    remove(&draft)?;
    let mut options = OpenOptions::new();
    options.write(true).create_new(true).mode(0o600);
    Ok((draft.clone(), BufWriter::with_capacity(256 * 1024, options.open(&draft)?)))
}
