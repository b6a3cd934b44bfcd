//! What the handle, the swarm task and its successor after a fault all see.

use oob_proto::TransportKey;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    address::{FoundBy, Transport},
    book::Book,
    event::{Counters, Health, PeerInfo},
    join::Progress,
    quarantine::Quarantine,
    topic::Topic,
};

/// A live link as the handle shows it.
#[derive(Debug, Clone)]
pub(crate) struct Live {
    pub(crate) transport: Transport,
    pub(crate) found_by: FoundBy,
    pub(crate) address: String,
    pub(crate) outgoing: bool,
    pub(crate) heard: Arc<Progress>,
    pub(crate) gossips: bool,
}

/// Where we listen.
#[derive(Debug, Clone, Default)]
pub(crate) struct Listening {
    /// Multiaddrs with `/p2p/`, for other devices.
    pub(crate) addresses: Vec<String>,
    pub(crate) moved_port: Option<u16>,
}

/// The state that outlives one swarm. Each lock is held for a few lines and never across an await.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) key: TransportKey,
    pub(crate) private_only: bool,
    pub(crate) counts: Counts,
    pub(crate) quarantine: Quarantine,
    health: Mutex<Health>,
    roster: Mutex<BTreeSet<TransportKey>>,
    book: Mutex<Book>,
    live: Mutex<BTreeMap<TransportKey, Live>>,
    listening: Mutex<Listening>,
    topic: Mutex<Option<Topic>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while one of these was held leaves plain values behind, none of them half written.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(key: TransportKey, private_only: bool) -> Self {
        Self {
            key,
            private_only,
            counts: Counts::default(),
            quarantine: Quarantine::default(),
            health: Mutex::default(),
            roster: Mutex::default(),
            book: Mutex::default(),
            live: Mutex::default(),
            listening: Mutex::default(),
            topic: Mutex::default(),
        }
    }

    pub(crate) fn health(&self) -> MutexGuard<'_, Health> {
        lock(&self.health)
    }

    pub(crate) fn roster(&self) -> MutexGuard<'_, BTreeSet<TransportKey>> {
        lock(&self.roster)
    }

    pub(crate) fn admits(&self, key: &TransportKey) -> bool {
        self.roster().contains(key)
    }

    pub(crate) fn book(&self) -> MutexGuard<'_, Book> {
        lock(&self.book)
    }

    /// Whether the address book knows a roster peer at this host.
    pub(crate) fn is_home_of_member(&self, host: IpAddr) -> bool {
        let roster = self.roster().clone();
        self.book().is_home_of(&roster, host)
    }

    pub(crate) fn live(&self) -> MutexGuard<'_, BTreeMap<TransportKey, Live>> {
        lock(&self.live)
    }

    pub(crate) fn listening(&self) -> MutexGuard<'_, Listening> {
        lock(&self.listening)
    }

    pub(crate) fn topic(&self) -> MutexGuard<'_, Option<Topic>> {
        lock(&self.topic)
    }

    pub(crate) fn peers(&self) -> Vec<PeerInfo> {
        let live = self.live();
        let info = live.iter().map(|(key, link)| PeerInfo {
            key: *key,
            transport: link.transport,
            found_by: link.found_by,
            address: link.address.clone(),
            outgoing: link.outgoing,
            last_heard: link.heard.last().into_std(),
            gossips: link.gossips,
        });
        info.collect()
    }
}

/// The counters while they count.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) inbound_failed: Count,
    pub(crate) inbound_refused: Count,
    pub(crate) strangers: Count,
    pub(crate) strangers_expired: Count,
    pub(crate) frames_malformed: Count,
    pub(crate) dials: Count,
    pub(crate) dials_failed: Count,
    pub(crate) addresses_refused: Count,
    pub(crate) faults: Count,
    pub(crate) gossip_sent: Count,
    pub(crate) gossip_unsent: Count,
    pub(crate) gossip_received: Count,
    pub(crate) gossip_dropped: Count,
    pub(crate) gossip_rejected: Count,
    pub(crate) gossip_slow: Count,
    pub(crate) deaf_links: Count,
    pub(crate) beacons_sent: Count,
    pub(crate) beacons_heard: Count,
    pub(crate) beacons_dropped: Count,
}

/// One counter.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self) {
        self.add_many(1);
    }

    pub(crate) fn add_many(&self, many: u64) {
        self.0.fetch_add(many, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Counts {
    pub(crate) fn read(&self) -> Counters {
        Counters {
            inbound_failed: self.inbound_failed.get(),
            inbound_refused: self.inbound_refused.get(),
            strangers: self.strangers.get(),
            strangers_expired: self.strangers_expired.get(),
            frames_malformed: self.frames_malformed.get(),
            dials: self.dials.get(),
            dials_failed: self.dials_failed.get(),
            addresses_refused: self.addresses_refused.get(),
            faults: self.faults.get(),
            gossip_sent: self.gossip_sent.get(),
            gossip_unsent: self.gossip_unsent.get(),
            gossip_received: self.gossip_received.get(),
            gossip_dropped: self.gossip_dropped.get(),
            gossip_rejected: self.gossip_rejected.get(),
            gossip_slow: self.gossip_slow.get(),
            deaf_links: self.deaf_links.get(),
            beacons_sent: self.beacons_sent.get(),
            beacons_heard: self.beacons_heard.get(),
            beacons_dropped: self.beacons_dropped.get(),
        }
    }
}
