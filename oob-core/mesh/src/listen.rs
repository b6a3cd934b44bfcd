//! Taking the ports we listen on, and telling others where that is.

use libp2p::{
    Multiaddr,
    core::transport::{ListenerId, TransportError},
    multiaddr::Protocol,
    swarm::{NetworkBehaviour, Swarm},
};
use oob_proto::TransportKey;
use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket},
};

use crate::{
    address::{AddressError, Place, Transport},
    config::{DEFAULT_PORT, Listen, MeshError, PORTS_TRIED},
    identity,
};

/// Begins to listen; returns the port if it is not the usual one, and how many listeners there are.
pub(crate) fn listen<B: NetworkBehaviour>(
    swarm: &mut Swarm<B>,
    listen: &Listen,
) -> Result<(Option<u16>, usize), MeshError> {
    match listen {
        Listen::Default => listen_by_default(swarm),
        Listen::Explicit(addresses) => {
            let mut listeners = 0;
            for text in addresses {
                for place in parse(text)? {
                    listen_at(swarm, place).map_err(|source| refused(text, source))?;
                    listeners += 1;
                }
            }
            Ok((None, listeners))
        }
    }
}

/// Whether nobody outside this machine can reach what is listened on.
pub(crate) fn is_loopback_only(listen: &Listen) -> bool {
    let loopback = |text: &String| {
        parse(text).is_ok_and(|places| places.iter().all(|place| place.host().is_loopback()))
    };
    match listen {
        Listen::Default => false,
        Listen::Explicit(addresses) => addresses.iter().all(loopback),
    }
}

fn refused(text: &str, source: io::Error) -> MeshError {
    let address = text.to_owned();
    match source.kind() {
        io::ErrorKind::AddrInUse => MeshError::AddressInUse { address },
        _ => MeshError::Listen { address, source },
    }
}

/// Whether a text is an address to listen on.
#[cfg(feature = "doors")]
pub(crate) fn is_address(text: &str) -> bool {
    parse(text).is_ok()
}

/// Reads an address to listen on: a multiaddr, or `IP:PORT` for both transports. Port 0 is any free one.
fn parse(text: &str) -> Result<Vec<Place>, AddressError> {
    let text = text.trim();
    if let Ok(socket) = text.parse::<SocketAddr>() {
        return Ok(vec![
            Place { socket, transport: Transport::Quic },
            Place { socket, transport: Transport::Tcp },
        ]);
    }
    let address: Multiaddr =
        text.parse().map_err(|_| AddressError::Malformed { text: text.to_owned() })?;
    match Place::from_multiaddr(&address) {
        Some((place, None)) => Ok(vec![place]),
        _ => Err(AddressError::Transport { text: text.to_owned() }),
    }
}

fn listen_by_default<B: NetworkBehaviour>(
    swarm: &mut Swarm<B>,
) -> Result<(Option<u16>, usize), MeshError> {
    let last = DEFAULT_PORT.saturating_add(PORTS_TRIED);
    'ports: for port in DEFAULT_PORT..last {
        let at = |ip: IpAddr, transport| Place { socket: (ip, port).into(), transport };
        let four = IpAddr::from(Ipv4Addr::UNSPECIFIED);
        let six = IpAddr::from(Ipv6Addr::UNSPECIFIED);
        let mut taken: Vec<ListenerId> = Vec::new();
        // UDP first: libp2p listens on TCP with a flag that lets two of us share a port, on UDP it does not.
        for (ip, transport) in [
            (four, Transport::Quic),
            (four, Transport::Tcp),
            (six, Transport::Quic),
            (six, Transport::Tcp),
        ] {
            match listen_at(swarm, at(ip, transport)) {
                Ok(id) => taken.push(id),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                    for id in taken {
                        swarm.remove_listener(id);
                    }
                    continue 'ports;
                }
                Err(error) if ip.is_ipv6() => {
                    tracing::debug!(%error, "not listening on IPv6");
                }
                Err(source) => {
                    let address = at(ip, transport).to_multiaddr().to_string();
                    return Err(MeshError::Listen { address, source });
                }
            }
        }
        return Ok(((port != DEFAULT_PORT).then_some(port), taken.len()));
    }
    Err(MeshError::NoPort { first: DEFAULT_PORT, last: last.saturating_sub(1) })
}

fn listen_at<B: NetworkBehaviour>(swarm: &mut Swarm<B>, place: Place) -> io::Result<ListenerId> {
    // A socket without any sharing flag finds out whether the port is free. On [::] it would stumble over our own socket
    // on 0.0.0.0, which has found it out already.
    let probed = place.socket.ip() != IpAddr::from(Ipv6Addr::UNSPECIFIED);
    if place.socket.port() != 0 && probed {
        match place.transport {
            Transport::Tcp => drop(TcpListener::bind(place.socket)?),
            Transport::Quic => drop(UdpSocket::bind(place.socket)?),
        }
    }
    swarm.listen_on(place.to_multiaddr()).map_err(|error| match error {
        TransportError::MultiaddrNotSupported(address) => {
            io::Error::new(io::ErrorKind::Unsupported, address.to_string())
        }
        TransportError::Other(error) => source_of(error),
    })
}

/// libp2p wraps the error of the system in its own several times over; the innermost one says what happened.
fn source_of(error: io::Error) -> io::Error {
    let mut inner: &(dyn std::error::Error + 'static) = &error;
    let mut kind = error.kind();
    loop {
        if let Some(found) = inner.downcast_ref::<io::Error>() {
            if found.kind() != io::ErrorKind::Other {
                kind = found.kind();
            }
            // The wrapped error hides behind `get_ref`, its source would skip a step.
            match found.get_ref() {
                Some(next) => inner = next,
                None => break,
            }
        } else if let Some(next) = inner.source() {
            inner = next;
        } else {
            break;
        }
    }
    if kind == error.kind() { error } else { io::Error::new(kind, error) }
}

/// The addresses the transports have reported.
#[derive(Debug, Default)]
pub(crate) struct Reported {
    places: BTreeSet<Place>,
}

impl Reported {
    /// Takes in a new address; says whether it was new.
    pub(crate) fn add(&mut self, address: &Multiaddr) -> bool {
        Place::from_multiaddr(address).is_some_and(|(place, _)| self.places.insert(place))
    }

    /// Takes out one that is gone; returns its IP if no other listener has it any more.
    pub(crate) fn remove(&mut self, address: &Multiaddr) -> Option<IpAddr> {
        let (place, _) = Place::from_multiaddr(address)?;
        self.places.remove(&place);
        let ip = place.socket.ip();
        (!self.places.iter().any(|other| other.socket.ip() == ip)).then_some(ip)
    }

    /// Lists what others can dial; loopback only if there is nothing else.
    pub(crate) fn listed(&self, key: &TransportKey) -> Vec<String> {
        let dialable: Vec<_> = self.places.iter().filter(|place| place.is_dialable()).collect();
        let outside = dialable.iter().any(|place| !place.socket.ip().is_loopback());
        let Some(peer) = identity::peer_of(key) else { return Vec::new() };
        dialable
            .into_iter()
            .filter(|place| !outside || !place.socket.ip().is_loopback())
            .map(|place| place.to_multiaddr().with(Protocol::P2p(peer)).to_string())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reported(addresses: &[&str]) -> Vec<String> {
        let mut reported = Reported::default();
        for address in addresses {
            assert!(reported.add(&address.parse().unwrap()));
        }
        let key = TransportKey::from(identity::tests::public(1));
        let suffix = format!("/p2p/{}", identity::peer_of(&key).unwrap());
        let strip = |text: String| text.strip_suffix(&suffix).unwrap().to_owned();
        reported.listed(&key).into_iter().map(strip).collect()
    }

    #[test]
    fn loopback_is_named_only_when_there_is_nothing_else() {
        let (lo, lan) = ("/ip4/127.0.0.1/tcp/4801", "/ip4/10.77.0.2/udp/4801/quic-v1");
        assert_eq!(reported(&[lo]), [lo]);
        assert_eq!(reported(&[lo, lan]), [lan]);
        assert_eq!(reported(&[lo, "/ip6/fe80::1/tcp/4801"]), [lo]);
    }

    #[test]
    fn an_ip_is_gone_when_its_last_listener_is() {
        let mut reported = Reported::default();
        let (a, b) =
            ("/ip4/10.77.0.2/tcp/1".parse().unwrap(), "/ip4/10.77.0.2/tcp/2".parse().unwrap());
        assert!(reported.add(&a) && reported.add(&b) && !reported.add(&a));
        assert_eq!(reported.remove(&a), None);
        assert_eq!(reported.remove(&b), Some([10, 77, 0, 2].into()));
    }

    #[test]
    fn the_reason_of_the_system_is_found_under_the_wrapping() {
        let inner = io::Error::from(io::ErrorKind::AddrInUse);
        let wrapped = io::Error::other(io::Error::other(inner));
        assert_eq!(source_of(wrapped).kind(), io::ErrorKind::AddrInUse);
    }
}
