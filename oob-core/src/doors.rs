//! Ways in for the fuzzers: what comes by beacons, by gossip and on join streams, without a network.

pub use crate::{actor::gossip_door as gossip, join::line_door as line};
pub use oob_mesh::doors::{address, frames};

use crate::beacon;
use oob_engine::snapshot::Snapshot;
use std::net::SocketAddr;

/// Hears a beacon; returns where to dial whom.
pub fn beacon(snapshot: &Snapshot, bytes: &[u8], from: SocketAddr) -> Option<Vec<String>> {
    beacon::hear(snapshot, bytes, from).map(|heard| heard.addresses)
}
