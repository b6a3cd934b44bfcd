//! Plain data, valid by construction; knows nothing of who uses it.

mod alert;
mod conversation;
mod council;
mod handle;
mod name;
mod org;
mod ranges;
mod time;

pub use alert::{Alert, AlertAck, AlertAnswer, AlertText, AlertTextError, Severity};
pub use conversation::{Message, MessageState, Receipt};
pub use council::{Change, CouncilView, Proposal, Seat};
pub use handle::{LinkId, Ticket};
pub use name::{Name, NameError, Text, TextError};
pub use oob_crypto::Ring;
pub use org::{Device, DeviceClass, Member, Role};
pub use ranges::RangeSet;
pub use time::Now;
