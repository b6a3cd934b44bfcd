//! When the device writes a snapshot of its own: once a day of running, in a moment when nobody waits, and when it is closed
//! in peace and the last one is a day old.

use crate::home::now_after;
use oob_engine::Engine;
use oob_store::Store;
use std::{
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};

/// How old the newest snapshot may become: what came since is what a damaged disk costs.
const EVERY: Duration = Duration::from_secs(86_400);

/// None is written so soon after the start: whoever starts in an emergency wants the disk for other things.
const NOT_BEFORE: Duration = Duration::from_secs(600);

/// Watches over the snapshots of one home; does nothing for a node in memory.
pub(super) struct Snapshots {
    folder: Option<PathBuf>,
    started: Instant,
    due: Instant,
}

impl Snapshots {
    pub(super) fn new(folder: Option<PathBuf>, now: Instant) -> Self {
        let age = folder.as_ref().and_then(|folder| {
            let newest = Store::kept(folder).snapshots.into_iter().next()?;
            // One from tomorrow says nothing of its age.
            SystemTime::now().duration_since(newest.written?).ok()
        });
        let left = age.map_or(Duration::ZERO, |age| EVERY.saturating_sub(age));
        Self { folder, started: now, due: now.checked_add(left).unwrap_or(now) }
    }

    /// Writes one if it is time. Called when nothing else is to be done.
    pub(super) fn look(&mut self, engine: &mut Engine, now: Instant) {
        if now.saturating_duration_since(self.started) >= NOT_BEFORE {
            self.write(engine, now);
        }
    }

    /// Writes the one that is due before the store is closed.
    pub(super) fn close(&mut self, engine: &mut Engine, now: Instant) {
        self.write(engine, now);
    }

    fn write(&mut self, engine: &mut Engine, now: Instant) {
        if self.folder.is_none() || now < self.due {
            return;
        }
        // One that fails is tried again tomorrow: the disk is full, or worse, and the store says so itself.
        self.due = now.checked_add(EVERY).unwrap_or(now);
        match engine.save_snapshot(now_after(self.started)) {
            Ok(Some(contents)) => tracing::info!(records = contents.records, "snapshot written"),
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "no snapshot could be written"),
        }
    }
}
