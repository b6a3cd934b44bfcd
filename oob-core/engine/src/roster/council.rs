//! Who the admins are, and what enough of them signed: found before anything else is judged, from the shape of the set of operations
//! alone (docs/protocol.md, section 3.3).
//!
//! Each set of admins takes the place of another, its base, and is signed by as many of that as it asks for; Genesis is the first.
//! Of several that are signed on one base the one with the highest round stands. All keys of a set are new, but for those on paper:
//! what old keys could sign ends with them.
//!
//! A word counts under a set if it was said before the next one was proposed, or was known to somebody who signed that. So nobody
//! whose time is over speaks with the power of that time: what was dated back is in nobody's past.

use super::{
    claim::{Claim, Seats, SetClaim, seats},
    log::{Entry, Log},
};
use oob_crypto::PublicKey;
use oob_proto::{
    Incarnation, OpHash,
    wire::{self, op_body::Kind},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Sets one after the other: more than an organisation has in decades. What would come behind does not stand, so that nobody who
/// decides alone can write a chain that others cannot follow to its end.
const SETS: usize = 256;

/// Sets one key proposes in place of the same ones: more than people do, and little enough to compare each with each.
const EACH: usize = 32;

/// One set of admins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AdminSet {
    /// The Genesis or AdminSet that names them.
    pub(crate) op: OpHash,
    pub(crate) round: u64,
    /// How many must sign what one may not do alone.
    pub(crate) k: usize,
    /// Their keys, and the identity key of who holds each; none for paper.
    pub(crate) seats: Arc<Seats>,
}

/// The sets that stand, one after the other, and who signed what.
#[derive(Debug, Clone, Default)]
pub(crate) struct Council {
    /// Genesis first, those in office last.
    sets: Vec<AdminSet>,
    /// How each but the last ended.
    ends: Vec<End>,
    words: BTreeMap<OpHash, Vec<Word>>,
    /// Sets proposed in place of those in office, with a form and a round that can stand.
    open: BTreeSet<OpHash>,
}

/// Somebody's signature under an operation: its author's own, or an Endorse.
#[derive(Debug, Clone, Copy)]
struct Word {
    key: PublicKey,
    op: OpHash,
}

/// What of the words of a set's keys still counts once another took its place.
#[derive(Debug, Clone)]
struct End {
    next: OpHash,
    /// The words of this set's keys for the next.
    words: Vec<Word>,
    /// Of keys whose person goes, and of those the next set names, how many operations of each life.
    cuts: BTreeMap<PublicKey, BTreeMap<Incarnation, u64>>,
}

impl Council {
    /// Finds the sets that stand in a log.
    pub(crate) fn of(log: &Log) -> Self {
        let mut council = Self::default();
        let mut on: BTreeMap<OpHash, Vec<(Word, &SetClaim)>> = BTreeMap::new();
        let mut first = None;
        for (hash, entry) in log.ordered() {
            let word = Word { key: entry.header.author, op: *hash };
            match (&entry.body, entry.claim.as_deref()) {
                (Some(Kind::Genesis(genesis)), _) => first = genesis_set(*hash, genesis),
                (_, Some(Claim::Set(set))) => {
                    on.entry(set.base).or_default().push((word, set));
                    council.words.entry(*hash).or_default().push(word);
                }
                (Some(Kind::Endorse(endorse)), _) => {
                    if let Ok(of) = OpHash::try_from(endorse.op.as_slice())
                        && log.is_before(&of, hash)
                    {
                        council.words.entry(of).or_default().push(word);
                    }
                }
                _ => {}
            }
        }
        let Some(mut base) = first else { return council };
        let mut used: BTreeSet<PublicKey> = base.seats.keys().copied().collect();
        loop {
            let proposed = sound(log, on.get(&base.op).map(Vec::as_slice), &base, &used);
            let signed = proposed
                .iter()
                .filter(|(op, _)| council.signers(&base, op).len() >= base.k)
                // The higher round; of one round that is signed twice, the same everywhere, and nothing an author chooses freely.
                .max_by_key(|(op, set)| (set.round, std::cmp::Reverse(*op)));
            let next = signed.filter(|_| council.sets.len().saturating_add(1) < SETS);
            let Some((op, set)) = next else {
                council.open = proposed.iter().map(|(op, _)| *op).collect();
                council.sets.push(base);
                return council;
            };
            council.ends.push(council.end(&base, op, set));
            used.extend(set.seats.keys().copied());
            let (round, k, seats) = (set.round, set.k, Arc::clone(&set.seats));
            council.sets.push(std::mem::replace(&mut base, AdminSet { op: *op, round, k, seats }));
        }
    }

    fn end(&self, base: &AdminSet, op: &OpHash, next: &SetClaim) -> End {
        let words = self.words.get(op).into_iter().flatten();
        let stays: BTreeSet<&PublicKey> = next.seats.values().flatten().collect();
        let goes = base.seats.iter().filter(|(key, uik)| match uik {
            Some(uik) => !stays.contains(uik),
            None => !next.seats.contains_key(key),
        });
        let mut cuts: BTreeMap<_, _> = goes.map(|(key, _)| (*key, BTreeMap::new())).collect();
        let named = next.cuts.iter().filter(|(key, _)| base.seats.contains_key(key));
        cuts.extend(named.map(|(key, lives)| (*key, lives.clone())));
        let words = words.filter(|word| base.seats.contains_key(&word.key)).copied().collect();
        End { next: *op, words, cuts }
    }

    /// Who of a set signed an operation, whenever that was.
    fn signers(&self, set: &AdminSet, op: &OpHash) -> BTreeSet<PublicKey> {
        let words = self.words.get(op).into_iter().flatten();
        words.map(|word| word.key).filter(|key| set.seats.contains_key(key)).collect()
    }

    /// The admins in office; none only of a log without a Genesis.
    pub(crate) fn in_office(&self) -> Option<&AdminSet> {
        self.sets.last()
    }

    /// Whether somebody is one of several admins in office.
    pub(crate) fn holds_a_seat(&self, uik: &PublicKey) -> bool {
        let several = self.in_office().filter(|set| set.seats.len() > 1);
        several.is_some_and(|set| set.seats.values().flatten().any(|of| of == uik))
    }

    /// Whether a set stands, in office or before.
    pub(crate) fn stood(&self, op: &OpHash) -> bool {
        self.sets.iter().any(|set| set.op == *op)
    }

    /// Whether a set can still take the place of those in office.
    pub(crate) fn is_open(&self, op: &OpHash) -> bool {
        self.open.contains(op)
    }

    /// Whether a key was one of any set that stood.
    pub(crate) fn was_used(&self, key: &PublicKey) -> bool {
        self.sets.iter().any(|set| set.seats.contains_key(key))
    }

    /// Whether an operation is one admin's word that counts.
    pub(crate) fn is_admins(&self, log: &Log, op: &OpHash, entry: &Entry) -> bool {
        let word = Word { key: entry.header.author, op: *op };
        self.under(log, &word).next().is_some()
    }

    /// Whether an operation is the word of who was the only admin then.
    pub(crate) fn is_only_admins(&self, log: &Log, op: &OpHash, entry: &Entry) -> bool {
        let word = Word { key: entry.header.author, op: *op };
        self.under(log, &word)
            .any(|place| self.sets.get(place).is_some_and(|set| set.seats.len() == 1))
    }

    /// Whether enough admins of one set signed an operation.
    pub(crate) fn is_signed(&self, log: &Log, op: &OpHash, entry: &Entry) -> bool {
        let author = Word { key: entry.header.author, op: *op };
        let mut by: BTreeMap<usize, BTreeSet<PublicKey>> = BTreeMap::new();
        for word in [author].iter().chain(self.words.get(op).into_iter().flatten()) {
            for place in self.under(log, word) {
                by.entry(place).or_default().insert(word.key);
            }
        }
        by.iter().any(|(place, by)| self.sets.get(*place).is_some_and(|set| by.len() >= set.k))
    }

    /// Who of those in office signed an operation.
    pub(crate) fn signed_by(&self, op: &OpHash, author: &PublicKey) -> BTreeSet<PublicKey> {
        let Some(set) = self.in_office() else { return BTreeSet::new() };
        let mut signed = self.signers(set, op);
        signed.extend(Some(*author).filter(|author| set.seats.contains_key(author)));
        signed
    }

    /// Under which sets a word counts.
    fn under<'a>(&'a self, log: &'a Log, word: &'a Word) -> impl Iterator<Item = usize> + 'a {
        self.sets.iter().enumerate().filter_map(move |(place, set)| {
            let seated = set.seats.contains_key(&word.key);
            let counts = seated && self.ends.get(place).is_none_or(|end| end.admits(log, word));
            counts.then_some(place)
        })
    }
}

impl End {
    /// Whether a word was said in time: nobody says so of their own, but by the proposal itself, which is bound by its place.
    fn admits(&self, log: &Log, word: &Word) -> bool {
        let known = self.words.iter().any(|end| {
            let speaks = end.op == self.next || end.key != word.key;
            end.op == word.op || (speaks && log.is_before(&word.op, &end.op))
        });
        let Some(entry) = log.get(&word.op) else { return false };
        let named = self.cuts.get(&word.key).is_none_or(|lives| {
            lives.get(&entry.header.incarnation).is_some_and(|ops| entry.header.seq < *ops)
        });
        known && named
    }
}

/// The sets proposed on a base that may stand once they are signed, in order.
fn sound<'a>(
    log: &Log,
    proposed: Option<&[(Word, &'a SetClaim)]>,
    base: &AdminSet,
    used: &BTreeSet<PublicKey>,
) -> Vec<(OpHash, &'a SetClaim)> {
    let mut sound: Vec<(OpHash, &SetClaim)> = Vec::new();
    let mut by: BTreeMap<PublicKey, usize> = BTreeMap::new();
    for (Word { key, op }, set) in proposed.into_iter().flatten() {
        let fresh = set.seats.iter().all(|(key, uik)| {
            // Paper stays where it is. Who asks for more signatures than before begins with other papers, too: fewer of the old
            // ones must not be able to undo that.
            let stays = uik.is_none() && set.k <= base.k && base.seats.get(key) == Some(&None);
            stays || !used.contains(key)
        });
        if !fresh || !base.seats.contains_key(key) || !log.is_before(&base.op, op) {
            continue;
        }
        let proposed = by.entry(*key).or_default();
        *proposed = proposed.saturating_add(1);
        if *proposed > EACH {
            continue;
        }
        // One round after the other, so that nobody takes the last there is.
        let before = sound.iter().filter(|(other, _)| log.is_before(other, op));
        let highest = before.map(|(_, other)| other.round).max().unwrap_or(0);
        if set.round <= highest.saturating_add(1) {
            sound.push((*op, set));
        }
    }
    sound
}

fn genesis_set(op: OpHash, genesis: &wire::Genesis) -> Option<AdminSet> {
    let seats = seats(&genesis.admins).ok()?;
    let k = usize::try_from(genesis.k).ok()?;
    (1..=seats.len()).contains(&k).then_some(AdminSet { op, round: 0, k, seats })
}
