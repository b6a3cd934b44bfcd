//! Making, finding and checking stores.
//!
//! A store that is opened is read whole before anything is written: the tree must hold what its ledger says, the
//! ledger must not be older than the keyring or the slot file know, and each secret must open under its slot. If the
//! files are not exactly as a peaceful close left them, this is done on a copy first, because sled changes damaged
//! files by opening them, and a store that is refused must stay as it was for whoever has to find out what happened.
//!
//! If they are as a peaceful close left them, and what it wrote down of each part of the records is there too, the records are
//! not read before the store answers but part by part before it answers out of them; see `proof.rs`.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand_core::CryptoRng;

use crate::backend::{
    Backend, BackendError, Batch, FileCells, JournalFile, Journaled, KeyRange, Parts, Reader,
    SledTree, free_bytes,
};
use crate::bag::KeyClass;
use crate::error::StoreError;
use crate::home::{Home, Lock};
use crate::keyring::Keyring;
use crate::keys::{Address, Keys, address, seq_of};
use crate::limits::{FREE_BYTES, JOURNAL_HALF_BYTES, PAIRS, RESERVE_BYTES};
use crate::passphrase::{Kdf, Passphrase};
use crate::pending::Pending;
use crate::proof::{Proof, Walk};
use crate::reserve::Reserve;
use crate::seal;
use crate::secrets::{self, Directory, open_secret};
use crate::slots::{Mark, Slots};
use crate::store::{LEDGER, Opened, Since, Store, ledger_record};
use crate::sums::{Sums, part_of};
use crate::tally::{FORMAT, Ledger, LedgerError, Tally};
use crate::view::View;

/// Records read at a time while a store is checked: a megabyte or two.
const CHUNK: usize = 4096;

/// How many records without a ledger are tried with our keys before they are called somebody else's.
const SAMPLE: usize = 64;

impl Store {
    /// Says whether there is a store in a folder, or what is left of one.
    pub fn exists(dir: &Path) -> bool {
        Home::new(dir).is_taken()
    }

    /// Makes a store in a folder, making the folder too if need be.
    ///
    /// # Errors
    /// [`StoreError::Exists`] if there is one, [`StoreError::Derivation`] if `kdf` is too weak, [`StoreError::Busy`]
    /// if another process has the folder.
    pub fn create(
        dir: &Path,
        passphrase: &Passphrase,
        kdf: Kdf,
        rng: impl CryptoRng + Send + 'static,
    ) -> Result<Opened, StoreError> {
        Self::make(dir, passphrase, kdf.check()?, rng)
    }

    /// As [`Self::create`], with a derivation that was checked before.
    pub(crate) fn make(
        dir: &Path,
        passphrase: &Passphrase,
        kdf: Kdf,
        rng: impl CryptoRng + Send + 'static,
    ) -> Result<Opened, StoreError> {
        let home = Home::new(dir);
        if home.is_taken() {
            return Err(StoreError::Exists { dir: dir.to_path_buf() });
        }
        home.make_folder()?;
        let lock = home.lock()?;
        // Somebody may have made one since.
        if home.is_taken() {
            return Err(StoreError::Exists { dir: dir.to_path_buf() });
        }
        home.begin()?;
        let parts = Parts {
            tree: Box::new(journaled(&home.store())?),
            slots: Box::new(
                FileCells::create(&home.slots()).map_err(StoreError::io("make key slots"))?,
            ),
            keyring: Box::new(
                FileCells::create(&home.keyring()).map_err(StoreError::io("make keyring"))?,
            ),
        };
        let (mut store, kdf) = make(parts, passphrase, kdf, Box::new(rng))?;
        let mut reserve = Reserve::find(home.reserve());
        reserve.renew(0);
        store.reserve = Some(reserve);
        home.restrict()?;
        home.finish()?;
        store.home = Some((home, lock));
        Ok(Opened { store, kdf })
    }

    /// Opens the store in a folder.
    ///
    /// # Errors
    /// [`StoreError::Missing`], [`StoreError::Busy`], [`StoreError::WrongPassphrase`], and [`StoreError::Damaged`],
    /// [`StoreError::Foreign`], [`StoreError::RolledBack`] or [`StoreError::Newer`] for what is not as this device
    /// left it. Nothing but the lock file is changed by an open that is refused. [`StoreError::Full`] if not even opening
    /// has room.
    pub fn open(
        dir: &Path,
        passphrase: &Passphrase,
        rng: impl CryptoRng + Send + 'static,
    ) -> Result<Opened, StoreError> {
        let home = Home::new(dir);
        if !home.is_taken() {
            return Err(home.missing());
        }
        let lock = home.lock()?;
        home.exchange()?;
        let present = |path: &Path, what: &str| match path.exists() {
            true => Ok(()),
            false => Err(StoreError::damaged(format!("{what} missing"))),
        };
        present(&home.keyring(), "keyring is")?;
        let keyring = FileCells::open(&home.keyring()).map_err(StoreError::io("open keyring"))?;
        let (unlocked, kdf) = Unlocked::open(Box::new(keyring), passphrase)?;
        present(&home.slots(), "key slots are")?;
        let slots = FileCells::open(&home.slots()).map_err(StoreError::io("open key slots"))?;
        let (slots, mark) = Slots::open(Box::new(slots), unlocked.keys.slot.clone())?;
        present(&home.store().join("db"), "records are")?;
        let in_peace = is_in_peace(&home, &unlocked, &slots, mark);
        if !in_peace {
            look_first(&home, &unlocked, &slots, mark)?;
        }
        let sums = in_peace.then(|| left_sums(&home, &unlocked)).flatten();

        let mut reserve = Reserve::find(home.reserve());
        let tree = open_tree(&home, &mut reserve)?;
        let mut store = resume(Box::new(tree), unlocked, slots, mark, sums, Box::new(rng))?;
        // Not what is promised to what waits in the journal.
        if store.tree.room(RESERVE_BYTES / 4).is_ok() {
            reserve.renew(0);
        }
        store.tree.leave(reserve.promised() / 4);
        store.reserve = Some(reserve);
        home.restrict()?;
        store.home = Some((home, lock));
        store.walk = Walk::begin(&store.view.proof)?;
        Ok(Opened { store, kdf })
    }

    /// Looks at the store in a folder without its passphrase, without its lock and without writing: its parts are there
    /// and the keyring is whole. Returns what a try of the passphrase costs.
    ///
    /// # Errors
    /// None there, a part missing, a keyring that was damaged or written by a newer version.
    pub fn inspect(dir: &Path) -> Result<Kdf, StoreError> {
        let home = Home::new(dir);
        if !home.is_taken() {
            return Err(home.missing());
        }
        for (path, what) in [
            (home.keyring(), "keyring is missing"),
            (home.slots(), "key slots are missing"),
            (home.store().join("db"), "records are missing"),
        ] {
            if !path.exists() {
                return Err(StoreError::damaged(what));
            }
        }
        let bytes = std::fs::read(home.keyring()).map_err(StoreError::io("read keyring"))?;
        crate::keyring::inspect(&bytes)
    }

    /// Makes a store that is gone when it is dropped.
    ///
    /// # Errors
    /// None in practice; memory does not refuse.
    pub fn in_memory(rng: impl CryptoRng + Send + 'static) -> Result<Self, StoreError> {
        Ok(Self::with_backend(Parts::in_memory(), &Passphrase::new(""), rng)?.store)
    }

    /// Opens the store in these parts, or makes one if the keyring is empty. For tests: the passphrase costs nothing
    /// to try, and nothing is locked.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn with_backend(
        parts: Parts,
        passphrase: &Passphrase,
        rng: impl CryptoRng + Send + 'static,
    ) -> Result<Opened, StoreError> {
        let bytes = parts.keyring.read().map_err(StoreError::io("read keyring"))?;
        let (store, kdf) = if bytes.iter().all(|byte| *byte == 0) {
            make(parts, passphrase, Kdf::MEMORY_ONLY, Box::new(rng))?
        } else {
            let (unlocked, kdf) = Unlocked::open(parts.keyring, passphrase)?;
            let (slots, mark) = Slots::open(parts.slots, unlocked.keys.slot.clone())?;
            (resume(parts.tree, unlocked, slots, mark, None, Box::new(rng))?, kdf)
        };
        Ok(Opened { store, kdf })
    }
}

/// A keyring and the keys in it.
struct Unlocked {
    keyring: Keyring,
    keys: Arc<Keys>,
}

impl Unlocked {
    fn open(
        cells: Box<dyn crate::backend::Cells>,
        passphrase: &Passphrase,
    ) -> Result<(Self, Duration), StoreError> {
        let started = Instant::now();
        let (keyring, keys) = Keyring::open(cells, passphrase)?;
        Ok((Self { keyring, keys: Arc::new(keys) }, started.elapsed()))
    }
}

/// What the records of a store turned out to be.
struct Checked {
    ledger: Ledger,
    /// An earlier version wrote it.
    is_older: bool,
    directory: Directory,
    proof: Proof,
}

fn make(
    mut parts: Parts,
    passphrase: &Passphrase,
    kdf: Kdf,
    mut rng: Box<dyn CryptoRng + Send>,
) -> Result<(Store, Duration), StoreError> {
    let started = Instant::now();
    let (keyring, keys) = Keyring::create(parts.keyring, passphrase, kdf, &mut *rng)?;
    let kdf = started.elapsed();
    let ledger = Ledger { store: keyring.store, number: 0, tally: Tally::default() };
    let mark = Mark { store: ledger.store, number: 0 };
    let slots = Slots::create(parts.slots, keys.slot.clone(), mark, &mut *rng)?;
    parts.tree.ready()?;
    parts.tree.apply(&Batch::of([ledger_record(&keys, ledger, &mut *rng)]))?;
    parts.tree.sync()?;
    let keys = Arc::new(keys);
    let place = ledger_place(&keys);
    let proof = Proof::new(parts.tree.reader(), Arc::clone(&keys), place, Sums::new(), true);
    let checked = Checked { ledger, is_older: false, directory: Directory::default(), proof };
    let mut store = assemble(parts.tree, Unlocked { keyring, keys }, slots, checked, rng);
    // Last: a store without a keyring was never made.
    store.checkpoint(None)?;
    Ok((store, kdf))
}

/// Says whether everything is as a peaceful close left it.
fn is_in_peace(home: &Home, unlocked: &Unlocked, slots: &Slots, mark: Option<Mark>) -> bool {
    let left = unlocked.keyring.checkpoint;
    left.rest.is_some()
        && left.rest == home.rest().ok()
        && slots.is_whole()
        && slots.pairs() >= left.pairs
        && mark.is_some_and(|mark| mark.number == left.number)
}

/// Returns what the peaceful close wrote down of each part of the records, if it is of the commit it was closed at.
fn left_sums(home: &Home, unlocked: &Unlocked) -> Option<Sums> {
    let Unlocked { keyring, keys } = unlocked;
    let sums =
        Sums::parse(&home.read_sums()?, &keys.sums, &keyring.store, keyring.checkpoint.number)?;
    (sums.total() == keyring.checkpoint.tally).then_some(sums)
}

/// Looks at a copy of the tree.
fn look_first(
    home: &Home,
    unlocked: &Unlocked,
    slots: &Slots,
    mark: Option<Mark>,
) -> Result<(), StoreError> {
    let room = home.rest().ok().zip(free_bytes(&home.store()).ok());
    if room.is_some_and(|(copy, free)| free < copy.len.saturating_add(2 * FREE_BYTES)) {
        tracing::warn!("disk is full: store is opened without a look at a copy");
        return Ok(());
    }
    let trial = match home.trial_copy() {
        Ok(trial) => trial,
        // A full disk is no reason to keep somebody from their messages.
        Err(error) => {
            tracing::warn!(%error, "store is opened without a look at a copy");
            return Ok(());
        }
    };
    let mut tree = journaled(&trial.0)?;
    let checked = check(tree.reader(), unlocked, slots, mark, None);
    tree.close();
    checked.map(drop)
}

/// Opens the tree, if there is room for what sled writes as it opens: without it sled destroys what it opens. On a full disk
/// it has the reserve, so that what is in the store can be read, and some of it deleted.
fn open_tree(home: &Home, reserve: &mut Reserve) -> Result<Journaled, StoreError> {
    let free = || free_bytes(&home.store()).map_err(StoreError::io("ask for room"));

    if free()? < FREE_BYTES && !(reserve.spend() && free()? >= FREE_BYTES) {
        return Err(StoreError::Full { free: free()?, needed: FREE_BYTES });
    }
    Ok(journaled(&home.store())?)
}

/// Opens the tree in a folder with the journal in front of it, and a thread that writes down what waits there once there is enough.
fn journaled(store: &Path) -> Result<Journaled, BackendError> {
    let tree = SledTree::open(store)?;
    let journal = JournalFile::open(&Home::journal_in(store))?;
    Ok(Journaled::open(Box::new(tree), Box::new(journal), JOURNAL_HALF_BYTES)?.with_thread())
}

/// Checks a store and gets it ready to write.
fn resume(
    mut tree: Box<dyn Backend>,
    unlocked: Unlocked,
    mut slots: Slots,
    mark: Option<Mark>,
    sums: Option<Sums>,
    mut rng: Box<dyn CryptoRng + Send>,
) -> Result<Store, StoreError> {
    let checked = check(tree.reader(), &unlocked, &slots, mark, sums)?;
    // Before a key is destroyed: what was read may be in memory only.
    tree.ready()?;
    if checked.is_older {
        // Before anything else is written as only this version reads it, and the version before is told so.
        tree.apply(&Batch::of([ledger_record(&unlocked.keys, checked.ledger, &mut *rng)]))?;
        tree.sync()?;
    }
    let in_use = checked.directory.in_use();
    for slot in &in_use {
        slots.claim(crate::slots::pair_of(*slot));
    }
    // A crash between a commit and the overwrite after it leaves a key that opens what the commit replaced. Which slots
    // that happened to is not known, and all that are not in use look alike.
    let mark = Mark { store: checked.ledger.store, number: checked.ledger.number };
    slots
        .mark(mark, &mut *rng)
        .and_then(|()| slots.settle(&in_use, &mut *rng))
        .map_err(StoreError::io("write key slots"))?;
    let mut store = assemble(tree, unlocked, slots, checked, rng);
    // Before the first write, so that the mark of a peaceful close does not outlive the peace.
    store.checkpoint(None)?;
    Ok(store)
}

fn assemble(
    tree: Box<dyn Backend>,
    unlocked: Unlocked,
    slots: Slots,
    checked: Checked,
    rng: Box<dyn CryptoRng + Send>,
) -> Store {
    let Unlocked { keyring, keys } = unlocked;
    let view = View { reader: tree.reader(), keys, proof: Arc::new(checked.proof) };
    Store {
        tree,
        view,
        slots,
        keyring,
        ledger: checked.ledger,
        directory: checked.directory,
        rng,
        pending: Pending::default(),
        before: std::sync::Weak::new(),
        since: Since { at: Instant::now(), bytes: 0 },
        failed: None,
        closed: false,
        walk: None,
        reserve: None,
        home: None::<(Home, Lock)>,
    }
}

/// Reads everything and compares it with what the ledger, the keyring and the slot file say. With the sums of a peaceful close
/// it reads no record but the ledger and the secrets, and the rest is left to the proof. Writes nothing.
fn check(
    reader: Arc<dyn Reader>,
    unlocked: &Unlocked,
    slots: &Slots,
    mark: Option<Mark>,
    sums: Option<Sums>,
) -> Result<Checked, StoreError> {
    let Unlocked { keyring, keys } = unlocked;
    let checkpoint = keyring.checkpoint;
    if mark.is_some_and(|mark| mark.store != keyring.store) {
        return Err(StoreError::Foreign { part: "slot file" });
    }
    if slots.pairs() < checkpoint.pairs {
        let (found, expected) = (slots.pairs(), checkpoint.pairs);
        let what = format!("{found} pairs of key slots, expected {expected}");
        return Err(StoreError::damaged(what));
    }
    let (ledger, is_older) = read_ledger(&*reader, keys)?;
    let known = mark.map_or(0, |mark| mark.number).max(checkpoint.number);
    if ledger.number < known {
        let (expected, found) = (known, ledger.number);
        return Err(StoreError::RolledBack { part: "records", expected, found });
    }
    if ledger.number == checkpoint.number && ledger.tally != checkpoint.tally {
        return Err(StoreError::damaged("records are not those of the last checkpoint"));
    }
    // The sums are those of the checkpoint; the ledger has the last word.
    let sums = sums.filter(|sums| sums.total() == ledger.tally);
    let is_complete = sums.is_none();
    let sums = match sums {
        Some(sums) => sums,
        None => count(&*reader, keys)?,
    };
    let tally = sums.total();
    if tally != ledger.tally {
        let (found, expected) = (tally.count, ledger.tally.count);
        return Err(StoreError::damaged(match found == expected {
            true => "records were altered".to_owned(),
            false => format!("{found} records, expected {expected}"),
        }));
    }
    let place = ledger_place(keys);
    let proof = Proof::new(Arc::clone(&reader), Arc::clone(keys), place, sums, is_complete);
    let secrets = keys.own_prefix(secrets::BAG);
    proof.check(&secrets)?;
    let mut directory = Directory::default();
    let range = KeyRange {
        first: address(&secrets, 0).to_vec(),
        last: address(&secrets, u64::MAX).to_vec(),
    };
    // No more than there are pairs of slots.
    for (key, value) in reader.scan(&range, false, PAIRS)? {
        let pair = seq_of(&key).unwrap_or(0);
        match open_secret(keys, slots, pair, &value)? {
            secrets::Opened::Whole(slot, name, _) => directory.found(name, slot)?,
            // The records are whole and newer than the slots.
            secrets::Opened::Locked(slot) => match mark {
                Some(mark) if mark.number < ledger.number => {
                    let (expected, found) = (ledger.number, mark.number);
                    return Err(StoreError::RolledBack { part: "slot file", expected, found });
                }
                _ => {
                    let what = format!("key slot {slot} does not open its record");
                    return Err(StoreError::damaged(what));
                }
            },
        }
    }
    Ok(Checked { ledger, is_older, directory, proof })
}

fn ledger_place(keys: &Keys) -> Address {
    address(&keys.own_prefix(LEDGER), 0)
}

/// Returns the ledger, and whether an earlier version wrote it.
fn read_ledger(reader: &dyn Reader, keys: &Keys) -> Result<(Ledger, bool), StoreError> {
    let place = ledger_place(keys);
    let Some(stored) = reader.get(&place)? else {
        let found = reader.scan(&everything(), false, SAMPLE)?;
        if found.is_empty() {
            return Err(StoreError::damaged("records are missing"));
        }
        return Err(match found.iter().any(|(key, value)| is_ours(keys, key, value)) {
            true => StoreError::damaged("the record of what is stored is missing"),
            false => StoreError::Foreign { part: "folder of records" },
        });
    };
    let plain = seal::open(keys.value(KeyClass::Carry), &place, &stored)?;
    let ledger = Ledger::parse(&plain).map_err(|error| match error {
        LedgerError::Newer(found) => StoreError::Newer { found, known: FORMAT },
        LedgerError::Malformed => {
            StoreError::damaged("the record of what is stored cannot be read")
        }
    })?;
    Ok((ledger, Ledger::is_older(&plain)))
}

fn is_ours(keys: &Keys, key: &[u8], stored: &[u8]) -> bool {
    let Ok(place) = Address::try_from(key) else { return false };
    place.starts_with(&keys.own_prefix(secrets::BAG))
        || [KeyClass::Home, KeyClass::Carry]
            .iter()
            .any(|class| seal::open(keys.value(*class), &place, stored).is_ok())
}

/// Counts everything but the ledger, part by part.
fn count(reader: &dyn Reader, keys: &Keys) -> Result<Sums, StoreError> {
    let ledger = ledger_place(keys);
    let mut sums = Sums::new();
    let mut range = everything();
    loop {
        let chunk = reader.scan(&range, false, CHUNK)?;
        let Some((last, _)) = chunk.last() else { return Ok(sums) };
        // The next key there can be.
        range.first = [last.as_slice(), &[0]].concat();
        for (key, value) in chunk {
            if key != ledger
                && let Some(sum) = sums.at(part_of(&key))
            {
                sum.add(&keys.tally, &key, &value);
            }
        }
    }
}

/// Every key there can be: ours are 24 bytes long.
fn everything() -> KeyRange {
    KeyRange { first: Vec::new(), last: vec![0xff; 32] }
}
