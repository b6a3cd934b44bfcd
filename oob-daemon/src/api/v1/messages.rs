//! `messages`: sending, and reading a conversation page by page.

use super::{Answer, Reply, Shared, body::OneOrLines, problem::Refusal};
use crate::{
    failure::Failure,
    schema::{LogEntry, MessagePage, SendRequest, Sent, Stamp},
    target::Target,
};
use axum::{
    extract::{Query, State},
    response::{IntoResponse, Response},
};
use futures::{StreamExt, stream::FuturesOrdered};
use hyper::{StatusCode, header};
use oob_core::{Message, Person, Sending};
use serde::Deserialize;

/// Messages of one request on their way to the engine at once: what it takes into two batches, so that the next is there,
/// and whole, when one is durable. An eighth of what may wait for it, so that no request keeps others out.
const IN_FLIGHT: usize = 128;

/// Most messages of one page: 500 of the longest text, escaped, stay under what the client reads.
const PAGE: usize = 500;

pub(super) async fn send(
    State(shared): State<Shared>,
    body: Result<OneOrLines<SendRequest>, Refusal>,
) -> Response {
    match body {
        Err(refusal) => refusal.into_response(),
        Ok(OneOrLines::One(request)) => match send_one(&shared, request).await {
            Ok(sent) => Reply(sent).into_response(),
            Err(failure) => Refusal(failure).into_response(),
        },
        Ok(OneOrLines::Lines(requests)) => {
            let mut body = Vec::new();
            let mut under_way = FuturesOrdered::new();
            for request in requests {
                if under_way.len() >= IN_FLIGHT
                    && let Some(answer) = under_way.next().await
                {
                    write(&mut body, answer);
                }
                // Put in line one after the other, and only their answers are waited for together: tokio wakes futures that have
                // used up their turn last first, so in which order several are polled says nothing.
                let begun = match request {
                    Ok(request) => begin(&shared, request).await,
                    Err(failure) => Err(failure),
                };
                under_way.push_back(async { Ok(sent(begun?.stored().await?)) });
            }
            while let Some(answer) = under_way.next().await {
                write(&mut body, answer);
            }
            (StatusCode::OK, [(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response()
        }
    }
}

/// Writes one answer as a line.
fn write(body: &mut Vec<u8>, answer: Result<Sent, Failure>) {
    let written = match answer {
        Ok(sent) => serde_json::to_writer(&mut *body, &sent),
        Err(failure) => serde_json::to_writer(&mut *body, &failure.to_problem()),
    };
    if written.is_ok() {
        body.push(b'\n');
    }
}

async fn send_one(shared: &Shared, request: SendRequest) -> Result<Sent, Failure> {
    Ok(sent(begin(shared, request).await?.stored().await?))
}

async fn begin(shared: &Shared, request: SendRequest) -> Result<Sending, Failure> {
    Ok(find(shared, &request.target)?.begin_send(request.text).await?)
}

fn sent(sent: oob_core::Sent) -> Sent {
    Sent {
        id: sent.id.to_string(),
        conversation: sent.conversation.to_string(),
        state: "stored".to_owned(),
        number: sent.number,
    }
}

/// What part of a conversation is wanted.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    target: String,
    /// Only messages with a larger number.
    after: Option<u64>,
    /// Only messages with a smaller number, the newest of them; a number above the newest gives the newest.
    before: Option<u64>,
    /// At most so many; a page at most either way.
    limit: Option<usize>,
    /// Only messages stored here at this moment or later.
    since: Option<Stamp>,
}

pub(super) async fn page(
    State(shared): State<Shared>,
    wanted: Result<Query<Wanted>, axum::extract::rejection::QueryRejection>,
) -> Answer<MessagePage> {
    let Query(wanted) = wanted.map_err(|e| {
        Failure::new("bad_request", "the query is not what this resource takes")
            .cause(e.body_text())
            .hint("give target, and if wanted after or before, limit and since")
    })?;
    let person = find(&shared, &wanted.target)?;
    let limit = wanted.limit.unwrap_or(PAGE).clamp(1, PAGE);
    let found = match (wanted.after, wanted.before) {
        (Some(_), Some(_)) => {
            return Err(Failure::new("bad_request", "after and before exclude each other")
                .hint("ask for one side at a time")
                .into());
        }
        (after, None) => person.messages(after.unwrap_or(0), limit).await?,
        (None, Some(before)) => person.before(before, limit).await?,
    };
    let full = found.len() == limit;
    let (next, earlier) = match wanted.before {
        None => (found.last().filter(|_| full).map(|message| message.number), None),
        Some(_) => {
            (None, found.first().filter(|first| full && first.number > 1).map(|first| first.number))
        }
    };
    let messages = found
        .into_iter()
        .map(entry)
        .filter(|message| wanted.since.is_none_or(|since| message.received >= since))
        .collect();
    Ok(Reply(MessagePage {
        conversation: person.conversation().to_string(),
        messages,
        next,
        earlier,
    }))
}

fn find(shared: &Shared, target: &str) -> Result<Person, Failure> {
    let Target::Person(name) = Target::parse(target)?;
    let org = shared.node.org().ok_or_else(super::no_org)?;
    Ok(org.person(&name)?)
}

/// Writes a message as the log shows it.
pub(super) fn entry(message: Message) -> LogEntry {
    let (held_by, held_by_names) =
        message.held_by.into_iter().map(|(id, name)| (id.to_string(), name)).unzip();
    LogEntry {
        id: message.id.to_string(),
        conversation: message.conversation.to_string(),
        author: message.author_id.to_string(),
        text: message.text,
        sent: message.sent.into(),
        received: message.received.into(),
        state: message.state.as_str().to_owned(),
        held_by,
        held_by_names,
        author_name: message.author,
        number: message.number,
    }
}
