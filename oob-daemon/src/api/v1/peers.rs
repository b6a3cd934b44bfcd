//! `status` and `peers`.

use super::{Reply, Shared};
use crate::schema::{Away, Faults, Island, Peer, Peers, Stamp, Status};
use axum::extract::State;
use oob_core::{FoundBy, PeerStatus, Transport};

pub(super) async fn status(State(shared): State<Shared>) -> Reply<Status> {
    let status = shared.node.status();
    let (org, org_name) = status.org.map(|org| (org.id.to_string(), org.name)).unzip();
    Reply(Status {
        member: status.me.member.map(|member| member.to_string()),
        device: status.me.device.to_string(),
        org,
        listen: status.listening,
        peers: sorted(status.peers),
        held: status.held,
        outbox: status.outbox,
        name: status.me.name,
        org_name,
        note: status.moved_port.map(port_note),
        island: status.island.into(),
        up_ms: u64::try_from(shared.began.elapsed().as_millis()).unwrap_or(u64::MAX),
        faults: status.faults.into(),
        restored: status.me.restored.map(Stamp::from),
        elsewhere: status.me.elsewhere.map(Stamp::from),
    })
}

pub(super) async fn peers(State(shared): State<Shared>) -> Reply<Peers> {
    Reply(Peers { peers: sorted(shared.node.status().peers) })
}

/// The port of oob, TCP and UDP.
const DEFAULT_PORT: u16 = 4801;

/// Says that the usual port was taken.
pub(crate) fn port_note(port: u16) -> String {
    format!(
        "port {DEFAULT_PORT} is taken by another program; this daemon listens on {port} instead"
    )
}

/// Reachable ones first, then by name.
fn sorted(peers: Vec<PeerStatus>) -> Vec<Peer> {
    let mut peers: Vec<Peer> = peers.into_iter().map(Peer::from).collect();
    peers.sort_by(|a, b| {
        let key =
            |peer: &Peer| (!peer.reachable, peer.member_name.to_lowercase(), peer.device.clone());
        key(a).cmp(&key(b))
    });
    peers
}

impl From<oob_core::Faults> for Faults {
    fn from(faults: oob_core::Faults) -> Self {
        let (stopped, stopped_why) = faults.stopped.unzip();
        Self {
            network: faults.health.as_str().to_owned(),
            network_failed: faults.network,
            tasks_failed: faults.tasks,
            caught: faults.caught,
            refused: faults.refused,
            stopped: stopped.map(Into::into),
            stopped_why,
        }
    }
}

impl From<oob_core::Island> for Island {
    fn from(island: oob_core::Island) -> Self {
        let away = island.away.into_iter().map(|away| {
            let (heard_by, heard_by_name) =
                away.heard_by.map(|(id, name)| (id.to_string(), name)).unzip();
            Away {
                member: away.member.to_string(),
                name: away.name,
                last_heard: away.last_heard.map(Into::into),
                heard_by,
                heard_by_name,
                held: away.held,
            }
        });
        Self { with: island.with, of: island.of, away: away.collect() }
    }
}

impl From<PeerStatus> for Peer {
    fn from(peer: PeerStatus) -> Self {
        Self {
            member: peer.member.to_string(),
            device: peer.device.to_string(),
            reachable: peer.reachable,
            last_heard: peer.last_heard.map(Into::into),
            transport: peer.transport.map(|transport| transport_word(transport).to_owned()),
            found_by: peer.found_by.map(|found_by| found_by_word(found_by).to_owned()),
            member_name: peer.member_name,
        }
    }
}

const fn transport_word(transport: Transport) -> &'static str {
    match transport {
        Transport::Tcp => "tcp",
        Transport::Quic => "quic",
    }
}

pub(super) const fn found_by_word(found_by: FoundBy) -> &'static str {
    match found_by {
        FoundBy::Mdns => "mdns",
        FoundBy::Beacon => "beacon",
        FoundBy::Typed => "typed",
        FoundBy::Invite => "invite",
        FoundBy::Learned => "learned",
    }
}
