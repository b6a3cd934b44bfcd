//! Snapshots, quarantine, backups: what is put back, and what is never touched.

use std::fs;
use std::path::{Path, PathBuf};

use oob_store::{
    About, Area, Bag, CopyKind, CopyWriter, Draft, Order, Passphrase, Store, StoreError,
};
use tempfile::TempDir;

use crate::{FAST, contents, copy, create, open, passphrase, rng};

fn bag() -> Bag {
    Bag::new(Area(1), b"ward-3")
}

fn carried() -> Bag {
    Bag::carry(Area(2), b"")
}

fn filled(dir: &Path, records: u64) -> Store {
    let mut store = create(dir);
    for n in 0..records {
        store.put(&bag(), n, format!("message {n}").as_bytes());
    }
    store.put(&carried(), 7, b"an envelope");
    store.put_secret(b"session/sam", b"a ratchet");
    store.commit().unwrap();
    store
}

fn all(store: &Store) -> Vec<(u64, Vec<u8>)> {
    store.scan(&bag(), .., Order::Ascending, usize::MAX).unwrap()
}

fn fill(draft: &mut Draft) {
    let (moment, to) = draft.parts();
    for (seq, value) in moment.page(&bag(), 0, usize::MAX).unwrap() {
        to.put(&bag(), seq, &value).unwrap();
    }
    to.put(&carried(), 7, b"an envelope").unwrap();
}

fn snapshot(store: &mut Store) {
    let mut draft = store.begin_snapshot(1_000, "Dana").unwrap().unwrap();
    fill(&mut draft);
    draft.keep().unwrap();
}

/// Breaks the records of a store so that opening says so.
fn break_records(dir: &Path) {
    let db = dir.join("store/db");
    let mut bytes = fs::read(&db).unwrap();
    for at in (0..bytes.len()).step_by(97) {
        bytes[at] ^= 0x40;
    }
    fs::write(&db, bytes).unwrap();
    // A disk's clock goes in steps of some milliseconds: damage within the step of the close would look as if nobody had written.
    let file = fs::File::options().write(true).open(&db).unwrap();
    file.set_modified(std::time::SystemTime::now() + std::time::Duration::from_secs(1)).unwrap();
}

fn backup(store: &Store, to: &Path) -> u64 {
    let about = About { written_ms: 5, commit: store.commit_number(), owner: "Dana".into() };
    let file = fs::File::create(to).unwrap();
    let mut writer = CopyWriter::backup(file, &paper(), FAST, about, &mut rng(9)).unwrap();
    for (seq, value) in all(store) {
        writer.put(&bag(), seq, &value).unwrap();
    }
    writer.finish().unwrap().1.records
}

fn paper() -> Passphrase {
    Passphrase::new("written on paper in the safe")
}

#[test]
fn a_damaged_store_is_put_aside_and_the_snapshot_takes_its_place() {
    let dir = TempDir::new().unwrap();
    let mut store = filled(dir.path(), 100);
    snapshot(&mut store);
    store.put(&bag(), 100, b"after the snapshot");
    store.commit().unwrap();
    store.close().unwrap();
    break_records(dir.path());
    let before = contents(dir.path());
    assert!(open(dir.path()).is_err());

    let restored = Store::recover(dir.path(), &passphrase(), rng(3)).unwrap();
    assert_eq!(restored.contents.kind, CopyKind::Snapshot);
    assert_eq!(restored.contents.about.owner, "Dana");
    assert_eq!(restored.contents.records, 101);
    // Not a byte of what was there is lost.
    let aside = contents(&restored.quarantine.unwrap());
    for part in ["keyring", "slots", "store/db"] {
        assert_eq!(aside[part].1, before[part].1, "{part}");
    }
    let store = open(dir.path()).unwrap();
    assert_eq!(all(&store).len(), 100);
    assert_eq!(store.get(&carried(), 7).unwrap().unwrap(), b"an envelope");
    assert!(store.secret(b"session/sam").unwrap().is_none(), "a ratchet was put back");
    let kept = Store::kept(dir.path());
    assert_eq!((kept.snapshots.len(), kept.quarantined.len()), (1, 1));
    for (name, (mode, _)) in contents(dir.path()) {
        assert_eq!(mode & 0o077, 0, "{name} is open to others");
    }
}

#[test]
fn a_lost_keyring_is_no_obstacle_to_a_snapshot() {
    let dir = TempDir::new().unwrap();
    let mut store = filled(dir.path(), 3);
    snapshot(&mut store);
    store.close().unwrap();
    fs::remove_file(dir.path().join("keyring")).unwrap();
    assert!(matches!(open(dir.path()), Err(StoreError::Damaged { .. })));
    let wrong = Store::recover(dir.path(), &Passphrase::new("another"), rng(3));
    assert!(matches!(wrong, Err(StoreError::WrongPassphrase)), "{wrong:?}");
    Store::recover(dir.path(), &passphrase(), rng(3)).unwrap();
    assert_eq!(all(&open(dir.path()).unwrap()).len(), 3);
}

#[test]
fn a_snapshot_from_before_a_change_of_passphrase_still_serves() {
    let dir = TempDir::new().unwrap();
    let mut store = filled(dir.path(), 3);
    snapshot(&mut store);
    let new = Passphrase::new("a new one");
    store.change_passphrase(&new).unwrap();
    store.close().unwrap();
    break_records(dir.path());
    Store::recover(dir.path(), &new, rng(3)).unwrap();
    let opened = Store::open(dir.path(), &new, rng(4)).unwrap();
    assert_eq!(all(&opened.store).len(), 3);
}

#[test]
fn two_snapshots_are_kept_and_the_older_serves_where_the_newer_is_damaged() {
    let dir = TempDir::new().unwrap();
    let mut store = filled(dir.path(), 2);
    for n in 2..6 {
        store.put(&bag(), n, b"more");
        store.commit().unwrap();
        snapshot(&mut store);
    }
    store.close().unwrap();
    let kept = Store::kept(dir.path()).snapshots;
    assert_eq!(kept.iter().map(|snapshot| snapshot.number).collect::<Vec<_>>(), [4, 3]);
    let mut bytes = fs::read(&kept[0].path).unwrap();
    let at = bytes.len() - 5;
    bytes[at] ^= 1;
    fs::write(&kept[0].path, bytes).unwrap();
    break_records(dir.path());
    let restored = Store::recover(dir.path(), &passphrase(), rng(3)).unwrap();
    assert_eq!(restored.skipped.len(), 1, "{:?}", restored.skipped);
    assert_eq!(all(&open(dir.path()).unwrap()).len(), 5);
}

#[test]
fn without_a_snapshot_nothing_is_moved() {
    let dir = TempDir::new().unwrap();
    filled(dir.path(), 2).close().unwrap();
    break_records(dir.path());
    let before = contents(dir.path());
    let refused = Store::recover(dir.path(), &passphrase(), rng(3));
    assert!(matches!(refused, Err(StoreError::NoSnapshot { .. })), "{refused:?}");
    assert_eq!(contents(dir.path()), before);
}

#[test]
fn a_snapshot_that_could_not_be_written_leaves_the_last_one() {
    let dir = TempDir::new().unwrap();
    let mut store = filled(dir.path(), 2);
    snapshot(&mut store);
    let mut draft = store.begin_snapshot(1, "Dana").unwrap().unwrap();
    draft.parts().1.put(&bag(), 1, b"half").unwrap();
    drop(draft);
    assert_eq!(Store::kept(dir.path()).snapshots.len(), 1);
    assert_eq!(in_snapshots(dir.path()), 1, "a draft was left");
}

fn in_snapshots(dir: &Path) -> usize {
    fs::read_dir(dir.join("snapshots")).unwrap().count()
}

/// Who writes it may be anywhere in it, also in its sync: whoever closes the store waits for nothing, and nothing appears
/// under its name afterwards, when another process may have the home.
#[test]
fn a_snapshot_that_is_stopped_is_not_there_and_does_not_come() {
    let dir = TempDir::new().unwrap();
    let mut store = filled(dir.path(), 2);
    let mut draft = store.begin_snapshot(1, "Dana").unwrap().unwrap();
    fill(&mut draft);
    let stop = draft.stop();
    assert_eq!(in_snapshots(dir.path()), 1);
    stop.stop();
    assert_eq!(in_snapshots(dir.path()), 0);
    assert!(matches!(stop.check(), Err(StoreError::GivenUp { .. })));
    assert!(matches!(draft.keep(), Err(StoreError::GivenUp { .. })));
    assert_eq!(in_snapshots(dir.path()), 0);
    // Two at once: the first ends with the moment it is of.
    let mut earlier = store.begin_snapshot(1, "Dana").unwrap().unwrap();
    let mut later = store.begin_snapshot(1, "Dana").unwrap().unwrap();
    assert!(matches!(earlier.parts().0.page(&bag(), 0, 1), Err(StoreError::GivenUp { .. })));
    fill(&mut later);
    let stop = later.stop();
    later.keep().unwrap();
    assert!(earlier.keep().is_err());
    // Stopped too late: it stays.
    stop.stop();
    stop.check().unwrap();
    assert_eq!(Store::kept(dir.path()).snapshots.len(), 1);
    assert_eq!(in_snapshots(dir.path()), 1);
}

/// The rules go on while a copy is written: it holds what was there when it was begun.
#[test]
fn a_snapshot_holds_its_moment_whatever_is_committed_while_it_is_written() {
    let dir = TempDir::new().unwrap();
    let mut store = filled(dir.path(), 40);
    let then = all(&store);
    let mut draft = store.begin_snapshot(1, "Dana").unwrap().unwrap();
    for n in 0..60 {
        match n % 3 {
            0 => store.delete(&bag(), n),
            _ => store.put(&bag(), n, b"later"),
        }
        store.commit().unwrap();
    }
    fill(&mut draft);
    draft.keep().unwrap();
    assert_ne!(all(&store), then, "control");
    store.close().unwrap();
    break_records(dir.path());
    Store::recover(dir.path(), &passphrase(), rng(3)).unwrap();
    assert_eq!(all(&open(dir.path()).unwrap()), then);
}

/// The exchange of two stores is a handful of renames. Whatever of them had happened when the power went, the next opening
/// finds one whole store.
#[test]
fn an_exchange_that_was_cut_off_anywhere_is_finished_by_opening() {
    let made = TempDir::new().unwrap();
    let old = made.path().join("old");
    let new = made.path().join("new");
    filled(&old, 5).close().unwrap();
    filled(&new, 9).close().unwrap();
    fs::remove_file(new.join("lock")).unwrap();
    let parts = ["slots", "store", "keyring"];
    for done in 0..=2 * parts.len() {
        let home = made.path().join(format!("home-{done}"));
        copy(&old, &home);
        copy(&new, &home.join("new"));
        fs::write(home.join("new/ready"), "2026-11-22T052200Z").unwrap();
        let aside = home.join("quarantine/2026-11-22T052200Z");
        fs::create_dir_all(&aside).unwrap();
        for step in 0..done {
            let part = parts[step / 2];
            let (from, to) = match step % 2 {
                0 => (home.join(part), aside.join(part)),
                _ => (home.join("new").join(part), home.join(part)),
            };
            fs::rename(from, to).unwrap();
        }
        let store = open(&home).unwrap_or_else(|error| panic!("after {done} renames: {error}"));
        assert_eq!(all(&store).len(), 9, "after {done} renames");
        store.close().unwrap();
        assert!(!home.join("new").exists());
        for part in ["slots", "store/db", "keyring"] {
            assert_eq!(fs::read(aside.join(part)).unwrap(), fs::read(old.join(part)).unwrap());
        }
    }
    // Control: before the new one is whole nothing is exchanged.
    let home = made.path().join("home-early");
    copy(&old, &home);
    copy(&new, &home.join("new"));
    assert_eq!(all(&open(&home).unwrap()).len(), 5);
}

#[test]
fn a_backup_is_put_back_into_an_empty_home_only() {
    let made = TempDir::new().unwrap();
    let file = made.path().join("dana.oobcopy");
    // More than one commit of putting back.
    let records = 5_000;
    let store = filled(&made.path().join("old"), records);
    assert_eq!(backup(&store, &file), records);
    store.close().unwrap();

    let contents = Store::verify_copy(&file, &paper(), &mut |_| {}).unwrap();
    assert_eq!((contents.kind, contents.records), (CopyKind::Backup, records));
    let home = made.path().join("new");
    let mut last = 0;
    let restore = |home: &Path, with: &Passphrase, last: &mut u64| {
        Store::restore(home, &file, with, &passphrase(), FAST, rng(4), &mut |n| *last = n)
    };
    let wrong = restore(&home, &passphrase(), &mut last);
    assert!(matches!(wrong, Err(StoreError::WrongPassphrase)), "{wrong:?}");
    assert!(!home.exists(), "a refusal made something");
    restore(&home, &paper(), &mut last).unwrap();
    assert_eq!(last, records);
    assert_eq!(all(&open(&home).unwrap()).len() as u64, records);
    assert!(!home.join("quarantine").exists());
    let again = restore(&home, &paper(), &mut last);
    assert!(matches!(again, Err(StoreError::Exists { .. })), "{again:?}");
}

/// The passphrase of a backup opens the backup. It must not open the device it was made of, as it would if the copy
/// held the keys of the store.
#[test]
fn a_backup_holds_no_key_of_the_store() {
    let made = TempDir::new().unwrap();
    let (old, new) = (made.path().join("old"), made.path().join("new"));
    let file = made.path().join("dana.oobcopy");
    let store = filled(&old, 3);
    backup(&store, &file);
    store.close().unwrap();
    Store::restore(&new, &file, &paper(), &paper(), FAST, rng(4), &mut |_| {}).unwrap();
    // With the new keyring the old records are somebody else's.
    for part in ["keyring", "slots"] {
        fs::copy(new.join(part), old.join(part)).unwrap();
    }
    let opened = Store::open(&old, &paper(), rng(5)).map(drop);
    assert!(matches!(opened, Err(StoreError::Foreign { .. })), "{opened:?}");
}

#[test]
fn a_cut_or_altered_backup_makes_no_home() {
    let made = TempDir::new().unwrap();
    let file = made.path().join("dana.oobcopy");
    let store = filled(&made.path().join("old"), 3_000);
    backup(&store, &file);
    let whole = fs::read(&file).unwrap();
    let cases: [(&str, Vec<u8>); 4] = [
        ("cut", whole[..whole.len() - 1].to_vec()),
        ("cut at a chunk", whole[..200 + 65_552].to_vec()),
        ("longer", [whole.as_slice(), b"x"].concat()),
        ("altered", {
            let mut bytes = whole.clone();
            bytes[100_000] ^= 1;
            bytes
        }),
    ];
    for (what, bytes) in cases {
        let bad: PathBuf = made.path().join("bad.oobcopy");
        fs::write(&bad, bytes).unwrap();
        let home = made.path().join("home");
        let restored =
            Store::restore(&home, &bad, &paper(), &passphrase(), FAST, rng(4), &mut |_| {});
        assert!(matches!(restored, Err(StoreError::BadCopy { .. })), "{what}: {restored:?}");
        assert!(!home.exists(), "{what}");
    }
}

/// A restore that failed half way left what it had made, as large as the copy, on a disk that may have been full.
#[test]
fn a_restore_that_fails_leaves_nothing_behind() {
    let dir = TempDir::new().unwrap();
    let (from, to) = (dir.path().join("from"), dir.path().join("to"));
    let mut store = create(&from);
    for n in 0..400 {
        store.put(&bag(), n, &vec![7; 30_000]);
        store.commit().unwrap();
    }
    let file = dir.path().join("dana.oobcopy");
    backup(&store, &file);
    let mut seen = false;
    // The stick is pulled out when the first part is in place.
    let mut step = |_| {
        seen = true;
        fs::File::options().write(true).open(&file).unwrap().set_len(100_000).unwrap();
    };
    let failed = Store::restore(&to, &file, &paper(), &passphrase(), FAST, rng(3), &mut step);
    assert!(failed.is_err() && seen, "control: it was under way");
    let left: Vec<_> = fs::read_dir(&to).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["lock"]);
    backup(&store, &file);
    Store::restore(&to, &file, &paper(), &passphrase(), FAST, rng(3), &mut |_| {}).unwrap();
}
