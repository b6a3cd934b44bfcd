//! Three people of whom one is away: what the others are told, and who carries what is written meanwhile.

use crate::harness::{Home, Two};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

#[test]
fn whoever_is_away_is_told_with_what_is_held_for_them_and_by_whom() {
    let Two { dana, sam } = Two::met();
    let rosa = Home::of("Rosa", None);
    rosa.up();
    rosa.json(&["join", dana.invite().to_str().unwrap()]);
    rosa.json(&["send", "dana", "I am in", "--wait", "delivered", "--timeout", "90s"]);
    rosa.json(&["send", "sam", "hello", "--wait", "delivered", "--timeout", "90s"]);
    assert_eq!(dana.json(&["status"])["island"], json!({"with": 3, "of": 3, "away": []}));
    let members = [&sam, &rosa].map(|home| home.json(&["status"])["member"].clone());
    sam.down();

    let held = dana.json(&["send", "sam", "for later", "--wait", "held", "--timeout", "90s"]);
    assert_eq!(held["state"], "held");
    let entry = dana.oob(&["--json", "log", "sam"]).lines().pop().unwrap();
    assert_eq!(
        (&entry["id"], &entry["held_by"], &entry["held_by_names"]),
        (&held["id"], &json!([members[1]]), &json!(["Rosa"]))
    );
    let line = dana.oob(&["log", "sam"]).stdout;
    assert!(line.ends_with("Dana: for later  (held by Rosa)\n"), "{line}");

    // Others may have heard him a moment later than this device did, and count for so long as he being there.
    let limit = Instant::now() + Duration::from_secs(90);
    let away = loop {
        let island = dana.json(&["status"])["island"].clone();
        if island["with"] == 2 {
            break island["away"][0].clone();
        }
        assert!(Instant::now() < limit, "{island}");
    };
    assert_eq!(
        (&away["member"], &away["name"], &away["held"]),
        (&members[0], &json!("Sam"), &json!(1))
    );
    assert!(away["last_heard"].is_string(), "{away}");
    let by = match &away["heard_by_name"] {
        Value::String(name) => format!(" by {name}"),
        _ => String::new(),
    };
    let said = dana.oob(&["status"]).stdout;
    let first = said.lines().next().unwrap();
    assert!(
        first.starts_with("You are Dana in Harbour Clinic; you are with 2 of 3; Sam last heard ")
            && first.ends_with(&format!(" ago{by}; 1 message held for Sam")),
        "{first}"
    );

    // Delivered when he is back, while its author is not there.
    dana.down();
    sam.up();
    let limit = Instant::now() + Duration::from_secs(90);
    while sam.oob(&["--json", "log", "dana"]).lines().last().unwrap()["text"] != "for later" {
        assert!(Instant::now() < limit, "it was not handed over");
    }
}
