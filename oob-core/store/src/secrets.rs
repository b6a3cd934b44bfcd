//! Secret records: ratchets, sessions and prekeys, each sealed under a slot that the next commit of it destroys.
//!
//! They live in one bag of the store's own; the sequence number is the slot pair. The sealed value holds the name:
//! `length u16 BE | name | value`. Which name has which pair is found out when the store is opened.

use std::collections::{BTreeMap, BTreeSet};

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::backend::Batch;
use crate::error::StoreError;
use crate::keys::{Keys, Prefix, address};
use crate::pending::Change;
use crate::seal::{open, seal, slot_of};
use crate::slots::{Slots, pair_of};

/// The label of the bag of secret records.
pub(crate) const BAG: &str = "secrets";

/// The names of all committed secrets and the slots they are sealed under.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    names: BTreeMap<Vec<u8>, u32>,
}

/// What a commit does to one secret.
pub(crate) struct Move {
    name: Vec<u8>,
    /// The slot that opens the value there is now, to be destroyed once the new one is durable.
    old: Option<u32>,
    /// The slot the new value is sealed under; `None` if the secret is deleted.
    new: Option<u32>,
}

impl Directory {
    /// Returns the slot a secret is sealed under.
    pub(crate) fn slot(&self, name: &[u8]) -> Option<u32> {
        self.names.get(name).copied()
    }

    /// Returns all names that start so.
    pub(crate) fn names<'a>(&'a self, prefix: &'a [u8]) -> impl Iterator<Item = &'a Vec<u8>> {
        self.names
            .range::<[u8], _>((std::ops::Bound::Included(prefix), std::ops::Bound::Unbounded))
            .map(|(name, _)| name)
            .take_while(move |name| name.starts_with(prefix))
    }

    /// Returns the slots that must not be destroyed.
    pub(crate) fn in_use(&self) -> BTreeSet<u32> {
        self.names.values().copied().collect()
    }

    /// Notes a record found when the store was opened.
    pub(crate) fn found(&mut self, name: Vec<u8>, slot: u32) -> Result<(), StoreError> {
        match self.names.insert(name, slot) {
            None => Ok(()),
            Some(_) => Err(StoreError::damaged("two secret records have one name")),
        }
    }

    /// Decides which slot each change goes under, and adds the sealed changes to a batch. Changes nothing that a
    /// failed commit would have to change back: slots the file grew by stay free.
    pub(crate) fn plan(
        &self,
        changes: &BTreeMap<Vec<u8>, Change>,
        slots: &mut Slots,
        prefix: &Prefix,
        batch: &mut Batch,
        rng: &mut dyn CryptoRng,
    ) -> Result<Vec<Move>, StoreError> {
        let born = changes.iter().filter(|(n, c)| c.is_some() && self.slot(n).is_none()).count();
        let mut pairs =
            slots.reserve(born, rng).map_err(StoreError::io("grow key slots"))?.into_iter();
        let mut moves = Vec::with_capacity(changes.len());
        for (name, change) in changes {
            let old = self.slot(name);
            let Some(value) = change else {
                if let Some(slot) = old {
                    batch.writes.push(((&address(prefix, pair_of(slot).into())).into(), None));
                    moves.push(Move { name: name.clone(), old, new: None });
                }
                continue;
            };
            let new = match old {
                Some(slot) => slot ^ 1,
                None => 2 * pairs.next().ok_or_else(|| StoreError::damaged("no free key slot"))?,
            };
            let key = slots
                .key(new)
                .ok_or_else(|| StoreError::damaged(format!("key slot {new} cannot be read")))?;
            let place = address(prefix, pair_of(new).into());
            // Names are at most NAME_BYTES long, which the commit checked.
            let len = u16::try_from(name.len()).unwrap_or(u16::MAX).to_be_bytes();
            let sealed = seal(rng, key, new, &place, &[&len, name, value]);
            batch.writes.push(((&place).into(), Some(sealed.into())));
            moves.push(Move { name: name.clone(), old, new: Some(new) });
        }
        Ok(moves)
    }

    /// Takes note that the batch is durable, and destroys the keys that open what it replaced. The names are right
    /// even if a slot could not be written.
    pub(crate) fn settle(
        &mut self,
        moves: Vec<Move>,
        slots: &mut Slots,
        rng: &mut dyn CryptoRng,
    ) -> std::io::Result<()> {
        let mut result = Ok(());
        for Move { name, old, new } in moves {
            if let Some(slot) = old
                && result.is_ok()
            {
                result = slots.overwrite(slot, rng);
            }
            match (old, new) {
                (_, Some(slot)) => {
                    slots.claim(pair_of(slot));
                    self.names.insert(name, slot);
                }
                (Some(slot), None) => {
                    self.names.remove(&name);
                    if result.is_ok() {
                        slots.release(pair_of(slot));
                    }
                }
                (None, None) => {}
            }
        }
        result
    }
}

/// What a stored secret record turned out to be.
pub(crate) enum Opened {
    /// Its slot, name and value.
    Whole(u32, Vec<u8>, Zeroizing<Vec<u8>>),
    /// The key in its slot is not the one it was sealed under.
    Locked(u32),
}

/// Opens a secret record under the slot it names.
pub(crate) fn open_secret(
    keys: &Keys,
    slots: &Slots,
    pair: u64,
    stored: &[u8],
) -> Result<Opened, StoreError> {
    let slot = slot_of(stored)?;
    if u64::from(pair_of(slot)) != pair || pair == 0 {
        return Err(StoreError::damaged("a secret record names a slot of another"));
    }
    let Some(key) = slots.key(slot) else {
        return Err(StoreError::damaged(format!("key slot {slot} cannot be read")));
    };
    let place = address(&keys.own_prefix(BAG), pair);
    let Ok(plain) = open(key, &place, stored) else { return Ok(Opened::Locked(slot)) };
    let parts = || {
        let (len, rest) = plain.split_first_chunk::<2>()?;
        let (name, value) = rest.split_at_checked(u16::from_be_bytes(*len).into())?;
        Some(Opened::Whole(slot, name.to_vec(), Zeroizing::new(value.to_vec())))
    };
    parts().ok_or_else(|| StoreError::damaged("a secret record has no name"))
}
