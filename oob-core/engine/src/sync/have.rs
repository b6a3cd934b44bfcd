//! Have: the signed word of a device on what it holds of everybody's records (docs/protocol.md, section 10).

use crate::{
    model::RangeSet,
    own::{Identity, Life},
};
use oob_crypto::{
    PublicKey, sha256,
    signed::{sign, verify},
};
use oob_proto::{DeviceId, Incarnation, Message, OpHash, OrgId, limits, signing::SignedType, wire};
use std::collections::BTreeMap;

/// One life of one device.
pub(crate) type Key = (DeviceId, Incarnation);

/// The lives a word speaks of, besides those of whoever says it: of one that it does not name among them, nothing is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Span {
    /// They lie behind this one; none: from the first.
    pub(crate) after: Option<Key>,
    /// This is the last of them; none: to the last there is.
    pub(crate) to: Option<Key>,
}

/// One of the words that together say what is here.
pub(crate) struct Part {
    pub(crate) span: Span,
    pub(crate) entries: Vec<wire::HaveEntry>,
}

impl Part {
    /// Divides what there is to tell among words of so many lives each: one at least.
    pub(crate) fn split(entries: Vec<(Key, wire::HaveEntry)>, most: usize) -> Vec<Self> {
        let (mut parts, mut after) = (Vec::new(), None);
        let mut left = entries.into_iter().peekable();
        loop {
            let (keys, entries): (Vec<Key>, Vec<_>) = left.by_ref().take(most.max(1)).unzip();
            let to = keys.last().copied().filter(|_| left.peek().is_some());
            parts.push(Self { span: Span { after, to }, entries });
            after = to;
            if to.is_none() {
                return parts;
            }
        }
    }
}

impl Span {
    pub(crate) fn contains(&self, key: &Key) -> bool {
        self.after.is_none_or(|after| after < *key) && self.to.is_none_or(|to| *key <= to)
    }

    /// Whether no other word follows that belongs to this one.
    pub(crate) fn is_last(&self) -> bool {
        self.to.is_none()
    }

    fn read(have: &wire::Have) -> Option<Self> {
        Some(Self { after: read_key(&have.after)?, to: read_key(&have.to)? })
    }
}

fn read_key(bytes: &[u8]) -> Option<Option<Key>> {
    if bytes.is_empty() {
        return Some(None);
    }
    let (device, life) = bytes.split_last_chunk::<4>()?;
    Some(Some((DeviceId::try_from(device).ok()?, Incarnation(u32::from_be_bytes(*life)))))
}

fn write_key(key: Option<Key>) -> Vec<u8> {
    let bytes =
        key.map(|(device, life)| [device.as_bytes().as_slice(), &life.0.to_be_bytes()].concat());
    bytes.unwrap_or_default()
}

/// Ranges told of the own records.
pub(crate) const OWN_RANGES: usize = 512;

/// Ranges told of all others' records together.
pub(crate) const OTHER_RANGES: usize = limits::HAVE_RANGES - OWN_RANGES;

/// Writes and signs a Have.
pub(crate) fn have(org: &OrgId, identity: &Identity, life: &mut Life, part: Part) -> wire::Signed {
    let Part { span, entries } = part;
    let have = wire::Have {
        device: identity.device.to_vec(),
        incarnation: life.incarnation.0,
        r#gen: life.rlk_gen,
        number: life.take_have(),
        entries,
        run: life.run(),
        after: write_key(span.after),
        to: write_key(span.to),
    };
    sign(SignedType::Have, org, have.encode_to_vec(), &[&life.rlk])
}

/// What a device says of its own records. The word of an author is the last: whatever it does not have up to the end of
/// what it tells, nobody needs. So where not all ranges fit, the lowest are told, and no more than they cover.
pub(crate) fn own_entry(
    device: &DeviceId,
    life: Incarnation,
    last: u64,
    live: &RangeSet,
) -> wire::HaveEntry {
    let mut have: Vec<wire::Range> = live.to_wire(usize::MAX);
    let mut end = last;
    if let Some(cut) = have.get(OWN_RANGES) {
        end = cut.first.saturating_sub(1);
        have.truncate(OWN_RANGES);
    }
    let gone = if end > 0 { vec![wire::Range { first: 1, last: end }] } else { Vec::new() };
    wire::HaveEntry { device: device.to_vec(), incarnation: life.0, have, gone, cut: false }
}

/// What somebody says of one life.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) key: Key,
    /// Can give.
    pub(crate) have: RangeSet,
    /// Has, or does not need.
    pub(crate) known: RangeSet,
    /// There was no room for all that it can give.
    pub(crate) cut: bool,
}

impl Told {
    /// The numbers below the lowest that are told, which the word may have had no room for.
    pub(crate) fn untold(&self) -> RangeSet {
        let mut untold = RangeSet::new();
        let lowest = self.known.iter().next().and_then(|(first, _)| first.checked_sub(1));
        if let Some(last) = lowest {
            untold.insert_range(0, last);
        }
        untold
    }
}

/// The newest Have of a neighbour, as it came.
#[derive(Debug, Clone)]
pub(crate) struct Word {
    pub(crate) life: Incarnation,
    pub(crate) number: u64,
    pub(crate) run: u32,
    /// Up to which of its author's own records it tells.
    pub(crate) own_to: u64,
    pub(crate) signed: wire::Signed,
}

/// A Have whose signature holds.
#[derive(Debug)]
pub(crate) struct HaveClaim {
    pub(crate) life: Incarnation,
    pub(crate) generation: u32,
    pub(crate) number: u64,
    pub(crate) run: u32,
    pub(crate) span: Span,
    pub(crate) told: Vec<Told>,
}

impl HaveClaim {
    /// Checks a Have of the device `from`; `relay` finds its relay key.
    pub(crate) fn parse<'a>(
        org: &OrgId,
        from: &DeviceId,
        signed: &wire::Signed,
        relay: impl Fn(Incarnation, u32) -> Option<&'a PublicKey>,
    ) -> Option<Self> {
        let raw = wire::Have::decode(signed.payload.as_slice()).ok()?;
        if raw.device != from.as_bytes() || raw.entries.len() > limits::HAVE_ENTRIES {
            return None;
        }
        let key = relay(Incarnation(raw.incarnation), raw.r#gen)?;
        verify(SignedType::Have, org, signed, &[*key]).ok()?;
        let ranges: usize =
            raw.entries.iter().map(|entry| entry.have.len().saturating_add(entry.gone.len())).sum();
        if ranges > limits::HAVE_RANGES.saturating_add(limits::HAVE_ENTRIES) {
            return None;
        }
        // One entry for each life, however often it is named: each costs a look at all that is owed.
        let mut told = BTreeMap::new();
        for entry in &raw.entries {
            let Ok(device) = DeviceId::try_from(entry.device.as_slice()) else { continue };
            let (have, known, cut): &mut (RangeSet, RangeSet, bool) =
                told.entry((device, Incarnation(entry.incarnation))).or_default();
            *cut |= entry.cut;
            have.union(&RangeSet::from_wire(&entry.have, limits::HAVE_RANGES));
            known.union(&RangeSet::from_wire(&entry.gone, limits::HAVE_RANGES));
            known.union(have);
        }
        let told = told.into_iter().map(|(key, (have, known, cut))| Told { key, have, known, cut });
        Some(Self {
            life: Incarnation(raw.incarnation),
            generation: raw.r#gen,
            number: raw.number,
            run: raw.run,
            span: Span::read(&raw)?,
            told: told.collect(),
        })
    }
}

/// The 33 bytes that two neighbours compare before anything else: a version, and a hash of the log's heads and of all
/// that is known of everybody's records (docs/protocol.md, section 10.3).
pub(crate) fn equality<'a>(
    heads: impl ExactSizeIterator<Item = &'a OpHash>,
    known: &BTreeMap<Key, RangeSet>,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let count = |len: usize| u32::try_from(len).unwrap_or(u32::MAX).to_be_bytes();
    bytes.extend(count(heads.len()));
    heads.for_each(|head| bytes.extend_from_slice(head.as_bytes()));
    for ((device, life), set) in known.iter().filter(|(_, set)| !set.is_empty()) {
        bytes.extend_from_slice(device.as_bytes());
        bytes.extend_from_slice(&life.0.to_be_bytes());
        bytes.extend(count(set.len()));
        for (first, last) in set.iter() {
            bytes.extend_from_slice(&first.to_be_bytes());
            bytes.extend_from_slice(&last.to_be_bytes());
        }
    }
    let mut equality = vec![limits::VERSION];
    equality.extend_from_slice(&sha256(&bytes));
    equality
}

#[cfg(test)]
mod tests {
    use super::{super::link::Link, *};
    use crate::{
        model::{LinkId, Name},
        record::RecordRef,
        seen::Seen,
    };
    use rand::{SeedableRng, rngs::StdRng};

    fn set(ranges: &[(u64, u64)]) -> RangeSet {
        let mut set = RangeSet::new();
        ranges.iter().for_each(|(first, last)| set.insert_range(*first, *last));
        set
    }

    #[test]
    fn an_author_never_says_that_something_it_still_owes_is_gone() {
        let device = DeviceId::from([1; 32]);
        let mut live = RangeSet::new();
        (1..=2_000u64).for_each(|n| {
            live.insert(n * 2);
        });
        for (live, last) in [(set(&[]), 9), (set(&[(3, 4)]), 9), (live.clone(), 4_000)] {
            let entry = own_entry(&device, Incarnation(1), last, &live);
            assert!(entry.have.len() <= OWN_RANGES);
            let have = RangeSet::from_wire(&entry.have, usize::MAX);
            let mut gone = RangeSet::from_wire(&entry.gone, usize::MAX);
            gone.subtract(&have);
            assert!(gone.common(&live).is_empty());
        }
        let whole = own_entry(&device, Incarnation(1), 9, &set(&[(3, 4)]));
        assert_eq!((whole.have.len(), whole.gone), (1, vec![wire::Range { first: 1, last: 9 }]));
    }

    /// With more than 256 lives those of the highest ids were told to nobody: whatever of them was here was offered ever again.
    #[test]
    fn more_lives_than_a_word_has_room_for_are_all_told_and_an_unnamed_one_stays_as_it_was() {
        let mut rng: crate::cx::Rng = Box::new(StdRng::seed_from_u64(1));
        let sam = Identity::generate(&mut rng, Name::parse("Sam").unwrap());
        let (mut life, org) = (Life::generate(&mut rng), OrgId::from([1; 32]));
        let of = |n: u16, seq| {
            let device = [n.to_be_bytes().as_slice(), &[7; 30]].concat();
            let device = DeviceId::try_from(device.as_slice()).unwrap();
            RecordRef { device, incarnation: Incarnation(3), seq }
        };
        let mut seen = Seen::default();
        (0..600).for_each(|n| assert!(seen.mark(&of(n, 1)) && seen.mark(&of(n, 2))));
        let mut link = Link::new(LinkId(1), sam.device);
        let mut say = |link: &mut Link, part: Part| {
            let signed = have(&org, &sam, &mut life, part);
            let key = life.rlk.public();
            let claim = HaveClaim::parse(&org, &sam.device, &signed, |_, _| Some(&key)).unwrap();
            assert!(claim.told.len() <= 250);
            link.take_have(claim.life, claim.span, &claim.told, 0);
        };
        let parts = || Part::split(seen.entries(OTHER_RANGES, 250), 250);
        assert_eq!(parts().len(), 3);
        for part in parts() {
            assert!(!link.told, "nothing is offered before all was said");
            say(&mut link, part);
        }
        assert!(link.told && (0..600).all(|n| link.knows(&of(n, 2))));
        // One of several, said again, leaves the others as they were; of what it speaks of, only what it names is there.
        let mut middle = parts().remove(1);
        assert_eq!(middle.span.to, Some((of(499, 0).device, Incarnation(3))));
        middle.entries.remove(7);
        say(&mut link, middle);
        let unknown: Vec<u16> = (0..600).filter(|n| !link.knows(&of(*n, 2))).collect();
        assert_eq!(unknown, [257]);
        // The control: a word that is whole speaks of all.
        say(&mut link, Part { span: Span::default(), entries: Vec::new() });
        assert!((0..600).all(|n| !link.knows(&of(n, 2))));
    }

    /// What somebody says of lives that nobody has heard of is not kept without end, however it is divided.
    #[test]
    fn what_words_in_parts_make_a_neighbour_remember_is_bounded() {
        let mut link = Link::new(LinkId(1), DeviceId::from([1; 32]));
        let known = set(&(1..=20).map(|n| (2 * n, 2 * n)).collect::<Vec<_>>());
        for n in 0..2_000u32 {
            let key = (DeviceId::from([2; 32]), Incarnation(n));
            let span =
                Span { after: Some((key.0, Incarnation(n.saturating_sub(1)))), to: Some(key) };
            let told = [Told { key, have: known.clone(), known: known.clone(), cut: true }];
            link.take_have(Incarnation(5), span, &told, 0);
        }
        // Of both, what it knows and what it has: the newest, and of every life a few.
        assert!(link.ranges_kept() <= 2 * (16_384 + 8 * 2_000), "{}", link.ranges_kept());
    }

    /// One author's lives full of holes took the place of all that was said of lives behind them, and everything was offered
    /// again behind every word.
    #[test]
    fn many_holes_of_one_author_leave_what_is_known_of_the_others() {
        let mut link = Link::new(LinkId(1), DeviceId::from([9; 32]));
        let key = |device: u8, n: u32| (DeviceId::from([device; 32]), Incarnation(n));
        let told = |key, known: RangeSet| Told { key, have: known.clone(), known, cut: false };
        let holes = set(&(1..=4_096).map(|n| (2 * n, 2 * n)).collect::<Vec<_>>());
        let one = set(&[(1, 7)]);
        for round in 0..2 {
            let span = Span { after: None, to: Some(key(1, 4)) };
            let lives: Vec<Told> = (0..5).map(|n| told(key(1, n), holes.clone())).collect();
            link.take_have(Incarnation(5), span, &lives, 0);
            for part in 0..3u32 {
                let after = if part == 0 { key(1, 4) } else { key(2, part * 200 - 1) };
                let to = (part < 2).then_some(key(2, part * 200 + 199));
                let lives: Vec<Told> =
                    (0..200).map(|n| told(key(2, part * 200 + n), one.clone())).collect();
                link.take_have(Incarnation(5), Span { after: Some(after), to }, &lives, 0);
            }
            let known = |n: &u32| {
                let (device, incarnation) = key(2, *n);
                link.knows(&RecordRef { device, incarnation, seq: 7 })
            };
            assert_eq!((0..600).filter(known).count(), 600, "round {round}");
        }
    }

    #[test]
    fn golden_equality() {
        let heads = [OpHash::from([1; 32])];
        let known = [((DeviceId::from([2; 32]), Incarnation(3)), set(&[(1, 5), (9, 9)]))];
        let known = BTreeMap::from(known);
        let bytes = equality(heads.iter(), &known);
        let expected = [
            [0, 0, 0, 1].as_slice(),
            &[1; 32],
            &[2; 32],
            &[0, 0, 0, 3],
            &[0, 0, 0, 2],
            &1u64.to_be_bytes(),
            &5u64.to_be_bytes(),
            &9u64.to_be_bytes(),
            &9u64.to_be_bytes(),
        ]
        .concat();
        assert_eq!(bytes, [[1].as_slice(), &sha256(&expected)].concat());
        let mut empty = known.clone();
        empty.insert((DeviceId::from([7; 32]), Incarnation(0)), RangeSet::new());
        assert_eq!(
            equality(heads.iter(), &empty),
            bytes,
            "a device of which nothing is known says nothing"
        );
    }
}
