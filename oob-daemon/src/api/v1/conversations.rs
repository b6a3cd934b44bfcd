//! `conversations`: those this person can have, and what of them was shown.

use super::{Answer, Reply, Shared, body::Json, messages::entry};
use crate::{
    failure::Failure,
    schema::{Conversation, Conversations, Nothing, ReadRequest},
};
use axum::extract::{Path, State};
use oob_core::ConversationId;

/// Messages looked at to count those not shown yet: nobody asks how many more than so many there are.
const UNREAD: usize = 100;

pub(super) async fn list(State(shared): State<Shared>) -> Answer<Conversations> {
    let Some(org) = shared.node.org() else {
        return Ok(Reply(Conversations { conversations: Vec::new() }));
    };
    let mut conversations = Vec::new();
    for member in org.members() {
        if member.me {
            continue;
        }
        let person = org.person(&member.id.to_string())?;
        let latest = person.latest(1).await?.pop();
        let unread = person.unread(UNREAD).await?;
        conversations.push(Conversation {
            conversation: person.conversation().to_string(),
            target: format!("person:{}", member.name),
            member: member.id.to_string(),
            latest: latest.map(entry),
            member_name: member.name,
            unread: u64::try_from(unread).unwrap_or(u64::MAX),
        });
    }
    conversations.sort_by(|a, b| a.target.cmp(&b.target));
    Ok(Reply(Conversations { conversations }))
}

pub(super) async fn read(
    State(shared): State<Shared>,
    Path(id): Path<String>,
    Json(request): Json<ReadRequest>,
) -> Answer<Nothing> {
    let unknown = || {
        Failure::new("not_found", "there is no such conversation")
            .hint("list them: GET /api/v1/conversations")
    };
    let id: ConversationId = id.parse().map_err(|_| unknown())?;
    let person = shared.node.person_of(id).ok_or_else(unknown)?;
    person.mark_read(request.up_to).await?;
    Ok(Reply(Nothing {}))
}
