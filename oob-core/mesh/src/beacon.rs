//! Sockets for beacons: small sealed packets to everybody on the local networks (docs/protocol.md, section 15.2). What is
//! in them, and who is believed, is the affair of whoever gives them.

use bytes::Bytes;
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockRef, Socket, Type};
use std::{
    collections::{BTreeSet, HashMap},
    future, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6},
    time::Duration,
};
use tokio::{net::UdpSocket, time::Instant};

use crate::{
    config::{DEFAULT_PORT, PORTS_TRIED},
    interfaces::Local,
};

/// Longest beacon: what fits every packet of every network.
pub const BEACON_BYTES: usize = 1_200;

/// The port of beacons: the first above those a mesh may listen on, so that the two are never in each other's way.
pub const BEACON_PORT: u16 = DEFAULT_PORT + PORTS_TRIED;

/// The groups of beacons: site-local (RFC 2365) and link-local scope, "oob" in their last digits. Neither leaves the site
/// even where somebody raises the hop count, which is 1.
const GROUP_4: Ipv4Addr = Ipv4Addr::new(239, 255, 111, 98);
const GROUP_6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0x6f, 0x6f62);

/// Interfaces on which beacons are sent and heard: a system lets one socket join 20 groups.
const INTERFACES: usize = 16;

/// Beacons looked at per second: of all sources and of one. Three hundred devices in one room send 90; what nobody
/// believes costs a few microseconds for each kept key.
const PER_SECOND: u32 = 256;
const PER_SECOND_OF_ONE: u32 = 8;

/// How often a beacon is sent: so often for so long after anything has changed, and less often else.
const OFTEN: Duration = Duration::from_secs(2);
const OFTEN_FOR: Duration = Duration::from_secs(10);
const SELDOM: Duration = Duration::from_secs(10);

/// When to send.
pub(crate) struct Schedule {
    next: Instant,
    often_until: Instant,
}

impl Schedule {
    pub(crate) fn new(now: Instant) -> Self {
        Self { next: now, often_until: now + OFTEN_FOR }
    }

    /// Something has changed: send at once and then often.
    pub(crate) fn restart(&mut self, now: Instant) {
        *self = Self::new(now);
    }

    pub(crate) fn next(&self) -> Instant {
        self.next
    }

    /// One was due now.
    pub(crate) fn advance(&mut self, now: Instant) {
        self.next = now + if now < self.often_until { OFTEN } else { SELDOM };
    }
}

/// How many beacons have come in this second.
pub(crate) struct Rate {
    since: Instant,
    all: u32,
    of: HashMap<IpAddr, u32>,
}

impl Rate {
    pub(crate) fn new(now: Instant) -> Self {
        Self { since: now, all: 0, of: HashMap::new() }
    }

    /// Counts one more; says whether it may be looked at. Holds at most as many sources as may be looked at.
    pub(crate) fn admits(&mut self, from: IpAddr, now: Instant) -> bool {
        if now.saturating_duration_since(self.since) >= Duration::from_secs(1) {
            *self = Self::new(now);
        }
        if self.all >= PER_SECOND {
            return false;
        }
        let of_one = self.of.entry(from).or_default();
        if *of_one >= PER_SECOND_OF_ONE {
            return false;
        }
        *of_one += 1;
        self.all += 1;
        true
    }
}

/// One packet that came.
pub(crate) struct Packet {
    /// `None` if it is longer than any beacon.
    pub(crate) data: Option<Bytes>,
    pub(crate) from: SocketAddr,
}

/// The sockets, and the interfaces on which they hear.
pub(crate) struct Sockets {
    four: Option<UdpSocket>,
    six: Option<UdpSocket>,
    joined_4: BTreeSet<u32>,
    joined_6: BTreeSet<u32>,
    buffer_4: [u8; BEACON_BYTES + 1],
    buffer_6: [u8; BEACON_BYTES + 1],
}

impl Sockets {
    pub(crate) fn open() -> Self {
        let open = |socket: io::Result<Socket>| {
            let socket = socket.and_then(|socket| UdpSocket::from_std(socket.into()));
            socket.map_err(|error| tracing::debug!(%error, "no beacons of one kind")).ok()
        };
        Self {
            four: open(open_4()),
            six: open(open_6()),
            joined_4: BTreeSet::new(),
            joined_6: BTreeSet::new(),
            buffer_4: [0; BEACON_BYTES + 1],
            buffer_6: [0; BEACON_BYTES + 1],
        }
    }

    /// Hears on these interfaces, and on no others any more.
    pub(crate) fn listen_on(&mut self, locals: &BTreeSet<Local>) {
        let indices = |four: bool| -> BTreeSet<u32> {
            let of_kind = locals.iter().filter(|local| local.ip.is_ipv4() == four);
            of_kind.map(|local| local.index).take(INTERFACES).collect()
        };
        if let Some(socket) = &self.four {
            let socket = SockRef::from(socket);
            let wanted = indices(true);
            for gone in self.joined_4.difference(&wanted) {
                // An error: it has left by itself, with its interface.
                let _ =
                    socket.leave_multicast_v4_n(&GROUP_4, &InterfaceIndexOrAddress::Index(*gone));
            }
            self.joined_4.retain(|index| wanted.contains(index));
            for index in wanted {
                let at = InterfaceIndexOrAddress::Index(index);
                if self.joined_4.contains(&index) {
                    continue;
                }
                // Without multicast there, broadcasts are heard all the same; it is tried again with the next change.
                match socket.join_multicast_v4_n(&GROUP_4, &at) {
                    Ok(()) => drop(self.joined_4.insert(index)),
                    Err(error) => tracing::debug!(%error, index, "no IPv4 multicast there"),
                }
            }
        }
        if let Some(socket) = &self.six {
            let socket = SockRef::from(socket);
            let wanted = indices(false);
            for gone in self.joined_6.difference(&wanted) {
                let _ = socket.leave_multicast_v6(&GROUP_6, *gone);
            }
            self.joined_6.retain(|index| wanted.contains(index));
            for index in wanted {
                if self.joined_6.contains(&index) {
                    continue;
                }
                match socket.join_multicast_v6(&GROUP_6, index) {
                    Ok(()) => drop(self.joined_6.insert(index)),
                    Err(error) => tracing::debug!(%error, index, "no IPv6 multicast there"),
                }
            }
        }
    }

    /// Sends a beacon on every interface; returns to how many places it went. One that cannot be sent now is not sent:
    /// the next one comes soon.
    pub(crate) fn send(&self, data: &[u8], locals: &BTreeSet<Local>) -> u64 {
        let mut sent = 0;
        let mut done = BTreeSet::new();
        for local in locals.iter().take(2 * INTERFACES) {
            match (local.ip, &self.four, &self.six) {
                (IpAddr::V4(ip), Some(four), _) => {
                    // Each network once: with several addresses each has its own, and says where it was sent from.
                    let ready = SockRef::from(four).set_multicast_if_v4(&ip).is_ok();
                    if ready && four.try_send_to(data, (GROUP_4, BEACON_PORT).into()).is_ok() {
                        sent += 1;
                    }
                    // Where multicast is filtered, this often is not.
                    if let Some(all) = local.broadcast
                        && four.try_send_to(data, (all, BEACON_PORT).into()).is_ok()
                    {
                        sent += 1;
                    }
                }
                (IpAddr::V6(_), _, Some(six)) if done.insert(local.index) => {
                    let everybody = SocketAddrV6::new(GROUP_6, BEACON_PORT, 0, local.index);
                    if six.try_send_to(data, everybody.into()).is_ok() {
                        sent += 1;
                    }
                }
                _ => {}
            }
        }
        sent
    }

    /// Waits for the next packet.
    ///
    /// # Cancel safety
    /// Safe: a packet is either returned or still with the system.
    pub(crate) async fn receive(&mut self) -> Packet {
        let Self { four, six, buffer_4, buffer_6, .. } = self;
        loop {
            let (read, buffer) = tokio::select! {
                read = receive(four.as_ref(), buffer_4) => (read, &*buffer_4),
                read = receive(six.as_ref(), buffer_6) => (read, &*buffer_6),
            };
            // An error belongs to a packet sent before, such as one that nobody took.
            let Ok((len, from)) = read else {
                tokio::task::yield_now().await;
                continue;
            };
            // A longer packet is cut off at the end of the buffer, so its length says so before anything is copied.
            let whole = buffer.get(..len).filter(|_| len <= BEACON_BYTES);
            return Packet { data: whole.map(Bytes::copy_from_slice), from };
        }
    }
}

async fn receive(socket: Option<&UdpSocket>, buffer: &mut [u8]) -> io::Result<(usize, SocketAddr)> {
    match socket {
        Some(socket) => socket.recv_from(buffer).await,
        None => future::pending().await,
    }
}

/// Several daemons on one machine hear on the same port.
fn share(socket: &Socket) -> io::Result<()> {
    socket.set_reuse_address(true)?;
    // Where the other flag does not let two sockets hear the same group.
    #[cfg(all(unix, not(target_os = "linux")))]
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)
}

fn open_4() -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    share(&socket)?;
    socket.set_broadcast(true)?;
    socket.set_multicast_ttl_v4(1)?;
    socket.set_multicast_loop_v4(false)?;
    // Bound to everything, since broadcasts are not sent to the group.
    socket.bind(&SocketAddr::from((Ipv4Addr::UNSPECIFIED, BEACON_PORT)).into())?;
    Ok(socket)
}

fn open_6() -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV6, Type::DGRAM, Some(Protocol::UDP))?;
    share(&socket)?;
    socket.set_only_v6(true)?;
    socket.set_multicast_hops_v6(1)?;
    socket.set_multicast_loop_v6(false)?;
    socket.bind(&SocketAddr::from((Ipv6Addr::UNSPECIFIED, BEACON_PORT)).into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beacons_go_out_every_two_seconds_for_ten_and_then_every_ten() {
        let start = Instant::now();
        let mut schedule = Schedule::new(start);
        let mut sent = Vec::new();
        while schedule.next() < start + Duration::from_secs(40) {
            let now = schedule.next();
            sent.push((now - start).as_secs());
            schedule.advance(now);
        }
        assert_eq!(sent, [0, 2, 4, 6, 8, 10, 20, 30]);
        schedule.restart(start + Duration::from_secs(35));
        assert_eq!(schedule.next(), start + Duration::from_secs(35));
    }

    #[test]
    fn no_source_and_not_all_of_them_are_heard_more_often_than_that() {
        let start = Instant::now();
        let mut rate = Rate::new(start);
        let source = |n: u16| IpAddr::from([10, 0, (n / 256) as u8, (n % 256) as u8]);
        assert_eq!((0..1_000).filter(|_| rate.admits(source(1), start)).count(), 8);
        assert_eq!((2..10_000).filter(|n| rate.admits(source(*n), start)).count(), 248);
        assert!(rate.of.len() <= 256, "{}", rate.of.len());
        assert!(rate.admits(source(1), start + Duration::from_secs(1)));
    }

    #[test]
    fn the_port_is_none_that_a_mesh_listens_on() {
        assert!(!(DEFAULT_PORT..DEFAULT_PORT + PORTS_TRIED).contains(&BEACON_PORT));
        assert!(GROUP_4.is_multicast() && GROUP_6.is_multicast());
    }

    #[tokio::test]
    async fn two_on_one_machine_share_the_port() {
        let (one, two) = (Sockets::open(), Sockets::open());
        assert!(one.four.is_some() && two.four.is_some());
    }
}
