//! One set of operations in two orders: the same log and the same roster at both, whoever signed them.

use super::{
    cast::{CAST, LINK, arrive, give, header},
    rules::signed_op,
};
use oob_engine::{Engine, envelope::Screened, input::Input};
use oob_proto::wire::{self, frame::Kind};
use std::{collections::BTreeSet, fmt::Debug};

/// Operations of one set; more would come to the bound of what one key may write, where the first to come stand.
const OPS: usize = 24;

/// Operations, each `flags u8, u16 length`, then as for `op`; taken if all of them are in the log of both. With bit 0 of the
/// flags one continues those before it; without, it knows nothing of them, and forks its author's chain if that wrote one
/// of them. The rest of the flags is its place in the second order.
pub fn order(bytes: &[u8]) -> bool {
    let mut ops: Vec<(u8, wire::Op)> = Vec::new();
    let mut rest = bytes;
    while ops.len() < OPS {
        let Some(([flags, len @ ..], after)) = rest.split_first_chunk::<3>() else { break };
        let len = usize::from(u16::from_be_bytes(*len)).min(after.len());
        let (one, after) = after.split_at(len);
        rest = after;
        let known: Vec<wire::Op> = ops.iter().map(|(_, op)| op.clone()).collect();
        let known: &[wire::Op] = if flags & 1 == 0 { &[] } else { &known };
        if let Some(op) = signed_op(one, known, true) {
            ops.push((flags >> 1, op));
        }
    }
    let first: Vec<wire::Op> = ops.iter().map(|(_, op)| op.clone()).collect();
    let mut second = ops;
    second.reverse();
    second.sort_by_key(|(place, _)| *place);
    let second: Vec<wire::Op> = second.into_iter().map(|(_, op)| op).collect();

    let (one, other) = (told(&first), told(&second));
    assert_eq!(facts(&one), facts(&other), "the order made a difference");
    // What one knows the other has as well.
    let mut twice = second.clone();
    twice.extend(first.iter().cloned());
    assert_eq!(facts(&told(&twice)), facts(&one), "twice made a difference");
    let grown = one.log_len() - CAST.ops.len();
    let distinct: BTreeSet<_> = first.iter().filter_map(header).map(|(hash, _)| hash).collect();
    grown == distinct.len() && !first.is_empty()
}

/// What all must agree on: the log and who is in it, the name, and what of whom does not stand.
fn facts(dana: &Engine) -> ([u8; 32], String, impl PartialEq + Debug) {
    let snapshot = dana.snapshot();
    let name = snapshot.org.as_ref().map(|org| org.name.to_string()).unwrap_or_default();
    (dana.roster_hash(), name, snapshot.screening.removed.clone())
}

/// Dana, who was told all of it, and again until nothing is news: a child may come before its parent.
fn told(ops: &[wire::Op]) -> Engine {
    let mut dana = CAST.dana.start();
    give(&mut dana, Input::LinkUp { link: LINK, peer: CAST.rosa.transport_key() });
    let mut known = 0;
    while dana.log_len() != known {
        known = dana.log_len();
        let frames = ops.iter().cloned().map(|op| Screened::Other(Kind::Log(op))).collect();
        arrive(&mut dana, frames);
    }
    dana
}
