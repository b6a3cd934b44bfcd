//! Backups, and what was put back.

use super::Stamp;
use serde::{Deserialize, Serialize};

/// What a backup or snapshot holds: what `backup write` and `backup verify` print.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    /// The file; `null` for a snapshot that was put back.
    pub file: Option<String>,
    /// Whose it is.
    pub owner: String,
    /// When it was written, by the clock of its device.
    pub written: Stamp,
    /// Whether the device made it by itself.
    pub snapshot: bool,
    /// How many records.
    pub records: u64,
    /// Bytes of them.
    pub bytes: u64,
}

/// What was put back: what `backup restore` and `backup recover` print.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovered {
    /// The home.
    pub home: String,
    /// What it was made of.
    pub backup: Backup,
    /// Where the store that was there lies now; `null` if there was none.
    pub quarantine: Option<String>,
    /// Newer snapshots that could not be used.
    pub skipped: Vec<Skipped>,
}

/// A snapshot that could not be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// The file.
    pub file: String,
    /// Why.
    pub reason: String,
}
