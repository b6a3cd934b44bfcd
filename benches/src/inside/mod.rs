//! What the parts cost inside one process, each beside a limit that was measured in the same run.

mod codec;
mod crew;
mod crypto;
mod engine;
mod rounds;

pub use codec::codec;
pub use crypto::crypto;
pub use engine::engine;
pub use rounds::{Effort, Row, to_table};

/// Whatever ends a measurement before its time.
pub type Failed = Box<dyn std::error::Error + Send + Sync>;
