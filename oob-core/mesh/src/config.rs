//! What a mesh is started with, and why it could not start.

use std::fmt;

use zeroize::Zeroizing;

/// The port everybody listens on unless told otherwise.
pub const DEFAULT_PORT: u16 = 4801;

/// How far above [`DEFAULT_PORT`] a free port is looked for: more daemons than that on one host is a mistake worth an error.
pub const PORTS_TRIED: u16 = 64;

/// How a mesh is started.
pub struct MeshConfig {
    /// Secret half of this device's transport key (an Ed25519 seed).
    pub transport_secret: Zeroizing<[u8; 32]>,
    /// Where to listen.
    pub listen: Listen,
    /// Whether to announce ourselves by mDNS, and to listen to others. It tells anyone near our transport key.
    pub mdns: bool,
    /// Whether to send beacons on the local networks, and to listen to those of others. They are sealed by whoever gives
    /// them, and nobody who listens on loopback only sends any.
    pub beacon: bool,
    /// Whether to dial nothing outside loopback, private, link-local and unique local ranges.
    pub private_only: bool,
}

impl fmt::Debug for MeshConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { transport_secret: _, listen, mdns, beacon, private_only } = self;
        f.debug_struct("MeshConfig")
            .field("listen", listen)
            .field("mdns", mdns)
            .field("beacon", beacon)
            .field("private_only", private_only)
            .finish_non_exhaustive()
    }
}

/// Where a mesh listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// TCP and UDP port 4801 on every interface; the next free port if it is taken, which [`crate::Mesh::moved_port`] tells.
    Default,
    /// Exactly these multiaddrs; one that is taken is an error.
    Explicit(Vec<String>),
}

/// Why the mesh did not start, or did not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MeshError {
    /// The secret is not an Ed25519 seed.
    #[error("the transport secret is not an Ed25519 seed")]
    Secret,
    /// An address to listen on or to dial that cannot be understood.
    #[error(transparent)]
    Address(#[from] crate::address::AddressError),
    /// Somebody else listens there.
    #[error("{address} is in use by another program")]
    AddressInUse {
        /// Where.
        address: String,
    },
    /// The operating system refused to listen there.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Every port that was tried is taken.
    #[error("ports {first} to {last} are all in use")]
    NoPort {
        /// The first tried.
        first: u16,
        /// The last tried.
        last: u16,
    },
    /// The encryption of a transport could not be set up.
    #[error("a transport could not be set up: {reason}")]
    Transport {
        /// What the transport says.
        reason: String,
    },
    /// Nobody answered there.
    #[error("nobody answered at {address}: {reason}")]
    Unreachable {
        /// Where.
        address: String,
        /// What the transports say.
        reason: String,
    },
    /// Somebody answered who does not speak the join protocol.
    #[error("{address} does not answer to joining")]
    NoJoin {
        /// Where.
        address: String,
    },
    /// The mesh has been shut down.
    #[error("the mesh has been shut down")]
    Stopped,
}
