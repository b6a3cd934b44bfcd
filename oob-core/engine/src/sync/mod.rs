//! What goes between two neighbours: greeting, the log and epochs one lacks, the records one lacks, and what each has
//! (docs/protocol.md, section 10).

mod carrier;
mod have;
mod heard;
mod link;
mod links;
mod proofs;
mod rest;
mod straight;
mod telling;

pub(crate) use carrier::{Alone, Carrier, Departing, Direct, Gossip};
pub(crate) use have::{HaveClaim, Key, OTHER_RANGES, Part, Word, equality, have, own_entry};
pub(crate) use heard::HeardOf;
pub(crate) use link::{Greeting, Owing, Urgency};
pub(crate) use links::Links;
pub(crate) use straight::Straight;
