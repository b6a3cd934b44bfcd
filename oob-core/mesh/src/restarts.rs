//! How often something that failed is begun again, and when it is left alone.

use std::time::Duration;
use tokio::time::Instant;

/// Wait after the first failure; it doubles with each further one.
const FIRST: Duration = Duration::from_millis(250);

/// Longest wait: somebody who watches sees it come back.
const LONGEST: Duration = Duration::from_secs(30);

/// Failures in a row after which nothing is begun again: by then a minute and a half has passed, and whatever causes it has not
/// gone away by itself.
const MOST: u32 = 8;

/// After so long without a failure the next one counts as the first.
const CALM: Duration = Duration::from_secs(600);

/// Counts failures.
#[derive(Debug, Default)]
pub struct Restarts {
    in_a_row: u32,
    last: Option<Instant>,
}

impl Restarts {
    /// Returns how long to wait before it is begun again; none if it is to be left alone.
    pub fn failed(&mut self, now: Instant) -> Option<Duration> {
        if self.last.is_none_or(|last| now.duration_since(last) >= CALM) {
            self.in_a_row = 0;
        }
        self.last = Some(now);
        self.in_a_row = self.in_a_row.saturating_add(1);
        (self.in_a_row <= MOST).then(|| Self::wait(self.in_a_row.saturating_sub(1)))
    }

    /// Returns the wait after so many tries that came to nothing.
    pub(crate) fn wait(before: u32) -> Duration {
        let doubled = 2_u32.checked_pow(before).and_then(|times| FIRST.checked_mul(times));
        doubled.map_or(LONGEST, |wait| wait.min(LONGEST))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_failure_in_a_row_waits_longer_and_the_ninth_is_the_last() {
        let (mut restarts, mut now) = (Restarts::default(), Instant::now());
        let mut waits = Vec::new();
        while let Some(wait) = restarts.failed(now) {
            waits.push(wait.as_millis());
            now += wait;
        }
        assert_eq!(waits, [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000]);
        // It stays so, unless there was calm.
        assert_eq!(restarts.failed(now), None);
        assert_eq!(restarts.failed(now + CALM), Some(FIRST));
    }

    #[test]
    fn one_failure_now_and_then_is_begun_again_for_ever() {
        let (mut restarts, mut now) = (Restarts::default(), Instant::now());
        for _ in 0..100 {
            assert_eq!(restarts.failed(now), Some(FIRST));
            now += CALM;
        }
        assert_eq!(Restarts::wait(u32::MAX), LONGEST);
    }
}
