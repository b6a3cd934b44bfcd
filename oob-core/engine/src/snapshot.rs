//! What the engine lets others read without asking it: published after each batch, never changed afterwards.

use crate::model::{Device, Member, Name};
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
    /// Devices taken out, with the last record of each life that stands; of another life none does.
    pub removed: BTreeMap<DeviceId, BTreeMap<Incarnation, u64>>,
}
