//! The daemon itself: starting, stopping, being found.

use super::ErrorBody;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A daemon that is ready: what `up` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    /// Its process.
    pub pid: u32,
    /// Its socket.
    pub socket: String,
    /// Its local API over TCP, a URL.
    pub api: String,
    /// Where it listens for other nodes.
    pub listen: Vec<String>,
    /// From the start of the process until now.
    pub ready_ms: u64,
    /// How much of that the passphrase took.
    pub kdf_ms: u64,
}

/// How a daemon that is being started tells its parent, one JSON line each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// Something to tell the user meanwhile.
    Note(String),
    /// It is ready.
    Ready(Ready),
    /// It gave up.
    Error(ErrorBody),
}

/// `api.json` in the home: how to reach the daemon. Whoever reads it may do anything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiFile {
    /// The local API over TCP.
    pub url: String,
    /// To be sent as `Authorization: Bearer TOKEN`.
    pub token: String,
    /// The socket, which needs no token.
    pub socket: String,
    /// The daemon's process.
    pub pid: u32,
}

/// Answer of `/api/v1/health`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// Always true when it answers.
    pub ok: bool,
}

/// A daemon that is about to stop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Stopping {
    /// Its process.
    pub pid: u32,
}

/// A daemon that is gone: what `down` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    /// Always true when it is printed.
    pub stopped: bool,
    /// The process that was.
    pub pid: u32,
}

/// One step of the demo.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Which.
    pub step: String,
    /// Whether the evidence came.
    pub ok: bool,
    /// How long it took.
    pub ms: u64,
    /// What was seen.
    pub detail: serde_json::Value,
}
