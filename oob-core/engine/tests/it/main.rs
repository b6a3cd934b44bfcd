//! The rules of many devices together, without a network.

mod alerts;
mod direct;
mod hostile;
mod joining;
mod restart;
mod roster;
mod world;
