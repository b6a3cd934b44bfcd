//! What goes into beacons, and what of those that come is believed: whose key, and where to dial it. Nothing else.

use bytes::Bytes;
use oob_crypto::{BEACON_ADDRESSES, Beacon};
use oob_engine::snapshot::Snapshot;
use oob_proto::TransportKey;
use rand::CryptoRng;
use std::net::{IpAddr, SocketAddr};

/// One beacon in so many goes out under the epoch before, for those who have not heard of the newest.
const PREVIOUS: u64 = 6;

/// Epochs whose key is tried: as many as are kept.
const KEYS: usize = 64;

/// Where a mesh listens, as beacons say it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Places {
    tcp: u16,
    udp: u16,
    addresses: Vec<IpAddr>,
}

impl Places {
    /// Reads the multiaddrs a mesh lists; nothing where it listens on loopback only.
    fn of(listening: &[String]) -> Option<Self> {
        let mut places = Self::default();
        for address in listening {
            let mut parts = address.split('/').skip(2);
            let (Some(ip), Some(transport), Some(port)) =
                (parts.next(), parts.next(), parts.next())
            else {
                continue;
            };
            let (Ok(ip), Ok(port)) = (ip.parse::<IpAddr>(), port.parse::<u16>()) else { continue };
            if ip.is_loopback() {
                continue;
            }
            match transport {
                "tcp" => places.tcp = port,
                "udp" => places.udp = port,
                _ => continue,
            }
            if !places.addresses.contains(&ip) {
                places.addresses.push(ip);
            }
        }
        // A beacon over IPv6 comes from a link-local address, which cannot be dialled; so those of IPv6 go first.
        places.addresses.sort_by_key(IpAddr::is_ipv4);
        places.addresses.truncate(BEACON_ADDRESSES);
        (places.tcp != 0 || places.udp != 0).then_some(places)
    }
}

/// Makes the beacons of a node.
#[derive(Debug, Default)]
pub(crate) struct Beacons {
    made: u64,
}

impl Beacons {
    /// Makes the next one; none without an organisation, or where nobody could call.
    pub(crate) fn make(
        &mut self,
        rng: &mut impl CryptoRng,
        snapshot: &Snapshot,
        listening: &[String],
        time_s: u64,
    ) -> Option<Bytes> {
        let Places { tcp, udp, addresses } = Places::of(listening)?;
        // Whoever was taken out knows the epochs before, and must not see where everybody is by them. Members who have not
        // heard of the newest are found by their own beacons, which all kept keys open.
        let none_removed = snapshot.screening.removed.is_empty();
        let previous = none_removed && self.made % PREVIOUS == PREVIOUS - 1;
        let at = usize::from(previous && snapshot.beacons.len() > 1);
        let (_, key) = snapshot.beacons.get(at)?;
        self.made = self.made.wrapping_add(1);
        let beacon = Beacon { transport: snapshot.me.transport, time_s, tcp, udp, addresses };
        beacon.seal(rng, key).ok().map(Bytes::from)
    }
}

/// Where to dial whom, as multiaddrs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) peer: TransportKey,
    pub(crate) addresses: Vec<String>,
}

/// Opens a beacon of another member's device; anything else says nothing.
pub(crate) fn hear(snapshot: &Snapshot, data: &[u8], from: SocketAddr) -> Option<Heard> {
    let mut keys = snapshot.beacons.iter().take(KEYS);
    let beacon = keys.find_map(|(_, key)| Beacon::open(key, data).ok())?;
    let peer = beacon.transport;
    if peer == snapshot.me.transport || snapshot.roster.by_transport(&peer).is_none() {
        return None;
    }
    let mut addresses = Vec::new();
    let mut ips = vec![from.ip().to_canonical()];
    ips.extend(beacon.addresses);
    for ip in ips.into_iter().filter(is_dialable) {
        let kind = if ip.is_ipv4() { "ip4" } else { "ip6" };
        if beacon.udp != 0 {
            addresses.push(format!("/{kind}/{ip}/udp/{}/quic-v1", beacon.udp));
        }
        if beacon.tcp != 0 {
            addresses.push(format!("/{kind}/{ip}/tcp/{}", beacon.tcp));
        }
    }
    addresses.dedup();
    Some(Heard { peer, addresses })
}

/// Whether an address can be dialled at all: link-local IPv6 needs a zone, which nobody can write into an address.
fn is_dialable(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(four) => !four.is_unspecified() && !four.is_multicast() && !four.is_broadcast(),
        IpAddr::V6(six) => {
            !six.is_unspecified() && !six.is_multicast() && !six.is_unicast_link_local()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home;
    use oob_crypto::EpochSecret;
    use oob_engine::{
        Engine,
        model::{Name, Now},
        snapshot::ScreenKeys,
    };
    use oob_proto::DeviceId;
    use oob_store::Store;
    use std::{collections::BTreeMap, sync::Arc};

    /// The newest epoch and the one before, as a member has them who was told that somebody left, or was not.
    fn two_epochs(removed: bool) -> (Snapshot, EpochSecret) {
        let store = Store::in_memory(home::rng()).unwrap();
        let (name, now) = (Name::parse("Dana").unwrap(), Now { wall_ms: 0, mono_ms: 0 });
        let engine = Engine::create(store, Box::new(home::rng()), name, now).unwrap();
        let mut snapshot = (*engine.snapshot()).clone();
        let epochs = [(); 2].map(|()| EpochSecret::generate(&mut home::rng()));
        let keys = epochs.iter().map(|epoch| (epoch.id(), epoch.beacon_key()));
        snapshot.beacons = Arc::new(keys.collect());
        if removed {
            let removed = BTreeMap::from([(DeviceId::from([7; 32]), BTreeMap::new())]);
            snapshot.screening = Arc::new(ScreenKeys { removed, ..ScreenKeys::default() });
        }
        let [_, before] = epochs;
        (snapshot, before)
    }

    /// How many of a dozen beacons somebody opens who knows nothing newer than the epoch before.
    fn opened_by_the_epoch_before(removed: bool) -> usize {
        let (snapshot, before) = two_epochs(removed);
        let (mut beacons, listening) = (Beacons::default(), ["/ip4/10.77.0.2/tcp/4801".to_owned()]);
        let mut make = || beacons.make(&mut home::rng(), &snapshot, &listening, 0).unwrap();
        let made: Vec<Bytes> = (0..12).map(|_| make()).collect();
        made.iter().filter(|made| Beacon::open(&before.beacon_key(), made).is_ok()).count()
    }

    #[test]
    fn whoever_was_taken_out_opens_no_beacon_that_is_made_afterwards() {
        assert_eq!(opened_by_the_epoch_before(false), 2, "the control: one in six");
        assert_eq!(opened_by_the_epoch_before(true), 0);
    }

    fn listening(addresses: &[&str]) -> Option<Places> {
        let listed: Vec<_> = addresses.iter().map(|text| format!("{text}/p2p/12D3")).collect();
        Places::of(&listed)
    }

    #[test]
    fn a_beacon_names_ports_and_the_addresses_of_ipv6_first() {
        let places = listening(&[
            "/ip4/10.77.0.2/tcp/4801",
            "/ip4/10.77.0.2/udp/4802/quic-v1",
            "/ip6/fd00::2/tcp/4801",
        ])
        .unwrap();
        assert_eq!((places.tcp, places.udp), (4801, 4802));
        let addresses: Vec<_> = places.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(addresses, ["fd00::2", "10.77.0.2"]);
    }

    #[test]
    fn who_listens_on_loopback_or_nowhere_sends_none() {
        assert_eq!(listening(&["/ip4/127.0.0.1/tcp/4801", "/ip6/::1/tcp/4801"]), None);
        assert_eq!(listening(&[]), None);
        assert_eq!(listening(&["nonsense", "/ip4/1.2.3.4/sctp/9", "/ip4/x/tcp/1"]), None);
    }
}
