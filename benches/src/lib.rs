//! Figures of oob, measured against named limits of the same machine in the same run.
//!
//! `pair` starts two real daemons and measures what a person feels: how long until a text is there, and how many a second.
//! `store` measures the store alone, as large as years make it. Beside them stand what the machine can do at best: a TCP round trip over the same loopback, and a synced write to the same disk.

// layer: figures
mod figures;
mod sizes;

// layer: what a machine tells
mod disk;
mod limits;
mod process;
mod wire;

// layer: what the parts cost
pub mod inside;

pub use disk::Device;
pub use figures::{Figures, Sorted};
pub use limits::{fsync_p50, raw_tcp_p50};
pub use process::{Usage, threads_cpu_ns};
pub use sizes::{RECORD_BYTES, TEXT_BYTES};
pub use wire::Wire;
