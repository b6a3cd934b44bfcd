//! People with a daemon each, who write to each other while the test listens to all of them: what was acknowledged, what
//! came, and when, by one clock.

use crate::harness::{Home, binary, parts};
use oob_netlab::Host;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    io::{self, BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// News not looked at yet. Whoever has more to tell waits, so it is more than a test makes in one step.
const NEWS: usize = 1 << 16;

/// After this long without news the state of things is looked at again.
const LOOK: Duration = Duration::from_millis(250);

/// Longest wait for one answer of the local API, on a machine that does much else.
const ANSWER: Duration = Duration::from_secs(60);

/// Most messages that `log` gives in one page.
const PAGE: usize = 500;

/// What somebody tells the test.
#[derive(Debug)]
pub(crate) enum News {
    /// A daemon said this on its stream of events.
    Event { person: usize, event: Value, at: Instant },
    /// A daemon acknowledged a message.
    Acknowledged(Sent),
    /// It was gone before it answered, so the message may be there or not.
    Doubtful { from: usize, to: usize, text: String },
}

/// A message that a daemon has acknowledged.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) id: String,
    pub(crate) from: usize,
    pub(crate) to: usize,
    /// When the daemon was asked to take it.
    pub(crate) began: Instant,
}

/// One person, their home, and where their daemon runs.
pub(crate) struct Person {
    pub(crate) name: &'static str,
    // Ended before the home goes.
    daemon: Option<Daemon>,
    pub(crate) home: Home,
    pub(crate) host: Option<Host>,
    /// Listens where it did before, as a daemon with a fixed port does.
    listen: Vec<String>,
    /// The last event heard.
    last: Arc<AtomicU64>,
}

/// A running daemon and whoever hears its events.
struct Daemon {
    process: Child,
    listener: Option<JoinHandle<()>>,
}

impl Daemon {
    /// Kills it with -9, and waits until all it said was heard.
    fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _killed = self.process.kill();
        let _reaped = self.process.wait();
        if let Some(listener) = self.listener.take() {
            let _heard = listener.join();
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.end();
    }
}

/// The people, and all that was heard of them.
pub(crate) struct Crowd {
    pub(crate) people: Vec<Person>,
    pub(crate) ledger: Ledger,
    tell: SyncSender<News>,
    news: Receiver<News>,
}

/// What was acknowledged, and what became of it.
#[derive(Default)]
pub(crate) struct Ledger {
    /// In the order in which each pair's were acknowledged.
    sent: BTreeMap<(usize, usize), Vec<String>>,
    /// The same by their ids.
    pub(crate) messages: BTreeMap<String, Sent>,
    /// Texts that were not acknowledged.
    doubtful: BTreeSet<(usize, usize, String)>,
    /// When they were first heard of at the addressee's.
    pub(crate) came: BTreeMap<String, Instant>,
    /// When their authors heard that somebody carries them.
    pub(crate) held: BTreeMap<String, Instant>,
    /// When their authors heard that they came.
    pub(crate) delivered: BTreeMap<String, Instant>,
    /// How many acknowledged messages of each pair were told to have come.
    pub(crate) done: BTreeMap<(usize, usize), u64>,
    /// Every other event, with who said it.
    pub(crate) others: Vec<(usize, Value, Instant)>,
    twice: Vec<(usize, String)>,
}

impl Ledger {
    fn note(&mut self, news: News) {
        match news {
            News::Acknowledged(sent) => {
                let pair = (sent.from, sent.to);
                self.sent.entry(pair).or_default().push(sent.id.clone());
                // The receipt may have been quicker than the answer.
                *self.done.entry(pair).or_default() +=
                    u64::from(self.delivered.contains_key(&sent.id));
                assert!(
                    self.messages.insert(sent.id.clone(), sent).is_none(),
                    "one id for two messages"
                );
            }
            News::Doubtful { from, to, text } => {
                self.doubtful.insert((from, to, text));
            }
            News::Event { person, event, at } => {
                let id = event["id"].as_str().unwrap_or_default().to_owned();
                match (event["type"].as_str(), event["state"].as_str(), &event["outgoing"]) {
                    (Some("message"), _, Value::Bool(false)) => {
                        if self.came.insert(id.clone(), at).is_some() {
                            self.twice.push((person, id));
                        }
                    }
                    (Some("receipt"), Some("held"), _) => {
                        self.held.entry(id).or_insert(at);
                    }
                    (Some("receipt"), Some("delivered" | "read"), _) => {
                        if let Some(sent) = self.messages.get(&id)
                            && !self.delivered.contains_key(&id)
                        {
                            *self.done.entry((sent.from, sent.to)).or_default() += 1;
                        }
                        self.delivered.entry(id).or_insert(at);
                    }
                    _ => self.others.push((person, event, at)),
                }
            }
        }
    }

    /// Those acknowledged of which no receipt came yet.
    pub(crate) fn open(&self) -> impl Iterator<Item = &Sent> {
        self.messages.values().filter(|sent| !self.delivered.contains_key(&sent.id))
    }

    /// How long it took, from asking the sender's daemon to the event of the addressee's, in ascending order.
    pub(crate) fn latencies<'a>(&self, of: impl IntoIterator<Item = &'a String>) -> Vec<Duration> {
        let took = |id: &String| {
            Some(self.came.get(id)?.saturating_duration_since(self.messages.get(id)?.began))
        };
        let mut all: Vec<_> = of.into_iter().filter_map(took).collect();
        all.sort_unstable();
        all
    }
}

/// The value at this part of a sorted list, in milliseconds.
pub(crate) fn quantile(sorted: &[Duration], part: f64) -> f64 {
    let place = (part * (sorted.len() - 1) as f64).round() as usize;
    ms(sorted[place])
}

pub(crate) fn ms(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 10_000.0).round() / 10.0
}

impl Crowd {
    /// Makes people with identities; the first founds the organisation. Nobody's daemon runs yet.
    pub(crate) fn of(names: &[&'static str]) -> Self {
        let (tell, news) = sync_channel(NEWS);
        let person = |(number, name): (usize, &&'static str)| Person {
            name,
            daemon: None,
            home: Home::of(name, (number == 0).then_some("Harbour Clinic")),
            host: None,
            listen: Vec::new(),
            last: Arc::default(),
        };
        let people = names.iter().enumerate().map(person).collect();
        Self { people, ledger: Ledger::default(), tell, news }
    }

    /// The same, all of one organisation, met on the loopback interface; every daemon is stopped again.
    pub(crate) fn met(names: &[&'static str]) -> Self {
        let mut crowd = Self::of(names);
        crowd.start(0);
        for number in 1..names.len() {
            crowd.start(number);
            crowd.join(number);
        }
        crowd.know_each_other(Duration::from_secs(120));
        for number in 0..names.len() {
            crowd.stop(number);
        }
        crowd
    }

    /// Joins with an invitation of the first person.
    pub(crate) fn join(&mut self, number: usize) {
        let invite = self.people[0].home.invite();
        self.people[number].home.json(&["join", invite.to_str().unwrap()]);
    }

    /// Waits until everybody knows everybody and is in reach of everybody.
    pub(crate) fn know_each_other(&mut self, limit: Duration) -> Duration {
        let all = self.people.len();
        self.until("everybody to be in reach of everybody", limit, |crowd| {
            (0..all).all(|number| {
                let island = &crowd.status(number)["island"];
                island["of"] == all && island["with"] == all
            })
        })
    }

    /// Starts a person's daemon: on their host as anybody would, or else on free ports of the loopback interface.
    pub(crate) fn start(&mut self, number: usize) {
        let person = &mut self.people[number];
        assert!(person.daemon.is_none(), "{} is up already", person.name);
        let mut arguments = vec!["--json", "up", "--foreground"];
        let command = match &person.host {
            Some(host) => host.command(binary()),
            None => {
                if person.listen.is_empty() {
                    person.listen = ["/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/udp/0/quic-v1"]
                        .map(str::to_owned)
                        .to_vec();
                }
                arguments.extend(["--no-mdns", "--no-beacon"]);
                arguments.extend(person.listen.iter().flat_map(|at| ["--listen", at.as_str()]));
                Command::new(binary())
            }
        };
        let mut command = person.home.wrap(command, &arguments);
        let said = person.home.dir.path().join("said");
        let stderr = fs::File::create(&said).unwrap();
        let mut process = command.stdout(Stdio::piped()).stderr(stderr).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|_| {
            panic!("{}: {line}{}", person.name, fs::read_to_string(&said).unwrap())
        });
        if person.host.is_none() {
            let listen = ready["listen"].as_array().unwrap();
            person.listen = listen
                .iter()
                .map(|at| at.as_str().unwrap().split("/p2p/").next().unwrap().to_owned())
                .collect();
        }
        let stream = events(&person.socket(), person.last.load(Ordering::Relaxed)).unwrap();
        let (last, tell) = (Arc::clone(&person.last), self.tell.clone());
        let listener = std::thread::spawn(move || listen(number, stream, &last, &tell));
        person.daemon = Some(Daemon { process, listener: Some(listener) });
    }

    /// Stops a person's daemon in good order.
    pub(crate) fn stop(&mut self, number: usize) {
        let person = &mut self.people[number];
        let mut daemon = person.daemon.take().unwrap();
        person.home.json(&["down"]);
        assert!(daemon.process.wait().unwrap().success());
        drop(daemon);
    }

    /// Kills a person's daemon with -9.
    pub(crate) fn kill(&mut self, number: usize) {
        self.people[number].daemon.take().unwrap().kill();
    }

    pub(crate) fn teller(&self) -> SyncSender<News> {
        self.tell.clone()
    }

    pub(crate) fn status(&self, number: usize) -> Value {
        let (status, body) =
            ask(&self.people[number].socket(), "GET", "/api/v1/status", None).unwrap();
        assert_eq!(status, 200, "{body}");
        body
    }

    /// Sends a message and returns its id.
    #[track_caller]
    pub(crate) fn send(&mut self, from: usize, to: usize, text: &str) -> String {
        let began = Instant::now();
        let id = send(&self.people[from].socket(), self.people[to].name, text)
            .unwrap_or_else(|e| panic!("{} did not take {text:?}: {e}", self.people[from].name));
        self.ledger.note(News::Acknowledged(Sent { id: id.clone(), from, to, began }));
        id
    }

    /// Listens until the moment, or until there is one piece of news.
    pub(crate) fn hear(&mut self, until: Instant) {
        let left = until.saturating_duration_since(Instant::now());
        if let Ok(news) = self.news.recv_timeout(left) {
            self.ledger.note(news);
        }
        while let Ok(news) = self.news.try_recv() {
            self.ledger.note(news);
        }
    }

    /// Listens until something is so; returns how long that took.
    #[track_caller]
    pub(crate) fn until(
        &mut self,
        what: &str,
        limit: Duration,
        mut so: impl FnMut(&Self) -> bool,
    ) -> Duration {
        let start = Instant::now();
        loop {
            if so(self) {
                return start.elapsed();
            }
            if start.elapsed() > limit {
                panic!("waited {limit:?} for {what}\n{}", self.report());
            }
            self.hear(Instant::now() + LOOK);
        }
    }

    /// Waits until nobody owes anybody anything.
    #[track_caller]
    pub(crate) fn settle(&mut self, limit: Duration) -> Duration {
        self.until("receipts for everything", limit, |crowd| {
            crowd.ledger.open().next().is_none()
                && (0..crowd.people.len()).all(|number| crowd.status(number)["outbox"] == 0)
        })
    }

    /// What is open, and how everybody stands.
    fn report(&self) -> String {
        let mut open = BTreeMap::<_, Vec<_>>::new();
        for sent in self.ledger.open() {
            let there = if self.ledger.came.contains_key(&sent.id) { "came" } else { "missing" };
            let pair = (self.people[sent.from].name, self.people[sent.to].name);
            open.entry(pair).or_default().push(format!("{} {there}", sent.id));
        }
        let mut text = String::new();
        for ((from, to), ids) in open {
            text += &format!("{from} to {to}: {} open, first {}\n", ids.len(), ids[0]);
        }
        for (number, person) in self.people.iter().enumerate() {
            let status = person.daemon.is_some().then(|| self.status(number));
            text += &format!("{}: {}\n", person.name, status.unwrap_or_default());
        }
        text
    }

    /// What one person's device has of the conversation with another, as (id, author, text, state).
    fn history(&self, of: usize, with: usize) -> Vec<[String; 4]> {
        let (mut all, mut after) = (Vec::new(), 0);
        loop {
            let target = self.people[with].name;
            let path = format!("/api/v1/messages?target={target}&after={after}&limit={PAGE}");
            let (status, page) = ask(&self.people[of].socket(), "GET", &path, None).unwrap();
            assert_eq!(status, 200, "{page}");
            for message in page["messages"].as_array().unwrap() {
                all.push(
                    ["id", "author_name", "text", "state"]
                        .map(|field| message[field].as_str().unwrap().to_owned()),
                );
            }
            match page["next"].as_u64() {
                Some(next) => after = next,
                None => return all,
            }
        }
    }

    /// Holds the logs of all against each other and against what was acknowledged: everything exactly once, in its
    /// author's order, and told as delivered. Returns how many messages there are.
    #[track_caller]
    pub(crate) fn check(&self) -> usize {
        assert!(self.ledger.twice.is_empty(), "came twice: {:?}", self.ledger.twice);
        let mut count = 0;
        for from in 0..self.people.len() {
            for to in (0..self.people.len()).filter(|to| *to != from) {
                let author = self.people[from].name;
                let by_author = |log: Vec<[String; 4]>| {
                    log.into_iter().filter(|message| message[1] == author).collect::<Vec<_>>()
                };
                let own = by_author(self.history(from, to));
                let theirs = by_author(self.history(to, from));
                let empty = Vec::new();
                let acknowledged = self.ledger.sent.get(&(from, to)).unwrap_or(&empty);
                let doubtful =
                    |text: &String| self.ledger.doubtful.contains(&(from, to, text.clone()));
                let found = compare(acknowledged, &own, &theirs, doubtful);
                assert!(found.is_empty(), "{author} to {}: {found:#?}", self.people[to].name);
                count += own.len();
            }
        }
        count
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        if std::thread::panicking() && env::var_os("OOB_KEEP").is_some() {
            for person in &mut self.people {
                person.home.dir.disable_cleanup(true);
                eprintln!("{} is kept at {}", person.name, person.home.path().display());
            }
        }
    }
}

impl Person {
    pub(crate) fn socket(&self) -> PathBuf {
        self.home.path().join("oob.sock")
    }
}

/// Says what is wrong between what an author's daemon acknowledged, the author's log and the addressee's.
fn compare(
    acknowledged: &[String],
    own: &[[String; 4]],
    theirs: &[[String; 4]],
    doubtful: impl Fn(&String) -> bool,
) -> Vec<String> {
    let ids = |log: &[[String; 4]]| log.iter().map(|[id, ..]| id.clone()).collect::<Vec<_>>();
    let (sent, came) = (ids(own), ids(theirs));
    let mut wrong = Vec::new();
    let mut seen = BTreeSet::new();
    wrong.extend(came.iter().filter(|id| !seen.insert(*id)).map(|id| format!("twice: {id}")));
    let known: BTreeSet<_> = sent.iter().collect();
    wrong.extend(
        acknowledged
            .iter()
            .filter(|id| !known.contains(id))
            .map(|id| format!("forgotten by its author: {id}")),
    );
    wrong.extend(
        sent.iter().filter(|id| !seen.contains(id)).map(|id| format!("did not come: {id}")),
    );
    wrong.extend(
        came.iter().filter(|id| !known.contains(id)).map(|id| format!("came from nowhere: {id}")),
    );
    let promised: BTreeSet<_> = acknowledged.iter().collect();
    let more = own.iter().filter(|[id, _, text, _]| !promised.contains(id) && !doubtful(text));
    wrong.extend(more.map(|[id, _, text, _]| format!("never asked for: {id} {text}")));
    if wrong.is_empty() {
        let kept: Vec<_> = sent.iter().filter(|id| promised.contains(id)).collect();
        if kept != acknowledged.iter().collect::<Vec<_>>() {
            wrong.push("the author's log has another order than the answers".to_owned());
        }
        if let Some(at) = sent.iter().zip(&came).position(|(sent, came)| sent != came) {
            wrong.push(format!("another order from the message {} on", at + 1));
        }
    }
    let late = own.iter().filter(|[.., state]| !matches!(state.as_str(), "delivered" | "read"));
    wrong.extend(late.map(|[id, _, _, state]| format!("only {state}: {id}")));
    let bytes =
        own.iter().zip(theirs).filter(|(own, theirs)| own[0] == theirs[0] && own[2] != theirs[2]);
    wrong.extend(bytes.map(|(own, _)| format!("another text: {}", own[0])));
    wrong
}

/// Asks a daemon over its socket; returns the status and what it answered.
pub(crate) fn ask(
    socket: &Path,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> io::Result<(u16, Value)> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER))?;
    let body = body.map(Value::to_string).unwrap_or_default();
    let length = body.len();
    stream.write_all(
        format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        )
        .as_bytes(),
    )?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let (status, body) = parts(&String::from_utf8_lossy(&bytes));
    Ok((status, serde_json::from_str(&body)?))
}

/// Asks a daemon to take a message; returns its id once that is acknowledged.
pub(crate) fn send(socket: &Path, to: &str, text: &str) -> io::Result<String> {
    let body = json!({ "target": to, "text": text });
    let (status, answer) = ask(socket, "POST", "/api/v1/messages", Some(&body))?;
    match answer["id"].as_str() {
        Some(id) if status == 200 => Ok(id.to_owned()),
        _ => Err(io::Error::other(format!("{status} {answer}"))),
    }
}

/// Opens the stream of events after a number.
fn events(socket: &Path, after: u64) -> io::Result<BufReader<UnixStream>> {
    let mut stream = UnixStream::connect(socket)?;
    write!(
        stream,
        "GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\nLast-Event-ID: {after}\r\n\r\n"
    )?;
    Ok(BufReader::new(stream))
}

/// Passes events on until the daemon is gone.
fn listen(person: usize, stream: BufReader<UnixStream>, last: &AtomicU64, tell: &SyncSender<News>) {
    let mut number = None;
    for line in stream.lines().map_while(Result::ok) {
        if let Some(id) = line.strip_prefix("id: ") {
            number = id.trim().parse().ok();
        } else if let Some(data) = line.strip_prefix("data: ") {
            // The last line of a daemon that was killed may be half of one: it comes again.
            let Ok(event) = serde_json::from_str(data) else { continue };
            let news = News::Event { person, event, at: Instant::now() };
            if tell.send(news).is_err() {
                return;
            }
            if let Some(number) = number.take() {
                last.store(number, Ordering::Relaxed);
            }
        }
    }
}

#[test]
fn what_is_lost_doubled_disordered_or_made_up_is_found() {
    let log = |ids: &[&str]| -> Vec<[String; 4]> {
        ids.iter()
            .map(|id| {
                [(*id).to_owned(), "Dana".to_owned(), format!("text {id}"), "read".to_owned()]
            })
            .collect()
    };
    let faults = |acknowledged: &[&str], own: &[&str], theirs: &[&str]| {
        let acknowledged: Vec<_> = acknowledged.iter().map(|id| (*id).to_owned()).collect();
        compare(&acknowledged, &log(own), &log(theirs), |text| text == "text d").len()
    };
    assert_eq!(faults(&["a", "b"], &["a", "d", "b"], &["a", "d", "b"]), 0);
    for (acknowledged, own, theirs) in [
        (&["a", "b"][..], &["a"][..], &["a"][..]),
        (&["a", "b"], &["a", "b"], &["a"]),
        (&["a", "b"], &["a", "b"], &["a", "b", "b"]),
        (&["a", "b"], &["a", "b"], &["b", "a"]),
        (&["a", "b"], &["b", "a"], &["b", "a"]),
        (&["a", "b"], &["a", "b"], &["a", "b", "c"]),
        (&["a", "b"], &["a", "b", "c"], &["a", "b", "c"]),
    ] {
        assert!(faults(acknowledged, own, theirs) > 0, "{acknowledged:?} {own:?} {theirs:?}");
    }
    let mut stored = log(&["a"]);
    stored[0][3] = "stored".to_owned();
    assert_eq!(compare(&["a".to_owned()], &stored, &log(&["a"]), |_| false), ["only stored: a"]);
}
