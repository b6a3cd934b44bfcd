//! The join stream: messages between two devices of which one may not be in the roster yet (docs/protocol.md, section 5.2).

use futures::{AsyncReadExt, AsyncWriteExt};
use oob_proto::TransportKey;
use std::{
    fmt, io,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{sync::mpsc, time::Instant};

/// Bytes taken or given at once. Each such step is progress, so a large answer over a slow line is not cut off.
const STEP: usize = 16 * 1024;

/// How long [`JoinStream::close`] waits for the other side to have read everything: a QUIC connection that is closed at
/// once throws away what was not acknowledged yet.
const LINGER: Duration = Duration::from_secs(1);

/// Why a message was not read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// The other side ended the stream between two messages.
    #[error("the other side ended the join stream")]
    Ended,
    /// Longer than the reader allows, or empty.
    #[error("a join message of {len} bytes, 1 to {max} are allowed")]
    Length {
        /// Announced length.
        len: usize,
        /// What is allowed.
        max: usize,
    },
    /// The connection broke, or was closed after 3 seconds without progress.
    #[error("the join stream broke")]
    Broken(#[source] io::Error),
}

/// When something last moved on a stream; shared with the swarm task, which closes what stands still.
#[derive(Debug)]
pub(crate) struct Progress {
    start: Instant,
    millis: AtomicU64,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now(), millis: AtomicU64::new(0) }
    }

    pub(crate) fn touch(&self) {
        let millis = u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.millis.store(millis, Ordering::Relaxed);
    }

    pub(crate) fn last(&self) -> Instant {
        let offset = Duration::from_millis(self.millis.load(Ordering::Relaxed));
        self.start.checked_add(offset).unwrap_or(self.start)
    }
}

/// Tells the swarm task that a join stream is gone.
#[derive(Debug)]
pub(crate) struct Ended<T: Clone + fmt::Debug> {
    pub(crate) tell: mpsc::Sender<T>,
    pub(crate) what: T,
}

impl<T: Clone + fmt::Debug> Drop for Ended<T> {
    fn drop(&mut self) {
        // Full: the tick of the swarm task finds the connection standing still and closes it.
        let _ = self.tell.try_send(self.what.clone());
    }
}

/// A stream on which one side asks the other to be admitted. Carries messages of u32 big-endian length and bytes.
///
/// Deadlines are the caller's, but a stranger's connection is closed after 3 seconds without progress. Dropping the
/// stream closes a stranger's connection at once; [`JoinStream::close`] lets the last message arrive first.
pub struct JoinStream {
    /// The key the other side has proved on this connection.
    pub remote: TransportKey,
    /// Where the other side is, as a multiaddr.
    pub remote_address: String,
    stream: libp2p::Stream,
    progress: Arc<Progress>,
    _ended: Box<dyn fmt::Debug + Send + Sync>,
}

impl fmt::Debug for JoinStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinStream")
            .field("remote", &self.remote)
            .field("remote_address", &self.remote_address)
            .finish_non_exhaustive()
    }
}

impl JoinStream {
    pub(crate) fn new(
        remote: TransportKey,
        remote_address: String,
        stream: libp2p::Stream,
        progress: Arc<Progress>,
        ended: impl fmt::Debug + Send + Sync + 'static,
    ) -> Self {
        progress.touch();
        Self { remote, remote_address, stream, progress, _ended: Box::new(ended) }
    }

    /// Reads one message of at most `max` bytes.
    ///
    /// # Errors
    /// A longer message (nothing is allocated for it), the end of the stream, a broken connection.
    ///
    /// # Cancel safety
    /// Not safe: a message read in part is lost. Drop the stream after a deadline.
    pub async fn read_message(&mut self, max: usize) -> Result<Vec<u8>, JoinError> {
        let mut prefix = [0; 4];
        self.stream.read_exact(&mut prefix).await.map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => JoinError::Ended,
            _ => JoinError::Broken(error),
        })?;
        // The other side chooses this length, so it is checked before anything is allocated.
        let len = usize::try_from(u32::from_be_bytes(prefix)).unwrap_or(usize::MAX);
        if len == 0 || len > max {
            return Err(JoinError::Length { len, max });
        }
        let mut message = Vec::new();
        while message.len() < len {
            let have = message.len();
            message.resize(len.min(have.saturating_add(STEP)), 0);
            let (_, part) = message.split_at_mut(have);
            self.stream.read_exact(part).await.map_err(JoinError::Broken)?;
            self.progress.touch();
        }
        Ok(message)
    }

    /// Writes one message and flushes it.
    ///
    /// # Errors
    /// An empty message or one over 4 GiB, a broken connection.
    ///
    /// # Cancel safety
    /// Not safe: drop the stream after a deadline.
    pub async fn write_message(&mut self, message: &[u8]) -> Result<(), JoinError> {
        let max = u32::MAX as usize;
        let len = u32::try_from(message.len()).ok().filter(|len| *len > 0);
        let len = len.ok_or(JoinError::Length { len: message.len(), max })?;
        self.stream.write_all(&len.to_be_bytes()).await.map_err(JoinError::Broken)?;
        for part in message.chunks(STEP) {
            self.stream.write_all(part).await.map_err(JoinError::Broken)?;
            self.progress.touch();
        }
        self.stream.flush().await.map_err(JoinError::Broken)?;
        self.progress.touch();
        Ok(())
    }

    /// Ends the stream once the other side has read what was written, or after a second.
    pub async fn close(mut self) {
        let linger = async {
            self.stream.close().await?;
            let mut rest = [0; 256];
            while self.stream.read(&mut rest).await? > 0 {}
            io::Result::Ok(())
        };
        let _ = tokio::time::timeout(LINGER, linger).await;
    }
}
