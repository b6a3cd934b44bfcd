//! The epochs whose secrets are here.

use crate::{
    cx::Cx,
    model::Ring,
    stored::{self, RecordError},
};
use oob_crypto::{EpochSecret, HeaderKey};
use oob_proto::{EpochId, wire};
use oob_store::{Order, Store};

/// Epochs kept; a rotation a minute through half an hour of removals.
const KEPT: usize = 64;

/// Epoch secrets, oldest first.
#[derive(Default)]
pub(crate) struct Epochs {
    kept: Vec<Epoch>,
    next_place: u64,
}

/// One of them.
pub(crate) struct Epoch {
    pub(crate) ring: Ring,
    pub(crate) id: EpochId,
    pub(crate) secret: EpochSecret,
    pub(crate) header: HeaderKey,
}

impl Epoch {
    fn new(ring: Ring, secret: EpochSecret) -> Self {
        Self { ring, id: secret.id(), header: secret.header_key(), secret }
    }
}

impl Epochs {
    pub(crate) fn load(store: &Store) -> Result<Self, RecordError> {
        const AREA: &str = "epoch";
        let unreadable = || RecordError::Unreadable { area: AREA };
        let mut epochs = Self::default();
        for (place, bytes) in store.scan(&stored::epochs(), .., Order::Ascending, KEPT)? {
            let raw: wire::StoredEpoch = stored::decode(&bytes, AREA)?;
            let ring =
                u8::try_from(raw.ring).ok().and_then(Ring::from_code).ok_or_else(unreadable)?;
            let secret = raw.secret.as_slice().try_into().map_err(|_| unreadable())?;
            epochs.kept.push(Epoch::new(ring, EpochSecret::from_secret(secret)));
            epochs.next_place = place.saturating_add(1);
        }
        Ok(epochs)
    }

    /// Keeps a secret; returns whether it is new.
    pub(crate) fn learn(&mut self, cx: &mut Cx<'_>, ring: Ring, secret: EpochSecret) -> bool {
        let id = secret.id();
        if self.kept.len() >= KEPT || self.kept.iter().any(|epoch| epoch.id == id) {
            return false;
        }
        let raw = wire::StoredEpoch {
            ring: u32::from(ring.code()),
            secret: secret.export_secret().to_vec(),
            since_ms: cx.now.wall_ms,
        };
        stored::write(cx.store, &stored::epochs(), self.next_place, &raw);
        self.next_place = self.next_place.saturating_add(1);
        self.kept.push(Epoch::new(ring, secret));
        true
    }

    /// The newest of a ring.
    pub(crate) fn newest(&self, ring: Ring) -> Option<&Epoch> {
        self.kept.iter().rev().find(|epoch| epoch.ring == ring)
    }

    /// All, newest first.
    pub(crate) fn newest_first(&self) -> impl Iterator<Item = &Epoch> {
        self.kept.iter().rev()
    }

    /// Ids of all, ascending.
    pub(crate) fn ids(&self) -> Vec<EpochId> {
        let mut ids: Vec<EpochId> = self.kept.iter().map(|epoch| epoch.id).collect();
        ids.sort_unstable();
        ids
    }
}
