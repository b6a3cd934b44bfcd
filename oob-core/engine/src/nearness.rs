//! Who is near: what neighbours tell of those they heard, so that people see where everybody is, and so that what is new
//! is given to the mesh where not everybody is a neighbour. All of it is a hint; nothing is decided by it but the way.

use crate::{
    cx::Cx,
    effect::Effect,
    model::LinkId,
    snapshot::{Nearby, Owed},
    state::State,
    sync::{Carrier, Direct, Gossip, HeardOf},
};
use oob_proto::{
    DeviceId, DeviceShort, MemberId, Message, limits,
    wire::{self, Frame, frame::Kind},
};
use std::collections::{BTreeMap, BTreeSet};

/// Somebody heard within this time is taken to be up: the time between two words on who is near, and half of it again.
const UP_MS: u64 = 15_000;

/// More neighbours than this are not served one by one.
const DIRECT_NEIGHBOURS: usize = 32;

impl State {
    /// Takes what a neighbour says of those it heard.
    pub(crate) fn told_nearby(
        &mut self,
        cx: &Cx<'_>,
        link: LinkId,
        from: DeviceId,
        nearby: &wire::Nearby,
    ) {
        let mut near = BTreeSet::new();
        for heard in nearby.heard.iter().take(limits::NEARBY) {
            let (Ok(device), Ok(by)) = (
                DeviceShort::try_from(heard.device.as_slice()),
                DeviceShort::try_from(heard.by.as_slice()),
            ) else {
                continue;
            };
            let (Some(device), Some(by)) =
                (self.device_by_short(&device), self.device_by_short(&by))
            else {
                continue;
            };
            if by == from && heard.ago_s == 0 {
                near.insert(device);
            }
            // What others heard of this device, or heard from it, is no news here.
            if device == self.identity.device || by == self.identity.device || device == from {
                continue;
            }
            let ago_ms = u64::from(heard.ago_s).saturating_mul(1_000);
            let now_ms = cx.now.mono_ms;
            let own_word = by == from;
            let ended = own_word && ago_ms > 0;
            let told = HeardOf::new(by, ended, ago_ms, now_ms);
            // A second of difference is rounding, and no news; whose word it was may take it back.
            if self.nearby.get(&device).is_none_or(|known| {
                told.ago_ms(now_ms).saturating_add(1_000) < known.ago_ms(now_ms)
                    || (own_word && known.by == from && known.ended != ended)
            }) {
                self.nearby.insert(device, told);
                self.nearer = true;
            }
        }
        if let Some(link) = self.links.get_mut(link) {
            self.nearer |= link.take_near(near);
        }
    }

    /// Notes that somebody came near or went away.
    pub(crate) fn near_changed(&mut self, now_ms: u64) {
        self.nearer = true;
        for link in self.links.iter_mut() {
            link.nearby_changed(now_ms);
        }
    }

    /// Tells a neighbour who was heard, and by whom.
    pub(crate) fn push_nearby(&mut self, cx: &mut Cx<'_>, id: LinkId) {
        let now = cx.now;
        let Some(link) = self.links.get_mut(id) else { return };
        if !link.take_nearby(now.mono_ms) {
            return;
        }
        let to = link.device;
        let me = self.identity.device;
        let mut heard: BTreeMap<DeviceId, (DeviceId, u64)> = BTreeMap::new();
        for (device, of) in &self.nearby {
            heard.insert(*device, (of.by, of.ago_ms(now.mono_ms)));
        }
        for (device, known) in self.neighbours.iter().filter(|(_, known)| known.last_heard_ms > 0) {
            let ago_ms = match self.links.has_device(device) {
                true => 0,
                false => now.wall_ms.saturating_sub(known.last_heard_ms).max(1),
            };
            let told = heard.entry(*device).or_insert((me, ago_ms));
            if ago_ms <= told.1 {
                *told = (me, ago_ms);
            }
        }
        let standing = |device: &DeviceId| self.device(device).is_some();
        let mut all: Vec<_> = heard
            .into_iter()
            .filter(|(device, (by, _))| *device != to && *by != to && standing(device))
            .collect();
        // The latest first: where not all fit, those are of use.
        all.sort_by_key(|(device, (_, ago_ms))| (*ago_ms, *device));
        let heard =
            all.into_iter().take(limits::NEARBY).map(|(device, (by, ago_ms))| wire::Heard {
                device: device.short().to_vec(),
                by: by.short().to_vec(),
                // Rounded up: 0 says that a stream leads there now.
                ago_s: u32::try_from(ago_ms.div_ceil(1_000)).unwrap_or(u32::MAX),
            });
        let nearby = wire::Nearby { heard: heard.collect() };
        if nearby.heard.is_empty() {
            return;
        }
        let frame = Frame::new(Kind::Nearby(nearby)).encode_to_vec();
        cx.out.effects.push(Effect::Send { link: id, frame });
    }

    /// Whether somebody is up whom no stream of this device leads to.
    pub(crate) fn beyond_neighbours(&self, now_ms: u64) -> bool {
        let up = |(device, heard): (&DeviceId, &HeardOf)| {
            heard.ago_ms(now_ms) <= UP_MS && !self.links.has_device(device)
        };
        self.links.len() > DIRECT_NEIGHBOURS || self.nearby.iter().any(up)
    }

    /// The way new records take now.
    pub(crate) fn carrier(&self, now_ms: u64) -> &'static dyn Carrier {
        if self.beyond_neighbours(now_ms) { &Gossip } else { &Direct }
    }

    /// Who was heard by others later than by this device, for the snapshot.
    pub(crate) fn nearby_view(&self) -> BTreeMap<DeviceId, Nearby> {
        let (wall_ms, mono_ms) = self.snapshot_time;
        let view = self.nearby.iter().filter(|(device, _)| !self.links.has_device(device));
        let view = view.map(|(device, heard)| {
            let heard_ms = wall_ms.saturating_sub(heard.ago_ms(mono_ms));
            // One neighbour may have lost whom another still has.
            let ended = heard.ended && !self.links.iter().any(|link| link.says_near(device));
            (*device, Nearby { by: heard.by, heard_ms, ended })
        });
        view.filter(|(device, heard)| {
            let own = self.neighbours.get(device).map_or(0, |known| known.last_heard_ms);
            heard.heard_ms >= own
        })
        .collect()
    }

    /// Own messages still owed, by person; counting who carries them again takes a walk over all of them.
    pub(crate) fn owed_view(
        &self,
        before: &BTreeMap<MemberId, Owed>,
        walk: bool,
    ) -> BTreeMap<MemberId, Owed> {
        let mut owed: BTreeMap<MemberId, Owed> = BTreeMap::new();
        for (to, messages) in self.outbox.messages_by_device() {
            let Some(to) = self.device(to) else { continue };
            let of = owed.entry(to.member).or_default();
            of.messages = of.messages.saturating_add(messages);
        }
        if !walk {
            for (member, of) in &mut owed {
                let held = before.get(member).map_or(0, |before| before.held);
                of.held = held.min(of.messages);
            }
            return owed;
        }
        for (to, pending) in self.outbox.all().filter(|(_, pending)| pending.carries.is_message()) {
            let Some(to) = self.device(to) else { continue };
            if let Some(of) = owed.get_mut(&to.member)
                && !self.holders.of(pending.incarnation, pending.seq, &to.member).is_empty()
            {
                of.held = of.held.saturating_add(1);
            }
        }
        owed
    }
}
