//! A disk that is full: said by name, nothing lost, and room enough to delete.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;

use oob_store::backend::{
    Backend, BackendError, Batch, Boundless, FileCells, Gauge, Parts, Reader, SledTree,
};
use oob_store::{Area, Bag, Order, Store, StoreError};
use tempfile::tempdir;

use crate::ground::{Ground, inside};
use crate::{create, open, passphrase, rng};

fn bag() -> Bag {
    Bag::new(Area(1), b"talk")
}

fn text(seq: u64) -> Vec<u8> {
    let mut text = seq.to_be_bytes().to_vec();
    text.resize(2_000, seq as u8);
    text
}

/// Commits until the disk is full; returns how many there are.
fn fill(store: &mut Store, from: u64) -> u64 {
    for seq in from.. {
        store.put(&bag(), seq, &text(seq));
        store.put_secret(b"session", &seq.to_be_bytes());
        match store.commit() {
            Ok(_) => {}
            Err(StoreError::Full { free, needed }) => {
                assert!(free < needed);
                return seq;
            }
            Err(error) => panic!("commit {seq}: {error}"),
        }
    }
    unreachable!("the disk has no end")
}

#[track_caller]
fn whole(store: &Store, seqs: std::ops::Range<u64>) {
    let all = store.view().scan(&bag(), .., Order::Ascending, usize::MAX).unwrap();
    assert!(all.into_iter().eq(seqs.clone().map(|seq| (seq, text(seq)))), "{seqs:?}");
}

/// Fills the disk to its last byte.
fn take_all(path: &Path) {
    let mut other = File::create(path).unwrap();
    while other.write_all(&[7; 4096]).is_ok() {}
}

fn reserve(home: &Path) -> u64 {
    fs::metadata(home.join("reserve")).unwrap().len()
}

/// On 16 MiB, of which 8 are the reserve and which are too few for a journal, and on 24 MiB more.
#[test]
fn a_full_disk_is_named_reads_and_deletions_go_on_and_nothing_is_lost() {
    let name = "full::a_full_disk_is_named_reads_and_deletions_go_on_and_nothing_is_lost";
    inside(name, &[], || {
        for more in [0, 24 << 20] {
            a_disk_fills_up(more);
        }
    });
}

fn a_disk_fills_up(more: u64) {
    let ground = Ground::memory((16 << 20) + more);
    let home = ground.home();
    let mut store = create(&home);
    assert_eq!(reserve(&home), 8 << 20);
    assert_eq!(home.join("store/journal").exists(), more > 0);
    let end = fill(&mut store, 0);
    assert!(end > 100, "{end} records fit");
    // The refused batch is still pending; readers see what is committed.
    assert_eq!(store.get(&bag(), end).unwrap(), Some(text(end)));
    whole(&store, 0..end);
    assert_eq!(reserve(&home), 8 << 20, "what is put has no right to the reserve");
    store.discard();
    assert_eq!(store.secret(b"session").unwrap().unwrap().as_slice(), (end - 1).to_be_bytes());

    // Somebody else takes what is left, to the last byte, and the device is started again: the reserve is for that too.
    let other = ground.folder().join("other");
    take_all(&other);
    drop(store);
    let mut store = open(&home).unwrap();
    assert_eq!(reserve(&home), 0);
    whole(&store, 0..end);
    fs::remove_file(&other).unwrap();
    ground.grow((32 << 20) + more);
    store.put(&bag(), end, &text(end));
    store.commit().unwrap();
    assert_eq!(reserve(&home), 8 << 20, "there is room, and the reserve is taken first");
    let end = fill(&mut store, end + 1);
    store.discard();

    // Deletions, of a secret too, have the reserve. What sled let go of meanwhile somebody else takes, so that they need it.
    take_all(&other);
    for seq in 0..100 {
        store.delete(&bag(), seq);
        store.commit().unwrap_or_else(|error| panic!("deletion {seq}: {error}"));
        // Nothing else takes it: neither what can wait, nor what asks for room, nor what is put.
        store.idle().unwrap();
        assert!(!store.has_room(100_000), "after {seq}");
    }
    store.put(&bag(), end, b"x");
    assert!(matches!(store.commit(), Err(StoreError::Full { .. })));
    store.discard();
    store.delete_secret(b"session");
    store.commit().unwrap();
    store.idle().unwrap();
    assert_eq!(reserve(&home), 0);
    whole(&store, 100..end);

    // With nothing left and the reserve spent: even that is said by name, and changes nothing.
    take_all(&other);
    store.delete(&bag(), 100);
    assert!(matches!(store.commit(), Err(StoreError::Full { .. })));
    drop(store);
    let opened = open(&home);
    eprintln!("{end} records until the disk was full; opened without a byte left: {opened:?}");
    match opened {
        Ok(store) => whole(&store, 100..end),
        Err(error) => assert!(matches!(error, StoreError::Full { .. }), "{error}"),
    }
    fs::remove_file(&other).unwrap();
    ground.grow((64 << 20) + more);
    let mut store = open(&home).unwrap();
    assert_eq!(reserve(&home), 8 << 20);
    whole(&store, 100..end);
    store.put(&bag(), end, &text(end));
    store.commit().unwrap();
    store.close().unwrap();
    whole(&open(&home).unwrap(), 100..end + 1);
    assert!(home.join("store/journal").exists(), "there is room for one now");
}

/// A tree that says there is always room, as if somebody else took it between the question and the write.
struct Blind(SledTree);

impl Backend for Blind {
    fn gauge(&self) -> std::sync::Arc<dyn Gauge> {
        std::sync::Arc::new(Boundless)
    }

    fn apply(&mut self, batch: &Batch) -> Result<(), BackendError> {
        self.0.apply(batch)
    }

    fn sync(&mut self) -> Result<(), BackendError> {
        self.0.sync()
    }

    fn reader(&self) -> std::sync::Arc<dyn Reader> {
        self.0.reader()
    }

    fn close(&mut self) {
        self.0.close();
    }
}

/// What the margin is for, without the margin: the disk fills up in the middle of a batch. The store stops writing with an
/// error, what was acknowledged can be read, and is there after the next start.
#[test]
fn a_disk_that_fills_up_in_the_middle_of_a_batch_stops_the_store_and_loses_nothing() {
    let name =
        "full::a_disk_that_fills_up_in_the_middle_of_a_batch_stops_the_store_and_loses_nothing";
    inside(name, &[], || {
        let ground = Ground::memory(16 << 20);
        let home = ground.home();
        fs::create_dir(&home).unwrap();
        let parts = || {
            let cells = |name: &str| {
                let path = home.join(name);
                FileCells::open(&path).or_else(|_| FileCells::create(&path)).unwrap()
            };
            Parts {
                tree: Box::new(Blind(SledTree::open(&home.join("store")).unwrap())),
                slots: Box::new(cells("slots")),
                keyring: Box::new(cells("keyring")),
            }
        };
        let begin = || Store::with_backend(parts(), &passphrase(), rng(2)).unwrap().store;
        let mut store = begin();
        let mut end = 0;
        let error = loop {
            store.put(&bag(), end, &text(end));
            match store.commit() {
                Ok(_) => end += 1,
                Err(error) => break error,
            }
            assert!(end < 1_000_000);
        };
        eprintln!("{end} records until the disk was full: {error}");
        assert!(matches!(error, StoreError::Io { .. } | StoreError::Damaged { .. }), "{error}");
        store.discard();
        store.put(&bag(), end, b"later");
        assert!(matches!(store.commit(), Err(StoreError::Failed { .. })));
        let read = store.view().scan(&bag(), .., Order::Ascending, usize::MAX);
        eprintln!("reads of the failed store: {:?}", read.as_ref().map(Vec::len));
        drop(store);

        ground.grow(64 << 20);
        let store = begin();
        let found = store.last_seq(&bag()).unwrap().unwrap() + 1;
        assert!(found == end || found == end + 1, "{found} of {end}");
        whole(&store, 0..found);
    });
}

/// Somebody took the reserve away, or there is only half of it: it is made again, and neither is a reason not to start.
#[test]
fn a_reserve_that_is_gone_is_made_again() {
    let base = tempdir().unwrap();
    create(base.path()).close().unwrap();
    let path = base.path().join("reserve");
    for half in [false, true] {
        fs::remove_file(&path).unwrap();
        if half {
            fs::write(&path, b"half").unwrap();
        }
        open(base.path()).unwrap().close().unwrap();
        assert_eq!(reserve(base.path()), 8 << 20);
    }
}
