//! The one message that reaches somebody who is away: ML-KEM-768 and Noise Xpsk0 to a prekey bundle
//! (docs/protocol.md, section 8).

use crate::{
    bundle::{Bundle, BundleSecrets, KEM_CT},
    dh::{DhPublic, DhSecret},
    kdf::{derive, sha256, sha256_of},
    noise,
    plaintext::ChannelError,
};
use oob_proto::{BundleId, DeviceId, Message, OrgId, wire};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

/// Noise bytes around the payload: an ephemeral key, a sealed static key, two tags.
const NOISE_OVERHEAD: usize = 32 + (32 + 16) + 16;
/// Encoded bytes of a first flight around its Noise message: bundle id, KEM ciphertext, three fields' framing.
const FRAMING: usize = (2 + 16) + (3 + KEM_CT) + 3;
/// Bytes of an encoded first flight that are not payload, as long as the Noise message has 128 to 16,383 bytes.
pub(crate) const OVERHEAD: usize = FRAMING + NOISE_OVERHEAD;

/// Who writes to whom for the first time.
#[derive(Debug, Clone, Copy)]
pub struct FirstContact<'a> {
    /// The organisation.
    pub org: &'a OrgId,
    /// The sender's Noise key, which the handshake proves.
    pub my_dnk: &'a DhSecret,
    /// The sending device.
    pub my_device: &'a DeviceId,
    /// The device the bundle is of.
    pub to: &'a DeviceId,
    /// Its newest bundle.
    pub bundle: &'a Bundle,
}

/// A first flight written, and what both sides know after it.
pub(crate) struct Written {
    pub(crate) encoded: Vec<u8>,
    pub(crate) secrets: Shared,
}

/// A first flight read, and what both sides know after it.
pub(crate) struct Read {
    pub(crate) payload: Zeroizing<Vec<u8>>,
    pub(crate) dnk: DhPublic,
    pub(crate) secrets: Shared,
}

/// What both sides know after a first flight.
pub(crate) struct Shared {
    /// Seals the messages that follow, all in the same direction.
    pub(crate) key: Zeroizing<[u8; 32]>,
    /// The handshake hash, which names this contact.
    pub(crate) hash: [u8; 32],
}

pub(crate) fn write(
    rng: &mut impl CryptoRng,
    contact: &FirstContact<'_>,
    payload: &[u8],
) -> Result<Written, ChannelError> {
    let (kem_ct, kem_secret) = contact.bundle.encapsulate(rng)?;
    let prologue = prologue(contact.org, contact.bundle.hash(), contact.to, &kem_ct);
    let psk = psk(&kem_ct, &kem_secret);
    let my_dnk = contact.my_dnk.export_secret();
    let ephemeral = noise::ephemeral(rng);
    let start = || {
        noise::builder(noise::FIRST_FLIGHT, ephemeral)?
            .prologue(&prologue)?
            .psk(0, &psk)?
            .local_private_key(my_dnk.as_slice())?
            .remote_public_key(contact.bundle.spk().as_bytes())?
            .build_initiator()
    };
    let mut state = start().map_err(|_| ChannelError::Closed)?;
    let noise = noise::write(&mut state, payload).map_err(|_| ChannelError::Closed)?;
    let flight = wire::FirstFlight { bundle: contact.bundle.id().to_vec(), kem_ct, noise };
    Ok(Written { encoded: flight.encode_to_vec(), secrets: split(&mut state)? })
}

pub(crate) fn read(
    secrets: &BundleSecrets,
    org: &OrgId,
    my_device: &DeviceId,
    encoded: &[u8],
) -> Result<Read, ChannelError> {
    let flight = wire::FirstFlight::decode(encoded).map_err(|_| ChannelError::Malformed)?;
    // One contact has one encoding: fields we do not know, or written twice, are nobody's.
    if flight.kem_ct.len() != KEM_CT
        || flight.noise.len() < NOISE_OVERHEAD
        || flight.encode_to_vec() != encoded
    {
        return Err(ChannelError::Malformed);
    }
    let found =
        BundleId::try_from(flight.bundle.as_slice()).map_err(|_| ChannelError::Malformed)?;
    if found != secrets.id() {
        return Err(ChannelError::OtherBundle { expected: secrets.id(), found });
    }
    let kem_secret = secrets.decapsulate(&flight.kem_ct).ok_or(ChannelError::Malformed)?;
    let prologue = prologue(org, secrets.hash(), my_device, &flight.kem_ct);
    let psk = psk(&flight.kem_ct, &kem_secret);
    let spk = secrets.spk().export_secret();
    let start = || {
        noise::builder(noise::FIRST_FLIGHT, None)?
            .prologue(&prologue)?
            .psk(0, &psk)?
            .local_private_key(spk.as_slice())?
            .build_responder()
    };
    let mut state = start().map_err(|_| ChannelError::Closed)?;
    let payload = noise::read(&mut state, &flight.noise).map_err(|_| ChannelError::Closed)?;
    let dnk = DhPublic::parse(state.get_remote_static().unwrap_or_default())?;
    Ok(Read { payload, dnk, secrets: split(&mut state)? })
}

/// Takes the key out of a finished handshake, as snow's states cannot be stored.
fn split(state: &mut snow::HandshakeState) -> Result<Shared, ChannelError> {
    // One-way pattern: the second key, of the other direction, is never used.
    let (key, other) = state.dangerously_get_raw_split();
    drop(Zeroizing::new(other));
    let hash = state.get_handshake_hash().try_into().map_err(|_| ChannelError::Closed)?;
    Ok(Shared { key: Zeroizing::new(key), hash })
}

fn prologue(org: &OrgId, bundle_hash: &[u8; 32], to: &DeviceId, kem_ct: &[u8]) -> [u8; 32] {
    sha256_of(&[b"oob/1 pairwise", org.as_bytes(), bundle_hash, to.as_bytes(), kem_ct])
}

fn psk(kem_ct: &[u8], kem_secret: &[u8; 32]) -> Zeroizing<[u8; 32]> {
    derive(Some(&sha256(kem_ct)), kem_secret, b"oob/1 kem-psk")
}
