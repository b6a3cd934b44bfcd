//! The encrypted, durable key-value store of oob
