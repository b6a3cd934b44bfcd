//! Own envelopes that went straight to whom they are for, and that nobody else is given yet (docs/protocol.md, section 10.6).
//! In memory only: after a start everything owed is offered to everybody.

use crate::{model::RangeSet, record::RecordRef};
use oob_proto::{DeviceId, Incarnation};
use std::collections::{BTreeMap, BTreeSet};

/// A message that is not known to have arrived after this time is given to everybody: long enough for a receipt from a device
/// that is busy, too short for anybody to wait for.
const MESSAGE_MS: u64 = 500;

/// The same of a receipt: the word that it arrived is in the addressee's Have, which it tells every five seconds at least while
/// there is something new.
const RECEIPT_MS: u64 = 6_000;

/// What the addressee says that it has is given to others after this time all the same: by then the proof that it was opened is
/// here, which goes out within thirty seconds, or its word was a lie.
const LONGEST_MS: u64 = 40_000;

/// So many are kept from others at most: what ten thousand a second make of messages, and three times that. One more goes to
/// everybody at once.
const MOST: usize = 16_384;

/// After so many a Floor is written: each may leave a hole in what those know who never meet this device, and who takes no
/// record of an author with too many holes. A thirtieth of what they keep of them.
const FLOOR_EVERY: usize = 512;

/// Numbers of own records that only one neighbour knows.
#[derive(Default)]
pub(crate) struct Straight {
    /// How many there were since the last Floor.
    since_floor: usize,
    by_number: BTreeMap<(Incarnation, u64), Waiting>,
    due: BTreeSet<(u64, Incarnation, u64)>,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    to: DeviceId,
    due_ms: u64,
    wait_ms: u64,
    /// Given to everybody then, whatever its addressee says.
    until_ms: u64,
}

impl Straight {
    /// Keeps an envelope from everybody but its addressee for a while; returns false where that are too many.
    pub(crate) fn keep(
        &mut self,
        of: &RecordRef,
        to: &DeviceId,
        message: bool,
        now_ms: u64,
    ) -> bool {
        if self.by_number.len() >= MOST {
            return false;
        }
        let wait_ms = if message { MESSAGE_MS } else { RECEIPT_MS };
        let until_ms = now_ms.saturating_add(LONGEST_MS);
        let waiting = Waiting { to: *to, due_ms: 0, wait_ms, until_ms };
        self.put(of.incarnation, of.seq, waiting, now_ms);
        self.since_floor = self.since_floor.saturating_add(1);
        true
    }

    /// Whether it is time to say to everybody, however far away, what nobody needs; counts from the start again if so.
    pub(crate) fn asks_for_floor(&mut self) -> bool {
        let many = self.since_floor >= FLOOR_EVERY;
        if many {
            self.since_floor = 0;
        }
        many
    }

    fn put(&mut self, life: Incarnation, seq: u64, waiting: Waiting, now_ms: u64) {
        let due_ms = now_ms.saturating_add(waiting.wait_ms);
        self.by_number.insert((life, seq), Waiting { due_ms, ..waiting });
        self.due.insert((due_ms, life, seq));
    }

    /// What somebody other than its addressee is not given yet, by life.
    pub(crate) fn kept_from(&self, device: &DeviceId) -> BTreeMap<Incarnation, RangeSet> {
        let mut kept: BTreeMap<Incarnation, RangeSet> = BTreeMap::new();
        for ((life, seq), _) in self.by_number.iter().filter(|(_, waiting)| waiting.to != *device) {
            kept.entry(*life).or_default().insert(*seq);
        }
        kept
    }

    /// Takes what was kept for a device that went away.
    pub(crate) fn take_of(&mut self, device: &DeviceId) -> Vec<(Incarnation, u64)> {
        let of = self.by_number.iter().filter(|(_, waiting)| waiting.to == *device);
        let of: Vec<(Incarnation, u64)> = of.map(|(number, _)| *number).collect();
        for (life, seq) in &of {
            self.forget(*life, *seq);
        }
        of
    }

    /// Takes what has waited long enough. What its addressee `has` waits on, for a while: nobody else needs it. So does a
    /// message whose receipt was `received`, as long as that receipt itself would.
    pub(crate) fn take_due(
        &mut self,
        now_ms: u64,
        has: impl Fn(&DeviceId, Incarnation, u64) -> bool,
        received: impl Fn(Incarnation, u64) -> bool,
    ) -> Vec<(Incarnation, u64)> {
        let mut due = Vec::new();
        while let Some((_, life, seq)) = self.due.first().copied().filter(|(at, ..)| *at <= now_ms)
        {
            let Some(waiting) = self.forget(life, seq) else { break };
            if waiting.wait_ms < RECEIPT_MS && received(life, seq) {
                self.put(life, seq, Waiting { wait_ms: RECEIPT_MS, ..waiting }, now_ms);
            } else if now_ms < waiting.until_ms && has(&waiting.to, life, seq) {
                self.put(life, seq, waiting, now_ms);
            } else {
                due.push((life, seq));
            }
        }
        due
    }

    /// Forgets what is owed no more, as far as it would be due next: nobody is woken for it.
    pub(crate) fn settle(&mut self, is_owed: impl Fn(Incarnation, u64) -> bool) {
        while let Some((_, life, seq)) = self.due.first().copied()
            && !is_owed(life, seq)
        {
            self.forget(life, seq);
        }
    }

    fn forget(&mut self, life: Incarnation, seq: u64) -> Option<Waiting> {
        let waiting = self.by_number.remove(&(life, seq))?;
        self.due.remove(&(waiting.due_ms, life, seq));
        Some(waiting)
    }

    /// When the next has waited long enough, in `Now::mono_ms`.
    pub(crate) fn due_ms(&self) -> Option<u64> {
        self.due.first().map(|(at, ..)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(seq: u64) -> RecordRef {
        RecordRef { device: DeviceId::from([1; 32]), incarnation: Incarnation(1), seq }
    }

    #[test]
    fn no_more_is_kept_back_than_the_bound_and_what_is_done_makes_room() {
        let mut straight = Straight::default();
        let (sam, rosa) = (DeviceId::from([2; 32]), DeviceId::from([3; 32]));
        let kept = (1..=20_000).filter(|seq| straight.keep(&of(*seq), &sam, true, 7)).count();
        assert_eq!(kept, 16_384);
        assert_eq!(straight.kept_from(&rosa)[&Incarnation(1)].iter().next(), Some((1, 16_384)));
        assert!(straight.kept_from(&sam).is_empty(), "it is given what is for it");
        straight.settle(|_, seq| seq > 16_000);
        assert!(straight.keep(&of(20_001), &rosa, true, 8));
        assert_eq!(straight.take_of(&sam).len(), 384);
        assert_eq!(straight.take_of(&sam).len(), 0);
        assert_eq!(straight.due_ms(), Some(508));
    }

    #[test]
    fn what_its_addressee_has_waits_on_and_what_it_has_not_is_due_once() {
        let mut straight = Straight::default();
        let sam = DeviceId::from([2; 32]);
        (1..=2).for_each(|seq| assert!(straight.keep(&of(seq), &sam, true, 0)));
        assert!(straight.keep(&of(3), &sam, false, 0), "a receipt");
        let has = |_: &DeviceId, _, seq| seq == 1;
        let never = |_, _| false;
        assert!(straight.take_due(499, has, never).is_empty());
        assert_eq!(straight.take_due(500, has, never), [(Incarnation(1), 2)]);
        assert!(straight.take_due(999, has, never).is_empty());
        assert!(straight.take_due(1_000, has, never).is_empty(), "it has it still");
        assert_eq!(straight.take_due(1_500, |_, _, _| false, never), [(Incarnation(1), 1)]);
        assert_eq!(straight.due_ms(), Some(6_000));
        // Whoever says that it has everything keeps nothing from others for ever.
        let says_so = |_: &DeviceId, _, _| true;
        let given =
            (6_000..=60_000).find(|now| !straight.take_due(*now, says_so, never).is_empty());
        assert_eq!(given, Some(42_000));
    }

    /// An envelope that opens a channel is owed until its proof, also when its message was received: half a second later it
    /// went to everybody, since nothing else had been asked than whether it was owed.
    #[test]
    fn what_was_received_waits_as_long_as_a_receipt() {
        let mut straight = Straight::default();
        let sam = DeviceId::from([2; 32]);
        (1..=2).for_each(|seq| assert!(straight.keep(&of(seq), &sam, true, 0)));
        let (nowhere, received) = (|_: &DeviceId, _, _| false, |_, seq| seq == 1);
        assert_eq!(straight.take_due(500, nowhere, received), [(Incarnation(1), 2)]);
        assert!(straight.take_due(6_499, nowhere, received).is_empty());
        assert_eq!(straight.take_due(6_500, nowhere, received), [(Incarnation(1), 1)], "once");
    }
}
