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
    /// How long this daemon has been up.
    pub up_ms: u64,
    /// What of it has failed.
    pub faults: Faults,
    /// When this device began another life because its store was put back from a copy; `null` if it never was.
    pub restored: Option<Stamp>,
    /// When it was last found that this identity runs on another machine too: one of the two has to be stopped.
    pub elsewhere: Option<Stamp>,
}

/// Own tasks that failed, since the start. None of them touches what is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Faults {
    /// `well`, `restarting`, or `given_up`: it failed too often in a row, and nobody can be reached.
    pub network: String,
    /// Times the network task, or that of a link, failed.
    pub network_failed: u64,
    /// Times another task failed.
    pub tasks_failed: u64,
    /// Times a task failed on bytes from outside, which are kept and given to nobody again.
    pub caught: u64,
    /// Times such bytes came again.
    pub refused: u64,
    /// When a run of the daemon stopped by itself, if one did.
    pub stopped: Option<Stamp>,
    /// Why it did.
    pub stopped_why: Option<String>,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            network: "well".to_owned(),
            network_failed: 0,
            tasks_failed: 0,
            caught: 0,
            refused: 0,
            stopped: None,
            stopped_why: None,
        }
    }
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
