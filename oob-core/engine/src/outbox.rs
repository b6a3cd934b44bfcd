//! What is owed to whom: sealed envelopes, kept until the addressee's device says that it has them. One record per
//! batch and device. What is owed is also what others are asked to carry.

use crate::{
    model::RangeSet,
    stored::{self, RecordError},
};
use oob_crypto::envelope::Head;
use oob_proto::{ConversationId, DeviceId, Incarnation, Message, wire};
use oob_store::{Order, Store};
use std::collections::{BTreeMap, VecDeque};

/// Places of one stored batch.
const PLACES: u64 = 65_536;

/// Envelopes in one stored batch: of the largest class, they stay under the 1 MiB one record may have.
const BATCH_ITEMS: usize = 48;

/// Envelopes owed, by device.
#[derive(Default)]
pub(crate) struct Outbox {
    by_device: BTreeMap<DeviceId, Owed>,
    /// Whom a record is for, and its place there.
    index: BTreeMap<(Incarnation, u64), (DeviceId, u64)>,
    /// Messages among what is pending.
    messages: u64,
}

#[derive(Default)]
struct Owed {
    pending: VecDeque<Pending>,
    /// Sealed in the batch under way.
    fresh: Vec<wire::StoredOutboxItem>,
    /// How many of a stored batch are still pending.
    left: BTreeMap<u64, usize>,
    /// Seq in the store of the next batch.
    next_batch: u64,
    /// Messages among what is pending.
    messages: u64,
}

/// An envelope sealed in the batch under way: for whom, its life and number, encoded.
pub(crate) type Fresh = (DeviceId, Incarnation, u64, Vec<u8>);

/// One envelope owed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pending {
    /// Its place in the order they were owed in, across lives of this device.
    pub(crate) place: u64,
    /// Number among the records of its life.
    pub(crate) seq: u64,
    pub(crate) incarnation: Incarnation,
    pub(crate) carries: Carries,
    /// Elapsed time when it was sealed.
    pub(crate) since_ms: u64,
    /// What its proof of being opened must hash to.
    pub(crate) release: [u8; 16],
    /// It is a first flight: nothing else of its channel opens without it.
    pub(crate) opens: bool,
    batch: u64,
}

/// What an envelope carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carries {
    /// A message.
    Message {
        conversation: ConversationId,
        /// The life it was written in: that of the envelope, unless it was sealed again in a later one.
        life: Incarnation,
        body_seq: u64,
        /// Its number in this device's history.
        number: u64,
    },
    /// A receipt of one of the addressee's lives: it says all that an earlier one said.
    Ack { conversation: ConversationId, life: Incarnation },
}

impl Carries {
    /// Nothing that is still wanted, in an envelope that opens a channel; like a receipt that does so it names no
    /// conversation.
    fn opening() -> Self {
        Self::Ack { conversation: ConversationId::from([0; 16]), life: Incarnation(0) }
    }

    pub(crate) fn is_message(&self) -> bool {
        matches!(self, Self::Message { .. })
    }
}

impl Outbox {
    /// Loads what is owed to one device. A batch stays in the store until none of it is owed, so of each is asked whether it
    /// is done with.
    pub(crate) fn load(
        &mut self,
        store: &Store,
        device: &DeviceId,
        is_done: impl Fn(&Carries) -> bool,
    ) -> Result<(), RecordError> {
        let owed = self.by_device.entry(*device).or_default();
        let mut next = 0;
        loop {
            let page = store.scan(&stored::outbox(device), next.., Order::Ascending, 256)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            next = last.saturating_add(1);
            owed.next_batch = next;
            for (batch, bytes) in page {
                let raw: wire::StoredOutbox = stored::decode(&bytes, "outbox")?;
                let mut left = 0usize;
                for mut pending in Pending::all(&raw.items, batch) {
                    if is_done(&pending.carries) {
                        if !pending.opens {
                            continue;
                        }
                        pending.carries = Carries::opening();
                    }
                    left = left.saturating_add(1);
                    let message = u64::from(pending.carries.is_message());
                    self.messages = self.messages.saturating_add(message);
                    owed.messages = owed.messages.saturating_add(message);
                    self.index.insert((pending.incarnation, pending.seq), (*device, pending.place));
                    owed.pending.push_back(pending);
                }
                owed.left.insert(batch, left);
            }
        }
    }

    /// Owes one more envelope.
    pub(crate) fn push(&mut self, device: &DeviceId, item: wire::StoredOutboxItem) {
        self.by_device.entry(*device).or_default().fresh.push(item);
    }

    /// Puts what this batch sealed into the pending batch of the store.
    pub(crate) fn save_fresh(&mut self, store: &mut Store) -> Vec<Fresh> {
        let mut all = Vec::new();
        for (device, owed) in &mut self.by_device {
            let mut fresh = std::mem::take(&mut owed.fresh).into_iter().peekable();
            while fresh.peek().is_some() {
                let items: Vec<wire::StoredOutboxItem> = fresh.by_ref().take(BATCH_ITEMS).collect();
                let batch = owed.next_batch;
                owed.next_batch = batch.saturating_add(1);
                owed.left.insert(batch, items.len());
                for pending in Pending::all(&items, batch) {
                    let message = u64::from(pending.carries.is_message());
                    self.messages = self.messages.saturating_add(message);
                    owed.messages = owed.messages.saturating_add(message);
                    self.index.insert((pending.incarnation, pending.seq), (*device, pending.place));
                    owed.pending.push_back(pending);
                }
                let raw = wire::StoredOutbox { items };
                stored::write(store, &stored::outbox(device), batch, &raw);
                let items = raw.items.into_iter();
                all.extend(
                    items.map(|item| {
                        (*device, Incarnation(item.incarnation), item.seq, item.envelope)
                    }),
                );
            }
        }
        // In the order of their numbers, which is that they were sealed in.
        all.sort_by_key(|(_, life, seq, _)| (*life, *seq));
        all
    }

    /// Takes away what a device has; returns it, oldest first.
    pub(crate) fn settle(
        &mut self,
        store: &mut Store,
        device: &DeviceId,
        has: impl Fn(&Pending) -> bool,
    ) -> Vec<Pending> {
        let Some(owed) = self.by_device.get_mut(device) else { return Vec::new() };
        let mut settled = Vec::new();
        owed.pending.retain(|pending| {
            let settle = has(pending);
            if settle {
                settled.push(*pending);
            }
            !settle
        });
        for pending in &settled {
            self.index.remove(&(pending.incarnation, pending.seq));
            let message = u64::from(pending.carries.is_message());
            self.messages = self.messages.saturating_sub(message);
            owed.messages = owed.messages.saturating_sub(message);
            let Some(left) = owed.left.get_mut(&pending.batch) else { continue };
            *left = left.saturating_sub(1);
            if *left == 0 {
                owed.left.remove(&pending.batch);
                store.delete(&stored::outbox(device), pending.batch);
            }
        }
        settled
    }

    /// Takes away the messages of which a device's receipt came. One whose envelope opens a channel stays until that envelope
    /// arrived: where it was sealed again the receipt may be for the one before, and nothing else of the channel opens
    /// without it. It is a message no more.
    pub(crate) fn received(
        &mut self,
        store: &mut Store,
        device: &DeviceId,
        is: impl Fn(&Carries) -> bool,
    ) {
        self.settle(store, device, |pending| !pending.opens && is(&pending.carries));
        let Some(owed) = self.by_device.get_mut(device) else { return };
        let opening = owed.pending.iter_mut().filter(|pending| pending.opens);
        for pending in opening.filter(|pending| is(&pending.carries)) {
            let message = u64::from(pending.carries.is_message());
            self.messages = self.messages.saturating_sub(message);
            owed.messages = owed.messages.saturating_sub(message);
            pending.carries = Carries::opening();
        }
    }

    /// Takes away everything owed to anybody.
    pub(crate) fn clear(&mut self, store: &mut Store) {
        let devices: Vec<DeviceId> = self.by_device.keys().copied().collect();
        for device in devices {
            self.settle(store, &device, |_| true);
        }
    }

    /// Everything owed, by life.
    pub(crate) fn live(&self) -> BTreeMap<Incarnation, RangeSet> {
        let mut live: BTreeMap<Incarnation, RangeSet> = BTreeMap::new();
        for (incarnation, seq) in self.index.keys() {
            live.entry(*incarnation).or_default().insert(*seq);
        }
        live
    }

    /// What this batch sealed and nobody was given yet, by life.
    pub(crate) fn fresh(&self) -> BTreeMap<Incarnation, RangeSet> {
        let mut fresh: BTreeMap<Incarnation, RangeSet> = BTreeMap::new();
        for item in self.by_device.values().flat_map(|owed| &owed.fresh) {
            fresh.entry(Incarnation(item.incarnation)).or_default().insert(item.seq);
        }
        fresh
    }

    /// Whether anything of a life is owed.
    pub(crate) fn has_life(&self, life: Incarnation) -> bool {
        self.index.range((life, 0)..=(life, u64::MAX)).next().is_some()
    }

    /// What is owed to one device, by life.
    pub(crate) fn live_for(&self, device: &DeviceId) -> BTreeMap<Incarnation, RangeSet> {
        let mut live: BTreeMap<Incarnation, RangeSet> = BTreeMap::new();
        let owed = self.by_device.get(device).into_iter().flat_map(|owed| &owed.pending);
        for pending in owed {
            live.entry(pending.incarnation).or_default().insert(pending.seq);
        }
        live
    }

    /// What is owed under a number, and to whom.
    pub(crate) fn get(&self, life: Incarnation, seq: u64) -> Option<(DeviceId, &Pending)> {
        let (device, place) = self.index.get(&(life, seq))?;
        let pending = &self.by_device.get(device)?.pending;
        let at = pending.partition_point(|pending| pending.place < *place);
        pending.get(at).filter(|pending| pending.place == *place).map(|pending| (*device, pending))
    }

    /// Reads the stored batch a number lies in: every envelope of it that is still owed, encoded,
    /// with its number.
    pub(crate) fn read_batch(
        &self,
        store: &Store,
        life: Incarnation,
        seq: u64,
    ) -> Result<Vec<(u64, Vec<u8>)>, RecordError> {
        let Some((device, pending)) = self.get(life, seq) else { return Ok(Vec::new()) };
        let raw: Option<wire::StoredOutbox> =
            stored::read(store, &stored::outbox(&device), pending.batch, "outbox")?;
        let items = raw.unwrap_or_default().items;
        let owed = items
            .into_iter()
            .filter(|item| item.incarnation == life.0 && self.get(life, item.seq).is_some())
            .map(|item| (item.seq, item.envelope))
            .collect();
        Ok(owed)
    }

    /// Everything owed that was sealed at or before an elapsed time, with whom it is owed to.
    pub(crate) fn sealed_by(&self, elapsed_ms: u64) -> Vec<(DeviceId, Pending)> {
        let all = self.by_device.iter();
        all.flat_map(|(device, owed)| {
            owed.pending
                .iter()
                .take_while(move |pending| pending.since_ms <= elapsed_ms)
                .map(|pending| (*device, *pending))
        })
        .collect()
    }

    /// Everything owed, with whom it is owed to.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&DeviceId, &Pending)> {
        self.by_device
            .iter()
            .flat_map(|(device, owed)| owed.pending.iter().map(move |pending| (device, pending)))
    }

    /// Own messages not yet delivered, by the device they are owed to.
    pub(crate) fn messages_by_device(&self) -> impl Iterator<Item = (&DeviceId, u64)> {
        let owed = self.by_device.iter().filter(|(_, owed)| owed.messages > 0);
        owed.map(|(device, owed)| (device, owed.messages))
    }

    /// Own messages not yet delivered, each counted once per device it is owed to.
    pub(crate) fn messages(&self) -> u64 {
        self.messages
    }
}

impl Pending {
    fn all(items: &[wire::StoredOutboxItem], batch: u64) -> impl Iterator<Item = Self> + '_ {
        (batch.saturating_mul(PLACES)..)
            .zip(items)
            .map(move |(place, item)| Self::of(item, batch, place))
    }

    fn of(item: &wire::StoredOutboxItem, batch: u64, place: u64) -> Self {
        let conversation = item.conversation.as_slice().try_into().unwrap_or([0; 16].into());
        let carries = match item.ack {
            true => Carries::Ack { conversation, life: Incarnation(item.ack_incarnation) },
            false => Carries::Message {
                conversation,
                life: Incarnation(item.body_incarnation.unwrap_or(item.incarnation)),
                body_seq: item.body_seq,
                number: item.number,
            },
        };
        let head = wire::Envelope::decode(item.envelope.as_slice())
            .ok()
            .and_then(|envelope| Head::parse(&envelope.head).ok());
        Self {
            place,
            seq: item.seq,
            incarnation: Incarnation(item.incarnation),
            carries,
            since_ms: item.since_ms,
            release: head.as_ref().map_or([0; 16], |head| head.release),
            opens: head.is_some_and(|head| head.first_flight),
            batch,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng, rngs::StdRng};

    /// A device that was put back is sent again what it has no receipt for. When the receipt came after all, for the envelope
    /// before, the new one was owed no more; it opened the channel, and nothing sent in that ever opened.
    #[test]
    fn what_opens_a_channel_is_owed_until_it_arrives_whatever_it_brings() {
        let mut store = Store::in_memory(StdRng::seed_from_u64(1)).unwrap();
        let device = DeviceId::from([2; 32]);
        let item = |seq, first_flight| {
            let class = oob_crypto::envelope::Class::for_len(1).unwrap();
            let life = oob_crypto::envelope::Life::ThreeWeeks;
            let head = Head { first_flight, class, life, tag: [seq; 16], release: [seq; 16] };
            let envelope = wire::Envelope { head: head.to_bytes().to_vec(), ..Default::default() };
            let (seq, envelope) = (u64::from(seq), envelope.encode_to_vec());
            wire::StoredOutboxItem { seq, body_seq: seq, envelope, ..Default::default() }
        };
        let mut outbox = Outbox::default();
        outbox.push(&device, item(1, true));
        outbox.push(&device, item(2, false));
        outbox.save_fresh(&mut store);
        store.commit().unwrap();
        assert_eq!(outbox.messages(), 2);
        outbox.received(&mut store, &device, Carries::is_message);
        store.commit().unwrap();
        let owed = |outbox: &Outbox| outbox.all().map(|(_, of)| of.seq).collect::<Vec<_>>();
        assert_eq!((owed(&outbox), outbox.messages()), (vec![1], 0));
        let mut again = Outbox::default();
        again.load(&store, &device, Carries::is_message).unwrap();
        assert_eq!((owed(&again), again.messages()), (vec![1], 0), "over a start too");
        let opening = *again.all().next().unwrap().1;
        again.settle(&mut store, &device, |pending| *pending == opening);
        assert!(owed(&again).is_empty(), "its proof ends it");
    }

    /// A batch stays in the store until none of it is owed: what of it was received came back as owed with a start.
    #[test]
    fn what_was_received_is_owed_no_more_after_a_start() {
        let mut store = Store::in_memory(StdRng::seed_from_u64(1)).unwrap();
        let device = DeviceId::from([2; 32]);
        let mut outbox = Outbox::default();
        for seq in 1..=3 {
            let item = wire::StoredOutboxItem { seq, body_seq: seq, ..Default::default() };
            outbox.push(&device, item);
        }
        outbox.save_fresh(&mut store);
        let is_second = |carries: &Carries| matches!(carries, Carries::Message { body_seq: 2, .. });
        outbox.settle(&mut store, &device, |pending| is_second(&pending.carries));
        store.commit().unwrap();
        assert_eq!(outbox.messages(), 2);

        let mut again = Outbox::default();
        again.load(&store, &device, is_second).unwrap();
        assert_eq!(again.messages(), 2);
        again.settle(&mut store, &device, |_| true);
        store.commit().unwrap();
        let mut empty = Outbox::default();
        empty.load(&store, &device, |_| false).unwrap();
        assert_eq!(empty.messages(), 0, "with the last the batch goes");
    }
}
