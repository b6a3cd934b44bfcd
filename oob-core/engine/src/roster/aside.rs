//! Operations over the bound of their author, kept for a while (docs/protocol.md, section 3.1). Who writes more than the log
//! takes of one can give each of two devices another share of it; each then refuses what the other took, and everything that
//! others have built on it. So what a neighbour sent is at hand until that comes: with it, it is taken after all.

use super::op::CheckedOp;
use crate::model::LinkId;
use oob_proto::OpHash;
use std::collections::BTreeMap;

/// Bytes kept of one neighbour: four times the share of a person's key. The first to come stay, since they come parents first;
/// what there is no room for comes again with the next greeting.
const BYTES: usize = 1024 * 1024;

/// By neighbour; under none what came with somebody who joins or shows itself.
#[derive(Default)]
pub(super) struct Aside(BTreeMap<Option<LinkId>, Kept>);

#[derive(Default)]
struct Kept {
    ops: BTreeMap<OpHash, CheckedOp>,
    bytes: usize,
}

impl Aside {
    /// Keeps one if there is room.
    pub(super) fn put(&mut self, from: Option<LinkId>, op: CheckedOp) {
        let kept = self.0.entry(from).or_default();
        let bytes = kept.bytes.saturating_add(op.len());
        if bytes <= BYTES && !kept.ops.contains_key(&op.hash) {
            kept.bytes = bytes;
            kept.ops.insert(op.hash, op);
        }
    }

    /// What an operation builds on that is not known, parents first; none if not all of it is here.
    pub(super) fn past_of(
        &self,
        from: Option<LinkId>,
        op: &CheckedOp,
        is_known: impl Fn(&OpHash) -> bool,
    ) -> Option<Vec<CheckedOp>> {
        let kept = self.0.get(&from)?;
        let mut past: BTreeMap<(u64, OpHash), &CheckedOp> = BTreeMap::new();
        let mut next: Vec<OpHash> = op.header.parents().copied().collect();
        while let Some(hash) = next.pop() {
            if is_known(&hash) {
                continue;
            }
            let parent = kept.ops.get(&hash)?;
            if past.insert((parent.header.lamport, hash), parent).is_none() {
                next.extend(parent.header.parents());
            }
        }
        Some(past.into_values().cloned().collect())
    }

    /// Forgets one that was taken.
    pub(super) fn remove(&mut self, from: Option<LinkId>, hash: &OpHash) {
        if let Some(kept) = self.0.get_mut(&from)
            && let Some(op) = kept.ops.remove(hash)
        {
            kept.bytes = kept.bytes.saturating_sub(op.len());
        }
    }

    /// Forgets all of a neighbour that is gone.
    pub(super) fn forget(&mut self, from: Option<LinkId>) {
        self.0.remove(&from);
    }
}
