//! The generated wire types. Their docs are the comments of `proto/oob/v1/*.proto`.

#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic)]
#[rustfmt::skip]
mod generated {
    include!("generated/oob.v1.rs");
}

pub use generated::*;

use crate::limits;
use prost::Message;

/// Why bytes from outside were not a frame.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// More bytes than any frame may have.
    #[error("frame of {len} bytes, at most {max} are allowed")]
    TooLong {
        /// What came.
        len: usize,
        /// What is allowed.
        max: usize,
    },
    /// Not the encoding of a frame.
    #[error("not a frame")]
    Malformed(#[source] prost::DecodeError),
    /// A frame of a kind this version does not know.
    #[error("frame of an unknown kind")]
    UnknownKind,
}

impl Frame {
    /// Returns a frame of `kind`, of age 0.
    pub fn new(kind: frame::Kind) -> Self {
        Self { kind: Some(kind), age: 0 }
    }

    /// Reads one frame from outside, checking its length before anything is allocated.
    ///
    /// # Errors
    /// Bytes over [`limits::FRAME_BYTES`], not protobuf, or of a kind not known here.
    pub fn read(bytes: &[u8]) -> Result<Self, FrameError> {
        if bytes.len() > limits::FRAME_BYTES {
            return Err(FrameError::TooLong { len: bytes.len(), max: limits::FRAME_BYTES });
        }
        let frame = Self::decode(bytes).map_err(FrameError::Malformed)?;
        if frame.kind.is_none() {
            return Err(FrameError::UnknownKind);
        }
        Ok(frame)
    }
}
