//! The library people embed: a node of the oob mesh.
//!
//! oob is what a team falls back on when its own network, mail, chat and sign-on can no longer be trusted. It has no
//! server: devices find each other, carry one another's sealed messages, and keep their own encrypted store. This crate
//! is one such device. The binary `oob` is a client of it, and whatever `oob` can do, a program that embeds it can.
//!
//! ```no_run
//! use oob_core::prelude::*;
//!
//! #[tokio::main]
//! async fn main() -> Result<(), oob_core::Error> {
//!     let node = Node::builder("./dana.oob")
//!         .identity("Dana")                                   // made on first start
//!         .passphrase(Passphrase::new(std::fs::read_to_string("pass.txt")?.trim()))
//!         .preset(Preset::LanOnly)
//!         .spawn()
//!         .await?;
//!     let mut events = node.events(Cursor::Last);            // subscribe before acting
//!     let org = node.join(std::fs::read_to_string("invite.txt")?.parse()?).await?;
//!     let sam = org.person("Sam")?;
//!     let sent = sam.send("Mail is compromised. Talk here.").await?; // durable on return
//!     while let Some(event) = events.next().await {
//!         match event {
//!             Event::Message(m) if m.conversation == sam.conversation() => println!("{}: {}", m.author, m.text),
//!             Event::Receipt(r) if r.message == sent => println!("{} of {} have it", r.delivered, r.expected),
//!             Event::Alert(a) => node.alerts().acknowledge(a.id).await?,
//!             Event::Lagged { missed } => eprintln!("{missed} events skipped; read the history"),
//!             _ => {}
//!         }
//!     }
//!     node.shutdown().await
//! }
//! ```
//!
//! That one needs a second person; this one runs by itself, and `examples/embed_hello.rs` has both sides:
//!
//! ```
//! use oob_core::prelude::*;
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), oob_core::Error> {
//! let node = Node::builder("")
//!     .in_memory()
//!     .identity("Dana")
//!     .listen(vec!["/ip4/127.0.0.1/tcp/0".into()])
//!     .mdns(false)
//!     .spawn()
//!     .await?;
//! let org = node.found("Riverside Clinic").await?;
//! let invite = org.invite(InviteOptions::default()).await?.invite; // hand it to Sam, in the room
//! assert!(invite.to_string().starts_with("oob:join:"));
//! assert_eq!(org.person("Sam").unwrap_err().kind(), ErrorKind::NotFound);
//! node.shutdown().await
//! # }
//! ```
//!
//! # How the parts fit
//!
//! ```text
//!   Node, Org, Person, Events          what you hold; Clone + Send + Sync
//!     | commands      ^ events   ^ reads
//!     v               |          |
//!   the rules' thread (oob-engine): one batch = handle each input, commit, then effects, snapshot, events, replies
//!     | effects       ^ frames that passed screening
//!     v               |
//!   links, one reader task each        screening: is this envelope a member's? before anything is believed
//!     |               ^
//!     v               |
//!   the mesh (oob-mesh): who is near   join streams: how a device that nobody knows yet is admitted
//! ```
//!
//! Reads never pass the rules: they look at committed records ([`Person::messages`]) or at the snapshot the rules
//! publish after each batch ([`Org::members`], [`Node::status`]).
//!
//! # What it promises
//!
//! * [`NodeBuilder::spawn`] returns when the store is open and the mesh listens, not when peers are found.
//! * [`Person::send`] returns once the message is durable, not once it is delivered; [`Event::Receipt`] tells the rest.
//! * Methods are cancel-safe: drop a future, and what it asked for has happened wholly or not at all.
//! * Events come at least once, in order per conversation, and resume by [`Cursor::After`] after a restart. A slow reader
//!   gets [`Event::Lagged`] and never slows the node.
//! * Everything that waits is bounded, and no task outlives the node.
//! * A task that panics ends alone and is begun again, eight times in a row at most; bytes from outside that did it are kept in the
//!   home and given to nobody again ([`Status::faults`]). A panic of the rules ends the node.
//! * No globals, no environment variables, no home directory, nothing printed. `tracing` tells what happens inside,
//!   never a text, a name or a key.
//!
//! # What it does not
//!
//! It does not clean texts for a terminal ([`Message::text`] is as written), does not ask for passphrases, and does not
//! decide who may talk to it over HTTP: that is the daemon's. It needs a tokio runtime with time and I/O enabled.

// layer: words
mod config;
mod error;
// layer: the rules from outside
mod commands;
mod home;
// layer: frames
mod beacon;
mod join;
mod screen;
// layer: running
mod actor;
mod handle;
// layer: reads
mod query;
// layer: what people hold
mod api;
// layer: copies
mod backup;
// layer: node
mod node;
// layer: tests of whole nodes
pub mod prelude;
// layer: the fuzzers' ways in
#[cfg(feature = "doors")]
#[doc(hidden)]
pub mod doors;
#[cfg(test)]
mod supervision;

pub use api::{
    Addresses, Admin, Alert, AlertAck, AlertAcked, AlertAsked, AlertOptions, AlertStatus, Alerts,
    Away, Council, Cursor, Decision, DeviceInfo, Event, Events, Faults, Identity, Invite,
    InviteOptions, Island, IssuedInvite, KnownAddress, MemberInfo, Message, Org, OrgSummary,
    PeerChange, PeerStatus, Person, Proposal, Proposed, Receipt, Sending, Sent, Status,
};
pub use backup::{BackupInfo, Keepsakes, Recovered};
pub use config::Preset;
pub use error::{Error, ErrorKind};
pub use node::{Node, NodeBuilder};
pub use oob_engine::model::{DeviceClass, MessageState, Role, Severity};
pub use oob_mesh::{FoundBy, Health, Transport};
pub use oob_proto::limits::{ALERT_TEXT_BYTES, NAME_BYTES, TEXT_BYTES};
pub use oob_proto::{AlertId, ConversationId, DeviceId, MemberId, MessageId, OrgId, id::IdError};
pub use oob_store::Passphrase;
