//! Chance, from a seed.

use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::ops::RangeInclusive;

/// A seeded stream of chance.
pub(super) struct Dice(StdRng);

impl Dice {
    /// One of several independent streams of a seed.
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        Self(StdRng::seed_from_u64(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(stream)))
    }

    pub(super) fn between(&mut self, range: RangeInclusive<u64>) -> u64 {
        self.0.random_range(range)
    }

    /// A number below `end`.
    pub(super) fn below(&mut self, end: usize) -> usize {
        self.0.random_range(0..end.max(1))
    }

    /// True so many times of a thousand.
    pub(super) fn chance(&mut self, of_thousand: u64) -> bool {
        self.0.random_range(0..1_000) < of_thousand
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        if from.is_empty() {
            return None;
        }
        from.get(self.below(from.len())).copied()
    }

    pub(super) fn shuffle<T>(&mut self, all: &mut [T]) {
        for i in (1..all.len()).rev() {
            all.swap(i, self.0.random_range(0..=i));
        }
    }

    /// A generator of its own for an engine or a store.
    pub(super) fn fork(&mut self) -> StdRng {
        StdRng::seed_from_u64(self.0.random())
    }

    pub(super) fn rng(&mut self) -> &mut StdRng {
        &mut self.0
    }
}
