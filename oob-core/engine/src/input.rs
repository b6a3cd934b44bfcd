//! What comes in: commands of people, links, and frames that passed screening.

pub use crate::model::{LinkId, Ticket};

use crate::{
    envelope::Screened,
    model::{AlertAnswer, AlertText, DeviceClass, Name, Role, Severity, Text},
};
use oob_crypto::DhPublic;
use oob_proto::{AlertId, ConversationId, DeviceId, MemberId, OpHash, TransportKey, wire};

/// One thing that happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Input {
    /// Somebody wants something done.
    Command {
        /// For the reply.
        ticket: Ticket,
        /// What.
        command: Box<Command>,
    },
    /// A stream to a neighbour is up in both directions.
    LinkUp {
        /// The stream.
        link: LinkId,
        /// The neighbour, as the transport proved it.
        peer: TransportKey,
    },
    /// A stream ended.
    LinkDown {
        /// The stream.
        link: LinkId,
    },
    /// Frames of one stream, in the order they came.
    Frames {
        /// The stream.
        link: LinkId,
        /// What screening made of them.
        frames: Vec<Arrived>,
    },
    /// A frame that came by gossip and passed screening.
    Gossip {
        /// The neighbour that passed it on.
        from: TransportKey,
        /// What screening made of it.
        frame: Box<Arrived>,
    },
    /// Where this device listens now; told to neighbours in Hello and put into invitations.
    Listening {
        /// Multiaddrs with the peer id.
        addresses: Vec<String>,
    },
    /// Time has passed; see `Engine::next_deadline`.
    Tick,
}

/// One frame behind screening.
#[derive(Debug)]
pub struct Arrived {
    /// Encoded length, for the credit given back.
    pub bytes: u64,
    /// How old the neighbour says the record is, seconds.
    pub age_s: u32,
    /// What it is.
    pub frame: Screened,
}

/// What people and programs may ask for.
#[derive(Debug)]
#[non_exhaustive]
pub enum Command {
    /// Founds an organisation with this device's person as its first admin. Reply: `Org`.
    Found {
        /// Name of the organisation.
        name: Name,
    },
    /// Makes an invitation. Reply: `Invited`.
    Invite {
        /// Highest role it gives.
        role: Role,
        /// How many people may use it.
        uses: u32,
        /// How long it is good, milliseconds.
        life_ms: u64,
        /// The person meant, if one is.
        name: Option<Name>,
    },
    /// Admitter: the operations from Genesis to this device. Reply: `Proof`.
    JoinProof,
    /// Admitter: decides on a request. Reply: `Answer`, or an error with a `JoinRefused` code.
    Admit {
        /// What the joiner sent.
        ask: wire::JoinAsk,
        /// Of the Noise handshake it came by.
        handshake_hash: [u8; 32],
        /// The X25519 key the handshake proved.
        dnk: DhPublic,
        /// The key the transport proved.
        transport: TransportKey,
    },
    /// Joiner: checks the admitter's proof and makes the request; all its keys are durable with the reply. Reply: `Ask`.
    PrepareJoin {
        /// The invitation.
        link: Box<wire::InviteLink>,
        /// Another name than the one given at `init`.
        name: Option<Name>,
        /// What the admitter sent.
        proof: wire::JoinProof,
        /// Of the Noise handshake.
        handshake_hash: [u8; 32],
        /// The X25519 key the handshake proved.
        dnk: DhPublic,
        /// The key the transport proved.
        transport: TransportKey,
    },
    /// Joiner: checks and takes the answer. Reply: `Org`.
    FinishJoin {
        /// What the admitter sent.
        answer: wire::JoinAnswer,
    },
    /// What this device shows to a member that has not heard of it: its redemption and the ancestors. Reply: `Show`.
    JoinShow,
    /// Takes a device out of the organisation for good: any other by the admin, one's own others by anybody. New epochs
    /// follow in the same batch. Only the engine and the simulator have this so far. Reply: `Done`.
    RevokeDevice {
        /// Which.
        device: DeviceId,
    },
    /// Makes a key that this device would be an admin with, and says so in the log. Reply: `Done`.
    OfferAdmin,
    /// Proposes who the admins are, and signs that. Each must have offered a key. Reply: `Proposed`.
    ProposeAdmins {
        /// The people, this one among them or not.
        members: Vec<MemberId>,
        /// How many of them must sign what one may not do alone.
        k: usize,
    },
    /// Proposes another name for the organisation, and signs that. Reply: `Proposed`.
    ProposeName {
        /// The name.
        name: Name,
    },
    /// Signs what somebody proposed. Reply: `Proposed`.
    SignProposal {
        /// Which.
        op: OpHash,
    },
    /// Takes operations that somebody showed; they are checked like any others. Reply: `Done`.
    Learn {
        /// The operations, parents first.
        ops: Vec<wire::Op>,
    },
    /// Sends a text to a person. Reply: `Sent`, once durable.
    Send {
        /// To whom.
        to: MemberId,
        /// What.
        text: Text,
    },
    /// The messages of a conversation up to and including a number were shown here. Reply: `Done`.
    MarkRead {
        /// Where.
        conversation: ConversationId,
        /// `Message::number` of the newest shown.
        up_to: u64,
    },
    /// Alerts everybody. Reply: `Alert`, once durable.
    RaiseAlert {
        /// How much it asks for.
        severity: Severity,
        /// What.
        text: AlertText,
        /// How long it asks for attention, milliseconds; at most seven days.
        life_ms: u64,
        /// Words to answer with, at most eight; none: any.
        answers: Vec<AlertAnswer>,
    },
    /// Answers an alert for this device's person: a word, or none for "seen". Reply: `Done`.
    AckAlert {
        /// Which.
        id: AlertId,
        /// What.
        answer: Option<AlertAnswer>,
    },
    /// Keeps an address typed by a person. Reply: `Done`.
    AddAddress {
        /// Multiaddr.
        address: String,
    },
    /// Says what kind of device this is; only before it is certified. Reply: `Done`.
    SetDevice {
        /// How much it is its owner's own.
        class: DeviceClass,
        /// Where it stands.
        site: String,
    },
}
