//! In which runs of the store this device said its words (docs/protocol.md, section 10.7). A home that was put back numbers its
//! words from where its image was; by the run a word was said in it finds that another store of its own said it.

use crate::stored::{self, RecordError};
use oob_proto::wire;
use oob_store::Store;

/// Runs remembered, each of an opening of the store at which anything was said. Where there are more, two neighbouring ones that
/// said the fewest words become one of which nothing is known but how far it went: a device that is started ever again loses
/// what it said meanwhile, and nothing of the runs that said more.
const RUNS: usize = 1_024;

/// Stands for several runs.
const SEVERAL: u32 = 0;

/// Runs before the one under way, in this life.
#[derive(Default)]
pub(crate) struct Runs {
    /// Oldest first, with the number of the last word of each.
    all: Vec<(u32, u64)>,
    dirty: bool,
}

impl Runs {
    /// Loads them; `before` is where they were kept once.
    pub(crate) fn load(store: &Store, before: Vec<wire::StoredRun>) -> Result<Self, RecordError> {
        let raw: Option<wire::StoredRuns> =
            stored::read(store, &stored::own(), stored::OWN_RUNS, "runs")?;
        let old = raw.is_none();
        let runs = raw.map_or(before, |raw| raw.runs).into_iter();
        let mut all: Vec<(u32, u64)> = runs.map(|known| (known.run, known.last)).collect();
        // Of the oldest no more was kept than how far it went, with all before it.
        if let Some(first) = all.first_mut().filter(|_| old) {
            first.0 = SEVERAL;
        }
        // The old place is emptied with the next save of the life.
        Ok(Self { dirty: old && !all.is_empty(), all })
    }

    /// Puts them into the pending batch if one was added.
    pub(crate) fn save_if_dirty(&mut self, store: &mut Store) {
        if std::mem::take(&mut self.dirty) {
            let run = |(run, last): &(u32, u64)| wire::StoredRun { run: *run, last: *last };
            let raw = wire::StoredRuns { runs: self.all.iter().map(run).collect() };
            stored::write(store, &stored::own(), stored::OWN_RUNS, &raw);
        }
    }

    /// Takes note that a run has ended, if it said anything.
    pub(crate) fn end(&mut self, run: u32, last: u64) {
        if last <= self.last() {
            return;
        }
        self.all.push((run, last));
        self.dirty = true;
        if self.all.len() > RUNS {
            self.make_one_of_two();
        }
    }

    fn make_one_of_two(&mut self) {
        let starts = [0].into_iter().chain(self.all.iter().map(|(_, last)| *last));
        let ends = self.all.iter().skip(1).map(|(_, last)| *last);
        let words = starts.zip(ends).map(|(start, end)| end.saturating_sub(start));
        let fewest = words.enumerate().min_by_key(|(_, words)| *words).map(|(place, _)| place);
        let Some(fewest) = fewest.filter(|place| place.saturating_add(1) < self.all.len()) else {
            return;
        };
        self.all.remove(fewest);
        if let Some((run, _)) = self.all.get_mut(fewest) {
            *run = SEVERAL;
        }
    }

    /// The number of the last word of all of them.
    fn last(&self) -> u64 {
        self.all.last().map_or(0, |(_, last)| *last)
    }

    /// Whether a word of a run was said in one of them, as far as anybody can tell.
    pub(crate) fn know(&self, run: u32, number: u64) -> bool {
        if let Some((_, last)) = self.all.iter().find(|(known, _)| *known == run) {
            return number <= *last;
        }
        let place = self.all.partition_point(|(_, last)| *last < number);
        self.all.get(place).is_some_and(|(known, _)| *known == SEVERAL)
    }

    /// Forgets them: another life begins.
    pub(crate) fn clear(&mut self) {
        *self = Self { all: Vec::new(), dirty: true };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt as _, SeedableRng, rngs::StdRng};

    /// What an earlier version kept with the life was gone after a run that said nothing.
    #[test]
    fn runs_of_an_earlier_version_outlast_a_run_that_says_nothing() {
        let mut store = oob_store::Store::in_memory(StdRng::seed_from_u64(1)).unwrap();
        let before = vec![
            wire::StoredRun { run: 3, last: 10 },
            wire::StoredRun { run: 4, last: 20 },
            wire::StoredRun { run: 5, last: 30 },
        ];
        let mut runs = Runs::load(&store, before).unwrap();
        runs.end(6, 30);
        runs.save_if_dirty(&mut store);
        store.commit().unwrap();
        let runs = Runs::load(&store, Vec::new()).unwrap();
        assert!(runs.know(5, 30) && runs.know(4, 20));
        assert!(!runs.know(7, 25), "control: of another run");
    }

    /// After sixteen starts anything was taken for said that was not above the oldest of them.
    #[test]
    fn whatever_was_said_is_known_and_many_starts_do_not_wash_away_what_was_not() {
        let mut rng = StdRng::seed_from_u64(1);
        let (mut runs, mut said, mut last) = (Runs::default(), Vec::new(), 0);
        for run in 1..=5_000u32 {
            // Mostly one that is started ever again, and says a word or two.
            let words = if run % 100 == 0 { 500 } else { rng.random_range(0..3) };
            said.extend((0..words).map(|n| (run, last + 1 + n)));
            last += words;
            runs.end(run, last);
        }
        assert_eq!((runs.all.len(), runs.last()), (RUNS, last));
        assert!(said.iter().all(|(run, number)| runs.know(*run, *number)));
        let others = |words: u32| {
            let of = said.iter().filter(|(run, _)| (run % 100 == 0) == (words == 500));
            let (all, unknown) = of.fold((0, 0), |(all, unknown), (_, number)| {
                (all + 1, unknown + usize::from(!runs.know(9_999, *number)))
            });
            (all, unknown)
        };
        let (all, unknown) = others(500);
        assert_eq!((all, unknown), (25_000, 25_000), "those of another store are not among them");
        let (all, unknown) = others(1);
        assert!(unknown < all, "control: of the small ones some became one");
        assert!(!runs.know(9_999, last + 1) && !runs.know(5_000, last + 1));
    }
}
