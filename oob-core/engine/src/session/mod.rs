//! Everything that seals to and opens from other devices: L2 channels, Olm sessions, and the own bundles that first
//! flights come to (docs/protocol.md, section 8). One secret record per device, saved once per batch.

mod bundles;
mod open;
mod peer;
mod seal;

pub(crate) use bundles::OwnBundles;
pub(crate) use open::{OpenError, Opened, OpenedBody};
pub(crate) use peer::Peers;
pub(crate) use seal::{SealError, Sealing, What};
