//! The binary oob: daemon, local API and command line
