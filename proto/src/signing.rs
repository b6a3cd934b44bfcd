//! The exact bytes a signature is over: `"oob/1 <type>\0" + org_id + payload` (docs/protocol.md, section 2).

use crate::OrgId;

/// What kind of thing is signed; a signature over one is worth nothing for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SignedType {
    /// `OpHeader`.
    Op,
    /// `DeviceCert`.
    Device,
    /// `JoinRequest`.
    Join,
    /// `PrekeyBundle`.
    Bundle,
    /// `RelayCert`.
    RelayCert,
    /// `Have`.
    Have,
    /// `Alert`.
    Alert,
    /// `AlertAck`.
    AlertAck,
    /// `Floor`.
    Floor,
    /// `OfferedKey`.
    AdminOffer,
}

impl SignedType {
    /// All of them, for tests that must cover each.
    pub const ALL: [Self; 10] = [
        Self::Op,
        Self::Device,
        Self::Join,
        Self::Bundle,
        Self::RelayCert,
        Self::Have,
        Self::Alert,
        Self::AlertAck,
        Self::Floor,
        Self::AdminOffer,
    ];

    /// Returns the context the signature starts with.
    pub const fn context(self) -> &'static [u8] {
        match self {
            Self::Op => b"oob/1 op\0",
            Self::Device => b"oob/1 device\0",
            Self::Join => b"oob/1 join\0",
            Self::Bundle => b"oob/1 bundle\0",
            Self::RelayCert => b"oob/1 relay-cert\0",
            Self::Have => b"oob/1 have\0",
            Self::Alert => b"oob/1 alert\0",
            Self::AlertAck => b"oob/1 alert-ack\0",
            Self::Floor => b"oob/1 floor\0",
            Self::AdminOffer => b"oob/1 admin-offer\0",
        }
    }
}

/// The organisation named in what is signed before there is one: Genesis, and a device not yet admitted.
pub const NO_ORG: [u8; 32] = [0; 32];

/// Returns the bytes to sign or to verify.
pub fn signing_input(kind: SignedType, org: &OrgId, payload: &[u8]) -> Vec<u8> {
    let context = kind.context();
    let mut input = Vec::with_capacity(context.len() + OrgId::LEN + payload.len());
    input.extend_from_slice(context);
    input.extend_from_slice(org.as_bytes());
    input.extend_from_slice(payload);
    input
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_distinct_and_none_begins_another() {
        for a in SignedType::ALL {
            for b in SignedType::ALL {
                assert!(a == b || !a.context().starts_with(b.context()), "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn golden_signing_input() {
        let input = signing_input(SignedType::Op, &OrgId::from([2; 32]), b"p");
        assert_eq!(input, [b"oob/1 op\0".as_slice(), &[2; 32], b"p"].concat());
    }
}
