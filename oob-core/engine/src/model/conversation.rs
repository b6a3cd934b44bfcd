//! Messages as people see them.

use oob_proto::{ConversationId, DeviceId, MemberId, MessageId};
use std::fmt;

/// How far a message has come, each step backed by signed evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MessageState {
    /// Durable on the device that wrote it.
    Stored,
    /// Also on a device of somebody else, who will hand it on.
    Held,
    /// The device it was for was removed before it arrived. If its receipt was under way still, it is delivered all the same.
    Removed,
    /// On a device of the addressee.
    Delivered,
    /// Shown there.
    Read,
    /// Its life ended before it was delivered.
    Expired,
}

impl MessageState {
    /// Returns the word people use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Held => "held",
            Self::Removed => "removed",
            Self::Delivered => "delivered",
            Self::Read => "read",
            Self::Expired => "expired",
        }
    }
}

impl fmt::Display for MessageState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One message of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Place in this device's history of the conversation, from 1.
    pub number: u64,
    /// Which.
    pub id: MessageId,
    /// Where.
    pub conversation: ConversationId,
    /// Who wrote it.
    pub author: MemberId,
    /// On which device.
    pub device: DeviceId,
    /// What it says, as written.
    pub text: String,
    /// Milliseconds since 1970 when it was written, by the author's clock.
    pub sent_ms: u64,
    /// Milliseconds since 1970 when it was stored here, by this device's clock.
    pub received_ms: u64,
    /// How far it has come. Of somebody else's message: delivered, or read once it was shown here.
    pub state: MessageState,
    /// Whose devices carry it just now, by their signed word, the addressee's and the author's aside. Only of own
    /// messages.
    pub held_by: Vec<MemberId>,
}

/// What is known of one own message's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// Which message.
    pub message: MessageId,
    /// Where.
    pub conversation: ConversationId,
    /// How far it has come.
    pub state: MessageState,
    /// People who have it.
    pub delivered: u32,
    /// People it is for.
    pub expected: u32,
}
