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

    /// Writes the frame of an envelope that is encoded already.
    pub fn of_envelope(encoded: &[u8]) -> Vec<u8> {
        // Field 10, delimited by its length: what encoding the whole frame gives (checked by a test).
        let mut frame = Vec::with_capacity(encoded.len().saturating_add(6));
        frame.push(10 << 3 | 2);
        let len = u64::try_from(encoded.len()).unwrap_or(u64::MAX);
        prost::encoding::encode_varint(len, &mut frame);
        frame.extend_from_slice(encoded);
        frame
    }

    /// Adds the age of its record to an encoded frame that has none.
    pub fn add_age(frame: &mut Vec<u8>, age_s: u32) {
        if age_s > 0 {
            // Field 15, a varint; fields may come in any order.
            frame.push(15 << 3);
            prost::encoding::encode_varint(u64::from(age_s), frame);
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_written_by_hand_are_those_of_the_encoder() {
        for len in [0, 1, 127, 128, 16_384] {
            let envelope = Envelope { head: vec![1; 36], origin: vec![2; 128], ct: vec![3; len] };
            let by_hand = Frame::of_envelope(&envelope.encode_to_vec());
            let frame = Frame { kind: Some(frame::Kind::Envelope(envelope)), age: 0 };
            assert_eq!(by_hand, frame.encode_to_vec());
            for age in [0, 1, 300, u32::MAX] {
                let mut aged = by_hand.clone();
                Frame::add_age(&mut aged, age);
                assert_eq!(Frame::read(&aged).unwrap(), Frame { age, ..frame.clone() });
            }
        }
    }
}
