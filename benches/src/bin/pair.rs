//! Measures two daemons on one machine; see the README of this folder.

use clap::Parser;
use oob_benches::{
    Device, Figures, Sorted, TEXT_BYTES, Threads, Usage, Wire, fsync_p50, raw_tcp_p50,
};
use oob_daemon::{
    Failure, Launch, Launched,
    client::{Client, EventStream},
    schema::{Event, Invite, InviteRequest, JoinRequest, Joined, SendRequest, Sent, Status},
};
use std::{
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};
use tokio::time::timeout;

/// First argument with which this program is `oob` instead: the daemons are this same executable.
const AS_OOB: &str = "run-oob";

/// Passphrase of two homes that are gone after the run.
const PASSPHRASE: &str = "measured in the harbour";

/// Messages under way at once while counting how many go over in a second.
const WINDOW: usize = 64;

/// The same where it is to be more than fits a batch of the engine.
const WIDE_WINDOW: usize = 512;

/// Texts to everybody under way at once while counting how many go out in a second.
const ROUNDS: usize = 8;

/// How long nobody says anything while counting what a daemon costs that only waits.
const IDLE: Duration = Duration::from_secs(10);

/// Most who receive: each is a daemon of its own on this machine.
const PEERS: u64 = 32;

/// Messages sent before anything is measured, so that sessions, files and caches are warm.
const WARM_UP: usize = 50;

/// Longest wait for anything: a run that takes longer is broken, not slow.
const PATIENCE: Duration = Duration::from_secs(60);

/// Measures how fast and at what cost two daemons on this machine talk.
#[derive(Debug, Parser)]
struct Args {
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// How long to measure: half of it one message at a time, half with 64 under way; then half as long with 512, and to
    /// several as long one by one and half as long with 8 under way. Before it, as long (at most 10 s) without a message.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// How many receive; with more than one, a text to all of them is measured too.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=PEERS))]
    peers: u64,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    if arguments.nth(1).is_some_and(|first| first == AS_OOB) {
        return oob_daemon::run(std::iter::once("oob".into()).chain(arguments));
    }
    let args = Args::parse();
    match measure(&args) {
        Ok(figures) => {
            let text = if args.json {
                serde_json::to_string(&figures).unwrap_or_default()
            } else {
                figures.to_table()
            };
            println!("{text}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("error: {failure}");
            if let Some(hint) = failure.next() {
                eprintln!("hint: {hint}");
            }
            ExitCode::from(failure.exit())
        }
    }
}

fn measure(args: &Args) -> Result<Figures, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| broken("no runtime", &e))?;
    let folder = tempfile::Builder::new()
        .prefix("oob-pair-")
        .tempdir()
        .map_err(|e| broken("no temporary folder", &e))?;
    let half = Duration::from_millis(args.seconds.saturating_mul(500));
    runtime.block_on(async {
        let mut pair = Pair::start(folder.path(), args.peers).await?;
        let mut figures = pair.beginnings.clone();
        say("nobody says anything");
        figures.idle_cpu_percent = pair.idle(IDLE.min(half * 2)).await;
        // A connection that was quiet so long is closed.
        pair.client = pair.sender.client().await?;
        pair.warm_up().await?;
        say("one message at a time");
        let before = pair.count();
        let times = pair.one_at_a_time(half).await?;
        (figures.p50_us, figures.p99_us) = (times.percentile_us(50), times.percentile_us(99));
        let one = pair.count().since(&before, times.len());
        figures.wire_bytes_per_message_1 = one.wire;
        figures.disk_bytes_per_message_1 = one.disk;
        figures.device_bytes_per_message_1 = one.device;
        say("what the machine can do at best");
        figures.raw_tcp_p50_us = raw_tcp_p50().map_err(|e| broken("loopback", &e))?;
        figures.fsync_p50_us =
            fsync_p50(folder.path()).map_err(|e| broken("the temporary folder", &e))?;
        say("64 messages under way");
        let before = pair.count();
        let (received, spent) = pair.many(WINDOW, half).await?;
        figures.messages_per_s = Some((received as f64 / spent.as_secs_f64()) as u64);
        let many = pair.count().since(&before, received);
        figures.cpu_s_per_10k_sender = many.sender_cpu_s.map(|cpu| rounded(cpu * 10_000.0));
        figures.cpu_s_per_10k_receiver = many.receiver_cpu_s.map(|cpu| rounded(cpu * 10_000.0));
        figures.cpu_s_per_10k = many
            .sender_cpu_s
            .zip(many.receiver_cpu_s)
            .map(|(sender, receiver)| rounded((sender + receiver) * 10_000.0));
        figures.wire_bytes_per_message = many.wire;
        figures.disk_bytes_per_message = many.disk;
        figures.device_bytes_per_message = many.device;
        say("512 messages under way");
        let (received, spent) = pair.many(WIDE_WINDOW, half).await?;
        figures.messages_per_s_512 = Some((received as f64 / spent.as_secs_f64()) as u64);
        if args.peers > 1 {
            say("a text to everybody");
            let times = pair.fan_out(half * 2).await?;
            figures.peers = Some(args.peers);
            figures.fan_out_last_p50_us = times.percentile_us(50);
            figures.fan_out_last_p99_us = times.percentile_us(99);
            figures.fan_out_per_s_1 = times.per_s().map(rounded);
            say("8 texts to everybody under way");
            let (rounds, spent) = pair.fan_out_many(half).await?;
            figures.fan_out_per_s = Some(rounded(rounds as f64 / spent.as_secs_f64()));
        }
        figures.rss_after_kib = pair.larger();
        pair.stop().await?;
        Ok(figures)
    })
}

fn say(what: &str) {
    eprintln!("pair: {what}");
}

fn broken(what: &str, error: &std::io::Error) -> Failure {
    Failure::new("io", format!("{what} cannot be used: {error}"))
}

fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

/// One who sends, and those who receive; the first of them in most of the measurements.
struct Pair {
    sender: Launched,
    receiver: Launched,
    others: Vec<Launched>,
    device: Option<Device>,
    client: Client,
    events: EventStream,
    others_events: Vec<EventStream>,
    target: String,
    others_targets: Vec<String>,
    text: String,
    sent: u64,
    beginnings: Figures,
}

/// Totals so far.
struct Count {
    wire: Option<Wire>,
    used: Option<(Usage, Usage)>,
    device: Option<u64>,
}

/// What one message took.
struct Each {
    wire: Option<u64>,
    disk: Option<u64>,
    device: Option<u64>,
    sender_cpu_s: Option<f64>,
    receiver_cpu_s: Option<f64>,
}

impl Count {
    fn since(&self, before: &Self, messages: usize) -> Each {
        let number = u64::try_from(messages).unwrap_or(u64::MAX).max(1);
        let used = before.used.zip(self.used);
        let written = |then: Usage, now: Usage| now.written?.checked_sub(then.written?);
        Each {
            wire: before
                .wire
                .as_ref()
                .zip(self.wire.as_ref())
                .and_then(|(then, now)| now.since(then))
                .map(|bytes| bytes / number),
            disk: used
                .and_then(|((s0, r0), (s1, r1))| Some(written(s0, s1)? + written(r0, r1)?))
                .map(|bytes| bytes / number),
            device: before
                .device
                .zip(self.device)
                .and_then(|(then, now)| now.checked_sub(then))
                .map(|bytes| bytes / number),
            sender_cpu_s: used.map(|((s0, _), (s1, _))| (s1.cpu_s - s0.cpu_s) / number as f64),
            receiver_cpu_s: used.map(|((_, r0), (_, r1))| (r1.cpu_s - r0.cpu_s) / number as f64),
        }
    }
}

impl Pair {
    async fn start(folder: &Path, peers: u64) -> Result<Self, Failure> {
        say("making identities");
        let (first, second) = (launch(&folder.join("dana"))?, launch(&folder.join("sam"))?);
        first.init("Dana", Some("Harbour Clinic")).await?;
        second.init("Sam", None).await?;
        let (sender, receiver) = (first.start().await?, second.start().await?);
        let mut beginnings = Figures {
            ready_ms: Some(sender.ready_ms()),
            kdf_ms: Some(sender.ready().kdf_ms),
            ..Figures::default()
        };
        let mut client = sender.client().await?;
        let target = admit(&mut client, &receiver).await?;
        say("meeting again after a restart");
        until_reachable(&mut client, 1).await?;
        receiver.stop().await?;
        until_reachable(&mut client, 0).await?;
        let receiver = second.start().await?;
        let began = Instant::now();
        until_reachable(&mut client, 1).await?;
        beginnings.discovery_ms =
            Some(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
        let events = receiver.client().await?.events(None).await?;
        let (mut others, mut others_events, mut others_targets) =
            (Vec::new(), Vec::new(), Vec::new());
        for n in 2..=peers {
            let launch = launch(&folder.join(format!("reader-{n}")))?;
            launch.init(&format!("Reader {n}"), None).await?;
            let other = launch.start().await?;
            others_targets.push(admit(&mut client, &other).await?);
            others_events.push(other.client().await?.events(None).await?);
            others.push(other);
        }
        until_reachable(&mut client, usize::try_from(peers).unwrap_or(usize::MAX)).await?;
        beginnings.rss_idle_kib = larger(&sender, &receiver);
        Ok(Self {
            sender,
            receiver,
            others,
            device: Device::of(folder),
            client,
            events,
            others_events,
            target,
            others_targets,
            text: "harbour ".repeat(TEXT_BYTES.div_ceil(8)).chars().take(TEXT_BYTES).collect(),
            sent: 0,
            beginnings,
        })
    }

    async fn warm_up(&mut self) -> Result<(), Failure> {
        for _ in 0..WARM_UP {
            self.one().await?;
        }
        Ok(())
    }

    /// Returns how much of a core the busier of the two daemons takes while nothing is said.
    async fn idle(&self, span: Duration) -> Option<f64> {
        let pids = [&self.sender, &self.receiver].map(|daemon| daemon.ready().pid);
        let before = pids.map(Threads::of);
        let began = Instant::now();
        tokio::time::sleep(span).await;
        let (spent, after) = (began.elapsed(), pids.map(Threads::of));
        let used = before.into_iter().zip(after).map(|(then, now)| Some(now?.since(&then?)));
        let most = used.collect::<Option<Vec<u64>>>()?.into_iter().max()?;
        Some(rounded(most as f64 / spent.as_nanos() as f64 * 100.0))
    }

    fn count(&self) -> Count {
        let port = tcp_port(&self.sender).zip(tcp_port(&self.receiver));
        let sender = Usage::of(self.sender.ready().pid);
        Count {
            wire: port.and_then(|(a, b)| Wire::at_port(a).or_else(|| Wire::at_port(b))),
            used: sender.zip(Usage::of(self.receiver.ready().pid)),
            device: self.device.and_then(Device::written),
        }
    }

    fn larger(&self) -> Option<u64> {
        larger(&self.sender, &self.receiver)
    }

    /// Sends one message and returns how long it took until the receiver's event stream told it.
    async fn one(&mut self) -> Result<Duration, Failure> {
        let request = self.request();
        let began = Instant::now();
        let (client, events) = (&mut self.client, &mut self.events);
        let both = async {
            let sending = async { client.post::<Sent>("/api/v1/messages", &request).await };
            let arriving = async {
                next_message(events, 1).await?;
                Ok::<_, Failure>(began.elapsed())
            };
            tokio::try_join!(sending, arriving)
        };
        let (_, time) = timeout(PATIENCE, both).await.map_err(|_| late())??;
        Ok(time)
    }

    async fn one_at_a_time(&mut self, span: Duration) -> Result<Sorted, Failure> {
        let began = Instant::now();
        let mut times = Vec::new();
        while began.elapsed() < span {
            times.push(self.one().await?);
        }
        Ok(Sorted::new(times))
    }

    /// Keeps so many messages under way; returns how many were received, and in which time.
    async fn many(&mut self, window: usize, span: Duration) -> Result<(usize, Duration), Failure> {
        let began = Instant::now();
        let mut received = 0_usize;
        let mut under_way = 0_usize;
        loop {
            let go_on = began.elapsed() < span;
            if under_way == 0 && !go_on {
                return Ok((received, began.elapsed()));
            }
            let fresh = if go_on { window - under_way } else { 0 };
            let requests: Vec<SendRequest> = (0..fresh).map(|_| self.request()).collect();
            under_way += fresh;
            let (client, events) = (&mut self.client, &mut self.events);
            let both = async {
                let sending = async {
                    if requests.is_empty() {
                        return Ok(());
                    }
                    let answers: Vec<Result<Sent, Failure>> =
                        client.post_lines("/api/v1/messages", &requests).await?;
                    answers.into_iter().try_for_each(|answer| answer.map(drop))
                };
                // Half a window, so that the next half is sent while this one is under way.
                let arriving = next_message(events, under_way.min(window / 2));
                tokio::try_join!(sending, arriving)
            };
            let ((), arrived) = timeout(PATIENCE, both).await.map_err(|_| late())??;
            under_way -= arrived;
            received += arrived;
        }
    }

    /// Sends everybody a text, and the next once all were told it.
    async fn fan_out(&mut self, span: Duration) -> Result<Sorted, Failure> {
        let began = Instant::now();
        let mut times = Vec::new();
        while began.elapsed() < span {
            let requests = self.round();
            let start = Instant::now();
            let (client, events) = (&mut self.client, &mut self.events);
            let others = &mut self.others_events;
            let all = async {
                let sending = async {
                    let answers: Vec<Result<Sent, Failure>> =
                        client.post_lines("/api/v1/messages", &requests).await?;
                    answers.into_iter().try_for_each(|answer| answer.map(drop))
                };
                let arriving = async {
                    next_message(events, 1).await?;
                    for events in others {
                        next_message(events, 1).await?;
                    }
                    Ok(start.elapsed())
                };
                tokio::try_join!(sending, arriving)
            };
            let ((), time) = timeout(PATIENCE, all).await.map_err(|_| late())??;
            times.push(time);
        }
        Ok(Sorted::new(times))
    }

    /// Keeps a few texts to everybody under way; returns how many all were told, and in which time.
    async fn fan_out_many(&mut self, span: Duration) -> Result<(usize, Duration), Failure> {
        let began = Instant::now();
        let (mut told, mut under_way) = (0_usize, 0_usize);
        loop {
            let go_on = began.elapsed() < span;
            if under_way == 0 && !go_on {
                return Ok((told, began.elapsed()));
            }
            let mut requests = Vec::new();
            while go_on && under_way < ROUNDS {
                requests.extend(self.round());
                under_way += 1;
            }
            let (client, events) = (&mut self.client, &mut self.events);
            let others = &mut self.others_events;
            // Each is told in the order of sending, so when all were told so many, so many rounds are over.
            let over = under_way.min(ROUNDS / 2);
            let all = async {
                let sending = async {
                    if requests.is_empty() {
                        return Ok(());
                    }
                    let answers: Vec<Result<Sent, Failure>> =
                        client.post_lines("/api/v1/messages", &requests).await?;
                    answers.into_iter().try_for_each(|answer| answer.map(drop))
                };
                let arriving = async {
                    next_message(events, over).await?;
                    for events in others {
                        next_message(events, over).await?;
                    }
                    Ok(())
                };
                tokio::try_join!(sending, arriving)
            };
            timeout(PATIENCE, all).await.map_err(|_| late())??;
            under_way -= over;
            told += over;
        }
    }

    /// A text to everybody, as so many requests.
    fn round(&mut self) -> Vec<SendRequest> {
        let first = self.request();
        let text = first.text.clone();
        let others = self.others_targets.iter();
        let others =
            others.map(|target| SendRequest { target: target.clone(), text: text.clone() });
        std::iter::once(first).chain(others).collect()
    }

    fn request(&mut self) -> SendRequest {
        self.sent += 1;
        // A number in front, so that no two are the same.
        let text: String =
            format!("{:08} {}", self.sent, self.text).chars().take(TEXT_BYTES).collect();
        SendRequest { target: self.target.clone(), text }
    }

    async fn stop(self) -> Result<(), Failure> {
        let Self { sender, receiver, others, client, events, others_events, .. } = self;
        drop((client, events, others_events));
        sender.stop().await?;
        receiver.stop().await?;
        for other in others {
            other.stop().await?;
        }
        Ok(())
    }
}

fn launch(home: &Path) -> Result<Launch, Failure> {
    // TCP alone, since its bytes can be counted.
    let launch = Launch::this_program(home, PASSPHRASE)?.lead(AS_OOB);
    Ok(["--no-mdns", "--listen", "/ip4/127.0.0.1/tcp/0"].into_iter().fold(launch, Launch::option))
}

fn late() -> Failure {
    Failure::new("timeout", "a message did not arrive within 60 s")
}

/// Has a daemon join; returns how its person is written to.
async fn admit(admitter: &mut Client, joiner: &Launched) -> Result<String, Failure> {
    let request = InviteRequest { role: None, uses: None, life_ms: None };
    let invite: Invite = admitter.post("/api/v1/invites", &request).await?;
    let join = JoinRequest { invite: invite.link, name: None };
    let joined: Joined = joiner.client().await?.post("/api/v1/join", &join).await?;
    Ok(format!("person:{}", joined.member))
}

/// Waits until exactly so many others can be reached.
async fn until_reachable(client: &mut Client, wanted: usize) -> Result<(), Failure> {
    let look = async {
        let mut events = client.events(None).await?;
        loop {
            let status: Status = client.get("/api/v1/status").await?;
            if status.peers.iter().filter(|peer| peer.reachable).count() == wanted {
                return Ok(());
            }
            // Looked at again at each event, and now and then in case the event came before the listening.
            let _waited = timeout(Duration::from_millis(20), events.next()).await;
        }
    };
    timeout(PATIENCE, look)
        .await
        .map_err(|_| Failure::new("timeout", "the daemons did not meet within 60 s"))?
}

/// Waits for at least so many messages of others; returns that number.
async fn next_message(events: &mut EventStream, number: usize) -> Result<usize, Failure> {
    let mut seen = 0;
    while seen < number {
        match events.next().await? {
            None => return Err(Failure::new("not_running", "the receiving daemon stopped")),
            Some(numbered) => match numbered.event {
                Event::Message { outgoing: false, .. } => seen += 1,
                Event::Lagged { missed } => {
                    return Err(Failure::new(
                        "internal",
                        format!("the event stream skipped {missed} events"),
                    ));
                }
                _ => {}
            },
        }
    }
    Ok(seen)
}

fn tcp_port(daemon: &Launched) -> Option<u16> {
    daemon.ready().listen.iter().find_map(|address| {
        let (_, behind) = address.split_once("/tcp/")?;
        behind.split('/').next()?.parse().ok()
    })
}

fn larger(a: &Launched, b: &Launched) -> Option<u64> {
    let rss = |daemon: &Launched| Usage::of(daemon.ready().pid).map(|usage| usage.rss_kib);
    rss(a).max(rss(b))
}
