//! Who decides in an organisation, and what waits to be decided.

use super::Name;
use oob_crypto::PublicKey;
use oob_proto::{MemberId, OpHash};

/// One admin's key, and who holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    /// What signs.
    pub key: PublicKey,
    /// Whose device it lies on; none for paper.
    pub member: Option<MemberId>,
    /// What stands on the paper.
    pub paper: Option<Name>,
    /// Whether a device of that person said that it has this key, or that it wrote it on this paper.
    pub offered: bool,
}

/// Those in office, and what enough of them have to sign yet.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CouncilView {
    /// By key.
    pub seats: Vec<Seat>,
    /// How many of them must sign what one may not do alone.
    pub k: usize,
    /// What is not signed by enough yet, oldest first.
    pub proposals: Vec<Proposal>,
    /// Keys people would be admins with, and on paper, that are none yet, oldest first.
    pub offers: Vec<Seat>,
}

/// Something that enough admins have to sign.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// The operation.
    pub op: OpHash,
    /// Milliseconds since 1970, by the clock of who proposed it.
    pub time_ms: u64,
    /// What it changes.
    pub change: Change,
    /// Who of those in office signed it; the first is who proposed it.
    pub signed: Vec<PublicKey>,
}

/// What a proposal changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Who the admins are.
    Admins {
        /// The new ones.
        seats: Vec<Seat>,
        /// How many of them must sign.
        k: usize,
        /// Of several that are signed the highest stands.
        round: u64,
    },
    /// The organisation's name.
    Name(Name),
}
