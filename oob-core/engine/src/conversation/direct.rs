//! Messages between two people (docs/protocol.md, section 9): sending, receiving, receipts.

use super::state::{Conversation, Conversations, RANGES, Receipts, ack};
use crate::{
    cx::Cx,
    effect::CommandError,
    event::Event,
    model::{Device, Message, MessageState, RangeSet, Receipt, Text},
    outbox::Carries,
    post::Post,
    session::{OpenedBody, What},
    snapshot::RosterView,
    stored::{self, RecordError},
};
use oob_crypto::direct_conversation;
use oob_proto::{
    ConversationId, DeviceId, Incarnation, MemberId, Message as _, MessageId, OrgId, limits, wire,
};
use oob_store::{Order, Store};
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// A lamport time further ahead than this is shown and not adopted, so that nobody can use up the numbers.
const LAMPORT_AHEAD: u64 = 1 << 20;

/// The last moment that every library of dates can show, end of the year 9999.
const LAST_SHOWN_MS: u64 = 253_402_300_799_999;

/// Messages looked at to tell which were read.
const READ_SEARCH: usize = 4_096;

/// Of these, looked at together.
const READ_PAGE: usize = 64;

/// Messages looked at, the newest first, to find those a device lacks that lost its ratchets: each that is sealed again is
/// part of one batch, and half a minute of writing is more than anybody has open with one person.
const SEALED_AGAIN: usize = 4_096;

/// Rules of conversations between two people.
pub(crate) struct Direct<'a> {
    pub(crate) all: &'a mut Conversations,
    pub(crate) roster: &'a RosterView,
    pub(crate) org: &'a OrgId,
    pub(crate) me: &'a MemberId,
    pub(crate) device: &'a DeviceId,
    pub(crate) life: Incarnation,
    /// Messages that are here already are shown again.
    #[cfg(feature = "sim")]
    pub(crate) shows_again: bool,
}

/// What a Body turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// Stored, or here already: in both cases a receipt goes out.
    Taken,
    /// Not what a correct device writes.
    Refused(&'static str),
}

impl Direct<'_> {
    /// Seals a text for every device of a member; returns its id, conversation and number.
    pub(crate) fn send(
        &mut self,
        cx: &mut Cx<'_>,
        post: &mut Post<'_>,
        to: &MemberId,
        text: &Text,
    ) -> Result<(MessageId, ConversationId, u64), CommandError> {
        let member = self.roster.members.get(to).ok_or(CommandError::NoMember)?;
        if member.id == *self.me {
            return Err(CommandError::Yourself);
        }
        let reached: Vec<DeviceId> =
            member.devices.iter().copied().filter(|device| post.reaches(device)).collect();
        if reached.is_empty() {
            return Err(CommandError::NoKeys { name: member.name.to_string() });
        }
        let conversation = direct_conversation(self.org, self.me, to);
        self.all.begin(cx.store, &conversation, to, self.life);
        let state = self.all.all.get_mut(&conversation).ok_or(CommandError::NoConversation)?;
        if state.own_life != self.life {
            // Body.seq is contiguous within a life of the store.
            state.own_life = self.life;
            state.own_seq = 0;
        }
        let id = post.life.next_message_id(self.device);
        let parents: Vec<Vec<u8>> = state.last_id.iter().map(MessageId::to_vec).collect();
        state.own_seq = state.own_seq.saturating_add(1);
        state.lamport = state.lamport.saturating_add(1);
        state.last_number = state.last_number.saturating_add(1);
        state.last_id = Some(id);
        let number = state.last_number;
        let body = wire::Body {
            id: id.to_vec(),
            conversation: conversation.to_vec(),
            seq: state.own_seq,
            lamport: state.lamport,
            parents: parents.clone(),
            time: cx.now.wall_ms,
            content: Some(wire::body::Content::Text(wire::Text { text: text.as_str().to_owned() })),
            ..wire::Body::default()
        };
        let bytes = Zeroizing::new(body.encode_to_vec());
        let carries =
            Carries::Message { conversation, life: self.life, body_seq: body.seq, number };
        for device in &reached {
            post.send(cx, device, What::Body(&bytes), carries)
                .map_err(|_| CommandError::Internal("sealing"))?;
        }
        let record = wire::StoredMessage {
            id: id.to_vec(),
            author: self.me.to_vec(),
            device: self.device.to_vec(),
            text: text.as_str().to_owned(),
            sent_ms: cx.now.wall_ms,
            received_ms: cx.now.wall_ms,
            lamport: body.lamport,
            incarnation: self.life.0,
            body_seq: body.seq,
            parents,
        };
        self.all.recent.note(conversation, self.life, body.seq, id);
        self.keep(cx, &conversation, number, record, MessageState::Stored);
        Ok((id, conversation, number))
    }

    /// Seals again for one device what it has not said that it has, under the ids it was written with, and tells it again
    /// what came from it: it lost its ratchets, or this device did. Not those of one life from a number on: see
    /// [`Self::write_anew`].
    pub(crate) fn seal_again(
        &mut self,
        cx: &mut Cx<'_>,
        post: &mut Post<'_>,
        to: &Device,
        but: Option<(Incarnation, u64)>,
    ) -> Result<(), RecordError> {
        let conversation = direct_conversation(self.org, self.me, &to.member);
        let Some(state) = self.all.all.get_mut(&conversation) else { return Ok(()) };
        let theirs = state.theirs.keys().filter(|(device, _)| *device == to.id);
        self.all.owed.extend(theirs.map(|(device, life)| (conversation, *device, *life)));
        if !post.reaches(&to.id) {
            return Ok(());
        }
        let lacking = lacking(cx.store, self.device, &conversation, state, &to.id, but)?;
        for (number, record) in lacking.into_iter().rev() {
            let life = Incarnation(record.incarnation);
            // Only receipts of lives that are known here are taken.
            state.ours.entry((to.id, life)).or_default();
            self.all.dirty.insert(conversation);
            let body_seq = record.body_seq;
            let bytes = Zeroizing::new(body_of(&conversation, record).encode_to_vec());
            let carries = Carries::Message { conversation, life, body_seq, number };
            if post.send(cx, &to.id, What::Body(&bytes), carries).is_err() {
                tracing::warn!("a message could not be sealed again");
            }
        }
        Ok(())
    }

    /// Writes again in this life what was written in one before from a record on: others may know other messages by the same
    /// ids, and would take these for them.
    pub(crate) fn write_anew(
        &mut self,
        cx: &mut Cx<'_>,
        post: &mut Post<'_>,
        life: Incarnation,
        from: u64,
    ) -> Result<(), RecordError> {
        for (conversation, state) in &mut self.all.all {
            let bag = stored::messages(conversation);
            let page = cx.store.scan(&bag, .., Order::Descending, SEALED_AGAIN)?;
            for (number, bytes) in page.into_iter().rev() {
                let mut record: wire::StoredMessage = stored::decode(&bytes, "message")?;
                if record.device != self.device.as_bytes() || !is_of(&record, Some((life, from))) {
                    continue;
                }
                if state.own_life != self.life {
                    (state.own_life, state.own_seq) = (self.life, 0);
                }
                let member = self.roster.members.get(&state.member);
                let devices = member.into_iter().flat_map(|member| &member.devices);
                let reached: Vec<DeviceId> =
                    devices.copied().filter(|device| post.reaches(device)).collect();
                state.own_seq = state.own_seq.saturating_add(1);
                let id = post.life.next_message_id(self.device);
                state.last_id = Some(id);
                record.id = id.to_vec();
                (record.incarnation, record.body_seq) = (self.life.0, state.own_seq);
                self.all.recent.note(*conversation, self.life, state.own_seq, id);
                stored::write(cx.store, &bag, number, &record);
                self.all.dirty.insert(*conversation);
                let (body_seq, life) = (record.body_seq, self.life);
                let bytes = Zeroizing::new(body_of(conversation, record).encode_to_vec());
                let carries =
                    Carries::Message { conversation: *conversation, life, body_seq, number };
                for device in &reached {
                    if post.send(cx, device, What::Body(&bytes), carries).is_err() {
                        tracing::warn!("a message could not be sealed again");
                    }
                }
            }
        }
        Ok(())
    }

    /// Takes an opened Body of a device of the roster.
    pub(crate) fn take(
        &mut self,
        cx: &mut Cx<'_>,
        from: &Device,
        opened: &OpenedBody,
        knows_life: impl Fn(Incarnation) -> bool,
    ) -> Result<Arrival, RecordError> {
        let Ok(body) = wire::Body::decode(opened.bytes.as_slice()) else {
            return Ok(Arrival::Refused("not a body"));
        };
        let Ok(id) = MessageId::try_from(body.id.as_slice()) else {
            return Ok(Arrival::Refused("no message id"));
        };
        let life = id.incarnation();
        // The id names the author's device, and the life the envelope came in or an earlier one of that device.
        if id.device() != from.id.short() || !(life == opened.incarnation || knows_life(life)) {
            return Ok(Arrival::Refused("the id of another device"));
        }
        let conversation = direct_conversation(self.org, self.me, &from.member);
        if from.member == *self.me || body.conversation != conversation.as_bytes() {
            return Ok(Arrival::Refused("another conversation"));
        }
        let Some(wire::body::Content::Text(text)) = body.content else {
            return Ok(Arrival::Refused("unknown content"));
        };
        let Ok(text) = Text::parse(text.text) else {
            return Ok(Arrival::Refused("text of a wrong length"));
        };
        if body.seq == 0 || body.parents.len() > limits::OP_PARENTS {
            return Ok(Arrival::Refused("a wrong number"));
        }
        self.all.begin(cx.store, &conversation, &from.member, self.life);
        let Some(state) = self.all.all.get_mut(&conversation) else {
            return Ok(Arrival::Refused("no conversation"));
        };
        let receipts = state.theirs.entry((from.id, life)).or_default();
        self.all.owed.insert((conversation, from.id, life));
        let known = receipts.delivered.contains(body.seq);
        #[cfg(feature = "sim")]
        let known = known && !self.shows_again;
        if known {
            return Ok(Arrival::Taken);
        }
        if receipts.delivered.len() >= RANGES {
            return Ok(Arrival::Refused("too many holes in its numbers"));
        }
        receipts.delivered.insert(body.seq);
        let ahead = state.lamport.saturating_add(LAMPORT_AHEAD);
        if body.lamport <= ahead {
            state.lamport = state.lamport.max(body.lamport);
        }
        state.last_number = state.last_number.saturating_add(1);
        state.last_id = Some(id);
        let number = state.last_number;
        let record = wire::StoredMessage {
            id: id.to_vec(),
            author: from.member.to_vec(),
            device: from.id.to_vec(),
            text: text.into_string(),
            sent_ms: body.time.min(LAST_SHOWN_MS),
            received_ms: cx.now.wall_ms,
            lamport: body.lamport,
            incarnation: life.0,
            body_seq: body.seq,
            parents: body.parents,
        };
        self.keep(cx, &conversation, number, record, MessageState::Delivered);
        Ok(Arrival::Taken)
    }

    fn keep(
        &mut self,
        cx: &mut Cx<'_>,
        conversation: &ConversationId,
        number: u64,
        record: wire::StoredMessage,
        state: MessageState,
    ) {
        stored::write(cx.store, &stored::messages(conversation), number, &record);
        self.all.dirty.insert(*conversation);
        if let Some(message) = message(conversation, number, &record, state, Vec::new()) {
            cx.out.events.push(Event::Message(message));
        }
    }

    /// Takes a receipt of a device of the roster for own messages; returns what of them that device now has.
    pub(crate) fn take_ack(
        &mut self,
        cx: &mut Cx<'_>,
        from: &Device,
        raw: &wire::Ack,
    ) -> Result<Option<Acked>, RecordError> {
        let conversation = direct_conversation(self.org, self.me, &from.member);
        if raw.conversation != conversation.as_bytes() || raw.device != self.device.as_bytes() {
            return Ok(None);
        }
        let life = Incarnation(raw.incarnation);
        let Some(state) = self.all.all.get_mut(&conversation) else { return Ok(None) };
        if life != state.own_life && !state.ours.keys().any(|(_, of)| *of == life) {
            return Ok(None);
        }
        // Nobody can acknowledge what was not written yet.
        let written = if life == state.own_life { state.own_seq } else { u64::MAX };
        let (mut delivered, read) =
            (written_only(&raw.delivered, written), written_only(&raw.read, written));
        delivered.union(&read);
        let key = (from.id, life);
        let known = state.ours.get(&key).cloned().unwrap_or_default();
        let (newly, newly_read) =
            (known.delivered.missing_from(&delivered), known.read.missing_from(&read));
        if newly.is_empty() && newly_read.is_empty() {
            return Ok(Some(Acked { conversation, life, delivered }));
        }
        let before = state.clone();
        let receipts = state.ours.entry(key).or_default();
        receipts.delivered.union(&newly);
        receipts.read.union(&newly_read);
        receipts.delivered.close_lowest(RANGES);
        receipts.read.close_lowest(RANGES);
        let after = state.clone();
        self.all.dirty.insert(conversation);
        self.tell(cx, &conversation, life, &before, &after, &newly, &newly_read)?;
        Ok(Some(Acked { conversation, life, delivered }))
    }

    /// Notes that somebody carries own messages for a device.
    pub(crate) fn mark_held(
        &mut self,
        cx: &mut Cx<'_>,
        conversation: &ConversationId,
        to: &DeviceId,
        life: Incarnation,
        held: &RangeSet,
    ) -> Result<(), RecordError> {
        self.mark(cx, conversation, to, life, held, |receipts| &mut receipts.held)
    }

    /// Notes that the life of own messages for a device ended.
    pub(crate) fn mark_expired(
        &mut self,
        cx: &mut Cx<'_>,
        conversation: &ConversationId,
        to: &DeviceId,
        life: Incarnation,
        expired: &RangeSet,
    ) -> Result<(), RecordError> {
        self.mark(cx, conversation, to, life, expired, |receipts| &mut receipts.expired)
    }

    /// Notes that the device own messages are for was removed.
    pub(crate) fn mark_removed(
        &mut self,
        cx: &mut Cx<'_>,
        conversation: &ConversationId,
        to: &DeviceId,
        life: Incarnation,
        removed: &RangeSet,
    ) -> Result<(), RecordError> {
        self.mark(cx, conversation, to, life, removed, |receipts| &mut receipts.removed)
    }

    /// The same for all that a device has not said that it has.
    pub(crate) fn mark_lacking_removed(
        &mut self,
        cx: &mut Cx<'_>,
        to: &Device,
    ) -> Result<(), RecordError> {
        let conversation = direct_conversation(self.org, self.me, &to.member);
        let Some(state) = self.all.all.get(&conversation) else { return Ok(()) };
        let lacking = lacking(cx.store, self.device, &conversation, state, &to.id, None)?;
        let mut by_life: BTreeMap<Incarnation, RangeSet> = BTreeMap::new();
        for (_, record) in lacking {
            by_life.entry(Incarnation(record.incarnation)).or_default().insert(record.body_seq);
        }
        for (life, set) in by_life {
            self.mark_removed(cx, &conversation, &to.id, life, &set)?;
        }
        Ok(())
    }

    fn mark(
        &mut self,
        cx: &mut Cx<'_>,
        conversation: &ConversationId,
        to: &DeviceId,
        life: Incarnation,
        set: &RangeSet,
        which: impl Fn(&mut Receipts) -> &mut RangeSet,
    ) -> Result<(), RecordError> {
        let Some(state) = self.all.all.get_mut(conversation) else { return Ok(()) };
        let before = state.clone();
        let marked = which(state.ours.entry((*to, life)).or_default());
        let new = marked.missing_from(set);
        if new.is_empty() {
            return Ok(());
        }
        marked.union(&new);
        marked.close_lowest(RANGES);
        let after = state.clone();
        self.all.dirty.insert(*conversation);
        self.tell(cx, conversation, life, &before, &after, &new, &RangeSet::new())
    }

    /// Tells of each own message whose state changed, oldest first.
    #[expect(clippy::too_many_arguments, reason = "two states and what differs between them")]
    fn tell(
        &self,
        cx: &mut Cx<'_>,
        conversation: &ConversationId,
        life: Incarnation,
        before: &Conversation,
        after: &Conversation,
        newly: &RangeSet,
        newly_read: &RangeSet,
    ) -> Result<(), RecordError> {
        let lowest =
            newly.iter().chain(newly_read.iter()).map(|(first, _)| first).min().unwrap_or(0);
        let changed = |body_seq| {
            let state = after.state_of_own(life, body_seq);
            (state != before.state_of_own(life, body_seq)).then_some(state)
        };
        let told = match self.all.recent.since(conversation, life, lowest) {
            Some(recent) => recent.filter_map(|(n, id)| Some((id, changed(n)?))).collect(),
            None => {
                // Each record that is looked at is opened. Most receipts are of the last messages, and of few.
                let span = newly.iter().chain(newly_read.iter());
                let span = span.fold(1u64, |sum, (first, last)| {
                    sum.saturating_add(last.saturating_sub(first)).saturating_add(1)
                });
                self.search(cx, conversation, life, lowest, span, changed)?
            }
        };
        for (message, state) in told {
            let delivered =
                u32::from(matches!(state, MessageState::Delivered | MessageState::Read));
            let receipt =
                Receipt { message, conversation: *conversation, state, delivered, expected: 1 };
            cx.out.events.push(Event::Receipt(receipt));
        }
        Ok(())
    }

    /// Looks for own messages of a life that changed, from a number on, oldest first; about so many are expected to be the last.
    fn search(
        &self,
        cx: &Cx<'_>,
        conversation: &ConversationId,
        life: Incarnation,
        lowest: u64,
        span: u64,
        changed: impl Fn(u64) -> Option<MessageState>,
    ) -> Result<Vec<(MessageId, MessageState)>, RecordError> {
        let mut found = Vec::new();
        let mut next = u64::MAX;
        let mut looked = 0usize;
        let mut most = usize::try_from(span).unwrap_or(READ_PAGE).min(READ_PAGE);
        'search: while next > 0 && looked < READ_SEARCH {
            let bag = stored::messages(conversation);
            let page = cx.store.scan(&bag, ..=next, Order::Descending, most)?;
            most = READ_PAGE;
            let Some((last, _)) = page.last() else { break };
            next = last.saturating_sub(1);
            looked = looked.saturating_add(page.len());
            for (_, bytes) in page {
                let record: wire::StoredMessage = stored::decode(&bytes, "message")?;
                if record.device != self.device.as_bytes() || record.incarnation != life.0 {
                    continue;
                }
                if record.body_seq < lowest {
                    break 'search;
                }
                if let Some(state) = changed(record.body_seq)
                    && let Ok(id) = MessageId::try_from(record.id.as_slice())
                {
                    found.push((id, state));
                }
            }
        }
        found.reverse();
        Ok(found)
    }

    /// Notes that everything up to a number was shown here; receipts go out with this batch.
    pub(crate) fn mark_read(
        &mut self,
        cx: &mut Cx<'_>,
        conversation: &ConversationId,
        up_to: u64,
    ) -> Result<(), CommandError> {
        let state = self.all.all.get_mut(conversation).ok_or(CommandError::NoConversation)?;
        let up_to = up_to.min(state.last_number);
        if up_to <= state.read_number {
            return Ok(());
        }
        let mut next = state.read_number.saturating_add(1);
        while next <= up_to {
            let page = cx
                .store
                .scan(&stored::messages(conversation), next..=up_to, Order::Ascending, 256)
                .map_err(|error| CommandError::Store(error.to_string()))?;
            let Some((last, _)) = page.last() else { break };
            next = last.saturating_add(1);
            for (_, bytes) in page {
                let Ok(record) = wire::StoredMessage::decode(bytes.as_slice()) else { continue };
                let Ok(device) = DeviceId::try_from(record.device.as_slice()) else { continue };
                if device == *self.device {
                    continue;
                }
                let key = (device, Incarnation(record.incarnation));
                state.theirs.entry(key).or_default().read.insert(record.body_seq);
                self.all.owed.insert((*conversation, key.0, key.1));
            }
        }
        state.read_number = up_to;
        self.all.dirty.insert(*conversation);
        Ok(())
    }

    /// Seals the receipts owed at the end of a batch: one per author device and life, as ranges.
    pub(crate) fn post_acks(&mut self, cx: &mut Cx<'_>, post: &mut Post<'_>) {
        let owed = std::mem::take(&mut self.all.owed);
        for (conversation, author, life) in owed {
            let Some(state) = self.all.all.get(&conversation) else { continue };
            let Some(receipts) = state.theirs.get(&(author, life)) else { continue };
            let ack = ack(&conversation, &author, life, receipts);
            // Whoever was taken out since is told nothing.
            if self.roster.devices.contains_key(&author)
                && post.reaches(&author)
                && post
                    .send(cx, &author, What::Ack(ack), Carries::Ack { conversation, life })
                    .is_err()
            {
                tracing::warn!("a receipt could not be sealed");
            }
        }
    }
}

/// The Body of an own message, as it was sealed first.
fn body_of(conversation: &ConversationId, record: wire::StoredMessage) -> wire::Body {
    wire::Body {
        id: record.id,
        conversation: conversation.to_vec(),
        seq: record.body_seq,
        lamport: record.lamport,
        parents: record.parents,
        time: record.sent_ms,
        content: Some(wire::body::Content::Text(wire::Text { text: record.text })),
        ..wire::Body::default()
    }
}

/// Own messages of a conversation that a device has not said that it has, newest first.
fn lacking(
    store: &Store,
    me: &DeviceId,
    conversation: &ConversationId,
    state: &Conversation,
    to: &DeviceId,
    but: Option<(Incarnation, u64)>,
) -> Result<Vec<(u64, wire::StoredMessage)>, RecordError> {
    let mut lacking = Vec::new();
    let mut next = u64::MAX;
    let mut looked = 0usize;
    while next > 0 && looked < SEALED_AGAIN {
        let page = store.scan(&stored::messages(conversation), ..=next, Order::Descending, 64)?;
        let Some((last, _)) = page.last() else { break };
        next = last.saturating_sub(1);
        looked = looked.saturating_add(page.len());
        for (number, bytes) in page {
            let record: wire::StoredMessage = stored::decode(&bytes, "message")?;
            if record.device != me.as_bytes() || is_of(&record, but) {
                continue;
            }
            let known = state.ours.get(&(*to, Incarnation(record.incarnation)));
            if known.is_none_or(|known| {
                !known.delivered.contains(record.body_seq)
                    && !known.expired.contains(record.body_seq)
            }) {
                lacking.push((number, record));
            }
        }
    }
    Ok(lacking)
}

/// Whether a message was written in a life from a record on.
fn is_of(record: &wire::StoredMessage, of: Option<(Incarnation, u64)>) -> bool {
    let id = MessageId::try_from(record.id.as_slice()).ok();
    of.zip(id).is_some_and(|((life, from), id)| id.incarnation() == life && id.seq() >= from)
}

/// What a receipt says of messages that were written: nobody has others.
fn written_only(ranges: &[wire::Range], written: u64) -> RangeSet {
    let mut set = RangeSet::new();
    for (first, last) in RangeSet::from_wire(ranges, limits::ACK_RANGES).iter() {
        set.insert_range(first.max(1), last.min(written));
    }
    set
}

/// Own messages a device now has.
#[derive(Debug, Clone)]
pub(crate) struct Acked {
    pub(crate) conversation: ConversationId,
    pub(crate) life: Incarnation,
    /// Body.seq that the receipt tells of, known ones too.
    pub(crate) delivered: RangeSet,
}

/// Reads a stored message.
pub(super) fn message(
    conversation: &ConversationId,
    number: u64,
    record: &wire::StoredMessage,
    state: MessageState,
    held_by: Vec<MemberId>,
) -> Option<Message> {
    Some(Message {
        number,
        id: MessageId::try_from(record.id.as_slice()).ok()?,
        conversation: *conversation,
        author: MemberId::try_from(record.author.as_slice()).ok()?,
        device: DeviceId::try_from(record.device.as_slice()).ok()?,
        text: record.text.clone(),
        sent_ms: record.sent_ms,
        received_ms: record.received_ms,
        state,
        held_by,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_receipt_for_what_was_not_written_says_nothing() {
        let all = [wire::Range { first: 0, last: u64::MAX }];
        assert_eq!(written_only(&all, 3).iter().collect::<Vec<_>>(), [(1, 3)]);
        assert!(written_only(&[wire::Range { first: 4, last: 9 }], 3).is_empty());
        assert!(written_only(&all, 0).is_empty());
    }
}
