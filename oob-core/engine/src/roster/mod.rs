//! The organisation's signed log and what it makes of people and devices (docs/protocol.md, section 3).

mod aside;
mod author;
mod claim;
mod council;
#[cfg(test)]
mod councils;
mod cut;
#[cfg(test)]
mod desk;
#[cfg(test)]
mod full;
mod judge;
mod log;
mod op;
mod removal;
mod rounds;
mod seated;

pub(crate) use author::{announce, author, found};
pub(crate) use claim::{BundleClaim, JoinClaim, RelayClaim};
pub(crate) use cut::{CUT_RANGES, Came, count, cut_of};
pub(crate) use judge::Roster;
pub(crate) use op::{Circle, OpError, check};
pub(crate) use rounds::lives_named;

use crate::{
    cx::Cx,
    model::{LinkId, Ring},
    stored::{self, RecordError},
};
use aside::Aside;
use judge::judge;
use log::{Bound, Log};
use oob_crypto::{PublicKey, device_id};
use oob_proto::{
    DeviceId, EpochId, Incarnation, Message, OpHash, OrgId,
    wire::{self, op_body::Kind},
};
use oob_store::Store;
use op::CheckedOp;
use std::collections::{BTreeMap, BTreeSet};

/// What the log says of an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct EpochFact {
    /// Removed devices that may have its secret: it was not announced in the knowledge of their removal.
    pub(crate) holders: usize,
    /// Of the operation that announced it, the same order everywhere.
    pub(crate) order: (u64, OpHash),
    /// Who announced it.
    pub(crate) author: DeviceId,
}

/// The log, and the roster it gives.
pub(crate) struct Organisation {
    pub(crate) id: OrgId,
    log: Log,
    roster: Roster,
    stale: bool,
    aside: Aside,
}

impl Organisation {
    pub(crate) fn new(id: OrgId) -> Self {
        let (log, roster, aside) = (Log::new(id), Roster::default(), Aside::default());
        Self { id, log, roster, stale: true, aside }
    }

    /// Loads and checks the log again, as if it had just come.
    pub(crate) fn load(store: &Store, id: OrgId) -> Result<Self, RecordError> {
        const AREA: &str = "log";
        let mut organisation = Self::new(id);
        let mut next = 0;
        loop {
            let page = store.scan(&stored::log(), next.., oob_store::Order::Ascending, 256)?;
            let Some((last, _)) = page.last() else { break };
            next = last.saturating_add(1);
            for (_, bytes) in page {
                let op: wire::Op = stored::decode(&bytes, AREA)?;
                organisation.take_shown(op).map_err(|_| RecordError::Unreadable { area: AREA })?;
            }
        }
        organisation.refresh();
        Ok(organisation)
    }

    /// Checks one operation and takes it without storing; returns its place and hash if it is new.
    pub(crate) fn take(&mut self, op: wire::Op) -> Result<Option<(u64, OpHash)>, OpError> {
        // Most of what neighbours offer twice ends here, before a signature is looked at.
        if op::hash_of(&op).is_some_and(|hash| self.log.contains(&hash)) {
            return Ok(None);
        }
        let checked = check(&self.id, op)?;
        self.insert(&checked, Bound::Author)
    }

    /// The same of a log that is whole, of which nobody's share is counted: the own one, or that of who admits this device.
    pub(crate) fn take_shown(&mut self, op: wire::Op) -> Result<Option<(u64, OpHash)>, OpError> {
        let checked = check(&self.id, op)?;
        self.insert(&checked, Bound::All)
    }

    fn insert(
        &mut self,
        checked: &CheckedOp,
        bound: Bound,
    ) -> Result<Option<(u64, OpHash)>, OpError> {
        let place = self.log.insert(checked, bound)?;
        self.stale |= place.is_some();
        Ok(place.map(|place| (place, checked.hash)))
    }

    /// Checks one operation and stores it in the pending batch; returns its hash if it is new.
    pub(crate) fn learn(
        &mut self,
        cx: &mut Cx<'_>,
        op: &wire::Op,
    ) -> Result<Option<OpHash>, OpError> {
        let taken = self.take(op.clone())?;
        if let Some((place, _)) = taken {
            cx.store.put(&stored::log(), place, &op.encode_to_vec());
        }
        Ok(taken.map(|(_, hash)| hash))
    }

    /// The same of an operation that somebody sent, with what it builds on where that was over its author's bound; returns the
    /// hashes of what is new, parents first.
    pub(crate) fn learn_from(
        &mut self,
        cx: &mut Cx<'_>,
        from: Option<LinkId>,
        op: &wire::Op,
    ) -> Result<Vec<OpHash>, OpError> {
        let new = self.take_from(from, op)?;
        for (place, checked) in &new {
            cx.store.put(&stored::log(), *place, &checked.op.encode_to_vec());
        }
        Ok(new.into_iter().map(|(_, checked)| checked.hash).collect())
    }

    /// The same without storing; returns what is new with its place.
    fn take_from(
        &mut self,
        from: Option<LinkId>,
        op: &wire::Op,
    ) -> Result<Vec<(u64, CheckedOp)>, OpError> {
        if let Some(hash) = op::hash_of(op) {
            if self.log.contains(&hash) {
                return Ok(Vec::new());
            }
            // Before its signature is looked at: whoever says it again would have others work for nothing.
            if self.aside.contains(from, &hash) {
                return Err(OpError::Again);
            }
        }
        let checked = check(&self.id, op.clone())?;
        match self.insert(&checked, Bound::Author) {
            Ok(taken) => Ok(taken.map(|(place, _)| (place, checked)).into_iter().collect()),
            Err(OpError::Orphan) => self.take_with_past(from, checked),
            Err(error) => {
                if matches!(error, OpError::Full) {
                    self.aside.put(from, checked);
                }
                Err(error)
            }
        }
    }

    /// Takes an operation with what it builds on, if all of that was put aside.
    fn take_with_past(
        &mut self,
        from: Option<LinkId>,
        checked: CheckedOp,
    ) -> Result<Vec<(u64, CheckedOp)>, OpError> {
        let (log, aside) = (&self.log, &mut self.aside);
        let lamport = aside.lamport_before(from, &checked, |hash| log.contains(hash));
        let lamport = lamport.ok_or(OpError::Orphan)?;
        // Nobody's share counts, nor the log's: devices that refused other operations than the admin's would never hear of it.
        let removal = log.is_admins_removal(&checked);
        let behind_own = checked.header.self_prev.filter(|own| !log.contains(own));
        let taken = match behind_own {
            _ if removal => Ok(()),
            Some(_) => Err(OpError::Full),
            None => log.would_take(&checked, lamport),
        };
        match taken {
            // What names its author may be among what was put aside.
            Err(OpError::Full | OpError::Stranger) => {
                aside.put(from, checked);
                return Err(OpError::Full);
            }
            Err(error) => return Err(error),
            Ok(()) => {}
        }
        let most = if removal { log.left_with_removals().saturating_sub(1) } else { usize::MAX };
        let past = aside.take_past_of(from, &checked, removal, |hash| log.contains(hash));
        let past = match past {
            Some(past) if past.len() <= most => past,
            past => {
                aside.put_back(from, past.into_iter().flatten());
                aside.put(from, checked);
                return Err(OpError::Full);
            }
        };
        let bound = if removal { Bound::All } else { Bound::Log };
        let (mut new, mut refused) = (Vec::new(), Vec::new());
        for op in past.into_iter().chain([checked]) {
            match self.insert(&op, bound) {
                Ok(taken) => new.extend(taken.map(|(place, _)| (place, op))),
                Err(error) => {
                    tracing::debug!(%error, "operation refused with its past");
                    refused.push(op);
                }
            }
        }
        // Something else may build on it yet.
        self.aside.put_back(from, refused);
        Ok(new)
    }

    /// Forgets what a neighbour sent that is gone, or that somebody showed who has nothing more to show.
    pub(crate) fn forget_aside(&mut self, from: Option<LinkId>) {
        self.aside.forget(from);
    }

    /// Takes an operation of a log that is shown whole, see [`Self::take_shown`], and stores it.
    pub(crate) fn learn_shown(&mut self, cx: &mut Cx<'_>, op: &wire::Op) -> Result<(), OpError> {
        if let Some((place, _)) = self.take_shown(op.clone())? {
            cx.store.put(&stored::log(), place, &op.encode_to_vec());
        }
        Ok(())
    }

    /// Goes on counting versions of the roster from another's, so that readers see that it changed.
    pub(crate) fn continue_versions(&mut self, version: u64) {
        self.roster.view.version = self.roster.view.version.max(version.saturating_add(1));
    }

    /// Judges the log again if it grew; returns whether it did.
    pub(crate) fn refresh(&mut self) -> bool {
        if !std::mem::take(&mut self.stale) {
            return false;
        }
        self.roster = judge(&self.log, self.roster.view.version.saturating_add(1));
        true
    }

    /// Who is in it, as of the last [`Self::refresh`].
    pub(crate) fn roster(&self) -> &Roster {
        &self.roster
    }

    pub(crate) fn heads(&self) -> &BTreeSet<OpHash> {
        self.log.heads()
    }

    pub(crate) fn contains(&self, hash: &OpHash) -> bool {
        self.log.contains(hash)
    }

    /// Encoded length of an operation.
    pub(crate) fn len_of(&self, hash: &OpHash) -> usize {
        self.log.get(hash).map_or(0, |entry| entry.len)
    }

    /// Hashes to compare logs by: the heads, and some at growing distances.
    pub(crate) fn landmarks(&self) -> impl Iterator<Item = &OpHash> {
        self.log.landmarks()
    }

    /// Every operation that is not in the past of `known`, parents first; those not known here are passed over.
    pub(crate) fn beyond<'a>(&self, known: impl IntoIterator<Item = &'a OpHash>) -> Vec<OpHash> {
        let past = self.log.past_of(known);
        self.log
            .ordered()
            .filter(|(_, entry)| !past.contains(entry))
            .map(|(hash, _)| *hash)
            .collect()
    }

    /// The past of an operation and itself, parents first.
    pub(crate) fn up_to(&self, hash: &OpHash) -> Vec<OpHash> {
        let past = self.log.past_of([hash]);
        self.log
            .ordered()
            .filter(|(_, entry)| past.contains(entry))
            .map(|(hash, _)| *hash)
            .collect()
    }

    /// Reads one operation from the store.
    pub(crate) fn read(
        &self,
        store: &Store,
        hash: &OpHash,
    ) -> Result<Option<wire::Op>, RecordError> {
        let Some(entry) = self.log.get(hash) else { return Ok(None) };
        stored::read(store, &stored::log(), entry.place, "log")
    }

    /// Reads operations from the store.
    pub(crate) fn read_all(
        &self,
        store: &Store,
        hashes: &[OpHash],
    ) -> Result<Vec<wire::Op>, RecordError> {
        let mut ops = Vec::with_capacity(hashes.len());
        for hash in hashes {
            ops.extend(self.read(store, hash)?);
        }
        Ok(ops)
    }

    /// What the log says of an epoch; none if no operation that stands announced it. If several did, it is as old as the
    /// first, and whoever one of them did not exclude may hold it.
    pub(crate) fn epoch(&self, ring: Ring, id: EpochId) -> Option<EpochFact> {
        let announced = self.roster.epochs.get(&(ring, id))?;
        let first = announced.first()?;
        let entry = self.log.get(first)?;
        let excluded = |removals: &[OpHash]| {
            announced.iter().all(|op| removals.iter().any(|out| self.log.is_before(out, op)))
        };
        let removed = self.roster.removed.values();
        Some(EpochFact {
            holders: removed.filter(|removed| !excluded(&removed.ops)).count(),
            order: (entry.header.lamport, *first),
            author: device_id(&entry.header.author),
        })
    }

    /// The epochs of a ring that none follows yet.
    pub(crate) fn newest_epochs(&self, ring: Ring) -> Vec<EpochId> {
        let announced = self.roster.epochs.iter().filter(|((of, _), _)| *of == ring);
        let mut followed = BTreeSet::new();
        for op in announced.clone().flat_map(|(_, ops)| ops) {
            if let Some(Kind::EpochKey(key)) =
                self.log.get(op).and_then(|entry| entry.body.as_ref())
            {
                followed.extend(
                    key.parents.iter().filter_map(|id| EpochId::try_from(id.as_slice()).ok()),
                );
            }
        }
        announced.map(|((_, id), _)| *id).filter(|id| !followed.contains(id)).collect()
    }

    /// How many operations of a key are here, by its lives: one more than the highest number.
    pub(crate) fn written_by(&self, author: &PublicKey) -> BTreeMap<Incarnation, u64> {
        let mut lives = BTreeMap::new();
        for (_, entry) in self.log.ordered().filter(|(_, entry)| entry.header.author == *author) {
            let count = lives.entry(entry.header.incarnation).or_insert(0);
            *count = entry.header.seq.saturating_add(1).max(*count);
        }
        lives
    }

    /// The newest certificates in requests to join, for a directory that has none newer.
    pub(crate) fn join_claims(&self) -> impl Iterator<Item = &JoinClaim> {
        self.log.ordered().filter_map(|(_, entry)| match entry.claim.as_deref() {
            Some(claim::Claim::Join(claim)) => Some(claim.as_ref()),
            _ => None,
        })
    }
}
