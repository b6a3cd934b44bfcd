//! Messages going out and the log of those that are here.

use super::Stamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// One text for one target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SendRequest {
    /// A name, or `person:NAME`.
    pub target: String,
    /// What to say.
    pub text: String,
}

/// A message that is durable here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Sent {
    /// Which.
    pub id: String,
    /// Where it went.
    pub conversation: String,
    /// How far it has come: `stored`, `held`, `delivered`, `read`, `expired` or `removed`.
    pub state: String,
    /// Its place in this device's history of the conversation.
    pub number: u64,
}

/// One message of a conversation: what `log` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogEntry {
    /// Which.
    pub id: String,
    /// Where.
    pub conversation: String,
    /// The person who wrote it.
    pub author: String,
    /// What it says, as written.
    pub text: String,
    /// When it was written, by the author's clock.
    pub sent: Stamp,
    /// When it was stored here.
    pub received: Stamp,
    /// `stored`, `held`, `delivered`, `read`, `expired` or `removed`.
    pub state: String,
    /// People whose devices carry it now for the addressee.
    pub held_by: Vec<String>,
    /// Their names, in the same order.
    #[serde(default)]
    pub held_by_names: Vec<String>,
    /// The author's name.
    pub author_name: String,
    /// Its place in this device's history of the conversation.
    pub number: u64,
}

/// A stretch of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MessagePage {
    /// Which.
    pub conversation: String,
    /// Oldest first.
    pub messages: Vec<LogEntry>,
    /// Ask again with `after` this number for more; `null` at the end.
    pub next: Option<u64>,
    /// Where `before` was asked for: ask again with `before` this number for older ones; `null` at the beginning.
    #[serde(default)]
    pub earlier: Option<u64>,
}

/// The conversations this person can have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Conversations {
    /// One with each other member.
    pub conversations: Vec<Conversation>,
}

/// One conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Conversation {
    /// Which.
    pub conversation: String,
    /// What to write to it: `person:NAME`.
    pub target: String,
    /// The other person.
    pub member: String,
    /// Its newest message.
    pub latest: Option<LogEntry>,
    /// The other person's name.
    #[serde(default)]
    pub member_name: String,
    /// Messages not shown to the user yet; counting ends at 100.
    #[serde(default)]
    pub unread: u64,
}

/// Says up to where a conversation was shown to the user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReadRequest {
    /// `number` of the newest message shown.
    pub up_to: u64,
}

/// An answer with nothing in it, and a request likewise.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Nothing {}
