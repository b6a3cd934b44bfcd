//! What goes between two neighbours: greeting, the log and epochs one lacks, own envelopes, and what has arrived
//! (docs/protocol.md, section 10).

mod have;
mod link;

pub(crate) use have::{HaveClaim, have};
pub(crate) use link::{Links, Owing};
