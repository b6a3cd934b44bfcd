//! Many devices in one process, under one seed and a virtual clock: latency, loss, partitions, churn, power cuts, wrong
//! clocks. After every step the world is compared with what it must be (docs/testing.md, "The simulator").
//!
//! ```text
//! story   what people and the weather do, drawn from the seed before anything runs
//! world   the queue of events by (time, number), the nodes, the lines between them
//! book    what was said and what each node was told: every promise is checked against it
//! foe     which devices are hostile; mischief: what they say and forge
//! restore devices put back to a copy; ledger: no number and no key is used for two envelopes
//! run     one seed, its report; some seeds twice, to see that a seed repeats itself
//! ```
//!
//! vodozemac draws its own randomness, so bytes differ from run to run and ids that hang on them too. Nothing here looks
//! at their order; what must repeat is who did what, when, and what came of it.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a tool of tests: numbers of nodes are its own, and what it did not foresee must stop it"
)]

mod alarm;
mod book;
mod dice;
mod foe;
mod forger;
mod ledger;
mod lines;
mod mischief;
mod node;
mod people;
mod probe;
mod restore;
mod run;
mod story;
mod trace;
mod weather;
mod world;

pub use book::Violation;
pub use foe::{Deeds, Vice};
pub use probe::{Gauges, Inventory};
pub use run::{SeedReport, run, run_all, trace};
pub use story::Settings;
