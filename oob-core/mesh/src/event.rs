//! What the mesh tells its owner: links, join streams, peers, addresses, counters.

use bytes::Bytes;
use oob_proto::TransportKey;
use std::{fmt, net::SocketAddr, sync::Arc, time::Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

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
    /// Somebody's message came by gossip. It goes no further before [`crate::Mesh::verdict`].
    Gossip(Gossip),
    /// Something came that may be a beacon. Nothing of it is believed yet.
    Beacon {
        /// The bytes, at most [`crate::BEACON_BYTES`].
        data: Bytes,
        /// Where they came from, as the packet says.
        from: SocketAddr,
    },
    /// It is time for a beacon: give one to [`crate::Mesh::send_beacon`].
    BeaconDue,
}

/// Names a message that came by gossip: the first 20 bytes of the BLAKE3 hash of its bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GossipId(pub(crate) [u8; 20]);

impl fmt::Debug for GossipId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GossipId(")?;
        self.0.iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("..)")
    }
}

/// A message that came by gossip. As long as somebody has it, it takes a share of what may wait.
#[derive(Debug)]
#[non_exhaustive]
pub struct Gossip {
    /// Which message.
    pub id: GossipId,
    /// The neighbour that passed it on; who wrote it stands inside.
    pub from: TransportKey,
    /// What.
    pub data: Bytes,
    pub(crate) _room: [OwnedSemaphorePermit; 2],
}

/// Room for gossip that waits for its verdict: of all neighbours and of one.
#[derive(Debug, Clone)]
pub(crate) struct GossipRoom(Arc<Semaphore>);

impl GossipRoom {
    pub(crate) fn of(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new(bytes)))
    }

    pub(crate) fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes).ok()?;
        Arc::clone(&self.0).try_acquire_many_owned(bytes).ok()
    }
}

/// What is to become of a message that came by gossip.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// A member's: it is passed on.
    Accept,
    /// It ends here, and nobody is blamed.
    Ignore,
    /// It ends here, and the neighbour should have known: too many of these, and its link is closed.
    Reject,
}

/// How the network task stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Health {
    /// It runs.
    #[default]
    Well,
    /// It failed and is about to be begun again.
    Restarting,
    /// It failed too often in a row and is left alone: nobody can be reached.
    GivenUp,
}

impl Health {
    /// Returns the word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Well => "well",
            Self::Restarting => "restarting",
            Self::GivenUp => "given_up",
        }
    }
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
    /// It did not say what it gossips about, so it would hear nothing of us.
    Deaf,
    /// Too much of what it passed on was refused.
    Misbehaved,
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
            Self::Deaf => "it does not gossip with us",
            Self::Misbehaved => "too much of what it passed on was refused",
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
    /// Whether it gossips with us: what is published goes to it.
    pub gossips: bool,
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
    /// Messages given to gossip.
    pub gossip_sent: u64,
    /// Messages for gossip that nobody could be given: no neighbour, or every queue full.
    pub gossip_unsent: u64,
    /// Messages that came by gossip.
    pub gossip_received: u64,
    /// Of these, those dropped since too many waited.
    pub gossip_dropped: u64,
    /// Of these, those that were refused as nobody's.
    pub gossip_rejected: u64,
    /// Messages that neighbours were too slow for.
    pub gossip_slow: u64,
    /// Links closed since the other side did not gossip with us.
    pub deaf_links: u64,
    /// Beacons sent, one for each place they were sent to.
    pub beacons_sent: u64,
    /// Beacons of anybody that came.
    pub beacons_heard: u64,
    /// Of these, those dropped: too long, too many, or nobody took them.
    pub beacons_dropped: u64,
}
