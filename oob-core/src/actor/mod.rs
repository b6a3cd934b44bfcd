//! What runs: one thread for the rules, one task for what the mesh tells, one for gossip, one per link, and the tasks of
//! join streams. All of them end with the node. A task that panics ends alone and is begun again (`failures`); what was given to
//! it is kept (`evidence`). A panic of the rules' thread ends the node: nobody knows what state they left.
//!
//! ```text
//! callers, link readers --(bounded queue)--> rules' thread --> snapshot, events, replies
//!      ^                                          |
//!      |                                          v  frames, straight into the link's bounded queue
//!   MeshEvent::Up                              links
//! ```

mod evidence;
mod failures;
mod gossip;
mod links;
mod reader;
mod rules;
mod shelf;
mod snapshots;
mod tasks;

use crate::error::Error;
use oob_engine::event::Numbered;
use oob_proto::DeviceId;
use std::sync::{Arc, OnceLock};
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) use evidence::{folder as quarantined, marked};
pub(crate) use failures::Failures;
#[cfg(feature = "doors")]
pub use gossip::gossip_door;
#[cfg(test)]
pub(crate) use links::Links;
#[cfg(test)]
pub(crate) use reader::READS;
#[cfg(test)]
pub(crate) use tasks::HEARS;
pub(crate) use tasks::start;

/// Events a reader may be behind before it is overtaken.
pub(crate) const EVENTS: usize = 1_024;

/// What is told to everybody who listens.
#[derive(Debug, Clone)]
pub(crate) enum Live {
    /// In the store too.
    Numbered(Arc<Numbered>),
    /// A device came into reach or left it.
    Peer { device: DeviceId, reachable: bool },
}

/// Ends the node when it is dropped, or when asked.
#[derive(Debug)]
pub(crate) struct Task {
    stop: DropGuard,
    stopped: CancellationToken,
    outcome: Arc<OnceLock<Result<(), Error>>>,
}

impl Task {
    /// Says whether everything has ended.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.is_cancelled()
    }

    /// Waits until everything has ended.
    pub(crate) async fn stopped(&self) {
        self.stopped.cancelled().await;
    }

    /// Ends everything and waits for it.
    pub(crate) async fn shutdown(&self) -> Result<(), Error> {
        self.stop.token().cancel();
        self.stopped.cancelled().await;
        self.outcome.get().cloned().unwrap_or_else(|| Err(Error::closed()))
    }
}
