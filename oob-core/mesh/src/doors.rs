//! Ways in for the fuzzers: parsers of what comes over sockets, without the sockets.

use crate::{address::Target, listen, live};
use bytes::Bytes;
use futures::{AsyncRead, FutureExt};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

/// Reads a text as an address to dial and as one to listen on. Of one to dial returns it in its one form, and where that
/// leads to.
pub fn address(text: &str) -> Option<(String, Vec<String>)> {
    let _listens = listen::is_address(text);
    let target = Target::parse(text).ok()?;
    let places = target.places.iter().map(|place| place.to_multiaddr().to_string()).collect();
    Some((target.normalised, places))
}

/// Splits what a neighbour sends into frames, as it comes in pieces of so many bytes; false if a length among them ends the
/// stream.
pub fn frames(bytes: &[u8], piece: usize) -> (Vec<Bytes>, bool) {
    let from = Pieces { rest: bytes, piece: piece.max(1) };
    let (frames, ended) = live::frames(from).now_or_never().unwrap_or((Vec::new(), Err(())));
    (frames, ended.is_ok())
}

struct Pieces<'a> {
    rest: &'a [u8],
    piece: usize,
}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        into: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let len = self.piece.min(into.len()).min(self.rest.len());
        let (now, rest) = self.rest.split_at(len);
        if let Some(into) = into.get_mut(..len) {
            into.copy_from_slice(now);
        }
        self.rest = rest;
        Poll::Ready(Ok(len))
    }
}
