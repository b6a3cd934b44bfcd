//! What the kernel says a process has used.

use std::fs;

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

/// Returns the CPU time of all threads a process has now, in nanoseconds: ticks are too coarse for one that sleeps.
pub fn threads_cpu_ns(pid: u32) -> Option<u64> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).ok()?;
    threads
        .map(|thread| {
            let stat = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
            stat.split_whitespace().next()?.parse::<u64>().ok()
        })
        .sum()
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
    fn this_process_has_used_something() {
        let usage = Usage::of(std::process::id()).unwrap();
        assert!(usage.rss_kib > 100);
        assert_eq!(Usage::of(u32::MAX), None);
        assert!(threads_cpu_ns(std::process::id()).is_none_or(|ns| ns > 0));
        assert_eq!(threads_cpu_ns(u32::MAX), None);
    }
}
