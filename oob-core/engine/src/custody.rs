//! What this device carries: sealed envelopes of others, and everybody's certificates, alerts and answers, until they are
//! delivered, replaced or too old (docs/protocol.md, section 10).
//!
//! Own envelopes are not here but in the outbox. What lies here is read by nobody on this device.

use crate::{
    cx::Cx,
    model::RangeSet,
    record::{Lane, RecordRef},
    stored::{self, RecordError},
};
use oob_crypto::envelope::{Head, release_of};
use oob_proto::{
    DeviceId, Incarnation, Message,
    wire::{self, Frame, frame::Kind},
};
use oob_store::{Order, Store};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Bytes carried of one author: two days of a busy one. Who writes more is carried no further until some of it is
/// delivered, and harms nobody else.
pub(crate) const AUTHOR_BYTES: u64 = 64 * 1024 * 1024;

/// Alerts, answers and words on what is given up, carried of one author: what a device that alerts may write in eight days.
/// Of more the oldest go, so that nobody fills anybody's disk with them.
const AUTHOR_ALERTS: usize = 4_096;

/// Bytes of them.
const AUTHOR_ALERT_BYTES: u64 = 8 * 1024 * 1024;

/// Bytes carried in all, where nobody sets less.
pub(crate) const ALL_BYTES: u64 = 4 * 1024 * 1024 * 1024;

/// Records carried in all: each takes about 200 bytes of memory.
const RECORDS: usize = 262_144;

/// Bytes of the newest records kept in memory for passing them on at once.
const RECENT_BYTES: usize = 4 * 1024 * 1024;

/// Never too old: replaced by its author instead.
const FOR_EVER: u64 = u64::MAX;

/// What is known of a record without reading it.
#[derive(Debug, Clone)]
struct Carried {
    lane: Lane,
    bytes: u64,
    /// Elapsed time at which it is too old.
    until_ms: u64,
    /// Tag and release of an envelope.
    head: Option<([u8; 16], [u8; 16])>,
}

/// A record to be carried.
pub(crate) struct Parcel<'a> {
    pub(crate) of: RecordRef,
    pub(crate) lane: Lane,
    pub(crate) kind: &'a Kind,
    /// How old it was said to be.
    pub(crate) age_s: u32,
    /// How old it may become; none if it lasts until it is replaced.
    pub(crate) life_s: Option<u64>,
}

/// Everything carried.
pub(crate) struct Custody {
    by_life: BTreeMap<(DeviceId, Incarnation), BTreeMap<u64, Carried>>,
    /// The numbers of all of it: what is looked at with every word of a neighbour.
    numbers: BTreeMap<(DeviceId, Incarnation), RangeSet>,
    /// Certificates and bundles: they are asked for with every look at what somebody lacks.
    keys: BTreeMap<(DeviceId, Incarnation), RangeSet>,
    /// Bytes of envelopes.
    bytes_of: BTreeMap<DeviceId, u64>,
    /// Alerts, answers and words on what is given up, by author.
    alerts: BTreeSet<RecordRef>,
    alerts_of: BTreeMap<DeviceId, (usize, u64)>,
    /// Anybody can write another's tag on an envelope of its own, so a tag may be on several.
    tags: BTreeSet<([u8; 16], RecordRef)>,
    expiring: BTreeSet<(u64, RecordRef)>,
    envelopes: u64,
    records: usize,
    bytes: u64,
    limit: u64,
    refused: u64,
    evicted: Vec<RecordRef>,
    recent: Recent,
}

impl Default for Custody {
    fn default() -> Self {
        Self {
            by_life: BTreeMap::new(),
            numbers: BTreeMap::new(),
            keys: BTreeMap::new(),
            bytes_of: BTreeMap::new(),
            alerts: BTreeSet::new(),
            alerts_of: BTreeMap::new(),
            tags: BTreeSet::new(),
            expiring: BTreeSet::new(),
            envelopes: 0,
            records: 0,
            bytes: 0,
            limit: ALL_BYTES,
            refused: 0,
            evicted: Vec::new(),
            recent: Recent::default(),
        }
    }
}

impl Custody {
    /// Loads what is carried of one life.
    pub(crate) fn load(
        &mut self,
        store: &Store,
        device: &DeviceId,
        incarnation: Incarnation,
    ) -> Result<(), RecordError> {
        const AREA: &str = "custody";
        let bag = stored::carried(device, incarnation);
        let mut next = 0;
        loop {
            let page = store.scan(&bag, next.., Order::Ascending, 256)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            next = last.saturating_add(1);
            for (seq, bytes) in page {
                let raw: wire::StoredCarried = stored::decode(&bytes, AREA)?;
                let frame =
                    Frame::read(&raw.frame).map_err(|_| RecordError::Unreadable { area: AREA })?;
                let Some(kind) = frame.kind else { continue };
                let of = RecordRef { device: *device, incarnation, seq };
                let until_ms = until(raw.stored_ms, raw.age_s, raw.life_s);
                self.note(of, lane_of(&kind), len(&raw.frame), until_ms, &kind);
            }
        }
    }

    /// How much may be carried in all.
    pub(crate) fn limit(&self) -> u64 {
        self.limit
    }

    /// Sets how much may be carried in all.
    pub(crate) fn set_limit(&mut self, bytes: u64) {
        self.limit = bytes;
    }

    fn note(&mut self, of: RecordRef, lane: Lane, bytes: u64, until_ms: u64, kind: &Kind) {
        let head = match kind {
            Kind::Envelope(envelope) => Head::parse(&envelope.head).ok(),
            _ => None,
        };
        let head = head.map(|head| (head.tag, head.release));
        if let Some((tag, _)) = head {
            self.tags.insert((tag, of));
            self.envelopes = self.envelopes.saturating_add(1);
        }
        match lane {
            Lane::Text => {
                let used = self.bytes_of.entry(of.device).or_default();
                *used = used.saturating_add(bytes);
            }
            Lane::Alerts => {
                self.alerts.insert(of);
                let (count, used) = self.alerts_of.entry(of.device).or_default();
                (*count, *used) = (count.saturating_add(1), used.saturating_add(bytes));
            }
            Lane::Keys => {
                self.keys.entry((of.device, of.incarnation)).or_default().insert(of.seq);
            }
        }
        self.bytes = self.bytes.saturating_add(bytes);
        self.records = self.records.saturating_add(1);
        if until_ms != FOR_EVER {
            self.expiring.insert((until_ms, of));
        }
        self.numbers.entry((of.device, of.incarnation)).or_default().insert(of.seq);
        let life = self.by_life.entry((of.device, of.incarnation)).or_default();
        life.insert(of.seq, Carried { lane, bytes, until_ms, head });
    }

    /// Takes a record to carry. Returns false where there is no room for it; then it is not here.
    pub(crate) fn put(&mut self, cx: &mut Cx<'_>, parcel: &Parcel<'_>) -> bool {
        let Parcel { of, lane, kind, age_s, life_s } = parcel;
        if self.contains(of) {
            return true;
        }
        let frame = Frame::new((*kind).clone()).encode_to_vec();
        let bytes = len(&frame);
        let author = self.bytes_of.get(&of.device).copied().unwrap_or(0);
        let room = *lane != Lane::Text
            || (author.saturating_add(bytes) <= AUTHOR_BYTES && self.make_room(cx, of, bytes));
        if !room || (self.records >= RECORDS && *lane == Lane::Text) {
            self.refused = self.refused.saturating_add(1);
            return false;
        }
        let raw =
            wire::StoredCarried { frame, stored_ms: cx.elapsed_ms, age_s: *age_s, life_s: *life_s };
        let until_ms = until(raw.stored_ms, raw.age_s, raw.life_s);
        stored::write(cx.store, &stored::carried(&of.device, of.incarnation), of.seq, &raw);
        self.note(*of, *lane, bytes, until_ms, kind);
        self.recent.put(*of, raw.frame, cx.elapsed_ms, *age_s);
        true
    }

    /// Drops the oldest alerts and answers of a device that wrote too many; returns them. Nobody else needs to keep them.
    pub(crate) fn trim_alerts(&mut self, cx: &mut Cx<'_>, device: &DeviceId) -> Vec<RecordRef> {
        let mut gone = Vec::new();
        let over =
            |(count, bytes): &(usize, u64)| *count > AUTHOR_ALERTS || *bytes > AUTHOR_ALERT_BYTES;
        while self.alerts_of.get(device).is_some_and(over) {
            let first = RecordRef { device: *device, incarnation: Incarnation(0), seq: 0 };
            let oldest = self.alerts.range(first..).next().copied();
            let Some(oldest) = oldest.filter(|of| of.device == *device) else { break };
            self.take_out(cx.store, &oldest);
            gone.push(oldest);
        }
        gone
    }

    /// Takes what gave way to others since this was last asked.
    pub(crate) fn take_evicted(&mut self) -> Vec<RecordRef> {
        std::mem::take(&mut self.evicted)
    }

    /// Makes room in all by dropping the oldest envelopes of whoever has most, unless the newcomer's author would have as
    /// much: what gave way must not drive out what took its place when it is offered again.
    fn make_room(&mut self, cx: &mut Cx<'_>, of: &RecordRef, bytes: u64) -> bool {
        let own = self.bytes_of.get(&of.device).copied().unwrap_or(0).saturating_add(bytes);
        while self.bytes.saturating_add(bytes) > self.limit {
            let most = self.bytes_of.iter().max_by_key(|(_, used)| **used);
            let Some((most, _)) = most.filter(|(_, used)| **used > own) else { return false };
            let most = *most;
            let oldest = self
                .by_life
                .range((most, Incarnation(0))..=(most, Incarnation(u32::MAX)))
                .find_map(|((device, incarnation), life)| {
                    let (seq, _) = life.iter().find(|(_, of)| of.lane == Lane::Text)?;
                    Some(RecordRef { device: *device, incarnation: *incarnation, seq: *seq })
                });
            let Some(oldest) = oldest else { return false };
            self.take_out(cx.store, &oldest);
            self.evicted.push(oldest);
            self.refused = self.refused.saturating_add(1);
        }
        true
    }

    fn get(&self, of: &RecordRef) -> Option<&Carried> {
        self.by_life.get(&(of.device, of.incarnation))?.get(&of.seq)
    }

    pub(crate) fn contains(&self, of: &RecordRef) -> bool {
        self.get(of).is_some()
    }

    /// Drops a record; returns whether it was here.
    pub(crate) fn take_out(&mut self, store: &mut Store, of: &RecordRef) -> bool {
        let key = (of.device, of.incarnation);
        let Some(life) = self.by_life.get_mut(&key) else { return false };
        let Some(carried) = life.remove(&of.seq) else { return false };
        if life.is_empty() {
            self.by_life.remove(&key);
        }
        if let Some(numbers) = self.numbers.get_mut(&key) {
            numbers.remove(of.seq);
            if numbers.is_empty() {
                self.numbers.remove(&key);
            }
        }
        if let Some((tag, _)) = carried.head {
            self.tags.remove(&(tag, *of));
            self.envelopes = self.envelopes.saturating_sub(1);
        }
        match carried.lane {
            Lane::Text => {
                if let Some(used) = self.bytes_of.get_mut(&of.device) {
                    *used = used.saturating_sub(carried.bytes);
                }
            }
            Lane::Alerts => {
                self.alerts.remove(of);
                if let Some((count, used)) = self.alerts_of.get_mut(&of.device) {
                    *count = count.saturating_sub(1);
                    *used = used.saturating_sub(carried.bytes);
                }
            }
            Lane::Keys => {
                if let Some(keys) = self.keys.get_mut(&key) {
                    keys.remove(of.seq);
                    if keys.is_empty() {
                        self.keys.remove(&key);
                    }
                }
            }
        }
        self.bytes = self.bytes.saturating_sub(carried.bytes);
        self.records = self.records.saturating_sub(1);
        self.expiring.remove(&(carried.until_ms, *of));
        self.recent.drop(of);
        store.delete(&stored::carried(&of.device, of.incarnation), of.seq);
        true
    }

    /// Drops what of a life is in a set.
    pub(crate) fn take_out_all(
        &mut self,
        store: &mut Store,
        device: &DeviceId,
        incarnation: Incarnation,
        set: &RangeSet,
    ) {
        let Some(life) = self.by_life.get(&(*device, incarnation)) else { return };
        let here = set.iter().flat_map(|(first, last)| life.range(first..=last));
        let here: Vec<u64> = here.map(|(seq, _)| *seq).collect();
        for seq in here {
            self.take_out(store, &RecordRef { device: *device, incarnation, seq });
        }
    }

    /// Whether a preimage proves that an envelope carried here was opened.
    pub(crate) fn releases(&self, of: &RecordRef, preimage: &[u8; 16]) -> bool {
        self.get(of)
            .and_then(|carried| carried.head)
            .is_some_and(|(_, release)| release == release_of(preimage))
    }

    /// Elapsed time at which a record is too old.
    pub(crate) fn until_ms(&self, of: &RecordRef) -> Option<u64> {
        self.get(of).map(|carried| carried.until_ms)
    }

    /// The envelopes carried here that have a tag.
    pub(crate) fn with_tag(&self, tag: &[u8; 16]) -> impl Iterator<Item = RecordRef> + '_ {
        let tag = *tag;
        let first =
            RecordRef { device: DeviceId::from([0; 32]), incarnation: Incarnation(0), seq: 0 };
        self.tags.range((tag, first)..).take_while(move |(of, _)| *of == tag).map(|(_, of)| *of)
    }

    /// All that is carried of a life.
    pub(crate) fn carried(&self, key: &(DeviceId, Incarnation)) -> Option<&RangeSet> {
        self.numbers.get(key)
    }

    /// What of a life is in a lane.
    pub(crate) fn in_lane(&self, key: &(DeviceId, Incarnation), lane: Lane) -> RangeSet {
        if lane == Lane::Keys {
            return self.keys.get(key).cloned().unwrap_or_default();
        }
        let mut set = RangeSet::new();
        if lane == Lane::Alerts {
            let of = |seq| RecordRef { device: key.0, incarnation: key.1, seq };
            for of in self.alerts.range(of(0)..=of(u64::MAX)) {
                set.insert(of.seq);
            }
            return set;
        }
        let life = self.by_life.get(key).into_iter().flatten();
        for (seq, _) in life.filter(|(_, carried)| carried.lane == lane) {
            set.insert(*seq);
        }
        set
    }

    /// Reads a record and how old it is, in seconds.
    pub(crate) fn read(
        &self,
        store: &Store,
        of: &RecordRef,
        elapsed_ms: u64,
    ) -> Result<Option<(Vec<u8>, u32)>, RecordError> {
        let aged = |stored_ms: u64, age_s: u32| {
            let here_s = elapsed_ms.saturating_sub(stored_ms) / 1_000;
            age_s.saturating_add(u32::try_from(here_s).unwrap_or(u32::MAX))
        };
        if let Some((frame, stored_ms, age_s)) = self.recent.frames.get(of) {
            return Ok(Some((frame.clone(), aged(*stored_ms, *age_s))));
        }
        if !self.contains(of) {
            return Ok(None);
        }
        let bag = stored::carried(&of.device, of.incarnation);
        let raw: Option<wire::StoredCarried> = stored::read(store, &bag, of.seq, "custody")?;
        Ok(raw.map(|raw| (raw.frame, aged(raw.stored_ms, raw.age_s))))
    }

    /// Keeps a frame at hand that is about to be passed on.
    pub(crate) fn remember(&mut self, of: RecordRef, frame: Vec<u8>) {
        self.recent.put(of, frame, 0, 0);
    }

    /// Drops what is too old; returns it.
    pub(crate) fn expire(&mut self, cx: &mut Cx<'_>) -> Vec<RecordRef> {
        let mut old = Vec::new();
        while let Some((_, of)) =
            self.expiring.first().copied().filter(|(until, _)| *until <= cx.elapsed_ms)
        {
            self.take_out(cx.store, &of);
            old.push(of);
        }
        old
    }

    /// Envelopes carried for others.
    pub(crate) fn envelopes(&self) -> u64 {
        self.envelopes
    }

    /// Bytes carried.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Records there was no room for, or that gave way to others, since the start.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }
}

fn len(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

fn until(stored_ms: u64, age_s: u32, life_s: Option<u64>) -> u64 {
    let Some(life_s) = life_s else { return FOR_EVER };
    // How old it is was said by a neighbour, which must not be able to have it dropped a moment later.
    let age_s = u64::from(age_s).min(life_s / 2);
    let left_ms = life_s.saturating_sub(age_s).saturating_mul(1_000);
    stored_ms.saturating_add(left_ms).min(FOR_EVER.saturating_sub(1))
}

/// In which lane a record of a kind goes.
pub(crate) fn lane_of(kind: &Kind) -> Lane {
    match kind {
        Kind::RelayCert(_) | Kind::Bundle(_) => Lane::Keys,
        Kind::Envelope(_) => Lane::Text,
        _ => Lane::Alerts,
    }
}

/// The newest frames, for passing them on without reading them again.
#[derive(Default)]
struct Recent {
    frames: BTreeMap<RecordRef, (Vec<u8>, u64, u32)>,
    order: VecDeque<RecordRef>,
    bytes: usize,
}

impl Recent {
    fn put(&mut self, of: RecordRef, frame: Vec<u8>, stored_ms: u64, age_s: u32) {
        self.bytes = self.bytes.saturating_add(frame.len());
        if let Some((old, _, _)) = self.frames.insert(of, (frame, stored_ms, age_s)) {
            self.bytes = self.bytes.saturating_sub(old.len());
        } else {
            self.order.push_back(of);
        }
        while self.bytes > RECENT_BYTES
            && let Some(oldest) = self.order.pop_front()
        {
            self.drop(&oldest);
        }
    }

    fn drop(&mut self, of: &RecordRef) {
        if let Some((frame, _, _)) = self.frames.remove(of) {
            self.bytes = self.bytes.saturating_sub(frame.len());
        }
        // Names of dropped frames leave the order in their turn; not more of them than this.
        if self.order.len() > self.frames.len().saturating_mul(2).saturating_add(1_024) {
            let frames = &self.frames;
            self.order.retain(|of| frames.contains_key(of));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cx::{Out, Rng},
        model::Now,
    };
    use rand::{SeedableRng, rngs::StdRng};

    /// Whoever raises alerts that end at once, or gives up ever again, filled everybody's disk; and since no envelope of
    /// that device could give way, nothing of anybody else was carried any more.
    #[test]
    fn alerts_of_one_device_are_bounded_and_leave_room_for_others_envelopes() {
        let mut store = Store::in_memory(StdRng::seed_from_u64(1)).unwrap();
        let mut rng: Rng = Box::new(StdRng::seed_from_u64(2));
        let mut out = Out::default();
        let now = Now { wall_ms: 1, mono_ms: 1 };
        let cx = &mut Cx { store: &mut store, rng: &mut rng, now, elapsed_ms: 10, out: &mut out };
        let mut custody = Custody::default();
        let of = |device: u8, seq| RecordRef {
            device: DeviceId::from([device; 32]),
            incarnation: Incarnation(1),
            seq,
        };
        let floor = Kind::Floor(wire::Signed { payload: vec![7; 100], sigs: Vec::new() });
        for seq in 1..=5_000 {
            let (lane, kind) = (Lane::Alerts, &floor);
            let parcel = Parcel { of: of(1, seq), lane, kind, age_s: 0, life_s: Some(9) };
            assert!(custody.put(cx, &parcel));
            let gone = custody.trim_alerts(cx, &of(1, seq).device);
            let expected = (seq > 4_096).then(|| of(1, seq - 4_096));
            assert_eq!(gone, Vec::from_iter(expected));
        }
        custody.set_limit(custody.bytes() + 10_000);
        let kind = &Kind::Envelope(wire::Envelope { ct: vec![1; 1_000], ..Default::default() });
        let mut text = |device, seq| {
            let (of, lane) = (of(device, seq), Lane::Text);
            custody.put(cx, &Parcel { of, lane, kind, age_s: 0, life_s: Some(9) })
        };
        for seq in 1..=9 {
            assert!(text(2, seq));
        }
        assert!(!text(2, 10), "it is full");
        for seq in 1..=4 {
            assert!(text(3, seq), "who has most gives way");
        }
        assert!(!text(3, 5) && !text(2, 11), "and who has as much does not");
        let evicted = custody.take_evicted();
        assert_eq!(evicted, [of(2, 1), of(2, 2), of(2, 3), of(2, 4)]);
    }

    /// Where there is room for gigabytes, one author still has a share and no more.
    #[test]
    fn one_authors_envelopes_are_bounded_although_there_is_room() {
        let mut store = Store::in_memory(StdRng::seed_from_u64(1)).unwrap();
        let mut rng: Rng = Box::new(StdRng::seed_from_u64(2));
        let mut out = Out::default();
        let now = Now { wall_ms: 1, mono_ms: 1 };
        let cx = &mut Cx { store: &mut store, rng: &mut rng, now, elapsed_ms: 10, out: &mut out };
        let mut custody = Custody::default();
        let kind = &Kind::Envelope(wire::Envelope { ct: vec![1; 60_000], ..Default::default() });
        let mut put = |device: u8, seq| {
            let device = DeviceId::from([device; 32]);
            let (of, lane) = (RecordRef { device, incarnation: Incarnation(1), seq }, Lane::Text);
            let taken = custody.put(cx, &Parcel { of, lane, kind, age_s: 0, life_s: Some(9) });
            (taken, custody.bytes())
        };
        let taken = (1..2_000).take_while(|seq| put(1, *seq).0).count();
        let (again, bytes) = put(1, 5_000);
        assert!(!again && bytes <= AUTHOR_BYTES && bytes + 61_000 > AUTHOR_BYTES, "{taken}");
        assert!(put(2, 1).0, "another author has a share as well");
    }
}
