//! The lab itself: what is connected is connected, what is cut is cut, and nothing stays behind.

use oob_netlab::{Host, Lab};
use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// Longest wait for a packet that must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Long enough for a packet that would come, on a bridge inside one machine.
const LONG_ENOUGH: Duration = Duration::from_millis(500);

macro_rules! lab_or_skip {
    () => {
        match Lab::new() {
            Ok(lab) => lab,
            Err(reason) => {
                eprintln!("SKIPPED: {reason}");
                return;
            }
        }
    };
}

/// Our own binary again, as a helper process inside a host: see `helper`.
fn again(host: &Host, role: &str, to: &str) -> Command {
    let mut command = host.command(std::env::current_exe().unwrap());
    command.args(["--exact", "helper", "--nocapture", "--test-threads=1"]);
    command.env("OOB_NETLAB_ROLE", role).env("OOB_NETLAB_TO", to);
    command
}

/// Not a test: the part that runs inside a host when a test starts this binary again.
#[test]
fn helper() {
    let Ok(role) = std::env::var("OOB_NETLAB_ROLE") else { return };
    let to = std::env::var("OOB_NETLAB_TO").unwrap();
    match role.as_str() {
        "listen" => {
            let socket = std::net::UdpSocket::bind("0.0.0.0:7777").unwrap();
            let own = to.parse().unwrap();
            socket.join_multicast_v4(&"224.0.0.251".parse().unwrap(), &own).unwrap();
            println!("listening");
            let mut bytes = [0; 64];
            loop {
                let (n, _) = socket.recv_from(&mut bytes).unwrap();
                println!("heard {}", String::from_utf8_lossy(&bytes[..n]));
            }
        }
        "send" => {
            let (own, to) = to.split_once(',').unwrap();
            let socket = std::net::UdpSocket::bind((own, 0)).unwrap();
            let text = std::env::var("OOB_NETLAB_TEXT").unwrap();
            // A host that was just connected may still be asking for the other's hardware address.
            let _ = socket.send_to(text.as_bytes(), to);
        }
        other => panic!("{other}"),
    }
}

struct Listener {
    child: Child,
    lines: std::sync::mpsc::Receiver<String>,
}

impl Listener {
    fn on(host: &Host) -> Self {
        let mut child = again(host, "listen", &host.address().to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let (tell, lines) = std::sync::mpsc::sync_channel(64);
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                if tell.send(line).is_err() {
                    return;
                }
            }
        });
        let listener = Self { child, lines };
        assert!(listener.says("listening", PATIENCE));
        listener
    }

    fn says(&self, what: &str, within: Duration) -> bool {
        let start = Instant::now();
        while let Some(left) = within.checked_sub(start.elapsed()) {
            match self.lines.recv_timeout(left) {
                Ok(line) if line.contains(what) => return true,
                Ok(_) => {}
                Err(_) => return false,
            }
        }
        false
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends until it is heard, or for as long as something not heard is waited for.
fn reaches(from: &Host, to: &str, listener: &Listener, text: &str, expected: bool) -> bool {
    let bound = if expected { PATIENCE } else { LONG_ENOUGH };
    let start = Instant::now();
    loop {
        let target = format!("{},{to}", from.address());
        let status = again(from, "send", &target)
            .env("OOB_NETLAB_TEXT", text)
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(status.success());
        let last = start.elapsed() > bound;
        if listener.says(text, Duration::from_millis(200)) {
            return true;
        }
        if last {
            return false;
        }
    }
}

#[test]
fn hosts_reach_each_other_until_cut_and_again_when_restored() {
    let lab = lab_or_skip!();
    let (dana, eli) = (lab.host("dana").unwrap(), lab.host("eli").unwrap());
    let listener = Listener::on(&eli);
    let to = format!("{}:7777", eli.address());
    assert!(reaches(&dana, &to, &listener, "first", true));
    eli.cut().unwrap();
    assert!(!reaches(&dana, &to, &listener, "second", false));
    eli.restore().unwrap();
    assert!(reaches(&dana, &to, &listener, "third", true));
}

#[test]
fn multicast_passes_until_it_is_dropped_and_unicast_passes_always() {
    let lab = lab_or_skip!();
    let (dana, eli) = (lab.host("dana").unwrap(), lab.host("eli").unwrap());
    let listener = Listener::on(&eli);
    let (all, one) = ("224.0.0.251:7777", format!("{}:7777", eli.address()));
    assert!(reaches(&dana, all, &listener, "to all", true));
    lab.multicast(false).unwrap();
    assert!(reaches(&dana, &one, &listener, "to one", true));
    assert!(!reaches(&dana, all, &listener, "to nobody", false));
    lab.multicast(true).unwrap();
    assert!(reaches(&dana, all, &listener, "to all again", true));
}

#[test]
fn a_capture_holds_what_went_over_the_bridge() {
    let lab = lab_or_skip!();
    let folder = tempfile::tempdir().unwrap();
    let capture = match lab.capture(&folder.path().join("bridge.pcap")) {
        Ok(capture) => capture,
        Err(reason) => return eprintln!("SKIPPED: {reason}"),
    };
    let (dana, eli) = (lab.host("dana").unwrap(), lab.host("eli").unwrap());
    let listener = Listener::on(&eli);
    assert!(reaches(&dana, &format!("{}:7777", eli.address()), &listener, "canary-4711", true));
    // Asked to end, tcpdump leaves what it did not come to; on a busy machine that may be all.
    let holds = |file: &Path| {
        let bytes = std::fs::read(file).unwrap();
        bytes.windows(11).any(|window| window == b"canary-4711")
    };
    let (file, start) = (folder.path().join("bridge.pcap"), Instant::now());
    while !holds(&file) && start.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(holds(&capture.stop()));
}

#[test]
fn in_a_line_only_neighbours_reach_each_other() {
    let lab = lab_or_skip!();
    let line = lab.line(&["dana", "sam", "eli"]).unwrap();
    let [dana, sam, eli] = line.as_slice() else { panic!("{line:?}") };
    let routed = |from: &Host, to: &Host| {
        let address = to.address().to_string();
        from.command("ip").args(["route", "get", &address]).output().unwrap().status.success()
    };
    assert!(routed(dana, sam) && routed(sam, dana) && routed(sam, eli));
    assert!(!routed(dana, eli) && !routed(eli, dana));
    let listener = Listener::on(sam);
    assert!(reaches(dana, &format!("{}:7777", sam.address()), &listener, "next door", true));
    assert!(dana.cut().is_err());
}

#[test]
fn nothing_leads_out_of_a_lab() {
    let lab = lab_or_skip!();
    let dana = lab.host("dana").unwrap();
    let routes = dana.command("ip").args(["route", "get", "203.0.113.1"]).output().unwrap();
    assert!(!routes.status.success());
}

#[test]
fn a_lab_leaves_no_namespace_and_no_process_behind() {
    let names = || {
        let output = Command::new("ip").args(["netns", "list"]).output().unwrap();
        let own = format!("ooblab-{}-", std::process::id());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().filter(|line| line.contains(&own)).map(str::to_owned).collect::<Vec<_>>()
    };
    let lab = lab_or_skip!();
    let dana = lab.host("a-host-of-this-test-only").unwrap();
    let mut sleeper = dana.command("sleep").arg("600").spawn().unwrap();
    assert!(names().iter().any(|name| name.contains("a-host-of-this-test-only")));
    drop(lab);
    let ended = sleeper.wait().unwrap();
    assert!(!ended.success());
    assert!(!names().iter().any(|name| name.contains("a-host-of-this-test-only")));
}

#[test]
fn names_are_unique_and_plain() {
    let lab = lab_or_skip!();
    lab.host("dana").unwrap();
    for bad in ["dana", "", "../x", "a b", &"x".repeat(33)] {
        assert!(lab.host(bad).is_err(), "{bad:?}");
    }
}
