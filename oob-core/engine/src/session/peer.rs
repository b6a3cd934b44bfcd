//! The state of all sessions with one device, and the tags its next envelopes will carry.

use crate::{
    own::BUNDLE_KEPT_MS,
    stored::{self, RecordError},
};
use oob_crypto::{InChannel, OutChannel, PairSession};
use oob_proto::{BundleId, DeviceId, Incarnation, Message, wire};
use oob_store::Store;
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// Olm sessions kept per device: two of a simultaneous first contact, and a few that lost states left behind.
pub(super) const SESSIONS: usize = 8;

/// Receiving channels kept per device: the newest, and those whose last messages are still under way.
pub(super) const CHANNELS: usize = 32;

/// Names a receiving channel.
pub(super) type ChannelId = [u8; 32];

/// Sessions with all devices.
#[derive(Default)]
pub(crate) struct Peers {
    pub(super) peers: BTreeMap<DeviceId, Peer>,
    /// Tag of every message waited for, to the channel and number it has.
    pub(super) tags: BTreeMap<[u8; 16], (DeviceId, ChannelId, u64)>,
    /// Tags waited for since somebody last asked: what came before its time may be carried here already.
    pub(super) fresh_tags: Vec<[u8; 16]>,
}

/// Sessions with one device.
#[derive(Default)]
pub(super) struct Peer {
    pub(super) out: Option<OutEnd>,
    pub(super) ins: Vec<InEnd>,
    pub(super) sessions: Vec<Olm>,
    /// Messages that wait for their turn, by session.
    pub(super) waiting: BTreeMap<[u8; 32], u64>,
    /// The life the device is in, once it began another one.
    pub(super) life: Option<Incarnation>,
    pub(super) dirty: bool,
}

/// The channel this device sends on.
pub(super) struct OutEnd {
    pub(super) channel: OutChannel,
    pub(super) bundle: BundleId,
    pub(super) opened_ms: u64,
}

/// A channel the other device sends on.
pub(super) struct InEnd {
    pub(super) channel: InChannel,
    /// The own bundle it was opened to.
    pub(super) bundle: BundleId,
    /// Elapsed time when a newer one was opened; 0 while it is the newest.
    pub(super) replaced_ms: u64,
    /// Numbers whose tags are in the table.
    pub(super) wanted: Vec<u64>,
}

/// One ratchet.
pub(super) struct Olm {
    pub(super) session: PairSession,
    pub(super) id: [u8; 32],
    /// Whether this device began it.
    pub(super) ours: bool,
    pub(super) next_out: u64,
    pub(super) next_in: u64,
    /// Record that brought the newest message opened, and the life it is of.
    pub(super) last: (Incarnation, u64),
    /// The other device has lost it: it still opens what was under way, and nothing is sent on it.
    pub(super) retired: bool,
    /// The life in which the other device said that it has this session. Not kept: after a start it says so again.
    pub(super) begun_in: Option<Incarnation>,
}

impl Peers {
    /// Loads the sessions with one device.
    pub(crate) fn load(&mut self, store: &Store, device: &DeviceId) -> Result<(), RecordError> {
        const AREA: &str = "sessions";
        let unreadable = || RecordError::Unreadable { area: AREA };
        let Some(bytes) = store.secret(&stored::peer_secret(device))? else { return Ok(()) };
        let raw: wire::StoredPeer = stored::decode(&bytes, AREA)?;
        let mut peer = Peer { life: raw.life.map(Incarnation), ..Peer::default() };
        if let Some(out) = raw.out {
            let state = Zeroizing::new(out.state);
            peer.out = Some(OutEnd {
                channel: OutChannel::from_secret(&state).map_err(|_| unreadable())?,
                bundle: BundleId::try_from(out.bundle.as_slice()).map_err(|_| unreadable())?,
                opened_ms: out.opened_ms,
            });
        }
        for end in raw.ins {
            let state = Zeroizing::new(end.state);
            peer.ins.push(InEnd {
                channel: InChannel::from_secret(&state).map_err(|_| unreadable())?,
                bundle: BundleId::try_from(end.bundle.as_slice()).map_err(|_| unreadable())?,
                replaced_ms: end.replaced_ms,
                wanted: Vec::new(),
            });
        }
        for olm in raw.sessions {
            let state = Zeroizing::new(olm.state);
            peer.sessions.push(Olm {
                session: PairSession::from_secret(&state).map_err(|_| unreadable())?,
                id: olm.id.as_slice().try_into().map_err(|_| unreadable())?,
                ours: olm.ours,
                next_out: olm.next_out,
                next_in: olm.next_in,
                last: (Incarnation(olm.last_incarnation), olm.last_seq),
                retired: olm.retired,
                begun_in: None,
            });
        }
        for waiting in raw.waiting {
            let session = waiting.session.as_slice().try_into().map_err(|_| unreadable())?;
            peer.waiting.insert(session, waiting.count);
        }
        for end in &mut peer.ins {
            end.refresh_tags(device, &mut self.tags);
        }
        self.peers.insert(*device, peer);
        Ok(())
    }

    /// Takes note that a device began another life, for which it has no ratchet of the one before: what is sent to it goes
    /// over a channel and a session of their own. What it sent before still opens.
    pub(crate) fn retire(&mut self, device: &DeviceId, life: Incarnation) {
        let peer = self.peers.entry(*device).or_default();
        peer.life = Some(life);
        peer.out = None;
        for olm in peer.sessions.iter_mut().filter(|olm| olm.last.0 != life) {
            olm.retired = true;
        }
        peer.dirty = true;
    }

    /// Forgets every session with everybody, and what waits for its turn in them: they may have been used beyond what is
    /// known here.
    pub(crate) fn forget_all(&mut self, store: &mut Store) -> Result<(), RecordError> {
        for id in self.peers.values().flat_map(|peer| peer.waiting.keys()) {
            let bag = stored::held_olm(id);
            for (n, _) in store.scan(&bag, .., oob_store::Order::Ascending, usize::MAX)? {
                store.delete(&bag, n);
            }
        }
        for name in store.secret_names(stored::PEER_PREFIX) {
            store.delete_secret(&name);
        }
        *self = Self::default();
        Ok(())
    }

    /// Messages of one device that wait for their turn, of the device that has most.
    #[cfg(feature = "sim")]
    pub(crate) fn most_waiting(&self) -> u64 {
        self.peers.values().map(|peer| peer.waiting.values().sum()).max().unwrap_or(0)
    }

    /// Whether messages of a device wait for their turn.
    pub(crate) fn is_waiting(&self, device: &DeviceId) -> bool {
        self.peers.get(device).is_some_and(|peer| !peer.waiting.is_empty())
    }

    /// Takes the tags waited for since this was last asked.
    pub(crate) fn take_fresh_tags(&mut self) -> Vec<[u8; 16]> {
        std::mem::take(&mut self.fresh_tags)
    }

    /// Puts every session that moved into the pending batch, and forgets replaced channels that are done or old.
    pub(crate) fn save_dirty(&mut self, store: &mut Store, elapsed_ms: u64) {
        for (device, peer) in self.peers.iter_mut().filter(|(_, peer)| peer.dirty) {
            peer.dirty = false;
            peer.forget_channels(elapsed_ms, &mut self.tags);
            let raw = peer.to_stored();
            store.put_secret(&stored::peer_secret(device), &Zeroizing::new(raw.encode_to_vec()));
        }
    }
}

impl Peer {
    fn forget_channels(
        &mut self,
        elapsed_ms: u64,
        tags: &mut BTreeMap<[u8; 16], (DeviceId, ChannelId, u64)>,
    ) {
        let many = self.ins.len().saturating_sub(CHANNELS);
        let mut place = 0usize;
        self.ins.retain_mut(|end| {
            let is_old =
                end.replaced_ms != 0 && elapsed_ms.saturating_sub(end.replaced_ms) > BUNDLE_KEPT_MS;
            let keep = !is_old && !end.channel.is_done() && place >= many;
            place = place.saturating_add(1);
            if !keep {
                for n in &end.wanted {
                    tags.remove(&end.channel.tag(*n));
                }
            }
            keep
        });
    }

    fn to_stored(&self) -> wire::StoredPeer {
        wire::StoredPeer {
            out: self.out.as_ref().map(|out| wire::StoredOutChannel {
                state: out.channel.export_secret().to_vec(),
                bundle: out.bundle.to_vec(),
                opened_ms: out.opened_ms,
            }),
            ins: self
                .ins
                .iter()
                .map(|end| wire::StoredInChannel {
                    state: end.channel.export_secret().to_vec(),
                    bundle: end.bundle.to_vec(),
                    replaced_ms: end.replaced_ms,
                })
                .collect(),
            sessions: self
                .sessions
                .iter()
                .map(|olm| wire::StoredOlm {
                    state: olm.session.export_secret().to_vec(),
                    id: olm.id.to_vec(),
                    ours: olm.ours,
                    next_out: olm.next_out,
                    next_in: olm.next_in,
                    last_seq: olm.last.1,
                    last_incarnation: olm.last.0.0,
                    retired: olm.retired,
                })
                .collect(),
            waiting: self
                .waiting
                .iter()
                .map(|(session, count)| wire::StoredWaiting {
                    session: session.to_vec(),
                    count: *count,
                })
                .collect(),
            life: self.life.map(|life| life.0),
        }
    }
}

impl InEnd {
    /// Brings the tag table up to the numbers waited for now.
    pub(super) fn refresh_tags(
        &mut self,
        device: &DeviceId,
        tags: &mut BTreeMap<[u8; 16], (DeviceId, ChannelId, u64)>,
    ) -> Vec<[u8; 16]> {
        let mut fresh = Vec::new();
        // This runs for each message: a growing list would be moved several times.
        let mut now = Vec::with_capacity(self.wanted.len().saturating_add(2));
        let mut before = self.wanted.iter().copied().peekable();
        for n in self.channel.wanted() {
            now.push(n);
            // Both ascend: what the one passes over is in the other alone.
            while let Some(gone) = before.next_if(|known| *known < n) {
                tags.remove(&self.channel.tag(gone));
            }
            if before.next_if_eq(&n).is_none() {
                let tag = self.channel.tag(n);
                tags.insert(tag, (*device, *self.channel.id(), n));
                fresh.push(tag);
            }
        }
        for gone in before {
            tags.remove(&self.channel.tag(gone));
        }
        self.wanted = now;
        fresh
    }
}
