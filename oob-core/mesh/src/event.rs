//! What the mesh tells its owner: links, join streams, peers, addresses, counters.

use oob_proto::TransportKey;
use std::{fmt, time::Instant};

use crate::{
    address::{FoundBy, Transport},
    join::JoinStream,
    queue::{FrameReceiver, FrameSender},
};

/// Something that happened in the mesh.
#[derive(Debug)]
#[non_exhaustive]
pub enum MeshEvent {
    /// A roster peer is there and its sync stream works both ways. One at a time per key: another comes only after [`MeshEvent::Down`].
    Up(Link),
    /// The link to a peer is gone.
    Down {
        /// Whose.
        key: TransportKey,
        /// Why.
        reason: DownReason,
    },
    /// Somebody, from the roster or not, opened a join stream to us.
    Join(JoinStream),
    /// We know this peer, but it treats us as a stranger: it may not have heard of our admission yet.
    NotAdmitted {
        /// Who.
        key: TransportKey,
        /// Where, as a multiaddr with `/p2p/`: what [`crate::Mesh::open_join`] takes.
        address: String,
    },
    /// The addresses we listen on have changed.
    Listening(Vec<String>),
}

/// Why a link went down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DownReason {
    /// The other side, or the network below, closed the connection.
    Closed,
    /// Nothing was heard for 3 seconds.
    Silent,
    /// The peer is not in the roster any more.
    Removed,
    /// [`crate::Mesh::disconnect`] was called.
    Asked,
    /// The peer opened a newer stream: it has lost this one. Usually `Up` follows.
    Replaced,
    /// What came was not a frame: a length of zero or above the limit.
    Malformed,
    /// The interface it ran over has lost its address.
    InterfaceGone,
    /// The receiver of this link was dropped.
    Dropped,
    /// Our own task failed; see the log.
    Fault,
    /// The mesh is shutting down.
    Shutdown,
}

impl fmt::Display for DownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "closed by the other side or the network",
            Self::Silent => "nothing heard for 3 s",
            Self::Removed => "not in the roster any more",
            Self::Asked => "disconnected by us",
            Self::Replaced => "replaced by a newer stream",
            Self::Malformed => "bytes that are no frame",
            Self::InterfaceGone => "the interface lost its address",
            Self::Dropped => "the receiver was dropped",
            Self::Fault => "an own task failed",
            Self::Shutdown => "shutting down",
        })
    }
}

/// A live link to a roster peer.
#[derive(Debug)]
#[non_exhaustive]
pub struct Link {
    /// The key the peer has proved.
    pub key: TransportKey,
    /// Whether we dialled.
    pub outgoing: bool,
    /// What carries it.
    pub transport: Transport,
    /// Which rung of discovery found the peer.
    pub found_by: FoundBy,
    /// Where the peer is, as a multiaddr.
    pub address: String,
    /// Where frames go in.
    pub sender: FrameSender,
    /// Where frames come out. Dropping it closes the link.
    pub receiver: FrameReceiver,
}

/// What is known of a live link.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerInfo {
    /// The key the peer has proved.
    pub key: TransportKey,
    /// What carries the link.
    pub transport: Transport,
    /// Which rung of discovery found the peer.
    pub found_by: FoundBy,
    /// Where the peer is, as a multiaddr.
    pub address: String,
    /// Whether we dialled.
    pub outgoing: bool,
    /// When bytes last came.
    pub last_heard: Instant,
}

/// An address we may dial.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KnownAddress {
    /// Who is said to be there; `None` until somebody has answered at a typed address.
    pub peer: Option<TransportKey>,
    /// Where, as a multiaddr without `/p2p/`.
    pub address: String,
    /// Who told us.
    pub found_by: FoundBy,
}

impl KnownAddress {
    /// Returns the multiaddr with `/p2p/` if the peer is known: what [`crate::Mesh::open_join`] and an invitation take.
    pub fn to_multiaddr(&self) -> String {
        match self.peer.as_ref().and_then(crate::identity::peer_of) {
            Some(peer) => format!("{}/p2p/{peer}", self.address),
            None => self.address.clone(),
        }
    }
}

/// What was refused or went wrong since the start; nothing of it is shown to peers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Connections from outside that broke before anybody proved a key: scanners and garbage.
    pub inbound_failed: u64,
    /// Connections refused because a bound was reached.
    pub inbound_refused: u64,
    /// Connections of strangers that were let into quarantine.
    pub strangers: u64,
    /// Strangers' connections closed because nothing moved on them.
    pub strangers_expired: u64,
    /// Streams closed because of bytes that are no frame.
    pub frames_malformed: u64,
    /// Dials that were begun.
    pub dials: u64,
    /// Dials nobody answered.
    pub dials_failed: u64,
    /// Addresses heard and not kept: outside the private ranges, or no room.
    pub addresses_refused: u64,
    /// Times an own task failed and was replaced.
    pub faults: u64,
}
