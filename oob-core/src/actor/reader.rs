//! One link, read: frames are taken in small batches, screened, and given to the rules in their order.

use super::{failures::Failures, links::Links};
use crate::{
    commands::{Commands, Work},
    error::Error,
    screen::{Held, Judged, changes_keys, judge_again, judge_all},
};
use bytes::Bytes;
use oob_engine::{
    Input,
    input::{Arrived, LinkId},
    snapshot::{ScreenKeys, Snapshot},
};
use oob_mesh::{FrameReceiver, Quarantine};
use oob_proto::TransportKey;
use std::{sync::Arc, time::Instant};
use tokio::{sync::watch, time::sleep_until};
use tokio_util::sync::CancellationToken;

/// Frames taken at once: what one commit is worth.
const FRAMES: usize = 64;

/// Bytes after which no further frame is taken into a batch.
const BYTES: usize = 256 * 1024;

/// What the task is called in the log when it fails.
pub(crate) const READS: &str = "the reader of a link";

/// What a reader needs of the node.
pub(crate) struct Reader {
    pub(crate) link: LinkId,
    pub(crate) peer: TransportKey,
    pub(crate) frames: FrameReceiver,
    pub(crate) commands: Commands,
    pub(crate) snapshots: watch::Receiver<Arc<Snapshot>>,
    pub(crate) links: Arc<Links>,
    /// What makes the screening fail.
    pub(crate) quarantine: Quarantine,
    /// Where a failure of this task is counted.
    pub(crate) failures: Failures,
    /// Cancelled when the link is to be closed.
    pub(crate) close: CancellationToken,
}

/// What is held, and under which keys it was judged last.
#[derive(Default)]
struct Early {
    held: Held,
    judged_under: Arc<ScreenKeys>,
    /// Whether something was given to the rules that may change the keys, and is perhaps not committed yet.
    unsettled: bool,
}

impl Early {
    /// Judges what is held again if there are other keys now, and drops what waited too long.
    async fn retry(&mut self, keys: &Arc<ScreenKeys>, quarantine: &Quarantine) -> Vec<Arrived> {
        let mut out = Vec::new();
        // Most snapshots leave the keys alone, and then judging 16 MiB again would give the same.
        if !Arc::ptr_eq(keys, &self.judged_under) {
            self.judged_under = Arc::clone(keys);
            out = self.held.retry(keys, quarantine).await;
        }
        out.extend(self.held.expire(Instant::now()));
        out
    }
}

impl Reader {
    /// Reads the link to its end. Dropping the receiver closes the link, if it is not down already.
    pub(crate) async fn run(mut self) {
        let up = Input::LinkUp { link: self.link, peer: self.peer };
        if self.commands.input(up).await.is_ok() {
            // An error is the end of the rules; there is nobody to tell it to. A panic ends this link alone, and the rules hear
            // of its end as of any other.
            let _ = self.failures.clone().survive(READS, self.read()).await;
        }
        self.links.remove(self.link);
        let _ = self.commands.input(Input::LinkDown { link: self.link }).await;
    }

    async fn read(&mut self) -> Result<(), Error> {
        let mut early = Early::default();
        loop {
            let first = tokio::select! {
                biased;
                () = self.close.cancelled() => return Ok(()),
                frame = self.frames.recv() => match frame {
                    Some(frame) => Some(frame),
                    None => return Ok(()),
                },
                changed = self.snapshots.changed(), if !early.held.is_empty() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    None
                }
                () = late(&early.held) => None,
            };
            match first {
                Some(first) => {
                    #[cfg(test)]
                    self.failures.fail_if_asked(READS);
                    let frames = self.gather(first);
                    self.pass(frames, &mut early).await?;
                }
                None => {
                    let arrived = early.retry(&self.keys(), &self.quarantine).await;
                    self.give(arrived).await?;
                }
            }
        }
    }

    fn gather(&mut self, first: Bytes) -> Vec<Bytes> {
        let mut bytes = first.len();
        let mut frames = vec![first];
        while frames.len() < FRAMES
            && bytes < BYTES
            && let Some(frame) = self.frames.try_recv()
        {
            bytes = bytes.saturating_add(frame.len());
            frames.push(frame);
        }
        frames
    }

    async fn pass(&mut self, frames: Vec<Bytes>, early: &mut Early) -> Result<(), Error> {
        let mut keys = self.keys();
        // What came earlier goes first.
        let mut out = early.retry(&keys, &self.quarantine).await;
        let mut batch = judge_all(frames, &keys, &self.quarantine).await;
        while let Some(judged) = batch.pop_front() {
            match judged {
                Judged::NotYet(_) if early.unsettled => {
                    // What would make it known may have come just before it: let the rules take that first.
                    self.give(std::mem::take(&mut out)).await?;
                    self.commands.barrier().await?;
                    early.unsettled = false;
                    batch.push_front(judged);
                    let before = std::mem::replace(&mut keys, self.keys());
                    if !Arc::ptr_eq(&before, &keys) {
                        out = early.retry(&keys, &self.quarantine).await;
                        batch = judge_again(batch, &keys, &self.quarantine).await;
                    }
                }
                Judged::Now(arrived) => {
                    early.unsettled |= changes_keys(&arrived.frame);
                    out.push(arrived);
                }
                Judged::NotYet(waiting) => {
                    tracing::debug!(link = self.link.0, "holding an envelope of an unknown key");
                    out.extend(early.held.push(waiting, Instant::now()));
                }
            }
        }
        self.give(out).await
    }

    async fn give(&self, frames: Vec<Arrived>) -> Result<(), Error> {
        if frames.is_empty() {
            return Ok(());
        }
        self.commands.put(Work::Input(Input::Frames { link: self.link, frames })).await
    }

    fn keys(&mut self) -> Arc<ScreenKeys> {
        Arc::clone(&self.snapshots.borrow_and_update().screening)
    }
}

/// Waits until the oldest held envelope has waited too long; for ever where nothing is held.
async fn late(held: &Held) {
    match held.deadline() {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::screen::tests::{author, keys, sealed};

    #[tokio::test]
    async fn what_is_held_is_judged_again_under_other_keys_and_under_no_others() {
        let author = author();
        let (before, after) = (keys(&author, false), keys(&author, true));
        let (mut early, quarantine) = (Early::default(), Quarantine::default());
        let frames = (1..=20).map(|seq| sealed(&author, seq)).collect();
        for judged in judge_all(frames, &before, &quarantine).await {
            let Judged::NotYet(waiting) = judged else { panic!("judged without a relay key") };
            early.held.push(waiting, Instant::now());
        }
        // As if these were the keys they were judged under: the answer would be another, so nobody asked.
        early.judged_under = Arc::clone(&after);
        assert!(early.retry(&after, &quarantine).await.is_empty() && !early.held.is_empty());
        assert!(early.retry(&before, &quarantine).await.is_empty() && !early.held.is_empty());
        assert_eq!(early.retry(&after, &quarantine).await.len(), 20);
        assert!(early.held.is_empty());
    }
}
