//! One live stream: what was greeted, sent and credited on it. Everything here starts anew with each stream; what must
//! last lies in the outbox and the log.

use super::{
    have::{Key, Span, Told},
    proofs::Proofs,
    rest::{Left, Resting},
    telling::Telling,
};
use crate::{
    model::{LinkId, RangeSet},
    record::{Lane, RecordRef},
};
use oob_proto::{DeviceId, EpochId, Incarnation, OpHash, limits, wire};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Operations queued for one neighbour; a log of an organisation of 500 has fewer.
const QUEUED_OPS: usize = 65_536;

/// Epochs queued for one neighbour: all that are kept, and as many learned meanwhile.
const QUEUED_GRANTS: usize = 128;

/// Epochs of one neighbour that wait for the log to grow: a few rotations, which it sends right behind their operations.
const ASIDE: usize = 16;

/// Records after which credit is given back, an eighth of what a sender may be ahead.
const CREDIT_EVERY_RECORDS: u64 = limits::CREDIT_RECORDS / 8;

/// Bytes after which credit is given back.
const CREDIT_EVERY_BYTES: u64 = limits::CREDIT_BYTES / 8;

/// What was sent and is not told to have arrived is offered again after this time, or twice it: it was dropped on its way.
const OFFERED_AGAIN_MS: u64 = 6_000;

/// What goes to a neighbour another way is looked for in its word after this time, or twice it: one Have, and its way.
const REPAIR_MS: u64 = 6_000;

/// Looks at all that is here which a neighbour's words bring about in a second: a correct one speaks once, or twice at the
/// beginning. What more it says is looked at together.
const COMPARED: u32 = 4;

/// Over what time these are counted.
const COMPARED_MS: u64 = 1_000;

/// Ranges and lives noted of what came from a neighbour since it last spoke; beyond that it is offered what it gave.
const GAVE: usize = 4_096;

/// Ranges kept of lives that a word does not speak of, 256 KiB: four of each life that notes are kept of.
const UNSPOKEN_RANGES: usize = 16_384;

/// Of these each life has so many at least: with four thousand lives three times as many in all.
const UNSPOKEN_SHARE: usize = 8;

/// Who is near is told at most this often.
const NEARBY_EVERY_MS: u64 = 1_000;

/// Who is near is told at least this often.
const NEARBY_AGAIN_MS: u64 = 10_000;

/// Bad frames of one neighbour in a minute that end its stream: a correct one sends none.
const BAD_FRAMES: u32 = 64;

/// Over what time bad frames are counted.
const BAD_FRAMES_MS: u64 = 60_000;

/// One stream.
pub(crate) struct Link {
    pub(crate) id: LinkId,
    pub(crate) device: DeviceId,
    /// Its Hello came.
    pub(crate) greeted: bool,
    /// What this device greeted with, until the neighbour's greeting comes.
    greeting: Option<Greeting>,
    /// Its first Have came: from then on envelopes go out.
    pub(crate) told: bool,
    /// Number of its newest Have.
    pub(crate) have_number: u64,
    /// The life that it was said in.
    life: Option<Incarnation>,
    /// Lives of which its newest Have had no room for all.
    partly: BTreeSet<Key>,
    /// What is kept of the stream before this one, until its first Have.
    before: Option<Left>,
    /// What the neighbour has or does not need, by its own word and by what came from it.
    theirs: BTreeMap<Key, RangeSet>,
    /// Of this, what it has.
    has: BTreeMap<Key, RangeSet>,
    /// What it is to be sent, by urgency.
    todo: [BTreeMap<Key, RangeSet>; 4],
    /// Sent, and not told to have arrived: lately, and before that.
    offered: BTreeMap<Key, RangeSet>,
    offered_before: BTreeMap<Key, RangeSet>,
    offered_since_ms: u64,
    /// Offered in vain, by life.
    resting: Resting,
    /// On their way there by others: lately, and before that.
    expected: BTreeMap<Key, RangeSet>,
    expected_before: BTreeMap<Key, RangeSet>,
    expected_since_ms: u64,
    /// Whose record went out last, so that no author holds up the others.
    last: Option<Key>,
    pub(crate) proofs: Proofs,
    repair_due_ms: Option<u64>,
    /// Whom the neighbour says it is connected with.
    pub(super) near: BTreeSet<DeviceId>,
    nearby_due_ms: u64,
    nearby_last_ms: Option<u64>,
    bad: (u64, u32),
    compared: (u64, u32),
    pub(crate) ops: VecDeque<OpHash>,
    /// Epochs to hand over once the operations are out.
    grants: VecDeque<EpochId>,
    /// Epochs handed over whose announcement is not known here yet.
    aside: VecDeque<wire::EpochGrant>,
    sent: Count,
    credit: Count,
    taken: Count,
    credited: Count,
    /// When it is told Have.
    pub(crate) telling: Telling,
}

/// In which order the records a neighbour lacks go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// Certificates and bundles.
    Keys,
    /// Alerts and answers.
    Alerts,
    /// Own envelopes for this very neighbour.
    Direct,
    /// Envelopes to be carried.
    Text,
}

impl From<Lane> for Urgency {
    fn from(lane: Lane) -> Self {
        match lane {
            Lane::Keys => Self::Keys,
            Lane::Alerts => Self::Alerts,
            Lane::Text => Self::Text,
        }
    }
}

fn key(of: &RecordRef) -> Key {
    (of.device, of.incarnation)
}

/// Adds what was known of lives that a word does not speak of: of each the newest ranges, those of its share at least, so that one
/// author's many holes take no other's place.
fn add_unspoken(
    now: &mut BTreeMap<Key, RangeSet>,
    before: BTreeMap<Key, RangeSet>,
    unspoken: impl Fn(&Key) -> bool,
) {
    let mut ranges = 0usize;
    for (key, mut set) in before.into_iter().filter(|(key, _)| unspoken(key)) {
        if now.len() >= GAVE {
            break;
        }
        set.keep_highest(UNSPOKEN_RANGES.saturating_sub(ranges).max(UNSPOKEN_SHARE));
        ranges = ranges.saturating_add(set.len());
        now.entry(key).or_insert(set);
    }
}

/// What this device greets with, and what is known and here then.
pub(crate) struct Greeting {
    pub(crate) equality: Vec<u8>,
    pub(crate) known: BTreeMap<Key, RangeSet>,
    pub(crate) have: BTreeMap<Key, RangeSet>,
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
    pub(super) fn new(id: LinkId, device: DeviceId) -> Self {
        Self {
            id,
            device,
            greeted: false,
            greeting: None,
            told: false,
            have_number: 0,
            life: None,
            partly: BTreeSet::new(),
            before: None,
            theirs: BTreeMap::new(),
            has: BTreeMap::new(),
            todo: Default::default(),
            offered: BTreeMap::new(),
            offered_before: BTreeMap::new(),
            offered_since_ms: 0,
            resting: Resting::default(),
            expected: BTreeMap::new(),
            expected_before: BTreeMap::new(),
            expected_since_ms: 0,
            last: None,
            proofs: Proofs::default(),
            repair_due_ms: None,
            near: BTreeSet::new(),
            nearby_due_ms: 0,
            nearby_last_ms: None,
            bad: (0, 0),
            compared: (0, 0),
            ops: VecDeque::new(),
            grants: VecDeque::new(),
            aside: VecDeque::new(),
            sent: Count::default(),
            credit: Count::default(),
            taken: Count::default(),
            credited: Count::default(),
            telling: Telling::default(),
        }
    }

    /// Goes on behind what is kept of the stream before this one.
    pub(super) fn behind(self, before: Option<Left>) -> Self {
        Self { before, ..self }
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

    /// Queues an epoch for the neighbour; what does not fit, its next greeting asks for.
    pub(crate) fn queue_grant(&mut self, id: EpochId) {
        if self.grants.len() < QUEUED_GRANTS && !self.grants.contains(&id) {
            self.grants.push_back(id);
        }
    }

    /// The next epoch to hand over.
    pub(crate) fn next_grant(&mut self) -> Option<EpochId> {
        self.grants.pop_front()
    }

    /// Keeps what the neighbour handed over until the log announces it; the oldest makes room.
    pub(crate) fn keep_aside(&mut self, grant: wire::EpochGrant) {
        if self.aside.len() >= ASIDE {
            self.aside.pop_front();
        }
        self.aside.push_back(grant);
    }

    pub(crate) fn take_aside(&mut self) -> Vec<wire::EpochGrant> {
        self.aside.drain(..).collect()
    }

    /// Takes the neighbour's word on what it has. Of a life with many holes it tells the highest ranges only: below them it
    /// says nothing, and what was known of that before still counts, or was offered in vain. Of lives that it does not speak
    /// of, all stays as it was; nothing goes out before the first of the words was said that belong together.
    pub(crate) fn take_have(&mut self, life: Incarnation, span: Span, told: &[Told], now_ms: u64) {
        self.resting.hear(told, &self.theirs);
        let theirs = told.iter().map(|told| (told.key, self.known_by_now(told))).collect();
        let has = told.iter().map(|told| (told.key, told.have.clone())).collect();
        let device = self.device;
        let unspoken = |key: &Key| key.0 != device && !span.contains(key);
        let theirs = std::mem::replace(&mut self.theirs, theirs);
        add_unspoken(&mut self.theirs, theirs, unspoken);
        let has = std::mem::replace(&mut self.has, has);
        add_unspoken(&mut self.has, has, unspoken);
        let (theirs, has) = (&self.theirs, &self.has);
        self.partly.retain(|key| unspoken(key) && theirs.contains_key(key));
        let partly = told.iter().filter(|told| told.untold().last() > Some(0));
        self.partly.extend(partly.map(|told| told.key));
        self.proofs.hear(told, |key| unspoken(key) && has.contains_key(key));
        self.life = Some(life);
        self.told |= span.is_last();
        if let Some(before) = self.before.take().filter(|before| before.life == life) {
            for told in told {
                if let Some(wakes_ms) = self.resting.go_on(&before, told, now_ms) {
                    self.repair_at(wakes_ms);
                }
            }
            self.before = Some(before).filter(|_| !span.is_last());
        }
    }

    /// What is kept of the stream when it ends.
    pub(super) fn leave(self, ended: u64) -> Option<Left> {
        // One that ended before its first word leaves what the one before it left.
        let Some(life) = self.life else {
            return self.before.map(|before| before.again(ended));
        };
        Left::keep(ended, life, &self.partly, self.theirs, self.resting)
    }

    /// What the neighbour has or does not need of a life, by a new word and by what was known before.
    fn known_by_now(&self, told: &Told) -> RangeSet {
        let mut known = told.known.clone();
        let Some(before) = self.theirs.get(&told.key) else { return known };
        let kept = before.common(&told.untold());
        if !kept.is_empty() {
            known.union(&kept);
            known.keep_highest(GAVE);
        }
        known
    }

    /// Notes what this device greets with.
    pub(crate) fn greet(&mut self, greeting: Greeting) {
        self.greeting = Some(greeting);
    }

    /// Whether both greeted with the same hash. Both sides come to the same answer, whatever became known to either since:
    /// then the neighbour knows what was known here, and nobody waits for a word. What is here it may have as well: a proof
    /// that nobody needs it goes there too.
    pub(crate) fn greeted_equally(&mut self, theirs: &[u8]) -> bool {
        let Some(Greeting { equality, known, have }) = self.greeting.take() else { return false };
        if equality.is_empty() || equality != theirs {
            return false;
        }
        for (key, known) in known {
            self.theirs.entry(key).or_default().union(&known);
        }
        for (key, have) in have.into_iter().filter(|(_, have)| !have.is_empty()) {
            self.has.entry(key).or_default().union(&have);
        }
        self.told = true;
        true
    }

    /// What the neighbour said it has of a life.
    pub(crate) fn has(&self, key: &Key) -> Option<&RangeSet> {
        self.has.get(key)
    }

    /// The lives the neighbour spoke of.
    pub(crate) fn lives(&self) -> Vec<Key> {
        self.has.keys().copied().collect()
    }

    /// Notes that the neighbour has a record: it came from there.
    pub(crate) fn gave(&mut self, of: &RecordRef) {
        let many = self.theirs.len() >= GAVE && !self.theirs.contains_key(&key(of));
        if many || self.theirs.get(&key(of)).is_some_and(|set| set.len() >= GAVE) {
            return;
        }
        self.theirs.entry(key(of)).or_default().insert(of.seq);
        self.has.entry(key(of)).or_default().insert(of.seq);
    }

    /// Ranges kept of what the neighbour said.
    #[cfg(test)]
    pub(super) fn ranges_kept(&self) -> usize {
        [&self.theirs, &self.has].into_iter().flat_map(BTreeMap::values).map(RangeSet::len).sum()
    }

    /// Whether a device said that it has a record, or does not need it.
    pub(crate) fn knows(&self, of: &RecordRef) -> bool {
        self.theirs.get(&key(of)).is_some_and(|set| set.contains(of.seq))
    }

    /// Whether everything may be compared at once with what the neighbour just said; else it is in a moment.
    pub(crate) fn may_compare(&mut self, now_ms: u64) -> bool {
        let (since, looks) = self.compared;
        if now_ms.saturating_sub(since) >= COMPARED_MS {
            self.compared = (now_ms, 1);
            return true;
        }
        self.compared = (since, looks.saturating_add(1));
        if looks < COMPARED {
            return true;
        }
        self.repair_at(since.saturating_add(COMPARED_MS));
        false
    }

    /// Queues a new record, unless the neighbour has it or it is under way there.
    pub(crate) fn queue(&mut self, of: &RecordRef, urgency: Urgency) {
        // Before its first word nothing is queued: then everything is compared.
        if !self.told || self.lacks_not(of) {
            return;
        }
        if let Some(todo) = self.todo.get_mut(urgency as usize) {
            todo.entry(key(of)).or_default().insert(of.seq);
        }
    }

    fn lacks_not(&self, of: &RecordRef) -> bool {
        self.not_lacking()
            .into_iter()
            .any(|sets| sets.get(&key(of)).is_some_and(|set| set.contains(of.seq)))
    }

    /// What the neighbour has, or what is under way to it.
    fn not_lacking(&self) -> [&BTreeMap<Key, RangeSet>; 5] {
        [&self.theirs, &self.offered, &self.offered_before, &self.expected, &self.expected_before]
    }

    /// Queues all of a life that the neighbour lacks; `urgent` says which of it goes before the rest.
    pub(crate) fn compare(
        &mut self,
        key: &Key,
        have: RangeSet,
        urgent: impl FnOnce() -> Vec<(Urgency, RangeSet)>,
    ) {
        let mut lacking = have;
        for sets in self.not_lacking() {
            if let Some(set) = sets.get(key) {
                lacking.subtract(set);
            }
        }
        if let Some(resting) = self.resting.of(key) {
            lacking.subtract(resting);
        }
        for todo in &mut self.todo {
            todo.remove(key);
        }
        if lacking.is_empty() {
            return;
        }
        for (urgency, set) in urgent() {
            let part = set.common(&lacking);
            lacking.subtract(&part);
            self.put(urgency, key, part);
        }
        self.put(Urgency::Text, key, lacking);
    }

    fn put(&mut self, urgency: Urgency, key: &Key, set: RangeSet) {
        if let Some(todo) = self.todo.get_mut(urgency as usize)
            && !set.is_empty()
        {
            todo.insert(*key, set);
        }
    }

    /// Takes the next record to send: by urgency, and among authors in turn.
    pub(crate) fn next(&mut self) -> Option<RecordRef> {
        for todo in &mut self.todo {
            loop {
                let after = self.last.and_then(|last| {
                    todo.range((std::ops::Bound::Excluded(last), std::ops::Bound::Unbounded)).next()
                });
                let Some(turn) = after.or_else(|| todo.iter().next()).map(|(turn, _)| *turn) else {
                    break;
                };
                self.last = Some(turn);
                let Some(set) = todo.get_mut(&turn) else { break };
                let seq = set.pop_first();
                if set.is_empty() {
                    todo.remove(&turn);
                }
                let Some(seq) = seq else { continue };
                if self.theirs.get(&turn).is_some_and(|theirs| theirs.contains(seq)) {
                    continue;
                }
                return Some(RecordRef { device: turn.0, incarnation: turn.1, seq });
            }
        }
        None
    }

    /// Notes that a record went out.
    pub(crate) fn offer(&mut self, of: &RecordRef, now_ms: u64) {
        if self.offered.is_empty() && self.offered_before.is_empty() {
            self.offered_since_ms = now_ms;
        }
        self.offered.entry(key(of)).or_default().insert(of.seq);
        self.repair_at(now_ms.saturating_add(OFFERED_AGAIN_MS));
    }

    pub(super) fn repair_at(&mut self, at_ms: u64) {
        self.repair_due_ms = Some(self.repair_due_ms.map_or(at_ms, |due| due.min(at_ms)));
    }

    /// Notes that a record goes there another way: whether it arrived is looked at a little later.
    pub(crate) fn expect(&mut self, of: &RecordRef, now_ms: u64) {
        if self.expected.is_empty() && self.expected_before.is_empty() {
            self.expected_since_ms = now_ms;
        }
        self.expected.entry(key(of)).or_default().insert(of.seq);
        self.repair_at(now_ms.saturating_add(REPAIR_MS));
    }

    /// Whether it is time to compare again. What was sent long ago and is not there is offered again.
    pub(crate) fn take_repair(&mut self, now_ms: u64) -> bool {
        if !self.told || self.repair_due_ms.is_none_or(|due| due > now_ms) {
            return false;
        }
        self.repair_due_ms = None;
        self.resting.wake(now_ms);
        if now_ms.saturating_sub(self.offered_since_ms) >= OFFERED_AGAIN_MS {
            let theirs = &self.theirs;
            for (key, mut set) in std::mem::take(&mut self.offered_before) {
                if let Some(theirs) = theirs.get(&key) {
                    set.subtract(theirs);
                }
                if !set.is_empty() {
                    self.resting.in_vain(key, &set, now_ms);
                }
            }
            self.offered_before = std::mem::take(&mut self.offered);
            self.offered_since_ms = now_ms;
            self.offered_before.retain(|key, set| {
                if let Some(theirs) = theirs.get(key) {
                    set.subtract(theirs);
                }
                !set.is_empty()
            });
        }
        if now_ms.saturating_sub(self.expected_since_ms) >= REPAIR_MS {
            self.expected_before = std::mem::take(&mut self.expected);
            self.expected_since_ms = now_ms;
        }
        if !self.expected.is_empty() || !self.expected_before.is_empty() {
            self.repair_due_ms = Some(now_ms.saturating_add(REPAIR_MS));
        } else if !self.offered.is_empty() || !self.offered_before.is_empty() {
            self.repair_due_ms = Some(now_ms.saturating_add(OFFERED_AGAIN_MS));
        }
        if let Some(wakes) = self.resting.wakes_ms() {
            self.repair_at(wakes);
        }
        true
    }

    /// Lives of which the neighbour's word had no room for all that it has, and below which number it says nothing.
    pub(crate) fn cut_short(&self) -> Vec<(Key, u64)> {
        let lowest = |key: &Key| self.has.get(key)?.iter().next().map(|(first, _)| first);
        self.proofs.cut().filter_map(|key| Some((*key, lowest(key)?))).collect()
    }

    /// Queues a proof for a neighbour that still has what it speaks of, or is about to get it. One that said that it does not
    /// need it has no use for a proof.
    pub(crate) fn queue_release(&mut self, of: &RecordRef) {
        let among = |sets: &BTreeMap<Key, RangeSet>| {
            sets.get(&key(of)).is_some_and(|set| set.contains(of.seq))
        };
        let [theirs, under_way @ ..] = self.not_lacking();
        let has = among(&self.has) || (!among(theirs) && under_way.into_iter().any(among));
        if self.told {
            self.proofs.queue(of, has, self.has.get(&key(of)));
        }
    }

    /// Takes whom the neighbour says it is connected with; says whether that is news.
    pub(crate) fn take_near(&mut self, near: BTreeSet<DeviceId>) -> bool {
        let news = self.near != near;
        self.near = near;
        news
    }

    /// Whether the neighbour says it is connected with a device.
    pub(crate) fn says_near(&self, device: &DeviceId) -> bool {
        self.near.contains(device)
    }

    /// Notes that who is near changed.
    pub(crate) fn nearby_changed(&mut self, now_ms: u64) {
        let at = self.nearby_last_ms.map_or(now_ms, |last| last.saturating_add(NEARBY_EVERY_MS));
        self.nearby_due_ms = self.nearby_due_ms.min(at.max(now_ms));
    }

    /// Whether who is near is to be told now.
    pub(crate) fn take_nearby(&mut self, now_ms: u64) -> bool {
        let due = self.greeted && self.nearby_due_ms <= now_ms;
        if due {
            self.nearby_last_ms = Some(now_ms);
            self.nearby_due_ms = now_ms.saturating_add(NEARBY_AGAIN_MS);
        }
        due
    }

    /// Counts a frame that no correct neighbour sends; returns whether it was one too many.
    pub(crate) fn charge(&mut self, now_ms: u64) -> bool {
        let (since, bad) = self.bad;
        self.bad = if now_ms.saturating_sub(since) >= BAD_FRAMES_MS {
            (now_ms, 1)
        } else {
            (since, bad.saturating_add(1))
        };
        self.bad.1 >= BAD_FRAMES
    }

    /// When something is due on this stream that no input brings about.
    pub(crate) fn due_ms(&self) -> Option<u64> {
        if !self.greeted {
            return None;
        }
        let repair = self.repair_due_ms.filter(|_| self.told);
        [self.telling.due_ms(), repair, Some(self.nearby_due_ms)].into_iter().flatten().min()
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
        if self.greeted && self.telling.take_due(now_ms) {
            owing.push(Owing::Have);
        }
        owing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIFE: Incarnation = Incarnation(5);

    /// Each word on what a neighbour has made this device look at everything it carries, as often as it was said.
    #[test]
    fn who_says_ever_again_what_it_has_is_looked_at_a_few_times_a_second() {
        let mut link = Link::new(LinkId(1), DeviceId::from([1; 32]));
        link.take_have(LIFE, Span::default(), &[], 0);
        let looks = (0..1_000).filter(|_| link.may_compare(5_000)).count();
        assert_eq!(looks, 4);
        assert!(!link.take_repair(5_999));
        assert!(link.take_repair(6_000), "what it said last counts in a moment");
        assert!(link.may_compare(6_000));
    }

    #[test]
    fn what_a_neighbour_gives_is_noted_within_bounds() {
        let mut link = Link::new(LinkId(1), DeviceId::from([1; 32]));
        for n in 0..10_000u32 {
            let device = DeviceId::from([2; 32]);
            let seq = u64::from(n) * 2;
            link.gave(&RecordRef { device, incarnation: Incarnation(0), seq });
            link.gave(&RecordRef { device, incarnation: Incarnation(n), seq: 1 });
        }
        assert!(link.theirs.len() <= GAVE);
        assert!(link.theirs.values().all(|set| set.len() <= GAVE));
    }
}
