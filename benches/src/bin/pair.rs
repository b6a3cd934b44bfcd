//! Measures two daemons on one machine; see the README of this folder.

use clap::Parser;
use oob_benches::{Figures, Sorted, TEXT_BYTES, Usage, Wire, fsync_p50, raw_tcp_p50};
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
    /// How long to measure; half of it one message at a time, half with 64 under way.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3600))]
    seconds: u64,
    /// How many receive; one in this version.
    #[arg(long, default_value_t = 1)]
    peers: u32,
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    if arguments.nth(1).is_some_and(|first| first == AS_OOB) {
        return oob_daemon::run(std::iter::once("oob".into()).chain(arguments));
    }
    let args = Args::parse();
    if args.peers != 1 {
        eprintln!("error: only one receiver can be measured in this version, not {}", args.peers);
        eprintln!("hint: leave --peers out; several come with messages to channels");
        return ExitCode::from(1);
    }
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
        let mut pair = Pair::start(folder.path()).await?;
        let mut figures = pair.beginnings.clone();
        say("one message at a time");
        let times = pair.one_at_a_time(half).await?;
        (figures.p50_us, figures.p99_us) = (times.percentile_us(50), times.percentile_us(99));
        say("what the machine can do at best");
        figures.raw_tcp_p50_us = raw_tcp_p50().map_err(|e| broken("loopback", &e))?;
        figures.fsync_p50_us =
            fsync_p50(folder.path()).map_err(|e| broken("the temporary folder", &e))?;
        say("64 messages under way");
        pair.many(half, &mut figures).await?;
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

/// Two daemons that know each other.
struct Pair {
    sender: Launched,
    receiver: Launched,
    client: Client,
    events: EventStream,
    target: String,
    text: String,
    sent: u64,
    beginnings: Figures,
}

impl Pair {
    async fn start(folder: &Path) -> Result<Self, Failure> {
        say("making two identities");
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
        let request = InviteRequest { role: None, uses: None, life_ms: None };
        let invite: Invite = client.post("/api/v1/invites", &request).await?;
        let join = JoinRequest { invite: invite.link, name: None };
        let joined: Joined = receiver.client().await?.post("/api/v1/join", &join).await?;
        say("meeting again after a restart");
        until_reachable(&mut client, true).await?;
        receiver.stop().await?;
        until_reachable(&mut client, false).await?;
        let receiver = second.start().await?;
        let began = Instant::now();
        until_reachable(&mut client, true).await?;
        beginnings.discovery_ms =
            Some(u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX));
        let events = receiver.client().await?.events(None).await?;
        beginnings.rss_idle_kib = larger(&sender, &receiver);
        let mut pair = Self {
            sender,
            receiver,
            client,
            events,
            target: format!("person:{}", joined.member),
            text: "harbour ".repeat(TEXT_BYTES.div_ceil(8)).chars().take(TEXT_BYTES).collect(),
            sent: 0,
            beginnings,
        };
        for _ in 0..WARM_UP {
            pair.one().await?;
        }
        Ok(pair)
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

    async fn many(&mut self, span: Duration, figures: &mut Figures) -> Result<(), Failure> {
        let port = tcp_port(&self.sender).zip(tcp_port(&self.receiver));
        let count = || port.and_then(|(a, b)| Wire::at_port(a).or_else(|| Wire::at_port(b)));
        let usage = |pair: &Self| {
            Usage::of(pair.sender.ready().pid).zip(Usage::of(pair.receiver.ready().pid))
        };
        let (wire_before, used_before) = (count(), usage(self));
        let began = Instant::now();
        let mut received = 0_usize;
        let mut under_way = 0_usize;
        loop {
            let go_on = began.elapsed() < span;
            if under_way == 0 && !go_on {
                break;
            }
            let fresh = if go_on { WINDOW - under_way } else { 0 };
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
                let arriving = next_message(events, under_way.min(WINDOW / 2));
                tokio::try_join!(sending, arriving)
            };
            let ((), arrived) = timeout(PATIENCE, both).await.map_err(|_| late())??;
            under_way -= arrived;
            received += arrived;
        }
        let spent = began.elapsed();
        let messages = u64::try_from(received).unwrap_or(u64::MAX).max(1);
        figures.messages_per_s = Some((received as f64 / spent.as_secs_f64()) as u64);
        if let (Some((s0, r0)), Some((s1, r1))) = (used_before, usage(self)) {
            let cpu = s1.cpu_s - s0.cpu_s + r1.cpu_s - r0.cpu_s;
            figures.cpu_s_per_10k =
                Some((cpu * 10_000.0 / received as f64 * 1000.0).round() / 1000.0);
            let written = |before: Usage, after: Usage| after.written?.checked_sub(before.written?);
            figures.disk_bytes_per_message =
                written(s0, s1).zip(written(r0, r1)).map(|(s, r)| (s + r) / messages);
        }
        figures.wire_bytes_per_message = wire_before
            .zip(count())
            .and_then(|(before, after)| after.since(&before))
            .map(|bytes| bytes / messages);
        figures.rss_after_kib = larger(&self.sender, &self.receiver);
        Ok(())
    }

    fn request(&mut self) -> SendRequest {
        self.sent += 1;
        // A number in front, so that no two are the same.
        let text: String =
            format!("{:08} {}", self.sent, self.text).chars().take(TEXT_BYTES).collect();
        SendRequest { target: self.target.clone(), text }
    }

    async fn stop(self) -> Result<(), Failure> {
        let Self { sender, receiver, client, events, .. } = self;
        drop((client, events));
        sender.stop().await?;
        receiver.stop().await
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

/// Waits until the other daemon can or cannot be reached.
async fn until_reachable(client: &mut Client, wanted: bool) -> Result<(), Failure> {
    let look = async {
        let mut events = client.events(None).await?;
        loop {
            let status: Status = client.get("/api/v1/status").await?;
            if status.peers.iter().any(|peer| peer.reachable) == wanted {
                return Ok(());
            }
            // Looked at again at each event, and now and then in case the event came before the listening.
            let _waited = timeout(Duration::from_millis(20), events.next()).await;
        }
    };
    timeout(PATIENCE, look)
        .await
        .map_err(|_| Failure::new("timeout", "the two daemons did not meet within 60 s"))?
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
