//! The mesh over real sockets on loopback, port 0, in real time.

mod beacons;
mod gossip;
mod links;
mod refusals;
mod strangers;
mod support;
