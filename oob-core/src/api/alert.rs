//! Alerts and who answered them.

use super::message::{name_of, time};
use oob_engine::{model::Severity, snapshot::Snapshot};
use oob_proto::{AlertId, DeviceId, MemberId};
use std::{
    collections::BTreeSet,
    time::{Duration, SystemTime},
};

/// How long an alert asks for attention unless told otherwise.
const LIFE: Duration = Duration::from_secs(86_400);

/// An alert to everybody, as this device has it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Alert {
    /// The same on every device.
    pub id: AlertId,
    /// Name of who raised it, as the organisation has it now.
    pub author: String,
    /// Who raised it.
    pub author_id: MemberId,
    /// On which device.
    pub device: DeviceId,
    /// How much it asks for.
    pub severity: Severity,
    /// What it says, as written: clean it before it goes to a terminal.
    pub text: String,
    /// Words it offers as answers; none: any.
    pub answers: Vec<String>,
    /// When it was raised, by the author's clock.
    pub issued: SystemTime,
    /// Until when it asks for attention, by the author's clock.
    pub expires: SystemTime,
    /// When it came, by this device's clock.
    pub received: SystemTime,
    /// Whether it asked for attention no longer when this was read.
    pub expired: bool,
    /// Whether this device's person raised it.
    pub outgoing: bool,
}

/// What a person answered to an alert.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AlertAck {
    /// Who.
    pub member: MemberId,
    /// Their name.
    pub name: String,
    /// When, by their clock.
    pub time: SystemTime,
    /// The word; none: seen.
    pub answer: Option<String>,
}

/// Somebody who was asked and has not answered.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AlertAsked {
    /// Who.
    pub member: MemberId,
    /// Their name.
    pub name: String,
}

/// An alert and where everybody stands. Its author is not asked; people who left are counted nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AlertStatus {
    /// The alert.
    pub alert: Alert,
    /// Who answered what, in the order of their times.
    pub acked: Vec<AlertAck>,
    /// Who has not, and has a device in reach now, by name.
    pub pending: Vec<AlertAsked>,
    /// Who has not, and has none in reach, by name.
    pub unreachable: Vec<AlertAsked>,
}

/// An answer that was just counted.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AlertAcked {
    /// To which alert.
    pub alert: AlertId,
    /// Who answered.
    pub member: MemberId,
    /// Their name.
    pub name: String,
    /// When, by their clock.
    pub time: SystemTime,
    /// The word; none: seen.
    pub answer: Option<String>,
    /// People who have answered.
    pub acked: u32,
    /// People who were asked.
    pub expected: u32,
}

/// How an alert is raised.
///
/// ```
/// use oob_core::AlertOptions;
/// use std::time::Duration;
///
/// let options = AlertOptions { life: Duration::from_secs(3_600), ..AlertOptions::default() };
/// assert!(options.answers.is_empty());
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AlertOptions {
    /// How long it asks for attention, at most seven days; a day unless told otherwise.
    pub life: Duration,
    /// Words it offers as answers, at most eight; none: any.
    pub answers: Vec<String>,
}

impl Default for AlertOptions {
    fn default() -> Self {
        Self { life: LIFE, answers: Vec::new() }
    }
}

impl Alert {
    pub(crate) fn of(alert: oob_engine::model::Alert, snapshot: &Snapshot) -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self {
            expired: alert.is_expired(u64::try_from(now.as_millis()).unwrap_or(u64::MAX)),
            id: alert.id,
            author: name_of(&alert.author, snapshot),
            author_id: alert.author,
            device: alert.device,
            severity: alert.severity,
            text: alert.text,
            answers: alert.answers,
            issued: time(alert.issued_ms),
            expires: time(alert.expires_ms),
            received: time(alert.received_ms),
            outgoing: snapshot.me.member == Some(alert.author),
        }
    }
}

impl AlertStatus {
    /// Says where everybody stands, given the people who have a device in reach.
    pub(crate) fn of(
        (alert, acks): (oob_engine::model::Alert, Vec<oob_engine::model::AlertAck>),
        snapshot: &Snapshot,
        in_reach: &BTreeSet<MemberId>,
    ) -> Self {
        let alert = Alert::of(alert, snapshot);
        let mut acked: Vec<AlertAck> = acks
            .into_iter()
            .filter(|ack| ack.member != alert.author_id)
            .filter(|ack| snapshot.roster.members.contains_key(&ack.member))
            .map(|ack| AlertAck {
                member: ack.member,
                name: name_of(&ack.member, snapshot),
                time: time(ack.time_ms),
                answer: ack.answer,
            })
            .collect();
        acked.sort_by_key(|ack| (ack.time, ack.member));
        let answered: BTreeSet<MemberId> = acked.iter().map(|ack| ack.member).collect();
        let mut silent: Vec<AlertAsked> = snapshot
            .roster
            .members
            .values()
            .filter(|member| member.id != alert.author_id && !answered.contains(&member.id))
            .map(|member| AlertAsked { member: member.id, name: member.name.to_string() })
            .collect();
        silent.sort_by(|a, b| (&a.name, a.member).cmp(&(&b.name, b.member)));
        let (pending, unreachable) =
            silent.into_iter().partition(|asked| in_reach.contains(&asked.member));
        Self { alert, acked, pending, unreachable }
    }
}
