//! Who decides in the organisation, and what waits for their signatures.

use super::{Org, message};
use crate::error::{Error, ErrorKind};
use oob_crypto::PublicKey;
use oob_engine::{
    effect::Answer,
    input::Command,
    model::{Change, Name, Seat},
    snapshot::Snapshot,
};
use oob_proto::{MemberId, OpHash};
use std::time::SystemTime;

/// Those who decide, and what they have to decide yet.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Council {
    /// Their keys, by the names of who holds them.
    pub admins: Vec<Admin>,
    /// How many of them must sign what one may not do alone.
    pub k: usize,
    /// What is not signed by enough yet, oldest first.
    pub proposals: Vec<Proposal>,
    /// People who have a key to be an admin with and are none.
    pub offers: Vec<Admin>,
}

/// One admin's key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Admin {
    /// The key, 64 hexadecimal digits.
    pub key: String,
    /// Who holds it; none for paper.
    pub member: Option<MemberId>,
    /// Their name, or what stands on the paper.
    pub name: Option<String>,
    /// Whether it is this device's own person.
    pub me: bool,
    /// Whether a device of that person said that it has this key. Of a proposal in which it is not so, nobody signs.
    pub offered: bool,
}

/// Something that enough admins have to sign.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Proposal {
    /// Which.
    pub id: OpHash,
    /// When it was proposed, by the clock of who did.
    pub time: SystemTime,
    /// What it changes.
    pub change: Proposed,
    /// Who signed it; the first proposed it.
    pub signed: Vec<Admin>,
    /// Who of the admins has not.
    pub missing: Vec<Admin>,
}

/// What became of a proposal that was made or signed here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Decision {
    /// The proposal.
    pub id: OpHash,
    /// Whether enough have signed it.
    pub decided: bool,
    /// How many have to yet.
    pub missing: usize,
}

/// What a proposal changes.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Proposed {
    /// Who the admins are, and how many of them must sign.
    Admins {
        /// The new ones.
        admins: Vec<Admin>,
        /// How many of them must sign what one may not do alone.
        k: usize,
    },
    /// The organisation's name.
    Name(String),
}

impl Org {
    /// Returns who decides, and what waits to be decided.
    pub fn council(&self) -> Council {
        let snapshot = self.handle().snapshot();
        let view = &snapshot.roster.council;
        let admin = |seat: &Seat| Admin::of(seat, &snapshot);
        let by_name = |seats: &[Seat]| {
            let mut admins: Vec<Admin> = seats.iter().map(admin).collect();
            admins.sort_by(|a, b| (&a.name, &a.key).cmp(&(&b.name, &b.key)));
            admins
        };
        let proposals = view.proposals.iter().map(|proposal| {
            let seat = |key: &PublicKey| view.seats.iter().find(|seat| seat.key == *key);
            let missing: Vec<Seat> = view
                .seats
                .iter()
                .filter(|seat| !proposal.signed.contains(&seat.key))
                .cloned()
                .collect();
            Proposal {
                id: proposal.op,
                time: message::time(proposal.time_ms),
                change: match &proposal.change {
                    Change::Admins { seats, k, .. } => {
                        Proposed::Admins { admins: by_name(seats), k: *k }
                    }
                    Change::Name(name) => Proposed::Name(name.to_string()),
                },
                signed: proposal.signed.iter().filter_map(seat).map(admin).collect(),
                missing: by_name(&missing),
            }
        });
        Council {
            admins: by_name(&view.seats),
            k: view.k,
            proposals: proposals.collect(),
            offers: by_name(&view.offers),
        }
    }

    /// Makes a key that this device would be an admin with, and says so to everybody; it gives no right by itself. Does nothing where
    /// there is one that was never used.
    ///
    /// # Errors
    /// A full disk, a node that has stopped.
    pub async fn offer_admin(&self) -> Result<(), Error> {
        match self.handle().commands().run(Command::OfferAdmin).await? {
            Answer::Done => Ok(()),
            _ => Err(Error::internal("the rules answered an offer with something else")),
        }
    }

    /// Proposes who the admins are and how many of them must sign what one may not do alone, and signs that. It counts once as many
    /// of the admins of now as they have to have signed it.
    ///
    /// # Errors
    /// A device that is no admin's, somebody who offered no key ([`Org::offer_admin`]), two admins, `k` that is not more than half
    /// of them or not fewer than all.
    pub async fn propose_admins(&self, members: &[MemberId], k: usize) -> Result<Decision, Error> {
        self.decide(Command::ProposeAdmins { members: members.to_vec(), k }).await
    }

    /// Proposes another name for the organisation, and signs that.
    ///
    /// # Errors
    /// A device that is no admin's, a bad name.
    pub async fn propose_name(&self, name: &str) -> Result<Decision, Error> {
        self.decide(Command::ProposeName { name: Name::parse(name)? }).await
    }

    /// Signs what somebody proposed.
    ///
    /// # Errors
    /// A device that is no admin's; a proposal that is decided, signed here already, excludes a later one signed here, names a key that
    /// was never offered, or undoes more than it says.
    pub async fn sign(&self, proposal: OpHash) -> Result<Decision, Error> {
        self.decide(Command::SignProposal { op: proposal }).await
    }

    /// Finds an open proposal by a beginning of its id that no other has.
    ///
    /// # Errors
    /// None of that beginning, or several.
    pub fn proposal(&self, id: &str) -> Result<Proposal, Error> {
        let id = id.trim().to_lowercase();
        let begins =
            |proposal: &Proposal| !id.is_empty() && proposal.id.to_string().starts_with(&id);
        let mut found: Vec<Proposal> = self.council().proposals;
        found.retain(begins);
        match found.len() {
            1 => Ok(found.remove(0)),
            0 => {
                Err(Error::new(ErrorKind::NotFound, format!("no open proposal begins with {id:?}"))
                    .with_hint("see which there are: oob org status"))
            }
            many => Err(Error::new(
                ErrorKind::Ambiguous,
                format!("{many} open proposals begin with {id:?}"),
            )
            .with_hint("give more of its id: oob org status")),
        }
    }

    async fn decide(&self, command: Command) -> Result<Decision, Error> {
        match self.handle().commands().run(command).await? {
            Answer::Proposed { op, decided, missing } => Ok(Decision { id: op, decided, missing }),
            _ => Err(Error::internal("the rules answered an admin with something else")),
        }
    }
}

impl Admin {
    fn of(seat: &Seat, snapshot: &Snapshot) -> Self {
        let member = seat.member.as_ref();
        let known = member.and_then(|id| snapshot.roster.members.get(id));
        let name = known.map(|member| &member.name).or(seat.paper.as_ref());
        Self {
            key: seat.key.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect(),
            member: seat.member,
            name: name.map(ToString::to_string),
            me: member.is_some() && member == snapshot.me.member.as_ref(),
            offered: seat.offered,
        }
    }
}
