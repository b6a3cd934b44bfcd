//! Two laptops on a network: real daemons in namespaces joined by a bridge. These need root and run with `OOB_HEAVY=1`.

use crate::harness::{Done, Home, Two, binary, files};
use oob_netlab::{Host, Lab};
use serde_json::Value;
use std::{
    env, fs,
    ops::Deref,
    path::Path,
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How long two daemons may take to find each other on a network of two: an mDNS query goes out every five seconds.
const MEET: &str = "90s";

/// Labs are made one after the other: each measures times, and there may be no more than two cores.
static TURN: Mutex<()> = Mutex::new(());

/// Waits until no other test of this kind runs.
pub(crate) fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A lab, while no other test has one.
pub(crate) struct Room {
    lab: Lab,
    _turn: MutexGuard<'static, ()>,
}

impl Deref for Room {
    type Target = Lab;

    fn deref(&self) -> &Lab {
        &self.lab
    }
}

pub(crate) fn lab() -> Option<Room> {
    if env::var_os("OOB_HEAVY").is_none() {
        eprintln!("SKIPPED: needs root and takes a while; run it with OOB_HEAVY=1");
        return None;
    }
    let turn = turn();
    match Lab::new() {
        Ok(lab) => Some(Room { lab, _turn: turn }),
        Err(reason) => {
            eprintln!("SKIPPED: {reason}");
            None
        }
    }
}

/// Two people who met on one machine, now each on a laptop of their own: what they know of each other's addresses is wrong.
struct Laptops {
    dana: (Home, Host),
    sam: (Home, Host),
    // Last, since dropping it ends whatever still runs on the hosts.
    lab: Room,
}

impl Laptops {
    fn apart() -> Option<Self> {
        let lab = lab()?;
        let Two { dana, sam } = Two::met();
        dana.down();
        sam.down();
        let (dana_host, sam_host) = (lab.host("dana").unwrap(), lab.host("sam").unwrap());
        Some(Self { dana: (dana, dana_host), sam: (sam, sam_host), lab })
    }
}

/// Starts the daemon as anybody would: nothing configured.
#[track_caller]
fn up(laptop: &(Home, Host)) -> Value {
    up_with(laptop, &[])
}

#[track_caller]
fn up_with((home, host): &(Home, Host), options: &[&str]) -> Value {
    let arguments = [&["--json", "up"], options].concat();
    let mut command = home.wrap(host.command(binary()), &arguments);
    Done::of(&command.output().unwrap()).json()
}

/// Waits until as many neighbours are in reach as given; returns how long that took.
#[track_caller]
fn reach(home: &Home, neighbours: usize) -> Duration {
    let start = Instant::now();
    loop {
        let status = home.json(&["status"]);
        let peers = status["peers"].as_array().unwrap();
        if peers.iter().filter(|peer| peer["reachable"] == true).count() == neighbours {
            return start.elapsed();
        }
        assert!(start.elapsed() < Duration::from_secs(60), "{status}");
    }
}

/// Runs a line of shell on a host.
#[track_caller]
fn shell(host: &Host, line: &str) {
    assert!(host.command("sh").args(["-c", line]).status().unwrap().success(), "{line}");
}

fn texts(home: &Home, with: &str) -> Vec<String> {
    home.oob(&["--json", "log", with])
        .lines()
        .iter()
        .map(|message| message["text"].as_str().unwrap().to_owned())
        .collect()
}

fn found_by(home: &Home) -> String {
    home.json(&["status"])["peers"][0]["found_by"].as_str().unwrap_or("nobody").to_owned()
}

#[test]
fn two_laptops_with_nothing_configured_meet_by_mdns() {
    let Some(laptops) = Laptops::apart() else { return };
    let ready = up_with(&laptops.dana, &["--no-beacon"]);
    assert!(ready["listen"].to_string().contains("/tcp/4801"), "{ready}");
    up_with(&laptops.sam, &["--no-beacon"]);
    laptops.dana.0.json(&["send", "sam", "by mdns", "--wait", "delivered", "--timeout", MEET]);
    laptops.sam.0.json(&["send", "dana", "and back", "--wait", "delivered", "--timeout", MEET]);
    assert_eq!(texts(&laptops.dana.0, "sam"), ["first", "by mdns", "and back"]);
    // Whoever was dialled may have learned the address from the other's Hello; one of the two found the other by mDNS.
    let rungs = [found_by(&laptops.dana.0), found_by(&laptops.sam.0)];
    assert!(rungs.iter().any(|rung| rung == "mdns"), "{rungs:?}");
}

/// With mDNS off. What is said of each other's addresses stems from another network, and IPv6 or IPv4 is all there is.
fn meet_by_beacon(prepare: impl Fn(&Host, usize)) -> Option<Laptops> {
    let laptops = Laptops::apart()?;
    prepare(&laptops.dana.1, 2);
    prepare(&laptops.sam.1, 3);
    up_with(&laptops.dana, &["--no-mdns"]);
    up_with(&laptops.sam, &["--no-mdns"]);
    let took = reach(&laptops.dana.0, 1);
    eprintln!("linked {} ms after the second was up", took.as_millis());
    // Beacons go out every two seconds at first, and every ten later: without them nobody is found so soon.
    assert!(took < Duration::from_secs(8), "{took:?}");
    laptops.dana.0.json(&["send", "sam", "by beacon", "--wait", "delivered", "--timeout", MEET]);
    assert_eq!(texts(&laptops.sam.0, "dana"), ["first", "by beacon"]);
    let rungs = [found_by(&laptops.dana.0), found_by(&laptops.sam.0)];
    assert!(rungs.iter().any(|rung| rung == "beacon"), "{rungs:?}");
    Some(laptops)
}

#[test]
fn two_laptops_without_mdns_meet_by_beacon_over_ipv4_alone() {
    let _laptops = meet_by_beacon(|host, _| {
        shell(host, "echo 1 > /proc/sys/net/ipv6/conf/all/disable_ipv6");
    });
}

#[test]
fn two_laptops_without_mdns_meet_by_beacon_over_ipv6_alone() {
    let _laptops = meet_by_beacon(|host, number| {
        shell(host, &format!("ip address add fd00:77::{number}/64 dev eth0"));
        shell(host, "ip -4 address flush dev eth0");
    });
}

#[test]
fn where_multicast_is_filtered_a_broadcast_is_heard() {
    let Some(laptops) = Laptops::apart() else { return };
    laptops.lab.multicast(false).unwrap();
    up_with(&laptops.dana, &["--no-mdns"]);
    up_with(&laptops.sam, &["--no-mdns"]);
    reach(&laptops.dana.0, 1);
    let rungs = [found_by(&laptops.dana.0), found_by(&laptops.sam.0)];
    assert!(rungs.iter().any(|rung| rung == "beacon"), "{rungs:?}");
}

/// A beacon goes out at once when an interface comes back, so nobody waits for the next round of dialling.
#[test]
fn a_link_goes_with_its_interface_and_comes_back_with_it() {
    let Some(laptops) = Laptops::apart() else { return };
    up_with(&laptops.dana, &["--no-mdns"]);
    up_with(&laptops.sam, &["--no-mdns"]);
    reach(&laptops.dana.0, 1);
    reach(&laptops.sam.0, 1);
    laptops.dana.1.interface(false).unwrap();
    let gone = reach(&laptops.dana.0, 0);
    eprintln!("seen {} ms after the interface went down", gone.as_millis());
    // Its own device knows at once, the other one after three seconds of silence.
    assert!(gone < Duration::from_millis(2_500), "{gone:?}");
    reach(&laptops.sam.0, 0);
    laptops.dana.1.interface(true).unwrap();
    let back = reach(&laptops.dana.0, 1);
    eprintln!("back {} ms after the interface came up", back.as_millis());
    // A round of dialling is fifteen seconds by now, one of beacons ten.
    assert!(back < Duration::from_secs(9), "{back:?}");
}

#[test]
fn without_multicast_a_typed_address_is_enough() {
    let Some(laptops) = Laptops::apart() else { return };
    laptops.lab.multicast(false).unwrap();
    // A broadcast would be heard.
    up_with(&laptops.dana, &["--no-beacon"]);
    up_with(&laptops.sam, &["--no-beacon"]);
    // The control: nothing but the address makes them meet.
    laptops
        .dana
        .0
        .oob(&["--json", "send", "sam", "into the dark", "--wait", "delivered", "--timeout", "8s"])
        .error("queued", 6);
    let address = format!("{}:4801", laptops.sam.1.address());
    laptops.dana.0.json(&["address", "add", &address]);
    laptops.dana.0.json(&[
        "send",
        "sam",
        "there you are",
        "--wait",
        "delivered",
        "--timeout",
        MEET,
    ]);
    assert_eq!(texts(&laptops.sam.0, "dana"), ["first", "into the dark", "there you are"]);
    let rungs = [found_by(&laptops.dana.0), found_by(&laptops.sam.0)];
    assert!(rungs.iter().any(|rung| rung == "typed"), "{rungs:?}");
}

#[test]
fn fifty_messages_survive_a_killed_receiver_once_and_in_order() {
    let Some(laptops) = Laptops::apart() else { return };
    up(&laptops.dana);
    let ready = up(&laptops.sam);
    let (dana, sam) = (&laptops.dana.0, &laptops.sam.0);
    dana.json(&["send", "sam", "before", "--wait", "delivered", "--timeout", MEET]);
    let killed = Command::new("kill").args(["-9", &ready["pid"].to_string()]).status().unwrap();
    assert!(killed.success());
    let wanted: Vec<String> = (0..50).map(|number| format!("number {number}")).collect();
    for text in &wanted {
        dana.json(&["send", "sam", text]);
    }
    // It left its socket and api.json behind; the new one takes their place.
    up(&laptops.sam);
    dana.json(&["send", "sam", "after", "--wait", "delivered", "--timeout", MEET]);
    let mut all = vec!["first".to_owned(), "before".to_owned()];
    all.extend(wanted);
    all.push("after".to_owned());
    assert_eq!(texts(sam, "dana"), all);
    assert_eq!(dana.json(&["status"])["outbox"], 0);
}

/// Says in which forms a marker occurs in some bytes.
fn contains(bytes: &[u8], marker: &[u8]) -> bool {
    let wide: Vec<u8> = marker.iter().flat_map(|byte| [*byte, 0]).collect();
    [marker, &wide].iter().any(|form| bytes.windows(form.len()).any(|window| window == *form))
}

#[test]
fn neither_the_wire_nor_the_disk_shows_a_name_a_text_or_the_group() {
    let Some(laptops) = Laptops::apart() else { return };
    let capture_file = laptops.dana.0.dir.path().join("capture");
    let capture = match laptops.lab.capture(&capture_file) {
        Ok(capture) => capture,
        Err(reason) => {
            eprintln!("SKIPPED: {reason}");
            return;
        }
    };
    let text = "xylophone at the quartz gate";
    up(&laptops.dana);
    up(&laptops.sam);
    let (dana, sam) = (&laptops.dana.0, &laptops.sam.0);
    for _ in 0..20 {
        dana.json(&["send", "sam", text, "--wait", "delivered", "--timeout", MEET]);
    }
    let org = dana.json(&["status"])["org"].as_str().unwrap().to_owned();
    let org_bytes = from_base32(&org);
    let markers: [&[u8]; 6] = [
        text.as_bytes(),
        b"Harbour Clinic",
        b"four words make one",
        org.as_bytes(),
        &org_bytes,
        b"xylophone",
    ];

    // The control: the same search finds what goes over the local API.
    let api = {
        let api = dana.api();
        let host = api["url"].as_str().unwrap().strip_prefix("http://").unwrap().to_owned();
        let request = |path: &str| {
            format!(
                "GET {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
                api["token"].as_str().unwrap()
            )
        };
        on_host(&laptops.dana.1, &host, &request("/api/v1/messages?target=sam"))
            + &on_host(&laptops.dana.1, &host, &request("/api/v1/me"))
    };
    for marker in [text.as_bytes(), b"Harbour Clinic", org.as_bytes()] {
        assert!(contains(api.as_bytes(), marker), "the search itself does not work: {api}");
    }

    let captured = fs::read(capture.stop()).unwrap();
    assert!(captured.len() > 20 * 512, "only {} bytes were captured", captured.len());
    for marker in markers {
        assert!(!contains(&captured, marker), "on the wire: {}", String::from_utf8_lossy(marker));
    }
    for name in [&b"Dana"[..], b"Sam"] {
        // Four letters may occur by chance in so many bytes; a name that is sent occurs with every message.
        let found = captured.windows(name.len()).filter(|window| *window == name).count();
        assert!(found < 3, "{} on the wire {found} times", String::from_utf8_lossy(name));
    }
    dana.down();
    sam.down();
    for home in [dana, sam] {
        scan(&home.path(), &markers);
    }
}

fn scan(folder: &Path, markers: &[&[u8]]) {
    let all = files(folder);
    assert!(all.len() > 3, "there is nothing to scan in {}", folder.display());
    for path in all.into_iter().filter(|path| path.is_file()) {
        let bytes = fs::read(&path).unwrap();
        for marker in markers {
            assert!(
                !contains(&bytes, marker),
                "{} in {}",
                String::from_utf8_lossy(marker),
                path.display()
            );
        }
    }
}

/// Sends a request from inside a host's network and returns the whole answer.
fn on_host(host: &Host, address: &str, request: &str) -> String {
    let (ip, port) = address.split_once(':').unwrap();
    let script = format!("exec 3<>/dev/tcp/{ip}/{port}; printf '%s' \"$0\" >&3; cat <&3");
    let output = host.command("bash").args(["-c", &script, request]).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn from_base32(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let (mut bits, mut held) = (0_u32, 0_u32);
    for c in text.bytes() {
        let value =
            b"abcdefghijklmnopqrstuvwxyz234567".iter().position(|known| *known == c).unwrap();
        held = (held << 5) | u32::try_from(value).unwrap();
        bits += 5;
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from((held >> bits) & 0xff).unwrap());
        }
    }
    bytes
}

#[test]
fn the_search_finds_what_is_there() {
    assert!(contains(b"..marker..", b"marker"));
    assert!(contains(b".m\0a\0r\0k\0e\0r\0.", b"marker"));
    assert!(!contains(b"..maker..", b"marker"));
    assert_eq!(from_base32("nbswy3dp"), b"hello");
}
