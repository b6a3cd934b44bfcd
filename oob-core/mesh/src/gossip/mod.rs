//! Gossip between roster peers (docs/protocol.md, section 15.1): libp2p's gossipsub, kept on a lead.
//!
//! gossipsub believes that every connection of the swarm is its own, sends its subscriptions on the first one to a peer
//! only, and shares one queue among all connections to a peer. So it is not shown the swarm's connections at all: it
//! hears of a peer when the peer's link comes up, and that the peer has left when the link goes down. There is one
//! connection per peer for it, and it is always the one both sides kept.

mod behaviour;
mod handler;
mod settings;

pub(crate) use behaviour::Gossip;
pub(crate) use settings::id_of;
