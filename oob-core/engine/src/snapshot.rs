//! What the engine lets others read without asking it: published after each batch, never changed afterwards.

use crate::model::{CouncilView, Device, Member, Name, RangeSet};
use oob_crypto::{BeaconKey, HeaderKey, PublicKey};
use oob_proto::{DeviceId, DeviceShort, EpochId, Incarnation, MemberId, OrgId, TransportKey};
use std::{collections::BTreeMap, sync::Arc};

/// The state of the node as the last durable batch left it. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Grows with each change of anything below.
    pub version: u64,
    /// This device.
    pub me: Me,
    /// The organisation, once founded or joined.
    pub org: Option<OrgInfo>,
    /// Who is in it.
    pub roster: Arc<RosterView>,
    /// What screening needs.
    pub screening: Arc<ScreenKeys>,
    /// Keys of the announcements on the local network: those of the kept core epochs, the one to send under first.
    pub beacons: Arc<Vec<(EpochId, BeaconKey)>>,
    /// Own messages not yet delivered.
    pub outbox: u64,
    /// Messages carried for others.
    pub held: u64,
    /// Bytes of everything carried.
    pub carried_bytes: u64,
    /// Records there was no room to carry, or that gave way to others, since the start.
    pub not_carried: u64,
    /// By device, milliseconds since 1970 when a frame of it last came.
    pub last_heard: Arc<BTreeMap<DeviceId, u64>>,
    /// By device that no stream leads to: who of the neighbours' neighbours heard it last. What neighbours say, to be
    /// shown and never relied on.
    pub nearby: Arc<BTreeMap<DeviceId, Nearby>>,
    /// By person: own messages not delivered to them yet.
    pub owed: Arc<BTreeMap<MemberId, Owed>>,
    /// Addresses kept: typed ones under no key, those of members under theirs.
    pub addresses: Arc<Vec<(Option<TransportKey>, String)>>,
    /// Number of the newest event.
    pub last_event: u64,
    /// Which records came here before.
    pub seen: Arc<SeenView>,
}

/// Ranges kept of one life's newest records for [`SeenView`]: holes are where something was delivered meanwhile, and most
/// lives have a handful.
const SEEN_RANGES: usize = 64;

/// Which records of each author came here before, as far back as is worth a look without asking the rules: what comes by
/// gossip is passed on before they run, and a member that replays what it once got must not have it passed on again.
#[derive(Debug, Clone, Default)]
pub struct SeenView {
    lives: BTreeMap<(DeviceId, Incarnation), Arc<Recent>>,
}

#[derive(Debug)]
struct Recent {
    /// Here, or not needed any more.
    known: RangeSet,
    /// Below it is not said which.
    from: u64,
}

/// What is known of a record by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Novelty {
    /// It has not come before.
    New,
    /// It came before: nobody needs it from here.
    Known,
    /// Its number is so old that only the rules can tell: it is theirs to have, and nobody else's.
    Old,
}

impl SeenView {
    /// Says what is known of a record.
    pub fn novelty(&self, device: &DeviceId, life: Incarnation, seq: u64) -> Novelty {
        match self.lives.get(&(*device, life)) {
            Some(recent) if recent.known.contains(seq) => Novelty::Known,
            Some(recent) if seq < recent.from => Novelty::Old,
            Some(_) | None => Novelty::New,
        }
    }

    /// Forgets a life that is dead.
    pub(crate) fn forget(&mut self, device: DeviceId, life: Incarnation) {
        self.lives.remove(&(device, life));
    }

    /// Notes what is known of a life now.
    pub(crate) fn note(&mut self, device: DeviceId, life: Incarnation, known: &RangeSet) {
        let older = known.len().saturating_sub(SEEN_RANGES);
        let mut newest = RangeSet::new();
        for (first, last) in known.iter().skip(older) {
            newest.insert_range(first, last);
        }
        let from = older.checked_sub(1).and_then(|last_left_out| known.iter().nth(last_left_out));
        let from = from.map_or(0, |(_, last)| last.saturating_add(1));
        self.lives.insert((device, life), Arc::new(Recent { known: newest, from }));
    }
}

/// When a device was last heard, and by whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Nearby {
    /// The device that heard it.
    pub by: DeviceId,
    /// Milliseconds since 1970, by this device's clock.
    pub heard_ms: u64,
    /// Whether that device, a neighbour, says that no stream leads there any more, and no other neighbour has one.
    pub ended: bool,
}

/// Own messages that a person does not have yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Owed {
    /// All of them.
    pub messages: u64,
    /// Of these, how many somebody carries.
    pub held: u64,
}

/// This device and its person.
#[derive(Debug, Clone)]
pub struct Me {
    /// Once in an organisation.
    pub member: Option<MemberId>,
    /// This device.
    pub device: DeviceId,
    /// As given at `init`, or as the organisation has it.
    pub name: Name,
    /// This device's libp2p identity.
    pub transport: TransportKey,
    /// When its store was put back from a copy and it began another life, by its clock.
    pub restored_ms: Option<u64>,
    /// When it was last found that this identity runs on another machine too, by its clock; none for some days after the
    /// last sign of it.
    pub elsewhere_ms: Option<u64>,
}

/// Which organisation.
#[derive(Debug, Clone)]
pub struct OrgInfo {
    /// Its id.
    pub id: OrgId,
    /// Its name.
    pub name: Name,
}

/// Who is in the organisation. Shared unchanged between snapshots until the log grows.
#[derive(Debug, Clone, Default)]
pub struct RosterView {
    /// Grows with each change.
    pub version: u64,
    /// By id.
    pub members: BTreeMap<MemberId, Member>,
    /// By id.
    pub devices: BTreeMap<DeviceId, Device>,
    /// Who decides, and what waits for them.
    pub council: Arc<CouncilView>,
    /// The log holds an operation that this version does not know and must not pass over: it needs an update before it
    /// judges who may do what.
    pub update_needed: bool,
}

impl RosterView {
    /// Returns the members of a name, case aside; more than one where two people joined at once on two sides of a cut.
    pub fn named(&self, name: &str) -> Vec<&Member> {
        self.members.values().filter(|member| member.name.resembles(name)).collect()
    }

    /// Returns the device behind a transport key.
    pub fn by_transport(&self, key: &TransportKey) -> Option<&Device> {
        self.devices.values().find(|device| device.transport == *key)
    }
}

/// Keys to tell an envelope of a member from anything else, with no access to a secret that opens it.
#[derive(Debug, Clone, Default)]
pub struct ScreenKeys {
    /// The organisation, none before there is one.
    pub org: Option<OrgId>,
    /// Header keys of the kept epochs, the one to send under first.
    pub headers: Vec<(EpochId, HeaderKey)>,
    /// Relay keys by (device, incarnation, generation).
    pub relays: BTreeMap<(DeviceShort, Incarnation, u32), (DeviceId, PublicKey)>,
    /// Devices taken out, with the records of each life that stand; of another life none does.
    pub removed: BTreeMap<DeviceId, BTreeMap<Incarnation, RangeSet>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_is_known_and_what_is_too_old_to_tell_is_said_to_be() {
        let (device, life) = (DeviceId::from([1; 32]), Incarnation(2));
        let mut view = SeenView::default();
        let say = |view: &SeenView, seq| view.novelty(&device, life, seq);
        assert_eq!(say(&view, 7), Novelty::New);
        let mut known = RangeSet::new();
        known.insert_range(1, 9);
        view.note(device, life, &known);
        assert_eq!([9, 10].map(|seq| say(&view, seq)), [Novelty::Known, Novelty::New]);
        (6..2_006u64).for_each(|n| known.insert_range(2 * n, 2 * n));
        view.note(device, life, &known);
        let said = [4_010, 4_009, 4_011, 3_884, 3_883, 3_882, 5].map(|seq| say(&view, seq));
        use Novelty::{Known, New, Old};
        assert_eq!(said, [Known, New, New, Known, New, Old, Old]);
        assert_eq!(view.lives.values().map(|recent| recent.known.len()).sum::<usize>(), 64);
    }
}
