//! Which keys are an admin's in the eyes of an operation: by what is in its past, and nothing else, so that a log takes the same
//! operations in whatever order they come.

use super::{
    claim::{Claim, Seats, seats},
    log::{Entry, is_set},
};
use oob_crypto::PublicKey;
use oob_proto::{OpHash, wire::op_body::Kind};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Sets of admins, and the words of their keys.
#[derive(Debug, Clone, Default)]
pub(super) struct Seated {
    sets: BTreeMap<OpHash, Set>,
    /// The sets that name a key.
    named: BTreeMap<PublicKey, Vec<OpHash>>,
    /// Whose words are for a set, and where in the log.
    words: BTreeMap<OpHash, Vec<(PublicKey, u64)>>,
}

#[derive(Debug, Clone)]
struct Set {
    place: u64,
    /// None for Genesis.
    base: Option<OpHash>,
    k: usize,
    seats: Arc<Seats>,
}

impl Seated {
    /// Takes note of an operation that was taken.
    pub(super) fn note(&mut self, hash: &OpHash, entry: &Entry) {
        let place = entry.place;
        let set = match (&entry.body, entry.claim.as_deref()) {
            (Some(Kind::Genesis(genesis)), _) => {
                let k = usize::try_from(genesis.k).unwrap_or(usize::MAX);
                seats(&genesis.admins).ok().map(|seats| Set { place, base: None, k, seats })
            }
            (_, Some(Claim::Set(set))) => {
                let (base, k, seats) = (Some(set.base), set.k, Arc::clone(&set.seats));
                self.words.entry(*hash).or_default().push((entry.header.author, place));
                Some(Set { place, base, k, seats })
            }
            (Some(Kind::Endorse(endorse)), _) => {
                // For a set alone: nothing else is asked about here.
                if let Ok(of) = OpHash::try_from(endorse.op.as_slice())
                    && self.sets.contains_key(&of)
                {
                    self.words.entry(of).or_default().push((entry.header.author, place));
                }
                None
            }
            _ => None,
        };
        if let Some(set) = set {
            for key in set.seats.keys() {
                self.named.entry(*key).or_default().push(*hash);
            }
            self.sets.insert(*hash, set);
        }
    }

    /// Whether a key is an admin's by a set that is signed in this past.
    pub(super) fn has(&self, key: &PublicKey, past: &[u64]) -> bool {
        let sets = self.named.get(key).into_iter().flatten().rev();
        sets.into_iter().any(|set| self.is_signed(set, past))
    }

    /// Whether a set is Genesis, or enough of those it takes the place of signed it, and so on back to Genesis.
    fn is_signed(&self, op: &OpHash, past: &[u64]) -> bool {
        let Some(mut set) = self.sets.get(op).filter(|set| is_set(past, set.place)) else {
            return false;
        };
        let mut op = *op;
        while let Some(base_op) = set.base {
            let Some(base) = self.sets.get(&base_op).filter(|base| base.place < set.place) else {
                return false;
            };
            let words = self.words.get(&op).into_iter().flatten();
            let by: BTreeSet<&PublicKey> = words
                .filter(|(key, place)| is_set(past, *place) && base.seats.contains_key(key))
                .map(|(key, _)| key)
                .collect();
            if by.len() < base.k {
                return false;
            }
            (set, op) = (base, base_op);
        }
        true
    }
}
