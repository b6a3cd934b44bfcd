//! Whom to dial, when, and what became of it.

use libp2p::{
    mdns,
    swarm::{
        ConnectionId, DialError,
        dial_opts::{DialOpts, PeerCondition},
    },
};
use oob_proto::TransportKey;
use rand::RngExt;
use tokio::time::Instant;

use super::{Ask, Driver, Purpose, Role, Whom};
use crate::{
    address::{FoundBy, Place},
    book::Heard,
    config::MeshError,
    identity,
    redial::Redial,
};

/// A number between 0 and 1, so that devices that lost each other together do not come back in step.
pub(super) fn jitter() -> f64 {
    rand::rng().random()
}

impl Driver {
    /// Something was heard of a peer.
    pub(super) fn hear(&mut self, key: TransportKey) {
        if self.is_wanted(&key) {
            self.redial(key).hear(Instant::now());
        }
    }

    /// A connection to a peer that we had dialled for something else has ended.
    pub(super) fn hear_as_caller(&mut self, key: TransportKey) {
        if self.is_wanted(&key) {
            self.redial(key).hear_as_caller(Instant::now());
        }
    }

    /// A peer said that it is somewhere new.
    pub(super) fn hear_elsewhere(&mut self, key: TransportKey) {
        if !self.is_wanted(&key) {
            return;
        }
        // A connection there is or is about to be, say of a join, would be given up with the dial.
        let joining = |purpose: &Purpose| matches!(purpose, Purpose::Join(ask) if ask.key.is_none_or(|asked| asked == key));
        if self.connections.values().any(|connection| connection.key == key)
            || self.dials.values().any(joining)
        {
            self.hear_as_caller(key);
            return;
        }
        if !self.redial(key).hear_elsewhere(Instant::now()) {
            return;
        }
        let given_up = |purpose: &Purpose| matches!(purpose, Purpose::Peer(of) if *of == key);
        self.dials.retain(|_, purpose| !given_up(purpose));
        if let Some(peer) = identity::peer_of(&key) {
            // An error: the dial has ended by itself.
            let _ = self.swarm.disconnect_peer_id(peer);
        }
    }

    fn is_wanted(&self, key: &TransportKey) -> bool {
        self.shared.admits(key)
            && !self.standing.contains_key(key)
            && !self.shared.book().places(key, Instant::now()).is_empty()
    }

    /// An address of nobody yet was given.
    pub(super) fn hear_unknown(&mut self, place: Place) {
        let redial = self.redials.entry(Whom::Unknown(place));
        redial.or_insert_with(|| Redial::new(true)).hear(Instant::now());
    }

    /// Something has changed for everybody: an interface, the clock, the roster.
    pub(super) fn hear_everybody(&mut self) {
        let keys: Vec<_> = self.shared.roster().iter().copied().collect();
        for key in keys {
            self.hear(key);
        }
        let unknown = self.shared.book().unknown();
        for place in unknown {
            self.hear_unknown(place);
        }
    }

    pub(super) fn redial(&mut self, key: TransportKey) -> &mut Redial {
        let first = self.shared.key < key;
        self.redials.entry(Whom::Peer(key)).or_insert_with(|| Redial::new(first))
    }

    pub(super) fn handle_mdns(&mut self, event: mdns::Event) {
        let now = Instant::now();
        match event {
            mdns::Event::Discovered(heard) => {
                for (peer, address) in heard {
                    let place = Place::from_multiaddr(&address).map(|(place, _)| place);
                    let (Some(key), Some(place)) = (identity::key_of(&peer), place) else {
                        continue;
                    };
                    if key == self.shared.key || !place.is_dialable() {
                        continue;
                    }
                    if self.shared.private_only && !place.is_private() {
                        self.shared.counts.addresses_refused.add();
                        continue;
                    }
                    let roster = self.shared.roster().clone();
                    let heard = self.shared.book().hear(key, place, FoundBy::Mdns, &roster, now);
                    match heard {
                        Heard::Refused => self.shared.counts.addresses_refused.add(),
                        Heard::New | Heard::Again => self.hear(key),
                    }
                }
            }
            mdns::Event::Expired(gone) => {
                for (peer, address) in gone {
                    let place = Place::from_multiaddr(&address).map(|(place, _)| place);
                    if let (Some(key), Some(place)) = (identity::key_of(&peer), place) {
                        self.shared.book().expire(&key, place);
                    }
                }
            }
        }
    }

    /// Returns when the next dial is due.
    pub(super) fn next_dial(&self) -> Option<Instant> {
        let due = self.redials.values().filter_map(Redial::due).min()?;
        Some(self.spent_until.map_or(due, |until| due.max(until)))
    }

    /// Dials whoever is due.
    pub(super) fn dial_due(&mut self) {
        let now = Instant::now();
        if self.spent_until.is_some_and(|until| until > now) {
            return;
        }
        self.spent_until = None;
        let mut due: Vec<_> = self
            .redials
            .iter()
            .filter_map(|(whom, redial)| Some((redial.due()?, *whom)))
            .filter(|(at, _)| *at <= now)
            .collect();
        due.sort();
        for (_, whom) in due {
            let places = match whom {
                Whom::Peer(key) if !self.shared.admits(&key) => {
                    self.redials.remove(&whom);
                    continue;
                }
                Whom::Peer(key) if self.standing.contains_key(&key) => {
                    self.redial(key).succeed();
                    continue;
                }
                Whom::Peer(key) => self.shared.book().places(&key, now),
                Whom::Unknown(place) if self.shared.book().is_unknown(place) => vec![place],
                Whom::Unknown(_) => Vec::new(),
            };
            if places.is_empty() {
                self.redials.remove(&whom);
                continue;
            }
            if let Err(until) = self.budget.take(now) {
                self.spent_until = Some(until);
                return;
            }
            self.dial(whom, &places, now);
        }
    }

    fn dial(&mut self, whom: Whom, places: &[Place], now: Instant) {
        let Some(redial) = self.redials.get_mut(&whom) else { return };
        let condition = match redial.follows_another(now) {
            true => PeerCondition::Disconnected,
            false => PeerCondition::DisconnectedAndNotDialing,
        };
        redial.begin(now);
        let (purpose, opts) = match whom {
            Whom::Peer(key) => {
                let Some(peer) = identity::peer_of(&key) else {
                    self.redials.remove(&whom);
                    return;
                };
                let addresses = places.iter().map(|place| place.to_multiaddr()).collect();
                let opts =
                    DialOpts::peer_id(peer).condition(condition).addresses(addresses).build();
                (Purpose::Peer(key), opts)
            }
            Whom::Unknown(place) => {
                let address = place.to_multiaddr();
                let opts = DialOpts::unknown_peer_id().address(address).build();
                (Purpose::Unknown(place), opts)
            }
        };
        let id = opts.connection_id();
        self.dials.insert(id, purpose);
        self.shared.counts.dials.add();
        if let Err(error) = self.swarm.dial(opts) {
            self.handle_dial_error(id, &error);
        }
    }

    /// Dials somebody to be admitted, whoever it is.
    pub(super) fn dial_join(&mut self, ask: Ask) {
        let address = ask.place.to_multiaddr();
        let peer = ask.key.as_ref().and_then(identity::peer_of);
        let opts = match peer {
            Some(peer) => DialOpts::peer_id(peer)
                .condition(PeerCondition::Always)
                .addresses(vec![address])
                .build(),
            None => DialOpts::unknown_peer_id().address(address).build(),
        };
        let id = opts.connection_id();
        let behaviour = self.swarm.behaviour_mut();
        behaviour.admission.expect_join(id);
        behaviour.gossip.expect_join(id);
        self.dials.insert(id, Purpose::Join(ask));
        self.shared.counts.dials.add();
        if let Err(error) = self.swarm.dial(opts) {
            self.handle_dial_error(id, &error);
        }
    }

    pub(super) fn handle_dial_error(&mut self, id: ConnectionId, error: &DialError) {
        let Some(purpose) = self.dials.remove(&id) else { return };
        let now = Instant::now();
        if let (Purpose::Peer(_), DialError::DialPeerConditionFalse(_)) = (&purpose, error) {
            if let Purpose::Peer(key) = purpose {
                self.redial(key).postpone(now);
            }
            return;
        }
        tracing::debug!(%error, ?purpose, "a dial came to nothing");
        self.shared.counts.dials_failed.add();
        if let DialError::WrongPeerId { obtained, address } = error {
            let place = Place::from_multiaddr(address).map(|(place, _)| place);
            if let (Some(found), Some(place)) = (identity::key_of(obtained), place) {
                let expected = match &purpose {
                    Purpose::Peer(key) => Some(*key),
                    Purpose::Unknown(_) => None,
                    Purpose::Join(ask) => ask.key,
                };
                let roster = self.shared.roster().clone();
                self.shared.book().answered(expected, found, place, &roster, now);
                self.hear(found);
            }
        }
        match purpose {
            Purpose::Peer(key) => self.redial(key).fail(now, jitter()),
            Purpose::Unknown(place) if is_ourselves(error) => {
                // Our own address: nobody else will answer there.
                self.shared.book().forget_unknown(place);
                self.redials.remove(&Whom::Unknown(place));
            }
            Purpose::Unknown(place) => {
                if let Some(redial) = self.redials.get_mut(&Whom::Unknown(place)) {
                    redial.fail(now, jitter());
                }
            }
            Purpose::Join(ask) => {
                let address = ask.place.to_multiaddr().to_string();
                let reason = reason(error);
                let _ = ask.reply.send(Err(MeshError::Unreachable { address, reason }));
            }
        }
    }

    /// A dial came through: we know who is there.
    pub(super) fn somebody_answered(&mut self, role: &Role, key: TransportKey, place: Place) {
        let roster = self.shared.roster().clone();
        self.shared.book().answered(None, key, place, &roster, Instant::now());
        if !matches!(role, Role::Joining(_)) {
            self.redials.remove(&Whom::Unknown(place));
        }
    }
}

/// Whether a dial failed since we were about to dial ourselves; libp2p takes addresses we listen on out of the list.
fn is_ourselves(error: &DialError) -> bool {
    matches!(error, DialError::LocalPeerId { .. } | DialError::NoAddresses)
}

/// Says why a dial failed in words for a person; the chain of libp2p repeats itself.
fn reason(error: &DialError) -> String {
    match error {
        error if is_ourselves(error) => "this device itself answers there".to_owned(),
        DialError::WrongPeerId { .. } => "another device answers there".to_owned(),
        DialError::Transport(errors) => {
            let innermost = errors.iter().map(|(_, error)| {
                let mut error: &(dyn std::error::Error + 'static) = error;
                while let Some(next) = error.source() {
                    error = next;
                }
                error.to_string()
            });
            innermost.collect::<Vec<_>>().join("; ")
        }
        other => other.to_string(),
    }
}
