//! One thing done again and again, and how long half of the times took.

use super::Failed;
use crate::Sorted;
use serde::Serialize;
use std::{
    hint::black_box,
    time::{Duration, Instant},
};

/// Rounds that are not counted: caches and branch predictors warm up.
const WARM_UP: usize = 20;

/// How much is measured.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Rounds of each figure.
    pub rounds: usize,
    /// Longest a figure may take.
    pub span: Duration,
}

/// One figure and what it stands beside.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    /// Which group it belongs to.
    pub group: &'static str,
    /// What was done.
    pub what: &'static str,
    /// Half of the rounds took no longer.
    pub p50_us: f64,
    /// 99 of 100 rounds took no longer.
    pub p99_us: f64,
    /// How many a second that makes, where that is what people ask for.
    pub per_s: Option<u64>,
    /// What nobody does it faster than, by name.
    pub limit: &'static str,
    /// Half of that, in the same run.
    pub limit_us: Option<f64>,
}

impl Row {
    /// A figure of so many rounds.
    pub(super) fn new(group: &'static str, what: &'static str, times: &Times) -> Self {
        Self {
            group,
            what,
            p50_us: times.us(50),
            p99_us: times.us(99),
            per_s: None,
            limit: "none",
            limit_us: None,
        }
    }

    /// Names what it stands beside.
    pub(super) fn beside(mut self, limit: &'static str, limit_us: f64) -> Self {
        (self.limit, self.limit_us) = (limit, Some(limit_us));
        self
    }

    /// Says how many a second that makes.
    pub(super) fn rate(mut self, per_s: f64) -> Self {
        self.per_s = Some(per_s as u64);
        self
    }
}

/// Writes rows as a table for people.
pub fn to_table(rows: &[Row]) -> String {
    let mut lines = vec![format!(
        "{:<44} {:>10} {:>10} {:>9}  {:<36} {:>9}",
        "figure", "p50 us", "p99 us", "per s", "limit", "us"
    )];
    lines.extend(rows.iter().map(|row| {
        let per_s = row.per_s.map(|rate| rate.to_string()).unwrap_or_default();
        let limit_us = row.limit_us.map(|us| format!("{us:.2}")).unwrap_or_default();
        let what = format!("{}: {}", row.group, row.what);
        format!(
            "{what:<44} {:>10.2} {:>10.2} {per_s:>9}  {:<36} {limit_us:>9}",
            row.p50_us, row.p99_us, row.limit
        )
    }));
    lines.join("\n")
}

/// The times of all rounds.
pub(super) struct Times(Sorted);

impl Times {
    pub(super) fn of(times: Vec<Duration>) -> Self {
        Self(Sorted::new(times))
    }

    pub(super) fn us(&self, percent: usize) -> f64 {
        self.0.percentile_ns(percent).map_or(0.0, |ns| ns as f64 / 1_000.0)
    }
}

/// Does something as often as the effort says; what each round needs is made outside of its time.
pub(super) fn rounds<I, O>(
    effort: Effort,
    mut prepare: impl FnMut() -> Result<I, Failed>,
    mut act: impl FnMut(I) -> Result<O, Failed>,
) -> Result<Times, Failed> {
    for _ in 0..WARM_UP {
        black_box(act(black_box(prepare()?))?);
    }
    let began = Instant::now();
    let mut times = Vec::with_capacity(effort.rounds);
    while times.len() < effort.rounds && began.elapsed() < effort.span {
        let input = black_box(prepare()?);
        let start = Instant::now();
        let output = act(input)?;
        times.push(start.elapsed());
        black_box(output);
    }
    Ok(Times::of(times))
}

/// As [`rounds`], with nothing to prepare.
pub(super) fn plain<O>(
    effort: Effort,
    mut act: impl FnMut() -> Result<O, Failed>,
) -> Result<Times, Failed> {
    rounds(effort, || Ok(()), |()| act())
}
