//! What the event stream carries.

use super::Stamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One event; the number is the `id` of the server-sent event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// A message was stored here.
    Message {
        /// Which.
        id: String,
        /// Where.
        conversation: String,
        /// The person who wrote it.
        author: String,
        /// Their name.
        author_name: String,
        /// What it says, as written.
        text: String,
        /// When it was written.
        sent: Stamp,
        /// When it was stored here.
        received: Stamp,
        /// Its place in the conversation.
        number: u64,
        /// Whether it was written here.
        outgoing: bool,
    },
    /// An own message came further.
    Receipt {
        /// Which.
        id: String,
        /// Where.
        conversation: String,
        /// How far.
        state: String,
        /// People who have it.
        delivered: u32,
        /// People it is for.
        expected: u32,
    },
    /// Somebody joined.
    Joined {
        /// Who.
        member: String,
        /// Their name.
        name: String,
        /// With which device.
        device: String,
    },
    /// This device founded or joined an organisation.
    Org {
        /// Which.
        org: String,
        /// Its name.
        name: String,
    },
    /// An alert was raised.
    Alert {
        /// Which.
        id: String,
        /// The person who raised it.
        author: String,
        /// Their name.
        author_name: String,
        /// `info`, `warning` or `critical`.
        severity: String,
        /// What it says, as written.
        text: String,
        /// When it was raised.
        issued: Stamp,
        /// Until when it asks for attention.
        expires: Stamp,
        /// Whether it was raised by this device's person.
        outgoing: bool,
    },
    /// Somebody answered an alert, or answers something else than before.
    AlertAcked {
        /// Which alert.
        id: String,
        /// Who.
        member: String,
        /// Their name.
        name: String,
        /// When.
        time: Stamp,
        /// The word; `null`: seen.
        answer: Option<String>,
        /// People who have answered.
        acked: u32,
        /// People who were asked.
        expected: u32,
    },
    /// A device came near or went away. Not kept: it is told live only.
    Peer {
        /// Whose.
        member: String,
        /// Which.
        device: String,
        /// Whether it can be reached now.
        reachable: bool,
    },
    /// The reader was too slow, or asked for what is no longer kept.
    Lagged {
        /// How many events were passed over.
        missed: u64,
    },
}
