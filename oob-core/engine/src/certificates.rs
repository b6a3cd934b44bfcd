//! Relay certificates and bundles, everybody's and this device's own, as records that are handed on (docs/protocol.md,
//! section 10.6).

use crate::{
    cx::Cx,
    model::{LinkId, RangeSet},
    record::{Lane, RecordRef},
    roster::{BundleClaim, RelayClaim},
    state::State,
};
use oob_proto::{
    DeviceId, Incarnation, Message,
    wire::{self, frame::Kind},
};
use std::collections::BTreeMap;

impl State {
    /// Keeps the own certificates and the own bundle among what is handed on; older bundles are replaced.
    pub(crate) fn keep_own_keys(&mut self, cx: &mut Cx<'_>) {
        if !self.life.take_keys_changed() || self.organisation.is_none() {
            return;
        }
        let certs: Vec<wire::Signed> = self.life.relay_certs().cloned().collect();
        let mut now: BTreeMap<Incarnation, RangeSet> = BTreeMap::new();
        for signed in certs {
            let Ok(raw) = wire::RelayCert::decode(signed.payload.as_slice()) else { continue };
            let life = Incarnation(raw.incarnation);
            now.entry(life).or_default().insert(raw.record_seq);
            self.keep_own_key(cx, life, raw.record_seq, &Kind::RelayCert(signed));
        }
        if let Some(signed) = self.life.bundle.clone()
            && let Ok(raw) = wire::PrekeyBundle::decode(signed.payload.as_slice())
        {
            let life = Incarnation(raw.incarnation);
            now.entry(life).or_default().insert(raw.record_seq);
            self.keep_own_key(cx, life, raw.record_seq, &Kind::Bundle(signed));
        }
        for (life, now) in now {
            let key = (self.identity.device, life);
            let mut old = self.custody.in_lane(&key, Lane::Keys);
            old.subtract(&now);
            self.custody.take_out_all(cx.store, &key.0, key.1, &old);
        }
    }

    fn keep_own_key(&mut self, cx: &mut Cx<'_>, life: Incarnation, seq: u64, kind: &Kind) {
        let of = RecordRef { device: self.identity.device, incarnation: life, seq };
        if !self.custody.contains(&of) {
            self.pass_on(cx, None, of, kind, 0);
        }
    }

    /// Takes a relay certificate of somebody; returns whether it can be one.
    pub(crate) fn relay_cert(
        &mut self,
        cx: &mut Cx<'_>,
        link: Option<LinkId>,
        signed: &wire::Signed,
    ) -> bool {
        let Ok(raw) = wire::RelayCert::decode(signed.payload.as_slice()) else { return false };
        let Ok(device) = DeviceId::try_from(raw.device.as_slice()) else { return false };
        let of =
            RecordRef { device, incarnation: Incarnation(raw.incarnation), seq: raw.record_seq };
        let author = self.author_of(&device, of.incarnation, of.seq);
        let (Some(device), Some(org)) = (author, self.org_id()) else { return true };
        if device.id == self.identity.device {
            return self.own_cert_met(&org, signed);
        }
        if let Some(link) = link.and_then(|link| self.links.get_mut(link)) {
            link.gave(&of);
        }
        // Over its rate, whoever brings it; nothing is noted of it, and it is offered again.
        if self.directory.relays_flood(&device.id, cx.elapsed_ms)
            && !self.directory.knows_relay(&device.id, signed)
        {
            return true;
        }
        match self.directory.take_relay(cx, &org, &device, signed) {
            Some(replaced) => {
                self.rekeyed = true;
                replaced.iter().for_each(|old| self.replaced(cx, old));
            }
            None if self.directory.knows_relay(&device.id, signed) => {}
            // Two of one generation, both signed by their author: whoever passes on the other one is not to blame.
            None if RelayClaim::parse(&org, &device.dsk, signed).is_ok() => {
                self.mark_gone(&of);
                return true;
            }
            None => return false,
        }
        if !self.seen.contains(&of) {
            self.pass_on(cx, link, of, &Kind::RelayCert(signed.clone()), 0);
        }
        true
    }

    /// Takes a bundle of somebody; returns whether it can be one.
    pub(crate) fn bundle(
        &mut self,
        cx: &mut Cx<'_>,
        link: Option<LinkId>,
        signed: &wire::Signed,
    ) -> bool {
        let Ok(raw) = wire::PrekeyBundle::decode(signed.payload.as_slice()) else { return false };
        let Ok(device) = DeviceId::try_from(raw.device.as_slice()) else { return false };
        let of =
            RecordRef { device, incarnation: Incarnation(raw.incarnation), seq: raw.record_seq };
        let author = self.author_of(&device, of.incarnation, of.seq);
        let (Some(device), Some(org)) = (author, self.org_id()) else { return true };
        if device.id == self.identity.device {
            return self.own_bundle_met(&org, signed, cx.now.wall_ms);
        }
        if let Some(link) = link.and_then(|link| self.links.get_mut(link)) {
            link.gave(&of);
        }
        if self.seen.contains(&of) && self.directory.bundle(&device.id).is_some() {
            if self.directory.signed_bundle(&device.id) != Some(signed) {
                self.show_own_bundle(cx, link, &device.id);
            }
            return true;
        }
        match self.directory.take_bundle(cx, &org, &device, signed) {
            Some(old) => {
                if let Some(old) = old {
                    self.replaced(cx, &old);
                    if old.incarnation != of.incarnation {
                        self.lost_its_ratchets(cx, &device.id, of.incarnation);
                    }
                }
                if let Some(dead) = self.seen.newest_bundle(&device.id, of.incarnation, raw.seq) {
                    let mut all = RangeSet::new();
                    all.insert_range(0, u64::MAX);
                    self.custody.take_out_all(cx.store, &device.id, dead, &all);
                }
            }
            // Older than what is here: whoever still hands it on need not. Only its author may say which record that is, or
            // any neighbour could have anything of anybody's taken for gone.
            None if BundleClaim::parse(&org, &device.dsk, &device.olm_id, signed).is_ok() => {
                self.seen.mark_gone(&of);
                self.show_own_bundle(cx, link, &device.id);
                return true;
            }
            None => return false,
        }
        self.pass_on(cx, link, of, &Kind::Bundle(signed.clone()), 0);
        true
    }

    pub(crate) fn replaced(&mut self, cx: &mut Cx<'_>, of: &RecordRef) {
        self.custody.take_out(cx.store, of);
        self.seen.mark_gone(of);
    }
}
