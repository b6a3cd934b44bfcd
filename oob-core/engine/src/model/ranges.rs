//! Sets of numbers as ranges, like the acknowledgements of QUIC.

use oob_proto::wire::Range;
use std::collections::BTreeMap;

/// A set of numbers, kept as maximal inclusive ranges.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RangeSet {
    /// First number of a range to its last.
    ranges: BTreeMap<u64, u64>,
}

impl RangeSet {
    /// Returns an empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says whether a number is in it.
    pub fn contains(&self, number: u64) -> bool {
        self.ranges.range(..=number).next_back().is_some_and(|(_, last)| *last >= number)
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
        let (mut first, mut last) = (first, last);
        // A range that ends just before this one, or reaches into it, becomes its beginning.
        if let Some((f, l)) = self.ranges.range(..=first).next_back().map(|(f, l)| (*f, *l))
            && l >= first.saturating_sub(1)
        {
            first = f;
            last = last.max(l);
            self.ranges.remove(&f);
        }
        let reach = last.saturating_add(1);
        let swallowed: Vec<(u64, u64)> =
            self.ranges.range(first..=reach).map(|(f, l)| (*f, *l)).collect();
        for (f, l) in swallowed {
            last = last.max(l);
            self.ranges.remove(&f);
        }
        self.ranges.insert(first, last);
    }

    /// Adds what another set holds.
    pub fn union(&mut self, other: &Self) {
        for (first, last) in other.iter() {
            self.insert_range(first, last);
        }
    }

    /// Returns the ranges, ascending.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (u64, u64)> + '_ {
        self.ranges.iter().map(|(f, l)| (*f, *l))
    }

    /// Returns the numbers of `other` that are not in this set, as ranges.
    pub fn missing_from(&self, other: &Self) -> Self {
        let mut missing = Self::new();
        for (first, last) in other.iter() {
            let mut next = first;
            loop {
                let covering = self
                    .ranges
                    .range(..=next)
                    .next_back()
                    .filter(|(_, l)| **l >= next)
                    .map(|(_, l)| *l);
                match covering {
                    Some(l) if l >= last => break,
                    Some(l) => next = l.saturating_add(1),
                    None => {
                        let stop = self
                            .ranges
                            .range(next..=last)
                            .next()
                            .map(|(f, _)| f.saturating_sub(1))
                            .unwrap_or(last);
                        missing.insert_range(next, stop);
                        if stop >= last {
                            break;
                        }
                        next = stop.saturating_add(1);
                    }
                }
            }
        }
        missing
    }

    /// Returns the numbers that are in both.
    pub fn common(&self, other: &Self) -> Self {
        other.missing_from(self).missing_from(self)
    }

    /// Takes one number out; returns whether it was in it.
    pub fn remove(&mut self, number: u64) -> bool {
        let Some((first, last)) = self
            .ranges
            .range(..=number)
            .next_back()
            .map(|(first, last)| (*first, *last))
            .filter(|(_, last)| *last >= number)
        else {
            return false;
        };
        self.ranges.remove(&first);
        if first < number {
            self.ranges.insert(first, number.saturating_sub(1));
        }
        if number < last {
            self.ranges.insert(number.saturating_add(1), last);
        }
        true
    }

    /// Takes all numbers of another set out.
    pub fn subtract(&mut self, other: &Self) {
        if !other.is_empty() {
            *self = other.missing_from(self);
        }
    }

    /// Takes the smallest number out.
    pub fn pop_first(&mut self) -> Option<u64> {
        let (first, last) = self.ranges.pop_first()?;
        if first < last {
            self.ranges.insert(first.saturating_add(1), last);
        }
        Some(first)
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
        self.ranges.last_key_value().map(|(_, l)| *l)
    }

    /// Closes the lowest holes until at most `most` ranges are left.
    pub fn close_lowest(&mut self, most: usize) {
        while self.ranges.len() > most.max(1) {
            let mut lowest = self.ranges.iter().map(|(f, l)| (*f, *l));
            let (Some((first, _)), Some((second, last))) = (lowest.next(), lowest.next()) else {
                return;
            };
            self.ranges.remove(&second);
            self.ranges.insert(first, last);
        }
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
    }
}
