//! Sealing one message for one device.

use super::peer::{Olm, OutEnd, Peer, Peers, SESSIONS};
use crate::{cx::Cx, own::Identity};
use oob_crypto::{Bundle, FirstContact, OutChannel, PairSession, Sealed};
use oob_proto::{DeviceId, Incarnation, Message, OrgId, wire};
use zeroize::Zeroizing;

/// A channel is replaced when it is this old.
const CHANNEL_LIFE_MS: u64 = 86_400_000;

/// What is sealed.
pub(crate) enum What<'a> {
    /// An encoded Body, through Olm.
    Body(&'a [u8]),
    /// A receipt, in the channel alone: one per batch through Olm would cost a quarter of the rate.
    Ack(wire::Ack),
}

/// Who seals, and for whom.
pub(crate) struct Sealing<'a> {
    pub(crate) org: &'a OrgId,
    pub(crate) identity: &'a Identity,
    pub(crate) to: &'a DeviceId,
    /// Newest bundle of that device.
    pub(crate) bundle: &'a Bundle,
}

/// Why nothing was sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SealError {
    /// The device's keys do not work.
    #[error("the keys of the addressee do not work")]
    Keys,
    /// Over the largest class.
    #[error("too long for one envelope")]
    TooLong,
}

impl Peers {
    /// Seals one message; the session moves in the pending batch.
    pub(crate) fn seal(
        &mut self,
        cx: &mut Cx<'_>,
        with: &Sealing<'_>,
        what: What<'_>,
    ) -> Result<Sealed, SealError> {
        let peer = self.peers.entry(*with.to).or_default();
        peer.dirty = true;
        let inner = match what {
            What::Body(body) => {
                let olm = peer.session_to_send(with)?;
                let sealed = match olm.begun_in {
                    Some(_) => olm.session.encrypt_begun(body),
                    None => olm.session.encrypt(body),
                };
                let (olm_type, ciphertext) = sealed.map_err(|_| SealError::Keys)?;
                let n = olm.next_out;
                olm.next_out = n.saturating_add(1);
                wire::Inner {
                    olm_session: olm.id.to_vec(),
                    olm_n: n,
                    olm_type,
                    k: Some(wire::inner::K::Olm(ciphertext)),
                }
            }
            What::Ack(mut ack) => {
                if let Some(olm) =
                    peer.sessions.iter().max_by_key(|olm| olm.next_in).filter(|olm| olm.next_in > 0)
                {
                    ack.olm_session = olm.id.to_vec();
                    ack.opened_to = olm.next_in;
                }
                wire::Inner { k: Some(wire::inner::K::Ack(ack)), ..wire::Inner::default() }
            }
        };
        let inner = Zeroizing::new(inner.encode_to_vec());
        peer.seal_in_channel(cx, with, &inner)
    }
}

impl Peers {
    /// Begins another session with a device if it has never answered on the one that is sent on: what that began with was
    /// given up, and the secrets it was made to may be gone by the time it is answered. The old one still opens answers.
    pub(crate) fn begin_again(&mut self, with: &Sealing<'_>) {
        let Some(peer) = self.peers.get_mut(with.to) else { return };
        let unanswered = peer.session_to_send(with).is_ok_and(|olm| {
            olm.ours && olm.next_out > 0 && olm.begun_in.is_none() && !olm.session.is_answered()
        });
        if unanswered && peer.begin(with).is_ok() {
            peer.dirty = true;
        }
    }
}

impl Peer {
    fn begin(&mut self, with: &Sealing<'_>) -> Result<(), SealError> {
        let session = PairSession::outbound(&with.identity.olm, with.bundle);
        let session = session.map_err(|_| SealError::Keys)?;
        let id = session.id();
        let last = (Incarnation(0), 0);
        self.sessions.push(Olm {
            session,
            id,
            ours: true,
            next_out: 0,
            next_in: 0,
            last,
            retired: false,
            begun_in: None,
        });
        let many = self.sessions.len().saturating_sub(SESSIONS);
        self.sessions.drain(..many);
        Ok(())
    }

    /// The session to send on: of all, the one whose initiator has the lower DeviceId, so that after a simultaneous
    /// first contact both sides settle on the same; the newest of those.
    fn session_to_send(&mut self, with: &Sealing<'_>) -> Result<&mut Olm, SealError> {
        // One that nothing was sent on yet is made anew: there may be a newer bundle than when it was begun.
        let unused =
            |olm: &Olm| olm.ours && olm.next_out == 0 && !olm.retired && !olm.session.is_answered();
        let begins =
            self.sessions.iter().all(|olm| olm.retired) || self.sessions.iter().any(unused);
        self.sessions.retain(|olm| !unused(olm));
        if begins {
            self.begin(with)?;
        }
        let lower_is_ours = with.identity.device < *with.to;
        let best = self.sessions.iter().rposition(|olm| !olm.retired && olm.ours == lower_is_ours);
        let best = best.or_else(|| self.sessions.iter().rposition(|olm| !olm.retired));
        let best = best.ok_or(SealError::Keys)?;
        self.sessions.get_mut(best).ok_or(SealError::Keys)
    }

    fn seal_in_channel(
        &mut self,
        cx: &mut Cx<'_>,
        with: &Sealing<'_>,
        inner: &[u8],
    ) -> Result<Sealed, SealError> {
        let now = cx.now.wall_ms;
        if let Some(out) = &mut self.out {
            // A clock that went back makes the channel look young, so also count.
            let fresh = now.abs_diff(out.opened_ms) < CHANNEL_LIFE_MS && !out.channel.is_spent();
            if fresh && out.bundle == with.bundle.id() {
                return out.channel.seal(cx.rng, inner).map_err(|_| SealError::TooLong);
            }
        }
        let contact = FirstContact {
            org: with.org,
            my_dnk: &with.identity.dnk,
            my_device: &with.identity.device,
            to: with.to,
            bundle: with.bundle,
        };
        let replaces = self.out.as_ref().map_or(0, |out| out.channel.count());
        let (channel, sealed) =
            OutChannel::open(cx.rng, &contact, replaces, inner).map_err(|_| SealError::TooLong)?;
        self.out = Some(OutEnd { channel, bundle: with.bundle.id(), opened_ms: now });
        Ok(sealed)
    }
}
