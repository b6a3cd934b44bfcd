//! The power fails on a real file system: what it had not written down is gone.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::time::Duration;

use oob_store::{Store, StoreError};
use rand::Rng;

use crate::ground::{Ground, inside};
use crate::writer::{Kind, Known, Told, Writer, open_kind};
use crate::{FAST, open, passphrase, rng};

/// Commits before a cut, at most.
const COMMITS: u64 = 40;
/// What is waited at most after the last of them, so that a cut may hit any part of a commit.
const MOMENT_US: u64 = 4_000;
/// What is waited at most when the opening or making is to be hit.
const OPENING_US: u64 = 250_000;

const TOOLS: [&str; 2] = ["xfs_io", "losetup"];

/// Room for the store, its copy and the file system's own log; XFS is made no smaller.
fn bytes(kind: &str) -> u64 {
    if kind == "xfs" { 320 << 20 } else { 128 << 20 }
}

/// Lets a process work, cuts the power at a moment that chance has chosen, and returns what the process told.
fn round(ground: &Ground, kind: Kind, known: u64, random: &mut impl Rng) -> Told {
    let mut writer = Writer::start(&ground.home(), kind, known);
    if random.next_u64().is_multiple_of(5) {
        writer.wait(0, Duration::from_micros(random.next_u64() % OPENING_US));
    } else {
        let moment = Duration::from_micros(random.next_u64() % MOMENT_US);
        writer.wait(1 + random.next_u64() % COMMITS, moment);
    }
    let told = if random.next_u64().is_multiple_of(2) {
        // Between two writes: everything it acknowledged counts.
        let told = writer.kill();
        ground.cut();
        told
    } else {
        // In the middle of a write. A sync that the cut meets may be told that all is well, which no real power cut does;
        // so of what is acknowledged only that counts which was before.
        let before = writer.told();
        ground.cut();
        // At its next write it is told of the error, and ends by itself.
        let told = writer.ended();
        assert!(told.failed.is_some() || told.opened.is_none(), "the power is off, and {told:?}");
        Told { acknowledged: told.acknowledged.min(before.acknowledged), ..told }
    };
    ground.restore();
    told
}

/// Compares what is there with what was acknowledged; an error says what is missing.
fn look(store: Result<Store, StoreError>, told: &Told, known: &mut Known) -> Result<(), String> {
    let store = store.map_err(|error| error.to_string())?;
    let found = store.commit_number();
    if !(told.acknowledged..=told.begun.max(told.acknowledged)).contains(&found) {
        return Err(format!("commit {found} is there; {told:?}"));
    }
    known.advance(found);
    known.difference(&store)
}

/// Rounds on one file system; returns what was lost in which. A folder goes on from round to round; the controls begin anew
/// each time, since sled rewrites and syncs the end of its file when it is opened, and what it then writes over is safe.
fn rounds(ground: &Ground, kind: Kind, rounds: u32, seed: u64) -> Vec<String> {
    let mut random = rng(seed);
    let mut known = Known::nothing(kind.load());
    let (mut commits, mut opening, mut between) = (0, 0, 0);
    let mut losses = Vec::new();
    for number in 0..rounds {
        let goes_on = matches!(kind, Kind::Cut | Kind::Journal | Kind::Large | Kind::Nodes);
        if known.number == 0 || !goes_on {
            drop(fs::remove_dir_all(ground.home()));
            known = Known::nothing(kind.load());
            // Or the cut would bring it back.
            rustix::fs::sync();
            if kind == Kind::Cut {
                open_kind(&ground.home(), Kind::Made).unwrap().close().unwrap();
            }
        }
        let told = round(ground, kind, known.number, &mut random);
        opening += u32::from(told.opened.is_none());
        between += u32::from(told.is_between());
        commits += told.acknowledged - known.number;
        if kind == Kind::Nodes {
            let files = fs::read_dir(ground.home().join("store/blobs")).map_or(0, Iterator::count);
            assert_eq!(files, 0, "sled made files of its own");
        }
        if let Err(what) = look(open_kind(&ground.home(), kind), &told, &mut known) {
            losses.push(format!("round {number}: {what}"));
            known = Known::nothing(kind.load());
        }
    }
    eprintln!(
        "{kind:?}: {rounds} cuts, {commits} commits acknowledged, lost something in {}; {opening} while opening, {between} in the \
         middle of a commit",
        losses.len()
    );
    // A commit without any sync is too short to be hit.
    let hit = between * 4 > rounds || kind == Kind::UnsyncedJournal;
    assert!(hit, "the cuts hit nothing: {between} of {rounds}");
    losses
}

#[test]
fn nothing_acknowledged_is_lost_to_power_cuts_on_ext4() {
    inside("cut::nothing_acknowledged_is_lost_to_power_cuts_on_ext4", &TOOLS, || {
        let Some(ground) = Ground::new("ext4", bytes("ext4")) else { return };
        assert_eq!(rounds(&ground, Kind::Cut, 50, 1), [""; 0]);
    });
}

#[test]
fn nothing_acknowledged_is_lost_to_power_cuts_on_xfs() {
    inside("cut::nothing_acknowledged_is_lost_to_power_cuts_on_xfs", &TOOLS, || {
        let Some(ground) = Ground::new("xfs", bytes("xfs")) else { return };
        assert_eq!(rounds(&ground, Kind::Cut, 50, 2), [""; 0]);
    });
}

/// With a journal so short that most cuts meet a piece of it on its way to sled.
#[test]
fn power_cuts_between_journal_and_records_lose_nothing() {
    inside("cut::power_cuts_between_journal_and_records_lose_nothing", &TOOLS, || {
        for kind in ["ext4", "xfs"] {
            let Some(ground) = Ground::new(kind, bytes(kind)) else { continue };
            assert_eq!(rounds(&ground, Kind::Journal, 30, 7), [""; 0]);
        }
    });
}

/// With the journal that the daemon has, and values that fill it in some tens of commits: pieces are of full size, and uncut they make
/// nodes that sled puts into files of its own, of which it lost every hundredth in such cuts.
#[test]
fn power_cuts_while_large_nodes_are_written_lose_nothing() {
    inside("cut::power_cuts_while_large_nodes_are_written_lose_nothing", &TOOLS, || {
        for kind in ["ext4", "xfs"] {
            let Some(ground) = Ground::new(kind, 512 << 20) else { continue };
            let cuts = std::env::var("OOB_CUTS").map_or(15, |cuts| cuts.parse().unwrap());
            let seed = std::env::var("OOB_SEED").map_or(11, |seed| seed.parse().unwrap());
            let lost = rounds(&ground, Kind::Nodes, cuts, seed);
            assert_eq!(lost, [""; 0], "{kind}");
        }
    });
}

/// The control: the same cuts, and a journal whose sync does nothing.
#[test]
fn without_its_sync_the_journal_loses_what_was_acknowledged() {
    inside("cut::without_its_sync_the_journal_loses_what_was_acknowledged", &TOOLS, || {
        for kind in ["ext4", "xfs"] {
            let Some(ground) = Ground::new(kind, bytes(kind)) else { continue };
            let lost = rounds(&ground, Kind::UnsyncedJournal, 10, 3);
            lost.iter().for_each(|what| eprintln!("{kind} without the sync: {what}"));
            assert!(lost.len() >= 4, "{kind}: ten cuts without a sync, and only {lost:?}");
        }
    });
}

/// Values of 300,000 bytes, which uncut sled puts into files of their own.
#[test]
fn large_values_are_survived_on_xfs() {
    inside("cut::large_values_are_survived_on_xfs", &TOOLS, || {
        let cuts = std::env::var("OOB_CUTS").map_or(30, |cuts| cuts.parse().unwrap());
        let seed = std::env::var("OOB_SEED").map_or(8, |seed| seed.parse().unwrap());
        let Some(ground) = Ground::new("xfs", bytes("xfs")) else { return };
        assert_eq!(rounds(&ground, Kind::Large, cuts, seed), [""; 0]);
    });
}

/// The control: the same cuts, the same store, but for the fsync behind sled's own flush. It must lose, or these tests show
/// nothing; with the fsync the same parts do not.
#[test]
fn without_the_barrier_power_cuts_lose_what_was_acknowledged() {
    inside("cut::without_the_barrier_power_cuts_lose_what_was_acknowledged", &TOOLS, || {
        for kind in ["ext4", "xfs"] {
            let Some(ground) = Ground::new(kind, bytes(kind)) else { continue };
            assert_eq!(rounds(&ground, Kind::Parts, 10, 3), [""; 0]);
            drop(fs::remove_dir_all(ground.home()));
            let lost = rounds(&ground, Kind::Unsynced, 10, 3);
            lost.iter().for_each(|what| eprintln!("{kind} without the barrier: {what}"));
            assert!(lost.len() >= 5, "{kind}: ten cuts without a barrier, and only {lost:?}");
        }
    });
}

/// A store whose making was cut short is none, or whole; one that was told of is whole.
#[test]
fn power_cut_while_a_store_is_made() {
    inside("cut::power_cut_while_a_store_is_made", &TOOLS, || {
        let mut random = rng(4);
        let (mut none, mut whole) = (0, 0);
        for kind in ["ext4", "xfs"] {
            let Some(ground) = Ground::new(kind, bytes(kind)) else { continue };
            for _ in 0..15 {
                drop(fs::remove_dir_all(ground.home()));
                // Durable, so that what is found afterwards is of this round.
                rustix::fs::sync();
                let mut writer = Writer::start(&ground.home(), Kind::Made, 0);
                writer.wait(
                    random.next_u64() % 3,
                    Duration::from_micros(random.next_u64() % OPENING_US),
                );
                let told = writer.kill();
                ground.cut();
                ground.restore();
                let mut known = Known::nothing(Kind::Made.load());
                match open(&ground.home()) {
                    Err(StoreError::Missing { .. }) if told.opened.is_none() => {
                        none += 1;
                        Store::create(&ground.home(), &passphrase(), FAST, rng(5)).unwrap();
                    }
                    other => {
                        whole += 1;
                        look(other, &told, &mut known).unwrap();
                    }
                }
            }
        }
        eprintln!(
            "30 cuts while a store is made: {none} times there is none, {whole} times a whole one"
        );
        assert!(none > 0 && whole > 0, "{none} {whole}");
    });
}

/// The slots as they lie on the disk: every cell of the file by its place.
fn cells(slots: &std::path::Path) -> Vec<[u8; 64]> {
    fs::read(slots).unwrap().as_chunks::<64>().0.to_vec()
}

/// Looks for cells anywhere in an image; returns how often each is found.
fn hits(image: fs::File, cells: &[[u8; 64]]) -> Vec<usize> {
    let by_start: BTreeMap<[u8; 8], usize> =
        cells.iter().enumerate().map(|(at, cell)| (cell[..8].try_into().unwrap(), at)).collect();
    let mut starts = vec![false; 1 << 16];
    for cell in cells {
        starts[usize::from(u16::from_be_bytes([cell[0], cell[1]]))] = true;
    }
    let mut found = vec![0; cells.len()];
    let mut image = std::io::BufReader::with_capacity(1 << 20, image);
    let mut window: Vec<u8> = Vec::new();
    let mut chunk = vec![0; 1 << 20];
    loop {
        let len = image.read(&mut chunk).unwrap();
        if len == 0 {
            return found;
        }
        // Most of an image was never written to.
        if chunk[..len].iter().all(|byte| *byte == 0) && window.iter().all(|byte| *byte == 0) {
            continue;
        }
        window.extend_from_slice(&chunk[..len]);
        for at in 0..window.len().saturating_sub(63) {
            if !starts[usize::from(u16::from_be_bytes([window[at], window[at + 1]]))] {
                continue;
            }
            let candidate = &window[at..at + 64];
            if let Some(number) = by_start.get(&candidate[..8])
                && candidate == cells[*number]
            {
                found[*number] += 1;
            }
        }
        // The last 63 bytes may be the beginning of a cell.
        window.drain(..window.len().saturating_sub(63));
    }
}

/// What somebody finds who takes the disk and reads all of it, free space and the file system's log included.
#[test]
fn overwritten_keys_are_nowhere_on_the_disk_and_live_ones_are() {
    inside("cut::overwritten_keys_are_nowhere_on_the_disk_and_live_ones_are", &TOOLS, || {
        for kind in ["ext4", "xfs"] {
            let Some(ground) = Ground::new(kind, bytes(kind)) else { continue };
            let home = ground.home();
            let mut store = Store::create(&home, &passphrase(), FAST, rng(6)).unwrap().store;
            let names: Vec<Vec<u8>> = (0..24_u8).map(|n| vec![b's', n]).collect();
            let mut burnt = Vec::new();
            let mut live = Vec::new();
            // Every state of every session is on the disk for a while, as it is when somebody writes now and then.
            for step in 0..40_u8 {
                for name in &names {
                    store.put_secret(name, &[step; 100]);
                }
                store.commit().unwrap();
                store.idle().unwrap();
                rustix::fs::sync();
                let now = cells(&home.join("slots"));
                burnt.extend(live.iter().filter(|cell| !now.contains(cell)).copied());
                live = now;
            }
            // A deleted secret has no live slot.
            store.delete_secret(&names[0]);
            store.commit().unwrap();
            store.idle().unwrap();
            let now = cells(&home.join("slots"));
            burnt.extend(live.iter().filter(|cell| !now.contains(cell)).copied());
            live = now;
            drop(store);
            live =
                if cells(&home.join("slots")) == live { live } else { cells(&home.join("slots")) };
            // The control: cells of a file that is written anew and takes the place of the one before.
            let copied: Vec<[u8; 64]> = (0..32_u8)
                .map(|n| {
                    let mut cell = [0; 64];
                    rng(1_000 + u64::from(n)).fill_bytes(&mut cell);
                    cell
                })
                .collect();
            let (old, new) = (ground.folder().join("copied"), ground.folder().join("copied.new"));
            fs::write(&old, copied.concat()).unwrap();
            rustix::fs::sync();
            fs::write(&new, vec![7; 64 * copied.len()]).unwrap();
            fs::File::open(&new).unwrap().sync_all().unwrap();
            fs::rename(&new, &old).unwrap();
            rustix::fs::sync();

            let all: Vec<[u8; 64]> = [&burnt[..], &live, &copied].concat();
            let found = hits(ground.image(), &all);
            let count = |part: &[usize]| part.iter().filter(|hits| **hits > 0).count();
            let (of_burnt, rest) = found.split_at(burnt.len());
            let (of_live, of_copied) = rest.split_at(live.len());
            eprintln!(
                "{kind}: {} of {} overwritten keys found, {} of {} live ones; written anew and renamed: {} of {}",
                count(of_burnt),
                burnt.len(),
                count(of_live),
                live.len(),
                count(of_copied),
                copied.len()
            );
            assert!(burnt.len() > 900, "{}", burnt.len());
            assert_eq!(count(of_burnt), 0);
            assert_eq!(count(of_live), live.len());
            assert!(count(of_copied) > 0, "the search finds nothing");
        }
    });
}
