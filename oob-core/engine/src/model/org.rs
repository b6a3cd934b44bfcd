//! People, their devices and what they may do.

use super::Name;
use oob_crypto::{DhPublic, PublicKey};
use oob_proto::{DeviceId, MemberId, TransportKey};
use std::fmt;

/// What a member may do; the code is the bit in the roster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// The ordinary full member.
    Responder,
    /// May alert.
    Alerter,
    /// May open reviews.
    Reviewer,
    /// Signs the log.
    Admin,
    /// Receives alerts only.
    Recipient,
    /// A program.
    Machine,
    /// Somebody from outside, for some channels.
    Guest,
}

impl Role {
    /// All of them, by code.
    pub const ALL: [Self; 7] = [
        Self::Responder,
        Self::Alerter,
        Self::Reviewer,
        Self::Admin,
        Self::Recipient,
        Self::Machine,
        Self::Guest,
    ];

    /// Returns the number on the wire.
    pub const fn code(self) -> u32 {
        match self {
            Self::Responder => 0,
            Self::Alerter => 1,
            Self::Reviewer => 2,
            Self::Admin => 3,
            Self::Recipient => 4,
            Self::Machine => 5,
            Self::Guest => 6,
        }
    }

    /// Reads the number on the wire.
    pub fn from_code(code: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.code() == code)
    }

    /// Returns the word people use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Responder => "responder",
            Self::Alerter => "alerter",
            Self::Reviewer => "reviewer",
            Self::Admin => "admin",
            Self::Recipient => "recipient",
            Self::Machine => "machine",
            Self::Guest => "guest",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Role {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(())
    }
}

/// How much a device is its owner's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum DeviceClass {
    /// Nobody said.
    #[default]
    Unknown,
    /// Kept for emergencies, shares nothing with the organisation's network.
    Clean,
    /// Somebody's own.
    Personal,
    /// Under the organisation's management, and so under its attacker's.
    Managed,
    /// Runs from removable media.
    Portable,
}

impl DeviceClass {
    /// All of them, by code.
    pub const ALL: [Self; 5] =
        [Self::Unknown, Self::Clean, Self::Personal, Self::Managed, Self::Portable];

    /// Returns the number on the wire.
    pub const fn code(self) -> u32 {
        match self {
            Self::Unknown => 0,
            Self::Clean => 1,
            Self::Personal => 2,
            Self::Managed => 3,
            Self::Portable => 4,
        }
    }

    /// Reads the number on the wire; a class not known here is unknown.
    pub fn from_code(code: u32) -> Self {
        Self::ALL.into_iter().find(|class| class.code() == code).unwrap_or_default()
    }

    /// Returns the word people use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Clean => "clean",
            Self::Personal => "personal",
            Self::Managed => "managed",
            Self::Portable => "portable",
        }
    }
}

impl fmt::Display for DeviceClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for DeviceClass {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|class| class.as_str() == text).ok_or(())
    }
}

/// A person of the organisation.
#[derive(Debug, Clone)]
pub struct Member {
    /// Who.
    pub id: MemberId,
    /// The key that certifies their devices.
    pub uik: PublicKey,
    /// As the organisation's log says it.
    pub name: Name,
    /// What they may do, ascending.
    pub roles: Vec<Role>,
    /// Their devices, ascending.
    pub devices: Vec<DeviceId>,
}

/// A device of a member.
#[derive(Debug, Clone)]
pub struct Device {
    /// Which.
    pub id: DeviceId,
    /// Whose.
    pub member: MemberId,
    /// Signs certificates, bundles and alerts.
    pub dsk: PublicKey,
    /// Static key of Noise handshakes.
    pub dnk: DhPublic,
    /// Identity key of its Olm account.
    pub olm_id: [u8; 32],
    /// Its libp2p identity.
    pub transport: TransportKey,
    /// How much it is its owner's own.
    pub class: DeviceClass,
    /// Where it stands, empty if nobody said.
    pub site: String,
}
