//! The store from outside: what callers see, what a crash leaves, what a thief of the folder finds.

mod crash;
mod cut;
mod damage;
mod folder;
mod full;
mod golden;
mod ground;
mod journal;
mod kill;
mod model;
mod moment;
mod parsing;
mod recovery;
mod rot;
mod scribe;
mod writer;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use oob_store::backend::CrashDisk;
use oob_store::{Kdf, Opened, Passphrase, Store, StoreError};
use rand::{SeedableRng, rngs::StdRng};

fn rng(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

fn passphrase() -> Passphrase {
    Passphrase::new("seven candles on a windy roof")
}

/// One pass at the floor, so that a test does not wait.
const FAST: Kdf = Kdf { memory_kib: Kdf::FLOOR.memory_kib, passes: 1 };

fn create(dir: &Path) -> Store {
    Store::create(dir, &passphrase(), FAST, rng(1)).unwrap().store
}

fn open(dir: &Path) -> Result<Store, StoreError> {
    Store::open(dir, &passphrase(), rng(2)).map(|Opened { store, .. }| store)
}

/// Says whether the tests that take long, or need root, are wanted.
fn heavy() -> bool {
    std::env::var_os("OOB_HEAVY").is_some()
}

fn on(disk: &CrashDisk, seed: u64) -> Result<Store, StoreError> {
    Store::with_backend(disk.try_parts()?, &passphrase(), rng(seed)).map(|opened| opened.store)
}

/// Everything in a folder but the lock file: mode and bytes by path.
fn contents(dir: &Path) -> BTreeMap<String, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    walk(dir, dir, &mut found);
    found.remove("lock");
    found
}

fn walk(root: &Path, dir: &Path, found: &mut BTreeMap<String, (u32, Vec<u8>)>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root).unwrap().display().to_string();
        let mode = fs::metadata(&path).unwrap().permissions().mode() & 0o7777;
        if path.is_dir() {
            found.insert(name, (mode, Vec::new()));
            walk(root, &path, found);
        } else {
            found.insert(name, (mode, fs::read(&path).unwrap()));
        }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}
