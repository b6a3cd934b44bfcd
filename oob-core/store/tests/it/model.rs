//! The store against two plain maps.

use std::collections::BTreeMap;

use oob_store::backend::CrashDisk;
use oob_store::{Area, Bag, Order, Store};
use proptest::collection::vec;
use proptest::prelude::*;

use crate::on;

/// Parts in which what half of the journal held is written down at most: it has as many records.
const PARTS: usize = 64;

#[derive(Debug, Clone)]
enum Step {
    Put(u8, u64, Vec<u8>),
    Delete(u8, u64),
    PutSecret(u8, Vec<u8>),
    DeleteSecret(u8),
    Commit,
    Discard,
    Idle,
    Reopen,
    Scan(u8, u64, u64, bool, usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let seq = prop_oneof![0..6u64, Just(u64::MAX), Just(1 << 40)];
    let value = vec(any::<u8>(), 0..600);
    vec(
        prop_oneof![
            6 => (0..4u8, seq.clone(), value.clone()).prop_map(|(b, s, v)| Step::Put(b, s, v)),
            2 => (0..4u8, seq.clone()).prop_map(|(b, s)| Step::Delete(b, s)),
            4 => (0..5u8, value).prop_map(|(n, v)| Step::PutSecret(n, v)),
            1 => (0..5u8).prop_map(Step::DeleteSecret),
            4 => Just(Step::Commit),
            1 => Just(Step::Discard),
            1 => Just(Step::Idle),
            1 => Just(Step::Reopen),
            3 => (0..4u8, seq.clone(), seq, any::<bool>(), 0..5usize)
                .prop_map(|(b, x, y, r, l)| Step::Scan(b, x, y, r, l)),
        ],
        1..60,
    )
}

/// Bags that must not be mixed up: two ids, two areas, two key classes.
fn bag(number: u8) -> Bag {
    match number {
        0 => Bag::new(Area(1), b"a"),
        1 => Bag::new(Area(1), b"b"),
        2 => Bag::new(Area(2), b"a"),
        _ => Bag::carry(Area(1), b"a"),
    }
}

fn name(number: u8) -> Vec<u8> {
    format!("session/{number}").into_bytes()
}

#[derive(Debug, Clone, Default, PartialEq)]
struct Model {
    records: BTreeMap<(u8, u64), Vec<u8>>,
    secrets: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Model {
    fn bag(&self, number: u8) -> Vec<(u64, Vec<u8>)> {
        let all = self.records.range((number, 0)..=(number, u64::MAX));
        all.map(|((_, seq), value)| (*seq, value.clone())).collect()
    }

    fn compare(&self, store: &Store) {
        for number in 0..4 {
            let expected = self.bag(number);
            let found = store.scan(&bag(number), .., Order::Ascending, usize::MAX).unwrap();
            assert_eq!(found, expected);
            assert_eq!(store.last_seq(&bag(number)).unwrap(), expected.last().map(|r| r.0));
        }
        let names: Vec<_> = self.secrets.keys().cloned().collect();
        assert_eq!(store.secret_names(b"session/"), names);
        for (name, value) in &self.secrets {
            assert_eq!(store.secret(name).unwrap().as_deref(), Some(value));
        }
    }

    fn compare_view(&self, store: &Store) {
        let view = store.view();
        for number in 0..4 {
            let expected = self.bag(number);
            let found = view.scan(&bag(number), .., Order::Descending, usize::MAX).unwrap();
            assert!(found.iter().eq(expected.iter().rev()));
            assert_eq!(view.last_seq(&bag(number)).unwrap(), expected.last().map(|r| r.0));
        }
    }
}

fn run(disk: &CrashDisk, steps: Vec<Step>) {
    let mut store = on(disk, 1).unwrap();
    let (mut now, mut committed) = (Model::default(), Model::default());
    for (seed, step) in (2..).zip(steps) {
        // Puts are looked at when something else happens, still pending.
        let quiet = matches!(step, Step::Put(..) | Step::PutSecret(..));
        match step {
            Step::Put(b, seq, value) => {
                store.put(&bag(b), seq, &value);
                now.records.insert((b, seq), value);
            }
            Step::Delete(b, seq) => {
                store.delete(&bag(b), seq);
                now.records.remove(&(b, seq));
            }
            Step::PutSecret(n, value) => {
                store.put_secret(&name(n), &value);
                now.secrets.insert(name(n), value);
            }
            Step::DeleteSecret(n) => {
                store.delete_secret(&name(n));
                now.secrets.remove(&name(n));
            }
            Step::Commit => {
                let (before, clean) = (store.commit_number(), store.is_clean());
                let number = store.commit().unwrap();
                assert_eq!(number, before + u64::from(!clean));
                committed = now.clone();
            }
            Step::Discard => {
                store.discard();
                now = committed.clone();
            }
            Step::Idle => {
                // What the journal's other half held is written down in parts.
                store.idle().unwrap();
                for _ in 0..PARTS {
                    if store.needs_idle() {
                        store.idle().unwrap();
                    }
                }
                assert!(!store.needs_idle());
            }
            Step::Reopen => {
                store.close().unwrap();
                store = on(disk, seed).unwrap();
                now = committed.clone();
            }
            Step::Scan(b, x, y, reverse, limit) => {
                let order = if reverse { Order::Descending } else { Order::Ascending };
                let mut expected = now.bag(b);
                expected.retain(|(seq, _)| (x..y).contains(seq));
                if reverse {
                    expected.reverse();
                }
                expected.truncate(limit);
                assert_eq!(store.scan(&bag(b), x..y, order, limit).unwrap(), expected);
                let one = store.get(&bag(b), x).unwrap();
                assert_eq!(one.as_ref(), now.records.get(&(b, x)));
            }
        }
        if !quiet {
            now.compare(&store);
            committed.compare_view(&store);
        }
    }
    now.compare(&store);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn store_behaves_like_two_maps(steps in steps()) {
        run(&CrashDisk::new(), steps.clone());
        run(&CrashDisk::journaled(), steps);
    }
}
