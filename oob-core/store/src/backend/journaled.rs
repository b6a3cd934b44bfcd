//! A tree with a journal in front of it: a batch is durable with one write and one sync of a file that has its length already,
//! and reaches the tree beneath later, together with many others.
//!
//! The journal has two halves. Batches go into the one and into a table in memory; when it is full, the table is put aside and
//! they go into the other. What was put aside is written to the tree beneath in pieces, each of them synced before the next,
//! the last one with the number of the last batch in it; only then is its half written over.
//!
//! Until then the journal holds every batch the tree beneath may hold in part, and an opening lays all of them over it again.

use std::io;
use std::sync::Arc;

use super::journal::{Applied, Journal, Tip, record_bytes};
use super::overlay::{Overlay, Table};
use super::{Backend, BackendError, Batch, Cells, Reader};

/// The key under which the tree beneath keeps [`Applied`]. All others are 24 bytes long.
const APPLIED: &[u8] = b"journal";

/// Pieces of a half, each 128 KiB of 2 MiB: what the largest commit of messages writes. No more goes between two syncs, at closing
/// neither: sled may write over what became free since the last one.
const PIECES: usize = 16;

/// Parts of a piece, one for each idle moment: whoever comes meanwhile waits for one, and only with the last of them for the sync.
const PARTS: usize = 8;

/// A tree and the journal in front of it.
pub struct Journaled {
    beneath: Box<dyn Backend>,
    journal: Journal,
    overlay: Overlay,
    applied: Applied,
    aside: Option<Aside>,
    /// A batch went past the journal since the last sync.
    passed: bool,
}

/// The table on its way to the tree beneath.
struct Aside {
    /// The last batch in it.
    tip: Tip,
    /// The last key written down.
    after: Option<Vec<u8>>,
    /// Bytes of the piece under way that are written down and not yet synced.
    begun: usize,
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
        let overlay = Overlay::new(reader, APPLIED);
        let mut tree = Self { beneath, journal, overlay, applied, aside: None, passed: false };
        let last = runs.len();
        for (number, run) in (1..).zip(runs) {
            run.batches.iter().for_each(|batch| tree.overlay.write(batch));
            if number < last {
                tree.set_aside(run.tip);
            }
        }
        Ok(tree)
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

    fn set_aside(&mut self, tip: Tip) {
        self.overlay.freeze();
        let pieces =
            self.overlay.frozen().map_or(0, |table| table.bytes()) / self.piece_bytes() + 1;
        // Done well before the half in use is full.
        let stride = self.journal.half_bytes() / 4 * 3 / pieces;
        self.aside = Some(Aside { tip, after: None, begun: 0, due: stride, stride });
    }

    /// Begins the other half, once the tree beneath holds what is in it.
    fn turn(&mut self) -> Result<(), BackendError> {
        while self.aside.is_some() {
            self.write_piece()?;
        }
        self.set_aside(self.journal.tip());
        self.journal.turn();
        Ok(())
    }

    /// Writes down the rest of a piece of what was put aside; durable on return.
    fn write_piece(&mut self) -> Result<(), BackendError> {
        self.write_part(self.piece_bytes())
    }

    /// Writes down part of a piece; what ends the piece makes all of it durable. Until then the tree beneath may hold any of it
    /// or nothing, and neither is known by its count: the journal holds all of it.
    fn write_part(&mut self, most: usize) -> Result<(), BackendError> {
        let piece = self.piece_bytes();
        let (Some(aside), Some(table)) = (&mut self.aside, self.overlay.frozen()) else {
            return Ok(());
        };
        let left = piece.saturating_sub(aside.begun);
        let (mut batch, is_last) = table.piece(aside.after.as_deref(), most.min(left));
        self.beneath.room(batch.bytes())?;
        // The tree beneath must never hold part of a batch that the journal could lose.
        self.journal.sync()?;
        if let Some((key, _)) = batch.writes.last() {
            aside.after = Some(key.clone());
        }
        aside.begun = aside.begun.saturating_add(usize::try_from(batch.bytes()).unwrap_or(piece));
        if !is_last && aside.begun < piece {
            return self.beneath.apply(&batch);
        }
        aside.begun = 0;
        aside.due = aside.due.saturating_add(aside.stride);
        self.applied.pieces = self.applied.pieces.saturating_add(1);
        if is_last {
            self.applied.tip = aside.tip;
        }
        batch.writes.push((APPLIED.to_vec(), Some(self.applied.to_bytes())));
        self.beneath.apply(&batch)?;
        self.beneath.sync()?;
        if is_last {
            self.aside = None;
            self.overlay.thaw();
        }
        Ok(())
    }

    /// Writes down everything there is; durable on return.
    fn write_down(&mut self) -> Result<(), BackendError> {
        loop {
            while self.aside.is_some() {
                self.write_piece()?;
            }
            if self.overlay.bytes() == 0 {
                return Ok(());
            }
            self.turn()?;
        }
    }
}

impl Backend for Journaled {
    fn ready(&mut self) -> Result<(), BackendError> {
        self.beneath.ready()?;
        // What a killed process left in memory only must not decide which keys are destroyed.
        self.journal.settle()?;
        if self.journal.is_made() {
            return Ok(());
        }
        let made = self
            .beneath
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

    fn room(&self, bytes: u64) -> Result<(), BackendError> {
        // What is not written down yet must be able to be.
        let aside = self.overlay.frozen().map_or(0, |table| table.bytes());
        let waiting = self.overlay.bytes().saturating_add(aside);
        self.beneath.room(bytes.saturating_add(waiting as u64))
    }

    fn room_beside(&self, bytes: u64) -> Result<(), BackendError> {
        let record = usize::try_from(bytes).unwrap_or(usize::MAX);
        // What waits keeps its place in the journal, where this has one too.
        let is_placed = self.journal.is_made()
            && record <= self.journal.half_bytes() / 4
            && self.fits(record, record);
        if is_placed { self.beneath.room(bytes) } else { self.room(bytes) }
    }

    fn prepare(&mut self, batch: &Batch) -> Result<(), BackendError> {
        if self.goes_past(batch) {
            return self.write_down();
        }
        let fits = self.fits(record_bytes(batch), Table::cost(batch));
        while self.aside.as_ref().is_some_and(|aside| self.journal.position() >= aside.due) {
            match self.write_piece() {
                // It stays in the journal, which has room for this batch.
                Err(BackendError::Full { .. }) if fits => break,
                other => other?,
            }
        }
        if !fits {
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
            self.applied = Applied { tip, pieces: self.applied.pieces.saturating_add(1) };
            let mut batch = batch.clone();
            batch.writes.push((APPLIED.to_vec(), Some(self.applied.to_bytes())));
            self.passed = true;
            self.beneath.apply(&batch)?;
            self.journal.pass(tip);
        } else {
            self.journal.append(batch, self.applied.pieces)?;
            self.overlay.write(batch);
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), BackendError> {
        if self.passed {
            self.beneath.sync()?;
            self.passed = false;
        }
        Ok(self.journal.sync()?)
    }

    fn needs_idle(&self) -> bool {
        self.aside.is_some()
    }

    fn idle(&mut self) -> Result<(), BackendError> {
        self.write_part(self.piece_bytes().div_ceil(PARTS))
    }

    fn settle(&mut self) -> Result<(), BackendError> {
        let before = self.applied.pieces;
        self.write_down()?;
        if self.applied.pieces > before && self.journal.is_made() {
            // An empty batch, to say how often the tree was written to.
            self.journal.append(&Batch::default(), self.applied.pieces)?;
            self.journal.sync()?;
        }
        Ok(())
    }

    fn reader(&self) -> Arc<dyn Reader> {
        Arc::new(self.overlay.clone())
    }

    fn close(&mut self) {
        self.overlay.close();
        self.beneath.close();
    }
}
