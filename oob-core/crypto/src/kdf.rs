//! The hash and the key derivation everything else is named and keyed by.

use hkdf::Hkdf;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

/// Returns the SHA-256 of `bytes`.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// Returns the SHA-256 of the parts one after the other.
pub(crate) fn sha256_of(parts: &[&[u8]]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part);
    }
    hash.finalize().into()
}

/// Returns the first 16 bytes of a 32-byte hash, as short ids are made.
pub(crate) fn first_half(hash: [u8; 32]) -> [u8; 16] {
    let mut half = [0; 16];
    for (to, from) in half.iter_mut().zip(hash) {
        *to = from;
    }
    half
}

/// Derives 32 bytes from a secret by HKDF-SHA256.
pub(crate) fn derive(salt: Option<&[u8]>, secret: &[u8], info: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    #[expect(clippy::expect_used, reason = "HKDF-SHA256 gives up to 8,160 bytes, this is 32")]
    Hkdf::<Sha256>::new(salt, secret).expand(info, key.as_mut()).expect("32 bytes");
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 5869, test case 1, cut to its first 32 bytes.
    #[test]
    fn hkdf_gives_the_known_answer() {
        let salt: Vec<u8> = (0..=0x0c).collect();
        let info: Vec<u8> = (0xf0..=0xf9).collect();
        let key = derive(Some(&salt), &[0x0b; 22], &info);
        let expected = [
            0x3c, 0xb2, 0x5f, 0x25, 0xfa, 0xac, 0xd5, 0x7a, 0x90, 0x43, 0x4f, 0x64, 0xd0, 0x36,
            0x2f, 0x2a, 0x2d, 0x2d, 0x0a, 0x90, 0xcf, 0x1a, 0x5a, 0x4c, 0x5d, 0xb0, 0x2d, 0x56,
            0xec, 0xc4, 0xc5, 0xbf,
        ];
        assert_eq!(*key, expected);
    }

    #[test]
    fn parts_hash_as_one() {
        assert_eq!(sha256_of(&[b"ab", b"", b"c"]), sha256(b"abc"));
    }
}
