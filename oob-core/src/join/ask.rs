//! The side that wants in: finds a member, checks it, asks, and takes the answer.

use super::{
    Gate,
    line::{ANSWER, Line, LineError, STEP},
};
use crate::error::{Error, ErrorKind};
use futures::{StreamExt, stream::FuturesUnordered};
use oob_engine::{
    effect::{Answer, CommandError, JoinError},
    input::Command,
    model::Name,
};
use oob_mesh::{FoundBy, JoinStream, MeshError};
use oob_proto::{
    OrgId, TransportKey, limits,
    wire::{InviteLink, JoinProof, join_frame::Kind},
};
use std::{collections::BTreeMap, fmt, time::Duration};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep_until, timeout_at},
};

/// How long joining is tried in all: somebody who says "now" across the room is up by then.
const JOIN_TIME: Duration = Duration::from_secs(30);

/// How long it is tried when nobody has answered at all and nobody was seen: a wrong address is said soon.
const SILENT_TIME: Duration = Duration::from_secs(10);

/// Dials at once: an invitation names a handful of addresses, and mDNS may have seen a room full of others.
const CALLS: usize = 8;

/// Dials at once to one device: both its transports.
const CALLS_PER_DEVICE: usize = 2;

/// Addresses taken from one invitation, and from all other places.
const CANDIDATES: usize = 64;

/// After how long an address that came to nothing is tried again.
const AGAIN: Duration = Duration::from_secs(2);

/// How often what mDNS has seen meanwhile is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// A member that answered and waits for a request.
struct Ready {
    candidate: Candidate,
    line: Line<JoinStream>,
    transport: TransportKey,
    proof: JoinProof,
}

#[derive(Debug, Clone)]
struct Candidate {
    address: String,
    found_by: FoundBy,
}

impl Candidate {
    /// What stands for the device behind it: its peer id if the address names one.
    fn device(&self) -> &str {
        self.address.rsplit_once("/p2p/").map_or(self.address.as_str(), |(_, peer)| peer)
    }
}

/// Why one call, or one request, came to nothing.
#[derive(Debug, thiserror::Error)]
enum CallError {
    #[error(transparent)]
    Mesh(#[from] MeshError),
    #[error(transparent)]
    Line(#[from] LineError),
    /// The other side, or our own rules looking at it.
    #[error(transparent)]
    Refused(#[from] CommandError),
    #[error(transparent)]
    Node(#[from] Error),
}

impl CallError {
    /// Whether asking anybody else can only give the same.
    fn is_final(&self) -> bool {
        match self {
            Self::Mesh(MeshError::Stopped) | Self::Node(_) => true,
            Self::Refused(CommandError::Join(error)) => matches!(
                error,
                JoinError::Expired | JoinError::Used | JoinError::Invalid | JoinError::NameTaken
            ),
            Self::Refused(_) => true,
            Self::Mesh(_) | Self::Line(_) => false,
        }
    }

    fn answered(&self) -> bool {
        !matches!(self, Self::Mesh(_))
    }

    fn into_error(self) -> Error {
        match self {
            Self::Mesh(error) => error.into(),
            Self::Line(error) => {
                Error::new(ErrorKind::NotAdmitted, error.to_string()).with_source(error)
            }
            Self::Refused(error) => error.into(),
            Self::Node(error) => error,
        }
    }
}

/// What each address came to, as the cause of the error in the end.
#[derive(Debug)]
struct Tried(BTreeMap<String, String>);

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, (address, why)) in self.0.iter().enumerate() {
            let gap = if n == 0 { "" } else { "; " };
            write!(f, "{gap}{address}: {why}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Tried {}

/// Joins by an invitation; durable on return. `turn` lets one attempt of this node in at a time.
pub(crate) async fn ask(
    gate: &Gate,
    turn: &Semaphore,
    link: &InviteLink,
    name: Option<Name>,
) -> Result<(), Error> {
    let _turn = turn.acquire().await.map_err(|_| Error::closed())?;
    if gate.org().is_some() {
        return Err(CommandError::HasOrg.into());
    }
    let org = OrgId::try_from(link.org_id.as_slice())
        .map_err(|_| Error::from(CommandError::Join(JoinError::Invalid)))?;
    let start = Instant::now();
    let mut tried = BTreeMap::new();
    let mut answered: Option<CallError> = None;
    let mut due: BTreeMap<String, Instant> = BTreeMap::new();
    let mut calls = FuturesUnordered::new();
    let mut calling: Vec<Candidate> = Vec::new();
    loop {
        let candidates = candidates(gate, link);
        let strangers = candidates.iter().any(|candidate| candidate.found_by == FoundBy::Mdns);
        let time = if strangers || answered.is_some() { JOIN_TIME } else { SILENT_TIME };
        let end = start.checked_add(time).unwrap_or(start);
        let now = Instant::now();
        if now >= end {
            break;
        }
        for candidate in candidates {
            let busy = calling.iter().filter(|other| other.device() == candidate.device()).count();
            let known = calling.iter().any(|other| other.address == candidate.address);
            let early = due.get(&candidate.address).is_some_and(|due| *due > now);
            if calling.len() < CALLS && busy < CALLS_PER_DEVICE && !known && !early {
                calling.push(candidate.clone());
                calls.push(call(gate, org, candidate));
            }
        }
        let look = now.checked_add(LOOK).unwrap_or(end).min(end);
        let (candidate, outcome) = tokio::select! {
            Some(done) = calls.next() => done,
            () = sleep_until(look) => continue,
        };
        calling.retain(|other| other.address != candidate.address);
        let error = match outcome {
            // One request at a time: the other calls stand still meanwhile, and whoever tires of that is called again.
            Ok(ready) => match timeout_at(end, request(gate, link, &name, *ready)).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => error,
                Err(_) => CallError::Line(LineError::Late(time)),
            },
            Err(error) => error,
        };
        tracing::debug!(address = candidate.address, %error, "not admitted here");
        if error.is_final() {
            return Err(error.into_error());
        }
        tried.insert(candidate.address.clone(), error.to_string());
        due.insert(candidate.address, Instant::now().checked_add(AGAIN).unwrap_or(end));
        if error.answered() {
            answered = Some(error);
        }
    }
    Err(nobody(tried, answered, start.elapsed()))
}

fn nobody(tried: BTreeMap<String, String>, answered: Option<CallError>, after: Duration) -> Error {
    let seconds = after.as_secs().max(1);
    let error = match (answered, tried.len()) {
        (Some(last), _) => Error::new(
            ErrorKind::NotAdmitted,
            format!("nobody who answered in {seconds} s admitted this device: {last}"),
        ),
        (None, 0) => Error::new(
            ErrorKind::NobodyReachable,
            format!(
                "nobody reachable on this network: no mDNS answer in {seconds} s, and the invitation names no address"
            ),
        ),
        (None, 1) => Error::new(
            ErrorKind::NobodyReachable,
            format!("nobody answered in {seconds} s at the one address known"),
        ),
        (None, many) => Error::new(
            ErrorKind::NobodyReachable,
            format!("nobody answered in {seconds} s at any of {many} addresses"),
        ),
    };
    if tried.is_empty() { error } else { error.with_source(Tried(tried)) }
}

/// Where a member may be: as the invitation says, as a person typed, as mDNS and peers told, in this order.
fn candidates(gate: &Gate, link: &InviteLink) -> Vec<Candidate> {
    let invited = link
        .addresses
        .iter()
        .filter(|address| address.len() <= limits::ADDRESS_BYTES)
        .map(|address| Candidate { address: address.clone(), found_by: FoundBy::Invite });
    let known = gate.mesh.known().into_iter().chain(gate.mesh.seen_strangers());
    let known =
        known.map(|known| Candidate { address: known.to_multiaddr(), found_by: known.found_by });
    let mut all: Vec<Candidate> = Vec::new();
    for candidate in invited.take(CANDIDATES / 2).chain(known).take(CANDIDATES) {
        if all.iter().all(|other| other.address != candidate.address) {
            all.push(candidate);
        }
    }
    all
}

/// Calls one address, as far as the other side's proof.
async fn call(
    gate: &Gate,
    org: OrgId,
    candidate: Candidate,
) -> (Candidate, Result<Box<Ready>, CallError>) {
    let called = candidate.clone();
    let reach = async {
        let stream = gate.mesh.open_join(&candidate.address).await?;
        let transport = stream.remote;
        let mut line = Line::dial(stream, &org, &gate.keys.dnk).await?;
        let Kind::Proof(proof) = line.receive(limits::JOIN_BYTES, STEP).await? else {
            return Err(LineError::Unexpected.into());
        };
        Ok(Box::new(Ready { candidate, line, transport, proof }))
    };
    (called, reach.await)
}

/// Asks a member that answered; on success this device belongs to the organisation, durably.
async fn request(
    gate: &Gate,
    link: &InviteLink,
    name: &Option<Name>,
    ready: Ready,
) -> Result<(), CallError> {
    let Ready { candidate, mut line, transport, proof } = ready;
    let prepare = Command::PrepareJoin {
        link: Box::new(link.clone()),
        name: name.clone(),
        proof,
        handshake_hash: line.handshake_hash(),
        dnk: line.remote(),
        transport,
    };
    let Answer::Ask(ask) = gate.commands.try_run(prepare).await?? else {
        return Err(Error::internal("the rules answered a join with something else").into());
    };
    line.send(Kind::Request(*ask)).await?;
    let answer = match line.receive(limits::JOIN_BYTES, ANSWER).await? {
        Kind::Answer(answer) => answer,
        Kind::Refused(refused) => {
            return Err(CommandError::Join(JoinError::from_code(refused.code)).into());
        }
        _ => return Err(LineError::Unexpected.into()),
    };
    gate.commands.try_run(Command::FinishJoin { answer }).await??;
    gate.settled().await;
    line.into_pipe().close().await;
    let _ = gate.mesh.learn(Some(transport), &candidate.address, candidate.found_by).await;
    Ok(())
}
