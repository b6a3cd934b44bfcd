//! How this node stands.

use super::Stamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What `status` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// The person.
    pub member: Option<String>,
    /// This device.
    pub device: String,
    /// The organisation.
    pub org: Option<String>,
    /// Where this node listens.
    pub listen: Vec<String>,
    /// Every other device of the organisation.
    pub peers: Vec<Peer>,
    /// Messages kept here for others.
    pub held: u64,
    /// Own messages not yet delivered.
    pub outbox: u64,
    /// The person's name.
    pub name: String,
    /// The organisation's name.
    pub org_name: Option<String>,
    /// Why the node does not listen where it would by default.
    pub note: Option<String>,
    /// Who is together with this node.
    pub island: Island,
}

/// The people in reach, and what is known of the others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Island {
    /// People in reach, this daemon's user included.
    pub with: u64,
    /// All people of the organisation.
    pub of: u64,
    /// Those none of whose devices is in reach.
    pub away: Vec<Away>,
}

/// A person none of whose devices is in reach.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Away {
    /// Who.
    pub member: String,
    /// Their name.
    pub name: String,
    /// When anybody known last heard them.
    pub last_heard: Option<Stamp>,
    /// Who heard them then; `null` for this device itself.
    pub heard_by: Option<String>,
    /// That person's name.
    pub heard_by_name: Option<String>,
    /// Own messages for them that others carry.
    pub held: u64,
}

/// Every other device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Peers {
    /// Reachable ones first.
    pub peers: Vec<Peer>,
}

/// One other device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Peer {
    /// Whose it is.
    pub member: String,
    /// Which.
    pub device: String,
    /// Whether there is a link now.
    pub reachable: bool,
    /// When something last came from it.
    pub last_heard: Option<Stamp>,
    /// `tcp`, `quic` or `null`.
    pub transport: Option<String>,
    /// `mdns`, `beacon`, `typed`, `invite`, `learned` or `null`.
    pub found_by: Option<String>,
    /// The person's name.
    pub member_name: String,
}
