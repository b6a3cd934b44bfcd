//! What most programs need: `use oob_core::prelude::*;`

pub use crate::{
    Alert, AlertId, Alerts, Cursor, DeviceClass, Error, ErrorKind, Event, Events, Invite,
    InviteOptions, Message, MessageState, Node, NodeBuilder, Org, Passphrase, Person, Preset, Role,
    Sent, Severity,
};
