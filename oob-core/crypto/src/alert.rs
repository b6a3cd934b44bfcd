//! Alerts under the key of an epoch: everybody in the ring opens them, with no session between any two (docs/protocol.md,
//! section 10.5).

use crate::epoch::AlertKey;
use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use oob_proto::{EpochId, Message, limits, wire};
use rand_core::CryptoRng;

/// Bytes of the tag behind the ciphertext.
const TAG: usize = 16;

/// Why an alert was not sealed, or not opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AlertError {
    /// Longer than any alert may be.
    #[error("sealed alert of {found} bytes, at most {} are allowed", limits::ALERT_BYTES)]
    TooLong {
        /// Its length.
        found: usize,
    },
    /// Sealed for another epoch than the one it was to be opened with.
    #[error("the alert is of another epoch")]
    OtherEpoch,
    /// The nonce is not 24 bytes long.
    #[error("nonce of {found} bytes")]
    Nonce {
        /// Its length.
        found: usize,
    },
    /// Sealed with another key, or altered.
    #[error("the alert does not open")]
    Closed,
    /// It opens, and there is no signed record inside.
    #[error("no signed record inside")]
    Malformed,
}

/// Seals a signed alert for everybody who has the epoch.
///
/// # Errors
/// [`AlertError::TooLong`].
pub fn seal_alert(
    rng: &mut impl CryptoRng,
    key: &AlertKey,
    epoch: &EpochId,
    signed: &wire::Signed,
) -> Result<wire::SealedAlert, AlertError> {
    let mut nonce = [0; 24];
    rng.fill_bytes(&mut nonce);
    let plain = signed.encode_to_vec();
    let found = plain.len().saturating_add(TAG);
    if found > limits::ALERT_BYTES {
        return Err(AlertError::TooLong { found });
    }
    let payload = Payload { msg: &plain, aad: epoch.as_bytes() };
    let ct = cipher(key)
        .encrypt(&XNonce::from(nonce), payload)
        .map_err(|_| AlertError::TooLong { found })?;
    Ok(wire::SealedAlert { epoch: epoch.to_vec(), nonce: nonce.to_vec(), ct })
}

/// Opens an alert with the key of its epoch. Nothing in it is verified yet: whoever has the key can have made it.
///
/// # Errors
/// See [`AlertError`]; lengths are looked at before any cryptography.
pub fn open_alert(
    key: &AlertKey,
    epoch: &EpochId,
    sealed: &wire::SealedAlert,
) -> Result<wire::Signed, AlertError> {
    if sealed.ct.len() > limits::ALERT_BYTES {
        return Err(AlertError::TooLong { found: sealed.ct.len() });
    }
    if sealed.epoch != epoch.as_bytes() {
        return Err(AlertError::OtherEpoch);
    }
    let nonce: [u8; 24] = sealed
        .nonce
        .as_slice()
        .try_into()
        .map_err(|_| AlertError::Nonce { found: sealed.nonce.len() })?;
    let payload = Payload { msg: &sealed.ct, aad: epoch.as_bytes() };
    let plain =
        cipher(key).decrypt(&XNonce::from(nonce), payload).map_err(|_| AlertError::Closed)?;
    wire::Signed::decode(plain.as_slice()).map_err(|_| AlertError::Malformed)
}

fn cipher(key: &AlertKey) -> XChaCha20Poly1305 {
    let secret: &[u8; 32] = &key.export_secret();
    XChaCha20Poly1305::new(secret.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::epoch::EpochSecret;
    use data_encoding::HEXLOWER as HEX;
    use rand::{SeedableRng, rngs::StdRng};

    fn epoch() -> (AlertKey, EpochId) {
        let secret = EpochSecret::from_secret(&[5; 32]);
        (secret.alert_key(), secret.id())
    }

    fn signed(len: usize) -> wire::Signed {
        wire::Signed { payload: vec![7; len], sigs: Vec::new() }
    }

    /// Computed once with another implementation of XChaCha20-Poly1305, itself checked by the vector of its draft.
    #[test]
    fn golden_sealed_alert() {
        let (key, epoch) = epoch();
        let sealed = wire::SealedAlert {
            epoch: epoch.to_vec(),
            nonce: vec![9; 24],
            ct: HEX.decode(GOLDEN.as_bytes()).unwrap(),
        };
        let opened = open_alert(&key, &epoch, &sealed).unwrap();
        assert_eq!(opened, wire::Signed { payload: b"payload".to_vec(), sigs: Vec::new() });
    }

    const GOLDEN: &str = "4313857e66b15543e1c0df6f265c11f4d8294d8b18d92ba4df";

    #[test]
    fn another_key_another_epoch_and_any_change_are_refused() {
        let (key, id) = epoch();
        let mut rng = StdRng::seed_from_u64(1);
        let sealed = seal_alert(&mut rng, &key, &id, &signed(40)).unwrap();
        assert_eq!(open_alert(&key, &id, &sealed), Ok(signed(40)), "control");

        let other = EpochSecret::from_secret(&[6; 32]);
        assert_eq!(open_alert(&other.alert_key(), &id, &sealed), Err(AlertError::Closed));
        assert_eq!(open_alert(&key, &other.id(), &sealed), Err(AlertError::OtherEpoch));
        let moved = wire::SealedAlert { epoch: other.id().to_vec(), ..sealed.clone() };
        assert_eq!(open_alert(&key, &other.id(), &moved), Err(AlertError::Closed));
        for place in 0..sealed.ct.len() {
            let mut altered = sealed.clone();
            altered.ct[place] ^= 1;
            assert_eq!(open_alert(&key, &id, &altered), Err(AlertError::Closed), "{place}");
        }
        let mut altered = sealed.clone();
        altered.nonce[23] ^= 1;
        assert_eq!(open_alert(&key, &id, &altered), Err(AlertError::Closed));
        altered.nonce.pop();
        assert_eq!(open_alert(&key, &id, &altered), Err(AlertError::Nonce { found: 23 }));
    }

    #[test]
    fn lengths_are_bounded_on_both_sides() {
        let (key, id) = epoch();
        let mut rng = StdRng::seed_from_u64(2);
        // The payload costs a tag and a length of two bytes.
        let most = limits::ALERT_BYTES - TAG - 3;
        let sealed = seal_alert(&mut rng, &key, &id, &signed(most)).unwrap();
        assert_eq!(sealed.ct.len(), limits::ALERT_BYTES);
        assert!(open_alert(&key, &id, &sealed).is_ok());
        let found = limits::ALERT_BYTES + 1;
        assert_eq!(
            seal_alert(&mut rng, &key, &id, &signed(most + 1)),
            Err(AlertError::TooLong { found })
        );
        let long = wire::SealedAlert { ct: vec![0; found], ..sealed };
        assert_eq!(open_alert(&key, &id, &long), Err(AlertError::TooLong { found }));
    }

    #[test]
    fn what_opens_and_is_no_record_is_refused() {
        let (key, id) = epoch();
        let payload = Payload { msg: &[0xff; 9], aad: id.as_bytes() };
        let ct = cipher(&key).encrypt(&XNonce::from([1; 24]), payload).unwrap();
        let sealed = wire::SealedAlert { epoch: id.to_vec(), nonce: vec![1; 24], ct };
        assert_eq!(open_alert(&key, &id, &sealed), Err(AlertError::Malformed));
    }
}
