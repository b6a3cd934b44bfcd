//! The tasks beside the rules' thread, how they start, and in which order they end.

use super::{
    EVENTS, Live, Task, evidence,
    failures::Failures,
    gossip,
    links::Links,
    reader::Reader,
    rules::{self, Learned, Outlets},
    shelf::Shelf,
    snapshots::Snapshots,
};
use crate::{
    beacon::{self, Beacons},
    commands::{self, Commands, Fate, Work},
    error::Error,
    home::{self, wall_ms},
    join::{self, Gate},
};
use oob_engine::{
    Engine, History, Input, LocalKeys,
    input::LinkId,
    snapshot::{RosterView, Snapshot},
};
use oob_mesh::{FoundBy, Gossip, Link, Mesh, MeshEvent, Quarantine, Restarts, Source, Topic};
use oob_proto::TransportKey;
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, OnceLock, atomic::AtomicU64},
    thread::JoinHandle,
    time::{Duration, Instant},
};
use tokio::{
    sync::{Semaphore, broadcast, mpsc, watch},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Neighbours' addresses waiting to be given to the mesh: more than there are neighbours.
const LEARNED: usize = 256;

/// Join streams answered at once: as many as the mesh lets in.
const JOINS: usize = 64;

/// How long a member that does not know us is left alone after we showed ourselves.
const SHOW_AGAIN: Duration = Duration::from_secs(5);

/// How long join streams and readers may take to end once they are told.
const END_WITHIN: Duration = Duration::from_secs(5);

/// How long the last commit may take: a slow disk with a full cache needs seconds.
const CLOSE_WITHIN: Duration = Duration::from_secs(60);

/// What tasks are called in the log when they fail.
const ADMITS: &str = "the task that admits members";
const LEARNS: &str = "the task that learns addresses";
pub(crate) const HEARS: &str = "the task that hears the mesh";

/// What a node holds of its actor.
pub(crate) struct Parts {
    pub(crate) gate: Gate,
    pub(crate) history: History,
    pub(crate) events: broadcast::Sender<Live>,
    pub(crate) last_event: Arc<AtomicU64>,
    pub(crate) failures: Failures,
    #[cfg(test)]
    pub(crate) links: Arc<Links>,
    pub(crate) task: Task,
}

/// Everything the tasks share.
#[derive(Clone)]
struct Shared {
    gate: Gate,
    events: broadcast::Sender<Live>,
    links: Arc<Links>,
    failures: Failures,
    tracker: TaskTracker,
    /// Cancelled when the node is to end.
    stop: CancellationToken,
}

/// Starts the thread and the tasks.
pub(crate) async fn start(
    engine: Engine,
    folder: Option<PathBuf>,
    keys: LocalKeys,
    mesh: Mesh,
    mesh_events: mpsc::Receiver<MeshEvent>,
) -> Result<Parts, Error> {
    let fate = Arc::new(Fate::default());
    let (commands, queue) = commands::queue(Arc::clone(&fate));
    let first = engine.snapshot();
    let history = engine.history();
    let (events, _) = broadcast::channel(EVENTS);
    let last_event = Arc::new(AtomicU64::new(first.last_event));
    let (snapshot_sender, snapshots) = watch::channel(Arc::clone(&first));
    let (learned_sender, learned) = mpsc::channel(LEARNED);
    let links = Arc::new(Links::default());
    let publisher = mesh.clone();
    let publish = move |frame: Vec<u8>| {
        // Dropped and counted there: what gossip does not carry, sync does.
        let _ = publisher.publish(frame.into());
    };
    let outlets = Outlets {
        snapshots: snapshot_sender,
        events: events.clone(),
        last_event: Arc::clone(&last_event),
        links: Arc::clone(&links),
        learned: learned_sender,
        publish: Box::new(publish),
    };
    let (stop, ended) = (CancellationToken::new(), CancellationToken::new());
    let copies = Snapshots::new(folder.clone(), Instant::now());
    let shelf = Shelf::new(folder.clone());
    let ended_too = ended.clone();
    let thread = match rules::start(engine, shelf, copies, queue, outlets, fate, ended_too) {
        Ok(thread) => thread,
        Err(error) => {
            mesh.shutdown().await;
            return Err(Error::from(error));
        }
    };

    let (allowed_sender, allowed) = watch::channel(first.roster.version);
    subscribe(&mesh, &first).await;
    mesh.allow(peers(&first.roster, mesh.local_key())).await;
    for (peer, address) in first.addresses.iter() {
        let found_by = if peer.is_some() { FoundBy::Learned } else { FoundBy::Typed };
        if let Err(error) = mesh.learn(*peer, address, found_by).await {
            tracing::debug!(%error, "a kept address is not used");
        }
    }
    let gate = Gate { commands, mesh, keys: Arc::new(keys), snapshots, allowed };
    // Before anybody can ask for something: an invitation names these addresses. An error is the end of the rules, which
    // whoever asks is told.
    let addresses = gate.mesh.listening();
    let _ = gate.commands.input(Input::Listening { addresses }).await;
    let shared = Shared {
        gate: gate.clone(),
        events: events.clone(),
        links,
        failures: Failures::default(),
        tracker: TaskTracker::new(),
        stop: stop.clone(),
    };
    let failures = shared.failures.clone();
    #[cfg(test)]
    let links = Arc::clone(&shared.links);
    if let Some(home) = folder {
        spawn(&shared, keep_evidence(shared.gate.mesh.quarantine(), home));
    }
    let stopped = CancellationToken::new();
    let outcome = Arc::new(OnceLock::new());
    let (watching, learning, mut learned) = (shared.clone(), shared.clone(), learned);
    spawn(&shared, async move {
        let Shared { failures, .. } = &watching;
        let watch = || failures.survive(ADMITS, watch_roster(&watching, &allowed_sender));
        let mut restarts = Restarts::default();
        while watch().await.is_none() && failures.pause(&mut restarts).await {}
    });
    spawn(&shared, async move {
        let Shared { failures, .. } = &learning;
        let mut restarts = Restarts::default();
        while failures.survive(LEARNS, learn(&learning, &mut learned)).await.is_none()
            && failures.pause(&mut restarts).await
        {}
    });
    let (gossips, messages) = gossip::queue();
    let reader = gossip::Reader {
        messages,
        mesh: gate.mesh.clone(),
        commands: gate.commands.clone(),
        snapshots: gate.snapshots.clone(),
        quarantine: gate.mesh.quarantine(),
        failures: failures.clone(),
    };
    spawn(&shared, reader.run());
    tokio::spawn(supervise(
        shared,
        Inlet { mesh_events, gossips },
        Thread { ended, thread },
        stopped.clone(),
        Arc::clone(&outcome),
    ));
    let task = Task { stop: stop.drop_guard(), stopped, outcome };
    Ok(Parts {
        gate,
        history,
        events,
        last_event,
        failures,
        #[cfg(test)]
        links,
        task,
    })
}

/// What the mesh tells, and where gossip goes on to.
struct Inlet {
    mesh_events: mpsc::Receiver<MeshEvent>,
    gossips: mpsc::Sender<Gossip>,
}

struct Thread {
    ended: CancellationToken,
    thread: JoinHandle<Result<(), Error>>,
}

/// Serves the mesh until the node is to end or the rules have stopped, then ends everything in order.
async fn supervise(
    shared: Shared,
    inlet: Inlet,
    rules: Thread,
    stopped: CancellationToken,
    outcome: Arc<OnceLock<Result<(), Error>>>,
) {
    tokio::select! {
        () = serve(&shared, inlet) => {}
        () = rules.ended.cancelled() => {}
        () = shared.stop.cancelled() => {}
    }
    shared.stop.cancel();
    shared.gate.mesh.shutdown().await;
    shared.tracker.close();
    if timeout(END_WITHIN, shared.tracker.wait()).await.is_err() {
        tracing::warn!("a task of the node did not end in time");
    }
    let result = close(&shared.gate.commands, rules).await;
    let _ = outcome.set(result);
    stopped.cancel();
}

/// Makes everything durable, closes the store, joins the thread.
async fn close(commands: &Commands, rules: Thread) -> Result<(), Error> {
    let late = || Error::internal("the store did not close in time");
    let ending = async {
        // An error: the thread has ended already.
        let _ = commands.put(Work::Close).await;
        rules.ended.cancelled().await;
    };
    timeout(CLOSE_WITHIN, ending).await.map_err(|_| late())?;
    let joined = tokio::task::spawn_blocking(move || rules.thread.join()).await;
    match joined {
        Ok(Ok(result)) => result,
        Ok(Err(_)) | Err(_) => Err(Error::internal("the rules' thread ended badly")),
    }
}

/// Takes what the mesh tells; ends when the mesh does, and goes on where it panics.
async fn serve(shared: &Shared, mut inlet: Inlet) {
    let Shared { failures, .. } = shared;
    let (mut known, mut restarts) = (Known::default(), Restarts::default());
    while failures.survive(HEARS, hear(shared, &mut inlet, &mut known)).await.is_none() {
        if !failures.pause(&mut restarts).await {
            // Nobody can be reached any more; the store and whoever asks for it do without.
            std::future::pending().await
        }
    }
}

/// What is known of the links. It outlives a failure of the task that hears: the links do, too.
#[derive(Default)]
struct Known {
    /// The number of the newest link. None has that of another, whose reader may still be at work.
    newest: u64,
    /// Who reads the newest link of each neighbour.
    readers: BTreeMap<TransportKey, CancellationToken>,
}

/// Takes what the mesh tells, one after the other.
async fn hear(shared: &Shared, inlet: &mut Inlet, known: &mut Known) {
    let Inlet { mesh_events, gossips } = inlet;
    let joins = Arc::new(Semaphore::new(JOINS));
    let mut beacons = Beacons::default();
    let mut shown: BTreeMap<TransportKey, Instant> = BTreeMap::new();
    while let Some(event) = mesh_events.recv().await {
        #[cfg(test)]
        shared.failures.fail_if_asked(HEARS);
        match event {
            MeshEvent::Up(link) => {
                known.newest = known.newest.wrapping_add(1);
                known.readers.retain(|_, ended| !ended.is_cancelled());
                let ended = CancellationToken::new();
                let before = known.readers.insert(link.key, ended.clone());
                tell_peer(shared, &link.key, true);
                read(shared, LinkId(known.newest), link, before, ended);
            }
            MeshEvent::Down { key, reason } => {
                tracing::debug!(%reason, "a link is down");
                tell_peer(shared, &key, false);
            }
            MeshEvent::Join(stream) => {
                let Ok(place) = Arc::clone(&joins).try_acquire_owned() else { continue };
                let gate = shared.gate.clone();
                spawn(shared, async move {
                    let _place = place;
                    if let Err(error) = join::answer(&gate, stream).await {
                        tracing::debug!(%error, "a join stream came to nothing");
                    }
                });
            }
            MeshEvent::NotAdmitted { key, address } => {
                let now = Instant::now();
                shown.retain(|_, at| now.duration_since(*at) < SHOW_AGAIN);
                if shown.contains_key(&key) || !in_roster(shared, &key) {
                    continue;
                }
                shown.insert(key, now);
                let gate = shared.gate.clone();
                spawn(shared, async move {
                    if let Err(error) = join::show(&gate, key, &address).await {
                        tracing::debug!(%error, "a member did not hear us out");
                    }
                });
            }
            MeshEvent::BeaconDue => {
                let snapshot = Arc::clone(&shared.gate.snapshots.borrow());
                let (mesh, now) = (&shared.gate.mesh, wall_ms() / 1_000);
                let beacon = beacons.make(&mut home::rng(), &snapshot, &mesh.listening(), now);
                // One that cannot go out now is made again when the next is due.
                let _ = beacon.map(|beacon| mesh.send_beacon(beacon));
            }
            MeshEvent::Beacon { data, from } => {
                let snapshot = Arc::clone(&shared.gate.snapshots.borrow());
                let quarantine = shared.gate.mesh.quarantine();
                let hear = || beacon::hear(&snapshot, &data, from);
                let heard = quarantine.absorb(Source::Beacon, &data, hear).flatten();
                if let Some(beacon::Heard { peer, addresses }) = heard {
                    shared.gate.mesh.learn_beacon(peer, &addresses).await;
                }
            }
            // The mesh lets no more exist than have a place there.
            MeshEvent::Gossip(message) => drop(gossips.try_send(message)),
            MeshEvent::Listening(addresses) => {
                let told = shared.gate.commands.input(Input::Listening { addresses }).await;
                if told.is_err() {
                    return;
                }
            }
            _ => {}
        }
    }
    tracing::warn!("the mesh has ended");
}

/// Runs a task that ends, at the latest, when the node is to end.
fn spawn(shared: &Shared, task: impl Future<Output = ()> + Send + 'static) {
    let (stop, failures) = (shared.stop.clone(), shared.failures.clone());
    shared.tracker.spawn(async move {
        tokio::select! {
            _ = failures.survive("a task", task) => {}
            () = stop.cancelled() => {}
        }
    });
}

/// Reads a link in a task of its own, behind the end of the same neighbour's link before: the rules hear of that first.
fn read(
    shared: &Shared,
    id: LinkId,
    link: Link,
    before: Option<CancellationToken>,
    ended: CancellationToken,
) {
    let close = shared.stop.child_token();
    shared.links.add(id, link.sender, close.clone());
    let reader = Reader {
        link: id,
        peer: link.key,
        frames: link.receiver,
        commands: shared.gate.commands.clone(),
        snapshots: shared.gate.snapshots.clone(),
        links: Arc::clone(&shared.links),
        quarantine: shared.gate.mesh.quarantine(),
        failures: shared.failures.clone(),
        close,
    };
    // Not cancelled with the others: it ends by itself when the link is closed, and then tells the rules.
    shared.tracker.spawn(async move {
        let _ended = ended.drop_guard();
        if let Some(before) = before {
            before.cancelled().await;
        }
        reader.run().await;
    });
}

fn in_roster(shared: &Shared, key: &TransportKey) -> bool {
    shared.gate.snapshots.borrow().roster.by_transport(key).is_some()
}

fn tell_peer(shared: &Shared, key: &TransportKey, reachable: bool) {
    let snapshot = Arc::clone(&shared.gate.snapshots.borrow());
    if let Some(device) = snapshot.roster.by_transport(key) {
        // No receiver: nobody listens, and status says it too.
        let _ = shared.events.send(Live::Peer { device: device.id, reachable });
    }
}

/// Gossips under the topic of the organisation, once there is one.
async fn subscribe(mesh: &Mesh, snapshot: &Snapshot) {
    if let Some(org) = &snapshot.org {
        mesh.subscribe(Topic::of(&org.id)).await;
    }
}

/// Keeps the mesh's roster equal to the organisation's.
async fn watch_roster(shared: &Shared, allowed: &watch::Sender<u64>) {
    let mut snapshots = shared.gate.snapshots.clone();
    loop {
        let snapshot = Arc::clone(&snapshots.borrow_and_update());
        // Before anybody is let in: who has a link and no subscription is taken for deaf.
        subscribe(&shared.gate.mesh, &snapshot).await;
        let roster = &snapshot.roster;
        if roster.version != *allowed.borrow() {
            let mesh = &shared.gate.mesh;
            mesh.allow(peers(roster, mesh.local_key())).await;
            allowed.send_replace(roster.version);
        }
        tokio::select! {
            changed = snapshots.changed() => if changed.is_err() { return },
            () = shared.stop.cancelled() => return,
        }
    }
}

fn peers(roster: &RosterView, me: TransportKey) -> BTreeSet<TransportKey> {
    roster.devices.values().map(|device| device.transport).filter(|key| *key != me).collect()
}

/// Knows what was caught in earlier runs, and keeps a copy of what is caught in this one.
async fn keep_evidence(quarantine: Quarantine, home: PathBuf) {
    let before = {
        let home = home.clone();
        tokio::task::spawn_blocking(move || evidence::known(&home)).await.unwrap_or_default()
    };
    before.into_iter().for_each(|id| quarantine.know(id));
    loop {
        let (caught, home) = (quarantine.next().await, home.clone());
        let kept = tokio::task::spawn_blocking(move || evidence::keep(&home, &caught)).await;
        if !matches!(kept, Ok(Ok(()))) {
            tracing::warn!(?kept, "what made a task fail could not be kept");
        }
    }
}

/// Gives the mesh what members told of themselves.
async fn learn(shared: &Shared, learned: &mut mpsc::Receiver<Learned>) {
    loop {
        let Learned { peer, addresses } = tokio::select! {
            learned = learned.recv() => match learned {
                Some(learned) => learned,
                None => return,
            },
            () = shared.stop.cancelled() => return,
        };
        for address in addresses {
            if let Err(error) = shared.gate.mesh.learn(Some(peer), &address, FoundBy::Learned).await
            {
                tracing::debug!(%error, "a member's address is not used");
            }
        }
    }
}
