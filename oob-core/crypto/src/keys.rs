//! Ed25519: the keys that sign. One kind for every purpose, one key per purpose (docs/protocol.md, section 1).

use crate::kdf;
use ed25519_dalek::{Signature, Signer, VerifyingKey};
use rand_core::CryptoRng;
use std::{cmp::Ordering, fmt, hash};
use zeroize::Zeroizing;

/// Why bytes are not a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Another length.
    #[error("a key has {expected} bytes, not {found}")]
    Length {
        /// How long it must be.
        expected: usize,
        /// How long it was.
        found: usize,
    },
    /// No point of the curve, or not written in the one way there is to write it.
    #[error("these bytes are no key")]
    Invalid,
    /// A point of small order: everybody knows what it agrees on or signs.
    #[error("the key has low order")]
    LowOrder,
}

/// Why a signature, or a set of them, does not stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// More or fewer signatures than the thing must have.
    #[error("{found} signatures where {expected} are asked for")]
    Count {
        /// How many keys must have signed.
        expected: usize,
        /// How many signatures there are.
        found: usize,
    },
    /// The signature at this place is by another key.
    #[error("signature {index} is by another key")]
    Key {
        /// Its place, from 0.
        index: usize,
    },
    /// The signature at this place is not 64 bytes long.
    #[error("signature {index} has {found} bytes")]
    Length {
        /// Its place, from 0.
        index: usize,
        /// How long it was.
        found: usize,
    },
    /// The signature at this place is not over these bytes.
    #[error("signature {index} does not verify")]
    Invalid {
        /// Its place, from 0.
        index: usize,
    },
}

/// A secret Ed25519 key. Forgotten in memory when dropped.
#[derive(Clone)]
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// Draws a new key.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut secret = Zeroizing::new([0; 32]);
        rng.fill_bytes(secret.as_mut());
        Self::from_secret(&secret)
    }

    /// Takes a key exported before.
    pub fn from_secret(secret: &[u8; 32]) -> Self {
        Self(ed25519_dalek::SigningKey::from_bytes(secret))
    }

    /// Returns the secret, for the store.
    pub fn export_secret(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// Returns the public half.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key())
    }

    /// Signs bytes as they are. The caller puts a context in front; [`crate::signed::sign`] does so.
    pub fn sign_raw(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(..)")
    }
}

/// A public Ed25519 key: a point of the curve, written canonically, not of small order.
#[derive(Clone, Copy)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// Bytes in it.
    pub const LEN: usize = 32;

    /// Reads a key from outside.
    ///
    /// # Errors
    /// Another length, no point of the curve, a second spelling of a point, a point of small order.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeyError> {
        let bytes: &[u8; 32] = bytes
            .try_into()
            .map_err(|_| KeyError::Length { expected: Self::LEN, found: bytes.len() })?;
        let key = VerifyingKey::from_bytes(bytes).map_err(|_| KeyError::Invalid)?;
        if key.is_weak() {
            return Err(KeyError::LowOrder);
        }
        // Two spellings of one key would be two devices in the roster.
        if key.to_edwards().compress().as_bytes() != bytes {
            return Err(KeyError::Invalid);
        }
        Ok(Self(key))
    }

    /// Returns the bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// Returns the bytes as a vector, as wire types hold them.
    pub fn to_vec(&self) -> Vec<u8> {
        self.as_bytes().to_vec()
    }

    /// Verifies a signature over bytes as they are, strictly: one signature has one form.
    ///
    /// # Errors
    /// [`SignatureError::Invalid`] with place 0.
    pub fn verify_raw(&self, message: &[u8], sig: &[u8; 64]) -> Result<(), SignatureError> {
        self.0
            .verify_strict(message, &Signature::from_bytes(sig))
            .map_err(|_| SignatureError::Invalid { index: 0 })
    }

    pub(crate) fn verifying(&self) -> VerifyingKey {
        self.0
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for PublicKey {}

impl PartialOrd for PublicKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for PublicKey {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl hash::Hash for PublicKey {
    fn hash<H: hash::Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", oob_proto::id::to_base32(self.as_bytes()))
    }
}

/// Returns the key that signs for whoever holds an invitation: derived from the secret in its link.
pub fn invite_key(secret: &[u8; 32]) -> SigningKey {
    SigningKey::from_secret(&kdf::derive(None, secret, b"oob/1 invite"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::HEXLOWER_PERMISSIVE as HEX;
    use ed25519_dalek::Verifier as _;
    use rand::{SeedableRng, rngs::StdRng};

    fn hex<const N: usize>(text: &str) -> [u8; N] {
        HEX.decode(text.as_bytes()).unwrap().try_into().unwrap()
    }

    /// RFC 8032, section 7.1, tests 1 and 2.
    #[test]
    fn ed25519_gives_the_known_answers() {
        for (secret, public, message, sig) in [
            (
                "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
                "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
                b"".as_slice(),
                "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
            ),
            (
                "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
                "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
                &[0x72],
                "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
            ),
        ] {
            let key = SigningKey::from_secret(&hex(secret));
            assert_eq!(*key.public().as_bytes(), hex(public));
            assert_eq!(key.sign_raw(message), hex(sig));
            let public = PublicKey::parse(&hex::<32>(public)).unwrap();
            assert_eq!(public.verify_raw(message, &hex(sig)), Ok(()));
            assert!(public.verify_raw(b"else", &hex(sig)).is_err());
        }
    }

    #[test]
    fn weak_keys_other_spellings_and_other_lengths_are_refused() {
        // The eight points of small order, and the identity spelled with its sign bit set or with y = p + 1.
        for text in [
            "0100000000000000000000000000000000000000000000000000000000000000",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "0000000000000000000000000000000000000000000000000000000000000000",
            "0000000000000000000000000000000000000000000000000000000000000080",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
            "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
            "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
            "0100000000000000000000000000000000000000000000000000000000000080",
            "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        ] {
            assert!(PublicKey::parse(&hex::<32>(text)).is_err(), "{text}");
        }
        // y = p + 3 is y = 3 in a second spelling.
        let mut second =
            hex::<32>("f0ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f");
        let mut first = [0; 32];
        let spelled = (0..=18u8).any(|low| {
            second[0] = 0xed_u8.wrapping_add(low);
            first[0] = low;
            assert!(PublicKey::parse(&second).is_err(), "{low}");
            PublicKey::parse(&first).is_ok()
        });
        assert!(spelled, "control: at least one of them is a key when spelled canonically");
        assert_eq!(PublicKey::parse(&[1; 31]), Err(KeyError::Length { expected: 32, found: 31 }));
    }

    /// A signature whose R is the neutral point: whoever has the key can make it, and a lenient verifier takes it. Such ones
    /// verify for some and not for others, which in a signed log means two rosters.
    #[test]
    fn a_signature_with_an_r_of_small_order_does_not_stand() {
        let key = SigningKey::from_secret(&[1; 32]).public();
        let sig: [u8; 64] = hex(
            "0100000000000000000000000000000000000000000000000000000000000000d33e1bf275bce774a9cd3e78c7e9ce762f69ac97c3b78e665182453134a04c0b",
        );
        let lenient = key.0.verify(b"payload", &Signature::from_bytes(&sig));
        assert!(lenient.is_ok(), "control: it is a signature of this key");
        assert_eq!(key.verify_raw(b"payload", &sig), Err(SignatureError::Invalid { index: 0 }));
    }

    #[test]
    fn a_secret_reads_back_and_is_not_printed() {
        let key = SigningKey::generate(&mut StdRng::seed_from_u64(1));
        assert_eq!(SigningKey::from_secret(&key.export_secret()).public(), key.public());
        assert_eq!(format!("{key:?}"), "SigningKey(..)");
    }

    #[test]
    fn golden_invite_key() {
        assert_eq!(
            *invite_key(&[4; 32]).public().as_bytes(),
            hex("8e07070ce0aba2030cfabd8adffbbc716335b71c25f6b7b4586da0dd98f1babd")
        );
    }
}
