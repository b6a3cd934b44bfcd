//! Every rule of oob, without I/O
