//! Reading what is stored, beside the engine: a slow search never waits behind a message, or delays one.

use super::{direct::message, state::Conversation};
use crate::{
    event::{Event, Numbered},
    holders::Holders,
    model::{Message, MessageState, Receipt},
    stored::{self, RecordError},
};
use oob_proto::{ConversationId, DeviceId, Incarnation, MemberId, MessageId, OrgId, wire};
use oob_store::{Order, View};

/// Committed messages, receipts and events. Cheap to clone, free to use from any thread.
#[derive(Clone)]
pub struct History {
    view: View,
    device: DeviceId,
}

impl History {
    pub(crate) fn new(view: View, device: DeviceId) -> Self {
        Self { view, device }
    }

    /// Returns up to `limit` messages of a conversation with a number above `after`, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn messages(
        &self,
        conversation: &ConversationId,
        after: u64,
        limit: usize,
    ) -> Result<Vec<Message>, RecordError> {
        let Some(state) = self.state(conversation)? else { return Ok(Vec::new()) };
        let Some(first) = after.checked_add(1) else { return Ok(Vec::new()) };
        let page =
            self.view.scan(&stored::messages(conversation), first.., Order::Ascending, limit)?;
        self.decode(conversation, &state, page)
    }

    /// Returns the newest `limit` messages of a conversation, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn latest(
        &self,
        conversation: &ConversationId,
        limit: usize,
    ) -> Result<Vec<Message>, RecordError> {
        let Some(state) = self.state(conversation)? else { return Ok(Vec::new()) };
        let mut page =
            self.view.scan(&stored::messages(conversation), .., Order::Descending, limit)?;
        page.reverse();
        self.decode(conversation, &state, page)
    }

    /// Returns one message.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn message(
        &self,
        conversation: &ConversationId,
        number: u64,
    ) -> Result<Option<Message>, RecordError> {
        let Some(state) = self.state(conversation)? else { return Ok(None) };
        let Some(bytes) = self.view.get(&stored::messages(conversation), number)? else {
            return Ok(None);
        };
        Ok(self.decode(conversation, &state, vec![(number, bytes)])?.pop())
    }

    /// Returns how far an own message has come; none for somebody else's.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn receipt(
        &self,
        conversation: &ConversationId,
        number: u64,
    ) -> Result<Option<Receipt>, RecordError> {
        let Some(found) = self.message(conversation, number)? else { return Ok(None) };
        if found.device != self.device {
            return Ok(None);
        }
        let delivered = u32::from(
            found.state >= MessageState::Delivered && found.state != MessageState::Expired,
        );
        Ok(Some(Receipt {
            message: found.id,
            conversation: *conversation,
            state: found.state,
            delivered,
            expected: 1,
        }))
    }

    /// Returns the conversations of this device, with whom each is, in the order they began.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn conversations(&self) -> Result<Vec<(ConversationId, MemberId)>, RecordError> {
        let mut all = Vec::new();
        for (_, bytes) in
            self.view.scan(&stored::conversation_index(), .., Order::Ascending, usize::MAX)?
        {
            let Ok(id) = ConversationId::try_from(bytes.as_slice()) else { continue };
            if let Some(state) = self.state(&id)? {
                all.push((id, state.member));
            }
        }
        Ok(all)
    }

    /// Returns up to about `limit` events with a number above `after`, in order, and how many before the first of them
    /// are no longer kept.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn events(&self, after: u64, limit: usize) -> Result<(Vec<Numbered>, u64), RecordError> {
        let bag = stored::events();
        let Some(wanted) = after.checked_add(1) else { return Ok((Vec::new(), 0)) };
        // A batch is kept under the number of its first event: the one that begins at or before the wanted number.
        let start = self
            .view
            .scan(&bag, ..=wanted, Order::Descending, 1)?
            .first()
            .map_or(0, |(first, _)| *first);
        let mut events = Vec::new();
        let mut missed = 0;
        for (first, bytes) in self.view.scan(&bag, start.., Order::Ascending, limit.max(1))? {
            if events.is_empty() && first > wanted {
                missed = first.saturating_sub(wanted);
            }
            let raw: wire::StoredEvents = stored::decode(&bytes, "events")?;
            for (number, raw) in (first..).zip(&raw.events) {
                if number >= wanted
                    && let Some(event) = self.event(raw)?
                {
                    events.push(Numbered { number, event });
                }
            }
            if events.len() >= limit {
                break;
            }
        }
        Ok((events, missed))
    }

    fn event(&self, raw: &wire::StoredEvent) -> Result<Option<Event>, RecordError> {
        use wire::stored_event::Kind;
        Ok(match &raw.kind {
            Some(Kind::Message(raw)) => match ConversationId::try_from(raw.conversation.as_slice())
            {
                Ok(id) => self.message(&id, raw.number)?.map(Event::Message),
                Err(_) => None,
            },
            Some(Kind::Receipt(raw)) => receipt(raw).map(Event::Receipt),
            Some(Kind::Joined(raw)) => joined(raw),
            Some(Kind::Org(org)) => {
                OrgId::try_from(org.as_slice()).ok().map(|org| Event::Org { org })
            }
            None => None,
        })
    }

    fn state(&self, conversation: &ConversationId) -> Result<Option<Conversation>, RecordError> {
        let raw = stored::view::<wire::StoredConversation>(
            &self.view,
            &stored::conversation(conversation),
            stored::ONLY,
            "conversation",
        )?;
        Ok(raw.as_ref().and_then(Conversation::from_stored))
    }

    fn decode(
        &self,
        conversation: &ConversationId,
        state: &Conversation,
        page: Vec<(u64, Vec<u8>)>,
    ) -> Result<Vec<Message>, RecordError> {
        let mut messages = Vec::with_capacity(page.len());
        let holders = Holders::view(&self.view)?;
        for (number, bytes) in page {
            let record: wire::StoredMessage = stored::decode(&bytes, "message")?;
            let stage = if record.device == self.device.as_bytes() {
                state.state_of_own(Incarnation(record.incarnation), record.body_seq)
            } else if number <= state.read_number {
                MessageState::Read
            } else {
                MessageState::Delivered
            };
            let id = MessageId::try_from(record.id.as_slice()).ok();
            let own = id.filter(|_| record.device == self.device.as_bytes());
            let held_by = own.map(|id| holders.of(id.incarnation(), id.seq(), &state.member));
            let held_by = held_by.unwrap_or_default();
            messages.extend(message(conversation, number, &record, stage, held_by));
        }
        Ok(messages)
    }
}

fn receipt(raw: &wire::StoredReceiptEvent) -> Option<Receipt> {
    const STATES: [MessageState; 5] = [
        MessageState::Stored,
        MessageState::Held,
        MessageState::Delivered,
        MessageState::Read,
        MessageState::Expired,
    ];
    Some(Receipt {
        message: MessageId::try_from(raw.message.as_slice()).ok()?,
        conversation: ConversationId::try_from(raw.conversation.as_slice()).ok()?,
        state: *STATES.get(usize::try_from(raw.state).ok()?)?,
        delivered: raw.delivered,
        expected: raw.expected,
    })
}

fn joined(raw: &wire::StoredJoinedEvent) -> Option<Event> {
    Some(Event::Joined {
        member: MemberId::try_from(raw.member.as_slice()).ok()?,
        device: DeviceId::try_from(raw.device.as_slice()).ok()?,
    })
}
