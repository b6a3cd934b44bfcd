//! Records that go from device to device: what names one, and what became of one that came.

use oob_proto::{DeviceId, Incarnation};

/// Names a record: its author's device and life, and its number in that life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RecordRef {
    /// Author.
    pub device: DeviceId,
    /// Life of the author's store.
    pub incarnation: Incarnation,
    /// Number.
    pub seq: u64,
}

/// What became of a record that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordTaken {
    /// Verified, stored in this batch, and to be passed on.
    New(RecordRef),
    /// Verified, and nothing in it is needed: it is here, or something later took its place.
    Known(RecordRef),
    /// Not what it says it is, or over a bound; nothing was noted of it.
    Refused,
    /// It cannot be judged yet: its epoch or its author has not been heard of here. Nothing was noted of it.
    NotYet,
}
