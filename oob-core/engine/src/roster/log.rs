//! The set of operations known here, a hash-DAG that only grows (docs/protocol.md, section 3.1). It keeps whatever is
//! well formed, signed and connected; what counts is judged over the whole set in `judge.rs`.

use super::{
    claim::Claim,
    op::{CheckedOp, Header, OpError},
};
use oob_crypto::PublicKey;
use oob_proto::{Incarnation, OpHash, OrgId, wire::op_body::Kind};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// An operation in the log.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) header: Header,
    pub(crate) body: Option<Kind>,
    pub(crate) claim: Option<Arc<Claim>>,
    /// Its seq in the store.
    pub(crate) place: u64,
    /// Encoded length.
    pub(crate) len: usize,
}

/// All operations known here.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    org: OrgId,
    entries: BTreeMap<OpHash, Entry>,
    heads: BTreeSet<OpHash>,
    /// By (lamport, hash): parents before children, and the same order everywhere.
    order: BTreeSet<(u64, OpHash)>,
    next_place: u64,
    /// Keys that may write here: admins, people and devices, whether or not the roster lets them stand. Anybody else's
    /// operations are refused, so that no stranger can make the log grow.
    authors: BTreeSet<PublicKey>,
}

impl Log {
    pub(crate) fn new(org: OrgId) -> Self {
        Self {
            org,
            entries: BTreeMap::new(),
            heads: BTreeSet::new(),
            order: BTreeSet::new(),
            next_place: 0,
            authors: BTreeSet::new(),
        }
    }

    pub(crate) fn org(&self) -> &OrgId {
        &self.org
    }

    pub(crate) fn contains(&self, hash: &OpHash) -> bool {
        self.entries.contains_key(hash)
    }

    pub(crate) fn get(&self, hash: &OpHash) -> Option<&Entry> {
        self.entries.get(hash)
    }

    /// Operations nothing builds on yet, ascending.
    pub(crate) fn heads(&self) -> &BTreeSet<OpHash> {
        &self.heads
    }

    /// All operations, parents before children.
    pub(crate) fn ordered(&self) -> impl Iterator<Item = (&OpHash, &Entry)> {
        self.order.iter().filter_map(|(_, hash)| self.entries.get_key_value(hash))
    }

    /// Takes one checked operation; returns its place in the store, or none when it was known.
    pub(crate) fn insert(
        &mut self,
        checked: &CheckedOp,
        len: usize,
    ) -> Result<Option<u64>, OpError> {
        if self.contains(&checked.hash) {
            return Ok(None);
        }
        let header = &checked.header;
        let mut lamport = 0;
        for parent in header.parents() {
            let parent = self.entries.get(parent).ok_or(OpError::Orphan)?;
            lamport = lamport.max(parent.header.lamport.checked_add(1).ok_or(OpError::Chain)?);
        }
        if header.lamport != lamport || !self.follows(header) {
            return Err(OpError::Chain);
        }
        if !matches!(checked.body, Some(Kind::Genesis(_))) && !self.authors.contains(&header.author)
        {
            return Err(OpError::Stranger);
        }
        self.admit_authors(checked);
        let place = self.next_place;
        self.next_place = self.next_place.saturating_add(1);
        for parent in header.parents() {
            self.heads.remove(parent);
        }
        self.heads.insert(checked.hash);
        self.order.insert((header.lamport, checked.hash));
        let entry = Entry {
            header: header.clone(),
            body: checked.body.clone(),
            claim: checked.claim.clone(),
            place,
            len,
        };
        self.entries.insert(checked.hash, entry);
        Ok(Some(place))
    }

    fn admit_authors(&mut self, checked: &CheckedOp) {
        match (&checked.body, checked.claim.as_deref()) {
            (Some(Kind::Genesis(genesis)), _) => {
                self.authors.extend(
                    genesis.admins.iter().filter_map(|admin| PublicKey::parse(&admin.key).ok()),
                );
            }
            (Some(Kind::Member(member)), _) => {
                self.authors.extend(PublicKey::parse(&member.uik).ok())
            }
            (_, Some(Claim::Device(device))) => self.authors.extend([device.keys.dsk]),
            (_, Some(Claim::Join(claim))) => self.authors.extend([claim.uik, claim.keys.dsk]),
            _ => {}
        }
    }

    /// Whether an operation is the next of its author's chain, or the first of a new incarnation.
    fn follows(&self, header: &Header) -> bool {
        let Some(before) = header.self_prev else { return header.seq == 0 };
        let Some(before) = self.entries.get(&before) else { return false };
        if before.header.author != header.author {
            return false;
        }
        if before.header.incarnation == header.incarnation {
            before.header.seq.checked_add(1) == Some(header.seq)
        } else {
            header.seq == 0
        }
    }

    /// The newest operation of an author in an incarnation, else in any.
    pub(crate) fn chain_end(
        &self,
        author: &PublicKey,
        incarnation: Incarnation,
    ) -> Option<(OpHash, u64, Incarnation)> {
        let own = self.entries.iter().filter(|(_, entry)| entry.header.author == *author);
        own.max_by_key(|(_, entry)| {
            let header = &entry.header;
            (header.incarnation == incarnation, header.lamport, header.seq)
        })
        .map(|(hash, entry)| (*hash, entry.header.seq, entry.header.incarnation))
    }

    /// Whether `old` is in the past of `new`.
    pub(crate) fn is_before(&self, old: &OpHash, new: &OpHash) -> bool {
        let Some(floor) = self.entries.get(old).map(|entry| entry.header.lamport) else {
            return false;
        };
        let mut todo = vec![*new];
        let mut met = BTreeSet::new();
        while let Some(hash) = todo.pop() {
            let Some(entry) = self.entries.get(&hash) else { continue };
            for parent in entry.header.parents() {
                if parent == old {
                    return true;
                }
                let above =
                    self.entries.get(parent).is_some_and(|entry| entry.header.lamport > floor);
                if above && met.insert(*parent) {
                    todo.push(*parent);
                }
            }
        }
        false
    }

    /// The past of some operations, themselves included; those not known here are passed over.
    pub(crate) fn past_of<'a>(&self, of: impl IntoIterator<Item = &'a OpHash>) -> BTreeSet<OpHash> {
        let mut todo: Vec<OpHash> =
            of.into_iter().copied().filter(|hash| self.contains(hash)).collect();
        let mut past: BTreeSet<OpHash> = todo.iter().copied().collect();
        while let Some(hash) = todo.pop() {
            let Some(entry) = self.entries.get(&hash) else { continue };
            for parent in entry.header.parents() {
                if past.insert(*parent) {
                    todo.push(*parent);
                }
            }
        }
        past
    }
}
