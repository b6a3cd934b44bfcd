//! The library people embed: a node of the oob mesh
