//! Who is together with this node now, and what is known of those who are not.

use super::message;
use oob_engine::snapshot::{Nearby, Owed, Snapshot};
use oob_proto::{DeviceId, MemberId};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::SystemTime,
};

/// How old a neighbour's word that it hears a device may be for that device to count as within reach: the ten seconds
/// between two such words, and half of it again. One that left is missed so much later by those who had no link to it.
const FRESH_MS: u64 = 15_000;

/// A neighbour that heard a device no later than so long after this one lost it has most likely lost it in the same moment.
const TOGETHER_MS: u64 = 2_000;

/// The people this node is with, of all in the organisation.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Island {
    /// People with a device in reach, over a link of this node or by the word of those who are in reach; this device's
    /// person included.
    pub with: u64,
    /// All people.
    pub of: u64,
    /// Those with no device in reach, by name.
    pub away: Vec<Away>,
}

/// A person none of whose devices is in reach.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Away {
    /// Who.
    pub member: MemberId,
    /// Their name.
    pub name: String,
    /// When anybody known last heard a device of theirs, by this device's clock.
    pub last_heard: Option<SystemTime>,
    /// Who heard it then; none for this device itself.
    pub heard_by: Option<(MemberId, String)>,
    /// Own messages for them that others carry.
    pub held: u64,
}

/// What an island is told from.
struct Known<'a> {
    /// Every person with their devices.
    people: Vec<(MemberId, String, &'a [DeviceId])>,
    /// This device.
    me: DeviceId,
    /// Devices with a link.
    linked: &'a BTreeSet<DeviceId>,
    last_heard: &'a BTreeMap<DeviceId, u64>,
    nearby: &'a BTreeMap<DeviceId, Nearby>,
    owed: &'a BTreeMap<MemberId, Owed>,
    now_ms: u64,
}

impl Island {
    /// Tells it from the newest snapshot and the links of this moment.
    pub(super) fn of(snapshot: &Snapshot, linked: &BTreeSet<DeviceId>, now_ms: u64) -> Self {
        let people = snapshot.roster.members.values();
        Self::from(&Known {
            people: people.map(|m| (m.id, m.name.to_string(), m.devices.as_slice())).collect(),
            me: snapshot.me.device,
            linked,
            last_heard: &snapshot.last_heard,
            nearby: &snapshot.nearby,
            owed: &snapshot.owed,
            now_ms,
        })
    }

    fn from(known: &Known<'_>) -> Self {
        let reached = reached(known);
        let mut away: Vec<Away> = known
            .people
            .iter()
            .filter(|(_, _, devices)| !devices.iter().any(|device| reached.contains(device)))
            .map(|(member, name, devices)| {
                let heard = devices.iter().filter_map(|device| heard(known, device)).max();
                let by = heard.and_then(|(_, by)| by);
                Away {
                    member: *member,
                    name: name.clone(),
                    last_heard: heard.map(|(ms, _)| message::time(ms)),
                    heard_by: by.and_then(|by| {
                        let whose = known.people.iter().find(|(_, _, all)| all.contains(&by));
                        whose.map(|(member, name, _)| (*member, name.clone()))
                    }),
                    held: known.owed.get(member).map_or(0, |owed| owed.held),
                }
            })
            .collect();
        away.sort_by(|a, b| (&a.name, a.member).cmp(&(&b.name, b.member)));
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let of = count(known.people.len());
        Self { with: of.saturating_sub(count(away.len())), of, away }
    }
}

/// Devices with a link, and those whom devices in reach say they hear. The word of a device that is out of reach itself
/// is from before the cut and counts for nothing.
fn reached(known: &Known<'_>) -> BTreeSet<DeviceId> {
    let mut reached: BTreeSet<DeviceId> = known.linked.clone();
    reached.insert(known.me);
    loop {
        let before = reached.len();
        let told = known.nearby.iter().filter(|(device, near)| {
            let lost_ms =
                known.last_heard.get(device).map_or(0, |ms| ms.saturating_add(TOGETHER_MS));
            reached.contains(&near.by)
                && known.now_ms.saturating_sub(near.heard_ms) <= FRESH_MS
                && near.heard_ms > lost_ms
        });
        let told: Vec<DeviceId> = told.map(|(device, _)| *device).collect();
        reached.extend(told);
        // Grows by one at least in each round, so it ends after as many rounds as there are devices.
        if reached.len() == before {
            return reached;
        }
    }
}

/// When a device was last heard, and by whom if not by this one.
fn heard(known: &Known<'_>, device: &DeviceId) -> Option<(u64, Option<DeviceId>)> {
    let here = known.last_heard.get(device).map(|ms| (*ms, None));
    let there = known.nearby.get(device).map(|near| {
        // A neighbour's seconds may be off; nobody was heard in the future.
        (near.heard_ms.min(known.now_ms), (near.by != known.me).then_some(near.by))
    });
    match (here, there) {
        (Some(here), Some(there)) => Some(if there.0 > here.0 { there } else { here }),
        (here, there) => here.or(there),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(n: u8) -> DeviceId {
        DeviceId::from([n; 32])
    }

    fn member(n: u8) -> MemberId {
        MemberId::from([n; 32])
    }

    /// Dana (device 1, this one), Sam (2), Rosa (3), Eli (4) at second 1,000.
    fn told(linked: &[u8], nearby: &[(u8, u8, u64)], heard: &[(u8, u64)], held: u64) -> Island {
        let devices: Vec<[DeviceId; 1]> = (1..=4).map(|n| [device(n)]).collect();
        let names = ["Dana", "Sam", "Rosa", "Eli"];
        let people = (1..=4_u8).zip(names).zip(&devices);
        Island::from(&Known {
            people: people.map(|((n, name), d)| (member(n), name.to_owned(), &d[..])).collect(),
            me: device(1),
            linked: &linked.iter().map(|n| device(*n)).collect(),
            last_heard: &heard.iter().map(|(n, s)| (device(*n), s * 1_000)).collect(),
            nearby: &nearby
                .iter()
                .map(|(n, by, s)| (device(*n), Nearby { by: device(*by), heard_ms: s * 1_000 }))
                .collect(),
            owed: &[(member(3), Owed { messages: 5, held })].into_iter().collect(),
            now_ms: 1_000_000,
        })
    }

    fn names(island: &Island) -> Vec<&str> {
        island.away.iter().map(|away| away.name.as_str()).collect()
    }

    #[test]
    fn the_one_who_is_away_is_told_with_who_heard_them_last() {
        let island = told(&[2, 4], &[(3, 2, 760)], &[(3, 100)], 2);
        assert_eq!((island.with, island.of, names(&island)), (3, 4, vec!["Rosa"]));
        let rosa = &island.away[0];
        assert_eq!(rosa.last_heard, Some(message::time(760_000)));
        assert_eq!(rosa.heard_by, Some((member(2), "Sam".to_owned())));
        assert_eq!(rosa.held, 2);
        // Heard here since: nobody else is named.
        let island = told(&[2, 4], &[(3, 2, 760)], &[(3, 800)], 0);
        assert_eq!(
            (island.away[0].last_heard, &island.away[0].heard_by),
            (Some(message::time(800_000)), &None)
        );
    }

    #[test]
    fn a_chain_is_one_island_and_an_old_word_is_none() {
        let chain = [(3, 2, 995), (4, 3, 985)];
        assert_eq!(told(&[2], &chain, &[], 0).with, 4);
        // The control: cut off from the one who told, and with a word that is too old.
        assert_eq!((told(&[], &chain, &[], 0).with, told(&[], &chain, &[], 0).away.len()), (1, 3));
        assert_eq!(names(&told(&[2], &[(3, 2, 984), (4, 3, 990)], &[], 0)), ["Eli", "Rosa"]);
        // Who was lost in the moment in which the neighbour heard them last is away, and who was heard since is not.
        assert_eq!(names(&told(&[2, 4], &[(3, 2, 995)], &[(3, 994)], 0)), ["Rosa"]);
        assert_eq!(told(&[2, 4], &[(3, 2, 997)], &[(3, 994)], 0).with, 4);
        // Two who vouch for each other only are not thereby here.
        assert_eq!(told(&[2], &[(3, 4, 999), (4, 3, 999)], &[], 0).with, 2);
    }

    #[test]
    fn nobody_was_heard_in_the_future_or_ever() {
        let island = told(&[2], &[(3, 4, 5_000)], &[], 0);
        let rosa = island.away.iter().find(|away| away.name == "Rosa").unwrap();
        assert_eq!(rosa.last_heard, Some(message::time(1_000_000)));
        let eli = island.away.iter().find(|away| away.name == "Eli").unwrap();
        assert_eq!((eli.last_heard, &eli.heard_by), (None, &None));
    }
}
