//! The thread that owns the rules and the store: takes what is queued into one batch, makes it durable, and only then
//! lets anything of it out.

use super::{Live, evidence, links::Links, shelf::Shelf, snapshots::Snapshots};
use crate::{
    commands::{CommandQueue, Fate, Next, Work},
    error::Error,
    home::wall_ms,
};
use oob_engine::{
    Engine, Input, Outcome,
    effect::{Answer, CommandError, Effect},
    event::Numbered,
    input::Ticket,
    model::Now,
    snapshot::Snapshot,
};
use oob_proto::TransportKey;
use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio::sync::{broadcast, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

/// Inputs in one batch: what is queued goes in, nothing is waited for; 64 is where larger batches stopped paying.
const BATCH: usize = 64;

/// How long the thread sleeps at most: the store's idle work is due within a second, and a clock that jumped is seen.
const SLEEP: Duration = Duration::from_secs(1);

/// How long a batch that nobody waits for stays open for company: receipts of what was just sent, mostly, and the next
/// message comes soon behind them. Whoever waits to read that a message was delivered does not notice.
const COMPANY: Duration = Duration::from_millis(2);

/// Steps in which the disk catches up while nothing is queued; after each it is looked whether somebody waits. A full disk gets
/// no further, so they have an end.
const CATCHES_UP: usize = 8;

/// How soon a deadline that has passed already is looked at again, so that one that never moves cannot eat the CPU.
const AT_LEAST: Duration = Duration::from_millis(1);

/// A member told where it listens.
#[derive(Debug)]
pub(crate) struct Learned {
    pub(crate) peer: TransportKey,
    pub(crate) addresses: Vec<String>,
}

/// Where everything goes once it is durable.
pub(crate) struct Outlets {
    pub(crate) snapshots: watch::Sender<Arc<Snapshot>>,
    pub(crate) events: broadcast::Sender<Live>,
    pub(crate) last_event: Arc<AtomicU64>,
    pub(crate) links: Arc<Links>,
    pub(crate) learned: mpsc::Sender<Learned>,
    /// Gives a frame to gossip, or drops it; never waits.
    pub(crate) publish: Box<dyn Fn(Vec<u8>) + Send>,
}

/// Who waits for the batch at hand. Outlives a panic of the rules, so that they are told why.
#[derive(Default)]
struct Waiting {
    tickets: BTreeMap<Ticket, oneshot::Sender<Result<Answer, CommandError>>>,
    barriers: Vec<oneshot::Sender<()>>,
    next: u64,
}

/// Starts the thread; `ended` tells when it is over, its result why.
pub(crate) fn start(
    engine: Engine,
    shelf: Shelf,
    snapshots: Snapshots,
    queue: CommandQueue,
    outlets: Outlets,
    fate: Arc<Fate>,
    ended: CancellationToken,
) -> std::io::Result<JoinHandle<Result<(), Error>>> {
    std::thread::Builder::new().name("oob-rules".into()).spawn(move || {
        let mut waiting = Waiting::default();
        let home = shelf.folder().map(Path::to_path_buf);
        let run =
            AssertUnwindSafe(|| run(engine, shelf, snapshots, &queue, &outlets, &mut waiting));
        let result = match catch_unwind(run) {
            Ok(Ok(())) => Ok(()),
            Ok(Err(cause)) => {
                Err(Error::internal("the node has stopped, since its store failed")
                    .with_source(cause))
            }
            // The panic's own words stay with the process's panic hook: they may hold what nobody should read in a log.
            Err(_) => Err(Error::internal("the node has stopped after a defect in its rules")),
        };
        if let Err(error) = &result {
            tracing::error!(?error, "the node stops");
            if let Some(home) = home
                && let Err(unmarked) = evidence::mark(&home, wall_ms(), &error.to_string())
            {
                tracing::error!(%unmarked, "the home could not be marked");
            }
            fate.set(error.clone());
        }
        // First the reason, then the silence: whoever waits asks for the reason when the sender is gone.
        drop(waiting);
        drop(queue);
        ended.cancel();
        result
    })
}

fn run(
    mut engine: Engine,
    mut shelf: Shelf,
    mut snapshots: Snapshots,
    queue: &CommandQueue,
    outlets: &Outlets,
    waiting: &mut Waiting,
) -> Result<(), Error> {
    let start = Instant::now();
    let now = || Now {
        wall_ms: wall_ms(),
        mono_ms: u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
    };
    loop {
        shelf.look(&mut engine, Instant::now());
        let mut next = queue.ready();
        if matches!(next, Next::Nothing) {
            // Nobody waits: the disk may catch up now, off everybody's way.
            for _ in 0..CATCHES_UP {
                if !engine.needs_idle() || !matches!(next, Next::Nothing) {
                    break;
                }
                engine.idle()?;
                next = queue.ready();
            }
            if matches!(next, Next::Nothing) {
                snapshots.look(&mut engine, Instant::now());
                next = queue.next(sleep(&engine, now().mono_ms));
            }
        }
        let mut closing = false;
        let mut inputs = 0_usize;
        let mut company_until = None;
        if due(&engine, now().mono_ms) {
            engine.handle(Input::Tick, now());
            inputs = 1;
        }
        loop {
            match next {
                Next::Work(Work::Command { command, reply }) => {
                    let ticket = Ticket(waiting.next);
                    waiting.next = waiting.next.wrapping_add(1);
                    waiting.tickets.insert(ticket, reply);
                    engine.handle(Input::Command { ticket, command }, now());
                }
                Next::Work(Work::Input(input)) => engine.handle(input, now()),
                Next::Work(Work::Barrier(done)) => waiting.barriers.push(done),
                Next::Work(Work::Close) | Next::Ended => {
                    closing = true;
                    break;
                }
                #[cfg(test)]
                Next::Work(Work::Panic) => panic!("asked to"),
                Next::Nothing => break,
            }
            inputs = inputs.saturating_add(1);
            if inputs >= BATCH {
                break;
            }
            next = queue.ready();
            if matches!(next, Next::Nothing) && !engine.is_pressing() && waiting.barriers.is_empty()
            {
                let until = *company_until.get_or_insert_with(|| Instant::now() + COMPANY);
                next = queue.next(until.saturating_duration_since(Instant::now()));
            }
        }
        if inputs > 0 {
            let outcome = engine.commit(now())?;
            release(outcome, outlets, waiting);
        }
        if closing {
            snapshots.close(&mut engine, Instant::now());
            return Ok(engine.close()?);
        }
    }
}

fn due(engine: &Engine, mono_ms: u64) -> bool {
    engine.next_deadline().is_some_and(|deadline| deadline <= mono_ms)
}

fn sleep(engine: &Engine, mono_ms: u64) -> Duration {
    match engine.next_deadline() {
        Some(deadline) => {
            Duration::from_millis(deadline.saturating_sub(mono_ms)).clamp(AT_LEAST, SLEEP)
        }
        None => SLEEP,
    }
}

/// Lets a durable batch out: the network first, which is the slowest; the snapshot before whoever may read it next.
fn release(outcome: Outcome, outlets: &Outlets, waiting: &mut Waiting) {
    let Outcome { effects, replies, events, snapshot, .. } = outcome;
    // What happened is told before anything else wakes the tasks: people wait for it.
    if let Some(newest) = events.last() {
        outlets.last_event.fetch_max(newest.number, Ordering::Release);
    }
    if let Some(snapshot) = snapshot {
        outlets.last_event.fetch_max(snapshot.last_event, Ordering::Release);
        outlets.snapshots.send_replace(snapshot);
    }
    for event in events {
        tell(&outlets.events, event);
    }
    for effect in effects {
        match effect {
            Effect::Send { link, frame } => outlets.links.send(link, frame),
            Effect::Close { link, reason } => {
                tracing::debug!(link = link.0, reason, "closing a link");
                outlets.links.close(link);
            }
            Effect::Publish { frame } => (outlets.publish)(frame),
            Effect::Learned { peer, addresses } => {
                // Full: the peer tells it again with its next Hello.
                let _ = outlets.learned.try_send(Learned { peer, addresses });
            }
            _ => tracing::warn!("an effect that this version does not know"),
        }
    }
    for reply in replies {
        if let Some(caller) = waiting.tickets.remove(&reply.ticket) {
            // A caller that went away wanted no answer.
            let _ = caller.send(reply.result);
        }
    }
    for done in waiting.barriers.drain(..) {
        let _ = done.send(());
    }
}

fn tell(events: &broadcast::Sender<Live>, event: Numbered) {
    // No receiver: nobody listens, and the store has it.
    let _ = events.send(Live::Numbered(Arc::new(event)));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        commands::{Commands, queue},
        error::ErrorKind,
        home,
    };
    use oob_engine::{
        input::Command,
        model::{Name, Role},
    };
    use oob_store::{Kdf, Passphrase, Store, backend::CrashDisk};
    use std::sync::mpsc as std_mpsc;

    struct Running {
        commands: Commands,
        snapshots: watch::Receiver<Arc<Snapshot>>,
        ended: CancellationToken,
        thread: JoinHandle<Result<(), Error>>,
    }

    fn running(disk: &CrashDisk) -> Running {
        let passphrase = Passphrase::new("correct horse");
        let store = Store::with_backend(disk.parts(), &passphrase, home::rng()).unwrap().store;
        running_on(store, Snapshots::new(None, Instant::now()))
    }

    fn running_on(store: Store, snapshots: Snapshots) -> Running {
        let now = Now { wall_ms: wall_ms(), mono_ms: 0 };
        let name = Name::parse("Dana").unwrap();
        let engine = Engine::create(store, Box::new(home::rng()), name, now).unwrap();
        let fate = Arc::new(Fate::default());
        let (commands, queue) = queue(Arc::clone(&fate));
        let (snapshot_sender, receiver) = watch::channel(engine.snapshot());
        let outlets = Outlets {
            snapshots: snapshot_sender,
            events: broadcast::channel(8).0,
            last_event: Arc::default(),
            links: Arc::default(),
            learned: mpsc::channel(8).0,
            publish: Box::new(|_| {}),
        };
        let ended = CancellationToken::new();
        let thread =
            start(engine, Shelf::new(None), snapshots, queue, outlets, fate, ended.clone())
                .unwrap();
        Running { commands, snapshots: receiver, ended, thread }
    }

    fn found() -> Command {
        Command::Found { name: Name::parse("Riverside Clinic").unwrap() }
    }

    fn invite() -> Command {
        Command::Invite { role: Role::Responder, uses: 1, life_ms: 60_000, name: None }
    }

    #[tokio::test]
    async fn what_a_reply_tells_is_in_the_snapshot_and_closing_ends_the_thread() {
        let node = running(&CrashDisk::new());
        node.commands.run(found()).await.unwrap();
        assert!(node.snapshots.borrow().org.is_some());
        node.commands.barrier().await.unwrap();
        node.commands.put(Work::Close).await.unwrap();
        node.ended.cancelled().await;
        node.thread.join().unwrap().unwrap();
        let closed = node.commands.run(invite()).await.unwrap_err();
        assert_eq!(closed.kind(), ErrorKind::Closed);
    }

    #[tokio::test]
    async fn a_store_that_fails_ends_the_node_and_every_caller_is_told_why() {
        let disk = CrashDisk::new();
        let node = running(&disk);
        node.commands.run(found()).await.unwrap();
        disk.fail_next_sync();
        let failed = node.commands.run(invite()).await.unwrap_err();
        assert_eq!(failed.kind(), ErrorKind::Internal, "{failed:?}");
        node.ended.cancelled().await;
        let later = node.commands.run(invite()).await.unwrap_err();
        assert_eq!(later.to_string(), failed.to_string());
        assert!(node.thread.join().unwrap().is_err());
    }

    #[tokio::test]
    async fn a_full_disk_refuses_and_the_node_goes_on_when_there_is_room() {
        let disk = CrashDisk::new();
        let node = running(&disk);
        node.commands.run(found()).await.unwrap();
        disk.set_free(Some(0));
        let full = node.commands.run(invite()).await.unwrap_err();
        assert_eq!(full.kind(), ErrorKind::StoreFull, "{full:?}");
        disk.set_free(None);
        node.commands.run(invite()).await.unwrap();
        drop(node.commands);
        node.ended.cancelled().await;
        node.thread.join().unwrap().unwrap();
    }

    /// A store in a folder whose snapshot is due; the thread that writes it stops at its first record until the second of what
    /// is returned is dropped. The third says that it is there.
    fn due(
        dir: &Path,
        close_waits: Duration,
    ) -> (Running, std_mpsc::SyncSender<()>, std_mpsc::Receiver<u64>) {
        let kdf = Kdf { memory_kib: Kdf::FLOOR.memory_kib, passes: 1 };
        let passphrase = Passphrase::new("correct horse");
        let store = Store::create(dir, &passphrase, kdf, home::rng()).unwrap().store;
        let (lets_go, gate) = std_mpsc::sync_channel::<()>(1);
        let (sender, reached) = std_mpsc::sync_channel(1);
        let gate = std::sync::Mutex::new(gate);
        let step = move |done| {
            if sender.try_send(done).is_ok() {
                // An error is the sender's end, which is what it waits for.
                let _ = gate.lock().unwrap().recv();
            }
        };
        let snapshots = Snapshots::at_once(dir.to_owned(), close_waits, Arc::new(step));
        (running_on(store, snapshots), lets_go, reached)
    }

    fn in_snapshots(dir: &Path) -> usize {
        std::fs::read_dir(dir.join("snapshots")).unwrap().count()
    }

    /// Longer than any of these tests takes on a busy machine.
    const PATIENCE: Duration = Duration::from_secs(120);

    /// The daily snapshot was written by the rules' thread: nobody was answered until it was done, and a stop waited for all
    /// of it.
    #[tokio::test]
    async fn a_snapshot_that_is_being_written_holds_up_nobody_and_no_close() {
        let dir = tempfile::tempdir().unwrap();
        let (node, lets_go, reached) = due(dir.path(), Duration::from_millis(1));
        let reached = tokio::task::spawn_blocking(move || reached.recv_timeout(PATIENCE));
        reached.await.unwrap().unwrap();
        let answered = tokio::time::timeout(PATIENCE, node.commands.run(found())).await;
        answered.expect("the rules wait for the snapshot").unwrap();
        assert_eq!(in_snapshots(dir.path()), 1, "it is being written");
        node.commands.put(Work::Close).await.unwrap();
        tokio::time::timeout(PATIENCE, node.ended.cancelled()).await.expect("the close waits");
        node.thread.join().unwrap().unwrap();
        // Peaceful, and nothing of it stays, though its thread is in the middle of it.
        assert_eq!(in_snapshots(dir.path()), 0);
        drop(lets_go);
        let passphrase = Passphrase::new("correct horse");
        Store::open(dir.path(), &passphrase, home::rng()).unwrap().store.close().unwrap();
        assert_eq!(in_snapshots(dir.path()), 0);
    }

    #[tokio::test]
    async fn a_snapshot_that_is_due_at_a_close_is_written_if_it_takes_no_longer_than_that() {
        let dir = tempfile::tempdir().unwrap();
        let (node, lets_go, _reached) = due(dir.path(), PATIENCE);
        drop(lets_go);
        node.commands.run(found()).await.unwrap();
        node.commands.put(Work::Close).await.unwrap();
        node.ended.cancelled().await;
        node.thread.join().unwrap().unwrap();
        assert_eq!(in_snapshots(dir.path()), 1);
        assert_eq!(Store::kept(dir.path()).snapshots.len(), 1);
    }
}
