//! What a neighbour says on its stream, and what it is told at the end of each batch.

use crate::{
    conversation::Arrival,
    cx::Cx,
    effect::Effect,
    envelope::Screened,
    input::Arrived,
    model::{Device, LinkId},
    outbox::Carries,
    record::RecordTaken,
    state::State,
    stored::{self, RecordError},
    sync::{Greeting, Owing, have},
};
use oob_proto::{
    EpochId, Message, OpHash, TransportKey, limits,
    wire::{self, Frame, frame::Kind},
};
use std::collections::BTreeMap;

/// Operations read from the store for one stream in one batch, so that one newcomer does not hold up the others.
const OPS_PER_BATCH: usize = 256;

/// A neighbour that sent too much that was bad is not talked to for so long.
const SHUNNED_MS: u64 = 60_000;

/// What became of a frame.
struct Taken {
    /// It counts against credit.
    record: bool,
    /// A correct neighbour may send it.
    good: bool,
}

impl Taken {
    const RECORD: Self = Self { record: true, good: true };
    const CONTROL: Self = Self { record: false, good: true };
}

/// Devices whose addresses are told in one frame: with sixteen long addresses each they stay under 64 KiB.
const TOLD_ADDRESSES: usize = 14;

impl State {
    /// Greets a neighbour, or ends the stream of somebody who is none.
    pub(crate) fn link_up(&mut self, cx: &mut Cx<'_>, link: LinkId, peer: &TransportKey) {
        let device = self
            .organisation
            .as_ref()
            .and_then(|organisation| organisation.roster().by_transport(peer));
        let Some(device) =
            device.map(|device| device.id).filter(|device| *device != self.identity.device)
        else {
            cx.out.effects.push(Effect::Close { link, reason: "not in the roster" });
            return;
        };
        if self.shunned.get(&device).is_some_and(|until| cx.now.mono_ms < *until) {
            cx.out.effects.push(Effect::Close { link, reason: "it sent too much that was bad" });
            return;
        }
        self.shunned.remove(&device);
        self.links.up(link, device);
        let (mut known, mut have) = (BTreeMap::new(), BTreeMap::new());
        for (key, (here, all)) in self.inventory() {
            have.insert(key, here);
            known.insert(key, all);
        }
        let equality = self.equality(&known);
        if let Some(link) = self.links.get_mut(link) {
            link.greet(Greeting { equality: equality.clone(), known, have });
        }
        self.heard(cx, &device);
        self.near_changed(cx.now.mono_ms);
        let hello = wire::Hello { yours: self.have_mark(&device), ..self.hello(equality) };
        send(cx, link, Kind::Hello(hello));
    }

    pub(crate) fn link_down(&mut self, cx: &mut Cx<'_>, link: LinkId) {
        if let Some(organisation) = &mut self.organisation {
            organisation.forget_aside(Some(link));
        }
        if let Some(device) = self.links.down(link) {
            self.spread_of(&device);
            self.store_word(cx.store, &device);
            self.heard(cx, &device);
            self.near_changed(cx.now.mono_ms);
        }
    }

    fn hello(&self, equality: Vec<u8>) -> wire::Hello {
        let heads = self.organisation.iter().flat_map(|organisation| organisation.heads());
        let landmarks = self.organisation.iter().flat_map(|organisation| organisation.landmarks());
        wire::Hello {
            version: u32::from(limits::VERSION),
            heads: heads.take(limits::HELLO_ITEMS).map(OpHash::to_vec).collect(),
            epochs: self.epochs.ids().iter().map(EpochId::to_vec).collect(),
            relay_certs: self.life.relay_certs().cloned().collect(),
            bundle: self.life.bundle.clone(),
            addresses: self.listening.iter().take(limits::ADDRESSES_PER_PEER).cloned().collect(),
            equality,
            landmarks: landmarks.map(OpHash::to_vec).collect(),
            yours: None,
        }
    }

    /// Takes frames of one stream in their order.
    pub(crate) fn frames(
        &mut self,
        cx: &mut Cx<'_>,
        id: LinkId,
        frames: Vec<Arrived>,
    ) -> Result<(), RecordError> {
        let Some(device) = self.links.get_mut(id).map(|link| link.device) else { return Ok(()) };
        let Some(device) = self.device(&device) else { return Ok(()) };
        for Arrived { bytes, age_s, frame } in frames {
            let taken = match frame {
                Screened::Envelope(envelope) => {
                    self.envelope(cx, Some(id), &envelope, age_s)?;
                    Taken::RECORD
                }
                Screened::Refused(refusal) => Taken { record: true, good: !refusal.is_guilt() },
                Screened::Other(kind) => {
                    cx.out.pressing |= self.presses(id, &kind);
                    self.other(cx, id, &device, kind, age_s)?
                }
            };
            let Some(link) = self.links.get_mut(id) else { return Ok(()) };
            if taken.record {
                link.count_taken(bytes);
            }
            if !taken.good && link.charge(cx.now.mono_ms) {
                let until = cx.now.mono_ms.saturating_add(SHUNNED_MS);
                self.shunned.insert(device.id, until);
                let reason = "it sent too much that was bad";
                tracing::warn!(device = %device.id, reason, "a neighbour is shut out for a minute");
                cx.out.effects.push(Effect::Close { link: id, reason });
                self.link_down(cx, id);
                return Ok(());
            }
        }
        Ok(())
    }

    /// Takes a frame that came by gossip: a record, or nothing.
    pub(crate) fn gossip(
        &mut self,
        cx: &mut Cx<'_>,
        from: &TransportKey,
        arrived: Arrived,
    ) -> Result<(), RecordError> {
        let device = self.organisation.as_ref().and_then(|all| all.roster().by_transport(from));
        if device.is_none() {
            return Ok(());
        }
        self.by_gossip = true;
        let taken = self.gossiped(cx, arrived);
        self.by_gossip = false;
        taken
    }

    fn gossiped(&mut self, cx: &mut Cx<'_>, arrived: Arrived) -> Result<(), RecordError> {
        match arrived.frame {
            Screened::Envelope(envelope) => self.envelope(cx, None, &envelope, 0)?,
            Screened::Other(Kind::RelayCert(signed)) => {
                self.relay_cert(cx, None, &signed);
            }
            Screened::Other(Kind::Release(release)) => {
                self.release(cx, None, &release);
            }
            Screened::Other(kind @ (Kind::Alert(_) | Kind::AlertAck(_))) => {
                self.alert_record(cx, None, &kind, 0)?;
            }
            Screened::Other(_) | Screened::Refused(_) => {}
        }
        Ok(())
    }

    /// Whether anybody waits for what a frame brings about.
    fn presses(&mut self, id: LinkId, kind: &Kind) -> bool {
        match kind {
            Kind::Release(_) | Kind::Heartbeat(_) | Kind::Nearby(_) => false,
            // Records wait for it only where none may go out any more.
            Kind::Credit(_) => self.links.get_mut(id).is_none_or(|link| !link.may_send()),
            _ => true,
        }
    }

    /// Takes one frame that is no envelope; says whether it counts against credit, and whether a correct neighbour sends it.
    fn other(
        &mut self,
        cx: &mut Cx<'_>,
        id: LinkId,
        from: &Device,
        kind: Kind,
        age_s: u32,
    ) -> Result<Taken, RecordError> {
        let good = match kind {
            Kind::Hello(hello) => {
                self.greet(cx, id, from, &hello)?;
                return Ok(Taken::CONTROL);
            }
            Kind::Have(signed) => {
                let good = self.have(cx, id, from, &signed)?;
                return Ok(Taken { record: false, good });
            }
            Kind::Credit(credit) => {
                if let Some(link) = self.links.get_mut(id) {
                    link.take_credit(credit.records, credit.bytes);
                }
                return Ok(Taken::CONTROL);
            }
            Kind::Heartbeat(_) => return Ok(Taken::CONTROL),
            Kind::Addresses(told) => {
                for peer in told.peers.iter().take(limits::HELLO_ITEMS) {
                    self.told_addresses(cx, Some(id), peer);
                }
                return Ok(Taken::CONTROL);
            }
            Kind::Nearby(nearby) => {
                self.told_nearby(cx, id, from.id, &nearby);
                return Ok(Taken::CONTROL);
            }
            Kind::Log(op) => self.log_op(cx, Some(id), &op),
            Kind::Epoch(grant) => {
                self.grant(cx, id, from, grant);
                true
            }
            Kind::RelayCert(signed) => self.relay_cert(cx, Some(id), &signed),
            Kind::Bundle(signed) => self.bundle(cx, Some(id), &signed),
            Kind::Release(release) => self.release(cx, Some(id), &release),
            Kind::Floor(signed) => self.floor(cx, Some(id), &signed, age_s)?,
            // An envelope comes through screening or not at all.
            Kind::Envelope(_) => true,
            Kind::Alert(_) | Kind::AlertAck(_) => self.alert_record(cx, Some(id), &kind, age_s)?,
        };
        Ok(Taken { record: true, good })
    }

    fn greet(
        &mut self,
        cx: &mut Cx<'_>,
        id: LinkId,
        from: &Device,
        hello: &wire::Hello,
    ) -> Result<(), RecordError> {
        let lists = [
            hello.heads.len(),
            hello.epochs.len(),
            hello.relay_certs.len(),
            hello.addresses.len(),
            hello.landmarks.len(),
        ];
        let again =
            self.links.get_mut(id).is_none_or(|link| std::mem::replace(&mut link.greeted, true));
        if again
            || hello.version != u32::from(limits::VERSION)
            || lists.iter().any(|len| *len > limits::HELLO_ITEMS)
        {
            cx.out.effects.push(Effect::Close { link: id, reason: "a greeting of another form" });
            return Ok(());
        }
        for signed in &hello.relay_certs {
            self.relay_cert(cx, Some(id), signed);
        }
        if let Some(signed) = &hello.bundle {
            self.bundle(cx, Some(id), signed);
        }
        self.heard_of_own(cx, from, hello);
        self.show_own_cert(cx, id, from, hello);
        self.learn_addresses(cx, id, from, &hello.addresses);
        self.tell_addresses(cx, id, from);
        let known = hello.heads.iter().chain(&hello.landmarks);
        let known: Vec<OpHash> =
            known.filter_map(|hash| OpHash::try_from(hash.as_slice()).ok()).collect();
        if let (Some(organisation), Some(link)) = (&self.organisation, self.links.get_mut(id)) {
            link.queue_ops(organisation.beyond(&known));
        }
        self.push_ops(cx, id)?;
        self.hand_over_missing(id, &hello.epochs);
        // Both hold the same, and the neighbour has had this device's word on it: there is nothing to say.
        let version = self.seen.version();
        let Some(link) = self.links.get_mut(id) else { return Ok(()) };
        let equal = link.greeted_equally(&hello.equality);
        if !equal || self.told.get(&from.id) != Some(&version) {
            link.telling.changed(cx.now.mono_ms);
        }
        if equal {
            self.queue_releases(id);
            self.compare(id);
        }
        Ok(())
    }

    /// Takes the addresses a device says it listens on; they replace what was known.
    fn learn_addresses(
        &mut self,
        cx: &mut Cx<'_>,
        link: LinkId,
        from: &Device,
        addresses: &[String],
    ) {
        let addresses = fitting(addresses);
        let known = self.neighbours.entry(from.id).or_default();
        if addresses.is_empty() || known.addresses == addresses {
            return;
        }
        known.addresses = addresses;
        self.addresses_changed(cx, Some(link), from);
    }

    /// Takes what somebody else says of where a device listens: it adds to what is known, and never replaces it.
    pub(crate) fn told_addresses(
        &mut self,
        cx: &mut Cx<'_>,
        link: Option<LinkId>,
        told: &wire::PeerAddresses,
    ) {
        let Ok(key) = TransportKey::try_from(told.transport_key.as_slice()) else { return };
        let Some(organisation) = &self.organisation else { return };
        let Some(device) = organisation.roster().by_transport(&key).cloned() else { return };
        if device.id == self.identity.device {
            return;
        }
        let known = self.neighbours.entry(device.id).or_default();
        let room = limits::ADDRESSES_PER_PEER.saturating_sub(known.addresses.len());
        let new: Vec<String> = fitting(&told.addresses)
            .into_iter()
            .filter(|address| !known.addresses.contains(address))
            .take(room)
            .collect();
        if !new.is_empty() {
            known.addresses.extend(new);
            self.addresses_changed(cx, link, &device);
        }
    }

    /// Keeps a device's addresses and passes them on: two people admitted at the same moment know each other's names,
    /// and without multicast only the admitter knows where they are.
    fn addresses_changed(&mut self, cx: &mut Cx<'_>, but: Option<LinkId>, of: &Device) {
        let Some(known) = self.neighbours.get(&of.id) else { return };
        stored::write(cx.store, &stored::neighbour(&of.id), stored::ONLY, known);
        let addresses = known.addresses.clone();
        self.changed = true;
        let told = wire::PeerAddresses {
            transport_key: of.transport.to_vec(),
            addresses: addresses.clone(),
        };
        cx.out.effects.push(Effect::Learned { peer: of.transport, addresses });
        for link in self
            .links
            .iter()
            .filter(|link| link.greeted && Some(link.id) != but && link.device != of.id)
        {
            send(cx, link.id, Kind::Addresses(wire::Addresses { peers: vec![told.clone()] }));
        }
    }

    /// Tells a neighbour where all others were last heard.
    fn tell_addresses(&self, cx: &mut Cx<'_>, link: LinkId, to: &Device) {
        let peers =
            self.known_addresses().filter(|peer| peer.transport_key != to.transport.as_bytes());
        let peers: Vec<wire::PeerAddresses> = peers.take(TOLD_ADDRESSES).collect();
        if !peers.is_empty() {
            send(cx, link, Kind::Addresses(wire::Addresses { peers }));
        }
    }

    /// Where the other devices were last heard to listen.
    pub(crate) fn known_addresses(&self) -> impl Iterator<Item = wire::PeerAddresses> + '_ {
        self.neighbours.iter().filter(|(_, known)| !known.addresses.is_empty()).filter_map(
            |(id, known)| {
                let transport_key = self.device(id)?.transport.to_vec();
                Some(wire::PeerAddresses { transport_key, addresses: known.addresses.clone() })
            },
        )
    }

    /// Takes an operation and passes it on to every other neighbour; returns whether a correct neighbour may send it.
    pub(crate) fn log_op(&mut self, cx: &mut Cx<'_>, from: Option<LinkId>, op: &wire::Op) -> bool {
        let Some(organisation) = &mut self.organisation else { return true };
        match organisation.learn_from(cx, from, op) {
            Ok(new) => new.into_iter().for_each(|hash| self.tell_of(hash, from)),
            Err(error) => {
                tracing::debug!(%error, "operation refused");
                return !error.is_guilt();
            }
        }
        true
    }

    /// Queues a new operation for every greeted neighbour but the one it came from.
    pub(crate) fn tell_of(&mut self, hash: OpHash, but: Option<LinkId>) {
        for link in self.links.iter_mut().filter(|link| link.greeted && Some(link.id) != but) {
            link.queue_ops([hash]);
        }
    }

    fn push_ops(&mut self, cx: &mut Cx<'_>, id: LinkId) -> Result<(), RecordError> {
        let (Some(organisation), Some(link)) = (&self.organisation, self.links.get_mut(id)) else {
            return Ok(());
        };
        for _ in 0..OPS_PER_BATCH {
            let Some(hash) = link.ops.front().filter(|_| link.may_send()).copied() else { break };
            link.ops.pop_front();
            if let Some(op) = organisation.read(cx.store, &hash)? {
                let sent = send(cx, id, Kind::Log(op));
                link.count_sent(sent);
            }
        }
        Ok(())
    }

    /// Takes an alert or an answer to one, and passes it on if it is new.
    pub(crate) fn alert_record(
        &mut self,
        cx: &mut Cx<'_>,
        from: Option<LinkId>,
        kind: &Kind,
        age_s: u32,
    ) -> Result<bool, RecordError> {
        let taken = match kind {
            Kind::Alert(sealed) => self.alert(cx, sealed)?,
            Kind::AlertAck(signed) => self.alert_ack(cx, signed)?,
            _ => RecordTaken::Refused,
        };
        if let RecordTaken::New(of) | RecordTaken::Known(of) = taken
            && let Some(link) = from.and_then(|link| self.links.get_mut(link))
        {
            link.gave(&of);
        }
        match taken {
            // What this device wrote itself comes back by many ways.
            RecordTaken::Known(of) if of.device == self.identity.device => {}
            RecordTaken::New(of) => {
                self.pass_on(cx, from, of, kind, age_s);
            }
            // Something later took its place: nobody needs it.
            RecordTaken::Known(of) if !self.seen.contains(&of) => self.seen.mark_gone(&of),
            _ => {}
        }
        Ok(taken != RecordTaken::Refused)
    }

    /// Takes an alert of somebody's.
    pub(crate) fn alert(
        &mut self,
        cx: &mut Cx<'_>,
        sealed: &wire::SealedAlert,
    ) -> Result<RecordTaken, RecordError> {
        let taken = self.with_alerts(|alerts| alerts.take(cx, sealed)).transpose()?;
        Ok(taken.unwrap_or(RecordTaken::NotYet))
    }

    /// Takes somebody's answer to an alert.
    pub(crate) fn alert_ack(
        &mut self,
        cx: &mut Cx<'_>,
        signed: &wire::Signed,
    ) -> Result<RecordTaken, RecordError> {
        let taken = self.with_alerts(|alerts| alerts.take_ack(cx, signed)).transpose()?;
        Ok(taken.unwrap_or(RecordTaken::NotYet))
    }

    pub(crate) fn body(
        &mut self,
        cx: &mut Cx<'_>,
        from: &Device,
        body: &crate::session::OpenedBody,
    ) -> Result<(), RecordError> {
        let Self { directory, .. } = self;
        let lives = |life| directory.knows_life(&from.id, life);
        let knows: Vec<oob_proto::Incarnation> =
            [body.incarnation].into_iter().filter(|life| lives(*life)).collect();
        let taken = self.with_direct(|direct, post| {
            direct.take(cx, from, body, |life| {
                knows.contains(&life) || post.directory.knows_life(&from.id, life)
            })
        });
        if let Some(Arrival::Refused(what)) = taken.transpose()? {
            tracing::warn!(device = %from.id, what, "a message was refused");
            #[cfg(feature = "sim")]
            self.rig.refused(&from.id);
        }
        Ok(())
    }

    pub(crate) fn ack(
        &mut self,
        cx: &mut Cx<'_>,
        from: &Device,
        ack: &wire::Ack,
    ) -> Result<(), RecordError> {
        let acked =
            self.with_direct(|direct, _| direct.take_ack(cx, from, ack)).transpose()?.flatten();
        let Some(acked) = acked else { return Ok(()) };
        self.outbox.received(cx.store, &from.id, |carries| {
            let Carries::Message { conversation, life, body_seq, .. } = carries else {
                return false;
            };
            *life == acked.life
                && *conversation == acked.conversation
                && acked.delivered.contains(*body_seq)
        });
        Ok(())
    }

    /// Sends every stream what it is owed: operations, own envelopes as far as credit goes, credit, Have.
    pub(crate) fn push_links(&mut self, cx: &mut Cx<'_>) -> Result<(), RecordError> {
        let ids: Vec<LinkId> = self.links.iter().map(|link| link.id).collect();
        // Said once in a batch, to whomever it is due: nothing of what it says changes while things go out.
        let mut words: Vec<wire::Signed> = Vec::new();
        for id in ids {
            self.push_ops(cx, id)?;
            self.push_grants(cx, id);
            // Before the records: whoever carries one gives it to those this device is not connected with.
            self.push_nearby(cx, id);
            self.push_records(cx, id)?;
            let Some(link) = self.links.get_mut(id) else { continue };
            let device = link.device;
            for owing in link.owing(cx.now.mono_ms) {
                match owing {
                    Owing::Credit { records, bytes } => {
                        send(cx, id, Kind::Credit(wire::Credit { records, bytes }));
                    }
                    Owing::Have => {
                        let Some(org) = self.org_id() else { continue };
                        self.told.insert(device, self.seen.version());
                        if words.is_empty() {
                            let parts = self.have_parts().into_iter();
                            let life = &mut self.life;
                            words =
                                parts.map(|part| have(&org, &self.identity, life, part)).collect();
                        }
                        for word in &words {
                            send(cx, id, Kind::Have(word.clone()));
                        }
                    }
                }
            }
        }
        Ok(())
    }
}

/// The addresses that fit the bounds.
fn fitting(addresses: &[String]) -> Vec<String> {
    let fits = |address: &&String| !address.is_empty() && address.len() <= limits::ADDRESS_BYTES;
    addresses.iter().filter(fits).take(limits::ADDRESSES_PER_PEER).cloned().collect()
}

/// Puts one frame among the effects; returns its length.
fn send(cx: &mut Cx<'_>, link: LinkId, kind: Kind) -> usize {
    let frame = Frame::new(kind).encode_to_vec();
    let len = frame.len();
    cx.out.effects.push(Effect::Send { link, frame });
    len
}
