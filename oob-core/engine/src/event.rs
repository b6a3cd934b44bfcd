//! What people and programs are told. Events are numbered by the store and can be read again from any number.

use crate::model::{Alert, Message, Receipt};
use oob_proto::{AlertId, DeviceId, MemberId, OrgId};

/// One event and its number; numbers grow by one and never repeat in a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbered {
    /// From 1.
    pub number: u64,
    /// What happened.
    pub event: Event,
}

/// Something that happened and is durable.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A message was stored here, written here or by somebody else.
    Message(Message),
    /// An own message came further.
    Receipt(Receipt),
    /// Somebody joined.
    Joined {
        /// Who.
        member: MemberId,
        /// With which device.
        device: DeviceId,
    },
    /// This device founded or joined an organisation.
    Org {
        /// Which.
        org: OrgId,
    },
    /// An alert was raised, here or by somebody else.
    Alert(Alert),
    /// A person answered an alert, or answers something else than before.
    AlertAcked {
        /// Which alert.
        alert: AlertId,
        /// Who.
        member: MemberId,
        /// The word, none: seen.
        answer: Option<String>,
        /// Milliseconds since 1970, by the clock of the device that answered.
        time_ms: u64,
        /// People who have answered, the author aside.
        acked: u32,
        /// People who were asked: everybody but the author.
        expected: u32,
    },
}
