//! How much this device carries for others: a part of what its disk has left, looked at again as that changes.

use oob_engine::Engine;
use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Most that is carried, however large the disk: a day of a team of hundreds.
const MOST: u64 = 4 * 1024 * 1024 * 1024;

/// The part of what is left that is taken: a tenth.
const PART: u64 = 10;

/// Most that a node without a folder carries: it is all in memory.
const IN_MEMORY: u64 = 64 * 1024 * 1024;

/// How often the disk is asked; others fill it too, and asking takes microseconds.
const EVERY: Duration = Duration::from_secs(30);

/// Where carried records are kept, and when its room was last looked at.
pub(super) struct Shelf {
    folder: Option<PathBuf>,
    looked: Option<Instant>,
}

impl Shelf {
    /// Records are kept in this folder; in memory without one.
    pub(super) fn new(folder: Option<PathBuf>) -> Self {
        Self { folder, looked: None }
    }

    /// Returns the folder, if there is one.
    pub(super) fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    /// Tells the rules how much to carry, if it is time to look again.
    pub(super) fn look(&mut self, engine: &mut Engine, now: Instant) {
        if self.looked.is_some_and(|at| now.saturating_duration_since(at) < EVERY) {
            return;
        }
        self.looked = Some(now);
        let Some(folder) = &self.folder else { return engine.set_carry_limit(IN_MEMORY) };
        match rustix::fs::statvfs(folder) {
            Ok(stat) => {
                let free = stat.f_bavail.saturating_mul(stat.f_frsize);
                engine.set_carry_limit(limit(free, engine.snapshot().carried_bytes));
            }
            // What was found before holds until it can be found again.
            Err(error) => tracing::debug!(%error, "cannot see how much room the disk has"),
        }
    }
}

/// Returns how much to carry where so much is free. What is carried already counts as free: the more is carried the less is
/// left, and the limit must not shrink for that.
fn limit(free: u64, carried: u64) -> u64 {
    (free.saturating_add(carried) / PART).min(MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenth_of_what_is_left_is_carried_and_four_gibibytes_at_most() {
        const GIB: u64 = 1024 * 1024 * 1024;
        assert_eq!(limit(10 * GIB, 0), GIB);
        assert_eq!(limit(9 * GIB, GIB), GIB, "what is carried does not shrink the limit");
        assert_eq!(limit(1_000 * GIB, 0), 4 * GIB);
        assert_eq!(limit(0, 0), 0, "a full disk carries nothing new");
        assert_eq!(limit(u64::MAX, u64::MAX), 4 * GIB);
    }
}
