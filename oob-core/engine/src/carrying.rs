//! Records on their way through this device: kept for whoever lacks them, and handed on (docs/protocol.md, section 10.6).

use crate::{
    custody::{Parcel, lane_of},
    cx::Cx,
    effect::Effect,
    model::{LinkId, RangeSet},
    record::{Lane, RecordRef},
    state::State,
    stored::RecordError,
    sync::{Alone, Carrier, Departing, Key, OTHER_RANGES, Part, Urgency, equality, own_entry},
};
use oob_proto::{
    DeviceId, Incarnation, Message, limits,
    wire::{Frame, frame::Kind},
};
use std::collections::BTreeMap;

/// Alerts and the answers to them are carried so long: seven days they may ask for, and seven more.
const ALERTS_S: u64 = 14 * 86_400;

/// An author's word that it gives something up is carried as long as what it gives up could be.
const FLOOR_S: u64 = 22 * 86_400;

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
    pub(crate) fn own_live(&self) -> BTreeMap<Incarnation, RangeSet> {
        let me = self.identity.device;
        let mut live = self.outbox.live();
        for life in self.life.lives() {
            live.entry(life).or_default();
        }
        for (life, set) in &mut live {
            for lane in [Lane::Keys, Lane::Alerts] {
                set.union(&self.custody.in_lane(&(me, *life), lane));
            }
        }
        live
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

    pub(crate) fn depart(&mut self, cx: &mut Cx<'_>, record: &Departing<'_>) {
        let carrier = self.carrier(cx.now.mono_ms);
        carrier.carry(&mut self.links, &mut cx.out.effects, record, cx.now.mono_ms);
    }

    /// Queues somebody's record for every neighbour but the one it came from. An envelope that came by gossip went to all
    /// of them: whether it arrived is looked at a little later. Other records the mesh passes on to nobody by itself.
    pub(crate) fn spread(
        &mut self,
        cx: &Cx<'_>,
        from: Option<LinkId>,
        of: &RecordRef,
        urgency: Urgency,
    ) {
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
        let now_ms = cx.now.mono_ms;
        for (to, incarnation, seq, envelope) in fresh {
            let of = RecordRef { device: me, incarnation, seq };
            let frame = Frame::of_envelope(&envelope);
            let urgency = Urgency::Text;
            let record = Departing { of, frame: &frame, urgency, to: Some(to), by_gossip: true };
            match self.goes_straight(&of, &to, now_ms) {
                true => Alone.carry(&mut self.links, &mut cx.out.effects, &record, now_ms),
                false => self.depart(cx, &record),
            }
            self.custody.remember(of, frame);
        }
        self.have_changed(cx.now.mono_ms);
    }

    /// Whether an own envelope goes to its addressee alone for now: it is there, and will say at once that it has it.
    fn goes_straight(&mut self, of: &RecordRef, to: &DeviceId, now_ms: u64) -> bool {
        let message = self
            .outbox
            .get(of.incarnation, of.seq)
            .is_some_and(|(_, pending)| pending.carries.is_message());
        self.links.to(to).is_some_and(|link| link.told)
            && self.straight.keep(of, to, message, now_ms)
    }

    /// Gives everybody what went to its addressee alone and has not arrived there in time.
    pub(crate) fn spread_late(&mut self, now_ms: u64) {
        let Self { straight, outbox, links, identity, .. } = self;
        straight.settle(|life, seq| outbox.get(life, seq).is_some());
        let device = identity.device;
        let has = |to: &DeviceId, incarnation, seq| {
            outbox.get(incarnation, seq).is_some()
                && links
                    .to(to)
                    .is_some_and(|link| link.knows(&RecordRef { device, incarnation, seq }))
        };
        // What is owed still though it is a message no more opens a channel, and its receipt came.
        let received = |incarnation, seq| {
            outbox.get(incarnation, seq).is_some_and(|(_, owed)| !owed.carries.is_message())
        };
        let late = straight.take_due(now_ms, has, received);
        self.spread_to_all(&late);
    }

    /// Gives everybody what went alone to a device that has gone away.
    pub(crate) fn spread_of(&mut self, device: &DeviceId) {
        let late = self.straight.take_of(device);
        self.spread_to_all(&late);
    }

    /// By the streams, however far away others are: each hands it on, and no more is under way than there is credit for.
    fn spread_to_all(&mut self, late: &[(Incarnation, u64)]) {
        let device = self.identity.device;
        for (incarnation, seq) in late.iter().copied() {
            if self.outbox.get(incarnation, seq).is_none() {
                continue;
            }
            for link in self.links.iter_mut() {
                link.queue(&RecordRef { device, incarnation, seq }, Urgency::Text);
            }
        }
    }

    /// Notes that there is something new to tell every neighbour of.
    pub(crate) fn have_changed(&mut self, now_ms: u64) {
        for link in self.links.iter_mut() {
            link.telling.changed(now_ms);
        }
    }

    /// Queues everything a neighbour lacks.
    pub(crate) fn compare(&mut self, id: LinkId) {
        #[cfg(feature = "sim")]
        if self.rig.faults.no_repair {
            return;
        }
        let me = self.identity.device;
        let own = self.own_live();
        let Self { links, custody, outbox, seen, straight, .. } = self;
        let Some(link) = links.get_mut(id) else { return };
        let device = link.device;
        let kept = straight.kept_from(&device);
        let mut look = |key: Key, have: RangeSet| {
            // Most of the time it lacks nothing of most: what goes first is asked only where it does.
            link.compare(&key, have, || {
                let mut urgent = vec![
                    (Urgency::Keys, custody.in_lane(&key, Lane::Keys)),
                    (Urgency::Alerts, custody.in_lane(&key, Lane::Alerts)),
                ];
                if key.0 == me {
                    let direct = outbox.live_for(&device).remove(&key.1);
                    urgent.push((Urgency::Direct, direct.unwrap_or_default()));
                }
                urgent
            });
        };
        // Nobody is told its own records. What was opened here is had and not carried: it is given to nobody.
        for (key, have, _) in seen.lives().filter(|(key, _, _)| key.0 != device && key.0 != me) {
            let carried = custody.carried(&key).map(|carried| carried.common(&have));
            look(key, carried.unwrap_or_default());
        }
        for (life, mut live) in own {
            if let Some(kept) = kept.get(&life) {
                live.subtract(kept);
            }
            look((me, life), live);
        }
    }

    /// Sends a neighbour what it lacks, as far as its credit goes.
    pub(crate) fn push_records(&mut self, cx: &mut Cx<'_>, id: LinkId) -> Result<(), RecordError> {
        if self.links.get_mut(id).is_some_and(|link| link.take_repair(cx.now.mono_ms)) {
            self.compare(id);
        }
        if self.holds_back(cx.now.mono_ms) {
            return Ok(());
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

    pub(crate) fn push_releases(&mut self, cx: &mut Cx<'_>, id: LinkId) {
        let Self { links, releases, .. } = self;
        let Some(link) = links.get_mut(id) else { return };
        while link.may_send() {
            let Some(of) = link.proofs.next() else { return };
            let Some(release) = releases.get(&of) else { continue };
            let frame = Frame::new(Kind::Release(release)).encode_to_vec();
            link.count_sent(frame.len());
            cx.out.effects.push(Effect::Send { link: id, frame });
        }
    }

    /// Reads a record that is here, as a frame, and its age in seconds.
    pub(crate) fn read_record(
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

    /// Says how far what is told as Have goes: the own records, and everybody's.
    /// In as many words as there are lives for: the own lives are in each.
    pub(crate) fn have_parts(&self) -> Vec<Part> {
        let me = self.identity.device;
        let last = self.life.next_record().saturating_sub(1);
        let mut own = Vec::new();
        for (life, live) in self.own_live() {
            let last = if life == self.life.incarnation { last } else { 0 };
            own.push(own_entry(&me, life, last, &live));
        }
        let most = limits::HAVE_ENTRIES.saturating_sub(own.len()).max(1);
        let others = self.seen.entries(OTHER_RANGES, most);
        let mut parts = Part::split(others, most);
        for part in &mut parts {
            part.entries.extend_from_slice(&own);
            part.entries.truncate(limits::HAVE_ENTRIES);
        }
        parts
    }

    /// When own proofs go out next, by the clock that never goes back.
    pub(crate) fn releases_due_ms(&self) -> Option<u64> {
        let (elapsed_ms, mono_ms) = self.life.running();
        let due_ms = self.releases.due_ms()?;
        Some(mono_ms.saturating_add(due_ms.saturating_sub(elapsed_ms)))
    }
}
