//! What goes out once a batch is durable: effects to the network, replies to callers.

use crate::model::{LinkId, Role, Ticket};
use oob_proto::{AlertId, ConversationId, MemberId, MessageId, OpHash, OrgId, wire};

/// Something to do on the network. Doing it twice, or not at all because of a crash, does no harm.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Effect {
    /// Send one frame on a stream.
    Send {
        /// The stream.
        link: LinkId,
        /// An encoded `Frame`.
        frame: Vec<u8>,
    },
    /// Give one frame to everybody reachable, over as many hops as it takes.
    Publish {
        /// An encoded `Frame` with one record and no age.
        frame: Vec<u8>,
    },
    /// End a stream.
    Close {
        /// The stream.
        link: LinkId,
        /// For the local log only.
        reason: &'static str,
    },
    /// A member told where it listens.
    Learned {
        /// Who.
        peer: oob_proto::TransportKey,
        /// Multiaddrs, as told: not believed before a connection proves the key.
        addresses: Vec<String>,
    },
}

/// The answer to a command, given once its batch is durable.
#[derive(Debug)]
pub struct Reply {
    /// Whose.
    pub ticket: Ticket,
    /// What.
    pub result: Result<Answer, CommandError>,
}

/// What a command gave.
#[derive(Debug)]
#[non_exhaustive]
pub enum Answer {
    /// Nothing to tell.
    Done,
    /// Founded or joined.
    Org {
        /// The organisation.
        org: OrgId,
        /// This device's person in it.
        member: MemberId,
    },
    /// An invitation.
    Invited {
        /// To be written as text by `oob_proto::link`.
        link: Box<wire::InviteLink>,
        /// Highest role it gives.
        role: Role,
        /// Milliseconds since 1970.
        expires_ms: u64,
    },
    /// For the joiner.
    Proof(wire::JoinProof),
    /// For the admitter.
    Ask(Box<wire::JoinAsk>),
    /// For the joiner: it is admitted.
    Answer(Box<wire::JoinAnswer>),
    /// For a member that has not heard of this device.
    Show(wire::JoinShow),
    /// Stored durably.
    Sent {
        /// Which message.
        message: MessageId,
        /// Where.
        conversation: ConversationId,
        /// Its number in this device's history.
        number: u64,
    },
    /// A proposal, or a signature under one, stored durably.
    Proposed {
        /// The proposal.
        op: OpHash,
        /// Whether enough have signed it.
        decided: bool,
        /// How many have to yet.
        missing: usize,
    },
    /// An alert, stored durably.
    Alert {
        /// Which.
        id: AlertId,
    },
}

/// Why a command was refused; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// There is no organisation on this device yet.
    #[error("this device belongs to no organisation yet")]
    NoOrg,
    /// There is one already.
    #[error("this device already belongs to an organisation")]
    HasOrg,
    /// Only an admin may.
    #[error("only an admin of the organisation may do this")]
    NotAdmin,
    /// Somebody who is to be an admin has offered no key for it.
    #[error("{name} has offered no key to be an admin with")]
    NoOffer {
        /// Who.
        name: String,
    },
    /// Too few or too many admins, or signatures asked of them.
    #[error("of {admins} admins {k} cannot be asked to sign: {why}")]
    BadCouncil {
        /// How many admins.
        admins: usize,
        /// How many must sign.
        k: usize,
        /// What is asked for instead.
        why: &'static str,
    },
    /// No such proposal, or it is decided.
    #[error("there is no such proposal, or it is decided already")]
    NoProposal,
    /// This device's key signed it already.
    #[error("this device has signed it already")]
    Signed,
    /// Two sets of admins in place of the same ones exclude each other, and the later round stands.
    #[error(
        "this device has signed a set of admins that excludes this one, of the same round or a later one"
    )]
    SignedAnother,
    /// It names somebody with a key that no device of theirs ever offered.
    #[error("{name} has never offered the key that is proposed here in this name")]
    StrangeKey {
        /// Who.
        name: String,
    },
    /// It takes back what somebody said, besides taking them out.
    #[error("this proposal also undoes what was signed by those whom it takes out")]
    Undoes,
    /// The device of one of several admins.
    #[error("this is the device of an admin, whom one admin alone cannot take out")]
    AdminsDevice,
    /// A role this version does not give.
    #[error("this version invites responders only, not {role}")]
    RoleNotYet {
        /// What was asked for.
        role: Role,
    },
    /// A number or a time outside what is allowed.
    #[error("{what} must be from {least} to {most}, not {found}")]
    OutOfRange {
        /// Of what.
        what: &'static str,
        /// The smallest allowed.
        least: u64,
        /// The largest allowed.
        most: u64,
        /// What was asked for.
        found: u64,
    },
    /// No such member in the roster.
    #[error("no such member")]
    NoMember,
    /// Messages to oneself are not sent.
    #[error("this is you")]
    Yourself,
    /// That member's device has published no prekeys yet.
    #[error("{name} has no keys here yet")]
    NoKeys {
        /// Who.
        name: String,
    },
    /// No such device in the roster.
    #[error("no such device")]
    NoDevice,
    /// The device one sits at cannot be taken out from itself.
    #[error("this is the device you are using")]
    ThisDevice,
    /// No such conversation or number.
    #[error("no such conversation")]
    NoConversation,
    /// Only those whose role it is may alert.
    #[error("only an admin or alerter of the organisation may alert")]
    NotAlerter,
    /// No alert of that id.
    #[error("no such alert")]
    NoAlert,
    /// The alert offers words, and this is none of them.
    #[error("the alert can be answered with: {offered}")]
    NotOffered {
        /// The words.
        offered: String,
    },
    /// More than others would take of one device.
    #[error("this device has raised {most} alerts today, as many as others take")]
    TooManyAlerts {
        /// The bound.
        most: u32,
    },
    /// The invitation, its use or its proof was refused.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// Too many addresses were typed.
    #[error("at most {most} addresses are kept")]
    TooManyAddresses {
        /// The bound.
        most: usize,
    },
    /// The store could not take it.
    #[error("the store could not take it: {0}")]
    Store(String),
    /// Something that the code should have ruled out.
    #[error("internal: {0}")]
    Internal(&'static str),
}

/// Why somebody was not admitted, on either side of the join stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum JoinError {
    /// Its last valid moment has passed.
    #[error("the invitation has expired")]
    Expired,
    /// As many people as it was good for have used it.
    #[error("the invitation has been used already")]
    Used,
    /// Not signed by an admin of this organisation, altered, or for another one.
    #[error("the invitation is not valid here")]
    Invalid,
    /// Somebody of that name is a member.
    #[error("somebody of this name is a member already")]
    NameTaken,
    /// This member may not admit.
    #[error("this member may not admit; try another")]
    NotAdmitter,
    /// The admitter has not heard of what the invitation builds on.
    #[error("this member has not heard of the invitation yet; try another, or again later")]
    Behind,
    /// The admitter's log does not lead from the invitation's organisation to the device that answered.
    #[error("who answered is not a member of the invitation's organisation")]
    Impostor,
    /// The answer does not hold what was asked for.
    #[error("the answer does not admit this device")]
    BadAnswer,
}

impl JoinError {
    /// Returns the number on the wire; what only the joiner can find has none of its own.
    pub const fn code(&self) -> u32 {
        match self {
            Self::Expired => 1,
            Self::Used => 2,
            Self::Invalid | Self::Impostor | Self::BadAnswer => 3,
            Self::NameTaken => 4,
            Self::NotAdmitter => 5,
            Self::Behind => 6,
        }
    }

    /// Reads the number on the wire.
    pub const fn from_code(code: u32) -> Self {
        match code {
            1 => Self::Expired,
            2 => Self::Used,
            4 => Self::NameTaken,
            5 => Self::NotAdmitter,
            6 => Self::Behind,
            _ => Self::Invalid,
        }
    }
}
