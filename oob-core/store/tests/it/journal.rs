//! The journal: its batches against a plain map, with the power cut at every write, and files that are not as they were left.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::path::Path;

use oob_store::backend::{Backend, BackendError, Batch, CrashDisk, Journaled, KeyRange};
use oob_store::{Area, Bag, Store, StoreError};
use proptest::prelude::*;
use rand::Rng;
use tempfile::{TempDir, tempdir};

use crate::{contents, copy, create, on, open, rng};

type Records = BTreeMap<Vec<u8>, Vec<u8>>;

fn tree(disk: &CrashDisk) -> Box<dyn Backend> {
    disk.parts().tree
}

fn all(tree: &dyn Backend) -> Records {
    tree.reader().scan(&everything(), false, usize::MAX).unwrap().into_iter().collect()
}

fn everything() -> KeyRange {
    KeyRange { first: Vec::new(), last: vec![0xff; 32] }
}

fn key(number: u64) -> Vec<u8> {
    [&[7; 16][..], &number.to_be_bytes()].concat()
}

/// A few writes; now and then so many that they go past the journal.
fn draw(random: &mut impl Rng) -> Batch {
    let many = random.next_u64().is_multiple_of(25);
    let count = if many { 40 } else { 1 + random.next_u64() % 5 };
    let mut writes = BTreeMap::new();
    for _ in 0..count {
        let value = match random.next_u64() % 4 {
            0 => None,
            _ => Some(vec![random.next_u64() as u8; (random.next_u64() % 600) as usize]),
        };
        writes.insert(key(random.next_u64() % 60), value);
    }
    Batch::of(writes)
}

fn write(records: &mut Records, batch: &Batch) {
    for (key, value) in &batch.writes {
        match value {
            Some(value) => records.insert(key.to_vec(), value.to_vec()),
            None => records.remove(&**key),
        };
    }
}

/// Works until the power fails; returns what was durable and what would be had the last batch been.
fn work(
    tree: &mut dyn Backend,
    random: &mut impl Rng,
    mut records: Records,
    rounds: u32,
) -> (Records, Records) {
    for _ in 0..rounds {
        let batch = draw(random);
        let mut next = records.clone();
        write(&mut next, &batch);
        if tree.apply(&batch).and_then(|()| tree.sync()).is_err() {
            return (records, next);
        }
        records = next;
        let quiet = match random.next_u64() % 12 {
            0..3 => tree.idle(),
            3 => tree.settle(),
            _ => Ok(()),
        };
        if quiet.is_err() {
            break;
        }
    }
    (records.clone(), records)
}

/// Lives one after the other on one disk, each cut off at a write that chance has chosen: in batches, in pieces on their way to
/// the tree beneath, between the halves, and while it is opened. Leave out the sync of the journal or that of a piece, and
/// this fails.
#[test]
fn every_batch_is_there_after_a_power_cut_at_any_write() {
    cut_at_any_write(tree);
}

/// The same with the thread that production has, whose writes fall where they fall: what it shows differs from run to run.
#[test]
fn every_batch_is_there_after_a_power_cut_at_any_write_of_the_thread() {
    cut_at_any_write(|disk| {
        let tree = Journaled::open(disk.bare_tree(), disk.journal(), 16 << 10).unwrap();
        Box::new(tree.with_thread())
    });
}

fn cut_at_any_write(tree: impl Fn(&CrashDisk) -> Box<dyn Backend>) {
    let mut random = rng(31);
    let (mut lost, mut kept) = (0, 0);
    for cut in 0..300 {
        let disk = CrashDisk::journaled();
        let mut records = Records::new();
        for life in 0..4 {
            disk.cut_after(if life == 0 { cut } else { random.next_u64() % 120 });
            let mut it = tree(&disk);
            let (durable, next) = match it.ready() {
                Ok(()) => work(&mut *it, &mut random, records.clone(), 200),
                Err(_) => (records.clone(), records),
            };
            drop(it);
            disk.power_cut(&mut random);
            records = all(&*tree(&disk));
            assert!(records == durable || records == next, "cut {cut}, life {life}");
            if durable != next {
                *(if records == next { &mut kept } else { &mut lost }) += 1;
            }
        }
    }
    // The control: batches that were not durable do get lost.
    assert!(lost > 100 && kept > 50, "{lost} lost, {kept} kept");
}

/// What a killed process wrote and never synced is read by the next; it must be durable before a key is destroyed for it.
#[test]
fn what_was_read_from_the_journal_is_durable_before_anything_is_changed() {
    let found = |sync: bool, seed: u64| {
        let disk = CrashDisk::journaled();
        let mut it = tree(&disk);
        it.ready().unwrap();
        let batch = Batch::of([(key(1), Some(b"not synced".to_vec()))]);
        it.apply(&batch).unwrap();
        drop(it);
        let mut next = tree(&disk);
        assert_eq!(all(&*next).len(), 1, "the next process sees it");
        if sync {
            next.ready().unwrap();
        }
        drop(next);
        disk.power_cut(&mut rng(seed));
        all(&*tree(&disk)).len()
    };
    assert_eq!((0..20).map(|seed| found(true, seed)).min(), Some(1));
    // The control: without it, it may go.
    assert_eq!((0..20).map(|seed| found(false, seed)).min(), Some(0));
}

/// A batch that lies in the journal, and one in the other half, and one in the tree: the newest counts, in both directions,
/// and a deletion hides what lies beneath it.
#[test]
fn scans_lay_the_journal_over_the_tree() {
    let disk = CrashDisk::journaled();
    let mut it = tree(&disk);
    it.ready().unwrap();
    let mut random = rng(5);
    let mut records = Records::new();
    for round in 0..400 {
        let batch = draw(&mut random);
        write(&mut records, &batch);
        it.apply(&batch).unwrap();
        it.sync().unwrap();
        if round % 50 == 0 {
            it.idle().unwrap();
        }
        let (a, b) = (random.next_u64() % 60, random.next_u64() % 60);
        let range = KeyRange { first: key(a), last: key(b) };
        let limit = (random.next_u64() % 8) as usize;
        let mut expected: Vec<_> =
            records.iter().filter(|(key, _)| **key >= range.first && **key <= range.last).collect();
        let reader = it.reader();
        for reverse in [false, true] {
            let found = reader.scan(&range, reverse, limit).unwrap();
            assert!(found.iter().map(|(k, v)| (k, v)).eq(expected.iter().take(limit).copied()));
            expected.reverse();
        }
        assert_eq!(reader.get(&key(a)).unwrap().as_ref(), records.get(&key(a)));
        assert_eq!(all(&*it), records);
    }
}

/// The place of the journal is kept in the tree, and nobody sees it there.
#[test]
fn the_trees_own_record_is_seen_by_nobody() {
    let disk = CrashDisk::journaled();
    let mut it = tree(&disk);
    it.ready().unwrap();
    it.apply(&Batch::of([(key(1), Some(vec![1]))])).unwrap();
    it.settle().unwrap();
    it.close();
    assert!(matches!(it.reader().get(&key(1)), Err(BackendError::Closed)));
    assert_eq!(all(&*tree(&disk)).len(), 1);
    assert_eq!(all(&*disk.bare_tree()).len(), 2, "control: it is there");
    assert_eq!(tree(&disk).reader().get(b"journal").unwrap(), None);
}

/// While there is room for a batch, but not for it and all that waits, what waits is written down first; where there is room
/// for neither the batch is refused, nothing is lost, and what was deleted stays so.
#[test]
fn a_full_disk_refuses_batches_while_the_journal_can_still_be_written_down() {
    let disk = CrashDisk::journaled();
    let mut store = on(&disk, 1).unwrap();
    let bag = Bag::new(Area(1), b"talk");
    for seq in 0..10 {
        store.put(&bag, seq, &[1; 300]);
        store.commit().unwrap();
    }
    store.delete(&bag, 3);
    store.commit().unwrap();
    let beneath = disk.bare_tree().reader().scan(&everything(), false, 100).unwrap().len();
    // Enough for what is left of all writes, not for each of them.
    disk.set_free(Some(8_000));
    store.put(&bag, 10, &[1; 300]);
    store.commit().unwrap();
    let now = disk.bare_tree().reader().scan(&everything(), false, 100).unwrap().len();
    assert!(now > beneath, "{now} records in the tree, {beneath} before");
    disk.set_free(Some(200));
    store.put(&bag, 11, &[1; 300]);
    let steps = disk.steps();
    assert!(matches!(store.commit(), Err(StoreError::Full { .. })));
    assert_eq!(disk.steps(), steps, "a refused commit writes nothing");
    store.idle().unwrap();
    // Closed on the full disk, and cut off: the journal has it all.
    store.close().unwrap();
    disk.power_cut(&mut rng(1));
    disk.set_free(None);
    let mut store = on(&disk, 2).unwrap();
    assert_eq!(store.last_seq(&bag).unwrap(), Some(10));
    assert_eq!(store.get(&bag, 3).unwrap(), None);
    store.put(&bag, 11, &[1; 300]);
    store.commit().unwrap();
}

/// What waits in the journal has its place there. On a disk that has no room to write it down, what is put is refused, and what
/// frees room is not.
#[test]
fn a_full_disk_takes_deletions_although_the_journal_cannot_be_written_down() {
    let disk = CrashDisk::journaled();
    let mut store = on(&disk, 1).unwrap();
    for seq in 0..10 {
        store.put(&talk(), seq, &[1; 300]);
        store.commit().unwrap();
    }
    disk.set_free(Some(700));
    for seq in 0..5 {
        store.delete(&talk(), seq);
        store.commit().unwrap();
    }
    store.put(&talk(), 10, b"x");
    assert!(matches!(store.commit(), Err(StoreError::Full { .. })));
    store.discard();
    // The control: not even that is taken on trust.
    disk.set_free(Some(100));
    store.delete(&talk(), 5);
    assert!(matches!(store.commit(), Err(StoreError::Full { .. })));
    drop(store);
    disk.power_cut(&mut rng(1));
    disk.set_free(None);
    let store = on(&disk, 2).unwrap();
    let left = store.scan(&talk(), .., oob_store::Order::Ascending, 99).unwrap();
    assert!(left.into_iter().map(|(seq, _)| seq).eq(5..10));
}

/// On a full disk what was put aside waits for as long as deletions have a place without that; only where they have none it is
/// written down, with the room that was left for them.
#[test]
fn what_can_wait_leaves_the_room_that_deletions_need() {
    let disk = CrashDisk::journaled();
    let mut it = tree(&disk);
    it.ready().unwrap();
    let mut end = 0;
    while !it.needs_idle() {
        it.apply(&Batch::of([(key(end), Some(vec![1; 900]))])).unwrap();
        it.sync().unwrap();
        end += 1;
        assert!(end < 100, "no half was full");
    }
    let room = 60_000;
    disk.set_free(Some(room));
    it.leave(room);
    let beneath = || disk.bare_tree().reader().scan(&everything(), false, 100).unwrap().len();
    let before = beneath();
    assert!(matches!(it.idle(), Err(BackendError::Full { .. })));
    assert!(matches!(it.settle(), Err(BackendError::Full { .. })));
    let delete = |it: &mut Box<dyn Backend>, number: u64| {
        it.room_beside(500).unwrap();
        it.apply(&Batch::of([(key(number), None::<Vec<u8>>)])).unwrap();
        it.sync().unwrap();
        assert!(!it.needs_idle() || matches!(it.idle(), Err(BackendError::Full { .. })));
    };
    (0..10).for_each(|number| delete(&mut it, number));
    assert_eq!(beneath(), before, "nothing had to be written down");
    // More than the half in use has a place for, one sector each.
    (0..30).for_each(|number| delete(&mut it, number % end));
    assert!(beneath() > before, "now it had to");
    // The control: what is left to nobody is used.
    it.leave(0);
    it.settle().unwrap();
    assert_eq!(all(&*it).len(), 0);
}

/// A store made before there was a journal is opened, gets one, and can be cut off anywhere on the way.
#[test]
fn a_store_without_a_journal_gets_one() {
    let bag = Bag::new(Area(1), b"talk");
    for cut in 0..20 {
        let before = CrashDisk::new();
        let mut store = on(&before, 1).unwrap();
        store.put(&bag, 1, b"made before");
        store.put_secret(b"session", b"made before");
        store.commit().unwrap();
        store.close().unwrap();
        let disk = before.with_journal();
        disk.cut_after(cut);
        drop(on(&disk, 2));
        disk.power_cut(&mut rng(cut));
        let mut store = on(&disk, 3).unwrap();
        assert_eq!(store.get(&bag, 1).unwrap().unwrap(), b"made before");
        assert_eq!(store.secret(b"session").unwrap().unwrap().as_slice(), b"made before");
        store.put(&bag, 2, b"since");
        store.commit().unwrap();
        assert_eq!(all(&*disk.bare_tree()).len(), 3, "the newest is in the journal alone");
        drop(store);
        assert_eq!(on(&disk, 4).unwrap().get(&bag, 2).unwrap().unwrap(), b"since");
    }
}

fn talk() -> Bag {
    Bag::new(Area(1), b"talk")
}

/// A store of thirty commits as a kill leaves it, most of them in the journal.
fn killed() -> TempDir {
    let (base, other) = (tempdir().unwrap(), tempdir().unwrap());
    let mut store = create(base.path());
    for seq in 0..30 {
        store.put(&talk(), seq, &[seq as u8; 300]);
        store.put_secret(b"session", &seq.to_be_bytes());
        store.commit().unwrap();
    }
    copy(base.path(), other.path());
    other
}

fn journal(home: &Path) -> std::path::PathBuf {
    home.join("store/journal")
}

#[track_caller]
fn refusal(home: &Path) -> StoreError {
    let before = contents(home);
    let error = open(home).expect_err("this store must not open");
    assert!(contents(home) == before, "{error}, and files were changed");
    error
}

/// Where the slots or the keyring know of a commit, a journal that lacks it is found out, and nothing is changed.
#[test]
fn a_journal_that_is_gone_cut_or_damaged_is_noticed() {
    let base = killed();
    let len = fs::metadata(journal(base.path())).unwrap().len();
    assert_eq!(len, 4 << 20);
    let bytes = fs::read(journal(base.path())).unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() as u64 + 1;
    assert!(used > 20_000, "{used} bytes in use");
    type Spoil<'a> = (&'a str, &'a dyn Fn(&Path));
    let spoil: [Spoil<'_>; 5] = [
        ("gone", &|path| fs::remove_file(path).unwrap()),
        ("empty", &|path| fs::write(path, b"").unwrap()),
        ("cut", &|path| {
            OpenOptions::new().write(true).open(path).unwrap().set_len(used / 2).unwrap();
        }),
        ("blank", &|path| {
            let mut bytes = fs::read(path).unwrap();
            bytes[4_096..8_192].fill(0);
            fs::write(path, bytes).unwrap();
        }),
        ("the last byte", &|path| {
            let mut bytes = fs::read(path).unwrap();
            bytes[used as usize - 1] ^= 1;
            fs::write(path, bytes).unwrap();
        }),
    ];
    for (what, spoil) in spoil {
        let home = tempdir().unwrap();
        copy(base.path(), home.path());
        spoil(&journal(home.path()));
        let error = refusal(home.path());
        let lost = matches!(error, StoreError::RolledBack { part: "records", expected: 30, .. })
            || matches!(error, StoreError::Damaged { .. });
        assert!(lost, "{what}: {error}");
    }
    // The control.
    assert_eq!(open(base.path()).unwrap().last_seq(&talk()).unwrap(), Some(29));
}

/// The journal of another store, or of this one at another time, is not laid over the records.
#[test]
fn a_journal_from_elsewhere_is_noticed_or_does_no_harm() {
    let (mine, other, earlier) = (killed(), tempdir().unwrap(), tempdir().unwrap());
    let opened = Store::create(other.path(), &crate::passphrase(), crate::FAST, rng(99)).unwrap();
    let mut store = opened.store;
    for seq in 0..50 {
        store.put(&talk(), seq, b"theirs");
        store.commit().unwrap();
    }
    copy(mine.path(), earlier.path());
    let put = |from: &Path, to: &Path| fs::copy(journal(from), journal(to)).unwrap();
    let home = tempdir().unwrap();
    copy(mine.path(), home.path());
    put(other.path(), home.path());
    refusal(home.path());

    // Closed in peace nothing is in it that the records lack.
    let mut store = open(mine.path()).unwrap();
    store.put(&talk(), 30, b"later");
    store.commit().unwrap();
    store.close().unwrap();
    let home = tempdir().unwrap();
    copy(mine.path(), home.path());
    put(earlier.path(), home.path());
    assert_eq!(open(home.path()).unwrap().last_seq(&talk()).unwrap(), Some(30));
    // Of later commits than these records know of: who can say that they are not lost.
    put(other.path(), home.path());
    assert!(matches!(refusal(home.path()), StoreError::Damaged { .. }));
}

/// Damage to what was durable, and then a power cut that takes what only the slots in memory knew: before, the journal ended there
/// and the rest was gone without a word, where no commit since the last checkpoint had a secret.
#[test]
fn damage_in_the_journal_is_named_although_nothing_else_knows_of_what_it_held() {
    let disk = CrashDisk::journaled();
    let mut store = on(&disk, 1).unwrap();
    let mark = disk.parts().slots.read().unwrap()[..64].to_vec();
    for seq in 0..12 {
        store.put(&talk(), seq, &[1; 300]);
        store.commit().unwrap();
    }
    let disk = disk.image();
    // The cut takes what was not synced: how far the store had got.
    let mut slots = disk.parts().slots;
    slots.write(0, &mark).unwrap();
    slots.sync().unwrap();
    let bytes = disk.journal().read().unwrap();
    let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    // The making of the store, and two sectors for each of these.
    assert_eq!(used.next_multiple_of(512), 512 + 12 * 1_024);
    let (mut named, mut shorter) = (0, 0);
    for number in 0..12 {
        let image = disk.image();
        let mut journal = image.journal();
        journal.write((512 + number * 1_024 + 100) as u64, &[0xff; 3]).unwrap();
        journal.sync().unwrap();
        match on(&image, 2) {
            Err(StoreError::Damaged { .. }) => named += 1,
            Ok(store) => {
                // The last one cannot be told from one that was never finished.
                assert_eq!(store.last_seq(&talk()).unwrap(), Some(10));
                shorter += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((named, shorter), (11, 1));
    assert_eq!(on(&disk, 2).unwrap().last_seq(&talk()).unwrap(), Some(11), "control");
}

/// A tree that lost the end of its own log could be mended from the journal, and is not to be relied on.
#[test]
fn a_tree_that_went_back_behind_its_journal_is_noticed() {
    let disk = CrashDisk::journaled();
    let beneath =
        |disk: &CrashDisk| disk.bare_tree().reader().scan(&everything(), false, 100).unwrap();
    let mut store = on(&disk, 1).unwrap();
    store.put(&talk(), 1, b"one");
    store.commit().unwrap();
    store.close().unwrap();
    let before = beneath(&disk);
    let mut store = on(&disk, 2).unwrap();
    store.put(&talk(), 2, b"two");
    store.commit().unwrap();
    store.close().unwrap();
    let now = beneath(&disk);
    assert!(now.len() > before.len());
    let gone = now.into_iter().map(|(key, _)| key);
    let gone = gone.filter(|key| !before.iter().any(|(old, _)| old == key));
    let writes: Vec<_> = gone
        .map(|key| (key, None))
        .chain(before.iter().cloned().map(|(key, value)| (key, Some(value))))
        .collect();
    let image = disk.image();
    let mut tree = image.bare_tree();
    tree.apply(&Batch::of(writes)).unwrap();
    tree.sync().unwrap();
    let error = on(&image, 3).unwrap_err().to_string();
    assert!(error.contains("were written"), "{error}");
    // The control.
    assert_eq!(on(&disk, 3).unwrap().last_seq(&talk()).unwrap(), Some(2));
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Any bytes in the place of the journal: none of them is believed, none of them does harm.
    #[test]
    fn any_bytes_as_journal_are_nothing(
        bytes in proptest::collection::vec(any::<u8>(), 0..2_000),
        at in 0..20_000_u64,
    ) {
        let disk = CrashDisk::journaled();
        let mut it = tree(&disk);
        it.ready().unwrap();
        let batch = Batch::of([(key(1), Some(vec![1; 100]))]);
        it.apply(&batch).unwrap();
        it.settle().unwrap();
        disk.journal().write(at, &bytes).unwrap();
        prop_assert_eq!(all(&*tree(&disk)).len(), 1);
    }

    /// A record with any bit flipped is not read. The last one may have been torn; one before others was durable, and is missed.
    #[test]
    fn a_flipped_bit_ends_the_journal_or_is_missed(bit in 0..8_u8, at in 0..1_700_usize) {
        let disk = CrashDisk::journaled();
        let mut it = tree(&disk);
        it.ready().unwrap();
        for number in 0..4 {
            it.apply(&Batch::of([(key(number), Some(vec![1; 180]))])).unwrap();
        }
        let mut cells = disk.journal();
        let bytes = cells.read().unwrap();
        let used = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
        let len = used - 3 * 512;
        prop_assert!(len < 512, "each begins at a sector");
        cells.write(at as u64, &[bytes[at] ^ 1 << bit]).unwrap();
        let found = disk.try_parts().map(|parts| all(&*parts.tree).len());
        match (at / 512, at % 512 < len) {
            (0..3, true) => prop_assert!(matches!(found, Err(BackendError::Damaged(_)))),
            (3, true) => prop_assert_eq!(found.unwrap(), 3),
            _ => prop_assert_eq!(found.unwrap(), 4, "behind a record"),
        }
    }
}
