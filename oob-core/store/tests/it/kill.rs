//! A process is killed with -9 in the middle of its work, again and again.

use std::time::Duration;

use rand::Rng;
use tempfile::tempdir;

use crate::writer::{Kind, Known, Load, Told, Writer, open_kind};
use crate::{create, heavy, open, rng};

/// Commits before a kill, at most.
const COMMITS: u64 = 40;
/// What is waited at most after the last of them, so that a kill may hit any part of a commit.
const MOMENT_US: u64 = 4_000;
/// What is waited at most when the opening is to be hit: about what it takes.
const OPENING_US: u64 = 250_000;

/// Starts a process, kills it at a moment that chance has chosen, and returns what it told.
fn round(dir: &std::path::Path, kind: Kind, known: u64, random: &mut impl Rng) -> Told {
    let mut writer = Writer::start(dir, kind, known);
    if random.next_u64().is_multiple_of(5) {
        writer.wait(0, Duration::from_micros(random.next_u64() % OPENING_US));
    } else {
        let moment = Duration::from_micros(random.next_u64() % MOMENT_US);
        writer.wait(1 + random.next_u64() % COMMITS, moment);
    }
    writer.kill()
}

/// Everything acknowledged is there, nothing is there in part, and each secret opens: what is found is, record for record,
/// what the last acknowledged commit left, or the one after it that was under way.
#[test]
fn nothing_acknowledged_is_lost_to_kill_9() {
    let rounds = if heavy() { 200 } else { 20 };
    let base = tempdir().unwrap();
    create(base.path()).close().unwrap();
    let mut random = rng(9);
    let mut known = Known::nothing(Load::All);
    let (mut told, mut looked) = (Told::default(), 0);
    let (mut opening, mut between, mut finished) = (0, 0, 0);
    for number in 0..rounds {
        let (before, begun) = (told.acknowledged, told.begun);
        told = round(base.path(), Kind::Folder, before, &mut random);
        if told.opened.is_none() {
            // It saw nothing: what the process before it had begun may be there all the same.
            told.begun = told.begun.max(begun);
        }
        assert_eq!(told.failed, None, "round {number}");
        // Now and then the next process is the first to see what this one left.
        opening += u32::from(told.opened.is_none());
        between += u32::from(told.is_between());
        if number + 1 < rounds && random.next_u64().is_multiple_of(4) {
            continue;
        }
        looked += 1;
        let store = open(base.path()).unwrap_or_else(|error| panic!("round {number}: {error}"));
        let found = store.commit_number();
        assert!(
            (told.acknowledged..=told.begun.max(told.acknowledged)).contains(&found),
            "round {number}: commit {found} is there; {told:?}"
        );
        finished += u32::from(found > told.acknowledged);
        known.advance(found);
        known.difference(&store).unwrap_or_else(|what| panic!("round {number}: {what}"));
        told.acknowledged = found;
    }
    eprintln!(
        "{rounds} kills, {} commits acknowledged, none lost; {opening} while opening, {between} in the middle of a commit; \
         looked at {looked} times, {finished} times the commit under way was there",
        told.acknowledged
    );
    assert!(between * 3 > rounds, "the kills hit nothing: {between} of {rounds}");
}

/// With a journal so short that the thread is nearly always at work: most kills meet it in the middle of a write.
#[test]
fn kills_while_the_thread_writes_lose_nothing() {
    let rounds = if heavy() { 100 } else { 10 };
    let base = tempdir().unwrap();
    open_kind(base.path(), Kind::Journal).unwrap().close().unwrap();
    let mut random = rng(12);
    let mut known = Known::nothing(Kind::Journal.load());
    let mut between = 0;
    for number in 0..rounds {
        let told = round(base.path(), Kind::Journal, known.number, &mut random);
        assert_eq!(told.failed, None, "round {number}");
        between += u32::from(told.is_between());
        let store = open_kind(base.path(), Kind::Journal).unwrap();
        let found = store.commit_number();
        assert!(
            (told.acknowledged..=told.begun.max(told.acknowledged)).contains(&found),
            "{told:?}"
        );
        known.advance(found);
        known.difference(&store).unwrap_or_else(|what| panic!("round {number}: {what}"));
        drop(store);
    }
    eprintln!(
        "{rounds} kills, {} commits, none lost; {between} in the middle of one",
        known.number
    );
    assert!(between * 3 > rounds, "the kills hit nothing: {between} of {rounds}");
}

/// The control: a store that acknowledges first is found out by the same look.
#[test]
fn what_is_acknowledged_too_early_is_found_missing() {
    let base = tempdir().unwrap();
    create(base.path()).close().unwrap();
    let mut random = rng(10);
    let mut acknowledged = 0;
    for _ in 0..30 {
        let told = round(base.path(), Kind::Early, acknowledged, &mut random);
        acknowledged = open(base.path()).unwrap().commit_number();
        if acknowledged < told.acknowledged {
            return;
        }
    }
    panic!("thirty kills, and nothing was missed");
}

/// The other control: one record, one secret or one commit more or less is a difference.
#[test]
fn a_single_difference_is_seen() {
    let mut store = oob_store::Store::in_memory(rng(1)).unwrap();
    let mut known = Known::nothing(Load::All);
    for number in 1..=200 {
        crate::writer::put(&mut store, number, Load::All);
        store.commit().unwrap();
    }
    known.advance(199);
    assert!(known.difference(&store).unwrap_err().contains("commit 200"));
    known.advance(200);
    known.difference(&store).unwrap();
    let record = oob_store::Bag::new(oob_store::Area(1), b"talk");
    let seq = store.last_seq(&record).unwrap().unwrap();
    store.put(&record, seq, b"another");
    assert!(known.difference(&store).unwrap_err().contains("records"));
    store.discard();
    store.delete(&record, seq);
    assert!(known.difference(&store).unwrap_err().contains("records"));
    store.discard();
    let name = store.secret_names(b"").remove(0);
    store.put_secret(&name, b"another");
    assert!(known.difference(&store).unwrap_err().contains("is another"));
    store.delete_secret(&name);
    assert!(known.difference(&store).unwrap_err().contains("secrets"));
}
