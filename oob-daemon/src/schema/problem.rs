//! Failures, as JSON has them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A failed request (RFC 9457, `application/problem+json`).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Always `about:blank`: the code tells more.
    #[serde(rename = "type")]
    pub kind: String,
    /// The fact.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// Stable, and the same as on the command line.
    pub code: String,
    /// What to do next.
    pub hint: Option<String>,
    /// What caused it, the nearest first.
    #[serde(default)]
    pub causes: Vec<String>,
}

/// A failed command: one line on stderr with `--json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorLine {
    /// What failed.
    pub error: ErrorBody,
}

/// What failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// Stable.
    pub code: String,
    /// The fact.
    pub message: String,
    /// What caused it, the nearest first.
    pub causes: Vec<String>,
    /// What to do next.
    pub hint: Option<String>,
    /// The exit code.
    pub exit: u8,
}
