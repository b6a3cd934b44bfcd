//! The part of an envelope in the clear: 36 bytes, and the codes in them.

use crate::{
    kdf::{first_half, sha256},
    keys::SignatureError,
};
use oob_proto::limits;

/// Bytes of a head.
pub const HEAD_BYTES: usize = 36;
/// Bytes of an origin before it is sealed.
pub(crate) const ORIGIN_PLAIN: usize = 88;
/// Bytes of a sealed origin: nonce, origin, tag.
pub const ORIGIN_BYTES: usize = 24 + ORIGIN_PLAIN + 16;
/// The flag of a first flight; the other bits are not used.
const FIRST_FLIGHT: u8 = 1;

/// Why an envelope is not one, or not from whom it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// The head has another length.
    #[error("head of {found} bytes, not {HEAD_BYTES}")]
    HeadLength {
        /// Its length.
        found: usize,
    },
    /// Made by a version not known here.
    #[error("envelope of version {found}")]
    Version {
        /// What it says.
        found: u8,
    },
    /// Flag bits that mean nothing.
    #[error("unknown flags {found:#04x}")]
    Flags {
        /// All flag bits.
        found: u8,
    },
    /// No such size class.
    #[error("unknown class {found}")]
    Class {
        /// What it says.
        found: u8,
    },
    /// No such life.
    #[error("unknown life {found}")]
    Life {
        /// What it says.
        found: u8,
    },
    /// The ciphertext has not the length its class says.
    #[error("ciphertext of {found} bytes in a class of {expected}")]
    CiphertextLength {
        /// The length of the class.
        expected: usize,
        /// Its length.
        found: usize,
    },
    /// The sealed origin has another length.
    #[error("origin of {found} bytes, not {ORIGIN_BYTES}")]
    OriginLength {
        /// Its length.
        found: usize,
    },
    /// Encoded it is longer than any envelope may be.
    #[error("envelope of {len} bytes, at most {} are allowed", limits::ENVELOPE_BYTES)]
    TooLong {
        /// Its encoded length.
        len: usize,
    },
    /// The origin is not sealed with this header key.
    #[error("the origin does not open with this epoch's key")]
    Closed,
    /// The origin names another device than it is checked against.
    #[error("the origin names another device")]
    Device,
    /// Not signed by this relay key.
    #[error("the origin is not signed by this relay key")]
    Signature(#[source] SignatureError),
}

/// How long the ciphertext is: one of six lengths, so that length says little.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// 512 bytes.
    B512,
    /// 1,024 bytes.
    B1024,
    /// 2,048 bytes.
    B2048,
    /// 4,096 bytes.
    B4096,
    /// 8,192 bytes.
    B8192,
    /// 16,000 bytes.
    B16000,
}

impl Class {
    /// All of them, in the order of their codes.
    pub const ALL: [Self; 6] =
        [Self::B512, Self::B1024, Self::B2048, Self::B4096, Self::B8192, Self::B16000];

    /// Returns the code on the wire.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Returns the class of a code.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// Returns the exact length of a ciphertext of this class.
    #[allow(clippy::len_without_is_empty, reason = "a class is a length, not a collection")]
    pub const fn len(self) -> usize {
        let [a, b, c, d, e, f] = limits::CLASSES;
        match self {
            Self::B512 => a,
            Self::B1024 => b,
            Self::B2048 => c,
            Self::B4096 => d,
            Self::B8192 => e,
            Self::B16000 => f,
        }
    }

    /// Returns the smallest class that holds `needed` bytes, if one does.
    pub fn for_len(needed: usize) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.len() >= needed)
    }
}

/// How long members carry an envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Life {
    /// One hour.
    Hour,
    /// One day.
    Day,
    /// Seven days.
    Week,
    /// Twenty-one days.
    ThreeWeeks,
}

impl Life {
    /// All of them, in the order of their codes.
    pub const ALL: [Self; 4] = [Self::Hour, Self::Day, Self::Week, Self::ThreeWeeks];

    /// Returns the code on the wire.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Returns the life of a code.
    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code)).copied()
    }

    /// Returns its seconds.
    pub const fn seconds(self) -> u64 {
        let [a, b, c, d] = limits::LIVES_S;
        match self {
            Self::Hour => a,
            Self::Day => b,
            Self::Week => c,
            Self::ThreeWeeks => d,
        }
    }
}

/// The part of an envelope in the clear.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The ciphertext opens a channel.
    pub first_flight: bool,
    /// How long the ciphertext is.
    pub class: Class,
    /// How long it is carried.
    pub life: Life,
    /// By which the addressee finds its own.
    pub tag: [u8; 16],
    /// Hash of what the addressee publishes when it has read this; see [`release_of`].
    pub release: [u8; 16],
}

impl Head {
    /// Writes the head.
    pub fn to_bytes(&self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        let flags = if self.first_flight { FIRST_FLIGHT } else { 0 };
        let fixed = [limits::VERSION, flags, self.class.code(), self.life.code()];
        let all = fixed.iter().chain(&self.tag).chain(&self.release);
        for (to, from) in bytes.iter_mut().zip(all) {
            *to = *from;
        }
        bytes
    }

    /// Reads a head from outside.
    ///
    /// # Errors
    /// Another length, another version, bits or codes that mean nothing.
    pub fn parse(bytes: &[u8]) -> Result<Self, EnvelopeError> {
        let wrong_length = EnvelopeError::HeadLength { found: bytes.len() };
        let (fixed, rest) = bytes.split_first_chunk::<4>().ok_or(wrong_length)?;
        let (tag, rest) = rest.split_first_chunk::<16>().ok_or(wrong_length)?;
        let release: &[u8; 16] = rest.try_into().map_err(|_| wrong_length)?;
        let [version, flags, class, life] = *fixed;
        if version != limits::VERSION {
            return Err(EnvelopeError::Version { found: version });
        }
        if flags & !FIRST_FLIGHT != 0 {
            return Err(EnvelopeError::Flags { found: flags });
        }
        Ok(Self {
            first_flight: flags & FIRST_FLIGHT != 0,
            class: Class::from_code(class).ok_or(EnvelopeError::Class { found: class })?,
            life: Life::from_code(life).ok_or(EnvelopeError::Life { found: life })?,
            tag: *tag,
            release: *release,
        })
    }
}

/// Returns what a head's `release` must be for this preimage.
pub fn release_of(preimage: &[u8; 16]) -> [u8; 16] {
    first_half(sha256(preimage))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head() -> Head {
        Head {
            first_flight: true,
            class: Class::B512,
            life: Life::Week,
            tag: [6; 16],
            release: [7; 16],
        }
    }

    #[test]
    fn golden_head() {
        let expected = [[1, 1, 0, 2].as_slice(), &[6; 16], &[7; 16]].concat();
        assert_eq!(head().to_bytes().as_slice(), expected);
        assert_eq!(Head::parse(&expected), Ok(head()));
    }

    #[test]
    fn unknown_versions_flags_classes_and_lives_are_refused() {
        let good = head().to_bytes();
        let with = |at: usize, value: u8| {
            let mut bytes = good;
            bytes[at] = value;
            Head::parse(&bytes)
        };
        assert_eq!(with(0, 2), Err(EnvelopeError::Version { found: 2 }));
        assert_eq!(with(1, 2), Err(EnvelopeError::Flags { found: 2 }));
        assert_eq!(with(1, 129), Err(EnvelopeError::Flags { found: 129 }));
        assert_eq!(with(2, 6), Err(EnvelopeError::Class { found: 6 }));
        assert_eq!(with(3, 4), Err(EnvelopeError::Life { found: 4 }));
        assert_eq!(Head::parse(&good[..35]), Err(EnvelopeError::HeadLength { found: 35 }));
    }

    #[test]
    fn classes_hold_what_they_must() {
        assert_eq!(Class::ALL.map(Class::len), limits::CLASSES);
        assert_eq!(Class::for_len(0), Some(Class::B512));
        assert_eq!(Class::for_len(512), Some(Class::B512));
        assert_eq!(Class::for_len(513), Some(Class::B1024));
        assert_eq!(Class::for_len(16_000), Some(Class::B16000));
        assert_eq!(Class::for_len(16_001), None);
        assert_eq!(Class::ALL.map(|c| Class::from_code(c.code())), Class::ALL.map(Some));
        assert_eq!(Life::ALL.map(Life::seconds), limits::LIVES_S);
        assert_eq!(Life::ALL.map(|l| Life::from_code(l.code())), Life::ALL.map(Some));
    }
}
