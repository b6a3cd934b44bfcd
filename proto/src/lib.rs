//! The words oob devices say to each other: wire types, ids, limits and the exact bytes that are signed.
//!
//! Nothing here does I/O, holds a secret or decides anything. The other crates of the house are built on it:
//!
//! ```text
//! oob-proto   <- you are here
//! oob-crypto  keys, sessions, sealing
//! oob-store   the encrypted store
//! oob-mesh    who is near
//! oob-engine  the rules
//! oob-core    the library
//! oob-daemon  the binary
//! ```
//!
//! The rule to remember: **what is signed or hashed travels as the exact bytes that were signed**. A [`wire::Signed`] holds
//! its payload as bytes; decode them to read, never encode them again to check.
//!
//! ```
//! use oob_proto::{DeviceId, id::IdError};
//!
//! let id = DeviceId::from([7; 32]);
//! let text = id.to_string();
//! assert_eq!(text.parse::<DeviceId>()?, id);
//! # Ok::<(), IdError>(())
//! ```
//!
//! The generated code in `src/generated` is checked in, so that building needs no `protoc`; the test
//! `generated_code_is_current` makes it anew and compares (`OOB_REGENERATE=1` writes it).
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

// layer: words
pub mod id;
pub mod limits;
// layer: bytes
pub mod wire;
// layer: forms
pub mod link;
pub mod signing;

pub use id::{
    AlertId, BundleId, ConversationId, DeviceId, DeviceShort, EnvelopeId, EpochId, Incarnation,
    MemberId, MessageId, OpHash, OrgId, TransportKey,
};
pub use prost::{DecodeError, Message};
