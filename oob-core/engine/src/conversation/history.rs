//! Reading what is stored, beside the engine: a slow search never waits behind a message, or delays one.

use super::{direct::message, state::Conversation};
use crate::{
    event::{Event, Numbered},
    holders::Holders,
    model::{Alert, AlertAck, Message, MessageState, Receipt},
    stored::{self, RecordError},
};
use oob_proto::{AlertId, ConversationId, DeviceId, Incarnation, MemberId, MessageId, OrgId, wire};
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
        self.before(conversation, u64::MAX, limit)
    }

    /// Returns the newest `limit` messages of a conversation with a number below `before`, oldest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn before(
        &self,
        conversation: &ConversationId,
        before: u64,
        limit: usize,
    ) -> Result<Vec<Message>, RecordError> {
        let Some(state) = self.state(conversation)? else { return Ok(Vec::new()) };
        let bag = stored::messages(conversation);
        let mut page = self.view.scan(&bag, ..before, Order::Descending, limit)?;
        page.reverse();
        self.decode(conversation, &state, page)
    }

    /// Returns how many messages of others were not shown here yet, among the first `limit` after the last one shown.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn unread(
        &self,
        conversation: &ConversationId,
        limit: usize,
    ) -> Result<usize, RecordError> {
        let Some(state) = self.state(conversation)? else { return Ok(0) };
        let later = self.messages(conversation, state.read_number, limit)?;
        Ok(later.iter().filter(|message| message.device != self.device).count())
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

    /// Returns the newest `limit` alerts as they came, newest first, each with what people answered, one answer a
    /// person. Whose answers count is for the reader to say: the author's own are among them, and those of people who left.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn alerts(&self, limit: usize) -> Result<Vec<(Alert, Vec<AlertAck>)>, RecordError> {
        let mut found = Vec::new();
        for (_, bytes) in self.view.scan(&stored::alerts(), .., Order::Descending, limit)? {
            let raw: wire::StoredAlert = stored::decode(&bytes, "alert")?;
            let Some(alert) = Alert::from_stored(&raw) else { continue };
            let acks = self.acks(&alert.id)?;
            found.push((alert, acks));
        }
        Ok(found)
    }

    /// Returns one alert and what people answered, as [`Self::alerts`] does.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn alert(&self, id: &AlertId) -> Result<Option<(Alert, Vec<AlertAck>)>, RecordError> {
        const AREA: &str = "alert";
        let place: Option<wire::StoredAlertPlace> =
            stored::view(&self.view, &stored::alert_place(id), stored::ONLY, AREA)?;
        let Some(place) = place else { return Ok(None) };
        let raw: Option<wire::StoredAlert> =
            stored::view(&self.view, &stored::alerts(), place.place, AREA)?;
        let Some(alert) = raw.as_ref().and_then(Alert::from_stored) else { return Ok(None) };
        Ok(Some((alert, self.acks(id)?)))
    }

    /// Returns the ids of all alerts, newest first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn alert_ids(&self) -> Result<Vec<AlertId>, RecordError> {
        let mut ids = Vec::new();
        for (_, bytes) in self.view.scan(&stored::alerts(), .., Order::Descending, usize::MAX)? {
            let raw: wire::StoredAlert = stored::decode(&bytes, "alert")?;
            ids.extend(AlertId::try_from(raw.id.as_slice()));
        }
        Ok(ids)
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
            Some(Kind::Alert(raw)) => match AlertId::try_from(raw.alert.as_slice()) {
                Ok(id) => self.alert(&id)?.map(|(alert, _)| Event::Alert(alert)),
                Err(_) => None,
            },
            Some(Kind::AlertAcked(raw)) => alert_acked(raw),
            None => None,
        })
    }

    fn acks(&self, alert: &AlertId) -> Result<Vec<AlertAck>, RecordError> {
        let mut all = Vec::new();
        let bag = stored::alert_acks(alert);
        for (_, bytes) in self.view.scan(&bag, .., Order::Ascending, stored::ALERT_ACKS)? {
            let raw: wire::StoredAlertAck = stored::decode(&bytes, "alert answer")?;
            all.extend(AlertAck::from_stored(&raw));
        }
        Ok(AlertAck::by_person(all))
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

fn alert_acked(raw: &wire::StoredAlertAckedEvent) -> Option<Event> {
    Some(Event::AlertAcked {
        alert: raw.alert.as_slice().try_into().ok()?,
        member: raw.member.as_slice().try_into().ok()?,
        answer: Some(raw.answer.clone()).filter(|answer| !answer.is_empty()),
        time_ms: raw.time_ms,
        acked: raw.acked,
        expected: raw.expected,
    })
}

fn receipt(raw: &wire::StoredReceiptEvent) -> Option<Receipt> {
    const STATES: [MessageState; 6] = [
        MessageState::Stored,
        MessageState::Held,
        MessageState::Delivered,
        MessageState::Read,
        MessageState::Expired,
        MessageState::Removed,
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
