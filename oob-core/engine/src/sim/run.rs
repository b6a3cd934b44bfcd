//! One seed and its report.

use super::{
    book::Violation,
    foe::Deeds,
    story::Settings,
    world::{Counts, World},
};
use std::{
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc::sync_channel,
    },
};

/// One seed of so many is run twice.
const TWICE_EVERY: u64 = 50;

/// What came of a seed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SeedReport {
    /// Which.
    pub seed: u64,
    /// Messages acknowledged to their authors.
    pub messages: u64,
    /// Alerts acknowledged to their author.
    pub alerts: u64,
    /// Devices taken out of the organisation.
    pub removals: u64,
    /// Times somebody stopped seeing somebody.
    pub partitions: u64,
    /// Devices that lost their power or were killed.
    pub crashes: u64,
    /// Devices that were closed in peace and came back.
    pub leaves: u64,
    /// Devices that were put back to a copy.
    pub restores: u64,
    /// Lines that were opened.
    pub lines: u64,
    /// Frames sent.
    pub frames: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Of the frames, those that never arrived.
    pub lost: u64,
    /// Devices that were hostile.
    pub hostile: u64,
    /// What they did, and how often: frames tampered with, withheld or forged.
    pub deeds: Deeds,
    /// Inputs handled by all devices.
    pub steps: u64,
    /// A sum of everything that happened; the same seed has the same.
    pub sum: u64,
    /// Whether it was run twice.
    pub twice: bool,
    /// The first thing that must not happen, if it did.
    pub violation: Option<Violation>,
}

/// Runs one seed; one in fifty twice, and both must tell the same.
pub fn run(settings: Settings, seed: u64) -> SeedReport {
    let settings = settings.within_bounds();
    let twice = seed.is_multiple_of(TWICE_EVERY);
    let (mut report, first) = once(settings, seed, twice);
    if twice && report.violation.is_none() {
        let (_, second) = once(settings, seed, true);
        let difference =
            first.zip(second).and_then(|(first, second)| first.trace.difference(&second.trace));
        report.violation = difference.map(|what| Violation {
            at_ms: 0,
            node: 0,
            what: format!("a seed does not repeat itself: {what}"),
        });
    }
    report.twice = twice;
    report
}

/// Runs a range of seeds, several at a time, and hands each report over as it comes: not in the order of the seeds.
pub fn run_all(
    settings: Settings,
    seeds: Range<u64>,
    jobs: usize,
    mut report: impl FnMut(SeedReport),
) {
    let next = AtomicU64::new(seeds.start);
    // A worker has at most one report that nobody has taken yet.
    let (give, take) = sync_channel(jobs.max(1));
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            let (next, give) = (&next, give.clone());
            scope.spawn(move || {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end || give.send(run(settings, seed)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(give);
        take.iter().for_each(&mut report);
    });
}

/// Runs one seed and returns what happened in it, step by step, up to a violation.
pub fn trace(settings: Settings, seed: u64) -> Vec<String> {
    let (report, world) = once(settings.within_bounds(), seed, true);
    let mut lines: Vec<String> = world.iter().flat_map(|world| world.trace.lines()).collect();
    lines.extend(report.violation.map(|violation| format!("{violation:?}")));
    lines
}

fn once(settings: Settings, seed: u64, keep_trace: bool) -> (SeedReport, Option<World>) {
    let ran = catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(settings, seed, keep_trace);
        let violation = world.run();
        (violation, world)
    }));
    match ran {
        Ok((violation, world)) => {
            let mut report = SeedReport::of(seed, &world.counts, violation);
            report.messages = world.book.acknowledged();
            report.alerts = world.book.alarms.raised();
            report.hostile = world.book.hostile.len() as u64;
            report.deeds = world.deeds.clone();
            report.removals = u64::from(world.book.removed.is_some());
            (report.steps, report.sum) = (world.trace.steps(), world.trace.sum());
            (report, Some(world))
        }
        Err(panic) => {
            let said = panic.downcast_ref::<String>().cloned();
            let said = said.or_else(|| panic.downcast_ref::<&str>().map(|said| (*said).to_owned()));
            let what = format!("panic: {}", said.unwrap_or_default());
            let violation = Violation { at_ms: 0, node: 0, what };
            (SeedReport::of(seed, &Counts::default(), Some(violation)), None)
        }
    }
}

impl SeedReport {
    fn of(seed: u64, counts: &Counts, violation: Option<Violation>) -> Self {
        Self {
            seed,
            messages: 0,
            alerts: 0,
            removals: 0,
            partitions: counts.partitions,
            crashes: counts.crashes,
            leaves: counts.leaves,
            restores: counts.restores,
            lines: counts.lines,
            frames: counts.frames,
            bytes: counts.bytes,
            lost: counts.lost,
            hostile: 0,
            deeds: Deeds::default(),
            steps: 0,
            sum: 0,
            twice: false,
            violation,
        }
    }
}
