//! `org`: who decides, what is proposed, and signing it.

use super::{Answer, Reply, Shared, body::Json};
use crate::{
    failure::Failure,
    schema::{Admin, Nothing, Org, Proposal, ProposalRequest, Signed},
    target::Target,
};
use axum::extract::{Path, State};
use oob_core::{Decision, Proposed};

pub(super) async fn show(State(shared): State<Shared>) -> Answer<Org> {
    let org = shared.node.org().ok_or_else(super::no_org)?;
    let council = org.council();
    Ok(Reply(Org {
        org: org.id().to_string(),
        name: org.name().to_owned(),
        members: org.members().len(),
        admins: admins(council.admins),
        k: council.k,
        proposals: council.proposals.into_iter().map(|one| proposal(one, council.k)).collect(),
        offers: admins(council.offers),
    }))
}

pub(super) async fn offer(
    State(shared): State<Shared>,
    Json(Nothing {}): Json<Nothing>,
) -> Answer<Nothing> {
    shared.node.org().ok_or_else(super::no_org)?.offer_admin().await?;
    Ok(Reply(Nothing {}))
}

pub(super) async fn propose(
    State(shared): State<Shared>,
    Json(request): Json<ProposalRequest>,
) -> Answer<Signed> {
    let org = shared.node.org().ok_or_else(super::no_org)?;
    let decision = match (request.admins, request.name) {
        (Some(names), None) => {
            let mut members = Vec::new();
            for name in &names {
                let Target::Person(name) = Target::parse(name)?;
                members.push(org.person(&name)?.id());
            }
            let k = request.k.unwrap_or(match members.len() {
                1 => 1,
                n => n / 2 + 1,
            });
            org.propose_admins(&members, k).await?
        }
        (None, Some(name)) if request.k.is_none() => org.propose_name(&name).await?,
        _ => {
            return Err(Failure::new("bad_request", "one thing is proposed at a time")
                .hint("give admins, with k or without, or name")
                .into());
        }
    };
    Ok(Reply(decision.into()))
}

pub(super) async fn sign(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    Json(Nothing {}): Json<Nothing>,
) -> Answer<Signed> {
    let org = shared.node.org().ok_or_else(super::no_org)?;
    let id = org.proposal(&id)?.id;
    Ok(Reply(org.sign(id).await?.into()))
}

impl From<Decision> for Signed {
    fn from(decision: Decision) -> Self {
        Self {
            proposal: decision.id.to_string(),
            decided: decision.decided,
            missing: decision.missing,
        }
    }
}

fn proposal(proposal: oob_core::Proposal, needed: usize) -> Proposal {
    let (kind, new, k, name) = match proposal.change {
        Proposed::Admins { admins: new, k } => ("admins", Some(admins(new)), Some(k), None),
        Proposed::Name(name) => ("name", None, None, Some(name)),
        _ => ("other", None, None, None),
    };
    Proposal {
        proposal: proposal.id.to_string(),
        time: proposal.time.into(),
        kind: kind.to_owned(),
        admins: new,
        k,
        name,
        signed: admins(proposal.signed),
        missing: admins(proposal.missing),
        needed,
    }
}

fn admins(admins: Vec<oob_core::Admin>) -> Vec<Admin> {
    let one = |admin: oob_core::Admin| Admin {
        key: admin.key,
        member: admin.member.map(|member| member.to_string()),
        name: admin.name,
        me: admin.me,
        offered: admin.offered,
    };
    admins.into_iter().map(one).collect()
}
