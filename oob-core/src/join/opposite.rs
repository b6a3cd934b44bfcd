//! The other end of a join stream, played by a fuzzer: it shakes hands as it must, or not, and then says anything.

use super::line::{CHUNK_BYTES, LAST, Line, LineError, MORE, Pipe};
use oob_crypto::{AwaitSecond, AwaitThird, DhSecret, JoinChannel, JoinHandshake};
use oob_mesh::JoinError;
use oob_proto::{OrgId, wire::join_frame::Kind};
use std::{collections::VecDeque, time::Duration};

/// Nothing here waits: what is not there will never be.
const AT_ONCE: Duration = Duration::from_secs(60);

enum Hand {
    Dials(Option<AwaitSecond>),
    Answers(Option<AwaitThird>),
    Shaken(Box<JoinChannel>),
    Junk,
}

struct Opposite<'a> {
    hand: Hand,
    ready: VecDeque<Vec<u8>>,
    script: &'a [u8],
}

impl Opposite<'_> {
    /// The next of the script: `kind u8, u16 length, bytes`.
    fn next(&mut self) -> Option<Vec<u8>> {
        let ([kind, len @ ..], rest) = self.script.split_first_chunk::<3>()?;
        let len = usize::from(u16::from_be_bytes(*len)).min(rest.len());
        let (bytes, rest) = rest.split_at(len);
        self.script = rest;
        let Hand::Shaken(channel) = &mut self.hand else { return Some(bytes.to_vec()) };
        let plain = match kind % 4 {
            0 => bytes.to_vec(),
            1 => [[LAST].as_slice(), bytes].concat(),
            2 => [vec![MORE], vec![bytes.first().copied().unwrap_or(0); CHUNK_BYTES]].concat(),
            _ => return Some(bytes.to_vec()),
        };
        channel.seal(&plain).ok()
    }
}

impl Pipe for Opposite<'_> {
    async fn read(&mut self, max: usize) -> Result<Vec<u8>, JoinError> {
        let message = match self.ready.pop_front() {
            Some(message) => message,
            None => self.next().ok_or(JoinError::Ended)?,
        };
        match message.len() {
            0 => Err(JoinError::Length { len: 0, max }),
            len if len > max => Err(JoinError::Length { len, max }),
            _ => Ok(message),
        }
    }

    async fn write(&mut self, message: &[u8]) -> Result<(), JoinError> {
        let shaken = match &mut self.hand {
            Hand::Dials(second) => second.take().and_then(|second| second.read(message).ok()).map(
                |(channel, third)| {
                    self.ready.push_back(third);
                    channel
                },
            ),
            Hand::Answers(third) => match third.take() {
                Some(third) => third.read(message).ok(),
                None => {
                    let (org, dnk) = (org(), DhSecret::from_secret(&[6; 32]));
                    let first = JoinHandshake::responder(&mut rand::rng(), &org, &dnk).ok();
                    let (after, second) =
                        first.and_then(|first| first.read(message).ok()).ok_or(JoinError::Ended)?;
                    self.ready.push_back(second);
                    *third = Some(after);
                    return Ok(());
                }
            },
            Hand::Shaken(_) | Hand::Junk => return Ok(()),
        };
        self.hand = shaken.map_or(Hand::Junk, |channel| Hand::Shaken(Box::new(channel)));
        Ok(())
    }
}

fn org() -> OrgId {
    OrgId::from([9; 32])
}

/// Runs a join stream against a script: `who u8`, then what the other side sends. Bit 0: it dials; bit 1: it shakes no hands.
/// Returns what came of it: every frame, up to `max` bytes each, and whether the script was heard to its end.
pub async fn line_door(script: &[u8], max: usize) -> (Vec<Kind>, bool) {
    let Some((who, script)) = script.split_first() else { return (Vec::new(), false) };
    let (mine, theirs) = (DhSecret::from_secret(&[5; 32]), DhSecret::from_secret(&[6; 32]));
    let (dials, junk) = (who & 1 != 0, who & 2 != 0);
    let mut ready = VecDeque::new();
    let hand = match (junk, dials) {
        (true, _) => Hand::Junk,
        (false, false) => Hand::Answers(None),
        (false, true) => match JoinHandshake::initiator(&mut rand::rng(), &org(), &theirs) {
            Ok((second, first)) => {
                ready.push_back(first);
                Hand::Dials(Some(second))
            }
            Err(_) => return (Vec::new(), false),
        },
    };
    let pipe = Opposite { hand, ready, script };
    let line = match dials {
        true => Line::answer(pipe, &org(), &mine).await,
        false => Line::dial(pipe, &org(), &mine).await,
    };
    let Ok(mut line) = line else { return (Vec::new(), false) };
    let mut frames = Vec::new();
    loop {
        match line.receive(max, AT_ONCE).await {
            Ok(kind) => frames.push(kind),
            Err(LineError::Ended) => return (frames, true),
            Err(_) => return (frames, false),
        }
    }
}
