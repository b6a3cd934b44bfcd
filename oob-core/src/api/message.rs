//! Messages and how far they have come.

use oob_engine::{model::MessageState, snapshot::Snapshot};
use oob_proto::{ConversationId, DeviceId, MemberId, MessageId};
use std::time::{Duration, SystemTime};

/// One message of a conversation, as this device has it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Message {
    /// Place in this device's history of the conversation, from 1, without holes.
    pub number: u64,
    /// The same on every device.
    pub id: MessageId,
    /// Where.
    pub conversation: ConversationId,
    /// Name of who wrote it, as the organisation has it now.
    pub author: String,
    /// Who wrote it.
    pub author_id: MemberId,
    /// On which device.
    pub device: DeviceId,
    /// What it says, as written: clean it before it goes to a terminal.
    pub text: String,
    /// When it was written, by the author's clock.
    pub sent: SystemTime,
    /// When it was stored here, by this device's clock.
    pub received: SystemTime,
    /// How far it has come. Of somebody else's message: delivered, or read once it was marked so here.
    pub state: MessageState,
    /// Whether this device's person wrote it.
    pub outgoing: bool,
    /// Whose devices carry it now for those who do not have it yet, with their names; only of own messages.
    pub held_by: Vec<(MemberId, String)>,
}

/// How far an own message has come.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Receipt {
    /// Which message; compares with what `send` gave.
    pub message: MessageId,
    /// Where.
    pub conversation: ConversationId,
    /// How far.
    pub state: MessageState,
    /// People who have it.
    pub delivered: u32,
    /// People it is for.
    pub expected: u32,
}

/// A message that is durable on this device and on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sent {
    /// The same on every device.
    pub id: MessageId,
    /// Where.
    pub conversation: ConversationId,
    /// Place in this device's history of the conversation.
    pub number: u64,
}

impl PartialEq<MessageId> for Sent {
    fn eq(&self, other: &MessageId) -> bool {
        self.id == *other
    }
}

impl PartialEq<Sent> for MessageId {
    fn eq(&self, other: &Sent) -> bool {
        *self == other.id
    }
}

impl Message {
    pub(crate) fn of(message: oob_engine::model::Message, snapshot: &Snapshot) -> Self {
        let held_by = message.held_by.iter().map(|id| (*id, name_of(id, snapshot))).collect();
        Self {
            number: message.number,
            id: message.id,
            conversation: message.conversation,
            author: name_of(&message.author, snapshot),
            author_id: message.author,
            device: message.device,
            text: message.text,
            sent: time(message.sent_ms),
            received: time(message.received_ms),
            state: message.state,
            outgoing: snapshot.me.member == Some(message.author),
            held_by,
        }
    }
}

impl Message {
    pub(crate) fn all_of(
        messages: Vec<oob_engine::model::Message>,
        snapshot: &Snapshot,
    ) -> Vec<Self> {
        messages.into_iter().map(|message| Self::of(message, snapshot)).collect()
    }
}

impl Receipt {
    pub(crate) fn of(receipt: oob_engine::model::Receipt) -> Self {
        Self {
            message: receipt.message,
            conversation: receipt.conversation,
            state: receipt.state,
            delivered: receipt.delivered,
            expected: receipt.expected,
        }
    }
}

/// Returns a member's name, or the start of its id where the roster lacks it.
pub(crate) fn name_of(member: &MemberId, snapshot: &Snapshot) -> String {
    match snapshot.roster.members.get(member) {
        Some(member) => member.name.to_string(),
        None => member.to_string().chars().take(8).collect(),
    }
}

/// Returns the moment of a wire time; a moment no clock can hold becomes the start of 1970.
pub(crate) fn time(ms: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(ms)).unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sent_message_compares_with_ids_both_ways() {
        let id = MessageId::from([3; 20]);
        let sent = Sent { id, conversation: ConversationId::from([1; 16]), number: 1 };
        let other = MessageId::from([4; 20]);
        assert_eq!((sent == id, sent == other), (true, false));
        assert_eq!((id == sent, other == sent), (true, false));
    }

    #[test]
    fn times_no_clock_can_hold_do_not_panic() {
        assert_eq!(time(0), SystemTime::UNIX_EPOCH);
        let _ = time(u64::MAX);
    }
}
