//! How a node is set up: where it listens, whom it may dial, what a try of the passphrase costs.

use oob_engine::model::DeviceClass;
use oob_mesh::{Listen, MeshConfig};
use oob_store::Kdf;
use zeroize::Zeroizing;

/// How far a node reaches out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Preset {
    /// Dials nothing outside loopback, private, link-local and unique local addresses.
    LanOnly,
    /// As [`Preset::LanOnly`], and also addresses elsewhere that a person typed or that stand in an invitation.
    #[default]
    Normal,
}

/// Everything a node is started with but its folder, name and passphrase.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    pub(crate) preset: Preset,
    /// Multiaddrs; empty means the default port on every interface.
    pub(crate) listen: Vec<String>,
    pub(crate) mdns: bool,
    pub(crate) beacon: bool,
    pub(crate) kdf: Kdf,
    pub(crate) class: DeviceClass,
    pub(crate) site: String,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            preset: Preset::default(),
            listen: Vec::new(),
            mdns: true,
            beacon: true,
            kdf: Kdf::default(),
            class: DeviceClass::Unknown,
            site: String::new(),
        }
    }
}

impl Config {
    /// Returns what the mesh is started with.
    pub(crate) fn mesh(&self, transport_secret: Zeroizing<[u8; 32]>) -> MeshConfig {
        let listen = if self.listen.is_empty() {
            Listen::Default
        } else {
            Listen::Explicit(self.listen.clone())
        };
        MeshConfig {
            transport_secret,
            listen,
            mdns: self.mdns,
            beacon: self.beacon,
            private_only: self.preset == Preset::LanOnly,
        }
    }
}
