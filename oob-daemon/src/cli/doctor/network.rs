//! The network as this machine sees it: the port, the interfaces, multicast to itself, and firewalls that may be in the way.

use super::{advice, daemon::Told, fine, wrong};
use crate::{place, schema::Check};
use if_addrs::{IfAddr, get_if_addrs};
use rand::RngExt;
use rustix::net::sockopt;
use std::{
    collections::BTreeMap,
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
    path::Path,
    time::{Duration, Instant},
};

/// The port of oob, TCP and UDP.
const PORT: u16 = 4801;

/// Groups for the test: administratively scoped, and of this link; nothing else of oob uses them.
const GROUP_4: Ipv4Addr = Ipv4Addr::new(239, 255, 79, 66);
const GROUP_6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0x4f4f, 0x4242);

/// How long a datagram from this machine to itself may take; it takes microseconds.
const ECHO: Duration = Duration::from_millis(500);

/// Interfaces tested; a machine with more runs containers, whose interfaces lead nowhere.
const INTERFACES: usize = 16;

/// Where the daemon listens, or whether it could.
pub(super) fn port(told: Option<&Told>) -> Option<Check> {
    const NAME: &str = "port";
    let Some(Told { status, .. }) = told else {
        let free = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT))
            .and_then(|_| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT)));
        return Some(match free {
            Ok(_) => fine(NAME, format!("{PORT} is free, TCP and UDP")),
            Err(e) => advice(
                NAME,
                format!("{PORT} cannot be had ({e})"),
                "the daemon will take the next free one, and says which; firewalls must let that one in",
            ),
        });
    };
    let listening = place::listening(&status.listen).join(", ");
    let loopback_only = status
        .listen
        .iter()
        .all(|address| address.starts_with("/ip4/127.") || address.starts_with("/ip6/::1/"));
    Some(match &status.note {
        _ if status.listen.is_empty() => wrong(
            NAME,
            "the daemon listens nowhere, so nobody can dial it",
            "see the interfaces below; then: oob down, and oob up",
        ),
        _ if loopback_only => advice(
            NAME,
            format!("listens at {listening}, which only this machine reaches"),
            "for others start it without --listen: oob down, then oob up",
        ),
        Some(note) => advice(
            NAME,
            format!("listens at {listening}; {note}"),
            "tell others this port, and let it through the firewall",
        ),
        None => fine(NAME, format!("listens at {listening}")),
    })
}

/// One interface that others could be behind.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Interface {
    name: String,
    index: Option<u32>,
    addresses: Vec<IpAddr>,
    /// Whether the system says that it takes multicast; none where it does not say.
    multicast: Option<bool>,
}

/// The interfaces of this machine but loopback.
pub(super) struct Interfaces(io::Result<Vec<Interface>>);

impl Interfaces {
    pub(super) fn read() -> Self {
        Self(get_if_addrs().map(|all| {
            let mut found: BTreeMap<String, Interface> = BTreeMap::new();
            for one in all.into_iter().filter(|one| !one.is_loopback()) {
                let address = match &one.addr {
                    IfAddr::V4(v4) => IpAddr::V4(v4.ip),
                    IfAddr::V6(v6) => IpAddr::V6(v6.ip),
                };
                let entry = found.entry(one.name.clone()).or_insert_with(|| Interface {
                    multicast: takes_multicast(Path::new("/sys/class/net"), &one.name, one.index),
                    name: one.name.clone(),
                    index: one.index,
                    addresses: Vec::new(),
                });
                entry.addresses.push(address);
            }
            found.into_values().take(INTERFACES).collect()
        }))
    }

    pub(super) fn check(&self) -> Check {
        const NAME: &str = "interfaces";
        let all = match &self.0 {
            Ok(all) => all,
            Err(e) => {
                return wrong(NAME, format!("they cannot be read: {e}"), "look yourself: ip addr");
            }
        };
        if all.is_empty() {
            return wrong(
                NAME,
                "none but loopback has an address, so nobody else can be reached",
                "join a network, or plug in a cable between the two laptops",
            );
        }
        let each: Vec<String> = all
            .iter()
            .map(|one| {
                let addresses: Vec<_> = one.addresses.iter().map(IpAddr::to_string).collect();
                let note = match one.multicast {
                    Some(true) => ", takes multicast",
                    Some(false) => ", takes no multicast",
                    None => "",
                };
                format!("{} ({}{note})", one.name, addresses.join(", "))
            })
            .collect();
        if all.iter().all(|one| one.multicast == Some(false)) {
            return wrong(
                NAME,
                each.join("; "),
                "nobody is found by himself without multicast: oob address add IP:PORT",
            );
        }
        fine(NAME, each.join("; "))
    }

    /// Sends itself a datagram by multicast on each interface. With a life of no hop at all it does not leave the machine,
    /// so what lies behind the cable is not tested; what this machine's own rules drop is.
    ///
    /// Where others were `found` on this network all the same, by as many as there are, nothing has to be mended.
    pub(super) fn multicast(&self, found: usize) -> Check {
        const NAME: &str = "multicast";
        let all = self.0.as_deref().unwrap_or_default();
        let (mut through, mut stuck) = (Vec::new(), Vec::new());
        for one in all {
            match echo(one) {
                Ok(()) => through.push(one.name.as_str()),
                Err(e) => stuck.push(format!("{} ({e})", one.name)),
            }
        }
        let remedy = "a firewall of this machine may drop it; without multicast others are found by: oob address add IP:PORT";
        match (through.as_slice(), stuck.as_slice()) {
            ([], []) => wrong(NAME, "there is no interface to try it on", "join a network first"),
            ([], stuck) if found > 0 => advice(
                NAME,
                format!(
                    "none came back on {}, and yet {found} of the others were found on this network",
                    stuck.join(", ")
                ),
                remedy,
            ),
            ([], stuck) => wrong(NAME, format!("none came back on {}", stuck.join(", ")), remedy),
            (through, []) => fine(
                NAME,
                format!(
                    "comes back to this machine on {}; whether the network passes it on, others show",
                    through.join(", ")
                ),
            ),
            (through, stuck) => advice(
                NAME,
                format!("comes back on {}, and not on {}", through.join(", "), stuck.join(", ")),
                remedy,
            ),
        }
    }
}

/// Reads the flags of an interface, if the folder speaks of the same one: in a namespace it may speak of others.
fn takes_multicast(sys: &Path, name: &str, index: Option<u32>) -> Option<bool> {
    const MULTICAST: u32 = 0x1000;
    let read = |file: &str| fs::read_to_string(sys.join(name).join(file)).ok();
    if read("ifindex")?.trim().parse().ok() != index {
        return None;
    }
    let flags = u32::from_str_radix(read("flags")?.trim().strip_prefix("0x")?, 16).ok()?;
    Some(flags & MULTICAST != 0)
}

fn echo(interface: &Interface) -> io::Result<()> {
    let v4 = interface.addresses.iter().find_map(|address| match address {
        IpAddr::V4(v4) => Some(*v4),
        IpAddr::V6(_) => None,
    });
    match v4 {
        Some(v4) => {
            let listener = UdpSocket::bind((GROUP_4, 0))?;
            listener.join_multicast_v4(&GROUP_4, &v4)?;
            let sender = UdpSocket::bind((v4, 0))?;
            sender.set_multicast_loop_v4(true)?;
            sender.set_multicast_ttl_v4(0)?;
            sockopt::set_ip_multicast_if(&sender, &v4)?;
            let to = SocketAddr::new(GROUP_4.into(), listener.local_addr()?.port());
            hear(&listener, &sender, to)
        }
        None => {
            let index = interface.index.unwrap_or(0);
            let listener = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?;
            listener.join_multicast_v6(&GROUP_6, index)?;
            let sender = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, 0))?;
            sender.set_multicast_loop_v6(true)?;
            sockopt::set_ipv6_multicast_hops(&sender, 0)?;
            sockopt::set_ipv6_multicast_if(&sender, index)?;
            let to = SocketAddr::new(GROUP_6.into(), listener.local_addr()?.port());
            hear(&listener, &sender, to)
        }
    }
}

/// Sends a random word and waits until it comes back.
fn hear(listener: &UdpSocket, sender: &UdpSocket, to: SocketAddr) -> io::Result<()> {
    let word: [u8; 16] = rand::rng().random();
    sender.send_to(&word, to)?;
    let limit = Instant::now() + ECHO;
    let mut heard = [0; 64];
    loop {
        let left = limit.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::Error::new(io::ErrorKind::TimedOut, "nothing came back"));
        }
        listener.set_read_timeout(Some(left))?;
        match listener.recv(&mut heard) {
            Ok(length) if heard.get(..length) == Some(&word[..]) => return Ok(()),
            Ok(_) => {}
            Err(e)
                if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(e) => return Err(e),
        }
    }
}

/// Which firewall seems to be on. Its rules are for administrators to read, so this is advice only.
pub(super) fn firewall(root: &Path, told: Option<&Told>) -> Check {
    const NAME: &str = "firewall";
    let read = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
    let says = |path: &str, words: &[&str]| {
        let text = read(path);
        let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
        lines.into_iter().any(|line| words.iter().any(|word| line.contains(word)))
    };
    let port =
        told.and_then(|told| told.status.listen.iter().find_map(|at| port_of(at))).unwrap_or(PORT);
    if says("etc/ufw/ufw.conf", &["ENABLED=yes"]) {
        return advice(
            NAME,
            "UFW is on",
            format!(
                "unless it is done: sudo ufw allow {port}; UFW lets mDNS in by itself, beacons come by UDP too"
            ),
        );
    }
    if root.join("run/firewalld").is_dir() || root.join("run/firewalld.pid").exists() {
        return advice(
            NAME,
            "firewalld is on",
            format!(
                "unless it is done: sudo firewall-cmd --add-port={port}/tcp --add-port={port}/udp --add-service=mdns"
            ),
        );
    }
    if says("etc/nftables.conf", &[" drop", " reject"]) {
        return advice(
            NAME,
            "nftables has rules that refuse packets",
            format!(
                "see them: sudo nft list ruleset; TCP and UDP of port {port}, and UDP 5353 for mDNS, must come in"
            ),
        );
    }
    fine(NAME, "none was found that is switched on by its usual files")
}

fn port_of(multiaddr: &str) -> Option<u16> {
    multiaddr.split('/').nth(4)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interface(name: &str, multicast: Option<bool>) -> Interface {
        Interface {
            name: name.into(),
            index: None,
            addresses: vec![Ipv4Addr::new(192, 0, 2, 1).into()],
            multicast,
        }
    }

    #[test]
    fn no_interface_or_none_with_multicast_is_wrong() {
        let judge = |all: Vec<Interface>| Interfaces(Ok(all)).check();
        assert!(!judge(Vec::new()).ok);
        let deaf = judge(vec![interface("wlan0", Some(false))]);
        assert!(!deaf.ok && deaf.detail.contains("takes no multicast"), "{deaf:?}");
        let mixed = vec![interface("tun0", Some(false)), interface("wlan0", Some(true))];
        assert!(judge(mixed).ok && judge(vec![interface("eth0", None)]).ok);
        assert!(!Interfaces(Err(io::ErrorKind::Other.into())).check().ok);
    }

    #[test]
    fn multicast_that_cannot_even_be_sent_is_told_by_its_interface() {
        // An address of no interface, reserved for documents.
        let found = Interfaces(Ok(vec![interface("eth7", None)])).multicast(0);
        assert!(!found.ok && found.detail.contains("eth7 ("), "{found:?}");
        assert!(!Interfaces(Ok(Vec::new())).multicast(0).ok);
        // People are found by beacon all the same: a broadcast gets through.
        let found = Interfaces(Ok(vec![interface("eth7", None)])).multicast(2);
        assert!(found.ok && found.hint.is_some(), "{found:?}");
        assert!(found.detail.contains("2 of the others were found"), "{found:?}");
    }

    #[test]
    fn flags_count_for_the_same_interface_only() {
        let sys = tempfile::tempdir().unwrap();
        let folder = sys.path().join("eth0");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("ifindex"), "3\n").unwrap();
        for (flags, takes) in [("0x1003\n", Some(true)), ("0x3\n", Some(false)), ("junk", None)] {
            fs::write(folder.join("flags"), flags).unwrap();
            assert_eq!(takes_multicast(sys.path(), "eth0", Some(3)), takes);
            assert_eq!(takes_multicast(sys.path(), "eth0", Some(4)), None);
        }
        assert_eq!(takes_multicast(sys.path(), "eth1", Some(3)), None);
    }

    #[test]
    fn firewalls_are_known_by_their_files() {
        let root = tempfile::tempdir().unwrap();
        let told = || {
            let found = firewall(root.path(), None);
            assert!(found.ok);
            (found.detail, found.hint.is_some())
        };
        assert!(!told().1);
        fs::create_dir_all(root.path().join("etc/ufw")).unwrap();
        let nft = root.path().join("etc/nftables.conf");
        fs::write(&nft, "# policy drop\ntable inet filter { }\n").unwrap();
        assert!(!told().1);
        fs::write(&nft, "type filter hook input priority 0; policy drop;\n").unwrap();
        assert!(told().0.starts_with("nftables") && told().1);
        fs::create_dir_all(root.path().join("run/firewalld")).unwrap();
        assert!(told().0.starts_with("firewalld") && told().1);
        let ufw = root.path().join("etc/ufw/ufw.conf");
        fs::write(&ufw, "ENABLED=no\n").unwrap();
        assert!(told().0.starts_with("firewalld"));
        fs::write(&ufw, "ENABLED=yes\n").unwrap();
        assert_eq!(told(), ("UFW is on".to_owned(), true));
    }

    #[test]
    fn ports_stand_in_multiaddrs() {
        assert_eq!(port_of("/ip4/10.0.0.1/udp/4803/quic-v1"), Some(4803));
        assert_eq!(port_of("/unix/x"), None);
    }
}
