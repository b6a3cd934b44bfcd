//! Inviting and joining.

use super::Stamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Asks for an invitation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct InviteRequest {
    /// Highest role it gives, `responder` if not said.
    #[serde(default)]
    pub role: Option<String>,
    /// How many may use it, one if not said.
    #[serde(default)]
    pub uses: Option<u32>,
    /// How long it is good, fifteen minutes if not said.
    #[serde(default)]
    pub life_ms: Option<u64>,
}

/// A fresh invitation. Who holds it can join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Invite {
    /// The file it was written to; `null` from the API.
    pub invite: Option<String>,
    /// The same as text.
    pub link: String,
    /// Highest role it gives.
    pub role: String,
    /// When it ends.
    pub expires: Stamp,
}

/// Asks to join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct JoinRequest {
    /// The link.
    pub invite: String,
    /// Another name than the one given at `init`.
    #[serde(default)]
    pub name: Option<String>,
}

/// What joining made of this person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Joined {
    /// The person.
    pub member: String,
    /// The organisation.
    pub org: String,
    /// The person's name in it.
    pub name: String,
    /// Its name.
    pub org_name: String,
}
