//! One operation: its form and its signature, checked without knowing any other (docs/protocol.md, section 3.1).

use super::claim::Claim;
use oob_crypto::{
    PublicKey, SigningKey, body_hash, op_hash,
    signed::{sign, verify},
};
use oob_proto::{
    Incarnation, Message, OpHash, OrgId, limits,
    signing::{NO_ORG, SignedType},
    wire::{self, op_body::Kind},
};
use std::sync::Arc;

/// Why bytes are not an operation of this log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpError {
    /// Not of the form an operation has.
    #[error("not an operation")]
    Malformed,
    /// Over the bound.
    #[error("operation of {len} bytes, at most {} are allowed", limits::OP_BYTES)]
    TooLong {
        /// Its length.
        len: usize,
    },
    /// The author's signature does not hold.
    #[error("operation with a wrong signature")]
    Signature,
    /// Not the body that was signed.
    #[error("operation with another body than was signed")]
    Body,
    /// Of another organisation.
    #[error("operation of another organisation")]
    Foreign,
    /// It builds on operations not known here.
    #[error("operation whose parents are not known here")]
    Orphan,
    /// By a key that no operation here names, or that may not write this kind.
    #[error("operation of a stranger")]
    Stranger,
    /// By a key that has written too much, or one more than a log may have.
    #[error("one operation too many")]
    Full,
    /// It was put aside already.
    #[error("operation that was put aside already")]
    Again,
    /// Its place in its author's chain, or its lamport time, does not follow from its parents.
    #[error("operation out of its chain")]
    Chain,
}

impl OpError {
    /// Whether no correct neighbour sends such a one: each says an operation once on a stream, and has looked at it before.
    pub(crate) fn is_guilt(&self) -> bool {
        matches!(self, Self::Again | Self::Signature | Self::Body)
    }
}

/// The signed part, parsed.
#[derive(Debug, Clone)]
pub(crate) struct Header {
    pub(crate) author: PublicKey,
    pub(crate) incarnation: Incarnation,
    pub(crate) seq: u64,
    pub(crate) self_prev: Option<OpHash>,
    pub(crate) prev: Vec<OpHash>,
    pub(crate) lamport: u64,
    pub(crate) time_ms: u64,
    pub(crate) critical: bool,
}

impl Header {
    /// All operations it builds on.
    pub(crate) fn parents(&self) -> impl Iterator<Item = &OpHash> {
        self.self_prev.iter().chain(&self.prev)
    }
}

/// An operation whose form and signature hold; whether it counts is for the roster to say.
#[derive(Debug, Clone)]
pub(crate) struct CheckedOp {
    pub(crate) hash: OpHash,
    pub(crate) header: Header,
    /// None for a kind this version does not know.
    pub(crate) body: Option<Kind>,
    /// What it says of a device, if that holds.
    pub(crate) claim: Option<Arc<Claim>>,
    pub(crate) op: wire::Op,
}

impl CheckedOp {
    /// Its encoded length.
    pub(crate) fn len(&self) -> usize {
        self.op.encoded_len()
    }
}

/// Returns the hash an operation would have, before anything else is looked at.
pub(crate) fn hash_of(op: &wire::Op) -> Option<OpHash> {
    op.header.as_ref().map(|header| op_hash(&header.payload))
}

/// Checks form and signature of one operation.
///
/// # Errors
/// See [`OpError`]; parents are not looked at.
pub(crate) fn check(org: &OrgId, op: wire::Op) -> Result<CheckedOp, OpError> {
    let len = op.encoded_len();
    if len > limits::OP_BYTES {
        return Err(OpError::TooLong { len });
    }
    let signed = op.header.as_ref().ok_or(OpError::Malformed)?;
    let raw = wire::OpHeader::decode(signed.payload.as_slice()).map_err(|_| OpError::Malformed)?;
    let header = parse_header(&raw)?;
    let hash = op_hash(&signed.payload);
    let genesis = header.self_prev.is_none() && header.prev.is_empty();
    if genesis && hash.as_bytes() != org.as_bytes() {
        return Err(OpError::Foreign);
    }
    let named = if genesis { OrgId::from(NO_ORG) } else { *org };
    verify(SignedType::Op, &named, signed, &[header.author]).map_err(|_| OpError::Signature)?;
    if body_hash(&op.body).as_slice() != raw.body_hash {
        return Err(OpError::Body);
    }
    let body = wire::OpBody::decode(op.body.as_slice()).map_err(|_| OpError::Malformed)?.kind;
    if genesis != matches!(body, Some(Kind::Genesis(_))) {
        return Err(OpError::Malformed);
    }
    let claim = body.as_ref().and_then(|body| Claim::of(org, &header.author, body)).map(Arc::new);
    Ok(CheckedOp { hash, header, body, claim, op })
}

fn parse_header(raw: &wire::OpHeader) -> Result<Header, OpError> {
    let hash = |bytes: &Vec<u8>| OpHash::try_from(bytes.as_slice()).map_err(|_| OpError::Malformed);
    if raw.prev.len() > limits::OP_PARENTS || raw.circle > 1 || raw.body_hash.len() != 32 {
        return Err(OpError::Malformed);
    }
    let prev = raw.prev.iter().map(hash).collect::<Result<Vec<_>, _>>()?;
    // Ascending and distinct, so that one operation has one encoding of its parents.
    if !prev.is_sorted_by(|a, b| a < b) {
        return Err(OpError::Malformed);
    }
    let self_prev = if raw.self_prev.is_empty() { None } else { Some(hash(&raw.self_prev)?) };
    let incarnation = Incarnation(raw.incarnation);
    let author = PublicKey::parse(&raw.author).map_err(|_| OpError::Malformed)?;
    Ok(Header {
        author,
        incarnation,
        seq: raw.seq,
        self_prev,
        prev,
        lamport: raw.lamport,
        time_ms: raw.time,
        critical: raw.critical,
    })
}

/// What an author fills in.
pub(crate) struct Draft<'a> {
    pub(crate) incarnation: Incarnation,
    pub(crate) seq: u64,
    pub(crate) self_prev: Option<OpHash>,
    /// Ascending.
    pub(crate) prev: Vec<OpHash>,
    pub(crate) lamport: u64,
    pub(crate) time_ms: u64,
    pub(crate) circle: Circle,
    pub(crate) body: Kind,
    pub(crate) author: &'a SigningKey,
}

/// Who gets the body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Circle {
    Core,
    All,
}

/// Writes and signs an operation. In Genesis the organisation is not known yet and named by zeros.
pub(crate) fn write(org: Option<&OrgId>, draft: Draft<'_>) -> wire::Op {
    let body = wire::OpBody { kind: Some(draft.body) }.encode_to_vec();
    let header = wire::OpHeader {
        author: draft.author.public().to_vec(),
        incarnation: draft.incarnation.0,
        seq: draft.seq,
        self_prev: draft.self_prev.map(|hash| hash.to_vec()).unwrap_or_default(),
        prev: draft.prev.iter().map(OpHash::to_vec).collect(),
        lamport: draft.lamport,
        time: draft.time_ms,
        circle: match draft.circle {
            Circle::Core => 0,
            Circle::All => 1,
        },
        critical: true,
        body_hash: body_hash(&body).to_vec(),
    };
    let named = org.copied().unwrap_or_else(|| OrgId::from(NO_ORG));
    let signed = sign(SignedType::Op, &named, header.encode_to_vec(), &[draft.author]);
    wire::Op { header: Some(signed), body }
}
