//! Bytes from anybody, at every door of oob; each function says whether the bytes were taken. The fuzz targets call these
//! functions, and so does a test of oob-core with every file of the corpora (`oob-core/tests/it/corpus.rs`).

// layer: who knocks
mod cast;
// layer: doors
mod air;
mod disk;
mod doors;
mod rules;
// layer: programs
mod forge;
mod member;
mod order;

pub use air::{address, beacon, gossip, line, split};
pub use disk::disk;
pub use doors::{contact, envelope, fixture, frame, link, sealed_by_a_member};
pub use member::{heard, member, names};
pub use order::order;
pub use rules::{join, op, stream};
