//! Key slots: small keys in a file of their own, outside the tree, where overwriting a key destroys it.
//!
//! The tree keeps every value it was ever given, so a secret that is only overwritten there can be read by whoever has
//! the disk and the passphrase. Each secret record therefore has a pair of slots used in turn: a commit seals under
//! the one, and when the commit is durable the other, which opens the older values, is overwritten in place with the
//! key of the commit after. The file is an array of 64 byte cells:
//!
//! ```text
//! nonce 12 | ChaCha20-Poly1305(slot key, nonce, AAD = slot number u32 BE) of key 32 | zeros 4
//! ```
//! Cell 0 holds no key but the mark (store id 16 | commit u64 | zeros 8), cell 1 nothing of use; pair k, from 1 up, is
//! cells 2k and 2k + 1. The mark is written after each commit and reaches the disk with whatever sync comes next: it
//! is a second witness of how far the store had got.

use std::collections::BTreeSet;
use std::io;

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::backend::Cells;
use crate::error::StoreError;
use crate::keys::Key;
use crate::limits::PAIRS;

const CELL: usize = 64;
const MARK: u32 = 0;

/// Pairs the file grows by, so that a new session seldom pays for the growing: one page of 4 KiB.
const GROWTH: u32 = 32;

/// How far the slot file knows the store had got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    /// The store the file belongs to.
    pub(crate) store: [u8; 16],
    /// A commit that was durable.
    pub(crate) number: u64,
}

/// The open slot file.
pub(crate) struct Slots {
    cells: Box<dyn Cells>,
    key: Key,
    /// The key in each cell; `None` if the cell does not open.
    keys: Vec<Option<Key>>,
    /// Pairs no record uses, lowest first.
    free: BTreeSet<u32>,
    /// Something was written and not yet synced.
    dirty: bool,
}

/// Returns the pair a slot belongs to.
pub(crate) fn pair_of(slot: u32) -> u32 {
    slot / 2
}

impl Slots {
    /// Makes the file with its first pairs; durable on return.
    pub(crate) fn create(
        cells: Box<dyn Cells>,
        key: Key,
        mark: Mark,
        rng: &mut dyn CryptoRng,
    ) -> Result<Self, StoreError> {
        let mut slots = Self { cells, key, keys: Vec::new(), free: BTreeSet::new(), dirty: false };
        slots.grow(rng).map_err(StoreError::io("make key slots"))?;
        slots.free.remove(&pair_of(MARK));
        slots.mark(mark, rng).map_err(StoreError::io("make key slots"))?;
        slots.sync().map_err(StoreError::io("sync key slots"))?;
        Ok(slots)
    }

    /// Reads the file, and the mark if it is whole. Writes nothing.
    pub(crate) fn open(
        cells: Box<dyn Cells>,
        key: Key,
    ) -> Result<(Self, Option<Mark>), StoreError> {
        let bytes = cells.read().map_err(StoreError::io("read key slots"))?;
        if bytes.iter().all(|byte| *byte == 0) {
            return Err(StoreError::damaged("key slots are missing"));
        }
        let mut keys: Vec<Option<Key>> = bytes
            .as_chunks::<CELL>()
            .0
            .iter()
            .zip(0..)
            .take(2 * PAIRS)
            .map(|(cell, number)| open_cell(&key, number, cell))
            .collect();
        if keys.iter().all(Option::is_none) {
            return Err(StoreError::Foreign { part: "slot file" });
        }
        let mark = keys.first_mut().and_then(Option::take).and_then(|plain| Mark::parse(&plain));
        if keys.len() % 2 == 1 {
            keys.push(None);
        }
        let pairs = u32::try_from(keys.len() / 2).unwrap_or(u32::MAX);
        Ok((Self { cells, key, keys, free: (1..pairs).collect(), dirty: false }, mark))
    }

    /// Returns how many pairs the file has room for.
    pub(crate) fn pairs(&self) -> u32 {
        u32::try_from(self.keys.len() / 2).unwrap_or(u32::MAX)
    }

    /// Says whether every cell but the mark opens, as after a peaceful close.
    pub(crate) fn is_whole(&self) -> bool {
        self.keys.iter().skip(1).all(Option::is_some)
    }

    /// Returns the key in a slot; `None` if there is none or it does not open.
    pub(crate) fn key(&self, slot: u32) -> Option<&Key> {
        usize::try_from(slot).ok().and_then(|at| self.keys.get(at))?.as_ref()
    }

    /// Notes that a record uses a pair.
    pub(crate) fn claim(&mut self, pair: u32) {
        self.free.remove(&pair);
    }

    /// Returns the lowest `count` free pairs, growing the file if there are too few.
    pub(crate) fn reserve(
        &mut self,
        count: usize,
        rng: &mut dyn CryptoRng,
    ) -> io::Result<Vec<u32>> {
        while self.free.len() < count {
            self.grow(rng)?;
        }
        Ok(self.free.iter().copied().take(count).collect())
    }

    /// Destroys the key in a slot by putting the key of a later commit in its place; durable with the next sync.
    pub(crate) fn overwrite(&mut self, slot: u32, rng: &mut dyn CryptoRng) -> io::Result<()> {
        let fresh = draw(rng);
        self.put(slot, &fresh, rng)?;
        if let Some(place) = usize::try_from(slot).ok().and_then(|at| self.keys.get_mut(at)) {
            *place = Some(fresh);
        }
        Ok(())
    }

    /// Gives a pair back. Its slots must have been overwritten.
    pub(crate) fn release(&mut self, pair: u32) {
        self.free.insert(pair);
    }

    /// Destroys every key that no record uses: older keys a crash left behind, and keys drawn for commits that never
    /// came. Durable on return.
    pub(crate) fn settle(
        &mut self,
        in_use: &BTreeSet<u32>,
        rng: &mut dyn CryptoRng,
    ) -> io::Result<()> {
        let mut run: Vec<u8> = Vec::new();
        let mut end = 0;
        for number in 1..self.pairs().saturating_mul(2) {
            if in_use.contains(&number) {
                continue;
            }
            if end != number {
                self.write_run(end, &mut run)?;
            }
            let fresh = draw(rng);
            run.extend_from_slice(&seal_cell(&self.key, number, &fresh, rng));
            if let Some(place) = usize::try_from(number).ok().and_then(|at| self.keys.get_mut(at)) {
                *place = Some(fresh);
            }
            end = number + 1;
        }
        self.write_run(end, &mut run)?;
        self.sync()
    }

    /// Writes how far the store has got. Not worth a sync of its own.
    pub(crate) fn mark(&mut self, mark: Mark, rng: &mut dyn CryptoRng) -> io::Result<()> {
        let cell = seal_cell(&self.key, MARK, &mark.to_plain(), rng);
        self.cells.write(0, &cell)
    }

    /// Says whether a destroyed key may still be on the disk.
    pub(crate) fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// Makes everything written so far durable.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.cells.sync()?;
        self.dirty = false;
        Ok(())
    }

    fn grow(&mut self, rng: &mut dyn CryptoRng) -> io::Result<()> {
        let first = self.pairs();
        let last = first.saturating_add(GROWTH);
        if usize::try_from(last).is_ok_and(|last| last > PAIRS) {
            return Err(io::Error::other(format!("more than {PAIRS} secret records")));
        }
        let fresh: Vec<Key> = (2 * first..2 * last).map(|_| draw(rng)).collect();
        let mut run = Vec::with_capacity(fresh.len() * CELL);
        for (number, key) in (2 * first..).zip(&fresh) {
            run.extend_from_slice(&seal_cell(&self.key, number, key, rng));
        }
        self.dirty = true;
        self.write_run(2 * last, &mut run)?;
        self.keys.extend(fresh.into_iter().map(Some));
        self.free.extend(first..last);
        Ok(())
    }

    fn put(&mut self, slot: u32, key: &Key, rng: &mut dyn CryptoRng) -> io::Result<()> {
        self.dirty = true;
        let cell = seal_cell(&self.key, slot, key, rng);
        self.cells.write(u64::from(slot) * CELL as u64, &cell)
    }

    /// Writes cells that end before cell `end`, and empties the buffer.
    fn write_run(&mut self, end: u32, run: &mut Vec<u8>) -> io::Result<()> {
        if run.is_empty() {
            return Ok(());
        }
        self.dirty = true;
        let at = (u64::from(end) * CELL as u64).saturating_sub(run.len() as u64);
        self.cells.write(at, run)?;
        run.clear();
        Ok(())
    }
}

impl Mark {
    fn to_plain(self) -> Key {
        let mut plain = Zeroizing::new([0; 32]);
        let bytes = self.store.iter().copied().chain(self.number.to_be_bytes());
        plain.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
        plain
    }

    fn parse(plain: &Key) -> Option<Self> {
        let (store, rest) = plain.split_first_chunk::<16>()?;
        let (number, zeros) = rest.split_first_chunk::<8>()?;
        zeros
            .iter()
            .all(|byte| *byte == 0)
            .then_some(Self { store: *store, number: u64::from_be_bytes(*number) })
    }
}

fn draw(rng: &mut dyn CryptoRng) -> Key {
    let mut key = Zeroizing::new([0; 32]);
    rng.fill_bytes(key.as_mut_slice());
    key
}

#[expect(clippy::expect_used, reason = "32 bytes are not too long for the cipher")]
fn seal_cell(key: &Key, number: u32, plain: &Key, rng: &mut dyn CryptoRng) -> [u8; CELL] {
    let mut nonce = [0; 12];
    rng.fill_bytes(&mut nonce);
    let mut buffer = Zeroizing::new(Vec::with_capacity(48));
    buffer.extend_from_slice(plain.as_slice());
    ChaCha20Poly1305::new((&**key).into())
        .encrypt_in_place(&Nonce::from(nonce), &number.to_be_bytes(), &mut *buffer)
        .expect("short buffer");
    let mut cell = [0; CELL];
    let bytes = nonce.iter().chain(buffer.iter());
    cell.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
    cell
}

fn open_cell(key: &Key, number: u32, cell: &[u8; CELL]) -> Option<Key> {
    let (nonce, rest) = cell.split_first_chunk::<12>()?;
    let (sealed, zeros) = rest.split_first_chunk::<48>()?;
    if zeros != [0; 4] {
        return None;
    }
    let mut buffer = Zeroizing::new(sealed.to_vec());
    ChaCha20Poly1305::new((&**key).into())
        .decrypt_in_place(&Nonce::from(*nonce), &number.to_be_bytes(), &mut *buffer)
        .ok()?;
    <[u8; 32]>::try_from(buffer.as_slice()).ok().map(Zeroizing::new)
}
