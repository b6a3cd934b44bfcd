//! Newtypes for what must not be mixed. On screens and in JSON an id is lower-case base32 without padding.

use data_encoding::{BASE32_NOPAD, Encoding, Specification};
use std::{fmt, str::FromStr, sync::LazyLock};

/// Why a text or a slice is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// Not lower-case base32.
    #[error("not base32: {text:?}")]
    Base32 {
        /// What was read.
        text: String,
    },
    /// Base32 or bytes of another length.
    #[error("{name} has {expected} bytes, not {found}")]
    Length {
        /// The kind of id.
        name: &'static str,
        /// How long it must be.
        expected: usize,
        /// How long it was.
        found: usize,
    },
}

static LOWER: LazyLock<Encoding> = LazyLock::new(|| {
    let mut spec = Specification::new();
    spec.symbols.push_str("abcdefghijklmnopqrstuvwxyz234567");
    spec.encoding().unwrap_or(BASE32_NOPAD)
});

/// Writes bytes as lower-case base32 without padding.
pub fn to_base32(bytes: &[u8]) -> String {
    LOWER.encode(bytes)
}

/// Reads lower-case base32 without padding.
///
/// # Errors
/// Any other text.
pub fn from_base32(text: &str) -> Result<Vec<u8>, IdError> {
    LOWER
        .decode(text.as_bytes())
        .map_err(|_| IdError::Base32 { text: text.chars().take(80).collect() })
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            /// Bytes in it.
            pub const LEN: usize = $len;

            /// Returns the bytes.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// Returns the bytes as a vector, as wire types hold them.
            pub fn to_vec(&self) -> Vec<u8> {
                self.0.to_vec()
            }
        }

        impl From<[u8; $len]> for $name {
            fn from(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = IdError;

            fn try_from(bytes: &[u8]) -> Result<Self, IdError> {
                bytes.try_into().map(Self).map_err(|_| IdError::Length {
                    name: stringify!($name),
                    expected: $len,
                    found: bytes.len(),
                })
            }
        }

        impl AsRef<[u8]> for $name {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&to_base32(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), to_base32(&self.0))
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::try_from(from_base32(text)?.as_slice())
            }
        }
    };
}

id!(
    /// The organisation: hash of its first operation.
    OrgId, 32
);
id!(
    /// A person: SHA-256 of "oob/1 member", the organisation and their first identity key.
    MemberId, 32
);
id!(
    /// A device: SHA-256 of its signing key.
    DeviceId, 32
);
id!(
    /// The first eight bytes of a [`DeviceId`], unique in a roster.
    DeviceShort, 8
);
id!(
    /// An operation of the log: SHA-256 of its signed header.
    OpHash, 32
);
id!(
    /// An epoch of a ring.
    EpochId, 16
);
id!(
    /// An envelope: SHA-256 of what its relay key signs.
    EnvelopeId, 32
);
id!(
    /// A message, however often it was sealed: device, incarnation, seq of its first envelope.
    MessageId, 20
);
id!(
    /// A conversation.
    ConversationId, 16
);
id!(
    /// A prekey bundle: SHA-256 of its payload, first half.
    BundleId, 16
);
id!(
    /// An alert: SHA-256 of its signed payload.
    AlertId, 32
);
id!(
    /// The Ed25519 key that is a device's libp2p identity.
    TransportKey, 32
);

/// One life of a device's store; a restored store draws a new one before it sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Incarnation(pub u32);

impl DeviceId {
    /// Returns the first eight bytes, which name the device inside envelopes.
    pub fn short(&self) -> DeviceShort {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        DeviceShort([a, b, c, d, e, f, g, h])
    }
}

impl MessageId {
    /// Builds the id of the message whose first envelope is `seq` of this device's life.
    pub fn new(device: DeviceShort, incarnation: Incarnation, seq: u64) -> Self {
        let mut bytes = [0; 20];
        let (head, tail) = bytes.split_at_mut(8);
        let (middle, last) = tail.split_at_mut(4);
        head.copy_from_slice(&device.0);
        middle.copy_from_slice(&incarnation.0.to_be_bytes());
        last.copy_from_slice(&seq.to_be_bytes());
        Self(bytes)
    }

    /// Returns the device it names.
    pub fn device(&self) -> DeviceShort {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        DeviceShort([a, b, c, d, e, f, g, h])
    }

    /// Returns the incarnation it names.
    pub fn incarnation(&self) -> Incarnation {
        let [_, _, _, _, _, _, _, _, a, b, c, d, ..] = self.0;
        Incarnation(u32::from_be_bytes([a, b, c, d]))
    }

    /// Returns the seq of the envelope it was first sealed in.
    pub fn seq(&self) -> u64 {
        let [.., a, b, c, d, e, f, g, h] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_lower_case_base32_and_read_back() {
        let id = MessageId::new(DeviceShort([1; 8]), Incarnation(9), 77);
        let text = id.to_string();
        assert_eq!(text.len(), 32);
        assert!(text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit()));
        assert_eq!(text.parse::<MessageId>().unwrap(), id);
        assert_eq!(
            (id.device(), id.incarnation(), id.seq()),
            (DeviceShort([1; 8]), Incarnation(9), 77)
        );
    }

    #[test]
    fn other_lengths_and_alphabets_are_refused() {
        assert!(matches!(
            "aa".parse::<OrgId>(),
            Err(IdError::Length { expected: 32, found: 1, .. })
        ));
        assert!(matches!("A1".parse::<OrgId>(), Err(IdError::Base32 { .. })));
    }
}
