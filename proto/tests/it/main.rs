//! Tests of the wire types as a whole.

mod generated;
mod golden;
mod properties;
