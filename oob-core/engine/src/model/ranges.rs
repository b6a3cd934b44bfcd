//! Sets of numbers as ranges, like the acknowledgements of QUIC.

use oob_proto::wire::Range;
use std::{cmp::Ordering, collections::VecDeque};

/// A set of numbers, kept as maximal inclusive ranges in one piece of memory: most sets have a handful of them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RangeSet {
    /// First and last number of each, ascending.
    ranges: VecDeque<(u64, u64)>,
}

impl RangeSet {
    /// Returns an empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// The place of the first range that ends at a number or behind it.
    fn reaching(&self, number: u64) -> usize {
        match self.ranges.back() {
            // Most questions are about the newest numbers.
            Some((first, last)) if *first <= number => {
                self.ranges.len().saturating_sub(usize::from(number <= *last))
            }
            _ => self.ranges.partition_point(|(_, last)| *last < number),
        }
    }

    /// Says whether a number is in it.
    pub fn contains(&self, number: u64) -> bool {
        self.ranges.get(self.reaching(number)).is_some_and(|(first, _)| *first <= number)
    }

    /// Adds one number; returns whether it is new.
    pub fn insert(&mut self, number: u64) -> bool {
        if self.contains(number) {
            return false;
        }
        self.insert_range(number, number);
        true
    }

    /// Adds all numbers from `first` to `last`; nothing if `first` is the larger.
    pub fn insert_range(&mut self, first: u64, last: u64) {
        if first > last {
            return;
        }
        // A range that ends just before this one, or reaches into it, becomes its beginning.
        let from = self.reaching(first.saturating_sub(1));
        let Some((f, l)) = self.ranges.get_mut(from) else {
            return self.ranges.push_back((first, last));
        };
        let reach = last.saturating_add(1);
        if *f > reach {
            return self.ranges.insert(from, (first, last));
        }
        (*f, *l) = (first.min(*f), last.max(*l));
        let (mut end, mut swallowed) = (*l, from.saturating_add(1));
        while let Some((f, l)) = self.ranges.get(swallowed)
            && *f <= end.saturating_add(1)
        {
            end = end.max(*l);
            swallowed = swallowed.saturating_add(1);
        }
        if let Some((_, l)) = self.ranges.get_mut(from) {
            *l = end;
        }
        self.ranges.drain(from.saturating_add(1)..swallowed);
    }

    /// Adds what another set holds.
    pub fn union(&mut self, other: &Self) {
        if self.is_empty() {
            self.clone_from(other);
            return;
        }
        for (first, last) in other.iter() {
            self.insert_range(first, last);
        }
    }

    /// Returns the ranges, ascending.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, u64)> + '_ {
        self.ranges.iter().copied()
    }

    /// Says whether all numbers of `other` are in this set.
    pub fn covers(&self, other: &Self) -> bool {
        other.iter().all(|(first, last)| {
            self.ranges
                .get(self.reaching(first))
                .is_some_and(|(from, to)| *from <= first && last <= *to)
        })
    }

    /// Returns the numbers of `other` that are not in this set, as ranges.
    pub fn missing_from(&self, other: &Self) -> Self {
        let mut missing = VecDeque::new();
        for (first, last) in other.iter() {
            let (mut next, mut place) = (first, self.reaching(first));
            // Whatever lies in the way; what is left behind the last of it is missing too.
            let rest = loop {
                let Some((from, to)) = self.ranges.get(place).filter(|(from, _)| *from <= last)
                else {
                    break Some(next);
                };
                if *from > next {
                    missing.push_back((next, from.saturating_sub(1)));
                }
                match to.cmp(&last) {
                    Ordering::Less => next = to.saturating_add(1),
                    Ordering::Equal | Ordering::Greater => break None,
                }
                place = place.saturating_add(1);
            };
            missing.extend(rest.map(|next| (next, last)));
        }
        Self { ranges: missing }
    }

    /// Returns the numbers that are in both.
    pub fn common(&self, other: &Self) -> Self {
        let (few, many) = if self.len() < other.len() { (self, other) } else { (other, self) };
        let mut common = VecDeque::new();
        for (first, last) in few.iter() {
            let place = many.reaching(first);
            let inside = many.ranges.range(place..).take_while(|(from, _)| *from <= last);
            common.extend(inside.map(|(from, to)| (first.max(*from), last.min(*to))));
        }
        Self { ranges: common }
    }

    /// Takes one number out; returns whether it was in it.
    pub fn remove(&mut self, number: u64) -> bool {
        let place = self.reaching(number);
        let Some((first, last)) = self.ranges.get(place).copied() else { return false };
        if first > number {
            return false;
        }
        self.ranges.remove(place);
        if number < last {
            self.ranges.insert(place, (number.saturating_add(1), last));
        }
        if first < number {
            self.ranges.insert(place, (first, number.saturating_sub(1)));
        }
        true
    }

    /// Takes all numbers of another set out.
    pub fn subtract(&mut self, other: &Self) {
        if !other.is_empty() && !self.is_empty() {
            *self = other.missing_from(self);
        }
    }

    /// Takes the smallest number out.
    pub fn pop_first(&mut self) -> Option<u64> {
        let (first, last) = self.ranges.front_mut()?;
        let number = *first;
        if *first < *last {
            *first = first.saturating_add(1);
        } else {
            self.ranges.pop_front();
        }
        Some(number)
    }

    /// Returns every number, ascending. A set may hold very many: bound it first.
    pub fn numbers(&self) -> impl Iterator<Item = u64> + '_ {
        self.iter().flat_map(|(first, last)| first..=last)
    }

    /// Returns how many ranges there are.
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Says whether nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Returns the largest number.
    pub fn last(&self) -> Option<u64> {
        self.ranges.back().map(|(_, last)| *last)
    }

    /// Closes the lowest holes until at most `most` ranges are left.
    pub fn close_lowest(&mut self, most: usize) {
        let many = self.ranges.len().saturating_sub(most.max(1));
        let first = self.ranges.front().map(|(first, _)| *first);
        self.ranges.drain(..many);
        if let (Some(first), Some(front)) = (first, self.ranges.front_mut()) {
            front.0 = first;
        }
    }

    /// Keeps the highest `most` ranges only.
    pub fn keep_highest(&mut self, most: usize) {
        let many = self.ranges.len().saturating_sub(most);
        self.ranges.drain(..many);
    }

    /// Writes the highest `most` ranges as wire types, ascending.
    pub fn to_wire(&self, most: usize) -> Vec<Range> {
        let skip = self.ranges.len().saturating_sub(most);
        self.iter().skip(skip).map(|(first, last)| Range { first, last }).collect()
    }

    /// Reads at most `most` ranges of wire types; ranges upside down are passed over.
    pub fn from_wire(ranges: &[Range], most: usize) -> Self {
        let mut set = Self::new();
        for range in ranges.iter().take(most) {
            set.insert_range(range.first, range.last);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn behaves_like_a_set(ops in prop::collection::vec((0u64..200, 0u64..6), 0..80), probe in prop::collection::vec((0u64..200, 0u64..9), 0..20)) {
            let (mut ranges, mut model) = (RangeSet::new(), BTreeSet::new());
            for (first, len) in ops {
                ranges.insert_range(first, first + len);
                model.extend(first..=first + len);
            }
            for n in 0..210 {
                prop_assert_eq!(ranges.contains(n), model.contains(&n));
            }
            let all: Vec<_> = ranges.iter().collect();
            for pair in all.windows(2) {
                prop_assert!(pair[0].1 + 1 < pair[1].0, "ranges are maximal");
            }
            let mut smaller = ranges.clone();
            for n in (0..210).step_by(3) {
                prop_assert_eq!(smaller.remove(n), model.contains(&n));
            }
            for n in 0..210 {
                prop_assert_eq!(smaller.contains(n), model.contains(&n) && n % 3 != 0);
            }
            let mut popped = smaller.clone();
            let all: Vec<u64> = std::iter::from_fn(|| popped.pop_first()).collect();
            prop_assert_eq!(&all, &smaller.numbers().collect::<Vec<_>>());
            let (mut other, mut other_model) = (RangeSet::new(), BTreeSet::new());
            for (first, len) in probe {
                other.insert_range(first, first + len);
                other_model.extend(first..=first + len);
            }
            let missing: BTreeSet<u64> = ranges.missing_from(&other).iter().flat_map(|(f, l)| f..=l).collect();
            prop_assert_eq!(missing, other_model.difference(&model).copied().collect::<BTreeSet<_>>());
            let common: BTreeSet<u64> = ranges.common(&other).numbers().collect();
            prop_assert_eq!(common, other_model.intersection(&model).copied().collect::<BTreeSet<_>>());
            prop_assert_eq!(ranges.covers(&other), other_model.is_subset(&model));
            let mut both = ranges.clone();
            both.union(&other);
            prop_assert_eq!(both.numbers().collect::<BTreeSet<_>>(), &model | &other_model);
            let mut less = other.clone();
            less.subtract(&ranges);
            prop_assert_eq!(less, ranges.missing_from(&other));
            prop_assert_eq!(RangeSet::from_wire(&ranges.to_wire(1000), 1000), ranges);
        }
    }

    #[test]
    fn the_ends_of_the_numbers_do_no_harm() {
        let mut set = RangeSet::new();
        set.insert_range(u64::MAX - 1, u64::MAX);
        set.insert(0);
        set.insert_range(5, 4);
        assert_eq!(set.iter().collect::<Vec<_>>(), [(0, 0), (u64::MAX - 1, u64::MAX)]);
        let mut all = RangeSet::new();
        all.insert_range(0, u64::MAX);
        assert!(all.missing_from(&set).is_empty());
        assert_eq!(set.missing_from(&all).iter().collect::<Vec<_>>(), [(1, u64::MAX - 2)]);
    }

    #[test]
    fn closing_holes_starts_with_the_lowest() {
        let mut set = RangeSet::new();
        for n in [1, 3, 5, 7] {
            set.insert(n);
        }
        set.close_lowest(2);
        assert_eq!(set.iter().collect::<Vec<_>>(), [(1, 5), (7, 7)]);
        set.keep_highest(1);
        assert_eq!(set.iter().collect::<Vec<_>>(), [(7, 7)]);
        set.keep_highest(1);
        assert_eq!(set.len(), 1);
    }
}
