//! The sealed origin of an envelope: who sent it, signed by the relay key, readable to members only.

use super::head::{EnvelopeError, HEAD_BYTES, Head, ORIGIN_BYTES, ORIGIN_PLAIN};
use crate::{
    epoch::HeaderKey,
    kdf::sha256,
    keys::{PublicKey, SigningKey},
};
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use ed25519_dalek::{Signature, VerifyingKey};
use oob_proto::{
    DeviceId, DeviceShort, EnvelopeId, EpochId, Incarnation, Message, OrgId, limits, wire,
};
use rand_core::CryptoRng;

/// Who sent an envelope, as the sealed origin says. Believed only once [`verify_origin`] agrees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// First bytes of the device's id.
    pub device: DeviceShort,
    /// Life of the device's store.
    pub incarnation: Incarnation,
    /// Contiguous number within that life.
    pub seq: u64,
    /// Generation of the relay key that signed.
    pub rlk_gen: u32,
    /// Signature by the relay key over [`signed_bytes`].
    pub sig: [u8; 64],
}

impl Origin {
    fn to_bytes(self) -> [u8; ORIGIN_PLAIN] {
        let mut bytes = [0; ORIGIN_PLAIN];
        let numbers = (self.incarnation.0.to_be_bytes().into_iter())
            .chain(self.seq.to_be_bytes())
            .chain(self.rlk_gen.to_be_bytes());
        let all = self.device.as_bytes().iter().copied().chain(numbers).chain(self.sig);
        for (to, from) in bytes.iter_mut().zip(all) {
            *to = from;
        }
        bytes
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (device, rest) = bytes.split_first_chunk::<8>()?;
        let (incarnation, rest) = rest.split_first_chunk::<4>()?;
        let (seq, rest) = rest.split_first_chunk::<8>()?;
        let (rlk_gen, rest) = rest.split_first_chunk::<4>()?;
        Some(Self {
            device: (*device).into(),
            incarnation: Incarnation(u32::from_be_bytes(*incarnation)),
            seq: u64::from_be_bytes(*seq),
            rlk_gen: u32::from_be_bytes(*rlk_gen),
            sig: rest.try_into().ok()?,
        })
    }
}

/// The outside of an envelope, checked.
#[derive(Debug, Clone)]
pub struct Cover {
    head: Head,
    head_bytes: [u8; HEAD_BYTES],
    origin: [u8; ORIGIN_BYTES],
    ct_hash: [u8; 32],
}

impl Cover {
    /// Checks all lengths and codes of an envelope from outside, then hashes its ciphertext once.
    ///
    /// # Errors
    /// What does not fit; nothing has been decrypted or verified by then.
    pub fn read(envelope: &wire::Envelope) -> Result<Self, EnvelopeError> {
        let head = Head::parse(&envelope.head)?;
        if envelope.ct.len() != head.class.len() {
            return Err(EnvelopeError::CiphertextLength {
                expected: head.class.len(),
                found: envelope.ct.len(),
            });
        }
        let origin = envelope
            .origin
            .as_slice()
            .try_into()
            .map_err(|_| EnvelopeError::OriginLength { found: envelope.origin.len() })?;
        let len = envelope.encoded_len();
        if len > limits::ENVELOPE_BYTES {
            return Err(EnvelopeError::TooLong { len });
        }
        let ct_hash = sha256(&envelope.ct);
        Ok(Self { head, head_bytes: head.to_bytes(), origin, ct_hash })
    }

    /// Returns the head.
    pub fn head(&self) -> &Head {
        &self.head
    }

    fn aad(&self) -> Vec<u8> {
        [self.head_bytes.as_slice(), &self.ct_hash].concat()
    }
}

/// What a device seals its envelopes with.
#[derive(Debug, Clone, Copy)]
pub struct EnvelopeKeys<'a> {
    /// The organisation.
    pub org: &'a OrgId,
    /// The epoch of `header_key`.
    pub epoch: EpochId,
    /// Seals the origin.
    pub header_key: &'a HeaderKey,
    /// The sending device.
    pub device: &'a DeviceId,
    /// Its incarnation.
    pub incarnation: Incarnation,
    /// Generation of `rlk`.
    pub rlk_gen: u32,
    /// The relay key.
    pub rlk: &'a SigningKey,
}

/// Seals a ciphertext into an envelope.
///
/// # Errors
/// A ciphertext whose length is not that of the head's class.
pub fn seal(
    rng: &mut impl CryptoRng,
    keys: &EnvelopeKeys<'_>,
    seq: u64,
    head: &Head,
    ct: Vec<u8>,
) -> Result<(wire::Envelope, EnvelopeId), EnvelopeError> {
    let mut nonce = [0; 24];
    rng.fill_bytes(&mut nonce);
    let head_bytes = head.to_bytes();
    let mut envelope =
        wire::Envelope { head: head_bytes.to_vec(), origin: vec![0; ORIGIN_BYTES], ct };
    let cover = Cover::read(&envelope)?;
    let mut origin = Origin {
        device: keys.device.short(),
        incarnation: keys.incarnation,
        seq,
        rlk_gen: keys.rlk_gen,
        sig: [0; 64],
    };
    let signed = signed_bytes(keys.org, &keys.epoch, keys.device, &origin, &cover);
    origin.sig = keys.rlk.sign_raw(&signed);
    let plain = origin.to_bytes();
    let payload = Payload { msg: &plain, aad: &cover.aad() };
    let sealed = XChaCha20Poly1305::new(keys.header_key.as_bytes().into())
        .encrypt(&XNonce::from(nonce), payload)
        .map_err(|_| EnvelopeError::Closed)?;
    envelope.origin = [nonce.as_slice(), &sealed].concat();
    Ok((envelope, sha256(&signed).into()))
}

/// Opens the origin of an envelope with the header key of an epoch. What it says is still only a claim.
///
/// # Errors
/// [`EnvelopeError::Closed`] when it was sealed with another key, or head or ciphertext were altered.
pub fn open_origin(key: &HeaderKey, cover: &Cover) -> Result<Origin, EnvelopeError> {
    let (nonce, sealed) = cover.origin.split_first_chunk::<24>().ok_or(EnvelopeError::Closed)?;
    let payload = Payload { msg: sealed, aad: &cover.aad() };
    let plain = XChaCha20Poly1305::new(key.as_bytes().into())
        .decrypt(&XNonce::from(*nonce), payload)
        .map_err(|_| EnvelopeError::Closed)?;
    Origin::parse(&plain).ok_or(EnvelopeError::Closed)
}

/// Returns the bytes a relay key signs; their SHA-256 is the envelope's id. The signature in `origin` is not part of them.
pub fn signed_bytes(
    org: &OrgId,
    epoch: &EpochId,
    device: &DeviceId,
    origin: &Origin,
    cover: &Cover,
) -> Vec<u8> {
    [
        b"oob/1 envelope\0".as_slice(),
        org.as_bytes(),
        epoch.as_bytes(),
        device.as_bytes(),
        &origin.incarnation.0.to_be_bytes(),
        &origin.seq.to_be_bytes(),
        &origin.rlk_gen.to_be_bytes(),
        &cover.head_bytes,
        &cover.ct_hash,
    ]
    .concat()
}

/// An opened origin beside the device and relay key it must be from.
#[derive(Debug, Clone, Copy)]
pub struct Claim<'a> {
    /// The organisation.
    pub org: &'a OrgId,
    /// The epoch whose header key opened the origin.
    pub epoch: EpochId,
    /// The device the origin's first eight bytes stand for.
    pub device: &'a DeviceId,
    /// That device's relay key of the origin's generation.
    pub rlk: &'a PublicKey,
    /// The opened origin.
    pub origin: &'a Origin,
    /// The envelope's outside.
    pub cover: &'a Cover,
}

impl Claim<'_> {
    fn signed_bytes(&self) -> Vec<u8> {
        signed_bytes(self.org, &self.epoch, self.device, self.origin, self.cover)
    }
}

/// Verifies an origin and returns the envelope's id.
///
/// # Errors
/// Another device, or not signed by this relay key.
pub fn verify_origin(claim: &Claim<'_>) -> Result<EnvelopeId, EnvelopeError> {
    if claim.origin.device != claim.device.short() {
        return Err(EnvelopeError::Device);
    }
    let signed = claim.signed_bytes();
    claim.rlk.verify_raw(&signed, &claim.origin.sig).map_err(EnvelopeError::Signature)?;
    Ok(sha256(&signed).into())
}

/// Says whether all these origins verify, at less than half the cost of one by one.
///
/// # Security
/// A pre-filter: batch and strict verification disagree about keys and signatures made to make them disagree, so what
/// passes here is verified by [`verify_origin`] before it changes any state. When it says no, at least one is bad or
/// odd: look at them one by one.
pub fn verify_origins(claims: &[Claim<'_>]) -> bool {
    if claims.iter().any(|claim| claim.origin.device != claim.device.short()) {
        return false;
    }
    let inputs: Vec<Vec<u8>> = claims.iter().map(Claim::signed_bytes).collect();
    let inputs: Vec<&[u8]> = inputs.iter().map(Vec::as_slice).collect();
    let sigs: Vec<Signature> =
        claims.iter().map(|claim| Signature::from_bytes(&claim.origin.sig)).collect();
    let keys: Vec<VerifyingKey> = claims.iter().map(|claim| claim.rlk.verifying()).collect();
    ed25519_dalek::verify_batch(&inputs, &sigs, &keys).is_ok()
}

#[cfg(test)]
mod tests {
    use super::super::head::{Class, Life};
    use super::*;
    use crate::{epoch::EpochSecret, ids::device_id};
    use data_encoding::HEXLOWER as HEX;
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::StdRng};

    struct Sender {
        org: OrgId,
        epoch: EpochId,
        header_key: HeaderKey,
        device: DeviceId,
        rlk: SigningKey,
    }

    impl Sender {
        fn new() -> Self {
            Self {
                org: OrgId::from([3; 32]),
                epoch: EpochId::from([9; 16]),
                header_key: EpochSecret::from_secret(&[5; 32]).header_key(),
                device: device_id(&SigningKey::from_secret(&[1; 32]).public()),
                rlk: SigningKey::from_secret(&[2; 32]),
            }
        }

        fn keys(&self) -> EnvelopeKeys<'_> {
            EnvelopeKeys {
                org: &self.org,
                epoch: self.epoch,
                header_key: &self.header_key,
                device: &self.device,
                incarnation: Incarnation(0x0a0b_0c0d),
                rlk_gen: 3,
                rlk: &self.rlk,
            }
        }

        fn seal(&self, seq: u64) -> (wire::Envelope, EnvelopeId) {
            let mut rng = StdRng::seed_from_u64(seq);
            seal(&mut rng, &self.keys(), seq, &head(), vec![8; 512]).unwrap()
        }

        fn verify(&self, envelope: &wire::Envelope) -> Result<EnvelopeId, EnvelopeError> {
            let cover = Cover::read(envelope)?;
            let origin = open_origin(&self.header_key, &cover)?;
            self.verify_claim(&origin, &cover)
        }

        fn verify_claim(
            &self,
            origin: &Origin,
            cover: &Cover,
        ) -> Result<EnvelopeId, EnvelopeError> {
            verify_origin(&self.claim(origin, cover, &self.rlk.public()))
        }

        fn claim<'a>(
            &'a self,
            origin: &'a Origin,
            cover: &'a Cover,
            rlk: &'a PublicKey,
        ) -> Claim<'a> {
            Claim { org: &self.org, epoch: self.epoch, device: &self.device, rlk, origin, cover }
        }
    }

    fn head() -> Head {
        Head {
            first_flight: false,
            class: Class::B512,
            life: Life::Week,
            tag: [6; 16],
            release: [7; 16],
        }
    }

    /// Computed once with another implementation of SHA-256 and Ed25519.
    #[test]
    fn golden_envelope() {
        let sender = Sender::new();
        let (envelope, id) = sender.seal(17);
        assert_eq!(
            HEX.encode(id.as_bytes()),
            "137c9a09f90584965a48af43ecb410723db19fbf44bbd61d90550ec7ea8d4b73"
        );
        assert_eq!(
            envelope.head,
            [[1, 0, 0, 2].as_slice(), &[6; 16], &[7; 16]].concat(),
            "version, flags, class, life, tag, release"
        );
        let origin = open_origin(&sender.header_key, &Cover::read(&envelope).unwrap()).unwrap();
        assert_eq!(
            HEX.encode(&origin.sig),
            "56d14741840427bf385c46ddf5c79642176e08fa1fda898a03cef01cdf106695a95766ecdc943b3dfd4a74379ada72cd8c8f4f34e920daf3594172946643b006"
        );
        let plain = origin.to_bytes();
        assert_eq!(
            plain[..24],
            [
                &sender.device.as_bytes()[..8],
                &[0x0a, 0x0b, 0x0c, 0x0d],
                &[0, 0, 0, 0, 0, 0, 0, 17],
                &[0, 0, 0, 3]
            ]
            .concat()
        );
        assert_eq!(plain[24..], origin.sig);
    }

    #[test]
    fn a_sealed_envelope_opens_and_its_id_is_the_same_at_both_ends() {
        let sender = Sender::new();
        for class in Class::ALL {
            for (life, first_flight) in Life::ALL.into_iter().zip([true, false, true, false]) {
                let head = Head { class, life, first_flight, ..head() };
                assert_eq!(Head::parse(&head.to_bytes()), Ok(head));
                let ct = vec![8; class.len()];
                let (envelope, id) =
                    seal(&mut StdRng::seed_from_u64(1), &sender.keys(), 1, &head, ct).unwrap();
                assert!(envelope.encoded_len() <= limits::ENVELOPE_BYTES);
                assert_eq!(sender.verify(&envelope), Ok(id));
            }
        }
        let wrong = seal(&mut StdRng::seed_from_u64(1), &sender.keys(), 1, &head(), vec![8; 511]);
        assert!(matches!(wrong, Err(EnvelopeError::CiphertextLength { found: 511, .. })));
    }

    #[test]
    fn every_altered_byte_is_noticed() {
        let sender = Sender::new();
        let (good, id) = sender.seal(1);
        assert_eq!(sender.verify(&good), Ok(id), "control");
        for at in 0..HEAD_BYTES {
            let mut bad = good.clone();
            bad.head[at] ^= 1;
            assert!(sender.verify(&bad).is_err(), "head {at}");
        }
        for at in 0..ORIGIN_BYTES {
            let mut bad = good.clone();
            bad.origin[at] ^= 1;
            assert_eq!(sender.verify(&bad), Err(EnvelopeError::Closed), "origin {at}");
        }
        for at in [0, 255, 511] {
            let mut bad = good.clone();
            bad.ct[at] ^= 1;
            assert_eq!(sender.verify(&bad), Err(EnvelopeError::Closed), "ct {at}");
        }
        let other = EpochSecret::from_secret(&[6; 32]).header_key();
        let cover = Cover::read(&good).unwrap();
        assert_eq!(open_origin(&other, &cover), Err(EnvelopeError::Closed));
    }

    /// Anybody in the ring can seal an origin with the header key; only the relay key makes it true.
    #[test]
    fn an_origin_resealed_by_another_member_does_not_verify() {
        let sender = Sender::new();
        let (envelope, _) = sender.seal(1);
        let cover = Cover::read(&envelope).unwrap();
        let origin = open_origin(&sender.header_key, &cover).unwrap();
        assert!(sender.verify_claim(&origin, &cover).is_ok(), "control");
        for forged in [
            Origin { seq: 2, ..origin },
            Origin { incarnation: Incarnation(1), ..origin },
            Origin { rlk_gen: 4, ..origin },
        ] {
            assert!(matches!(
                sender.verify_claim(&forged, &cover),
                Err(EnvelopeError::Signature(_))
            ));
        }
        let another = Origin { device: DeviceShort::from([0; 8]), ..origin };
        assert_eq!(sender.verify_claim(&another, &cover), Err(EnvelopeError::Device));
        // The same signature over another ciphertext, or under another epoch.
        let other_ct = vec![9; 512];
        let (second, _) =
            seal(&mut StdRng::seed_from_u64(1), &sender.keys(), 1, &head(), other_ct).unwrap();
        let second = Cover::read(&second).unwrap();
        assert!(sender.verify_claim(&origin, &second).is_err());
        let rlk = sender.rlk.public();
        let claim = Claim { epoch: EpochId::from([8; 16]), ..sender.claim(&origin, &cover, &rlk) };
        assert!(verify_origin(&claim).is_err());
    }

    #[test]
    fn a_batch_passes_only_when_all_are_good() {
        let sender = Sender::new();
        let opened: Vec<(Origin, Cover)> = (1..=16)
            .map(|seq| {
                let cover = Cover::read(&sender.seal(seq).0).unwrap();
                (open_origin(&sender.header_key, &cover).unwrap(), cover)
            })
            .collect();
        let rlk = sender.rlk.public();
        let claims: Vec<Claim<'_>> =
            opened.iter().map(|(origin, cover)| sender.claim(origin, cover, &rlk)).collect();
        assert!(verify_origins(&claims));
        assert!(verify_origins(&[]));
        let forged = Origin { seq: 99, ..opened[7].0 };
        let mut bad = claims.clone();
        bad[7].origin = &forged;
        assert!(!verify_origins(&bad));
        let elsewhere = Origin { device: DeviceShort::from([0; 8]), ..opened[7].0 };
        bad[7].origin = &elsewhere;
        assert!(!verify_origins(&bad));
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(
            head in prop::collection::vec(any::<u8>(), 0..64),
            origin in prop::collection::vec(any::<u8>(), 0..160),
            ct in prop::collection::vec(any::<u8>(), 0..600),
        ) {
            let _ = Head::parse(&head);
            let _ = Origin::parse(&origin);
            let _ = Sender::new().verify(&wire::Envelope { head, origin, ct });
        }

        #[test]
        fn any_origin_of_the_right_length_stays_closed(origin in prop::collection::vec(any::<u8>(), ORIGIN_BYTES)) {
            let sender = Sender::new();
            let (mut envelope, _) = sender.seal(1);
            envelope.origin = origin;
            prop_assert_eq!(sender.verify(&envelope), Err(EnvelopeError::Closed));
        }
    }
}
