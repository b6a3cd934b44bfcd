//! The power fails at every write there is, and disks fail and fill up.

use std::collections::BTreeMap;

use oob_store::backend::CrashDisk;
use oob_store::{Area, Bag, Order, Store, StoreError};
use rand::Rng;

use crate::{on, rng};

/// What the store holds, secrets under their names.
type State = BTreeMap<(u64, Vec<u8>), Vec<u8>>;

/// A disk without and one with a journal.
fn both() -> [CrashDisk; 2] {
    [CrashDisk::new(), CrashDisk::journaled()]
}

fn bag() -> Bag {
    Bag::new(Area(1), b"messages")
}

fn state(store: &Store) -> State {
    let records = store.scan(&bag(), .., Order::Ascending, usize::MAX).unwrap();
    let records = records.into_iter().map(|(seq, value)| ((seq, Vec::new()), value));
    let names = store.secret_names(b"");
    let secrets = names.into_iter().map(|name| {
        let value = store.secret(&name).unwrap().unwrap();
        ((u64::MAX, name), value.to_vec())
    });
    records.chain(secrets).collect()
}

/// Works until the power fails; returns what was acknowledged, and what would be there had the last batch been.
fn work(store: &mut Store, rng: &mut impl Rng, from: State, rounds: u64) -> (State, State) {
    let mut acknowledged = from;
    for round in 0..rounds {
        let mut next = acknowledged.clone();
        for _ in 0..rng.next_u64() % 4 {
            let (seq, value) = (rng.next_u64() % 20, round.to_be_bytes().to_vec());
            if rng.next_u64().is_multiple_of(5) {
                store.delete(&bag(), seq);
                next.remove(&(seq, Vec::new()));
            } else {
                store.put(&bag(), seq, &value);
                next.insert((seq, Vec::new()), value);
            }
        }
        for _ in 0..rng.next_u64() % 4 {
            // More names than the slot file has room for at first, so that it grows.
            let name = format!("session/{}", rng.next_u64() % 40).into_bytes();
            if rng.next_u64().is_multiple_of(6) {
                store.delete_secret(&name);
                next.remove(&(u64::MAX, name));
            } else {
                let value = [&name[..], &round.to_be_bytes()].concat();
                store.put_secret(&name, &value);
                next.insert((u64::MAX, name), value);
            }
        }
        if store.commit().is_err() {
            return (acknowledged, next);
        }
        acknowledged = next;
        if rng.next_u64().is_multiple_of(3) && store.idle().is_err() {
            break;
        }
    }
    (acknowledged.clone(), acknowledged)
}

/// Take away any one of the four lines of the commit (sync of the slots, sync of the tree, the batch before the
/// overwrite, the ledger in the batch) and this fails.
#[test]
fn nothing_acknowledged_is_lost_at_any_write() {
    for fresh in [CrashDisk::new, CrashDisk::journaled] {
        nothing_is_lost_on(fresh);
    }
}

fn nothing_is_lost_on(fresh: fn() -> CrashDisk) {
    let mut random = rng(7);
    let (mut lost_something, mut kept_something) = (0, 0);
    for cut in 0..120 {
        let disk = fresh();
        let mut store = on(&disk, cut).unwrap();
        let mut known = State::new();
        // Three lives on one disk: what a crash leaves must also be good to go on with.
        for life in 0..3 {
            disk.cut_after(if life == 0 { cut } else { random.next_u64() % 60 });
            let (acknowledged, next) = work(&mut store, &mut random, known, 100);
            drop(store);
            disk.power_cut(&mut random);
            store = on(&disk, random.next_u64()).unwrap_or_else(|error| {
                panic!("cut {cut}, life {life}: {error}");
            });
            let found = state(&store);
            assert!(
                found == acknowledged || found == next,
                "cut {cut}, life {life}: {found:?} is neither {acknowledged:?} nor {next:?}"
            );
            if acknowledged != next {
                *(if found == next { &mut kept_something } else { &mut lost_something }) += 1;
            }
            known = found;
        }
    }
    // The control: batches that were not acknowledged do get lost here, so acknowledged ones would too.
    assert!(lost_something > 30 && kept_something > 5, "{lost_something} {kept_something}");
}

/// The same work, and the power fails again while the store is being opened.
#[test]
fn power_cut_while_opening_loses_nothing() {
    let mut random = rng(8);
    for cut in 0..36 {
        let disk = if cut < 12 { CrashDisk::new() } else { CrashDisk::journaled() };
        let mut store = on(&disk, cut).unwrap();
        disk.cut_after(40 + cut / 12 * 30);
        let (acknowledged, next) = work(&mut store, &mut random, State::new(), 100);
        drop(store);
        disk.power_cut(&mut random);
        disk.cut_after(cut % 12);
        drop(on(&disk, cut));
        disk.power_cut(&mut random);
        let found = state(&on(&disk, cut).unwrap());
        assert!(found == acknowledged || found == next);
    }
}

#[test]
fn failed_sync_stops_all_later_commits_but_not_reads() {
    for disk in both() {
        let mut store = on(&disk, 1).unwrap();
        store.put(&bag(), 1, b"kept");
        store.commit().unwrap();
        store.put(&bag(), 2, b"uncertain");
        disk.fail_next_sync();
        assert!(matches!(store.commit(), Err(StoreError::Io { .. })));
        store.discard();
        store.put(&bag(), 3, b"refused");
        assert!(matches!(store.commit(), Err(StoreError::Failed { .. })));
        assert!(matches!(store.idle(), Err(StoreError::Failed { .. })));
        assert_eq!(store.get(&bag(), 1).unwrap().unwrap(), b"kept");
        assert!(matches!(store.close(), Err(StoreError::Failed { .. })));
        disk.power_cut(&mut rng(1));
        let store = on(&disk, 2).unwrap();
        assert_eq!(store.get(&bag(), 1).unwrap().unwrap(), b"kept");
        assert_eq!(store.get(&bag(), 3).unwrap(), None);
    }
}

#[test]
fn failed_sync_of_the_slots_stops_the_store_before_the_batch() {
    for disk in both() {
        let mut store = on(&disk, 1).unwrap();
        store.put_secret(b"session", b"1");
        store.commit().unwrap();
        store.put_secret(b"session", b"2");
        store.commit().unwrap();
        assert!(store.needs_idle());
        disk.fail_next_sync();
        assert!(store.idle().is_err());
        assert!(!store.needs_idle(), "a failed store has nothing to do");
        store.put_secret(b"session", b"3");
        assert!(matches!(store.commit(), Err(StoreError::Failed { .. })));
        drop(store);
        disk.power_cut(&mut rng(1));
        assert_eq!(on(&disk, 2).unwrap().secret(b"session").unwrap().unwrap().as_slice(), b"2");
    }
}

#[test]
fn full_disk_keeps_the_batch_and_the_store() {
    for disk in both() {
        let mut store = on(&disk, 1).unwrap();
        store.put(&bag(), 1, b"before");
        store.commit().unwrap();
        disk.set_free(Some(100));
        store.put(&bag(), 2, b"during");
        let steps = disk.steps();
        for _ in 0..3 {
            assert!(matches!(store.commit(), Err(StoreError::Full { free: 100, .. })));
        }
        assert_eq!(disk.steps(), steps, "a refused commit writes nothing");
        assert_eq!(store.get(&bag(), 1).unwrap().unwrap(), b"before");
        disk.set_free(None);
        assert_eq!(store.commit().unwrap(), 2);
        assert_eq!(store.view().get(&bag(), 2).unwrap().unwrap(), b"during");
    }
}

#[test]
fn an_empty_commit_and_reads_touch_no_disk() {
    for disk in both() {
        let mut store = on(&disk, 1).unwrap();
        store.put(&bag(), 1, b"x");
        store.commit().unwrap();
        let steps = disk.steps();
        assert_eq!(store.commit().unwrap(), 1);
        assert!(!store.needs_idle(), "a plain record leaves nothing to do");
        store.idle().unwrap();
        store.scan(&bag(), .., Order::Ascending, 10).unwrap();
        assert_eq!(disk.steps(), steps);
    }
}

/// Apply, sync, and the mark: no sync more than needed. A secret adds one overwrite, and its sync if none was idle.
#[test]
fn commit_costs_one_sync_unless_slots_are_dirty() {
    for disk in both() {
        let mut store = on(&disk, 1).unwrap();
        let cost = |store: &mut Store| {
            let before = disk.steps();
            store.commit().unwrap();
            disk.steps() - before
        };
        store.put(&bag(), 1, b"x");
        assert_eq!(cost(&mut store), 3);
        store.put_secret(b"session", b"new");
        assert_eq!(cost(&mut store), 3, "the first pairs were durable when the store was made");
        store.put_secret(b"session", b"next");
        assert_eq!(cost(&mut store), 4);
        store.idle().unwrap();
        store.put_secret(b"session", b"after idle");
        assert_eq!(cost(&mut store), 4);
        store.put_secret(b"session", b"at once");
        assert_eq!(cost(&mut store), 5);
    }
}

#[test]
fn what_cannot_be_stored_is_refused_and_kept_pending() {
    let mut store = Store::in_memory(rng(1)).unwrap();
    store.put(&bag(), 1, &vec![0; oob_store::limits::VALUE_BYTES + 1]);
    assert!(matches!(store.commit(), Err(StoreError::ValueTooLong { .. })));
    assert!(!store.is_clean());
    store.discard();
    for name in [&b""[..], &[b'n'; 256]] {
        store.put_secret(name, b"x");
        assert!(matches!(store.commit(), Err(StoreError::BadName { .. })));
        store.discard();
    }
    store.put(&bag(), 1, &vec![7; oob_store::limits::VALUE_BYTES]);
    assert_eq!(store.commit().unwrap(), 1);
}

#[test]
fn views_answer_closed_after_close() {
    let mut store = Store::in_memory(rng(1)).unwrap();
    store.put(&bag(), 1, b"x");
    store.commit().unwrap();
    let view = store.view();
    let reader = std::thread::spawn({
        let view = view.clone();
        move || view.get(&bag(), 1).unwrap()
    });
    assert_eq!(reader.join().unwrap().unwrap(), b"x");
    store.close().unwrap();
    assert!(matches!(view.get(&bag(), 1), Err(StoreError::Closed)));
}
