//! The records of one moment, read while the store goes on.

use std::collections::BTreeMap;

use oob_store::backend::CrashDisk;
use oob_store::{Area, Bag, Moment, Store, StoreError};
use proptest::prelude::*;

use crate::on;

fn bag() -> Bag {
    Bag::new(Area(1), b"ward-3")
}

/// Neighbours of it in the tree that must not be met.
fn other() -> Bag {
    Bag::carry(Area(1), b"ward-4")
}

fn store() -> Store {
    on(&CrashDisk::new(), 1).unwrap()
}

/// Reads a bag to its end; before each page `meanwhile` does what it likes.
fn read(moment: &Moment, limit: usize, mut meanwhile: impl FnMut()) -> BTreeMap<u64, Vec<u8>> {
    let (mut found, mut from) = (BTreeMap::new(), 0);
    loop {
        meanwhile();
        let page = moment.page(&bag(), from, limit).unwrap();
        let Some((last, _)) = page.last() else { return found };
        from = last + 1;
        for (seq, value) in page {
            assert!(found.insert(seq, value).is_none(), "{seq} came twice");
        }
    }
}

#[derive(Debug, Clone)]
enum Change {
    Put(u64, u8),
    Delete(u64),
    Commit,
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        4 => (0_u64..40, any::<u8>()).prop_map(|(seq, value)| Change::Put(seq, value)),
        3 => (0_u64..40).prop_map(Change::Delete),
        2 => Just(Change::Commit),
    ]
}

fn make(store: &mut Store, change: &Change) {
    match change {
        Change::Put(seq, value) => {
            store.put(&bag(), *seq, &[*value; 3]);
            store.put(&other(), *seq, b"another bag");
        }
        Change::Delete(seq) => store.delete(&bag(), *seq),
        Change::Commit => drop(store.commit().unwrap()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_moment_shows_what_was_there_whatever_is_committed_since(
        before in prop::collection::vec(change(), 0..60),
        since in prop::collection::vec(change(), 1..120),
        limit in 1_usize..9,
    ) {
        let mut store = store();
        before.iter().for_each(|change| make(&mut store, change));
        store.commit().unwrap();
        let moment = store.moment();
        let then = read(&moment, 100, || {});
        let view = store.view().scan(&bag(), .., oob_store::Order::Ascending, 100).unwrap();
        prop_assert_eq!(&then, &view.into_iter().collect());
        let mut changes = since.chunks(7);
        let found = read(&moment, limit, || {
            changes.next().into_iter().flatten().for_each(|change| make(&mut store, change));
            store.commit().unwrap();
        });
        prop_assert_eq!(found, then);
    }
}

/// However much was deleted since, a page of it is one to hold in memory, and to note down for whoever commits meanwhile.
#[test]
fn a_page_has_a_bound_although_all_of_it_was_deleted_since() {
    let mut store = store();
    (0..3_000).for_each(|n| store.put(&bag(), n, b"then"));
    store.commit().unwrap();
    let moment = store.moment();
    (0..3_000).for_each(|n| store.delete(&bag(), n));
    (5_000..9_000).for_each(|n| store.put(&bag(), n, b"since"));
    store.commit().unwrap();
    assert_eq!(moment.page(&bag(), 0, 10).unwrap().len(), 10);
    assert_eq!(moment.page(&bag(), 2_995, 10).unwrap().len(), 5);
    assert_eq!(moment.page(&bag(), 3_000, 10).unwrap(), []);
    assert!(read(&moment, 10, || {}).into_keys().eq(0..3_000));
}

#[test]
fn a_moment_that_too_much_overtakes_is_given_up_and_the_store_goes_on() {
    let mut store = store();
    let long = vec![7; 1 << 20];
    let fill = |store: &mut Store, value: &[u8]| {
        for n in 0..40 {
            store.put(&bag(), n, value);
            store.commit().unwrap();
        }
    };
    fill(&mut store, &long);
    let moment = store.moment();
    assert_eq!(moment.page(&bag(), 39, 1).unwrap().len(), 1);
    // New records take little; what is overwritten takes its length.
    (40..80).for_each(|n| store.put(&bag(), n, &long));
    store.commit().unwrap();
    assert_eq!(moment.page(&bag(), 39, 9).unwrap().len(), 1);
    fill(&mut store, b"short");
    let refused = moment.page(&bag(), 39, 1);
    assert!(matches!(refused, Err(StoreError::GivenUp { .. })), "{refused:?}");
    let next = store.moment();
    assert_eq!(next.page(&bag(), 39, 1).unwrap(), [(39, b"short".to_vec())]);
    store.close().unwrap();
    assert!(matches!(next.page(&bag(), 39, 1), Err(StoreError::Closed)));
}
