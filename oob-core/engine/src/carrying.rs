//! Records on their way through this device: taken, kept for whoever lacks them, handed on, released, expired
//! (docs/protocol.md, section 10).

use crate::{
    custody::{Parcel, lane_of},
    cx::Cx,
    effect::Effect,
    envelope::VerifiedEnvelope,
    model::{Device, LinkId, RangeSet},
    outbox::{Carries, Pending},
    record::{Lane, RecordRef},
    releases::DELAY_MS,
    roster::{BundleClaim, RelayClaim},
    session::{OpenError, Opened},
    state::State,
    stored::RecordError,
    sync::{Departing, HaveClaim, Key, OTHER_RANGES, Urgency, equality, own_entry},
};
use oob_crypto::{envelope::release_of, signed};
use oob_proto::{
    DeviceId, DeviceShort, Incarnation, Message, limits,
    signing::SignedType,
    wire::{self, Frame, frame::Kind},
};
use rand_core::Rng as _;
use std::collections::BTreeMap;

/// The longest life of an envelope.
const LONGEST_MS: u64 = 21 * 86_400_000;

/// Alerts and the answers to them are carried so long: seven days they may ask for, and seven more.
const ALERTS_S: u64 = 14 * 86_400;

/// An author's word that it gives something up is carried as long as what it gives up could be.
const FLOOR_S: u64 = 22 * 86_400;

/// Lives and ranges in one Floor.
const FLOOR_RANGES: usize = 1_024;

/// Own messages given up in one batch.
const GIVEN_UP: usize = 1_024;

/// Everything known of a life: what is here, and what is here or not needed.
type Inventory = BTreeMap<Key, (RangeSet, RangeSet)>;

impl State {
    /// What is here and what is known of everybody's records, the own ones too.
    pub(crate) fn inventory(&self) -> Inventory {
        let mut all: Inventory =
            self.seen.lives().map(|(key, have, known)| (key, (have, known.clone()))).collect();
        let me = self.identity.device;
        for (life, mut live) in self.own_live() {
            let mut known = RangeSet::new();
            match life == self.life.incarnation {
                true => known.insert_range(1, self.life.next_record().saturating_sub(1)),
                false => known.union(&live),
            }
            live = live.common(&known);
            all.insert((me, life), (live, known));
        }
        all
    }

    /// Own records that somebody may still need, by life.
    fn own_live(&self) -> BTreeMap<Incarnation, RangeSet> {
        let me = self.identity.device;
        let mut live = self.outbox.live();
        live.entry(self.life.incarnation).or_default();
        for (life, set) in &mut live {
            for lane in [Lane::Keys, Lane::Alerts] {
                set.union(&self.custody.in_lane(&(me, *life), lane));
            }
        }
        live
    }

    /// What is known of everybody's records.
    pub(crate) fn known(&self) -> BTreeMap<Key, RangeSet> {
        self.inventory().into_iter().map(|(key, (_, known))| (key, known)).collect()
    }

    /// What two neighbours compare first.
    pub(crate) fn equality(&self, known: &BTreeMap<Key, RangeSet>) -> Vec<u8> {
        let Some(organisation) = &self.organisation else { return Vec::new() };
        equality(organisation.heads().iter(), known)
    }

    /// Keeps a record and hands it on to everybody who lacks it. Returns false where there is no room for it.
    pub(crate) fn pass_on(
        &mut self,
        cx: &mut Cx<'_>,
        from: Option<LinkId>,
        of: RecordRef,
        kind: &Kind,
        age_s: u32,
    ) -> bool {
        let lane = lane_of(kind);
        let life_s = match kind {
            Kind::Envelope(envelope) => oob_crypto::envelope::Head::parse(&envelope.head)
                .ok()
                .map(|head| head.life.seconds()),
            Kind::Floor(_) => Some(FLOOR_S),
            Kind::Alert(_) | Kind::AlertAck(_) => Some(ALERTS_S),
            _ => None,
        };
        // What is too old already is nobody's any more; what a neighbour says of its age is not told on.
        if life_s.is_some_and(|life_s| u64::from(age_s) >= life_s) {
            return false;
        }
        let parcel = Parcel { of, lane, kind, age_s, life_s };
        let put = self.custody.put(cx, &parcel);
        // What gave way is not here any more, and nobody is told that it is.
        for old in self.custody.take_evicted() {
            self.seen.forget(&old);
        }
        if !put {
            return false;
        }
        if of.device == self.identity.device {
            let frame = Frame::new(kind.clone()).encode_to_vec();
            let by_gossip = !matches!(kind, Kind::Bundle(_) | Kind::Floor(_));
            let record = Departing { of, frame: &frame, urgency: lane.into(), to: None, by_gossip };
            self.depart(cx, &record);
        } else if self.seen.mark(&of) {
            self.spread(cx, from, &of, lane.into());
        } else {
            self.custody.take_out(cx.store, &of);
            return false;
        }
        for old in self.custody.trim_alerts(cx, &of.device) {
            self.mark_gone(&old);
        }
        self.have_changed(cx.now.mono_ms);
        true
    }

    fn depart(&mut self, cx: &mut Cx<'_>, record: &Departing<'_>) {
        let carrier = self.carrier(cx.now.mono_ms);
        carrier.carry(&mut self.links, &mut cx.out.effects, record, cx.now.mono_ms);
    }

    /// Queues somebody's record for every neighbour but the one it came from. An envelope that came by gossip went to all
    /// of them: whether it arrived is looked at a little later. Other records the mesh passes on to nobody by itself.
    fn spread(&mut self, cx: &Cx<'_>, from: Option<LinkId>, of: &RecordRef, urgency: Urgency) {
        if let Some(link) = from.and_then(|from| self.links.get_mut(from)) {
            link.gave(of);
        }
        let by_gossip = self.by_gossip && urgency == Urgency::Text;
        for link in self.links.onward(from, of, cx.now.mono_ms) {
            if by_gossip {
                link.expect(of, cx.now.mono_ms);
            } else if link.device != of.device {
                link.queue(of, urgency);
            }
        }
    }

    /// Hands on what this batch sealed.
    pub(crate) fn spread_own(&mut self, cx: &mut Cx<'_>) {
        let fresh = self.outbox.save_fresh(cx.store);
        if fresh.is_empty() {
            return;
        }
        let me = self.identity.device;
        for (to, incarnation, seq, envelope) in fresh {
            let of = RecordRef { device: me, incarnation, seq };
            let frame = Frame::of_envelope(&envelope);
            let urgency = Urgency::Text;
            let to = Some(to);
            self.depart(cx, &Departing { of, frame: &frame, urgency, to, by_gossip: true });
            self.custody.remember(of, frame);
        }
        self.have_changed(cx.now.mono_ms);
    }

    /// Notes that there is something new to tell every neighbour of.
    pub(crate) fn have_changed(&mut self, now_ms: u64) {
        for link in self.links.iter_mut() {
            link.have_changed(now_ms);
        }
    }

    /// Queues everything a neighbour lacks.
    pub(crate) fn compare(&mut self, id: LinkId) {
        #[cfg(feature = "sim")]
        if self.rig.faults.no_repair {
            return;
        }
        let inventory = self.inventory();
        let me = self.identity.device;
        let Self { links, custody, outbox, .. } = self;
        let Some(link) = links.get_mut(id) else { return };
        let direct = outbox.live_for(&link.device);
        for (key, (have, _)) in &inventory {
            // Nobody is told its own records.
            if key.0 == link.device {
                continue;
            }
            let mut urgent = vec![
                (Urgency::Keys, custody.in_lane(key, Lane::Keys)),
                (Urgency::Alerts, custody.in_lane(key, Lane::Alerts)),
            ];
            if key.0 == me {
                urgent.push((Urgency::Direct, direct.get(&key.1).cloned().unwrap_or_default()));
            }
            link.compare(key, have, &urgent);
        }
    }

    /// Sends a neighbour what it lacks, as far as its credit goes.
    pub(crate) fn push_records(&mut self, cx: &mut Cx<'_>, id: LinkId) -> Result<(), RecordError> {
        if self.links.get_mut(id).is_some_and(|link| link.take_repair(cx.now.mono_ms)) {
            self.compare(id);
        }
        loop {
            let Some(link) = self.links.get_mut(id).filter(|link| link.told && link.may_send())
            else {
                return Ok(());
            };
            let Some(of) = link.next() else { break };
            let Some((mut frame, age_s)) = self.read_record(cx, &of)? else { continue };
            Frame::add_age(&mut frame, age_s);
            let Some(link) = self.links.get_mut(id) else { return Ok(()) };
            link.offer(&of, cx.now.mono_ms);
            link.count_sent(frame.len());
            cx.out.effects.push(Effect::Send { link: id, frame });
        }
        self.push_releases(cx, id);
        Ok(())
    }

    fn push_releases(&mut self, cx: &mut Cx<'_>, id: LinkId) {
        let Self { links, releases, .. } = self;
        let Some(link) = links.get_mut(id) else { return };
        while link.may_send() {
            let Some(of) = link.next_release() else { return };
            let Some(release) = releases.get(&of) else { continue };
            let frame = Frame::new(Kind::Release(release)).encode_to_vec();
            link.count_sent(frame.len());
            cx.out.effects.push(Effect::Send { link: id, frame });
        }
    }

    /// Reads a record that is here, as a frame, and its age in seconds.
    fn read_record(
        &mut self,
        cx: &Cx<'_>,
        of: &RecordRef,
    ) -> Result<Option<(Vec<u8>, u32)>, RecordError> {
        let owed = self.outbox.get(of.incarnation, of.seq);
        let owed = owed.filter(|_| of.device == self.identity.device);
        let Some(since_ms) = owed.map(|(_, pending)| pending.since_ms) else {
            // An own envelope that is owed no more may still be at hand.
            if !self.custody.contains(of) {
                return Ok(None);
            }
            return self.custody.read(cx.store, of, cx.elapsed_ms);
        };
        let age_s = cx.elapsed_ms.saturating_sub(since_ms) / 1_000;
        let age_s = u32::try_from(age_s).unwrap_or(u32::MAX);
        if let Some((frame, _)) = self.custody.read(cx.store, of, cx.elapsed_ms)? {
            return Ok(Some((frame, age_s)));
        }
        let mut found = None;
        for (seq, envelope) in self.outbox.read_batch(cx.store, of.incarnation, of.seq)? {
            let frame = Frame::of_envelope(&envelope);
            if seq == of.seq {
                found = Some((frame.clone(), age_s));
            }
            self.custody.remember(RecordRef { seq, ..*of }, frame);
        }
        Ok(found)
    }

    /// Takes a verified envelope: duplicate, tag, open, bindings, in this order. One for somebody else is carried; one
    /// for this device is marked as seen in the batch that makes what it brought durable.
    pub(crate) fn envelope(
        &mut self,
        cx: &mut Cx<'_>,
        link: Option<LinkId>,
        envelope: &VerifiedEnvelope,
        age_s: u32,
    ) -> Result<(), RecordError> {
        let of = envelope.record();
        if let Some(link) = link.and_then(|link| self.links.get_mut(link)) {
            link.gave(&of);
        }
        #[cfg(feature = "sim")]
        if let Some(bodies) = self.rig.again(of)
            && let Some(from) = self.device(&of.device)
        {
            return bodies.iter().try_for_each(|body| self.body(cx, &from, body));
        }
        if of.device == self.identity.device || self.seen.contains(&of) || !self.seen.has_room(&of)
        {
            return Ok(());
        }
        // Of a removed device what it wrote before is taken, and nothing after. The snapshot this was screened with may
        // be older than a removal.
        let Some(from) = self.author_of(&of.device, of.incarnation, of.seq) else { return Ok(()) };
        self.open_or_carry(cx, link, &from, envelope, Some(age_s))?;
        self.open_early(cx)?;
        self.skip_holes(cx, &from)
    }

    /// Opens what waits behind messages of a device that nobody needs any more.
    fn skip_holes(&mut self, cx: &mut Cx<'_>, from: &Device) -> Result<(), RecordError> {
        if !self.peers.is_waiting(&from.id) {
            return Ok(());
        }
        let Self { seen, peers, bundles, .. } = self;
        let known = |life, first, last| seen.contains_all(&from.id, life, first, last);
        for body in peers.skip_holes(cx, bundles, from, known)? {
            self.body(cx, from, &body)?;
        }
        Ok(())
    }

    /// Opens an envelope if it is for this device; else carries it, unless it is carried already.
    fn open_or_carry(
        &mut self,
        cx: &mut Cx<'_>,
        link: Option<LinkId>,
        from: &Device,
        envelope: &VerifiedEnvelope,
        carry: Option<u32>,
    ) -> Result<(), RecordError> {
        let of = envelope.record();
        let Some(org) = self.org_id() else { return Ok(()) };
        let me = self.identity.device;
        let opened = match self.peers.open(cx, &org, &me, &self.bundles, from, envelope) {
            Ok((opened, preimage)) => {
                if let Some(preimage) = preimage {
                    self.keep_release(cx, &of, envelope, preimage);
                }
                opened
            }
            Err(OpenError::NotOurs) => {
                if let Some(age_s) = carry {
                    self.pass_on(cx, link, of, &Kind::Envelope(envelope.to_wire()), age_s);
                }
                return Ok(());
            }
            // No room for it now: nothing is noted, so it is offered again.
            Err(OpenError::Later) => return Ok(()),
            Err(OpenError::Record(error)) => return Err(error),
            Err(OpenError::Bad(what)) => {
                tracing::warn!(device = %of.device, what, "an envelope for this device does not open");
                #[cfg(feature = "sim")]
                {
                    self.rig.oddities.unopened += 1;
                }
                self.taken(cx, &of);
                return Ok(());
            }
        };
        self.taken(cx, &of);
        match opened {
            Opened::Again => {}
            Opened::Bodies(bodies) => {
                #[cfg(feature = "sim")]
                let bodies = self.rig.keep(of, bodies);
                for body in bodies.iter() {
                    self.body(cx, from, body)?;
                }
            }
            Opened::Ack(ack) => self.ack(cx, from, &ack)?,
        }
        Ok(())
    }

    /// Opens what came before the message that says how: it lies among what is carried for others.
    fn open_early(&mut self, cx: &mut Cx<'_>) -> Result<(), RecordError> {
        loop {
            let fresh = self.peers.take_fresh_tags();
            if fresh.is_empty() {
                return Ok(());
            }
            let early: Vec<RecordRef> =
                fresh.iter().flat_map(|tag| self.custody.with_tag(tag)).collect();
            self.open_carried(cx, &early)?;
        }
    }

    fn open_carried(&mut self, cx: &mut Cx<'_>, all: &[RecordRef]) -> Result<(), RecordError> {
        for of in all {
            let Some((frame, _)) = self.custody.read(cx.store, of, cx.elapsed_ms)? else {
                continue;
            };
            let Ok(Frame { kind: Some(Kind::Envelope(raw)), .. }) = Frame::read(&frame) else {
                continue;
            };
            let Some(from) = self.author_of(&of.device, of.incarnation, of.seq) else { continue };
            let Ok(head) = oob_crypto::envelope::Head::parse(&raw.head) else { continue };
            let envelope = VerifiedEnvelope {
                id: [0; 32].into(),
                device: of.device,
                incarnation: of.incarnation,
                seq: of.seq,
                head,
                origin: raw.origin,
                ct: raw.ct,
            };
            self.open_or_carry(cx, None, &from, &envelope, None)?;
        }
        Ok(())
    }

    /// Notes an envelope that was for this device: it is carried no further from here.
    fn taken(&mut self, cx: &mut Cx<'_>, of: &RecordRef) {
        self.seen.mark(of);
        self.custody.take_out(cx.store, of);
        self.have_changed(cx.now.mono_ms);
    }

    /// Keeps the proof that an envelope was opened, to be published after a random while.
    fn keep_release(
        &mut self,
        cx: &mut Cx<'_>,
        of: &RecordRef,
        envelope: &VerifiedEnvelope,
        preimage: [u8; 16],
    ) {
        let life_ms = envelope.head.life.seconds().saturating_mul(1_000);
        let until_ms = cx.elapsed_ms.saturating_add(life_ms);
        let delay_ms = u64::from(cx.rng.next_u32()) % DELAY_MS;
        let from_ms = cx.elapsed_ms.saturating_add(delay_ms).max(1);
        self.releases.put(of, preimage, until_ms, Some(from_ms));
    }

    /// Publishes the own proofs whose time has come.
    pub(crate) fn publish_releases(&mut self, cx: &mut Cx<'_>) {
        for of in self.releases.take_due(cx.elapsed_ms) {
            self.released(cx, None, &of);
        }
    }

    fn released(&mut self, cx: &mut Cx<'_>, from: Option<LinkId>, of: &RecordRef) {
        self.seen.mark_gone(of);
        self.have_changed(cx.now.mono_ms);
        for link in self.links.onward(from, of, cx.now.mono_ms) {
            link.queue_release(of);
        }
    }

    /// Takes somebody's proof that an envelope was opened; returns whether it can be true.
    pub(crate) fn release(
        &mut self,
        cx: &mut Cx<'_>,
        from: Option<LinkId>,
        release: &wire::Release,
    ) -> bool {
        let (Ok(short), Ok(preimage)) = (
            DeviceShort::try_from(release.device.as_slice()),
            <[u8; 16]>::try_from(release.preimage.as_slice()),
        ) else {
            return false;
        };
        let Some(device) = self.device_by_short(&short) else { return true };
        let incarnation = Incarnation(release.incarnation);
        let of = RecordRef { device, incarnation, seq: release.seq };
        if device == self.identity.device {
            let owed = self.outbox.get(incarnation, release.seq);
            let Some((to, pending)) = owed.map(|(to, pending)| (to, *pending)) else { return true };
            if pending.release != release_of(&preimage) {
                return false;
            }
            // A message stays owed until its receipt is here, which says more than that it was opened.
            if matches!(pending.carries, Carries::Ack { .. }) {
                self.outbox.settle(cx.store, &to, |other| *other == pending);
            }
            return true;
        }
        // Without the envelope nothing tells a proof from anything else; nobody is to blame for that.
        if !self.custody.contains(&of) {
            return true;
        }
        // An author may have given one number to two envelopes: whoever passes on the proof of the other is not to blame.
        if !self.custody.releases(&of, &preimage) {
            return true;
        }
        let until_ms = self.custody.until_ms(&of).unwrap_or(cx.elapsed_ms);
        self.custody.take_out(cx.store, &of);
        self.releases.put(&of, preimage, until_ms, None);
        self.released(cx, from, &of);
        true
    }

    /// The device whose id begins so.
    pub(crate) fn device_by_short(&self, short: &DeviceShort) -> Option<DeviceId> {
        let roster = self.organisation.as_ref()?.roster();
        let mut first = [0; 32];
        first.iter_mut().zip(short.as_bytes()).for_each(|(to, from)| *to = *from);
        [&roster.view.devices, &roster.former].into_iter().find_map(|devices| {
            let (id, _) = devices.range(DeviceId::from(first)..).next()?;
            (id.short() == *short).then_some(*id)
        })
    }

    /// Drops what does not stand of devices that were taken out, and what is still owed to them.
    pub(crate) fn apply_cuts(&mut self, cx: &mut Cx<'_>) -> Result<(), RecordError> {
        let Some(organisation) = &self.organisation else { return Ok(()) };
        for (device, cuts) in organisation.roster().record_cuts() {
            let lives: Vec<Incarnation> = self.seen.lives_of(&device).collect();
            for life in lives {
                let last = cuts.get(&life).copied().unwrap_or(0);
                let mut beyond = RangeSet::new();
                beyond.insert_range(last.saturating_add(1), u64::MAX);
                self.custody.take_out_all(cx.store, &device, life, &beyond);
                self.seen.cut(&device, life, last);
            }
            self.holders.forget(&device);
            // It is given nothing any more. What of it arrived in time its receipts may still say, so nothing is told here.
            self.outbox.settle(cx.store, &device, |_| true);
        }
        Ok(())
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
        let relay = |life, generation| self.directory.relay(&from.id, life, generation);
        let Some(claim) = HaveClaim::parse(&org, &from.id, signed, relay) else { return Ok(false) };
        let Some(link) = self.links.get_mut(id) else { return Ok(true) };
        if claim.number <= link.have_number {
            return Ok(true);
        }
        link.have_number = claim.number;
        link.take_have(&claim.told);
        let me = self.identity.device;
        for told in &claim.told {
            let (device, life) = told.key;
            if device == from.id {
                // An author's word on its own records is the last: what it has no more, nobody needs.
                let mut gone = told.known.clone();
                gone.subtract(&told.have);
                self.give_up(cx, from, life, &gone)?;
            } else if device == me
                && (self.outbox.has_life(life) || self.holders.knows(&from.id, life))
            {
                self.settle(cx, &from.id, life, &told.known);
                self.holds(cx, from, life, &told.have)?;
            }
        }
        if self.links.get_mut(id).is_some_and(|link| link.may_compare(cx.now.mono_ms)) {
            self.queue_releases(id);
            self.compare(id);
        }
        Ok(true)
    }

    /// Queues the proofs for what a neighbour still has and nobody needs.
    fn queue_releases(&mut self, id: LinkId) {
        let Self { links, seen, .. } = self;
        let Some(link) = links.get_mut(id) else { return };
        for key in link.lives() {
            let Some(has) = link.has(&key).cloned() else { continue };
            let gone = seen.gone_of(&key.0, key.1, &has);
            for seq in gone.numbers().take(limits::HAVE_RANGES) {
                let (device, incarnation) = key;
                link.queue_release(&RecordRef { device, incarnation, seq });
            }
        }
    }

    /// Takes away from what is owed to a device what it has.
    fn settle(&mut self, cx: &mut Cx<'_>, device: &DeviceId, life: Incarnation, has: &RangeSet) {
        let settled = self.outbox.settle(cx.store, device, |pending| {
            pending.incarnation == life && has.contains(pending.seq)
        });
        if !settled.is_empty() {
            self.have_changed(cx.now.mono_ms);
        }
    }

    /// Takes a device's word that it carries own records for others.
    fn holds(
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
            let Carries::Message { conversation, body_seq, .. } = pending.carries else { continue };
            // What the addressee has says nothing of others who carry it.
            if self.device(&to).is_none_or(|to| to.member == from.member) {
                continue;
            }
            let set: &mut RangeSet = held.entry((conversation, to)).or_default();
            set.insert(body_seq);
        }
        if !held.is_empty() {
            self.changed = true;
        }
        for ((conversation, to), set) in held {
            let told =
                self.with_direct(|direct, _| direct.mark_held(cx, &conversation, &to, life, &set));
            told.transpose()?;
        }
        Ok(())
    }

    /// Takes an author's word that nobody needs some of its records any more.
    fn give_up(
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
        self.told_expired(cx, old.into_iter())?;
        self.write_floor(cx);
        Ok(())
    }

    /// Says of messages that they will not be delivered.
    fn told_expired(
        &mut self,
        cx: &mut Cx<'_>,
        all: impl Iterator<Item = (DeviceId, Pending)>,
    ) -> Result<(), RecordError> {
        let mut expired = BTreeMap::new();
        for (to, pending) in all {
            if let Carries::Message { conversation, body_seq, .. } = pending.carries {
                let set: &mut RangeSet =
                    expired.entry((conversation, to, pending.incarnation)).or_default();
                set.insert(body_seq);
            }
        }
        for ((conversation, to, life), set) in expired {
            let told = self
                .with_direct(|direct, _| direct.mark_expired(cx, &conversation, &to, life, &set));
            told.transpose()?;
        }
        Ok(())
    }

    /// Says to everybody, also those it does not meet, which of its own records nobody needs: all that it does not have.
    fn write_floor(&mut self, cx: &mut Cx<'_>) {
        let Some(org) = self.org_id() else { return };
        // A bundle just replaced is among what nobody needs.
        self.keep_own_keys(cx);
        let last = self.life.next_record().saturating_sub(1);
        let gone = self.own_live().into_iter().map(|(life, live)| {
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

    /// Keeps the own certificates and the own bundle among what is handed on; older bundles are replaced.
    pub(crate) fn keep_own_keys(&mut self, cx: &mut Cx<'_>) {
        if !self.life.take_keys_changed() || self.organisation.is_none() {
            return;
        }
        let certs: Vec<wire::Signed> = self.life.relay_certs().cloned().collect();
        let mut now = RangeSet::new();
        for signed in certs {
            let Ok(raw) = wire::RelayCert::decode(signed.payload.as_slice()) else { continue };
            now.insert(raw.record_seq);
            self.keep_own_key(cx, raw.record_seq, &Kind::RelayCert(signed));
        }
        if let Some(signed) = self.life.bundle.clone()
            && let Ok(raw) = wire::PrekeyBundle::decode(signed.payload.as_slice())
        {
            now.insert(raw.record_seq);
            self.keep_own_key(cx, raw.record_seq, &Kind::Bundle(signed));
        }
        let key = (self.identity.device, self.life.incarnation);
        let mut old = self.custody.in_lane(&key, Lane::Keys);
        old.subtract(&now);
        self.custody.take_out_all(cx.store, &key.0, key.1, &old);
    }

    fn keep_own_key(&mut self, cx: &mut Cx<'_>, seq: u64, kind: &Kind) {
        let of =
            RecordRef { device: self.identity.device, incarnation: self.life.incarnation, seq };
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
            return true;
        }
        if let Some(link) = link.and_then(|link| self.links.get_mut(link)) {
            link.gave(&of);
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
            return true;
        }
        if let Some(link) = link.and_then(|link| self.links.get_mut(link)) {
            link.gave(&of);
        }
        if self.seen.contains(&of) && self.directory.bundle(&device.id).is_some() {
            return true;
        }
        match self.directory.take_bundle(cx, &org, &device, signed) {
            Some(Some(old)) => self.replaced(cx, &old),
            Some(None) => {}
            // Older than what is here: whoever still hands it on need not. Only its author may say which record that is, or
            // any neighbour could have anything of anybody's taken for gone.
            None if BundleClaim::parse(&org, &device.dsk, &device.olm_id, signed).is_ok() => {
                self.seen.mark_gone(&of);
                return true;
            }
            None => return false,
        }
        self.pass_on(cx, link, of, &Kind::Bundle(signed.clone()), 0);
        true
    }

    /// Notes that nobody needs a record; of an own one that it is not here says so.
    fn mark_gone(&mut self, of: &RecordRef) {
        if of.device != self.identity.device {
            self.seen.mark_gone(of);
        }
    }

    fn replaced(&mut self, cx: &mut Cx<'_>, of: &RecordRef) {
        self.custody.take_out(cx.store, of);
        self.seen.mark_gone(of);
    }

    /// Says how far what is told as Have goes: the own records, and everybody's.
    pub(crate) fn have_entries(&self) -> Vec<wire::HaveEntry> {
        let me = self.identity.device;
        let last = self.life.next_record().saturating_sub(1);
        let mut entries = Vec::new();
        for (life, live) in self.own_live() {
            let last = if life == self.life.incarnation { last } else { 0 };
            entries.push(own_entry(&me, life, last, &live));
        }
        entries.extend(self.seen.entries(OTHER_RANGES));
        entries.truncate(limits::HAVE_ENTRIES);
        entries
    }

    /// When own proofs go out next, by the clock that never goes back.
    pub(crate) fn releases_due_ms(&self) -> Option<u64> {
        let (elapsed_ms, mono_ms) = self.life.running();
        let due_ms = self.releases.due_ms()?;
        Some(mono_ms.saturating_add(due_ms.saturating_sub(elapsed_ms)))
    }
}

/// The lowest ranges of a set, as wire types.
fn lowest(set: &RangeSet, most: usize) -> Vec<wire::Range> {
    set.iter().take(most).map(|(first, last)| wire::Range { first, last }).collect()
}
