//! Operations over the bound of their author, kept for a while (docs/protocol.md, section 3.1). Who writes more than the log
//! takes of one can give each of two devices another share of it; each then refuses what the other took, and everything that
//! others have built on it. So what a neighbour sent is at hand until that comes: with it, it is taken after all.

use super::op::CheckedOp;
use crate::model::LinkId;
use oob_proto::OpHash;
use std::collections::{BTreeMap, BTreeSet};

/// Bytes kept of one neighbour: four times the share of a person's key. The first to come stay, since they come parents first;
/// what there is no room for comes again with the next greeting.
const BYTES: usize = 1024 * 1024;

/// Operations looked at in vain for one neighbour: sixteen times as many as fit. After that nothing is taken with what it
/// builds on until the neighbour greets anew.
const LOOKS: usize = 65_536;

/// By neighbour; under none what came with somebody who joins or shows itself.
#[derive(Default)]
pub(super) struct Aside(BTreeMap<Option<LinkId>, Kept>);

#[derive(Default)]
struct Kept {
    ops: BTreeMap<OpHash, CheckedOp>,
    bytes: usize,
    looks: usize,
}

impl Aside {
    /// Whether one is kept of a neighbour.
    pub(super) fn contains(&self, from: Option<LinkId>, hash: &OpHash) -> bool {
        self.0.get(&from).is_some_and(|kept| kept.ops.contains_key(hash))
    }

    /// Keeps one if there is room.
    pub(super) fn put(&mut self, from: Option<LinkId>, op: CheckedOp) {
        let kept = self.0.entry(from).or_default();
        let bytes = kept.bytes.saturating_add(op.len());
        if bytes <= BYTES && !kept.ops.contains_key(&op.hash) {
            kept.bytes = bytes;
            kept.ops.insert(op.hash, op);
        }
    }

    /// The highest lamport time among the parents that are kept here; none if one is neither known nor kept. What is kept
    /// was kept behind its own parents, so no look further back is needed.
    pub(super) fn lamport_before(
        &self,
        from: Option<LinkId>,
        op: &CheckedOp,
        is_known: impl Fn(&OpHash) -> bool,
    ) -> Option<u64> {
        let kept = self.0.get(&from)?;
        let missing = op.header.parents().filter(|hash| !is_known(hash));
        missing
            .map(|hash| Some(kept.ops.get(hash)?.header.lamport))
            .try_fold(0, |highest, next| next.map(|lamport| lamport.max(highest)))
    }

    /// Takes out what an operation builds on that is not known, parents first; none if not all of it is here, or, unless `own`, some
    /// of it is by the same author: nobody but an admin vouches for what is one's own. The neighbour pays for each look that leads to nothing.
    pub(super) fn take_past_of(
        &mut self,
        from: Option<LinkId>,
        op: &CheckedOp,
        own: bool,
        is_known: impl Fn(&OpHash) -> bool,
    ) -> Option<Vec<CheckedOp>> {
        let kept = self.0.get_mut(&from)?;
        let mut past: BTreeSet<(u64, OpHash)> = BTreeSet::new();
        let mut met: BTreeSet<OpHash> = BTreeSet::new();
        let mut next: Vec<OpHash> = op.header.parents().copied().collect();
        while let Some(hash) = next.pop() {
            // Each is looked at once, however many build on it.
            if is_known(&hash) || !met.insert(hash) {
                continue;
            }
            if kept.looks >= LOOKS {
                return None;
            }
            kept.looks = kept.looks.saturating_add(1);
            let parent = kept.ops.get(&hash)?;
            if !own && parent.header.author == op.header.author {
                return None;
            }
            past.insert((parent.header.lamport, hash));
            next.extend(parent.header.parents());
        }
        let taken: Vec<CheckedOp> =
            past.into_iter().filter_map(|(_, hash)| kept.ops.remove(&hash)).collect();
        let bytes: usize = taken.iter().map(CheckedOp::len).sum();
        kept.bytes = kept.bytes.saturating_sub(bytes);
        kept.looks = kept.looks.saturating_sub(taken.len());
        Some(taken)
    }

    /// Keeps again what was taken out and refused after all. It counts as looked at in vain: what builds on it may be shown any
    /// number of times.
    pub(super) fn put_back(
        &mut self,
        from: Option<LinkId>,
        ops: impl IntoIterator<Item = CheckedOp>,
    ) {
        for op in ops {
            self.put(from, op);
            if let Some(kept) = self.0.get_mut(&from) {
                kept.looks = kept.looks.saturating_add(1);
            }
        }
    }

    /// Operations looked at in vain for a neighbour.
    #[cfg(test)]
    pub(super) fn looks(&self, from: Option<LinkId>) -> usize {
        self.0.get(&from).map_or(0, |kept| kept.looks)
    }

    /// Forgets all of a neighbour that is gone.
    pub(super) fn forget(&mut self, from: Option<LinkId>) {
        self.0.remove(&from);
    }
}

#[cfg(test)]
mod tests {
    use super::super::op::{Circle, Draft, check, write};
    use super::*;
    use oob_crypto::SigningKey;
    use oob_proto::{Incarnation, OrgId, wire, wire::op_body::Kind};
    use rand::{SeedableRng, rngs::StdRng};

    fn op(author: &SigningKey, life: u32, prev: &[OpHash], lamport: u64) -> CheckedOp {
        let org = OrgId::from([1; 32]);
        let draft = Draft {
            incarnation: Incarnation(life),
            seq: 0,
            self_prev: None,
            prev: prev.to_vec(),
            lamport,
            time_ms: 1,
            circle: Circle::Core,
            body: Kind::Policy(wire::Policy::default()),
            author,
        };
        check(&org, write(Some(&org), draft)).unwrap()
    }

    /// Each operation that built on a long chain had all of it walked and copied, whether it was taken or not.
    #[test]
    fn looks_that_lead_to_nothing_are_counted_and_come_to_an_end() {
        let mut rng = StdRng::seed_from_u64(1);
        let [mallory, sam] = [0; 2].map(|_| SigningKey::generate(&mut rng));
        let known = OpHash::from([7; 32]);
        let is_known = |hash: &OpHash| *hash == known;
        let mut aside = Aside::default();
        let mut tip = known;
        for n in 0..50 {
            let next = op(&mallory, n, &[tip], u64::from(n) + 1);
            tip = next.hash;
            aside.put(None, next);
        }
        let own = op(&mallory, 100, &[tip], 51);
        assert_eq!(aside.lamport_before(None, &own, is_known), Some(50));
        assert!(aside.take_past_of(None, &own, false, is_known).is_none(), "one's own");
        assert_eq!(aside.looks(None), 1, "seen at once");
        let orphan = op(&sam, 1, &[OpHash::from([8; 32])], 51);
        assert!(aside.lamport_before(None, &orphan, is_known).is_none());
        assert!(aside.take_past_of(None, &orphan, false, is_known).is_none());
        assert_eq!(aside.looks(None), 2);

        let good = op(&sam, 2, &[tip], 51);
        aside.0.get_mut(&None).unwrap().looks = LOOKS;
        assert!(aside.take_past_of(None, &good, false, is_known).is_none(), "it has had its share");
        aside.0.get_mut(&None).unwrap().looks = 2;
        let taken = aside.take_past_of(None, &good, false, is_known).unwrap();
        assert!(taken.is_sorted_by_key(|op| op.header.lamport) && taken.len() == 50);
        assert_eq!((aside.looks(None), aside.0[&None].bytes), (2, 0));
    }
}
