//! The program `oob`: a daemon that keeps one home, the local API it serves, and the command line that speaks to it.
//!
//! Everything a person does goes one way: the command line asks the daemon over its local API, the daemon asks its
//! `oob_core::Node`. A command line without a daemon only makes a home (`init`), starts one (`up`), or shows the whole thing
//! in temporary folders (`demo`).
//!
//! ```text
//!   oob send dana …            a browser, a bot
//!        │ client                    │ token, Host, Origin
//!   HOME/oob.sock (0600, uid)   127.0.0.1:PORT
//!        └───────────┬───────────────┘
//!                   api        JSON of `schema`
//!                    │
//!                 service      one process, one home, one Node
//!                    │
//!                oob-core
//! ```
//!
//! A program of one's own talks to a running daemon like this:
//!
//! ```no_run
//! # async fn example() -> Result<(), oob_daemon::Failure> {
//! use oob_daemon::{client::Client, schema};
//!
//! let mut daemon = Client::connect("/home/dana/.local/share/oob".as_ref()).await?;
//! let status: schema::Status = daemon.get("/api/v1/status").await?;
//! println!("{} others can be reached", status.peers.iter().filter(|peer| peer.reachable).count());
//! let hello = schema::SendRequest { target: "person:sam".into(), text: "Are you there?".into() };
//! let sent: schema::Sent = daemon.post("/api/v1/messages", &hello).await?;
//! println!("stored as {}", sent.id);
//! # Ok(())
//! # }
//! ```
//!
//! What it promises: stdout carries data and nothing else, failures read the same everywhere and keep their exit codes, files
//! are the user's alone, and nobody but this user's processes or a holder of the token gets an answer. It does not protect
//! from other programs of the same user.

// layer: words
mod place;
mod plain;
pub mod schema;

// layer: what goes wrong
mod failure;

// layer: what people name
mod settings;
mod target;

// layer: speaking to a daemon
pub mod client;

// layer: answering
mod api;

// layer: being a daemon
mod service;

// layer: starting daemons
mod launch;

// layer: the demo
mod demo;

// layer: what people type and see
mod cli;

// layer: the fuzzers' ways in
#[cfg(feature = "doors")]
#[doc(hidden)]
pub mod doors;

pub use cli::run;
pub use failure::Failure;
pub use launch::{Launch, Launched};
pub use plain::plain;
