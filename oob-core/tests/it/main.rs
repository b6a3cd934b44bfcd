//! Integration tests of oob-core, one binary.

mod layers;
mod node;
