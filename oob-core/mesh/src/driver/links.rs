//! Which connection carries the link to a peer, and its coming up and going down.

use libp2p::{Stream, swarm::ConnectionId};
use oob_proto::TransportKey;
use std::{collections::BTreeSet, future, sync::Arc};
use tokio::{
    sync::oneshot,
    task::{AbortHandle, Id, JoinError},
    time::Instant,
};

use super::{Connection, Driver, Note, Role, dialling::jitter};
use crate::{
    address::Transport,
    arbiter::{self, Stage, Standing, Verdict},
    event::{DownReason, Link, MeshEvent},
    join::Progress,
    live::{self, Ends},
    protocol::Protocol,
    queue::{self, FrameReceiver, FrameSender},
    shared::Live,
};

/// The sync stream of a connection, from the asking on.
pub(super) struct Sync {
    stage: Stage,
    since: Instant,
    heard: Arc<Progress>,
    task: Option<AbortHandle>,
    /// The ends for the owner of the mesh, until the link is up.
    ends: Option<(FrameSender, FrameReceiver)>,
}

impl Sync {
    fn new(stage: Stage) -> Self {
        let heard = Arc::new(Progress::new());
        Self { stage, since: Instant::now(), heard, task: None, ends: None }
    }
}

impl Connection {
    fn address(&self) -> String {
        self.place.to_multiaddr().to_string()
    }
}

impl Driver {
    /// A dial to a roster peer came through.
    pub(super) fn dial_came_through(&mut self, id: ConnectionId, key: TransportKey) {
        if self.standing.contains_key(&key) {
            // Another connection was faster. No stream was opened on this one, so the other side does not miss it.
            self.redial(key).succeed();
            self.swarm.close_connection(id);
            return;
        }
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.sync = Some(Sync::new(Stage::Asked));
        let peer = connection.peer;
        self.standing.insert(key, id);
        self.swarm.behaviour_mut().admission.open(peer, id, Protocol::Sync);
    }

    /// The peer opened a sync stream on a connection it dialled.
    pub(super) fn sync_asked(&mut self, id: ConnectionId, stream: Stream) {
        let Some(connection) = self.connections.get(&id) else { return };
        let key = connection.key;
        let fits = !connection.outgoing
            && connection.sync.is_none()
            && matches!(connection.role, Role::Member)
            && self.shared.admits(&key);
        if !fits {
            return;
        }
        let old_id = self.standing.get(&key).copied();
        let old = old_id.and_then(|id| self.connections.get(&id)).and_then(|old| {
            let sync = old.sync.as_ref()?;
            Some(Standing { outgoing: old.outgoing, stage: sync.stage, age: sync.since.elapsed() })
        });
        if arbiter::asked(old, self.shared.key < key) == Verdict::KeepOld {
            self.swarm.close_connection(id);
            return;
        }
        if let Some(old_id) = old_id {
            self.end_link(old_id, DownReason::Replaced);
            self.swarm.close_connection(old_id);
        }
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.sync = Some(Sync::new(Stage::Opening));
            self.standing.insert(key, id);
            self.begin_stream(id, stream);
        }
    }

    /// The stream we asked for is open.
    pub(super) fn sync_opened(&mut self, id: ConnectionId, stream: Stream) {
        let sync = self.connections.get_mut(&id).and_then(|connection| connection.sync.as_mut());
        if let Some(sync) = sync.filter(|sync| sync.stage == Stage::Asked) {
            sync.stage = Stage::Opening;
            self.begin_stream(id, stream);
        }
    }

    /// The peer does not speak the sync protocol with us: we are a stranger to it.
    pub(super) fn sync_refused(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get(&id) else { return };
        let key = connection.key;
        let address = format!("{}/p2p/{}", connection.address(), connection.peer);
        self.end_link(id, DownReason::Closed);
        self.swarm.close_connection(id);
        self.outbox.push(MeshEvent::NotAdmitted { key, address });
    }

    fn begin_stream(&mut self, id: ConnectionId, stream: Stream) {
        let sync = self.connections.get_mut(&id).and_then(|connection| connection.sync.as_mut());
        let Some(sync) = sync else { return };
        let (sender, outgoing) = queue::bounded(queue::SEND_FRAMES, queue::SEND_BYTES);
        let (incoming, receiver) = queue::bounded(queue::RECEIVE_FRAMES, queue::RECEIVE_BYTES);
        let (ready, is_ready) = oneshot::channel();
        let heard = Arc::clone(&sync.heard);
        let quarantine = self.shared.quarantine.clone();
        let ends = Ends { outgoing, incoming, heard, ready, quarantine };
        let note = self.note.clone();
        let task = self.tasks.spawn(async move {
            let announce = async {
                if is_ready.await.is_ok() {
                    let _ = note.send(Note::Ready(id)).await;
                }
                future::pending().await
            };
            tokio::select! {
                reason = live::run(stream, ends) => reason,
                reason = announce => reason,
            }
        });
        self.task_of.insert(task.id(), id);
        sync.task = Some(task);
        sync.ends = Some((sender, receiver));
    }

    /// The first frame came: the stream works both ways.
    pub(super) fn link_ready(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let address = connection.address();
        let (key, outgoing, place) = (connection.key, connection.outgoing, connection.place);
        let found_by = connection.found_by;
        let Some(sync) = connection.sync.as_mut() else { return };
        let Some((sender, receiver)) = sync.ends.take() else { return };
        sync.stage = Stage::Up;
        sync.since = Instant::now();
        let transport = place.transport;
        let heard = Arc::clone(&sync.heard);
        let gossips = false;
        let live = Live { transport, found_by, address: address.clone(), outgoing, heard, gossips };
        self.shared.live().insert(key, live);
        self.redial(key).succeed();
        if !outgoing && transport == Transport::Quic {
            // QUIC calls from the port it listens on, so this is where to call back.
            let roster = self.shared.roster().clone();
            self.shared.book().hear(key, place, found_by, &roster, Instant::now());
        }
        let link = Link { key, outgoing, transport, found_by, address, sender, receiver };
        self.outbox.push(MeshEvent::Up(link));
        self.begin_gossip(id);
    }

    pub(super) fn handle_task_end(&mut self, ended: Result<(Id, DownReason), JoinError>) {
        let (task, reason) = match ended {
            Ok(ended) => ended,
            Err(error) if error.is_panic() => {
                tracing::error!(%error, "the task of a link failed");
                self.shared.counts.faults.add();
                (error.id(), DownReason::Fault)
            }
            // Ended by us.
            Err(error) => (error.id(), DownReason::Asked),
        };
        let Some(id) = self.task_of.remove(&task) else { return };
        let current = self
            .connections
            .get(&id)
            .and_then(|connection| connection.sync.as_ref())
            .and_then(|sync| sync.task.as_ref())
            .is_some_and(|current| current.id() == task);
        if !current {
            return;
        }
        if reason == DownReason::Malformed {
            self.shared.counts.frames_malformed.add();
        }
        self.end_link(id, reason);
        self.swarm.close_connection(id);
    }

    /// Ends the sync stream of a connection, if it has one, and says so if it was the link.
    pub(super) fn end_link(&mut self, id: ConnectionId, reason: DownReason) {
        self.end_gossip(id);
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let Some(sync) = connection.sync.take() else { return };
        let key = connection.key;
        if let Some(task) = sync.task {
            task.abort();
        }
        if self.standing.get(&key) == Some(&id) {
            self.standing.remove(&key);
        }
        let now = Instant::now();
        let up = sync.stage == Stage::Up;
        if up {
            self.shared.live().remove(&key);
            self.outbox.push(MeshEvent::Down { key, reason });
        }
        match reason {
            DownReason::Removed | DownReason::Replaced | DownReason::Shutdown => {}
            _ if up => {
                let lived = now.duration_since(sync.since);
                self.redial(key).lost(lived, now, jitter());
            }
            _ => self.redial(key).fail(now, jitter()),
        }
    }

    /// Takes the new roster: whoever is not in it loses the link now, whoever is new is dialled.
    pub(super) fn replace_roster(&mut self, mut roster: BTreeSet<TransportKey>) {
        roster.remove(&self.shared.key);
        self.deaf.retain(|key, _| roster.contains(key));
        let old = std::mem::replace(&mut *self.shared.roster(), roster.clone());
        let gone = |connection: &Connection| {
            matches!(connection.role, Role::Member) && !roster.contains(&connection.key)
        };
        // Somebody new who is connected as a stranger comes back as a member, unless still being answered.
        let stale = |connection: &Connection| {
            matches!(connection.role, Role::Stranger)
                && roster.contains(&connection.key)
                && !connection.join_open
        };
        let close: Vec<_> = self
            .connections
            .iter()
            .filter(|(_, connection)| gone(connection) || stale(connection))
            .map(|(id, _)| *id)
            .collect();
        for id in close {
            self.end_link(id, DownReason::Removed);
            self.swarm.close_connection(id);
        }
        for key in roster.difference(&old) {
            self.hear(*key);
        }
    }
}
