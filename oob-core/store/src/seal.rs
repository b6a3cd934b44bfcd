//! Sealed values: what stands beside a key in the tree.
//!
//! ```text
//! version u8 (1) | slot u32 BE | nonce 24 | XChaCha20-Poly1305(key, nonce, AAD = the record's address) of
//!                                           length u32 BE | value | zeros up to a multiple of 256 bytes
//! ```
//! Slot 0 is the value key of the bag's class; every other number is a key in the slot file.

use chacha20poly1305::aead::{AeadInOut, KeyInit};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::error::StoreError;
use crate::keys::{Address, Key};
use crate::limits::PAD_BYTES;

const VERSION: u8 = 1;
const HEADER: usize = 1 + 4 + 24;
const TAG: usize = 16;

/// The slot number that means the value key itself.
pub(crate) const NO_SLOT: u32 = 0;

/// Seals the parts of a value, one after the other, for one place.
#[expect(clippy::expect_used, reason = "only buffers of 2^38 bytes and more are refused")]
pub(crate) fn seal(
    rng: &mut dyn CryptoRng,
    key: &Key,
    slot: u32,
    place: &Address,
    parts: &[&[u8]],
) -> Vec<u8> {
    let mut nonce = [0; 24];
    rng.fill_bytes(&mut nonce);
    let len: usize = parts.iter().map(|part| part.len()).sum();
    let padded = (4 + len).next_multiple_of(PAD_BYTES);
    // All of it has its place, so that nothing in the clear is left behind where it was.
    let mut out = Vec::with_capacity(HEADER + padded + TAG);
    out.push(VERSION);
    out.extend_from_slice(&slot.to_be_bytes());
    out.extend_from_slice(&nonce);
    // Values are at most VALUE_BYTES long, which the commit checked.
    out.extend_from_slice(&u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes());
    for part in parts {
        out.extend_from_slice(part);
    }
    out.resize(HEADER + padded, 0);
    let plain = out.get_mut(HEADER..).unwrap_or_default();
    let tag = XChaCha20Poly1305::new((&**key).into())
        .encrypt_inout_detached(&XNonce::from(nonce), place, plain.into())
        .expect("short buffer");
    out.extend_from_slice(&tag);
    out
}

/// Returns the slot a stored value names.
pub(crate) fn slot_of(stored: &[u8]) -> Result<u32, StoreError> {
    Ok(split(stored)?.0)
}

/// Opens a stored value.
pub(crate) fn open(
    key: &Key,
    place: &Address,
    stored: &[u8],
) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    open_in_place(key, place, stored.to_vec())
}

/// Opens a stored value where it lies.
pub(crate) fn open_in_place(
    key: &Key,
    place: &Address,
    stored: Vec<u8>,
) -> Result<Zeroizing<Vec<u8>>, StoreError> {
    let (_, nonce, _) = split(&stored)?;
    let nonce = XNonce::from(*nonce);
    let mut stored = Zeroizing::new(stored);
    let sealed = stored.get_mut(HEADER..).unwrap_or_default();
    let opened = sealed.split_last_chunk_mut::<TAG>().and_then(|(body, tag)| {
        let cipher = XChaCha20Poly1305::new((&**key).into());
        cipher.decrypt_inout_detached(&nonce, place, (&mut *body).into(), (&*tag).into()).ok()?;
        let (len, rest) = body.split_first_chunk::<4>()?;
        Some(rest.get(..usize::try_from(u32::from_be_bytes(*len)).ok()?).map(<[u8]>::len))
    });
    let len = opened
        .ok_or_else(|| StoreError::damaged("a record does not open under its key"))?
        .ok_or_else(|| StoreError::damaged("a record is shorter than it says"))?;
    stored.truncate(HEADER + 4 + len);
    stored.drain(..HEADER + 4);
    Ok(stored)
}

fn split(stored: &[u8]) -> Result<(u32, &[u8; 24], &[u8]), StoreError> {
    let parts = || {
        let (version, rest) = stored.split_first()?;
        let (slot, rest) = rest.split_first_chunk::<4>()?;
        let (nonce, sealed) = rest.split_first_chunk::<24>()?;
        Some((*version, u32::from_be_bytes(*slot), nonce, sealed))
    };
    match parts() {
        Some((VERSION, slot, nonce, sealed)) => Ok((slot, nonce, sealed)),
        Some((version, ..)) if version > VERSION => {
            Err(StoreError::Newer { found: version.into(), known: VERSION.into() })
        }
        _ => Err(StoreError::damaged("a record has no header")),
    }
}

/// Encrypts a buffer in place and puts the tag behind it.
#[expect(clippy::expect_used, reason = "only buffers of 2^38 bytes and more are refused")]
pub(crate) fn seal_raw(key: &Key, nonce: &[u8; 24], aad: &[u8], buffer: &mut Vec<u8>) {
    XChaCha20Poly1305::new((&**key).into())
        .encrypt_in_place(&XNonce::from(*nonce), aad, buffer)
        .expect("short buffer");
}

/// Decrypts a buffer in place and takes the tag off, or leaves garbage and returns `None`.
pub(crate) fn open_raw(
    key: &Key,
    nonce: &[u8; 24],
    aad: &[u8],
    buffer: &mut Vec<u8>,
) -> Option<()> {
    XChaCha20Poly1305::new((&**key).into())
        .decrypt_in_place(&XNonce::from(*nonce), aad, buffer)
        .ok()
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn a_value_opens_only_at_its_own_place_and_whole() {
        let mut rng = StdRng::seed_from_u64(1);
        let key = Zeroizing::new([3; 32]);
        let stored = seal(&mut rng, &key, 7, &[1; 24], &[b"ab", b"c"]);
        assert_eq!(stored.len(), HEADER + 256 + 16);
        assert_eq!(slot_of(&stored).unwrap(), 7);
        assert_eq!(open(&key, &[1; 24], &stored).unwrap().as_slice(), b"abc");
        assert!(open(&key, &[2; 24], &stored).is_err());
        assert!(open(&Zeroizing::new([4; 32]), &[1; 24], &stored).is_err());
        for cut in 0..stored.len() {
            assert!(open(&key, &[1; 24], &stored[..cut]).is_err());
        }
        let mut newer = stored;
        newer[0] = 2;
        assert!(matches!(open(&key, &[1; 24], &newer), Err(StoreError::Newer { found: 2, .. })));
    }

    #[test]
    fn lengths_are_hidden_in_steps() {
        let mut rng = StdRng::seed_from_u64(2);
        let key = Zeroizing::new([3; 32]);
        let mut len = |n: usize| seal(&mut rng, &key, 0, &[1; 24], &[&vec![1; n]]).len();
        assert_eq!(len(0), len(252));
        assert_eq!(len(253), len(508));
        assert_ne!(len(252), len(253));
    }
}
