//! How things get their names: every id is a hash of what it names (docs/protocol.md, sections 2 and 3).

use crate::{
    kdf::{first_half, sha256, sha256_of},
    keys::PublicKey,
};
use oob_proto::{AlertId, BundleId, ConversationId, DeviceId, MemberId, OpHash, OrgId};

/// Returns the id of the device that signs with `dsk`.
pub fn device_id(dsk: &PublicKey) -> DeviceId {
    sha256(dsk.as_bytes()).into()
}

/// Returns the id of the person whose first identity key is `uik`.
pub fn member_id(org: &OrgId, uik: &PublicKey) -> MemberId {
    sha256_of(&[b"oob/1 member", org.as_bytes(), uik.as_bytes()]).into()
}

/// Returns the hash that names an operation: of its signed header as it was received.
pub fn op_hash(header_payload: &[u8]) -> OpHash {
    sha256(header_payload).into()
}

/// Returns the hash of an operation's body, which its header signs.
pub fn body_hash(body: &[u8]) -> [u8; 32] {
    sha256(body)
}

/// Returns the id of the organisation that begins with this operation.
pub fn org_id_of(genesis: &OpHash) -> OrgId {
    (*genesis.as_bytes()).into()
}

/// Returns the id of a prekey bundle: of its payload as it was received.
pub fn bundle_id(payload: &[u8]) -> BundleId {
    first_half(sha256(payload)).into()
}

/// Returns the id of an alert: of its payload as it was signed.
pub fn alert_id(payload: &[u8]) -> AlertId {
    sha256(payload).into()
}

/// Returns the id of the conversation two people have; the order of the two does not matter.
pub fn direct_conversation(org: &OrgId, one: &MemberId, other: &MemberId) -> ConversationId {
    let (lower, higher) = if one <= other { (one, other) } else { (other, one) };
    let hash = sha256_of(&[b"oob/1 direct", org.as_bytes(), lower.as_bytes(), higher.as_bytes()]);
    first_half(hash).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::SigningKey;
    use data_encoding::HEXLOWER as HEX;

    /// Computed once with another implementation of SHA-256 and Ed25519.
    #[test]
    fn golden_ids() {
        let org = OrgId::from([3; 32]);
        let [one, other] = [[1; 32], [2; 32]].map(|s| SigningKey::from_secret(&s).public());
        let hex = |bytes: &[u8]| HEX.encode(bytes);
        assert_eq!(
            hex(device_id(&one).as_bytes()),
            "34750f98bd59fcfc946da45aaabe933be154a4b5094e1c4abf42866505f3c97e"
        );
        let [m1, m2] = [member_id(&org, &one), member_id(&org, &other)];
        assert_eq!(
            hex(m1.as_bytes()),
            "74741640f7d2fade050abdee432a21a626f4ad87616042106ed160e55c64df5d"
        );
        assert_eq!(
            hex(direct_conversation(&org, &m1, &m2).as_bytes()),
            "1229d3a2fa8ae211484c903303db0351"
        );
        assert_eq!(direct_conversation(&org, &m1, &m2), direct_conversation(&org, &m2, &m1));
        let header = op_hash(b"header");
        assert_eq!(
            hex(header.as_bytes()),
            "1e0584a25d9f43bf5cbd0aec01eb1af2220ed085b4e7f1837b0d89958cae353a"
        );
        assert_eq!(org_id_of(&header).as_bytes(), header.as_bytes());
        assert_eq!(body_hash(b"header"), *header.as_bytes());
        assert_eq!(alert_id(b"header").as_bytes(), header.as_bytes());
        assert_eq!(hex(bundle_id(b"payload").as_bytes()), "239f59ed55e737c77147cf55ad0c1b03");
    }
}
