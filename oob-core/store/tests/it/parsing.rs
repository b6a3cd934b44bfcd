//! Any bytes in any file: an error, never a panic, and never a store that is not the right one.

use std::sync::LazyLock;

use oob_store::backend::{Cells, CrashDisk, MemoryCells, Parts};
use oob_store::{Area, Bag, Store, StoreError};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::{on, passphrase, rng};

/// A closed store of two commits; made once, since every case takes a copy.
fn disk() -> CrashDisk {
    static MADE: LazyLock<CrashDisk> = LazyLock::new(make);
    MADE.image()
}

fn make() -> CrashDisk {
    let disk = CrashDisk::new();
    let mut store = on(&disk, 1).unwrap();
    store.put(&Bag::new(Area(1), b"x"), 1, b"value");
    store.put_secret(b"session", b"one");
    store.commit().unwrap();
    store.put_secret(b"session", b"two");
    store.commit().unwrap();
    store.close().unwrap();
    disk
}

fn cells(bytes: &[u8]) -> Box<dyn Cells> {
    let mut cells = MemoryCells::new();
    cells.write(0, bytes).unwrap();
    Box::new(cells)
}

fn try_open(parts: Parts) -> Result<Store, StoreError> {
    Store::with_backend(parts, &passphrase(), rng(3)).map(|opened| opened.store)
}

fn is_refusal(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::Damaged { .. }
            | StoreError::Foreign { .. }
            | StoreError::RolledBack { .. }
            | StoreError::WrongPassphrase
            | StoreError::Newer { .. }
    )
}

fn is_whole(store: &Store) -> bool {
    store.secret(b"session").unwrap().is_some_and(|value| value.as_slice() == b"two")
        && store.get(&Bag::new(Area(1), b"x"), 1).unwrap().as_deref() == Some(b"value")
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_as_keyring_are_refused(mut bytes in vec(any::<u8>(), 1..6000)) {
        bytes[0] |= 1; // all zeros is no keyring yet
        let parts = Parts { keyring: cells(&bytes), ..disk().parts() };
        prop_assert!(is_refusal(&try_open(parts).unwrap_err()));
    }

    #[test]
    fn any_bytes_as_slots_are_refused(bytes in vec(any::<u8>(), 0..6000)) {
        let parts = Parts { slots: cells(&bytes), ..disk().parts() };
        prop_assert!(is_refusal(&try_open(parts).unwrap_err()));
    }

    #[test]
    fn altered_keyring_opens_the_right_store_or_none(at in any::<prop::sample::Index>(), flip in 1..=255u8) {
        let parts = disk().parts();
        let mut bytes = parts.keyring.read().unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        match try_open(Parts { keyring: cells(&bytes), ..parts }) {
            Ok(store) => prop_assert!(is_whole(&store)),
            Err(error) => prop_assert!(is_refusal(&error)),
        }
    }

    #[test]
    fn altered_slots_open_the_right_store_or_none(at in any::<prop::sample::Index>(), flip in 1..=255u8) {
        let parts = disk().parts();
        let mut bytes = parts.slots.read().unwrap();
        // The first page holds the slots in use.
        let at = at.index(512.min(bytes.len()));
        bytes[at] ^= flip;
        match try_open(Parts { slots: cells(&bytes), ..parts }) {
            Ok(store) => prop_assert!(is_whole(&store)),
            Err(error) => prop_assert!(is_refusal(&error)),
        }
    }
}

#[test]
fn cut_files_are_refused() {
    let full = disk().parts();
    let (keyring, slots) = (full.keyring.read().unwrap(), full.slots.read().unwrap());
    for cut in (0..slots.len()).step_by(61) {
        let parts = Parts { slots: cells(&slots[..cut]), ..disk().parts() };
        match try_open(parts) {
            Ok(store) => assert!(is_whole(&store)), // only a cell no record uses is missing
            Err(error) => assert!(is_refusal(&error), "slots cut at {cut}: {error}"),
        }
    }
    for cut in (1..keyring.len()).step_by(61) {
        let parts = Parts { keyring: cells(&keyring[..cut]), ..disk().parts() };
        match try_open(parts) {
            Ok(store) => assert!(is_whole(&store)), // the other copy is whole and newer
            Err(error) => assert!(is_refusal(&error), "keyring cut at {cut}: {error}"),
        }
    }
}

#[test]
fn newer_keyring_is_refused_by_name() {
    let parts = disk().parts();
    let mut bytes = parts.keyring.read().unwrap();
    bytes[16..20].copy_from_slice(&2u32.to_be_bytes());
    let error = try_open(Parts { keyring: cells(&bytes), ..parts }).unwrap_err();
    assert!(matches!(error, StoreError::Newer { found: 2, known: 1 }), "{error}");
}
