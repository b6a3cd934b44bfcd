//! What `doctor` found.

use serde::{Deserialize, Serialize};

/// All that was looked at.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checks {
    /// In the order in which they help.
    pub checks: Vec<Check>,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// Which; never renamed.
    pub name: String,
    /// Whether nothing has to be done about it.
    pub ok: bool,
    /// What was found, in plain words.
    pub detail: String,
    /// What to do next; beside `ok` it is advice.
    pub hint: Option<String>,
}
