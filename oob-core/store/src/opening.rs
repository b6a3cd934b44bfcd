//! Making, finding and checking stores.
//!
//! A store that is opened is read whole before anything is written: the tree must hold what its ledger says, the
//! ledger must not be older than the keyring or the slot file know, and each secret must open under its slot. If the
//! files are not exactly as a peaceful close left them, this is done on a copy first, because sled changes damaged
//! files by opening them, and a store that is refused must stay as it was for whoever has to find out what happened.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand_core::CryptoRng;

use crate::backend::{
    Backend, BackendError, Batch, FileCells, JournalFile, Journaled, KeyRange, Kv, Parts, Reader,
    SledTree, free_bytes,
};
use crate::bag::KeyClass;
use crate::error::StoreError;
use crate::home::{Home, Lock};
use crate::keyring::Keyring;
use crate::keys::{Address, Keys, address, seq_of};
use crate::limits::{FREE_BYTES, JOURNAL_HALF_BYTES, RESERVE_BYTES};
use crate::passphrase::{Kdf, Passphrase};
use crate::pending::Pending;
use crate::reserve::Reserve;
use crate::seal;
use crate::secrets::{self, Directory, open_secret};
use crate::slots::{Mark, Slots};
use crate::store::{LEDGER, Opened, Since, Store, ledger_record};
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
        look_first(&home, &unlocked, &slots, mark)?;

        let mut reserve = Reserve::find(home.reserve());
        let tree = open_tree(&home, &mut reserve)?;
        let mut store = resume(Box::new(tree), unlocked, slots, mark, Box::new(rng))?;
        // Not what is promised to what waits in the journal.
        if store.tree.room(RESERVE_BYTES / 4).is_ok() {
            reserve.renew(0);
        }
        store.reserve = Some(reserve);
        home.restrict()?;
        store.home = Some((home, lock));
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
            (resume(parts.tree, unlocked, slots, mark, Box::new(rng))?, kdf)
        };
        Ok(Opened { store, kdf })
    }
}

/// A keyring and the keys in it.
struct Unlocked {
    keyring: Keyring,
    keys: Keys,
}

impl Unlocked {
    fn open(
        cells: Box<dyn crate::backend::Cells>,
        passphrase: &Passphrase,
    ) -> Result<(Self, Duration), StoreError> {
        let started = Instant::now();
        let (keyring, keys) = Keyring::open(cells, passphrase)?;
        Ok((Self { keyring, keys }, started.elapsed()))
    }
}

/// What the records of a store turned out to be.
struct Checked {
    ledger: Ledger,
    directory: Directory,
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
    parts.tree.apply(&Batch { writes: vec![ledger_record(&keys, ledger, &mut *rng)] })?;
    parts.tree.sync()?;
    let checked = Checked { ledger, directory: Directory::default() };
    let mut store = assemble(parts.tree, Unlocked { keyring, keys }, slots, checked, rng);
    // Last: a store without a keyring was never made.
    store.checkpoint(None)?;
    Ok((store, kdf))
}

/// Looks at a copy of the tree if anything is not as a peaceful close left it.
fn look_first(
    home: &Home,
    unlocked: &Unlocked,
    slots: &Slots,
    mark: Option<Mark>,
) -> Result<(), StoreError> {
    let left = unlocked.keyring.checkpoint;
    let in_peace = left.rest.is_some()
        && left.rest == home.rest().ok()
        && slots.is_whole()
        && mark.is_some_and(|mark| mark.number == left.number);
    if in_peace {
        return Ok(());
    }
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
    let checked = check(&*tree.reader(), unlocked, slots, mark);
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

/// Opens the tree in a folder with the journal in front of it.
fn journaled(store: &Path) -> Result<Journaled, BackendError> {
    let tree = SledTree::open(store)?;
    let journal = JournalFile::open(&Home::journal_in(store))?;
    Journaled::open(Box::new(tree), Box::new(journal), JOURNAL_HALF_BYTES)
}

/// Checks a store and gets it ready to write.
fn resume(
    mut tree: Box<dyn Backend>,
    unlocked: Unlocked,
    mut slots: Slots,
    mark: Option<Mark>,
    mut rng: Box<dyn CryptoRng + Send>,
) -> Result<Store, StoreError> {
    let checked = check(&*tree.reader(), &unlocked, &slots, mark)?;
    // Before a key is destroyed: what was read may be in memory only.
    tree.ready()?;
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
    let view = View { reader: tree.reader(), keys: Arc::new(keys) };
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
        reserve: None,
        home: None::<(Home, Lock)>,
    }
}

/// Reads everything and compares it with what the ledger, the keyring and the slot file say. Writes nothing.
fn check(
    reader: &dyn Reader,
    unlocked: &Unlocked,
    slots: &Slots,
    mark: Option<Mark>,
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
    let ledger = read_ledger(reader, keys)?;
    let known = mark.map_or(0, |mark| mark.number).max(checkpoint.number);
    if ledger.number < known {
        let (expected, found) = (known, ledger.number);
        return Err(StoreError::RolledBack { part: "records", expected, found });
    }
    if ledger.number == checkpoint.number && ledger.tally != checkpoint.tally {
        return Err(StoreError::damaged("records are not those of the last checkpoint"));
    }
    let (tally, stored) = count(reader, keys)?;
    if tally != ledger.tally {
        let (found, expected) = (tally.count, ledger.tally.count);
        return Err(StoreError::damaged(match found == expected {
            true => "records were altered".to_owned(),
            false => format!("{found} records, expected {expected}"),
        }));
    }
    let mut directory = Directory::default();
    for (key, value) in stored {
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
    Ok(Checked { ledger, directory })
}

fn read_ledger(reader: &dyn Reader, keys: &Keys) -> Result<Ledger, StoreError> {
    let place = address(&keys.own_prefix(LEDGER), 0);
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
    Ledger::parse(&plain).map_err(|error| match error {
        LedgerError::Newer(found) => StoreError::Newer { found, known: FORMAT },
        LedgerError::Malformed => {
            StoreError::damaged("the record of what is stored cannot be read")
        }
    })
}

fn is_ours(keys: &Keys, key: &[u8], stored: &[u8]) -> bool {
    let Ok(place) = Address::try_from(key) else { return false };
    place.starts_with(&keys.own_prefix(secrets::BAG))
        || [KeyClass::Home, KeyClass::Carry]
            .iter()
            .any(|class| seal::open(keys.value(*class), &place, stored).is_ok())
}

/// Counts everything but the ledger, and returns the secret records met on the way.
fn count(reader: &dyn Reader, keys: &Keys) -> Result<(Tally, Vec<Kv>), StoreError> {
    let ledger = address(&keys.own_prefix(LEDGER), 0);
    let secret = keys.own_prefix(secrets::BAG);
    let mut tally = Tally::default();
    let mut secrets = Vec::new();
    let mut range = everything();
    loop {
        let chunk = reader.scan(&range, false, CHUNK)?;
        let Some((last, _)) = chunk.last() else { return Ok((tally, secrets)) };
        // The next key there can be.
        range.first = [last.as_slice(), &[0]].concat();
        for (key, value) in chunk {
            if key == ledger {
                continue;
            }
            tally.add(&keys.tally, &key, &value);
            if key.starts_with(&secret) {
                secrets.push((key, value));
            }
        }
    }
}

/// Every key there can be: ours are 24 bytes long.
fn everything() -> KeyRange {
    KeyRange { first: Vec::new(), last: vec![0xff; 32] }
}
