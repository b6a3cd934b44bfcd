//! A store that version 1 wrote, byte for byte: keyring, slots and sealed records, in `tests/fixtures/version-1.txt`. It must
//! go on being opened, and be a store that is worked with afterwards.

use oob_store::backend::{Batch, CrashDisk, KeyRange, Parts};
use oob_store::{Area, Bag, Store};

use crate::{on, passphrase, rng};
use data_encoding::HEXLOWER as HEX;

const FIXTURE: &str = include_str!("../fixtures/version-1.txt");

fn plain() -> Bag {
    Bag::new(Area(9), b"conversation")
}

fn carried() -> Bag {
    Bag::carry(Area(15), b"author")
}

/// A disk with the bytes of the fixture on it.
fn disk_of(fixture: &str) -> CrashDisk {
    let disk = CrashDisk::new();
    let Parts { mut tree, mut slots, mut keyring } = disk.parts();
    let mut batch = Batch::default();
    for line in fixture.lines().filter(|line| !line.starts_with('#')) {
        let words: Vec<&str> = line.split(' ').collect();
        let bytes = |at: usize| HEX.decode(words[at].as_bytes()).unwrap();
        match words[0] {
            "keyring" => keyring.write(words[1].parse().unwrap(), &bytes(2)).unwrap(),
            "slots" => slots.write(words[1].parse().unwrap(), &bytes(2)).unwrap(),
            "record" => batch.writes.push((bytes(1).into(), Some(bytes(2).into()))),
            other => panic!("{other}"),
        }
    }
    tree.apply(&batch).unwrap();
    tree.sync().unwrap();
    slots.sync().unwrap();
    keyring.sync().unwrap();
    disk
}

#[test]
fn a_store_of_version_1_is_still_opened_and_worked_with() {
    let disk = disk_of(FIXTURE);
    for (round, seed) in [(0u64, 5), (1, 6)] {
        let mut store = on(&disk, seed).unwrap();
        assert_eq!(store.get(&plain(), 1).unwrap().unwrap(), b"mail is compromised");
        assert_eq!(store.get(&plain(), 2).unwrap().unwrap(), vec![7; 300], "of two steps");
        assert_eq!(store.get(&carried(), 7).unwrap().unwrap(), b"an envelope");
        assert_eq!(store.get(&plain(), 3).unwrap(), None, "deleted");
        assert_eq!(store.secret_names(b"peer/"), [b"peer/dana".to_vec(), b"peer/sam".to_vec()]);
        let secret = |store: &Store, name: &[u8]| store.secret(name).unwrap().unwrap().to_vec();
        assert_eq!(secret(&store, b"peer/dana"), b"ratchet, its third state");
        assert_eq!(secret(&store, b"peer/sam"), b"ratchet, its first state");
        assert_eq!(store.get(&plain(), 10).unwrap().is_some(), round == 1);
        store.put(&plain(), 10, b"written by a later version");
        store.commit().unwrap();
        store.close().unwrap();
    }
}

/// The control: every line matters; a store without one of its records, slots in use or keyrings is not taken for whole.
#[test]
fn a_store_of_version_1_that_lacks_a_line_is_not_opened() {
    let lines: Vec<&str> = FIXTURE.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(lines.len() > 8, "{} lines", lines.len());
    for kind in ["record", "slots", "keyring"] {
        let kept = |at: &usize| match kind {
            "record" => *at != lines.iter().position(|line| line.starts_with("record")).unwrap(),
            _ => !lines[*at].starts_with(kind),
        };
        let fewer: Vec<&str> = (0..lines.len()).filter(kept).map(|at| lines[at]).collect();
        let opened = on(&disk_of(&fewer.join("\n")), 5);
        let whole = opened.and_then(|store| store.get(&carried(), 7));
        assert!(!matches!(whole, Ok(Some(_))), "without {kind}");
    }
}

/// Prints a fixture, for a new version: `cargo test -p oob-store --test it -- --ignored --nocapture prints`.
#[test]
#[ignore = "prints a new fixture, checks nothing"]
fn prints_a_fixture() {
    let disk = CrashDisk::new();
    let mut store = Store::with_backend(disk.parts(), &passphrase(), rng(1)).unwrap().store;
    store.put(&plain(), 1, b"mail is compromised");
    store.put(&plain(), 2, &[7; 300]);
    store.put(&plain(), 3, b"to be deleted");
    store.put(&carried(), 7, b"an envelope");
    store.put_secret(b"peer/dana", b"ratchet, its first state");
    store.put_secret(b"peer/sam", b"ratchet, its first state");
    store.commit().unwrap();
    store.delete(&plain(), 3);
    for state in ["second", "third"] {
        store.put_secret(b"peer/dana", format!("ratchet, its {state} state").as_bytes());
        store.commit().unwrap();
    }
    store.close().unwrap();
    let Parts { tree, slots, keyring } = disk.parts();
    println!(
        "# A store written by version 1. Secrets of nobody; the passphrase is that of the tests."
    );
    for (name, cells, step) in [("keyring", keyring, 512), ("slots", slots, 64)] {
        for (at, cell) in cells.read().unwrap().chunks(step).enumerate() {
            if cell.iter().any(|byte| *byte != 0) {
                println!("{name} {} {}", at * step, HEX.encode(cell));
            }
        }
    }
    let all = KeyRange { first: Vec::new(), last: vec![0xff; 24] };
    for (key, value) in tree.reader().scan(&all, false, 100).unwrap() {
        println!("record {} {}", HEX.encode(&key), HEX.encode(&value));
    }
}

/// What only this version reads may be written before the first commit: the version before must be told then, too.
#[test]
fn a_store_of_version_1_is_marked_as_this_versions_as_soon_as_it_is_opened() {
    let everything = KeyRange { first: Vec::new(), last: vec![0xff; 24] };
    let disk = disk_of(FIXTURE);
    let records = || disk.parts().tree.reader().scan(&everything, false, 100).unwrap();
    let before = records();
    drop(on(&disk, 5).unwrap());
    let after = records();
    let changed = before.iter().zip(&after).filter(|(one, other)| one != other).count();
    assert_eq!((changed, after.len()), (1, before.len()), "the ledger and nothing else");
    drop(on(&disk, 6).unwrap());
    assert!(records() == after, "once");
}
