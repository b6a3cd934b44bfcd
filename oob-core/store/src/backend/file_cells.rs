//! Cells in a file.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use super::Cells;

/// A slot file or keyring is never longer than this: the most pairs there may be, twice 64 bytes each.
const LONGEST: u64 = 16 << 20;

/// A small file on disk that is overwritten in place.
#[derive(Debug)]
pub struct FileCells(File);

impl FileCells {
    /// Makes a new, empty file that only this user can read.
    ///
    /// # Errors
    /// If there is one already, or the folder cannot be written.
    pub fn create(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600);
        Ok(Self(options.open(path)?))
    }

    /// Opens a file that is there.
    ///
    /// # Errors
    /// If there is none, or it cannot be read and written.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(OpenOptions::new().read(true).write(true).open(path)?))
    }
}

impl Cells for FileCells {
    fn read(&self) -> io::Result<Vec<u8>> {
        let len = self.0.metadata()?.len().min(LONGEST);
        let mut bytes = vec![0; usize::try_from(len).map_err(io::Error::other)?];
        self.0.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync_data()
    }
}
