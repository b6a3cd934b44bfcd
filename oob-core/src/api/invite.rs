//! Invitations as people carry them.

use crate::error::Error;
use oob_engine::model::Role;
use oob_proto::{OrgId, link, wire::InviteLink};
use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime},
};

/// An invitation: reads from and prints as the text that people hand on (`oob:join:…`).
///
/// # Security
/// Whoever holds the text can join once in its name. `Debug` shows nothing of it; `Display` shows it all.
#[derive(Clone, PartialEq)]
pub struct Invite {
    link: Box<InviteLink>,
    org: OrgId,
}

impl Invite {
    pub(crate) fn new(link: InviteLink) -> Result<Self, Error> {
        let org = OrgId::try_from(link.org_id.as_slice())
            .map_err(|_| Error::from(link::LinkError::Malformed))?;
        Ok(Self { link: Box::new(link), org })
    }

    pub(crate) fn link(&self) -> &InviteLink {
        &self.link
    }

    /// Returns the organisation it invites into.
    pub fn org(&self) -> OrgId {
        self.org
    }

    /// Returns where members were listening when it was made.
    pub fn addresses(&self) -> &[String] {
        &self.link.addresses
    }
}

impl fmt::Debug for Invite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Invite({}, ..)", self.org)
    }
}

impl fmt::Display for Invite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&link::to_text(&self.link, oob_crypto::sha256))
    }
}

impl FromStr for Invite {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        Self::new(link::from_text(text.trim(), oob_crypto::sha256)?)
    }
}

/// What an invitation is good for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InviteOptions {
    /// Highest role it gives. This version gives responders.
    pub role: Role,
    /// How many people may use it.
    pub uses: u32,
    /// How long it is good.
    pub life: Duration,
    /// The person meant, if one is.
    pub name: Option<String>,
}

impl Default for InviteOptions {
    /// One responder within 15 minutes: somebody in the room, whose use of it counts as confirmed by its issuer.
    fn default() -> Self {
        Self { role: Role::Responder, uses: 1, life: Duration::from_secs(15 * 60), name: None }
    }
}

/// An invitation just made.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct IssuedInvite {
    /// To be handed to the person.
    pub invite: Invite,
    /// Highest role it gives.
    pub role: Role,
    /// Its last valid moment, by this device's clock.
    pub expires: SystemTime,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use oob_proto::wire::Op;

    fn invite() -> Invite {
        Invite::new(InviteLink {
            org_id: vec![1; 32],
            secret: vec![2; 32],
            ops: vec![Op::default()],
            addresses: vec!["/ip4/10.0.0.1/tcp/4801".into()],
        })
        .unwrap()
    }

    #[test]
    fn an_invitation_reads_back_from_its_text_and_hides_in_logs() {
        let text = invite().to_string();
        assert_eq!(text.parse::<Invite>().unwrap(), invite());
        assert_eq!(format!("\n{text}\n").parse::<Invite>().unwrap(), invite());
        let shown = format!("{:?}", invite());
        assert!(!shown.contains("oob:join") && !shown.contains("10.0.0.1"), "{shown}");
    }

    #[test]
    fn any_other_text_is_a_bad_invite_with_a_hint() {
        let text = invite().to_string();
        for bad in ["", "hello", "oob:join:", &text[..text.len() - 3], &text.to_uppercase()] {
            let error = bad.parse::<Invite>().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BadInvite, "{bad}");
            assert!(error.hint().unwrap().contains("oob invite"));
        }
    }
}
