//! The JSON of the local API, which is also what `--json` prints.
//!
//! Fields are only ever added. Ids are lower-case base32, times RFC 3339 in UTC with milliseconds, durations `*_ms`, and what
//! is absent is `null`.

mod address;
mod alert;
mod backup;
mod doctor;
mod event;
mod identity;
mod invite;
mod message;
mod org;
mod problem;
mod service;
mod status;
mod time;
mod web;

pub use address::{Address, AddressAdd, Addresses, KnownAddress};
pub use alert::{AckRequest, Alert, AlertAck, AlertRequest, Alerts};
pub use backup::{Backup, Recovered, Skipped};
pub use doctor::{Check, Checks};
pub use event::Event;
pub use identity::{Me, Member, Members};
pub use invite::{Invite, InviteRequest, JoinRequest, Joined};
pub use message::{
    Conversation, Conversations, LogEntry, MessagePage, Nothing, ReadRequest, SendRequest, Sent,
};
pub use org::{Admin, Org, Proposal, ProposalRequest, Signed};
pub use problem::{ErrorBody, ErrorLine, Problem};
pub use service::{ApiFile, Health, Ready, Report, Step, Stopped, Stopping};
pub use status::{Away, Faults, Island, Peer, Peers, Status};
pub use time::Stamp;
pub use web::{WebSession, WebSessionRequest, WebTicket};
