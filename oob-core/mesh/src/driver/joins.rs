//! Strangers, and us where we are strangers: one join stream, little time, nothing else.

use libp2p::{Stream, swarm::ConnectionId};
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;

use super::{Connection, Driver, Note, Role};
use crate::{
    config::MeshError,
    event::MeshEvent,
    join::{Ended, JoinStream},
};

/// A stranger's connection on which nothing moved for so long is closed.
const STRANGER: Duration = Duration::from_secs(3);

/// A connection we dialled to be admitted may stand still this long: the machine at the other end may be busy, and it is
/// the one that counts the seconds.
const JOINING: Duration = Duration::from_secs(30);

/// Join streams from others at a time; further ones are dropped, and the newcomer tries again.
const JOINS: usize = 32;

impl Driver {
    fn join_stream(&self, id: ConnectionId, connection: &Connection, stream: Stream) -> JoinStream {
        let address = format!("{}/p2p/{}", connection.place.to_multiaddr(), connection.peer);
        let ended = Ended { tell: self.note.clone(), what: Note::JoinEnded(id) };
        JoinStream::new(connection.key, address, stream, Arc::clone(&connection.progress), ended)
    }

    /// Somebody opened a join stream to us.
    pub(super) fn join_asked(&mut self, id: ConnectionId, stream: Stream) {
        let open = self.connections.values().filter(|connection| connection.join_open).count();
        let Some(connection) = self.connections.get(&id) else { return };
        if connection.join_open || open >= JOINS {
            self.shared.counts.inbound_refused.add();
            return;
        }
        let join = self.join_stream(id, connection, stream);
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.join_open = true;
            self.outbox.push(MeshEvent::Join(join));
        }
    }

    /// The join stream we asked for is open.
    pub(super) fn join_opened(&mut self, id: ConnectionId, stream: Stream) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        let Role::Joining(ask) = &mut connection.role else { return };
        let Some(ask) = ask.take() else { return };
        connection.join_open = true;
        if let Some(connection) = self.connections.get(&id) {
            let join = self.join_stream(id, connection, stream);
            // If nobody waits for it any more, the stream is dropped here, and that closes the connection.
            let _ = ask.reply.send(Ok(join));
        }
    }

    pub(super) fn join_refused(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        if let Role::Joining(ask) = &mut connection.role
            && let Some(ask) = ask.take()
        {
            let address = ask.place.to_multiaddr().to_string();
            let _ = ask.reply.send(Err(MeshError::NoJoin { address }));
            self.swarm.close_connection(id);
        }
    }

    pub(super) fn join_ended(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.get_mut(&id) else { return };
        connection.join_open = false;
        if !matches!(connection.role, Role::Member) {
            self.swarm.close_connection(id);
        }
    }

    /// Closes what stands still.
    pub(super) fn close_idle_strangers(&mut self, now: Instant) {
        let mut close = Vec::new();
        for (id, connection) in &self.connections {
            let idle = now.saturating_duration_since(connection.progress.last());
            match &connection.role {
                Role::Member => {}
                Role::Stranger if idle > STRANGER => {
                    self.shared.counts.strangers_expired.add();
                    close.push(*id);
                }
                Role::Joining(Some(ask)) if ask.reply.is_closed() => close.push(*id),
                Role::Joining(_) if idle > JOINING => close.push(*id),
                Role::Stranger | Role::Joining(_) => {}
            }
        }
        for id in close {
            self.swarm.close_connection(id);
        }
    }
}
