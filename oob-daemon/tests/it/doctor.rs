//! What `oob doctor` finds, each fault provoked.

use crate::harness::{Done, Home, Two};
use serde_json::Value;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// Every check of a run, and its exit code.
fn examined(done: &Done) -> Vec<Value> {
    let report: Value = serde_json::from_str(&done.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}{}", done.stdout, done.stderr));
    let checks = report["checks"].as_array().unwrap().clone();
    for check in &checks {
        let fields: Vec<_> = check.as_object().unwrap().keys().collect();
        assert_eq!(fields, ["detail", "hint", "name", "ok"], "{check}");
        assert!(check["ok"] == true || check["hint"].is_string(), "no way on: {check}");
        assert!(check["detail"].as_str().is_some_and(|detail| !detail.ends_with('.')), "{check}");
    }
    let wrong = checks.iter().any(|check| check["ok"] == false);
    assert_eq!(done.code, if wrong { 10 } else { 0 }, "{}", done.stdout);
    checks
}

#[track_caller]
fn of(checks: &[Value], name: &str) -> Value {
    let found = checks.iter().find(|check| check["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {checks:?}")).clone()
}

fn ok(checks: &[Value], name: &str) -> bool {
    of(checks, name)["ok"].as_bool().unwrap()
}

#[test]
fn a_machine_without_a_home_is_told_to_make_one() {
    let home = Home::new();
    let checks = examined(&home.oob(&["--json", "doctor"]));
    for name in ["home", "store", "daemon"] {
        assert!(!ok(&checks, name), "{name}");
    }
    let names: Vec<_> = checks.iter().map(|check| check["name"].as_str().unwrap()).collect();
    assert_eq!(
        names,
        [
            "home",
            "store",
            "copies",
            "disk",
            "daemon",
            "faults",
            "port",
            "interfaces",
            "multicast",
            "firewall",
            "clock",
            "memory",
            "core_dumps",
            "swap"
        ]
    );
    assert!(!home.path().exists(), "it made something");
    let text = home.oob(&["doctor"]);
    assert!(text.code == 10 && text.stdout.contains("\nWRONG   daemon"), "{}", text.stdout);
    assert!(text.stdout.contains("hint: make one"), "{}", text.stdout);
}

#[test]
fn a_running_daemon_is_asked_and_one_that_is_down_is_missed() {
    let two = Two::met();
    let checks = examined(&two.dana.oob(&["--json", "doctor"]));
    for name in ["home", "store", "daemon", "port", "people", "clock", "core_dumps"] {
        assert!(ok(&checks, name), "{}", of(&checks, name));
    }
    assert!(of(&checks, "people")["detail"].as_str().unwrap().starts_with("1 of 1 "));
    assert!(of(&checks, "port")["detail"].as_str().unwrap().contains("only this machine"));
    assert_eq!(of(&checks, "core_dumps")["detail"], "are off for the daemon");

    two.dana.down();
    let checks = examined(&two.dana.oob(&["--json", "doctor"]));
    assert!(!ok(&checks, "daemon") && ok(&checks, "store") && ok(&checks, "home"));
    assert!(of(&checks, "daemon")["hint"].as_str().unwrap().contains("oob up"));
    assert!(checks.iter().all(|check| check["name"] != "people"));

    // Files that others can read, and a keyring that is torn.
    let keyring = two.dana.path().join("keyring");
    fs::set_permissions(&keyring, fs::Permissions::from_mode(0o644)).unwrap();
    let whole = fs::read(&keyring).unwrap();
    fs::write(&keyring, &whole[..300]).unwrap();
    let checks = examined(&two.dana.oob(&["--json", "doctor"]));
    assert!(!ok(&checks, "home") && !ok(&checks, "store"));
}

#[test]
fn nobody_in_reach_is_a_fault_with_a_reason() {
    let two = Two::met();
    two.sam.down();
    let limit = Instant::now() + Duration::from_secs(60);
    while two.dana.json(&["status"])["peers"][0]["reachable"] == true {
        assert!(Instant::now() < limit, "sam is still thought to be reachable");
    }
    let checks = examined(&two.dana.oob(&["--json", "doctor"]));
    let people = of(&checks, "people");
    assert_eq!(people["ok"], false);
    let detail = people["detail"].as_str().unwrap();
    assert!(detail.contains("no beacon was heard and no mDNS answer came"), "{detail}");
}

/// Runs the doctor in a network of its own, after a script has made it; none if that cannot be done here.
fn in_a_network(home: &Home, script: &str) -> Option<Vec<Value>> {
    let mut command = Command::new("unshare");
    command.args(["-Urn", "sh", "-c", &format!("{script}\nexec \"$0\" \"$@\"")]);
    command.arg(env!("CARGO_BIN_EXE_oob"));
    let output = home.wrap(command, &["--json", "doctor"]).stdin(Stdio::null()).output().ok()?;
    if output.stdout.is_empty() {
        eprintln!(
            "SKIPPED: no such network can be made here: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        return None;
    }
    Some(examined(&Done::of(&output)))
}

const CABLE: &str = "set -e; ip link set lo up; ip link add oob0 type veth peer name oob1; ip addr add 10.99.0.1/24 dev oob0; \
                     ip link set oob1 up; ip link set oob0 up";

#[test]
fn a_machine_without_a_network_is_told_so() {
    let home = Home::new();
    let Some(checks) = in_a_network(&home, "ip link set lo up") else { return };
    assert!(!ok(&checks, "interfaces") && !ok(&checks, "multicast"));
    assert!(ok(&checks, "port"));
}

#[test]
fn multicast_that_a_firewall_of_this_machine_drops_is_found() {
    let home = Home::new();
    // The control: without the rule it comes back.
    let Some(checks) = in_a_network(&home, CABLE) else { return };
    assert!(ok(&checks, "interfaces") && ok(&checks, "multicast"), "{checks:?}");
    let rule = "nft add table inet t; nft add chain inet t in '{ type filter hook input priority 0; }'; \
                nft add rule inet t in ip daddr 224.0.0.0/4 drop";
    let Some(checks) = in_a_network(&home, &format!("{CABLE}; {rule}")) else { return };
    assert!(ok(&checks, "interfaces"));
    let multicast = of(&checks, "multicast");
    assert_eq!(multicast["ok"], false, "{multicast}");
    assert!(multicast["hint"].as_str().unwrap().contains("oob address add IP:PORT"));
}
