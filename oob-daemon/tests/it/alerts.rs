//! Alerts over two real daemons: raised on one, acknowledged on the other, counted on the first.

use crate::harness::{Home, Two, http, shape};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::{Value, json};
use std::{
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    os::unix::ffi::OsStrExt,
    path::Path,
    process::Stdio,
    time::Duration,
};

/// Longest a test waits for an event.
const PATIENCE: Duration = Duration::from_secs(60);

/// The events of a daemon, over its TCP side.
struct Stream(BufReader<TcpStream>);

impl Stream {
    fn of(home: &Home) -> Self {
        let api = home.api();
        let address = api["url"].as_str().unwrap().strip_prefix("http://").unwrap().to_owned();
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let token = api["token"].as_str().unwrap();
        let request = format!(
            "GET /api/v1/events HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut events = BufReader::new(stream);
        let mut line = String::new();
        // The head of the answer says that the daemon listens now.
        while events.read_line(&mut line).unwrap() > 2 {
            line.clear();
        }
        Self(events)
    }

    /// The next event of a kind.
    fn next(&mut self, kind: &str) -> Value {
        loop {
            let mut line = String::new();
            assert!(self.0.read_line(&mut line).unwrap() > 0, "the stream ended before {kind}");
            let Some(data) = line.strip_prefix("data: ") else { continue };
            let event: Value = serde_json::from_str(data.trim()).unwrap();
            if event["type"] == kind {
                return event;
            }
        }
    }
}

fn post(home: &Home, path: &str, body: &Value) -> (u16, Value) {
    let api = home.api();
    let host = api["url"].as_str().unwrap().strip_prefix("http://").unwrap().to_owned();
    let (token, body) = (api["token"].as_str().unwrap(), body.to_string());
    let request = format!(
        "POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let (status, body) = http(&api, request.as_bytes());
    (status, serde_json::from_str(&body).unwrap())
}

#[test]
fn an_alert_raised_on_one_is_acknowledged_on_the_other_and_counted_on_the_first() {
    let Two { dana, sam } = Two::met();
    let (mut at_dana, mut at_sam) = (Stream::of(&dana), Stream::of(&sam));
    let (member, other) =
        (dana.json(&["status"])["member"].clone(), sam.json(&["status"])["member"].clone());

    let text = "Do not log in.\u{1b}[2J <b>Mail</b> is compromised.";
    let raised = dana.json(&["alert", "send", text, "--severity", "critical"]);
    let whole = json!({
        "id": raised["id"], "author": member, "author_name": "Dana", "severity": "critical", "text": text,
        "issued": raised["issued"], "expires": raised["expires"], "outgoing": true, "expired": false, "answers": [],
        "acked": [], "pending": [other], "pending_names": ["Sam"], "unreachable": [], "unreachable_names": []
    });
    assert_eq!(raised, whole);
    let id = raised["id"].as_str().unwrap().to_owned();
    assert_eq!(id.len(), 52, "32 bytes as base32");
    let hours =
        |value: &Value| value.as_str().unwrap().parse::<oob_daemon::schema::Stamp>().unwrap();
    assert_eq!(
        hours(&raised["expires"]).before(Duration::from_secs(86_400)),
        hours(&raised["issued"])
    );

    let event = at_sam.next("alert");
    let expected = json!({
        "type": "alert", "id": id, "author": member, "author_name": "Dana", "severity": "critical", "text": text,
        "issued": raised["issued"], "expires": raised["expires"], "outgoing": false
    });
    assert_eq!(event, expected);
    assert_eq!(at_dana.next("alert")["outgoing"], true);

    // A terminal is not moved by what somebody wrote.
    let shown = sam.oob(&["alert", "show", &id[..8]]);
    assert_eq!(shown.code, 0, "{}", shown.stderr);
    assert!(!shown.stdout.contains('\u{1b}') && shown.stdout.contains("<b>Mail</b>"));
    assert!(shown.stdout.starts_with("CRITICAL alert from Dana, "), "{}", shown.stdout);
    assert!(shown.stdout.contains("acknowledged  0 of 1 person"), "{}", shown.stdout);
    assert!(shown.stdout.contains(&format!("yours         oob alert ack {}", &id[..8])));

    let acked = sam.json(&["alert", "ack", &id[..8], "--answer", "safe"]);
    let ack = &acked["acked"][0];
    assert_eq!(
        (&ack["member"], &ack["name"], &ack["answer"]),
        (&other, &json!("Sam"), &json!("safe"))
    );
    let event = at_dana.next("alert_acked");
    let expected = json!({
        "type": "alert_acked", "id": id, "member": other, "name": "Sam", "time": ack["time"], "answer": "safe",
        "acked": 1, "expected": 1
    });
    assert_eq!(event, expected);
    let at_home = dana.json(&["alert", "show", &id]);
    assert_eq!(at_home["acked"], acked["acked"]);
    assert_eq!((&at_home["pending"], &at_home["unreachable"]), (&json!([]), &json!([])));

    // The same word again is not said again; none takes nothing back; another one replaces it.
    for (args, answer) in [
        (vec!["alert", "ack", &id, "--answer", "safe"], "safe"),
        (vec!["alert", "ack", &id], "safe"),
        (vec!["alert", "ack", &id, "--answer", "on my way"], "on my way"),
    ] {
        assert_eq!(sam.json(&args)["acked"][0]["answer"], answer);
    }
    assert_eq!(at_dana.next("alert_acked")["answer"], "on my way");

    // Out of reach is told apart from not yet, and everything is still there after a restart.
    sam.down();
    let away = loop {
        let event = at_dana.next("peer");
        if event["reachable"] == false {
            break dana.json(&["alert", "send", "All clear", "--to", "everybody"]);
        }
    };
    assert_eq!((&away["severity"], &away["unreachable_names"]), (&json!("info"), &json!(["Sam"])));
    assert_eq!(away["pending"], json!([]));
    dana.down();
    dana.up();
    let listed = dana.oob(&["--json", "alert", "list"]).lines();
    let texts: Vec<_> = listed.iter().map(|alert| alert["text"].as_str().unwrap()).collect();
    assert_eq!(texts, ["All clear", text]);
    assert_eq!(listed[1]["acked"][0]["answer"], "on my way");
    let words = dana.oob(&["alert", "list"]).stdout;
    let first = words.lines().next().unwrap();
    assert!(
        first.contains("info") && first.ends_with("Dana: All clear  (0 of 1 person)"),
        "{first}"
    );
}

#[test]
fn what_cannot_be_alerted_or_answered_says_what_to_do_next() {
    let dana = Home::of("Dana", Some("Harbour Clinic"));
    dana.up();
    let alert = |args: &[&str]| {
        let mut all = vec!["--json", "alert"];
        all.extend(args);
        dana.oob(&all)
    };
    alert(&["send", "x", "--to", "role:alerters"]).error("not_yet", 1);
    alert(&["send", " "]).error("empty", 1);
    alert(&["send", &"x".repeat(2_049)]).error("too_long", 1);
    alert(&["send", "x", "--expires", "8d"]).error("out_of_range", 1);
    alert(&["send", "x", "--expires", "0s"]).error("out_of_range", 1);
    alert(&["send", "x", "--severity", "huge"]).error("usage", 2);
    alert(&["show", "nothing"]).error("not_found", 4);
    alert(&["show", "../status"]).error("not_found", 4);
    alert(&["ack", &"a".repeat(52)]).error("not_found", 4);
    assert!(alert(&["list"]).stdout.is_empty(), "nothing was raised by any of these");

    let raised = dana.json(&["alert", "send", "x"]);
    let id = raised["id"].as_str().unwrap().to_owned();
    alert(&["ack", &id, "--answer", &"x".repeat(65)]);
    for (path, body, status) in [
        ("/api/v1/alerts".to_owned(), json!({"text": "x", "severity": "huge"}), 400),
        ("/api/v1/alerts".to_owned(), json!({"text": "x", "surprise": 1}), 400),
        ("/api/v1/alerts".to_owned(), json!({"text": "x", "to": "ops"}), 501),
        ("/api/v1/alerts".to_owned(), json!({"text": "x", "answers": vec!["a"; 9]}), 422),
        (format!("/api/v1/alerts/{id}/ack"), json!({"answer": "a\u{1b}b"}), 422),
        (format!("/api/v1/alerts/{id}/ack"), json!({"answer": "x".repeat(65)}), 422),
        ("/api/v1/alerts/%2e%2e/ack".to_owned(), json!({}), 404),
    ] {
        let (found, problem) = post(&dana, &path, &body);
        assert_eq!(
            (found, problem["status"].as_u64()),
            (status, Some(u64::from(status))),
            "{body}"
        );
        assert!(problem["hint"].is_string(), "{problem}");
    }
    let (status, raised) =
        post(&dana, "/api/v1/alerts", &json!({"text": "y", "answers": ["yes", "no"]}));
    assert_eq!((status, &raised["answers"]), (200, &json!(["yes", "no"])));

    let kim = Home::of("Kim", None);
    kim.up();
    kim.oob(&["--json", "alert", "send", "x"]).error("no_org", 1);
    assert!(kim.oob(&["--json", "alert", "list"]).lines().is_empty());
    dana.oob(&["--json", "down"]).json();
    dana.oob(&["--json", "alert", "list"]).error("not_running", 3);
}

#[test]
fn the_text_of_an_alert_can_come_from_standard_input_without_a_question() {
    let dana = Home::of("Dana", Some("Harbour Clinic"));
    dana.up();
    let file = dana.dir.path().join("text");
    std::fs::write(&file, "Meet in room 4.\nBring nothing.\n").unwrap();
    let mut command = dana.command(&["--json", "alert", "send", "-", "--severity", "warning"]);
    let output = command.stdin(File::open(&file).unwrap()).output().unwrap();
    let raised = crate::harness::Done::of(&output).json();
    assert_eq!(raised["text"], "Meet in room 4.\nBring nothing.");
    assert_eq!(shape(&raised)["severity"], "warning");
    let words = dana.oob(&["alert", "send", "Second"]);
    assert!(
        words.stdout.starts_with("info alert to 0 people, 0 in reach now  "),
        "{}",
        words.stdout
    );
}

/// Runs a command on a terminal of its own, types once it has been asked something, and returns its exit code and what the
/// terminal showed.
fn on_a_terminal(home: &Home, args: &[&str], typed: &str) -> (Option<i32>, String) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap();
    let path = Path::new(std::ffi::OsStr::from_bytes(name.to_bytes()));
    let theirs = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut command = home.command(args);
    command.stdin(theirs.try_clone().unwrap()).stderr(theirs).stdout(Stdio::null());
    let mut asking = command.spawn().unwrap();
    // The command holds the terminal now and nobody else, so that reading ends with it.
    drop(command);
    let mut ours = File::from(ours);
    let (mut shown, mut bytes) = (String::new(), [0; 256]);
    let mut typed = Some(typed);
    while let Ok(length @ 1..) = ours.read(&mut bytes) {
        shown.push_str(&String::from_utf8_lossy(&bytes[..length]));
        if shown.contains("[y/N]")
            && let Some(typed) = typed.take()
        {
            ours.write_all(typed.as_bytes()).unwrap();
        }
    }
    (asking.wait().unwrap().code(), shown)
}

#[test]
fn a_terminal_is_asked_before_everybody_is_alerted() {
    let Two { dana, .. } = Two::met();
    let raised = || dana.oob(&["--json", "alert", "list"]).lines().len();
    let send = ["alert", "send", "Do not log in", "--severity", "critical"];
    let question = "A critical alert to 1 person. Send it? [y/N]";

    let (code, shown) = on_a_terminal(&dana, &send, "n\n");
    assert!(shown.starts_with(question), "{shown}");
    assert!(shown.contains("nobody was alerted") && shown.contains("hint: "), "{shown}");
    assert_eq!((code, raised()), (Some(1), 0));
    let everybody = [&send[..], &["--to", "everybody"]].concat();
    let (code, shown) = on_a_terminal(&dana, &everybody, "y\n");
    assert!(shown.starts_with(question), "{shown}");
    assert_eq!((code, raised()), (Some(0), 1));
    let (code, shown) = on_a_terminal(&dana, &[&["--yes"][..], &send].concat(), "");
    assert!(!shown.contains("[y/N]"), "{shown}");
    assert_eq!((code, raised()), (Some(0), 2));
}

/// A word that nobody offered goes out for all to see, also one mistyped: on a terminal it is asked about.
#[test]
fn a_terminal_is_asked_before_a_word_goes_out_that_nobody_offered() {
    let Two { dana, sam } = Two::met();
    let mut heard = Stream::of(&sam);
    dana.json(&["alert", "send", "Are you well?"]);
    let first = heard.next("alert")["id"].as_str().unwrap().to_owned();
    let (status, _) =
        post(&dana, "/api/v1/alerts", &json!({"text": "Choose", "answers": ["safe", "help"]}));
    assert_eq!(status, 200);
    let offered = heard.next("alert")["id"].as_str().unwrap().to_owned();
    let answer = |id: &str| {
        let acked = sam.json(&["alert", "show", id])["acked"].clone();
        acked[0]["answer"].as_str().map(str::to_owned)
    };
    let ack = ["alert", "ack", &first, "--answer", "saef"];
    let (code, shown) = on_a_terminal(&sam, &ack, "n\n");
    assert!(code == Some(1) && shown.contains("Dana asked for no word"), "{shown}");
    assert!(shown.contains("acknowledge it without a word: oob alert ack"), "{shown}");
    assert_eq!(answer(&first), None);
    assert_eq!(on_a_terminal(&sam, &ack, "y\n").0, Some(0));
    assert_eq!(answer(&first).as_deref(), Some("saef"));
    // Words that were offered need no question, and others are refused.
    let (code, shown) = on_a_terminal(&sam, &["alert", "ack", &offered, "--answer", "saef"], "y\n");
    assert!(code != Some(0) && !shown.contains("[y/N]"), "{shown}");
    let (code, shown) = on_a_terminal(&sam, &["alert", "ack", &offered, "--answer", "safe"], "");
    assert!(code == Some(0) && !shown.contains("[y/N]"), "{shown}");
    // A script is not asked.
    sam.json(&["alert", "ack", &first, "--answer", "well"]);
    assert_eq!(answer(&first).as_deref(), Some("well"));
}
