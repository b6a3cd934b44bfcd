//! The rules of many devices together, without a network.

mod alerts;
mod carrying;
mod direct;
mod epochs;
mod hostile;
mod joining;
mod liars;
mod removal;
mod restart;
mod restored;
mod roster;
mod sim;
mod world;
