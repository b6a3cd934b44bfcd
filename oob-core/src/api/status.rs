//! How things stand.

use super::{Identity, Island, OrgSummary, message};
use crate::{handle::Handle, home::wall_ms};
use oob_mesh::{FoundBy, Transport};
use oob_proto::{DeviceId, MemberId};
use std::{
    collections::BTreeMap,
    time::{Duration, Instant, SystemTime},
};

/// How things stand with this node.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// This device and its person.
    pub me: Identity,
    /// Their organisation.
    pub org: Option<OrgSummary>,
    /// Multiaddrs others can reach this node at.
    pub listening: Vec<String>,
    /// The port listened on, if the usual one was taken.
    pub moved_port: Option<u16>,
    /// Every other device of the organisation, those in reach first.
    pub peers: Vec<PeerStatus>,
    /// Who is together with this node.
    pub island: Island,
    /// Messages held for others.
    pub held: u64,
    /// Own messages not yet delivered.
    pub outbox: u64,
    /// What deriving the key took at the start.
    pub kdf: Duration,
    /// From the start until the store was open and the mesh listened.
    pub ready: Duration,
}

/// Another device of the organisation.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerStatus {
    /// Whose it is.
    pub member: MemberId,
    /// Their name.
    pub member_name: String,
    /// The device.
    pub device: DeviceId,
    /// Whether there is a live link to it.
    pub reachable: bool,
    /// When something of it last came, by this device's clock.
    pub last_heard: Option<SystemTime>,
    /// What carries the link.
    pub transport: Option<Transport>,
    /// Which rung of discovery found it.
    pub found_by: Option<FoundBy>,
}

impl Status {
    pub(crate) fn of(handle: &Handle) -> Self {
        let snapshot = handle.snapshot();
        let links: BTreeMap<_, _> =
            handle.mesh().peers().into_iter().map(|link| (link.key, link)).collect();
        let (wall, mono) = (SystemTime::now(), Instant::now());
        let mut peers: Vec<_> = snapshot
            .roster
            .devices
            .values()
            .filter(|device| device.id != snapshot.me.device)
            .map(|device| {
                let link = links.get(&device.transport);
                let live =
                    link.and_then(|link| wall.checked_sub(mono.duration_since(link.last_heard)));
                let kept = snapshot.last_heard.get(&device.id).map(|ms| message::time(*ms));
                PeerStatus {
                    member: device.member,
                    member_name: message::name_of(&device.member, &snapshot),
                    device: device.id,
                    reachable: link.is_some(),
                    last_heard: live.or(kept),
                    transport: link.map(|link| link.transport),
                    found_by: link.map(|link| link.found_by),
                }
            })
            .collect();
        let linked = peers.iter().filter(|peer| peer.reachable).map(|peer| peer.device).collect();
        peers.sort_by(|a, b| {
            let key = |peer: &PeerStatus| (!peer.reachable, peer.member_name.clone(), peer.device);
            key(a).cmp(&key(b))
        });
        Self {
            me: Identity::of(&snapshot, &handle.home),
            org: OrgSummary::of(&snapshot),
            listening: handle.mesh().listening(),
            moved_port: handle.mesh().moved_port(),
            island: Island::of(&snapshot, &linked, wall_ms()),
            peers,
            held: snapshot.held,
            outbox: snapshot.outbox,
            kdf: handle.kdf,
            ready: handle.ready,
        }
    }
}
