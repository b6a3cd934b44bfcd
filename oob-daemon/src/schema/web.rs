//! Getting into the web page.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The way in for one browser: what `oob web` prints. Whoever opens it first is in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WebTicket {
    /// The page with a ticket behind `#t=`, good once and for a minute.
    pub url: String,
}

/// Trades a ticket for a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WebSessionRequest {
    /// What stood behind `#t=`.
    pub ticket: String,
}

/// A session: the cookie that comes with it, and this.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WebSession {
    /// What the page says in the header `Oob-Page-Key` of every request, beside the cookie.
    pub key: String,
}
