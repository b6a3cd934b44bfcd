//! Four hosts in a row, each seeing only its neighbours: what is for somebody further away is passed on.

use crate::{
    crowd::{Crowd, ask, ms, quantile},
    netlab::lab,
};
use serde_json::json;
use std::time::{Duration, Instant};

const DANA: usize = 0;
const SAM: usize = 1;
const ROSA: usize = 2;
const ELI: usize = 3;

/// Longest wait for anything that must come, on a machine that does much else: what gossip loses is repaired in seconds.
const PATIENCE: Duration = Duration::from_secs(90);

/// Messages of each person to each other one.
const ROUNDS: usize = 10;

#[test]
fn in_a_chain_of_four_everything_passes_from_end_to_end() {
    let Some(lab) = lab() else { return };
    let mut crowd = Crowd::met(&["Dana", "Sam", "Rosa", "Eli"]);
    let line = lab.line(&["dana", "sam", "rosa", "eli"]).unwrap();
    // The control: the ends have no way to each other.
    for (from, to) in [(0, 3), (3, 0), (0, 2), (3, 1)] {
        let address = line[to].address().to_string();
        let route = line[from].command("ip").args(["route", "get", &address]).output().unwrap();
        assert!(!route.status.success(), "{from} has a route to {to}");
    }
    for (person, host) in crowd.people.iter_mut().zip(&line) {
        person.host = Some(host.clone());
    }
    for number in 0..4 {
        crowd.start(number);
    }
    let linked = crowd.until("links to all neighbours", PATIENCE, neighbours);

    // Nothing is carried yet, so what Rosa then carries are these. She alone is left when the addressee comes.
    crowd.stop(ELI);
    assert_eq!(crowd.status(ROSA)["held"], 0);
    let first: Vec<_> = (0..5).map(|n| crowd.send(DANA, ELI, &format!("first {n}"))).collect();
    let two_hops = crowd.until("Rosa to carry them", PATIENCE, |crowd| {
        crowd.status(ROSA)["held"].as_u64().unwrap() >= 5
    });
    crowd.stop(DANA);
    crowd.stop(SAM);
    crowd.start(ELI);
    let two_gone = crowd.until("messages carried over two hops", PATIENCE, |crowd| {
        first.iter().all(|id| crowd.ledger.came.contains_key(id))
    });
    crowd.start(SAM);
    crowd.start(DANA);
    crowd.settle(PATIENCE);
    crowd.until("links to all neighbours", PATIENCE, neighbours);

    // Everybody with everybody.
    let mut sent = Vec::new();
    for round in 0..ROUNDS {
        for (from, to) in (0..4).flat_map(|from| (0..4).map(move |to| (from, to))) {
            if from != to {
                let id = crowd.send(from, to, &format!("round {round}"));
                sent.push((from.abs_diff(to), id));
            }
        }
    }
    crowd.until("every message", PATIENCE, |crowd| {
        sent.iter().all(|(_, id)| crowd.ledger.came.contains_key(id))
    });
    let receipts = crowd.settle(PATIENCE);
    assert!(neighbours(&crowd), "somebody is linked with more than the neighbours");
    let hops = [1, 2, 3].map(|hops| {
        let of = sent.iter().filter(|(over, _)| *over == hops).map(|(_, id)| id);
        let took = crowd.ledger.latencies(of);
        json!({ "messages": took.len(), "p50_ms": quantile(&took, 0.5), "max_ms": quantile(&took, 1.0) })
    });
    // One at a time, from end to end.
    let mut alone = Vec::new();
    for number in 0..ROUNDS {
        let id = crowd.send(DANA, ELI, &format!("alone {number}"));
        crowd.until("a message over three hops", PATIENCE, |crowd| {
            crowd.ledger.delivered.contains_key(&id)
        });
        alone.push(id);
    }
    let alone = crowd.ledger.latencies(&alone);

    // An alert of one end is counted there when the other has acknowledged it.
    let began = Instant::now();
    let alert = json!({ "text": "Do not log in. Mail is compromised.", "severity": "critical" });
    let dana = crowd.people[DANA].socket();
    let (status, alert) = ask(&dana, "POST", "/api/v1/alerts", Some(&alert)).unwrap();
    assert_eq!(status, 200, "{alert}");
    let id = alert["id"].as_str().unwrap().to_owned();
    let mut alerted = Vec::new();
    for number in 1..4 {
        crowd.until("the alert", PATIENCE, |crowd| {
            crowd.ledger.others.iter().any(|(person, event, _)| {
                *person == number && event["type"] == "alert" && event["id"] == *id
            })
        });
        alerted.push(ms(began.elapsed()));
    }
    let acknowledged = Instant::now();
    for number in [ELI, ROSA, SAM] {
        let path = format!("/api/v1/alerts/{id}/ack");
        let answer = json!({ "answer": "safe" });
        let socket = crowd.people[number].socket();
        assert_eq!(ask(&socket, "POST", &path, Some(&answer)).unwrap().0, 200);
        crowd.until("the acknowledgement", PATIENCE, |crowd| {
            crowd.ledger.others.iter().any(|(person, event, _)| {
                *person == DANA
                    && event["type"] == "alert_acked"
                    && event["id"] == *id
                    && event["name"] == crowd.people[number].name
            })
        });
    }
    let counted = acknowledged.elapsed();
    let (_, shown) = ask(&dana, "GET", &format!("/api/v1/alerts/{id}"), None).unwrap();
    assert_eq!(shown["acked"].as_array().unwrap().len(), 3, "{shown}");

    // The addressee is off when it is sent, and the author is off when the addressee comes back.
    crowd.stop(ELI);
    let late: Vec<_> = (0..5).map(|n| crowd.send(DANA, ELI, &format!("late {n}"))).collect();
    let held = crowd.until("somebody to carry them", PATIENCE, |crowd| {
        late.iter().all(|id| crowd.ledger.held.contains_key(id))
    });
    crowd.stop(DANA);
    crowd.start(ELI);
    let carried = crowd.until("messages whose author is gone", PATIENCE, |crowd| {
        late.iter().all(|id| crowd.ledger.came.contains_key(id))
    });
    crowd.start(DANA);
    let told = crowd.until("receipts for them", PATIENCE, |crowd| {
        late.iter().all(|id| crowd.ledger.delivered.contains_key(id))
    });
    crowd.settle(PATIENCE);

    let messages = crowd.check();
    let report = json!({
        "lab": "chain of four", "linked_ms": ms(linked), "hops": hops, "receipts_ms": ms(receipts),
        "three_hops_alone": { "p50_ms": quantile(&alone, 0.5), "max_ms": quantile(&alone, 1.0) },
        "alert_ms": alerted, "three_answers_counted_ms": ms(counted),
        "author_gone": { "held_ms": ms(held), "delivered_ms": ms(carried), "told_ms": ms(told) },
        "two_gone": { "held_by_the_second_ms": ms(two_hops), "delivered_ms": ms(two_gone) },
        "messages": messages, "exactly_once_in_order": true
    });
    eprintln!("{report}");
}

/// Whether everybody is linked with their neighbours in the line and nobody else.
fn neighbours(crowd: &Crowd) -> bool {
    (0..4_usize).all(|number| {
        let status = crowd.status(number);
        let linked = |other: usize| {
            status["peers"].as_array().unwrap().iter().any(|peer| {
                peer["member_name"] == crowd.people[other].name && peer["reachable"] == true
            })
        };
        (0..4)
            .filter(|other| *other != number)
            .all(|other| linked(other) == (number.abs_diff(other) == 1))
    })
}
