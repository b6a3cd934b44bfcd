//! One live sync stream: framing, heartbeat, and knowing when the other side is gone (docs/protocol.md, section 10.1). A
//! frame is a u32 big-endian length and that many bytes.

use bytes::Bytes;
use futures::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, io::ReadHalf};
use oob_proto::{
    Message, limits,
    wire::{Frame, Heartbeat, frame},
};
use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{
    sync::oneshot,
    time::{Instant, sleep_until},
};

use crate::{
    event::DownReason,
    join::Progress,
    quarantine::{Quarantine, Source},
    queue::{FrameReceiver, FrameSender, SendError},
};

/// How often something is sent at least.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(1);

/// A stream on which nothing came for so long is dead: three heartbeats.
pub(crate) const SILENCE: Duration = Duration::from_secs(3);

/// Frames waiting to be sent go out together up to so many bytes: beyond that a larger write gains nothing.
const COALESCE: usize = 64 * 1024;

/// Bytes read at once to begin with; grows to one frame when a longer one is announced.
const READ: usize = 16 * 1024;

/// A heartbeat is a tag, a length and a timestamp. Longer frames are not even looked at.
const HEARTBEAT_BYTES: usize = 24;

/// What a stream needs besides the stream.
pub(crate) struct Ends {
    /// Frames to send.
    pub(crate) outgoing: FrameReceiver,
    /// Where frames that came are put.
    pub(crate) incoming: FrameSender,
    /// When bytes last came.
    pub(crate) heard: Arc<Progress>,
    /// Told when the first frame came.
    pub(crate) ready: oneshot::Sender<()>,
    /// Where a frame goes that makes this task fail.
    pub(crate) quarantine: Quarantine,
}

/// Runs a stream until it ends; returns why it did.
pub(crate) async fn run(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ends: Ends,
) -> DownReason {
    let (reader, writer) = stream.split();
    let Ends { outgoing, incoming, heard, ready, quarantine } = ends;
    // Both in one task: whichever ends first takes the other along.
    tokio::select! {
        reason = read(reader, incoming, &heard, ready, &quarantine) => reason,
        reason = write(writer, outgoing) => reason,
    }
}

/// Bytes of a stream on their way to become frames.
struct Buffer {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    fn new() -> Self {
        Self { bytes: vec![0; READ], start: 0, end: 0 }
    }

    /// Takes the next whole frame out. An error is a length no frame may have.
    fn next(&mut self) -> Result<Option<Bytes>, ()> {
        let filled = self.bytes.get(self.start..self.end).unwrap_or_default();
        let Some((prefix, rest)) = filled.split_first_chunk::<4>() else { return Ok(None) };
        // The other side chooses this length, so it is checked before room is made for it.
        let len = usize::try_from(u32::from_be_bytes(*prefix)).unwrap_or(usize::MAX);
        if len == 0 || len > limits::FRAME_BYTES {
            return Err(());
        }
        // A copy: a view would keep the whole buffer alive for the smallest frame somebody holds.
        let Some(frame) = rest.get(..len).map(Bytes::copy_from_slice) else {
            self.reserve(len + 4);
            return Ok(None);
        };
        self.start += len + 4;
        Ok(Some(frame))
    }

    /// Makes room for `whole` bytes from `start` on.
    fn reserve(&mut self, whole: usize) {
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.bytes.len() < whole {
            self.bytes.resize(whole, 0);
        }
    }

    /// Reads once; 0 is the end of the stream.
    async fn fill(&mut self, from: &mut (impl AsyncRead + Unpin)) -> std::io::Result<usize> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.bytes.len() {
            self.reserve(0);
        }
        let room = self.bytes.get_mut(self.end..).unwrap_or_default();
        let read = from.read(room).await?;
        self.end += read;
        Ok(read)
    }
}

/// Takes frames off a stream until it ends; an error is a length no frame may have.
#[cfg(feature = "doors")]
pub(crate) async fn frames(mut from: impl AsyncRead + Unpin) -> (Vec<Bytes>, Result<(), ()>) {
    let (mut buffer, mut frames) = (Buffer::new(), Vec::new());
    loop {
        match buffer.next() {
            Ok(Some(frame)) => frames.push(frame),
            Ok(None) => match buffer.fill(&mut from).await {
                Ok(0) | Err(_) => return (frames, Ok(())),
                Ok(_) => {}
            },
            Err(()) => return (frames, Err(())),
        }
    }
}

async fn read<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: ReadHalf<S>,
    incoming: FrameSender,
    heard: &Progress,
    ready: oneshot::Sender<()>,
    quarantine: &Quarantine,
) -> DownReason {
    let mut ready = Some(ready);
    let mut buffer = Buffer::new();
    let silence = sleep_until(Instant::now() + SILENCE);
    tokio::pin!(silence);
    loop {
        loop {
            let frame = match buffer.next() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(()) => return DownReason::Malformed,
            };
            if let Some(ready) = ready.take() {
                let _ = ready.send(());
            }
            // One that made this task fail before is passed over, as a heartbeat is.
            let heartbeat = quarantine.guard(Source::Frame, &frame, || is_heartbeat(&frame));
            if heartbeat.unwrap_or(true) {
                continue;
            }
            // Waits while the taker is behind, and the stream is not read meanwhile.
            match incoming.send(frame).await {
                Ok(()) => {}
                Err(SendError::Length { .. }) => return DownReason::Malformed,
                Err(_) => return DownReason::Dropped,
            }
        }
        // Only time spent waiting for the other side counts as its silence, not time spent waiting for the taker.
        silence.as_mut().reset(Instant::now() + SILENCE);
        let read = tokio::select! {
            biased;
            read = buffer.fill(&mut stream) => read,
            () = &mut silence => return DownReason::Silent,
            () = incoming.closed() => return DownReason::Dropped,
        };
        match read {
            Ok(0) | Err(_) => return DownReason::Closed,
            Ok(_) => heard.touch(),
        }
    }
}

async fn write(mut stream: impl AsyncWrite + Unpin, mut outgoing: FrameReceiver) -> DownReason {
    let mut buffer = Vec::with_capacity(1024);
    // The first heartbeat goes out at once: it tells the other side that the stream works.
    let mut due = Instant::now();
    let mut open = true;
    loop {
        tokio::select! {
            biased;
            frame = outgoing.recv(), if open => match frame {
                Some(frame) => push(&mut buffer, &frame),
                None => open = false,
            },
            () = sleep_until(due) => push(&mut buffer, &heartbeat()),
        }
        while buffer.len() < COALESCE {
            let Some(frame) = outgoing.try_recv() else { break };
            push(&mut buffer, &frame);
        }
        if buffer.is_empty() {
            continue;
        }
        if stream.write_all(&buffer).await.is_err() || stream.flush().await.is_err() {
            return DownReason::Closed;
        }
        buffer.clear();
        due = Instant::now() + HEARTBEAT;
    }
}

fn push(buffer: &mut Vec<u8>, frame: &[u8]) {
    // The queue takes no frame above the limit, so this always fits.
    let Ok(len) = u32::try_from(frame.len()) else { return };
    buffer.extend_from_slice(&len.to_be_bytes());
    buffer.extend_from_slice(frame);
}

fn heartbeat() -> Vec<u8> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let time = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
    Frame::new(frame::Kind::Heartbeat(Heartbeat { time })).encode_to_vec()
}

fn is_heartbeat(frame: &[u8]) -> bool {
    frame.len() <= HEARTBEAT_BYTES
        && Frame::read(frame)
            .is_ok_and(|frame| matches!(frame.kind, Some(frame::Kind::Heartbeat(_))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue;

    #[test]
    fn a_heartbeat_is_known_and_nothing_else_is() {
        assert!(is_heartbeat(&heartbeat()));
        let credit = Frame::new(frame::Kind::Credit(oob_proto::wire::Credit::default()));
        assert!(!is_heartbeat(&credit.encode_to_vec()));
        assert!(!is_heartbeat(b"garbage"));
        assert!(!is_heartbeat(&[0; HEARTBEAT_BYTES + 1]));
    }

    /// Cuts a stream of frames at every place: what comes out is always the same.
    #[tokio::test]
    async fn frames_come_out_whole_however_the_stream_is_cut() {
        let frames: Vec<Vec<u8>> =
            [1, 3, 16_380, 65_536, 2].iter().map(|len| vec![*len as u8; *len]).collect();
        let mut wire = Vec::new();
        frames.iter().for_each(|frame| push(&mut wire, frame));
        for cut in [1, 2, 3, 5, 7, 1_000, 16_384, 65_536, 100_000] {
            let mut buffer = Buffer::new();
            let mut out = Vec::new();
            for mut part in wire.chunks(cut) {
                while !part.is_empty() {
                    buffer.fill(&mut part).await.unwrap();
                    while let Some(frame) = buffer.next().unwrap() {
                        out.push(frame.to_vec());
                    }
                }
            }
            assert_eq!(out, frames, "cut at {cut}");
            assert!(buffer.bytes.len() <= limits::FRAME_BYTES + 4);
        }
    }

    #[tokio::test]
    async fn a_length_no_frame_may_have_is_refused_before_room_is_made() {
        for len in [0, limits::FRAME_BYTES as u32 + 1, u32::MAX] {
            let mut buffer = Buffer::new();
            buffer.fill(&mut &len.to_be_bytes()[..]).await.unwrap();
            assert_eq!(buffer.next(), Err(()));
            assert_eq!(buffer.bytes.len(), READ);
        }
    }

    fn ends() -> (Ends, queue::FrameReceiver, FrameSender) {
        let (sender, outgoing) = queue::bounded(8, 1 << 20);
        let (incoming, receiver) = queue::bounded(8, 1 << 20);
        let (ready, _) = oneshot::channel();
        let (heard, quarantine) = (Arc::new(Progress::new()), Quarantine::default());
        (Ends { outgoing, incoming, heard, ready, quarantine }, receiver, sender)
    }

    /// Two ends of a pipe, as libp2p gives them.
    fn pipe() -> (impl AsyncRead + AsyncWrite + Unpin + Send, tokio::io::DuplexStream) {
        use tokio_util::compat::TokioAsyncReadCompatExt;
        let (a, b) = tokio::io::duplex(1 << 16);
        (a.compat(), b)
    }

    #[tokio::test(start_paused = true)]
    async fn silence_of_three_seconds_ends_a_stream_and_heartbeats_keep_it() {
        let (stream, _other) = pipe();
        let (ends, _receiver, _sender) = ends();
        let start = Instant::now();
        let ended = tokio::time::timeout(Duration::from_secs(60), run(stream, ends)).await;
        assert_eq!(ended, Ok(DownReason::Silent));
        assert_eq!(start.elapsed(), SILENCE);
    }

    #[tokio::test(start_paused = true)]
    async fn two_idle_ends_hear_each_other_every_second() {
        use tokio_util::compat::TokioAsyncReadCompatExt;
        let (a, b) = tokio::io::duplex(1 << 16);
        let (ends_a, _receiver_a, _sender_a) = ends();
        let (ends_b, mut receiver_b, _sender_b) = ends();
        let heard = Arc::clone(&ends_a.heard);
        let start = Instant::now();
        tokio::select! {
            reason = run(a.compat(), ends_a) => panic!("{reason}"),
            reason = run(b.compat(), ends_b) => panic!("{reason}"),
            () = sleep_until(start + Duration::from_secs(60)) => {}
        }
        assert!(heard.last() + HEARTBEAT >= start + Duration::from_secs(60));
        assert_eq!(receiver_b.try_recv(), None, "heartbeats stay inside");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_taker_is_not_the_silence_of_the_peer() {
        use tokio::io::AsyncWriteExt as _;
        let (stream, mut other) = pipe();
        let (ends, mut receiver, _sender) = ends();
        let task = tokio::spawn(run(stream, ends));
        let mut wire = Vec::new();
        (0..20).for_each(|n| push(&mut wire, &[n]));
        other.write_all(&wire).await.unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
        for n in 0..20 {
            assert_eq!(receiver.recv().await.unwrap()[..], [n]);
        }
        let start = Instant::now();
        assert_eq!(task.await.unwrap(), DownReason::Silent);
        assert_eq!(start.elapsed(), SILENCE, "but its silence afterwards is");
    }
}
