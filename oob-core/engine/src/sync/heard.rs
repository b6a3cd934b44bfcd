//! When somebody was heard by others.

use oob_proto::DeviceId;

/// When a device was heard, and by whom, by this device's clock of running time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HeardOf {
    pub(crate) by: DeviceId,
    /// Whether who heard it says itself that no stream leads to it any more.
    pub(crate) ended: bool,
    /// `Now::mono_ms`; what lies before this run is 0 and a rest.
    mono_ms: u64,
    before_ms: u64,
}

impl HeardOf {
    /// Somebody heard it so long before `now_ms`, and may have said that this has ended.
    pub(crate) fn new(by: DeviceId, ended: bool, ago_ms: u64, now_ms: u64) -> Self {
        let mono_ms = now_ms.saturating_sub(ago_ms);
        Self { by, ended, mono_ms, before_ms: ago_ms.saturating_sub(now_ms) }
    }

    /// How long ago that is.
    pub(crate) fn ago_ms(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.mono_ms).saturating_add(self.before_ms)
    }
}
