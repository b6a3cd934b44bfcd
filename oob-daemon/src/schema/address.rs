//! Addresses of other nodes.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Asks to keep an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddressAdd {
    /// `HOST:PORT` or a multiaddr.
    pub address: String,
}

/// An address as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Address {
    /// As it is dialled.
    pub address: String,
}

/// Every address known here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Addresses {
    /// Typed ones first.
    pub addresses: Vec<KnownAddress>,
}

/// One address and how it came here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct KnownAddress {
    /// As it is dialled.
    pub address: String,
    /// `mdns`, `beacon`, `typed`, `invite` or `learned`.
    pub found_by: String,
    /// The device found there, once it answered or somebody said so.
    pub device: Option<String>,
    /// Its person's name.
    pub member_name: Option<String>,
}
