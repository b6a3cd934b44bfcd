//! What to do about neighbours that do not gossip with us although they could.

use std::time::Duration;
use tokio::time::Instant;

/// Looks at a link, half a second apart, after which a neighbour should have said what it gossips about: it does so with
/// its first packet. Looks and not time, so that a machine that stood still accuses nobody.
const LOOKS: u32 = 3;

/// Links of one neighbour closed for this in a row. A lost subscription is cured by the first; who is older than gossip
/// or does not want any keeps its link.
const TRIES: u32 = 3;

/// How long it is left alone then; doubled each time.
const PAUSE: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(3600);

/// How often a link was looked at without a subscription on it.
#[derive(Debug, Default)]
pub(crate) struct Silence {
    subscribed: bool,
    looks: u32,
}

impl Silence {
    /// The neighbour has subscribed, or left the topic.
    pub(crate) fn subscribed(&mut self, on: bool) {
        *self = Self { subscribed: on, looks: 0 };
    }

    /// Looks once; says whether the link has been silent for too long.
    pub(crate) fn look(&mut self) -> bool {
        if self.subscribed {
            return false;
        }
        self.looks = self.looks.saturating_add(1);
        self.looks > LOOKS
    }
}

/// What was tried with one neighbour.
#[derive(Debug, Default)]
pub(crate) struct Deafness {
    tries: u32,
    rounds: u32,
    until: Option<Instant>,
}

impl Deafness {
    /// Says whether to close a link that has been silent for too long.
    pub(crate) fn cure(&mut self, now: Instant) -> bool {
        if self.until.is_some_and(|until| now < until) {
            return false;
        }
        self.until = None;
        self.tries += 1;
        if self.tries >= TRIES {
            let pause = PAUSE.saturating_mul(1 << self.rounds.min(6)).min(LONGEST);
            self.rounds = self.rounds.saturating_add(1);
            self.tries = 0;
            self.until = Some(now + pause);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_silent_after_more_than_three_looks_and_a_subscription_ends_that() {
        let mut silence = Silence::default();
        assert_eq!([(); 4].map(|()| silence.look()), [false, false, false, true]);
        silence.subscribed(true);
        assert_eq!([(); 9].map(|()| silence.look()), [false; 9]);
        silence.subscribed(false);
        assert_eq!([(); 4].map(|()| silence.look()), [false, false, false, true]);
    }

    #[test]
    fn an_unwilling_neighbour_loses_three_links_then_has_a_minute_then_two() {
        let (mut deafness, start) = (Deafness::default(), Instant::now());
        let mut closed = Vec::new();
        for second in (0..400).step_by(2) {
            if deafness.cure(start + Duration::from_secs(second)) {
                closed.push(second);
            }
        }
        assert_eq!(closed, [0, 2, 4, 64, 66, 68, 188, 190, 192]);
    }
}
