//! Where other devices may be found.

use crate::{error::Error, handle::Handle};
use oob_engine::input::Command;
use oob_mesh::FoundBy;
use oob_proto::DeviceId;
use std::{fmt, sync::Arc};

/// The addresses this node knows, and typing in another.
#[derive(Clone)]
pub struct Addresses {
    handle: Arc<Handle>,
}

/// An address this node may dial.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KnownAddress {
    /// Multiaddr, or `IP:PORT` where the transport is open.
    pub address: String,
    /// Whose it is, once somebody answered there or said so.
    pub device: Option<DeviceId>,
    /// Their person's name.
    pub member_name: Option<String>,
    /// Which rung of discovery found it.
    pub found_by: FoundBy,
}

impl fmt::Debug for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Addresses(..)")
    }
}

impl Addresses {
    pub(crate) fn of(handle: &Arc<Handle>) -> Self {
        Self { handle: Arc::clone(handle) }
    }

    /// Takes `IP:PORT` or a multiaddr, keeps it across restarts, dials it soon, and returns it in one form for all.
    ///
    /// # Errors
    /// A text that is no address, one that the preset forbids, too many addresses.
    ///
    /// # Cancel safety
    /// Safe: the address is dialled or not, kept or not.
    pub async fn add(&self, text: &str) -> Result<String, Error> {
        self.handle.check()?;
        let address = self.handle.mesh().learn(None, text.trim(), FoundBy::Typed).await?;
        self.handle.commands().run(Command::AddAddress { address: address.clone() }).await?;
        Ok(address)
    }

    /// Returns every address this node may dial.
    pub fn list(&self) -> Vec<KnownAddress> {
        let snapshot = self.handle.snapshot();
        self.handle
            .mesh()
            .known()
            .into_iter()
            .map(|known| {
                let device = known.peer.as_ref().and_then(|key| snapshot.roster.by_transport(key));
                KnownAddress {
                    device: device.map(|device| device.id),
                    member_name: device
                        .and_then(|device| snapshot.roster.members.get(&device.member))
                        .map(|member| member.name.to_string()),
                    address: known.address,
                    found_by: known.found_by,
                }
            })
            .collect()
    }
}
