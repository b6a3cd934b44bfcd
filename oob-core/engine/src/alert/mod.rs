//! Alerts to everybody, and who answered them (docs/protocol.md, section 10.5).

mod board;
mod broadcast;
mod claim;

pub(crate) use board::Alerts;
pub(crate) use broadcast::{Broadcast, Raise};
