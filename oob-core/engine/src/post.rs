//! From what one device says to another to an envelope in the outbox: session, head, origin, relay signature.

use crate::{
    cx::Cx,
    directory::Directory,
    epochs::Epochs,
    model::Ring,
    outbox::{Carries, Outbox},
    own::{Identity, Life},
    session::{Peers, SealError, Sealing, What},
};
use oob_crypto::envelope::{self, EnvelopeKeys, Head, Life as Lifetime};
use oob_proto::{DeviceId, Message, OrgId, wire};

/// What posting works with.
pub(crate) struct Post<'a> {
    pub(crate) org: &'a OrgId,
    pub(crate) identity: &'a Identity,
    pub(crate) life: &'a mut Life,
    pub(crate) epochs: &'a Epochs,
    pub(crate) directory: &'a Directory,
    pub(crate) peers: &'a mut Peers,
    pub(crate) outbox: &'a mut Outbox,
}

impl Post<'_> {
    /// Whether something can be sealed for a device.
    pub(crate) fn reaches(&self, device: &DeviceId) -> bool {
        self.directory.bundle(device).is_some() && self.epochs.to_send(Ring::Core).is_some()
    }

    /// Seals for one device and owes it the envelope.
    pub(crate) fn send(
        &mut self,
        cx: &mut Cx<'_>,
        to: &DeviceId,
        what: What<'_>,
        carries: Carries,
    ) -> Result<(), SealError> {
        let bundle = self.directory.bundle(to).ok_or(SealError::Keys)?;
        let epoch = self.epochs.to_send(Ring::Core).ok_or(SealError::Keys)?;
        let sealing = Sealing { org: self.org, identity: self.identity, to, bundle };
        let sealed = self.peers.seal(cx, &sealing, what)?;
        let head = Head {
            first_flight: sealed.n.is_none(),
            class: sealed.class,
            life: Lifetime::ThreeWeeks,
            tag: sealed.tag,
            release: sealed.release,
        };
        let seq = self.life.take_record();
        let keys = EnvelopeKeys {
            org: self.org,
            epoch: epoch.id,
            header_key: &epoch.header,
            device: &self.identity.device,
            incarnation: self.life.incarnation,
            rlk_gen: self.life.rlk_gen,
            rlk: &self.life.rlk,
        };
        let (envelope, _) =
            envelope::seal(cx.rng, &keys, seq, &head, sealed.ct).map_err(|_| SealError::TooLong)?;
        let mut item = wire::StoredOutboxItem {
            seq,
            envelope: envelope.encode_to_vec(),
            incarnation: self.life.incarnation.0,
            since_ms: cx.elapsed_ms,
            ..wire::StoredOutboxItem::default()
        };
        match carries {
            Carries::Message { conversation, life, body_seq, number } => {
                item.conversation = conversation.to_vec();
                (item.body_seq, item.number) = (body_seq, number);
                item.body_incarnation = Some(life.0).filter(|life| *life != item.incarnation);
            }
            Carries::Ack { conversation, life } => {
                // Nothing takes the place of a first flight: without it the rest of its channel opens nowhere. So it
                // names no conversation, and no later receipt finds it.
                if !head.first_flight {
                    item.conversation = conversation.to_vec();
                }
                (item.ack, item.ack_incarnation) = (true, life.0);
                // What it takes the place of may be under way; it is not owed any more.
                self.outbox.settle(cx.store, to, |pending| pending.carries == carries);
            }
        }
        self.outbox.push(to, item);
        Ok(())
    }
}
