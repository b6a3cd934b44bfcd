//! `events`: what happens, as server-sent events. The id of each is its number in the store, so a reader that comes back with
//! `Last-Event-ID` misses nothing, also across restarts of the daemon.

use super::{Shared, places::Place, problem::Refusal};
use crate::api::web::Visit;
use crate::{failure::Failure, schema};
use axum::{
    Extension,
    extract::State,
    response::{
        IntoResponse, Response,
        sse::{self, KeepAlive, Sse},
    },
};
use futures::{Stream, StreamExt, future, stream};
use hyper::HeaderMap;
use oob_core::{Cursor, Event, Events};
use std::{convert::Infallible, time::Duration};

/// How often a quiet stream says that it is alive, so that a reader who is gone gives its place back.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

pub(super) async fn stream(
    State(shared): State<Shared>,
    Extension(place): Extension<Place>,
    visit: Option<Extension<Visit>>,
    headers: HeaderMap,
) -> Response {
    let cursor = match headers
        .get("last-event-id")
        .map(|id| id.to_str().ok().and_then(|id| id.trim().parse().ok()))
    {
        None => Cursor::Last,
        Some(Some(number)) => Cursor::After(number),
        Some(None) => {
            let failure = Failure::new("bad_request", "Last-Event-ID is not a number")
                .hint("send the id of the last event that was read");
            return Refusal(failure).into_response();
        }
    };
    if let Err(failure) = place.becomes_stream() {
        return Refusal(failure).into_response();
    }
    let events = shared.node.events(cursor);
    let stop = shared.stop.clone();
    // A browser hears no more than it may ask for.
    let over = async move {
        match visit {
            Some(Extension(visit)) => visit.ended().await,
            None => future::pending().await,
        }
    };
    let stream = numbered(events).take_until(stop.cancelled_owned()).take_until(Box::pin(over));
    Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE)).into_response()
}

fn numbered(events: Events) -> impl Stream<Item = Result<sse::Event, Infallible>> {
    stream::unfold(events, |mut events| async {
        loop {
            let (number, event) = events.next_numbered().await?;
            let Some(event) = written(event) else { continue };
            let Ok(data) = serde_json::to_string(&event) else { continue };
            let line = match number {
                Some(number) => sse::Event::default().id(number.to_string()),
                None => sse::Event::default(),
            };
            let line = line.data(data);
            return Some((Ok(line), events));
        }
    })
}

fn written(event: Event) -> Option<schema::Event> {
    Some(match event {
        Event::Message(message) => schema::Event::Message {
            id: message.id.to_string(),
            conversation: message.conversation.to_string(),
            author: message.author_id.to_string(),
            author_name: message.author,
            text: message.text,
            sent: message.sent.into(),
            received: message.received.into(),
            number: message.number,
            outgoing: message.outgoing,
        },
        Event::Receipt(receipt) => schema::Event::Receipt {
            id: receipt.message.to_string(),
            conversation: receipt.conversation.to_string(),
            state: receipt.state.as_str().to_owned(),
            delivered: receipt.delivered,
            expected: receipt.expected,
        },
        Event::Joined { member, name, device } => {
            schema::Event::Joined { member: member.to_string(), name, device: device.to_string() }
        }
        Event::Org { id, name } => schema::Event::Org { org: id.to_string(), name },
        Event::Alert(alert) => schema::Event::Alert {
            id: alert.id.to_string(),
            author: alert.author_id.to_string(),
            author_name: alert.author,
            severity: alert.severity.as_str().to_owned(),
            text: alert.text,
            issued: alert.issued.into(),
            expires: alert.expires.into(),
            outgoing: alert.outgoing,
        },
        Event::AlertAcked(acked) => schema::Event::AlertAcked {
            id: acked.alert.to_string(),
            member: acked.member.to_string(),
            name: acked.name,
            time: acked.time.into(),
            answer: acked.answer,
            acked: acked.acked,
            expected: acked.expected,
        },
        Event::Peer(peer) => schema::Event::Peer {
            member: peer.member.to_string(),
            device: peer.device.to_string(),
            reachable: peer.reachable,
        },
        Event::Lagged { missed } => schema::Event::Lagged { missed },
        _ => return None,
    })
}
