//! When the device writes a snapshot of its own: once a day of running, begun in a moment when nobody waits, and when it is
//! closed in peace and the last one is a day old. A thread of its own writes it, from the records as they were at that
//! moment; the rules go on meanwhile, and a close waits no longer than it can spare.

use crate::home::now_after;
use oob_engine::{Engine, EngineError, RecordError, SnapshotDraft};
use oob_store::{Stop, Store, StoreError};
use std::{
    io,
    path::PathBuf,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant, SystemTime},
};

/// How old the newest snapshot may become: what came since is what a damaged disk costs.
const EVERY: Duration = Duration::from_secs(86_400);

/// None is written so soon after the start: whoever starts in an emergency wants the disk for other things.
const NOT_BEFORE: Duration = Duration::from_secs(600);

/// How soon one that came to nothing because too much was written meanwhile is tried again.
const AGAIN: Duration = Duration::from_secs(600);

/// How long a close waits for a snapshot: the daemon has ten seconds for all of it, and a hundred thousand messages take
/// about one. What is not done by then is begun again on another day.
const CLOSE_WAITS: Duration = Duration::from_secs(3);

/// Told of each record that was written.
type Step = Arc<dyn Fn(u64) + Send + Sync>;

/// Watches over the snapshots of one home; does nothing for a node in memory.
pub(super) struct Snapshots {
    folder: Option<PathBuf>,
    started: Instant,
    due: Instant,
    not_before: Duration,
    close_waits: Duration,
    step: Step,
    writing: Option<Writing>,
}

/// A snapshot that another thread writes. Dropped, it is stopped, unless it was kept already.
struct Writing {
    stop: Stop,
    /// Says once whether it was overtaken.
    ended: mpsc::Receiver<bool>,
}

impl Drop for Writing {
    fn drop(&mut self) {
        self.stop.stop();
    }
}

impl Snapshots {
    pub(super) fn new(folder: Option<PathBuf>, now: Instant) -> Self {
        let age = folder.as_ref().and_then(|folder| {
            let newest = Store::kept(folder).snapshots.into_iter().next()?;
            // One from tomorrow says nothing of its age.
            SystemTime::now().duration_since(newest.written?).ok()
        });
        let left = age.map_or(Duration::ZERO, |age| EVERY.saturating_sub(age));
        Self {
            folder,
            started: now,
            due: now.checked_add(left).unwrap_or(now),
            not_before: NOT_BEFORE,
            close_waits: CLOSE_WAITS,
            step: Arc::new(|_| {}),
            writing: None,
        }
    }

    /// As one of a node that has run for a while; `step` is told of each record that is written.
    #[cfg(test)]
    pub(super) fn at_once(folder: PathBuf, close_waits: Duration, step: Step) -> Self {
        let not_before = Duration::ZERO;
        Self { not_before, close_waits, step, ..Self::new(Some(folder), Instant::now()) }
    }

    /// Begins one if it is time. Called when nothing else is to be done.
    pub(super) fn look(&mut self, engine: &mut Engine, now: Instant) {
        let ended = self.writing.as_ref().map(|writing| writing.ended.try_recv());
        match ended {
            Some(Err(mpsc::TryRecvError::Empty)) => return,
            Some(Ok(overtaken)) => self.ended(overtaken, now),
            // Its thread ended without a word.
            Some(Err(mpsc::TryRecvError::Disconnected)) => self.ended(false, now),
            None => {}
        }
        if now.saturating_duration_since(self.started) >= self.not_before {
            self.begin(engine, now);
        }
    }

    /// Begins the one that is due before the store is closed, and waits a little for it or the one that is being written.
    /// When this returns, nothing is written any more.
    pub(super) fn close(&mut self, engine: &mut Engine, now: Instant) {
        if self.writing.is_none() {
            self.begin(engine, now);
        }
        if let Some(writing) = self.writing.take()
            && writing.ended.recv_timeout(self.close_waits).is_err()
        {
            tracing::info!("a snapshot that would have held up the end is left out");
        }
    }

    fn ended(&mut self, overtaken: bool, now: Instant) {
        self.writing = None;
        if overtaken {
            self.due = now.checked_add(AGAIN).unwrap_or(now);
        }
    }

    fn begin(&mut self, engine: &mut Engine, now: Instant) {
        if self.folder.is_none() || now < self.due {
            return;
        }
        // One that fails is tried again tomorrow: the disk is full, or worse, and the store says so itself.
        self.due = now.checked_add(EVERY).unwrap_or(now);
        match engine.begin_snapshot(now_after(self.started)) {
            Ok(Some(draft)) => match write(draft, Arc::clone(&self.step)) {
                Ok(writing) => self.writing = Some(writing),
                Err(error) => tracing::warn!(%error, "no thread for a snapshot"),
            },
            Ok(None) => {}
            Err(error) => tracing::warn!(%error, "no snapshot could be written"),
        }
    }
}

/// Writes a snapshot on a thread of its own.
fn write(draft: SnapshotDraft, step: Step) -> io::Result<Writing> {
    let stop = draft.stop();
    // Room for the one word it says, so that it waits for nobody.
    let (sender, ended) = mpsc::sync_channel(1);
    thread::Builder::new().name("oob-snapshot".into()).spawn(move || {
        let overtaken = match draft.write(&mut |done| step(done)) {
            Ok(contents) => {
                tracing::info!(records = contents.records, "snapshot written");
                false
            }
            Err(
                EngineError::Store(given_up @ StoreError::GivenUp { .. })
                | EngineError::Record(RecordError::Store(given_up @ StoreError::GivenUp { .. })),
            ) => {
                tracing::debug!(%given_up, "a snapshot is left for later");
                true
            }
            Err(error) => {
                tracing::warn!(%error, "no snapshot could be written");
                false
            }
        };
        // Nobody waits for it when the store is closed.
        let _ = sender.try_send(overtaken);
    })?;
    Ok(Writing { stop, ended })
}
