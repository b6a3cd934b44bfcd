//! Ed25519: the keys that sign. One kind for every purpose, one key per purpose (docs/protocol.md, section 1).

use crate::kdf;
use ed25519_dalek::{Signature, Signer, Verifier, VerifyingKey};
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

/// The points of small order as they are spelled: of order 1, 2, twice 4 and four times 8.
const SMALL_ORDER: [[u8; 32]; 8] = {
    const fn with_sign(mut point: [u8; 32]) -> [u8; 32] {
        point[31] |= 0x80;
        point
    }
    const ONE: [u8; 32] = {
        let mut one = [0; 32];
        one[0] = 1;
        one
    };
    const MINUS_ONE: [u8; 32] = {
        let mut minus_one = [0xff; 32];
        (minus_one[0], minus_one[31]) = (0xec, 0x7f);
        minus_one
    };
    const EIGHTH: [u8; 32] = [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ];
    const OTHER_EIGHTH: [u8; 32] = [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ];
    [
        ONE,
        MINUS_ONE,
        [0; 32],
        with_sign([0; 32]),
        EIGHTH,
        with_sign(EIGHTH),
        OTHER_EIGHTH,
        with_sign(OTHER_EIGHTH),
    ]
};

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
        let sig = Signature::from_bytes(sig);
        // No key is of small order, or it would be none. R is compared, as bytes, with a point that was computed, so one that
        // passes is spelled canonically, and whether it is of small order can be read from its spelling: taking the root that
        // gives the point again is a tenth of the whole check.
        if SMALL_ORDER.contains(sig.r_bytes()) {
            return Err(SignatureError::Invalid { index: 0 });
        }
        self.0.verify(message, &sig).map_err(|_| SignatureError::Invalid { index: 0 })
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
    use curve25519_dalek::{EdwardsPoint, Scalar, constants::EIGHT_TORSION};
    use data_encoding::HEXLOWER_PERMISSIVE as HEX;
    use rand::{SeedableRng, rngs::StdRng};
    use sha2::{Digest, Sha512};

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

    /// Signs as whoever has a key with a part of order 8 can: R is `r`, and s is whatever makes the lenient equation hold,
    /// which it does for one message in eight at most.
    fn signature_with(r: &EdwardsPoint, key: &PublicKey, secret: Scalar) -> (Vec<u8>, [u8; 64]) {
        let r = r.compress();
        for message in 0..10_000_u32 {
            let message = message.to_be_bytes().to_vec();
            let hash = Sha512::new().chain_update(r.as_bytes()).chain_update(key.as_bytes());
            let hash = hash.chain_update(&message).finalize();
            let k = Scalar::from_bytes_mod_order_wide(&hash.into());
            let mut sig = [0; 64];
            sig[..32].copy_from_slice(r.as_bytes());
            sig[32..].copy_from_slice((k * secret).as_bytes());
            if key.0.verify(&message, &Signature::from_bytes(&sig)).is_ok() {
                return (message, sig);
            }
        }
        panic!("none found")
    }

    /// The spellings stand in for taking the root: each of them is refused where the lenient verifier takes it, and the strict
    /// one of the library says the same.
    #[test]
    fn no_signature_stands_whose_r_is_one_of_the_eight_points_of_small_order() {
        let secret = Scalar::from(77_u64);
        let point = EdwardsPoint::mul_base(&secret) + EIGHT_TORSION[1];
        let key = PublicKey::parse(point.compress().as_bytes()).unwrap();
        for r in &EIGHT_TORSION {
            let (message, sig) = signature_with(r, &key, secret);
            assert_eq!(key.verify_raw(&message, &sig), Err(SignatureError::Invalid { index: 0 }));
            assert!(key.0.verify_strict(&message, &Signature::from_bytes(&sig)).is_err());
        }
        // The control: another R, by the same key, stands.
        let r = EdwardsPoint::mul_base(&Scalar::from(5_u64));
        let stands = (0..1_000_u32).any(|message| {
            let message = message.to_be_bytes();
            let hash = Sha512::new().chain_update(r.compress().as_bytes());
            let hash = hash.chain_update(key.as_bytes()).chain_update(message).finalize();
            let k = Scalar::from_bytes_mod_order_wide(&hash.into());
            let mut sig = [0; 64];
            sig[..32].copy_from_slice(r.compress().as_bytes());
            sig[32..].copy_from_slice((Scalar::from(5_u64) + k * secret).as_bytes());
            let stands = key.verify_raw(&message, &sig).is_ok();
            let signature = Signature::from_bytes(&sig);
            assert_eq!(stands, key.0.verify_strict(&message, &signature).is_ok());
            stands
        });
        assert!(stands);
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
