//! The topic of an organisation's gossip (docs/protocol.md, section 15.1).

use oob_proto::OrgId;
use std::fmt;

/// Names what the topic is of, so that no other hash of an organisation's id is ever the same.
const CONTEXT: &[u8] = b"oob/1 topic";

/// What the members of one organisation gossip under. There is one for its whole life: a topic per epoch would empty
/// the mesh with each rotation, and whoever was removed is cut off by admission.
#[derive(Clone, PartialEq, Eq)]
pub struct Topic(String);

impl Topic {
    /// Returns the topic of an organisation. It does not tell the organisation's id to whoever sees it.
    pub fn of(org: &OrgId) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(CONTEXT).update(org.as_bytes());
        Self(hasher.finalize().to_hex().chars().take(32).collect())
    }

    /// Returns it as it stands on the wire: 32 hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Topic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Topic").field(&self.0).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_half_a_hash_in_hexadecimal_and_differs_by_organisation() {
        let (one, other) = (Topic::of(&OrgId::from([1; 32])), Topic::of(&OrgId::from([2; 32])));
        let mut input = CONTEXT.to_vec();
        input.extend_from_slice(&[1; 32]);
        assert_eq!(one.as_str(), &blake3::hash(&input).to_hex()[..32]);
        assert_ne!(one, other);
    }
}
