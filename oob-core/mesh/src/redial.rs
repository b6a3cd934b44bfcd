//! When to dial again (docs/ARCHITECTURE.md, "Finding each other"): soon after a hearing, then ever more rarely, never in
//! step with others.

use std::time::Duration;
use tokio::time::Instant;

/// Wait after the first dial that failed; doubled each time.
const FIRST: Duration = Duration::from_millis(250);

/// Longest wait: a peer that comes back unheard is found after this at the latest.
const LONGEST: Duration = Duration::from_secs(15);

/// How long the higher of two keys leaves the dialling to the lower, so that both do not dial at once.
const YIELD: Duration = Duration::from_millis(300);

/// A link that lived shorter is treated as a failed dial, so that a peer who drops us at once is not dialled in a loop.
const SHORT_LIVED: Duration = Duration::from_secs(5);

/// A dial is given up for a better one this often at most.
const SUPERSEDED: Duration = Duration::from_secs(5);

/// How long a dial that was given up may take to end.
const ENDING: Duration = Duration::from_secs(1);

/// Dials per second over a while, and how many may come at once: a roster of fifty is dialled at start without waiting,
/// forged announcements get no more than this.
const RATE: f64 = 10.0;
const BURST: f64 = 50.0;

/// The dialling of one peer, or of one address of nobody yet.
#[derive(Debug, Clone)]
pub(crate) struct Redial {
    /// Whether our key is the lower of the two.
    first: bool,
    failures: u32,
    next: Option<Instant>,
    last: Option<Instant>,
    /// What `last` was before the dial that is on its way.
    before: Option<Instant>,
    dialling: bool,
    heard_meanwhile: bool,
    /// When a dial was last given up for a better one.
    superseded: Option<Instant>,
}

impl Redial {
    pub(crate) fn new(first: bool) -> Self {
        Self {
            first,
            failures: 0,
            next: None,
            last: None,
            before: None,
            dialling: false,
            heard_meanwhile: false,
            superseded: None,
        }
    }

    /// Something was heard of the peer: it may be reachable now.
    pub(crate) fn hear(&mut self, now: Instant) {
        let polite = if self.first { now } else { now + YIELD };
        self.hear_at(polite);
    }

    /// A connection that we had dialled for something else has ended: the peer is there and, as far as we know, waits for
    /// us, since it may not know where to call back. So whoever has the higher key does not yield.
    pub(crate) fn hear_as_caller(&mut self, now: Instant) {
        self.hear_at(now);
    }

    fn hear_at(&mut self, polite: Instant) {
        self.failures = 0;
        if self.dialling {
            self.heard_meanwhile = true;
            return;
        }
        // However often somebody is announced, two dials are this far apart.
        let spaced = self.last.map_or(polite, |last| polite.max(last + FIRST));
        self.next = Some(self.next.map_or(spaced, |next| next.min(spaced)));
    }

    /// The peer says that it is somewhere else than it was thought to be, and may not know where we are. Says whether a dial
    /// that is on its way is to be given up: it goes to where the peer was, and would take seconds to find that out.
    pub(crate) fn hear_elsewhere(&mut self, now: Instant) -> bool {
        // Who sends a peer's beacons again in many names must not keep us from ever finishing a dial.
        let lately = self.superseded.is_some_and(|at| now.duration_since(at) < SUPERSEDED);
        let give_up = self.dialling && !lately;
        if give_up {
            self.superseded = Some(now);
            self.dialling = false;
            self.last = self.before;
        }
        self.hear_at(now);
        give_up
    }

    /// Whether a dial that was given up may still be about to end.
    pub(crate) fn follows_another(&self, now: Instant) -> bool {
        self.superseded.is_some_and(|at| now.duration_since(at) < ENDING)
    }

    /// Returns when to dial, unless a dial is on its way.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.next.filter(|_| !self.dialling)
    }

    /// A dial begins.
    pub(crate) fn begin(&mut self, now: Instant) {
        self.dialling = true;
        self.heard_meanwhile = false;
        self.before = self.last.replace(now);
        self.next = None;
    }

    /// The dial could not even begin, since another connection to the peer is about to end. It does not count as one: when
    /// that connection ends, nothing keeps the next dial back.
    pub(crate) fn postpone(&mut self, now: Instant) {
        self.dialling = false;
        self.last = self.before;
        self.next = Some(now + FIRST);
    }

    /// A dial failed, or what it opened was refused. `jitter` is between 0 and 1.
    pub(crate) fn fail(&mut self, now: Instant, jitter: f64) {
        let heard = std::mem::take(&mut self.heard_meanwhile);
        self.dialling = false;
        let doubled = FIRST.saturating_mul(1 << self.failures.min(6)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        let wait = doubled.mul_f64(0.8 + 0.4 * jitter.clamp(0.0, 1.0));
        self.next = Some(now + if heard { FIRST } else { wait });
    }

    /// The dial came through, or the peer's did.
    pub(crate) fn succeed(&mut self) {
        self.dialling = false;
        self.heard_meanwhile = false;
        self.next = None;
    }

    /// A link that lived this long is down.
    pub(crate) fn lost(&mut self, lived: Duration, now: Instant, jitter: f64) {
        if lived < SHORT_LIVED {
            self.fail(now, jitter);
        } else {
            self.failures = 0;
            self.hear(now);
        }
    }
}

/// How many dials all peers together may have.
#[derive(Debug)]
pub(crate) struct Budget {
    left: f64,
    at: Instant,
}

impl Budget {
    pub(crate) fn new(now: Instant) -> Self {
        Self { left: BURST, at: now }
    }

    /// Takes one dial, or says when there will be one.
    pub(crate) fn take(&mut self, now: Instant) -> Result<(), Instant> {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed * RATE).min(BURST);
        self.at = now;
        if self.left >= 1.0 {
            self.left -= 1.0;
            Ok(())
        } else {
            Err(now + Duration::from_secs_f64(1.0 / RATE))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_fifteen_seconds_and_differ_by_a_fifth() {
        let (mut redial, now) = (Redial::new(true), Instant::now());
        let mut waits = Vec::new();
        for _ in 0..9 {
            redial.begin(now);
            redial.fail(now, 0.5);
            waits.push((redial.due().unwrap() - now).as_millis());
        }
        assert_eq!(waits, [250, 500, 1000, 2000, 4000, 8000, 15_000, 15_000, 15_000]);
        redial.fail(now, 1.0);
        assert_eq!(redial.due().unwrap() - now, Duration::from_secs(18));
        redial.fail(now, 0.0);
        assert_eq!(redial.due().unwrap() - now, Duration::from_secs(12));
    }

    #[test]
    fn a_hearing_breaks_the_backoff_and_the_higher_key_yields() {
        let now = Instant::now();
        for (first, wait) in [(true, 0), (false, 300)] {
            let mut redial = Redial::new(first);
            (0..8).for_each(|_| redial.fail(now, 0.5));
            redial.hear(now);
            assert_eq!(redial.due().unwrap() - now, Duration::from_millis(wait));
        }
    }

    #[test]
    fn a_dial_that_could_not_begin_holds_the_next_one_back_no_longer_than_its_cause() {
        for (first, wait) in [(true, 0), (false, 300)] {
            let (mut redial, start) = (Redial::new(first), Instant::now());
            redial.begin(start);
            redial.postpone(start);
            assert_eq!(redial.due(), Some(start + FIRST), "nobody says when that ends");
            let closed = start + Duration::from_millis(10);
            let mut caller = redial.clone();
            caller.hear_as_caller(closed);
            assert_eq!(caller.due(), Some(closed), "who called calls again at once");
            redial.hear(closed);
            let polite = closed + Duration::from_millis(wait);
            assert_eq!(redial.due(), Some(polite.min(start + FIRST)));
            // A dial that did begin still keeps its distance.
            caller.begin(closed);
            caller.fail(closed, 0.5);
            caller.hear_as_caller(closed);
            assert_eq!(caller.due(), Some(closed + FIRST));
        }
    }

    #[test]
    fn a_dial_to_where_a_peer_was_is_given_up_once_in_five_seconds() {
        for first in [true, false] {
            let (mut redial, start) = (Redial::new(first), Instant::now());
            assert!(!redial.hear_elsewhere(start), "there is none");
            assert_eq!(redial.due(), Some(start), "and nobody is yielded to");
            redial.begin(start);
            let soon = start + Duration::from_millis(700);
            assert!(redial.hear_elsewhere(soon));
            assert_eq!(redial.due(), Some(soon));
            redial.begin(soon);
            for millis in (700..5_700).step_by(100) {
                assert!(!redial.hear_elsewhere(start + Duration::from_millis(millis)), "{millis}");
            }
            assert_eq!(redial.due(), None, "the dial goes on");
            assert!(redial.hear_elsewhere(start + Duration::from_millis(5_700)));
        }
    }

    #[test]
    fn announcing_a_peer_all_the_time_does_not_have_it_dialled_all_the_time() {
        let (mut redial, start) = (Redial::new(true), Instant::now());
        let mut dials = 0;
        for millis in 0..10_000 {
            let now = start + Duration::from_millis(millis);
            redial.hear(now);
            if redial.due().is_some_and(|due| due <= now) {
                redial.begin(now);
                redial.fail(now, 0.5);
                dials += 1;
            }
        }
        assert!(dials <= 41, "{dials}");
    }

    #[test]
    fn all_dials_together_are_ten_a_second_after_a_burst_of_fifty() {
        let start = Instant::now();
        let mut budget = Budget::new(start);
        let taken = (0..10_000)
            .filter(|millis| budget.take(start + Duration::from_millis(*millis)).is_ok())
            .count();
        assert!((145..=151).contains(&taken), "{taken}");
    }

    #[test]
    fn a_long_link_is_redialled_at_once_and_a_short_one_is_not() {
        let now = Instant::now();
        let mut redial = Redial::new(true);
        redial.begin(now);
        redial.succeed();
        redial.lost(Duration::from_secs(60), now + Duration::from_secs(60), 0.5);
        assert_eq!(redial.due(), Some(now + Duration::from_secs(60)));
        redial.begin(now + Duration::from_secs(60));
        redial.succeed();
        let later = now + Duration::from_secs(61);
        redial.lost(Duration::from_secs(1), later, 0.5);
        assert_eq!(redial.due(), Some(later + FIRST));
    }
}
