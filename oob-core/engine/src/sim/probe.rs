//! What the simulator looks at inside an engine.

use crate::{Engine, Oddities, model::RangeSet};
use oob_proto::{DeviceId, Incarnation, MemberId, Message as _, limits};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Operations queued for one stream, as `sync` bounds them.
const QUEUED_OPS: usize = 65_536;

/// Olm messages of one device that wait for their turn, as `session` bounds them.
const WAITING: u64 = 2_048;

/// Records of each author's life: those here, and those given up.
pub type Inventory = BTreeMap<(DeviceId, Incarnation), (RangeSet, RangeSet)>;

/// How full the queues of a device are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Operations queued for one stream, the most of any.
    pub queued_ops: usize,
    /// Records sent on one stream that no credit came back for, the most of any.
    pub ahead_records: u64,
    /// Their bytes.
    pub ahead_bytes: u64,
    /// Messages of one device that wait for their turn, the most of any.
    pub waiting: u64,
}

impl Gauges {
    /// Says which queue is over its bound.
    pub fn overflow(&self) -> Option<&'static str> {
        // The last record may pass the bytes by its own length. A device's word about itself goes out whatever the credit.
        let bytes = limits::CREDIT_BYTES + 2 * limits::FRAME_BYTES as u64;
        let records = limits::CREDIT_RECORDS + limits::HELLO_ITEMS as u64;
        [
            (self.queued_ops > QUEUED_OPS, "operations queued for a stream"),
            (self.ahead_records > records, "records sent beyond credit"),
            (self.ahead_bytes > bytes, "bytes sent beyond credit"),
            (self.waiting > WAITING, "messages that wait for their turn"),
        ]
        .into_iter()
        .find_map(|(over, what)| over.then_some(what))
    }
}

impl Engine {
    /// Returns a hash of the log and of what it is judged to say.
    pub fn roster_hash(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        if let Some(organisation) = &self.inside().organisation {
            for op in organisation.beyond([]) {
                hash.update(op.as_bytes());
            }
            let roster = &organisation.roster().view;
            for member in roster.members.values() {
                hash.update(member.id.as_bytes());
                hash.update(member.name.as_str());
                hash.update(member.roles.iter().map(|role| 1u8 << role.code()).collect::<Vec<_>>());
            }
            for device in roster.devices.values() {
                hash.update(device.id.as_bytes());
                hash.update(device.member.as_bytes());
            }
        }
        hash.finalize().into()
    }

    /// Returns how many operations the log holds.
    pub fn log_len(&self) -> usize {
        self.inside().organisation.as_ref().map_or(0, |organisation| organisation.beyond([]).len())
    }

    /// Returns what is here of each author's life, and what was given up of it. What was opened here is given up too: nobody
    /// needs it, and this device carries it no further, though it says so only a random while later.
    pub fn inventory(&self) -> Inventory {
        let state = self.inside();
        let all = state.inventory().into_iter();
        let all =
            all.map(|(life, (have, known))| (life, (have.clone(), have.missing_from(&known))));
        let mut all: Inventory = all.collect();
        for of in state.releases.kept_back() {
            let (have, gone) = all.entry((of.device, of.incarnation)).or_default();
            have.remove(of.seq);
            gone.insert(of.seq);
        }
        all
    }

    /// Returns how full the queues are.
    pub fn gauges(&self) -> Gauges {
        let state = self.inside();
        let mut gauges = Gauges { waiting: state.peers.most_waiting(), ..Gauges::default() };
        for link in state.links.iter() {
            let (records, bytes) = link.ahead();
            gauges.queued_ops = gauges.queued_ops.max(link.ops.len());
            gauges.ahead_records = gauges.ahead_records.max(records);
            gauges.ahead_bytes = gauges.ahead_bytes.max(bytes);
        }
        gauges
    }

    /// Returns what an honest world must never see, by the device that wrote it, counted since the engine was opened.
    pub fn oddities(&self) -> &BTreeMap<DeviceId, Oddities> {
        &self.inside().rig.oddities
    }

    /// Returns the devices that are shut out just now, because they sent too much that was bad.
    pub fn shuns(&self, mono_ms: u64) -> Vec<DeviceId> {
        let shunned = self.inside().shunned.iter();
        shunned.filter(|(_, until)| mono_ms < **until).map(|(device, _)| *device).collect()
    }

    /// Returns how often all that is owed and all who carry it was walked over, since the engine was opened.
    pub fn walks(&self) -> u64 {
        self.inside().rig.walks
    }

    /// Returns the own envelopes for some devices that were sealed within the last milliseconds.
    pub fn sealed_lately(
        &self,
        devices: &[DeviceId],
        within_ms: u64,
    ) -> BTreeMap<(DeviceId, Incarnation), RangeSet> {
        let state = self.inside();
        let since_ms = state.life.running().0.saturating_sub(within_ms);
        let mut lately: BTreeMap<_, RangeSet> = BTreeMap::new();
        for (life, seq) in devices
            .iter()
            .flat_map(|device| state.outbox.live_for(device))
            .flat_map(|(life, set)| set.numbers().map(|seq| (life, seq)).collect::<Vec<_>>())
        {
            let owed = state.outbox.get(life, seq);
            if owed.is_some_and(|(_, pending)| pending.since_ms >= since_ms) {
                lately.entry((state.identity.device, life)).or_default().insert(seq);
            }
        }
        lately
    }

    /// Returns how many own messages are owed to which devices of members other than these.
    pub fn owed_to(&self, but: &[MemberId]) -> Vec<(DeviceId, u64)> {
        let state = self.inside();
        let counts = |device: &DeviceId| {
            state.device(device).is_some_and(|device| !but.contains(&device.member))
        };
        let all = state.outbox.messages_by_device();
        all.filter(|(to, _)| counts(to)).map(|(to, messages)| (*to, messages)).collect()
    }
}

/// The name of a frame's kind, for the trace.
pub(super) fn kind_of(bytes: &[u8]) -> &'static str {
    use oob_proto::wire::Frame;
    match Frame::decode(bytes).ok().and_then(|frame| frame.kind) {
        None => "malformed",
        Some(kind) => name_of(&kind),
    }
}

/// The name of a kind.
pub(super) fn name_of(kind: &oob_proto::wire::frame::Kind) -> &'static str {
    use oob_proto::wire::frame::Kind;
    match kind {
        Kind::Log(_) => "log",
        Kind::Epoch(_) => "epoch",
        Kind::RelayCert(_) => "relay-cert",
        Kind::Bundle(_) => "bundle",
        Kind::Alert(_) => "alert",
        Kind::AlertAck(_) => "alert-ack",
        Kind::Envelope(_) => "envelope",
        Kind::Release(_) => "release",
        Kind::Floor(_) => "floor",
        Kind::Have(_) => "have",
        Kind::Hello(_) => "hello",
        Kind::Heartbeat(_) => "heartbeat",
        Kind::Credit(_) => "credit",
        Kind::Addresses(_) => "addresses",
        Kind::Nearby(_) => "nearby",
    }
}

/// The first device that does not hold what the others hold, what any of them validly gave up aside, and what it need not
/// hold.
pub(super) fn difference(
    holdings: &[(usize, Inventory)],
    whose: impl Fn(&DeviceId) -> String,
    need_not: impl Fn(usize, &(DeviceId, Incarnation)) -> bool,
) -> Option<(usize, String)> {
    let mut all: Inventory = BTreeMap::new();
    for (life, (have, gone)) in holdings.iter().flat_map(|(_, holding)| holding) {
        let (everything, given_up) = all.entry(*life).or_default();
        everything.union(have);
        everything.union(gone);
        given_up.union(gone);
    }
    for (node, holding) in holdings {
        for (life, (everything, given_up)) in all.iter().filter(|(life, _)| !need_not(*node, life))
        {
            let mut here = given_up.clone();
            if let Some((have, _)) = holding.get(life) {
                here.union(have);
            }
            let missing = here.missing_from(everything);
            if !missing.is_empty() {
                let (first, last) = missing.iter().next().unwrap_or_default();
                let here = |(of, holding): &(usize, Inventory)| {
                    let (have, _) = holding.get(life)?;
                    have.contains(first).then(|| of.to_string())
                };
                let others: Vec<String> = holdings.iter().filter_map(here).collect();
                let (whose, others) = (whose(&life.0), others.join(", "));
                let what = format!("lacks records {first} to {last} of {whose}, held by {others}");
                return Some((*node, what));
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holding(have: (u64, u64), gone: (u64, u64)) -> Inventory {
        let ranges = |(first, last)| {
            let mut set = RangeSet::new();
            set.insert_range(first, last);
            set
        };
        [((DeviceId::from([1; 32]), Incarnation(7)), (ranges(have), ranges(gone)))].into()
    }

    #[test]
    fn the_same_set_is_what_is_here_but_for_what_anybody_gave_up() {
        let but = |excused: usize, all: [Inventory; 2]| {
            let all = (0..).zip(all).collect::<Vec<_>>();
            difference(&all, |_| "Dana".to_owned(), |node, _| node == excused)
        };
        let of = |all| but(2, all);
        let whole = holding((1, 9), (1, 0));
        assert_eq!(of([whole.clone(), whole.clone()]), None);
        assert_eq!(of([whole.clone(), holding((4, 9), (1, 3))]), None, "given up");
        assert_eq!(of([holding((4, 9), (1, 0)), holding((5, 9), (1, 4))]), None);
        let (node, what) = of([whole.clone(), holding((1, 8), (1, 0))]).unwrap();
        assert_eq!(node, 1);
        assert!(what.starts_with("lacks records 9 to 9"), "{what}");
        assert_eq!(of([Inventory::new(), whole.clone()]).unwrap().0, 0);
        assert_eq!(but(0, [Inventory::new(), whole]), None, "it need not");
    }
}
