//! The machine: its clock, its memory, and what it writes of memory to disk.

use super::{advice, daemon::Told, fine, wrong};
use crate::{
    schema::{Check, Stamp},
    settings::Home,
};
use oob_core::Node;
use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

/// This version is from this year on, 2026-01-01 in seconds since 1970; no clock that is right shows less.
const EARLIEST_S: u64 = 1_767_225_600;

/// And none will show more than 2100 while this version is used.
const LATEST_S: u64 = 4_102_444_800;

/// How far the past may lie ahead: clocks are corrected by a little all the time.
const JUMP: Duration = Duration::from_secs(60);

/// The clock shows a year that can be, and nothing that happened lies ahead of it.
pub(super) fn clock(home: &Home, told: Option<&Told>) -> Check {
    let heard = told.into_iter().flat_map(|told| &told.status.peers).filter_map(|p| p.last_heard);
    // What the daemon wrote last, by the clock of then.
    let written = ["oob.log", "keyring", "slots", "store/db"]
        .into_iter()
        .filter_map(|name| fs::metadata(home.path().join(name)).ok()?.modified().ok())
        .map(Stamp::from);
    judge(SystemTime::now(), heard.chain(written).max())
}

fn judge(now: SystemTime, newest: Option<Stamp>) -> Check {
    const NAME: &str = "clock";
    let seconds = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let now = Stamp::from(now);
    if !(EARLIEST_S..LATEST_S).contains(&seconds) {
        return wrong(
            NAME,
            format!("it shows {now}, which cannot be"),
            "set it: invitations expire by it, and others see the times of your messages by it",
        );
    }
    if let Some(newest) = newest
        && newest.before(JUMP) > now
    {
        return wrong(
            NAME,
            format!(
                "it shows {now}, and something here happened at {newest}: it was set back, or was wrong then"
            ),
            "set it right, then start the daemon again: oob down, then oob up",
        );
    }
    fine(NAME, format!("it shows {now}"))
}

/// There is memory for a try of the passphrase.
pub(super) fn memory(proc: &Path, home: &Home, runs: bool) -> Check {
    match available_kib(proc) {
        Some(kib) => enough(kib, Node::inspect(home.path()).ok(), runs),
        None => advice("memory", "the free memory cannot be read", "see for yourself: free -m"),
    }
}

fn enough(kib: u64, needed_kib: Option<u32>, runs: bool) -> Check {
    const NAME: &str = "memory";
    let free = format!("{} MiB are free", kib / 1024);
    // Without an identity nothing says how much is needed.
    let Some(needed) = needed_kib.filter(|needed| kib < u64::from(*needed)) else {
        return fine(NAME, free);
    };
    let detail = format!("{free}, and a try of the passphrase takes {} MiB", needed / 1024);
    if runs {
        advice(NAME, detail, "close other programs before you start the daemon again")
    } else {
        wrong(NAME, detail, "close other programs before: oob up")
    }
}

fn available_kib(proc: &Path) -> Option<u64> {
    let text = fs::read_to_string(proc.join("meminfo")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// The daemon cannot leave its memory in a core file.
pub(super) fn core_dumps(proc: &Path, pid: Option<i32>) -> Check {
    const NAME: &str = "core_dumps";
    let Some(pid) = pid else {
        return fine(NAME, "the daemon switches them off for itself when it starts");
    };
    let limits = fs::read_to_string(proc.join(pid.to_string()).join("limits")).unwrap_or_default();
    let hard = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max core file size"))
        .and_then(|rest| rest.split_whitespace().nth(1));
    match hard {
        Some("0") => fine(NAME, "are off for the daemon"),
        Some(other) => wrong(
            NAME,
            format!(
                "the daemon may leave up to {other} bytes of its memory, with keys, in a core file"
            ),
            "start it again: oob down, then oob up; if it stays so, start it with: ulimit -c 0",
        ),
        None => {
            advice(NAME, "the limits of the daemon cannot be read", "start it with: ulimit -c 0")
        }
    }
}

/// Memory is not written to a disk that a thief could read.
pub(super) fn swap(proc: &Path) -> Check {
    const NAME: &str = "swap";
    let text = fs::read_to_string(proc.join("swaps")).unwrap_or_default();
    let places: Vec<&str> =
        text.lines().skip(1).filter_map(|line| line.split_whitespace().next()).collect();
    let disks: Vec<&str> =
        places.iter().copied().filter(|place| !place.starts_with("/dev/zram")).collect();
    if disks.is_empty() {
        return fine(NAME, "nothing of the memory is written to a disk");
    }
    advice(
        NAME,
        format!("memory, and with it messages and keys, may be written to {}", disks.join(" and ")),
        "encrypt the disk with the swap on it, or switch it off: sudo swapoff -a",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_clock_that_cannot_be_right_or_went_back_is_told() {
        let now = 1_800_000_000;
        assert!(judge(at(now), None).ok);
        assert!(judge(at(now), Some(at(now + 30).into())).ok);
        for (shown, newest) in
            [(0, None), (LATEST_S, None), (now, Some(Stamp::from(at(now + 3_600))))]
        {
            let found = judge(at(shown), newest);
            assert!(!found.ok && found.hint.is_some(), "{found:?}");
        }
        let dir = tempfile::tempdir().unwrap();
        let home = Home::resolve(Some(dir.path())).unwrap();
        assert!(clock(&home, None).ok);
        let file = fs::File::create(dir.path().join("oob.log")).unwrap();
        file.set_modified(SystemTime::now() + Duration::from_secs(86_400)).unwrap();
        assert!(!clock(&home, None).ok);
    }

    #[test]
    fn too_little_memory_is_told_before_the_passphrase_is_tried() {
        let dir = tempfile::tempdir().unwrap();
        let proc = dir.path();
        let home = Home::resolve(Some(&proc.join("home"))).unwrap();
        assert!(memory(proc, &home, false).hint.is_some());
        fs::write(proc.join("meminfo"), "MemTotal: 9 kB\nMemAvailable:    9000 kB\n").unwrap();
        assert_eq!(available_kib(proc), Some(9_000));
        assert!(memory(proc, &home, false).hint.is_none());
        assert!(!enough(65_535, Some(65_536), false).ok);
        let running = enough(65_535, Some(65_536), true);
        assert!(running.ok && running.hint.is_some());
        assert!(enough(65_536, Some(65_536), false).hint.is_none());
    }

    #[test]
    fn core_files_and_swap_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let proc = dir.path();
        fs::create_dir(proc.join("7")).unwrap();
        let limits = |hard: &str| {
            let text = format!(
                "Limit  Soft Limit  Hard Limit  Units\nMax core file size        0                    {hard}            bytes\n"
            );
            fs::write(proc.join("7/limits"), text).unwrap();
            core_dumps(proc, Some(7)).ok
        };
        assert_eq!((limits("0"), limits("unlimited")), (true, false));
        assert!(core_dumps(proc, Some(8)).hint.is_some() && core_dumps(proc, None).hint.is_none());
        assert!(swap(proc).hint.is_none());
        let header = "Filename Type Size Used Priority\n";
        fs::write(proc.join("swaps"), format!("{header}/dev/zram0 partition 1 0 -2\n")).unwrap();
        assert!(swap(proc).hint.is_none());
        fs::write(proc.join("swaps"), format!("{header}/dev/sda2 partition 1 0 -2\n")).unwrap();
        let found = swap(proc);
        assert!(found.ok && found.hint.is_some() && found.detail.ends_with("/dev/sda2"));
    }
}
