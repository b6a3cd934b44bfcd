//! Conversations between people: what is said, what has arrived, what was read.

mod direct;
mod history;
mod state;

pub(crate) use direct::{Arrival, Direct};
pub use history::History;
pub(crate) use state::Conversations;
