//! Taking a device out, and the epochs that follow: made by whoever has its turn, handed from neighbour to neighbour
//! (docs/protocol.md, section 6).

use crate::{
    cx::Cx,
    effect::{Answer, CommandError, Effect},
    model::{Device, LinkId, RangeSet, Ring},
    roster::{CUT_RANGES, Came, Circle, announce, author, count, cut_of},
    state::State,
};
use oob_crypto::{EpochSecret, FirstContact, SigningKey, open_grant, seal_grant, sha256};
use oob_proto::{
    DeviceId, EpochId, Incarnation, Message,
    wire::{self, Frame, frame::Kind, op_body},
};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

/// Lives named in one removal: four times what peers keep of one device. What is not named does not stand.
const CUTS: usize = 64;

/// Between the turns of two devices: long enough for an epoch to get around.
const TURN_MS: u64 = 2_000;

/// Turns in all; whoever comes later rotates with the last. Sending waits for none of them.
const TURNS: u64 = 60;

impl State {
    /// Takes a device out: in an admin's name any other, in one's own one's other devices.
    pub(crate) fn revoke_device(
        &mut self,
        cx: &mut Cx<'_>,
        device: &DeviceId,
    ) -> Result<Answer, CommandError> {
        let cuts = self.cuts(device)?;
        let organisation = self.organisation.as_mut().ok_or(CommandError::NoOrg)?;
        let roster = organisation.roster();
        if *device == self.identity.device {
            return Err(CommandError::ThisDevice);
        }
        let admin = self.identity.admin_in(&roster.view.council);
        let there = roster.view.devices.get(device);
        // An admin's word goes over the person's: whoever has a stolen device can write in its person's name.
        let by_person_only = roster
            .removed
            .get(device)
            .is_some_and(|removed| !removed.by_admin)
            .then(|| roster.former.get(device).filter(|_| admin.is_some()));
        let target = there.or_else(|| by_person_only.flatten());
        let target = target.ok_or(CommandError::NoDevice)?;
        let me = self.membership.as_ref().map(|membership| membership.member);
        // An admin's removal ended the say of the person's key over devices.
        let own = me == Some(target.member)
            && !roster.removed.iter().any(|(id, removed)| {
                removed.by_admin && roster.former.get(id).map(|former| former.member) == me
            });
        let office = &roster.view.council;
        if admin.is_some()
            && office.seats.len() > 1
            && office.seats.iter().any(|seat| seat.member == Some(target.member))
        {
            return Err(CommandError::AdminsDevice);
        }
        let by: &SigningKey = match admin {
            Some(admin) => admin,
            None if own => &self.identity.uik,
            None => return Err(CommandError::NotAdmin),
        };
        let revoke = wire::DeviceRevoke { device: device.to_vec(), cuts };
        let body = op_body::Kind::DeviceRevoke(revoke);
        let (hash, _) = author(cx, organisation, self.life.incarnation, by, Circle::All, body)?;
        self.tell_of(hash, None);
        Ok(Answer::Done)
    }

    /// What of a device is known here, as a removal names it.
    fn cuts(&self, device: &DeviceId) -> Result<Vec<wire::Cut>, CommandError> {
        let organisation = self.org()?;
        let known = organisation.roster().with_former().find(|known| known.id == *device);
        let mut ops = known.map(|known| organisation.written_by(&known.dsk)).unwrap_or_default();
        let lives: BTreeSet<Incarnation> = ops
            .keys()
            .copied()
            .chain(self.seen.lives_of(device))
            .chain(self.directory.lives(device))
            .collect();
        let mut cuts: Vec<(u64, u64, Incarnation, Came)> = lives
            .into_iter()
            .map(|life| {
                let came = self.came_of(device, life);
                (count(&came.all), ops.remove(&life).unwrap_or(0), life, came)
            })
            .collect();
        // A device of more lives than fit was made to lie; what it did most in is most likely honest.
        cuts.sort_unstable_by_key(|(records, ops, life, _)| Reverse((*records, *ops, *life)));
        cuts.truncate(CUTS);
        let mut room = CUT_RANGES;
        let mut all = BTreeMap::new();
        for (_, ops, life, came) in cuts {
            let (records, ranges) = cut_of(&came, room);
            room = room.saturating_sub(ranges.len());
            all.insert(life, wire::Cut { incarnation: life.0, ops, records, ranges });
        }
        Ok(all.into_values().collect())
    }

    /// What is known here of the records of a device's life.
    fn came_of(&self, device: &DeviceId, life: Incarnation) -> Came {
        let mut under_way = self.custody.carried(&(*device, life)).cloned().unwrap_or_default();
        self.directory.records(device, life).for_each(|seq| {
            under_way.insert(seq);
        });
        Came { all: self.came(device, life), under_way, said: self.seen.said(device, life) }
    }

    /// The numbers of the records of a device's life that came here.
    pub(crate) fn came(&self, device: &DeviceId, life: Incarnation) -> RangeSet {
        let mut came = self.seen.came(device, life);
        self.directory.records(device, life).for_each(|seq| {
            came.insert(seq);
        });
        came
    }

    /// The rings that need another epoch: everyone that is here may be held by a device that was removed.
    fn rings_to_rotate(&self) -> Vec<Ring> {
        let Some(organisation) = &self.organisation else { return Vec::new() };
        let roster = organisation.roster();
        if roster.removed.is_empty() || !roster.view.devices.contains_key(&self.identity.device) {
            return Vec::new();
        }
        Ring::ALL.into_iter().filter(|ring| !self.epochs.fits(*ring)).collect()
    }

    /// Rotates when this device's turn has come; returns whether it did.
    pub(crate) fn rotate_in_turn(&mut self, cx: &mut Cx<'_>) -> bool {
        if self.rings_to_rotate().is_empty() {
            self.rotation.cancel();
            return false;
        }
        if self.rotation.due_ms().is_none() {
            let wait_ms = self.turn().saturating_add(1).min(TURNS).saturating_mul(TURN_MS);
            self.rotation.plan(cx.now.mono_ms, wait_ms);
        }
        self.rotation.due_ms().is_some_and(|due| due <= cx.now.mono_ms) && self.rotate(cx)
    }

    /// Rotates at once, if it is needed and a minute has passed since the last time; returns whether it did.
    pub(crate) fn rotate_now(&mut self, cx: &mut Cx<'_>) -> bool {
        cx.now.mono_ms >= self.rotation.earliest_ms() && self.rotate(cx)
    }

    /// How many devices rotate before this one: all agree on the order, and each removal gives another.
    fn turn(&self) -> u64 {
        let Some(organisation) = &self.organisation else { return 0 };
        let roster = organisation.roster();
        let removed: Vec<u8> =
            roster.removed.keys().flat_map(|id| id.as_bytes()).copied().collect();
        let rank = |id: &DeviceId| sha256(&[id.as_bytes().as_slice(), &removed].concat());
        let mine = rank(&self.identity.device);
        let before = roster.view.devices.keys().filter(|id| rank(id) < mine);
        u64::try_from(before.count()).unwrap_or(u64::MAX)
    }

    fn rotate(&mut self, cx: &mut Cx<'_>) -> bool {
        let rings = self.rings_to_rotate();
        if rings.is_empty() {
            return false;
        }
        // Also if it fails: a log that takes nothing more will not take it a moment later.
        self.rotation.done(cx.now.mono_ms);
        for ring in rings {
            let Some(organisation) = &mut self.organisation else { return false };
            let secret = EpochSecret::generate(cx.rng);
            let id = secret.id();
            let (life, dsk) = (self.life.incarnation, &self.identity.dsk);
            let hash = match announce(cx, organisation, life, dsk, ring, id) {
                Ok(hash) => hash,
                Err(error) => {
                    tracing::warn!(%error, "an epoch could not be announced");
                    return false;
                }
            };
            organisation.refresh();
            self.epochs.learn(cx, organisation, ring, secret);
            self.tell_of(hash, None);
            self.hand_over(id, None);
        }
        self.rekeyed = true;
        true
    }

    /// Queues an epoch for every greeted neighbour but the one it came from.
    fn hand_over(&mut self, id: EpochId, but: Option<LinkId>) {
        for link in self.links.iter_mut().filter(|link| link.greeted && Some(link.id) != but) {
            link.queue_grant(id);
        }
    }

    /// Queues every kept epoch that the neighbour's greeting lacks.
    pub(crate) fn hand_over_missing(&mut self, link: LinkId, known: &[Vec<u8>]) {
        let Some(link) = self.links.get_mut(link) else { return };
        let missing = |id: &EpochId| !known.iter().any(|known| known == id.as_bytes());
        for epoch in self.epochs.preferred_first().filter(|epoch| missing(&epoch.id)) {
            link.queue_grant(epoch.id);
        }
    }

    /// Seals what is queued for a neighbour, behind the operations that announce it.
    pub(crate) fn push_grants(&mut self, cx: &mut Cx<'_>, id: LinkId) {
        let Some(link) = self.links.get_mut(id).filter(|link| link.ops.is_empty()) else { return };
        let device = link.device;
        let (Some(organisation), Some(bundle)) =
            (&self.organisation, self.directory.bundle(&device))
        else {
            return;
        };
        if !organisation.roster().view.devices.contains_key(&device) {
            return;
        }
        let contact = FirstContact {
            org: &organisation.id,
            my_dnk: &self.identity.dnk,
            my_device: &self.identity.device,
            to: &device,
            bundle,
        };
        while link.may_send() {
            let Some(next) = link.next_grant() else { break };
            let Some(epoch) = self.epochs.get(&next).filter(|epoch| epoch.stands()) else {
                continue;
            };
            let Ok(first_flight) = seal_grant(cx.rng, &contact, epoch.ring, &epoch.secret) else {
                continue;
            };
            let grant = wire::EpochGrant {
                ring: u32::from(epoch.ring.code()),
                epoch_id: epoch.id.to_vec(),
                first_flight,
            };
            let frame = Frame::new(Kind::Epoch(grant)).encode_to_vec();
            link.count_sent(frame.len());
            cx.out.effects.push(Effect::Send { link: link.id, frame });
        }
    }

    /// Takes an epoch handed over by a neighbour if the log announces it; else it waits until the log grows.
    pub(crate) fn grant(
        &mut self,
        cx: &mut Cx<'_>,
        link: LinkId,
        from: &Device,
        grant: wire::EpochGrant,
    ) {
        let Some(organisation) = &mut self.organisation else { return };
        organisation.refresh();
        let ring = u8::try_from(grant.ring).ok().and_then(Ring::from_code);
        let id = EpochId::try_from(grant.epoch_id.as_slice());
        let (Some(ring), Ok(id)) = (ring, id) else { return };
        if !organisation.roster().epochs.contains_key(&(ring, id)) {
            if let Some(link) = self.links.get_mut(link) {
                link.keep_aside(grant);
            }
            return;
        }
        if self.epochs.get(&id).is_some() {
            return;
        }
        let (me, org) = (self.identity.device, organisation.id);
        let opened =
            self.bundles.find(|secrets| open_grant(secrets, &org, &me, &grant.first_flight).ok());
        let Some(opened) = opened else { return };
        // The Noise key proved is the neighbour's own on this very connection, and the ids outside are those inside.
        let holds = opened.from == from.id
            && opened.dnk == from.dnk
            && (opened.ring, opened.secret.id()) == (ring, id);
        if holds && self.epochs.learn(cx, organisation, ring, opened.secret) {
            self.rekeyed = true;
            self.hand_over(id, Some(link));
        }
    }

    /// Tries again what waited for the log to grow.
    pub(crate) fn retry_grants(&mut self, cx: &mut Cx<'_>) {
        let waiting: Vec<(LinkId, DeviceId, Vec<wire::EpochGrant>)> = self
            .links
            .iter_mut()
            .map(|link| (link.id, link.device, link.take_aside()))
            .filter(|(_, _, grants)| !grants.is_empty())
            .collect();
        for (link, device, grants) in waiting {
            let Some(device) = self.device(&device) else { continue };
            for grant in grants {
                self.grant(cx, link, &device, grant);
            }
        }
    }
}
