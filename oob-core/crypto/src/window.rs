//! Which numbers of a channel are still waited for, and the tags they will have (docs/protocol.md, section 8).
//!
//! Waited for are all numbers passed over so far, the next [`NEAR`], and every [`STRIDE`]th up to [`FAR`]: after a long
//! gap one of those comes, and the window moves there.

use crate::kdf::first_half;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// Numbers waited for without a gap: what a busy minute sends, reordered.
const NEAR: u64 = 64;
/// Beyond [`NEAR`], one number in this many.
const STRIDE: u64 = 32;
/// How far ahead is looked; a channel is replaced after 1,000 messages, so twice that.
const FAR: u64 = 2_048;
/// Numbers passed over that are still waited for; the lowest are given up beyond it. More than a channel has messages.
const HOLES: usize = 2_048;

/// Returns the tag of message `n`.
pub(crate) fn tag(tag_key: &[u8; 32], n: u64) -> [u8; 16] {
    first_half(*blake3::keyed_hash(tag_key, &n.to_le_bytes()).as_bytes())
}

/// The numbers of one channel that are still waited for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Window {
    /// One more than the highest number seen.
    next: u64,
    /// Numbers below `next` not seen.
    holes: BTreeSet<u64>,
    /// How many messages were ever sent, once the sender has said so.
    close: Option<u64>,
}

impl Window {
    /// Returns the numbers waited for, ascending.
    pub(crate) fn wanted(&self) -> impl Iterator<Item = u64> + '_ {
        let near = self.next.saturating_add(NEAR);
        let far = self.next.saturating_add(FAR);
        let first = near.checked_next_multiple_of(STRIDE).unwrap_or(u64::MAX);
        let end = self.close.unwrap_or(u64::MAX);
        (self.holes.iter().copied())
            .chain(self.next..near)
            .chain((first..=far).step_by(STRIDE as usize))
            .take_while(move |n| *n < end)
    }

    /// Says whether a number is waited for.
    pub(crate) fn wants(&self, n: u64) -> bool {
        if self.close.is_some_and(|end| n >= end) {
            return false;
        }
        match n.checked_sub(self.next) {
            None => self.holes.contains(&n),
            Some(ahead) => ahead < NEAR || (ahead <= FAR && n.is_multiple_of(STRIDE)),
        }
    }

    /// Notes that a number has come. Returns whether it was waited for.
    pub(crate) fn mark(&mut self, n: u64) -> bool {
        if !self.wants(n) {
            return false;
        }
        if n >= self.next {
            self.holes.extend(self.next..n);
            self.next = n.saturating_add(1);
            while self.holes.len() > HOLES {
                self.holes.pop_first();
            }
        } else {
            self.holes.remove(&n);
        }
        true
    }

    /// Notes how many messages were ever sent: none from there on is waited for.
    pub(crate) fn close_at(&mut self, count: u64) {
        let count = self.close.map_or(count, |known| known.min(count));
        self.close = Some(count);
        self.holes.split_off(&count);
    }

    /// Says whether every message ever sent has come, or was given up.
    pub(crate) fn is_done(&self) -> bool {
        self.holes.is_empty() && self.close.is_some_and(|count| self.next >= count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stored;
    use proptest::prelude::*;

    fn wanted(window: &Window) -> Vec<u64> {
        window.wanted().collect()
    }

    #[test]
    fn a_new_window_wants_the_next_64_and_every_32nd() {
        let all = wanted(&Window::default());
        assert_eq!(all[..64], (0..64).collect::<Vec<_>>());
        assert_eq!(all[64..], (64..=2_048).step_by(32).collect::<Vec<_>>());
        assert!(!Window::default().wants(65));
        assert!(!Window::default().wants(2_080));
    }

    #[test]
    fn numbers_out_of_order_are_each_wanted_once() {
        let mut window = Window::default();
        for n in [5, 3, 0, 63, 4, 1, 2] {
            assert!(window.mark(n), "{n}");
            assert!(!window.mark(n), "{n} again");
        }
        assert_eq!(wanted(&window)[..3], [6, 7, 8]);
        assert_eq!(window.next, 64);
    }

    #[test]
    fn after_a_gap_a_32nd_moves_the_window_and_what_was_passed_over_is_still_wanted() {
        let mut window = Window::default();
        assert!(!window.mark(1_000), "not in the window");
        assert!(window.mark(1_024));
        assert!(window.mark(1_000), "a hole now");
        assert!(window.mark(1_088));
        assert!(!window.mark(1_000 + 4_096));
        assert!(window.wants(0) && window.wants(1_089));
        // Holes are bounded; the oldest are given up.
        for n in [3_136, 5_184] {
            assert!(window.mark(n));
        }
        assert!(window.holes.len() == HOLES && !window.wants(0) && window.wants(5_183));
    }

    #[test]
    fn a_closed_window_is_done_when_everything_below_the_count_came() {
        let mut window = Window::default();
        window.close_at(3);
        assert_eq!(wanted(&window), [0, 1, 2]);
        assert!(!window.is_done());
        for n in [2, 0] {
            assert!(window.mark(n));
        }
        assert!(!window.mark(3));
        assert!(!window.is_done());
        window.close_at(9);
        assert!(window.mark(1) && window.is_done(), "a later, higher count changes nothing");
        let mut never_used = Window::default();
        never_used.close_at(0);
        assert!(never_used.is_done());
    }

    #[test]
    fn tags_are_distinct() {
        let mut seen = BTreeSet::new();
        for key in 0..20u8 {
            assert!((0..2_000).all(|n| seen.insert(tag(&[key; 32], n))));
        }
    }

    proptest! {
        /// Whatever comes in whatever order: wants() and wanted() agree, nothing is accepted twice.
        #[test]
        fn the_list_and_the_question_agree(
            marks in prop::collection::vec(0u64..3_000, 0..200),
            close in prop::option::of(0u64..3_000),
        ) {
            let mut window = Window::default();
            let mut taken = BTreeSet::new();
            for n in marks {
                let wants = window.wants(n);
                prop_assert_eq!(window.mark(n), wants);
                prop_assert!(!wants || taken.insert(n));
            }
            if let Some(count) = close {
                window.close_at(count);
            }
            let all: BTreeSet<u64> = window.wanted().collect();
            prop_assert!(all.is_disjoint(&taken));
            for n in 0..6_000 {
                prop_assert_eq!(window.wants(n), all.contains(&n), "{}", n);
            }
            let again: Window = stored::read(&stored::write(&window)).unwrap();
            prop_assert_eq!(again, window);
        }

        #[test]
        fn any_number_never_panics(n: u64) {
            let mut window = Window { next: n, ..Window::default() };
            let _ = (window.mark(n), window.mark(u64::MAX), window.wanted().count());
        }
    }
}
