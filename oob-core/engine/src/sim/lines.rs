//! The lines between devices: who sees whom, which streams there are, and what each side knows of them.

use super::story::Map;
use crate::input::LinkId;
use std::collections::{BTreeMap, BTreeSet};

/// What one side of a line has been told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    /// It will be told that the line is up.
    Coming,
    /// It was told so.
    Up,
    /// It was told that the line is down, or went down itself.
    Gone,
}

/// One stream.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) ends: [usize; 2],
    pub(super) sides: [Side; 2],
    /// Bytes arrive. A line that is cut swallows them until both sides notice.
    pub(super) carries: bool,
    pub(super) latency_ms: u64,
    /// When the newest frames under way to a side arrive: later ones never overtake them.
    pub(super) last_ms: [u64; 2],
}

/// All lines.
pub(super) struct Lines {
    pub(super) all: BTreeMap<LinkId, Line>,
    /// Pairs with a dial under way.
    pub(super) dialling: BTreeSet<(usize, usize)>,
    pub(super) map: Map,
    /// Devices that pass on no gossip, and that are near everybody once all is healed.
    pub(super) hostile: BTreeSet<usize>,
    pub(super) healed: bool,
    next: u64,
}

impl Lines {
    pub(super) fn new() -> Self {
        Self {
            all: BTreeMap::new(),
            dialling: BTreeSet::new(),
            map: Map::Mesh,
            hostile: BTreeSet::new(),
            healed: false,
            next: 1,
        }
    }

    pub(super) fn see(&self, a: usize, b: usize) -> bool {
        match &self.map {
            Map::Mesh => true,
            Map::Islands(of) => of.get(a) == of.get(b),
            Map::Chain(_) if self.healed && [a, b].iter().any(|end| self.hostile.contains(end)) => {
                true
            }
            Map::Chain(order) => {
                let place = |node| order.iter().position(|other| *other == node);
                place(a).zip(place(b)).is_some_and(|(a, b)| a.abs_diff(b) == 1)
            }
        }
    }

    /// Makes a line that carries from now on and whose sides are yet to be told.
    pub(super) fn open(&mut self, ends: [usize; 2], latency_ms: u64, up_ms: [u64; 2]) -> LinkId {
        let id = LinkId(self.next);
        self.next += 1;
        let sides = [Side::Coming; 2];
        self.all.insert(id, Line { ends, sides, carries: true, latency_ms, last_ms: up_ms });
        id
    }

    /// Says whether two devices have a line that carries and that neither side has given up.
    pub(super) fn joined(&self, a: usize, b: usize) -> bool {
        self.between(a, b)
            .any(|(_, line)| line.carries && line.sides.iter().all(|side| *side != Side::Gone))
    }

    pub(super) fn between(&self, a: usize, b: usize) -> impl Iterator<Item = (LinkId, &Line)> {
        let ends = [a.min(b), a.max(b)];
        self.all.iter().filter(move |(_, line)| line.ends == ends).map(|(id, line)| (*id, line))
    }

    /// Lines of a device and the side it is at.
    pub(super) fn of(&self, node: usize) -> Vec<(LinkId, usize)> {
        let side = |line: &Line| line.ends.iter().position(|end| *end == node);
        self.all.iter().filter_map(|(id, line)| Some((*id, side(line)?))).collect()
    }

    /// By device, the one before it on the shortest way from `start` over lines that are up on both sides.
    pub(super) fn ways_from(&self, start: usize) -> BTreeMap<usize, usize> {
        let mut ways = BTreeMap::new();
        let mut edge = vec![start];
        while !edge.is_empty() {
            let mut next = Vec::new();
            for line in self.all.values().filter(|line| line.carries && line.sides == [Side::Up; 2])
            {
                for side in [0, 1] {
                    let (from, to) = (line.ends[side], line.ends[1 - side]);
                    if edge.contains(&from) && to != start && !ways.contains_key(&to) {
                        ways.insert(to, from);
                        // What reaches a hostile device goes no further from there.
                        next.extend((!self.hostile.contains(&to)).then_some(to));
                    }
                }
            }
            edge = next;
        }
        ways
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_sees_whom() {
        let mut lines = Lines::new();
        assert!(lines.see(0, 3));
        lines.map = Map::Islands(vec![0, 1, 0, 1]);
        assert!(lines.see(0, 2) && !lines.see(0, 1));
        lines.map = Map::Chain(vec![2, 0, 3, 1]);
        assert!(lines.see(2, 0) && lines.see(3, 0) && !lines.see(2, 3) && !lines.see(2, 1));
    }

    #[test]
    fn ways_go_over_lines_that_are_up() {
        let mut lines = Lines::new();
        for ends in [[0, 1], [1, 2], [2, 3]] {
            let id = lines.open(ends, 10, [0, 0]);
            lines.all.get_mut(&id).unwrap().sides = [Side::Up; 2];
        }
        let ways = lines.ways_from(0);
        assert_eq!(ways.into_iter().collect::<Vec<_>>(), [(1, 0), (2, 1), (3, 2)]);
        lines.all.get_mut(&LinkId(2)).unwrap().carries = false;
        assert_eq!(lines.ways_from(0).len(), 1);
        assert!(lines.joined(0, 1) && !lines.joined(1, 2) && !lines.joined(0, 3));
    }
}
