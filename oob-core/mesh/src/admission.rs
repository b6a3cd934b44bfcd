//! Who may connect, and to what: the first of the behaviours, so that nothing else sees a connection it refuses.

use libp2p::{
    Multiaddr, PeerId,
    core::{ConnectedPoint, Endpoint, transport::PortUse},
    swarm::{
        ConnectionClosed, ConnectionDenied, ConnectionId, DialFailure, FromSwarm, ListenFailure,
        NetworkBehaviour, NotifyHandler, THandlerInEvent, ToSwarm,
        behaviour::ConnectionEstablished,
    },
};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    net::IpAddr,
    sync::Arc,
    task::{Context, Poll},
};

use crate::{
    address::{Place, Transport},
    identity,
    protocol::{Handler, Negotiated, Protocol},
    shared::Shared,
};

/// Connections from outside that have not proved a key yet.
const PENDING: usize = 64;

/// Those of them from hosts where the address book knows no roster peer: half, so that a crowd of strangers, from
/// however many hosts, leaves the other half to members.
const PENDING_UNKNOWN: usize = PENDING / 2;

/// Those of them whose source address is unknown or not proved. The first packet of QUIC may claim a member's address,
/// while TCP has shaken hands: so the last quarter is for TCP from hosts of members.
const PENDING_UNPROVED: usize = PENDING / 4 * 3;

/// Those of them from one host over one transport: a room of newcomers behind one hotspot each needs some milliseconds
/// of one, and one host alone cannot take all that strangers have. Loopback is exempt: several devices may live there.
const PENDING_PER_HOST: usize = 16;

/// Connections of one peer: a link and a join stream, or a link and the one that replaces it.
const PER_PEER: usize = 2;

/// Connections of strangers; roster peers are not counted among them and so cannot be crowded out.
const STRANGERS: usize = 64;

/// Strangers of one host, loopback exempt, for the same reasons.
const STRANGERS_PER_HOST: usize = 16;

/// All connections.
const ESTABLISHED: usize = 256;

/// Why a connection was refused. Only our own log ever sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("too many connections that have proved no key")]
    Pending,
    #[error("too many connections that have proved no key from this host")]
    PendingOfHost,
    #[error("too many connections of this peer")]
    PerPeer,
    #[error("too many strangers")]
    Strangers,
    #[error("too many strangers from this host")]
    StrangersOfHost,
    #[error("too many connections")]
    Established,
    #[error("an address of another kind")]
    Address,
    #[error("a key of another kind")]
    Key,
}

/// What is known of where a connection that has proved no key comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Origin {
    /// A host where we know no roster peer.
    Unknown,
    /// The packet says, a roster peer's host.
    Claimed,
    /// A roster peer's host, and packets sent there arrive.
    Known,
}

impl Origin {
    /// How many of this origin and of lesser ones may be pending.
    fn most(self) -> usize {
        match self {
            Self::Unknown => PENDING_UNKNOWN,
            Self::Claimed => PENDING_UNPROVED,
            Self::Known => PENDING,
        }
    }
}

/// A connection from outside that has not proved a key yet.
#[derive(Debug, Clone, Copy)]
struct Pending {
    host: IpAddr,
    transport: Transport,
    origin: Origin,
}

/// A connection whose other side has proved a key.
#[derive(Debug, Clone, Copy)]
struct Established {
    peer: PeerId,
    member: bool,
    /// Where it came from; `None` if we dialled.
    from: Option<IpAddr>,
}

/// Counts connections, refuses those above the bounds, and hands each its handler.
pub(crate) struct Admission {
    shared: Arc<Shared>,
    pending: HashMap<ConnectionId, Pending>,
    established: HashMap<ConnectionId, Established>,
    joining: HashSet<ConnectionId>,
    waiting: VecDeque<ToSwarm<Streamed, Protocol>>,
}

/// A stream of a connection was negotiated, or not.
#[derive(Debug)]
pub(crate) struct Streamed {
    pub(crate) connection: ConnectionId,
    pub(crate) what: Negotiated,
}

impl Admission {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            pending: HashMap::new(),
            established: HashMap::new(),
            joining: HashSet::new(),
            waiting: VecDeque::new(),
        }
    }

    /// Marks a dial as one to ask for admission: nothing is offered to the other side on it.
    pub(crate) fn expect_join(&mut self, connection: ConnectionId) {
        self.joining.insert(connection);
    }

    /// Opens a stream on a connection.
    pub(crate) fn open(&mut self, peer_id: PeerId, connection: ConnectionId, protocol: Protocol) {
        self.waiting.push_back(ToSwarm::NotifyHandler {
            peer_id,
            handler: NotifyHandler::One(connection),
            event: protocol,
        });
    }

    fn is_member(&self, peer: &PeerId) -> Result<bool, Refusal> {
        let key = identity::key_of(peer).ok_or(Refusal::Key)?;
        Ok(self.shared.admits(&key))
    }

    fn judge_pending(&self, remote: &Multiaddr) -> Result<Pending, Refusal> {
        let (place, _) = Place::from_multiaddr(remote).ok_or(Refusal::Address)?;
        let (host, transport) = (place.host(), place.transport);
        let of_host = |other: &&Pending| other.host == host && other.transport == transport;
        if !host.is_loopback() && self.pending.values().filter(of_host).count() >= PENDING_PER_HOST
        {
            return Err(Refusal::PendingOfHost);
        }
        let origin = match transport {
            _ if !self.shared.is_home_of_member(host) => Origin::Unknown,
            Transport::Quic => Origin::Claimed,
            Transport::Tcp => Origin::Known,
        };
        let no_better = self.pending.values().filter(|other| other.origin <= origin).count();
        if self.pending.len() >= PENDING || no_better >= origin.most() {
            return Err(Refusal::Pending);
        }
        Ok(Pending { host, transport, origin })
    }

    fn judge_inbound(&self, peer: &PeerId, remote: &Multiaddr) -> Result<Handler, Refusal> {
        let member = self.is_member(peer)?;
        let own = self.established.values().filter(|other| other.peer == *peer).count();
        if own >= PER_PEER {
            return Err(Refusal::PerPeer);
        }
        if self.established.len() >= ESTABLISHED {
            return Err(Refusal::Established);
        }
        if member {
            return Ok(Handler::new(&[Protocol::Sync, Protocol::Join]));
        }
        let host = host(remote).ok_or(Refusal::Address)?;
        let strangers = || self.established.values().filter(|other| !other.member);
        if strangers().count() >= STRANGERS {
            return Err(Refusal::Strangers);
        }
        let of_host = strangers().filter(|other| other.from == Some(host)).count();
        if !host.is_loopback() && of_host >= STRANGERS_PER_HOST {
            return Err(Refusal::StrangersOfHost);
        }
        self.shared.counts.strangers.add();
        Ok(Handler::new(&[Protocol::Join]))
    }

    fn refused(&self, refusal: Refusal) -> ConnectionDenied {
        self.shared.counts.inbound_refused.add();
        ConnectionDenied::new(refusal)
    }
}

fn host(remote: &Multiaddr) -> Option<IpAddr> {
    Place::from_multiaddr(remote).map(|(place, _)| place.host())
}

impl NetworkBehaviour for Admission {
    type ConnectionHandler = Handler;
    type ToSwarm = Streamed;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let pending = self.judge_pending(remote).map_err(|refusal| self.refused(refusal))?;
        self.pending.insert(connection, pending);
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        self.pending.remove(&connection);
        self.judge_inbound(&peer, remote).map_err(|refusal| self.refused(refusal))
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        let joining = self.joining.contains(&connection);
        let member = self.is_member(&peer).map_err(ConnectionDenied::new)?;
        if self.established.len() >= ESTABLISHED {
            return Err(ConnectionDenied::new(Refusal::Established));
        }
        // Only the dialler opens the sync stream, so nobody is offered it on a connection we dialled.
        let offer: &[Protocol] = if member && !joining { &[Protocol::Join] } else { &[] };
        Ok(Handler::new(offer))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id,
                connection_id,
                endpoint,
                ..
            }) => {
                let member = self.is_member(&peer_id).unwrap_or(false);
                let from = match endpoint {
                    ConnectedPoint::Listener { send_back_addr, .. } => host(send_back_addr),
                    ConnectedPoint::Dialer { .. } => None,
                };
                let established = Established { peer: peer_id, member, from };
                self.established.insert(connection_id, established);
                self.joining.remove(&connection_id);
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { connection_id, .. }) => {
                self.established.remove(&connection_id);
            }
            FromSwarm::ListenFailure(ListenFailure { connection_id, .. }) => {
                self.pending.remove(&connection_id);
            }
            FromSwarm::DialFailure(DialFailure { connection_id, .. }) => {
                self.joining.remove(&connection_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: PeerId,
        connection: ConnectionId,
        what: Negotiated,
    ) {
        self.waiting.push_back(ToSwarm::GenerateEvent(Streamed { connection, what }));
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Streamed, THandlerInEvent<Self>>> {
        // Everything that puts something here is followed by a poll of the swarm, so nobody has to be woken.
        self.waiting.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{address::FoundBy, identity::tests::public};
    use oob_proto::TransportKey;
    use tokio::time::Instant;

    const HERE: &str = "/ip4/10.0.0.1/tcp/4801";

    /// An admission whose roster is one peer, last seen at 10.0.0.2.
    fn admission(found_by: FoundBy) -> Admission {
        let shared = Arc::new(Shared::new(public(1).into(), true));
        let member = TransportKey::from(public(2));
        let roster = [member].into();
        let place = Place::from_multiaddr(&tcp("10.0.0.2").parse().unwrap()).unwrap().0;
        shared.book().hear(member, place, found_by, &roster, Instant::now());
        *shared.roster() = roster;
        Admission::new(shared)
    }

    fn tcp(host: &str) -> String {
        format!("/ip4/{host}/tcp/40000")
    }

    fn quic(host: &str) -> String {
        format!("/ip4/{host}/udp/40000/quic-v1")
    }

    /// How many of a hundred half-open connections from an address are let in.
    fn crowd(admission: &mut Admission, from: &str) -> usize {
        let (here, from) = (HERE.parse().unwrap(), from.parse().unwrap());
        (0..100)
            .filter(|_| {
                let id = ConnectionId::new_unchecked(admission.pending.len());
                admission.handle_pending_inbound_connection(id, &here, &from).is_ok()
            })
            .count()
    }

    #[test]
    fn a_crowd_from_one_host_takes_sixteen_places_and_one_from_many_half_of_all() {
        let mut admission = admission(FoundBy::Typed);
        assert_eq!(crowd(&mut admission, &tcp("10.0.0.66")), PENDING_PER_HOST);
        assert_eq!(crowd(&mut admission, "/ip6/::ffff:10.0.0.66/tcp/40000"), 0, "the same host");
        assert_eq!(crowd(&mut admission, &tcp("10.0.0.67")), PENDING_PER_HOST);
        assert_eq!(crowd(&mut admission, &tcp("10.0.0.68")), 0);
        assert_eq!(crowd(&mut admission, &tcp("127.0.0.1")), 0);
        assert_eq!(crowd(&mut admission, &tcp("10.0.0.2")), PENDING_PER_HOST);
        assert_eq!(admission.shared.counts.read().inbound_refused, 552);
    }

    #[test]
    fn loopback_takes_what_strangers_have_and_no_more() {
        let mut admission = admission(FoundBy::Typed);
        assert_eq!(crowd(&mut admission, &tcp("127.0.0.1")), PENDING_UNKNOWN);
    }

    /// Nothing proves the source address of the first QUIC packet, so a crowd may claim a member's.
    #[test]
    fn packets_in_a_members_name_leave_room_for_the_member() {
        let mut admission = admission(FoundBy::Learned);
        for host in 60..62 {
            crowd(&mut admission, &tcp(&format!("10.0.0.{host}")));
        }
        assert_eq!(crowd(&mut admission, &quic("10.0.0.2")), PENDING_PER_HOST);
        assert_eq!(admission.pending.len(), PENDING_UNPROVED);
        assert_eq!(crowd(&mut admission, &tcp("10.0.0.2")), PENDING_PER_HOST);
        assert_eq!(admission.pending.len(), PENDING);
        // No total is passed, however well known the host.
        assert_eq!(crowd(&mut admission, &tcp("10.0.0.2")), 0);
    }

    /// Anybody near can announce any key at their own address, and send a recorded beacon from there.
    #[test]
    fn an_announcement_nobody_has_proved_makes_no_home_of_a_member() {
        for found_by in [FoundBy::Mdns, FoundBy::Beacon] {
            let mut admission = admission(found_by);
            for host in 60..62 {
                crowd(&mut admission, &tcp(&format!("10.0.0.{host}")));
            }
            assert_eq!(crowd(&mut admission, &tcp("10.0.0.2")), 0, "{found_by:?}");
        }
    }

    #[test]
    fn strangers_of_one_host_leave_room_for_those_of_another() {
        let mut admission = admission(FoundBy::Typed);
        let mut seeds = 10..;
        let mut strangers = |from: &str| {
            let from: Multiaddr = from.parse().unwrap();
            let mut taken = 0;
            for seed in seeds.by_ref().take(20) {
                let peer = identity::peer_of(&public(seed).into()).unwrap();
                if admission.judge_inbound(&peer, &from).is_ok() {
                    let established = Established { peer, member: false, from: host(&from) };
                    let id = ConnectionId::new_unchecked(seed.into());
                    admission.established.insert(id, established);
                    taken += 1;
                }
            }
            // A member is no stranger, wherever it comes from.
            let member = identity::peer_of(&public(2).into()).unwrap();
            assert!(admission.judge_inbound(&member, &from).is_ok());
            taken
        };
        assert_eq!(strangers(&tcp("10.0.0.66")), STRANGERS_PER_HOST);
        assert_eq!(strangers(&quic("10.0.0.66")), 0);
        assert_eq!(strangers(&tcp("10.0.0.67")), STRANGERS_PER_HOST);
        assert_eq!(strangers(&tcp("127.0.0.1")), 20);
        assert_eq!(strangers(&tcp("127.0.0.1")), STRANGERS - 52, "but not from the total");
    }
}
