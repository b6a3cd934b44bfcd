//! The organisation this device belongs to.

use super::{Invite, InviteOptions, IssuedInvite, OrgSummary, Person, message};
use crate::{
    error::{Error, ErrorKind},
    handle::Handle,
};
use oob_engine::{
    effect::Answer,
    input::Command,
    model::{DeviceClass, Name, Role},
    snapshot::RosterView,
};
use oob_proto::{DeviceId, MemberId, OrgId};
use std::{fmt, sync::Arc};

/// The organisation this device belongs to. Cheap to clone.
#[derive(Clone)]
pub struct Org {
    handle: Arc<Handle>,
    summary: OrgSummary,
}

/// A member, as the organisation's log has them now.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberInfo {
    /// Who.
    pub id: MemberId,
    /// Their name.
    pub name: String,
    /// What they may do, ascending.
    pub roles: Vec<Role>,
    /// Their devices, by id.
    pub devices: Vec<DeviceInfo>,
    /// Whether this is the device's own person.
    pub me: bool,
}

/// A device of a member.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeviceInfo {
    /// Which.
    pub id: DeviceId,
    /// How much it is its owner's own.
    pub class: DeviceClass,
    /// Where it stands, empty if nobody said.
    pub site: String,
}

impl fmt::Debug for Org {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Org").field("summary", &self.summary).finish_non_exhaustive()
    }
}

impl Org {
    pub(crate) fn of(handle: &Arc<Handle>) -> Option<Self> {
        let summary = OrgSummary::of(&handle.snapshot())?;
        Some(Self { handle: Arc::clone(handle), summary })
    }

    pub(super) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Returns its id.
    pub fn id(&self) -> OrgId {
        self.summary.id
    }

    /// Returns its name.
    pub fn name(&self) -> &str {
        &self.summary.name
    }

    /// Returns everybody in it, by name.
    pub fn members(&self) -> Vec<MemberInfo> {
        let snapshot = self.handle.snapshot();
        let mut members: Vec<_> = snapshot
            .roster
            .members
            .values()
            .map(|member| MemberInfo {
                id: member.id,
                name: member.name.to_string(),
                roles: member.roles.clone(),
                devices: member
                    .devices
                    .iter()
                    .filter_map(|id| snapshot.roster.devices.get(id))
                    .map(|device| DeviceInfo {
                        id: device.id,
                        class: device.class,
                        site: device.site.clone(),
                    })
                    .collect(),
                me: snapshot.me.member == Some(member.id),
            })
            .collect();
        members.sort_by(|a, b| a.name.cmp(&b.name).then(a.id.cmp(&b.id)));
        members
    }

    /// Returns the person of a name, case aside, or of a member id.
    ///
    /// # Errors
    /// Nobody of that name (the hint says who is close), or several.
    pub fn person(&self, name: &str) -> Result<Person, Error> {
        self.handle.check()?;
        let name = name.trim();
        let snapshot = self.handle.snapshot();
        let roster = &snapshot.roster;
        let named = roster.named(name);
        let id = match named.as_slice() {
            [one] => one.id,
            [] => match name.parse::<MemberId>() {
                Ok(id) if roster.members.contains_key(&id) => id,
                _ => return Err(nobody(name, roster)),
            },
            several => {
                let ids: Vec<_> = several.iter().map(|member| member.id.to_string()).collect();
                let count = ids.len();
                return Err(Error::new(
                    ErrorKind::Ambiguous,
                    format!("{count} people are called {name:?}"),
                )
                .with_hint(format!("name one of them by id: {}", ids.join(", "))));
            }
        };
        Person::of(&self.handle, &id).ok_or_else(Error::no_org)
    }

    /// Makes an invitation; it is durable on return.
    ///
    /// # Errors
    /// A device that is not an admin's, a role this version does not give, uses or life outside their bounds, a bad name.
    pub async fn invite(&self, options: InviteOptions) -> Result<IssuedInvite, Error> {
        let name = options.name.as_deref().map(Name::parse).transpose()?;
        let command = Command::Invite {
            role: options.role,
            uses: options.uses,
            life_ms: u64::try_from(options.life.as_millis()).unwrap_or(u64::MAX),
            name,
        };
        match self.handle.commands().run(command).await? {
            Answer::Invited { link, role, expires_ms } => Ok(IssuedInvite {
                invite: Invite::new(*link)?,
                role,
                expires: message::time(expires_ms),
            }),
            _ => Err(Error::internal("the rules answered an invite with something else")),
        }
    }
}

/// Most names a hint offers.
const OFFERED: usize = 3;

fn nobody(name: &str, roster: &RosterView) -> Error {
    let error = Error::new(ErrorKind::NotFound, format!("nobody is called {name:?}"));
    let mut close: Vec<_> = roster
        .members
        .values()
        .map(|member| member.name.as_str())
        .filter_map(|known| Some((closeness(name, known)?, known)))
        .collect();
    close.sort_unstable();
    close.dedup();
    let close: Vec<_> = close.into_iter().take(OFFERED).map(|(_, known)| known).collect();
    if close.is_empty() {
        return error;
    }
    error.with_hint(format!("did you mean {}", close.join(" or ")))
}

/// How far `typed` is from a known name, lower being closer; `None` if it is another name altogether.
fn closeness(typed: &str, known: &str) -> Option<usize> {
    let (typed, known) = (typed.to_lowercase(), known.to_lowercase());
    if typed.chars().count() >= 2 && known.split_whitespace().any(|word| word.starts_with(&typed)) {
        return Some(0);
    }
    let near = known
        .split_whitespace()
        .map(|word| distance(&typed, word))
        .chain([distance(&typed, &known)])
        .min()?;
    (near <= typed.chars().count() / 3).then_some(near)
}

/// Edits between two texts: a letter put in, left out, changed, or swapped with its neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut next = vec![i.saturating_add(1)];
        for (j, y) in b.iter().enumerate() {
            let at = |row: &[usize], j: usize| row.get(j).copied().unwrap_or(usize::MAX / 2);
            let changed = at(&row, j).saturating_add(usize::from(x != y));
            let left_out = at(&row, j.saturating_add(1)).saturating_add(1);
            let put_in = at(&next, j).saturating_add(1);
            let swapped = match (i.checked_sub(1), j.checked_sub(1)) {
                (Some(p), Some(q)) if a.get(p) == Some(y) && b.get(q) == Some(x) => {
                    at(&before, q).saturating_add(1)
                }
                _ => usize::MAX,
            };
            next.push(changed.min(left_out).min(put_in).min(swapped));
        }
        before = std::mem::replace(&mut row, next);
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn close_names_are_offered_and_others_are_not() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("sma", "sam"), 1);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", ""), 3);
        assert_eq!(closeness("Dna", "Dana"), Some(1));
        assert_eq!(closeness("Sma", "Sam"), Some(1));
        assert_eq!(closeness("da", "Dana Ruiz"), Some(0));
        assert_eq!(closeness("ruis", "Dana Ruiz"), Some(1));
        assert_eq!(closeness("Noor", "Dana"), None);
        assert_eq!(closeness("", "Dana"), None);
    }
}
