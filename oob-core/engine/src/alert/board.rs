//! What is kept of alerts. Of each one memory holds a line; texts and answers stay in the store.

use crate::{
    cx::Cx,
    model::AlertAck,
    stored::{self, RecordError},
};
use oob_crypto::sha256;
use oob_proto::{AlertId, DeviceId, MemberId, limits, wire};
use oob_store::{Order, Store};
use std::collections::{BTreeMap, VecDeque};

/// Alerts kept: two weeks of 700 a day, a memory of about two megabytes.
const KEPT: usize = 10_000;

/// Alerts kept of one device: eight days of the most it may raise, so that five devices cannot crowd out the others.
const KEPT_PER_DEVICE: usize = 2_048;

/// Alerts one device may raise on one day by its own dates: one in six minutes, day and night.
pub(super) const ALERTS_PER_DAY: u32 = 256;

/// Answers taken of one device on one day of running here: four for each alert that one device may raise.
pub(super) const ACKS_PER_DAY: u32 = 1_024;

/// Alerts of one device that may come at once: all that is kept of it, which is what somebody finds who was away for a week.
/// After that as many come in a day of running here as one may raise in a day, whatever they say they are of.
const ARRIVALS: u64 = KEPT_PER_DEVICE as u64;

/// Answers of one device kept for alerts that have not come yet: a day's worth of one alerting device.
const AWAITED_PER_DEVICE: usize = 256;

/// Ids are kept this long after the end of an alert, so that one that comes again is not shown again.
const KEPT_AFTER_MS: u64 = 7 * DAY_MS;

/// The longest an alert is kept, and so an answer to one that never came.
const AWAITED_MS: u64 = limits::ALERT_LIFE_S * 1_000 + KEPT_AFTER_MS;

/// Alerts forgotten at once, so that nothing else waits for it.
const FORGOTTEN_AT_ONCE: usize = 64;

const DAY_MS: u64 = 86_400_000;

/// The time between two alerts of a device that raises as many as it may.
const ALERT_EVERY_MS: u64 = DAY_MS / ALERTS_PER_DAY as u64;

/// All alerts.
#[derive(Default)]
pub(crate) struct Alerts {
    pub(super) kept: BTreeMap<AlertId, Kept>,
    pub(super) next_place: u64,
    /// How many of a device are kept, by the day it says they are of.
    by_day: BTreeMap<DeviceId, BTreeMap<u64, u32>>,
    /// Answers to alerts not here, by author device, oldest first.
    awaited: BTreeMap<DeviceId, VecDeque<Awaited>>,
    next_awaited: u64,
    /// Answers taken of each device in this day of running.
    acks: BTreeMap<DeviceId, u32>,
    acks_day: u64,
    /// How far each device is ahead of the rate at which its alerts are taken: the running time at which it is even.
    arrivals: BTreeMap<DeviceId, u64>,
    pub(super) clock: u64,
}

/// One alert, without its words.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kept {
    pub(super) place: u64,
    pub(super) author: MemberId,
    pub(super) device: DeviceId,
    pub(super) supersedes: Option<AlertId>,
    pub(super) over: bool,
    issued_ms: u64,
    since_ms: u64,
    life_ms: u64,
}

#[derive(Debug, Clone, Copy)]
struct Awaited {
    place: u64,
    alert: AlertId,
    since_ms: u64,
}

impl Kept {
    fn of(raw: &wire::StoredAlert, place: u64) -> Option<Self> {
        Some(Self {
            place,
            author: raw.author.as_slice().try_into().ok()?,
            device: raw.device.as_slice().try_into().ok()?,
            supersedes: raw.supersedes.as_slice().try_into().ok(),
            over: raw.over,
            issued_ms: raw.issued_ms,
            since_ms: raw.since_ms,
            life_ms: u64::from(raw.life_s).saturating_mul(1_000),
        })
    }

    fn ends_ms(&self) -> u64 {
        self.since_ms.saturating_add(self.life_ms)
    }
}

impl Alerts {
    pub(crate) fn load(store: &Store) -> Result<Self, RecordError> {
        const AREA: &str = "alert";
        let unreadable = || RecordError::Unreadable { area: AREA };
        let mut alerts = Self::default();
        loop {
            let page = store.scan(&stored::alerts(), alerts.next_place.., Order::Ascending, 256)?;
            if page.is_empty() {
                break;
            }
            for (place, bytes) in page {
                let raw: wire::StoredAlert = stored::decode(&bytes, AREA)?;
                let id = AlertId::try_from(raw.id.as_slice()).map_err(|_| unreadable())?;
                alerts.note(id, Kept::of(&raw, place).ok_or_else(unreadable)?);
            }
        }
        loop {
            let from = alerts.next_awaited..;
            let page = store.scan(&stored::awaited_alerts(), from, Order::Ascending, 256)?;
            if page.is_empty() {
                break;
            }
            for (place, bytes) in page {
                alerts.next_awaited = place.saturating_add(1);
                let raw: wire::StoredAwaited = stored::decode(&bytes, AREA)?;
                let device = raw.device.as_slice().try_into().map_err(|_| unreadable())?;
                let alert = raw.alert.as_slice().try_into().map_err(|_| unreadable())?;
                let awaited = Awaited { place, alert, since_ms: raw.since_ms };
                alerts.awaited.entry(device).or_default().push_back(awaited);
            }
        }
        let clock: Option<wire::StoredAlertClock> =
            stored::read(store, &stored::alert_clock(), stored::ONLY, AREA)?;
        alerts.clock = clock.unwrap_or_default().hlc;
        Ok(alerts)
    }

    /// Ids of all that are kept.
    #[cfg(feature = "sim")]
    pub(crate) fn ids(&self) -> impl Iterator<Item = AlertId> + '_ {
        self.kept.keys().copied()
    }

    fn note(&mut self, id: AlertId, kept: Kept) {
        self.next_place = self.next_place.max(kept.place.saturating_add(1));
        let days = self.by_day.entry(kept.device).or_default();
        let count = days.entry(kept.issued_ms / DAY_MS).or_default();
        *count = count.saturating_add(1);
        self.kept.insert(id, kept);
    }

    /// Whether a device has raised as many as it may on the day an alert says it is of.
    pub(super) fn day_is_full(&self, device: &DeviceId, issued_ms: u64) -> bool {
        let day = self.by_day.get(device).and_then(|days| days.get(&(issued_ms / DAY_MS)));
        day.is_some_and(|count| *count >= ALERTS_PER_DAY)
    }

    /// Makes room for one more of a device; false if everything that is in the way still asks for attention.
    pub(super) fn make_room(
        &mut self,
        cx: &mut Cx<'_>,
        device: &DeviceId,
    ) -> Result<bool, RecordError> {
        let own: u32 = self.by_day.get(device).into_iter().flat_map(BTreeMap::values).sum();
        let crowded = usize::try_from(own).unwrap_or(usize::MAX) >= KEPT_PER_DEVICE;
        if !crowded && self.kept.len() < KEPT {
            return Ok(true);
        }
        let oldest = self
            .kept
            .iter()
            .filter(|(_, kept)| !crowded || kept.device == *device)
            .filter(|(_, kept)| kept.over || kept.ends_ms() <= cx.elapsed_ms)
            .min_by_key(|(_, kept)| kept.place)
            .map(|(id, _)| *id);
        // Where nothing ended, whoever has most gives way: a person with many devices must not keep others from being heard.
        let oldest = oldest.or_else(|| self.of_whoever_has_most(own).filter(|_| !crowded));
        let Some(oldest) = oldest else { return Ok(false) };
        self.forget(cx.store, &oldest)?;
        Ok(true)
    }

    /// The oldest alert of the device that has most, if that is more than some number.
    fn of_whoever_has_most(&self, than: u32) -> Option<AlertId> {
        let count = |days: &BTreeMap<u64, u32>| days.values().sum::<u32>();
        let (most, _) = self
            .by_day
            .iter()
            .map(|(device, days)| (*device, count(days)))
            .filter(|(_, count)| *count > than)
            .max_by_key(|(_, count)| *count)?;
        let of = self.kept.iter().filter(|(_, kept)| kept.device == most);
        of.min_by_key(|(_, kept)| kept.place).map(|(id, _)| *id)
    }

    /// Keeps an alert; returns its place.
    pub(super) fn keep(
        &mut self,
        cx: &mut Cx<'_>,
        id: AlertId,
        raw: &wire::StoredAlert,
    ) -> Option<u64> {
        let place = self.next_place;
        let kept = Kept::of(raw, place)?;
        stored::write(cx.store, &stored::alerts(), place, raw);
        let at = wire::StoredAlertPlace { place };
        stored::write(cx.store, &stored::alert_place(&id), stored::ONLY, &at);
        self.note(id, kept);
        Some(place)
    }

    /// Whether an alert of the same person took this one's place.
    pub(super) fn is_superseded(&self, id: &AlertId, author: &MemberId) -> bool {
        self.kept
            .values()
            .any(|kept| kept.supersedes.as_ref() == Some(id) && kept.author == *author)
    }

    /// Notes that an alert asks for attention no longer.
    pub(super) fn end(&mut self, store: &mut Store, id: &AlertId) -> Result<(), RecordError> {
        let Some(kept) = self.kept.get_mut(id).filter(|kept| !kept.over) else { return Ok(()) };
        kept.over = true;
        let raw = stored::read::<wire::StoredAlert>(store, &stored::alerts(), kept.place, "alert")?;
        if let Some(mut raw) = raw {
            raw.over = true;
            stored::write(store, &stored::alerts(), kept.place, &raw);
        }
        Ok(())
    }

    fn forget(&mut self, store: &mut Store, id: &AlertId) -> Result<(), RecordError> {
        let Some(kept) = self.kept.remove(id) else { return Ok(()) };
        if let Some(days) = self.by_day.get_mut(&kept.device)
            && let Some(count) = days.get_mut(&(kept.issued_ms / DAY_MS))
        {
            *count = count.saturating_sub(1);
            days.retain(|_, count| *count > 0);
        }
        for (seq, _) in
            store.scan(&stored::alert_acks(id), .., Order::Ascending, stored::ALERT_ACKS)?
        {
            store.delete(&stored::alert_acks(id), seq);
        }
        store.delete(&stored::alert_place(id), stored::ONLY);
        store.delete(&stored::alerts(), kept.place);
        Ok(())
    }

    /// What one device answered.
    pub(super) fn ack_of(
        &self,
        store: &Store,
        alert: &AlertId,
        device: &DeviceId,
    ) -> Result<Option<AlertAck>, RecordError> {
        let raw: Option<wire::StoredAlertAck> = stored::read(
            store,
            &stored::alert_acks(alert),
            place_of(alert, device),
            "alert answer",
        )?;
        Ok(raw.as_ref().and_then(AlertAck::from_stored))
    }

    /// What each person answered.
    pub(super) fn acks(
        &self,
        store: &Store,
        alert: &AlertId,
    ) -> Result<Vec<AlertAck>, RecordError> {
        let bag = stored::alert_acks(alert);
        let mut all = Vec::new();
        for (_, bytes) in store.scan(&bag, .., Order::Ascending, stored::ALERT_ACKS)? {
            let raw: wire::StoredAlertAck = stored::decode(&bytes, "alert answer")?;
            all.extend(AlertAck::from_stored(&raw));
        }
        Ok(AlertAck::by_person(all))
    }

    /// Whether a device has answered as often today as anybody may.
    pub(super) fn ack_floods(&mut self, elapsed_ms: u64, device: &DeviceId) -> bool {
        let day = elapsed_ms / DAY_MS;
        if self.acks_day != day {
            self.acks_day = day;
            self.acks.clear();
        }
        self.acks.get(device).is_some_and(|count| *count >= ACKS_PER_DAY)
    }

    /// Whether more alerts of a device came than are taken of anybody.
    pub(super) fn alerts_flood(&self, elapsed_ms: u64, device: &DeviceId) -> bool {
        let even = self.arrivals.get(device).copied().unwrap_or(0);
        even.saturating_sub(elapsed_ms) >= ARRIVALS.saturating_mul(ALERT_EVERY_MS)
    }

    /// Counts an alert that was taken of somebody.
    pub(super) fn count_alert(&mut self, elapsed_ms: u64, device: &DeviceId) {
        let even = self.arrivals.entry(*device).or_default();
        *even = (*even).max(elapsed_ms).saturating_add(ALERT_EVERY_MS);
    }

    /// Counts an answer that was taken.
    pub(super) fn count_ack(&mut self, device: &DeviceId) {
        let count = self.acks.entry(*device).or_default();
        *count = count.saturating_add(1);
    }

    /// Keeps what a device answered.
    pub(super) fn put_ack(&mut self, cx: &mut Cx<'_>, alert: &AlertId, ack: &AlertAck) {
        let raw = wire::StoredAlertAck {
            alert: alert.to_vec(),
            member: ack.member.to_vec(),
            device: ack.device.to_vec(),
            hlc: ack.time_ms,
            answer: ack.answer.clone().unwrap_or_default(),
        };
        stored::write(cx.store, &stored::alert_acks(alert), place_of(alert, &ack.device), &raw);
    }

    /// Notes an answer whose alert has not come; the oldest of its author's goes where there are too many.
    pub(super) fn await_alert(&mut self, cx: &mut Cx<'_>, alert: &AlertId, device: &DeviceId) {
        let waiting = self.awaited.entry(*device).or_default();
        if waiting.iter().any(|awaited| awaited.alert == *alert) {
            return;
        }
        if waiting.len() >= AWAITED_PER_DEVICE
            && let Some(oldest) = waiting.pop_front()
        {
            drop_awaited(cx.store, device, &oldest, true);
        }
        let awaited = Awaited { place: self.next_awaited, alert: *alert, since_ms: cx.elapsed_ms };
        let raw = wire::StoredAwaited {
            alert: alert.to_vec(),
            device: device.to_vec(),
            since_ms: awaited.since_ms,
        };
        stored::write(cx.store, &stored::awaited_alerts(), awaited.place, &raw);
        self.next_awaited = self.next_awaited.saturating_add(1);
        waiting.push_back(awaited);
    }

    /// An alert came that answers may have waited for.
    pub(super) fn awaited_came(&mut self, store: &mut Store, alert: &AlertId) {
        for (device, waiting) in &mut self.awaited {
            waiting.retain(|awaited| {
                let came = awaited.alert == *alert;
                if came {
                    drop_awaited(store, device, awaited, false);
                }
                !came
            });
        }
    }

    /// Notes which alerts ended by the time that passed here, and forgets what is kept long enough.
    pub(crate) fn keep_house(&mut self, cx: &mut Cx<'_>) -> Result<(), RecordError> {
        let now = cx.elapsed_ms;
        let chosen =
            |all: &BTreeMap<AlertId, Kept>, which: &dyn Fn(&Kept) -> bool| -> Vec<AlertId> {
                let found = all.iter().filter(|(_, kept)| which(kept)).map(|(id, _)| *id);
                found.take(FORGOTTEN_AT_ONCE).collect()
            };
        for id in chosen(&self.kept, &|kept| !kept.over && kept.ends_ms() <= now) {
            self.end(cx.store, &id)?;
        }
        for id in chosen(&self.kept, &|kept| kept.ends_ms().saturating_add(KEPT_AFTER_MS) <= now) {
            self.forget(cx.store, &id)?;
        }
        for (device, waiting) in &mut self.awaited {
            while waiting.front().is_some_and(|old| old.since_ms.saturating_add(AWAITED_MS) <= now)
                && let Some(old) = waiting.pop_front()
            {
                drop_awaited(cx.store, device, &old, true);
            }
        }
        self.awaited.retain(|_, waiting| !waiting.is_empty());
        Ok(())
    }

    /// The hybrid time of an own answer made now.
    pub(super) fn tick(&mut self, cx: &mut Cx<'_>) -> u64 {
        let next = cx.now.wall_ms.max(self.clock.saturating_add(1));
        self.set_clock(cx, next);
        next
    }

    /// Takes up the time of somebody else's answer, unless it is so far ahead that its clock must be wrong.
    pub(super) fn hear_clock(&mut self, cx: &mut Cx<'_>, hlc: u64) {
        if hlc > self.clock && hlc <= cx.now.wall_ms.saturating_add(DAY_MS) {
            self.set_clock(cx, hlc);
        }
    }

    fn set_clock(&mut self, cx: &mut Cx<'_>, hlc: u64) {
        self.clock = hlc;
        let raw = wire::StoredAlertClock { hlc };
        stored::write(cx.store, &stored::alert_clock(), stored::ONLY, &raw);
    }
}

fn drop_awaited(store: &mut Store, device: &DeviceId, awaited: &Awaited, with_answer: bool) {
    store.delete(&stored::awaited_alerts(), awaited.place);
    if with_answer {
        store.delete(&stored::alert_acks(&awaited.alert), place_of(&awaited.alert, device));
    }
}

/// Place of a device's answer. Places lie open on the disk, so it is no part of an id.
fn place_of(alert: &AlertId, device: &DeviceId) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = sha256(&[*alert.as_bytes(), *device.as_bytes()].concat());
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cx::{Out, Rng},
        model::Now,
    };
    use rand::{SeedableRng, rngs::StdRng};

    /// What day an alert is of, its author chooses: 256 each of all days there are were taken, one after the other.
    #[test]
    fn of_one_device_no_more_alerts_come_than_it_may_raise_whatever_day_they_say() {
        let mut alerts = Alerts::default();
        let device = DeviceId::from([1; 32]);
        let mut taken = |from: u64, to: u64| {
            let every = (from..to).step_by(1_000);
            let take = |now: &u64| {
                let floods = alerts.alerts_flood(*now, &device);
                if !floods {
                    alerts.count_alert(*now, &device);
                }
                !floods
            };
            every.filter(take).count()
        };
        let week_away = taken(0, 2_048_000);
        assert_eq!(week_away, 2_048, "what one was away for comes at once");
        let day = taken(3_000_000, 3_000_000 + DAY_MS);
        assert!((256..=270).contains(&day), "{day} in a day");
    }

    /// Five devices of one person have together more than the board holds; nobody else could raise an alert for a week.
    #[test]
    fn one_person_with_five_devices_does_not_keep_others_from_being_heard() {
        let mut store = Store::in_memory(StdRng::seed_from_u64(1)).unwrap();
        let mut rng: Rng = Box::new(StdRng::seed_from_u64(2));
        let mut out = Out::default();
        let now = Now { wall_ms: 1, mono_ms: 1 };
        let cx = &mut Cx { store: &mut store, rng: &mut rng, now, elapsed_ms: 10, out: &mut out };
        let mut alerts = Alerts::default();
        for place in 0..10_000u64 {
            let device = DeviceId::from([u8::try_from(place % 5).unwrap(); 32]);
            let kept = Kept {
                place,
                author: MemberId::from([1; 32]),
                device,
                supersedes: None,
                over: false,
                issued_ms: place * DAY_MS,
                since_ms: 1,
                life_ms: 7 * DAY_MS,
            };
            alerts.note(AlertId::from(sha256(&place.to_be_bytes())), kept);
        }
        assert!(!alerts.make_room(cx, &DeviceId::from([3; 32])).unwrap(), "not one of its own");
        assert!(alerts.make_room(cx, &DeviceId::from([9; 32])).unwrap());
        assert_eq!(alerts.kept.len(), 9_999);
        assert_eq!(alerts.kept.values().filter(|kept| kept.place < 5).count(), 4, "an oldest");
    }
}
