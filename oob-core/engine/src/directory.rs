//! Relay certificates and prekey bundles of the other devices.

use crate::{
    cx::Cx,
    model::Device,
    record::RecordRef,
    roster::{BundleClaim, RelayClaim},
    stored::{self, RecordError},
};
use oob_crypto::{Bundle, PublicKey};
use oob_proto::{DeviceId, DeviceShort, Incarnation, Message, OrgId, wire};
use oob_store::{Order, Store};
use std::collections::BTreeMap;

/// Relay certificates kept per device: a month of daily keys.
const CERTS: usize = 32;

/// Relay certificates of one device that are taken at once: all that are kept of it. After that as many come as a device
/// could need whose clock is set now and then: each makes every envelope that waits be judged again.
const ARRIVALS: u64 = CERTS as u64;

/// The time between two of them, eight times the rate at which keys change.
const ARRIVAL_MS: u64 = 3 * 3_600_000;

/// What the others have certified, by device.
#[derive(Default)]
pub(crate) struct Directory {
    entries: BTreeMap<DeviceId, Entry>,
}

#[derive(Default)]
struct Entry {
    relays: BTreeMap<(Incarnation, u32), (PublicKey, wire::Signed)>,
    bundle: Option<(Bundle, u64, wire::Signed)>,
    /// How far it is ahead of the rate at which its certificates are taken: the running time at which it is even.
    even_ms: u64,
}

impl Directory {
    /// Loads what is kept of one device.
    pub(crate) fn load(
        &mut self,
        store: &Store,
        org: &OrgId,
        device: &Device,
    ) -> Result<(), RecordError> {
        for (_, bytes) in
            store.scan(&stored::relay_certs(&device.id), .., Order::Ascending, CERTS)?
        {
            let signed: wire::Signed = stored::decode(&bytes, "relay certificate")?;
            if let Ok(claim) = RelayClaim::parse(org, &device.dsk, &signed) {
                let entry = self.entries.entry(device.id).or_default();
                entry.relays.insert((claim.incarnation, claim.generation), (claim.rlk, signed));
            }
        }
        let signed: Option<wire::Signed> =
            stored::read(store, &stored::bundles(&device.id), stored::ONLY, "bundle")?;
        if let Some(signed) = signed
            && let Ok(claim) = BundleClaim::parse(org, &device.dsk, &device.olm_id, &signed)
        {
            self.entries.entry(device.id).or_default().bundle =
                Some((claim.bundle, claim.seq, signed));
        }
        Ok(())
    }

    /// Takes a relay certificate of a device if its signature holds and it is new; returns the numbers of those it takes
    /// the place of.
    pub(crate) fn take_relay(
        &mut self,
        cx: &mut Cx<'_>,
        org: &OrgId,
        device: &Device,
        signed: &wire::Signed,
    ) -> Option<Vec<RecordRef>> {
        let entry = self.entries.entry(device.id).or_default();
        if entry.relays.values().any(|(_, known)| known == signed) {
            return None;
        }
        let claim = RelayClaim::parse(org, &device.dsk, signed).ok()?;
        let key = (claim.incarnation, claim.generation);
        if entry.relays.contains_key(&key) {
            return None;
        }
        entry.even_ms = entry.even_ms.max(cx.elapsed_ms).saturating_add(ARRIVAL_MS);
        let mut replaced = Vec::new();
        if entry.relays.len() >= CERTS {
            // One of an earlier life goes, or else the oldest generation; what it signed is long delivered.
            let oldest = entry
                .relays
                .keys()
                .min_by_key(|(life, generation)| (*life == claim.incarnation, *generation))
                .copied()?;
            if let Some((_, old)) = entry.relays.remove(&oldest)
                && let Ok(old) = wire::RelayCert::decode(old.payload.as_slice())
            {
                let seq = old.record_seq;
                replaced.push(RecordRef { device: device.id, incarnation: oldest.0, seq });
            }
            cx.store.delete(&stored::relay_certs(&device.id), place(oldest));
        }
        stored::write(cx.store, &stored::relay_certs(&device.id), place(key), signed);
        entry.relays.insert(key, (claim.rlk, signed.clone()));
        Some(replaced)
    }

    /// Whether more certificates of a device came than are taken of anybody.
    pub(crate) fn relays_flood(&self, device: &DeviceId, elapsed_ms: u64) -> bool {
        let even_ms = self.entries.get(device).map_or(0, |entry| entry.even_ms);
        even_ms.saturating_sub(elapsed_ms) >= ARRIVALS.saturating_mul(ARRIVAL_MS)
    }

    /// Whether this very certificate is here.
    pub(crate) fn knows_relay(&self, device: &DeviceId, signed: &wire::Signed) -> bool {
        self.entries
            .get(device)
            .is_some_and(|entry| entry.relays.values().any(|(_, known)| known == signed))
    }

    /// Takes a bundle of a device if its signature holds and it is newer; returns the record it takes the place of, if
    /// there was one.
    pub(crate) fn take_bundle(
        &mut self,
        cx: &mut Cx<'_>,
        org: &OrgId,
        device: &Device,
        signed: &wire::Signed,
    ) -> Option<Option<RecordRef>> {
        let entry = self.entries.entry(device.id).or_default();
        if entry.bundle.as_ref().is_some_and(|(_, _, known)| known == signed) {
            return None;
        }
        let claim = BundleClaim::parse(org, &device.dsk, &device.olm_id, signed).ok()?;
        if entry.bundle.as_ref().is_some_and(|(_, seq, _)| *seq >= claim.seq) {
            return None;
        }
        let old = entry.bundle.as_ref().and_then(|(_, _, old)| {
            let old = wire::PrekeyBundle::decode(old.payload.as_slice()).ok()?;
            let incarnation = Incarnation(old.incarnation);
            Some(RecordRef { device: device.id, incarnation, seq: old.record_seq })
        });
        stored::write(cx.store, &stored::bundles(&device.id), stored::ONLY, signed);
        entry.bundle = Some((claim.bundle, claim.seq, signed.clone()));
        Some(old)
    }

    /// The newest bundle of a device.
    pub(crate) fn bundle(&self, device: &DeviceId) -> Option<&Bundle> {
        self.entries.get(device)?.bundle.as_ref().map(|(bundle, _, _)| bundle)
    }

    /// The newest bundle of a device, as it was signed.
    pub(crate) fn signed_bundle(&self, device: &DeviceId) -> Option<&wire::Signed> {
        self.entries.get(device)?.bundle.as_ref().map(|(_, _, signed)| signed)
    }

    /// The certificate of a device's newest relay key in a life, and its generation.
    pub(crate) fn newest_relay(
        &self,
        device: &DeviceId,
        life: Incarnation,
    ) -> Option<(u32, &wire::Signed)> {
        let relays = &self.entries.get(device)?.relays;
        let ((_, generation), (_, signed)) =
            relays.range((life, 0)..=(life, u32::MAX)).next_back()?;
        Some((*generation, signed))
    }

    /// The relay key of a device in a life and generation, with its certificate.
    pub(crate) fn relay_cert(
        &self,
        device: &DeviceId,
        life: Incarnation,
        generation: u32,
    ) -> Option<(&PublicKey, &wire::Signed)> {
        let (key, signed) = self.entries.get(device)?.relays.get(&(life, generation))?;
        Some((key, signed))
    }

    /// The relay key of a device in a life and generation.
    pub(crate) fn relay(
        &self,
        device: &DeviceId,
        life: Incarnation,
        generation: u32,
    ) -> Option<&PublicKey> {
        self.entries.get(device)?.relays.get(&(life, generation)).map(|(key, _)| key)
    }

    /// Lives of a device of which something is certified.
    pub(crate) fn lives(&self, device: &DeviceId) -> impl Iterator<Item = Incarnation> + '_ {
        let entry = self.entries.get(device);
        entry.into_iter().flat_map(|entry| entry.relays.keys().map(|(life, _)| *life))
    }

    /// The numbers of what is certified of a device's life.
    pub(crate) fn records(
        &self,
        device: &DeviceId,
        life: Incarnation,
    ) -> impl Iterator<Item = u64> + '_ {
        let entry = self.entries.get(device).into_iter();
        entry.flat_map(move |entry| {
            let relays = entry.relays.iter().filter(move |((of, _), _)| *of == life);
            let relays = relays.filter_map(|(_, (_, signed))| RelayClaim::record_of(signed));
            let bundle = entry.bundle.iter();
            let bundle = bundle.filter_map(|(_, _, signed)| BundleClaim::record_of(signed));
            let bundle = bundle.filter(move |(of, _)| *of == life);
            relays.chain(bundle).map(|(_, seq)| seq)
        })
    }

    /// Whether a device is known to have had a life.
    pub(crate) fn knows_life(&self, device: &DeviceId, life: Incarnation) -> bool {
        self.entries
            .get(device)
            .is_some_and(|entry| entry.relays.keys().any(|(known, _)| *known == life))
    }

    /// All relay keys, as screening looks them up.
    pub(crate) fn relays(
        &self,
    ) -> BTreeMap<(DeviceShort, Incarnation, u32), (DeviceId, PublicKey)> {
        let all = self.entries.iter().flat_map(|(device, entry)| {
            entry.relays.iter().map(|((life, generation), (key, _))| {
                ((device.short(), *life, *generation), (*device, *key))
            })
        });
        all.collect()
    }

    /// Everything certified, for somebody who joins: relay certificates, bundles.
    pub(crate) fn signed(&self) -> (Vec<wire::Signed>, Vec<wire::Signed>) {
        let relays = self
            .entries
            .values()
            .flat_map(|entry| entry.relays.values().map(|(_, signed)| signed.clone()));
        let bundles = self
            .entries
            .values()
            .filter_map(|entry| entry.bundle.as_ref().map(|(_, _, signed)| signed.clone()));
        (relays.collect(), bundles.collect())
    }
}

/// Seq of a certificate in its bag.
fn place((life, generation): (Incarnation, u32)) -> u64 {
    (u64::from(life.0) << 32) | u64::from(generation)
}
