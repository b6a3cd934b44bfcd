//! Folders that are not as this device left them: refused by name, and left as they are.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::path::Path;

use oob_store::backend::{Batch, CrashDisk, KeyRange};
use oob_store::{Area, Bag, Order, Passphrase, Store, StoreError};
use rand::Rng;
use tempfile::{TempDir, tempdir};

use crate::{FAST, contents, copy, create, on, open, passphrase, rng};

fn bag() -> Bag {
    Bag::new(Area(1), b"messages")
}

fn work(store: &mut Store, seqs: std::ops::Range<u64>) {
    for seq in seqs {
        store.put(&bag(), seq, &[seq as u8; 300]);
        store.put_secret(b"session", &seq.to_be_bytes());
        store.commit().unwrap();
    }
}

/// A closed store of thirty commits.
fn home() -> TempDir {
    let base = tempdir().unwrap();
    let mut store = create(base.path());
    work(&mut store, 0..30);
    store.close().unwrap();
    base
}

/// Opens what must be refused, and returns why.
#[track_caller]
fn refusal(dir: &Path) -> StoreError {
    let before = contents(dir);
    let error = open(dir).expect_err("this store must not open");
    let after = contents(dir);
    let changed: BTreeMap<_, _> =
        after.iter().filter(|(name, file)| before.get(*name) != Some(file)).collect();
    assert!(before == after, "refused with {error}, but changed {:?}", changed.keys());
    error
}

#[test]
fn wrong_passphrase_is_refused() {
    let base = home();
    let before = contents(base.path());
    for text in ["", "seven candles on a windy roo", "seven candles on a windy roof "] {
        let opened = Store::open(base.path(), &Passphrase::new(text), rng(1));
        assert!(matches!(opened, Err(StoreError::WrongPassphrase)));
    }
    assert_eq!(contents(base.path()), before);
    open(base.path()).unwrap();
}

#[test]
fn parts_of_another_home_are_refused() {
    for part in ["keyring", "slots", "store"] {
        let (mine, other) = (home(), tempdir().unwrap());
        let opened = Store::create(other.path(), &passphrase(), FAST, rng(99)).unwrap();
        let mut store = opened.store;
        work(&mut store, 0..40);
        store.close().unwrap();
        let (from, to) = (other.path().join(part), mine.path().join(part));
        if from.is_dir() {
            fs::remove_dir_all(&to).unwrap();
            copy(&from, &to);
        } else {
            fs::copy(&from, &to).unwrap();
        }
        let error = refusal(mine.path());
        assert!(matches!(error, StoreError::Foreign { .. }), "{part}: {error}");
    }
}

#[test]
fn keyring_of_another_home_and_passphrase_is_a_wrong_passphrase() {
    let (mine, other) = (home(), tempdir().unwrap());
    let theirs = Passphrase::new("theirs");
    Store::create(other.path(), &theirs, FAST, rng(99)).unwrap().store.close().unwrap();
    fs::copy(other.path().join("keyring"), mine.path().join("keyring")).unwrap();
    assert!(matches!(refusal(mine.path()), StoreError::WrongPassphrase));
}

#[test]
fn missing_parts_are_damage() {
    for part in ["keyring", "slots", "store", "store/db"] {
        let base = home();
        let path = base.path().join(part);
        if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
        let error = refusal(base.path());
        assert!(matches!(error, StoreError::Damaged { .. }), "{part}: {error}");
        assert!(Store::exists(base.path()), "what is left of a store is not overwritten");
        let again = Store::create(base.path(), &passphrase(), FAST, rng(1));
        assert!(matches!(again, Err(StoreError::Exists { .. })));
    }
}

#[test]
fn emptied_parts_are_damage() {
    for part in ["keyring", "slots", "store/db"] {
        let base = home();
        fs::write(base.path().join(part), b"").unwrap();
        let error = refusal(base.path());
        assert!(matches!(error, StoreError::Damaged { .. }), "{part}: {error}");
    }
}

#[test]
fn truncated_records_are_noticed() {
    let base = home();
    let len = contents(base.path())["store/db"].1.len() as u64;
    for cut in [1, 4096, 20_000, len / 2, len - 4096, len - 100] {
        let base = home();
        let db = OpenOptions::new().write(true).open(base.path().join("store/db")).unwrap();
        db.set_len(cut).unwrap();
        drop(db);
        let before = contents(base.path());
        match open(base.path()) {
            // sled pads its file; a cut in the padding loses nothing.
            Ok(store) => assert_eq!(store.last_seq(&bag()).unwrap(), Some(29)),
            Err(StoreError::Damaged { .. } | StoreError::RolledBack { .. }) => {
                assert_eq!(contents(base.path()), before, "cut at {cut}");
            }
            Err(error) => panic!("cut at {cut}: {error}"),
        }
    }
}

/// sled drops the end of a damaged log without a word. This is what must not go unnoticed.
#[test]
fn flipped_bits_lose_nothing_in_silence() {
    let original = home();
    let len = contents(original.path())["store/db"].1.len();
    let mut random = rng(5);
    let (mut refused, mut whole) = (0, 0);
    for _ in 0..40 {
        let base = tempdir().unwrap();
        copy(original.path(), base.path());
        let path = base.path().join("store/db");
        let mut bytes = fs::read(&path).unwrap();
        let at = (random.next_u64() % len as u64) as usize;
        bytes[at] ^= 1 << (random.next_u64() % 8);
        fs::write(&path, bytes).unwrap();
        let before = contents(base.path());
        match open(base.path()) {
            Ok(store) => {
                let all = store.scan(&bag(), .., Order::Ascending, 100).unwrap();
                assert_eq!(all.len(), 30, "bit at {at}");
                assert!(store.secret(b"session").unwrap().is_some());
                whole += 1;
            }
            Err(StoreError::Damaged { .. } | StoreError::RolledBack { .. }) => {
                assert_eq!(contents(base.path()), before, "bit at {at}");
                refused += 1;
            }
            Err(error) => panic!("bit at {at}: {error}"),
        }
    }
    // The control: some flips do hit.
    assert!(refused > 0 && refused + whole == 40, "{refused} refused, {whole} whole");
}

#[test]
fn records_taken_back_are_noticed() {
    let base = tempdir().unwrap();
    let mut store = create(base.path());
    work(&mut store, 0..10);
    store.close().unwrap();
    let old = tempdir().unwrap();
    copy(base.path(), old.path());
    let mut store = open(base.path()).unwrap();
    work(&mut store, 10..20);
    store.close().unwrap();

    fs::remove_dir_all(base.path().join("store")).unwrap();
    copy(&old.path().join("store"), &base.path().join("store"));
    match refusal(base.path()) {
        StoreError::RolledBack { part: "records", expected: 20, found: 10 } => {}
        error => panic!("{error}"),
    }
}

/// The keyring knows only the last checkpoint; the slot file knows better.
#[test]
fn records_taken_back_within_one_checkpoint_are_noticed() {
    for secret in [false, true] {
        let base = tempdir().unwrap();
        let mut store = create(base.path());
        let commit = |store: &mut Store, seq: u64| {
            store.put(&bag(), seq, b"x");
            if secret {
                store.put_secret(b"session", &[seq as u8]);
            }
            store.commit().unwrap();
        };
        commit(&mut store, 1);
        let (old, new) = (tempdir().unwrap(), tempdir().unwrap());
        copy(base.path(), old.path());
        commit(&mut store, 2);
        copy(base.path(), new.path());
        assert_eq!(
            fs::read(old.path().join("keyring")).unwrap(),
            fs::read(new.path().join("keyring")).unwrap()
        );
        fs::remove_dir_all(new.path().join("store")).unwrap();
        copy(&old.path().join("store"), &new.path().join("store"));
        match refusal(new.path()) {
            StoreError::RolledBack { part: "records", expected: 2, found: 1 } => {}
            error => panic!("{error}"),
        }
    }
}

#[test]
fn slots_taken_back_are_noticed() {
    let base = tempdir().unwrap();
    let mut store = create(base.path());
    work(&mut store, 0..10);
    store.idle().unwrap();
    let old = tempdir().unwrap();
    copy(base.path(), old.path());
    work(&mut store, 10..13);
    store.close().unwrap();
    fs::copy(old.path().join("slots"), base.path().join("slots")).unwrap();
    match refusal(base.path()) {
        StoreError::RolledBack { part: "slot file", expected: 13, found: 10 } => {}
        error => panic!("{error}"),
    }
}

/// Cut between two pairs, the file is whole as far as it goes.
#[test]
fn slots_cut_short_are_noticed_before_anything_is_changed() {
    let base = tempdir().unwrap();
    let mut store = create(base.path());
    for number in 0..40_u8 {
        store.put_secret(&[number], b"x");
    }
    store.commit().unwrap();
    store.close().unwrap();
    let slots = fs::read(base.path().join("slots")).unwrap();
    for pairs in [1, 8, 31, 32, 63] {
        let file = OpenOptions::new().write(true).open(base.path().join("slots")).unwrap();
        file.set_len(pairs * 128).unwrap();
        let error = refusal(base.path());
        assert!(matches!(error, StoreError::Damaged { .. }), "{pairs}: {error}");
        fs::write(base.path().join("slots"), &slots).unwrap();
    }
    open(base.path()).unwrap();
}

#[test]
fn refused_store_opens_again_when_it_is_put_right() {
    let base = home();
    let slots = fs::read(base.path().join("slots")).unwrap();
    fs::write(base.path().join("slots"), b"nonsense").unwrap();
    refusal(base.path());
    fs::write(base.path().join("slots"), slots).unwrap();
    let store = open(base.path()).unwrap();
    assert_eq!(store.last_seq(&bag()).unwrap(), Some(29));
}

/// A page lost in the middle, or one that is older than the rest: the tree itself would not notice.
#[test]
fn each_single_record_is_missed_and_each_older_one_noticed() {
    let everything = KeyRange { first: Vec::new(), last: vec![0xff; 32] };
    let disk = CrashDisk::new();
    let mut store = on(&disk, 1).unwrap();
    work(&mut store, 0..10);
    let old = disk.parts().tree.reader().scan(&everything, false, 100).unwrap();
    for seq in 0..10 {
        store.put(&bag(), seq, b"newer");
    }
    store.put_secret(b"session", b"newer");
    store.commit().unwrap();
    store.close().unwrap();
    assert_eq!(old.len(), 12, "ten records, one secret, the ledger");

    for (key, older) in old {
        for value in [None, Some(older)] {
            let image = disk.image();
            let mut parts = image.parts();
            parts.tree.apply(&Batch::of([(key.clone(), value)])).unwrap();
            drop(parts);
            let error = on(&image, 2).unwrap_err();
            assert!(
                matches!(error, StoreError::Damaged { .. } | StoreError::RolledBack { .. }),
                "{error}"
            );
        }
    }
    // And one too many.
    let image = disk.image();
    let writes = vec![(vec![7; 24], Some(vec![7; 100]))];
    image.parts().tree.apply(&Batch::of(writes)).unwrap();
    assert!(matches!(on(&image, 2).unwrap_err(), StoreError::Damaged { .. }));
    on(&disk, 2).unwrap();
}
