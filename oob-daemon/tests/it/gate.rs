//! The gate before the local API: every resource that the document lists, asked by everybody who must get nothing from it, and
//! crowds of connections that ask for nothing.

use crate::harness::{Done, Home, Session, answer, http, parts};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::Value;
use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    process::Command,
    time::{Duration, Instant},
};

fn host(api: &Value) -> &str {
    api["url"].as_str().unwrap().strip_prefix("http://").unwrap()
}

/// Writes a request; its body is the beginning of a JSON object, which no resource takes.
fn written(method: &str, path: &str, headers: &[(&str, &str)]) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !matches!(method, "GET" | "HEAD" | "OPTIONS") {
        text.push_str("Content-Length: 1\r\n\r\n{");
    } else {
        text.push_str("\r\n");
    }
    text.into_bytes()
}

fn code(body: &str) -> String {
    let problem: Value = serde_json::from_str(body).unwrap_or(Value::Null);
    problem["code"].as_str().unwrap_or("").to_owned()
}

/// Every resource: its path, its method, and whether it answers without a token, as the document says.
fn resources(home: &Home) -> Vec<(String, String, bool)> {
    let (api, mut all) = (home.api(), Vec::new());
    let token = format!("Bearer {}", api["token"].as_str().unwrap());
    let headers = [("Host", host(&api)), ("Authorization", &token)];
    let (status, body) = http(&api, &written("GET", "/openapi.json", &headers));
    assert_eq!(status, 200, "{body}");
    let document: Value = serde_json::from_str(&body).unwrap();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let open = operation["security"].is_null();
            all.push((path.replace("{id}", "none"), method.to_uppercase(), open));
        }
    }
    all.push(("/openapi.json".to_owned(), "GET".to_owned(), false));
    assert!(all.len() >= 20, "{all:?}");
    all
}

/// Each resource, whatever it is called, behind the same gate. The two that need no token are named here as well as in the
/// document, so that a third one is noticed.
#[test]
fn no_resource_answers_without_the_gate_but_the_two_that_are_meant_to() {
    let home = Home::of("Dana", Some("Harbour Clinic"));
    home.up();
    let (api, Session { cookie, key }) = (home.api(), home.session());
    let (ours, token) = (host(&api), format!("Bearer {}", api["token"].as_str().unwrap()));
    let origin = format!("http://{ours}");
    let all = resources(&home);
    let open: Vec<_> =
        all.iter().filter(|(.., open)| *open).map(|(path, ..)| path.as_str()).collect();
    assert_eq!(open, ["/api/v1/health", "/api/v1/web/session"]);

    let json = ("Content-Type", "application/json");
    let right = [("Host", ours), ("Authorization", token.as_str()), json];
    let session = [
        ("Host", ours),
        ("Cookie", cookie.as_str()),
        ("Oob-Page-Key", key.as_str()),
        ("Origin", origin.as_str()),
        json,
    ];
    for (path, method, open) in &all {
        let ask = |headers: &[(&str, &str)]| {
            let (status, body) = http(&api, &written(method, path, headers));
            assert!(status == 200 || !body.contains("Dana"), "{path}: {body}");
            (status, code(&body))
        };
        let no = |status: u16, code: &str| (status, code.to_owned());
        // Nothing to show, or the wrong thing. What needs no token gives nothing of anybody away: `health`, and the way in,
        // which wants a ticket.
        let anonymous = ask(&[("Host", ours), json]);
        match (path.as_str(), open) {
            ("/api/v1/health", true) => assert_eq!(anonymous.0, 200),
            ("/api/v1/web/session", true) => assert_eq!(anonymous, no(403, "bad_origin")),
            _ => {
                let wrong = [
                    vec![],
                    vec![("Authorization", "Bearer 0")],
                    vec![("Cookie", cookie.as_str())],
                    vec![("Oob-Page-Key", key.as_str())],
                    vec![("Cookie", cookie.as_str()), ("Oob-Page-Key", "0")],
                    vec![
                        ("Cookie", cookie.as_str()),
                        ("Authorization", "Bearer 0"),
                        ("Oob-Page-Key", &key),
                    ],
                ];
                for more in wrong {
                    for from in [None, Some(("Origin", origin.as_str()))] {
                        let headers: Vec<_> = [("Host", ours), json]
                            .into_iter()
                            .chain(more.clone())
                            .chain(from)
                            .collect();
                        assert_eq!(
                            ask(&headers),
                            no(401, "unauthorized"),
                            "{method} {path} {headers:?}"
                        );
                    }
                }
            }
        }
        // The right token, asked for by a name that somebody points here, or by a page from elsewhere.
        for name in ["rebound.example", "127.0.0.1", "localhost:1", ""] {
            let headers = [("Host", name), ("Authorization", &token), json];
            assert_eq!(ask(&headers), no(403, "bad_host"), "{method} {path} {name}");
        }
        let two = [("Host", ours), ("Host", "rebound.example"), ("Authorization", &token), json];
        assert!(matches!(ask(&two).0, 400 | 403), "{method} {path}");
        for from in ["http://rebound.example", "null", "http://localhost:1", "file://"] {
            let headers = [("Host", ours), ("Authorization", &token), ("Origin", from), json];
            assert_eq!(ask(&headers), no(403, "bad_origin"), "{method} {path} {from}");
        }
        // The right session, asked for by a page from elsewhere.
        for site in ["cross-site", "same-site"] {
            let headers: Vec<_> = session.into_iter().chain([("Sec-Fetch-Site", site)]).collect();
            if path != "/api/v1/health" {
                assert_eq!(ask(&headers), no(403, "bad_origin"), "{method} {path} {site}");
            }
        }
        // What a plain form can send.
        if method == "POST" {
            let plain: Vec<_> = right[..2]
                .iter()
                .copied()
                .chain([("Origin", origin.as_str()), ("Content-Type", "text/plain")])
                .collect();
            assert_eq!(ask(&plain), no(415, "unsupported_media_type"), "{path}");
        }
        // Methods it does not have: nothing without the token, and no word for pages from elsewhere.
        for other in ["HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "TRACE"] {
            let preflight = [
                ("Host", ours),
                ("Origin", origin.as_str()),
                ("Access-Control-Request-Method", "POST"),
                json,
            ];
            let bytes = written(other, path, &preflight);
            let answer = crate::harness::exchange(&api, &bytes);
            let wanted = if path == "/api/v1/health" { [200, 405] } else { [401, 401] };
            assert!(wanted.contains(&parts(&answer).0), "{other} {path}: {answer}");
            assert!(!answer.to_lowercase().contains("access-control-allow"), "{answer}");
        }
        // The control: the token, and the session, get past the gate to what the resource itself says.
        let stream = path == "/api/v1/events";
        for headers in [&right[..], &session[..]] {
            if stream || path == "/api/v1/web/session" {
                continue;
            }
            let (status, code) = ask(headers);
            let ticket = path == "/api/v1/web/ticket" && status == 400;
            let past = if method == "POST" {
                status == 400 || ticket
            } else {
                matches!(status, 200 | 400 | 404)
            };
            assert!(past, "{method} {path}: {status} {code}");
        }
    }
    // None of it has stopped the daemon.
    assert_eq!(home.json(&["status"])["name"], "Dana");
}

/// Names that a careless comparison of paths takes for one of those that need no token.
#[test]
fn no_other_spelling_of_a_path_gets_around_the_gate() {
    let home = Home::of("Dana", Some("Harbour Clinic"));
    home.up();
    let api = home.api();
    for path in [
        "/api/v1/health/../me",
        "/api/v1/me/../health",
        "/api/v1/health/me",
        "/api/v1/health?x=/api/v1/me",
        "/api/v1/health%2f..%2fme",
        "//api/v1/me",
        "/./api/v1/me",
        "/assets/../api/v1/me",
        "/assets/%2e%2e/api/v1/me",
        "/assets//api/v1/me",
        "/API/V1/ME",
        "/api/v1/me/",
        "/api/v1/me%00",
        "/api/v1/me;/assets/app.js",
        "/openapi.json?/assets/",
        "*",
    ] {
        for method in ["GET", "OPTIONS"] {
            let (status, body) = http(&api, &written(method, path, &[("Host", host(&api))]));
            assert!(
                status != 200 || path.starts_with("/api/v1/health?"),
                "{method} {path}: {body}"
            );
            assert!(!body.contains("Dana") && !body.contains("openapi"), "{path}: {body}");
        }
    }
}

/// Over the socket the kernel says who asks: no token, no page, and bodies are JSON all the same.
#[test]
fn over_the_socket_every_resource_answers_its_user_and_the_page_is_not_there() {
    let home = Home::of("Dana", Some("Harbour Clinic"));
    home.up();
    let ask = |method: &str, path: &str, kind: &str| {
        let mut stream = UnixStream::connect(home.path().join("oob.sock")).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
            .write_all(&written(method, path, &[("Host", "localhost"), ("Content-Type", kind)]))
            .unwrap();
        answer(&mut stream)
    };
    for (path, method, _) in resources(&home) {
        if path == "/api/v1/events" {
            continue;
        }
        let (status, body) = ask(&method, &path, "application/json");
        let wanted: &[u16] = if method == "POST" { &[400] } else { &[200, 400, 404] };
        assert!(wanted.contains(&status), "{method} {path}: {status} {body}");
        if method == "POST" {
            assert_eq!(ask(&method, &path, "text/plain").0, 415, "{path}");
        }
    }
    assert_eq!(ask("GET", "/", "").0, 404);
    assert_eq!(ask("GET", "/assets/app.js", "").0, 404);
}

/// Half a request on each of many connections.
fn half_open(api: &Value, count: usize) -> Vec<TcpStream> {
    let begin = |_| {
        let mut stream = TcpStream::connect(host(api)).unwrap();
        stream.write_all(b"GET /api/v1/me HTTP/1.1\r\nHost: ").unwrap();
        stream
    };
    (0..count).map(begin).collect()
}

/// Asks over TCP for who this is, and says how long the answer took.
fn asked(api: &Value) -> Duration {
    let token = format!("Bearer {}", api["token"].as_str().unwrap());
    let began = Instant::now();
    let (status, body) =
        http(api, &written("GET", "/api/v1/me", &[("Host", host(api)), ("Authorization", &token)]));
    assert!(status == 200 && body.contains("Dana"), "{status} {body}");
    began.elapsed()
}

/// Longer than anything here takes that happens at all, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Connections of a crowd that says nothing; the design's bar is 2,000 of them while the system allows 128 files.
const CROWD: usize = 2_000;
const FILES: &str = "128";

/// Lets this process open the files of all crowds here, or says that it may not.
fn may_open_enough() -> bool {
    let most = getrlimit(Resource::Nofile);
    let wanted = (CROWD as u64) * 2 + 1_000;
    if most.maximum.is_some_and(|maximum| maximum < wanted) {
        eprintln!("SKIPPED: this user may not open {wanted} files");
        return false;
    }
    if most.current.is_some_and(|current| current < wanted) {
        setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: most.maximum })
            .unwrap();
    }
    true
}

/// Starts a daemon that may open few files.
fn up_with_few_files(home: &Home) -> Value {
    let mut command = Command::new("sh");
    command
        .args(["-c", &format!("ulimit -n {FILES}; exec \"$0\" \"$@\"")])
        .arg(crate::harness::binary());
    let up = ["--json", "up", "--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0"];
    let ready = Done::of(&home.wrap(command, &up).output().unwrap()).json();
    let limits = fs::read_to_string(format!("/proc/{}/limits", ready["pid"])).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    assert!(files.split_whitespace().nth(4) == Some(FILES), "{files}");
    ready
}

/// A crowd at the port of the mesh takes files of the same process: the API and the store must have theirs all the same.
#[test]
fn a_flood_at_the_port_of_the_mesh_leaves_the_api_and_the_store_working() {
    let home = Home::of("Dana", Some("Harbour Clinic"));
    if !may_open_enough() {
        return;
    }
    let ready = up_with_few_files(&home);
    let address = ready["listen"][0].as_str().unwrap();
    let port: u16 =
        address.split('/').skip_while(|part| *part != "tcp").nth(1).unwrap().parse().unwrap();
    let api = home.api();
    let mut crowd = Vec::new();
    let mut most = 0;
    for round in 0..10 {
        for n in 0..CROWD / 20 {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            // Half of them begin to speak as a libp2p node does, the others say nothing.
            if n % 2 == 0 {
                let _ = stream.write_all(b"\x13/multistream/1.0.0\n\x07/noise\n");
            }
            crowd.push(stream);
        }
        let open = fs::read_dir(format!("/proc/{}/fd", ready["pid"])).unwrap().count();
        most = most.max(open);
        asked(&api);
        // An invitation is durable before it is given.
        let made = home.dir.path().join(format!("{round}.invite"));
        home.json(&["invite", "--out", made.to_str().unwrap()]);
        assert_eq!(home.json(&["status"])["name"], "Dana");
    }
    println!("{} connections at the mesh: at most {most} of {FILES} files open", crowd.len());
    // It was a flood: those that are over have been closed again.
    let mut closed = 0;
    for stream in &mut crowd {
        stream.set_nonblocking(true).unwrap();
        let read = stream.read(&mut [0; 64]);
        closed += usize::from(!read.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock));
    }
    assert!(closed >= crowd.len() / 2, "{closed} of {}", crowd.len());
    drop(crowd);
    home.down();
    home.up();
    assert_eq!(home.json(&["status"])["name"], "Dana");
}

/// Whoever keeps connections open and asks for nothing keeps nobody out: over the very listener that is full, at once.
///
/// This once filled TCP and asked over the socket, which has places of its own: it could not fail. Its control is that what
/// is being answered does hold its place (`whoever_was_quiet_for_longest_gives_way_and_nobody_who_is_answered`). What counts
/// as that once began with the head of a request: who sent heads without bodies, without any token, had all places.
#[test]
fn two_thousand_half_open_connections_keep_nobody_out() {
    let home = Home::of("Dana", Some("Harbour Clinic"));
    if !may_open_enough() {
        return;
    }
    up_with_few_files(&home);
    let api = home.api();
    let began = Instant::now();
    let mut held = half_open(&api, CROWD);
    let took: Vec<_> = (0..20).map(|_| asked(&api)).collect();
    assert_eq!(home.json(&["status"])["name"], "Dana");
    // The quickest is what the daemon can do, the slowest has other tests beside it; without giving way it is the ten
    // seconds that a head may take.
    assert!(took.iter().min().unwrap() < &Duration::from_millis(100), "{took:?}");
    assert!(took.iter().max().unwrap() < &Duration::from_secs(8), "{took:?}");
    println!("{CROWD} half open in {:?}, then answers in {took:?}", began.elapsed());
    // All but as many as there are places have been ended, the first ones first.
    let first = held.first_mut().unwrap();
    first.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    assert!(matches!(first.read(&mut [0; 1]), Ok(0) | Err(_)));
    let mut alive = 0;
    for stream in &mut held {
        stream.set_nonblocking(true).unwrap();
        let read = stream.read(&mut [0; 1]);
        alive += usize::from(read.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock));
    }
    assert!(alive <= 8, "{alive} connections have places for eight");
    // The last ones end by themselves when a head has had its time.
    let last = held.last_mut().unwrap();
    last.set_nonblocking(false).unwrap();
    last.set_read_timeout(Some(Duration::from_secs(15))).unwrap();
    let mut rest = Vec::new();
    let ended = last.read_to_end(&mut rest);
    assert!(
        ended.as_ref().map_or_else(|e| e.kind() != std::io::ErrorKind::WouldBlock, |_| true),
        "{ended:?}"
    );

    // The heads of requests that anybody may send, whose bodies do not come, keep nobody out either: ten seconds each, by
    // whoever is on the machine.
    let own = format!("http://{}", host(&api));
    let session = [("Host", host(&api)), ("Origin", &own), ("Content-Type", "application/json")];
    let without_body: Vec<_> =
        (0..64).map(|_| waiting(&api, "/api/v1/web/session", &session)).collect();
    assert!(asked(&api) < Duration::from_secs(8));
    drop(without_body);
}

/// A request whose body is said to come and does not.
fn waiting(api: &Value, path: &str, headers: &[(&str, &str)]) -> TcpStream {
    let mut stream = TcpStream::connect(host(api)).unwrap();
    let mut head =
        format!("POST {path} HTTP/1.1\r\nContent-Length: 10\r\nExpect: 100-continue\r\n");
    headers.iter().for_each(|(name, value)| head.push_str(&format!("{name}: {value}\r\n")));
    stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
    // Once it is told to go on, somebody waits for its body; or it is ended, since another one came.
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut go_on = [0; 25];
    if stream.read_exact(&mut go_on).is_ok() {
        assert!(go_on.starts_with(b"HTTP/1.1 100 "), "{go_on:?}");
    }
    stream
}

/// A head that comes letter by letter has no more time than one that does not come.
#[test]
fn a_head_that_trickles_is_ended_in_time() {
    let home = Home::of("Dana", None);
    home.up();
    let api = home.api();
    let mut slow = TcpStream::connect(host(&api)).unwrap();
    let began = Instant::now();
    let head =
        format!("GET /api/v1/health HTTP/1.1\r\nHost: {}\r\nX: {}", host(&api), "x".repeat(60));
    // The clock of the trickle: nothing comes back before the end, so each wait lasts its time.
    slow.set_read_timeout(Some(Duration::from_millis(250))).unwrap();
    let mut ended = false;
    for byte in head.bytes() {
        let mut one = [0; 1];
        let written = slow.write_all(&[byte]);
        let read = slow.read(&mut one);
        ended =
            written.is_err() || !read.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock);
        if ended {
            break;
        }
    }
    assert!(ended && began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}
