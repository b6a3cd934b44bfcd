//! Who this is and who else there is.

use super::Stamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// This device and its person: what `init` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Me {
    /// The person; `null` until an organisation was founded or joined.
    pub member: Option<String>,
    /// This device.
    pub device: String,
    /// The organisation; `null` until one was founded or joined.
    pub org: Option<String>,
    /// The folder.
    pub home: String,
    /// The person's name.
    pub name: String,
    /// The organisation's name.
    pub org_name: Option<String>,
    /// When this device began another life because its store was put back from a copy; `null` if it never was.
    pub restored: Option<Stamp>,
}

/// Everybody in the organisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Members {
    /// In the order of their names.
    pub members: Vec<Member>,
}

/// One person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Member {
    /// Who.
    pub member: String,
    /// As the organisation's log has it.
    pub name: String,
    /// What they may do.
    pub roles: Vec<String>,
    /// Whether it is the user of this daemon.
    pub me: bool,
}
