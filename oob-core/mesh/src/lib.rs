//! Who is near, and opaque frames to and from them.
//!
//! A mesh knows keys and addresses, never people or plaintext. Its owner hands it the set of transport keys it may talk
//! to (the roster), and gets a [`Link`] for each of them that can be reached: two bounded queues of frames, one in, one
//! out. Whoever is not in the roster gets one thing only: a [`JoinStream`], on which to ask for admission, and three
//! seconds to move on it.
//!
//! ```
//! use oob_mesh::{FoundBy, Listen, MeshConfig, MeshEvent, start};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! let config = |seed: u8| MeshConfig {
//!     transport_secret: [seed; 32].into(), // real ones come from a generator
//!     listen: Listen::Explicit(vec!["/ip4/127.0.0.1/tcp/0".into()]),
//!     mdns: false,
//!     beacon: false,
//!     private_only: true,
//! };
//! let (dana, mut danas) = start(config(1)).await?;
//! let (eli, mut elis) = start(config(2)).await?;
//! dana.allow([eli.local_key()].into()).await;
//! eli.allow([dana.local_key()].into()).await;
//! dana.learn(Some(eli.local_key()), &eli.listening()[0], FoundBy::Typed).await?;
//!
//! let Some(MeshEvent::Up(link)) = danas.recv().await else { return Err("no link".into()) };
//! link.sender.try_send("a frame".into())?;
//! let Some(MeshEvent::Up(mut link)) = elis.recv().await else { return Err("no link".into()) };
//! assert_eq!(link.receiver.recv().await.as_deref(), Some(&b"a frame"[..]));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # How the parts fit
//!
//! ```text
//!  owner ──commands──▶ swarm task ──spawns──▶ one task per link: framing, heartbeat
//!    ▲                  │  admission: who may connect, and to what; bounds
//!    └────events────────┤  links:     which connection carries the link to a peer
//!                       │  dialling:  address book, hearings, back-off
//!                       │  joins:     strangers, and us where we are strangers
//!                       │  gossip:    messages over several hops, each after its verdict
//!                       └  surroundings, a task of its own: interfaces, beacons
//! ```
//!
//! The swarm task does no cryptography of ours, no disk and no decoding. If it panics, its links go down, and another
//! takes its place with the same roster and addresses, after a wait that grows; after eight in a row none does, which
//! [`Mesh::health`] tells. What it was given when it panicked is caught and not given to it again ([`Quarantine`]).
//!
//! # What it promises
//!
//! * At most one link per peer: a second [`MeshEvent::Up`] for a key comes only after its [`MeshEvent::Down`].
//! * Frames of one link arrive in order, each once, unless the link goes down. Nothing is repeated on another link.
//! * A peer that falls silent is down within 3 seconds; a peer that was taken out of the roster is cut off before
//!   [`Mesh::allow`] returns.
//! * Nothing that came by gossip goes further before [`Mesh::verdict`] says so.
//! * Every queue has a bound. A full one says [`SendError::Full`]; a receiver that is not read slows its sender down.
//! * With `private_only` nothing is dialled outside loopback, private, link-local and unique local ranges, whoever named it.
//!
//! What it does not promise: that anybody is reached, that a frame taken by a queue arrives, or that a peer is who the
//! organisation thinks it is. Privacy and authorship come from what is inside the frames.
//!
//! Ports hear garbage, scanners and strangers. They are counted ([`Mesh::counters`]) and logged at debug level; peers
//! learn nothing from our errors.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

// layer: keys
mod identity;
// layer: faults
mod quarantine;
mod restarts;
// layer: addresses
mod address;
// layer: settings
mod config;
mod topic;
// layer: streams
mod join;
mod protocol;
mod queue;
// layer: events
mod event;
// layer: the live stream
mod live;
// layer: rules without sockets
mod arbiter;
mod book;
mod deaf;
mod outbox;
mod redial;
// layer: what outlives a swarm
mod shared;
// layer: the network
mod admission;
mod gossip;
mod interfaces;
mod listen;
mod transport;
// layer: the air
mod beacon;
// layer: the swarm task
mod driver;
// layer: beside the swarm task
mod surroundings;
// layer: the handle
mod mesh;
// layer: the fuzzers' ways in
#[cfg(feature = "doors")]
#[doc(hidden)]
pub mod doors;

pub use address::{AddressError, FoundBy, Transport};
pub use beacon::{BEACON_BYTES, BEACON_PORT};
pub use config::{DEFAULT_PORT, Listen, MeshConfig, MeshError, PORTS_TRIED};
pub use event::{
    Counters, DownReason, Gossip, GossipId, Health, KnownAddress, Link, MeshEvent, PeerInfo,
    Verdict,
};
pub use join::{JoinError, JoinStream};
pub use mesh::{Mesh, start};
pub use quarantine::{Caught, CaughtId, Quarantine, Source};
pub use queue::{
    FrameReceiver, FrameSender, GOSSIP_BYTES, RECEIVE_BYTES, RECEIVE_FRAMES, SEND_BYTES,
    SEND_FRAMES, SendError,
};
pub use restarts::Restarts;
pub use topic::Topic;
