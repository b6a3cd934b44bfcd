//! Both ends of the join stream (docs/protocol.md, section 5): how a device that nobody knows yet is admitted, and how a
//! member shows itself to another who has not heard of its admission.
//!
//! ```text
//! initiator (joiner, or a member not heard of)      responder (a member)
//!   Noise XX, prologue "oob/1 join\0" + org id, empty payloads, statics are the two Noise keys
//!                                        <- Proof    always first
//!   Request  ->                          <- Answer | Refused
//!   or Show  ->                          <- end of stream | Refused
//! ```
//!
//! The responder cannot tell a joiner from a member it has not heard of, and a joiner that lost the Answer in a crash is
//! in the roster already; so it sends Proof in every case, and the initiator's first frame says what it came for. Who
//! shows itself knows the responder from its own roster: the Noise key must be that device's, and the Proof is passed
//! over.
//!
//! A frame travels in chunks, each one Noise message: a byte (1 for the last chunk) and at most 65,518 bytes; all but the
//! last are full. A stranger may send 256 KiB in all before it is admitted, and has 15 seconds for it; whoever chose to
//! dial reads up to 16 MiB. A join stream lives for 30 seconds.

mod admit;
mod ask;
mod line;
#[cfg(feature = "doors")]
mod opposite;
mod show;

use crate::commands::Commands;
use oob_engine::{LocalKeys, snapshot::Snapshot};
use oob_mesh::Mesh;
use oob_proto::OrgId;
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;

pub(crate) use admit::answer;
pub(crate) use ask::ask;
#[cfg(feature = "doors")]
pub use opposite::line_door;
pub(crate) use show::show;

/// How long the mesh may take to hear of a roster that has just grown, before the other side is let go to redial.
const ALLOWED_WITHIN: Duration = Duration::from_secs(1);

/// What both ends need of the node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Gate {
    pub(crate) commands: Commands,
    pub(crate) mesh: Mesh,
    pub(crate) keys: Arc<LocalKeys>,
    pub(crate) snapshots: watch::Receiver<Arc<Snapshot>>,
    /// Version of the roster the mesh admits.
    pub(crate) allowed: watch::Receiver<u64>,
}

impl Gate {
    fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshots.borrow())
    }

    fn org(&self) -> Option<OrgId> {
        self.snapshot().org.as_ref().map(|org| org.id)
    }

    /// Waits until the mesh admits everybody in the newest roster, so that whoever is let go can come back at once.
    async fn settled(&self) {
        let version = self.snapshot().roster.version;
        let mut allowed = self.allowed.clone();
        let wait = allowed.wait_for(|allowed| *allowed >= version);
        let _ = tokio::time::timeout(ALLOWED_WITHIN, wait).await;
    }
}
