//! Time as a rule sees it: given, never looked up.

/// The moment an input is handled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Milliseconds since 1970 by this device's clock, which may be wrong. Shown, and asked for authority.
    pub wall_ms: u64,
    /// Milliseconds since some fixed moment of this run; never goes back. Asked for everything that is kept or waits.
    pub mono_ms: u64,
}
