//! Opening what came: the channel by its tag, then Olm strictly in its order. A message before its turn waits on disk;
//! then thousands of unacknowledged ones open, where out of order only forty keys would be kept.

use super::{
    bundles::OwnBundles,
    peer::{ChannelId, InEnd, Olm, Peer, Peers, SESSIONS},
};
use crate::{
    cx::Cx,
    envelope::VerifiedEnvelope,
    model::{self},
    stored::{self, RecordError},
};
use oob_crypto::{
    BundleSecrets, OLM_PREKEY, PairSession, Plain, Prekey, envelope::release_of, open_first_flight,
};
use oob_proto::{BundleId, DeviceId, Incarnation, Message, OrgId, wire};
use oob_store::Order;
use zeroize::Zeroizing;

/// Olm messages of one device held before their turn; what a window of one channel can let through.
const HELD: u64 = 2_048;

/// Sessions of one device with held messages.
const HELD_SESSIONS: usize = 8;

/// Why an envelope did not open.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// Nothing here says that it is for this device, or not yet.
    #[error("no channel waits for this tag")]
    NotOurs,
    /// For this device, and no room for it now: the author keeps it and offers it again.
    #[error("too many messages wait for their turn")]
    Later,
    /// For this device, and nothing that a correct device sends.
    #[error("envelope for this device that does not open: {0}")]
    Bad(&'static str),
    /// The store refused.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// What an envelope brought.
#[derive(Debug)]
pub(crate) enum Opened {
    /// Bodies, in the order they were written: none if this one waits, more if others waited for it.
    Bodies(Vec<OpenedBody>),
    /// A receipt.
    Ack(wire::Ack),
    /// Something opened before.
    Again,
}

/// What a channel gave, the own bundle it was opened to, and which message of which channel it was; none for its first.
type FromChannel = (Plain, BundleId, Option<(ChannelId, u64)>);

/// An encoded Body and the life of the author it came in.
#[derive(Debug)]
pub(crate) struct OpenedBody {
    pub(crate) bytes: Zeroizing<Vec<u8>>,
    pub(crate) incarnation: Incarnation,
}

impl Peers {
    /// Opens an envelope of `from`, a device of the roster. Also returns what proves that it was opened.
    pub(crate) fn open(
        &mut self,
        cx: &mut Cx<'_>,
        org: &OrgId,
        me: &DeviceId,
        own: &OwnBundles,
        from: &model::Device,
        envelope: &VerifiedEnvelope,
    ) -> Result<(Opened, Option<[u8; 16]>), OpenError> {
        let (plain, bundle, place) = if envelope.head.first_flight {
            match self.open_first(cx, org, me, own, from, envelope)? {
                Some((plain, bundle)) => (plain, bundle, None),
                None => return Ok((Opened::Again, None)),
            }
        } else {
            self.open_next(from, envelope)?
        };
        let opened = self.open_plain(cx, own, from, envelope, &plain, bundle);
        match (&opened, place) {
            // Nothing is used up: it is offered again.
            (Err(OpenError::Later | OpenError::Record(_)), None) => self.forget_newest(&from.id),
            (Err(OpenError::Later | OpenError::Record(_)), Some(_)) | (_, None) => {}
            (_, Some((channel, n))) => self.mark(&from.id, &channel, n),
        }
        Ok((opened?, Some(plain.preimage)))
    }

    /// Opens what a channel gave.
    fn open_plain(
        &mut self,
        cx: &mut Cx<'_>,
        own: &OwnBundles,
        from: &model::Device,
        envelope: &VerifiedEnvelope,
        plain: &Plain,
        bundle: BundleId,
    ) -> Result<Opened, OpenError> {
        if release_of(&plain.preimage) != envelope.head.release {
            return Err(OpenError::Bad("another release than its preimage gives"));
        }
        let inner = wire::Inner::decode(plain.inner.as_slice())
            .map_err(|_| OpenError::Bad("not an inner message"))?;
        let peer = self.peers.entry(from.id).or_default();
        match inner.k {
            Some(wire::inner::K::Ack(ack)) => {
                peer.note_begun(&ack, envelope.incarnation);
                Ok(Opened::Ack(ack))
            }
            Some(wire::inner::K::Olm(ciphertext)) => {
                let id: [u8; 32] = inner
                    .olm_session
                    .as_slice()
                    .try_into()
                    .map_err(|_| OpenError::Bad("no session named"))?;
                let held = wire::StoredHeldOlm {
                    olm_type: inner.olm_type,
                    ciphertext,
                    incarnation: envelope.incarnation.0,
                    bundle: bundle.to_vec(),
                    seq: envelope.seq,
                };
                peer.take_olm(cx, own, from, &id, inner.olm_n, held)
            }
            None => Err(OpenError::Bad("an inner message of an unknown kind")),
        }
    }

    /// Opens what waits behind messages that were given up.
    pub(crate) fn skip_holes(
        &mut self,
        cx: &mut Cx<'_>,
        own: &OwnBundles,
        from: &model::Device,
        is_known: impl Fn(Incarnation, u64, u64) -> bool,
    ) -> Result<Vec<OpenedBody>, RecordError> {
        match self.peers.get_mut(&from.id) {
            Some(peer) => peer.skip_holes(cx, own, from, &is_known),
            None => Ok(Vec::new()),
        }
    }

    fn open_first(
        &mut self,
        cx: &Cx<'_>,
        org: &OrgId,
        me: &DeviceId,
        own: &OwnBundles,
        from: &model::Device,
        envelope: &VerifiedEnvelope,
    ) -> Result<Option<(Plain, BundleId)>, OpenError> {
        // One in 64 of the first flights to others passes here by chance, and is told apart by the bundle it names.
        if !own.may_be_ours(&envelope.head.tag) {
            return Err(OpenError::NotOurs);
        }
        let flight =
            wire::FirstFlight::decode(envelope.ct.as_slice()).map_err(|_| OpenError::NotOurs)?;
        let bundle =
            BundleId::try_from(flight.bundle.as_slice()).map_err(|_| OpenError::NotOurs)?;
        let secrets = own.get(&bundle).ok_or(OpenError::NotOurs)?;
        let opened = open_first_flight(secrets, org, me, &envelope.ct)
            .map_err(|_| OpenError::Bad("first flight"))?;
        // The device named inside, the one whose relay key signed, and the one whose Noise key was proved are one.
        if opened.from != envelope.device || opened.from != from.id || opened.dnk != from.dnk {
            return Err(OpenError::Bad("first flight of another device"));
        }
        let peer = self.peers.entry(from.id).or_default();
        if peer.ins.iter().any(|end| end.channel.id() == opened.channel.id()) {
            return Ok(None);
        }
        // Another life of the device may have lost the sessions: what is sealed from now on can begin them again.
        for olm in &mut peer.sessions {
            olm.begun_in = olm.begun_in.filter(|life| *life == envelope.incarnation);
        }
        // The channel it replaces is not closed by the count it names: first flights may come in another order than they
        // were sent in, and a channel closed at another's count would lose its rest. Age and number end it.
        for before in peer.ins.iter_mut().filter(|end| end.replaced_ms == 0) {
            before.replaced_ms = cx.elapsed_ms.max(1);
        }
        let mut end = InEnd { channel: opened.channel, bundle, replaced_ms: 0, wanted: Vec::new() };
        self.fresh_tags.extend(end.refresh_tags(&from.id, &mut self.tags));
        peer.ins.push(end);
        peer.dirty = true;
        Ok(Some((opened.plain, bundle)))
    }

    fn open_next(
        &mut self,
        from: &model::Device,
        envelope: &VerifiedEnvelope,
    ) -> Result<FromChannel, OpenError> {
        let (device, channel, n) = *self.tags.get(&envelope.head.tag).ok_or(OpenError::NotOurs)?;
        // A member who seals another's ciphertext and tag again under its own origin must not use up that message.
        if device != from.id {
            return Err(OpenError::Bad("a tag of another device"));
        }
        let peer = self.peers.get_mut(&device).ok_or(OpenError::NotOurs)?;
        let end = peer
            .ins
            .iter_mut()
            .find(|end| *end.channel.id() == channel)
            .ok_or(OpenError::NotOurs)?;
        let plain =
            end.channel.open(n, &envelope.ct).map_err(|_| OpenError::Bad("channel message"))?;
        Ok((plain, end.bundle, Some((channel, n))))
    }

    /// Notes that a message of a channel was taken.
    fn mark(&mut self, device: &DeviceId, channel: &ChannelId, n: u64) {
        let Some(peer) = self.peers.get_mut(device) else { return };
        let Some(end) = peer.ins.iter_mut().find(|end| end.channel.id() == channel) else { return };
        end.channel.mark(n);
        self.fresh_tags.extend(end.refresh_tags(device, &mut self.tags));
        peer.dirty = true;
    }

    /// Takes back a channel whose first message there was no room for: it opens again when that is offered again.
    fn forget_newest(&mut self, device: &DeviceId) {
        let Some(peer) = self.peers.get_mut(device) else { return };
        let Some(end) = peer.ins.pop() else { return };
        for n in &end.wanted {
            self.tags.remove(&end.channel.tag(*n));
        }
        if let Some(before) = peer.ins.last_mut() {
            before.replaced_ms = 0;
        }
        peer.dirty = true;
    }
}

impl Peer {
    /// Notes that the other device has a session, as its receipt says.
    fn note_begun(&mut self, ack: &wire::Ack, life: Incarnation) {
        let named = self.sessions.iter_mut().find(|olm| olm.id.as_slice() == ack.olm_session);
        // Nobody has opened what was not sealed yet.
        if let Some(olm) = named.filter(|olm| (1..=olm.next_out).contains(&ack.opened_to)) {
            olm.begun_in = Some(life);
        }
    }

    /// Opens an Olm message if it is its turn, and all that waited for it.
    fn take_olm(
        &mut self,
        cx: &mut Cx<'_>,
        own: &OwnBundles,
        from: &model::Device,
        id: &[u8; 32],
        n: u64,
        message: wire::StoredHeldOlm,
    ) -> Result<Opened, OpenError> {
        let turn = self.sessions.iter().find(|olm| olm.id == *id).map_or(0, |olm| olm.next_in);
        if n < turn {
            return Ok(Opened::Again);
        }
        let bag = stored::held_olm(id);
        if n > turn {
            if cx.store.get(&bag, n).map_err(RecordError::from)?.is_some() {
                return Ok(Opened::Again);
            }
            let strange = !self.waiting.contains_key(id) && self.waiting.len() >= HELD_SESSIONS;
            if strange || self.waiting.values().sum::<u64>() >= HELD {
                return Err(OpenError::Later);
            }
            *self.waiting.entry(*id).or_default() += 1;
            self.dirty = true;
            stored::write(cx.store, &bag, n, &message);
            return Ok(Opened::Bodies(Vec::new()));
        }
        let mut bodies = vec![self.open_olm(own, from, id, n, &message)?];
        self.open_waiting(cx, own, from, id, &mut bodies)?;
        Ok(Opened::Bodies(bodies))
    }

    /// Opens what waited for the message just opened.
    fn open_waiting(
        &mut self,
        cx: &mut Cx<'_>,
        own: &OwnBundles,
        from: &model::Device,
        id: &[u8; 32],
        bodies: &mut Vec<OpenedBody>,
    ) -> Result<(), RecordError> {
        let bag = stored::held_olm(id);
        while self.waiting.contains_key(id) {
            let next = self.sessions.iter().find(|olm| olm.id == *id).map_or(0, |olm| olm.next_in);
            let Some(held) =
                stored::read::<wire::StoredHeldOlm>(cx.store, &bag, next, "held message")?
            else {
                break;
            };
            self.waits_no_more(cx, id, next);
            // One that waited and does not open ends the run; what came before it stands.
            let Ok(body) = self.open_olm(own, from, id, next, &held) else { break };
            bodies.push(body);
        }
        Ok(())
    }

    fn waits_no_more(&mut self, cx: &mut Cx<'_>, id: &[u8; 32], n: u64) {
        cx.store.delete(&stored::held_olm(id), n);
        self.waiting.entry(*id).and_modify(|count| *count = count.saturating_sub(1));
        self.waiting.retain(|_, count| *count > 0);
        self.dirty = true;
    }

    /// Opens messages whose turn cannot come, because what was before them is given up: every record of the author between
    /// the last one opened and the one that waits is known here, and so none of them brings it.
    fn skip_holes(
        &mut self,
        cx: &mut Cx<'_>,
        own: &OwnBundles,
        from: &model::Device,
        is_known: &impl Fn(Incarnation, u64, u64) -> bool,
    ) -> Result<Vec<OpenedBody>, RecordError> {
        let mut bodies = Vec::new();
        let sessions: Vec<[u8; 32]> = self.waiting.keys().copied().collect();
        for id in sessions {
            loop {
                let bag = stored::held_olm(&id);
                let Some((n, bytes)) = cx.store.scan(&bag, .., Order::Ascending, 1)?.pop() else {
                    break;
                };
                let held: wire::StoredHeldOlm = stored::decode(&bytes, "held message")?;
                let life = Incarnation(held.incarnation);
                let known = self.sessions.iter().find(|olm| olm.id == id);
                let (turn, after) = match known {
                    Some(olm) if olm.last.0 == life => (olm.next_in, olm.last.1),
                    Some(olm) if olm.next_in > 0 => break,
                    _ => (0, 0),
                };
                let hole = after.saturating_add(1)..held.seq;
                if n > turn && !hole.is_empty() && !is_known(life, hole.start, hole.end - 1) {
                    break;
                }
                self.waits_no_more(cx, &id, n);
                let Ok(body) = self.open_olm(own, from, &id, n, &held) else { continue };
                bodies.push(body);
                self.open_waiting(cx, own, from, &id, &mut bodies)?;
            }
        }
        Ok(bodies)
    }

    fn open_olm(
        &mut self,
        own: &OwnBundles,
        from: &model::Device,
        id: &[u8; 32],
        n: u64,
        message: &wire::StoredHeldOlm,
    ) -> Result<OpenedBody, OpenError> {
        let incarnation = Incarnation(message.incarnation);
        // A known session never begins again: replacing one has lost messages.
        if let Some(olm) = self.sessions.iter_mut().find(|olm| olm.id == *id) {
            let bytes = olm
                .session
                .decrypt(message.olm_type, &message.ciphertext)
                .map_err(|_| OpenError::Bad("olm message"))?;
            olm.next_in = n.saturating_add(1);
            olm.last = (incarnation, message.seq);
            self.dirty = true;
            return Ok(OpenedBody { bytes, incarnation });
        }
        if message.olm_type != OLM_PREKEY {
            return Err(OpenError::Bad("olm message of an unknown session"));
        }
        let prekey =
            Prekey::read(&message.ciphertext).map_err(|_| OpenError::Bad("olm prekey message"))?;
        if prekey.session != *id {
            return Err(OpenError::Bad("olm prekey message of another session"));
        }
        let bundle = BundleId::try_from(message.bundle.as_slice())
            .map_err(|_| OpenError::Bad("no bundle"))?;
        // The channel may be to a newer bundle than the session, whose first messages its author gave up.
        let begin = |secrets: &BundleSecrets| {
            PairSession::inbound(secrets, &from.olm_id, &message.ciphertext).ok()
        };
        let (session, bytes) = own
            .get(&bundle)
            .and_then(begin)
            .or_else(|| own.find(begin))
            .ok_or(OpenError::Bad("olm prekey message"))?;
        self.sessions.push(Olm {
            session,
            id: *id,
            ours: false,
            next_out: 0,
            next_in: n.saturating_add(1),
            last: (incarnation, message.seq),
            // Begun before the device lost its state, and under way since.
            retired: self.life.is_some_and(|life| life != incarnation),
            begun_in: None,
        });
        let many = self.sessions.len().saturating_sub(SESSIONS);
        self.sessions.drain(..many);
        self.dirty = true;
        Ok(OpenedBody { bytes, incarnation })
    }
}
