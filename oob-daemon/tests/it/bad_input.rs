//! What people and strangers get wrong: each a clear error with a hint and its exit code, and nothing is lost.

use crate::harness::{Done, Home, Two, files};
use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    os::unix::net::UnixStream,
    path::PathBuf,
    process::Command,
};

const LOOPBACK: [&str; 5] = ["--json", "up", "--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0"];

/// Every file of a home but its log, to compare.
fn content(home: &Home) -> BTreeMap<PathBuf, Vec<u8>> {
    let kept =
        files(&home.path()).into_iter().filter(|path| path.is_file() && !path.ends_with("oob.log"));
    kept.map(|path| (path.clone(), fs::read(&path).unwrap())).collect()
}

#[test]
fn a_wrong_passphrase_is_refused_and_changes_nothing() {
    let home = Home::of("Dana", Some("Harbour Clinic"));
    let wrong = home.dir.path().join("wrong");
    fs::write(&wrong, "something else\n").unwrap();
    let keyring = fs::read(home.path().join("keyring")).unwrap();
    home.oob(&["--json", "up", "--passphrase-file", wrong.to_str().unwrap()])
        .error("wrong_passphrase", 9);
    assert_eq!(fs::read(home.path().join("keyring")).unwrap(), keyring);
    fs::write(&wrong, "\n").unwrap();
    home.oob(&["--json", "up", "--passphrase-file", wrong.to_str().unwrap()])
        .error("passphrase_empty", 1);
    home.oob(&["--json", "up", "--passphrase-file", "/nowhere/pass"]).error("file", 1);
    home.oob(&["--json", "up", "--passphrase-file", "-"]).error("passphrase_empty", 1);
    // Without a file and without a terminal there is nobody to ask.
    let mut bare = Command::new(env!("CARGO_BIN_EXE_oob"));
    bare.arg("--home").arg(home.path()).args(["--json", "up"]).stdin(std::process::Stdio::null());
    Done::of(&bare.output().unwrap()).error("passphrase_needed", 1);
    home.up();
    assert_eq!(home.json(&["status"])["org_name"], "Harbour Clinic");
}

#[test]
fn a_home_is_made_once_and_needed() {
    let home = Home::new();
    home.oob(&LOOPBACK).error("not_initialised", 1);
    home.oob(&["--json", "status"]).error("not_running", 3);
    home.oob(&["--json", "init", "--name", "Dana", "--kdf-memory", "1MiB"]).error("bad_kdf", 1);
    home.oob(&["--json", "init", "--name", "  ", "--kdf-memory", "64MiB"]).error("empty", 1);
    home.oob(&["--json", "init", "--name", "Da\u{202e}na", "--kdf-memory", "64MiB"])
        .error("bad_name", 1);
    home.oob(&["--json", "init", "--name", &"x".repeat(65), "--kdf-memory", "64MiB"])
        .error("too_long", 1);
    home.oob(&["--json", "init", "--name", "Dana", "--org", "\u{7}", "--kdf-memory", "64MiB"])
        .error("bad_name", 1);
    let made = home.json(&["init", "--name", "Dana", "--kdf-memory", "64MiB"]);
    home.oob(&["--json", "init", "--name", "Mallory", "--kdf-memory", "64MiB"])
        .error("already_initialised", 1);
    home.up();
    let status = home.json(&["status"]);
    assert_eq!((status["name"].as_str(), &status["device"]), (Some("Dana"), &made["device"]));
}

#[test]
fn a_truncated_or_foreign_store_is_named_and_left_as_it_is() {
    let home = Home::of("Dana", Some("Harbour Clinic"));
    let other = Home::of("Sam", Some("Other"));
    let keyring = home.path().join("keyring");
    let whole = fs::read(&keyring).unwrap();
    // It is kept twice; of what is cut here neither is whole.
    for cut in [0, 1, 100, 300] {
        fs::write(&keyring, &whole[..cut]).unwrap();
        let before = content(&home);
        home.oob(&LOOPBACK).error("damaged", 9);
        assert!(content(&home) == before, "something was changed, cut at {cut}");
    }
    // Of another home with the same passphrase.
    fs::copy(other.path().join("keyring"), &keyring).unwrap();
    let refused = home.oob(&LOOPBACK);
    assert_eq!(refused.code, 9, "{}", refused.stderr);
    fs::write(&keyring, &whole).unwrap();
    let slots = home.path().join("slots");
    let kept = fs::read(&slots).unwrap();
    fs::write(&slots, &kept[..kept.len() / 2]).unwrap();
    let refused = home.oob(&LOOPBACK);
    assert_eq!(refused.code, 9, "{}", refused.stderr);
    fs::write(&slots, &kept).unwrap();
    home.up();
    assert_eq!(home.json(&["status"])["name"], "Dana");
}

#[test]
fn a_second_daemon_on_one_home_is_refused() {
    let home = Home::of("Dana", Some("Harbour Clinic"));
    home.up();
    home.oob(&LOOPBACK).error("already_running", 1);
    // Also when the first cannot be found by its socket: the store's own lock stands.
    fs::rename(home.path().join("oob.sock"), home.path().join("aside")).unwrap();
    home.oob(&LOOPBACK).error("busy", 1);
    home.oob(&["--json", "init", "--name", "Mallory", "--kdf-memory", "64MiB"])
        .error("already_initialised", 1);
    fs::rename(home.path().join("aside"), home.path().join("oob.sock")).unwrap();
    assert_eq!(home.json(&["status"])["name"], "Dana");
}

/// The copy names the socket of the original, which once got every command that was meant for the copy.
#[test]
fn a_copied_home_does_not_command_the_daemon_of_the_original() {
    let home = Home::of("Dana", Some("Harbour Clinic"));
    let up = home.up();
    let copy = Home::new();
    fs::create_dir(copy.path()).unwrap();
    fs::copy(home.path().join("api.json"), copy.path().join("api.json")).unwrap();
    for command in [&["status"][..], &["down"], &["send", "sam", "x"]] {
        let refused = copy.oob(&[&["--json"], command].concat()).error("not_running", 3);
        let hint = refused["hint"].as_str().unwrap();
        assert!(hint.contains(home.path().to_str().unwrap()), "{refused}");
    }
    // The control: under another name it is the same folder, and one with a socket elsewhere is still found.
    let other = Home::new();
    std::os::unix::fs::symlink(home.path(), other.path()).unwrap();
    assert_eq!(other.json(&["status"])["name"], "Dana");
    fs::rename(home.path().join("oob.sock"), home.dir.path().join("s")).unwrap();
    let mut api = home.api();
    api["socket"] = home.dir.path().join("s").to_str().unwrap().into();
    fs::write(home.path().join("api.json"), api.to_string()).unwrap();
    assert_eq!(home.json(&["down"])["pid"], up["pid"]);
    fs::remove_file(other.path()).unwrap();
    fs::remove_file(copy.path().join("api.json")).unwrap();
}

#[test]
fn invitations_that_are_altered_used_or_none_at_all_are_refused() {
    let two = Two::met();
    let third = Home::of("Rosa", None);
    third.oob(&["--json", "join", "whatever.invite"]).error("not_running", 3);
    third.up();
    third.oob(&["--json", "join", "no-such-file.invite"]).error("file", 1);
    third.oob(&["--json", "join", "oob:join:AAAA"]).error("bad_invite", 9);
    let path = two.dana.invite();
    let link = fs::read_to_string(&path).unwrap().trim().to_owned();
    let mut altered = link.clone().into_bytes();
    let middle = altered.len() / 2;
    altered[middle] = if altered[middle] == b'A' { b'B' } else { b'A' };
    third.oob(&["--json", "join", std::str::from_utf8(&altered).unwrap()]).error("bad_invite", 9);
    third.oob(&["--json", "join", &link[..link.len() - 10]]).error("bad_invite", 9);
    let garbage = third.dir.path().join("garbage.invite");
    fs::write(&garbage, [0xff; 100]).unwrap();
    third.oob(&["--json", "join", garbage.to_str().unwrap()]).error("bad_invite", 9);
    fs::write(&garbage, vec![b'x'; 100_000]).unwrap();
    third.oob(&["--json", "join", garbage.to_str().unwrap()]).error("bad_invite", 9);
    let brief = two.dana.json(&[
        "invite",
        "--expires",
        "1s",
        "--out",
        two.dana.dir.path().join("brief").to_str().unwrap(),
    ]);
    let expires: jiff::Timestamp = brief["expires"].as_str().unwrap().parse().unwrap();
    while jiff::Timestamp::now() <= expires {
        std::thread::yield_now();
    }
    third.oob(&["--json", "join", brief["link"].as_str().unwrap()]).error("invite_expired", 1);
    // The name is taken; under another one it works, once.
    third.oob(&["--json", "join", &link, "--name", "Sam"]).error("name_taken", 1);
    third.json(&["join", &link]);
    third.oob(&["--json", "join", &link]).error("has_org", 1);
    let fourth = Home::of("Kim", None);
    fourth.up();
    fourth.oob(&["--json", "join", &link]).error("invite_used", 1);
    assert_eq!(fourth.json(&["status"])["org"], serde_json::Value::Null);
}

#[test]
fn joining_where_nobody_is_says_what_was_tried() {
    let dana = Home::of("Dana", Some("Harbour Clinic"));
    dana.up();
    let path = dana.invite();
    dana.down();
    let sam = Home::of("Sam", None);
    sam.up();
    let failed = sam.oob(&["--json", "join", path.to_str().unwrap()]).error("nobody_reachable", 8);
    let causes = failed["causes"].as_array().unwrap();
    // Its two transports had free ports of their own.
    assert_eq!(causes.len(), 2, "{failed}");
    for cause in causes {
        let cause = cause.as_str().unwrap();
        assert!(cause.starts_with("127.0.0.1:") && !cause.contains('/'), "{failed}");
    }
    assert!(failed["hint"].as_str().unwrap().ends_with(", then join again: oob join FILE"));
    // Nothing was used up.
    let ready = dana.up();
    sam.json(&["address", "add", ready["listen"][0].as_str().unwrap()]);
    sam.json(&["join", path.to_str().unwrap()]);
}

#[test]
fn an_invitation_is_written_for_one_reader_and_over_nothing() {
    let dana = Home::of("Dana", Some("Harbour Clinic"));
    dana.up();
    let path = dana.dir.path().join("precious");
    fs::write(&path, "mine").unwrap();
    let name = path.to_str().unwrap();
    dana.oob(&["--json", "invite", "--out", name]).error("file_exists", 1);
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    dana.oob(&["--json", "invite", "--out", "/nowhere/x"]).error("file", 1);
    let refused = dana.oob(&[
        "--json",
        "invite",
        "--role",
        "admin",
        "--out",
        dana.dir.path().join("a").to_str().unwrap(),
    ]);
    refused.error("not_yet", 1);
    dana.oob(&[
        "--json",
        "invite",
        "--role",
        "king",
        "--out",
        dana.dir.path().join("a").to_str().unwrap(),
    ])
    .error("bad_role", 1);
    dana.json(&["--yes", "invite", "--out", name]);
    assert!(fs::read_to_string(&path).unwrap().starts_with("oob:join:"));
    // No drafts are left beside it.
    assert!(
        !fs::read_dir(dana.dir.path()).unwrap().any(|entry| entry
            .unwrap()
            .file_name()
            .to_string_lossy()
            .contains(".new-"))
    );
    let sam = Home::of("Sam", None);
    sam.up();
    sam.oob(&["--json", "invite", "--out", name]).error("file_exists", 1);
    sam.oob(&["--json", "invite"]).error("no_org", 1);
}

#[test]
fn targets_and_texts_that_cannot_be_sent_are_refused() {
    let two = Two::met();
    let send = |target: &str, text: &str| two.dana.oob(&["--json", "send", target, text]);
    let unknown = send("smm", "x").error("not_found", 4);
    assert!(unknown["hint"].as_str().unwrap().contains("Sam"), "{unknown}");
    send("person:nobody at all", "x").error("not_found", 4);
    send("dana", "to myself").error("yourself", 1);
    send("channel:ops", "x").error("not_yet", 1);
    send("planet:mars", "x").error("bad_target", 1);
    send("sam", "").error("empty", 1);
    send("sam", &"x".repeat(8193)).error("too_long", 1);
    send("sam", &"x".repeat(8192)).json();
    two.dana.oob(&["--json", "log", "nobody at all"]).error("not_found", 4);
    two.dana.oob(&["--json", "address", "add", "not an address"]).error("bad_address", 1);
    assert_eq!(two.dana.oob(&["--json", "log", "sam"]).lines().len(), 2);
}

#[test]
fn an_explicit_address_that_is_taken_is_an_error() {
    let home = Home::of("Dana", Some("Harbour Clinic"));
    let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    for address in [
        format!("/ip4/127.0.0.1/tcp/{}", tcp.local_addr().unwrap().port()),
        format!("/ip4/127.0.0.1/udp/{}/quic-v1", udp.local_addr().unwrap().port()),
    ] {
        home.oob(&["--json", "up", "--no-mdns", "--listen", &address]).error("address_in_use", 1);
    }
    home.oob(&["--json", "up", "--no-mdns", "--listen", "nonsense"]).error("bad_address", 1);
    let api = tcp.local_addr().unwrap().to_string();
    home.oob(&["--json", "up", "--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0", "--api", &api])
        .error("address_in_use", 1);
    for elsewhere in ["0.0.0.0:0", "127.0.0.2:0"] {
        home.oob(&["--json", "up", "--api", elsewhere]).error("api_not_loopback", 1);
    }
    home.oob(&["--json", "up", "--api", "here"]).error("usage", 2);
    fs::write(home.path().join("oob.toml"), "colour = \"blue\"\n").unwrap();
    home.oob(&LOOPBACK).error("bad_settings", 1);
    fs::remove_file(home.path().join("oob.toml")).unwrap();
    home.up();
}

/// Garbage, the same in every run.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[0]
    })
    .take(len)
    .collect()
}

#[test]
fn garbage_on_every_port_and_on_the_socket_harms_nobody() {
    let two = Two::met();
    let up = two.dana.json(&["status"]);
    let garbage = noise(200_000);
    for address in up["listen"].as_array().unwrap() {
        let parts: Vec<&str> = address.as_str().unwrap().split('/').collect();
        let target = format!("{}:{}", parts[2], parts[4]);
        if parts[3] == "tcp" {
            for piece in [&garbage[..], &[0xff; 4], &[0; 65536], b"GET / HTTP/1.1\r\n\r\n"] {
                let mut stream = TcpStream::connect(&target).unwrap();
                let _refused = stream.write_all(piece);
            }
        } else {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            for piece in garbage.chunks(1200) {
                socket.send_to(piece, &target).unwrap();
            }
        }
    }
    let api = two.dana.api();
    for piece in [
        &garbage[..],
        b"\r\n\r\n",
        b"GET\r\n\r\n",
        b"POST /api/v1/messages HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n",
    ] {
        let mut stream =
            TcpStream::connect(api["url"].as_str().unwrap().strip_prefix("http://").unwrap())
                .unwrap();
        let _refused = stream.write_all(piece);
        let mut stream = UnixStream::connect(two.dana.path().join("oob.sock")).unwrap();
        let _refused = stream.write_all(piece);
        let _closed = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ended = stream.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    }
    two.sam.json(&["send", "dana", "still there?", "--wait", "delivered", "--timeout", "90s"]);
    let log = two.dana.oob(&["--json", "log", "sam"]).lines();
    assert_eq!((log.len(), log[1]["text"].as_str()), (2, Some("still there?")));
}

#[test]
fn without_any_network_the_daemon_runs_and_the_errors_say_so() {
    let probe = Command::new("unshare").args(["-Urn", "true"]).output();
    if !probe.is_ok_and(|probe| probe.status.success()) {
        eprintln!("SKIPPED: no network namespace can be made here");
        return;
    }
    let home = Home::of("Dana", Some("Harbour Clinic"));
    // Not even the loopback interface is up; the socket needs none.
    let script = "\"$0\" --home \"$1\" --json --passphrase-file \"$2\" up && \"$0\" --home \"$1\" --json status && \"$0\" --home \"$1\" --json down";
    let mut command = Command::new("unshare");
    command
        .args(["-Urn", "sh", "-c", script, env!("CARGO_BIN_EXE_oob")])
        .arg(home.path())
        .arg(home.pass());
    let done = Done::of(&command.output().unwrap());
    assert_eq!(done.code, 0, "{}{}", done.stdout, done.stderr);
    let lines = done.lines();
    assert_eq!((lines.len(), lines[1]["name"].as_str()), (3, Some("Dana")));
}
