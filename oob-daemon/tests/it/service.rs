//! The daemon under a service manager: the units that are shipped, and what it tells whoever started it.

use crate::harness::{Done, Home, http};
use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

const UNITS: [&str; 2] = ["oob@.service", "user/oob.service"];

fn unit(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/systemd").join(name)
}

/// The words of a unit's command line, with what stands in for what the manager fills in.
fn command_line(name: &str, home: &Home) -> Vec<String> {
    let text = fs::read_to_string(unit(name)).unwrap();
    let lines: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("ExecStart=")).collect();
    assert_eq!(lines.len(), 1, "{name}");
    let credential = home.pass().parent().unwrap().to_str().unwrap().to_owned();
    let filled = |word: &str| {
        let word = word.replace("%S/oob/%i", home.path().to_str().unwrap());
        word.replace("%d/passphrase", &format!("{credential}/pass"))
    };
    let words: Vec<_> = lines[0].split_whitespace().map(filled).collect();
    assert!(words.iter().all(|word| !word.contains('%')), "{words:?}");
    words
}

/// The command line of each shipped unit starts a daemon, which says when it is ready and when it stops, and stops in order
/// when it is told to by a signal.
#[test]
fn the_command_line_of_each_unit_starts_a_daemon_that_says_when_it_is_ready() {
    for name in UNITS {
        let home = Home::of("Dana", None);
        // The daemon of a test listens on loopback alone.
        fs::write(
            home.path().join("oob.toml"),
            "listen = [\"/ip4/127.0.0.1/tcp/0\"]\nmdns = false\n",
        )
        .unwrap();
        let told = home.dir.path().join("notify");
        let manager = UnixDatagram::bind(&told).unwrap();
        manager.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let words = command_line(name, &home);
        assert_eq!(words[0], "/usr/bin/oob");
        let mut command = Command::new(crate::harness::binary());
        command.args(&words[1..]).env("OOB_HOME", home.path()).env("NOTIFY_SOCKET", &told);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = command.spawn().unwrap();
        let pid = rustix::process::Pid::from_child(&child);
        let mut said = [0; 64];
        let length = manager.recv(&mut said).unwrap();
        assert_eq!(&said[..length], b"READY=1\n", "{name}");
        // Ready means that it answers, to the next command already.
        assert_eq!(home.json(&["status"])["name"], "Dana");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        let length = manager.recv(&mut said).unwrap();
        assert_eq!(&said[..length], b"STOPPING=1\n", "{name}");
        let done = Done::of(&child.wait_with_output().unwrap());
        assert_eq!(done.code, 0, "{name}: {}", done.stderr);
    }
}

/// What a unit says must not be restarted is what a restart cannot mend, by the exit codes of the command line.
#[test]
fn a_wrong_passphrase_is_not_tried_again() {
    for name in UNITS {
        let text = fs::read_to_string(unit(name)).unwrap();
        assert!(
            text.contains("Restart=on-failure")
                && text.contains("RestartPreventExitStatus=1 2 9\n"),
            "{name}"
        );
    }
    let home = Home::of("Dana", None);
    fs::write(home.pass(), "another one\n").unwrap();
    assert_eq!(home.oob(&["--json", "up", "--foreground"]).code, 9);
}

/// The bar of the design is an exposure of at most 2.0.
#[test]
fn the_system_unit_leaves_little_open() {
    let judged = |text: &str| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("oob@.service");
        fs::write(&path, text).unwrap();
        let mut command = Command::new("systemd-analyze");
        command.args(["security", "--offline=true", "--threshold=20", "--no-pager"]).arg(path);
        command.stdin(Stdio::null()).output()
    };
    let text = fs::read_to_string(unit(UNITS[0])).unwrap();
    let Ok(found) = judged(&text) else {
        eprintln!("SKIPPED: no systemd-analyze here");
        return;
    };
    let said = String::from_utf8_lossy(&found.stdout).into_owned();
    if !said.contains("Overall exposure level") {
        eprintln!(
            "SKIPPED: this systemd-analyze judges no file: {}",
            String::from_utf8_lossy(&found.stderr)
        );
        return;
    }
    assert!(found.status.success(), "{said}");
    // The control: without its filter of system calls and its capabilities bound it is above.
    let open =
        |line: &&str| !line.starts_with("SystemCall") && !line.starts_with("CapabilityBounding");
    let open: Vec<_> = text.lines().filter(open).collect();
    assert!(!judged(&open.join("\n")).unwrap().status.success());
}

/// A store that fails ends the daemon loudly: with 70, which a service manager begins again, a mark in the home, and every
/// caller told. What was acknowledged before is there afterwards.
#[test]
fn a_store_that_fails_ends_the_daemon_with_70_and_marks_the_home() {
    let home = Home::of("Dana", Some("Harbour Clinic"));
    // No file may grow beyond a mebibyte, which opening the store does not take; the signal for that is ignored, so that writing
    // fails.
    let mut command = Command::new("bash");
    let limit = "trap '' XFSZ; ulimit -f 1024; exec \"$0\" \"$@\"";
    command.args(["-c", limit]).arg(crate::harness::binary());
    let up = ["--json", "up", "--foreground", "--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0"];
    let mut command = home.wrap(command, &up);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut first).unwrap();
    if !first.contains("\"pid\"") {
        panic!("{}", Done::of(&child.wait_with_output().unwrap()).stderr);
    }

    let (api, mut acknowledged) = (home.api(), Vec::new());
    let host = api["url"].as_str().unwrap().strip_prefix("http://").unwrap();
    let token = api["token"].as_str().unwrap();
    let refused = loop {
        let request = format!(
            "POST /api/v1/invites HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\n\
             Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}"
        );
        let (status, body) = http(&api, request.as_bytes());
        if status != 200 {
            break body;
        }
        acknowledged.push(body);
        assert!(acknowledged.len() < 10_000, "the store does not grow");
    };
    assert!(refused.contains("its store failed"), "{refused}");
    let done = Done::of(&child.wait_with_output().unwrap());
    assert_eq!(done.code, 70, "{}", done.stderr);
    assert!(home.path().join("fault").exists() && !home.path().join("api.json").exists());
    let doctor = home.json_of_any(&["doctor"]);
    let faults = |doctor: &serde_json::Value| {
        let checks = doctor["checks"].as_array().unwrap();
        checks.iter().find(|check| check["name"] == "faults").unwrap()["detail"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert!(faults(&doctor).contains("its store failed"), "{doctor}");

    // The control: where files may grow it goes on, and tells.
    home.up();
    assert_eq!(home.json(&["status"])["org_name"], "Harbour Clinic");
    assert!(
        home.json(&["status"])["faults"]["stopped_why"]
            .as_str()
            .unwrap()
            .contains("its store failed")
    );
    home.json(&["invite", "--out", home.dir.path().join("more").to_str().unwrap()]);
    fs::remove_file(home.path().join("fault")).unwrap();
    assert_eq!(faults(&home.json_of_any(&["doctor"])), "no task has failed");
}
