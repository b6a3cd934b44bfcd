//! `/api/v1`: one file for each resource.

mod addresses;
mod alerts;
mod conversations;
mod events;
mod identity;
mod invites;
mod messages;
mod org;
mod peers;
mod service;

pub(crate) use peers::port_note;

use super::{
    Shared, body, places, problem,
    resources::{Resources, about},
    web,
};
use crate::{
    failure::Failure,
    schema::{
        AckRequest, Address, AddressAdd, Addresses, Alert, AlertRequest, Alerts, Conversations,
        Event, Health, Invite, InviteRequest, JoinRequest, Joined, Me, Members, MessagePage,
        Nothing, Org, Peers, ProposalRequest, ReadRequest, SendRequest, Sent, Signed, Stamp,
        Status, Stopping, WebSession, WebSessionRequest, WebTicket,
    },
};
use axum::{
    Router,
    response::{IntoResponse, Response},
};
use hyper::{StatusCode, header};
use problem::Refusal;
use serde::Serialize;

/// What handlers return.
type Answer<T> = Result<Reply<T>, Refusal>;

/// A JSON answer.
struct Reply<T>(T);

impl<T: Serialize> IntoResponse for Reply<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.0) {
            Ok(body) => {
                (StatusCode::OK, [(header::CONTENT_TYPE, "application/json")], body).into_response()
            }
            Err(e) => {
                Refusal(Failure::internal("an answer cannot be written").cause(e)).into_response()
            }
        }
    }
}

/// Says that this device can neither invite nor write to anybody yet.
fn no_org() -> Failure {
    Failure::new("no_org", "this device belongs to no organisation yet").hint(
        "join one: `oob join FILE`; to found one, start in a new folder: \
         `oob --home DIR init --name YOUR_NAME --org ORG_NAME`",
    )
}

/// Returns every route of the API with the document of them, and problems for everything else.
pub(super) fn routes() -> Router<Shared> {
    resources()
        .into_router()
        .fallback(no_such_resource)
        .method_not_allowed_fallback(method_not_allowed)
}

/// Names every resource with what it takes and gives: a line here is its route and its place in the document.
fn resources() -> Resources {
    Resources::new()
        .get(
            "/api/v1/health",
            about("Says that a daemon is here.").open().gives::<Health>(),
            service::health,
        )
        .get("/api/v1/me", about("Returns this device and its person.").gives::<Me>(), identity::me)
        .get(
            "/api/v1/members",
            about("Returns everybody in the organisation.").gives::<Members>(),
            identity::members,
        )
        .get(
            "/api/v1/status",
            about("Returns how this node stands and who is with it.").gives::<Status>(),
            peers::status,
        )
        .get(
            "/api/v1/peers",
            about("Returns every other device, those in reach first.").gives::<Peers>(),
            peers::peers,
        )
        .get(
            "/api/v1/addresses",
            about("Returns every address known here.").gives::<Addresses>(),
            addresses::list,
        )
        .post(
            "/api/v1/addresses",
            about("Keeps an address and tries it.").takes::<AddressAdd>().gives::<Address>(),
            addresses::add,
        )
        .get(
            "/api/v1/alerts",
            about("Returns the alerts kept here, newest first.").gives::<Alerts>(),
            alerts::list,
        )
        .post(
            "/api/v1/alerts",
            about("Alerts everybody.").takes::<AlertRequest>().gives::<Alert>(),
            alerts::raise,
        )
        .get(
            "/api/v1/alerts/{id}",
            about("Returns one alert and who has acknowledged it; a unique beginning of its id is enough.")
                .gives::<Alert>(),
            alerts::show,
        )
        .post(
            "/api/v1/alerts/{id}/ack",
            about("Acknowledges an alert, with a word or without.")
                .takes::<AckRequest>()
                .gives::<Alert>(),
            alerts::ack,
        )
        .post(
            "/api/v1/invites",
            about("Makes an invitation.").takes::<InviteRequest>().gives::<Invite>(),
            invites::issue,
        )
        .post(
            "/api/v1/join",
            about("Joins an organisation; answers when admitted.")
                .takes::<JoinRequest>()
                .gives::<Joined>(),
            invites::join,
        )
        .get(
            "/api/v1/org",
            about("Returns the organisation, who decides in it, and what waits for their signatures.")
                .gives::<Org>(),
            org::show,
        )
        .post(
            "/api/v1/org/offers",
            about("Makes a key that this device would be an admin with.")
                .takes::<Nothing>()
                .gives::<Nothing>(),
            org::offer,
        )
        .post(
            "/api/v1/org/proposals",
            about("Proposes who decides, or another name, and signs that.")
                .takes::<ProposalRequest>()
                .gives::<Signed>(),
            org::propose,
        )
        .post(
            "/api/v1/org/proposals/{id}/sign",
            about("Signs an open proposal; a unique beginning of its id is enough.")
                .takes::<Nothing>()
                .gives::<Signed>(),
            org::sign,
        )
        .get(
            "/api/v1/messages",
            about("Returns a page of a conversation, oldest first.")
                .query::<String>("target", true, "a name, or person:NAME")
                .query::<u64>("after", false, "only messages with a larger number")
                .query::<u64>("before", false, "the newest of those with a smaller number")
                .query::<u64>("limit", false, "at most so many, and 500")
                .query::<Stamp>("since", false, "only messages stored here at this moment or later")
                .gives::<MessagePage>(),
            messages::page,
        )
        .post(
            "/api/v1/messages",
            about("Sends a text, or several, one a line; each is durable when answered.")
                .takes_lines::<SendRequest>()
                .gives::<Sent>(),
            messages::send,
        )
        .get(
            "/api/v1/conversations",
            about("Returns the conversations this person can have.").gives::<Conversations>(),
            conversations::list,
        )
        .post(
            "/api/v1/conversations/{id}/read",
            about("Says up to where a conversation was shown.")
                .takes::<ReadRequest>()
                .gives::<Nothing>(),
            conversations::read,
        )
        .get(
            "/api/v1/events",
            about("Tells what happens; the id of each event resumes behind it.")
                .header::<u64>("Last-Event-ID", "the id of the last event that was read")
                .gives_events::<Event>(),
            events::stream,
        )
        .post(
            "/api/v1/web/ticket",
            about("Lets one browser in: the address is good once, for a minute.")
                .takes::<Nothing>()
                .gives::<WebTicket>(),
            web::ticket,
        )
        .post(
            web::SESSION_PATH,
            about("Trades a ticket for a session, kept in a cookie and a key.")
                .open()
                .takes::<WebSessionRequest>()
                .gives::<WebSession>(),
            web::session,
        )
        .post(
            "/api/v1/web/logout",
            about("Ends the session of a cookie.").takes::<Nothing>().gives::<Nothing>(),
            web::logout,
        )
        .post(
            "/api/v1/shutdown",
            about("Stops the daemon.").takes::<Nothing>().gives::<Stopping>(),
            service::shutdown,
        )
}

async fn no_such_resource() -> Refusal {
    Refusal(
        Failure::new("no_such_resource", "there is no such resource")
            .hint("resources start with /api/v1/"),
    )
}

async fn method_not_allowed() -> Refusal {
    Refusal(
        Failure::new("method_not_allowed", "this resource does not take this method")
            .hint("use GET to read and POST to change"),
    )
}
