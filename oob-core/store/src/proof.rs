//! The proof: which parts of the records were compared with what they must add up to.
//!
//! A store that was closed in peace is not read whole before it answers. Instead no answer is given out of a part, and nothing is
//! written into it, before that part was read and compared; a thread of the store's own goes through all of them meanwhile. So
//! what is missing, older than it should be or one too many is found before anybody is told anything that rests on it.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use crate::backend::{BackendError, Reader};
use crate::error::StoreError;
use crate::keys::{Address, Keys};
use crate::sums::{Changes, PARTS, Sums, part_of, range_of};
use crate::tally::Tally;

/// Records read at a time: half a megabyte or so.
const CHUNK: usize = 512;

/// How often a part is read before it is called damaged. What is written into other parts meanwhile moves records from page to page.
const TRIES: usize = 3;

/// What is known of each part.
pub(crate) struct Proof {
    reader: Arc<dyn Reader>,
    keys: Arc<Keys>,
    /// The one record that is in no sum.
    ledger: Address,
    /// Every part is proven.
    complete: AtomicBool,
    /// The thread that goes through all parts is to end.
    stopped: AtomicBool,
    state: Mutex<State>,
    /// Told whenever a part was read.
    read: Condvar,
}

struct State {
    sums: Sums,
    parts: Vec<Stage>,
    left: usize,
    damage: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Unread,
    /// Somebody reads it.
    Busy,
    Proven,
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proof(..)")
    }
}

impl Proof {
    /// A proof of which nothing is done, or all.
    pub(crate) fn new(
        reader: Arc<dyn Reader>,
        keys: Arc<Keys>,
        ledger: Address,
        sums: Sums,
        is_complete: bool,
    ) -> Self {
        let (stage, left) = if is_complete { (Stage::Proven, 0) } else { (Stage::Unread, PARTS) };
        let state = State { sums, parts: vec![stage; PARTS], left, damage: None };
        Self {
            reader,
            keys,
            ledger,
            complete: AtomicBool::new(is_complete),
            stopped: AtomicBool::new(false),
            state: Mutex::new(state),
            read: Condvar::new(),
        }
    }

    /// Returns once the part of a record, or of a bag, is proven.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] if it is not what it must be, and when it cannot be read.
    pub(crate) fn check(&self, place: &[u8]) -> Result<(), StoreError> {
        if self.is_complete() {
            return Ok(());
        }
        self.prove(part_of(place))
    }

    /// Proves what is not proven yet, until somebody says [`Self::stop`].
    ///
    /// # Errors
    /// As [`Self::check`].
    pub(crate) fn finish(&self) -> Result<(), StoreError> {
        for part in 0..PARTS {
            if self.is_complete() || self.stopped.load(Ordering::Relaxed) {
                return Ok(());
            }
            self.prove(part)?;
        }
        Ok(())
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Acquire)
    }

    /// Returns what was found to be wrong with the records, also if nobody asked for them.
    pub(crate) fn damage(&self) -> Option<String> {
        if self.is_complete() { None } else { self.lock().damage.clone() }
    }

    /// Ends [`Self::finish`] after the part it is at.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Brings the sums up to date with a batch that is durable. Its parts are proven.
    pub(crate) fn advance(&self, changes: Changes) {
        let mut state = self.lock();
        for (part, change) in changes {
            if let Some(sum) = state.sums.at(part) {
                *sum = sum.and(&change);
            }
        }
    }

    /// Returns the sums as they are now. Those of parts that are not proven are what they were, since nothing was written there.
    pub(crate) fn sums(&self) -> Sums {
        self.lock().sums.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing that is done with the lock held can stop half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn prove(&self, part: usize) -> Result<(), StoreError> {
        let mut state = self.lock();
        let expected = loop {
            match state.parts.get_mut(part) {
                None | Some(Stage::Proven) => return Ok(()),
                // Whoever reads it tells.
                Some(Stage::Busy) => {
                    state = self.read.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                Some(stage @ Stage::Unread) => {
                    *stage = Stage::Busy;
                    break state.sums.of(part);
                }
            }
        };
        drop(state);
        let found = self.compare(part, &expected);
        let mut state = self.lock();
        if let Some(stage) = state.parts.get_mut(part) {
            *stage = if found.is_ok() { Stage::Proven } else { Stage::Unread };
        }
        match &found {
            Ok(()) => state.left = state.left.saturating_sub(1),
            // It is closed meanwhile, and left as it is found.
            Err(StoreError::Closed) => {}
            // A disk that gives a part no more is as bad as one that gives another: nobody may go on as if all were there.
            Err(error) => {
                let what = match error {
                    StoreError::Damaged { what } => what.clone(),
                    other => other.to_string(),
                };
                tracing::error!(
                    part,
                    what,
                    "records are not what they were when the store was closed"
                );
                state.damage.get_or_insert(what);
            }
        }
        if state.left == 0 {
            self.complete.store(true, Ordering::Release);
        }
        drop(state);
        self.read.notify_all();
        found
    }

    fn compare(&self, part: usize, expected: &Tally) -> Result<(), StoreError> {
        let mut last = Ok(Tally::default());
        for _ in 0..TRIES {
            last = self.count(part);
            match &last {
                Ok(found) if found == expected => return Ok(()),
                Err(BackendError::Closed) => break,
                Ok(_) | Err(_) => {}
            }
        }
        let (found, expected) = (last?.count, expected.count);
        Err(StoreError::damaged(match found == expected {
            true => "records were altered".to_owned(),
            false => format!("{found} records in a part of {expected}"),
        }))
    }

    fn count(&self, part: usize) -> Result<Tally, BackendError> {
        let mut tally = Tally::default();
        let mut range = range_of(part);
        loop {
            let chunk = self.reader.scan(&range, false, CHUNK)?;
            for (key, value) in chunk.iter().filter(|(key, _)| *key != self.ledger) {
                tally.add(&self.keys.tally, key, value);
            }
            match chunk.last() {
                // The next key there can be.
                Some((last, _)) if chunk.len() >= CHUNK => {
                    range.first = [last.as_slice(), &[0]].concat();
                }
                _ => return Ok(tally),
            }
        }
    }
}

/// The thread that goes through all parts. It ends when it has, when the proof is stopped, and when the tree is closed.
#[derive(Debug)]
pub(crate) struct Walk(Option<JoinHandle<()>>);

impl Walk {
    /// Begins at once; none if nothing is left to prove.
    pub(crate) fn begin(proof: &Arc<Proof>) -> Result<Option<Self>, StoreError> {
        if proof.is_complete() {
            return Ok(None);
        }
        let walked = Arc::clone(proof);
        // What it finds is logged and kept in the proof, where the owner of the store is told of it.
        let walk = move || {
            let _ = walked.finish();
        };
        match thread::Builder::new().name("oob-store-check".into()).spawn(walk) {
            Ok(thread) => Ok(Some(Self(Some(thread)))),
            Err(error) => {
                tracing::warn!(%error, "no thread to check the records; they are checked first");
                proof.finish().map(|()| None)
            }
        }
    }

    /// Returns when the thread is gone. The proof must be stopped, or it takes as long as it takes.
    pub(crate) fn join(mut self) {
        if let Some(thread) = self.0.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::AtomicUsize;

    use rand::{SeedableRng, rngs::StdRng};
    use tempfile::tempdir;

    use super::*;
    use crate::backend::{Backend, Batch, FileCells, KeyRange, Kv, SledTree};
    use crate::bag::{Area, Bag, Order};
    use crate::home::Home;
    use crate::keyring::{Checkpoint, Keyring};
    use crate::passphrase::{Kdf, Passphrase};
    use crate::store::Store;
    use crate::view::View;

    /// Bags, each in a part of its own or nearly so.
    const WARDS: u64 = 40;

    type Write = (Vec<u8>, Option<Vec<u8>>);

    fn passphrase() -> Passphrase {
        Passphrase::new("seven candles")
    }

    fn ward(number: u64) -> Bag {
        Bag::new(Area(1), &number.to_be_bytes())
    }

    fn open(dir: &Path) -> Result<Store, StoreError> {
        Ok(Store::open(dir, &passphrase(), StdRng::seed_from_u64(2))?.store)
    }

    fn fill(store: &mut Store, text: &[u8]) {
        for number in 0..WARDS {
            (0..9).for_each(|seq| store.put(&ward(number), seq, text));
        }
        store.commit().unwrap();
    }

    fn stored(dir: &Path) -> Vec<Kv> {
        let mut tree = SledTree::open(&dir.join("store")).unwrap();
        let all = crate::backend::KeyRange { first: Vec::new(), last: vec![0xff; 32] };
        let found = tree.reader().scan(&all, false, usize::MAX).unwrap();
        tree.close();
        found
    }

    /// A store closed in peace, and what it held before everything in it was overwritten.
    fn closed(dir: &Path) -> Vec<Kv> {
        let kdf = Kdf { passes: 1, ..Kdf::FLOOR };
        let mut store =
            Store::create(dir, &passphrase(), kdf, StdRng::seed_from_u64(1)).unwrap().store;
        store.put_secret(b"session", b"a ratchet");
        fill(&mut store, b"older");
        store.close().unwrap();
        let older = stored(dir);
        let mut store = open(dir).unwrap();
        fill(&mut store, b"newer");
        store.close().unwrap();
        older
    }

    /// Writes into the tree behind the store's back, and makes the keyring say that it was left so.
    fn alter(dir: &Path, writes: Vec<Write>) {
        let mut tree = SledTree::open(&dir.join("store")).unwrap();
        tree.apply(&Batch::of(writes)).unwrap();
        tree.sync().unwrap();
        tree.close();
        drop(tree);
        let cells = FileCells::open(&dir.join("keyring")).unwrap();
        let (mut keyring, keys) = Keyring::open(Box::new(cells), &passphrase()).unwrap();
        let rest = Some(Home::new(dir).rest().unwrap());
        let checkpoint = Checkpoint { rest, ..keyring.checkpoint };
        keyring.write(&keys, checkpoint, &mut StdRng::seed_from_u64(3)).unwrap();
    }

    /// Nothing is said out of a part that lacks a record, has an older one or one too many, nothing is written into it, and the
    /// next opening refuses. Before any of that, the opening itself did not read it: that is the control of what is altered.
    #[test]
    fn nothing_is_answered_out_of_a_part_that_is_not_what_it_was_when_closed() {
        let base = tempdir().unwrap();
        let older = closed(base.path());
        let newer = stored(base.path());
        let store = open(base.path()).unwrap();
        let prefix = store.view.keys.prefix(&ward(7));
        store.close().unwrap();
        let is_of = |kv: &&Kv| kv.0.starts_with(&prefix);
        let (key, value) = newer.iter().find(is_of).unwrap().clone();
        let was = older.iter().find(is_of).unwrap().clone();
        assert!(was.0 == key && was.1 != value);
        let mut extra = key.clone();
        extra[20] = 9;
        let kinds: [Vec<Write>; 4] = [
            Vec::new(),
            vec![(key.clone(), None)],
            vec![(key, Some(was.1))],
            vec![(extra, Some(value))],
        ];
        for (kind, writes) in kinds.into_iter().enumerate() {
            if kind > 0 {
                let copy = tempdir().unwrap();
                copy_all(base.path(), copy.path());
                alter(copy.path(), writes.clone());
                let mut store = open(copy.path()).unwrap();
                store.put(&ward(7), 8, b"newest");
                let written = store.commit();
                assert!(matches!(written, Err(StoreError::Damaged { .. })), "{kind}: {written:?}");
            }
            let copy = tempdir().unwrap();
            copy_all(base.path(), copy.path());
            alter(copy.path(), writes);
            let mut store = open(copy.path()).unwrap();
            let view = store.view();
            let answers = [
                store.scan(&ward(7), .., Order::Ascending, 1).map(drop),
                store.get(&ward(7), 8).map(drop),
                store.last_seq(&ward(7)).map(drop),
                view.scan(&ward(7), 8.., Order::Descending, 1).map(drop),
                view.get(&ward(7), 100).map(drop),
                view.last_seq(&ward(7)).map(drop),
                store.moment().page(&ward(7), 0, 1).map(drop),
            ];
            if kind == 0 {
                assert!(answers.iter().all(Result::is_ok), "{answers:?}");
                store.verify().unwrap();
                assert!(store.view.proof.is_complete());
                fill(&mut store, b"newest");
                store.close().unwrap();
                continue;
            }
            for answer in answers {
                assert!(matches!(answer, Err(StoreError::Damaged { .. })), "{kind}: {answer:?}");
            }
            assert_eq!(store.get(&ward(8), 8).unwrap().unwrap(), b"newer", "another part");
            // The owner is told although it asks for nothing of it, and writes no more.
            assert!(store.needs_idle());
            assert!(matches!(store.idle(), Err(StoreError::Damaged { .. })));
            store.put(&ward(8), 8, b"newest");
            assert!(store.commit().is_err());
            drop(store);
            let error = open(copy.path()).unwrap_err();
            assert!(matches!(error, StoreError::Damaged { .. }), "{kind}: {error}");
        }
    }

    /// A reader that fails so many times first.
    struct Failing {
        inner: Arc<dyn Reader>,
        times: AtomicUsize,
    }

    impl Reader for Failing {
        fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, BackendError> {
            self.inner.get(key)
        }

        fn scan(
            &self,
            range: &KeyRange,
            reverse: bool,
            limit: usize,
        ) -> Result<Vec<Kv>, BackendError> {
            let less = |times: usize| times.checked_sub(1);
            match self.times.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less) {
                Ok(_) => Err(std::io::Error::other("unreadable sector").into()),
                Err(_) => self.inner.scan(range, reverse, limit),
            }
        }
    }

    /// A disk that failed to give a part was only logged: the thread ended there, the store went on, and was closed in peace.
    #[test]
    fn a_part_that_the_disk_gives_no_more_stops_the_store_and_one_failed_read_does_not() {
        let base = tempdir().unwrap();
        closed(base.path());
        let store = open(base.path()).unwrap();
        store.verify().unwrap();
        let View { reader, keys, proof } = &store.view;
        let with = |times| {
            let reader = Failing { inner: Arc::clone(reader), times: AtomicUsize::new(times) };
            Proof::new(Arc::new(reader), Arc::clone(keys), proof.ledger, proof.sums(), false)
        };
        let prefix = keys.prefix(&ward(7));
        let once = with(1);
        once.check(&prefix).unwrap();
        once.finish().unwrap();
        assert!(once.is_complete() && once.damage().is_none());
        let always = with(usize::MAX);
        assert!(matches!(always.check(&prefix), Err(StoreError::Io { .. })));
        assert!(always.damage().is_some_and(|what| what.contains("unreadable sector")));
    }

    /// What nobody asks for is found by the thread behind.
    #[test]
    fn what_nobody_asks_for_is_found_behind() {
        let base = tempdir().unwrap();
        closed(base.path());
        let store = open(base.path()).unwrap();
        let key = crate::keys::address(&store.view.keys.prefix(&ward(3)), 4);
        store.close().unwrap();
        alter(base.path(), vec![(key.to_vec(), None)]);
        let mut store = open(base.path()).unwrap();
        store.walk.take().unwrap().join();
        assert!(matches!(store.idle(), Err(StoreError::Damaged { .. })));
    }

    /// A store that is closed before everything was read leaves sums that hold, and one without its sums, or with those of
    /// earlier, is read first.
    #[test]
    fn sums_hold_over_closings_before_the_end_and_are_not_needed() {
        let base = tempdir().unwrap();
        closed(base.path());
        let earlier = std::fs::read(base.path().join("sums")).unwrap();
        for round in 0..4_u64 {
            let mut store = open(base.path()).unwrap();
            store.put(&ward(round), 3, b"newest");
            store.delete(&ward(round + 10), 4);
            store.put_secret(b"session", &round.to_be_bytes());
            store.commit().unwrap();
            store.close().unwrap();
        }
        let store = open(base.path()).unwrap();
        assert!(store.walk.is_some());
        store.verify().unwrap();
        store.close().unwrap();
        let sums = base.path().join("sums");
        for bytes in [None, Some(earlier), Some(vec![7; 99])] {
            match bytes {
                Some(bytes) => std::fs::write(&sums, bytes).unwrap(),
                None => std::fs::remove_file(&sums).unwrap(),
            }
            let store = open(base.path()).unwrap();
            assert!(store.walk.is_none());
            assert_eq!(store.last_seq(&ward(0)).unwrap(), Some(8));
            store.close().unwrap();
        }
    }

    /// After anything but a peaceful close everything is read first.
    #[test]
    fn a_store_that_was_not_closed_is_read_first() {
        let (base, killed) = (tempdir().unwrap(), tempdir().unwrap());
        closed(base.path());
        let store = open(base.path()).unwrap();
        assert!(store.walk.is_some());
        copy_all(base.path(), killed.path());
        assert!(open(killed.path()).unwrap().walk.is_none());
    }

    fn copy_all(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let path = entry.unwrap().path();
            let target = to.join(path.file_name().unwrap());
            match path.is_dir() {
                true => copy_all(&path, &target),
                false => drop(std::fs::copy(&path, &target).unwrap()),
            }
        }
    }

    /// The check behind goes on until the tree is closed, and what it finds then is as bad as what it finds before: a mark of peace
    /// on top would hide it from the next opening.
    #[test]
    fn damage_that_is_found_while_the_store_closes_leaves_no_mark_of_peace() {
        let rest = |dir: &Path| {
            let cells = FileCells::open(&dir.join("keyring")).unwrap();
            Keyring::open(Box::new(cells), &passphrase()).unwrap().0.checkpoint.rest
        };
        for is_damaged in [true, false] {
            let dir = tempdir().unwrap();
            closed(dir.path());
            let mut store = open(dir.path()).unwrap();
            let proof = Arc::clone(&store.view.proof);
            // A check in the place of the real one, which finds something when the close has begun and looked for it.
            proof.stop();
            if let Some(walk) = store.walk.take() {
                walk.join();
            }
            proof.stopped.store(false, Ordering::Relaxed);
            proof.complete.store(false, Ordering::Release);
            let late = Arc::clone(&proof);
            let walk = thread::spawn(move || {
                while !late.stopped.load(Ordering::Relaxed) {
                    thread::yield_now();
                }
                if is_damaged {
                    late.lock().damage = Some("a part is gone".into());
                }
            });
            store.walk = Some(Walk(Some(walk)));
            let closed = store.close();
            match is_damaged {
                true => assert!(matches!(closed, Err(StoreError::Failed { .. })), "{closed:?}"),
                false => closed.unwrap(),
            }
            assert_eq!(rest(dir.path()).is_none(), is_damaged);
        }
    }
}
