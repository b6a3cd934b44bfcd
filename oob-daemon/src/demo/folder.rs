//! Where the homes of a demo are, and their passphrase.

use crate::{failure::Failure, service::private_folder};
use rand::RngExt;
use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// Where the homes are; removed at the end unless it is to be kept.
pub(super) enum Folder {
    Temporary(tempfile::TempDir),
    Kept(PathBuf),
}

impl Folder {
    pub(super) fn make(keep: Option<PathBuf>) -> Result<Self, Failure> {
        let Some(path) = keep else {
            let made = tempfile::Builder::new().prefix("oob-demo-").tempdir();
            return made
                .map(Self::Temporary)
                .map_err(|e| Failure::file("no temporary folder can be made", &e));
        };
        let path = std::path::absolute(&path)
            .map_err(|e| Failure::file(format!("folder {}", path.display()), &e))?;
        private_folder(&path)
            .map_err(|e| Failure::file(format!("folder {} cannot be made", path.display()), &e))?;
        let mut entries = fs::read_dir(&path)
            .map_err(|e| Failure::file(format!("folder {} cannot be read", path.display()), &e))?;
        if entries.next().is_some() {
            return Err(Failure::new("file_exists", format!("{} is not empty", path.display()))
                .hint("name a new folder: oob demo --keep DIR"));
        }
        Ok(Self::Kept(path))
    }

    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Temporary(dir) => dir.path(),
            Self::Kept(path) => path,
        }
    }

    /// Makes a passphrase for the three homes; it stays in a file beside those that are kept.
    pub(super) fn passphrase(&self) -> Result<String, Failure> {
        let passphrase: String =
            rand::rng().random::<[u8; 16]>().iter().map(|byte| format!("{byte:02x}")).collect();
        if let Self::Kept(path) = self {
            let file = path.join("passphrase");
            let written = fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&file)
                .and_then(|mut f| writeln!(f, "{passphrase}"));
            written
                .map_err(|e| Failure::file(format!("{} cannot be written", file.display()), &e))?;
        }
        Ok(passphrase)
    }
}
