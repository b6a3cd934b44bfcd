//! Integration tests of oob-core, one binary.

mod corpus;
mod heavy;
mod layers;
mod node;
mod promises;
mod seeds;
