//! The secret of an epoch and the keys of its ring (docs/protocol.md, section 6).

use crate::kdf::{derive, first_half, sha256_of};
use oob_proto::EpochId;
use rand_core::CryptoRng;
use std::fmt;
use zeroize::Zeroizing;

/// Who may read headers: the whole members, or also those who only receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ring {
    /// Full members.
    Core,
    /// Recipients, machines and guests; core devices hold this ring's keys too.
    Audience,
}

impl Ring {
    /// Both, in the order of their codes.
    pub const ALL: [Self; 2] = [Self::Core, Self::Audience];

    /// Returns the ring of a code.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Core),
            1 => Some(Self::Audience),
            _ => None,
        }
    }

    /// Returns the code on the wire.
    pub const fn code(self) -> u8 {
        match self {
            Self::Core => 0,
            Self::Audience => 1,
        }
    }
}

macro_rules! secret {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone)]
        pub struct $name(Zeroizing<[u8; 32]>);

        impl $name {
            /// Takes a secret exported before.
            pub fn from_secret(secret: &[u8; 32]) -> Self {
                Self(Zeroizing::new(*secret))
            }

            /// Returns the secret, for the store and for whoever seals with it.
            pub fn export_secret(&self) -> Zeroizing<[u8; 32]> {
                self.0.clone()
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    };
}

secret!(
    /// The secret all keys of an epoch come from. It travels link by link, inside a first flight.
    EpochSecret
);
secret!(
    /// Opens the origins of the envelopes of an epoch, and nothing else in them.
    HeaderKey
);
secret!(
    /// Seals the announcements on the local network.
    BeaconKey
);
secret!(
    /// Seals alerts to a whole ring.
    AlertKey
);

impl EpochSecret {
    /// Draws the secret of a new epoch.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut secret = Zeroizing::new([0; 32]);
        rng.fill_bytes(secret.as_mut());
        Self(secret)
    }

    /// Returns the epoch's id.
    pub fn id(&self) -> EpochId {
        first_half(sha256_of(&[b"oob/1 epoch", self.0.as_slice()])).into()
    }

    /// Returns the key of the origins.
    pub fn header_key(&self) -> HeaderKey {
        HeaderKey(derive(None, self.0.as_slice(), b"oob/1 header"))
    }

    /// Returns the key of the announcements on the local network.
    pub fn beacon_key(&self) -> BeaconKey {
        BeaconKey(derive(None, self.0.as_slice(), b"oob/1 beacon"))
    }

    /// Returns the key of alerts.
    pub fn alert_key(&self) -> AlertKey {
        AlertKey(derive(None, self.0.as_slice(), b"oob/1 alert"))
    }
}

impl HeaderKey {
    pub(crate) fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::HEXLOWER as HEX;
    use rand::{SeedableRng, rngs::StdRng};

    /// Computed once with another implementation of SHA-256 and HKDF.
    #[test]
    fn golden_epoch() {
        let epoch = EpochSecret::from_secret(&[5; 32]);
        let hex = |bytes: &[u8]| HEX.encode(bytes);
        assert_eq!(hex(epoch.id().as_bytes()), "2de766e72a008bc58370bc5dc8b4b833");
        assert_eq!(
            hex(epoch.header_key().as_bytes()),
            "8a717788b1218f6366151b7227c2028611af1e4ffd365e113f0ea5f185926a6f"
        );
        assert_eq!(
            hex(epoch.beacon_key().export_secret().as_slice()),
            "597e5bc1e2f46f843f0669cdb9b20d1d82622d9e282468182d9d3300d06f51f0"
        );
        assert_eq!(
            hex(epoch.alert_key().export_secret().as_slice()),
            "79c24544b2246e7fb4d43dfbb700aa99d1cf0db53a29efd8bc8148605a5cfbd1"
        );
    }

    #[test]
    fn secrets_are_drawn_and_not_printed_and_rings_have_codes() {
        let mut rng = StdRng::seed_from_u64(1);
        let [a, b] = [EpochSecret::generate(&mut rng), EpochSecret::generate(&mut rng)];
        assert_ne!(a.id(), b.id());
        assert_eq!(format!("{a:?} {:?}", a.header_key()), "EpochSecret(..) HeaderKey(..)");
        assert_eq!(Ring::ALL.map(Ring::code), [0, 1]);
        assert_eq!(Ring::ALL.map(|ring| Ring::from_code(ring.code())), Ring::ALL.map(Some));
        assert_eq!(Ring::from_code(2), None);
    }
}
