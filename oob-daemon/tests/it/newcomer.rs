//! What somebody who has never seen it runs into: what is said then leads on, and never in a circle.

use crate::harness::{Done, Home, Two};
use rustix::{
    process::{Pid, Signal},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{LocalModes, tcgetattr},
};
use std::{
    fs::{self, File, OpenOptions},
    io::{BufRead, BufReader, Read},
    os::unix::ffi::OsStrExt,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Longest a test waits for another process to come as far as it must.
const PATIENCE: Duration = Duration::from_secs(60);

#[track_caller]
fn until(what: &str, mut done: impl FnMut() -> bool) {
    let limit = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < limit, "{what}");
        std::thread::yield_now();
    }
}

fn interrupt(child: &Child) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::INT).unwrap();
}

/// Whether a process has a handler of its own for Ctrl-C.
fn hears_ctrl_c(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    u64::from_str_radix(caught.trim(), 16).unwrap() & 2 != 0
}

#[test]
fn without_an_organisation_the_way_on_is_not_a_circle() {
    let home = Home::of("Dana", None);
    home.up();
    for line in [&["invite"][..], &["send", "sam", "x"]] {
        let refused = home.oob(&[&["--json"], line].concat()).error("no_org", 1);
        assert_eq!(
            refused["hint"],
            "join one: `oob join FILE`; to found one, start in a new folder: `oob --home DIR init --name YOUR_NAME --org ORG_NAME`"
        );
    }
}

#[test]
fn an_identity_that_exists_is_refused_before_a_passphrase_is_asked_for() {
    let home = Home::of("Dana", None);
    assert!(!home.path().join("init.begun").exists());
    let again = |dir: &Path| {
        let mut bare = Command::new(env!("CARGO_BIN_EXE_oob"));
        bare.arg("--home").arg(dir).args(["--json", "init", "--name", "Dana"]);
        Done::of(&bare.stdin(Stdio::null()).output().unwrap())
    };
    again(&home.path()).error("already_initialised", 1);
    // The control: where there is none, it is asked for.
    again(&home.dir.path().join("new")).error("passphrase_needed", 1);
    // What was cut off may be finished, and what was not is told by its passphrase.
    fs::write(home.path().join("init.begun"), "").unwrap();
    again(&home.path()).error("passphrase_needed", 1);
}

#[test]
fn waiting_in_vain_says_how_far_it_came() {
    let two = Two::met();
    let wait = |text: &str, state: &str, time: &str| {
        two.dana.oob(&["--json", "send", "sam", text, "--wait", state, "--timeout", time])
    };
    let unread = wait("are you there?", "read", "3s").error("queued", 6);
    assert_eq!(unread["message"], "delivered, but not read within 3 s");
    assert!(unread["hint"].as_str().unwrap().starts_with("nothing to do"), "{unread}");
    two.sam.down();
    let late = wait("and now?", "delivered", "100ms").error("queued", 6);
    assert_eq!(
        late["message"],
        "not delivered within 0.1 s; it stays queued and goes out by itself"
    );

    let mut waiting =
        two.dana.command(&["send", "sam", "then later", "--wait", "delivered", "--timeout", "90s"]);
    let waiting = waiting.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    until("it does not wait", || hears_ctrl_c(waiting.id()));
    interrupt(&waiting);
    let done = Done::of(&waiting.wait_with_output().unwrap());
    assert_eq!(
        (done.code, done.stderr.as_str(), done.stdout.starts_with("stored  ")),
        (130, "stopped waiting; the message is stored and goes out by itself\n", true)
    );

    until("sam is still thought to be reachable", || {
        two.dana.json(&["status"])["peers"][0]["reachable"] == false
    });
    let status = two.dana.oob(&["status"]).stdout;
    assert!(
        status.starts_with(
            "You are Dana in Harbour Clinic.\nNobody can be reached now (0 of 1).\n\
             hint: if they are up: run oob status on their laptop, then here: oob address add IP:PORT\n"
        ),
        "{status}"
    );
}

#[test]
fn a_lone_founder_is_told_to_invite_and_where_others_find_the_daemon() {
    let home = Home::of("Dana", Some("Harbour Clinic"));
    // As the hints say it, on an interface that every machine has.
    home.oob(&["--json", "up", "--no-mdns", "--listen", "nonsense"]).error("bad_address", 1)["hint"]
        .as_str()
        .filter(|hint| hint.ends_with("oob up --listen 0.0.0.0:4805"))
        .unwrap();
    home.oob(&["--json", "up", "--no-mdns", "--listen", "127.0.0.1:0"]).json();
    let status = home.oob(&["status"]).stdout;
    assert!(
        status.starts_with(
            "You are Dana in Harbour Clinic.\nNobody else yet; next: oob invite --out FILE\nothers reach you at 127.0.0.1:"
        ),
        "{status}"
    );
}

#[test]
fn a_result_that_cannot_be_written_is_a_failure() {
    let home = Home::of("Dana", Some("Harbour Clinic"));
    home.up();
    for args in [&["status"][..], &["--json", "status"], &["--help"]] {
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let done = Done::of(&home.command(args).stdout(full).output().unwrap());
        assert_eq!(done.code, 1, "{args:?}");
        assert!(done.stderr.contains("cannot be written to standard output"), "{}", done.stderr);
    }
    // The control: a reader that goes away is nobody's fault.
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    drop(reader);
    let done = Done::of(&home.command(&["status"]).stdout(writer).output().unwrap());
    assert_eq!((done.code, done.stderr.as_str()), (0, ""));
}

/// Both ends of a terminal: ours to read what a program draws, and its own.
fn terminal() -> (std::os::fd::OwnedFd, File) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap();
    let path = Path::new(std::ffi::OsStr::from_bytes(name.to_bytes()));
    (ours, OpenOptions::new().read(true).write(true).open(path).unwrap())
}

/// Runs a command with standard error on a terminal and returns what was drawn there.
fn drawn(home: &Home, args: &[&str]) -> String {
    let (ours, theirs) = terminal();
    let mut command = home.command(args);
    command.env("TERM", "xterm").env_remove("NO_COLOR").stderr(theirs).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // The other end is closed with the last process that has it, which ends the reading.
    drop(command);
    let (mut drawn, mut ours) = (Vec::new(), File::from(ours));
    let _ended = ours.read_to_end(&mut drawn);
    child.wait().unwrap();
    String::from_utf8_lossy(&drawn).into_owned()
}

#[test]
fn what_takes_long_is_shown_on_a_terminal_and_nowhere_else() {
    let two = Two::met();
    let wait = ["send", "sam", "are you there?", "--wait", "read", "--timeout", "700ms"];
    let init = ["init", "--name", "Rosa", "--kdf-memory", "64MiB"];
    let shown = drawn(&two.dana, &wait);
    assert!(shown.contains("waiting") && shown.contains("error: "), "{shown:?}");
    assert!(drawn(&Home::new(), &init).contains("deriving the key"));
    for silent in ["--json", "--quiet"] {
        let shown = drawn(&two.dana, &[&[silent], &wait[..]].concat());
        assert!(!shown.contains("waiting") && !shown.contains('\u{1b}'), "{shown:?}");
        assert_eq!(drawn(&Home::new(), &[&[silent], &init[..]].concat()), "");
    }
    // The control: no terminal, no drawing.
    let piped = two.dana.oob(&wait);
    assert!(
        piped.stderr.starts_with("error: ") && !piped.stderr.contains("waiting"),
        "{}",
        piped.stderr
    );
}

#[test]
fn a_watched_status_is_told_again_until_ctrl_c() {
    let home = Home::of("Dana", Some("Harbour Clinic"));
    home.up();
    let mut watching = home.command(&["--json", "status", "--watch"]);
    let mut watching = watching.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();
    for _ in 0..2 {
        let status: serde_json::Value =
            serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        assert_eq!(status["island"], serde_json::json!({"with": 1, "of": 1, "away": []}));
    }
    interrupt(&watching);
    assert_eq!(watching.wait().unwrap().code(), Some(0));
}

/// The next command was about the user's own home, and not the one that the command before was about.
#[test]
fn the_commands_of_hints_are_about_the_same_home() {
    let home = Home::of("Dana", Some("Harbour Clinic"));
    let named = format!("oob --home {}", home.path().display());
    let folder = home.path().display().to_string();
    let missing = home.oob(&["--home", &folder, "--json", "status"]).error("not_running", 3);
    assert_eq!(missing["hint"], format!("start it: {named} up"));
    home.up();
    let status = home.oob(&["status", &format!("--home={folder}")]).stdout;
    assert!(status.contains(&format!("next: {named} invite --out FILE")), "{status}");
    let doctor = home.json_of_any(&["doctor", "--home", &folder]);
    let hints: Vec<_> = doctor["checks"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|check| check["hint"].as_str())
        .collect();
    assert!(hints.iter().any(|hint| hint.contains(&format!("{named} invite"))), "{hints:?}");
    // A home that the environment names is there for the next command too.
    assert!(home.oob(&["status"]).stdout.contains("next: oob invite --out FILE"));
}

#[test]
fn an_interrupted_question_leaves_a_terminal_that_shows_what_is_typed() {
    let home = Home::new();
    let (_ours, theirs) = terminal();
    let shows = || tcgetattr(&theirs).unwrap().local_modes.contains(LocalModes::ECHO);
    assert!(shows());
    let mut command = Command::new(env!("CARGO_BIN_EXE_oob"));
    command.arg("--home").arg(home.path()).args(["init", "--name", "Dana"]);
    command.stdin(theirs.try_clone().unwrap()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut asking = command.spawn().unwrap();
    until("what is typed is never hidden", || !shows());
    interrupt(&asking);
    assert_eq!(asking.wait().unwrap().code(), Some(130));
    assert!(shows());
    let mut said = String::new();
    asking.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(said.starts_with("new passphrase: "), "{said:?}");
    assert!(!home.path().exists());
}
