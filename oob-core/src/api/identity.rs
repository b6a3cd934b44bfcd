//! Who this node is.

use super::message::time;
use oob_engine::snapshot::Snapshot;
use oob_proto::{DeviceId, MemberId, OrgId};
use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

/// This device, its person, and their organisation.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Identity {
    /// The person, once in an organisation.
    pub member: Option<MemberId>,
    /// This device.
    pub device: DeviceId,
    /// As given when the identity was made, or as the organisation has it.
    pub name: String,
    /// The organisation, once founded or joined.
    pub org: Option<OrgSummary>,
    /// The folder everything is kept in; empty for a node in memory.
    pub home: PathBuf,
    /// When this device began another life, because its store was put back from a copy.
    pub restored: Option<SystemTime>,
    /// When it was last found that this identity runs on another machine too.
    pub elsewhere: Option<SystemTime>,
}

/// An organisation in two words.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OrgSummary {
    /// Its id.
    pub id: OrgId,
    /// Its name.
    pub name: String,
}

impl Identity {
    pub(crate) fn of(snapshot: &Snapshot, home: &Path) -> Self {
        Self {
            member: snapshot.me.member,
            device: snapshot.me.device,
            name: snapshot.me.name.to_string(),
            org: OrgSummary::of(snapshot),
            home: home.to_owned(),
            restored: snapshot.me.restored_ms.map(time),
            elsewhere: snapshot.me.elsewhere_ms.map(time),
        }
    }
}

impl OrgSummary {
    pub(crate) fn of(snapshot: &Snapshot) -> Option<Self> {
        snapshot.org.as_ref().map(|org| Self { id: org.id, name: org.name.to_string() })
    }
}
