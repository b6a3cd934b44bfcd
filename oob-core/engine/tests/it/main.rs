//! The rules of many devices together, without a network.

mod carrying;
mod direct;
mod hostile;
mod joining;
mod restart;
mod roster;
mod sim;
mod world;
