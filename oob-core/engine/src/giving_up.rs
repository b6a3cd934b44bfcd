//! What neighbours say that they have, and what nobody needs any more: by its author's word, by its age, by a removal
//! (docs/protocol.md, sections 10.3 and 10.6).

use crate::{
    cx::Cx,
    model::{Device, LinkId, RangeSet},
    outbox::{Carries, Pending},
    record::RecordRef,
    session::Sealing,
    state::State,
    stored::{self, RecordError},
    sync::HaveClaim,
};
use oob_crypto::signed;
use oob_proto::{
    ConversationId, DeviceId, Incarnation, Message, limits,
    signing::SignedType,
    wire::{self, frame::Kind},
};
use std::collections::{BTreeMap, BTreeSet};

/// The longest life of an envelope.
const LONGEST_MS: u64 = 21 * 86_400_000;

/// Lives and ranges in one Floor.
const FLOOR_RANGES: usize = 1_024;

/// Own messages given up in one batch.
const GIVEN_UP: usize = 1_024;

impl State {
    /// Drops what does not stand of devices that were taken out, and what is still owed to them.
    pub(crate) fn apply_cuts(&mut self, cx: &mut Cx<'_>) -> Result<(), RecordError> {
        let Some(organisation) = &self.organisation else { return Ok(()) };
        for (device, cuts) in organisation.roster().record_cuts() {
            let lives: Vec<Incarnation> = self.seen.lives_of(&device).collect();
            for life in lives {
                let standing = cuts.get(&life).cloned().unwrap_or_default();
                let mut all = RangeSet::new();
                all.insert_range(0, u64::MAX);
                let beyond = standing.missing_from(&all);
                self.custody.take_out_all(cx.store, &device, life, &beyond);
                self.seen.cut(&device, life, &standing);
            }
            self.holders.forget(&device);
            self.reheld = true;
            self.give_up_sealing_again(cx, &device)?;
            // It is given nothing any more. What arrived in time its receipts may still say.
            let unsent = self.outbox.settle(cx.store, &device, |_| true);
            for ((conversation, to, life), set) in
                messages(unsent.into_iter().map(|owed| (device, owed)))
            {
                let told = self.with_direct(|direct, _| {
                    direct.mark_removed(cx, &conversation, &to, life, &set)
                });
                told.transpose()?;
            }
        }
        Ok(())
    }

    /// What was to be sealed again for a device is owed to it no more: it was removed meanwhile.
    fn give_up_sealing_again(
        &mut self,
        cx: &mut Cx<'_>,
        device: &DeviceId,
    ) -> Result<(), RecordError> {
        if !self.lost.remove(device) {
            return Ok(());
        }
        let known = self.neighbours.entry(*device).or_default();
        known.lost = false;
        stored::write(cx.store, &stored::neighbour(device), stored::ONLY, known);
        let former = self.organisation.as_ref().and_then(|all| all.roster().former.get(device));
        let Some(former) = former.cloned() else { return Ok(()) };
        let told = self.with_direct(|direct, _| direct.mark_lacking_removed(cx, &former));
        told.transpose().map(drop)
    }

    /// Takes a neighbour's word on what it has; returns whether it is its word.
    pub(crate) fn have(
        &mut self,
        cx: &mut Cx<'_>,
        id: LinkId,
        from: &Device,
        signed: &wire::Signed,
    ) -> Result<bool, RecordError> {
        let Some(org) = self.org_id() else { return Ok(true) };
        if let Some(good) = self.own_have_met(&org, signed) {
            return Ok(good);
        }
        let relay = |life, generation| self.directory.relay(&from.id, life, generation);
        let Some(claim) = HaveClaim::parse(&org, &from.id, signed, relay) else { return Ok(false) };
        let Some(link) = self.links.get_mut(id) else { return Ok(true) };
        if claim.number <= link.have_number {
            return Ok(true);
        }
        let first = std::mem::replace(&mut link.have_number, claim.number) == 0;
        // What was so once says nothing of what is: numbers may have been given to other records since.
        if !self.keep_word(cx, id, from, &claim, signed, first) {
            return Ok(true);
        }
        let Some(link) = self.links.get_mut(id) else { return Ok(true) };
        link.take_have(claim.life, claim.span, &claim.told, cx.now.mono_ms);
        let me = self.identity.device;
        for told in &claim.told {
            let (device, life) = told.key;
            #[cfg(feature = "sim")]
            if self.rig.faults.believe_gone
                && let Some(author) = self.device(&device).filter(|author| author.id != from.id)
            {
                self.give_up(cx, &author, life, &told.have.missing_from(&told.known))?;
            }
            if device == from.id {
                // An author's word on its own records is the last: what it has no more, nobody needs.
                let mut gone = told.known.clone();
                gone.subtract(&told.have);
                self.give_up(cx, from, life, &gone)?;
            } else if device == me
                && (self.outbox.has_life(life) || self.holders.knows(&from.id, life))
            {
                self.settle(cx, &from.id, life, &told.have.missing_from(&told.known));
                self.holds(cx, from, life, &told.have)?;
            }
        }
        // Of several words that belong together, with the last.
        let whole = claim.span.is_last();
        if whole && self.links.get_mut(id).is_some_and(|link| link.may_compare(cx.now.mono_ms)) {
            self.queue_releases(id);
            self.compare(id);
        }
        Ok(true)
    }

    /// Queues the proofs for what a neighbour still has and nobody needs.
    pub(crate) fn queue_releases(&mut self, id: LinkId) {
        let Self { links, seen, releases, .. } = self;
        let Some(link) = links.get_mut(id) else { return };
        for (key, below) in link.cut_short() {
            if link.proofs.is_full() {
                return;
            }
            let of = releases.of_life(key, below).filter(|of| !link.proofs.was_offered(of));
            let of: Vec<RecordRef> = of.take(limits::HAVE_RANGES).copied().collect();
            of.iter().for_each(|of| link.queue_release(of));
        }
        for key in link.lives() {
            if link.proofs.is_full() {
                return;
            }
            let Some(has) = link.has(&key).cloned() else { continue };
            let gone = seen.gone_of(&key.0, key.1, &has);
            for seq in gone.numbers().take(limits::HAVE_RANGES) {
                let (device, incarnation) = key;
                link.queue_release(&RecordRef { device, incarnation, seq });
            }
        }
    }

    /// Takes away from what is owed to a device the receipts that it says it needs no more: it opened them. A message is owed
    /// until its receipt is here: a device may have one that it cannot open yet, and give it up where there is no room.
    pub(crate) fn settle(
        &mut self,
        cx: &mut Cx<'_>,
        device: &DeviceId,
        life: Incarnation,
        gone: &RangeSet,
    ) {
        let settled = self.outbox.settle(cx.store, device, |pending| {
            let receipt = matches!(pending.carries, Carries::Ack { .. });
            receipt && pending.incarnation == life && gone.contains(pending.seq)
        });
        if !settled.is_empty() {
            self.have_changed(cx.now.mono_ms);
        }
    }

    /// Takes a device's word that it carries own records for others.
    pub(crate) fn holds(
        &mut self,
        cx: &mut Cx<'_>,
        from: &Device,
        life: Incarnation,
        have: &RangeSet,
    ) -> Result<(), RecordError> {
        let live = self.outbox.live().remove(&life).unwrap_or_default();
        let new = self.holders.say(&from.id, &from.member, life, live.common(have));
        let mut held = BTreeMap::new();
        for seq in new.numbers() {
            let Some((to, pending)) = self.outbox.get(life, seq) else { continue };
            let Carries::Message { conversation, life: written, body_seq, .. } = pending.carries
            else {
                continue;
            };
            // What the addressee has says nothing of others who carry it.
            if self.device(&to).is_none_or(|to| to.member == from.member) {
                continue;
            }
            let set: &mut RangeSet = held.entry((conversation, to, written)).or_default();
            set.insert(body_seq);
        }
        self.reheld |= !held.is_empty();
        for ((conversation, to, written), set) in held {
            let told = self
                .with_direct(|direct, _| direct.mark_held(cx, &conversation, &to, written, &set));
            told.transpose()?;
        }
        Ok(())
    }

    /// Takes an author's word that nobody needs some of its records any more.
    pub(crate) fn give_up(
        &mut self,
        cx: &mut Cx<'_>,
        from: &Device,
        life: Incarnation,
        gone: &RangeSet,
    ) -> Result<(), RecordError> {
        let here = self.seen.give_up(&from.id, life, gone);
        if !here.is_empty() {
            self.custody.take_out_all(cx.store, &from.id, life, &here);
        }
        self.skip_holes(cx, from)
    }

    /// Takes an author's signed word on what it gave up; returns whether it is its word.
    pub(crate) fn floor(
        &mut self,
        cx: &mut Cx<'_>,
        link: Option<LinkId>,
        signed: &wire::Signed,
        age_s: u32,
    ) -> Result<bool, RecordError> {
        let Some(org) = self.org_id() else { return Ok(true) };
        let Ok(raw) = wire::Floor::decode(signed.payload.as_slice()) else { return Ok(false) };
        let Ok(device) = DeviceId::try_from(raw.device.as_slice()) else { return Ok(false) };
        if device == self.identity.device {
            return Ok(true);
        }
        let life = Incarnation(raw.incarnation);
        let Some(from) = self.author_of(&device, life, raw.record_seq) else { return Ok(true) };
        let ranges: usize = raw.gone.iter().map(|entry| entry.ranges.len().max(1)).sum();
        if ranges > FLOOR_RANGES
            || signed::verify(SignedType::Floor, &org, signed, &[from.dsk]).is_err()
        {
            return Ok(false);
        }
        let of = RecordRef { device, incarnation: life, seq: raw.record_seq };
        if let Some(link) = link.and_then(|link| self.links.get_mut(link)) {
            link.gave(&of);
        }
        if self.seen.contains(&of) {
            return Ok(true);
        }
        for entry in &raw.gone {
            let gone = RangeSet::from_wire(&entry.ranges, FLOOR_RANGES);
            self.give_up(cx, &from, Incarnation(entry.incarnation), &gone)?;
        }
        self.pass_on(cx, link, of, &Kind::Floor(signed.clone()), age_s);
        Ok(true)
    }

    /// Gives up own envelopes that nobody opened in all their life, and says so; drops what is too old of others'.
    pub(crate) fn expire(&mut self, cx: &mut Cx<'_>) -> Result<(), RecordError> {
        for of in self.custody.expire(cx) {
            self.mark_gone(&of);
        }
        self.releases.forget_old(cx);
        let Some(before) = cx.elapsed_ms.checked_sub(LONGEST_MS) else { return Ok(()) };
        let mut old = self.outbox.sealed_by(before);
        old.truncate(GIVEN_UP);
        if old.is_empty() {
            return Ok(());
        }
        for (to, pending) in &old {
            self.outbox.settle(cx.store, to, |other| other == pending);
        }
        let without: BTreeSet<DeviceId> = old.iter().map(|(to, _)| *to).collect();
        self.told_expired(cx, old.into_iter())?;
        if let Some(org) = self.org_id() {
            for to in &without {
                let Some(bundle) = self.directory.bundle(to) else { continue };
                let sealing = Sealing { org: &org, identity: &self.identity, to, bundle };
                self.peers.begin_again(&sealing);
            }
        }
        self.write_floor(cx);
        Ok(())
    }

    /// Says of messages that they will not be delivered.
    pub(crate) fn told_expired(
        &mut self,
        cx: &mut Cx<'_>,
        all: impl Iterator<Item = (DeviceId, Pending)>,
    ) -> Result<(), RecordError> {
        for ((conversation, to, life), set) in messages(all) {
            let told = self
                .with_direct(|direct, _| direct.mark_expired(cx, &conversation, &to, life, &set));
            told.transpose()?;
        }
        Ok(())
    }

    /// Says to everybody, also those it does not meet, which of its own records nobody needs: all that it does not have.
    pub(crate) fn write_floor(&mut self, cx: &mut Cx<'_>) {
        let Some(org) = self.org_id() else { return };
        // A bundle just replaced is among what nobody needs.
        self.keep_own_keys(cx);
        let last = self.life.next_record().saturating_sub(1);
        let mut fresh = self.outbox.fresh();
        let gone = self.own_live().into_iter().map(|(life, mut live)| {
            // What was sealed a moment ago has a number already and is with nobody.
            live.union(&fresh.remove(&life).unwrap_or_default());
            let mut all = RangeSet::new();
            let end = if life == self.life.incarnation { last } else { live.last().unwrap_or(0) };
            all.insert_range(1, end);
            (life, live.missing_from(&all))
        });
        let gone: Vec<(Incarnation, RangeSet)> = gone.collect();
        let floor = wire::Floor {
            device: self.identity.device.to_vec(),
            incarnation: self.life.incarnation.0,
            record_seq: self.life.take_record(),
            gone: gone
                .iter()
                .map(|(life, set)| wire::FloorEntry {
                    incarnation: life.0,
                    ranges: lowest(set, FLOOR_RANGES / gone.len().max(1)),
                })
                .collect(),
        };
        let of = RecordRef {
            device: self.identity.device,
            incarnation: self.life.incarnation,
            seq: floor.record_seq,
        };
        let signed =
            signed::sign(SignedType::Floor, &org, floor.encode_to_vec(), &[&self.identity.dsk]);
        self.pass_on(cx, None, of, &Kind::Floor(signed), 0);
    }

    /// Notes that nobody needs a record; of an own one that it is not here says so.
    pub(crate) fn mark_gone(&mut self, of: &RecordRef) {
        if of.device != self.identity.device {
            self.seen.mark_gone(of);
        }
    }
}

/// The messages among what was owed, by conversation, addressee and life.
fn messages(
    all: impl Iterator<Item = (DeviceId, Pending)>,
) -> BTreeMap<(ConversationId, DeviceId, Incarnation), RangeSet> {
    let mut messages: BTreeMap<_, RangeSet> = BTreeMap::new();
    for (to, pending) in all {
        if let Carries::Message { conversation, life, body_seq, .. } = pending.carries {
            messages.entry((conversation, to, life)).or_default().insert(body_seq);
        }
    }
    messages
}

/// The lowest ranges of a set, as wire types.
fn lowest(set: &RangeSet, most: usize) -> Vec<wire::Range> {
    set.iter().take(most).map(|(first, last)| wire::Range { first, last }).collect()
}
