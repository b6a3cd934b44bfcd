//! One live stream: what was greeted, sent and credited on it. Everything here starts anew with each stream; what must
//! last lies in the outbox and the log.

use crate::model::LinkId;
use oob_proto::{DeviceId, OpHash, limits};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Operations queued for one neighbour; a log of an organisation of 500 has fewer.
const QUEUED_OPS: usize = 65_536;

/// Records after which credit is given back, an eighth of what a sender may be ahead.
const CREDIT_EVERY_RECORDS: u64 = limits::CREDIT_RECORDS / 8;

/// Bytes after which credit is given back.
const CREDIT_EVERY_BYTES: u64 = limits::CREDIT_BYTES / 8;

/// Have is told at most this often on a live stream.
const HAVE_EVERY_MS: u64 = 5_000;

/// What was dropped on its way is offered again at most this often.
const OFFERED_AGAIN_MS: u64 = 30_000;

/// Streams, and the newest to each device.
#[derive(Default)]
pub(crate) struct Links {
    links: BTreeMap<LinkId, Link>,
    by_device: BTreeMap<DeviceId, LinkId>,
}

/// One stream.
pub(crate) struct Link {
    pub(crate) id: LinkId,
    pub(crate) device: DeviceId,
    /// Its Hello came.
    pub(crate) greeted: bool,
    /// Its first Have came: from then on envelopes go out.
    pub(crate) told: bool,
    /// Number of its newest Have.
    pub(crate) have_number: u64,
    /// Own envelopes up to this place of the outbox went out on this stream.
    pub(crate) sent_to: Option<u64>,
    offered_again_ms: Option<u64>,
    pub(crate) ops: VecDeque<OpHash>,
    sent: Count,
    credit: Count,
    taken: Count,
    credited: Count,
    have_due_ms: Option<u64>,
    have_last_ms: Option<u64>,
}

/// Records and their bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Count {
    records: u64,
    bytes: u64,
}

/// What a stream is owed at the end of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owing {
    Credit { records: u64, bytes: u64 },
    Have,
}

impl Link {
    fn new(id: LinkId, device: DeviceId) -> Self {
        Self {
            id,
            device,
            greeted: false,
            told: false,
            have_number: 0,
            sent_to: None,
            offered_again_ms: None,
            ops: VecDeque::new(),
            sent: Count::default(),
            credit: Count::default(),
            taken: Count::default(),
            credited: Count::default(),
            have_due_ms: None,
            have_last_ms: None,
        }
    }

    /// Whether one more record may go out.
    pub(crate) fn may_send(&self) -> bool {
        let records = self.sent.records.saturating_sub(self.credit.records);
        let bytes = self.sent.bytes.saturating_sub(self.credit.bytes);
        // The last record may pass the bytes by its own length; the receiver's queue has room for that.
        records < limits::CREDIT_RECORDS && bytes < limits::CREDIT_BYTES
    }

    /// Records and bytes sent that no credit came back for.
    #[cfg(feature = "sim")]
    pub(crate) fn ahead(&self) -> (u64, u64) {
        (
            self.sent.records.saturating_sub(self.credit.records),
            self.sent.bytes.saturating_sub(self.credit.bytes),
        )
    }

    /// Counts a record that goes out.
    pub(crate) fn count_sent(&mut self, bytes: usize) {
        self.sent.records = self.sent.records.saturating_add(1);
        self.sent.bytes = self.sent.bytes.saturating_add(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    /// Counts a record that came, whatever became of it.
    pub(crate) fn count_taken(&mut self, bytes: u64) {
        self.taken.records = self.taken.records.saturating_add(1);
        self.taken.bytes = self.taken.bytes.saturating_add(bytes);
    }

    /// Takes the neighbour's credit; it never goes back, nor beyond what was sent.
    pub(crate) fn take_credit(&mut self, records: u64, bytes: u64) {
        self.credit.records = self.credit.records.max(records.min(self.sent.records));
        self.credit.bytes = self.credit.bytes.max(bytes.min(self.sent.bytes));
    }

    /// Queues operations for the neighbour.
    pub(crate) fn queue_ops(&mut self, ops: impl IntoIterator<Item = OpHash>) {
        let room = QUEUED_OPS.saturating_sub(self.ops.len());
        self.ops.extend(ops.into_iter().take(room));
    }

    /// Goes back to a place of the outbox, at most every half minute.
    pub(crate) fn offer_again(&mut self, place: u64, now_ms: u64) {
        let recently = self
            .offered_again_ms
            .is_some_and(|last| now_ms.saturating_sub(last) < OFFERED_AGAIN_MS);
        if !recently && self.sent_to.is_some_and(|sent| sent >= place) {
            self.offered_again_ms = Some(now_ms);
            self.sent_to = place.checked_sub(1);
        }
    }

    /// Notes that there is something new to tell of.
    pub(crate) fn have_changed(&mut self, now_ms: u64) {
        let at = self.have_last_ms.map_or(now_ms, |last| last.saturating_add(HAVE_EVERY_MS));
        self.have_due_ms.get_or_insert(at.max(now_ms));
    }

    /// When the next Have is due.
    pub(crate) fn have_due_ms(&self) -> Option<u64> {
        self.have_due_ms.filter(|_| self.greeted)
    }

    /// What goes out now.
    pub(crate) fn owing(&mut self, now_ms: u64) -> Vec<Owing> {
        let mut owing = Vec::new();
        let records = self.taken.records.saturating_sub(self.credited.records);
        let bytes = self.taken.bytes.saturating_sub(self.credited.bytes);
        if records >= CREDIT_EVERY_RECORDS || bytes >= CREDIT_EVERY_BYTES {
            self.credited = self.taken;
            owing.push(Owing::Credit { records: self.taken.records, bytes: self.taken.bytes });
        }
        if self.greeted && self.have_due_ms.is_some_and(|due| due <= now_ms) {
            self.have_due_ms = None;
            self.have_last_ms = Some(now_ms);
            owing.push(Owing::Have);
        }
        owing
    }
}

impl Links {
    /// Takes a new stream. Of two to one device the newer counts: the mesh ends the older.
    pub(crate) fn up(&mut self, id: LinkId, device: DeviceId) {
        self.links.insert(id, Link::new(id, device));
        self.by_device.insert(device, id);
    }

    /// Forgets a stream; returns whose it was.
    pub(crate) fn down(&mut self, id: LinkId) -> Option<DeviceId> {
        let link = self.links.remove(&id)?;
        if self.by_device.get(&link.device) == Some(&id) {
            self.by_device.remove(&link.device);
        }
        Some(link.device)
    }

    pub(crate) fn get_mut(&mut self, id: LinkId) -> Option<&mut Link> {
        self.links.get_mut(&id)
    }

    pub(crate) fn of_device(&mut self, device: &DeviceId) -> Option<&mut Link> {
        self.links.get_mut(self.by_device.get(device)?)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Link> {
        self.links.values_mut()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Link> {
        self.links.values()
    }

    /// Streams whose device is not among these.
    pub(crate) fn outside(&self, devices: &BTreeSet<DeviceId>) -> Vec<LinkId> {
        self.links
            .values()
            .filter(|link| !devices.contains(&link.device))
            .map(|link| link.id)
            .collect()
    }
}
