//! What can go wrong with a store, one variant for each thing the caller would do differently.

use std::io;
use std::path::PathBuf;

use crate::limits::{NAME_BYTES, VALUE_BYTES};

/// Why a store could not be made, opened, read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no store in this folder.
    #[error("no store in {}", dir.display())]
    Missing {
        /// The folder that was asked for.
        dir: PathBuf,
    },
    /// There is already a store, or a part of one, in this folder.
    #[error("{} already holds a store", dir.display())]
    Exists {
        /// The folder that was asked for.
        dir: PathBuf,
    },
    /// Another process, or another part of this one, has the store open.
    #[error("store is in use by process {pid}")]
    Busy {
        /// The process named in the lock file; 0 if it has not written its number yet.
        pid: u32,
    },
    /// The passphrase does not unlock the keyring.
    #[error("wrong passphrase")]
    WrongPassphrase,
    /// The key derivation asked for is weaker, or dearer, than a store may have.
    #[error(
        "key derivation of {memory_kib} KiB and {passes} passes is outside {floor_kib} to {ceiling_kib} KiB and 1 to {passes_ceiling} passes"
    )]
    Derivation {
        /// The memory asked for.
        memory_kib: u32,
        /// The passes asked for.
        passes: u32,
        /// The least memory a store may have.
        floor_kib: u32,
        /// The most memory a store may have.
        ceiling_kib: u32,
        /// The most passes a store may have.
        passes_ceiling: u32,
    },
    /// A part of the store is missing, cut short or altered.
    #[error("store is damaged: {what}")]
    Damaged {
        /// What is wrong with which part.
        what: String,
    },
    /// A part of the store is older than another part says it must be.
    #[error("store is rolled back: {part} at commit {found}, expected {expected} or later")]
    RolledBack {
        /// The part that is too old.
        part: &'static str,
        /// The commit the part has to show at least.
        expected: u64,
        /// The commit it shows.
        found: u64,
    },
    /// A part of the store belongs to another home.
    #[error("{part} belongs to another store")]
    Foreign {
        /// The part that does not belong here.
        part: &'static str,
    },
    /// A copy of a store, a backup or a snapshot, cannot be used; nothing was changed by it.
    #[error("copy cannot be used: {what}")]
    BadCopy {
        /// What is wrong with it.
        what: String,
    },
    /// There is no local snapshot that opens.
    #[error("no snapshot of a store in {}", dir.display())]
    NoSnapshot {
        /// The folder that was asked for.
        dir: PathBuf,
    },
    /// A copy of one moment was given up before it was whole. The store is as before.
    #[error("copy was given up: {why}")]
    GivenUp {
        /// Why.
        why: &'static str,
    },
    /// The store was written by a newer version of this program.
    #[error("store has format {found}, this version reads up to {known}")]
    Newer {
        /// The format found.
        found: u32,
        /// The newest format this version reads.
        known: u32,
    },
    /// The disk is full. The pending batch is kept: commit again when there is room, or discard it.
    #[error("disk is full: {free} bytes free, {needed} needed")]
    Full {
        /// What the file system has left.
        free: u64,
        /// What this commit may need at worst.
        needed: u64,
    },
    /// A write or a sync failed earlier, so nothing that is written now could be promised. Reads go on.
    #[error("store stopped writing after a failed {what}")]
    Failed {
        /// What failed.
        what: &'static str,
    },
    /// The store was closed; only views of it are left.
    #[error("store is closed")]
    Closed,
    /// A pending value is longer than a record may be. The batch is kept until it is discarded.
    #[error("value of {len} bytes is longer than {VALUE_BYTES}")]
    ValueTooLong {
        /// The length of the value.
        len: usize,
    },
    /// The name of a secret record is empty or too long. The batch is kept until it is discarded.
    #[error("secret name of {len} bytes is not 1 to {NAME_BYTES}")]
    BadName {
        /// The length of the name.
        len: usize,
    },
    /// The operating system refused something.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl StoreError {
    pub(crate) fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged { what: what.into() }
    }

    pub(crate) fn bad_copy(what: impl Into<String>) -> Self {
        Self::BadCopy { what: what.into() }
    }

    pub(crate) fn io(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { what, source }
    }
}
