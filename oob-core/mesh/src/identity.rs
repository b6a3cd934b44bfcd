//! Transport keys and the libp2p identities made of them.

use libp2p::{PeerId, identity};
use oob_proto::TransportKey;

/// The multihash code of "the bytes themselves": peer ids of Ed25519 keys are the key in a wrapper.
const IDENTITY: u64 = 0;

/// Returns the libp2p identity of a key; `None` if the bytes are no point of the curve.
pub(crate) fn peer_of(key: &TransportKey) -> Option<PeerId> {
    let public = identity::ed25519::PublicKey::try_from_bytes(key.as_bytes()).ok()?;
    Some(identity::PublicKey::from(public).to_peer_id())
}

/// Returns the key inside a libp2p identity; `None` if it is of another kind.
pub(crate) fn key_of(peer: &PeerId) -> Option<TransportKey> {
    let hash = peer.as_ref();
    if hash.code() != IDENTITY {
        return None;
    }
    let public = identity::PublicKey::try_decode_protobuf(hash.digest()).ok()?;
    Some(TransportKey::from(public.try_into_ed25519().ok()?.to_bytes()))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn public(seed: u8) -> [u8; 32] {
        let pair = identity::Keypair::ed25519_from_bytes([seed; 32]).unwrap();
        pair.public().try_into_ed25519().unwrap().to_bytes()
    }

    #[test]
    fn a_key_survives_the_way_to_a_peer_id_and_back() {
        let key = TransportKey::from(public(7));
        assert_eq!(key_of(&peer_of(&key).unwrap()), Some(key));
    }

    #[test]
    fn the_order_of_keys_is_the_order_of_peer_ids() {
        let mut keys: Vec<_> = (1..20).map(|seed| TransportKey::from(public(seed))).collect();
        keys.sort();
        let peers: Vec<_> = keys.iter().map(|key| peer_of(key).unwrap()).collect();
        assert!(peers.is_sorted());
    }
}
