//! A sealed stream: any number of bytes in chunks that open only whole, in their order, and all of them.
//!
//! Each chunk but the last is 64 KiB, the last one as long as is left:
//!
//! ```text
//! XChaCha20-Poly1305(key, nonce = zeros 15 | chunk number u64 BE | 1 if it is the last, AAD) of the chunk
//! ```
//! A key seals one stream only, so the nonces need no chance. A chunk in another place has another number, a stream cut at
//! a chunk ends in one that does not say it is the last, and what is put behind the last makes it one that is not.

use std::io::{self, Read, Write};

use zeroize::Zeroizing;

use crate::keys::Key;
use crate::seal::{open_raw, seal_raw};

/// Bytes of a chunk in the clear: a step a disk likes, and all that a reader holds at a time.
pub(crate) const CHUNK: usize = 64 * 1024;

/// Bytes the seal of a chunk adds.
pub(crate) const TAG: usize = 16;

/// Seals what is written to it.
pub(crate) struct Sealer<W> {
    out: W,
    key: Key,
    aad: [u8; 32],
    number: u64,
    plain: Zeroizing<Vec<u8>>,
}

impl<W: Write> Sealer<W> {
    /// Begins a stream; `key` must never have sealed another.
    pub(crate) fn new(out: W, key: Key, aad: [u8; 32]) -> Self {
        let plain = Zeroizing::new(Vec::with_capacity(CHUNK + TAG));
        Self { out, key, aad, number: 0, plain }
    }

    /// Adds bytes to the stream.
    pub(crate) fn write(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            // A full chunk goes out once it is known that something follows it.
            if self.plain.len() == CHUNK {
                self.seal(false)?;
            }
            let room = CHUNK.saturating_sub(self.plain.len()).min(bytes.len());
            let (now, rest) = bytes.split_at(room);
            self.plain.extend_from_slice(now);
            bytes = rest;
        }
        Ok(())
    }

    /// Ends the stream; without this it never opens.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.seal(true)?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn seal(&mut self, last: bool) -> io::Result<()> {
        seal_raw(&self.key, &nonce(self.number, last), &self.aad, &mut self.plain);
        self.number = self.number.saturating_add(1);
        let written = self.out.write_all(&self.plain);
        self.plain.clear();
        written
    }
}

/// Why a stream did not give what was asked of it.
#[derive(Debug)]
pub(crate) enum StreamError {
    /// A chunk does not open, or the stream ends too early.
    Altered,
    /// The input could not be read.
    Io(io::Error),
}

/// Opens what a [`Sealer`] wrote. Gives nothing of a chunk before the whole chunk is authentic.
pub(crate) struct Opener<R> {
    input: R,
    key: Key,
    aad: [u8; 32],
    number: u64,
    /// First byte of the next chunk, read to see whether there is one.
    ahead: Option<u8>,
    plain: Zeroizing<Vec<u8>>,
    taken: usize,
    ended: bool,
}

impl<R: Read> Opener<R> {
    pub(crate) fn new(input: R, key: Key, aad: [u8; 32]) -> Self {
        let plain = Zeroizing::new(Vec::with_capacity(CHUNK + TAG));
        Self { input, key, aad, number: 0, ahead: None, plain, taken: 0, ended: false }
    }

    /// Fills `to` wholly.
    pub(crate) fn read(&mut self, to: &mut [u8]) -> Result<(), StreamError> {
        let mut filled = 0;
        while let Some(rest) = to.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            let have = self.plain.get(self.taken..).unwrap_or_default();
            if have.is_empty() {
                self.next_chunk()?;
                continue;
            }
            let some = have.len().min(rest.len());
            rest.iter_mut().zip(have).for_each(|(to, from)| *to = *from);
            filled = filled.saturating_add(some);
            self.taken = self.taken.saturating_add(some);
        }
        Ok(())
    }

    /// Says whether all of the stream was read and its last chunk was the last.
    pub(crate) fn is_at_end(&self) -> bool {
        self.ended && self.taken == self.plain.len()
    }

    fn next_chunk(&mut self) -> Result<(), StreamError> {
        if self.ended {
            return Err(StreamError::Altered);
        }
        self.plain.clear();
        self.taken = 0;
        self.plain.extend(self.ahead.take());
        let missing = (CHUNK + TAG).saturating_sub(self.plain.len());
        self.input
            .by_ref()
            .take(u64::try_from(missing).unwrap_or(u64::MAX))
            .read_to_end(&mut self.plain)
            .map_err(StreamError::Io)?;
        if self.plain.len() == CHUNK + TAG {
            let mut next = Vec::new();
            self.input.by_ref().take(1).read_to_end(&mut next).map_err(StreamError::Io)?;
            self.ahead = next.pop();
        }
        let last = self.ahead.is_none();
        let opened = open_raw(&self.key, &nonce(self.number, last), &self.aad, &mut self.plain);
        if opened.is_none() {
            self.plain.clear();
            self.ended = true;
            return Err(StreamError::Altered);
        }
        self.number = self.number.saturating_add(1);
        self.ended = last;
        // Only an empty stream has an empty chunk; asking on would read it for ever.
        if self.plain.is_empty() {
            return Err(StreamError::Altered);
        }
        Ok(())
    }
}

fn nonce(number: u64, last: bool) -> [u8; 24] {
    let mut nonce = [0; 24];
    let (_, tail) = nonce.split_at_mut(15);
    let parts = number.to_be_bytes().into_iter().chain([u8::from(last)]);
    tail.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
    nonce
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed(plain: &[u8]) -> Vec<u8> {
        let mut sealer = Sealer::new(Vec::new(), Zeroizing::new([3; 32]), [4; 32]);
        // In odd pieces: where writes end must not show.
        plain.chunks(7_777).for_each(|piece| sealer.write(piece).unwrap());
        sealer.finish().unwrap()
    }

    fn opened(sealed: &[u8], len: usize) -> Option<Vec<u8>> {
        let mut opener = Opener::new(sealed, Zeroizing::new([3; 32]), [4; 32]);
        let mut out = vec![0; len];
        opener.read(&mut out).ok()?;
        opener.is_at_end().then_some(out)
    }

    fn some(len: usize) -> Vec<u8> {
        (0..len).map(|at| u8::try_from(at % 251).unwrap()).collect()
    }

    #[test]
    fn what_was_sealed_opens_at_every_length_around_a_chunk() {
        for len in [1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 5] {
            let plain = some(len);
            let sealed = sealed(&plain);
            assert_eq!(sealed.len(), len + len.div_ceil(CHUNK) * TAG);
            assert_eq!(opened(&sealed, len).unwrap(), plain, "{len}");
        }
    }

    #[test]
    fn chunks_taken_away_added_or_moved_are_noticed() {
        let plain = some(3 * CHUNK);
        let whole = sealed(&plain);
        let chunk = CHUNK + TAG;
        assert!(opened(&whole, plain.len()).is_some(), "control");
        for keep in 0..3 {
            assert!(opened(&whole[..keep * chunk], keep * CHUNK).is_none() || keep == 0);
            assert!(opened(&whole[..keep * chunk], plain.len()).is_none());
        }
        let swapped = [&whole[chunk..2 * chunk], &whole[..chunk], &whole[2 * chunk..]].concat();
        assert!(opened(&swapped, plain.len()).is_none());
        let doubled = [&whole[..chunk], &whole[..]].concat();
        assert!(opened(&doubled, plain.len() + CHUNK).is_none());
        let longer = [&whole[..], b"x"].concat();
        assert!(opened(&longer, plain.len()).is_none());
        let another = [&whole[..], &whole[..]].concat();
        assert!(opened(&another, plain.len()).is_none());
    }
}
