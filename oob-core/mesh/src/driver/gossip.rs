//! Gossip: what goes out, what comes in and waits for its verdict, and neighbours that do not take part.

use bytes::Bytes;
use libp2p::{
    PeerId,
    gossipsub::{self, PublishError},
    swarm::ConnectionId,
};
use oob_proto::TransportKey;
use tokio::time::Instant;

use super::Driver;
use crate::{
    deaf::Silence,
    event::{DownReason, Gossip, GossipId, GossipRoom, MeshEvent, Verdict},
    gossip::id_of,
    identity,
    quarantine::Source,
};

/// Gossip that may wait for its verdict, bytes: of all neighbours, and of one of them, so that one who floods leaves
/// room for the others. What comes when there is no room is dropped, and sync brings it.
pub(super) const ROOM: usize = 4 * 1024 * 1024;
const ROOM_OF_ONE: usize = 1024 * 1024;

/// What each message takes besides its bytes: so the room also bounds their number.
const EACH: usize = 1024;

/// Refused messages of one link that are forgiven: an honest neighbour has checked what it passes on, so there should
/// be none, and one in so many seconds is forgotten.
const FORGIVEN: f64 = 8.0;
const FORGOTTEN_S: f64 = 10.0;

/// The gossip with one neighbour, as long as its link lives.
pub(super) struct Neighbour {
    silence: Silence,
    room: GossipRoom,
    strikes: f64,
    struck: Instant,
}

impl Neighbour {
    pub(super) fn new() -> Self {
        Self {
            silence: Silence::default(),
            room: GossipRoom::of(ROOM_OF_ONE),
            strikes: 0.0,
            struck: Instant::now(),
        }
    }

    /// Counts a refused message; says whether it was one too many.
    fn strike(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.struck).as_secs_f64();
        self.strikes = (self.strikes - passed / FORGOTTEN_S).max(0.0) + 1.0;
        self.struck = now;
        self.strikes > FORGIVEN
    }
}

impl Driver {
    /// Gossips under the topic the mesh has now.
    pub(super) fn subscribe(&mut self) {
        let topic = self.shared.topic().clone();
        if let Some(topic) = topic {
            self.swarm.behaviour_mut().gossip.subscribe(&topic);
        }
    }

    pub(super) fn publish(&mut self, data: Bytes) {
        let counts = &self.shared.counts;
        match self.swarm.behaviour_mut().gossip.publish(data.into()) {
            Ok(()) => counts.gossip_sent.add(),
            // It has gone round already.
            Err(PublishError::Duplicate) => {}
            Err(error) => {
                tracing::debug!(%error, "nobody to gossip to");
                counts.gossip_unsent.add();
            }
        }
    }

    /// A link is up: gossip on it.
    pub(super) fn begin_gossip(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.gossip = Some(Neighbour::new());
        self.swarm.behaviour_mut().gossip.begin(connection.peer, id, &connection.point);
    }

    /// A link is down.
    pub(super) fn end_gossip(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if connection.gossip.take().is_some() {
            self.swarm.behaviour_mut().gossip.end(&connection.peer);
        }
    }

    pub(super) fn handle_gossip(&mut self, event: gossipsub::Event) {
        match event {
            gossipsub::Event::Message { propagation_source, message, .. } => {
                self.gossip_came(&propagation_source, message.data);
            }
            gossipsub::Event::Subscribed { peer_id, topic } => {
                self.has_subscribed(&peer_id, &topic, true);
            }
            gossipsub::Event::Unsubscribed { peer_id, topic } => {
                self.has_subscribed(&peer_id, &topic, false);
            }
            gossipsub::Event::SlowPeer { failed_messages, .. } => {
                let failed = failed_messages.priority.saturating_add(failed_messages.non_priority);
                let failed = u64::try_from(failed).unwrap_or(u64::MAX);
                self.shared.counts.gossip_slow.add_many(failed);
            }
            // Its silence will be seen.
            gossipsub::Event::GossipsubNotSupported { .. } => {}
        }
    }

    fn neighbour(&mut self, key: &TransportKey) -> Option<&mut Neighbour> {
        let id = self.standing.get(key)?;
        self.connections.get_mut(id)?.gossip.as_mut()
    }

    fn gossip_came(&mut self, peer: &PeerId, data: Vec<u8>) {
        let data = Bytes::from(data);
        let quarantine = self.shared.quarantine.clone();
        let taken = quarantine.guard(Source::Gossip, &data, || self.take_gossip(peer, &data));
        if taken.is_none() {
            // It made this task fail before. Nobody is blamed: its author may be somebody else.
            self.swarm.behaviour_mut().gossip.judge(&id_of(&data), peer, Verdict::Ignore);
        }
    }

    fn take_gossip(&mut self, peer: &PeerId, data: &Bytes) {
        self.shared.counts.gossip_received.add();
        let Some(from) = identity::key_of(peer) else { return };
        let id = id_of(data);
        let size = data.len().saturating_add(EACH);
        let share = self.neighbour(&from).and_then(|neighbour| neighbour.room.take(size));
        let room = share.and_then(|share| Some([share, self.gossip_room.take(size)?]));
        match room {
            Some(room) => {
                let data = data.clone();
                self.outbox.push(MeshEvent::Gossip(Gossip { id, from, data, _room: room }));
            }
            None => {
                self.shared.counts.gossip_dropped.add();
                self.swarm.behaviour_mut().gossip.judge(&id, peer, Verdict::Ignore);
            }
        }
    }

    pub(super) fn judge(&mut self, id: &GossipId, from: &TransportKey, verdict: Verdict) {
        let Some(peer) = identity::peer_of(from) else { return };
        self.swarm.behaviour_mut().gossip.judge(id, &peer, verdict);
        if verdict != Verdict::Reject {
            return;
        }
        self.shared.counts.gossip_rejected.add();
        let now = Instant::now();
        let too_many = self.neighbour(from).is_some_and(|neighbour| neighbour.strike(now));
        if too_many && let Some(id) = self.standing.get(from).copied() {
            self.end_link(id, DownReason::Misbehaved);
            self.swarm.close_connection(id);
        }
    }

    fn has_subscribed(&mut self, peer: &PeerId, topic: &gossipsub::TopicHash, on: bool) {
        if !self.swarm.behaviour().gossip.is_ours(topic) {
            return;
        }
        let Some(key) = identity::key_of(peer) else { return };
        if on {
            self.deaf.remove(&key);
        }
        if let Some(neighbour) = self.neighbour(&key) {
            neighbour.silence.subscribed(on);
        }
        if let Some(live) = self.shared.live().get_mut(&key) {
            live.gossips = on;
        }
    }

    /// Closes links on which nothing was subscribed to for so long that it never will be: both sides dial again, and the
    /// subscriptions go out once more.
    pub(super) fn close_deaf_links(&mut self, now: Instant) {
        if !self.swarm.behaviour().gossip.is_subscribed() {
            return;
        }
        let mut silent = Vec::new();
        for (id, connection) in &mut self.connections {
            if connection.gossip.as_mut().is_some_and(|neighbour| neighbour.silence.look()) {
                silent.push((*id, connection.key));
            }
        }
        for (id, key) in silent {
            if self.deaf.entry(key).or_default().cure(now) {
                self.shared.counts.deaf_links.add();
                self.end_link(id, DownReason::Deaf);
                self.swarm.close_connection(id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn one_refused_message_in_ten_seconds_is_forgiven_for_ever_and_nine_at_once_are_not() {
        let mut neighbour = Neighbour::new();
        let mut now = Instant::now();
        for _ in 0..1_000 {
            assert!(!neighbour.strike(now));
            now += Duration::from_secs(10);
        }
        now += Duration::from_secs(100);
        let struck: Vec<bool> = (0..9).map(|_| neighbour.strike(now)).collect();
        assert_eq!(struck.iter().filter(|one_too_many| **one_too_many).count(), 1);
        assert!(struck[8]);
    }
}
