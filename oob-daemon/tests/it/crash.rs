//! Three daemons that are killed with -9 at random moments while all of them write to each other.

use crate::{
    crowd::{Crowd, News, Sent, ms, send},
    netlab::turn,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::json;
use std::{
    collections::BTreeMap,
    env,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, mpsc::SyncSender},
    thread,
    time::{Duration, Instant},
};

const NAMES: [&str; 3] = ["Dana", "Sam", "Rosa"];

/// What is chosen by chance follows from it, unless `OOB_SEED` gives another.
const SEED: u64 = 7;

/// Messages of one person to another that are under way at once: load enough to be killed in the middle of, and little
/// enough to be settled soon.
const WINDOW: u64 = 16;

/// Longest time between two kills, of which a random part is waited.
const MOMENT_MS: u64 = 600;

/// Longest wait until all that was left behind is delivered.
const PATIENCE: Duration = Duration::from_secs(120);

/// What one sender may do now.
#[derive(Default)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Default)]
struct GateState {
    /// How often its daemon was started; none while it is known to be down.
    run: Option<u64>,
    sent: [u64; 3],
    delivered: [u64; 3],
    over: bool,
}

impl Gate {
    fn set(&self, change: impl FnOnce(&mut GateState)) {
        change(&mut self.state.lock().unwrap());
        self.changed.notify_all();
    }

    /// Waits until there is somebody to write to; none at the end. `failed` is the run that did not answer.
    fn next(
        &self,
        failed: Option<u64>,
        choose: impl Fn(&[usize]) -> usize,
    ) -> Option<(u64, usize)> {
        let mut state = self.state.lock().unwrap();
        loop {
            if state.over {
                return None;
            }
            let free: Vec<_> =
                (0..3).filter(|to| state.sent[*to] < state.delivered[*to] + WINDOW).collect();
            match state.run {
                Some(run) if Some(run) != failed && !free.is_empty() => {
                    return Some((run, choose(&free)));
                }
                _ => state = self.changed.wait(state).unwrap(),
            }
        }
    }
}

/// Writes to the two others until told to end, and tells what was acknowledged.
fn write(me: usize, seed: u64, socket: PathBuf, gate: Arc<Gate>, tell: SyncSender<News>) {
    let mut rng = StdRng::seed_from_u64(seed + 100 + me as u64);
    let (mut number, mut failed) = (0_u64, None);
    loop {
        let chance = rng.random_range(0..2_usize);
        let choose = |free: &[usize]| free[chance % free.len()];
        let Some((run, to)) = gate.next(failed, choose) else { return };
        number += 1;
        let text = format!("{} number {number}", NAMES[me]);
        let began = Instant::now();
        let news = match send(&socket, NAMES[to], &text) {
            Ok(id) => {
                gate.state.lock().unwrap().sent[to] += 1;
                News::Acknowledged(Sent { id, from: me, to, began })
            }
            Err(_) => {
                failed = Some(run);
                News::Doubtful { from: me, to, text }
            }
        };
        if tell.send(news).is_err() {
            return;
        }
    }
}

fn killed_again_and_again(rounds: u64) {
    let seed = env::var("OOB_SEED").map_or(SEED, |seed| seed.parse().unwrap());
    let mut rng = StdRng::seed_from_u64(seed);
    let mut crowd = Crowd::met(&NAMES);
    let gates: [Arc<Gate>; 3] = Default::default();
    for (number, gate) in gates.iter().enumerate() {
        crowd.start(number);
        gate.set(|state| {
            state.run = Some(0);
            // Nobody writes to themselves.
            state.sent[number] = u64::MAX / 2;
        });
    }
    crowd.know_each_other(PATIENCE);
    let start = Instant::now();
    let mut told = BTreeMap::new();
    let mut under_way = Vec::new();
    let writers: Vec<_> = gates
        .iter()
        .enumerate()
        .map(|(number, gate)| {
            let (socket, gate) = (crowd.people[number].socket(), Arc::clone(gate));
            let tell = crowd.teller();
            thread::spawn(move || write(number, seed, socket, gate, tell))
        })
        .collect();
    let mut pass = |crowd: &mut Crowd, time: Duration| {
        let end = Instant::now() + time;
        while Instant::now() < end {
            crowd.hear(end);
            // The writers are told only when something came.
            if crowd.ledger.done == told {
                continue;
            }
            told.clone_from(&crowd.ledger.done);
            let mut delivered = [[0; 3]; 3];
            for ((from, to), count) in &told {
                delivered[*from][*to] = *count;
            }
            for (gate, delivered) in gates.iter().zip(delivered) {
                gate.set(|state| state.delivered = delivered);
            }
        }
    };
    for round in 1..=rounds {
        let victim = rng.random_range(0..3_usize);
        pass(&mut crowd, Duration::from_millis(rng.random_range(0..MOMENT_MS)));
        under_way.push(crowd.ledger.open().count());
        crowd.kill(victim);
        gates[victim].set(|state| state.run = None);
        pass(&mut crowd, Duration::from_millis(rng.random_range(0..MOMENT_MS)));
        crowd.start(victim);
        gates[victim].set(|state| state.run = Some(round));
    }
    for gate in &gates {
        gate.set(|state| state.over = true);
    }
    let loaded = start.elapsed();
    for writer in writers {
        // What it still has to tell finds a place: the queue is larger than all that is under way.
        writer.join().unwrap();
    }
    let settled = crowd.settle(PATIENCE);
    let acknowledged = crowd.ledger.messages.len();
    let messages = crowd.check();
    // Killed while idle it would show nothing.
    let loaded_kills = under_way.iter().filter(|open| **open > 0).count();
    assert!(loaded_kills * 2 > under_way.len(), "under way at the kills: {under_way:?}");
    under_way.sort_unstable();
    let report = json!({
        "lab": "kill -9", "seed": seed, "rounds": rounds, "acknowledged": acknowledged,
        "under_way_at_a_kill": under_way[under_way.len() / 2],
        "stored_without_an_answer": messages - acknowledged, "loaded_ms": ms(loaded), "settled_ms": ms(settled),
        "lost": 0, "twice": 0, "in_order": true
    });
    eprintln!("{report}");
}

#[test]
fn five_kills_under_load_lose_nothing_and_double_nothing() {
    killed_again_and_again(5);
}

#[test]
fn fifty_kills_under_load_lose_nothing_and_double_nothing() {
    if env::var_os("OOB_HEAVY").is_none() {
        eprintln!("SKIPPED: takes minutes; run it with OOB_HEAVY=1");
        return;
    }
    let _turn = turn();
    killed_again_and_again(50);
}
