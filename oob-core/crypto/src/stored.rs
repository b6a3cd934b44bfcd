//! How secret state becomes bytes for the store: one version byte, then the state.
//!
//! Our own states are written with postcard, which is compact and has no names in it. Those of vodozemac are written as
//! JSON, which is what they are made for: they tag variants inside, which postcard cannot read back, and a field added
//! there later must not make stored sessions unreadable.

use serde::{Serialize, de::DeserializeOwned};
use zeroize::Zeroizing;

/// The version every state is written with.
const VERSION: u8 = 1;

/// Room for the JSON of a session before its buffer has to grow and leave a copy behind: five chains without skipped
/// keys are about 4 kB.
const JSON_ROOM: usize = 16 * 1024;

/// Why stored bytes are not the state they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoredError {
    /// Written by a version not known here.
    #[error("stored state of version {found}, this is version {VERSION}")]
    Version {
        /// What the bytes say.
        found: u8,
    },
    /// No bytes, bytes left over, or not this kind of state.
    #[error("stored state of {len} bytes cannot be read")]
    Malformed {
        /// How many bytes there were.
        len: usize,
    },
}

/// Writes a state of ours.
pub(crate) fn write(state: &impl Serialize) -> Zeroizing<Vec<u8>> {
    // The exact size first, so that no growing buffer leaves half a secret behind.
    let size = postcard::experimental::serialized_size(state).unwrap_or_default();
    let mut bytes = Zeroizing::new(vec![VERSION; size.saturating_add(1)]);
    if let Some((_, body)) = bytes.split_first_mut() {
        #[expect(clippy::expect_used, reason = "sized by the same serializer just before")]
        postcard::to_slice(state, body).expect("sized before");
    }
    bytes
}

/// Reads a state of ours.
pub(crate) fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StoredError> {
    let malformed = StoredError::Malformed { len: bytes.len() };
    match postcard::take_from_bytes(body(bytes)?) {
        Ok((state, [])) => Ok(state),
        _ => Err(malformed),
    }
}

/// Writes a state of vodozemac.
pub(crate) fn write_pickle(pickle: &impl Serialize) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(JSON_ROOM));
    bytes.push(VERSION);
    #[expect(clippy::expect_used, reason = "a Vec takes every write, keys of maps are numbers")]
    serde_json::to_writer(&mut *bytes, pickle).expect("writes to memory");
    Zeroizing::new(bytes.to_vec())
}

/// Reads a state of vodozemac.
pub(crate) fn read_pickle<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, StoredError> {
    serde_json::from_slice(body(bytes)?).map_err(|_| StoredError::Malformed { len: bytes.len() })
}

fn body(bytes: &[u8]) -> Result<&[u8], StoredError> {
    match bytes.split_first() {
        Some((&VERSION, body)) => Ok(body),
        Some((&found, _)) => Err(StoredError::Version { found }),
        None => Err(StoredError::Malformed { len: 0 }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_reads_back_and_other_versions_and_leftovers_are_refused() {
        let bytes = write(&(7u64, vec![1u8, 2, 3]));
        assert_eq!(bytes.as_slice(), [1, 7, 3, 1, 2, 3]);
        assert_eq!(read::<(u64, Vec<u8>)>(&bytes), Ok((7, vec![1, 2, 3])));
        let longer = [bytes.as_slice(), &[0]].concat();
        assert_eq!(
            read::<(u64, Vec<u8>)>(&longer),
            Err(StoredError::Malformed { len: longer.len() })
        );
        assert_eq!(read::<u64>(&[2, 7]), Err(StoredError::Version { found: 2 }));
        assert_eq!(read::<u64>(&[]), Err(StoredError::Malformed { len: 0 }));
        assert_eq!(write_pickle(&vec![1, 2]).as_slice(), b"\x01[1,2]");
        assert_eq!(read_pickle::<Vec<u8>>(b"\x01[1,2]"), Ok(vec![1, 2]));
        assert!(read_pickle::<Vec<u8>>(b"\x01[1,2").is_err());
    }
}
