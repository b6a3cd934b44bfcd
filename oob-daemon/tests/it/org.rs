//! Several admins over real daemons: keys are offered, a set is proposed, and what two have to sign waits for the second.

use crate::crowd::Crowd;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Longest until what one said is known to another.
const PATIENCE: Duration = Duration::from_secs(60);

fn org(crowd: &Crowd, of: usize) -> Value {
    crowd.people[of].home.json(&["org", "show"])
}

/// Asks until the answer is as wanted.
fn until(crowd: &Crowd, of: usize, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
    let began = Instant::now();
    loop {
        let org = org(crowd, of);
        if wanted(&org) {
            return org;
        }
        assert!(began.elapsed() < PATIENCE, "{what} at {}: {org:#}", crowd.people[of].name);
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn names(of: &Value) -> Vec<&str> {
    of.as_array().unwrap().iter().filter_map(|admin| admin["name"].as_str()).collect()
}

#[test]
fn three_admins_decide_by_two_and_one_alone_decides_nothing() {
    let mut crowd = Crowd::of(&["Dana", "Sam", "Noor"]);
    crowd.start(0);
    for number in 1..3 {
        crowd.start(number);
        crowd.join(number);
    }
    crowd.know_each_other(Duration::from_secs(120));
    let alone = org(&crowd, 0);
    assert_eq!((&alone["k"], names(&alone["admins"])), (&json!(1), vec!["Dana"]));
    assert_eq!((&alone["members"], &alone["admins"][0]["me"]), (&json!(3), &json!(true)));

    // Nobody is named who has no key for it; nor two.
    let propose = ["org", "propose", "admins", "dana", "sam", "noor", "--sign", "2"];
    let refused = crowd.people[0].home.oob(&[&["--json"][..], &propose].concat());
    let error = refused.error("not_found", 4);
    assert!(error["hint"].as_str().unwrap().contains("oob org admin offer"), "{error}");
    let two = crowd.people[0].home.oob(&["--json", "org", "propose", "admins", "dana", "sam"]);
    two.error("out_of_range", 1);
    for person in &crowd.people {
        person.home.json(&["org", "admin", "offer"]);
    }
    until(&crowd, 0, "three offers", |org| names(&org["offers"]).len() == 3);
    crowd.people[1].home.oob(&[&["--json"][..], &propose].concat()).error("not_admin", 5);
    let signed = crowd.people[0].home.json(&propose);
    assert_eq!((&signed["decided"], &signed["missing"]), (&json!(true), &json!(0)));
    for number in 0..3 {
        let org = until(&crowd, number, "three admins", |org| org["k"] == 2);
        assert_eq!(names(&org["admins"]), ["Dana", "Noor", "Sam"]);
    }

    // Another name waits for the second signature.
    let signed = crowd.people[2].home.json(&["org", "propose", "name", "Harbour Clinic North"]);
    assert_eq!((&signed["decided"], &signed["missing"]), (&json!(false), &json!(1)));
    let id = signed["proposal"].as_str().unwrap();
    let waiting = until(&crowd, 1, "a proposal", |org| org["proposals"] != json!([]));
    let open = &waiting["proposals"][0];
    assert_eq!(
        (&open["proposal"], &open["kind"], &open["needed"]),
        (&json!(id), &json!("name"), &json!(2))
    );
    assert_eq!(
        (names(&open["signed"]), names(&open["missing"])),
        (vec!["Noor"], vec!["Dana", "Sam"])
    );
    assert_eq!(waiting["name"], "Harbour Clinic");
    let shown = crowd.people[1].home.oob(&["org", "status"]);
    assert!(shown.stdout.contains("signed by 1 of 2: Noor"), "{}", shown.stdout);
    crowd.people[2].home.oob(&["--json", "org", "sign", id]).error("signed_already", 1);
    let signed = crowd.people[1].home.json(&["org", "sign", &id[..8]]);
    assert_eq!(signed["decided"], true);
    for number in 0..3 {
        until(&crowd, number, "the name", |org| org["name"] == "Harbour Clinic North");
    }
    crowd.people[0].home.oob(&["--json", "org", "sign", id]).error("not_found", 4);

    // It holds over a start, and the new key invites.
    crowd.stop(1);
    crowd.start(1);
    let org = org(&crowd, 1);
    assert_eq!((&org["k"], &org["name"]), (&json!(2), &json!("Harbour Clinic North")));
    crowd.people[1].home.invite();
}
