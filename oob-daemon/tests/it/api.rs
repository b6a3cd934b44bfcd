//! Who gets an answer from the local API, and what it does with what is not a request.

use crate::harness::{Home, Session, Two, answer, http};
use serde_json::Value;
use std::{
    fmt::Write as _,
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    os::unix::{fs::PermissionsExt, net::UnixStream},
    thread,
    time::{Duration, Instant},
};

#[test]
fn only_the_right_host_origin_token_and_method_get_an_answer() {
    let home = Home::of("Dana", Some("Harbour Clinic"));
    home.up();
    let api = home.api();
    let address = api["url"].as_str().unwrap().strip_prefix("http://").unwrap();
    let port = address.rsplit(':').next().unwrap();
    let token = api["token"].as_str().unwrap();

    let hosts = [
        (Some(format!("127.0.0.1:{port}")), true),
        (Some(format!("localhost:{port}")), true),
        (Some(format!("[::1]:{port}")), true),
        (Some(format!("rebound.example:{port}")), false),
        (Some("127.0.0.1:1".to_owned()), false),
        (Some("127.0.0.1".to_owned()), false),
        (Some(format!("127.0.0.1:{port}.example")), false),
        (Some(String::new()), false),
        (None, false),
    ];
    let origins = [
        (None, true),
        (Some(format!("http://127.0.0.1:{port}")), true),
        (Some(format!("http://localhost:{port}")), true),
        (Some("http://127.0.0.1:1".to_owned()), false),
        (Some(format!("https://127.0.0.1:{port}")), false),
        (Some("https://evil.example".to_owned()), false),
        (Some("null".to_owned()), false),
    ];
    let Session { cookie, key } = home.session();
    let bearer = |token: &str| Some(format!("Bearer {token}"));
    let right_key = || Some(key.clone());
    let entries = [
        (bearer(token), None, None, Entry::Token),
        (None, None, None, Entry::Nothing),
        (None, None, right_key(), Entry::Nothing),
        (bearer(&key), None, None, Entry::Nothing),
        (bearer(&token[1..]), None, None, Entry::Nothing),
        (bearer(&format!("{token}0")), None, None, Entry::Nothing),
        (Some(format!("Basic {token}")), None, None, Entry::Nothing),
        (bearer(""), None, None, Entry::Nothing),
        (None, Some(cookie.clone()), right_key(), Entry::Session),
        (None, Some(format!("a=b; {cookie}")), right_key(), Entry::Session),
        (None, Some(cookie.clone()), None, Entry::Nothing),
        (None, Some(cookie.clone()), Some(key[1..].to_owned()), Entry::Nothing),
        (None, Some(cookie.clone()), Some(token.to_owned()), Entry::Nothing),
        (None, Some(cookie[..cookie.len() - 1].to_owned()), right_key(), Entry::Nothing),
        (None, Some(cookie.replacen('_', "-", 1)), right_key(), Entry::Nothing),
        (
            None,
            Some(format!("{}={token}", cookie.split('=').next().unwrap())),
            right_key(),
            Entry::Nothing,
        ),
        (bearer(&token[1..]), Some(cookie.clone()), right_key(), Entry::Nothing),
    ];
    let mut right = [0, 0];
    for (host, host_ok) in &hosts {
        for (origin, origin_ok) in &origins {
            for (token, cookie, key, entry) in &entries {
                for (method, method_ok) in
                    [("GET", true), ("POST", false), ("DELETE", false), ("OPTIONS", false)]
                {
                    let mut request = format!(
                        "{method} /api/v1/me HTTP/1.1\r\nConnection: close\r\nContent-Type: application/json\r\n"
                    );
                    for (name, value) in [
                        ("Host", host),
                        ("Origin", origin),
                        ("Authorization", token),
                        ("Cookie", cookie),
                        ("Oob-Page-Key", key),
                    ] {
                        if let Some(value) = value {
                            write!(request, "{name}: {value}\r\n").unwrap();
                        }
                    }
                    request.push_str("\r\n");
                    let (status, body) = http(&api, request.as_bytes());
                    // A browser adds the cookie by itself, so what is changed with it must come from the very page.
                    let same = match (origin, host) {
                        (None, _) => method == "GET",
                        (Some(origin), Some(host)) => *origin == format!("http://{host}"),
                        _ => false,
                    };
                    let wanted = match (host_ok, origin_ok, entry, method_ok) {
                        (false, ..) | (_, false, ..) => 403,
                        (_, _, Entry::Nothing, _) => 401,
                        (_, _, Entry::Session, _) if !same => 403,
                        (.., false) => 405,
                        _ => 200,
                    };
                    assert_eq!(status, wanted, "{request}{body}");
                    right[usize::from(*entry == Entry::Session)] += usize::from(status == 200);
                    if status != 200 {
                        assert!(!body.contains("Dana"), "{body}");
                        let problem: Value = serde_json::from_str(&body).unwrap();
                        assert!(
                            problem["code"].is_string() && problem["hint"].is_string(),
                            "{body}"
                        );
                        assert_eq!(problem["status"], wanted);
                    }
                }
            }
        }
    }
    // With the token each of three hosts and three origins; with the two ways to send the cookie only pairs of one name, of
    // which there are two, and three hosts without an origin.
    assert_eq!(right, [3 * 3, 2 * (2 + 3)]);
}

/// What a request brings to come in by.
#[derive(PartialEq)]
enum Entry {
    Nothing,
    Token,
    Session,
}

fn request(api: &Value, method: &str, path: &str, headers: &str, body: &[u8]) -> (u16, String) {
    let host = api["url"].as_str().unwrap().strip_prefix("http://").unwrap();
    let token = api["token"].as_str().unwrap();
    let length = body.len();
    let mut bytes = format!(
        "{method} {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
    )
    .into_bytes();
    bytes.extend_from_slice(body);
    http(api, &bytes)
}

const JSON: &str = "Content-Type: application/json\r\n";

#[test]
fn bodies_are_json_and_bounded() {
    let home = Home::of("Dana", Some("Harbour Clinic"));
    home.up();
    let api = home.api();
    let post = |headers: &str, body: &[u8]| {
        let (status, body) = request(&api, "POST", "/api/v1/messages", headers, body);
        let problem: Value = serde_json::from_str(&body).unwrap();
        (status, problem["code"].as_str().unwrap_or("none").to_owned())
    };
    let message = br#"{"target":"sam","text":"x"}"#;
    for kind in [
        "",
        "Content-Type: text/plain\r\n",
        "Content-Type: application/x-www-form-urlencoded\r\n",
        "Content-Type: multipart/form-data\r\n",
    ] {
        assert_eq!(post(kind, message), (415, "unsupported_media_type".into()), "{kind}");
    }
    assert_eq!(post(JSON, message), (404, "not_found".into()));
    assert_eq!(
        post("Content-Type: application/json; charset=utf-8\r\n", message),
        (404, "not_found".into())
    );
    for bad in [
        &b""[..],
        b"{",
        b"[]",
        b"null",
        br#"{"target":"sam"}"#,
        br#"{"target":"sam","text":"x","more":1}"#,
        &[0xff, 0xfe],
    ] {
        assert_eq!(post(JSON, bad), (400, "bad_request".into()), "{bad:?}");
    }
    let deep = "[".repeat(100_000);
    assert_eq!(post(JSON, deep.as_bytes()), (400, "bad_request".into()));
    let mut long = br#"{"target":"sam","text":""#.to_vec();
    long.resize(1024 * 1024 + 1, b'x');
    assert_eq!(post(JSON, &long), (413, "body_too_large".into()));
    assert_eq!(request(&api, "GET", "/api/v1/nothing", "", b"").0, 404);
    assert_eq!(request(&api, "GET", "/api/v1/health", "", b"").0, 200);
    assert_eq!(request(&api, "GET", "/api/v1/messages?target=sam&limit=many", "", b"").0, 400);
}

#[test]
fn another_user_is_refused_at_the_socket() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: only root can become another user to be refused");
        return;
    }
    // Root of a user namespace is root over itself alone.
    let other = rustix::process::Uid::from_raw(65534);
    let becomes =
        thread::spawn(move || rustix::thread::set_thread_res_uid(other, other, other).is_ok());
    if !becomes.join().unwrap() {
        eprintln!("SKIPPED: no other user is known in this namespace");
        return;
    }
    let home = Home::of("Dana", Some("Harbour Clinic"));
    home.up();
    let socket = home.path().join("oob.sock");
    let ask = move |uid: u32| {
        let socket = socket.clone();
        // The kernel keeps a user for each thread, and the socket sees the one of the thread that connects.
        thread::spawn(move || {
            let other = rustix::process::Uid::from_raw(uid);
            if uid != 0 {
                rustix::thread::set_thread_res_uid(other, other, other).unwrap();
            }
            let mut stream = UnixStream::connect(&socket)?;
            stream.set_read_timeout(Some(Duration::from_secs(60)))?;
            stream.write_all(
                b"GET /api/v1/me HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
            )?;
            Ok::<_, std::io::Error>(answer(&mut stream))
        })
        .join()
        .unwrap()
    };
    assert_eq!(ask(0).unwrap().0, 200);
    // Nobody else gets through the folder and the socket's own permissions.
    assert_eq!(ask(65534).unwrap_err().kind(), std::io::ErrorKind::PermissionDenied);
    // And if those were opened by mistake, the kernel's word about who connects still stands.
    for (path, mode) in
        [(home.dir.path(), 0o755), (&home.path(), 0o755), (&home.path().join("oob.sock"), 0o666)]
    {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }
    let (status, body) = ask(65534).unwrap();
    assert_eq!(status, 403, "{body}");
    assert!(body.contains("forbidden") && !body.contains("Dana"), "{body}");
}

#[test]
fn many_messages_go_in_one_request_and_stay_in_order() {
    // More than can be under way at once.
    const LINES: u16 = 600;
    let two = Two::met();
    let api = two.dana.api();
    let mut body = String::new();
    for number in 0..LINES {
        if number == 100 {
            body.push_str("{\"target\":\"nobody at all\",\"text\":\"lost\"}\nnot json\n\n");
        }
        writeln!(body, "{{\"target\":\"person:sam\",\"text\":\"number {number}\"}}").unwrap();
    }
    let (status, answers) = request(
        &api,
        "POST",
        "/api/v1/messages",
        "Content-Type: application/x-ndjson\r\n",
        body.as_bytes(),
    );
    assert_eq!(status, 200, "{answers}");
    let answers: Vec<Value> = answers
        .lines()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(answers.len(), usize::from(LINES) + 2);
    assert_eq!(
        (answers[100]["code"].as_str(), answers[101]["code"].as_str()),
        (Some("not_found"), Some("bad_request"))
    );
    assert_eq!(
        answers.iter().filter(|answer| answer["id"].is_string()).count(),
        usize::from(LINES)
    );
    two.dana.json(&["send", "sam", "last", "--wait", "delivered", "--timeout", "90s"]);
    let texts: Vec<String> = two
        .sam
        .oob(&["--json", "log", "dana"])
        .lines()
        .iter()
        .map(|m| m["text"].as_str().unwrap().to_owned())
        .collect();
    let wanted: Vec<String> = std::iter::once("first".to_owned())
        .chain((0..LINES).map(|n| format!("number {n}")))
        .chain(["last".to_owned()])
        .collect();
    assert_eq!(texts, wanted);
}

/// Reads events until one satisfies `found`; returns it with its id.
fn events_until(api: &Value, after: Option<u64>, found: impl Fn(&Value) -> bool) -> (u64, Value) {
    let host = api["url"].as_str().unwrap().strip_prefix("http://").unwrap();
    let token = api["token"].as_str().unwrap();
    let mut stream = TcpStream::connect(host).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let resume = after.map(|id| format!("Last-Event-ID: {id}\r\n")).unwrap_or_default();
    write!(stream, "GET /api/v1/events HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n{resume}\r\n").unwrap();
    let mut id = 0;
    for line in BufReader::new(stream).lines() {
        let line = line.unwrap();
        if let Some(number) = line.strip_prefix("id: ") {
            id = number.parse().unwrap();
        } else if let Some(data) = line.strip_prefix("data: ") {
            let event: Value = serde_json::from_str(data).unwrap();
            if found(&event) {
                return (id, event);
            }
        }
    }
    panic!("the stream ended");
}

#[test]
fn events_resume_behind_the_last_one_also_after_a_restart() {
    let two = Two::met();
    let sent = two.dana.json(&["send", "sam", "second", "--wait", "delivered", "--timeout", "90s"]);
    let (first, event) = events_until(&two.sam.api(), Some(0), |event| event["type"] == "message");
    assert_eq!(
        (event["text"].as_str(), event["author_name"].as_str(), event["outgoing"].as_bool()),
        (Some("first"), Some("Dana"), Some(false))
    );
    two.sam.down();
    two.sam.up();
    let (second, event) =
        events_until(&two.sam.api(), Some(first), |event| event["type"] == "message");
    assert_eq!((event["text"].as_str(), event["id"].clone()), (Some("second"), sent["id"].clone()));
    assert!(second > first);
    let (_, receipt) = events_until(&two.dana.api(), Some(0), |event| {
        event["type"] == "receipt" && event["id"] == sent["id"]
    });
    assert_eq!(
        (receipt["state"].as_str(), receipt["delivered"].as_u64(), receipt["expected"].as_u64()),
        (Some("delivered"), Some(1), Some(1))
    );
}

/// Opens an event stream over the socket and reads the head of its answer.
fn stream(home: &Home) -> (u16, BufReader<UnixStream>) {
    let mut stream = UnixStream::connect(home.path().join("oob.sock")).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.write_all(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(reader.read_line(&mut head).unwrap() > 0, "{head}");
    }
    (head[9..12].parse().unwrap(), reader)
}

#[test]
fn open_event_streams_do_not_keep_commands_waiting() {
    let home = Home::of("Dana", Some("Harbour Clinic"));
    home.up();
    let mut streams: Vec<_> = (0..64).map(|_| stream(&home)).collect();
    assert!(streams.iter().all(|(status, _)| *status == 200));
    assert_eq!(home.json(&["status"])["name"], "Dana");
    // One more is refused with a reason, and not kept waiting.
    let (status, mut refused) = stream(&home);
    assert_eq!(status, 409);
    let mut body = vec![0; 20];
    std::io::Read::read_exact(&mut refused, &mut body).unwrap();
    drop(refused);
    // A stream that ends gives its place back, once the daemon has noticed.
    streams.pop();
    let limit = Instant::now() + Duration::from_secs(90);
    while stream(&home).0 != 200 {
        assert!(Instant::now() < limit, "the place of a stream that ended is not given back");
    }
    // Over TCP they are counted by themselves.
    let (_, event) = thread::scope(|scope| {
        let reading = scope.spawn(|| events_until(&home.api(), Some(0), |_| true));
        reading.join().unwrap()
    });
    assert_eq!(event["type"], "org");
}

#[test]
fn every_refusal_is_a_problem_whatever_was_asked() {
    let home = Home::of("Dana", Some("Harbour Clinic"));
    home.up();
    let api = home.api();
    let read = br#"{"up_to":1}"#;
    for (method, path, wanted) in [
        ("POST", "/api/v1/conversations/nonsense/read", (404, "not_found")),
        ("POST", "/api/v1/conversations/%ff/read", (400, "bad_request")),
        ("POST", "/api/v1/conversations/%00/read", (404, "not_found")),
        ("POST", "/api/v1/conversations/a/b/c/d", (404, "no_such_resource")),
        ("PUT", "/api/v1/me", (405, "method_not_allowed")),
        ("GET", "/api/v1/messages", (400, "bad_request")),
        ("GET", "/api/v1/messages?target=%ff&after=-1", (400, "bad_request")),
        ("GET", "/api/v1/events/%ff", (404, "no_such_resource")),
    ] {
        let body = if method == "GET" { &b""[..] } else { read };
        let (status, body) = request(&api, method, path, JSON, body);
        let problem: Value =
            serde_json::from_str(&body).unwrap_or_else(|e| panic!("{path}: {e}: {body}"));
        assert_eq!((status, problem["code"].as_str().unwrap()), wanted, "{path} {body}");
        assert!(problem["hint"].is_string() && problem["status"] == status, "{path} {body}");
    }
}
