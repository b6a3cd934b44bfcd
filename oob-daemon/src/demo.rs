//! The demo: three real daemons on this machine meet, talk, raise an alert, and carry a message for one who is away while its
//! author goes away too. A step is `ok` only by evidence from the daemon at the receiving end, or from the system where a
//! process is to be gone; nothing is assumed from a call that returned.

use crate::{
    client::{Client, EventStream},
    failure::Failure,
    launch::{Launch, Launched},
    schema::{
        Conversations, Event, Invite, InviteRequest, JoinRequest, Joined, LogEntry, Members,
        MessagePage, Nothing, ReadRequest, SendRequest, Sent, Status, Step,
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

/// The alert, and what the others answer to it.
const ALERT: &str = "Ransomware on the file server. Leave your laptops on, unplug the network.";
const ANSWER: &str = "unplugged";

/// What is written to the one who is away.
const LATE: &str = "Backups are clean. Restore starts at noon.";

/// The three by what they do with it: written by the first, carried by the second, for the third.
const AUTHOR: usize = 0;
const CARRIER: usize = 1;
const RECEIVER: usize = 2;

/// Longest a single step may take; the slowest, starting three daemons, takes some seconds on a busy machine.
const STEP_TIME: Duration = Duration::from_secs(30);

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
    /// All steps are done and the daemons that are left go on. The page is that of one of them, whose link is good once.
    Running { folder: &'a Path, page: Option<&'a str> },
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
        launches: Vec::new(),
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
        let page = stage.page().await;
        tell(Told::Running { folder: stage.folder, page: page.as_deref() });
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    }
    tell(Told::Waiting("stopping the daemons"));
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

/// One of the three while it runs: a daemon, a connection to it, and everything that happens in it.
struct Actor {
    name: &'static str,
    /// The person, once in the organisation.
    member: String,
    daemon: Launched,
    client: Client,
    events: EventStream,
}

struct Stage<'a> {
    folder: &'a Path,
    passphrase: String,
    /// What each is started with, in the order of the names.
    launches: Vec<Launch>,
    /// None while one is stopped.
    actors: Vec<Option<Actor>>,
    step: &'static str,
    began: Instant,
    /// What the step under way has seen so far, for the case that it fails.
    seen: Value,
}

impl Stage<'_> {
    async fn play(&mut self, tell: &mut impl FnMut(Told<'_>)) -> Result<(), Failure> {
        self.begin("found", "making three identities and starting their daemons", tell);
        let detail = within(self.found()).await?;
        self.earned(detail, tell);

        self.begin("invited", "making two invitations", tell);
        let (invites, detail) = within(self.invite()).await?;
        self.earned(detail, tell);

        self.begin("joined", "two people join", tell);
        let detail = within(self.join(invites)).await?;
        self.earned(detail, tell);

        self.begin("discovered", "everybody finds everybody", tell);
        let detail = within(self.discover()).await?;
        self.earned(detail, tell);

        self.begin("delivered", "two messages go over", tell);
        let (sent, detail) = within(self.deliver()).await?;
        self.earned(detail, tell);

        self.begin("read", "they are read", tell);
        let detail = within(self.read(&sent)).await?;
        self.earned(detail, tell);

        self.begin("alert_raised", "an alert goes to everybody", tell);
        let (alert, detail) = within(self.raise()).await?;
        self.earned(detail, tell);

        self.begin("alert_acknowledged", "everybody acknowledges it", tell);
        let detail = within(self.acknowledge(&alert)).await?;
        self.earned(detail, tell);

        self.begin("receiver_stopped", "one of them goes away", tell);
        let detail = within(self.stop_receiver()).await?;
        self.earned(detail, tell);

        self.begin("sent_late", "a message is written to the one who is away", tell);
        let (late, detail) = within(self.send_late()).await?;
        self.earned(detail, tell);

        self.begin("held", "the third takes it to carry", tell);
        let detail = within(self.held(&late)).await?;
        self.earned(detail, tell);

        self.begin("sender_stopped", "its author goes away too", tell);
        let (pid, detail) = within(self.stop_sender()).await?;
        self.earned(detail, tell);

        self.begin("receiver_restarted", "the one who was away comes back", tell);
        let detail = within(self.restart_receiver()).await?;
        self.earned(detail, tell);

        self.begin("delivered_late", "the third hands the message over", tell);
        let detail = within(self.delivered_late(&late, pid)).await?;
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
        for name in NAMES {
            let home = self.folder.join(name.to_lowercase());
            self.launches.push(Launch::this_program(&home, &self.passphrase)?.loopback());
        }
        let founders = [Some(ORG), None, None];
        let all = NAMES.iter().zip(&self.launches).zip(founders);
        let starts = all.map(|((name, launch), founds)| async move {
            launch.init(name, founds).await?;
            enter(name, launch).await
        });
        self.actors = try_join_all(starts).await?.into_iter().map(Some).collect();
        let founder = actor(&mut self.actors, 0)?;
        let status: Status = founder.client.get("/api/v1/status").await?;
        let (Some(ORG), Some(member)) = (status.org_name.as_deref(), status.member) else {
            return Err(Failure::internal(format!(
                "{} is not in {ORG} after founding it",
                founder.name
            )));
        };
        founder.member = member;
        Ok(
            json!({ "org": ORG, "by": founder.name, "kdf_memory": "64MiB", "ready_ms": founder.daemon.ready().ready_ms, "kdf_ms": founder.daemon.ready().kdf_ms }),
        )
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
        let founder = founder.as_mut().ok_or_else(nobody)?;
        let mut names = Vec::new();
        // One after the other, as people hand invitations over: the second hears from the founder where the first is.
        for (other, invite) in others.iter_mut().flatten().zip(invites) {
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
            other.member = joined.member;
        }
        Ok(json!({ "members": names, "seen_by": founder.name, "in": ORG }))
    }

    /// Evidence: each daemon says that it has a link to both others, and which rung of discovery found them.
    async fn discover(&mut self) -> Result<Value, Failure> {
        let mut found = serde_json::Map::new();
        for actor in self.actors.iter_mut().flatten() {
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

    /// Evidence: the daemons of both others have the alert, with its author and text.
    async fn raise(&mut self) -> Result<(String, Value), Failure> {
        let author = actor(&mut self.actors, AUTHOR)?;
        let request = json!({ "text": ALERT, "severity": "critical" });
        let raised: Value = author.client.post("/api/v1/alerts", &request).await?;
        let id = text_of(&raised, "id")?;
        let by = author.member.clone();
        let mut reached = Vec::new();
        for place in [CARRIER, RECEIVER] {
            let other = actor(&mut self.actors, place)?;
            while !other.has_alert(&id, &by).await? {
                self.seen = json!({ "reached": reached });
                something(other).await?;
            }
            reached.push(other.name);
        }
        let detail = json!({ "by": NAMES.first(), "severity": "critical", "text": ALERT, "reached": reached });
        Ok((id, detail))
    }

    /// Evidence: the author's daemon counts both, by what they signed.
    async fn acknowledge(&mut self, id: &str) -> Result<Value, Failure> {
        let mut wanted = Vec::new();
        for place in [CARRIER, RECEIVER] {
            let other = actor(&mut self.actors, place)?;
            let path = format!("/api/v1/alerts/{id}/ack");
            let _alert: Value = other.client.post(&path, &json!({ "answer": ANSWER })).await?;
            wanted.push(other.member.clone());
        }
        let author = actor(&mut self.actors, AUTHOR)?;
        loop {
            let alert: Value = author.client.get(&format!("/api/v1/alerts/{id}")).await?;
            let acked = alert["acked"].as_array().map(Vec::as_slice).unwrap_or_default();
            let counts = |member: &String| {
                acked.iter().any(|ack| ack["member"] == **member && ack["answer"] == ANSWER)
            };
            if wanted.iter().all(counts) {
                let names: Vec<&Value> = acked.iter().map(|ack| &ack["name"]).collect();
                return Ok(
                    json!({ "seen_by": author.name, "acknowledged": acked.len(), "of": wanted.len(), "by": names, "answer": ANSWER }),
                );
            }
            self.seen = json!({ "acknowledged": acked.len(), "of": wanted.len() });
            something(author).await?;
        }
    }

    /// Evidence: the process is gone, and the daemons of both others have no link to it any more.
    async fn stop_receiver(&mut self) -> Result<Value, Failure> {
        let (name, member, pid) = self.stop(RECEIVER).await?;
        for place in [AUTHOR, CARRIER] {
            let other = actor(&mut self.actors, place)?;
            while other.reaches(&member).await? {
                self.seen = json!(format!("{} still thinks that {name} is in reach", other.name));
                something(other).await?;
            }
        }
        Ok(json!({ "name": name, "pid": pid, "missed_by": NAMES.get(..RECEIVER) }))
    }

    /// Evidence: it is in the log of its author's daemon, and not delivered.
    async fn send_late(&mut self) -> Result<(Sent, Value), Failure> {
        let to = NAMES.get(RECEIVER).ok_or_else(nobody)?;
        let author = actor(&mut self.actors, AUTHOR)?;
        let sent = send(author, format!("person:{to}"), LATE).await?;
        let entry = logged(author, to, &sent.id)
            .await?
            .ok_or_else(|| Failure::internal("the message is not in the log of its author"))?;
        if entry.text != LATE || !matches!(entry.state.as_str(), "stored" | "held") {
            return Err(Failure::internal(format!("the message is {} already", entry.state)));
        }
        let detail = json!({ "from": author.name, "to": to, "text": LATE, "state": entry.state });
        Ok((sent, detail))
    }

    /// Evidence: the author's daemon has the signed word of the third's that it carries the message.
    async fn held(&mut self, late: &Sent) -> Result<Value, Failure> {
        let to = NAMES.get(RECEIVER).ok_or_else(nobody)?;
        let carrier = actor(&mut self.actors, CARRIER)?.member.clone();
        let author = actor(&mut self.actors, AUTHOR)?;
        loop {
            let entry = logged(author, to, &late.id).await?;
            if let Some(entry) = entry.filter(|entry| entry.held_by.contains(&carrier)) {
                return Ok(
                    json!({ "held_by": entry.held_by, "names": entry.held_by_names, "for": to, "state": entry.state }),
                );
            }
            something(author).await?;
        }
    }

    /// Evidence: the process is gone.
    async fn stop_sender(&mut self) -> Result<(u32, Value), Failure> {
        let (name, _, pid) = self.stop(AUTHOR).await?;
        Ok((pid, json!({ "name": name, "pid": pid })))
    }

    /// Evidence: a new process of the same person has a link to the third, and to nobody else.
    async fn restart_receiver(&mut self) -> Result<Value, Failure> {
        let carrier = actor(&mut self.actors, CARRIER)?.member.clone();
        let (Some(name), Some(launch)) = (NAMES.get(RECEIVER), self.launches.get(RECEIVER)) else {
            return Err(nobody());
        };
        let back = enter(name, launch).await?;
        let place = self.actors.get_mut(RECEIVER).ok_or_else(nobody)?;
        let back = place.insert(back);
        while !back.reaches(&carrier).await? {
            something(back).await?;
        }
        let status: Status = back.client.get("/api/v1/status").await?;
        let near: Vec<String> = status
            .peers
            .into_iter()
            .filter(|peer| peer.reachable)
            .map(|peer| peer.member_name)
            .collect();
        back.member = status.member.ok_or_else(nobody)?;
        Ok(
            json!({ "name": name, "pid": back.daemon.ready().pid, "ready_ms": back.daemon.ready().ready_ms, "in_reach": near }),
        )
    }

    /// Evidence: the receiver's daemon has the text in its log, while no process of its author's is left and the third is the
    /// only one it has a link to.
    async fn delivered_late(&mut self, late: &Sent, author_pid: u32) -> Result<Value, Failure> {
        let (author, carrier_name) = (NAMES.get(AUTHOR).ok_or_else(nobody)?, NAMES.get(CARRIER));
        let carrier = actor(&mut self.actors, CARRIER)?.member.clone();
        let receiver = actor(&mut self.actors, RECEIVER)?;
        let entry = loop {
            match logged(receiver, author, &late.id).await? {
                Some(entry) => break entry,
                None => something(receiver).await?,
            }
        };
        let status: Status = receiver.client.get("/api/v1/status").await?;
        let near = status.peers.iter().filter(|peer| peer.reachable);
        let near: Vec<&str> = near.map(|peer| peer.member.as_str()).collect();
        if entry.text != LATE || near != [carrier.as_str()] || !is_gone(author_pid) {
            return Err(Failure::internal("the message did not come from the third alone"));
        }
        Ok(
            json!({ "from": carrier, "from_name": carrier_name, "author": author, "author_gone": true, "to": receiver.name, "text": entry.text }),
        )
    }

    /// Stops one of the three in order; returns its name, person and process, which is gone.
    async fn stop(&mut self, place: usize) -> Result<(&'static str, String, u32), Failure> {
        let actor = self.actors.get_mut(place).and_then(Option::take).ok_or_else(nobody)?;
        let Actor { name, member, daemon, client, events } = actor;
        let pid = daemon.ready().pid;
        drop((client, events));
        daemon.stop().await?;
        if !is_gone(pid) {
            return Err(Failure::internal(format!("process {pid} of {name} is still there")));
        }
        Ok((name, member, pid))
    }

    /// Asks for the address of a web page, good once; none where this version serves none.
    async fn page(&mut self) -> Option<String> {
        let receiver = actor(&mut self.actors, RECEIVER).ok()?;
        let ticket: Value = receiver.client.post("/api/v1/web/ticket", &Nothing {}).await.ok()?;
        ticket["url"].as_str().map(str::to_owned)
    }

    /// Stops every daemon, whatever happened, and says so if one would not.
    async fn end(&mut self) -> Result<(), Failure> {
        let stops = self.actors.drain(..).flatten().map(|actor| {
            let Actor { daemon, client, events, .. } = actor;
            drop((client, events));
            daemon.stop()
        });
        futures::future::join_all(stops).await.into_iter().collect()
    }
}

impl Actor {
    /// Says whether this daemon has a link to a device of a person.
    async fn reaches(&mut self, member: &str) -> Result<bool, Failure> {
        let status: Status = self.client.get("/api/v1/status").await?;
        Ok(status.peers.iter().any(|peer| peer.reachable && peer.member == member))
    }

    /// Says whether this daemon has an alert as its author wrote it.
    async fn has_alert(&mut self, id: &str, author: &str) -> Result<bool, Failure> {
        let found: Result<Value, Failure> = self.client.get(&format!("/api/v1/alerts/{id}")).await;
        match found {
            Ok(alert) if alert["author"] == author && alert["text"] == ALERT => Ok(true),
            Ok(_) => Err(Failure::internal("another alert came than was raised")),
            Err(failure) if failure.code() == "not_found" => Ok(false),
            Err(failure) => Err(failure),
        }
    }
}

/// Starts a daemon and connects to it.
async fn enter(name: &'static str, launch: &Launch) -> Result<Actor, Failure> {
    let daemon = launch.start().await?;
    let client = daemon.client().await?;
    let events = client.events(None).await?;
    Ok(Actor { name, member: String::new(), daemon, client, events })
}

/// Gives a step its time.
async fn within<T>(step: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    timeout(STEP_TIME, step).await.unwrap_or_else(|_| {
        Err(Failure::new("timeout", format!("no evidence within {} s", STEP_TIME.as_secs()))
            .hint("run it again on a machine that is less busy; with --keep DIR its logs stay"))
    })
}

/// Returns a message from the log of an actor, if it is there.
async fn logged(actor: &mut Actor, with: &str, id: &str) -> Result<Option<LogEntry>, Failure> {
    let page: MessagePage =
        actor.client.get(&format!("/api/v1/messages?target=person%3A{with}")).await?;
    Ok(page.messages.into_iter().find(|message| message.id == id))
}

fn text_of(value: &Value, field: &str) -> Result<String, Failure> {
    let text = value[field].as_str().map(str::to_owned);
    text.ok_or_else(|| Failure::internal(format!("the daemon answered without {field}")))
}

/// Says whether a process that this one has waited for is gone.
fn is_gone(pid: u32) -> bool {
    !Path::new("/proc").join(pid.to_string()).exists()
}

fn nobody() -> Failure {
    Failure::internal("a daemon of the demo is missing")
}

fn actor(actors: &mut [Option<Actor>], place: usize) -> Result<&mut Actor, Failure> {
    actors.get_mut(place).and_then(Option::as_mut).ok_or_else(nobody)
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
