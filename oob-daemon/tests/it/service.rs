//! The daemon under a service manager: the units that are shipped, and what it tells whoever started it.

use crate::harness::{Done, Home};
use std::{
    fs,
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
