//! What the kernel says a process has used.

use std::{collections::BTreeMap, fs};

/// Totals of one process so far.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Usage {
    /// CPU time, user and system.
    pub cpu_s: f64,
    /// Bytes it caused to be written to disk; absent where the kernel does not tell.
    pub written: Option<u64>,
    /// Memory it has resident.
    pub rss_kib: u64,
}

impl Usage {
    /// Reads the totals of a process; none if it is gone or this system does not tell.
    pub fn of(pid: u32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let io = fs::read_to_string(format!("/proc/{pid}/io")).ok();
        Some(Self {
            cpu_s: ticks(&stat)? / rustix::param::clock_ticks_per_second() as f64,
            written: io.and_then(|io| field(&io, "write_bytes:")),
            rss_kib: field(&status, "VmRSS:")?,
        })
    }
}

/// CPU time of the threads a process has now, in nanoseconds, by thread: ticks are too coarse for one that sleeps.
#[derive(Debug, Clone)]
pub struct Threads(BTreeMap<String, u64>);

impl Threads {
    /// Reads them; none if the process is gone or this system does not tell.
    pub fn of(pid: u32) -> Option<Self> {
        let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
        let times = threads.filter_map(|thread| {
            let thread = thread.ok()?;
            let stat = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            let time = stat.split_whitespace().next()?.parse().ok()?;
            Some((thread.file_name().to_string_lossy().into_owned(), time))
        });
        let times: BTreeMap<String, u64> = times.collect();
        (!times.is_empty()).then_some(Self(times))
    }

    /// Returns what they took since an earlier look. A thread that ended meanwhile takes its time along, so it is left out:
    /// the one that made the key has more than all others will in an hour.
    pub fn since(&self, earlier: &Self) -> u64 {
        let taken = |(thread, time): (&String, &u64)| {
            time.saturating_sub(earlier.0.get(thread).copied().unwrap_or(0))
        };
        self.0.iter().map(taken).sum()
    }
}

/// Returns user and system time in ticks: the 14th and 15th field, counted behind the name, which may hold anything.
fn ticks(stat: &str) -> Option<f64> {
    let (_, behind) = stat.rsplit_once(')')?;
    let mut fields = behind.split_whitespace().skip(11);
    let user: f64 = fields.next()?.parse().ok()?;
    let system: f64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next())
        .and_then(|number| number.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_shift_the_fields() {
        let stat = "12 (a) b (c) S 1 2 3 4 5 6 7 8 9 10 30 12 0 0 20";
        assert_eq!(ticks(stat), Some(42.0));
    }

    #[test]
    fn a_thread_that_ended_takes_nothing_back() {
        let threads = |all: &[(&str, u64)]| {
            Threads(all.iter().map(|(thread, time)| ((*thread).to_owned(), *time)).collect())
        };
        let before = threads(&[("1", 50), ("2", 9_000)]);
        assert_eq!(threads(&[("1", 70), ("3", 5)]).since(&before), 25);
    }

    #[test]
    fn this_process_has_used_something() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.rss_kib > 100);
        assert_eq!(Usage::of(u32::MAX), None);
        assert!(Threads::of(u32::MAX).is_none());
    }
}
