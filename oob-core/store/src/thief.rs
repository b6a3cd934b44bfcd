//! What a thief finds who has the folder and the passphrase. Tests only.
//!
//! The thief reads the raw files, the journal among them, since they keep values that are no longer shown, and tries every key there is on
//! everything that looks like a sealed value.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use rand::{SeedableRng, rngs::StdRng};
use tempfile::tempdir;

use crate::backend::{CrashDisk, FileCells, Parts};
use crate::bag::{Area, Bag, KeyClass};
use crate::home::Home;
use crate::keyring::Keyring;
use crate::keys::{Address, Key, Keys, address};
use crate::passphrase::{Kdf, Passphrase};
use crate::seal;
use crate::secrets;
use crate::slots::Slots;
use crate::store::Store;

const STATES: u64 = 40;

fn passphrase() -> Passphrase {
    Passphrase::new("known to the thief")
}

fn bag() -> Bag {
    Bag::new(Area(1), b"ratchets without slots")
}

fn state(number: u64) -> Vec<u8> {
    format!("ratchet state {number:04}").into_bytes()
}

fn create(dir: &Path) -> Store {
    let kdf = Kdf { passes: 1, ..Kdf::FLOOR };
    Store::create(dir, &passphrase(), kdf, StdRng::seed_from_u64(1)).unwrap().store
}

/// All keys the passphrase opens: those derived from the root key and those in the slots.
fn all_keys(parts: Parts) -> (Keys, Vec<Key>) {
    let (_, keys) = Keyring::open(parts.keyring, &passphrase()).unwrap();
    let (slots, _) = Slots::open(parts.slots, keys.slot.clone()).unwrap();
    let mut found: Vec<Key> =
        (0..2 * slots.pairs()).filter_map(|slot| slots.key(slot).cloned()).collect();
    found.extend([KeyClass::Home, KeyClass::Carry].map(|class| keys.value(class).clone()));
    (keys, found)
}

/// Returns the numbers of all states that open, of those anywhere in the files.
fn loot(dir: &Path) -> BTreeSet<u64> {
    let copy = tempdir().unwrap();
    let mut raw = Vec::new();
    for entry in fs::read_dir(dir.join("store")).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            raw.extend(fs::read(path).unwrap());
        }
    }
    let part = |name: &str| {
        fs::copy(dir.join(name), copy.path().join(name)).unwrap();
        Box::new(FileCells::open(&copy.path().join(name)).unwrap())
    };
    let parts = Parts { slots: part("slots"), keyring: part("keyring"), ..Parts::in_memory() };
    let (keys, tries) = all_keys(parts);
    let mut places: Vec<Address> =
        (1..8).map(|pair| address(&keys.own_prefix(secrets::BAG), pair)).collect();
    places.push(address(&keys.prefix(&bag()), 0));

    // Every state here takes one step of padding.
    const LEN: usize = 1 + 4 + 24 + 256 + 16;
    let mut found = BTreeSet::new();
    for candidate in raw.windows(LEN).filter(|w| w[..4] == [1, 0, 0, 0] && w[4] < 64) {
        for key in &tries {
            for place in &places {
                let Ok(plain) = seal::open(key, place, candidate) else { continue };
                let text = String::from_utf8_lossy(&plain);
                if let Some((_, number)) = text.split_once("ratchet state ") {
                    found.insert(number.parse().unwrap());
                }
            }
        }
    }
    found
}

/// Take the overwrite of the old slot out of the commit and this fails.
#[test]
fn old_slot_is_overwritten_and_no_earlier_secret_opens() {
    let home = tempdir().unwrap();
    let mut store = create(home.path());
    for number in 0..STATES {
        store.put_secret(b"session/dana", &state(number));
        store.commit().unwrap();
    }
    store.idle().unwrap();
    assert_eq!(loot(home.path()), BTreeSet::from([STATES - 1]));

    store.delete_secret(b"session/dana");
    store.commit().unwrap();
    store.idle().unwrap();
    assert_eq!(loot(home.path()), BTreeSet::new());
}

/// The control: without slots the same search opens what was replaced, so it is kept and the search works: first in the journal,
/// which has every state, then in the tree too, which has those that were ever written down.
#[test]
fn earlier_values_without_slots_do_open() {
    let home = tempdir().unwrap();
    let mut store = create(home.path());
    for number in 0..STATES {
        store.put(&bag(), 0, &state(number));
        store.commit().unwrap();
    }
    let found = loot(home.path());
    assert!(found.len() as u64 > STATES * 9 / 10, "{found:?}");
    for number in STATES..STATES + 10 {
        store.put(&bag(), 0, &state(number));
        store.commit().unwrap();
        store.tree.settle().unwrap();
    }
    drop(store);
    std::fs::remove_file(Home::journal_in(&home.path().join("store"))).unwrap();
    let found = loot(home.path());
    assert!(found.len() > 5 && found.iter().all(|number| *number + 1 >= STATES), "{found:?}");
}

/// The power fails at each write after the batch; the store that is opened again must not keep the old key, wherever
/// it was left.
#[test]
fn key_left_by_a_crash_is_destroyed_by_opening() {
    let mut survived = 0;
    for cut in 0..8 {
        for seed in 0..20 {
            let mut rng = StdRng::seed_from_u64(seed);
            let disk = if seed % 2 == 0 { CrashDisk::new() } else { CrashDisk::journaled() };
            let open = |seed| {
                let rng = StdRng::seed_from_u64(seed);
                Store::with_backend(disk.parts(), &passphrase(), rng).unwrap().store
            };
            let mut store = open(1);
            store.put_secret(b"session/dana", b"old");
            store.commit().unwrap();
            store.idle().unwrap();
            let place = address(&store.view.keys.own_prefix(secrets::BAG), 1);
            let old = store.view.reader.get(&place).unwrap().unwrap();
            store.put_secret(b"session/dana", b"new");
            disk.cut_after(cut);
            let _ = store.commit().and_then(|_| store.idle());
            drop(store);
            disk.power_cut(&mut rng);
            let opens =
                |parts| all_keys(parts).1.iter().any(|key| seal::open(key, &place, &old).is_ok());
            let before = opens(disk.parts());
            let store = open(2);
            let after = opens(disk.parts());
            let now = store.secret(b"session/dana").unwrap().unwrap();
            assert_eq!(after, now.as_slice() == b"old", "cut {cut}, seed {seed}");
            survived += u32::from(before && !after);
        }
    }
    // The control: a crash does leave old keys behind.
    assert!(survived > 10, "{survived}");
}

/// An old value may not be read again, nor an old key be left, after a passphrase change or a plain reopening.
#[test]
fn reopening_leaves_no_earlier_secret() {
    let home = tempdir().unwrap();
    let mut store = create(home.path());
    for number in 0..5 {
        store.put_secret(b"session/dana", &state(number));
        store.commit().unwrap();
    }
    store.close().unwrap();
    let rng = StdRng::seed_from_u64(2);
    let store = Store::open(home.path(), &passphrase(), rng).unwrap().store;
    assert_eq!(loot(home.path()), BTreeSet::from([4]));
    drop(store);
}
