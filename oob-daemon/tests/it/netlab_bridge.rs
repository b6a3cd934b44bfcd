//! Ten hosts on one bridge, of which three in turn lose their connection and come back while everybody writes.

use crate::{
    crowd::{Crowd, ms, quantile},
    netlab::lab,
};
use oob_netlab::Host;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const NAMES: [&str; 10] =
    ["Dana", "Sam", "Rosa", "Eli", "Mira", "Jon", "Tess", "Omar", "Lena", "Kofi"];

/// What is chosen by chance follows from it.
const SEED: u64 = 11;

/// Messages while all are together.
const WHOLE: usize = 400;

/// Messages while somebody is cut off, in each of three rounds.
const APART: usize = 120;

/// Messages on their way to somebody in reach at once.
const UNDER_WAY: usize = 4;

/// Longest wait for anything that must come, on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(120);

/// How somebody loses the connection and gets it back.
type Cut = (&'static str, usize, fn(&Host, bool));

/// Two by a cable that is pulled, which the own device cannot see; one by switching the radio off.
const CUTS: [Cut; 3] = [
    ("cable", 3, |host, on| if on { host.restore().unwrap() } else { host.cut().unwrap() }),
    ("interface", 7, |host, on| host.interface(on).unwrap()),
    ("filter", 5, |host, on| {
        let rules = if on {
            "delete table inet cut"
        } else {
            "add table inet cut; \
             add chain inet cut in { type filter hook input priority 0; }; \
             add rule inet cut in iifname eth0 drop; \
             add chain inet cut out { type filter hook output priority 0; }; \
             add rule inet cut out oifname eth0 drop"
        };
        assert!(host.command("nft").arg(rules).status().unwrap().success());
    }),
];

/// Whether a person has others in reach.
fn with(crowd: &Crowd, number: usize) -> Value {
    crowd.status(number)["island"]["with"].clone()
}

/// Sends messages between people chosen by chance; `away` gets some, and what goes to or comes from them is not waited for.
fn write(
    crowd: &mut Crowd,
    rng: &mut StdRng,
    label: &str,
    count: usize,
    away: Option<usize>,
) -> Vec<String> {
    let mut sent = Vec::new();
    let mut waited = Vec::new();
    for number in 0..count {
        // Every fourth one is for, or by, the one who is away.
        let chosen = away.filter(|_| number % 4 == 0);
        let from = chosen.filter(|_| number % 8 == 0);
        let from = from.unwrap_or_else(|| {
            loop {
                let from = rng.random_range(0..NAMES.len());
                if Some(from) != away {
                    break from;
                }
            }
        });
        let to = chosen.filter(|to| *to != from).unwrap_or_else(|| {
            loop {
                let to = rng.random_range(0..NAMES.len());
                if to != from && Some(to) != away {
                    break to;
                }
            }
        });
        let id = crowd.send(from, to, &format!("{label} {number}"));
        if ![from, to].map(Some).contains(&away) {
            waited.push(id.clone());
        }
        sent.push(id);
        crowd.until("room for one more message", PATIENCE, |crowd| {
            waited.iter().rev().take(64).filter(|id| !crowd.ledger.came.contains_key(*id)).count()
                < UNDER_WAY
        });
    }
    sent
}

#[test]
fn ten_on_one_bridge_miss_nothing_while_three_in_turn_are_cut_off() {
    let Some(lab) = lab() else { return };
    let mut rng = StdRng::seed_from_u64(SEED);
    let mut crowd = Crowd::of(&NAMES);
    for person in &mut crowd.people {
        person.host = Some(lab.host(&person.name.to_lowercase()).unwrap());
    }
    let began = Instant::now();
    crowd.start(0);
    let mut joins = Vec::new();
    for number in 1..NAMES.len() {
        crowd.start(number);
        let join = Instant::now();
        crowd.join(number);
        joins.push(join.elapsed());
    }
    joins.sort_unstable();
    let meeting = crowd.know_each_other(PATIENCE);
    let together = began.elapsed();

    let whole = write(&mut crowd, &mut rng, "together", WHOLE, None);
    crowd.settle(PATIENCE);
    let whole = crowd.ledger.latencies(&whole);

    let mut cuts = Vec::new();
    for (how, away, cut) in CUTS {
        let host = crowd.people[away].host.clone().unwrap();
        cut(&host, false);
        let began = Instant::now();
        // The first half is sent before anybody knows, the second when everybody does.
        let mut sent = write(&mut crowd, &mut rng, how, APART / 2, Some(away));
        crowd.until("the others to miss them", PATIENCE, |crowd| {
            (0..NAMES.len()).all(|number| {
                with(crowd, number) == if number == away { 1 } else { NAMES.len() - 1 }
            })
        });
        let missed = began.elapsed();
        sent.extend(write(&mut crowd, &mut rng, how, APART / 2, Some(away)));
        let waiting = crowd.ledger.open().count();
        assert!(waiting > 0, "nothing waits for {}, so it is not cut off", NAMES[away]);
        let there = |crowd: &Crowd| {
            crowd
                .ledger
                .open()
                .filter(|sent| sent.to == away && !crowd.ledger.came.contains_key(&sent.id))
                .count()
        };
        assert!(there(&crowd) > 0, "nothing waits for {}", NAMES[away]);
        cut(&host, true);
        let linked = crowd.until("a first link", PATIENCE, |crowd| with(crowd, away) != 1);
        let back = crowd.until("everything to come", PATIENCE, |crowd| {
            sent.iter().all(|id| crowd.ledger.came.contains_key(id))
        });
        let told = crowd.settle(PATIENCE);
        let others: Vec<_> = sent
            .iter()
            .filter(|id| {
                crowd
                    .ledger
                    .messages
                    .get(*id)
                    .is_some_and(|sent| sent.to != away && sent.from != away)
            })
            .collect();
        let others = crowd.ledger.latencies(others);
        cuts.push(json!({
            "who": NAMES[away], "how": how, "apart_ms": ms(missed), "waiting": waiting,
            "first_link_ms": ms(linked), "all_there_ms": ms(linked + back), "all_told_ms": ms(linked + back + told),
            "others_p50_ms": quantile(&others, 0.5), "others_p99_ms": quantile(&others, 0.99)
        }));
        crowd.know_each_other(PATIENCE);
    }
    let messages = crowd.check();
    let report = json!({
        "lab": "ten on one bridge", "seed": SEED, "all_together_ms": ms(together),
        "join_p50_ms": quantile(&joins, 0.5), "join_max_ms": quantile(&joins, 1.0), "last_links_ms": ms(meeting),
        "whole": { "messages": whole.len(), "p50_ms": quantile(&whole, 0.5), "p99_ms": quantile(&whole, 0.99) },
        "cuts": cuts, "messages": messages, "exactly_once_in_order": true
    });
    eprintln!("{report}");
}
