//! One join stream under Noise: frames in chunks, each step within its time.

use crate::home;
use oob_crypto::{DhPublic, DhSecret, JOIN_CHUNK_BYTES, JoinChannel, JoinHandshake};
use oob_mesh::JoinStream;
use oob_proto::{
    Message, OrgId,
    wire::{JoinFrame, join_frame::Kind},
};
use std::{future::Future, time::Duration};
use tokio::time::timeout;

/// How long each side waits for the next message of the other: three round trips over the slowest link that carries
/// anything, and short enough that a stranger who says nothing holds no place.
pub(crate) const STEP: Duration = Duration::from_secs(3);

/// How long the joiner waits for the answer to its request: the admitter has to make it durable first.
pub(crate) const ANSWER: Duration = Duration::from_secs(10);

/// How long a whole frame may take behind its first chunk: 16 MiB at 10 Mbit/s. Without this bound a chunk every three
/// seconds would be progress for ever.
const FRAME: Duration = Duration::from_secs(15);

/// Longest message of the handshake; the third has 64 bytes.
const HANDSHAKE_BYTES: usize = 256;

/// The first byte of a chunk.
pub(super) const MORE: u8 = 0;
pub(super) const LAST: u8 = 1;

/// Plain bytes in one chunk, behind its first byte.
pub(super) const CHUNK_BYTES: usize = JOIN_CHUNK_BYTES - 1;

/// Longest chunk on the stream, sealed.
const SEALED_BYTES: usize = JOIN_CHUNK_BYTES + 16;

/// Why a join stream came to nothing. Stays on this side: the other learns nothing of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum LineError {
    #[error("nothing came within {} s", .0.as_secs())]
    Late(Duration),
    #[error("the other side ended the stream")]
    Ended,
    #[error("the stream broke")]
    Broken(#[source] oob_mesh::JoinError),
    #[error(transparent)]
    Noise(#[from] oob_crypto::JoinError),
    #[error("a join frame of more than {max} bytes")]
    TooLong { max: usize },
    #[error("not a join frame")]
    Malformed,
    #[error("a join frame that does not belong here")]
    Unexpected,
    #[error("somebody else answered")]
    Impostor,
    #[error("the node is stopping")]
    Stopping,
}

impl From<oob_mesh::JoinError> for LineError {
    fn from(error: oob_mesh::JoinError) -> Self {
        match error {
            oob_mesh::JoinError::Ended => Self::Ended,
            error => Self::Broken(error),
        }
    }
}

/// What carries messages; the mesh's stream, or a pipe in tests.
pub(crate) trait Pipe: Send {
    fn read(
        &mut self,
        max: usize,
    ) -> impl Future<Output = Result<Vec<u8>, oob_mesh::JoinError>> + Send;
    fn write(
        &mut self,
        message: &[u8],
    ) -> impl Future<Output = Result<(), oob_mesh::JoinError>> + Send;
}

impl Pipe for JoinStream {
    async fn read(&mut self, max: usize) -> Result<Vec<u8>, oob_mesh::JoinError> {
        self.read_message(max).await
    }

    async fn write(&mut self, message: &[u8]) -> Result<(), oob_mesh::JoinError> {
        self.write_message(message).await
    }
}

/// A join stream after its handshake.
pub(crate) struct Line<P> {
    pipe: P,
    channel: JoinChannel,
}

impl<P: Pipe> Line<P> {
    /// Shakes hands as the side that dialled.
    pub(crate) async fn dial(mut pipe: P, org: &OrgId, dnk: &DhSecret) -> Result<Self, LineError> {
        let (second, first) = JoinHandshake::initiator(&mut home::rng(), org, dnk)?;
        write(&mut pipe, &first).await?;
        let message = read(&mut pipe, HANDSHAKE_BYTES, STEP).await?;
        let (channel, third) = second.read(&message)?;
        write(&mut pipe, &third).await?;
        Ok(Self { pipe, channel })
    }

    /// Shakes hands as the side that was dialled.
    pub(crate) async fn answer(
        mut pipe: P,
        org: &OrgId,
        dnk: &DhSecret,
    ) -> Result<Self, LineError> {
        let first = JoinHandshake::responder(&mut home::rng(), org, dnk)?;
        let message = read(&mut pipe, HANDSHAKE_BYTES, STEP).await?;
        let (third, second) = first.read(&message)?;
        write(&mut pipe, &second).await?;
        let message = read(&mut pipe, HANDSHAKE_BYTES, STEP).await?;
        let channel = third.read(&message)?;
        Ok(Self { pipe, channel })
    }

    /// Returns the hash of the handshake, which the request signs.
    pub(crate) fn handshake_hash(&self) -> [u8; 32] {
        *self.channel.handshake_hash()
    }

    /// Returns the Noise key the other side proved.
    pub(crate) fn remote(&self) -> DhPublic {
        *self.channel.remote()
    }

    /// Sends one frame.
    pub(crate) async fn send(&mut self, kind: Kind) -> Result<(), LineError> {
        let bytes = JoinFrame { kind: Some(kind) }.encode_to_vec();
        let mut chunks = bytes.chunks(CHUNK_BYTES).peekable();
        while let Some(chunk) = chunks.next() {
            let flag = if chunks.peek().is_some() { MORE } else { LAST };
            let plain = [&[flag], chunk].concat();
            let sealed = self.channel.seal(&plain)?;
            write(&mut self.pipe, &sealed).await?;
        }
        Ok(())
    }

    /// Receives one frame of at most `max` bytes, whose first chunk must come within `first` and each other within
    /// [`STEP`] of the one before, and all of them within [`FRAME`] of the first.
    pub(crate) async fn receive(&mut self, max: usize, first: Duration) -> Result<Kind, LineError> {
        let sealed = read(&mut self.pipe, SEALED_BYTES, first).await?;
        let frame = timeout(FRAME, self.receive_after(sealed, max)).await;
        frame.map_err(|_| LineError::Late(FRAME))?
    }

    async fn receive_after(&mut self, mut sealed: Vec<u8>, max: usize) -> Result<Kind, LineError> {
        let mut bytes = Vec::new();
        loop {
            let plain = self.channel.open(&sealed)?;
            let (flag, chunk) = plain.split_first().ok_or(LineError::Malformed)?;
            // The sum is the other side's choice, so it is checked before the chunk is kept.
            if bytes.len().saturating_add(chunk.len()) > max {
                return Err(LineError::TooLong { max });
            }
            bytes.extend_from_slice(chunk);
            match (*flag, chunk.len()) {
                (LAST, 1..) => break,
                // Smaller ones would make a frame of any number of them.
                (MORE, CHUNK_BYTES) => {}
                _ => return Err(LineError::Malformed),
            }
            sealed = read(&mut self.pipe, SEALED_BYTES, STEP).await?;
        }
        let frame = JoinFrame::decode(bytes.as_slice()).map_err(|_| LineError::Malformed)?;
        frame.kind.ok_or(LineError::Malformed)
    }

    /// Gives the stream back, to be closed.
    pub(crate) fn into_pipe(self) -> P {
        self.pipe
    }
}

async fn read(pipe: &mut impl Pipe, max: usize, within: Duration) -> Result<Vec<u8>, LineError> {
    let read = timeout(within, pipe.read(max)).await;
    Ok(read.map_err(|_| LineError::Late(within))??)
}

async fn write(pipe: &mut impl Pipe, message: &[u8]) -> Result<(), LineError> {
    let write = timeout(STEP, pipe.write(message)).await;
    Ok(write.map_err(|_| LineError::Late(STEP))??)
}

#[cfg(test)]
mod tests {
    use super::*;
    use oob_proto::{
        limits,
        wire::{JoinProof, JoinShow, Op},
    };
    use tokio::sync::mpsc;

    struct TestPipe {
        to: mpsc::Sender<Vec<u8>>,
        from: mpsc::Receiver<Vec<u8>>,
    }

    impl Pipe for TestPipe {
        async fn read(&mut self, max: usize) -> Result<Vec<u8>, oob_mesh::JoinError> {
            let message = self.from.recv().await.ok_or(oob_mesh::JoinError::Ended)?;
            assert!(message.len() <= max, "{} bytes, {max} allowed", message.len());
            Ok(message)
        }

        async fn write(&mut self, message: &[u8]) -> Result<(), oob_mesh::JoinError> {
            self.to.send(message.to_vec()).await.map_err(|_| oob_mesh::JoinError::Ended)
        }
    }

    fn pipes() -> (TestPipe, TestPipe) {
        let (a, from_a) = mpsc::channel(64);
        let (b, from_b) = mpsc::channel(64);
        (TestPipe { to: a, from: from_b }, TestPipe { to: b, from: from_a })
    }

    fn secret() -> DhSecret {
        DhSecret::generate(&mut rand::rng())
    }

    async fn lines() -> (Line<TestPipe>, Line<TestPipe>) {
        let (a, b) = pipes();
        let org = OrgId::from([5; 32]);
        let (joiner, admitter) = (secret(), secret());
        let (a, b) = tokio::join!(Line::dial(a, &org, &joiner), Line::answer(b, &org, &admitter));
        let (a, b) = (a.unwrap(), b.unwrap());
        assert_eq!((a.remote(), b.remote()), (admitter.public(), joiner.public()));
        assert_eq!(a.handshake_hash(), b.handshake_hash());
        (a, b)
    }

    fn proof(bytes: usize) -> Kind {
        let ops = vec![Op { header: None, body: vec![7; bytes] }];
        Kind::Proof(JoinProof { ops })
    }

    #[tokio::test]
    async fn frames_of_any_length_arrive_whole() {
        let (mut a, mut b) = lines().await;
        for bytes in
            [0, 1, CHUNK_BYTES - 20, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES, 300_000]
        {
            b.send(proof(bytes)).await.unwrap();
            assert_eq!(a.receive(limits::JOIN_BYTES, STEP).await.unwrap(), proof(bytes));
        }
        a.send(Kind::Show(JoinShow::default())).await.unwrap();
        assert!(matches!(b.receive(limits::JOIN_ASK_BYTES, STEP).await, Ok(Kind::Show(_))));
    }

    #[tokio::test]
    async fn a_frame_over_the_bound_is_refused_before_it_is_kept() {
        let (mut a, mut b) = lines().await;
        let sending = tokio::spawn(async move {
            let _ = a.send(proof(limits::JOIN_ASK_BYTES + 1)).await;
            a
        });
        let refused = b.receive(limits::JOIN_ASK_BYTES, STEP).await;
        assert!(matches!(refused, Err(LineError::TooLong { .. })), "{refused:?}");
        sending.await.unwrap();
    }

    #[tokio::test]
    async fn another_organisation_does_not_shake_hands() {
        let (a, b) = pipes();
        let (joiner, admitter) = (secret(), secret());
        let (here, there) = (OrgId::from([5; 32]), OrgId::from([6; 32]));
        let (a, b) =
            tokio::join!(Line::dial(a, &here, &joiner), Line::answer(b, &there, &admitter));
        assert!(a.is_err() && b.is_err());
    }

    #[tokio::test]
    async fn silence_ends_a_stream_in_its_time() {
        let (mut a, b) = lines().await;
        let short = Duration::from_millis(20);
        let late = a.receive(1_000, short).await;
        assert!(matches!(late, Err(LineError::Late(within)) if within == short), "{late:?}");
        drop(b);
        assert!(matches!(a.receive(1_000, STEP).await, Err(LineError::Ended)));
    }

    /// A full chunk now and then is progress, but not for ever.
    #[tokio::test(start_paused = true)]
    async fn a_frame_in_drops_ends_in_its_time() {
        let (mut a, mut b) = lines().await;
        let dripping = async {
            loop {
                let sealed = a.channel.seal(&[&[MORE], &[7; CHUNK_BYTES][..]].concat()).unwrap();
                a.pipe.write(&sealed).await.unwrap();
                tokio::time::sleep(STEP - Duration::from_millis(100)).await;
            }
        };
        let start = tokio::time::Instant::now();
        let late = tokio::select! {
            late = b.receive(limits::JOIN_BYTES, STEP) => late,
            () = dripping => unreachable!(),
        };
        assert!(matches!(late, Err(LineError::Late(FRAME))), "{late:?}");
        assert_eq!(start.elapsed().as_secs(), FRAME.as_secs());
    }

    #[tokio::test]
    async fn altered_empty_and_unknown_chunks_end_a_stream() {
        let (mut a, mut b) = lines().await;
        let almost_full = vec![MORE; CHUNK_BYTES];
        for plain in
            [&[][..], &[LAST], &[2, 1, 1], &[LAST, 0xff, 0xff], &[MORE], &[MORE, 1], &almost_full]
        {
            let sealed = a.channel.seal(plain).unwrap();
            a.pipe.write(&sealed).await.unwrap();
            let refused = b.receive(limits::JOIN_BYTES, STEP).await;
            let begin = plain.iter().take(3);
            assert!(matches!(refused, Err(LineError::Malformed)), "{begin:?} {refused:?}");
        }
        let mut sealed = a.channel.seal(&[LAST, 1]).unwrap();
        sealed[0] ^= 1;
        a.pipe.write(&sealed).await.unwrap();
        assert!(matches!(b.receive(1_000, STEP).await, Err(LineError::Noise(_))));
    }
}
