//! What people who embed oob hold in their hands, one file for each noun.

// layer: words
mod alert;
mod identity;
mod invite;
mod island;
mod message;
// layer: handles
mod addresses;
mod alerts;
mod council;
mod events;
mod org;
mod person;
mod status;

pub use addresses::{Addresses, KnownAddress};
pub use alert::{Alert, AlertAck, AlertAcked, AlertAsked, AlertOptions, AlertStatus};
pub use alerts::Alerts;
pub use council::{Admin, Council, Decision, Proposal, Proposed};
pub use events::{Cursor, Event, Events, PeerChange};
pub use identity::{Identity, OrgSummary};
pub use invite::{Invite, InviteOptions, IssuedInvite};
pub use island::{Away, Island};
pub(crate) use message::time;
pub use message::{Message, Receipt, Sent};
pub use org::{DeviceInfo, MemberInfo, Org};
pub use person::{Person, Sending};
pub use status::{Faults, PeerStatus, Status};
