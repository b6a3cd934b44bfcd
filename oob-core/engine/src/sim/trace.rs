//! What happened, without a byte of what was sent: the same seed must give the same.

use std::hash::{DefaultHasher, Hasher as _};

/// One step of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Step {
    pub(super) at_ms: u64,
    pub(super) node: usize,
    /// What came in.
    pub(super) kind: &'static str,
    /// What of it: kinds of frames and how many.
    pub(super) label: String,
    /// What came of it: replies, events, effects.
    pub(super) outcome: String,
}

/// The steps of a run, or only what they add up to.
#[derive(Default)]
pub(super) struct Trace {
    kept: Option<Vec<Step>>,
    sum: DefaultHasher,
    steps: u64,
}

impl Trace {
    pub(super) fn new(keep: bool) -> Self {
        Self { kept: keep.then(Vec::new), ..Self::default() }
    }

    pub(super) fn note(&mut self, step: Step) {
        self.steps += 1;
        self.sum.write_u64(step.at_ms);
        self.sum.write_usize(step.node);
        for text in [step.kind, &step.label, &step.outcome] {
            self.sum.write(text.as_bytes());
        }
        if let Some(kept) = &mut self.kept {
            kept.push(step);
        }
    }

    /// The steps, a line each.
    pub(super) fn lines(&self) -> impl Iterator<Item = String> + '_ {
        self.kept.iter().flatten().map(|step| {
            let Step { at_ms, node, kind, label, outcome } = step;
            format!("{}.{:03} s  {node}  {kind} {label}: {outcome}", at_ms / 1_000, at_ms % 1_000)
        })
    }

    pub(super) fn steps(&self) -> u64 {
        self.steps
    }

    pub(super) fn sum(&self) -> u64 {
        self.sum.finish()
    }

    /// The first step at which two runs differ.
    pub(super) fn difference(&self, other: &Self) -> Option<String> {
        let (mine, theirs) = (self.kept.as_ref()?, other.kept.as_ref()?);
        let at = mine.iter().zip(theirs).position(|(mine, theirs)| mine != theirs);
        let at =
            at.or_else(|| (mine.len() != theirs.len()).then(|| mine.len().min(theirs.len())))?;
        Some(format!("step {at}: first {:?}, then {:?}", mine.get(at), theirs.get(at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(labels: &[&str]) -> Trace {
        let mut trace = Trace::new(true);
        for (at_ms, label) in (0..).zip(labels) {
            trace.note(Step {
                at_ms,
                node: 0,
                kind: "frames",
                label: (*label).to_owned(),
                outcome: String::new(),
            });
        }
        trace
    }

    #[test]
    fn the_first_difference_is_found() {
        let trace = of(&["hello", "have"]);
        assert_eq!(trace.difference(&of(&["hello", "have"])), None);
        assert_eq!(trace.sum(), of(&["hello", "have"]).sum());
        assert!(trace.difference(&of(&["hello", "log"])).unwrap().starts_with("step 1"));
        assert!(trace.difference(&of(&["hello"])).unwrap().starts_with("step 1"));
        assert_ne!(trace.sum(), of(&["hello", "log"]).sum());
    }
}
