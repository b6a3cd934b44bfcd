//! The records members carry for one another: each has a number among those of its author's device and life, whatever
//! its kind (docs/protocol.md, section 10).

use oob_proto::{DeviceId, Incarnation};

/// Names one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordRef {
    /// The author's device.
    pub device: DeviceId,
    /// Its life.
    pub incarnation: Incarnation,
    /// Number among its records, from 1.
    pub seq: u64,
}

/// What became of a record that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordTaken {
    /// Verified, stored in this batch, and to be passed on.
    New(RecordRef),
    /// Verified, and nothing in it is needed: it is here, or something later took its place.
    Known(RecordRef),
    /// Not what it says it is; nothing was noted of it.
    Refused,
    /// Over a bound of its author, whoever brings it; nothing was noted of it.
    Full,
    /// It cannot be judged yet: its epoch or its author has not been heard of here. Nothing was noted of it.
    NotYet,
}

/// In which order what a neighbour lacks goes out, behind the log and the epochs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    /// Relay certificates and bundles: without them nothing else is understood.
    Keys,
    /// Alerts, answers to them, and what an author gives up.
    Alerts,
    /// Envelopes.
    Text,
}
