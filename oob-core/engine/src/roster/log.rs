//! The set of operations known here, a hash-DAG that only grows (docs/protocol.md, section 3.1). It keeps what is well
//! formed, signed, connected and of a kind its author may write, within bounds; what counts is judged over the whole
//! set in `judge.rs`.

use super::{
    claim::Claim,
    op::{CheckedOp, Header, OpError},
    seated::Seated,
};
use oob_crypto::PublicKey;
use oob_proto::{Incarnation, OpHash, OrgId, wire::op_body::Kind};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Operations in all: thirty times those of an organisation of 500, and 32 MiB of ancestry at most.
const OPS: usize = 16_384;

/// The last operations a log takes, in shares of a sixteenth of it: one for epochs, half of one for admins, and half of one for
/// admins' removals. Whoever fills the log must not put an end to removals, nor to the epochs that have to follow them. Each
/// removal by an admin sets free what the operations it builds on take of these shares.
pub(super) const SHARES: usize = 16;

/// How many times as much as it takes of others a log takes for an admin's removals and what they build on: as much again. Who
/// fills two logs with other operations has each refuse what the other took; what an admin's removal builds on is what that
/// admin's log had room for. It bounds the memory: four times the ancestry.
const WITH_REMOVALS: usize = 2;

/// Epochs of one key in the share kept for them: a removal asks for one of each ring, by one device.
pub(super) const LATE_EPOCHS: usize = 8;

/// Operations by one key that is not an admin's: twice the admissions of a large organisation.
const OPS_PER_AUTHOR: usize = 1_024;

/// Operations by one admin's key: all that the admins of a large organisation do in years, and a quarter of a log.
const OPS_PER_ADMIN: usize = 4_096;

/// Operations by one person's key: certificates of a few devices and their successors, and removals. Each certificate
/// names a key that may write, so these are few.
const OPS_PER_PERSON: usize = 32;

/// Operations of unknown kinds by one key that is not an admin's.
const UNKNOWN_PER_AUTHOR: usize = 64;

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
    /// It takes of the shares that are kept for some.
    late: bool,
    /// One bit per place: the operations in its past.
    past: Vec<u64>,
}

/// What a key that may write here is. One may be several, so that who names another's key as its own kind takes nothing from it.
#[derive(Debug, Clone, Copy, Default)]
struct Author {
    admin: bool,
    person: bool,
    device: bool,
}

const ADMIN: Author = Author { admin: true, person: false, device: false };
const PERSON: Author = Author { admin: false, person: true, device: false };
const DEVICE: Author = Author { admin: false, person: false, device: true };

impl Author {
    fn or(self, other: Self) -> Self {
        Self {
            admin: self.admin || other.admin,
            person: self.person || other.person,
            device: self.device || other.device,
        }
    }

    /// Operations it may write.
    fn share(self) -> usize {
        match self {
            Self { admin: true, .. } => OPS_PER_ADMIN,
            Self { device: true, .. } => OPS_PER_AUTHOR,
            _ => OPS_PER_PERSON,
        }
    }
}

/// What one key has written.
#[derive(Debug, Clone, Copy, Default)]
struct Written {
    all: usize,
    unknown: usize,
    /// Epochs in the share kept for them, but for those that a removal builds on.
    late: usize,
}

/// What is taken of the shares kept for some.
#[derive(Debug, Clone, Copy, Default)]
struct Late {
    epochs: usize,
    admins: usize,
}

/// Which bounds an operation is held to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bound {
    /// Its author's share, and the shares of the log.
    Author,
    /// The shares of the log: another author built on it.
    Log,
    /// How much a log takes at all: it was taken before, here or by whoever admits this device, or an admin's removal builds on it.
    All,
}

/// All operations known here.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    org: OrgId,
    entries: BTreeMap<OpHash, Entry>,
    heads: BTreeSet<OpHash>,
    /// By (lamport, hash): parents before children, and the same order everywhere.
    order: BTreeSet<(u64, OpHash)>,
    /// By place.
    places: Vec<OpHash>,
    /// Keys that may write here, whether or not the roster lets them stand. Anybody else's operations are refused, so
    /// that no stranger can make the log grow.
    authors: BTreeMap<PublicKey, (Author, Written)>,
    seated: Seated,
    /// Of the shares kept for them: epochs, and admins' operations that are no removals.
    late: Late,
    /// How many operations it takes.
    most: usize,
}

impl Log {
    pub(crate) fn new(org: OrgId) -> Self {
        Self {
            org,
            entries: BTreeMap::new(),
            heads: BTreeSet::new(),
            order: BTreeSet::new(),
            places: Vec::new(),
            authors: BTreeMap::new(),
            seated: Seated::default(),
            late: Late::default(),
            most: OPS,
        }
    }

    /// Has it take fewer operations.
    #[cfg(test)]
    pub(super) fn set_most(&mut self, most: usize) {
        self.most = most;
    }

    /// What is taken of the shares kept for some.
    #[cfg(test)]
    pub(super) fn late_taken(&self) -> (usize, usize) {
        (self.late.epochs, self.late.admins)
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
    pub(crate) fn ordered(&self) -> impl DoubleEndedIterator<Item = (&OpHash, &Entry)> {
        self.order.iter().filter_map(|(_, hash)| self.entries.get_key_value(hash))
    }

    /// Hashes at growing distances from the newest, for a neighbour to find out what both know.
    pub(crate) fn landmarks(&self) -> impl Iterator<Item = &OpHash> {
        let steps = (0..64u32).map_while(|power| 1usize.checked_shl(power));
        steps
            .map_while(|step| self.places.len().checked_sub(step))
            .filter_map(|place| self.places.get(place))
    }

    /// Takes one checked operation; returns its place in the store, or none when it was known.
    pub(crate) fn insert(
        &mut self,
        checked: &CheckedOp,
        bound: Bound,
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
        let past = self.past_of_new(header);
        self.permits(checked, bound, Some(&past))?;
        let late = self.count(checked);
        let place = u64::try_from(self.places.len()).map_err(|_| OpError::Full)?;
        self.admit_authors(checked);
        for parent in header.parents() {
            self.heads.remove(parent);
        }
        self.heads.insert(checked.hash);
        self.order.insert((header.lamport, checked.hash));
        self.places.push(checked.hash);
        let len = checked.len();
        let (header, body, claim) = (header.clone(), checked.body.clone(), checked.claim.clone());
        if self.is_admins_removal(checked) {
            self.free_late(&past);
        }
        let entry = Entry { header, body, claim, place, len, late, past };
        self.seated.note(&checked.hash, &entry);
        self.entries.insert(checked.hash, entry);
        Ok(Some(place))
    }

    /// Whether an operation would be taken if what is missing of its past were here, the highest of whose lamport times is
    /// given.
    pub(crate) fn would_take(&self, checked: &CheckedOp, missing: u64) -> Result<(), OpError> {
        let header = &checked.header;
        let here = header.parents().filter_map(|hash| self.get(hash));
        let lamport = here.map(|entry| entry.header.lamport).max().unwrap_or(0).max(missing);
        if lamport.checked_add(1) != Some(header.lamport) || !self.follows(header) {
            return Err(OpError::Chain);
        }
        // Whether it may be an admin's is in what is missing, too.
        self.permits(checked, Bound::Author, None)
    }

    /// Counts an operation that is taken; returns whether it takes of the shares kept for some.
    fn count(&mut self, checked: &CheckedOp) -> bool {
        let is_late = self.is_late();
        let Some((kind, written)) = self.authors.get_mut(&checked.header.author) else {
            return false;
        };
        written.all = written.all.saturating_add(1);
        let unknown = usize::from(checked.body.is_none());
        written.unknown = written.unknown.saturating_add(unknown);
        match (*kind, &checked.body) {
            (_, Some(Kind::EpochKey(_))) if is_late => {
                written.late = written.late.saturating_add(1);
                self.late.epochs = self.late.epochs.saturating_add(1);
                true
            }
            (Author { admin: true, .. }, body)
                if is_late && !matches!(body, Some(Kind::DeviceRevoke(_))) =>
            {
                self.late.admins = self.late.admins.saturating_add(1);
                true
            }
            _ => false,
        }
    }

    /// Gives back what the past of an admin's removal takes of the shares kept for some.
    fn free_late(&mut self, past: &[u64]) {
        let Self { entries, authors, late, .. } = self;
        for entry in entries.values_mut().filter(|entry| entry.late && is_set(past, entry.place)) {
            entry.late = false;
            match &entry.body {
                Some(Kind::EpochKey(_)) => {
                    late.epochs = late.epochs.saturating_sub(1);
                    if let Some((_, written)) = authors.get_mut(&entry.header.author) {
                        written.late = written.late.saturating_sub(1);
                    }
                }
                _ => late.admins = late.admins.saturating_sub(1),
            }
        }
    }

    /// Whether an operation is a removal by an admin's key: what it builds on is taken, whatever room there is.
    pub(crate) fn is_admins_removal(&self, checked: &CheckedOp) -> bool {
        let author = self.authors.get(&checked.header.author);
        author.is_some_and(|(author, _)| author.admin)
            && matches!(checked.body, Some(Kind::DeviceRevoke(_)))
    }

    /// Operations there is room for where an admin's removal builds on them.
    pub(crate) fn left_with_removals(&self) -> usize {
        self.most.saturating_mul(WITH_REMOVALS).saturating_sub(self.places.len())
    }

    /// Operations there is room for.
    fn left(&self) -> usize {
        self.most.saturating_sub(self.places.len())
    }

    fn share(&self) -> usize {
        self.most / SHARES
    }

    /// Whether only the shares are left that are kept for some.
    fn is_late(&self) -> bool {
        self.left() <= self.share().saturating_mul(2)
    }

    /// Whether the log has room for this kind by this author.
    fn has_room(&self, kind: Author, body: Option<&Kind>, written: &Written) -> bool {
        if !self.is_late() {
            return true;
        }
        match body {
            Some(Kind::EpochKey(_)) => {
                self.late.epochs < self.share() && written.late < LATE_EPOCHS
            }
            Some(Kind::DeviceRevoke(_)) => kind.admin,
            _ => kind.admin && self.late.admins < self.share() / 2,
        }
    }

    fn permits(
        &self,
        checked: &CheckedOp,
        bound: Bound,
        past: Option<&[u64]>,
    ) -> Result<(), OpError> {
        if self.left_with_removals() == 0 {
            return Err(OpError::Full);
        }
        if matches!(checked.body, Some(Kind::Genesis(_))) {
            return Ok(());
        }
        let author = &checked.header.author;
        let (kind, written) = self.authors.get(author).ok_or(OpError::Stranger)?;
        let seated = |past: &[u64]| self.seated.has(author, past);
        let kind = Author { admin: kind.admin && past.is_none_or(seated), ..*kind };
        let may = match &checked.body {
            None => kind.admin || kind.person || kind.device,
            Some(Kind::AdminSet(_)) => kind.admin && checked.claim.is_some(),
            Some(Kind::Device(_)) => kind.person && checked.claim.is_some(),
            Some(Kind::DeviceRevoke(_)) => kind.admin || kind.person,
            Some(Kind::EpochKey(_)) => kind.device,
            Some(Kind::AdminOffer(_)) => kind.device && checked.claim.is_some(),
            Some(Kind::InviteRedeemed(_)) => kind.device && self.names_invite(checked),
            Some(_) => kind.admin,
        };
        if !may {
            return Err(OpError::Stranger);
        }
        let unknown = usize::from(checked.body.is_none());
        let strange = !kind.admin && written.unknown.saturating_add(unknown) > UNKNOWN_PER_AUTHOR;
        let full = written.all >= kind.share() || strange;
        let bounded = bound == Bound::Author;
        let kept = bound != Bound::All && !self.has_room(kind, checked.body.as_ref(), written);
        if kept || (bounded && full) {
            return Err(OpError::Full);
        }
        Ok(())
    }

    /// Whether a redemption's request holds and names an invitation of this log by its key.
    fn names_invite(&self, checked: &CheckedOp) -> bool {
        let Some(Claim::Join(claim)) = checked.claim.as_deref() else { return false };
        match self.entries.get(&claim.invite).and_then(|entry| entry.body.as_ref()) {
            Some(Kind::Invite(invite)) => invite.invite_key == claim.invite_key.as_bytes(),
            _ => false,
        }
    }

    fn admit_authors(&mut self, checked: &CheckedOp) {
        let mut admit = |key: PublicKey, author: Author| {
            let (kind, _) = self.authors.entry(key).or_default();
            *kind = kind.or(author);
        };
        match (&checked.body, checked.claim.as_deref()) {
            (Some(Kind::Genesis(genesis)), _) => {
                let keys =
                    genesis.admins.iter().filter_map(|admin| PublicKey::parse(&admin.key).ok());
                keys.for_each(|key| admit(key, ADMIN));
            }
            // Whether they may write yet is asked each time.
            (_, Some(Claim::Set(set))) => {
                set.seats.keys().for_each(|key| admit(*key, ADMIN));
            }
            (Some(Kind::Member(member)), _) => {
                PublicKey::parse(&member.uik).into_iter().for_each(|key| admit(key, PERSON));
            }
            (_, Some(Claim::Device(device))) => admit(device.keys.dsk, DEVICE),
            (_, Some(Claim::Join(claim))) => {
                admit(claim.uik, PERSON);
                admit(claim.keys.dsk, DEVICE);
            }
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

    fn past_of_new(&self, header: &Header) -> Vec<u64> {
        let mut past = Vec::new();
        for parent in header.parents().filter_map(|parent| self.entries.get(parent)) {
            if past.len() < parent.past.len() {
                past.resize(parent.past.len(), 0);
            }
            past.iter_mut().zip(&parent.past).for_each(|(mine, theirs)| *mine |= theirs);
            set(&mut past, parent.place);
        }
        past
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
        let (Some(old), Some(new)) = (self.entries.get(old), self.entries.get(new)) else {
            return false;
        };
        is_set(&new.past, old.place)
    }

    /// The operations in the past of some, themselves included; those not known here are passed over.
    pub(crate) fn past_of<'a>(&self, of: impl IntoIterator<Item = &'a OpHash>) -> Past {
        let mut past = Vec::new();
        for entry in of.into_iter().filter_map(|hash| self.entries.get(hash)) {
            if past.len() < entry.past.len() {
                past.resize(entry.past.len(), 0);
            }
            past.iter_mut().zip(&entry.past).for_each(|(mine, theirs)| *mine |= theirs);
            set(&mut past, entry.place);
        }
        Past(past)
    }
}

/// A set of operations by place.
pub(crate) struct Past(Vec<u64>);

impl Past {
    pub(crate) fn contains(&self, entry: &Entry) -> bool {
        is_set(&self.0, entry.place)
    }
}

fn word(place: u64) -> (usize, u64) {
    (usize::try_from(place / 64).unwrap_or(usize::MAX), 1 << (place % 64))
}

fn set(bits: &mut Vec<u64>, place: u64) {
    let (index, bit) = word(place);
    if bits.len() <= index {
        bits.resize(index.saturating_add(1), 0);
    }
    if let Some(bits) = bits.get_mut(index) {
        *bits |= bit;
    }
}

pub(super) fn is_set(bits: &[u64], place: u64) -> bool {
    let (index, bit) = word(place);
    bits.get(index).is_some_and(|bits| bits & bit != 0)
}
