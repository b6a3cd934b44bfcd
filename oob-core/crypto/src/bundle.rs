//! Prekey bundles: what a device publishes so that others can write to it while it is away
//! (docs/protocol.md, section 8).
//!
//! A bundle is a payload signed by its device: [`crate::signed::sign`] with `SignedType::Bundle` makes it, and
//! [`crate::signed::verify`] is the caller's to call before [`Bundle::parse`] is believed.

use crate::{
    dh::{DhPublic, DhSecret},
    kdf::{first_half, sha256},
    keys::KeyError,
    stored::{self, StoredError},
};
use ml_kem::{
    DecapsulationKey768, EncapsulationKey768,
    kem::{Decapsulate, Encapsulate, KeyExport},
};
use oob_proto::{BundleId, DeviceId, Incarnation, Message, wire};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use std::fmt;
use vodozemac::olm::{Account, AccountPickle};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Bytes of an ML-KEM-768 encapsulation key.
const KEM_PUBLIC: usize = 1_184;
/// Bytes of an ML-KEM-768 ciphertext.
pub(crate) const KEM_CT: usize = 1_088;
/// Longest encoded bundle: its keys are 1,312 bytes, numbers and framing under 100.
pub const BUNDLE_BYTES: usize = 1_536;
/// Bits of the tag of a first flight that tell whose it is: a device away for long looks at 1 in 64 of the strangers'.
const INBOX_MASK: u8 = 0b1111_1100;

/// Why bytes are not a prekey bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// Longer than any bundle.
    #[error("bundle of {len} bytes, at most {BUNDLE_BYTES} are allowed")]
    TooLong {
        /// Its length.
        len: usize,
    },
    /// Not the encoding of a bundle, or not its only one.
    #[error("not a prekey bundle")]
    Malformed,
    /// A field has another length.
    #[error("{field} has {found} bytes, not {expected}")]
    Length {
        /// Which field.
        field: &'static str,
        /// How long it must be.
        expected: usize,
        /// How long it was.
        found: usize,
    },
    /// One of the keys is none.
    #[error("{field} is not a key")]
    Key {
        /// Which field.
        field: &'static str,
        /// What is wrong with it.
        #[source]
        source: KeyError,
    },
}

/// The account a device's pairwise ratchets belong to. It holds the identity; fallback keys live with their bundles.
pub struct OlmAccount(Account);

impl OlmAccount {
    /// Makes a new account. The randomness is the operating system's: vodozemac takes no other.
    pub fn generate() -> Self {
        Self(Account::new())
    }

    /// Returns the public identity key, which the device certificate and every bundle name.
    pub fn identity(&self) -> [u8; 32] {
        self.0.curve25519_key().to_bytes()
    }

    /// Returns the secret, for the store.
    pub fn export_secret(&self) -> Zeroizing<Vec<u8>> {
        stored::write_pickle(&self.0.pickle())
    }

    /// Takes an account exported before.
    ///
    /// # Errors
    /// Bytes that are none.
    pub fn from_secret(bytes: &[u8]) -> Result<Self, StoredError> {
        Ok(Self(Account::from_pickle(stored::read_pickle::<AccountPickle>(bytes)?)))
    }

    pub(crate) fn account(&self) -> &Account {
        &self.0
    }

    pub(crate) fn copy(&self) -> Self {
        Self(Account::from_pickle(self.0.pickle()))
    }

    pub(crate) fn account_mut(&mut self) -> &mut Account {
        &mut self.0
    }
}

impl fmt::Debug for OlmAccount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OlmAccount(..)")
    }
}

/// What a new bundle says beside its keys.
#[derive(Debug, Clone, Copy)]
pub struct BundleFields {
    /// Whose it is.
    pub device: DeviceId,
    /// From 0 per device.
    pub seq: u64,
    /// Milliseconds since 1970: a newer one is asked for after it.
    pub not_after: u64,
    /// The device's incarnation.
    pub incarnation: Incarnation,
    /// Its place in the device's one counter of records.
    pub record_seq: u64,
}

/// The secret half of one bundle: opens first flights and begins ratchets, as long as it is kept.
///
/// It holds its own copy of the Olm account with this bundle's fallback key: an account alone forgets a fallback key
/// after two newer ones.
pub struct BundleSecrets {
    hash: [u8; 32],
    spk: DhSecret,
    kem_seed: Zeroizing<[u8; 64]>,
    inbox_key: Zeroizing<[u8; 32]>,
    account: OlmAccount,
}

#[derive(Serialize, Deserialize, Zeroize, ZeroizeOnDrop)]
struct StoredSecrets {
    hash: [u8; 32],
    spk: [u8; 32],
    kem_d: [u8; 32],
    kem_z: [u8; 32],
    inbox_key: [u8; 32],
    account: Vec<u8>,
}

impl BundleSecrets {
    /// Makes a bundle: the payload to sign and publish, and the secrets to keep.
    pub fn generate(
        rng: &mut impl CryptoRng,
        account: &OlmAccount,
        fields: &BundleFields,
    ) -> (Vec<u8>, Self) {
        let spk = DhSecret::generate(rng);
        let mut kem_seed = Zeroizing::new([0; 64]);
        rng.fill_bytes(kem_seed.as_mut());
        let mut inbox_key = Zeroizing::new([0; 32]);
        rng.fill_bytes(inbox_key.as_mut());
        let mut account = account.copy();
        account.0.generate_fallback_key();
        let fallback = account.0.fallback_key().into_values().next();
        let bundle = wire::PrekeyBundle {
            device: fields.device.to_vec(),
            seq: fields.seq,
            spk: spk.public().to_vec(),
            kem_pk: kem_key(&kem_seed).encapsulation_key().to_bytes().to_vec(),
            olm_id: account.identity().to_vec(),
            olm_fallback: fallback.map(|key| key.to_vec()).unwrap_or_default(),
            inbox_key: inbox_key.to_vec(),
            not_after: fields.not_after,
            incarnation: fields.incarnation.0,
            record_seq: fields.record_seq,
        };
        let payload = bundle.encode_to_vec();
        let hash = sha256(&payload);
        (payload, Self { hash, spk, kem_seed, inbox_key, account })
    }

    /// Returns the id of the bundle these belong to.
    pub fn id(&self) -> BundleId {
        first_half(self.hash).into()
    }

    /// Says whether a first flight with this tag may be for this bundle; one in 64 is by chance.
    pub fn may_be_ours(&self, tag: &[u8; 16]) -> bool {
        let [first, ..] = tag;
        first & INBOX_MASK == inbox_bits(&self.inbox_key)
    }

    /// Returns the secrets, for the store.
    pub fn export_secret(&self) -> Zeroizing<Vec<u8>> {
        let (mut kem_d, mut kem_z) = ([0; 32], [0; 32]);
        for (to, from) in kem_d.iter_mut().chain(&mut kem_z).zip(self.kem_seed.iter()) {
            *to = *from;
        }
        stored::write(&StoredSecrets {
            hash: self.hash,
            spk: *self.spk.export_secret(),
            kem_d,
            kem_z,
            inbox_key: *self.inbox_key,
            account: self.account.export_secret().to_vec(),
        })
    }

    /// Takes secrets exported before.
    ///
    /// # Errors
    /// Bytes that are none.
    pub fn from_secret(bytes: &[u8]) -> Result<Self, StoredError> {
        let state: StoredSecrets = stored::read(bytes)?;
        let mut kem_seed = Zeroizing::new([0; 64]);
        for (to, from) in kem_seed.iter_mut().zip(state.kem_d.iter().chain(&state.kem_z)) {
            *to = *from;
        }
        Ok(Self {
            hash: state.hash,
            spk: DhSecret::from_secret(&state.spk),
            kem_seed,
            inbox_key: Zeroizing::new(state.inbox_key),
            account: OlmAccount::from_secret(&state.account)?,
        })
    }

    pub(crate) fn hash(&self) -> &[u8; 32] {
        &self.hash
    }

    pub(crate) fn spk(&self) -> &DhSecret {
        &self.spk
    }

    pub(crate) fn account(&self) -> &OlmAccount {
        &self.account
    }

    /// Returns the secret inside a KEM ciphertext, or a random-looking one if it was made for somebody else.
    pub(crate) fn decapsulate(&self, ct: &[u8]) -> Option<Zeroizing<[u8; 32]>> {
        let shared = kem_key(&self.kem_seed).decapsulate_slice(ct).ok()?;
        Some(Zeroizing::new(shared.into()))
    }
}

impl fmt::Debug for BundleSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "BundleSecrets({}, ..)", self.id())
    }
}

/// Somebody's bundle, with lengths and keys checked.
#[derive(Debug, Clone)]
pub struct Bundle {
    hash: [u8; 32],
    fields: BundleFields,
    spk: DhPublic,
    kem_pk: Box<[u8; KEM_PUBLIC]>,
    olm_id: DhPublic,
    olm_fallback: DhPublic,
    inbox_key: [u8; 32],
}

impl Bundle {
    /// Reads a bundle's payload. Its signature, by the device it names, is checked by the caller.
    ///
    /// # Errors
    /// Anything but the one encoding of a bundle whose keys all are keys.
    pub fn parse(payload: &[u8]) -> Result<Self, BundleError> {
        if payload.len() > BUNDLE_BYTES {
            return Err(BundleError::TooLong { len: payload.len() });
        }
        let wire = wire::PrekeyBundle::decode(payload).map_err(|_| BundleError::Malformed)?;
        if wire.encode_to_vec() != payload {
            return Err(BundleError::Malformed);
        }
        let device = array(&wire.device, "device")?;
        let kem_pk = Box::new(array::<KEM_PUBLIC>(&wire.kem_pk, "kem_pk")?);
        EncapsulationKey768::new((&*kem_pk).into())
            .map_err(|_| BundleError::Key { field: "kem_pk", source: KeyError::Invalid })?;
        Ok(Self {
            hash: sha256(payload),
            fields: BundleFields {
                device: DeviceId::from(device),
                seq: wire.seq,
                not_after: wire.not_after,
                incarnation: Incarnation(wire.incarnation),
                record_seq: wire.record_seq,
            },
            spk: dh(&wire.spk, "spk")?,
            kem_pk,
            olm_id: dh(&wire.olm_id, "olm_id")?,
            olm_fallback: dh(&wire.olm_fallback, "olm_fallback")?,
            inbox_key: array(&wire.inbox_key, "inbox_key")?,
        })
    }

    /// Returns the bundle's id.
    pub fn id(&self) -> BundleId {
        first_half(self.hash).into()
    }

    /// Returns what it says beside its keys.
    pub fn fields(&self) -> &BundleFields {
        &self.fields
    }

    /// Returns the device it is for.
    pub fn device(&self) -> &DeviceId {
        &self.fields.device
    }

    /// Returns the Olm identity, which must be that of the device's certificate.
    pub fn olm_id(&self) -> &[u8; 32] {
        self.olm_id.as_bytes()
    }

    pub(crate) fn olm_fallback(&self) -> &[u8; 32] {
        self.olm_fallback.as_bytes()
    }

    pub(crate) fn hash(&self) -> &[u8; 32] {
        &self.hash
    }

    pub(crate) fn spk(&self) -> &DhPublic {
        &self.spk
    }

    /// Draws the tag of a first flight to this bundle: six bits that tell whose it is, the rest random.
    pub(crate) fn draw_tag(&self, rng: &mut impl CryptoRng) -> [u8; 16] {
        let mut tag = [0; 16];
        rng.fill_bytes(&mut tag);
        let [first, ..] = &mut tag;
        *first = inbox_bits(&self.inbox_key) | (*first & !INBOX_MASK);
        tag
    }

    /// Makes a secret that only the holder of the bundle's ML-KEM key can take out of the ciphertext.
    pub(crate) fn encapsulate(
        &self,
        rng: &mut impl CryptoRng,
    ) -> Result<(Vec<u8>, Zeroizing<[u8; 32]>), KeyError> {
        let key =
            EncapsulationKey768::new((&*self.kem_pk).into()).map_err(|_| KeyError::Invalid)?;
        let (ct, shared) = key.encapsulate_with_rng(rng);
        Ok((ct.to_vec(), Zeroizing::new(shared.into())))
    }
}

fn kem_key(seed: &[u8; 64]) -> DecapsulationKey768 {
    DecapsulationKey768::from_seed((*seed).into())
}

fn inbox_bits(inbox_key: &[u8; 32]) -> u8 {
    let [first, ..] = *blake3::keyed_hash(inbox_key, b"oob/1 inbox").as_bytes();
    first & INBOX_MASK
}

fn array<const N: usize>(bytes: &[u8], field: &'static str) -> Result<[u8; N], BundleError> {
    bytes.try_into().map_err(|_| BundleError::Length { field, expected: N, found: bytes.len() })
}

fn dh(bytes: &[u8], field: &'static str) -> Result<DhPublic, BundleError> {
    DhPublic::parse(bytes).map_err(|source| BundleError::Key { field, source })
}
