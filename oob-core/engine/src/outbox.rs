//! What is owed to whom: sealed envelopes, kept until the addressee's device says that it has them. One record per
//! batch and device.

use crate::stored::{self, RecordError};
use oob_proto::{ConversationId, DeviceId, Incarnation, wire};
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
}

/// One envelope owed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pending {
    /// Its place in the order they were owed in, across lives of this device.
    pub(crate) place: u64,
    /// Number among the records of its life.
    pub(crate) seq: u64,
    pub(crate) incarnation: Incarnation,
    pub(crate) carries: Carries,
    batch: u64,
}

/// What an envelope carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Carries {
    /// A message.
    Message {
        conversation: ConversationId,
        body_seq: u64,
        /// Its number in this device's history.
        number: u64,
    },
    /// A receipt of one of the addressee's lives: it says all that an earlier one said.
    Ack { conversation: ConversationId, life: Incarnation },
}

impl Carries {
    fn is_message(&self) -> bool {
        matches!(self, Self::Message { .. })
    }
}

impl Outbox {
    /// Loads what is owed to one device.
    pub(crate) fn load(&mut self, store: &Store, device: &DeviceId) -> Result<(), RecordError> {
        let owed = self.by_device.entry(*device).or_default();
        let mut next = 0;
        loop {
            let page = store.scan(&stored::outbox(device), next.., Order::Ascending, 256)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            next = last.saturating_add(1);
            owed.next_batch = next;
            for (batch, bytes) in page {
                let raw: wire::StoredOutbox = stored::decode(&bytes, "outbox")?;
                owed.left.insert(batch, raw.items.len());
                for pending in Pending::all(&raw.items, batch) {
                    self.messages =
                        self.messages.saturating_add(u64::from(pending.carries.is_message()));
                    owed.pending.push_back(pending);
                }
            }
        }
    }

    /// Owes one more envelope.
    pub(crate) fn push(&mut self, device: &DeviceId, item: wire::StoredOutboxItem) {
        self.by_device.entry(*device).or_default().fresh.push(item);
    }

    /// Puts what this batch sealed into the pending batch of the store.
    pub(crate) fn save_fresh(&mut self, store: &mut Store) {
        for (device, owed) in &mut self.by_device {
            let mut fresh = std::mem::take(&mut owed.fresh).into_iter().peekable();
            while fresh.peek().is_some() {
                let items: Vec<wire::StoredOutboxItem> = fresh.by_ref().take(BATCH_ITEMS).collect();
                let batch = owed.next_batch;
                owed.next_batch = batch.saturating_add(1);
                owed.left.insert(batch, items.len());
                for pending in Pending::all(&items, batch) {
                    self.messages =
                        self.messages.saturating_add(u64::from(pending.carries.is_message()));
                    owed.pending.push_back(pending);
                }
                stored::write(store, &stored::outbox(device), batch, &wire::StoredOutbox { items });
            }
        }
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
            self.messages = self.messages.saturating_sub(u64::from(pending.carries.is_message()));
            let Some(left) = owed.left.get_mut(&pending.batch) else { continue };
            *left = left.saturating_sub(1);
            if *left == 0 {
                owed.left.remove(&pending.batch);
                store.delete(&stored::outbox(device), pending.batch);
            }
        }
        settled
    }

    /// Reads the envelopes owed to a device after a place, up to the end of the stored batch it lies in.
    pub(crate) fn next_batch(
        &self,
        store: &Store,
        device: &DeviceId,
        after: Option<u64>,
    ) -> Result<Vec<(u64, wire::Envelope)>, RecordError> {
        let Some(owed) = self.by_device.get(device) else { return Ok(Vec::new()) };
        let start = owed
            .pending
            .partition_point(|pending| after.is_some_and(|after| pending.place <= after));
        let Some(first) = owed.pending.get(start) else { return Ok(Vec::new()) };
        let raw: Option<wire::StoredOutbox> =
            stored::read(store, &stored::outbox(device), first.batch, "outbox")?;
        let items = raw.unwrap_or_default().items;
        let mut batch = Vec::new();
        for pending in
            owed.pending.range(start..).take_while(|pending| pending.batch == first.batch)
        {
            let index = usize::try_from(pending.place % PLACES).unwrap_or(usize::MAX);
            if let Some(item) = items.get(index) {
                batch.push((pending.place, stored::decode(&item.envelope, "outbox")?));
            }
        }
        Ok(batch)
    }

    /// The oldest envelope of a life owed to a device.
    pub(crate) fn oldest(&self, device: &DeviceId, life: Incarnation) -> Option<&Pending> {
        self.by_device.get(device)?.pending.iter().find(|pending| pending.incarnation == life)
    }

    /// The place of the newest envelope owed to a device.
    #[cfg(feature = "sim")]
    pub(crate) fn last_place(&self, device: &DeviceId) -> Option<u64> {
        self.by_device.get(device)?.pending.back().map(|pending| pending.place)
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
            false => {
                Carries::Message { conversation, body_seq: item.body_seq, number: item.number }
            }
        };
        Self { place, seq: item.seq, incarnation: Incarnation(item.incarnation), carries, batch }
    }
}
