//! Whole outputs of the command line, as JSON and as text, and its exit codes.

use crate::harness::{Done, Home, Two, files, shape};
use serde_json::json;
use std::{
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    process::Command,
};

#[test]
fn every_verb_prints_what_is_documented() {
    let dana = Home::new();
    let made = dana.oob(&[
        "--json",
        "init",
        "--kdf-memory",
        "64MiB",
        "--name",
        "Dana",
        "--org",
        "Harbour Clinic",
    ]);
    assert_eq!(
        shape(&made.json()),
        json!({"member": "<id>", "device": "<id>", "org": "<id>", "home": "<path>", "name": "Dana", "org_name": "Harbour Clinic", "restored": null})
    );
    let sam = Home::new();
    let made = sam.oob(&["--json", "init", "--kdf-memory", "64MiB", "--name", "Sam"]).json();
    assert_eq!(
        shape(&made),
        json!({"member": null, "device": "<id>", "org": null, "home": "<path>", "name": "Sam", "org_name": null, "restored": null})
    );
    let up = dana.up();
    assert_eq!(
        shape(&up),
        json!({"pid": "<number>", "socket": "<path>", "api": "<url>", "listen": "<addresses>", "ready_ms": "<number>", "kdf_ms": "<number>"})
    );
    assert!(up["listen"].as_array().is_some_and(|listen| listen.len() == 2), "{up}");
    sam.up();

    let invited = dana.json(&[
        "invite",
        "--role",
        "responder",
        "--expires",
        "5m",
        "--out",
        dana.dir.path().join("sam.invite").to_str().unwrap(),
    ]);
    assert_eq!(
        shape(&invited),
        json!({"invite": "<path>", "link": "<link>", "role": "responder", "expires": "<time>"})
    );
    let file = dana.dir.path().join("sam.invite");
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    assert_eq!(fs::read_to_string(&file).unwrap().trim(), invited["link"]);
    let joined = sam.json(&["join", file.to_str().unwrap()]);
    assert_eq!(
        shape(&joined),
        json!({"member": "<id>", "org": "<id>", "name": "Sam", "org_name": "Harbour Clinic"})
    );

    let sent = dana.json(&[
        "send",
        "person:sam",
        "Mail is compromised.",
        "--wait",
        "delivered",
        "--timeout",
        "30s",
    ]);
    assert_eq!(
        shape(&sent),
        json!({"id": "<id>", "conversation": "<id>", "state": "delivered", "number": 1})
    );
    let stored = sam.json(&["send", "Dana", "Understood."]);
    assert_eq!(stored["state"], "stored");

    let log = sam.oob(&["--json", "log", "dana"]).lines();
    let entry = |state: &str, text: &str, name: &str, number: u64| {
        json!({"id": "<id>", "conversation": "<id>", "author": "<id>", "text": text, "sent": "<time>", "received": "<time>",
               "state": state, "held_by": [], "held_by_names": [], "author_name": name, "number": number})
    };
    assert_eq!(log.len(), 2);
    assert_eq!(shape(&log[0]), entry("delivered", "Mail is compromised.", "Dana", 1));
    assert_eq!(
        (log[0]["id"].clone(), log[0]["conversation"].clone()),
        (sent["id"].clone(), sent["conversation"].clone())
    );
    assert_eq!(log[1]["text"], "Understood.");
    // Showing it has marked it as read, here and, by a receipt, at its author's.
    assert_eq!(sam.oob(&["--json", "log", "dana"]).lines()[0]["state"], "read");
    assert!(sam.oob(&["--json", "log", "dana", "--since", "0ms"]).lines().is_empty());
    assert_eq!(sam.oob(&["--json", "log", "dana", "--since", "1h"]).lines().len(), 2);

    let status = dana.json(&["status"]);
    assert_eq!(
        shape(&status),
        json!({"member": "<id>", "device": "<id>", "org": "<id>", "listen": "<addresses>", "held": 0, "outbox": 0, "name": "Dana",
               "org_name": "Harbour Clinic", "note": null, "island": {"with": 2, "of": 2, "away": []}, "up_ms": "<number>",
               "faults": {"network": "well", "network_failed": 0, "tasks_failed": 0, "caught": 0, "refused": 0, "stopped": null,
                          "stopped_why": null}, "restored": null,
               "peers": [{"member": "<id>", "device": "<id>", "reachable": true, "last_heard": "<time>",
                          "transport": status["peers"][0]["transport"], "found_by": status["peers"][0]["found_by"], "member_name": "Sam"}]})
    );
    assert!(matches!(status["peers"][0]["transport"].as_str(), Some("tcp" | "quic")));
    let added = sam.json(&["address", "add", "127.0.0.1:4801"]);
    assert_eq!(shape(&added), json!({"address": "<address>"}));
    let listed = sam.oob(&["--json", "address", "list"]).lines();
    let typed = listed
        .iter()
        .find(|known| known["found_by"] == "typed")
        .unwrap_or_else(|| panic!("{listed:?}"));
    assert_eq!(
        shape(typed),
        json!({"address": "<address>", "found_by": "typed", "device": null, "member_name": null})
    );

    let stopped = dana.json(&["down"]);
    assert_eq!(shape(&stopped), json!({"stopped": true, "pid": "<number>"}));
    assert_eq!(stopped["pid"], up["pid"]);
    assert!(is_gone(&up["pid"]));
    let nothing = dana.oob(&["--json", "down"]).error("not_running", 3);
    let hint = nothing["hint"].as_str().unwrap();
    assert!(hint.starts_with("there is nothing to stop") && !hint.contains(" up"), "{hint}");
}

/// Says whether a process has ended; whoever inherited it may not have asked how yet.
fn is_gone(pid: &serde_json::Value) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => {
            stat.rsplit_once(')').is_some_and(|(_, rest)| rest.trim_start().starts_with(['Z', 'X']))
        }
        Err(_) => true,
    }
}

#[test]
fn text_for_people_says_the_same() {
    let two = Two::met();
    let sent = two.sam.oob(&[
        "send",
        "dana",
        "line one\nline two",
        "--wait",
        "delivered",
        "--timeout",
        "30s",
    ]);
    assert_eq!(
        (sent.code, sent.stdout.starts_with("delivered  "), sent.stderr.as_str()),
        (0, true, "")
    );
    let log = two.dana.oob(&["log", "sam"]);
    let lines: Vec<&str> = log.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{}", log.stdout);
    assert!(lines[0].contains("Dana: first  ("), "{}", lines[0]);
    assert!(lines[1].ends_with("Sam: line one") && lines[2] == "    line two", "{}", log.stdout);
    let status = two.dana.oob(&["status"]).stdout;
    assert!(
        status
            .starts_with("You are Dana in Harbour Clinic; you are with 2 of 2\n  Sam  reachable, ")
            && status.contains("\nothers reach you at 127.0.0.1:"),
        "{status}"
    );
    let failed = two.dana.oob(&["send", "nobody at all", "hello"]);
    assert_eq!((failed.code, failed.stdout.as_str()), (4, ""));
    assert!(
        failed.stderr.starts_with("error: ") && failed.stderr.contains("\nhint: "),
        "{}",
        failed.stderr
    );
    // Nothing but data on standard output, and with --quiet nothing else at all.
    let quiet = two.dana.oob(&[
        "--quiet",
        "invite",
        "--out",
        two.dana.dir.path().join("q").to_str().unwrap(),
    ]);
    assert_eq!(quiet.stderr, "");
}

#[test]
fn a_text_from_elsewhere_cannot_move_the_cursor() {
    let two = Two::met();
    let nasty = "all \u{1b}[2Jclear\u{202e}\u{9b}31m\r\u{7}";
    two.sam.json(&["send", "dana", nasty, "--wait", "delivered", "--timeout", "90s"]);
    let text = two.dana.oob(&["log", "sam"]).stdout;
    assert!(!text.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'), "{text:?}");
    assert!(text.contains("clear"));
    let line = two.dana.oob(&["--json", "log", "sam"]);
    assert!(!line.stdout.chars().any(|c| (c.is_control() && c != '\n') || c == '\u{202e}'));
    assert_eq!(line.lines().last().unwrap()["text"], nasty);
}

#[test]
fn waiting_ends_with_its_own_code_and_the_message_stays() {
    let two = Two::met();
    two.sam.down();
    let late = two.dana.oob(&[
        "--json",
        "send",
        "sam",
        "while you were away",
        "--wait",
        "read",
        "--timeout",
        "200ms",
    ]);
    late.error("queued", 6);
    assert_eq!(late.lines()[0]["state"], "stored");
    assert_eq!(two.dana.json(&["status"])["outbox"], 1);
    two.sam.up();
    // Comes by itself; what comes behind it has its receipt only when this one was there too.
    two.dana.json(&["send", "sam", "and now", "--wait", "delivered", "--timeout", "90s"]);
    let texts: Vec<_> = two
        .sam
        .oob(&["--json", "log", "dana"])
        .lines()
        .iter()
        .map(|m| m["text"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(texts, ["first", "while you were away", "and now"]);
}

#[test]
fn what_is_asked_for_by_its_age_is_not_called_read() {
    let two = Two::met();
    let state = |home: &Home, of: &str| {
        home.oob(&["--json", "log", of, "--since", "1h"]).lines()[0]["state"].clone()
    };
    assert_eq!(state(&two.sam, "dana"), "delivered");
    // Shown a moment ago and still not read, neither here nor, once later news has come, at its author's.
    assert_eq!(state(&two.sam, "dana"), "delivered");
    two.sam.json(&["send", "dana", "news", "--wait", "delivered", "--timeout", "90s"]);
    assert_eq!(state(&two.dana, "sam"), "delivered");
    // The control: shown as a whole it is read.
    two.sam.oob(&["--json", "log", "dana"]).lines();
    assert_eq!(state(&two.sam, "dana"), "read");
}

#[test]
fn a_text_that_is_too_long_is_called_so_also_from_standard_input() {
    let home = Home::of("Dana", Some("Harbour Clinic"));
    home.up();
    let file = home.dir.path().join("text");
    // An odd length, so that wherever it is cut it ends within a character.
    for text in [format!("x{}", "ü".repeat(200_000)), "ü".repeat(4_097)] {
        fs::write(&file, text).unwrap();
        let mut command = home.command(&["--json", "send", "sam", "-"]);
        let done = Done::of(&command.stdin(fs::File::open(&file).unwrap()).output().unwrap());
        done.error("too_long", 1);
    }
    fs::write(&file, [b'x', 0xff]).unwrap();
    let mut command = home.command(&["--json", "send", "sam", "-"]);
    let done = Done::of(&command.stdin(fs::File::open(&file).unwrap()).output().unwrap());
    done.error("bad_request", 2);
}

#[test]
fn standard_input_can_be_sent() {
    let two = Two::met();
    let file = two.dana.dir.path().join("text");
    fs::write(&file, "from a pipe\n").unwrap();
    let mut command = two.dana.command(&["--json", "send", "sam", "-"]);
    Done::of(&command.stdin(fs::File::open(&file).unwrap()).output().unwrap()).json();
    let log = two.dana.oob(&["--json", "log", "sam"]).lines();
    assert_eq!(log.last().unwrap()["text"], "from a pipe");
}

#[test]
fn everything_in_the_home_is_the_users_alone() {
    let home = Home::of("Dana", Some("Harbour Clinic"));
    // A careless umask must not matter.
    let mut shell = Command::new("sh");
    shell.args(["-c", "umask 000; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_oob")]);
    let up = home.wrap(shell, &["--json", "up", "--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0"]);
    Done::of(&{ up }.output().unwrap()).json();
    home.invite();
    for path in files(home.dir.path()) {
        if !path.starts_with(home.path()) {
            continue;
        }
        let meta = fs::symlink_metadata(&path).unwrap();
        let wanted = if meta.is_dir() { 0o700 } else { 0o600 };
        assert_eq!(meta.permissions().mode() & 0o777, wanted, "{}", path.display());
    }
    assert_eq!(fs::metadata(home.path()).unwrap().mode() & 0o777, 0o700);
    assert!(home.path().join("oob.sock").exists() && home.path().join("oob.log").exists());
    home.down();
    assert!(!home.path().join("oob.sock").exists() && !home.path().join("api.json").exists());
}

#[test]
fn misuse_is_told_in_the_same_form() {
    let home = Home::new();
    home.oob(&["--json", "send", "dana"]).error("usage", 2);
    home.oob(&["--json", "--no-such-thing", "status"]).error("usage", 2);
    home.oob(&["--json", "invite", "--expires", "soon"]).error("usage", 2);
    home.oob(&["--json"]).error("usage", 2);
    for absent in ["channel", "file"] {
        home.oob(&["--json", absent]).error("usage", 2);
    }
    let version = home.oob(&["--version"]);
    assert_eq!(
        (version.code, version.stdout.as_str()),
        (0, concat!("oob ", env!("CARGO_PKG_VERSION"), "\n"))
    );
    assert_eq!(home.oob(&["--help"]).code, 0);
}
