//! All live streams, the newest to each device, and what is kept of those that ended.

use super::{link::Link, rest::Left};
use crate::{model::LinkId, record::RecordRef};
use oob_proto::DeviceId;
use std::collections::{BTreeMap, BTreeSet};

/// Devices that went away of which is kept what they had, where their words had no room for it: as many as come back within
/// minutes behind one broken switch.
const LEFT: usize = 64;

/// Streams, and the newest to each device.
#[derive(Default)]
pub(crate) struct Links {
    links: BTreeMap<LinkId, Link>,
    by_device: BTreeMap<DeviceId, LinkId>,
    /// What is kept of devices whose stream ended, by when that was.
    left: BTreeMap<DeviceId, Left>,
    ended: u64,
}

impl Links {
    /// Takes a new stream. Of two to one device the newer counts: the mesh ends the older.
    pub(crate) fn up(&mut self, id: LinkId, device: DeviceId) {
        let before = self.left.remove(&device);
        self.links.insert(id, Link::new(id, device).behind(before));
        self.by_device.insert(device, id);
    }

    /// Forgets a stream; returns whose it was.
    pub(crate) fn down(&mut self, id: LinkId) -> Option<DeviceId> {
        let link = self.links.remove(&id)?;
        let device = link.device;
        if self.by_device.get(&device) == Some(&id) {
            // Both ends may have opened one: which of the two stays is decided beneath.
            let other = self.links.iter().rev().find(|(_, link)| link.device == device);
            match other.map(|(id, _)| *id) {
                Some(other) => self.by_device.insert(device, other),
                None => self.by_device.remove(&device),
            };
        }
        self.ended = self.ended.saturating_add(1);
        if let Some(left) = link.leave(self.ended) {
            self.left.insert(device, left);
        }
        if self.left.len() > LEFT {
            let longest = self.left.iter().min_by_key(|(_, left)| left.ended);
            let longest = longest.map(|(device, _)| *device);
            longest.and_then(|longest| self.left.remove(&longest));
        }
        Some(device)
    }

    pub(crate) fn get_mut(&mut self, id: LinkId) -> Option<&mut Link> {
        self.links.get_mut(&id)
    }

    pub(crate) fn has_device(&self, device: &DeviceId) -> bool {
        self.by_device.contains_key(device)
    }

    /// The newest stream to a device.
    pub(crate) fn to(&self, device: &DeviceId) -> Option<&Link> {
        self.links.get(self.by_device.get(device)?)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_device.len()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Link> {
        self.links.values_mut()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Link> {
        self.links.values()
    }

    /// Streams to whom a record is given that came on one of them: not to whoever its bearer is connected with, since it
    /// gives it there itself, and everybody would give everybody the same. Whether it did is looked at a little later.
    pub(crate) fn onward(
        &mut self,
        from: Option<LinkId>,
        of: &RecordRef,
        now_ms: u64,
    ) -> Vec<&mut Link> {
        let near = from.and_then(|from| self.links.get(&from)).map(|link| link.near.clone());
        let near = near.unwrap_or_default();
        let mut onward = Vec::new();
        for link in self.links.values_mut().filter(|link| Some(link.id) != from) {
            if near.contains(&link.device) {
                link.expect(of, now_ms);
            } else {
                onward.push(link);
            }
        }
        onward
    }

    /// Streams whose device is not among these.
    pub(crate) fn outside(&self, devices: &BTreeSet<DeviceId>) -> Vec<LinkId> {
        self.links
            .values()
            .filter(|link| !devices.contains(&link.device))
            .map(|link| link.id)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            have::{Span, Told},
            rest::LEFT_RANGES,
        },
        *,
    };
    use crate::model::RangeSet;
    use oob_proto::Incarnation;

    const LIFE: Incarnation = Incarnation(5);

    /// A new stream began from nothing: with many holes in what an author wrote, each had everybody offer everything below the
    /// lowest number that is told. And each word with news took away that it had been in vain, so it was offered again.
    #[test]
    fn what_a_word_has_no_room_for_is_offered_seldom_on_new_streams_and_behind_news() {
        const EACH_MS: u64 = 240_000;
        let (device, key) = (DeviceId::from([1; 32]), (DeviceId::from([2; 32]), Incarnation(3)));
        let mut links = Links::default();
        let mut have: RangeSet = RangeSet::new();
        (0..200).for_each(|n| have.insert_range(1 + 2 * n, 1 + 2 * n));
        let (mut seq, mut offers) = (401, BTreeMap::new());
        let word = |have: &RangeSet| {
            let known = RangeSet::from_wire(&have.to_wire(40), 40);
            [Told { key, have: known.clone(), known, cut: false }]
        };
        for now_ms in (0..3_600_000).step_by(1_000) {
            let id = LinkId(1 + now_ms / EACH_MS);
            if now_ms % EACH_MS == 0 {
                links.down(LinkId(id.0 - 1));
                links.up(id, device);
            }
            let link = links.get_mut(id).unwrap();
            if now_ms % 5_000 == 0 {
                seq += 2;
                have.insert(seq);
                link.gave(&RecordRef { device: key.0, incarnation: key.1, seq });
                link.take_have(LIFE, Span::default(), &word(&have), now_ms);
                link.compare(&key, have.clone(), Vec::new);
            }
            if link.take_repair(now_ms) {
                link.compare(&key, have.clone(), Vec::new);
            }
            while let Some(of) = link.next() {
                link.offer(&of, now_ms);
                *offers.entry(of.seq).or_insert(0) += 1;
            }
        }
        let most = offers.values().copied().max().unwrap_or(0);
        assert!((2..=12).contains(&most), "{most} times in an hour");
        // The control: a device that begins another life may have lost all of it.
        let offered = |links: &mut Links, id, life| {
            links.down(LinkId(id - 1));
            links.up(LinkId(id), device);
            let link = links.get_mut(LinkId(id)).unwrap();
            link.take_have(life, Span::default(), &word(&have), 3_600_000);
            link.compare(&key, have.clone(), Vec::new);
            std::iter::from_fn(|| link.next()).count()
        };
        assert_eq!(offered(&mut links, 16, LIFE), 0);
        assert!(offered(&mut links, 17, Incarnation(6)) > 200);
    }

    #[test]
    fn the_older_of_two_streams_is_found_when_the_newer_one_ends() {
        let (mut links, device) = (Links::default(), DeviceId::from([1; 32]));
        links.up(LinkId(1), device);
        links.up(LinkId(2), device);
        links.down(LinkId(2));
        assert_eq!(links.to(&device).map(|link| link.id), Some(LinkId(1)));
        links.down(LinkId(1));
        assert!(!links.has_device(&device));
    }

    #[test]
    fn what_is_kept_of_streams_that_ended_is_bounded() {
        let mut links = Links::default();
        let mut have = RangeSet::new();
        (1..=4_000).for_each(|n| have.insert_range(2 * n, 2 * n));
        for n in 1..=200 {
            let device = DeviceId::from([n; 32]);
            let id = LinkId(u64::from(n));
            links.up(id, device);
            let lives = (0..20).map(|life| (DeviceId::from([250; 32]), Incarnation(life)));
            let words =
                lives.map(|key| Told { key, have: have.clone(), known: have.clone(), cut: false });
            links.get_mut(id).unwrap().take_have(
                LIFE,
                Span::default(),
                &words.collect::<Vec<_>>(),
                0,
            );
            links.down(id);
        }
        let ranges = |left: &Left| left.theirs.values().map(RangeSet::len).sum::<usize>();
        assert_eq!(links.left.len(), LEFT);
        assert!(links.left.values().all(|left| ranges(left) <= LEFT_RANGES));
        let newest = DeviceId::from([200; 32]);
        assert!(links.left.get(&newest).is_some_and(|left| ranges(left) > 0), "the newest stay");
    }
}
