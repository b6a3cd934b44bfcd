//! Bytes of a neighbour to what a rule may believe (docs/protocol.md, section 7). Pure functions over an immutable
//! snapshot, so that any thread may run them; they acknowledge nothing.

use crate::{record::RecordRef, snapshot::ScreenKeys};
use oob_crypto::envelope::{Claim, Cover, EnvelopeError, Head, open_origin, verify_origin};
use oob_proto::{DeviceId, EnvelopeId, Incarnation, limits, wire};

/// Envelopes of one stream that may wait for an epoch, a device or a relay key: a quarter of what its sender may be ahead.
/// What waits is not credited, so with more of it one author whose keys are not everywhere stops the stream between two
/// others: whatever else they have to tell each other waits as long.
pub const HELD_RECORDS: usize = 256;

/// Bytes of them, a quarter too.
pub const HELD_BYTES: u64 = limits::CREDIT_BYTES / 4;

const _: () = assert!(HELD_RECORDS as u64 * 4 == limits::CREDIT_RECORDS);

/// What screening makes of one frame.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "only a greeting is this long; a box would cost every frame"
)]
pub enum Screened {
    /// An envelope whose relay signature holds.
    Envelope(Box<VerifiedEnvelope>),
    /// Anything else; its signatures are checked by the rule that takes it.
    Other(wire::frame::Kind),
    /// Refused; only its length counts, for the credit given back.
    Refused(Refusal),
}

/// Why a frame was refused; stays in the local log and counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// Not a frame, or not of the form its kind must have.
    Malformed,
    /// No key or signature fits.
    Forged,
    /// By a device that was taken out, and not among what it wrote before.
    Removed,
    /// Held too long, or too much was held, before it could be judged.
    NotInTime,
}

impl Refusal {
    /// Whether no correct neighbour sends such a frame. A signature that does not fit is no such thing: an author that certified
    /// two keys of one generation, each to others, has every envelope of its hold for some and not for their neighbours.
    pub const fn is_guilt(self) -> bool {
        matches!(self, Self::Malformed)
    }
}

/// An envelope that a member's device signed.
#[derive(Debug)]
pub struct VerifiedEnvelope {
    /// Its identity, whatever bytes carried it.
    pub id: EnvelopeId,
    /// The author's device.
    pub device: DeviceId,
    /// Its life.
    pub incarnation: Incarnation,
    /// Number among its records.
    pub seq: u64,
    /// Tag, class, life, release.
    pub head: Head,
    /// Who wrote it, under the epoch's header key.
    pub origin: Vec<u8>,
    /// What only the addressee opens.
    pub ct: Vec<u8>,
}

impl VerifiedEnvelope {
    /// Returns what it names.
    pub fn record(&self) -> RecordRef {
        RecordRef { device: self.device, incarnation: self.incarnation, seq: self.seq }
    }

    /// Returns the envelope as it came.
    pub fn to_wire(&self) -> wire::Envelope {
        wire::Envelope {
            head: self.head.to_bytes().to_vec(),
            origin: self.origin.clone(),
            ct: self.ct.clone(),
        }
    }
}

/// The verdict on an envelope.
#[derive(Debug)]
pub enum Verdict {
    /// A member's.
    Accept(Box<VerifiedEnvelope>),
    /// Perhaps a member's, under an epoch, device or relay key not known yet: hold it and ask again at the next snapshot.
    NotYet(wire::Envelope),
    /// Nobody's.
    Refuse(Refusal),
}

/// Judges one envelope: form, origin, signature, in this order.
pub fn screen(keys: &ScreenKeys, envelope: wire::Envelope) -> Verdict {
    screen_with(keys, envelope, verify_origin)
}

/// The same, with the signature checked by `verify`: the simulator shows the same bytes to many devices.
pub(crate) fn screen_with(
    keys: &ScreenKeys,
    envelope: wire::Envelope,
    verify: impl FnOnce(&Claim<'_>) -> Result<EnvelopeId, EnvelopeError>,
) -> Verdict {
    let Ok(cover) = Cover::read(&envelope) else { return Verdict::Refuse(Refusal::Malformed) };
    let Some(org) = keys.org else { return Verdict::NotYet(envelope) };
    for (epoch, key) in &keys.headers {
        let Ok(origin) = open_origin(key, &cover) else { continue };
        let Some((device, rlk)) =
            keys.relays.get(&(origin.device, origin.incarnation, origin.rlk_gen))
        else {
            return Verdict::NotYet(envelope);
        };
        let stands = keys.removed.get(device).is_none_or(|lives| {
            lives.get(&origin.incarnation).is_some_and(|standing| standing.contains(origin.seq))
        });
        if !stands {
            return Verdict::Refuse(Refusal::Removed);
        }
        let claim = Claim { org: &org, epoch: *epoch, device, rlk, origin: &origin, cover: &cover };
        return match verify(&claim) {
            Ok(id) => Verdict::Accept(Box::new(VerifiedEnvelope {
                id,
                device: *device,
                incarnation: origin.incarnation,
                seq: origin.seq,
                head: *cover.head(),
                origin: envelope.origin,
                ct: envelope.ct,
            })),
            Err(_) => Verdict::Refuse(Refusal::Forged),
        };
    }
    Verdict::NotYet(envelope)
}
