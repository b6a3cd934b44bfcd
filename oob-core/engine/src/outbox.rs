//! What is owed to whom: sealed envelopes, kept until the addressee's device says that it has them. One record per
//! batch and device.

use crate::stored::{self, RecordError};
use oob_proto::{ConversationId, DeviceId, Incarnation, wire};
use oob_store::{Order, Store};
use std::collections::{BTreeMap, VecDeque};

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
}

/// One envelope owed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pending {
    pub(crate) seq: u64,
    pub(crate) incarnation: Incarnation,
    /// None for an Ack.
    pub(crate) message: Option<OwedMessage>,
    batch: u64,
}

/// The message an envelope carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OwedMessage {
    pub(crate) conversation: ConversationId,
    pub(crate) body_seq: u64,
    /// Its number in this device's history.
    pub(crate) number: u64,
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
            for (batch, bytes) in page {
                let raw: wire::StoredOutbox = stored::decode(&bytes, "outbox")?;
                owed.left.insert(batch, raw.items.len());
                for pending in raw.items.iter().map(|item| Pending::of(item, batch)) {
                    self.messages =
                        self.messages.saturating_add(u64::from(pending.message.is_some()));
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
            let Some(batch) = owed.fresh.first().map(|item| item.seq) else { continue };
            let items = std::mem::take(&mut owed.fresh);
            owed.left.insert(batch, items.len());
            for pending in items.iter().map(|item| Pending::of(item, batch)) {
                self.messages = self.messages.saturating_add(u64::from(pending.message.is_some()));
                owed.pending.push_back(pending);
            }
            stored::write(store, &stored::outbox(device), batch, &wire::StoredOutbox { items });
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
            self.messages = self.messages.saturating_sub(u64::from(pending.message.is_some()));
            let Some(left) = owed.left.get_mut(&pending.batch) else { continue };
            *left = left.saturating_sub(1);
            if *left == 0 {
                owed.left.remove(&pending.batch);
                store.delete(&stored::outbox(device), pending.batch);
            }
        }
        settled
    }

    /// Reads the envelopes owed to a device after a number, up to the end of the stored batch it lies in.
    pub(crate) fn next_batch(
        &self,
        store: &Store,
        device: &DeviceId,
        after: u64,
    ) -> Result<Vec<(u64, wire::Envelope)>, RecordError> {
        let Some(owed) = self.by_device.get(device) else { return Ok(Vec::new()) };
        let start = owed.pending.partition_point(|pending| pending.seq <= after);
        let Some(first) = owed.pending.get(start) else { return Ok(Vec::new()) };
        let raw: Option<wire::StoredOutbox> =
            stored::read(store, &stored::outbox(device), first.batch, "outbox")?;
        let mut items = raw.unwrap_or_default().items.into_iter().peekable();
        let mut batch = Vec::new();
        for pending in
            owed.pending.range(start..).take_while(|pending| pending.batch == first.batch)
        {
            while items.next_if(|item| item.seq < pending.seq).is_some() {}
            if let Some(item) = items.next_if(|item| item.seq == pending.seq) {
                batch.push((item.seq, stored::decode(&item.envelope, "outbox")?));
            }
        }
        Ok(batch)
    }

    /// Own messages not yet delivered, each counted once per device it is owed to.
    pub(crate) fn messages(&self) -> u64 {
        self.messages
    }
}

impl Pending {
    fn of(item: &wire::StoredOutboxItem, batch: u64) -> Self {
        let message =
            ConversationId::try_from(item.conversation.as_slice()).ok().map(|conversation| {
                OwedMessage { conversation, body_seq: item.body_seq, number: item.number }
            });
        Self { seq: item.seq, incarnation: Incarnation(item.incarnation), message, batch }
    }
}
