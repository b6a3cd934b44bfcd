//! A store at work in a process of its own, which may be killed, or lose its disk, at any moment.
//!
//! What commit `n` changes follows from `n` alone, so what must be there after it can be told by whoever knows how far the
//! process had got. It tells on its standard error, one line by one write: before each commit, and after each.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use oob_store::backend::{
    Backend, BackendError, Batch, Boundless, Cells, FileCells, Gauge, JournalFile, Journaled,
    KeyRange, Kv, Parts, Reader, SledTree,
};
use oob_store::{Area, Bag, Order, Store, StoreError};
use rand::{Rng, SeedableRng, rngs::StdRng};

use crate::{FAST, open, passphrase};

/// Names the folder to work in; without it the test that is the process has nothing to do.
const DIR: &str = "OOB_WRITER_DIR";
/// Names the [`Kind`].
const KIND: &str = "OOB_WRITER_KIND";

/// Records at most: few enough to compare all of them after each round, enough for sled to split and merge nodes.
const PLACES: u64 = 400;
/// Secrets at most: more than the slot file has room for at first.
const NAMES: u64 = 80;
/// Longest wait for a line of the process, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Load {
    /// Records of a message's size.
    Records,
    /// And secrets.
    Small,
    /// And values that sled puts into files of their own.
    All,
    /// The largest that are sent, with secrets.
    Frames,
}

/// Which store the process works on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The store in a folder, as the daemon has it.
    Folder,
    /// The same without values that sled puts into files of their own: see docs/storage.md, "What is not".
    Cut,
    /// Made by the process itself.
    Made,
    /// Its parts alone, without lock and trial.
    Parts,
    /// The same with sled's own flush instead of our sync: a control.
    Unsynced,
    /// The parts with a journal so short that pieces of it are always on their way to sled.
    Journal,
    /// The same with a journal that is not synced: a control.
    UnsyncedJournal,
    /// The same as [`Self::Journal`], with values that sled puts into files of their own.
    Large,
    /// With the journal that the daemon has, and values that make nodes so large that sled puts them into files of their own.
    Nodes,
    /// A store that acknowledges before it commits: a control.
    Early,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Folder => "folder",
            Self::Cut => "cut",
            Self::Made => "made",
            Self::Parts => "parts",
            Self::Unsynced => "unsynced",
            Self::Journal => "journal",
            Self::UnsyncedJournal => "unsynced-journal",
            Self::Large => "large",
            Self::Nodes => "nodes",
            Self::Early => "early",
        }
    }

    /// What the process writes. The controls of the barrier have records alone: each sync of the slots makes the file system
    /// write its log, and with it most of what sled's file has not written down.
    pub(crate) fn load(self) -> Load {
        match self {
            Self::Parts | Self::Unsynced | Self::UnsyncedJournal => Load::Records,
            Self::Cut | Self::Made | Self::Journal => Load::Small,
            Self::Folder | Self::Early | Self::Large => Load::All,
            Self::Nodes => Load::Frames,
        }
    }

    fn named(name: &str) -> Self {
        let all = [
            Self::Folder,
            Self::Cut,
            Self::Made,
            Self::Parts,
            Self::Unsynced,
            Self::Journal,
            Self::UnsyncedJournal,
            Self::Large,
            Self::Nodes,
            Self::Early,
        ];
        all.into_iter().find(|kind| kind.name() == name).unwrap()
    }
}

/// Opens a store of this kind, or makes its parts if there are none.
pub(crate) fn open_kind(dir: &Path, kind: Kind) -> Result<Store, StoreError> {
    match kind {
        Kind::Folder | Kind::Cut | Kind::Early => open(dir),
        Kind::Made if Store::exists(dir) => open(dir),
        Kind::Made => Store::create(dir, &passphrase(), FAST, crate::rng(1)).map(|o| o.store),
        Kind::Parts
        | Kind::Unsynced
        | Kind::Journal
        | Kind::UnsyncedJournal
        | Kind::Large
        | Kind::Nodes => {
            fs::create_dir_all(dir).unwrap();
            let cells = |name: &str| {
                let path = dir.join(name);
                FileCells::open(&path).or_else(|_| FileCells::create(&path)).unwrap()
            };
            let folder = dir.join("store");
            let tree: Box<dyn Backend> = match kind {
                Kind::Parts => Box::new(SledTree::open(&folder)?),
                Kind::Unsynced => Box::new(Unsynced::open(&folder)?),
                _ => {
                    let tree = Box::new(SledTree::open(&folder)?);
                    let file = JournalFile::open(&folder.join("journal")).unwrap();
                    let file: Box<dyn Cells> = match kind {
                        Kind::UnsyncedJournal => Box::new(Lazy(file)),
                        _ => Box::new(file),
                    };
                    let half = if kind == Kind::Nodes { 2 << 20 } else { 32 << 10 };
                    Box::new(Journaled::open(tree, file, half)?.with_thread())
                }
            };
            let (slots, keyring) = (Box::new(cells("slots")), Box::new(cells("keyring")));
            let parts = Parts { tree, slots, keyring };
            Store::with_backend(parts, &passphrase(), crate::rng(2)).map(|opened| opened.store)
        }
    }
}

/// A file whose sync does nothing.
struct Lazy(JournalFile);

impl Cells for Lazy {
    fn read(&self) -> std::io::Result<Vec<u8>> {
        self.0.read()
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) -> std::io::Result<()> {
        self.0.write(offset, bytes)
    }

    fn sync(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// sled as it comes: what `flush` calls durable.
struct Unsynced(Db);

#[derive(Clone)]
struct Db(sled::Db);

impl Unsynced {
    fn open(folder: &Path) -> Result<Self, BackendError> {
        let config = sled::Config::new().path(folder).flush_every_ms(None);
        config.open().map(|db| Self(Db(db))).map_err(sled_error)
    }
}

fn sled_error(error: sled::Error) -> BackendError {
    BackendError::Damaged(error.to_string())
}

impl Backend for Unsynced {
    fn gauge(&self) -> Arc<dyn Gauge> {
        Arc::new(Boundless)
    }

    fn apply(&mut self, batch: &Batch) -> Result<(), BackendError> {
        let mut all = sled::Batch::default();
        for (key, value) in &batch.writes {
            match value {
                Some(value) => all.insert(key, value),
                None => all.remove(key),
            }
        }
        self.0.0.apply_batch(all).map_err(sled_error)
    }

    fn sync(&mut self) -> Result<(), BackendError> {
        self.0.0.flush().map(drop).map_err(sled_error)
    }

    fn reader(&self) -> Arc<dyn Reader> {
        Arc::new(self.0.clone())
    }

    fn close(&mut self) {}
}

impl Reader for Db {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, BackendError> {
        Ok(self.0.get(key).map_err(sled_error)?.map(|value| value.to_vec()))
    }

    fn scan(&self, range: &KeyRange, reverse: bool, limit: usize) -> Result<Vec<Kv>, BackendError> {
        let found = self.0.range(range.first.as_slice()..=range.last.as_slice());
        let plain = |kv: sled::Result<(sled::IVec, sled::IVec)>| {
            kv.map(|(key, value)| (key.to_vec(), value.to_vec())).map_err(sled_error)
        };
        if reverse {
            found.rev().take(limit).map(plain).collect()
        } else {
            found.take(limit).map(plain).collect()
        }
    }
}

/// What one commit does.
enum Change {
    Put(u64, Vec<u8>),
    Delete(u64),
    PutSecret(Vec<u8>, Vec<u8>),
    DeleteSecret(Vec<u8>),
}

/// Records lie in three bags by their place, one of them under the carry keys.
fn bag(place: u64) -> Bag {
    match place % 3 {
        0 => Bag::new(Area(1), b"talk"),
        1 => Bag::new(Area(2), b"talk"),
        _ => Bag::carry(Area(1), b"post"),
    }
}

/// Returns what commit `number` does; never nothing.
fn changes(number: u64, load: Load) -> Vec<Change> {
    let mut random = StdRng::seed_from_u64(number);
    let mut all = vec![Change::Put(PLACES + number % 3, number.to_be_bytes().to_vec())];
    for _ in 0..random.next_u64() % 8 {
        let place = random.next_u64() % PLACES;
        let name = format!("session/{}", random.next_u64() % NAMES).into_bytes();
        all.push(match random.next_u64() % 20 {
            0..12 => Change::Put(place, filler(&mut random, number, load)),
            12..14 => Change::Delete(place),
            14..19 => {
                let load = if load == Load::Frames { Load::Small } else { load };
                Change::PutSecret(name, filler(&mut random, number, load))
            }
            _ => Change::DeleteSecret(name),
        });
    }
    if load == Load::Records {
        all.retain(|change| matches!(change, Change::Put(..) | Change::Delete(_)));
    }
    all
}

/// Mostly what a message takes; now and then as much as sled puts into a file of its own.
fn filler(random: &mut StdRng, number: u64, load: Load) -> Vec<u8> {
    let len = match random.next_u64() % 300 {
        0 if load == Load::All => 300_000,
        _ if load == Load::Frames => 20_000 + random.next_u64() % 40_000,
        _ => random.next_u64() % 1_500,
    };
    let mut value = number.to_be_bytes().to_vec();
    value.resize(8 + usize::try_from(len).unwrap(), random.next_u64() as u8);
    value
}

/// Puts the changes of commit `number` into the pending batch.
pub(crate) fn put(store: &mut Store, number: u64, load: Load) {
    for change in changes(number, load) {
        match change {
            Change::Put(place, value) => store.put(&bag(place), place, &value),
            Change::Delete(place) => store.delete(&bag(place), place),
            Change::PutSecret(name, value) => store.put_secret(&name, &value),
            Change::DeleteSecret(name) => store.delete_secret(&name),
        }
    }
}

/// What a store holds after so many commits.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    /// The commits.
    pub(crate) number: u64,
    load: Load,
    records: BTreeMap<u64, Vec<u8>>,
    secrets: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Known {
    /// An empty store.
    pub(crate) fn nothing(load: Load) -> Self {
        Self { number: 0, load, records: BTreeMap::new(), secrets: BTreeMap::new() }
    }

    /// Goes on to a later commit.
    pub(crate) fn advance(&mut self, to: u64) {
        while self.number < to {
            self.number += 1;
            for change in changes(self.number, self.load) {
                match change {
                    Change::Put(place, value) => drop(self.records.insert(place, value)),
                    Change::Delete(place) => drop(self.records.remove(&place)),
                    Change::PutSecret(name, value) => drop(self.secrets.insert(name, value)),
                    Change::DeleteSecret(name) => drop(self.secrets.remove(&name)),
                }
            }
        }
    }

    /// Says what a store holds that it should not, or lacks: every record and every secret is read.
    pub(crate) fn difference(&self, store: &Store) -> Result<(), String> {
        if store.commit_number() != self.number {
            return Err(format!("commit {} instead of {}", store.commit_number(), self.number));
        }
        let mut found = BTreeMap::new();
        for class in 0..3 {
            let all = store.scan(&bag(class), .., Order::Ascending, usize::MAX);
            found.extend(all.map_err(|error| error.to_string())?);
        }
        if found != self.records {
            let (found, expected) = (found.len(), self.records.len());
            return Err(format!("{found} records that are not the {expected} expected"));
        }
        let names = store.secret_names(b"");
        if !names.iter().eq(self.secrets.keys()) {
            let (found, expected) = (names.len(), self.secrets.len());
            return Err(format!("{found} secrets that are not the {expected} expected"));
        }
        for (name, value) in &self.secrets {
            let secret = store.secret(name).map_err(|error| error.to_string())?;
            if secret.is_none_or(|secret| *secret != *value) {
                return Err(format!("{} is another", String::from_utf8_lossy(name)));
            }
        }
        Ok(())
    }
}

/// How far a process had got.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Told {
    /// The commit it found; none if it did not get to open the store.
    pub(crate) opened: Option<u64>,
    /// The last commit it began.
    pub(crate) begun: u64,
    /// The last commit it acknowledged.
    pub(crate) acknowledged: u64,
    /// Why it ended by itself.
    pub(crate) failed: Option<String>,
}

impl Told {
    fn take(&mut self, line: &str) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let number = || rest.parse::<u64>().unwrap();
        match word {
            "open" => {
                // What the process before it acknowledged, or the commit it was in the middle of.
                let (found, known) = (number(), self.acknowledged);
                assert!(
                    (known..=known + 1).contains(&found),
                    "{found} found, {known} acknowledged"
                );
                (self.opened, self.begun, self.acknowledged) = (Some(found), found, found);
            }
            "try" => self.begun = number(),
            "ack" => self.acknowledged = number(),
            "fail" => self.failed = Some(rest.to_owned()),
            // What a library prints.
            _ => {}
        }
    }

    /// Says whether it ended in the middle of a commit.
    pub(crate) fn is_between(&self) -> bool {
        self.begun > self.acknowledged
    }
}

/// The process.
pub(crate) struct Writer {
    child: Child,
    lines: Receiver<String>,
    reader: Option<JoinHandle<()>>,
    told: Told,
}

impl Writer {
    /// Starts it. `known` is how far the store had got as far as anybody was told.
    pub(crate) fn start(dir: &Path, kind: Kind, known: u64) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .args(["--exact", "writer::the_process", "--nocapture"])
            .env(DIR, dir)
            .env(KIND, kind.name())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let pipe = child.stderr.take().unwrap();
        // Read behind the process's back, so that it never waits for us in the middle of a commit.
        let (sender, lines) = sync_channel(4_096);
        let reader = std::thread::spawn(move || {
            // A line without an end was never finished; `lines` would return it.
            let mut pipe = BufReader::new(pipe);
            let mut line = Vec::new();
            while pipe.read_until(b'\n', &mut line).is_ok_and(|len| len > 0) {
                if line.pop_if(|last| *last == b'\n').is_some() {
                    let _ = sender.send(String::from_utf8_lossy(&line).into_owned());
                }
                line.clear();
            }
        });
        let told = Told { begun: known, acknowledged: known, ..Told::default() };
        Self { child, lines, reader: Some(reader), told }
    }

    /// Waits until it acknowledged so many commits, and then for a moment more, or until it ends.
    pub(crate) fn wait(&mut self, acks: u64, moment: Duration) {
        let deadline = Instant::now() + PATIENCE;
        let last = self.told.acknowledged.saturating_add(acks);
        while self.told.acknowledged < last || (acks > 0 && self.told.opened.is_none()) {
            match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(line) => self.told.take(&line),
                Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {
                    panic!("not a word for a minute: {:?}", self.told)
                }
            }
        }
        let until = Instant::now() + moment;
        while let Ok(line) =
            self.lines.recv_timeout(until.saturating_duration_since(Instant::now()))
        {
            self.told.take(&line);
        }
    }

    /// Returns what it told so far.
    pub(crate) fn told(&mut self) -> Told {
        while let Ok(line) = self.lines.try_recv() {
            self.told.take(&line);
        }
        self.told.clone()
    }

    /// Kills it with -9, if it has not ended, and returns all it told.
    pub(crate) fn kill(mut self) -> Told {
        self.child.kill().unwrap();
        self.finish()
    }

    /// Waits for its end and returns all it told.
    pub(crate) fn ended(mut self) -> Told {
        self.wait(u64::MAX, Duration::ZERO);
        self.finish()
    }

    fn finish(&mut self) -> Told {
        while let Ok(line) = self.lines.recv_timeout(PATIENCE) {
            self.told.take(&line);
        }
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        self.child.wait().unwrap();
        self.told.clone()
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn tell(line: &str) {
    // One write, so that a kill leaves the line whole or not at all.
    std::io::stderr().write_all(format!("{line}\n").as_bytes()).unwrap();
}

/// Not a test: what [`Writer::start`] starts.
#[test]
fn the_process() {
    let (Some(dir), Ok(kind)) = (env::var_os(DIR).map(PathBuf::from), env::var(KIND)) else {
        return;
    };
    let kind = Kind::named(&kind);
    let mut store = match open_kind(&dir, kind) {
        Ok(store) => store,
        Err(error) => return tell(&format!("fail {error}")),
    };
    let first = store.commit_number();
    tell(&format!("open {first}"));
    for number in first + 1.. {
        tell(&format!("try {number}"));
        if kind == Kind::Early {
            tell(&format!("ack {number}"));
        }
        put(&mut store, number, kind.load());
        if let Err(error) = store.commit() {
            return tell(&format!("fail {error}"));
        }
        if kind != Kind::Early {
            tell(&format!("ack {number}"));
        }
        // As often as a daemon that is not always busy.
        if number.is_multiple_of(7)
            && let Err(error) = store.idle()
        {
            return tell(&format!("fail {error}"));
        }
    }
}
