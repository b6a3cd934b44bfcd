//! The lab, its hosts and its cables.

use rustix::process::{Pid, Signal, geteuid, kill_process};
use std::{
    ffi::OsStr,
    net::Ipv4Addr,
    path::Path,
    process::Command,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

use crate::{
    capture::Capture,
    tool::{self, LabError, Unavailable, ip},
};

/// Addresses of a /24 that can be given to hosts: .2 to .254.
const HOSTS: usize = 253;

/// Longest name of a host: with prefix, process and number it is the name of a namespace.
const NAME: usize = 32;

/// Hosts on a bridge. Dropping it removes everything it made.
#[derive(Debug)]
pub struct Lab {
    /// What every namespace of this lab is called first; holds the process and a number, so labs never meet.
    prefix: String,
    bridge: String,
    hosts: Mutex<Vec<String>>,
}

/// A host: a namespace with one interface on the bridge, or with a cable to each of its neighbours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    name: String,
    namespace: String,
    /// The namespace of the bridge, and its port there; none on a host of a line.
    port: Option<(String, String)>,
    address: Ipv4Addr,
}

impl Lab {
    /// Makes an empty lab.
    ///
    /// # Errors
    /// Whatever keeps it from being made here: not root, no iproute2, no permission for namespaces.
    pub fn new() -> Result<Self, Unavailable> {
        let unavailable = |reason: String| Unavailable { reason };
        if !geteuid().is_root() {
            return Err(unavailable("it takes root to make namespaces".to_owned()));
        }
        if tool::find("ip").is_none() {
            return Err(unavailable("iproute2 is missing (no program `ip`)".to_owned()));
        }
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let prefix = format!("ooblab-{}-{number}", std::process::id());
        let bridge = format!("{prefix}-bridge");
        ip(&["netns", "add", &bridge]).map_err(|error| unavailable(error.to_string()))?;
        // From here on dropping the lab cleans up.
        let lab = Self { prefix, bridge, hosts: Mutex::default() };
        let bridge = &lab.bridge;
        // Without snooping the bridge passes multicast on like a simple switch does.
        ip(&["-n", bridge, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0"])
            .and_then(|_| ip(&["-n", bridge, "link", "set", "br0", "up"]))
            .map_err(|error| unavailable(error.to_string()))?;
        Ok(lab)
    }

    /// Adds a host.
    ///
    /// # Errors
    /// A name that is taken or no name, more than 253 hosts, or a refusal of the system.
    pub fn host(&self, name: &str) -> Result<Host, LabError> {
        let (namespace, last) = self.namespace(name)?;
        let address = Ipv4Addr::new(10, 77, 0, last);
        let port = format!("port{last}");
        let (bridge, inside) = (&self.bridge, namespace.as_str());
        ip(&[
            "-n", bridge, "link", "add", &port, "type", "veth", "peer", "name", "eth0", "netns",
            inside,
        ])?;
        ip(&["-n", bridge, "link", "set", &port, "master", "br0"])?;
        ip(&["-n", bridge, "link", "set", &port, "up"])?;
        give(inside, "eth0", address)?;
        let port = Some((self.bridge.clone(), port));
        Ok(Host { name: name.to_owned(), namespace, port, address })
    }

    /// Adds hosts in a row: each has a cable to the one before, `eth0`, and one to the next, `eth1` (`eth0` for the
    /// first). Each cable is a network of its own, 10.78.N.0/24; nobody forwards, and nobody has a route further than to
    /// its neighbours.
    ///
    /// # Errors
    /// As for [`Self::host`].
    pub fn line(&self, names: &[&str]) -> Result<Vec<Host>, LabError> {
        let mut hosts = Vec::<Host>::new();
        for (number, name) in names.iter().enumerate() {
            let (namespace, _) = self.namespace(name)?;
            // The system may let a new namespace begin with what its own does.
            let mut shell = tool::inside(&namespace, "sh");
            shell.args([
                "-c",
                "echo 0 > /proc/sys/net/ipv4/ip_forward && \
                 echo 0 > /proc/sys/net/ipv6/conf/all/forwarding",
            ]);
            tool::run(shell)?;
            let mut address = Ipv4Addr::LOCALHOST;
            if let Some(before) = hosts.last_mut() {
                let crowded = |_| LabError::Crowded { hosts: number };
                let net = u8::try_from(number).map_err(crowded)?;
                let other = if number == 1 { "eth0" } else { "eth1" };
                let at = before.namespace.as_str();
                ip(&[
                    "-n", at, "link", "add", other, "type", "veth", "peer", "name", "eth0",
                    "netns", &namespace,
                ])?;
                address = Ipv4Addr::new(10, 78, net, 2);
                give(&namespace, "eth0", address)?;
                give(at, other, Ipv4Addr::new(10, 78, net, 1))?;
                if number == 1 {
                    before.address = Ipv4Addr::new(10, 78, net, 1);
                }
            }
            hosts.push(Host { name: (*name).to_owned(), namespace, port: None, address });
        }
        Ok(hosts)
    }

    /// Makes the namespace of a host, with `lo` up; returns it and the last number of the host's address.
    fn namespace(&self, name: &str) -> Result<(String, u8), LabError> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        let namespace = format!("{}-host-{name}", self.prefix);
        if name.is_empty() || name.len() > NAME || !plain || hosts.contains(&namespace) {
            return Err(LabError::Name { name: name.to_owned() });
        }
        let number = hosts.len();
        let last = u8::try_from(number + 2).ok().filter(|_| number < HOSTS);
        let last = last.ok_or(LabError::Crowded { hosts: number })?;
        ip(&["netns", "add", &namespace])?;
        hosts.push(namespace.clone());
        // A duplicate address cannot happen here, and looking for one takes a second.
        let no_wait = "echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad";
        let _ = tool::run({
            let mut shell = tool::inside(&namespace, "sh");
            shell.args(["-c", no_wait]);
            shell
        });
        ip(&["-n", &namespace, "link", "set", "lo", "up"])?;
        Ok((namespace, last))
    }

    /// Lets multicast through (the default), or drops it: 224.0.0.0/4 and ff00::/8, but for IPv6 neighbour discovery.
    ///
    /// # Errors
    /// A refusal of the system.
    pub fn multicast(&self, through: bool) -> Result<(), LabError> {
        if let Some(nft) = tool::find("nft") {
            let rules = if through {
                "add table bridge lab; delete table bridge lab"
            } else {
                "add table bridge lab; delete table bridge lab; add table bridge lab; \
                 add chain bridge lab carried { type filter hook forward priority 0; }; \
                 add rule bridge lab carried ip daddr 224.0.0.0/4 drop; \
                 add rule bridge lab carried ip6 daddr ff00::/8 meta l4proto != ipv6-icmp drop"
            };
            let mut command = tool::inside(&self.bridge, nft);
            command.arg(rules);
            if tool::run(command).is_ok() {
                return Ok(());
            }
        }
        // No nft, or a kernel that cannot filter on bridges: the ports themselves can refuse to flood multicast.
        let flood = if through { "on" } else { "off" };
        let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner).len();
        for last in 2..hosts + 2 {
            let port = format!("port{last}");
            ip(&[
                "-n",
                &self.bridge,
                "link",
                "set",
                &port,
                "type",
                "bridge_slave",
                "mcast_flood",
                flood,
            ])?;
        }
        Ok(())
    }

    /// Writes everything that goes over the bridge to a file, from now on.
    ///
    /// # Errors
    /// No tcpdump, or one that does not listen.
    pub fn capture(&self, file: &Path) -> Result<Capture, Unavailable> {
        Capture::start(&self.bridge, file)
    }
}

/// Gives an interface of a host its address and takes it up.
fn give(namespace: &str, interface: &str, address: Ipv4Addr) -> Result<(), LabError> {
    let [a, b, c, _] = address.octets();
    let (net, all) = (format!("{address}/24"), Ipv4Addr::new(a, b, c, 255).to_string());
    ip(&["-n", namespace, "address", "add", &net, "broadcast", &all, "dev", interface])?;
    ip(&["-n", namespace, "link", "set", interface, "up"]).map(drop)
}

impl Drop for Lab {
    fn drop(&mut self) {
        let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        for namespace in hosts.iter().chain([&self.bridge]) {
            // A process that stays would keep the namespace alive, without a name to find it by.
            for pid in ip(&["netns", "pids", namespace]).unwrap_or_default().lines() {
                if let Some(pid) = pid.trim().parse().ok().and_then(Pid::from_raw) {
                    let _ = kill_process(pid, Signal::KILL);
                }
            }
            let _ = ip(&["netns", "delete", namespace]);
        }
    }
}

impl Host {
    /// Returns the name it was given.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns its IPv4 address: that of `eth0`.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Prepares a program to be run on this host. The process that is started is the program itself, so killing the
    /// child kills it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        tool::inside(&self.namespace, program)
    }

    /// Pulls the cable: the bridge passes nothing to or from this host. Its address stays.
    ///
    /// # Errors
    /// A host of a line, which has no bridge; a refusal of the system.
    pub fn cut(&self) -> Result<(), LabError> {
        self.plug("down")
    }

    /// Plugs the cable in again.
    ///
    /// # Errors
    /// As for [`Self::cut`].
    pub fn restore(&self) -> Result<(), LabError> {
        self.plug("up")
    }

    fn plug(&self, state: &str) -> Result<(), LabError> {
        let none = || LabError::NoBridge { name: self.name.clone() };
        let (bridge, port) = self.port.as_ref().ok_or_else(none)?;
        ip(&["-n", bridge, "link", "set", port, state]).map(drop)
    }

    /// Takes the interface of the host down or up, as a person who switches the radio off does: it loses its addresses'
    /// routes, and programs on it are told.
    ///
    /// # Errors
    /// A refusal of the system.
    pub fn interface(&self, up: bool) -> Result<(), LabError> {
        let state = if up { "up" } else { "down" };
        ip(&["-n", &self.namespace, "link", "set", "eth0", state]).map(drop)
    }
}
