//! Proofs that envelopes were opened, on their way to one neighbour.

use super::have::{Key, Told};
use crate::{model::RangeSet, record::RecordRef};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Proofs queued for one neighbour; the rest goes out when it tells again what it has.
const QUEUED_RELEASES: usize = 4_096;

/// Ranges noted of each life whose proofs were offered to a neighbour that did not say that it carries what they are of.
const OFFERED: usize = 4_096;

/// Proofs for one neighbour.
#[derive(Default)]
pub(crate) struct Proofs {
    queued: VecDeque<RecordRef>,
    /// Lives of which its word had no room for all that it has.
    cut: BTreeSet<Key>,
    /// Of these, what it was offered proofs of without having said that it has it.
    offered: BTreeMap<Key, RangeSet>,
}

impl Proofs {
    /// Takes note of a word; what it does not speak of is as it was if `kept`.
    pub(super) fn hear(&mut self, told: &[Told], kept: impl Fn(&Key) -> bool) {
        self.cut.retain(kept);
        self.cut.extend(told.iter().filter(|told| told.cut).map(|told| told.key));
        let cut = &self.cut;
        self.offered.retain(|key, _| cut.contains(key));
    }

    /// Whether there is no room for more.
    pub(crate) fn is_full(&self) -> bool {
        self.queued.len() >= QUEUED_RELEASES
    }

    /// Lives of which the neighbour's word had no room for all that it has.
    pub(super) fn cut(&self) -> impl Iterator<Item = &Key> {
        self.cut.iter()
    }

    /// Whether one was offered to the neighbour that did not say that it carries what it is of.
    pub(crate) fn was_offered(&self, of: &RecordRef) -> bool {
        let offered = self.offered.get(&(of.device, of.incarnation));
        offered.is_some_and(|set| set.contains(of.seq))
    }

    /// Queues one if the neighbour has what it is of, or, once, if its word may have had no room to say so. `said` is what it
    /// said that it has of that life.
    pub(super) fn queue(&mut self, of: &RecordRef, has: bool, said: Option<&RangeSet>) {
        if !self.is_full() && (has || self.may_have(of, said)) {
            self.queued.push_back(*of);
        }
    }

    fn may_have(&mut self, of: &RecordRef, said: Option<&RangeSet>) -> bool {
        let key = (of.device, of.incarnation);
        let lowest = said.and_then(|said| said.iter().next());
        let untold = lowest.is_some_and(|(first, _)| of.seq < first) && self.cut.contains(&key);
        if !untold || self.was_offered(of) {
            return false;
        }
        let offered = self.offered.entry(key).or_default();
        offered.insert(of.seq);
        // What joins two lies below what was offered: of that nothing is offered twice, and some not at all.
        offered.close_lowest(OFFERED);
        true
    }

    /// Takes the next one to send.
    pub(crate) fn next(&mut self) -> Option<RecordRef> {
        self.queued.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            have::Span,
            link::{Greeting, Link},
        },
        *,
    };
    use crate::model::LinkId;
    use oob_proto::{DeviceId, Incarnation};

    /// Two that greet with the same hash know the same, and say no word. A proof that came later was for whoever said that it
    /// has what it is of: they went on carrying it.
    #[test]
    fn a_proof_goes_to_a_neighbour_that_greeted_with_the_same() {
        let mut link = Link::new(LinkId(1), DeviceId::from([1; 32]));
        let key = (DeviceId::from([2; 32]), Incarnation(3));
        let of = |seq| RecordRef { device: key.0, incarnation: key.1, seq };
        let (mut known, mut have) = (RangeSet::new(), RangeSet::new());
        known.insert_range(1, 9);
        have.insert(5);
        let (known, have) = (BTreeMap::from([(key, known)]), BTreeMap::from([(key, have)]));
        link.greet(Greeting { equality: vec![1], known, have });
        assert!(link.greeted_equally(&[1]));
        (4..=5).for_each(|seq| link.queue_release(&of(seq)));
        assert_eq!(link.proofs.next(), Some(of(5)));
        assert_eq!(link.proofs.next(), None, "nobody has the other");
    }

    /// A carrier whose word had no room for all that it carries was offered no proof of the rest, and carried it to the end.
    #[test]
    fn a_carrier_whose_word_was_cut_short_gets_each_proof_once() {
        let key = (DeviceId::from([2; 32]), Incarnation(3));
        let of = |seq| RecordRef { device: key.0, incarnation: key.1, seq };
        let (mut known, mut have) = (RangeSet::new(), RangeSet::new());
        known.insert_range(1, 200);
        have.insert_range(100, 200);
        for cut in [false, true] {
            let mut link = Link::new(LinkId(1), DeviceId::from([1; 32]));
            let told = [Told { key, have: have.clone(), known: known.clone(), cut }];
            let proofs = |link: &mut Link| {
                link.take_have(Incarnation(5), Span::default(), &told, 0);
                [5, 150].iter().for_each(|seq| link.queue_release(&of(*seq)));
                std::iter::from_fn(|| link.proofs.next()).map(|of| of.seq).collect::<Vec<_>>()
            };
            let first = proofs(&mut link);
            assert_eq!(link.cut_short().len(), usize::from(cut));
            assert_eq!(first, if cut { vec![5, 150] } else { vec![150] });
            assert_eq!(proofs(&mut link), [150], "it may have had it or not: once is enough");
        }
    }

    /// Of what was offered only so many ranges are noted: beyond that some is not offered, but nothing twice.
    #[test]
    fn beyond_what_is_noted_no_proof_is_offered_twice() {
        let key = (DeviceId::from([2; 32]), Incarnation(3));
        let of = |seq| RecordRef { device: key.0, incarnation: key.1, seq };
        let mut said = RangeSet::new();
        said.insert(1_000_000);
        let told = [Told { key, have: said.clone(), known: said.clone(), cut: true }];
        let mut proofs = Proofs::default();
        let mut offered = BTreeSet::new();
        // Every other one, so that nothing joins; three times, as a neighbour tells again what it has.
        for round in 0..3 {
            proofs.hear(&told, |_| true);
            for seq in (2..40_000).step_by(2) {
                proofs.queue(&of(seq), false, Some(&said));
                assert!(proofs.queued.len() <= QUEUED_RELEASES);
                if proofs.is_full() || seq == 39_998 {
                    while let Some(of) = proofs.next() {
                        assert!(offered.insert(of.seq), "round {round}: {} twice", of.seq);
                    }
                }
            }
            assert!(proofs.offered[&key].iter().count() <= OFFERED);
        }
        assert_eq!(offered.len(), 19_999, "ascending, all of them once");
        // What lies below all that was noted counts as offered.
        proofs.queue(&of(3), false, Some(&said));
        assert_eq!(proofs.next(), None);
    }
}
