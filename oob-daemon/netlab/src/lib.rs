//! A network of hosts on one machine, for the tests of oob: network namespaces on a bridge.
//!
//! Each host is a namespace with one interface, `eth0`, in 10.77.0.0/24 and with a link-local IPv6 address; the bridge
//! lives in a namespace of its own. Nothing leads out: no default route, no interface of the machine itself is touched,
//! and dropping the [`Lab`] removes everything it made, with the processes still running inside.
//!
//! ```no_run
//! use oob_netlab::Lab;
//!
//! let lab = match Lab::new() {
//!     Ok(lab) => lab,
//!     Err(reason) => {
//!         eprintln!("SKIPPED: {reason}");
//!         return Ok(());
//!     }
//! };
//! let (dana, eli) = (lab.host("dana")?, lab.host("eli")?);
//! let status = dana.command("ping").args(["-c", "1", &eli.address().to_string()]).status()?;
//! assert!(status.success());
//! eli.cut()?; // its cable is pulled
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! ```text
//!   namespace dana       namespace of the bridge        namespace eli
//!     eth0 10.77.0.2 ──── port2 ── br0 ── port3 ──── eth0 10.77.0.3
//!                                   │
//!                                capture
//! ```
//!
//! [`Lab::line`] gives hosts in a row instead, where each sees only its neighbours.
//!
//! It needs root, iproute2, and for [`Lab::multicast`] and [`Lab::capture`] nft (or a bridge that can do without) and
//! tcpdump. Where they are missing, [`Unavailable`] says so, and the caller skips its test aloud.

// layer: tools
mod tool;
// layer: the wire
mod capture;
// layer: the network
mod lab;

pub use capture::Capture;
pub use lab::{Host, Lab};
pub use tool::{LabError, Unavailable};
