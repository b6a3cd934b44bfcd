//! Alerts and who answered them.

use super::Stamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One alert and where everybody stands: what `alert show` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Alert {
    /// Which.
    pub id: String,
    /// The person who raised it; nobody asks them.
    pub author: String,
    /// Their name.
    pub author_name: String,
    /// `info`, `warning` or `critical`.
    pub severity: String,
    /// What it says, as written.
    pub text: String,
    /// When it was raised, by the author's clock.
    pub issued: Stamp,
    /// Until when it asks for attention, by the author's clock.
    pub expires: Stamp,
    /// Whether this device's person raised it.
    pub outgoing: bool,
    /// Whether it asks for attention no longer.
    pub expired: bool,
    /// Words it offers as answers; none: any.
    pub answers: Vec<String>,
    /// Who answered what, in the order of their times.
    pub acked: Vec<AlertAck>,
    /// Members who have not, and have a device in reach now.
    pub pending: Vec<String>,
    /// Their names, in the same order.
    pub pending_names: Vec<String>,
    /// Members who have not, and have none in reach.
    pub unreachable: Vec<String>,
    /// Their names, in the same order.
    pub unreachable_names: Vec<String>,
}

/// What one person answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AlertAck {
    /// Who.
    pub member: String,
    /// Their name.
    pub name: String,
    /// When, by their clock.
    pub time: Stamp,
    /// The word; `null`: seen.
    pub answer: Option<String>,
}

/// The newest alerts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Alerts {
    /// Newest first, 200 at most.
    pub alerts: Vec<Alert>,
}

/// Raises an alert.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AlertRequest {
    /// What it says.
    pub text: String,
    /// `info` unless said otherwise.
    #[serde(default)]
    pub severity: Option<String>,
    /// Whom to alert: `everybody`, the only audience of this version and the default.
    #[serde(default)]
    pub to: Option<String>,
    /// How long it asks for attention; a day unless said otherwise.
    #[serde(default)]
    pub life_ms: Option<u64>,
    /// Words it offers as answers.
    #[serde(default)]
    pub answers: Option<Vec<String>>,
}

/// Answers an alert.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AckRequest {
    /// The word; `null`: seen.
    #[serde(default)]
    pub answer: Option<String>,
}
