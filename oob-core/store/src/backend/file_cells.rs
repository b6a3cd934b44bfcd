//! Cells in a file, and the file of the journal, which is only made when it is written to.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::{Cells, sync_folder};

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

/// The file of the journal. Opening it makes nothing.
#[derive(Debug)]
pub struct JournalFile {
    path: PathBuf,
    file: Option<FileCells>,
    /// It was made since the last sync, and its name is not durable yet.
    is_new: bool,
}

impl JournalFile {
    /// Opens the file, if it is there.
    ///
    /// # Errors
    /// If it is there and cannot be read and written.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = match FileCells::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            other => Some(other?),
        };
        Ok(Self { path: path.to_path_buf(), file, is_new: false })
    }
}

impl Cells for JournalFile {
    fn read(&self) -> io::Result<Vec<u8>> {
        self.file.as_ref().map_or(Ok(Vec::new()), Cells::read)
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                self.is_new = true;
                none.insert(FileCells::create(&self.path)?)
            }
        };
        file.write(offset, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        file.sync()?;
        if self.is_new {
            sync_folder(self.path.parent().unwrap_or(Path::new(".")))?;
            self.is_new = false;
        }
        Ok(())
    }
}
