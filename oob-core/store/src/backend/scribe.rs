//! The thread that writes down what was put aside of the journal, so that no commit waits for it but one that needs its room.
//!
//! It owns the tree beneath from the moment it is asked until it is done, and has nothing else to do with the journal.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::BackendError;
use super::descent::{Descent, End};

/// What the thread gives back: the tree, and whether all that was asked is durable.
pub(super) struct Done {
    pub(super) descent: Box<Descent>,
    /// False if it was told to stop before.
    pub(super) result: Result<bool, BackendError>,
}

/// The thread, and the way there and back: one table at a time is on it, so each way has one place.
pub(super) struct Scribe {
    work: Option<SyncSender<Box<Descent>>>,
    done: Receiver<Done>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// Something was given back, or is about to be.
    is_done: AtomicBool,
    /// The thread is to end after the part it is at.
    is_stopped: AtomicBool,
}

impl Scribe {
    /// Starts the thread, which waits for [`Self::ask`]. Between two parts it looks whether it is to stop.
    pub(super) fn start(part: usize) -> std::io::Result<Self> {
        let (work, asked) = sync_channel::<Box<Descent>>(1);
        let (give, done) = sync_channel(1);
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new().name("oob-store-write".into()).spawn(move || {
            for mut descent in asked {
                let written = AssertUnwindSafe(|| write(&mut descent, part, &theirs));
                // Whoever asks next is told; the words of a panic are in the panic hook's log.
                let result = catch_unwind(written).unwrap_or_else(|_| {
                    Err(BackendError::Damaged("the thread that writes records gave up".into()))
                });
                theirs.is_done.store(true, Ordering::Release);
                if give.send(Done { descent, result }).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { work: Some(work), done, shared, thread: Some(thread) })
    }

    /// Gives it a tree to write to. It must have none.
    ///
    /// # Errors
    /// The tree, if the thread is gone.
    pub(super) fn ask(&self, descent: Box<Descent>) -> Result<(), Box<Descent>> {
        self.shared.is_done.store(false, Ordering::Release);
        match &self.work {
            Some(work) => work.send(descent).map_err(|unsent| unsent.0),
            None => Err(descent),
        }
    }

    /// Says whether there is something to take.
    pub(super) fn is_done(&self) -> bool {
        self.shared.is_done.load(Ordering::Acquire)
    }

    /// Returns what it is done with, if it is.
    pub(super) fn look(&self) -> Result<Option<Done>, BackendError> {
        match self.done.try_recv() {
            Ok(done) => Ok(Some(done)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(gone()),
        }
    }

    /// Waits for what it was asked, as long as the disk takes: what a commit needs and the disk does not do, nobody else can do.
    pub(super) fn wait(&self) -> Result<Done, BackendError> {
        self.done.recv().map_err(|_| gone())
    }

    /// Ends the thread after the part it is at; returns the tree if it had it.
    ///
    /// # Errors
    /// If it does not end in time; it then goes on by itself, and lets go of the tree when it can.
    pub(super) fn end(
        &mut self,
        has_tree: bool,
        within: Duration,
    ) -> Result<Option<Done>, BackendError> {
        self.shared.is_stopped.store(true, Ordering::Relaxed);
        self.work = None;
        let done = match has_tree.then(|| self.done.recv_timeout(within)) {
            Some(Err(RecvTimeoutError::Timeout)) => {
                return Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into());
            }
            Some(Err(RecvTimeoutError::Disconnected)) => Err(gone()),
            Some(Ok(done)) => Ok(Some(done)),
            None => Ok(None),
        };
        if let Some(thread) = self.thread.take() {
            // It has nothing left to do but to end.
            let _ = thread.join();
        }
        done
    }
}

fn gone() -> BackendError {
    BackendError::Damaged("the thread that writes records is gone".into())
}

fn write(descent: &mut Descent, part: usize, shared: &Shared) -> Result<bool, BackendError> {
    while !shared.is_stopped.load(Ordering::Relaxed) {
        if descent.part(part, true)? == End::Table {
            return Ok(true);
        }
    }
    Ok(false)
}
