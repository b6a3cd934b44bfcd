//! The two queues of a link: frames to send, frames that came. Both are bounded by count and by bytes.

use bytes::Bytes;
use oob_proto::limits;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

/// Frames that may wait to be sent: what the credit of the other side allows, and 256 that need none (Hello, Have, Credit).
pub const SEND_FRAMES: usize = limits::CREDIT_RECORDS as usize + 256;

/// Bytes that may wait to be sent: what the credit allows, and 1 MiB that needs none.
pub const SEND_BYTES: usize = limits::CREDIT_BYTES as usize + 1024 * 1024;

/// Frames that may wait to be taken; then the stream is read no further, and the other side feels it.
pub const RECEIVE_FRAMES: usize = 256;

/// Bytes that may wait to be taken.
pub const RECEIVE_BYTES: usize = 1024 * 1024;

/// Longest message for gossip: the 32 KiB that gossipsub may send, less what it puts around it.
pub const GOSSIP_BYTES: usize = 32 * 1024 - 512;

/// A frame, and its share of the queue's bytes until somebody takes it.
type Queued = (Bytes, OwnedSemaphorePermit);

/// Why a frame was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The queue holds all it may; the frame was not taken.
    #[error("the queue to this device is full")]
    Full,
    /// The link is down.
    #[error("the link is down")]
    Closed,
    /// No message for gossip may be that long.
    #[error("a message of {len} bytes for gossip, at most {} are allowed", GOSSIP_BYTES)]
    GossipLength {
        /// Its length.
        len: usize,
    },
    /// No beacon may be that long.
    #[error("a beacon of {len} bytes, at most 1200 are allowed")]
    BeaconLength {
        /// Its length.
        len: usize,
    },
    /// No frame may be that long (or empty).
    #[error("a frame of {len} bytes, 1 to {} are allowed", limits::FRAME_BYTES)]
    Length {
        /// Its length.
        len: usize,
    },
}

/// Where frames for a link are put. Cheap to clone.
#[derive(Debug, Clone)]
pub struct FrameSender {
    queue: mpsc::Sender<Queued>,
    room: Arc<Semaphore>,
}

impl FrameSender {
    /// Queues a frame.
    ///
    /// # Errors
    /// A full queue, a link that is down, a frame longer than [`limits::FRAME_BYTES`].
    pub fn try_send(&self, frame: Bytes) -> Result<(), SendError> {
        let len = frame.len();
        if len == 0 || len > limits::FRAME_BYTES {
            return Err(SendError::Length { len });
        }
        if self.queue.is_closed() {
            return Err(SendError::Closed);
        }
        let permits = u32::try_from(len).map_err(|_| SendError::Length { len })?;
        let permit =
            Arc::clone(&self.room).try_acquire_many_owned(permits).map_err(|_| SendError::Full)?;
        self.queue.try_send((frame, permit)).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => SendError::Full,
            mpsc::error::TrySendError::Closed(_) => SendError::Closed,
        })
    }

    /// Waits for room and queues a frame; used by the reader of a link, so that a slow taker slows the stream.
    pub(crate) async fn send(&self, frame: Bytes) -> Result<(), SendError> {
        let len = frame.len();
        let permits = u32::try_from(len).map_err(|_| SendError::Length { len })?;
        let permit = tokio::select! {
            permit = Arc::clone(&self.room).acquire_many_owned(permits) => permit.map_err(|_| SendError::Closed)?,
            () = self.queue.closed() => return Err(SendError::Closed),
        };
        self.queue.send((frame, permit)).await.map_err(|_| SendError::Closed)
    }

    /// Waits until nobody takes frames any more.
    pub(crate) async fn closed(&self) {
        self.queue.closed().await;
    }

    /// Whether the link is down.
    pub fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }
}

/// Where the frames of a link come out, in the order they were sent. Heartbeats never appear here.
#[derive(Debug)]
pub struct FrameReceiver {
    queue: mpsc::Receiver<Queued>,
}

impl FrameReceiver {
    /// Waits for the next frame; `None` once the link is down and everything that came was taken.
    ///
    /// # Cancel safety
    /// Safe: a frame is either returned or still queued.
    pub async fn recv(&mut self) -> Option<Bytes> {
        self.queue.recv().await.map(|(frame, _)| frame)
    }

    /// Returns the next frame if one is there.
    pub fn try_recv(&mut self) -> Option<Bytes> {
        self.queue.try_recv().ok().map(|(frame, _)| frame)
    }
}

/// Makes a queue of these bounds.
pub(crate) fn bounded(frames: usize, bytes: usize) -> (FrameSender, FrameReceiver) {
    let (sender, receiver) = mpsc::channel(frames);
    let room = Arc::new(Semaphore::new(bytes));
    (FrameSender { queue: sender, room }, FrameReceiver { queue: receiver })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_queue_is_full_by_count_and_by_bytes_and_has_room_again_when_taken() {
        let (sender, mut receiver) = bounded(3, 10);
        for _ in 0..3 {
            sender.try_send(Bytes::from_static(b"a")).unwrap();
        }
        assert_eq!(sender.try_send(Bytes::from_static(b"a")), Err(SendError::Full));
        while receiver.try_recv().is_some() {}
        sender.try_send(Bytes::from_static(b"12345678")).unwrap();
        assert_eq!(sender.try_send(Bytes::from_static(b"abc")), Err(SendError::Full));
        assert_eq!(receiver.recv().await.unwrap().len(), 8);
        sender.try_send(Bytes::from_static(b"abc")).unwrap();
    }

    #[tokio::test]
    async fn no_frame_is_empty_or_too_long_and_none_goes_to_a_closed_link() {
        let (sender, receiver) = bounded(3, 1 << 20);
        let long = Bytes::from(vec![0; limits::FRAME_BYTES + 1]);
        assert!(matches!(sender.try_send(long), Err(SendError::Length { .. })));
        assert!(matches!(sender.try_send(Bytes::new()), Err(SendError::Length { len: 0 })));
        drop(receiver);
        assert_eq!(sender.try_send(Bytes::from_static(b"a")), Err(SendError::Closed));
        assert_eq!(sender.send(Bytes::from_static(b"a")).await, Err(SendError::Closed));
    }
}
