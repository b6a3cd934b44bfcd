//! One of the three of a demo, what it is asked, and waiting for what it tells.

use crate::{
    client::{Client, EventStream},
    failure::Failure,
    launch::{Launch, Launched},
    schema::{Event, LogEntry, MessagePage, SendRequest, Sent, Status},
};
use serde_json::Value;
use std::{path::Path, time::Duration};
use tokio::time::{sleep_until, timeout};

/// Longest a single step may take; the slowest, starting three daemons, takes some seconds on a busy machine.
const STEP_TIME: Duration = Duration::from_secs(30);

/// How often a daemon is asked again when it tells nothing.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// One of the three while it runs: a daemon, a connection to it, and everything that happens in it.
pub(super) struct Actor {
    pub(super) name: &'static str,
    /// The person, once in the organisation.
    pub(super) member: String,
    pub(super) daemon: Launched,
    pub(super) client: Client,
    pub(super) events: EventStream,
}

impl Actor {
    /// Says whether this daemon has a link to a device of a person.
    pub(super) async fn reaches(&mut self, member: &str) -> Result<bool, Failure> {
        let status: Status = self.client.get("/api/v1/status").await?;
        Ok(status.peers.iter().any(|peer| peer.reachable && peer.member == member))
    }

    /// Says whether this daemon has an alert as its author wrote it.
    pub(super) async fn has_alert(
        &mut self,
        id: &str,
        author: &str,
        text: &str,
    ) -> Result<bool, Failure> {
        let found: Result<Value, Failure> = self.client.get(&format!("/api/v1/alerts/{id}")).await;
        match found {
            Ok(alert) if alert["author"] == author && alert["text"] == text => Ok(true),
            Ok(_) => Err(Failure::internal("another alert came than was raised")),
            Err(failure) if failure.code() == "not_found" => Ok(false),
            Err(failure) => Err(failure),
        }
    }
}

/// Starts a daemon and connects to it.
pub(super) async fn enter(name: &'static str, launch: &Launch) -> Result<Actor, Failure> {
    let daemon = launch.start().await?;
    let client = daemon.client().await?;
    let events = client.events(None).await?;
    Ok(Actor { name, member: String::new(), daemon, client, events })
}

/// Gives a step its time.
pub(super) async fn within<T>(
    step: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    timeout(STEP_TIME, step).await.unwrap_or_else(|_| {
        Err(Failure::new("timeout", format!("no evidence within {} s", STEP_TIME.as_secs()))
            .hint("run it again on a machine that is less busy; with --keep DIR its logs stay"))
    })
}

/// Returns a message from the log of an actor, if it is there.
pub(super) async fn logged(
    actor: &mut Actor,
    with: &str,
    id: &str,
) -> Result<Option<LogEntry>, Failure> {
    let page: MessagePage =
        actor.client.get(&format!("/api/v1/messages?target=person%3A{with}")).await?;
    Ok(page.messages.into_iter().find(|message| message.id == id))
}

pub(super) fn text_of(value: &Value, field: &str) -> Result<String, Failure> {
    let text = value[field].as_str().map(str::to_owned);
    text.ok_or_else(|| Failure::internal(format!("the daemon answered without {field}")))
}

/// Says whether a process that this one has waited for is gone.
pub(super) fn is_gone(pid: u32) -> bool {
    !Path::new("/proc").join(pid.to_string()).exists()
}

pub(super) fn nobody() -> Failure {
    Failure::internal("a daemon of the demo is missing")
}

pub(super) fn actor(actors: &mut [Option<Actor>], place: usize) -> Result<&mut Actor, Failure> {
    actors.get_mut(place).and_then(Option::as_mut).ok_or_else(nobody)
}

pub(super) async fn next(actor: &mut Actor) -> Result<Event, Failure> {
    match actor.events.next().await? {
        Some(numbered) => Ok(numbered.event),
        None => Err(Failure::internal(format!("the daemon of {} stopped", actor.name))),
    }
}

/// Waits until something happens, or long enough that looking again is worth it: not everything `status` shows is an event.
pub(super) async fn something(actor: &mut Actor) -> Result<(), Failure> {
    timeout(LOOK_AGAIN, next(actor)).await.map_or(Ok(()), |event| event.map(drop))
}

/// Sends, once the keys of the addressee have come: right after joining they may still be on their way.
pub(super) async fn send(author: &mut Actor, target: String, text: &str) -> Result<Sent, Failure> {
    let request = SendRequest { target, text: text.to_owned() };
    let mut pause = Duration::from_millis(10);
    loop {
        match author.client.post("/api/v1/messages", &request).await {
            Err(failure) if failure.code() == "no_keys" => {
                sleep_until(tokio::time::Instant::now() + pause).await;
                pause = (pause * 2).min(Duration::from_secs(1));
            }
            other => return other,
        }
    }
}

pub(super) async fn await_state(
    author: &mut Actor,
    message: &Sent,
    states: &[&str],
) -> Result<(), Failure> {
    loop {
        if let Event::Receipt { id, state, .. } = next(author).await?
            && id == message.id
            && states.contains(&state.as_str())
        {
            return Ok(());
        }
    }
}
