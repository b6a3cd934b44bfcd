//! The demo as a newcomer runs it, on a machine with nothing but a loopback interface.

use crate::harness::Done;
use rustix::process::{Pid, Signal};
use serde_json::json;
use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Longest it may take from the first word to the last, also here, unoptimised and beside other tests.
const PROMISED: Duration = Duration::from_secs(20);

const STEPS: [&str; 14] = [
    "found",
    "invited",
    "joined",
    "discovered",
    "delivered",
    "read",
    "alert_raised",
    "alert_acknowledged",
    "receiver_stopped",
    "sent_late",
    "held",
    "sender_stopped",
    "receiver_restarted",
    "delivered_late",
];

/// A shell in a network of its own in which only `lo` is up, if this system lets users make one.
fn alone() -> Option<Command> {
    let probe = Command::new("unshare").args(["-Urn", "sh", "-c", "ip link set lo up"]).output();
    if !probe.is_ok_and(|probe| probe.status.success()) {
        eprintln!(
            "SKIPPED in part: no network namespace can be made here, so the demo runs beside this machine's own network"
        );
        return None;
    }
    let mut command = Command::new("unshare");
    command.args([
        "-Urn",
        "sh",
        "-c",
        "ip link set lo up && exec \"$0\" \"$@\"",
        env!("CARGO_BIN_EXE_oob"),
    ]);
    Some(command)
}

#[test]
fn three_daemons_meet_and_talk_with_a_loopback_interface_alone() {
    let scratch = TempDir::with_prefix("oob-it-").unwrap();
    let mut command = alone().unwrap_or_else(|| Command::new(env!("CARGO_BIN_EXE_oob")));
    command.args(["--json", "demo", "--once"]).env("TMPDIR", scratch.path()).env_remove("OOB_HOME");
    let began = Instant::now();
    let done = Done::of(&command.output().unwrap());
    let took = began.elapsed();
    let steps = done.lines();
    let names: Vec<_> = steps.iter().map(|step| step["step"].as_str().unwrap()).collect();
    assert_eq!(names, STEPS, "{}{}", done.stdout, done.stderr);
    for step in &steps {
        assert!(step["ok"] == true && step["ms"].is_u64() && !step["detail"].is_null(), "{step}");
    }
    let discovered = &steps[3]["detail"];
    for (name, others) in discovered.as_object().unwrap() {
        assert_eq!(others.as_object().unwrap().len(), 2, "{name}");
        for rung in others.as_object().unwrap().values() {
            let rung = rung.as_str().unwrap().split(' ').next().unwrap();
            assert!(["mdns", "beacon", "typed", "invite", "learned"].contains(&rung), "{rung}");
        }
    }
    let detail = |name: &str| {
        steps.iter().find(|step| step["step"] == name).map(|step| step["detail"].clone()).unwrap()
    };
    assert_eq!(detail("alert_raised")["reached"], json!(["Sam", "Rosa"]));
    assert_eq!(detail("alert_acknowledged")["acknowledged"], 2);
    assert_eq!(detail("held")["names"], json!(["Sam"]));
    assert_eq!(detail("receiver_restarted")["in_reach"], json!(["Sam"]));
    let late = detail("delivered_late");
    assert_eq!(late["from"], detail("held")["held_by"][0]);
    assert!(late["author_gone"] == true && late["text"] == detail("sent_late")["text"], "{late}");
    assert_eq!(done.code, 0, "{}", done.stderr);
    assert!(took <= PROMISED, "{took:?}");
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0, "something was left behind");
}

#[test]
fn a_demo_that_runs_out_of_time_fails_and_leaves_nothing() {
    let scratch = TempDir::with_prefix("oob-it-").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_oob"));
    command.args(["--json", "demo", "--once", "--timeout", "100ms"]).env("TMPDIR", scratch.path());
    let done = Done::of(&command.output().unwrap());
    done.error("timeout", 8);
    let steps = done.lines();
    assert_eq!((steps.len(), steps[0]["ok"].as_bool()), (1, Some(false)), "{}", done.stdout);
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0, "something was left behind");
}

#[test]
fn a_demo_keeps_its_folder_if_told_and_refuses_one_with_something_in_it() {
    let scratch = TempDir::with_prefix("oob-it-").unwrap();
    fs::write(scratch.path().join("mine"), "precious").unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_oob"));
    command.args(["--json", "demo", "--once", "--keep"]).arg(scratch.path());
    Done::of(&command.output().unwrap()).error("file_exists", 1);
    assert_eq!(fs::read_to_string(scratch.path().join("mine")).unwrap(), "precious");
}

/// A demo that goes on, and what it has printed so far.
struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
    scratch: TempDir,
}

impl Running {
    fn start() -> Self {
        let scratch = TempDir::with_prefix("oob-it-").unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_oob"));
        command
            .args(["--json", "demo"])
            .env("TMPDIR", scratch.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout, scratch }
    }

    /// Reads until a step is printed.
    fn until(&mut self, step: &str) {
        let mut line = String::new();
        while !line.contains(&format!("\"step\":\"{step}\"")) {
            line.clear();
            assert!(self.stdout.read_line(&mut line).unwrap() > 0, "the demo ended before {step}");
        }
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// The processes that still have a home in the folder of this demo.
    fn daemons(&self) -> usize {
        let folder = self.scratch.path().as_os_str().as_encoded_bytes();
        let processes = fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| fs::read(entry.unwrap().path().join("cmdline")).ok());
        processes.filter(|line| line.windows(folder.len()).any(|window| window == folder)).count()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

#[test]
fn ctrl_c_ends_every_daemon_and_clears_up() {
    let mut demo = Running::start();
    demo.until("delivered_late");
    // The author's is gone for good.
    assert_eq!(demo.daemons(), 2);
    demo.signal(Signal::INT);
    assert!(demo.child.wait().unwrap().success());
    assert_eq!(demo.daemons(), 0);
    assert_eq!(fs::read_dir(demo.scratch.path()).unwrap().count(), 0);
}

#[test]
fn ctrl_c_in_the_middle_fails_and_ends_every_daemon() {
    let mut demo = Running::start();
    demo.until("discovered");
    demo.signal(Signal::INT);
    assert_eq!(demo.child.wait().unwrap().code(), Some(1));
    assert_eq!(demo.daemons(), 0);
    assert_eq!(fs::read_dir(demo.scratch.path()).unwrap().count(), 0);
}

/// Nothing can be done in a process that is killed, so the daemons themselves notice that their parent is gone.
#[test]
fn a_killed_demo_leaves_no_daemon_behind() {
    let mut demo = Running::start();
    demo.until("found");
    demo.signal(Signal::KILL);
    demo.child.wait().unwrap();
    let limit = Instant::now() + Duration::from_secs(60);
    while demo.daemons() > 0 {
        assert!(Instant::now() < limit, "{} daemons are left", demo.daemons());
        std::thread::yield_now();
    }
}
