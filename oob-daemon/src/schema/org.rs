//! Who decides in the organisation, and what waits for their signatures.

use super::Stamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The organisation and who decides in it: what `org show` and `org status` print.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Org {
    /// Its id.
    pub org: String,
    /// Its name.
    pub name: String,
    /// How many people are in it.
    pub members: usize,
    /// The admins, by name.
    pub admins: Vec<Admin>,
    /// How many of them must sign what one may not do alone.
    pub k: usize,
    /// What is not signed by enough yet, oldest first.
    pub proposals: Vec<Proposal>,
    /// People who have a key to be an admin with and are none.
    pub offers: Vec<Admin>,
}

/// One admin's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Admin {
    /// The key, 64 hexadecimal digits.
    pub key: String,
    /// Who holds it; `null` for paper.
    pub member: Option<String>,
    /// Their name, or what stands on the paper.
    pub name: Option<String>,
    /// Whether it is the user of this daemon.
    pub me: bool,
    /// Whether a device of that person said that it has this key; a proposal in which it is not so is not signed.
    pub offered: bool,
}

/// Something that enough admins have to sign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Proposal {
    /// Its id.
    pub proposal: String,
    /// When it was proposed, by the clock of who did.
    pub time: Stamp,
    /// `admins` or `name`.
    pub kind: String,
    /// The new admins; `null` if it is about something else.
    pub admins: Option<Vec<Admin>>,
    /// How many of them would have to sign; `null` if it is about something else.
    pub k: Option<usize>,
    /// The new name; `null` if it is about something else.
    pub name: Option<String>,
    /// Who signed it; the first proposed it.
    pub signed: Vec<Admin>,
    /// Who has not.
    pub missing: Vec<Admin>,
    /// How many must sign.
    pub needed: usize,
}

/// What is proposed: admins with `k`, or a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ProposalRequest {
    /// All admins there are to be: names, or `person:NAME`.
    pub admins: Option<Vec<String>>,
    /// How many of them must sign what one may not do alone; left out: more than half.
    pub k: Option<usize>,
    /// Another name for the organisation.
    pub name: Option<String>,
}

/// What became of a proposal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Signed {
    /// Its id.
    pub proposal: String,
    /// Whether enough have signed it.
    pub decided: bool,
    /// How many more must sign; 0 if it is decided.
    pub missing: usize,
}
