//! The behaviour that stands between the swarm and gossipsub.

use libp2p::{
    Multiaddr, PeerId,
    core::{ConnectedPoint, Endpoint, transport::PortUse},
    gossipsub::{
        self, AllowAllSubscriptionFilter, IdentTopic, MaxCountSubscriptionFilter,
        MessageAcceptance, MessageAuthenticity, MessageId, PublishError,
    },
    swarm::{
        ConnectionClosed, ConnectionDenied, ConnectionId, DialFailure, FromSwarm, NetworkBehaviour,
        NotifyHandler, THandlerInEvent, THandlerOutEvent, ToSwarm,
        behaviour::ConnectionEstablished,
    },
};
use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
    task::{Context, Poll},
};

use super::{
    handler::{Handler, Offer, Order, offer_of},
    settings,
};
use crate::{
    config::MeshError,
    event::{GossipId, Verdict},
    identity,
    shared::Shared,
    topic::Topic,
};

/// Topics a neighbour may have, and how many it may name at once: it has one, the rest is room for what comes after.
const TOPICS: usize = 4;

/// gossipsub, told of links instead of connections.
pub(crate) struct Gossip {
    router: gossipsub::Behaviour,
    shared: Arc<Shared>,
    offer: Offer,
    topic: Option<IdentTopic>,
    /// The connections of the links that are up.
    links: HashMap<PeerId, (ConnectionId, ConnectedPoint)>,
    /// Dials to be admitted: nothing is offered on them.
    joining: HashSet<ConnectionId>,
    waiting: VecDeque<ToSwarm<gossipsub::Event, Order>>,
}

fn refused(reason: impl ToString) -> MeshError {
    MeshError::Transport { reason: reason.to_string() }
}

fn router() -> Result<gossipsub::Behaviour, MeshError> {
    let config = settings::config().map_err(refused)?;
    let filter = MaxCountSubscriptionFilter {
        filter: AllowAllSubscriptionFilter::default(),
        max_subscribed_topics: TOPICS,
        max_subscriptions_per_request: TOPICS,
    };
    let anonymous = MessageAuthenticity::Anonymous;
    gossipsub::Behaviour::new_with_subscription_filter(anonymous, config, filter).map_err(refused)
}

impl Gossip {
    pub(crate) fn new(shared: Arc<Shared>) -> Result<Self, MeshError> {
        // Only a router makes handlers, and only a handler knows what to offer. This one is asked once and dropped.
        let nowhere = Multiaddr::empty();
        let model = router()?
            .handle_established_inbound_connection(
                ConnectionId::new_unchecked(0),
                identity::peer_of(&shared.key).ok_or(MeshError::Secret)?,
                &nowhere,
                &nowhere,
            )
            .map_err(refused)?;
        Ok(Self {
            router: router()?,
            shared,
            offer: offer_of(&model),
            topic: None,
            links: HashMap::new(),
            joining: HashSet::new(),
            waiting: VecDeque::new(),
        })
    }

    /// Marks a dial as one to ask for admission: no gossip is offered on it.
    pub(crate) fn expect_join(&mut self, connection: ConnectionId) {
        self.joining.insert(connection);
    }

    /// Gossips under a topic, and under no other any more.
    pub(crate) fn subscribe(&mut self, topic: &Topic) {
        let topic = IdentTopic::new(topic.as_str());
        if let Some(old) = self.topic.replace(topic.clone()) {
            self.router.unsubscribe(&old);
        }
        // Refused only by a filter of our own, which lets every topic pass.
        if let Err(error) = self.router.subscribe(&topic) {
            tracing::warn!(?error, "cannot gossip");
        }
    }

    /// Whether this is the topic we gossip under.
    pub(crate) fn is_ours(&self, topic: &gossipsub::TopicHash) -> bool {
        self.topic.as_ref().is_some_and(|ours| ours.hash() == *topic)
    }

    /// Whether there is a topic.
    pub(crate) fn is_subscribed(&self) -> bool {
        self.topic.is_some()
    }

    /// A link is up on this connection: gossips on it.
    pub(crate) fn begin(&mut self, peer: PeerId, connection: ConnectionId, point: &ConnectedPoint) {
        self.end(&peer);
        let handler = match point {
            ConnectedPoint::Dialer { address, .. } => {
                self.router.handle_established_outbound_connection(
                    connection,
                    peer,
                    address,
                    Endpoint::Dialer,
                    PortUse::New,
                )
            }
            ConnectedPoint::Listener { local_addr, send_back_addr } => {
                self.router.handle_established_inbound_connection(
                    connection,
                    peer,
                    local_addr,
                    send_back_addr,
                )
            }
        };
        // It never refuses one.
        let Ok(handler) = handler else { return };
        self.router.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
            peer_id: peer,
            connection_id: connection,
            endpoint: point,
            failed_addresses: &[],
            other_established: 0,
        }));
        self.links.insert(peer, (connection, point.clone()));
        self.waiting.push_back(ToSwarm::NotifyHandler {
            peer_id: peer,
            handler: NotifyHandler::One(connection),
            event: Order::Begin(Box::new(handler)),
        });
    }

    /// The link to a peer is down. Its connection is about to be closed.
    pub(crate) fn end(&mut self, peer: &PeerId) {
        let Some((connection, point)) = self.links.remove(peer) else { return };
        self.router.on_swarm_event(FromSwarm::ConnectionClosed(ConnectionClosed {
            peer_id: *peer,
            connection_id: connection,
            endpoint: &point,
            cause: None,
            remaining_established: 0,
        }));
    }

    /// Gives a message to everybody who is there.
    pub(crate) fn publish(&mut self, data: Vec<u8>) -> Result<(), PublishError> {
        let Some(topic) = &self.topic else { return Err(PublishError::NoPeersSubscribedToTopic) };
        self.router.publish(topic.hash(), data).map(drop)
    }

    /// Says what became of a message.
    pub(crate) fn judge(&mut self, id: &GossipId, from: &PeerId, verdict: Verdict) {
        let acceptance = match verdict {
            Verdict::Accept => MessageAcceptance::Accept,
            Verdict::Ignore => MessageAcceptance::Ignore,
            Verdict::Reject => MessageAcceptance::Reject,
        };
        let id = MessageId::from(id.0.to_vec());
        self.router.report_message_validation_result(&id, from, acceptance);
    }

    fn handler(&self, peer: &PeerId, joining: bool) -> Handler {
        let member = identity::key_of(peer).is_some_and(|key| self.shared.admits(&key));
        Handler::new((member && !joining).then(|| self.offer.clone()))
    }
}

impl NetworkBehaviour for Gossip {
    type ConnectionHandler = Handler;
    type ToSwarm = gossipsub::Event;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        Ok(self.handler(&peer, false))
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        let joining = self.joining.remove(&connection);
        Ok(self.handler(&peer, joining))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::DialFailure(DialFailure { connection_id, .. }) => {
                self.joining.remove(&connection_id);
            }
            FromSwarm::ConnectionClosed(ConnectionClosed { peer_id, connection_id, .. })
                if self.links.get(&peer_id).is_some_and(|(id, _)| *id == connection_id) =>
            {
                self.end(&peer_id);
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        peer: PeerId,
        connection: ConnectionId,
        report: THandlerOutEvent<Self>,
    ) {
        // What an earlier link still had to say is not heard any more.
        if self.links.get(&peer).is_some_and(|(id, _)| *id == connection) {
            self.router.on_connection_handler_event(peer, connection, report);
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ToSwarm<gossipsub::Event, THandlerInEvent<Self>>> {
        if let Some(event) = self.waiting.pop_front() {
            return Poll::Ready(event);
        }
        self.router.poll(cx).map(|event| event.map_in(Order::Inner))
    }
}
