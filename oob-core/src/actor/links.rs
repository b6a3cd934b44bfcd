//! The live links: where the rules' thread puts frames.

use bytes::Bytes;
use oob_engine::input::LinkId;
use oob_mesh::{FrameSender, SendError};
use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio_util::sync::CancellationToken;

/// One live link.
#[derive(Debug)]
struct Entry {
    sender: FrameSender,
    /// Ends the link's reader, and with it the link.
    close: CancellationToken,
}

/// Links by id. The lock is held for a look-up and a push into a queue, nothing that waits.
#[derive(Debug, Default)]
pub(crate) struct Links(Mutex<BTreeMap<LinkId, Entry>>);

impl Links {
    /// A panic while the lock was held left the map as it was: nothing in here is done in two steps.
    fn lock(&self) -> MutexGuard<'_, BTreeMap<LinkId, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, link: LinkId, sender: FrameSender, close: CancellationToken) {
        self.lock().insert(link, Entry { sender, close });
    }

    pub(crate) fn remove(&self, link: LinkId) {
        self.lock().remove(&link);
    }

    /// Queues a frame. A link that takes no more is closed: what it missed is found by comparing when it is back.
    pub(crate) fn send(&self, link: LinkId, frame: Vec<u8>) {
        let mut links = self.lock();
        let Some(entry) = links.get(&link) else { return };
        if let Err(error) = entry.sender.try_send(Bytes::from(frame)) {
            if error != SendError::Closed {
                tracing::debug!(link = link.0, %error, "closing a link that takes no more");
            }
            entry.close.cancel();
            links.remove(&link);
        }
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Ends a link.
    pub(crate) fn close(&self, link: LinkId) {
        if let Some(entry) = self.lock().remove(&link) {
            entry.close.cancel();
        }
    }
}
