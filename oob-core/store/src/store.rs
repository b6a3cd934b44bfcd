//! The store itself: one owner, one pending batch, one commit at a time.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeBounds;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::backend::{Backend, BackendError, Batch, Write};
use crate::bag::{Bag, KeyClass, Order};
use crate::error::StoreError;
use crate::home::{Home, Lock};
use crate::keyring::{Checkpoint, Keyring, Rest};
use crate::keys::{Address, Keys, address};
use crate::limits::{CHECKPOINT_AGE, CHECKPOINT_BYTES, RESERVE_BYTES};
use crate::moment::{Before, Moment};
use crate::passphrase::Passphrase;
use crate::pending::Pending;
use crate::proof::Walk;
use crate::reserve::Reserve;
use crate::seal::{NO_SLOT, seal};
use crate::secrets::{self, Directory, open_secret};
use crate::slots::{Mark, Slots};
use crate::sums::{Changes, part_of};
use crate::tally::{Ledger, Tally};
use crate::view::{View, key_range, seq};

/// The label of the bag whose only record is the ledger.
pub(crate) const LEDGER: &str = "ledger";

/// An open store, and what opening it took.
#[derive(Debug)]
#[non_exhaustive]
pub struct Opened {
    /// The store.
    pub store: Store,
    /// How long the passphrase took to become a key; most of a start-up.
    pub kdf: Duration,
}

/// The encrypted, durable key-value store of one device.
///
/// Writes gather in a pending batch, which its own reads see. [`Store::commit`] makes the batch durable as a whole;
/// [`Store::discard`] forgets it. A store that is dropped closes itself as well as it can; [`Store::close`] says
/// whether it could.
pub struct Store {
    pub(crate) tree: Box<dyn Backend>,
    pub(crate) view: View,
    pub(crate) slots: Slots,
    pub(crate) keyring: Keyring,
    pub(crate) ledger: Ledger,
    pub(crate) directory: Directory,
    pub(crate) rng: Box<dyn CryptoRng + Send>,
    pub(crate) pending: Pending,
    /// Where what is overwritten is noted, while somebody holds a moment.
    pub(crate) before: Weak<Before>,
    pub(crate) since: Since,
    pub(crate) failed: Option<&'static str>,
    pub(crate) closed: bool,
    /// What compares the records behind an opening that did not.
    pub(crate) walk: Option<Walk>,
    /// Room kept back for deletions, if the store has a folder.
    pub(crate) reserve: Option<Reserve>,
    /// The folder and its lock, if the store has one. Last, so that the lock goes when everything else is gone.
    pub(crate) home: Option<(Home, Lock)>,
}

/// A sealed batch: what becomes of slots, ledger and sums once it is durable.
type Planned = (Vec<secrets::Move>, Ledger, Changes);

/// What happened since the last checkpoint.
pub(crate) struct Since {
    pub(crate) at: Instant,
    pub(crate) bytes: u64,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("commit", &self.ledger.number).finish_non_exhaustive()
    }
}

/// A record in the middle of a read: committed and sealed, or pending and in the clear.
enum Found<'a> {
    Stored(Vec<u8>),
    Pending(&'a [u8]),
}

impl Store {
    /// Puts a value into the pending batch.
    pub fn put(&mut self, bag: &Bag, seq: u64, value: &[u8]) {
        let value = Some(Zeroizing::new(value.to_vec()));
        self.pending.records.insert(self.address(bag, seq), (bag.class, value));
    }

    /// Puts the deletion of a record into the pending batch; deleting what is not there is no error.
    ///
    /// A batch that only deletes is taken on a full disk too, as long as the reserve lasts.
    ///
    /// Deleting hides a record, it does not destroy it: the tree keeps old values, readable with the passphrase.
    pub fn delete(&mut self, bag: &Bag, seq: u64) {
        self.pending.records.insert(self.address(bag, seq), (bag.class, None));
    }

    /// Puts a secret into the pending batch. When the batch is durable, what the secret was before is destroyed: no
    /// copy of the folder made after [`Store::idle`] opens it, with or without the passphrase.
    pub fn put_secret(&mut self, name: &[u8], value: &[u8]) {
        self.pending.secrets.insert(name.to_vec(), Some(Zeroizing::new(value.to_vec())));
    }

    /// Puts the destruction of a secret into the pending batch.
    pub fn delete_secret(&mut self, name: &[u8]) {
        self.pending.secrets.insert(name.to_vec(), None);
    }

    /// Returns the value of a record, pending or committed.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if the record does not open.
    pub fn get(&self, bag: &Bag, seq: u64) -> Result<Option<Vec<u8>>, StoreError> {
        match self.pending.records.get(&self.address(bag, seq)) {
            Some((_, change)) => Ok(change.as_ref().map(|value| value.to_vec())),
            None => self.view.get(bag, seq),
        }
    }

    /// Returns up to `limit` records of a bag, pending or committed, with their sequence numbers, starting at the end
    /// of the range that `order` names.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if a record does not open.
    pub fn scan(
        &self,
        bag: &Bag,
        seqs: impl RangeBounds<u64>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        self.merged(bag, &seqs, order, limit)?
            .into_iter()
            .map(|(key, found)| {
                let value = match found {
                    Found::Stored(stored) => self.view.open(bag, &key, stored)?,
                    Found::Pending(value) => value.to_vec(),
                };
                Ok((seq(&key)?, value))
            })
            .collect()
    }

    /// Returns the highest sequence number of a bag, pending or committed.
    ///
    /// # Errors
    /// When the records cannot be read.
    pub fn last_seq(&self, bag: &Bag) -> Result<Option<u64>, StoreError> {
        self.merged(bag, &.., Order::Descending, 1)?.first().map(|(key, _)| seq(key)).transpose()
    }

    /// Returns a secret, pending or committed.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if it does not open.
    pub fn secret(&self, name: &[u8]) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        if let Some(change) = self.pending.secrets.get(name) {
            return Ok(change.clone());
        }
        let Some(slot) = self.directory.slot(name) else { return Ok(None) };
        let pair = u64::from(crate::slots::pair_of(slot));
        let keys = &self.view.keys;
        let stored = self.view.reader.get(&address(&keys.own_prefix(secrets::BAG), pair))?;
        let stored = stored.ok_or_else(|| StoreError::damaged("a secret record is gone"))?;
        match open_secret(keys, &self.slots, pair, &stored)? {
            secrets::Opened::Whole(_, found, value) if found == name => Ok(Some(value)),
            secrets::Opened::Whole(..) => {
                Err(StoreError::damaged("a secret record has another name"))
            }
            secrets::Opened::Locked(slot) => {
                Err(StoreError::damaged(format!("key slot {slot} does not open its record")))
            }
        }
    }

    /// Returns the names of all secrets, pending or committed, that start so, in order.
    pub fn secret_names(&self, prefix: &[u8]) -> Vec<Vec<u8>> {
        let committed = self.directory.names(prefix).map(|name| (name, true));
        let pending = self.pending.secrets.iter().filter(|(name, _)| name.starts_with(prefix));
        let names: BTreeMap<&Vec<u8>, bool> =
            committed.chain(pending.map(|(name, change)| (name, change.is_some()))).collect();
        names.into_iter().filter(|(_, is_there)| *is_there).map(|(name, _)| name.clone()).collect()
    }

    /// Makes the pending batch durable and returns the number of the commit; an empty batch is none and costs nothing.
    ///
    /// # Errors
    /// After [`StoreError::Full`], [`StoreError::ValueTooLong`] and [`StoreError::BadName`] nothing was written and
    /// the batch is still pending. After any other error the store has stopped writing, whether the batch was written
    /// is known when it is opened again, and every later commit is refused with [`StoreError::Failed`].
    pub fn commit(&mut self) -> Result<u64, StoreError> {
        self.check_writable()?;
        if self.pending.is_empty() {
            return Ok(self.ledger.number);
        }
        self.pending.check()?;
        self.room()?;

        let mut batch = Batch::default();
        let planned = self.plan(&mut batch);
        let (moves, ledger, changes) = self.or_fail("preparation of a commit", planned)?;

        match self.tree.prepare(&batch).map_err(StoreError::from) {
            Err(error @ StoreError::Full { .. }) => return Err(error),
            other => self.or_fail("preparation of the records", other)?,
        }

        // The order below is the whole point; see "Slot order" in docs/storage.md. A batch is never sealed under a
        // slot that a power cut could take back, and a slot is never destroyed while it opens the newest durable value.
        if self.slots.is_dirty() {
            let synced = self.slots.sync().map_err(StoreError::io("sync key slots"));
            self.or_fail("sync of the key slots", synced)?;
        }
        let applied = self.tree.apply(&batch).map_err(StoreError::from);
        self.or_fail("write of records", applied)?;
        let synced = self.tree.sync().map_err(StoreError::from);
        self.or_fail("sync of records", synced)?;

        self.ledger = ledger;
        self.view.proof.advance(changes);
        self.pending = Pending::default();
        self.since.bytes = self.since.bytes.saturating_add(batch.bytes());
        self.after_commit(moves);
        Ok(self.ledger.number)
    }

    /// Says whether a batch of so many bytes would have room now. What waits in the journal is written down first if it takes that
    /// room; else this costs a question to the file system.
    pub fn has_room(&mut self, bytes: u64) -> bool {
        self.failed.is_none() && self.settled_room(bytes.saturating_add(self.promised())).is_ok()
    }

    /// Forgets the pending batch.
    pub fn discard(&mut self) {
        self.pending = Pending::default();
    }

    /// Says whether there is anything to commit.
    pub fn is_clean(&self) -> bool {
        self.pending.is_empty()
    }

    /// Returns the number of the last commit.
    pub fn commit_number(&self) -> u64 {
        self.ledger.number
    }

    /// Returns how many records are committed, secrets among them.
    pub fn records(&self) -> u64 {
        self.ledger.tally.count
    }

    /// Says whether [`Store::idle`] has anything to do. The owner calls it when nothing is queued, and at the latest
    /// [`crate::limits::IDLE_WITHIN`] after a commit that left something to do.
    pub fn needs_idle(&self) -> bool {
        self.failed.is_none()
            && (self.view.proof.damage().is_some()
                || self.slots.is_dirty()
                || self.checkpoint_is_due()
                || self.tree.needs_idle())
    }

    /// Makes the destruction of replaced secrets durable, writes the checkpoint if it is due, and has what is put aside of
    /// the journal written down.
    ///
    /// # Errors
    /// When the disk refuses; the store has then stopped writing.
    pub fn idle(&mut self) -> Result<(), StoreError> {
        self.check_writable()?;
        if self.slots.is_dirty() {
            let synced = self.slots.sync().map_err(StoreError::io("sync key slots"));
            self.or_fail("sync of the key slots", synced)?;
        }
        if self.checkpoint_is_due() {
            let written = self.checkpoint(None);
            self.or_fail("write of the keyring", written)?;
        }
        if self.tree.needs_idle() {
            match self.tree.idle().map_err(StoreError::from) {
                // It stays in the journal, and commits are refused before that is full.
                Err(StoreError::Full { .. }) => {}
                other => self.or_fail("write of records", other)?,
            }
        }
        Ok(())
    }

    /// Compares everything that was not compared yet with what it must be. An opening does it before anything is answered, or,
    /// after a peaceful close, for each part before anything is answered out of it, and for all of them behind.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if something is missing, older than it should be, altered or one too many; the store then stops
    /// writing.
    pub fn verify(&self) -> Result<(), StoreError> {
        self.view.proof.finish()
    }

    /// Returns a read-only view of what is committed.
    pub fn view(&self) -> View {
        self.view.clone()
    }

    /// Returns the committed records as they are now, to be read while the store goes on. There is one such moment at a
    /// time: an earlier one ends.
    pub fn moment(&mut self) -> Moment {
        if let Some(earlier) = self.before.upgrade() {
            earlier.give_up("another copy was begun");
        }
        let moment = Moment::of(self.view());
        self.before = Arc::downgrade(moment.before());
        moment
    }

    /// Wraps the root key under a new passphrase. Nothing else changes: what is sealed stays sealed under the same
    /// keys, so an old copy of the keyring still opens with the old passphrase.
    ///
    /// # Errors
    /// When the disk refuses; the store has then stopped writing, and one of the two passphrases opens it.
    pub fn change_passphrase(&mut self, new: &Passphrase) -> Result<(), StoreError> {
        self.check_writable()?;
        let written = self.keyring.rewrap(&self.view.keys, new, &mut *self.rng);
        self.or_fail("write of the keyring", written)
    }

    /// Closes the store: forgets what is pending, makes everything else durable and writes the last checkpoint. Views
    /// answer [`StoreError::Closed`] from now on.
    ///
    /// # Errors
    /// When the disk refuses. Nothing committed is lost.
    pub fn close(mut self) -> Result<(), StoreError> {
        self.shut()
    }

    fn address(&self, bag: &Bag, seq: u64) -> Address {
        address(&self.view.keys.prefix(bag), seq)
    }

    fn check_writable(&mut self) -> Result<(), StoreError> {
        if let Some(what) = self.failed {
            return Err(StoreError::Failed { what });
        }
        match self.view.proof.damage() {
            Some(what) => self.or_fail("check of the records", Err(StoreError::Damaged { what })),
            None => Ok(()),
        }
    }

    /// Asks for room for the pending batch; when there is some again, the reserve is taken first.
    fn room(&mut self) -> Result<(), StoreError> {
        let bytes = self.pending.bytes();
        if self.pending.only_deletes() && self.tree.room(bytes).is_err() {
            return self.room_to_delete(bytes);
        }
        if !self.pending.only_deletes() {
            self.settled_room(bytes.saturating_add(self.promised()))?;
        }
        // Four times the bytes of a batch are promised to it, and to what waits in the journal.
        if let Some(reserve) = &mut self.reserve
            && self.tree.room(bytes.saturating_add(RESERVE_BYTES / 4)).is_ok()
        {
            reserve.renew(bytes.saturating_mul(4));
            self.tree.leave(self.promised());
        }
        Ok(())
    }

    /// Returns how large a batch could be written into the room that is for deletions alone: four times its bytes are asked for.
    fn promised(&self) -> u64 {
        self.reserve.as_ref().map_or(0, Reserve::promised) / 4
    }

    /// Asks for room on a full disk for a batch that only deletes. It may have the reserve, and what waits in the journal stays there as
    /// long as it can: written down it would take that room, and nothing would be left for what is to be deleted.
    fn room_to_delete(&mut self, bytes: u64) -> Result<(), StoreError> {
        if self.tree.room_beside(bytes).is_ok() {
            return Ok(());
        }
        let is_given = self.reserve.as_mut().is_some_and(Reserve::spend);
        self.tree.leave(self.promised());
        if is_given && self.tree.room_beside(bytes).is_ok() {
            return Ok(());
        }
        // Nothing can wait any more: what is written down now makes a place for it.
        self.tree.leave(0);
        let settled = self.settled_room(bytes);
        self.tree.leave(self.promised());
        settled
    }

    /// Asks for room, and once more when no room is kept any longer for what the tree had put off.
    fn settled_room(&mut self, bytes: u64) -> Result<(), StoreError> {
        match self.tree.room(bytes) {
            Err(BackendError::Full { .. }) => {}
            other => return Ok(other?),
        }
        match self.tree.settle().map_err(StoreError::from) {
            // As much as there is room for.
            Ok(()) | Err(StoreError::Full { .. }) => Ok(self.tree.room(bytes)?),
            other => self.or_fail("write of records", other),
        }
    }

    /// Stops all later writes if this one went wrong: what the disk holds now is not known before it is read again.
    fn or_fail<T>(
        &mut self,
        what: &'static str,
        result: Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        if let Err(error) = &result {
            tracing::error!(%error, what, "store stops writing");
            self.failed = Some(what);
        }
        result
    }

    /// Seals everything pending into a batch, with the ledger that goes with it.
    fn plan(&mut self, batch: &mut Batch) -> Result<Planned, StoreError> {
        let keys = Arc::clone(&self.view.keys);
        let moves = self.directory.plan(
            &self.pending.secrets,
            &mut self.slots,
            &keys.own_prefix(secrets::BAG),
            batch,
            &mut *self.rng,
        )?;
        for (place, (class, change)) in &self.pending.records {
            let sealed = change
                .as_ref()
                .map(|value| seal(&mut *self.rng, keys.value(*class), NO_SLOT, place, &[value]));
            batch.writes.push((place.into(), sealed.map(Into::into)));
        }
        let mut ledger = self.ledger;
        ledger.number = ledger.number.saturating_add(1);
        let before = self.before.upgrade();
        let mut changes = Changes::with_capacity(batch.writes.len());
        for (place, stored) in &batch.writes {
            // What is overwritten must be what it was taken for, or the sums would be wrong for good.
            self.view.proof.check(place)?;
            let mut change = Tally::default();
            let old = self.view.reader.get(place)?;
            if let Some(before) = &before {
                before.note(place, old.as_deref());
            }
            if let Some(old) = old {
                change.remove(&keys.tally, place, &old);
            }
            if let Some(new) = stored {
                change.add(&keys.tally, place, new);
            }
            ledger.tally = ledger.tally.and(&change);
            changes.push((part_of(place), change));
        }
        batch.writes.push(ledger_record(&keys, ledger, &mut *self.rng));
        Ok((moves, ledger, changes))
    }

    /// What follows a durable batch. Errors stop later commits, but this one has happened.
    fn after_commit(&mut self, moves: Vec<secrets::Move>) {
        let settled = self.directory.settle(moves, &mut self.slots, &mut *self.rng);
        let mark = Mark { store: self.ledger.store, number: self.ledger.number };
        let settled = settled.and_then(|()| self.slots.mark(mark, &mut *self.rng));
        let settled = settled.map_err(StoreError::io("write key slots"));
        if self.or_fail("write of the key slots", settled).is_ok() && self.checkpoint_is_due() {
            let written = self.checkpoint(None);
            let _ = self.or_fail("write of the keyring", written);
        }
    }

    fn checkpoint_is_due(&self) -> bool {
        self.ledger.number != self.keyring.checkpoint.number
            && (self.since.bytes >= CHECKPOINT_BYTES || self.since.at.elapsed() >= CHECKPOINT_AGE)
    }

    /// Writes down in the keyring how far the store has got.
    pub(crate) fn checkpoint(&mut self, rest: Option<Rest>) -> Result<(), StoreError> {
        let checkpoint = Checkpoint {
            number: self.ledger.number,
            tally: self.ledger.tally,
            pairs: self.slots.pairs(),
            rest,
        };
        self.keyring.write(&self.view.keys, checkpoint, &mut *self.rng)?;
        self.since = Since { at: Instant::now(), bytes: 0 };
        Ok(())
    }

    fn shut(&mut self) -> Result<(), StoreError> {
        if std::mem::replace(&mut self.closed, true) {
            return Ok(());
        }
        let synced = match self.failed {
            Some(what) => Err(StoreError::Failed { what }),
            None if self.view.proof.damage().is_some() => {
                Err(StoreError::Failed { what: "check of the records" })
            }
            None => self.slots.sync().map_err(StoreError::io("sync key slots")).and_then(|()| {
                match self.tree.settle().map_err(StoreError::from) {
                    // What is in the journal is as durable there.
                    Err(StoreError::Full { .. }) => Ok(()),
                    other => other,
                }
            }),
        };
        self.view.proof.stop();
        self.tree.close();
        if let Some(walk) = self.walk.take() {
            walk.join();
        }
        synced?;
        // It was at work until now.
        if self.view.proof.damage().is_some() {
            return Err(StoreError::Failed { what: "check of the records" });
        }
        // How the file looks when nobody writes to it any more: if it still looks so when the store is opened, nobody
        // has touched it.
        let rest = self.home.as_ref().and_then(|(home, _)| home.rest().ok());
        self.write_sums();
        self.checkpoint(rest)
    }

    /// Writes down what each part adds up to, so that the next opening need not read everything first.
    fn write_sums(&self) {
        let Some((home, _)) = &self.home else { return };
        let Ledger { store, number, .. } = &self.ledger;
        let bytes = self.view.proof.sums().to_bytes(&self.view.keys.sums, store, *number);
        if let Err(error) = home.write_sums(&bytes) {
            tracing::warn!(%error, "sums could not be written; the next opening reads everything first");
        }
    }

    /// Returns the first records of a range with the pending batch laid over the committed ones.
    fn merged<'a>(
        &'a self,
        bag: &Bag,
        seqs: &impl RangeBounds<u64>,
        order: Order,
        limit: usize,
    ) -> Result<Vec<(Address, Found<'a>)>, StoreError> {
        let prefix = self.view.keys.prefix(bag);
        let Some(range) = key_range(&prefix, seqs) else { return Ok(Vec::new()) };
        let (Ok(first), Ok(last)) =
            (Address::try_from(&*range.first), Address::try_from(&*range.last))
        else {
            return Ok(Vec::new());
        };
        let pending: Vec<_> = self.pending.records.range(first..=last).collect();
        // Each pending deletion hides at most one of these, so enough are left.
        let wanted = limit.saturating_add(pending.len());
        self.view.proof.check(&prefix)?;
        let stored = self.view.reader.scan(&range, order == Order::Descending, wanted)?;
        let mut merged = BTreeMap::new();
        for (key, value) in stored {
            let key = Address::try_from(&*key)
                .map_err(|_| StoreError::damaged("a key has the wrong length"))?;
            merged.insert(key, Found::Stored(value));
        }
        for (key, (_, change)) in pending {
            match change {
                Some(value) => merged.insert(*key, Found::Pending(value)),
                None => merged.remove(key),
            };
        }
        let merged = merged.into_iter();
        Ok(match order {
            Order::Ascending => merged.take(limit).collect(),
            Order::Descending => merged.rev().take(limit).collect(),
        })
    }
}

/// Returns the record that says what the tree must hold. It has the carry keys, for commits while locked.
pub(crate) fn ledger_record(keys: &Keys, ledger: Ledger, rng: &mut dyn CryptoRng) -> Write {
    let place = address(&keys.own_prefix(LEDGER), 0);
    let key = keys.value(KeyClass::Carry);
    let sealed = seal(rng, key, NO_SLOT, &place, &[&ledger.to_bytes()]);
    ((&place).into(), Some(sealed.into()))
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Err(error) = self.shut() {
            tracing::warn!(%error, "store was not closed in peace");
        }
    }
}
