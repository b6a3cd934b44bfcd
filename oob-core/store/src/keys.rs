//! The keys of an unlocked store, all derived from one root key, and where a record lies under them.
//!
//! ```text
//! passphrase -> argon2id -> key-encryption key -> root key (keyring) -> HKDF -> index and value key of each class,
//!                                                                              own index key, slot key, state key,
//!                                                                              tally key, sums key
//! ```

use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::bag::{Bag, KeyClass};

/// A key of 32 bytes, wiped when dropped.
pub(crate) type Key = Zeroizing<[u8; 32]>;

/// Where a record lies in the tree: 16 bytes of blinded bag, 8 bytes of sequence number.
pub(crate) type Address = [u8; 24];

/// The blinded name of a bag.
pub(crate) type Prefix = [u8; 16];

struct ClassKeys {
    index: Key,
    value: Key,
}

/// Every key of an unlocked store but the root, which nothing needs once these are made.
pub(crate) struct Keys {
    home: ClassKeys,
    carry: ClassKeys,
    own_index: Key,
    /// Seals the cells of the slot file.
    pub(crate) slot: Key,
    /// Seals the checkpoint in the keyring.
    pub(crate) state: Key,
    /// Keys the hash of each stored record in the tally.
    pub(crate) tally: Key,
    /// Authenticates the file of sums.
    pub(crate) sums: Key,
}

impl Keys {
    /// Derives all keys from the root key.
    pub(crate) fn derive(root: &Key) -> Self {
        let class = |index: &[u8], value: &[u8]| ClassKeys {
            index: expand(root.as_slice(), index),
            value: expand(root.as_slice(), value),
        };
        Self {
            home: class(b"oob/1 store index", b"oob/1 store value"),
            carry: class(b"oob/1 store carry index", b"oob/1 store carry value"),
            own_index: expand(root.as_slice(), b"oob/1 store own index"),
            slot: expand(root.as_slice(), b"oob/1 store slot"),
            state: expand(root.as_slice(), b"oob/1 store state"),
            tally: expand(root.as_slice(), b"oob/1 store tally"),
            sums: expand(root.as_slice(), b"oob/1 store sums"),
        }
    }

    /// Returns the key that seals the values of a class which have no slot of their own.
    pub(crate) fn value(&self, class: KeyClass) -> &Key {
        match class {
            KeyClass::Home => &self.home.value,
            KeyClass::Carry => &self.carry.value,
        }
    }

    /// Returns the blinded name of a bag.
    pub(crate) fn prefix(&self, bag: &Bag) -> Prefix {
        let key = match bag.class {
            KeyClass::Home => &self.home.index,
            KeyClass::Carry => &self.carry.index,
        };
        blind(key, &bag.label)
    }

    /// Returns the blinded name of one of the store's own bags, which no caller can name.
    pub(crate) fn own_prefix(&self, label: &str) -> Prefix {
        blind(&self.own_index, label.as_bytes())
    }
}

/// Returns where a record lies.
pub(crate) fn address(prefix: &Prefix, seq: u64) -> Address {
    let mut out = [0; 24];
    let (bag, number) = out.split_at_mut(16);
    bag.copy_from_slice(prefix);
    number.copy_from_slice(&seq.to_be_bytes());
    out
}

/// Returns the sequence number of a stored key, if it has the shape of one.
pub(crate) fn seq_of(key: &[u8]) -> Option<u64> {
    let address: &Address = key.try_into().ok()?;
    Some(u64::from_be_bytes(*address.last_chunk()?))
}

/// Derives one key from a secret.
#[expect(clippy::expect_used, reason = "HKDF-SHA256 gives up to 8,160 bytes, and 32 are asked for")]
pub(crate) fn expand(secret: &[u8], info: &[u8]) -> Key {
    let mut key = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(None, secret).expand(info, key.as_mut_slice()).expect("32 bytes");
    key
}

#[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
fn blind(key: &Key, label: &[u8]) -> Prefix {
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_slice()).expect("any length");
    mac.update(label);
    let hash: [u8; 32] = mac.finalize().into_bytes().into();
    let mut prefix = [0; 16];
    prefix.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    prefix
}
