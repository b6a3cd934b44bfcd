//! The swarm task: owns the sockets, lets in, dials, and hands streams to tasks of their own. It does no cryptography of
//! ours, no disk and no decoding: a swarm task that is busy otherwise loses its peers.
//!
//! `dialling` decides whom to dial and when, `links` which connection carries the link to a peer, `joins` what strangers
//! and we as strangers may do, `gossip` what is passed on and who takes part, `ways` which address of ours a connection needs.

mod dialling;
mod gossip;
mod joins;
mod links;
mod ways;

use futures::StreamExt;
use libp2p::{
    PeerId,
    core::ConnectedPoint,
    identity::Keypair,
    mdns,
    swarm::{
        self, ConnectionId, ListenError, NetworkBehaviour, Swarm, SwarmEvent,
        behaviour::toggle::Toggle,
    },
};
use oob_proto::TransportKey;
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::{
    sync::{OwnedMutexGuard, mpsc, oneshot},
    task::{Id, JoinSet},
    time::{Instant, sleep_until, timeout_at},
};

use crate::{
    address::{FoundBy, Place},
    admission::{Admission, Streamed},
    config::{Listen, MeshError},
    deaf::Deafness,
    event::{DownReason, GossipId, GossipRoom, MeshEvent, Verdict},
    gossip::Gossip,
    identity,
    join::{JoinStream, Progress},
    listen::{self, Reported},
    outbox::Outbox,
    protocol::{Negotiated, Protocol},
    queue::FrameReceiver,
    redial::{Budget, Redial},
    shared::Shared,
    transport,
};

/// Notes of streams to this task that may wait: more than there can be connections.
const NOTES: usize = 512;

/// How often the clock and the connections of strangers are looked at.
const TICK: Duration = Duration::from_millis(500);

/// A gap this long between two looks at the clock means that the machine has slept.
const SLEPT: Duration = Duration::from_secs(5);

/// Connections nobody uses are kept: our own heartbeat decides, not libp2p.
const IDLE: Duration = Duration::from_secs(24 * 3600);

/// How often mDNS asks; its own default of five minutes is longer than people wait.
const MDNS_QUERY: Duration = Duration::from_secs(5);

/// Streams of one connection that may be in negotiation: one of each of the three protocols, twice.
const NEGOTIATING: usize = 6;

/// Longest wait for the first address of each listener: with no interface at all there will be none, and we start
/// nevertheless.
const FIRST_ADDRESS: Duration = Duration::from_secs(1);

/// How long further addresses are waited for once every listener has one.
const MORE_ADDRESSES: Duration = Duration::from_millis(10);

/// Longest time that closing the connections may take at the end.
const GOODBYE: Duration = Duration::from_millis(250);

/// What the handle asks of the swarm task.
#[derive(Debug)]
pub(crate) enum Command {
    Allow {
        roster: BTreeSet<TransportKey>,
        done: oneshot::Sender<()>,
    },
    Heard {
        key: TransportKey,
    },
    /// A peer said that it is somewhere new.
    HeardElsewhere {
        key: TransportKey,
    },
    HeardUnknown {
        place: Place,
    },
    Join(Ask),
    Disconnect {
        key: TransportKey,
        done: oneshot::Sender<()>,
    },
    /// The topic has changed.
    Subscribe {
        done: oneshot::Sender<()>,
    },
    /// A message that came by gossip was judged.
    Judge {
        id: GossipId,
        from: TransportKey,
        verdict: Verdict,
    },
    /// Addresses of this machine have come or gone.
    Interfaces {
        gone: Vec<IpAddr>,
        came: bool,
    },
    Shutdown,
    #[cfg(test)]
    Panic,
}

/// A dial to be admitted.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) place: Place,
    pub(crate) key: Option<TransportKey>,
    pub(crate) reply: oneshot::Sender<Result<JoinStream, MeshError>>,
}

impl Ask {
    /// Answers that the connection ended before its join stream opened: so it goes where the other side has two of ours
    /// already, and it may be asked again.
    fn connection_ended(self) {
        let address = self.place.to_multiaddr().to_string();
        let reason = "the connection ended".to_owned();
        let _ = self.reply.send(Err(MeshError::Unreachable { address, reason }));
    }
}

/// Why we dial.
#[derive(Debug)]
enum Purpose {
    Peer(TransportKey),
    Unknown(Place),
    Join(Ask),
}

/// Whom a redial is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Whom {
    Peer(TransportKey),
    Unknown(Place),
}

/// What the other end of a connection is to us.
#[derive(Debug)]
enum Role {
    /// A roster peer.
    Member,
    /// Somebody who called and is in no roster of ours.
    Stranger,
    /// Somebody we ask to admit us; the question until it is answered.
    Joining(Option<Ask>),
}

/// An established connection.
struct Connection {
    key: TransportKey,
    peer: PeerId,
    outgoing: bool,
    place: Place,
    point: ConnectedPoint,
    /// Which of our addresses it runs over.
    local: Option<IpAddr>,
    found_by: FoundBy,
    role: Role,
    progress: Arc<Progress>,
    sync: Option<links::Sync>,
    /// Since its link is up.
    gossip: Option<gossip::Neighbour>,
    join_open: bool,
}

/// What a stream tells the swarm task.
#[derive(Debug, Clone, Copy)]
enum Note {
    /// The first frame came.
    Ready(ConnectionId),
    /// A join stream is gone.
    JoinEnded(ConnectionId),
}

/// Admission comes first, so that nothing else sees a connection it refuses.
#[derive(NetworkBehaviour)]
#[behaviour(prelude = "libp2p::swarm::derive_prelude")]
pub(crate) struct Behaviour {
    admission: Admission,
    gossip: Gossip,
    mdns: Toggle<mdns::tokio::Behaviour>,
}

/// What a swarm is built from; kept to build another after a fault.
pub(crate) struct Plan {
    pub(crate) keypair: Keypair,
    pub(crate) listen: Listen,
    pub(crate) mdns: bool,
    pub(crate) shared: Arc<Shared>,
}

/// Where commands come from; the next driver takes it over when one fails.
pub(crate) type Commands = OwnedMutexGuard<mpsc::Receiver<Command>>;

/// Where messages for gossip come from, likewise.
pub(crate) type Publications = OwnedMutexGuard<FrameReceiver>;

/// The swarm and everything that belongs to its connections.
pub(crate) struct Driver {
    swarm: Swarm<Behaviour>,
    shared: Arc<Shared>,
    commands: Commands,
    publications: Publications,
    events: mpsc::Sender<MeshEvent>,
    outbox: Outbox,
    note: mpsc::Sender<Note>,
    notes: mpsc::Receiver<Note>,
    tasks: JoinSet<DownReason>,
    task_of: HashMap<Id, ConnectionId>,
    connections: HashMap<ConnectionId, Connection>,
    /// The one connection per peer that stands for the link.
    standing: BTreeMap<TransportKey, ConnectionId>,
    dials: HashMap<ConnectionId, Purpose>,
    redials: BTreeMap<Whom, Redial>,
    budget: Budget,
    /// When the budget of dials allows another.
    spent_until: Option<Instant>,
    reported: Reported,
    last_look: (Instant, SystemTime),
    gossip_room: GossipRoom,
    /// Neighbours that did not gossip with us, of the roster.
    deaf: BTreeMap<TransportKey, Deafness>,
}

impl Driver {
    /// Builds a swarm and begins to listen.
    pub(crate) async fn start(
        plan: &Plan,
        commands: Commands,
        publications: Publications,
        events: mpsc::Sender<MeshEvent>,
    ) -> Result<Self, MeshError> {
        let shared = Arc::clone(&plan.shared);
        let peer = plan.keypair.public().to_peer_id();
        let mdns = plan.mdns.then(|| {
            let config = mdns::Config { query_interval: MDNS_QUERY, ..mdns::Config::default() };
            mdns::tokio::Behaviour::new(config, peer)
        });
        let mdns = match mdns.transpose() {
            Ok(mdns) => mdns,
            Err(error) => {
                tracing::warn!(%error, "mDNS is not available here");
                None
            }
        };
        let admission = Admission::new(Arc::clone(&shared));
        let config = swarm::Config::with_tokio_executor()
            .with_idle_connection_timeout(IDLE)
            .with_max_negotiating_inbound_streams(NEGOTIATING)
            .with_smart_dial();
        let transport = transport::build(&plan.keypair, shared.private_only)?;
        let gossip = Gossip::new(Arc::clone(&shared))?;
        let behaviour = Behaviour { admission, gossip, mdns: mdns.into() };
        let mut swarm = Swarm::new(transport, behaviour, peer, config);
        let (moved_port, listeners) = listen::listen(&mut swarm, &plan.listen)?;
        shared.listening().moved_port = moved_port;

        let (note, notes) = mpsc::channel(NOTES);
        let now = Instant::now();
        let mut driver = Self {
            swarm,
            shared,
            commands,
            publications,
            events,
            outbox: Outbox::default(),
            note,
            notes,
            tasks: JoinSet::new(),
            task_of: HashMap::new(),
            connections: HashMap::new(),
            standing: BTreeMap::new(),
            dials: HashMap::new(),
            redials: BTreeMap::new(),
            budget: Budget::new(now),
            spent_until: None,
            reported: Reported::default(),
            last_look: (now, SystemTime::now()),
            gossip_room: GossipRoom::of(gossip::ROOM),
            deaf: BTreeMap::new(),
        };
        driver.subscribe();
        driver.settle(listeners).await?;
        // Where we listen from the start on is no news to whoever waits for the start.
        driver.outbox = Outbox::default();
        driver.hear_everybody();
        Ok(driver)
    }

    /// Waits until every listener has an address and no more come at once, or for a second.
    async fn settle(&mut self, listeners: usize) -> Result<(), MeshError> {
        let mut settled = Vec::new();
        let end = Instant::now() + FIRST_ADDRESS;
        loop {
            // A listener on every interface reports the first of them, and the others right after.
            let quiet = Instant::now() + MORE_ADDRESSES;
            let until = if settled.len() < listeners { end } else { quiet.min(end) };
            let Ok(event) = timeout_at(until, self.swarm.select_next_some()).await else {
                return Ok(());
            };
            match &event {
                SwarmEvent::NewListenAddr { listener_id, .. } if !settled.contains(listener_id) => {
                    settled.push(*listener_id);
                }
                SwarmEvent::ListenerClosed { addresses, reason: Err(error), .. } => {
                    let address = addresses.first().map(ToString::to_string);
                    let source = std::io::Error::new(error.kind(), error.to_string());
                    let address = address.unwrap_or_else(|| "a port".to_owned());
                    return Err(MeshError::Listen { address, source });
                }
                _ => {}
            }
            self.handle_swarm(event);
        }
    }

    /// Runs until the mesh is shut down or nobody holds it any more.
    pub(crate) async fn run(mut self) {
        let events = self.events.clone();
        loop {
            let deadline = self.next_deadline();
            tokio::select! {
                event = self.swarm.select_next_some() => self.handle_swarm(event),
                command = self.commands.recv() => match command {
                    None | Some(Command::Shutdown) => break,
                    Some(command) => self.handle_command(command),
                },
                Some(data) = self.publications.recv() => self.publish(data),
                Some(note) = self.notes.recv() => match note {
                    Note::Ready(id) => self.link_ready(id),
                    Note::JoinEnded(id) => self.join_ended(id),
                },
                Some(ended) = self.tasks.join_next_with_id() => self.handle_task_end(ended),
                permit = events.reserve(), if !self.outbox.is_empty() => match permit {
                    Ok(permit) => {
                        if let Some(event) = self.outbox.pop() {
                            permit.send(event);
                        }
                    }
                    Err(_) => break,
                },
                () = sleep_until(deadline) => self.look(),
            }
            self.dial_due();
        }
        self.say_goodbye().await;
    }

    /// Closes every connection, so that peers know at once.
    async fn say_goodbye(mut self) {
        let linked: Vec<_> = self.standing.values().copied().collect();
        for id in linked {
            self.end_link(id, DownReason::Shutdown);
        }
        for id in self.connections.keys() {
            self.swarm.close_connection(*id);
        }
        let closing = async {
            while !self.connections.is_empty() {
                if let SwarmEvent::ConnectionClosed { connection_id, .. } =
                    self.swarm.select_next_some().await
                {
                    self.connections.remove(&connection_id);
                }
            }
        };
        let _ = tokio::time::timeout(GOODBYE, closing).await;
        // Whoever still listens hears what happened; nobody is waited for.
        while let Some(event) = self.outbox.pop() {
            if self.events.try_send(event).is_err() {
                break;
            }
        }
    }

    fn handle_command(&mut self, command: Command) {
        match command {
            Command::Allow { roster, done } => {
                self.replace_roster(roster);
                let _ = done.send(());
            }
            Command::Heard { key } => self.hear(key),
            Command::HeardElsewhere { key } => self.hear_elsewhere(key),
            Command::HeardUnknown { place } => self.hear_unknown(place),
            Command::Join(ask) => self.dial_join(ask),
            Command::Disconnect { key, done } => {
                let ids = self.connections.iter().filter(|(_, connection)| connection.key == key);
                let ids: Vec<_> = ids.map(|(id, _)| *id).collect();
                for id in ids {
                    self.end_link(id, DownReason::Asked);
                    self.swarm.close_connection(id);
                }
                let _ = done.send(());
            }
            Command::Subscribe { done } => {
                self.subscribe();
                let _ = done.send(());
            }
            Command::Judge { id, from, verdict } => self.judge(&id, &from, verdict),
            Command::Interfaces { gone, came } => {
                for ip in gone {
                    self.interface_gone(ip);
                }
                if came {
                    self.hear_everybody();
                }
            }
            Command::Shutdown => {}
            #[cfg(test)]
            Command::Panic => panic!("asked to"),
        }
    }

    fn handle_swarm(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::Behaviour(BehaviourEvent::Admission(Streamed { connection, what })) => {
                self.handle_stream(connection, what);
            }
            SwarmEvent::Behaviour(BehaviourEvent::Gossip(event)) => self.handle_gossip(event),
            SwarmEvent::Behaviour(BehaviourEvent::Mdns(event)) => self.handle_mdns(event),
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, .. } => {
                self.handle_established(connection_id, peer_id, &endpoint);
            }
            SwarmEvent::ConnectionClosed { connection_id, .. } => {
                self.handle_closed(connection_id);
            }
            SwarmEvent::OutgoingConnectionError { connection_id, error, .. } => {
                self.handle_dial_error(connection_id, &error);
            }
            SwarmEvent::IncomingConnectionError { send_back_addr, error, .. } => {
                // Detail stays in our log; the other side learns nothing.
                tracing::debug!(from = %send_back_addr, %error, "refused a connection");
                if !matches!(error, ListenError::Denied { .. }) {
                    self.shared.counts.inbound_failed.add();
                }
            }
            SwarmEvent::NewListenAddr { address, .. } if self.reported.add(&address) => {
                self.addresses_changed();
                // A new interface: whoever was out of reach may be within it.
                self.hear_everybody();
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => {
                if let Some(ip) = self.reported.remove(&address) {
                    self.interface_gone(ip);
                }
                self.addresses_changed();
            }
            SwarmEvent::ListenerError { error, .. } => {
                tracing::debug!(%error, "a listener reports an error");
            }
            SwarmEvent::ListenerClosed { reason: Err(error), addresses, .. } => {
                tracing::warn!(%error, ?addresses, "a listener was closed");
            }
            _ => {}
        }
    }

    fn handle_stream(&mut self, id: ConnectionId, what: Negotiated) {
        match what {
            Negotiated::Inbound(Protocol::Sync, stream) => self.sync_asked(id, stream),
            Negotiated::Outbound(Protocol::Sync, stream) => self.sync_opened(id, stream),
            Negotiated::Refused(Protocol::Sync) => self.sync_refused(id),
            Negotiated::Failed(Protocol::Sync) => {
                self.end_link(id, DownReason::Closed);
                self.swarm.close_connection(id);
            }
            Negotiated::Inbound(Protocol::Join, stream) => self.join_asked(id, stream),
            Negotiated::Outbound(Protocol::Join, stream) => self.join_opened(id, stream),
            Negotiated::Refused(Protocol::Join) | Negotiated::Failed(Protocol::Join) => {
                self.join_refused(id);
            }
        }
    }

    fn handle_established(&mut self, id: ConnectionId, peer: PeerId, endpoint: &ConnectedPoint) {
        let purpose = self.dials.remove(&id);
        let (outgoing, remote, local) = match endpoint {
            ConnectedPoint::Dialer { address, .. } => (true, address, None),
            ConnectedPoint::Listener { local_addr, send_back_addr } => {
                (false, send_back_addr, Place::from_multiaddr(local_addr))
            }
        };
        let local = local.map(|(place, _)| place.socket.ip());
        let key = identity::key_of(&peer);
        let place = Place::from_multiaddr(remote).map(|(place, _)| place);
        let (Some(key), Some(place)) = (key, place) else {
            self.swarm.close_connection(id);
            return;
        };
        let member = self.shared.admits(&key);
        let role = match purpose {
            Some(Purpose::Join(ask)) => Role::Joining(Some(ask)),
            _ if member => Role::Member,
            _ => Role::Stranger,
        };
        if outgoing {
            self.somebody_answered(&role, key, place);
        }
        let found_by = self.shared.book().found_by(&key, place).unwrap_or(FoundBy::Learned);
        let asks = matches!(role, Role::Joining(_));
        let connection = Connection {
            key,
            peer,
            outgoing,
            place,
            point: endpoint.clone(),
            // A listener on every interface does not say which; a dial never does.
            local: local
                .filter(|ip| !ip.is_unspecified())
                .or_else(|| ways::way_to(place.socket))
                .map(|ip| ip.to_canonical()),
            found_by,
            role,
            progress: Arc::new(Progress::new()),
            sync: None,
            gossip: None,
            join_open: false,
        };
        self.connections.insert(id, connection);
        match (outgoing, asks, member) {
            (true, true, _) => self.swarm.behaviour_mut().admission.open(peer, id, Protocol::Join),
            (true, false, true) => self.dial_came_through(id, key),
            (true, false, false) => {
                // We know now who is there; that is all we wanted of a stranger.
                self.swarm.close_connection(id);
            }
            // They opened it, they say what for.
            (false, ..) => {}
        }
    }

    fn handle_closed(&mut self, id: ConnectionId) {
        self.end_link(id, DownReason::Closed);
        let Some(connection) = self.connections.remove(&id) else { return };
        // If joining is what it was for and it worked, the link comes now.
        match connection.role {
            Role::Member => {}
            Role::Stranger => self.hear(connection.key),
            Role::Joining(ask) => {
                if let Some(ask) = ask {
                    ask.connection_ended();
                }
                self.hear_as_caller(connection.key);
            }
        }
    }

    fn addresses_changed(&mut self) {
        let listed = self.reported.listed(&self.shared.key);
        let mut listening = self.shared.listening();
        if listening.addresses != listed {
            listening.addresses.clone_from(&listed);
            self.outbox.push(MeshEvent::Listening(listed));
        }
    }

    /// Looks at the clock and at whoever stands still.
    fn look(&mut self) {
        let (now, wall) = (Instant::now(), SystemTime::now());
        let (last, last_wall) = self.last_look;
        if now.duration_since(last) < TICK {
            return;
        }
        self.last_look = (now, wall);
        let passed = wall.duration_since(last_wall).unwrap_or_default();
        if passed.max(now.duration_since(last)) > SLEPT {
            // The machine has slept, or its clock was set: look for everybody.
            self.hear_everybody();
        }
        self.close_idle_strangers(now);
        self.close_deaf_links(now);
    }

    fn next_deadline(&self) -> Instant {
        let look = self.last_look.0 + TICK;
        match self.next_dial() {
            Some(dial) => look.min(dial),
            None => look,
        }
    }
}
