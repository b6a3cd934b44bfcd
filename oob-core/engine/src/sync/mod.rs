//! What goes between two neighbours: greeting, the log and epochs one lacks, the records one lacks, and what each has
//! (docs/protocol.md, section 10).

mod carrier;
mod have;
mod heard;
mod link;
mod straight;

pub(crate) use carrier::{Alone, Carrier, Departing, Direct, Gossip};
pub(crate) use have::{HaveClaim, Key, OTHER_RANGES, Word, equality, have, own_entry};
pub(crate) use heard::HeardOf;
pub(crate) use link::{Greeting, Links, Owing, Urgency};
pub(crate) use straight::Straight;
