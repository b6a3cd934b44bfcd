//! What every handle of the API shares: the way to the rules, the newest snapshot, committed history, the mesh.

#[cfg(test)]
use crate::actor::Links;
use crate::{
    actor::{Failures, Live, Task},
    commands::Commands,
    error::Error,
    join::Gate,
};
use oob_engine::{History, snapshot::Snapshot};
use oob_mesh::Mesh;
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::{Semaphore, broadcast};

/// Shared by a node and everything taken from it. When the last one is dropped, the node ends.
pub(crate) struct Handle {
    pub(crate) gate: Gate,
    pub(crate) history: History,
    pub(crate) events: broadcast::Sender<Live>,
    pub(crate) last_event: Arc<AtomicU64>,
    pub(crate) home: PathBuf,
    pub(crate) kdf: Duration,
    pub(crate) ready: Duration,
    pub(crate) failures: Failures,
    #[cfg(test)]
    pub(crate) links: Arc<Links>,
    /// Held while joining: two attempts at once would make two requests.
    pub(crate) joining: Semaphore,
    pub(crate) task: Task,
}

impl Handle {
    /// Returns the way to the rules.
    pub(crate) fn commands(&self) -> &Commands {
        &self.gate.commands
    }

    /// Returns the mesh.
    pub(crate) fn mesh(&self) -> &Mesh {
        &self.gate.mesh
    }

    /// Returns the newest durable state.
    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.gate.snapshots.borrow())
    }

    /// Returns the number of the newest event that readers may have been told.
    pub(crate) fn last_event(&self) -> u64 {
        self.last_event.load(Ordering::Acquire).max(self.snapshot().last_event)
    }

    /// Answers with the reason if the node has stopped.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let fate = self.commands().fate();
        if self.task.is_stopped() || fate.failure().is_some() {
            return Err(fate.error());
        }
        Ok(())
    }
}
