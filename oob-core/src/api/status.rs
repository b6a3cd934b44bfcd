//! How things stand.

use super::{Identity, Island, OrgSummary, message};
use crate::{actor, handle::Handle, home::wall_ms};
use oob_mesh::{FoundBy, Health, Transport};
use oob_proto::{DeviceId, MemberId};
use std::{
    collections::BTreeMap,
    path::Path,
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
    /// What has failed since the start, and how it stands.
    pub faults: Faults,
    /// What deriving the key took at the start.
    pub kdf: Duration,
    /// From the start until the store was open and the mesh listened.
    pub ready: Duration,
}

/// Own tasks that failed. None of them touches what is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Faults {
    /// How the network stands.
    pub health: Health,
    /// Times the network task, or that of a link, failed.
    pub network: u64,
    /// Times another task failed.
    pub tasks: u64,
    /// Times a task failed on bytes from outside, which are kept and given to nobody again.
    pub caught: u64,
    /// Times such bytes came again.
    pub refused: u64,
    /// When the node last stopped by itself, and why.
    pub stopped: Option<(SystemTime, String)>,
}

impl Faults {
    pub(crate) fn of(handle: &Handle) -> Self {
        let (mesh, failures) = (handle.mesh(), &handle.failures);
        let quarantine = mesh.quarantine();
        Self {
            health: if failures.gave_up() { Health::GivenUp } else { mesh.health() },
            network: mesh.counters().faults,
            tasks: failures.count(),
            caught: quarantine.caught(),
            refused: quarantine.refused(),
            stopped: Self::stopped(&handle.home),
        }
    }

    /// Returns when the node of a folder last stopped by itself, and why.
    pub(crate) fn stopped(home: &Path) -> Option<(SystemTime, String)> {
        if home.as_os_str().is_empty() {
            return None;
        }
        actor::marked(home).map(|(ms, why)| (message::time(ms), why))
    }
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
            faults: Faults::of(handle),
            kdf: handle.kdf,
            ready: handle.ready,
        }
    }
}
