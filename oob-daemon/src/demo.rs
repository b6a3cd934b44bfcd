//! The demo: three real daemons on this machine meet and talk. A step is `ok` only by evidence from the daemon at the receiving
//! end; nothing is assumed from a call that returned.

use crate::{
    client::{Client, EventStream},
    failure::Failure,
    launch::{Launch, Launched},
    schema::{
        Conversations, Event, Invite, InviteRequest, JoinRequest, Joined, Members, Nothing,
        ReadRequest, SendRequest, Sent, Status, Step,
    },
    service::{millis, private_folder},
};
use futures::future::try_join_all;
use rand::RngExt;
use serde_json::{Value, json};
use std::{
    fs,
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{sleep_until, timeout},
};

/// The organisation and its people, all invented; the first founds it.
const ORG: &str = "Harbour Clinic";
const NAMES: [&str; 3] = ["Dana", "Sam", "Rosa"];
const TEXTS: [&str; 2] = ["Mail is compromised. Talk here.", "Understood, switching over."];

/// How often a daemon is asked again when it tells nothing.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// What a demo is to do.
pub(crate) struct Plan {
    /// End after the last step instead of going on until Ctrl-C.
    pub(crate) once: bool,
    /// Keep everything in this folder.
    pub(crate) keep: Option<PathBuf>,
    /// Time for all steps together.
    pub(crate) limit: Duration,
}

/// What a demo tells while it goes on.
pub(crate) enum Told<'a> {
    /// A step is done or has failed.
    Step(&'a Step),
    /// What the next step waits for.
    Waiting(&'a str),
    /// All steps are done and the daemons go on.
    Running { folder: &'a Path },
}

/// Runs the demo; returns how long its steps took. Every daemon is gone when this returns, and when it is dropped.
pub(crate) async fn run(plan: Plan, mut tell: impl FnMut(Told<'_>)) -> Result<Duration, Failure> {
    let mut terminate = signal(SignalKind::terminate())
        .map_err(|e| Failure::internal("signals cannot be heard").cause(e))?;
    let mut interrupt = signal(SignalKind::interrupt())
        .map_err(|e| Failure::internal("signals cannot be heard").cause(e))?;
    let folder = Folder::make(plan.keep)?;
    let began = Instant::now();
    let mut stage = Stage {
        folder: folder.path(),
        passphrase: folder.passphrase()?,
        actors: Vec::new(),
        step: "found",
        began,
        seen: Value::Null,
    };
    let outcome = tokio::select! {
        outcome = timeout(plan.limit, stage.play(&mut tell)) => outcome.unwrap_or_else(|_| {
            Err(Failure::new("timeout", format!("not done within {} s", plan.limit.as_secs_f64())).hint("give it more time: oob demo --timeout 300s"))
        }),
        _ = terminate.recv() => Err(stopped()),
        _ = interrupt.recv() => Err(stopped()),
    };
    let spent = began.elapsed();
    if let Err(failure) = &outcome {
        // The step that was under way has failed, and says how.
        let mut detail = json!({ "error": failure.code(), "message": failure.to_string() });
        if let Some(object) = detail.as_object_mut() {
            object.insert("hint".into(), failure.next().into());
            object.insert("seen".into(), stage.seen.take());
        }
        tell(Told::Step(&Step {
            step: stage.step.into(),
            ok: false,
            ms: millis(stage.began.elapsed()),
            detail,
        }));
    } else if !plan.once {
        tell(Told::Running { folder: stage.folder });
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
    tell(Told::Waiting("stopping the three daemons"));
    let ended = stage.end().await;
    drop(folder);
    outcome.and(ended).map(|()| spent)
}

fn stopped() -> Failure {
    Failure::new("demo_failed", "stopped before the last step")
        .hint("run it again: oob demo --once")
}

/// Where the homes are; removed at the end unless it is to be kept.
enum Folder {
    Temporary(tempfile::TempDir),
    Kept(PathBuf),
}

impl Folder {
    fn make(keep: Option<PathBuf>) -> Result<Self, Failure> {
        let Some(path) = keep else {
            let made = tempfile::Builder::new().prefix("oob-demo-").tempdir();
            return made
                .map(Self::Temporary)
                .map_err(|e| Failure::file("no temporary folder can be made", &e));
        };
        let path = std::path::absolute(&path)
            .map_err(|e| Failure::file(format!("folder {}", path.display()), &e))?;
        private_folder(&path)
            .map_err(|e| Failure::file(format!("folder {} cannot be made", path.display()), &e))?;
        let mut entries = fs::read_dir(&path)
            .map_err(|e| Failure::file(format!("folder {} cannot be read", path.display()), &e))?;
        if entries.next().is_some() {
            return Err(Failure::new("file_exists", format!("{} is not empty", path.display()))
                .hint("name a new folder: oob demo --keep DIR"));
        }
        Ok(Self::Kept(path))
    }

    fn path(&self) -> &Path {
        match self {
            Self::Temporary(dir) => dir.path(),
            Self::Kept(path) => path,
        }
    }

    /// Makes a passphrase for the three homes; it stays in a file beside those that are kept.
    fn passphrase(&self) -> Result<String, Failure> {
        let passphrase: String =
            rand::rng().random::<[u8; 16]>().iter().map(|byte| format!("{byte:02x}")).collect();
        if let Self::Kept(path) = self {
            let file = path.join("passphrase");
            let written = fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&file)
                .and_then(|mut f| writeln!(f, "{passphrase}"));
            written
                .map_err(|e| Failure::file(format!("{} cannot be written", file.display()), &e))?;
        }
        Ok(passphrase)
    }
}

/// One of the three: a daemon, a connection to it, and everything that happens in it.
struct Actor {
    name: &'static str,
    daemon: Launched,
    client: Client,
    events: EventStream,
}

struct Stage<'a> {
    folder: &'a Path,
    passphrase: String,
    actors: Vec<Actor>,
    step: &'static str,
    began: Instant,
    /// What the step under way has seen so far, for the case that it fails.
    seen: Value,
}

impl Stage<'_> {
    async fn play(&mut self, tell: &mut impl FnMut(Told<'_>)) -> Result<(), Failure> {
        self.begin("found", "making three identities and starting their daemons", tell);
        let detail = self.found().await?;
        self.earned(detail, tell);

        self.begin("invited", "making two invitations", tell);
        let (invites, detail) = self.invite().await?;
        self.earned(detail, tell);

        self.begin("joined", "two people join", tell);
        let detail = self.join(invites).await?;
        self.earned(detail, tell);

        self.begin("discovered", "everybody finds everybody", tell);
        let detail = self.discover().await?;
        self.earned(detail, tell);

        self.begin("delivered", "two messages go over", tell);
        let (sent, detail) = self.deliver().await?;
        self.earned(detail, tell);

        self.begin("read", "they are read", tell);
        let detail = self.read(&sent).await?;
        self.earned(detail, tell);
        Ok(())
    }

    fn begin(&mut self, step: &'static str, what: &str, tell: &mut impl FnMut(Told<'_>)) {
        (self.step, self.began, self.seen) = (step, Instant::now(), Value::Null);
        tell(Told::Waiting(what));
    }

    fn earned(&self, detail: Value, tell: &mut impl FnMut(Told<'_>)) {
        tell(Told::Step(&Step {
            step: self.step.into(),
            ok: true,
            ms: millis(self.began.elapsed()),
            detail,
        }));
    }

    /// Evidence: the first daemon itself says that it is in the organisation.
    async fn found(&mut self) -> Result<Value, Failure> {
        let starts = NAMES.iter().enumerate().map(|(place, name)| self.enter(name, place == 0));
        self.actors = try_join_all(starts).await?;
        let founder = actor(&mut self.actors, 0)?;
        let status: Status = founder.client.get("/api/v1/status").await?;
        if status.org_name.as_deref() != Some(ORG) || status.member.is_none() {
            return Err(Failure::internal(format!(
                "{} is not in {ORG} after founding it",
                founder.name
            )));
        }
        Ok(
            json!({ "org": ORG, "by": founder.name, "kdf_memory": "64MiB", "ready_ms": founder.daemon.ready().ready_ms, "kdf_ms": founder.daemon.ready().kdf_ms }),
        )
    }

    async fn enter(&self, name: &'static str, founds: bool) -> Result<Actor, Failure> {
        let launch =
            Launch::this_program(&self.folder.join(name.to_lowercase()), &self.passphrase)?
                .loopback();
        launch.init(name, founds.then_some(ORG)).await?;
        let daemon = launch.start().await?;
        let client = daemon.client().await?;
        let events = client.events(None).await?;
        Ok(Actor { name, daemon, client, events })
    }

    /// Evidence: two different links of the founder's daemon, good for one person each; whether they are, joining shows.
    async fn invite(&mut self) -> Result<(Vec<Invite>, Value), Failure> {
        let founder = actor(&mut self.actors, 0)?;
        let mut invites = Vec::new();
        for _ in 1..NAMES.len() {
            let request =
                InviteRequest { role: Some("responder".into()), uses: Some(1), life_ms: None };
            let invite: Invite = founder.client.post("/api/v1/invites", &request).await?;
            if !invite.link.starts_with("oob:join:") || invites.contains(&invite) {
                return Err(Failure::internal("an invitation is not one"));
            }
            invites.push(invite);
        }
        let expires = invites.first().map(|invite| invite.expires);
        let detail = json!({ "by": founder.name, "invites": invites.len(), "role": "responder", "expires": expires });
        Ok((invites, detail))
    }

    /// Evidence: the founder's daemon has both in its log of members and a link to them.
    async fn join(&mut self, invites: Vec<Invite>) -> Result<Value, Failure> {
        let (founder, others) = self.actors.split_first_mut().ok_or_else(nobody)?;
        let mut names = Vec::new();
        // One after the other, as people hand invitations over: the second hears from the founder where the first is.
        for (other, invite) in others.iter_mut().zip(invites) {
            let joined: Joined = other
                .client
                .post("/api/v1/join", &JoinRequest { invite: invite.link, name: None })
                .await?;
            loop {
                let members: Members = founder.client.get("/api/v1/members").await?;
                let status: Status = founder.client.get("/api/v1/status").await?;
                if members.members.iter().any(|known| known.member == joined.member)
                    && status
                        .peers
                        .iter()
                        .any(|peer| peer.member == joined.member && peer.reachable)
                {
                    break;
                }
                something(founder).await?;
            }
            names.push(other.name);
        }
        Ok(json!({ "members": names, "seen_by": founder.name, "in": ORG }))
    }

    /// Evidence: each daemon says that it has a link to both others, and which rung of discovery found them.
    async fn discover(&mut self) -> Result<Value, Failure> {
        let mut found = serde_json::Map::new();
        for actor in &mut self.actors {
            let status = loop {
                let status: Status = actor.client.get("/api/v1/status").await?;
                let near = status.peers.iter().filter(|peer| peer.reachable).count();
                if near == NAMES.len() - 1 {
                    break status;
                }
                self.seen = json!(format!(
                    "{} has a link to {near} of {} others",
                    actor.name,
                    NAMES.len() - 1
                ));
                something(actor).await?;
            };
            let rungs = status.peers.iter().map(|peer| {
                let rung = format!(
                    "{} over {}",
                    peer.found_by.as_deref().unwrap_or("unknown"),
                    peer.transport.as_deref().unwrap_or("unknown")
                );
                (peer.member_name.clone(), Value::from(rung))
            });
            found.insert(actor.name.to_owned(), Value::Object(rungs.collect()));
        }
        Ok(Value::Object(found))
    }

    /// Evidence: the event of the receiving daemon has the same id and text, and the author's daemon has the signed receipt.
    async fn deliver(&mut self) -> Result<(Vec<Sent>, Value), Failure> {
        let mut sent = Vec::new();
        let mut trips = Vec::new();
        // From the founder to one who joined, then between the two who joined: nothing passes through the founder.
        for ((from, to), text) in [(0, 1), (1, 2)].into_iter().zip(TEXTS) {
            let target = format!("person:{}", actor(&mut self.actors, to)?.name);
            let author = actor(&mut self.actors, from)?;
            let (author_name, began) = (author.name, Instant::now());
            let message = send(author, target, text).await?;
            let receiver = actor(&mut self.actors, to)?;
            loop {
                if let Event::Message { id, text: received, author_name: by, .. } =
                    next(receiver).await?
                    && id == message.id
                    && received == text
                    && by == author_name
                {
                    break;
                }
            }
            trips.push(json!(format!(
                "{author_name} to {} in {} ms",
                receiver.name,
                millis(began.elapsed())
            )));
            await_state(actor(&mut self.actors, from)?, &message, &["delivered", "read"]).await?;
            sent.push(message);
        }
        Ok((sent, json!({ "messages": trips })))
    }

    /// Evidence: the author's daemon has the reader's signed receipt.
    async fn read(&mut self, sent: &[Sent]) -> Result<Value, Failure> {
        let mut readers = Vec::new();
        for ((from, to), message) in [(0, 1), (1, 2)].into_iter().zip(sent) {
            let reader = actor(&mut self.actors, to)?;
            let all: Conversations = reader.client.get("/api/v1/conversations").await?;
            let conversation = all
                .conversations
                .into_iter()
                .find(|found| found.conversation == message.conversation);
            let latest =
                conversation.and_then(|conversation| conversation.latest).ok_or_else(|| {
                    Failure::internal("the message is not in the log of its receiver")
                })?;
            let path = format!("/api/v1/conversations/{}/read", message.conversation);
            let Nothing {} =
                reader.client.post(&path, &ReadRequest { up_to: latest.number }).await?;
            readers.push(json!(reader.name));
            await_state(actor(&mut self.actors, from)?, message, &["read"]).await?;
        }
        Ok(json!({ "by": readers }))
    }

    /// Stops every daemon, whatever happened, and says so if one would not.
    async fn end(&mut self) -> Result<(), Failure> {
        let stops = self.actors.drain(..).map(|actor| {
            let Actor { daemon, client, events, .. } = actor;
            drop((client, events));
            daemon.stop()
        });
        futures::future::join_all(stops).await.into_iter().collect()
    }
}

fn nobody() -> Failure {
    Failure::internal("a daemon of the demo is missing")
}

fn actor(actors: &mut [Actor], place: usize) -> Result<&mut Actor, Failure> {
    actors.get_mut(place).ok_or_else(nobody)
}

async fn next(actor: &mut Actor) -> Result<Event, Failure> {
    match actor.events.next().await? {
        Some(numbered) => Ok(numbered.event),
        None => Err(Failure::internal(format!("the daemon of {} stopped", actor.name))),
    }
}

/// Waits until something happens, or long enough that looking again is worth it: not everything `status` shows is an event.
async fn something(actor: &mut Actor) -> Result<(), Failure> {
    timeout(LOOK_AGAIN, next(actor)).await.map_or(Ok(()), |event| event.map(drop))
}

/// Sends, once the keys of the addressee have come: right after joining they may still be on their way.
async fn send(author: &mut Actor, target: String, text: &str) -> Result<Sent, Failure> {
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

async fn await_state(author: &mut Actor, message: &Sent, states: &[&str]) -> Result<(), Failure> {
    loop {
        if let Event::Receipt { id, state, .. } = next(author).await?
            && id == message.id
            && states.contains(&state.as_str())
        {
            return Ok(());
        }
    }
}
