//! The reserve: a file that does nothing but take up room, given back when the disk is full.
//!
//! The records are a log, so deleting writes too. Without a reserve a full disk could not be told to forget anything.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate};

use crate::backend::free_bytes;
use crate::limits::{RESERVE_BYTES, RESERVE_SPARE};

/// The file beside the records.
#[derive(Debug)]
pub(crate) struct Reserve {
    path: PathBuf,
    held: bool,
    /// It was given back, and what is free may be some of it.
    given: bool,
}

impl Reserve {
    /// Looks whether the reserve is there.
    pub(crate) fn find(path: PathBuf) -> Self {
        let len = std::fs::metadata(&path).map(|meta| meta.len());
        let held = matches!(len, Ok(RESERVE_BYTES..));
        Self { path, held, given: matches!(len, Ok(0)) }
    }

    /// Returns the bytes that are for deletions, and for nothing that can wait: all of it from when it is given back until there is
    /// room for another.
    pub(crate) fn promised(&self) -> u64 {
        if self.given { RESERVE_BYTES } else { 0 }
    }

    /// Gives the room back; false if there is none to give.
    pub(crate) fn spend(&mut self) -> bool {
        if !std::mem::take(&mut self.held) {
            return false;
        }
        // Cut short and not removed: file systems put off the work of removing a file, and its name says what became of it.
        let spent = OpenOptions::new().write(true).open(&self.path).and_then(|file| {
            file.set_len(0)?;
            file.sync_all()
        });
        self.given = true;
        match &spent {
            Ok(()) => tracing::warn!("disk is full: the reserve is given back for deletions"),
            Err(error) => tracing::warn!(%error, "the reserve cannot be given back"),
        }
        spent.is_ok()
    }

    /// Takes the room, if it is not taken and there is some to spare beyond what was promised to somebody. That there is none is
    /// no reason not to work.
    pub(crate) fn renew(&mut self, promised: u64) {
        if self.held || !self.has_room(promised) {
            return;
        }
        match take(&self.path) {
            Ok(()) => (self.held, self.given) = (true, false),
            Err(error) => {
                tracing::warn!(%error, "no reserve for deletions on a full disk");
                // Half a reserve is not worth its room; an empty one is one that was given back.
                let _ = match self.given {
                    true => File::create(&self.path).map(drop),
                    false => std::fs::remove_file(&self.path),
                };
            }
        }
    }

    fn has_room(&self, promised: u64) -> bool {
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let needed = promised.saturating_add(RESERVE_BYTES + RESERVE_SPARE);
        free_bytes(folder).is_ok_and(|free| free >= needed)
    }
}

fn take(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path)?;
    if fallocate(&file, FallocateFlags::empty(), 0, RESERVE_BYTES).is_ok() {
        return Ok(());
    }
    // A file system that cannot promise room gets something to keep that it cannot press together.
    let mut block = [0; 4096];
    let mut stream = blake3::Hasher::new().finalize_xof();
    for _ in 0..RESERVE_BYTES / block.len() as u64 {
        stream.fill(&mut block);
        file.write_all(&block)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_reserve_takes_real_room_and_gives_it_back_once() {
        use std::os::unix::fs::MetadataExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("reserve");
        let mut reserve = Reserve::find(path.clone());
        assert!(!reserve.spend());
        reserve.renew(0);
        let room = || fs::metadata(&path).unwrap().blocks() * 512;
        assert!(room() >= RESERVE_BYTES, "a file of holes reserves nothing");
        assert!(reserve.spend());
        assert_eq!(room(), 0);
        assert!(!reserve.spend(), "there is only one");
        reserve.renew(0);
        assert!(room() >= RESERVE_BYTES);
        // The next start finds it.
        drop(reserve);
        assert!(Reserve::find(path).spend());
    }

    /// What a full disk left free is for deletions after a start as well.
    #[test]
    fn what_was_given_back_is_promised_until_there_is_another() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("reserve");
        let mut reserve = Reserve::find(path.clone());
        assert_eq!(reserve.promised(), 0, "there never was one");
        reserve.renew(0);
        assert_eq!(reserve.promised(), 0, "it is held");
        assert!(reserve.spend());
        assert_eq!(reserve.promised(), RESERVE_BYTES);
        let mut reserve = Reserve::find(path.clone());
        assert_eq!(reserve.promised(), RESERVE_BYTES, "after a start");
        reserve.renew(u64::MAX / 2);
        assert_eq!(reserve.promised(), RESERVE_BYTES, "there is no room for another");
        reserve.renew(0);
        assert_eq!(reserve.promised(), 0);
        assert_eq!(Reserve::find(path).promised(), 0);
    }

    /// The reserve was taken between the moment a batch was told that it has room and the moment it was written.
    #[test]
    fn room_that_was_promised_is_not_taken() {
        let dir = tempfile::tempdir().unwrap();
        let mut reserve = Reserve::find(dir.path().join("reserve"));
        // More than others could set free on this disk meanwhile.
        reserve.renew(u64::MAX / 2);
        assert!(!reserve.spend());
        reserve.renew(0);
        assert!(reserve.spend(), "control: there is room");
    }

    #[test]
    fn where_the_reserve_cannot_be_there_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let mut reserve = Reserve::find(dir.path().join("gone/reserve"));
        assert!(!reserve.spend());
        reserve.renew(0);
        assert!(!reserve.spend());
    }
}
