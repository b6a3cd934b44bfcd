//! What members carry: a head in the clear, a sealed origin, a ciphertext of one of six lengths
//! (docs/protocol.md, section 7).
//!
//! A [`Cover`] is an envelope whose outside has been checked: lengths, version, class. It is made once, before any
//! cryptography; then origins are opened and verified with it.

mod head;
mod origin;

pub use head::{Class, EnvelopeError, HEAD_BYTES, Head, Life, ORIGIN_BYTES, release_of};
pub use origin::{
    Claim, Cover, EnvelopeKeys, Origin, open_origin, seal, signed_bytes, verify_origin,
    verify_origins,
};
