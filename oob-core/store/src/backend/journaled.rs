//! A tree with a journal in front of it: a batch is durable with one write and one sync of a file that has its length already,
//! and reaches the tree beneath later, together with many others.
//!
//! The journal has two halves. Batches go into the one and into a table in memory; when it is full, the table is put aside and
//! they go into the other. What was put aside is written to the tree beneath in pieces, each of them synced before the next,
//! the last one with the number of the last batch in it; only then is its half written over.
//!
//! Until then the journal holds every batch the tree beneath may hold in part, and an opening lays all of them over it again.
//!
//! The pieces are written in step with the batches, so that all writes come in an order that repeats; or, with
//! [`Journaled::with_thread`], by a thread, and whoever commits waits for it only when the half in use is full as well.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::descent::{APPLIED, Descent, End};
use super::journal::{Applied, Journal, Tip, record_bytes};
use super::overlay::{Overlay, Table};
use super::scribe::Scribe;
use super::{Backend, BackendError, Batch, Cells, Gauge, Reader};

/// Pieces of a half, each 128 KiB of 2 MiB: what the largest commit of messages writes. No more goes between two syncs, at closing
/// neither: sled may write over what became free since the last one.
const PIECES: usize = 16;

/// Parts of a piece, one for each idle moment: whoever comes meanwhile waits for one, and only with the last of them for the sync.
const PARTS: usize = 8;

/// How long a close waits for the piece that the thread is at: many times what the slowest disk needs for it.
const END_WITHIN: Duration = Duration::from_secs(10);

/// A tree and the journal in front of it.
pub struct Journaled {
    journal: Journal,
    overlay: Overlay,
    /// The tree beneath, unless the thread has it.
    descent: Option<Box<Descent>>,
    gauge: Arc<dyn Gauge>,
    /// How often the tree beneath was written to, durably.
    pieces: Arc<AtomicU64>,
    /// Room that is left to others by what can wait.
    left: Arc<AtomicU64>,
    /// How often the journal says it was.
    told: u64,
    aside: Option<Aside>,
    /// A batch went past the journal since the last sync.
    passed: bool,
    pace: Pace,
}

/// Who writes down what was put aside.
enum Pace {
    /// The owner, between batches.
    InStep,
    /// A thread, which is not there before there is something to write.
    Beside(Option<Scribe>),
}

/// When the table that was put aside is to be written down, in step.
struct Aside {
    /// Where the half in use may be when the next piece is due.
    due: usize,
    /// From one piece to the next.
    stride: usize,
}

impl Journaled {
    /// Puts a journal in front of a tree and reads what it holds. Writes nothing before [`Backend::ready`].
    ///
    /// # Errors
    /// When either cannot be read.
    pub fn open(
        beneath: Box<dyn Backend>,
        journal: Box<dyn Cells>,
        half_bytes: usize,
    ) -> Result<Self, BackendError> {
        let reader = beneath.reader();
        let applied = match reader.get(APPLIED)? {
            Some(bytes) => Applied::parse(&bytes)
                .ok_or_else(|| BackendError::Damaged("the journal's place is lost".into()))?,
            None => Applied::default(),
        };
        let (journal, runs) = Journal::open(journal, half_bytes, applied.tip)?;
        // sled drops the damaged end of its log without a word. The journal may hold all of that, but a tree that was written
        // to after it lost something is not to be relied on.
        if let Some(expected) = runs.iter().map(|run| run.pieces).max()
            && applied.pieces < expected
        {
            let found = applied.pieces;
            let what = format!("records were written {found} times, expected {expected}");
            return Err(BackendError::Damaged(what));
        }
        if let Some(number) = journal.beyond() {
            let what = format!("the journal lacks what comes before its record {number}");
            return Err(BackendError::Damaged(what));
        }
        let descent = Descent::new(beneath, applied, half_bytes / PIECES);
        let mut tree = Self {
            journal,
            overlay: Overlay::new(reader, APPLIED),
            gauge: descent.gauge(),
            pieces: descent.durable(),
            left: descent.left(),
            descent: Some(Box::new(descent)),
            told: applied.pieces,
            aside: None,
            passed: false,
            pace: Pace::InStep,
        };
        let last = runs.len();
        for (number, run) in (1..).zip(runs) {
            run.batches.iter().for_each(|batch| tree.overlay.write(batch));
            if number < last {
                tree.set_aside(run.tip)?;
            }
        }
        Ok(tree)
    }

    /// Lets a thread of its own write down what is put aside, from the first write on. The order of its writes and those of batches
    /// is then up to chance.
    #[must_use]
    pub fn with_thread(mut self) -> Self {
        self.pace = Pace::Beside(None);
        self
    }

    fn goes_past(&self, batch: &Batch) -> bool {
        // Much at once is not worth being written twice.
        !self.journal.is_made() || record_bytes(batch) > self.journal.half_bytes() / 4
    }

    /// Says whether the half in use has room for a record.
    fn fits(&self, record: usize, cost: usize) -> bool {
        // Deletions take more in memory than in the file.
        let weight = self.overlay.bytes().saturating_add(cost);
        self.journal.fits(record) && weight <= 2 * self.journal.half_bytes()
    }

    /// Bytes of one piece.
    fn piece_bytes(&self) -> usize {
        self.journal.half_bytes() / PIECES
    }

    /// Bytes of one part.
    fn part_bytes(&self) -> usize {
        self.piece_bytes().div_ceil(PARTS)
    }

    fn left(&self) -> u64 {
        self.left.load(Ordering::Acquire)
    }

    fn pieces(&self) -> u64 {
        self.pieces.load(Ordering::Acquire)
    }

    /// Puts the table aside. There must be none aside.
    fn set_aside(&mut self, tip: Tip) -> Result<(), BackendError> {
        self.overlay.freeze();
        let table = self.overlay.frozen().ok_or(BackendError::Closed)?;
        let pieces = table.bytes() / self.piece_bytes() + 1;
        self.descent.as_mut().ok_or(BackendError::Closed)?.take(table, tip);
        // Done well before the half in use is full.
        let stride = self.journal.half_bytes() / 4 * 3 / pieces;
        self.aside = Some(Aside { due: stride, stride });
        Ok(())
    }

    /// Begins the other half, whose records the tree beneath must hold.
    fn turn(&mut self) -> Result<(), BackendError> {
        self.set_aside(self.journal.tip())?;
        self.journal.turn();
        Ok(())
    }

    /// Writes down part of what was put aside, here and now. The thread must not have it.
    fn write_part(&mut self, most: usize, can_wait: bool) -> Result<(), BackendError> {
        if self.aside.is_none() {
            return Ok(());
        }
        // The tree beneath must never hold part of a batch that the journal could lose.
        self.journal.sync()?;
        let end = self.descent.as_mut().ok_or(BackendError::Closed)?.part(most, can_wait)?;
        match (end, &mut self.aside) {
            (End::Part, _) | (_, None) => {}
            (End::Piece, Some(aside)) => aside.due = aside.due.saturating_add(aside.stride),
            (End::Table, Some(_)) => self.forget_aside(),
        }
        Ok(())
    }

    /// The tree beneath holds all of it.
    fn forget_aside(&mut self) {
        self.aside = None;
        self.overlay.thaw();
    }

    /// Asks the thread to write down what was put aside, if it has not got it yet, and takes back what it is done with.
    fn hand_over(&mut self) -> Result<(), BackendError> {
        self.take_back(false)?;
        if self.aside.is_none() || self.descent.is_none() {
            return Ok(());
        }
        // It would only be woken to find that out.
        self.gauge.room((self.piece_bytes() as u64).saturating_add(self.left()))?;
        // The tree beneath must never hold part of a batch that the journal could lose.
        self.journal.sync()?;
        // Nobody waits for it, so that it need not look up before a piece is done.
        let part = self.piece_bytes();
        let Pace::Beside(scribe) = &mut self.pace else { return Ok(()) };
        let scribe = match scribe {
            Some(scribe) => scribe,
            none => match Scribe::start(part) {
                Ok(started) => none.insert(started),
                Err(error) => {
                    tracing::warn!(%error, "no thread to write records; commits wait for them");
                    self.pace = Pace::InStep;
                    return Ok(());
                }
            },
        };
        if let Some(descent) = self.descent.take()
            && let Err(descent) = scribe.ask(descent)
        {
            self.descent = Some(descent);
            self.pace = Pace::InStep;
        }
        Ok(())
    }

    /// Takes back what the thread is done with, or waits until it is.
    fn take_back(&mut self, wait: bool) -> Result<(), BackendError> {
        if self.descent.is_some() {
            return Ok(());
        }
        let Pace::Beside(Some(scribe)) = &self.pace else { return Err(BackendError::Closed) };
        let done = if wait { Some(scribe.wait()?) } else { scribe.look()? };
        let Some(done) = done else { return Ok(()) };
        self.descent = Some(done.descent);
        if done.result? {
            self.forget_aside();
        }
        Ok(())
    }

    /// Writes down the rest of what was put aside, or waits until the thread has; durable on return.
    fn finish(&mut self, can_wait: bool) -> Result<(), BackendError> {
        match self.take_back(true) {
            // There may be room by now.
            Err(BackendError::Full { .. }) => {}
            other => other?,
        }
        while self.aside.is_some() {
            self.write_part(self.piece_bytes(), can_wait)?;
        }
        Ok(())
    }

    /// Writes down everything there is; durable on return.
    fn write_down(&mut self, can_wait: bool) -> Result<(), BackendError> {
        loop {
            self.finish(can_wait)?;
            if self.overlay.bytes() == 0 {
                return Ok(());
            }
            self.turn()?;
        }
    }

    fn append(&mut self, batch: &Batch) -> Result<(), BackendError> {
        self.told = self.pieces();
        Ok(self.journal.append(batch, self.told)?)
    }
}

impl Backend for Journaled {
    fn ready(&mut self) -> Result<(), BackendError> {
        self.descent.as_mut().ok_or(BackendError::Closed)?.tree().ready()?;
        // What a killed process left in memory only must not decide which keys are destroyed.
        self.journal.settle()?;
        if self.journal.is_made() {
            return Ok(());
        }
        let made = self
            .gauge
            .room((self.journal.half_bytes() as u64).saturating_mul(2))
            .and_then(|()| Ok(self.journal.make()?));
        match made {
            // Without a journal every batch goes to the tree beneath.
            Err(BackendError::Full { .. }) => tracing::warn!("disk is too full for a journal"),
            Err(BackendError::Io(error)) if error.kind() == io::ErrorKind::StorageFull => {
                tracing::warn!("disk is too full for a journal");
            }
            other => other?,
        }
        Ok(())
    }

    fn gauge(&self) -> Arc<dyn Gauge> {
        Arc::clone(&self.gauge)
    }

    fn room(&self, bytes: u64) -> Result<(), BackendError> {
        // What is not written down yet must be able to be.
        let aside = self.overlay.frozen().map_or(0, |table| table.bytes());
        let waiting = self.overlay.bytes().saturating_add(aside);
        self.gauge.room(bytes.saturating_add(waiting as u64))
    }

    fn room_beside(&self, bytes: u64) -> Result<(), BackendError> {
        let record = usize::try_from(bytes).unwrap_or(usize::MAX);
        // What waits keeps its place in the journal, where this has one too.
        let is_placed = self.journal.is_made()
            && record <= self.journal.half_bytes() / 4
            && self.fits(record, record);
        if is_placed { self.gauge.room(bytes) } else { self.room(bytes) }
    }

    fn prepare(&mut self, batch: &Batch) -> Result<(), BackendError> {
        if self.goes_past(batch) {
            return self.write_down(false);
        }
        let fits = self.fits(record_bytes(batch), Table::cost(batch));
        let moved = match self.pace {
            Pace::Beside(_) => self.hand_over(),
            Pace::InStep => loop {
                if self.aside.as_ref().is_none_or(|aside| self.journal.position() < aside.due) {
                    break Ok(());
                }
                if let Err(error) = self.write_part(self.piece_bytes(), true) {
                    break Err(error);
                }
            },
        };
        match moved {
            // It stays in the journal, if that has room for this batch.
            Err(BackendError::Full { .. }) => {}
            other => other?,
        }
        if !fits {
            self.finish(false)?;
            self.turn()?;
        }
        Ok(())
    }

    fn apply(&mut self, batch: &Batch) -> Result<(), BackendError> {
        if batch.writes.is_empty() {
            return Ok(());
        }
        self.prepare(batch)?;
        if self.goes_past(batch) {
            let tip = self.journal.tip().beyond(batch);
            self.passed = true;
            self.descent.as_mut().ok_or(BackendError::Closed)?.pass(batch, tip)?;
            self.journal.pass(tip);
        } else {
            self.append(batch)?;
            self.overlay.write(batch);
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), BackendError> {
        if self.passed {
            self.take_back(true)?;
            self.descent.as_mut().ok_or(BackendError::Closed)?.sync()?;
            self.passed = false;
        }
        Ok(self.journal.sync()?)
    }

    fn needs_idle(&self) -> bool {
        let is_with_thread = match &self.pace {
            Pace::Beside(Some(scribe)) => self.descent.is_none() && !scribe.is_done(),
            _ => false,
        };
        self.aside.is_some() && !is_with_thread
    }

    fn idle(&mut self) -> Result<(), BackendError> {
        match self.pace {
            Pace::Beside(_) => self.hand_over(),
            Pace::InStep => self.write_part(self.part_bytes(), true),
        }
    }

    fn leave(&mut self, bytes: u64) {
        self.left.store(bytes, Ordering::Release);
    }

    fn settle(&mut self) -> Result<(), BackendError> {
        self.write_down(true)?;
        if self.pieces() > self.told && self.journal.is_made() {
            // An empty batch, to say how often the tree was written to.
            self.append(&Batch::default())?;
            self.journal.sync()?;
        }
        Ok(())
    }

    fn reader(&self) -> Arc<dyn Reader> {
        Arc::new(self.overlay.clone())
    }

    fn close(&mut self) {
        self.overlay.close();
        if let Pace::Beside(Some(scribe)) = &mut self.pace {
            match scribe.end(self.descent.is_none(), END_WITHIN) {
                Ok(Some(done)) => {
                    // Whoever closes without a settle asks no more.
                    if let Err(error) = done.result {
                        tracing::error!(%error, "records were not written down");
                    }
                    self.descent = Some(done.descent);
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(%error, "the thread that writes records does not end");
                }
            }
            self.pace = Pace::InStep;
        }
        if let Some(descent) = &mut self.descent {
            descent.tree().close();
        }
    }
}

impl Drop for Journaled {
    fn drop(&mut self) {
        self.close();
    }
}
