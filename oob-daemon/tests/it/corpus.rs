//! Every file of the fuzzers' corpora that come in by this crate, as `oob-core/tests/it/corpus.rs` does for all others.

use oob_daemon::doors;
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Once,
};

type Door = fn(&[u8]) -> bool;

const DOORS: [(&str, Door); 2] = [("api", doors::api), ("typed", doors::typed)];

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target)
}

fn files(target: &str) -> Vec<PathBuf> {
    static WRITTEN: Once = Once::new();
    WRITTEN.call_once(|| {
        if std::env::var_os("OOB_REGENERATE").is_some() {
            write_seeds();
        }
    });
    let mut files: Vec<PathBuf> =
        fs::read_dir(corpus(target)).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn every_file_of_the_corpora_is_taken_or_refused_as_its_name_says() {
    for (target, door) in DOORS {
        let (mut good, mut bad) = (0, 0);
        for path in files(target) {
            let taken = door(&fs::read(&path).unwrap());
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.starts_with("seed-good-") {
                good += 1;
                assert!(taken, "{target}: {name} was refused");
            } else if name.starts_with("seed-bad-") {
                bad += 1;
                assert!(!taken, "{target}: {name} was taken");
            }
        }
        assert!(good > 0 && bad > 0, "{target}: {good} seeds to take, {bad} to refuse");
    }
}

fn write_seeds() {
    for (target, seeds) in [("api", api()), ("typed", typed())] {
        fs::create_dir_all(corpus(target)).unwrap();
        for (name, bytes) in seeds {
            fs::write(corpus(target).join(format!("seed-{name}")), bytes).unwrap();
        }
    }
}

fn api() -> Vec<(&'static str, Vec<u8>)> {
    let request = |way: u8, method: &str, path: &str, headers: &str, body: &str| {
        let length = match body.is_empty() {
            true => String::new(),
            false => format!("content-length: {}\r\n", body.len()),
        };
        let head =
            format!("{method} {path} HTTP/1.1\r\nhost: 127.0.0.1:80\r\n{headers}{length}\r\n");
        [&[way], head.as_bytes(), body.as_bytes()].concat()
    };
    let token = "authorization: Bearer t\r\n";
    let json = "content-type: application/json\r\n";
    let lines = "content-type: application/x-ndjson\r\n";
    let id = "a".repeat(64);
    let get = |path: &str| request(0, "GET", path, "", "");
    let post = |path: &str, body: &str| request(0, "POST", path, json, body);
    let alert = r#"{"text":"Mail is compromised","severity":"critical","answers":["yes","no"],"life_ms":60000}"#;
    vec![
        ("good-health", request(1, "GET", "/api/v1/health", "", "")),
        ("good-me", request(1, "GET", "/api/v1/me", token, "")),
        ("good-status", get("/api/v1/status")),
        ("good-alert", post("/api/v1/alerts", alert)),
        ("good-alerts", get("/api/v1/alerts")),
        ("good-invite", post("/api/v1/invites", r#"{"uses":1,"life_ms":60000}"#)),
        (
            "good-lines",
            request(
                0,
                "POST",
                "/api/v1/messages",
                lines,
                "{\"target\":\"sam\",\"text\":\"x\"}\n{}\n7\n",
            ),
        ),
        ("good-page", request(1, "GET", "/", token, "")),
        ("good-pipelined", [get("/api/v1/members"), get("/api/v1/peers")[1..].to_vec()].concat()),
        ("good-ticket", post("/api/v1/web/ticket", "{}")),
        ("bad-token", request(1, "GET", "/api/v1/me", "authorization: Bearer x\r\n", "")),
        (
            "bad-origin",
            request(1, "GET", "/api/v1/me", &format!("{token}origin: http://evil.example\r\n"), ""),
        ),
        ("bad-yourself", post("/api/v1/messages", r#"{"target":"dana","text":"x"}"#)),
        ("bad-no-such-alert", post(&format!("/api/v1/alerts/{id}/ack"), "{}")),
        (
            "bad-query",
            get("/api/v1/messages?target=person:dana&after=-1&since=2026-11-21T22:47:01.123Z"),
        ),
        (
            "bad-form",
            request(0, "POST", "/api/v1/alerts", "content-type: text/plain\r\n", "text=x"),
        ),
        ("bad-read", post(&format!("/api/v1/conversations/{}/read", &id[..32]), r#"{"up_to":1}"#)),
        ("bad-session", post("/api/v1/web/session", r#"{"ticket":"x"}"#)),
        ("bad-not-http", [&[0], &[0x16, 3, 1, 0, 5][..]].concat()),
        ("bad-empty", Vec::new()),
    ]
}

fn typed() -> Vec<(&'static str, Vec<u8>)> {
    let seeds = [
        ("good-send", 0, "send\nperson:dana\nhello"),
        ("good-alert", 0, "--json\nalert\nsend\nget out\n--severity\ncritical\n--expires\n90s"),
        ("good-log", 0, "log\ndana\n--since\n7d"),
        ("good-help", 0, "help\naddress\nadd"),
        ("good-settings", 1, "listen = [\"/ip4/127.0.0.1/tcp/0\"]\nmdns = false\nbeacon = true\n"),
        ("good-events", 2, "id: 7\ndata: {\"type\":\"lagged\",\"missed\":3}\n\n: keep alive\n\n"),
        ("good-target", 3, " person: dana ruiz "),
        ("bad-duration", 0, "invite\n--expires\n18446744073709551615d"),
        ("bad-memory", 0, "99999999GiB"),
        ("bad-settings", 1, "mdsn = false"),
        ("bad-events", 2, "data: <html>\n\n"),
        ("bad-target", 3, "planet:mars"),
        ("bad-escape", 3, ":\u{1b}[2J\u{202e}"),
    ];
    seeds.map(|(name, kind, text)| (name, [&[kind], text.as_bytes()].concat())).into()
}
