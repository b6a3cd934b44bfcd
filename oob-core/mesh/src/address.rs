//! Addresses as people type them and as peers tell them, and which of them lie near.

use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use oob_proto::{TransportKey, limits};
use std::net::{IpAddr, SocketAddr};

use crate::identity;

/// Why a text is not an address that can be dialled.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// Longer than any address is.
    #[error("an address of {len} bytes, at most {} are allowed", limits::ADDRESS_BYTES)]
    TooLong {
        /// Its length.
        len: usize,
    },
    /// Neither a multiaddr nor an IP address with a port.
    #[error("{text:?} is neither IP:PORT nor a multiaddr such as /ip4/10.0.0.5/tcp/4801")]
    Malformed {
        /// What was given.
        text: String,
    },
    /// A name. Names are not looked up: during an incident whoever answers for them may be the attacker.
    #[error("{text:?} is a name; names are not looked up, give the IP address")]
    Name {
        /// What was given.
        text: String,
    },
    /// A multiaddr of a transport that is not spoken here.
    #[error("{text} is neither TCP nor QUIC over an IP address")]
    Transport {
        /// What was given.
        text: String,
    },
    /// The address names another peer than the one it was given for.
    #[error("{text} names another device than the one it was given for")]
    OtherPeer {
        /// What was given.
        text: String,
    },
    /// Port 0 or an unspecified address: nobody can be reached there.
    #[error("{text} is no place anybody can be reached at")]
    Unspecified {
        /// What was given.
        text: String,
    },
    /// Outside the private ranges, and the mesh was told to stay inside.
    #[error("{text} is not on a private network, and this device is set to stay on those")]
    NotPrivate {
        /// What was given.
        text: String,
    },
    /// The mesh has been shut down.
    #[error("the mesh has been shut down")]
    Stopped,
}

/// The two ways a link is carried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// TCP with Noise and Yamux.
    Tcp,
    /// QUIC.
    Quic,
}

/// Who told us an address, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FoundBy {
    /// A person typed it.
    Typed,
    /// It stood in an invitation.
    Invite,
    /// A peer told it, or called from it.
    Learned,
    /// Our own beacon.
    Beacon,
    /// mDNS.
    Mdns,
}

/// One place to dial: an IP address, a port, a transport, and no peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Place {
    pub(crate) socket: SocketAddr,
    pub(crate) transport: Transport,
}

impl Place {
    /// Reads the place out of a multiaddr; whatever follows `/p2p/` is not ours.
    pub(crate) fn from_multiaddr(address: &Multiaddr) -> Option<(Self, Option<PeerId>)> {
        let mut parts = address.iter();
        let ip: IpAddr = match parts.next()? {
            Protocol::Ip4(ip) => ip.into(),
            Protocol::Ip6(ip) => ip.into(),
            _ => return None,
        };
        let (port, transport) = match parts.next()? {
            Protocol::Tcp(port) => (port, Transport::Tcp),
            Protocol::Udp(port) => match parts.next()? {
                Protocol::QuicV1 => (port, Transport::Quic),
                _ => return None,
            },
            _ => return None,
        };
        let peer = match parts.next() {
            None => None,
            Some(Protocol::P2p(peer)) if parts.next().is_none() => Some(peer),
            Some(_) => return None,
        };
        Some((Self { socket: SocketAddr::new(ip, port), transport }, peer))
    }

    /// Writes it as a multiaddr without a peer.
    pub(crate) fn to_multiaddr(self) -> Multiaddr {
        let base = Multiaddr::from(self.socket.ip());
        match self.transport {
            Transport::Tcp => base.with(Protocol::Tcp(self.socket.port())),
            Transport::Quic => base.with(Protocol::Udp(self.socket.port())).with(Protocol::QuicV1),
        }
    }

    /// Returns the host, in one form: a socket for both kinds of IP shows IPv4 inside IPv6.
    pub(crate) fn host(self) -> IpAddr {
        self.socket.ip().to_canonical()
    }

    /// Whether anybody can be dialled there at all. Link-local IPv6 needs a zone, which a multiaddr does not carry.
    pub(crate) fn is_dialable(self) -> bool {
        let ip = self.socket.ip();
        let zoned = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
        let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
        self.socket.port() != 0
            && !ip.is_unspecified()
            && !ip.is_multicast()
            && !zoned
            && !broadcast
    }

    /// Whether it lies in loopback, private, link-local or unique local ranges.
    pub(crate) fn is_private(self) -> bool {
        is_private(self.socket.ip())
    }
}

/// Whether an address lies in loopback, private, link-local or unique local ranges.
pub(crate) fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
            Some(ip) => is_private(ip.into()),
            None => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
        },
    }
}

/// What a text given for an address means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    /// Where to dial; two places when the text left the transport open.
    pub(crate) places: Vec<Place>,
    /// Whom to expect there.
    pub(crate) key: Option<TransportKey>,
    /// The text, in one form for all.
    pub(crate) normalised: String,
}

impl Target {
    /// Reads `IP:PORT`, `[IP6]:PORT` or a multiaddr with or without `/p2p/`.
    pub(crate) fn parse(text: &str) -> Result<Self, AddressError> {
        if text.len() > limits::ADDRESS_BYTES {
            return Err(AddressError::TooLong { len: text.len() });
        }
        let text = text.trim();
        let given = || text.to_owned();
        if text.starts_with('/') {
            let address: Multiaddr =
                text.parse().map_err(|_| AddressError::Malformed { text: given() })?;
            let (place, peer) = Place::from_multiaddr(&address)
                .ok_or_else(|| AddressError::Transport { text: given() })?;
            if !place.is_dialable() {
                return Err(AddressError::Unspecified { text: given() });
            }
            let key = match peer {
                Some(peer) => Some(
                    identity::key_of(&peer)
                        .ok_or_else(|| AddressError::Malformed { text: given() })?,
                ),
                None => None,
            };
            return Ok(Self { places: vec![place], key, normalised: address.to_string() });
        }
        let Ok(socket) = text.parse::<SocketAddr>() else {
            let name = text.rsplit_once(':').is_some_and(|(host, port)| {
                port.parse::<u16>().is_ok()
                    && host.chars().any(|c| c.is_ascii_alphabetic())
                    && !host.contains([':', '/', '[', ' '])
            });
            return Err(if name {
                AddressError::Name { text: given() }
            } else {
                AddressError::Malformed { text: given() }
            });
        };
        let places: Vec<_> = [Transport::Quic, Transport::Tcp]
            .map(|transport| Place { socket, transport })
            .into_iter()
            .filter(|place| place.is_dialable())
            .collect();
        if places.is_empty() {
            return Err(AddressError::Unspecified { text: given() });
        }
        Ok(Self { places, key: None, normalised: socket.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(text: &str) -> Vec<String> {
        let target = Target::parse(text).unwrap();
        target.places.iter().map(|p| p.to_multiaddr().to_string()).collect()
    }

    #[test]
    fn an_address_without_a_transport_means_both() {
        assert_eq!(
            places(" 10.0.0.5:4801"),
            ["/ip4/10.0.0.5/udp/4801/quic-v1", "/ip4/10.0.0.5/tcp/4801"]
        );
        assert_eq!(places("[fd00::1]:9").len(), 2);
        assert_eq!(places("/ip4/10.0.0.5/tcp/4801"), ["/ip4/10.0.0.5/tcp/4801"]);
    }

    #[test]
    fn a_peer_in_the_address_is_read() {
        let key = TransportKey::from(identity::tests::public(3));
        let peer = identity::peer_of(&key).unwrap();
        let target = Target::parse(&format!("/ip6/::1/udp/7/quic-v1/p2p/{peer}")).unwrap();
        assert_eq!(target.key, Some(key));
    }

    #[test]
    fn what_cannot_be_dialled_is_refused_and_said() {
        use AddressError::*;
        type Check = fn(&AddressError) -> bool;
        let table: [(&str, Check); 10] = [
            ("laptop.lan:4801", |e| matches!(e, Name { .. })),
            ("10.0.0.5", |e| matches!(e, Malformed { .. })),
            ("", |e| matches!(e, Malformed { .. })),
            ("10.0.0.5:70000", |e| matches!(e, Malformed { .. })),
            ("0.0.0.0:4801", |e| matches!(e, Unspecified { .. })),
            ("10.0.0.5:0", |e| matches!(e, Unspecified { .. })),
            ("224.0.0.251:4801", |e| matches!(e, Unspecified { .. })),
            ("/dns4/example.org/tcp/1", |e| matches!(e, Transport { .. })),
            ("/ip4/10.0.0.5/tcp/1/ws", |e| matches!(e, Transport { .. })),
            ("/ip4/10.0.0.5/udp/1", |e| matches!(e, Transport { .. })),
        ];
        for (text, check) in table {
            let error = Target::parse(text).unwrap_err();
            assert!(check(&error), "{text}: {error:?}");
        }
        let long = "/".repeat(limits::ADDRESS_BYTES + 1);
        assert!(matches!(Target::parse(&long), Err(TooLong { .. })));
    }

    #[test]
    fn private_ranges_are_the_ones_of_one_site() {
        for near in
            ["127.0.0.1", "10.1.2.3", "172.31.0.1", "192.168.1.1", "169.254.9.9", "::1", "fd12::1"]
        {
            assert!(is_private(near.parse().unwrap()), "{near}");
        }
        for far in ["8.8.8.8", "172.32.0.1", "2001:db8::1", "::ffff:8.8.8.8", "100.64.0.1"] {
            assert!(!is_private(far.parse().unwrap()), "{far}");
        }
    }
}
