//! Backups, and going back to a copy: what is done with a store while nothing else has it open. Everything here blocks.

use crate::{
    api::time,
    config::Config,
    error::{Error, ErrorKind},
    home::{self, Home},
};
use oob_store::{Contents, CopyKind, CopyWriter, Passphrase, Store, StoreError};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufWriter},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Bytes of a backup written at a time.
const WRITE: usize = 256 * 1024;

/// What a backup or a snapshot holds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupInfo {
    /// Whose it is.
    pub owner: String,
    /// When it was written, by the clock of its device.
    pub written: SystemTime,
    /// Whether the device made it by itself.
    pub snapshot: bool,
    /// How many records: messages, certificates, operations of the log and whatever else there is.
    pub records: u64,
    /// Bytes of them.
    pub bytes: u64,
}

/// What going back to a copy did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovered {
    /// What was put back.
    pub copy: BackupInfo,
    /// Where the store that was there lies now.
    pub quarantine: Option<PathBuf>,
    /// Newer copies that could not be used, and why.
    pub skipped: Vec<(PathBuf, String)>,
}

/// What a folder keeps beside its store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Keepsakes {
    /// How many snapshots.
    pub snapshots: usize,
    /// When the newest was written, by the file system.
    pub newest: Option<SystemTime>,
    /// Stores that were put aside, the newest last.
    pub quarantined: Vec<PathBuf>,
}

impl BackupInfo {
    fn of(contents: &Contents) -> Self {
        Self {
            owner: contents.about.owner.clone(),
            written: time(contents.about.written_ms),
            snapshot: contents.kind == CopyKind::Snapshot,
            records: contents.records,
            bytes: contents.bytes,
        }
    }
}

pub(crate) fn keepsakes(folder: &Path) -> Keepsakes {
    let kept = Store::kept(folder);
    Keepsakes {
        snapshots: kept.snapshots.len(),
        newest: kept.snapshots.first().and_then(|newest| newest.written),
        quarantined: kept.quarantined,
    }
}

/// Writes a backup; `step` is told how many records are done, and about how many there are.
pub(crate) fn write(
    home: Home,
    config: &Config,
    file: &Path,
    passphrase: &Passphrase,
    step: &mut dyn FnMut(u64, u64),
) -> Result<BackupInfo, Error> {
    // A backup of an identity that is made for it would be of nobody.
    let mut engine = home::open_or_make(Home { name: None, ..home }, config)?.engine;
    let mut options = OpenOptions::new();
    let out = options.write(true).create_new(true).mode(0o600).open(file);
    let made = out.is_ok();
    let written = (|| {
        let (out, about) = (out?, engine.about(home::now()));
        let out = BufWriter::with_capacity(WRITE, out);
        let mut to = CopyWriter::backup(out, passphrase, config.kdf, about, &mut home::rng())?;
        let all = engine.records();
        engine.back_up(&mut to, &mut |done| step(done, all))?;
        let (out, contents) = to.finish()?;
        out.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()?;
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
        Ok::<_, Error>(BackupInfo::of(&contents))
    })();
    if written.is_err() && made {
        // Half a backup is none; it was made here a moment ago.
        let _ = fs::remove_file(file);
    }
    engine.close()?;
    written
}

/// Reads a backup to its end.
pub(crate) fn verify(
    file: &Path,
    passphrase: &Passphrase,
    step: &mut dyn FnMut(u64),
) -> Result<BackupInfo, Error> {
    Ok(BackupInfo::of(&Store::verify_copy(file, passphrase, step)?))
}

/// Makes a home of a backup.
pub(crate) fn restore(
    home: &Home,
    config: &Config,
    file: &Path,
    backup_passphrase: &Passphrase,
    step: &mut dyn FnMut(u64),
) -> Result<Recovered, Error> {
    let passphrase = home::passphrase(home)?;
    let folder = folder(home)?;
    let restored =
        Store::restore(folder, file, backup_passphrase, passphrase, config.kdf, home::rng(), step)?;
    Ok(Recovered {
        copy: BackupInfo::of(&restored.contents),
        quarantine: restored.quarantine,
        skipped: restored.skipped,
    })
}

/// Puts a store that does not open aside, and makes one of the newest snapshot.
pub(crate) fn recover(home: &Home) -> Result<Recovered, Error> {
    let passphrase = home::passphrase(home)?;
    let folder = folder(home)?;
    match Store::open(folder, passphrase, home::rng()) {
        Ok(opened) => {
            opened.store.close()?;
            return Err(Error::new(ErrorKind::NotDamaged, "the store opens, and is whole"));
        }
        Err(
            StoreError::Damaged { .. } | StoreError::RolledBack { .. } | StoreError::Foreign { .. },
        ) => {}
        // Who may not read it is not helped by an older one.
        Err(StoreError::Io { ref source, .. })
            if !matches!(
                source.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
            ) => {}
        Err(error) => return Err(error.into()),
    }
    let restored = Store::recover(folder, passphrase, home::rng())?;
    Ok(Recovered {
        copy: BackupInfo::of(&restored.contents),
        quarantine: restored.quarantine,
        skipped: restored.skipped,
    })
}

fn folder(home: &Home) -> Result<&Path, Error> {
    home.folder.as_deref().ok_or_else(|| Error::internal("a node in memory has no folder"))
}
