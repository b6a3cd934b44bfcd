//! Keys, sessions and sealing of oob; no I/O, no clock
