//! The tree beneath, and how far what was put aside of the journal has got on its way there.
//!
//! Whoever has it writes: the owner of the journal, or the thread that does it beside the owner.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::journal::{Applied, Tip};
use super::overlay::Table;
use super::{Backend, BackendError, Batch, Bytes, Gauge};

/// The key under which the tree beneath keeps [`Applied`]. All others are 24 bytes long.
pub(super) const APPLIED: &[u8] = b"journal";

/// The tree beneath, and the table on its way there.
pub(super) struct Descent {
    tree: Box<dyn Backend>,
    gauge: Arc<dyn Gauge>,
    applied: Applied,
    /// How often the tree was written to and synced, for whoever asks meanwhile.
    durable: Arc<AtomicU64>,
    /// Room that is left to others by what can wait.
    left: Arc<AtomicU64>,
    /// Bytes that go between two syncs.
    piece: usize,
    aside: Option<Aside>,
    /// A write went wrong: what the tree holds is not known before it is opened again.
    is_broken: bool,
}

/// The table.
struct Aside {
    table: Arc<Table>,
    /// The last batch in it.
    tip: Tip,
    /// The last key written down.
    after: Option<Bytes>,
    /// Bytes of the piece under way that are written down and not yet synced.
    begun: usize,
}

/// What a part brought to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Nothing.
    Part,
    /// A piece, which is durable.
    Piece,
    /// The table: all of it is durable.
    Table,
}

impl Descent {
    pub(super) fn new(tree: Box<dyn Backend>, applied: Applied, piece: usize) -> Self {
        let durable = Arc::new(AtomicU64::new(applied.pieces));
        let gauge = tree.gauge();
        Self {
            tree,
            gauge,
            applied,
            durable,
            left: Arc::default(),
            piece,
            aside: None,
            is_broken: false,
        }
    }

    /// Returns what asks for room in the tree.
    pub(super) fn gauge(&self) -> Arc<dyn Gauge> {
        Arc::clone(&self.gauge)
    }

    /// Returns how often the tree was written to and synced, kept up to date.
    pub(super) fn durable(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.durable)
    }

    /// Returns how much room is left to others by what can wait, to be changed at any time.
    pub(super) fn left(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.left)
    }

    /// Returns the tree. What it gets is not counted.
    pub(super) fn tree(&mut self) -> &mut dyn Backend {
        &mut *self.tree
    }

    /// Takes a table that nobody writes to any more. There must be none on its way.
    pub(super) fn take(&mut self, table: Arc<Table>, tip: Tip) {
        self.aside = Some(Aside { table, tip, after: None, begun: 0 });
    }

    /// Writes down part of a piece; what ends the piece makes all of it durable. Until then the tree may hold any of it or nothing,
    /// and neither is known by its count: the journal holds all of it, durably, or this must not be called. What `can_wait` leaves
    /// room to others.
    ///
    /// # Errors
    /// [`BackendError::Full`] if there is no room for it, and nothing has changed.
    pub(super) fn part(&mut self, most: usize, can_wait: bool) -> Result<End, BackendError> {
        if self.is_broken {
            return Err(BackendError::Closed);
        }
        let piece = self.piece;
        let Some(aside) = &mut self.aside else { return Ok(End::Table) };
        let rest = piece.saturating_sub(aside.begun);
        let (mut batch, is_last) = aside.table.piece(aside.after.as_deref(), most.min(rest));
        let left = if can_wait { self.left.load(Ordering::Acquire) } else { 0 };
        self.gauge.room(batch.bytes().saturating_add(left))?;
        // Until it is done, also where it ends in a panic.
        self.is_broken = true;
        if let Some((key, _)) = batch.writes.last() {
            aside.after = Some(key.clone());
        }
        aside.begun = aside.begun.saturating_add(usize::try_from(batch.bytes()).unwrap_or(piece));
        if !is_last && aside.begun < piece {
            self.tree.apply(&batch)?;
            self.is_broken = false;
            return Ok(End::Part);
        }
        aside.begun = 0;
        self.applied.pieces = self.applied.pieces.saturating_add(1);
        if is_last {
            self.applied.tip = aside.tip;
        }
        batch.writes.push((APPLIED.into(), Some(self.applied.to_bytes().into())));
        self.tree.apply(&batch)?;
        self.sync()?;
        self.is_broken = false;
        if is_last {
            self.aside = None;
        }
        Ok(if is_last { End::Table } else { End::Piece })
    }

    /// Writes a batch that goes past the journal, behind everything; durable after [`Self::sync`].
    pub(super) fn pass(&mut self, batch: &Batch, tip: Tip) -> Result<(), BackendError> {
        self.applied = Applied { tip, pieces: self.applied.pieces.saturating_add(1) };
        let mut batch = batch.clone();
        batch.writes.push((APPLIED.into(), Some(self.applied.to_bytes().into())));
        self.tree.apply(&batch)
    }

    /// Returns when all that was written would survive a power cut.
    pub(super) fn sync(&mut self) -> Result<(), BackendError> {
        self.tree.sync()?;
        // Not before: a journal that counts more than the tree has says that the tree lost something.
        self.durable.store(self.applied.pieces, Ordering::Release);
        Ok(())
    }
}
