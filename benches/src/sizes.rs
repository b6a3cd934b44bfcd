//! What is sent and stored while measuring.

/// Bytes of text in each message: a few sentences.
pub const TEXT_BYTES: usize = 256;

/// Bytes that a message of [`TEXT_BYTES`] becomes on the wire and in the store, about: what the limits are measured with.
pub const RECORD_BYTES: usize = 1_500;
