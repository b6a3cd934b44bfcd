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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Name;
    use oob_crypto::{BundleFields, BundleSecrets, OLM_PREKEY};
    use rand::{SeedableRng, rngs::StdRng};

    /// What happens between two devices, as far as it decides which session is sent on.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Step {
        /// A message is sealed.
        Sends,
        /// The other device opens what was sealed for the life it is in, and answers.
        Answers,
        /// What was sealed is given up: nobody opened it in all its life.
        GivesUp,
        /// The other device begins another life, with another bundle.
        LosesAll,
    }

    /// The other device: its lives, and in the newest the sessions it has.
    struct Other {
        device: DeviceId,
        lives: Vec<(BundleSecrets, Bundle)>,
        life: usize,
        sessions: Vec<PairSession>,
    }

    impl Other {
        /// Whether a message opens with what the newest life has.
        fn opens(&mut self, me: &Identity, sealed: &(u32, Vec<u8>)) -> bool {
            let (kind, bytes) = sealed;
            if self.sessions.iter_mut().any(|session| session.decrypt(*kind, bytes).is_ok()) {
                return true;
            }
            let secrets = &self.lives[self.life].0;
            let begun = PairSession::inbound(secrets, &me.olm.identity(), bytes);
            let begun = begun.ok().filter(|_| *kind == OLM_PREKEY);
            let opens = begun.is_some();
            self.sessions.extend(begun.map(|(session, _)| session));
            opens
        }
    }

    /// Goes through the steps and says of each message which session it went on, by its number among all.
    fn sessions(me: &Identity, other: &mut Other, steps: &[Step]) -> Vec<usize> {
        let org = OrgId::from([9; 32]);
        let mut peers = Peers::default();
        (other.life, other.sessions) = (0, Vec::new());
        let (mut seen, mut on): (Vec<[u8; 32]>, Vec<usize>) = (Vec::new(), Vec::new());
        for step in steps {
            let bundle = other.lives[other.life].1.clone();
            let with = Sealing { org: &org, identity: me, to: &other.device, bundle: &bundle };
            match step {
                Step::Sends => {
                    let peer = peers.peers.entry(other.device).or_default();
                    let olm = peer.session_to_send(&with).unwrap();
                    let sealed = olm.session.encrypt(b"text").unwrap();
                    olm.next_out += 1;
                    assert!(!olm.retired, "{steps:?}: on a session the other has lost");
                    let number = seen.iter().position(|id| *id == olm.id).unwrap_or_else(|| {
                        seen.push(olm.id);
                        seen.len() - 1
                    });
                    on.push(number);
                    assert!(peer.sessions.len() <= SESSIONS);
                    assert!(other.opens(me, &sealed), "{steps:?}: it opens with the newest keys");
                }
                Step::Answers => {
                    let peer = peers.peers.entry(other.device).or_default();
                    for session in &mut other.sessions {
                        let (kind, bytes) = session.encrypt(b"back").unwrap();
                        for olm in &mut peer.sessions {
                            if olm.session.decrypt(kind, &bytes).is_ok() {
                                olm.next_in += 1;
                                olm.last = (Incarnation(other.life as u32 + 1), olm.next_in);
                            }
                        }
                    }
                }
                Step::GivesUp => peers.begin_again(&with),
                Step::LosesAll => {
                    other.life += 1;
                    other.sessions.clear();
                    peers.retire(&other.device, Incarnation(other.life as u32 + 1));
                }
            }
        }
        on
    }

    /// What has a device begin another session, told without the code: by steps, whether each message has to go on another
    /// session than the one before.
    fn expected(steps: &[Step]) -> Vec<usize> {
        let (mut on, mut newest): (Vec<usize>, Option<usize>) = (Vec::new(), None);
        let (mut answered, mut another, mut count) = (false, true, 0);
        for step in steps {
            match step {
                Step::Sends => {
                    if another {
                        newest = Some(count);
                        count += 1;
                        (answered, another) = (false, false);
                    }
                    on.extend(newest);
                }
                Step::Answers => answered |= !another,
                Step::GivesUp => another |= !answered,
                Step::LosesAll => another = true,
            }
        }
        on
    }

    /// Three things have a device begin another session: what was sent was given up and never answered, the other began
    /// another life, and nothing was sent on it yet when a newer bundle came. Each had a test; here all that can happen one
    /// after the other, in every order.
    #[test]
    fn another_session_is_begun_when_it_has_to_be_and_never_else() {
        let mut rng: crate::cx::Rng = Box::new(StdRng::seed_from_u64(1));
        let me = Identity::generate(&mut rng, Name::parse("Dana").unwrap());
        let them = Identity::generate(&mut rng, Name::parse("Sam").unwrap());
        let lives = (0..6).map(|seq| {
            let fields = BundleFields {
                device: them.device,
                seq,
                not_after: 1,
                incarnation: Incarnation(seq as u32 + 1),
                record_seq: 2,
            };
            let (payload, secrets) = BundleSecrets::generate(&mut rng, &them.olm, &fields);
            (secrets, Bundle::parse(&payload).unwrap())
        });
        let mut other =
            Other { device: them.device, lives: lives.collect(), life: 0, sessions: Vec::new() };
        let all = [Step::Sends, Step::Answers, Step::GivesUp, Step::LosesAll];
        let mut begun = 0;
        for number in 0..4usize.pow(5) {
            let mut steps: Vec<Step> = (0..5).map(|at| all[number / 4usize.pow(at) % 4]).collect();
            steps.push(Step::Sends);
            let on = sessions(&me, &mut other, &steps);
            assert_eq!(on, expected(&steps), "{steps:?}");
            begun += on.last().map_or(0, |last| last + 1);
        }
        assert!(begun > 1_000, "control: {begun} sessions in all");
    }
}
