//! What a rule may touch: the store's pending batch, the random generator it was given, the time it was given, and a
//! place for what it wants done. Nothing else.

use crate::{
    effect::{Effect, Reply},
    event::Event,
    model::Now,
};
use oob_store::Store;
use rand_core::CryptoRng;

/// The generator the node gives its engine: the system's, or a seeded one in tests.
pub(crate) type Rng = Box<dyn CryptoRng + Send>;

/// The surroundings of one input.
pub(crate) struct Cx<'a> {
    pub(crate) store: &'a mut Store,
    pub(crate) rng: &'a mut Rng,
    pub(crate) now: Now,
    /// Milliseconds this device has been running since this life of its store began: keeping goes by it, because a
    /// clock may be set to any year.
    pub(crate) elapsed_ms: u64,
    pub(crate) out: &'a mut Out,
}

/// What leaves once the batch is durable.
#[derive(Debug, Default)]
pub(crate) struct Out {
    pub(crate) effects: Vec<Effect>,
    pub(crate) replies: Vec<Reply>,
    pub(crate) events: Vec<Event>,
    /// Somebody waits for what this batch makes durable: a caller, a reader of messages, or whoever is owed a receipt.
    pub(crate) pressing: bool,
}
