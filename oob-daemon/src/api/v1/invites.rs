//! `invites` and `join`.

use super::{Answer, Reply, Shared, body::Json};
use crate::{
    failure::Failure,
    place,
    schema::{Invite, InviteRequest, JoinRequest, Joined},
};
use axum::extract::State;
use oob_core::{InviteOptions, Role};
use std::time::Duration;

pub(super) async fn issue(
    State(shared): State<Shared>,
    Json(request): Json<InviteRequest>,
) -> Answer<Invite> {
    let org = shared.node.org().ok_or_else(super::no_org)?;
    let mut options = InviteOptions::default();
    if let Some(role) = request.role {
        options.role = role.parse::<Role>().map_err(|()| {
            Failure::new("bad_role", format!("{role:?} is not a role"))
                .hint("this version invites responders only: oob invite --out FILE")
        })?;
    }
    options.uses = request.uses.unwrap_or(options.uses);
    options.life = request.life_ms.map_or(options.life, Duration::from_millis);
    let issued = org.invite(options).await?;
    Ok(Reply(Invite {
        invite: None,
        link: issued.invite.to_string(),
        role: issued.role.as_str().to_owned(),
        expires: issued.expires.into(),
    }))
}

pub(super) async fn join(
    State(shared): State<Shared>,
    Json(request): Json<JoinRequest>,
) -> Answer<Joined> {
    let invite: oob_core::Invite = request.invite.parse()?;
    // In a task of its own: whoever asked may hang up, what was begun is finished either way.
    let node = shared.node.clone();
    let joining = tokio::spawn(async move {
        match request.name {
            Some(name) => node.join_as(invite, &name).await,
            None => node.join(invite).await,
        }
    });
    let joined = joining.await.map_err(|e| Failure::internal("joining broke off").cause(e))?;
    joined.map_err(|error| Failure::from(error).causes_by(place::tried))?;
    let me = shared.node.me();
    match (me.member, me.org) {
        (Some(member), Some(org)) => Ok(Reply(Joined {
            member: member.to_string(),
            org: org.id.to_string(),
            name: me.name,
            org_name: org.name,
        })),
        _ => Err(Failure::internal("joined, and yet in no organisation").into()),
    }
}
