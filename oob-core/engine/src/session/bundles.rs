//! The own prekey bundles whose secrets are still kept.

use crate::{
    cx::Cx,
    own::BUNDLE_KEPT_MS,
    stored::{self, RecordError},
};
use oob_crypto::BundleSecrets;
use oob_proto::{BundleId, Message, wire};
use oob_store::Store;
use std::collections::BTreeMap;
use zeroize::Zeroizing;

/// Secrets of bundles, by id.
#[derive(Default)]
pub(crate) struct OwnBundles {
    kept: BTreeMap<BundleId, Kept>,
}

struct Kept {
    secrets: BundleSecrets,
    /// Elapsed time when its successor was published; 0 while it is the newest.
    superseded_ms: u64,
}

impl OwnBundles {
    pub(crate) fn load(store: &Store) -> Result<Self, RecordError> {
        const AREA: &str = "bundle";
        let mut kept = BTreeMap::new();
        for name in store.secret_names(stored::BUNDLE_PREFIX) {
            let Some(bytes) = store.secret(&name)? else { continue };
            let raw: wire::StoredBundle = stored::decode(&bytes, AREA)?;
            let secrets = Zeroizing::new(raw.secrets);
            let secrets = BundleSecrets::from_secret(&secrets)
                .map_err(|_| RecordError::Unreadable { area: AREA })?;
            kept.insert(secrets.id(), Kept { secrets, superseded_ms: raw.superseded_ms });
        }
        Ok(Self { kept })
    }

    pub(crate) fn get(&self, id: &BundleId) -> Option<&BundleSecrets> {
        self.kept.get(id).map(|kept| &kept.secrets)
    }

    /// Whether a first flight with this tag may be for one of them.
    pub(crate) fn may_be_ours(&self, tag: &[u8; 16]) -> bool {
        self.kept.values().any(|kept| kept.secrets.may_be_ours(tag))
    }

    /// Tries a function on each, newest first, until one gives something.
    pub(crate) fn find<T>(&self, mut with: impl FnMut(&BundleSecrets) -> Option<T>) -> Option<T> {
        let mut all: Vec<&Kept> = self.kept.values().collect();
        all.sort_by_key(|kept| {
            if kept.superseded_ms == 0 { 0 } else { u64::MAX.saturating_sub(kept.superseded_ms) }
        });
        all.into_iter().find_map(|kept| with(&kept.secrets))
    }

    /// Takes a bundle just published; the others are superseded now.
    pub(crate) fn publish(&mut self, cx: &mut Cx<'_>, secrets: BundleSecrets) {
        let now = cx.elapsed_ms.max(1);
        for kept in self.kept.values_mut().filter(|kept| kept.superseded_ms == 0) {
            kept.superseded_ms = now;
            let raw = wire::StoredBundle {
                secrets: kept.secrets.export_secret().to_vec(),
                superseded_ms: now,
            };
            let name = stored::bundle_secret(kept.secrets.id().as_bytes());
            cx.store.put_secret(&name, &Zeroizing::new(raw.encode_to_vec()));
        }
        self.kept.insert(secrets.id(), Kept { secrets, superseded_ms: 0 });
    }

    /// Forgets what nothing sealed to can still be under way.
    pub(crate) fn forget_old(&mut self, cx: &mut Cx<'_>) {
        let now = cx.elapsed_ms;
        let old: Vec<BundleId> = self
            .kept
            .iter()
            .filter(|(_, kept)| {
                kept.superseded_ms != 0 && now.saturating_sub(kept.superseded_ms) > BUNDLE_KEPT_MS
            })
            .map(|(id, _)| *id)
            .collect();
        for id in old {
            self.kept.remove(&id);
            cx.store.delete_secret(&stored::bundle_secret(id.as_bytes()));
        }
    }
}
