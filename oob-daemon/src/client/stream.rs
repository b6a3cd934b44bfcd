//! Reads the daemon's server-sent events.

use super::connection::Connection;
use crate::{failure::Failure, schema::Event};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use std::collections::VecDeque;

/// Longest event read: a text of 8 KiB, escaped to six bytes each, with its ids.
const EVENT_BYTES: usize = 128 * 1024;

/// One event with its number; live-only events have none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Numbered {
    /// Ask for what comes after this one with [`super::Client::events`].
    pub number: Option<u64>,
    /// What happened.
    pub event: Event,
}

/// Events as they happen.
#[derive(Debug)]
pub struct EventStream {
    // Kept because dropping it ends the stream.
    _connection: Connection,
    body: Incoming,
    parser: Parser,
    ready: VecDeque<Numbered>,
}

impl EventStream {
    pub(super) fn new(connection: Connection, body: Incoming) -> Self {
        Self { _connection: connection, body, parser: Parser::default(), ready: VecDeque::new() }
    }

    /// Waits for the next event; none when the daemon stops.
    ///
    /// # Errors
    /// The daemon is gone or says what this version cannot read.
    ///
    /// # Cancel safety
    /// No event is lost when this is dropped.
    pub async fn next(&mut self) -> Result<Option<Numbered>, Failure> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(Some(event));
            }
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            let frame = frame.map_err(|e| {
                Failure::new("not_running", "the daemon went away")
                    .cause(e)
                    .hint("see whether it runs: oob status; start it: oob up")
            })?;
            if let Some(data) = frame.data_ref() {
                self.parser.feed(data, &mut self.ready)?;
            }
        }
    }
}

/// Splits the stream at line ends, collects `id` and `data`, and gives an event at each empty line.
#[derive(Debug, Default)]
struct Parser {
    line: Vec<u8>,
    id: Option<u64>,
    data: Vec<u8>,
}

impl Parser {
    fn feed(&mut self, bytes: &[u8], out: &mut VecDeque<Numbered>) -> Result<(), Failure> {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.line.extend_from_slice(piece);
            if self.line.len().saturating_add(self.data.len()) > EVENT_BYTES {
                return Err(Failure::internal("the daemon sent an event over 128 KiB"));
            }
            if self.line.last() == Some(&b'\n') {
                self.end_of_line(out)?;
                self.line.clear();
            }
        }
        Ok(())
    }

    fn end_of_line(&mut self, out: &mut VecDeque<Numbered>) -> Result<(), Failure> {
        let line = self.line.trim_ascii_end();
        if line.is_empty() {
            if !self.data.is_empty() {
                // Events of a later version are passed over: kinds are only ever added.
                if let Ok(event) = serde_json::from_slice(&self.data) {
                    out.push_back(Numbered { number: self.id.take(), event });
                } else if serde_json::from_slice::<serde_json::Value>(&self.data).is_err() {
                    return Err(Failure::internal("the daemon sent an event that is not JSON"));
                }
            }
            self.id = None;
            self.data.clear();
        } else if let Some(data) = line.strip_prefix(b"data:") {
            self.data.extend_from_slice(data.trim_ascii_start());
        } else if let Some(id) = line.strip_prefix(b"id:") {
            self.id = std::str::from_utf8(id).ok().and_then(|id| id.trim().parse().ok());
        }
        Ok(())
    }
}

/// Reads events that come in pieces of so many bytes; none if the stream is none.
#[cfg(feature = "doors")]
pub(crate) fn door(bytes: &[u8], piece: usize) -> Option<Vec<Numbered>> {
    let (mut parser, mut out) = (Parser::default(), VecDeque::new());
    bytes.chunks(piece).try_for_each(|piece| parser.feed(piece, &mut out)).ok()?;
    Some(out.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_survive_being_cut_anywhere() {
        let text = b"id: 7\ndata: {\"type\":\"lagged\",\"missed\":3}\n\n: keep alive\n\ndata: {\"type\":\"org\",\"org\":\"o\",\"name\":\"n\"}\n\n";
        for cut in 0..text.len() {
            let (mut parser, mut out) = (Parser::default(), VecDeque::new());
            parser.feed(&text[..cut], &mut out).unwrap();
            parser.feed(&text[cut..], &mut out).unwrap();
            assert_eq!(out.len(), 2, "cut at {cut}");
            assert_eq!(out[0], Numbered { number: Some(7), event: Event::Lagged { missed: 3 } });
            assert_eq!(out[1].number, None);
        }
    }

    #[test]
    fn a_later_kind_is_passed_over_and_garbage_is_not() {
        let mut out = VecDeque::new();
        Parser::default().feed(b"data: {\"type\":\"from the future\"}\n\n", &mut out).unwrap();
        assert!(out.is_empty());
        assert!(Parser::default().feed(b"data: <html>\n\n", &mut out).is_err());
        assert!(Parser::default().feed(&vec![b'x'; EVENT_BYTES + 1], &mut out).is_err());
    }
}
