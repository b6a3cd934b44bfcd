//! The page and its way in, without a browser.

use crate::harness::{Done, Home, Two, enter, exchange, http, parts};
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt,
    time::Duration,
};

fn host(api: &Value) -> String {
    api["url"].as_str().unwrap().strip_prefix("http://").unwrap().to_owned()
}

/// Asks as our page does, with more headers, and returns the whole answer.
fn ask(api: &Value, method: &str, path: &str, headers: &str, body: &str) -> String {
    let (host, length) = (host(api), body.len());
    let kind = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n{kind}Content-Length: {length}\r\n{headers}\r\n{body}"
    );
    exchange(api, request.as_bytes())
}

fn code(answer: &str) -> (u16, String) {
    let (status, body) = parts(answer);
    let problem: Value = serde_json::from_str(&body).unwrap_or(Value::Null);
    (status, problem["code"].as_str().unwrap_or("").to_owned())
}

#[test]
fn a_ticket_lets_one_browser_in_once() {
    let home = Home::of("Dana", Some("Harbour Clinic"));
    home.up();
    let api = home.api();
    let url = home.json(&["web", "--no-open"])["url"].as_str().unwrap().to_owned();
    let (origin, ticket) = url.split_once("/#t=").unwrap();
    // From another page, or from none, it is not taken and stays good.
    let body = json!({ "ticket": ticket }).to_string();
    for headers in [
        "",
        "Origin: http://localhost:1\r\n",
        &format!("Origin: {origin}\r\nSec-Fetch-Site: cross-site\r\n"),
        &format!("Origin: {origin}\r\nSec-Fetch-Site: same-site\r\n"),
    ] {
        let refused = ask(&api, "POST", "/api/v1/web/session", headers, &body);
        assert_eq!(code(&refused), (403, "bad_origin".into()), "{headers}{refused}");
    }
    // Nothing but that one request does without an entry.
    let ours = format!("Origin: {origin}\r\n");
    for method in ["GET", "PUT", "DELETE"] {
        let refused = ask(&api, method, "/api/v1/web/session", &ours, &body);
        assert_eq!(code(&refused), (401, "unauthorized".into()), "{method}");
    }
    let first = exchange(&api, enter(origin, ticket).as_bytes());
    assert_eq!(parts(&first).0, 200, "{first}");
    let set = first.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    assert!(set.ends_with("; HttpOnly; SameSite=Strict; Path=/; Max-Age=43200"), "{set}");
    assert!(!set.contains(ticket));
    for again in [ticket, "", &"0".repeat(64)] {
        let second = exchange(&api, enter(origin, again).as_bytes());
        assert_eq!(code(&second), (401, "unauthorized".into()));
        assert!(!second.contains("set-cookie"), "{second}");
    }
}

#[test]
fn a_session_may_do_what_the_token_may_until_it_is_left() {
    let two = Two::met();
    let (api, session) = (two.dana.api(), two.dana.session());
    let origin = api["url"].as_str().unwrap();
    let both = session.headers();
    let ours = format!("{both}Origin: {origin}\r\nSec-Fetch-Site: same-origin\r\n");
    let sent = ask(&api, "POST", "/api/v1/messages", &ours, r#"{"target":"sam","text":"by page"}"#);
    assert_eq!(parts(&sent).0, 200, "{sent}");
    // What the browser says of who made it ask decides, for reading too.
    for (site, status) in
        [("same-origin", 200), ("none", 200), ("same-site", 403), ("cross-site", 403)]
    {
        let headers = format!("{both}Sec-Fetch-Site: {site}\r\n");
        assert_eq!(parts(&ask(&api, "GET", "/api/v1/me", &headers, "")).0, status, "{site}");
    }
    // A server at another port is sent the cookie, and asks here itself: it lacks what only our page can read.
    let stolen = format!("Cookie: {}\r\n", session.cookie);
    for more in ["", "Oob-Page-Key: \r\n", &format!("Oob-Page-Key: {}\r\n", "0".repeat(64))] {
        for (method, path, body) in [
            ("GET", "/api/v1/me", ""),
            ("GET", "/api/v1/events", ""),
            ("POST", "/api/v1/messages", r#"{"target":"sam","text":"forged"}"#),
            ("POST", "/api/v1/web/logout", "{}"),
        ] {
            let headers = format!("{stolen}{more}Origin: {origin}\r\n");
            let refused = ask(&api, method, path, &headers, body);
            assert_eq!(code(&refused), (401, "unauthorized".into()), "{path} {more}");
        }
    }
    // Nor can a page make another way in.
    let more = ask(&api, "POST", "/api/v1/web/ticket", &ours, "{}");
    assert_eq!(code(&more), (403, "forbidden".into()));

    // A stream that was open ends with the session.
    let mut stream = TcpStream::connect(host(&api)).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    write!(
        stream,
        "GET /api/v1/events HTTP/1.1\r\nHost: {}\r\n{both}Connection: close\r\n\r\n",
        host(&api)
    )
    .unwrap();
    let mut lines = BufReader::new(stream).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "HTTP/1.1 200 OK");
    let left = ask(&api, "POST", "/api/v1/web/logout", &ours, "{}");
    assert_eq!(parts(&left).0, 200, "{left}");
    assert!(left.contains("Max-Age=0"), "{left}");
    assert!(lines.all(|line| line.is_ok()), "the stream did not end");
    let after = ask(&api, "GET", "/api/v1/me", &both, "");
    assert_eq!(code(&after), (401, "unauthorized".into()));
}

#[test]
fn sessions_end_with_the_daemon() {
    let home = Home::of("Dana", None);
    home.up();
    let port = host(&home.api());
    let session = home.session();
    home.down();
    home.oob(&["--json", "up", "--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0", "--api", &port])
        .json();
    let answer = ask(&home.api(), "GET", "/api/v1/me", &session.headers(), "");
    assert_eq!(code(&answer), (401, "unauthorized".into()));
}

#[test]
fn the_page_is_served_to_anybody_with_headers_that_bind_it() {
    let home = Home::of("Dana", Some("Harbour Clinic"));
    home.up();
    let api = home.api();
    let page = ask(&api, "GET", "/", "", "");
    assert_eq!(parts(&page).0, 200, "{page}");
    let (head, html) = page.split_once("\r\n\r\n").unwrap();
    for line in [
        "content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
         img-src 'self' blob:; media-src 'self' blob:; require-trusted-types-for 'script'; trusted-types 'none'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        "content-type: text/html; charset=utf-8",
        "x-content-type-options: nosniff",
        "referrer-policy: no-referrer",
        "cache-control: no-store",
        "cross-origin-opener-policy: same-origin",
        "cross-origin-resource-policy: same-origin",
    ] {
        assert!(head.lines().any(|found| found == line), "no {line} in {head}");
    }
    assert!(!head.contains("set-cookie") && !html.contains("Dana"));
    let script = ask(&api, "GET", "/assets/app.js", "", "");
    assert!(
        parts(&script).0 == 200 && script.contains("content-type: text/javascript; charset=utf-8")
    );
    for (path, status) in [
        ("/assets/index.html", 404),
        ("/assets/none.js", 404),
        ("/assets/..%2fCargo.toml", 404),
        ("/assets/%2e%2e/%2e%2e/Cargo.toml", 404),
        ("/assets/", 404),
        ("/index.html", 401),
    ] {
        let answer = ask(&api, "GET", path, "", "");
        assert_eq!(parts(&answer).0, status, "{path}: {answer}");
    }
    // A name that somebody points to this machine gets not even the page.
    let rebound =
        http(&api, b"GET / HTTP/1.1\r\nHost: rebound.example\r\nConnection: close\r\n\r\n");
    assert_eq!(rebound.0, 403);
    // Answers of the API are not kept by a browser either.
    let health = ask(&api, "GET", "/api/v1/health", "", "");
    assert!(health.contains("cache-control: no-store"), "{health}");
}

#[test]
fn web_needs_a_daemon_and_prints_the_address() {
    let home = Home::of("Dana", None);
    home.oob(&["--json", "web"]).error("not_running", 3);
    home.up();
    let shown = home.oob(&["web"]);
    assert_eq!(shown.code, 0, "{}", shown.stderr);
    assert!(shown.stdout.starts_with(home.api()["url"].as_str().unwrap()), "{}", shown.stdout);
    assert!(shown.stderr.contains("good once"), "{}", shown.stderr);
    // Without a terminal no browser is asked to open anything.
    assert!(!home.path().join("web.html").exists());
}

#[test]
fn a_browser_is_opened_without_the_ticket_in_its_arguments() {
    let home = Home::of("Dana", None);
    home.up();
    let bin = home.dir.path().join("bin");
    fs::create_dir(&bin).unwrap();
    let (fake, told) = (bin.join("xdg-open"), home.dir.path().join("told"));
    // A named pipe: reading it waits until the browser was called.
    let made = std::process::Command::new("mkfifo").arg(&told).status();
    if !made.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: no mkfifo here");
        return;
    }
    fs::write(&fake, format!("#!/bin/sh\necho \"$@\" > '{}'\n", told.display())).unwrap();
    fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    let mut command = std::process::Command::new("script");
    let line = format!("{} --home {} web", env!("CARGO_BIN_EXE_oob"), home.path().display());
    command.args(["-qec", &line, "/dev/null"]).env("PATH", path).env("DISPLAY", ":9");
    let Ok(child) =
        command.stdout(std::process::Stdio::piped()).stdin(std::process::Stdio::null()).spawn()
    else {
        eprintln!("SKIPPED: no program `script` here to make a terminal");
        return;
    };
    let (sender, arguments) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || sender.send(fs::read_to_string(&told)));
    let arguments = arguments.recv_timeout(Duration::from_secs(60)).expect("no browser").unwrap();
    let shown = Done::of(&child.wait_with_output().unwrap());
    let ticket = shown.stdout.split("#t=").nth(1).unwrap().get(..64).unwrap().to_owned();
    let file = home.path().join("web.html");
    assert_eq!(arguments.trim(), file.to_str().unwrap());
    let html = fs::read_to_string(&file).unwrap();
    assert!(html.contains(&ticket), "{html}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_conversation_is_read_backwards_and_its_unread_messages_are_counted() {
    let two = Two::met();
    for number in 2..=7 {
        two.dana.json(&["send", "sam", &format!("number {number}")]);
    }
    two.dana.json(&["send", "sam", "number 8", "--wait", "delivered", "--timeout", "90s"]);
    let api = two.sam.api();
    let auth = format!("Authorization: Bearer {}\r\n", api["token"].as_str().unwrap());
    let get = |path: &str| -> Value {
        let (status, body) = parts(&ask(&api, "GET", path, &auth, ""));
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    };
    let page = |query: &str| {
        let page = get(&format!("/api/v1/messages?target=dana&{query}"));
        let numbers: Vec<u64> = page["messages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|message| message["number"].as_u64().unwrap())
            .collect();
        (numbers, page["earlier"].as_u64(), page["next"].as_u64())
    };
    assert_eq!(page("before=9007199254740991&limit=3"), (vec![6, 7, 8], Some(6), None));
    assert_eq!(page("before=6&limit=3"), (vec![3, 4, 5], Some(3), None));
    assert_eq!(page("before=3&limit=3"), (vec![1, 2], None, None));
    assert_eq!(page("before=4&limit=3"), (vec![1, 2, 3], None, None));
    assert_eq!(page("before=1&limit=3"), (vec![], None, None));
    assert_eq!(page("before=0"), (vec![], None, None));
    assert_eq!(page("after=6&limit=1"), (vec![7], None, Some(7)));
    let both = ask(&api, "GET", "/api/v1/messages?target=dana&before=3&after=1", &auth, "");
    assert_eq!(code(&both), (400, "bad_request".into()));

    let conversation = || get("/api/v1/conversations")["conversations"][0].clone();
    let with = conversation();
    assert_eq!((with["unread"].as_u64(), with["member_name"].as_str()), (Some(8), Some("Dana")));
    let id = with["conversation"].as_str().unwrap();
    let read = format!("/api/v1/conversations/{id}/read");
    assert_eq!(parts(&ask(&api, "POST", &read, &auth, r#"{"up_to":6}"#)).0, 200);
    assert_eq!(conversation()["unread"], 2);
    // What this person wrote is nothing they have not seen.
    two.sam.json(&["send", "dana", "seen"]);
    assert_eq!(conversation()["unread"], 2);
    assert_eq!(parts(&ask(&api, "POST", &read, &auth, r#"{"up_to":9}"#)).0, 200);
    assert_eq!(conversation()["unread"], 0);
}
