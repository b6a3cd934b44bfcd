//! Lives of a device: what happens when one loses its ratchets and counters, here or elsewhere (docs/protocol.md, section
//! 6.5).
//!
//! A store that was put back from a copy knows neither how far its counters had got nor the ratchets, so the device begins
//! another life. The others see that by its newest bundle, which is signed, and need no other word: what the device did not
//! say that it has is sealed again for it. A home put back as a whole looks like what it was; there the others tell. A
//! neighbour shows a device its own signed words that lie beyond what it says now, and only its own signature convinces it.

use crate::{
    cx::Cx,
    effect::Effect,
    model::{Device, LinkId, RangeSet},
    own::Behind,
    record::{Lane, RecordRef},
    roster::{BundleClaim, RelayClaim},
    state::State,
    stored::{self, RecordError},
    sync::{HaveClaim, Word},
};
use oob_crypto::{PublicKey, signed::verify};
use oob_proto::{
    DeviceId, Incarnation, Message, OrgId,
    signing::SignedType,
    wire::{self, Frame, frame::Kind},
};
use oob_store::Store;
use std::collections::BTreeSet;

/// What a device lacks is sealed again for it at once, then after this time, then after twice as long each time: one that
/// begins a life every minute must not have others seal thousands of messages each time.
const AGAIN_MS: u64 = 60_000;

/// The longest of these pauses: six times a day is no work to speak of.
const AGAIN_MOST_MS: u64 = 4 * 3_600_000;

/// So long after the last time a pause begins as short as at first.
const AGAIN_FORGIVEN_MS: u64 = 86_400_000;

/// Words of neighbours at hand to be shown to them: as many as the mesh has connections. Of others they are read again.
const WORDS: usize = 256;

/// How long nothing goes out while a neighbour owes the proof of what it says. Without one its word counts for nothing.
const PROOF_MS: u64 = 10_000;

/// How often one neighbour's word may have that effect.
const PROOF_EVERY_MS: u64 = 3_600_000;

impl State {
    /// Begins another life of this device: nothing of the one before is sent any more, no session goes on, and everybody is
    /// sent again what they did not say that they have.
    pub(crate) fn renew(
        &mut self,
        cx: &mut Cx<'_>,
        behind: Behind,
        doubtful_from: Option<u64>,
    ) -> Result<(), RecordError> {
        let before = self.life.incarnation;
        cx.store.delete(&stored::own(), stored::OWN_FORMER);
        self.life.renew(cx.rng, behind.bundle_floor, cx.now.wall_ms);
        if behind.overtaken {
            self.life.count_overtaken(cx.now.wall_ms);
        }
        self.peers.forget_all(cx.store)?;
        self.outbox.clear(cx.store);
        (self.changed, self.rekeyed) = (true, true);
        let Some(org) = self.org_id() else { return Ok(()) };
        self.life.certify(&self.identity, &org, cx.now.wall_ms);
        let secrets = self.life.publish_bundle(cx, &self.identity, &org);
        self.bundles.publish(cx, secrets);
        self.keep_own_keys(cx);
        let me = self.identity.device;
        let devices: Vec<Device> = self
            .organisation
            .iter()
            .flat_map(|organisation| organisation.roster().view.devices.values().cloned())
            .collect();
        // First those that keep their ids, while nothing is written in this life yet.
        for device in devices.iter().filter(|device| device.id != me) {
            self.seal_again(cx, device, doubtful_from.map(|from| (before, from)))?;
        }
        if let Some(from) = doubtful_from {
            self.with_direct(|direct, post| direct.write_anew(cx, post, before, from))
                .transpose()?;
            self.raise_anew(cx, before, from)?;
        }
        Ok(())
    }

    /// Makes own alerts and answers of a life again, from a record on: others may know other records by their numbers, and
    /// would take these for them.
    fn raise_anew(
        &mut self,
        cx: &mut Cx<'_>,
        life: Incarnation,
        from: u64,
    ) -> Result<(), RecordError> {
        let key = (self.identity.device, life);
        let mut doubtful = RangeSet::new();
        doubtful.insert_range(from, u64::MAX);
        let doubtful = self.custody.in_lane(&key, Lane::Alerts).common(&doubtful);
        for seq in doubtful.numbers().collect::<Vec<_>>() {
            let of = RecordRef { device: key.0, incarnation: key.1, seq };
            let read = self.custody.read(cx.store, &of, cx.elapsed_ms)?;
            let kind = read.and_then(|(frame, _)| Frame::read(&frame).ok()?.kind);
            let Some(kind) = kind else { continue };
            let made = self.with_alerts(|alerts| alerts.make_anew(cx, &kind));
            if let Some(made) = made.transpose()?.flatten() {
                self.custody.take_out(cx.store, &of);
                self.pass_on(cx, None, made.record, &made.kind, 0);
            }
        }
        Ok(())
    }

    /// Takes note that a device began another life: it has none of the ratchets it had.
    pub(crate) fn lost_its_ratchets(
        &mut self,
        cx: &mut Cx<'_>,
        device: &DeviceId,
        life: Incarnation,
    ) {
        self.peers.retire(device, life);
        self.outbox.settle(cx.store, device, |_| true);
        self.lost.insert(*device);
        // What was owed is gone with this batch: that it is owed must not be forgotten with a start.
        let known = self.neighbours.entry(*device).or_default();
        known.lost = true;
        stored::write(cx.store, &stored::neighbour(device), stored::ONLY, known);
        self.have_changed(cx.now.mono_ms);
    }

    /// Seals again what those lack who lost their ratchets.
    pub(crate) fn send_again(&mut self, cx: &mut Cx<'_>) -> Result<(), RecordError> {
        for id in self.lost.clone() {
            let known = self.neighbours.entry(id).or_default();
            let since_ms = cx.elapsed_ms.saturating_sub(known.again_ms);
            if since_ms < known.again_pause_ms {
                continue;
            }
            let pause_ms = match since_ms < AGAIN_FORGIVEN_MS {
                true => known.again_pause_ms.saturating_mul(2),
                false => 0,
            };
            known.again_pause_ms = pause_ms.clamp(AGAIN_MS, AGAIN_MOST_MS);
            known.again_ms = cx.elapsed_ms;
            known.lost = false;
            stored::write(cx.store, &stored::neighbour(&id), stored::ONLY, known);
            self.lost.remove(&id);
            if let Some(device) = self.device(&id) {
                self.seal_again(cx, &device, None)?;
            }
        }
        Ok(())
    }

    fn seal_again(
        &mut self,
        cx: &mut Cx<'_>,
        device: &Device,
        but: Option<(Incarnation, u64)>,
    ) -> Result<(), RecordError> {
        let sealed = self.with_direct(|direct, post| direct.seal_again(cx, post, device, but));
        sealed.transpose().map(drop)
    }

    /// Looks at an own relay certificate that somebody else had; returns whether it is one. A generation of this life that
    /// was never made here was made by whoever went on with it.
    pub(crate) fn own_cert_met(&mut self, org: &OrgId, signed: &wire::Signed) -> bool {
        let own = self.identity.dsk.public();
        let Ok(claim) = RelayClaim::parse(org, &own, signed) else { return false };
        if claim.incarnation != self.life.incarnation {
            return true;
        }
        // A generation leaves here with one key only: another one was made by a store that this one is a copy of.
        let is_other = self.life.relay_certs().filter_map(RelayClaim::read).any(|own| {
            (own.incarnation, own.generation) == (claim.incarnation, claim.generation)
                && own.rlk != claim.rlk
        });
        if is_other || claim.generation > self.life.rlk_gen {
            self.is_behind(0);
        }
        true
    }

    /// Looks at an own bundle that somebody else had; returns whether it is one. One of another life that has the number of
    /// the newest here has taken its place with whoever had it first: the same copy was restored twice.
    pub(crate) fn own_bundle_met(
        &mut self,
        org: &OrgId,
        signed: &wire::Signed,
        now_ms: u64,
    ) -> bool {
        let own = self.identity.dsk.public();
        let Ok(claim) = BundleClaim::parse(org, &own, &self.identity.olm.identity(), signed) else {
            return false;
        };
        let next = claim.seq.saturating_add(1);
        if claim.incarnation == self.life.incarnation {
            // A number leaves here with one bundle only, too.
            let newest = self.life.bundle.as_ref().map(|own| &own.payload);
            let is_other = next == self.life.next_bundle() && newest != Some(&signed.payload);
            if next > self.life.next_bundle() || is_other {
                self.is_behind(next);
            }
        } else if next >= self.life.next_bundle() {
            // Numbers and ratchets of this life are nobody else's: that others send elsewhere is the harm, and it can wait.
            match self.life.may_be_overtaken(now_ms) {
                true => self.is_overtaken(next),
                false => {
                    tracing::warn!(
                        "this identity runs on another machine too: stop one of the two"
                    );
                    self.changed = true;
                }
            }
        }
        true
    }

    /// Looks at a Have that may be this device's own; none if it is another's, else whether it is good.
    pub(crate) fn own_have_met(&mut self, org: &OrgId, signed: &wire::Signed) -> Option<bool> {
        let raw = wire::Have::decode(signed.payload.as_slice()).ok()?;
        if raw.device != self.identity.device.as_bytes() {
            return None;
        }
        let signers = self.life.relay_certs().filter_map(|cert| {
            let cert = wire::RelayCert::decode(cert.payload.as_slice()).ok()?;
            let same = (cert.incarnation, cert.r#gen) == (raw.incarnation, raw.r#gen);
            same.then(|| PublicKey::parse(&cert.rlk).ok())?
        });
        let mut signers = signers.collect::<Vec<_>>().into_iter();
        // Of a generation that is not known here: its certificate says what there is to say.
        let Some(signer) = signers.next() else { return Some(true) };
        if verify(SignedType::Have, org, signed, &[signer]).is_err() {
            return Some(false);
        }
        if raw.incarnation == self.life.incarnation.0 && !self.life.knows_word(raw.run, raw.number)
        {
            self.is_behind(0);
        }
        Some(true)
    }

    /// What to tell a neighbour of its own last word.
    pub(crate) fn have_mark(&self, device: &DeviceId) -> Option<wire::HaveMark> {
        let Word { life, number, run, .. } = self.last_word(device)?;
        Some(wire::HaveMark { incarnation: life.0, number, run })
    }

    /// The newest Have of a device.
    fn last_word(&self, device: &DeviceId) -> Option<Word> {
        self.last_words.get(device).cloned().or_else(|| {
            let signed = self.neighbours.get(device)?.have.clone()?;
            let raw = wire::Have::decode(signed.payload.as_slice()).ok()?;
            let (life, number, run) = (Incarnation(raw.incarnation), raw.number, raw.run);
            // How far it tells of its author's own records is asked of those that came since the start alone.
            Some(Word { life, number, run, own_to: 0, signed })
        })
    }

    /// Takes what a neighbour says of this device's last word. Anybody can say so, so it convinces nobody: it has this device
    /// wait a moment for its own signature, which the neighbour then shows.
    pub(crate) fn heard_of_own(&mut self, cx: &Cx<'_>, from: &Device, hello: &wire::Hello) {
        let later = hello.yours.as_ref().is_some_and(|yours| {
            yours.incarnation == self.life.incarnation.0
                && !self.life.knows_word(yours.run, yours.number)
        });
        if !later {
            return self.knows_nothing_later(from.id);
        }
        let now_ms = cx.now.mono_ms;
        let last = self.held_back_by.get(&from.id);
        if last.is_some_and(|last| now_ms.saturating_sub(*last) < PROOF_EVERY_MS) {
            return;
        }
        self.held_back_by.insert(from.id, now_ms);
        self.held_back_ms = now_ms.saturating_add(PROOF_MS);
    }

    /// Takes note that a neighbour knows no later word of this device. It speaks for itself alone: the store is no longer in
    /// doubt when everybody has said so whose word it knows, and who is still there.
    fn knows_nothing_later(&mut self, device: DeviceId) {
        self.vouched_by.insert(device);
        let stored = self.neighbours.iter().filter(|(_, known)| known.have.is_some());
        let mut met = stored.map(|(id, _)| id).chain(self.last_words.keys());
        if met.all(|id| self.vouched_by.contains(id) || self.device(id).is_none()) {
            self.life.vouched();
        }
    }

    /// Whether nothing of this device's own goes out just now.
    pub(crate) fn holds_back(&self, now_ms: u64) -> bool {
        now_ms < self.held_back_ms
    }

    /// Ends the wait for a proof that did not come.
    pub(crate) fn hold_back_no_longer(&mut self, now_ms: u64) {
        if self.held_back_ms > 0 && !self.holds_back(now_ms) {
            self.held_back_ms = 0;
        }
    }

    fn is_behind(&mut self, bundle_floor: u64) {
        #[cfg(feature = "sim")]
        if self.rig.faults.same_life {
            return;
        }
        let bundle_floor = self.behind.map_or(0, |known| known.bundle_floor).max(bundle_floor);
        self.behind = Some(Behind { bundle_floor, overtaken: false });
    }

    fn is_overtaken(&mut self, bundle_floor: u64) {
        #[cfg(feature = "sim")]
        if self.rig.faults.same_life {
            return;
        }
        match &mut self.behind {
            Some(known) => known.bundle_floor = known.bundle_floor.max(bundle_floor),
            None => self.behind = Some(Behind { bundle_floor, overtaken: true }),
        }
    }

    /// Keeps a neighbour's word, and shows it the one before if it may not know that any more. Returns whether the new one is its
    /// last.
    pub(crate) fn keep_word(
        &mut self,
        cx: &mut Cx<'_>,
        link: LinkId,
        from: &Device,
        claim: &HaveClaim,
        signed: &wire::Signed,
        first: bool,
    ) -> bool {
        if let Some(before) = self.last_word(&from.id)
            && before.life == claim.life
        {
            let later = before.number >= claim.number;
            if later && before.signed == *signed {
                return true;
            }
            // Its store was opened in between. If it was put back before that, too, it may have said as many words since, to
            // others, as it forgot: only itself can tell.
            if first && (later || before.run != claim.run) {
                let cert = self.directory.newest_relay(&from.id, claim.life);
                let cert = cert.filter(|(generation, _)| *generation > claim.generation);
                let cert = cert.map(|(_, cert)| Kind::RelayCert(cert.clone()));
                for kind in cert.into_iter().chain([Kind::Have(before.signed)]) {
                    show(cx, link, kind);
                }
            }
            if later {
                return false;
            }
        }
        if self.last_words.len() >= WORDS && !self.last_words.contains_key(&from.id) {
            let linked: BTreeSet<DeviceId> = self.links.iter().map(|link| link.device).collect();
            let heard_ms = |id: &DeviceId| self.neighbours.get(id).map_or(0, |n| n.last_heard_ms);
            if let Some(oldest) = gives_way(self.last_words.keys(), &linked, heard_ms) {
                self.store_word(cx.store, &oldest);
                self.last_words.remove(&oldest);
            }
        }
        let own = claim.told.iter().find(|told| told.key == (from.id, claim.life));
        let word = Word {
            life: claim.life,
            number: claim.number,
            run: claim.run,
            own_to: own.and_then(|told| told.known.last()).unwrap_or(0),
            signed: signed.clone(),
        };
        self.last_words.insert(from.id, word);
        self.spoke.insert(from.id);
        true
    }

    /// Writes the words that came in this batch where more of their author's records is known than the stored one tells of.
    /// Whatever number of a device is known here, and told as known, a word that was said after it lies in the store: from the
    /// next one on after the record came, whenever this device is killed. A word that brings no news of its author's own
    /// records vouches for nothing, and waits for the end of the stream.
    pub(crate) fn save_words(&mut self, store: &mut Store) {
        for device in std::mem::take(&mut self.spoke) {
            let Some(word) = self.last_words.get(&device) else { continue };
            let known = self.seen.last(&device, word.life);
            let stored = self.stored_words.get(&device);
            if stored.is_none_or(|(life, to)| *life != word.life || *to < known) {
                self.store_word(store, &device);
            }
        }
    }

    /// Writes a neighbour's last word with the rest that is known of it.
    pub(crate) fn store_word(&mut self, store: &mut Store, device: &DeviceId) {
        let Some(word) = self.last_words.get(device) else { return };
        let known = self.neighbours.entry(*device).or_default();
        known.have = Some(word.signed.clone());
        stored::write(store, &stored::neighbour(device), stored::ONLY, known);
        self.stored_words.insert(*device, (word.life, word.own_to));
    }

    /// Shows a neighbour that greets with older keys its own newest certificate of that life.
    pub(crate) fn show_own_cert(
        &mut self,
        cx: &mut Cx<'_>,
        link: LinkId,
        from: &Device,
        hello: &wire::Hello,
    ) {
        let Some(org) = self.org_id() else { return };
        // A certificate of a generation of which another is known says as much as one that is too old.
        let other = hello.relay_certs.iter().filter_map(RelayClaim::read).find_map(|shown| {
            let known = self.directory.relay_cert(&from.id, shown.incarnation, shown.generation);
            known.filter(|(key, _)| **key != shown.rlk).map(|(_, cert)| cert)
        });
        let later = || {
            let shown = hello.relay_certs.last();
            let shown = shown.and_then(|cert| RelayClaim::parse(&org, &from.dsk, cert).ok())?;
            let newest = self.directory.newest_relay(&from.id, shown.incarnation);
            newest.filter(|(generation, _)| *generation > shown.generation).map(|(_, cert)| cert)
        };
        if let Some(cert) = other.or_else(later) {
            let cert = cert.clone();
            show(cx, link, Kind::RelayCert(cert));
        }
    }

    /// Shows a neighbour that offers an older bundle its own newest one.
    pub(crate) fn show_own_bundle(&mut self, cx: &mut Cx<'_>, link: Option<LinkId>, of: &DeviceId) {
        let Some(link) = link.and_then(|link| self.links.get_mut(link)) else { return };
        if link.device != *of {
            return;
        }
        let link = link.id;
        if let Some(newest) = self.directory.signed_bundle(of) {
            let newest = newest.clone();
            show(cx, link, Kind::Bundle(newest));
        }
    }
}

/// Whose word need not be at hand: of those without a stream whoever was heard longest ago.
fn gives_way<'a>(
    all: impl Iterator<Item = &'a DeviceId>,
    linked: &BTreeSet<DeviceId>,
    heard_ms: impl Fn(&DeviceId) -> u64,
) -> Option<DeviceId> {
    all.min_by_key(|id| (linked.contains(*id), heard_ms(id), **id)).copied()
}

fn show(cx: &mut Cx<'_>, link: LinkId, kind: Kind) {
    let frame = Frame::new(kind).encode_to_vec();
    cx.out.effects.push(Effect::Send { link, frame });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// It was the one with the lowest id, however lately it was heard.
    #[test]
    fn of_the_words_at_hand_the_one_of_whoever_was_heard_longest_ago_gives_way() {
        let all = [1, 2, 3].map(|n| DeviceId::from([n; 32]));
        let heard = |id: &DeviceId| [900, 300, 100][usize::from(id.as_bytes()[0]) - 1];
        let none = BTreeSet::new();
        assert_eq!(gives_way(all.iter(), &none, heard), Some(all[2]));
        let linked = BTreeSet::from([all[2]]);
        assert_eq!(gives_way(all.iter(), &linked, heard), Some(all[1]));
    }
}
