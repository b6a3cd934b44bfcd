//! The simulator itself: small worlds, many seeds, no promise broken; and each safeguard taken away is noticed.

use oob_engine::{
    Faults,
    sim::{SeedReport, Settings, Vice, run, run_all, trace},
};
use std::{num::NonZero, thread::available_parallelism};

const SEEDS: u64 = 20;

/// Worlds that are small enough for a build without optimisation. `.ci/run` runs the full size.
fn small(faults: Faults) -> Settings {
    Settings { nodes: 5, minutes: 3, messages: 110, faults, ..Settings::default() }
}

fn jobs() -> usize {
    available_parallelism().map_or(1, NonZero::get)
}

#[test]
fn twenty_seeds_break_no_promise() {
    let mut reports: Vec<SeedReport> = Vec::new();
    run_all(small(Faults::default()), 0..SEEDS, jobs(), |report| reports.push(report));
    assert_eq!(reports.len() as u64, SEEDS);
    for report in &reports {
        assert_eq!(report.violation, None, "seed {}", report.seed);
        assert!(report.messages >= 75, "{report:?}");
        assert!(report.alerts >= 1, "{report:?}");
        assert!(report.partitions >= 1, "{report:?}");
    }
    // Some devices are away when the power fails; of all of them enough are not.
    assert!(reports.iter().map(|report| report.crashes).sum::<u64>() >= SEEDS);
    assert!(reports.iter().any(|report| report.removals == 1), "in some a device is taken out");
    let sum = |of: fn(&SeedReport) -> u64| reports.iter().map(of).sum::<u64>();
    assert!(sum(|report| report.lost) * 20 >= sum(|report| report.frames), "5 % and more are lost");
}

/// Seeds that notice it, of the first twenty; the search ends with the first.
fn noticed(faults: Faults) -> Option<SeedReport> {
    (0..SEEDS).map(|seed| run(small(faults), seed)).find(|report| report.violation.is_some())
}

#[test]
fn without_the_duplicate_check_something_is_shown_twice() {
    let report = noticed(Faults { no_duplicate_check: true, ..Faults::default() }).unwrap();
    let what = report.violation.unwrap().what;
    assert!(what.contains("shown twice"), "{what}");
}

#[test]
fn what_is_acknowledged_before_it_is_durable_is_missed_behind_a_power_cut() {
    let report = noticed(Faults { acknowledge_before_durable: true, ..Faults::default() });
    assert!(report.is_some());
}

#[test]
fn without_repair_what_was_lost_on_its_way_stays_lost() {
    let report = noticed(Faults { no_repair: true, ..Faults::default() }).unwrap();
    let what = report.violation.unwrap().what;
    assert!(what.contains("was lost") || what.contains("was delivered"), "{what}");
}

#[test]
fn a_seed_repeats_itself_and_another_does_not() {
    let settings = small(Faults::default());
    let [first, again, other] = [7, 7, 8].map(|seed| run(settings, seed));
    assert_eq!(first, again);
    assert_ne!(first.sum, other.sum);
    assert_eq!(trace(settings, 7).len() as u64, first.steps, "every step is told");
}

/// Five devices of which one is hostile, in one way.
fn with(vice: Vice, faults: Faults) -> Settings {
    Settings { hostile: Some(1), vice: Some(vice), nodes: 6, ..small(faults) }
}

#[test]
fn whatever_a_hostile_member_does_the_honest_lose_nothing() {
    for vice in Vice::ALL {
        let settings = Settings { minutes: 2, messages: 60, ..with(vice, Faults::default()) };
        let report = run(settings, 3 + vice as u64);
        assert_eq!(report.violation, None, "{vice:?}");
        // The control: it did it, and not once.
        let deeds = report.deeds.get(&vice).copied().unwrap_or(0);
        assert!(report.hostile == 1 && deeds >= 20, "{vice:?} {deeds}");
    }
}

#[test]
fn a_seed_with_hostile_members_repeats_itself() {
    let settings = Settings { hostile: Some(1), vice: None, ..with(Vice::Lie, Faults::default()) };
    let [first, again] = [4, 4].map(|seed| run(settings, seed));
    assert_eq!(first, again);
    assert!(first.deeds.len() >= 2, "{:?}", first.deeds);
}

/// Five devices, of which two are put back to a copy.
fn put_back(faults: Faults) -> Settings {
    Settings { restores: Some(2), ..small(faults) }
}

#[test]
fn devices_put_back_to_a_copy_use_nothing_twice_and_lose_nothing_unconfirmed() {
    let mut restores = 0;
    for seed in 0..6 {
        let report = run(put_back(Faults::default()), seed);
        assert_eq!(report.violation, None, "seed {seed}");
        restores += report.restores;
    }
    assert!(restores >= 6, "{restores} in six seeds");
}

#[test]
fn a_device_put_back_that_begins_no_other_life_uses_a_number_twice() {
    let faults = Faults { same_life: true, ..Faults::default() };
    let settings = Settings { nodes: 6, minutes: 5, messages: 400, ..put_back(faults) };
    let mut found = (0..5).filter_map(|seed| run(settings, seed).violation);
    // Somebody may see first what comes of it: that a message does not open.
    let twice = |what: &str| what.contains("is on two envelopes") || what.contains("have one tag");
    assert!(found.any(|violation| twice(&violation.what)));
}

/// The first seed of ten in which a hostile member is noticed where a safeguard is gone.
fn harmed(vice: Vice, faults: Faults) -> Option<String> {
    let mut seeds = (0..10).map(|seed| run(with(vice, faults), seed));
    seeds.find_map(|report| report.violation).map(|violation| violation.what)
}

/// Whether a violation says that something did not arrive, or that somebody lacks what others have.
fn is_missing(what: &str) -> bool {
    let signs = ["was lost", "and was delivered", "lacks records", "still owes"];
    signs.iter().any(|sign| what.contains(sign))
}

#[test]
fn were_a_liars_word_on_others_records_believed_messages_would_be_lost() {
    let what = harmed(Vice::Lie, Faults { believe_gone: true, ..Faults::default() }).unwrap();
    assert!(is_missing(&what), "{what}");
}

#[test]
fn were_signatures_not_looked_at_a_forger_would_take_the_place_of_others() {
    let what = harmed(Vice::Forge, Faults { no_signature_check: true, ..Faults::default() });
    let what = what.unwrap();
    // Both are seen with one number, or the first of them keeps the other out.
    assert!(what.contains("is on two envelopes") || is_missing(&what), "{what}");
}
