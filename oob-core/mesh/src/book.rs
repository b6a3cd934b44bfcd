//! The address book: where peers are said to be, who says so, and which of it is kept when there is no room.

use oob_proto::{TransportKey, limits};
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};
use tokio::time::Instant;

use crate::{
    address::{FoundBy, Place},
    event::KnownAddress,
};

/// Peers with addresses, strangers included: what an organisation of this size needs, and what a flood of forged
/// announcements may take.
pub(crate) const PEERS: usize = 256;

/// Typed addresses at which nobody has answered yet.
pub(crate) const UNKNOWN: usize = 64;

/// How long an address at which somebody else answered is not dialled for this peer: one round of mDNS announcements.
const WRONG: Duration = Duration::from_secs(360);

#[derive(Debug, Clone)]
struct Entry {
    place: Place,
    found_by: FoundBy,
    /// The peer has answered there.
    proved: bool,
    /// Somebody else answered there, at this time.
    wrong: Option<Instant>,
    heard: Instant,
}

impl Entry {
    /// What is given up first comes first.
    fn worth(&self) -> (bool, bool, std::cmp::Reverse<FoundBy>, Instant) {
        (self.wrong.is_none(), self.proved, std::cmp::Reverse(self.found_by), self.heard)
    }
}

/// What became of an address that was heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Heard {
    /// New, or better known than before.
    New,
    /// Known already.
    Again,
    /// Not kept: no room, or somebody else was found there lately.
    Refused,
}

/// Addresses by peer, and those of nobody yet.
#[derive(Debug, Default)]
pub(crate) struct Book {
    peers: BTreeMap<TransportKey, Vec<Entry>>,
    unknown: Vec<Entry>,
}

impl Book {
    /// Takes in an address of a peer.
    pub(crate) fn hear(
        &mut self,
        key: TransportKey,
        place: Place,
        found_by: FoundBy,
        roster: &BTreeSet<TransportKey>,
        now: Instant,
    ) -> Heard {
        if !self.peers.contains_key(&key) && self.peers.len() >= PEERS {
            // Strangers make room, those of whom nothing was heard for longest first; roster peers never do.
            let oldest = self
                .peers
                .iter()
                .filter(|(key, _)| !roster.contains(*key))
                .min_by_key(|(_, entries)| entries.iter().map(|entry| entry.heard).max())
                .map(|(key, _)| *key);
            let Some(oldest) = oldest else { return Heard::Refused };
            self.peers.remove(&oldest);
        }
        let entries = self.peers.entry(key).or_default();
        insert(entries, place, found_by, limits::ADDRESSES_PER_PEER, now)
    }

    /// Takes in an address of which nobody knows whose it is.
    pub(crate) fn hear_unknown(&mut self, place: Place, found_by: FoundBy, now: Instant) -> Heard {
        insert(&mut self.unknown, place, found_by, UNKNOWN, now)
    }

    /// Somebody answered at an address that was dialled; `expected` is whom we dialled it for.
    pub(crate) fn answered(
        &mut self,
        expected: Option<TransportKey>,
        found: TransportKey,
        place: Place,
        roster: &BTreeSet<TransportKey>,
        now: Instant,
    ) {
        let exact = |entry: &&Entry| entry.place == place;
        let known = self.peers.get(&found).and_then(|entries| entries.iter().find(exact));
        let mut found_by = known.map_or(FoundBy::Learned, |entry| entry.found_by);
        if let Some(at) = self.unknown.iter().position(|entry| entry.place == place) {
            found_by = self.unknown.remove(at).found_by;
        }
        if let Some(expected) = expected.filter(|expected| *expected != found) {
            let entries = self.peers.get_mut(&expected).into_iter().flatten();
            for entry in entries.filter(|entry| entry.place == place) {
                entry.wrong = Some(now);
            }
        }
        if self.hear(found, place, found_by, roster, now) != Heard::Refused {
            let entries = self.peers.get_mut(&found).into_iter().flatten();
            for entry in entries.filter(|entry| entry.place == place) {
                entry.proved = true;
                entry.wrong = None;
            }
        }
    }

    /// Drops an address of nobody, for instance our own.
    pub(crate) fn forget_unknown(&mut self, place: Place) {
        self.unknown.retain(|entry| entry.place != place);
    }

    /// Drops what mDNS says is gone, unless the peer has answered there.
    pub(crate) fn expire(&mut self, key: &TransportKey, place: Place) {
        if let Some(entries) = self.peers.get_mut(key) {
            let gone = |entry: &Entry| {
                entry.place == place && entry.found_by == FoundBy::Mdns && !entry.proved
            };
            entries.retain(|entry| !gone(entry));
            if entries.is_empty() {
                self.peers.remove(key);
            }
        }
    }

    /// Returns where to dial a peer, best first.
    pub(crate) fn places(&self, key: &TransportKey, now: Instant) -> Vec<Place> {
        let mut entries: Vec<_> = self
            .peers
            .get(key)
            .into_iter()
            .flatten()
            .filter(|entry| entry.wrong.is_none_or(|at| now.duration_since(at) >= WRONG))
            .collect();
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.worth()));
        entries.into_iter().map(|entry| entry.place).collect()
    }

    /// Whether an address waits for somebody to answer.
    pub(crate) fn is_unknown(&self, place: Place) -> bool {
        self.unknown.iter().any(|entry| entry.place == place)
    }

    /// Returns the addresses of nobody yet.
    pub(crate) fn unknown(&self) -> Vec<Place> {
        self.unknown.iter().map(|entry| entry.place).collect()
    }

    /// Returns who told us that this peer is at this address, or at least on this host.
    pub(crate) fn found_by(&self, key: &TransportKey, place: Place) -> Option<FoundBy> {
        let entries = self.peers.get(key)?;
        let exact = entries.iter().find(|entry| entry.place == place);
        let host = || entries.iter().find(|entry| entry.place.socket.ip() == place.socket.ip());
        exact.or_else(host).map(|entry| entry.found_by)
    }

    /// Whether a roster peer is at this host. What mDNS says counts only once the peer has answered there: anybody near can
    /// announce any key, and send a member's beacon again from a place of his own.
    pub(crate) fn is_home_of(&self, roster: &BTreeSet<TransportKey>, host: IpAddr) -> bool {
        let there = |entry: &Entry| {
            entry.place.host() == host
                && entry.wrong.is_none()
                && (entry.proved || !matches!(entry.found_by, FoundBy::Mdns | FoundBy::Beacon))
        };
        let mut members = self.peers.iter().filter(|(key, _)| roster.contains(*key));
        members.any(|(_, entries)| entries.iter().any(there))
    }

    /// Lists the addresses of the roster and of nobody yet.
    pub(crate) fn known(&self, roster: &BTreeSet<TransportKey>) -> Vec<KnownAddress> {
        let unknown = self.unknown.iter().map(|entry| known(None, entry));
        self.listed(|key| roster.contains(key)).chain(unknown).collect()
    }

    /// Lists the addresses of everybody else.
    pub(crate) fn strangers(&self, roster: &BTreeSet<TransportKey>) -> Vec<KnownAddress> {
        self.listed(|key| !roster.contains(key)).collect()
    }

    fn listed(&self, take: impl Fn(&TransportKey) -> bool) -> impl Iterator<Item = KnownAddress> {
        self.peers
            .iter()
            .filter(move |(key, _)| take(key))
            .flat_map(|(key, entries)| entries.iter().map(|entry| known(Some(*key), entry)))
    }
}

fn known(peer: Option<TransportKey>, entry: &Entry) -> KnownAddress {
    let address = entry.place.to_multiaddr().to_string();
    KnownAddress { peer, address, found_by: entry.found_by }
}

fn insert(
    entries: &mut Vec<Entry>,
    place: Place,
    found_by: FoundBy,
    most: usize,
    now: Instant,
) -> Heard {
    let by_hand = matches!(found_by, FoundBy::Typed | FoundBy::Invite);
    if let Some(entry) = entries.iter_mut().find(|entry| entry.place == place) {
        if let Some(at) = entry.wrong {
            if !by_hand && now.duration_since(at) < WRONG {
                return Heard::Refused;
            }
            entry.wrong = None;
        }
        entry.heard = now;
        if found_by >= entry.found_by {
            return Heard::Again;
        }
        entry.found_by = found_by;
        return Heard::New;
    }
    let new = Entry { place, found_by, proved: false, wrong: None, heard: now };
    if entries.len() >= most {
        let least =
            entries.iter().enumerate().min_by_key(|(_, entry)| entry.worth()).map(|(at, _)| at);
        match least {
            Some(at) if entries.get(at).is_some_and(|entry| entry.worth() < new.worth()) => {
                entries.remove(at);
            }
            _ => return Heard::Refused,
        }
    }
    entries.push(new);
    Heard::New
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::address::Transport;

    fn place(port: u16) -> Place {
        Place { socket: ([10, 0, 0, 1], port).into(), transport: Transport::Tcp }
    }

    fn key(n: u16) -> TransportKey {
        let mut bytes = [0; 32];
        bytes[..2].copy_from_slice(&n.to_be_bytes());
        bytes.into()
    }

    #[test]
    fn a_flood_of_forged_announcements_takes_no_place_of_a_roster_peer() {
        let (mut book, roster, now) = (Book::default(), BTreeSet::from([key(1)]), Instant::now());
        assert_eq!(book.hear(key(1), place(1), FoundBy::Typed, &roster, now), Heard::New);
        for n in 2..20_000 {
            book.hear(key(n), place(n), FoundBy::Mdns, &roster, now);
        }
        assert_eq!(book.peers.len(), PEERS);
        assert_eq!(book.places(&key(1), now), [place(1)]);
        let last = book.hear(key(20_001), place(1), FoundBy::Typed, &roster, now);
        assert_eq!(last, Heard::New, "a person's own word always finds room among strangers");
    }

    #[test]
    fn forged_addresses_of_one_peer_drive_out_neither_typed_nor_proved_ones() {
        let (mut book, roster, now) = (Book::default(), BTreeSet::from([key(1)]), Instant::now());
        book.hear(key(1), place(1), FoundBy::Typed, &roster, now);
        book.hear(key(1), place(2), FoundBy::Mdns, &roster, now);
        book.answered(Some(key(1)), key(1), place(2), &roster, now);
        for port in 100..1_000 {
            let later = now + Duration::from_millis(u64::from(port));
            book.hear(key(1), place(port), FoundBy::Mdns, &roster, later);
        }
        assert_eq!(book.found_by(&key(1), place(2)), Some(FoundBy::Mdns), "and mDNS found it");
        let places = book.places(&key(1), now);
        assert_eq!(places.len(), limits::ADDRESSES_PER_PEER);
        assert_eq!(places[0], place(2), "where the peer answered comes first");
        assert_eq!(places[1], place(1));
        assert_eq!(places[2], place(999), "then what was heard last");
    }

    #[test]
    fn an_address_where_somebody_else_answers_is_his_and_left_alone() {
        let (mut book, roster, now) = (Book::default(), BTreeSet::from([key(1)]), Instant::now());
        book.hear(key(1), place(1), FoundBy::Mdns, &roster, now);
        book.answered(Some(key(1)), key(2), place(1), &roster, now);
        assert!(book.places(&key(1), now).is_empty());
        assert_eq!(book.hear(key(1), place(1), FoundBy::Mdns, &roster, now), Heard::Refused);
        assert_eq!(book.hear(key(1), place(1), FoundBy::Typed, &roster, now), Heard::New);
        assert_eq!(book.places(&key(1), now), [place(1)]);
        assert_eq!(book.strangers(&roster).len(), 1);
    }

    #[test]
    fn a_typed_address_becomes_the_address_of_whoever_answers() {
        let (mut book, roster, now) = (Book::default(), BTreeSet::from([key(1)]), Instant::now());
        book.hear_unknown(place(1), FoundBy::Typed, now);
        assert_eq!(book.known(&roster)[0].peer, None);
        book.answered(None, key(1), place(1), &roster, now);
        let known = book.known(&roster);
        assert_eq!(
            (known.len(), known[0].peer, known[0].found_by),
            (1, Some(key(1)), FoundBy::Typed)
        );
        assert!(book.unknown().is_empty());
    }
}
