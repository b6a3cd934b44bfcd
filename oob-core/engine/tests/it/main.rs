//! The rules of many devices together, without a network.

mod alerts;
mod carrying;
mod direct;
mod epochs;
mod forgeries;
mod governing;
mod hostile;
mod impostors;
mod joining;
mod liars;
mod lives;
mod removal;
mod replays;
mod restart;
mod restored;
mod roster;
mod sim;
mod straight;
mod theft;
mod world;
