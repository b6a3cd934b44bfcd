//! From bytes of others to an alert or an answer that keeps all bounds, or to nothing. Signatures are checked by whoever
//! knows the device's key.

use crate::{
    model::{AlertAnswer, AlertText, Role, Severity},
    record::RecordRef,
    snapshot::RosterView,
};
use oob_proto::{AlertId, DeviceId, Incarnation, MemberId, Message, limits, wire};

/// The latest moment anything may name, the last of the year 9999: times beyond cannot be written down for people.
const LAST_MS: u64 = 253_402_300_799_999;

/// An alert as its author wrote it.
#[derive(Debug, Clone)]
pub(super) struct AlertClaim {
    pub(super) record: RecordRef,
    pub(super) severity: Severity,
    pub(super) issued_ms: u64,
    pub(super) life_s: u32,
    pub(super) text: AlertText,
    pub(super) answers: Vec<AlertAnswer>,
    pub(super) supersedes: Option<AlertId>,
}

impl AlertClaim {
    /// Reads a signed payload; none if anything in it is out of bounds or not of this version: a drill must not be shown
    /// as the real thing, nor something for a few to everybody.
    pub(super) fn parse(payload: &[u8]) -> Option<Self> {
        if payload.len() > limits::ALERT_BYTES {
            return None;
        }
        let raw = wire::Alert::decode(payload).ok()?;
        let other_version = raw.drill || !raw.incident.is_empty() || !raw.audience.is_empty();
        let bounded = raw.issued <= LAST_MS
            && (1..=limits::ALERT_LIFE_S).contains(&u64::from(raw.life_s))
            && raw.answers.len() <= limits::ALERT_ANSWERS;
        if other_version || !bounded {
            return None;
        }
        let supersedes = match raw.supersedes.is_empty() {
            true => None,
            false => Some(AlertId::try_from(raw.supersedes.as_slice()).ok()?),
        };
        Some(Self {
            record: record(&raw.device, raw.incarnation, raw.record_seq)?,
            severity: Severity::from_code(raw.severity)?,
            issued_ms: raw.issued,
            life_s: raw.life_s,
            text: AlertText::parse(raw.text).ok()?,
            answers: raw.answers.iter().map(|word| answer(word)).collect::<Option<_>>()?,
            supersedes,
        })
    }
}

/// An answer as its author wrote it.
#[derive(Debug, Clone)]
pub(super) struct AckClaim {
    pub(super) record: RecordRef,
    pub(super) alert: AlertId,
    pub(super) hlc: u64,
    pub(super) answer: Option<AlertAnswer>,
}

impl AckClaim {
    pub(super) fn parse(payload: &[u8]) -> Option<Self> {
        if payload.len() > limits::ALERT_ACK_BYTES {
            return None;
        }
        let raw = wire::AlertAck::decode(payload).ok()?;
        if raw.hlc > LAST_MS {
            return None;
        }
        Some(Self {
            record: record(&raw.device, raw.incarnation, raw.record_seq)?,
            alert: raw.alert.as_slice().try_into().ok()?,
            hlc: raw.hlc,
            answer: match raw.answer.is_empty() {
                true => None,
                false => Some(answer(&raw.answer)?),
            },
        })
    }
}

/// An answer on the wire has the one form its maker gives it: no white space around it.
fn answer(word: &str) -> Option<AlertAnswer> {
    AlertAnswer::parse(word).ok().filter(|parsed| parsed.as_str() == word)
}

fn record(device: &[u8], incarnation: u32, seq: u64) -> Option<RecordRef> {
    let device = DeviceId::try_from(device).ok()?;
    (seq > 0).then_some(RecordRef { device, incarnation: Incarnation(incarnation), seq })
}

/// Whether a member may alert everybody. As long as there is one admin and no alerter, every core member may: whoever
/// finds the trouble first may be anybody.
pub(super) fn may_alert(roster: &RosterView, member: &MemberId) -> bool {
    let holders = |role: Role| {
        roster.members.values().filter(move |member| member.roles.contains(&role)).count()
    };
    let Some(member) = roster.members.get(member) else { return false };
    let alerts = |role: &Role| match holders(Role::Admin) <= 1 && holders(Role::Alerter) == 0 {
        true => matches!(role, Role::Responder | Role::Alerter | Role::Reviewer | Role::Admin),
        false => matches!(role, Role::Alerter | Role::Admin),
    };
    member.roles.iter().any(alerts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Member, Name};
    use oob_crypto::SigningKey;

    fn roster(all: &[&[Role]]) -> (RosterView, Vec<MemberId>) {
        let mut roster = RosterView::default();
        let mut ids = Vec::new();
        for (i, roles) in (1u8..).zip(all) {
            let id = MemberId::from([i; 32]);
            let uik = SigningKey::from_secret(&[i; 32]).public();
            let name = Name::parse(&format!("Member {i}")).unwrap();
            let member = Member { id, uik, name, roles: roles.to_vec(), devices: Vec::new() };
            roster.members.insert(id, member);
            ids.push(id);
        }
        (roster, ids)
    }

    #[test]
    fn every_core_member_may_alert_until_there_are_alerters_or_two_admins() {
        use Role::{Admin, Alerter, Guest, Machine, Recipient, Responder, Reviewer};
        let may = |all: &[&[Role]]| -> Vec<bool> {
            let (roster, ids) = roster(all);
            ids.iter().map(|id| may_alert(&roster, id)).collect()
        };
        let few: [&[Role]; 6] =
            [&[Responder, Admin], &[Responder], &[Reviewer], &[Recipient], &[Machine], &[Guest]];
        assert_eq!(may(&few), [true, true, true, false, false, false]);
        let alerter: [&[Role]; 3] = [&[Responder, Admin], &[Responder], &[Responder, Alerter]];
        assert_eq!(may(&alerter), [true, false, true]);
        let admins: [&[Role]; 3] = [&[Admin], &[Responder, Admin], &[Responder]];
        assert_eq!(may(&admins), [true, true, false]);
        let (roster, _) = roster(&few);
        assert!(!may_alert(&roster, &MemberId::from([99; 32])), "nobody knows them");
    }
}
