//! Every rule of oob, without I/O.
//!
//! An [`Engine`] owns a device's store and state. Whoever runs it hands in [`Input`]s with the time they came, and ends a
//! group of them with [`Engine::commit`]; then, and only then, effects, replies and events leave, because only then is
//! what they speak of durable:
//!
//! ```text
//! commands, links, screened frames, time
//!        |                                  (one batch of the store)
//!    handle() ... handle()  ->  commit()  ->  effects to the network, replies, numbered events, a snapshot
//! ```
//!
//! A crash between commit and effect repeats or drops an effect; every receiver ignores what it has seen, and what is
//! owed stays in the outbox, so neither does harm.
//!
//! Nothing here opens a socket, reads a clock or spawns anything. Time and randomness come in as arguments (but for
//! vodozemac, which draws its own), so that many engines can be run in one process under a virtual clock. No decision
//! depends on the order of a hash map.
//!
//! ```
//! use oob_engine::{Engine, model::{Name, Now}};
//! use oob_store::Store;
//! use rand::{SeedableRng, rngs::StdRng};
//!
//! let store = Store::in_memory(StdRng::seed_from_u64(1))?;
//! let now = Now { wall_ms: 1_770_000_000_000, mono_ms: 0 };
//! let engine = Engine::create(store, Box::new(StdRng::seed_from_u64(2)), Name::parse("Dana")?, now)?;
//! assert!(engine.snapshot().org.is_none());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

// layer: words
pub mod model;
// layer: what goes in and out
pub mod effect;
pub mod event;
pub mod snapshot;
// layer: names of records
pub mod record;
// layer: edge
pub mod envelope;
pub mod input;
// layer: surroundings
mod cx;
mod stored;
// layer: what this device said
mod runs;
// layer: this device
mod own;
// layer: the organisation
mod roster;
// layer: what is kept
mod custody;
mod directory;
mod epochs;
mod holders;
mod outbox;
mod releases;
mod seen;
mod session;
// layer: switches of the simulator
#[cfg(feature = "sim")]
mod rig;
// layer: sending
mod post;
// layer: features
mod alert;
mod conversation;
mod sync;
// layer: all state
mod state;
// layer: between devices
mod carrying;
mod certificates;
mod frames;
mod giving_up;
mod governing;
mod join;
mod lives;
mod nearness;
mod opening;
mod rotation;
// layer: copies
mod copying;
// layer: the whole
mod engine;
// layer: many of them
#[cfg(feature = "sim")]
pub mod sim;

pub use conversation::History;
pub use engine::{Engine, EngineError, LocalKeys, Outcome, SnapshotDraft};
pub use input::Input;
#[cfg(feature = "sim")]
pub use rig::{Faults, Oddities};
pub use stored::RecordError;
