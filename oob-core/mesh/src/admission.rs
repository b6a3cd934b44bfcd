//! Who may connect, and to what: the first of the behaviours, so that nothing else sees a connection it refuses.

use libp2p::{
    Multiaddr, PeerId,
    core::{Endpoint, transport::PortUse},
    swarm::{
        ConnectionClosed, ConnectionDenied, ConnectionId, DialFailure, FromSwarm, ListenFailure,
        NetworkBehaviour, NotifyHandler, THandlerInEvent, ToSwarm,
        behaviour::ConnectionEstablished,
    },
};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    task::{Context, Poll},
};

use crate::{
    identity,
    protocol::{Handler, Negotiated, Protocol},
    shared::Shared,
};

/// Connections from outside that have not proved a key yet.
const PENDING: usize = 64;

/// Connections of one peer: a link and a join stream, or a link and the one that replaces it.
const PER_PEER: usize = 2;

/// Connections of strangers; roster peers are not counted among them and so cannot be crowded out.
const STRANGERS: usize = 64;

/// All connections.
const ESTABLISHED: usize = 256;

/// Why a connection was refused. Only our own log ever sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    #[error("too many connections that have proved no key")]
    Pending,
    #[error("too many connections of this peer")]
    PerPeer,
    #[error("too many strangers")]
    Strangers,
    #[error("too many connections")]
    Established,
    #[error("a key of another kind")]
    Key,
}

/// Counts connections, refuses those above the bounds, and hands each its handler.
pub(crate) struct Admission {
    shared: Arc<Shared>,
    pending: HashSet<ConnectionId>,
    established: HashMap<ConnectionId, (PeerId, bool)>,
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
            pending: HashSet::new(),
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

    fn judge_inbound(&self, peer: &PeerId) -> Result<Handler, Refusal> {
        let member = self.is_member(peer)?;
        let own = self.established.values().filter(|(other, _)| other == peer).count();
        let strangers = self.established.values().filter(|(_, member)| !member).count();
        if own >= PER_PEER {
            return Err(Refusal::PerPeer);
        }
        if self.established.len() >= ESTABLISHED {
            return Err(Refusal::Established);
        }
        if member {
            return Ok(Handler::new(&[Protocol::Sync, Protocol::Join]));
        }
        if strangers >= STRANGERS {
            return Err(Refusal::Strangers);
        }
        self.shared.counts.strangers.add();
        Ok(Handler::new(&[Protocol::Join]))
    }

    fn refused(&self, refusal: Refusal) -> ConnectionDenied {
        self.shared.counts.inbound_refused.add();
        ConnectionDenied::new(refusal)
    }
}

impl NetworkBehaviour for Admission {
    type ConnectionHandler = Handler;
    type ToSwarm = Streamed;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        if self.pending.len() >= PENDING {
            return Err(self.refused(Refusal::Pending));
        }
        self.pending.insert(connection);
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        self.pending.remove(&connection);
        self.judge_inbound(&peer).map_err(|refusal| self.refused(refusal))
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
                ..
            }) => {
                let member = self.is_member(&peer_id).unwrap_or(false);
                self.established.insert(connection_id, (peer_id, member));
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
