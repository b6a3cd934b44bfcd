//! What an L2 channel carries: `preimage 16 ‖ u16 length ‖ Inner ‖ zeros up to the class` (docs/protocol.md, section 7).

use crate::{
    envelope::{Class, release_of},
    keys::KeyError,
    stored::StoredError,
};
use oob_proto::BundleId;
use rand_core::CryptoRng;
use std::fmt;
use zeroize::Zeroizing;

/// Bytes in front of the inner message: preimage and length.
pub(crate) const PLAIN_HEAD: usize = 16 + 2;

/// Why something could not be sealed into a channel or opened from one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChannelError {
    /// The inner message does not fit the largest class.
    #[error("message of {len} bytes, at most {max} fit an envelope")]
    TooLong {
        /// Its length.
        len: usize,
        /// What fits.
        max: usize,
    },
    /// Not a first flight, or not the only encoding of one.
    #[error("not a first flight")]
    Malformed,
    /// Made for another bundle than these secrets are of.
    #[error("first flight to bundle {found}, these secrets are of {expected}")]
    OtherBundle {
        /// The bundle it was opened with.
        expected: BundleId,
        /// The bundle it names.
        found: BundleId,
    },
    /// Does not open with these keys.
    #[error("the message does not open")]
    Closed,
    /// Opens, but what is inside does not have the form it must have.
    #[error("the opened message has not the form it must have")]
    Form,
    /// This number was opened before, or lies outside the window.
    #[error("message {n} was opened before or is too far ahead")]
    NotWanted {
        /// Its number.
        n: u64,
    },
    /// No number is left.
    #[error("the channel has no numbers left")]
    Spent,
    /// A key in it is none.
    #[error("a key of the first flight is none")]
    Key(#[from] KeyError),
    /// Stored bytes are not a channel.
    #[error("the stored channel cannot be read")]
    Stored(#[from] StoredError),
}

/// What came out of a channel.
#[derive(Clone, PartialEq, Eq)]
pub struct Plain {
    /// The encoded Inner.
    pub inner: Vec<u8>,
    /// What to publish so that nobody carries the envelope any longer. Its [`release_of`] must be the head's `release`.
    pub preimage: [u8; 16],
}

impl fmt::Debug for Plain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Plain({} bytes)", self.inner.len())
    }
}

/// A message on its way: what its envelope's head and ciphertext are made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sealed {
    /// Its number in the channel; none for a first flight.
    pub n: Option<u64>,
    /// By which the addressee finds it.
    pub tag: [u8; 16],
    /// The length of `ct`.
    pub class: Class,
    /// Hash of the preimage inside.
    pub release: [u8; 16],
    /// The ciphertext.
    pub ct: Vec<u8>,
}

/// Builds a plaintext of exactly `len` bytes; `inner` must fit. Returns it with the release.
pub(crate) fn build(
    rng: &mut impl CryptoRng,
    inner: &[u8],
    len: usize,
) -> Result<(Zeroizing<Vec<u8>>, [u8; 16]), ChannelError> {
    let max = len.saturating_sub(PLAIN_HEAD).min(usize::from(u16::MAX));
    let too_long = ChannelError::TooLong { len: inner.len(), max };
    let short = u16::try_from(inner.len()).map_err(|_| too_long.clone())?;
    if inner.len() > max {
        return Err(too_long);
    }
    let mut preimage = [0; 16];
    rng.fill_bytes(&mut preimage);
    let mut plain = Zeroizing::new(Vec::with_capacity(len));
    plain.extend_from_slice(&preimage);
    plain.extend_from_slice(&short.to_be_bytes());
    plain.extend_from_slice(inner);
    plain.resize(len, 0);
    Ok((plain, release_of(&preimage)))
}

/// Reads a plaintext: the length must fit, the rest must be zeros.
pub(crate) fn parse(bytes: &[u8]) -> Result<Plain, ChannelError> {
    let (preimage, rest) = bytes.split_first_chunk::<16>().ok_or(ChannelError::Form)?;
    let (len, rest) = rest.split_first_chunk::<2>().ok_or(ChannelError::Form)?;
    let len = usize::from(u16::from_be_bytes(*len));
    let (inner, zeros) = rest.split_at_checked(len).ok_or(ChannelError::Form)?;
    if zeros.iter().any(|byte| *byte != 0) {
        return Err(ChannelError::Form);
    }
    Ok(Plain { inner: inner.to_vec(), preimage: *preimage })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::StdRng};

    #[test]
    fn what_is_built_reads_back_and_nothing_may_hide_in_the_padding() {
        let (plain, release) = build(&mut StdRng::seed_from_u64(1), b"inner", 64).unwrap();
        assert_eq!(plain.len(), 64);
        assert_eq!(plain[16..23], [b"\0\x05".as_slice(), b"inner"].concat());
        let read = parse(&plain).unwrap();
        assert_eq!(read.inner, b"inner");
        assert_eq!(release_of(&read.preimage), release);
        let mut hidden = plain.to_vec();
        *hidden.last_mut().unwrap() = 1;
        assert_eq!(parse(&hidden), Err(ChannelError::Form));
        let mut longer = plain.to_vec();
        longer[17] = 47;
        assert_eq!(parse(&longer), Err(ChannelError::Form), "one more than there is");
        longer[17] = 46;
        assert!(parse(&longer).is_ok(), "control: exactly what there is");
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let fits = build(&mut StdRng::seed_from_u64(1), &[1; 46], 64).unwrap().0;
        assert_eq!(parse(&fits).unwrap().inner, [1; 46]);
        assert_eq!(
            build(&mut StdRng::seed_from_u64(1), &[1; 47], 64),
            Err(ChannelError::TooLong { len: 47, max: 46 })
        );
    }

    proptest! {
        #[test]
        fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let _ = parse(&bytes);
        }
    }
}
