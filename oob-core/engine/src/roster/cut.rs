//! What a removal lets stand of a device's records: what whoever removes it knows to be under way, and what may be (docs/protocol.md,
//! section 3.3).

use crate::model::RangeSet;
use oob_proto::wire;

/// Ranges that all cuts of one removal name together: with 64 lives and 64 parents it stays an operation.
pub(crate) const CUT_RANGES: usize = 64;

/// Numbers of a life that did not come and stand all the same: records on their way to others, or between those that are. A number
/// that leaps further stands by itself alone. Else whoever stole the device would sign one with the highest number there is, and
/// everything that is written afterwards would be below it.
const CUT_HOLES: u64 = 1_024;

/// What whoever removes a device knows of the records of one of its lives.
#[derive(Debug, Clone, Default)]
pub(crate) struct Came {
    /// All that came, whether or not it is needed still.
    pub(crate) all: RangeSet,
    /// Of that, what others may still need: what is carried, and certificates.
    pub(crate) under_way: RangeSet,
    /// What never came, and nobody needs, as its author said.
    pub(crate) said: RangeSet,
}

/// How much it matters that a part stands, least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Need {
    /// It came, and nobody is known to lack it.
    Past,
    /// Nothing is known of some of it.
    Unknown,
    /// It is known to be under way.
    UnderWay,
}

/// Says up to which number records of a life stand, and which beyond that: first those under way, then those that may be,
/// the newest of them. `most` bounds the ranges.
pub(crate) fn cut_of(known: &Came, most: usize) -> (u64, Vec<wire::Range>) {
    let under_way = known.under_way.common(&known.all);
    let mut stands = known.all.clone();
    // No record has the number 0: what stands from there on needs no range.
    stands.insert(0);
    let mut holes = CUT_HOLES;
    join(&mut stands, &under_way, most, &mut holes);
    let unknown = fill(&mut stands, known, &mut holes);
    grow(&mut stands, &mut holes);

    let need = |part: &(u64, u64)| {
        let part = range(*part);
        match (under_way.common(&part).is_empty(), unknown.common(&part).is_empty()) {
            (false, _) => Need::UnderWay,
            (true, false) => Need::Unknown,
            (true, true) => Need::Past,
        }
    };
    let mut parts = stands.iter();
    let last = parts.next().map_or(0, |(_, last)| last);
    let mut parts: Vec<(Need, (u64, u64))> = parts.map(|part| (need(&part), part)).collect();
    parts.sort_unstable();
    let many = parts.len().saturating_sub(most);
    let mut ranges: Vec<(u64, u64)> = parts.into_iter().skip(many).map(|(_, part)| part).collect();
    ranges.sort_unstable();
    (last, ranges.into_iter().map(|(first, last)| wire::Range { first, last }).collect())
}

/// Joins parts under way over the fewest missing numbers, until there are no more of them than may be named.
fn join(stands: &mut RangeSet, under_way: &RangeSet, most: usize, holes: &mut u64) {
    let named = |part: &(u64, u64)| part.0 == 0 || !under_way.common(&range(*part)).is_empty();
    let parts: Vec<(u64, u64)> = stands.iter().filter(named).collect();
    let mut many = parts.len().saturating_sub(most).saturating_sub(1);
    let mut gaps: Vec<(u64, u64, u64)> = parts
        .iter()
        .zip(parts.iter().skip(1))
        .map(|((_, before), (after, _))| {
            let gap = (before.saturating_add(1), after.saturating_sub(1));
            let missing = count(&stands.missing_from(&range(gap)));
            (missing, u64::MAX.saturating_sub(gap.0), gap.1)
        })
        .collect();
    // Of gaps as wide the newest.
    gaps.sort_unstable();
    for (missing, first, last) in gaps {
        if many == 0 || missing > *holes {
            return;
        }
        many = many.saturating_sub(1);
        *holes = holes.saturating_sub(missing);
        stands.insert_range(u64::MAX.saturating_sub(first), last);
    }
}

/// Has numbers stand of which nothing is known: they may be on their way to others. Returns which.
fn fill(stands: &mut RangeSet, known: &Came, holes: &mut u64) -> RangeSet {
    let mut unknown = RangeSet::new();
    let mut heard = stands.clone();
    heard.union(&known.said);
    let whole = range((0, known.all.last().unwrap_or(0)));
    for gap in heard.missing_from(&whole).iter() {
        let missing = gap.1.saturating_sub(gap.0).saturating_add(1);
        if missing <= *holes {
            *holes = holes.saturating_sub(missing);
            stands.insert_range(gap.0, gap.1);
            unknown.insert_range(gap.0, gap.1);
        }
    }
    unknown
}

/// Has what is left stand from the lowest number on: a thief may have said in the author's name that nobody needs it.
fn grow(stands: &mut RangeSet, holes: &mut u64) {
    let (mut last, mut parts) = (0u64, stands.iter());
    last = parts.next().map_or(last, |(_, end)| end);
    for (first, end) in parts {
        let missing = first.saturating_sub(last).saturating_sub(1);
        if missing > *holes {
            break;
        }
        *holes = holes.saturating_sub(missing);
        last = end;
    }
    stands.insert_range(0, last);
}

fn range((first, last): (u64, u64)) -> RangeSet {
    let mut set = RangeSet::new();
    if first <= last {
        set.insert_range(first, last);
    }
    set
}

/// How many numbers are in a set.
pub(crate) fn count(set: &RangeSet) -> u64 {
    let lens = set.iter().map(|(first, last)| last.saturating_sub(first).saturating_add(1));
    lens.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(ranges: &[(u64, u64)]) -> RangeSet {
        let mut set = RangeSet::new();
        ranges.iter().for_each(|(first, last)| set.insert_range(*first, *last));
        set
    }

    fn came(all: &[(u64, u64)]) -> Came {
        Came { all: set(all), ..Came::default() }
    }

    /// What a cut lets stand.
    fn standing((last, ranges): (u64, Vec<wire::Range>)) -> RangeSet {
        assert!(ranges.is_sorted_by(|a, b| a.last < b.first));
        let mut all = RangeSet::from_wire(&ranges, usize::MAX);
        all.insert_range(0, last);
        all
    }

    /// The cut was the highest number known. Whoever stole a device signed one record with the highest there is, and all that
    /// was written afterwards stood.
    #[test]
    fn a_number_that_leaps_stands_by_itself_and_raises_no_cut() {
        let range = |first, last| wire::Range { first, last };
        // What is on its way lies among what came, and stands.
        assert_eq!(cut_of(&came(&[(1, 10), (500, 900)]), 9), (900, vec![]));
        let leap = [(1, 10), (12, 900), (u64::MAX, u64::MAX)];
        assert_eq!(cut_of(&came(&leap), 9), (900, vec![range(u64::MAX, u64::MAX)]));
        // Also where its author's name stands for nobody needing anything else.
        let said = Came { said: set(&[(11, 11), (901, u64::MAX - 1)]), ..came(&leap) };
        assert_eq!(cut_of(&said, 9), (900, vec![range(u64::MAX, u64::MAX)]));
        // Nor can the holes be made one by one, under way or not.
        let steps: Vec<(u64, u64)> = (0..4_000).map(|n| (n * 1_000 + 1, n * 1_000 + 1)).collect();
        for under_way in [set(&[]), set(&steps)] {
            let cut = cut_of(&Came { under_way, ..came(&steps) }, CUT_RANGES);
            assert_eq!(cut.1.len(), CUT_RANGES);
            let holes = set(&steps).missing_from(&standing(cut));
            assert!(count(&holes) <= CUT_HOLES + 1, "{}", count(&holes));
        }
        assert_eq!(cut_of(&came(&[]), 9), (0, vec![]));
    }

    /// Of what had come the lowest was named, and there were more than enough of these.
    #[test]
    fn what_is_under_way_stands_before_what_is_not_and_the_newest_first() {
        // 2,000 texts went straight to others, every twentieth to whoever removes the device; a hundred are carried.
        let mut known = Came::default();
        for number in 1..=2_100 {
            let carried = number > 2_000;
            match carried || number % 20 == 0 {
                true => known.all.insert(number * 2),
                false => known.said.insert(number * 2),
            };
            known.said.insert(number * 2 + 1);
            if carried {
                known.under_way.insert(number * 2);
            }
        }
        let stands = standing(cut_of(&known, CUT_RANGES));
        assert!(stands.covers(&known.under_way));
        // Too far apart to be joined: the newest.
        let far: Vec<(u64, u64)> = (1..=100).map(|n| (n * 5_000, n * 5_000)).collect();
        let under_way = set(&far[..80]);
        let stands = standing(cut_of(&Came { under_way, ..came(&far) }, CUT_RANGES));
        assert!(stands.covers(&set(&far[16..80])));
        assert!((80..100).all(|n| !stands.contains(far[n].0)));
    }

    /// What nothing is known of may be on its way to others; what its author gave up is not.
    #[test]
    fn numbers_of_which_nothing_is_known_stand_before_those_that_nobody_needs() {
        let known =
            Came { said: set(&[(2, 2_999)]), ..came(&[(1, 1), (3_000, 3_001), (3_900, 3_900)]) };
        let stands = standing(cut_of(&known, CUT_RANGES));
        assert!(stands.covers(&set(&[(3_000, 3_900)])));
        assert!(!stands.contains(2));
    }
}
