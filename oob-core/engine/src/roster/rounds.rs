//! Rounds of proposals: of several in place of one thing the highest counts, so whoever proposes looks for the highest there is,
//! and whoever signs has signed no later one.

use super::{
    Organisation,
    claim::{Claim, SetClaim},
};
use oob_crypto::PublicKey;
use oob_proto::{OpHash, wire::op_body::Kind};

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

    /// Whether a set leaves standing what those whom it takes out had said when it was proposed.
    pub(crate) fn cuts_nothing(&self, op: &OpHash) -> bool {
        let claim = self.log.get(op).and_then(|entry| entry.claim.as_deref());
        let Some(Claim::Set(set)) = claim else { return false };
        let Some(office) = self.roster().council.in_office() else { return false };
        let bounded = office.seats.iter().filter(|(key, uik)| {
            let stays = match uik {
                Some(uik) => set.seats.values().flatten().any(|of| of == uik),
                None => set.seats.contains_key(key),
            };
            !stays || set.cuts.contains_key(key)
        });
        bounded.into_iter().all(|(key, _)| {
            let lives = set.cuts.get(key);
            let known = |hash: &OpHash| hash == op || self.log.is_before(hash, op);
            self.log
                .ordered()
                .filter(|(hash, entry)| entry.header.author == *key && known(hash))
                .all(|(_, entry)| {
                    let ops = lives.and_then(|lives| lives.get(&entry.header.incarnation));
                    ops.is_some_and(|ops| entry.header.seq < *ops)
                })
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
