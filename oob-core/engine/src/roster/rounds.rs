//! Rounds of proposals: of several in place of one thing the highest counts, so whoever proposes looks for the highest there is,
//! and whoever signs has signed no later one.

use super::{
    Organisation,
    claim::{Claim, SetClaim},
};
use oob_crypto::PublicKey;
use oob_proto::{Incarnation, OpHash, wire::op_body::Kind};
use std::collections::BTreeMap;

/// Lives that a proposal names of all whom it takes out, so that it fits an operation whatever they wrote.
const LIVES: usize = 256;

/// How many lives a proposal names of each, if it takes out so many.
pub(crate) fn lives_named(goes: usize) -> usize {
    LIVES.checked_div(goes).unwrap_or(LIVES)
}

impl Organisation {
    /// The highest round of the sets that can take the place of those in office; 0 if there is none.
    pub(crate) fn highest_round(&self) -> u64 {
        self.open_sets().map(|(_, _, set)| set.round).max().unwrap_or(0)
    }

    /// Whether a set, or one of a later round, was signed with a key already.
    pub(crate) fn has_signed_up_to(&self, key: &PublicKey, round: u64) -> bool {
        self.open_sets().filter(|(_, _, set)| set.round >= round).any(|(op, author, _)| {
            author == key || self.roster().council.signed_by(op, author).contains(key)
        })
    }

    /// Whether a set leaves standing what those whom it takes out had said when it was proposed: all of it, or as many lives as a
    /// proposal has room for.
    pub(crate) fn cuts_nothing(&self, op: &OpHash) -> bool {
        let claim = self.log.get(op).and_then(|entry| entry.claim.as_deref());
        let Some(Claim::Set(set)) = claim else { return false };
        let Some(office) = self.roster().council.in_office() else { return false };
        let stays = |key: &PublicKey, uik: &Option<PublicKey>| match uik {
            Some(uik) => set.seats.values().flatten().any(|of| of == uik),
            None => set.seats.contains_key(key),
        };
        let goes = office.seats.iter().filter(|(key, uik)| !stays(key, uik)).count();
        let mut bounded =
            office.seats.iter().filter(|(key, uik)| !stays(key, uik) || set.cuts.contains_key(key));
        bounded.all(|(key, _)| {
            let mut said: BTreeMap<Incarnation, u64> = BTreeMap::new();
            for (hash, entry) in self.log.ordered() {
                if entry.header.author == *key && (hash == op || self.log.is_before(hash, op)) {
                    let ops = said.entry(entry.header.incarnation).or_default();
                    *ops = entry.header.seq.saturating_add(1).max(*ops);
                }
            }
            let cut = set.cuts.get(key);
            let whole = |life: &Incarnation, ops: u64| {
                cut.and_then(|cut| cut.get(life)).is_some_and(|let_stand| *let_stand >= ops)
            };
            let left = said.iter().filter(|(life, ops)| whole(life, **ops)).count();
            left == said.len() || left >= lives_named(goes)
        })
    }

    fn open_sets(&self) -> impl Iterator<Item = (&OpHash, &PublicKey, &SetClaim)> {
        let council = &self.roster().council;
        self.log.ordered().filter_map(|(hash, entry)| match entry.claim.as_deref() {
            Some(Claim::Set(set)) if council.is_open(hash) => {
                Some((hash, &entry.header.author, set.as_ref()))
            }
            _ => None,
        })
    }

    /// Whether an operation that several admins have to sign is signed by enough, and how many of those in office have to yet.
    pub(crate) fn decided(&self, op: &OpHash) -> (bool, usize) {
        let council = &self.roster().council;
        let (Some(entry), Some(office)) = (self.log.get(op), council.in_office()) else {
            return (false, 0);
        };
        let decided = match entry.body {
            Some(Kind::AdminSet(_)) => council.stood(op),
            _ => council.is_signed(&self.log, op, entry),
        };
        let signed = council.signed_by(op, &entry.header.author).len();
        (decided, if decided { 0 } else { office.k.saturating_sub(signed) })
    }
}
