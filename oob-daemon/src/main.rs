//! The binary `oob`.
fn main() {}
