//! What is known of each conversation beside its messages: counters, and ranges of what arrived on either side. No
//! record is kept per message for this.

use crate::{
    model::{MessageState, RangeSet},
    stored::{self, RecordError},
};
use oob_proto::{ConversationId, DeviceId, Incarnation, MemberId, MessageId, limits, wire};
use oob_store::{Order, Store};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Ranges kept per author: a correct author numbers without holes, and what one could send out of order is less.
pub(super) const RANGES: usize = 1_024;

/// Own messages remembered by number: twice as many as are under way where somebody writes as fast as it goes. What is older
/// is looked up in the store.
const RECENT: usize = 1_024;

/// All conversations.
#[derive(Default)]
pub(crate) struct Conversations {
    pub(super) all: BTreeMap<ConversationId, Conversation>,
    /// Not kept over a start.
    pub(super) recent: Recent,
    pub(super) dirty: BTreeSet<ConversationId>,
    /// Receipts to write at the end of the batch: per conversation, the author's device and life.
    pub(super) owed: BTreeSet<(ConversationId, DeviceId, Incarnation)>,
    next_place: u64,
}

/// One conversation.
#[derive(Debug, Clone)]
pub(super) struct Conversation {
    pub(super) member: MemberId,
    pub(super) last_number: u64,
    pub(super) own_seq: u64,
    pub(super) own_life: Incarnation,
    pub(super) lamport: u64,
    pub(super) read_number: u64,
    pub(super) last_id: Option<MessageId>,
    /// By author device and life, of Body.seq.
    pub(super) theirs: BTreeMap<(DeviceId, Incarnation), Receipts>,
    /// By addressee device and own life, of Body.seq.
    pub(super) ours: BTreeMap<(DeviceId, Incarnation), Receipts>,
}

/// What of an author's messages arrived, and what was read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Receipts {
    pub(super) delivered: RangeSet,
    pub(super) read: RangeSet,
    /// Of own messages: somebody carried them.
    pub(super) held: RangeSet,
    /// Of own messages: their life ended before they were delivered.
    pub(super) expired: RangeSet,
    /// Of own messages: the device was removed before they were delivered.
    pub(super) removed: RangeSet,
}

/// The own messages written last, so that a receipt of them is told without a look at the store.
#[derive(Debug, Default)]
pub(super) struct Recent {
    ids: BTreeMap<(ConversationId, Incarnation, u64), MessageId>,
    order: VecDeque<(ConversationId, Incarnation, u64)>,
}

impl Recent {
    /// Notes an own message; the oldest gives way. Within a life and conversation they come in order and without holes.
    pub(super) fn note(
        &mut self,
        conversation: ConversationId,
        life: Incarnation,
        body_seq: u64,
        id: MessageId,
    ) {
        let place = (conversation, life, body_seq);
        self.ids.insert(place, id);
        self.order.push_back(place);
        if self.order.len() > RECENT
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
    }

    /// Returns the own messages of a life from a number on, in order; none unless all of them are remembered.
    pub(super) fn since(
        &self,
        conversation: &ConversationId,
        life: Incarnation,
        lowest: u64,
    ) -> Option<impl Iterator<Item = (u64, MessageId)> + '_> {
        // Each that was written later was noted later, so it is still here if this one is.
        self.ids.get(&(*conversation, life, lowest))?;
        let range = (*conversation, life, lowest)..=(*conversation, life, u64::MAX);
        Some(self.ids.range(range).map(|((_, _, body_seq), id)| (*body_seq, *id)))
    }
}

impl Conversations {
    pub(crate) fn load(store: &Store) -> Result<Self, RecordError> {
        const AREA: &str = "conversation";
        let mut conversations = Self::default();
        for (place, bytes) in
            store.scan(&stored::conversation_index(), .., Order::Ascending, usize::MAX)?
        {
            let id = ConversationId::try_from(bytes.as_slice())
                .map_err(|_| RecordError::Unreadable { area: AREA })?;
            let raw = stored::read::<wire::StoredConversation>(
                store,
                &stored::conversation(&id),
                stored::ONLY,
                AREA,
            )?;
            let raw = raw.ok_or(RecordError::Unreadable { area: AREA })?;
            let state =
                Conversation::from_stored(&raw).ok_or(RecordError::Unreadable { area: AREA })?;
            conversations.all.insert(id, state);
            conversations.next_place = place.saturating_add(1);
        }
        Ok(conversations)
    }

    /// Whether nobody needs an own message any more: the device it is for has it, or its time was over.
    pub(crate) fn is_done(
        &self,
        conversation: &ConversationId,
        to: &DeviceId,
        life: Incarnation,
        body_seq: u64,
    ) -> bool {
        let ours = self.all.get(conversation).and_then(|state| state.ours.get(&(*to, life)));
        ours.is_some_and(|ours| {
            let done = [&ours.delivered, &ours.expired, &ours.removed];
            done.into_iter().any(|set| set.contains(body_seq))
        })
    }

    /// Every conversation there is.
    pub(crate) fn ids(&self) -> impl Iterator<Item = &ConversationId> {
        self.all.keys()
    }

    /// Makes a conversation known if it is not.
    pub(super) fn begin(
        &mut self,
        store: &mut Store,
        id: &ConversationId,
        member: &MemberId,
        life: Incarnation,
    ) {
        if self.all.contains_key(id) {
            return;
        }
        store.put(&stored::conversation_index(), self.next_place, id.as_bytes());
        self.next_place = self.next_place.saturating_add(1);
        self.all.insert(*id, Conversation::new(*member, life));
        self.dirty.insert(*id);
    }

    pub(crate) fn save_dirty(&mut self, store: &mut Store) {
        for id in std::mem::take(&mut self.dirty) {
            let Some(state) = self.all.get(&id) else { continue };
            stored::write(store, &stored::conversation(&id), stored::ONLY, &state.to_stored(&id));
        }
    }
}

impl Conversation {
    fn new(member: MemberId, own_life: Incarnation) -> Self {
        Self {
            member,
            own_life,
            last_number: 0,
            own_seq: 0,
            lamport: 0,
            read_number: 0,
            last_id: None,
            theirs: BTreeMap::new(),
            ours: BTreeMap::new(),
        }
    }

    /// How far an own message has come, by what the addressee's devices said.
    pub(super) fn state_of_own(&self, life: Incarnation, body_seq: u64) -> MessageState {
        let said =
            self.ours.iter().filter(|((_, of), _)| *of == life).map(|(_, receipts)| receipts);
        let mut state = MessageState::Stored;
        let mut expired = false;
        for receipts in said {
            let reached = if receipts.read.contains(body_seq) {
                MessageState::Read
            } else if receipts.delivered.contains(body_seq) {
                MessageState::Delivered
            } else if receipts.removed.contains(body_seq) {
                MessageState::Removed
            } else if receipts.held.contains(body_seq) {
                MessageState::Held
            } else {
                MessageState::Stored
            };
            expired |= receipts.expired.contains(body_seq);
            state = state.max(reached);
        }
        if expired && state < MessageState::Delivered { MessageState::Expired } else { state }
    }

    pub(super) fn from_stored(raw: &wire::StoredConversation) -> Option<Self> {
        Some(Self {
            member: MemberId::try_from(raw.member.as_slice()).ok()?,
            last_number: raw.last_number,
            own_seq: raw.own_seq,
            own_life: Incarnation(raw.own_incarnation),
            lamport: raw.lamport,
            read_number: raw.read_number,
            last_id: MessageId::try_from(raw.last_id.as_slice()).ok(),
            theirs: receipts_from(&raw.theirs)?,
            ours: receipts_from(&raw.ours)?,
        })
    }

    fn to_stored(&self, id: &ConversationId) -> wire::StoredConversation {
        wire::StoredConversation {
            id: id.to_vec(),
            member: self.member.to_vec(),
            last_number: self.last_number,
            own_seq: self.own_seq,
            lamport: self.lamport,
            read_number: self.read_number,
            last_id: self.last_id.map(|id| id.to_vec()).unwrap_or_default(),
            theirs: receipts_to(&self.theirs),
            ours: receipts_to(&self.ours),
            own_incarnation: self.own_life.0,
        }
    }
}

fn receipts_from(
    raw: &[wire::StoredReceipts],
) -> Option<BTreeMap<(DeviceId, Incarnation), Receipts>> {
    raw.iter()
        .map(|raw| {
            let device = DeviceId::try_from(raw.device.as_slice()).ok()?;
            let receipts = Receipts {
                delivered: RangeSet::from_wire(&raw.delivered, RANGES),
                read: RangeSet::from_wire(&raw.read, RANGES),
                held: RangeSet::from_wire(&raw.held, RANGES),
                expired: RangeSet::from_wire(&raw.expired, RANGES),
                removed: RangeSet::from_wire(&raw.removed, RANGES),
            };
            Some(((device, Incarnation(raw.incarnation)), receipts))
        })
        .collect()
}

fn receipts_to(all: &BTreeMap<(DeviceId, Incarnation), Receipts>) -> Vec<wire::StoredReceipts> {
    all.iter()
        .map(|((device, life), receipts)| wire::StoredReceipts {
            device: device.to_vec(),
            incarnation: life.0,
            delivered: receipts.delivered.to_wire(RANGES),
            read: receipts.read.to_wire(RANGES),
            held: receipts.held.to_wire(RANGES),
            expired: receipts.expired.to_wire(RANGES),
            removed: receipts.removed.to_wire(RANGES),
        })
        .collect()
}

/// Writes the receipt for one author's device and life.
pub(super) fn ack(
    conversation: &ConversationId,
    author: &DeviceId,
    life: Incarnation,
    receipts: &Receipts,
) -> wire::Ack {
    wire::Ack {
        conversation: conversation.to_vec(),
        device: author.to_vec(),
        incarnation: life.0,
        delivered: receipts.delivered.to_wire(limits::ACK_RANGES),
        read: receipts.read.to_wire(limits::ACK_RANGES),
        olm_session: Vec::new(),
        opened_to: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(numbers: std::ops::RangeInclusive<u64>) -> (Recent, ConversationId, Incarnation) {
        let (mut recent, conversation) = (Recent::default(), ConversationId::from([1; 16]));
        let life = Incarnation(7);
        for n in numbers {
            let id = MessageId::new(oob_proto::DeviceId::from([3; 32]).short(), life, n);
            recent.note(conversation, life, n, id);
        }
        (recent, conversation, life)
    }

    #[test]
    fn of_recent_messages_all_from_one_on_are_told_or_none() {
        let (recent, conversation, life) = noted(5..=20);
        let since = |lowest| {
            let all = recent.since(&conversation, life, lowest)?;
            Some(all.map(|(n, id)| (n, id.seq())).collect::<Vec<_>>())
        };
        assert_eq!(since(18), Some(vec![(18, 18), (19, 19), (20, 20)]));
        assert_eq!(since(4), None, "written before any that is remembered");
        assert_eq!(since(21), None);
        assert!(recent.since(&conversation, Incarnation(8), 18).is_none());
        assert!(recent.since(&ConversationId::from([2; 16]), life, 18).is_none());
    }

    #[test]
    fn the_oldest_of_the_recent_messages_gives_way() {
        let most = u64::try_from(RECENT).unwrap();
        let (recent, conversation, life) = noted(1..=most + 3);
        assert_eq!((recent.ids.len(), recent.order.len()), (RECENT, RECENT));
        assert!(recent.since(&conversation, life, 3).is_none());
        assert_eq!(recent.since(&conversation, life, 4).unwrap().count(), RECENT);
    }
}
