//! The thread that writes down what the journal had put aside: driven by hand, and left to itself.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use oob_store::backend::{
    Backend, BackendError, Batch, Cells, CrashDisk, Gauge, JournalFile, Journaled, KeyRange, Parts,
    Reader, SledTree,
};
use oob_store::{Area, Bag, Store, StoreError};
use rand::Rng;
use tempfile::tempdir;

use crate::{on, passphrase, rng};

/// Bytes of each half of the journal.
const HALF: usize = 16 << 10;

/// Longest wait for what must come, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(60);

fn bag() -> Bag {
    Bag::new(Area(1), b"talk")
}

fn key(number: u64) -> Vec<u8> {
    [&[7; 16][..], &number.to_be_bytes()].concat()
}

/// What becomes of a write or sync of the tree beneath.
enum Verdict {
    Go,
    Refuse(BackendError),
    Panic,
}

/// A tree whose every batch and sync waits for a verdict, as soon as somebody holds the other end.
struct Held {
    tree: Box<dyn Backend>,
    asks: SyncSender<()>,
    verdicts: Receiver<Verdict>,
    is_held: Arc<AtomicBool>,
}

/// The other end.
struct Hand {
    asked: Receiver<()>,
    tell: SyncSender<Verdict>,
    is_held: Arc<AtomicBool>,
}

impl Held {
    fn new(tree: Box<dyn Backend>) -> (Self, Hand) {
        let (asks, asked) = sync_channel(1);
        let (tell, verdicts) = sync_channel(1);
        let is_held = Arc::new(AtomicBool::new(false));
        let hand = Hand { asked, tell, is_held: Arc::clone(&is_held) };
        (Self { tree, asks, verdicts, is_held }, hand)
    }

    fn ask(&self) -> Result<(), BackendError> {
        if !self.is_held.load(Ordering::SeqCst) || self.asks.send(()).is_err() {
            return Ok(());
        }
        match self.verdicts.recv_timeout(PATIENCE) {
            Ok(Verdict::Go) | Err(RecvTimeoutError::Disconnected) => Ok(()),
            Ok(Verdict::Refuse(error)) => Err(error),
            Ok(Verdict::Panic) => panic!("as the test wants it"),
            Err(RecvTimeoutError::Timeout) => panic!("no verdict"),
        }
    }
}

impl Hand {
    fn hold(&self) {
        self.is_held.store(true, Ordering::SeqCst);
    }

    /// Returns when the thread waits for a verdict.
    fn wait(&self) {
        self.asked.recv_timeout(PATIENCE).unwrap();
    }

    fn tell(&self, verdict: Verdict) {
        self.tell.send(verdict).unwrap();
    }

    /// Lets everything go from now on.
    fn let_go(&self) {
        self.is_held.store(false, Ordering::SeqCst);
    }
}

impl Backend for Held {
    fn gauge(&self) -> Arc<dyn Gauge> {
        self.tree.gauge()
    }

    fn apply(&mut self, batch: &Batch) -> Result<(), BackendError> {
        self.ask()?;
        self.tree.apply(batch)
    }

    fn sync(&mut self) -> Result<(), BackendError> {
        self.ask()?;
        self.tree.sync()
    }

    fn reader(&self) -> Arc<dyn Reader> {
        self.tree.reader()
    }

    fn close(&mut self) {
        self.tree.close();
    }
}

fn with_thread(tree: Box<dyn Backend>, disk: &CrashDisk) -> Journaled {
    Journaled::open(tree, disk.journal(), HALF).unwrap().with_thread()
}

/// A store whose thread is driven by hand.
fn held(disk: &CrashDisk) -> (Store, Hand) {
    let (tree, hand) = Held::new(disk.bare_tree());
    let parts = Parts { tree: Box::new(with_thread(Box::new(tree), disk)), ..disk.parts() };
    (Store::with_backend(parts, &passphrase(), rng(1)).unwrap().store, hand)
}

/// Commits of one small record, of two sectors each, after which one half of the journal is full and the other is not.
const TURNED: u64 = 20;

/// Commits until the thread waits for a verdict; returns the next number. The thread is held.
fn until_it_waits(store: &mut Store, hand: &Hand) -> u64 {
    hand.hold();
    for seq in 0..TURNED {
        store.put(&bag(), seq, &seq.to_be_bytes());
        store.commit().unwrap();
    }
    hand.wait();
    TURNED
}

#[track_caller]
fn whole(store: &Store, end: u64) {
    for seq in 0..end {
        assert_eq!(
            store.get(&bag(), seq).unwrap().as_deref(),
            Some(&seq.to_be_bytes()[..]),
            "{seq}"
        );
    }
    assert_eq!(store.last_seq(&bag()).unwrap(), end.checked_sub(1));
}

/// While the thread is in the middle of a write that does not end, commits do, until the other half is full as well; and that
/// commit is done once the thread is.
#[test]
fn commits_do_not_wait_for_the_thread_while_there_is_room() {
    let disk = CrashDisk::journaled();
    let (mut store, hand) = held(&disk);
    let end = until_it_waits(&mut store, &hand);
    for seq in end..end + 10 {
        store.put(&bag(), seq, &seq.to_be_bytes());
        store.commit().unwrap();
    }
    whole(&store, end + 10);
    assert!(!store.needs_idle(), "it is on its way");
    let (done, told) = sync_channel(1);
    let committing = thread::spawn(move || {
        for seq in end + 10..end + 40 {
            store.put(&bag(), seq, &seq.to_be_bytes());
            store.commit().unwrap();
        }
        done.send(()).unwrap();
        store
    });
    // Both halves together have no room for all of them.
    hand.let_go();
    hand.tell(Verdict::Go);
    told.recv_timeout(PATIENCE).unwrap();
    let store = committing.join().unwrap();
    whole(&store, end + 40);
    store.close().unwrap();
    disk.power_cut(&mut rng(1));
    whole(&on(&disk, 2).unwrap(), end + 40);
}

/// What goes wrong in the thread is told by the next commit as what it is, and ends the store as if the commit had done it; what
/// was acknowledged is there afterwards.
#[test]
fn what_fails_in_the_thread_is_told_by_the_next_commit() {
    type Check = fn(&StoreError) -> bool;
    let refuse = Verdict::Refuse;
    let kinds: [(Verdict, Check); 4] = [
        (
            refuse(io::Error::other("a bad block").into()),
            |error| matches!(error, StoreError::Io { source, .. } if source.to_string() == "a bad block"),
        ),
        (
            refuse(io::Error::from(io::ErrorKind::StorageFull).into()),
            |error| matches!(error, StoreError::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull),
        ),
        (
            refuse(BackendError::Damaged("a page is gone".into())),
            |error| matches!(error, StoreError::Damaged { what } if what == "a page is gone"),
        ),
        (
            Verdict::Panic,
            |error| matches!(error, StoreError::Damaged { what } if what.contains("gave up")),
        ),
    ];
    for (verdict, is_told) in kinds {
        let disk = CrashDisk::journaled();
        let (mut store, hand) = held(&disk);
        let mut end = until_it_waits(&mut store, &hand);
        hand.let_go();
        hand.tell(verdict);
        // It may take a moment until the thread has told: but not longer than there is room.
        let error = loop {
            store.put(&bag(), end, &end.to_be_bytes());
            match store.commit() {
                Ok(_) => end += 1,
                Err(error) => break error,
            }
            assert!(end < 1_000, "nobody was told");
        };
        assert!(is_told(&error), "{error}");
        store.discard();
        store.put(&bag(), end, b"later");
        assert!(matches!(store.commit(), Err(StoreError::Failed { .. })));
        store.discard();
        whole(&store, end);
        assert!(matches!(store.close(), Err(StoreError::Failed { .. })));
        disk.power_cut(&mut rng(1));
        let again = on(&disk, 2).unwrap();
        whole(&again, end);
    }
}

/// Where no commit comes after it, an idle moment or the close tells.
#[test]
fn what_fails_in_the_thread_is_told_at_the_latest_by_the_close() {
    for is_idle in [true, false] {
        let disk = CrashDisk::journaled();
        let (mut store, hand) = held(&disk);
        let end = until_it_waits(&mut store, &hand);
        hand.let_go();
        hand.tell(Verdict::Refuse(BackendError::Damaged("a page is gone".into())));
        while is_idle && !store.needs_idle() {
            thread::yield_now();
        }
        let told = if is_idle { store.idle().and_then(|()| store.close()) } else { store.close() };
        assert!(matches!(&told, Err(StoreError::Damaged { what }) if what == "a page is gone"));
        disk.power_cut(&mut rng(1));
        whole(&on(&disk, 2).unwrap(), end);
    }
}

/// A disk that is full for the thread is no reason to stop: what it has stays in the journal until there is room.
#[test]
fn a_disk_that_is_full_for_the_thread_stops_nobody() {
    let disk = CrashDisk::journaled();
    let (mut store, hand) = held(&disk);
    let end = until_it_waits(&mut store, &hand);
    disk.set_free(Some(10));
    hand.let_go();
    hand.tell(Verdict::Go);
    // All that waits has no room: said by name, and nothing is written.
    store.put(&bag(), end, b"refused");
    assert!(matches!(store.commit(), Err(StoreError::Full { .. })));
    store.idle().unwrap();
    whole_but_pending(&mut store, end);
    disk.set_free(None);
    for seq in end..end + 60 {
        store.put(&bag(), seq, &seq.to_be_bytes());
        store.commit().unwrap();
    }
    whole(&store, end + 60);
    store.close().unwrap();
    disk.power_cut(&mut rng(1));
    whole(&on(&disk, 2).unwrap(), end + 60);
}

fn whole_but_pending(store: &mut Store, end: u64) {
    store.discard();
    whole(store, end);
}

/// A store that is dropped while the thread is at work ends the thread after the part it is at; the rest is in the journal.
#[test]
fn a_store_that_is_dropped_ends_its_thread() {
    let disk = CrashDisk::journaled();
    let (tree, hand) = Held::new(disk.bare_tree());
    let mut tree = with_thread(Box::new(tree), &disk);
    tree.ready().unwrap();
    hand.hold();
    for number in 0..TURNED {
        tree.apply(&Batch::of([(key(number), Some(vec![1; 900]))])).unwrap();
        tree.sync().unwrap();
    }
    hand.wait();
    let dropped = thread::spawn(move || drop(tree));
    hand.tell(Verdict::Go);
    // Until it has seen that it is to stop it may begin another part.
    let mut parts = 0;
    while !dropped.is_finished() {
        if hand.asked.try_recv().is_ok() {
            parts += 1;
            hand.tell(Verdict::Go);
        }
        thread::yield_now();
    }
    dropped.join().unwrap();
    assert!(parts < 100, "{parts} more parts");
    disk.power_cut(&mut rng(1));
    let all = KeyRange { first: Vec::new(), last: vec![0xff; 32] };
    let found = disk.parts().tree.reader().scan(&all, false, usize::MAX).unwrap();
    assert_eq!(found.len() as u64, TURNED);
}

/// What lies where in the journal, and how far the tree has durably got.
#[derive(Default)]
struct Watch {
    /// Numbers of records by where they begin.
    records: BTreeMap<u64, u64>,
    applied: u64,
    durable: u64,
    written_over: u64,
}

struct WatchedTree(Box<dyn Backend>, Arc<Mutex<Watch>>);

impl Backend for WatchedTree {
    fn gauge(&self) -> Arc<dyn Gauge> {
        self.0.gauge()
    }

    fn apply(&mut self, batch: &Batch) -> Result<(), BackendError> {
        let place = batch.writes.iter().find(|(key, _)| key == b"journal");
        if let Some((_, Some(value))) = place {
            let number = value.first_chunk::<8>().unwrap();
            self.1.lock().unwrap().applied = u64::from_be_bytes(*number);
        }
        self.0.apply(batch)
    }

    fn sync(&mut self) -> Result<(), BackendError> {
        let applied = self.1.lock().unwrap().applied;
        self.0.sync()?;
        self.1.lock().unwrap().durable = applied;
        Ok(())
    }

    fn reader(&self) -> Arc<dyn Reader> {
        self.0.reader()
    }

    fn close(&mut self) {
        self.0.close();
    }
}

struct WatchedCells(Box<dyn Cells>, Arc<Mutex<Watch>>);

impl Cells for WatchedCells {
    fn read(&self) -> io::Result<Vec<u8>> {
        self.0.read()
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut watch = self.1.lock().unwrap();
        let end = offset + bytes.len() as u64;
        let over: Vec<_> = watch.records.range(offset..end).map(|(at, n)| (*at, *n)).collect();
        for (at, number) in over {
            assert!(number <= watch.durable, "{number} of {} is written over", watch.durable);
            watch.records.remove(&at);
            watch.written_over += 1;
        }
        // Number of a record; zeros while the file is made.
        let number =
            bytes.get(32..40).map_or(0, |part| u64::from_be_bytes(part.try_into().unwrap()));
        if number > 0 {
            watch.records.insert(offset, number);
        }
        drop(watch);
        self.0.write(offset, bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.sync()
    }
}

/// No record is written over before sled has it durably, whoever is faster; and two that read all the while see nothing older than
/// what was committed when they began to, wherever it lies by then.
#[test]
fn nothing_is_written_over_too_early_and_readers_miss_nothing_on_its_way() {
    const KEYS: u64 = 40;
    let dir = tempdir().unwrap();
    let watch = Arc::new(Mutex::new(Watch::default()));
    let tree = WatchedTree(Box::new(SledTree::open(dir.path()).unwrap()), Arc::clone(&watch));
    let file = JournalFile::open(&dir.path().join("journal")).unwrap();
    let file = WatchedCells(Box::new(file), Arc::clone(&watch));
    let mut tree = Journaled::open(Box::new(tree), Box::new(file), 32 << 10).unwrap().with_thread();
    tree.ready().unwrap();
    let floor: Arc<Vec<AtomicU64>> = Arc::new((0..KEYS).map(|_| AtomicU64::new(0)).collect());
    let is_over = Arc::new(AtomicBool::new(false));
    let version = |value: &[u8]| u64::from_be_bytes(*value.first_chunk().unwrap());
    let readers: Vec<_> = [false, true]
        .into_iter()
        .map(|reverse| {
            let (reader, floor, is_over) =
                (tree.reader(), Arc::clone(&floor), Arc::clone(&is_over));
            thread::spawn(move || {
                let mut random = rng(u64::from(reverse));
                let mut reads = 0_u64;
                while !is_over.load(Ordering::SeqCst) {
                    let before: Vec<u64> =
                        floor.iter().map(|it| it.load(Ordering::SeqCst)).collect();
                    let range = KeyRange { first: key(0), last: key(KEYS) };
                    let limit = 1 + (random.next_u64() % 60) as usize;
                    let found: BTreeMap<_, _> =
                        reader.scan(&range, reverse, limit).unwrap().into_iter().collect();
                    let there = before.iter().filter(|version| **version > 0).count();
                    assert!(found.len() >= there.min(limit), "{} of {there}", found.len());
                    for (number, floor) in (0..).zip(&before) {
                        let one = reader.get(&key(number)).unwrap();
                        assert!(one.as_deref().map_or(0, version) >= *floor, "{number}");
                        if let Some(value) = found.get(&key(number)) {
                            assert!(version(value) >= *floor, "{number} in a scan");
                        }
                    }
                    reads += 1;
                }
                reads
            })
        })
        .collect();
    let mut random = rng(3);
    for version in 1..3_000_u64 {
        let number = random.next_u64() % KEYS;
        let mut value = version.to_be_bytes().to_vec();
        value.resize(8 + (random.next_u64() % 600) as usize, 7);
        tree.apply(&Batch::of([(key(number), Some(value))])).unwrap();
        floor[number as usize].store(version, Ordering::SeqCst);
        if version % 7 == 0 {
            tree.sync().unwrap();
        }
        if tree.needs_idle() {
            tree.idle().unwrap();
        }
    }
    is_over.store(true, Ordering::SeqCst);
    let reads: Vec<u64> = readers.into_iter().map(|reader| reader.join().unwrap()).collect();
    tree.settle().unwrap();
    let watch = watch.lock().unwrap();
    assert!(watch.written_over > 1_000, "{} records written over", watch.written_over);
    assert!(reads.iter().all(|reads| *reads > 10), "{reads:?} reads");
}
