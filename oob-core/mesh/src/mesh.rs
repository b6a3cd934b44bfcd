//! The handle of a running mesh, and the supervisor of its swarm task.

use bytes::Bytes;
use futures::{StreamExt, stream::FuturesUnordered};
use libp2p::identity::Keypair;
use oob_proto::{TransportKey, limits};
use std::{collections::BTreeSet, sync::Arc, time::Duration};
use tokio::{
    sync::{Mutex, mpsc, oneshot, watch},
    time::{Instant, sleep, sleep_until, timeout},
};

use crate::{
    address::{AddressError, FoundBy, Place, Target},
    beacon::BEACON_BYTES,
    book::Heard,
    config::{MeshConfig, MeshError},
    driver::{Ask, Command, Driver, Plan},
    event::{Counters, DownReason, GossipId, Health, KnownAddress, MeshEvent, PeerInfo, Verdict},
    join::JoinStream,
    listen,
    quarantine::Quarantine,
    queue::{self, FrameReceiver, FrameSender, GOSSIP_BYTES, SendError},
    restarts::Restarts,
    shared::Shared,
    surroundings::Surroundings,
    topic::Topic,
};

/// Commands that may wait for the swarm task; whoever gives more waits.
const COMMANDS: usize = 64;

/// Events that may wait for the owner of the mesh; then they wait inside, at most two per peer.
const EVENTS: usize = 256;

/// Messages for gossip that may wait for the swarm task, and their bytes: one batch of the rules has at most a few
/// hundred. More are dropped, and sync brings them.
const PUBLISH: usize = 1_024;
const PUBLISH_BYTES: usize = 4 * 1024 * 1024;

/// Beacons that may wait to be sent: one is made when one is due.
const BEACONS: usize = 2;

/// How long the first transport is tried alone when an address leaves open which one.
const HEAD_START: Duration = Duration::from_millis(300);

/// Longest wait for a join stream: the longest dial and a negotiation.
const OPEN_JOIN: Duration = Duration::from_secs(10);

/// A running mesh. Cheap to clone; the mesh ends when the last clone is dropped, or by [`Mesh::shutdown`].
#[derive(Debug, Clone)]
pub struct Mesh {
    shared: Arc<Shared>,
    commands: mpsc::Sender<Command>,
    publications: FrameSender,
    beacons: mpsc::Sender<Bytes>,
    ended: watch::Receiver<()>,
}

/// Starts a mesh and returns when it listens.
///
/// # Errors
/// See [`MeshError`].
pub async fn start(config: MeshConfig) -> Result<(Mesh, mpsc::Receiver<MeshEvent>), MeshError> {
    let MeshConfig { transport_secret, listen, mdns, beacon, private_only } = config;
    let mut secret = transport_secret;
    // Takes the bytes over and wipes them.
    let keypair = Keypair::ed25519_from_bytes(&mut *secret).map_err(|_| MeshError::Secret)?;
    let public = keypair.public().try_into_ed25519().map_err(|_| MeshError::Secret)?;
    let key = TransportKey::from(public.to_bytes());
    let shared = Arc::new(Shared::new(key, private_only));
    let beacon = beacon && !listen::is_loopback_only(&listen);
    let plan = Plan { keypair, listen, mdns, shared: Arc::clone(&shared) };
    let (commands, receiver) = mpsc::channel(COMMANDS);
    let (publications, published) = queue::bounded(PUBLISH, PUBLISH_BYTES);
    let inlets = Inlets {
        commands: Arc::new(Mutex::new(receiver)),
        publications: Arc::new(Mutex::new(published)),
    };
    let (events, owner) = mpsc::channel(EVENTS);
    let driver = inlets.driver(&plan, &events).await?;
    let (beacons, to_send) = mpsc::channel(BEACONS);
    let surroundings = Surroundings {
        shared: Arc::clone(&shared),
        commands: commands.downgrade(),
        events: events.clone(),
        beacons: beacon.then_some(to_send),
    };
    let surroundings = tokio::spawn(surroundings.run());
    let (end, ended) = watch::channel(());
    tokio::spawn(async move {
        supervise(plan, driver, inlets, events).await;
        surroundings.abort();
        // Cancelled, or ended before: its sockets are closed.
        let _ = surroundings.await;
        drop(end);
    });
    Ok((Mesh { shared, commands, publications, beacons, ended }, owner))
}

/// What the swarm task takes from the handles, and its successor after it.
struct Inlets {
    commands: Arc<Mutex<mpsc::Receiver<Command>>>,
    publications: Arc<Mutex<FrameReceiver>>,
}

impl Inlets {
    async fn driver(
        &self,
        plan: &Plan,
        events: &mpsc::Sender<MeshEvent>,
    ) -> Result<Driver, MeshError> {
        let commands = Arc::clone(&self.commands).lock_owned().await;
        let publications = Arc::clone(&self.publications).lock_owned().await;
        Driver::start(plan, commands, publications, events.clone()).await
    }

    /// Takes commands while there is no swarm task, until a moment if there is one; says whether the mesh goes on then.
    async fn hold(&self, shared: &Shared, until: Option<Instant>) -> bool {
        let mut commands = self.commands.lock().await;
        let over = async {
            match until {
                Some(until) => sleep_until(until).await,
                None => std::future::pending().await,
            }
        };
        tokio::pin!(over);
        loop {
            let command = tokio::select! {
                () = &mut over => return true,
                command = commands.recv() => command,
            };
            match command {
                None | Some(Command::Shutdown) => return false,
                // The next one lets in whom this says.
                Some(Command::Allow { roster, done }) => {
                    *shared.roster() = roster;
                    let _ = done.send(());
                }
                // Who waits for an answer is told that there is no network now; all else the next one finds out itself.
                Some(_) => {}
            }
        }
    }
}

/// Runs the swarm task. One that panics takes its links along and nothing else: it is replaced, unless that has happened
/// too often in a row.
async fn supervise(plan: Plan, first: Driver, inlets: Inlets, events: mpsc::Sender<MeshEvent>) {
    let shared = Arc::clone(&plan.shared);
    let mut restarts = Restarts::default();
    let mut driver = first;
    loop {
        let Err(error) = tokio::spawn(driver.run()).await else { return };
        if !error.is_panic() {
            return;
        }
        shared.counts.faults.add();
        *shared.health() = Health::Restarting;
        let lost = std::mem::take(&mut *shared.live());
        for key in lost.into_keys() {
            let down = MeshEvent::Down { key, reason: DownReason::Fault };
            if events.send(down).await.is_err() {
                return;
            }
        }
        let Some(mut wait) = restarts.failed(Instant::now()) else {
            *shared.health() = Health::GivenUp;
            tracing::error!(
                "the swarm task failed too often in a row and is not replaced any more"
            );
            inlets.hold(&shared, None).await;
            return;
        };
        tracing::error!(?wait, "the swarm task failed and is replaced");
        let mut tries = 0_u32;
        driver = loop {
            if !inlets.hold(&shared, Some(Instant::now() + wait)).await || events.is_closed() {
                return;
            }
            match inlets.driver(&plan, &events).await {
                Ok(driver) => break driver,
                Err(error) => tracing::error!(%error, "the swarm task could not be replaced yet"),
            }
            tries = tries.saturating_add(1);
            wait = wait.max(Restarts::wait(tries));
        };
        *shared.health() = Health::Well;
    }
}

impl Mesh {
    /// Returns our own transport key.
    pub fn local_key(&self) -> TransportKey {
        self.shared.key
    }

    /// Returns where we can be reached, per interface, as multiaddrs with `/p2p/`; loopback only if there is nothing else.
    pub fn listening(&self) -> Vec<String> {
        self.shared.listening().addresses.clone()
    }

    /// Returns the port we listen on if the usual one was taken.
    pub fn moved_port(&self) -> Option<u16> {
        self.shared.listening().moved_port
    }

    /// Gossips under a topic from now on, with every roster peer there is a link to.
    pub async fn subscribe(&self, topic: Topic) {
        if self.shared.topic().replace(topic.clone()) == Some(topic) {
            return;
        }
        let (done, is_done) = oneshot::channel();
        if self.commands.send(Command::Subscribe { done }).await.is_ok() {
            let _ = is_done.await;
        }
    }

    /// Gives a message to everybody reachable, over as many hops as it takes. Nobody says whether it arrives: it is a
    /// short cut to what sync does anyway.
    ///
    /// # Errors
    /// A message longer than [`GOSSIP_BYTES`], a queue that is full: the message is dropped.
    pub fn publish(&self, data: Bytes) -> Result<(), SendError> {
        let len = data.len();
        if len > GOSSIP_BYTES {
            return Err(SendError::GossipLength { len });
        }
        let queued = self.publications.try_send(data);
        if queued.is_err() {
            self.shared.counts.gossip_unsent.add();
        }
        queued
    }

    /// Says what becomes of a message that came by gossip; it is passed on only after [`Verdict::Accept`], and only if
    /// that comes within eight seconds.
    pub async fn verdict(&self, id: GossipId, from: TransportKey, verdict: Verdict) {
        // A mesh that has ended passes nothing on.
        let _ = self.commands.send(Command::Judge { id, from, verdict }).await;
    }

    /// Sends a beacon on every local network. [`MeshEvent::BeaconDue`] says when.
    ///
    /// # Errors
    /// A beacon longer than [`BEACON_BYTES`], a mesh that sends none, or one before that has not gone out.
    pub fn send_beacon(&self, data: Bytes) -> Result<(), SendError> {
        let len = data.len();
        if len > BEACON_BYTES {
            return Err(SendError::BeaconLength { len });
        }
        self.beacons.try_send(data).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => SendError::Full,
            mpsc::error::TrySendError::Closed(_) => SendError::Closed,
        })
    }

    /// Replaces the set of admitted peers. Links of peers no longer in it are closed before this returns.
    pub async fn allow(&self, roster: BTreeSet<TransportKey>) {
        let (done, is_done) = oneshot::channel();
        if self.commands.send(Command::Allow { roster, done }).await.is_ok() {
            let _ = is_done.await;
        }
    }

    /// Learns an address, `IP:PORT` or multiaddr, and dials it soon if its peer is in the roster or not known. Returns it in
    /// one form for all.
    ///
    /// # Errors
    /// A text that is no address, or one that this mesh may not dial.
    pub async fn learn(
        &self,
        peer: Option<TransportKey>,
        address: &str,
        found_by: FoundBy,
    ) -> Result<String, AddressError> {
        let Target { places, key, normalised } = Target::parse(address)?;
        if let (Some(peer), Some(key)) = (peer, key)
            && peer != key
        {
            return Err(AddressError::OtherPeer { text: normalised });
        }
        self.check_private(&places, &normalised)?;
        let peer = peer.or(key);
        if peer == Some(self.shared.key) {
            return Ok(normalised);
        }
        let now = Instant::now();
        for place in places {
            let heard = match peer {
                Some(key) => {
                    let roster = self.shared.roster().clone();
                    self.shared.book().hear(key, place, found_by, &roster, now)
                }
                None => self.shared.book().hear_unknown(place, found_by, now),
            };
            if heard == Heard::Refused {
                self.shared.counts.addresses_refused.add();
                continue;
            }
            let command = match peer {
                Some(key) => Command::Heard { key },
                None => Command::HeardUnknown { place },
            };
            self.commands.send(command).await.map_err(|_| AddressError::Stopped)?;
        }
        Ok(normalised)
    }

    /// Learns where a beacon says a roster peer is, as multiaddrs, and dials it at once if any of that is new. Addresses that
    /// may not be dialled, and those outside the private ranges, are passed over: whoever records a beacon may send it
    /// again from wherever he likes.
    pub async fn learn_beacon(&self, peer: TransportKey, addresses: &[String]) {
        let (roster, now) = (self.shared.roster().clone(), Instant::now());
        if peer == self.shared.key || !roster.contains(&peer) {
            return;
        }
        let mut best = Heard::Refused;
        for address in addresses.iter().take(limits::ADDRESSES_PER_PEER) {
            let places = Target::parse(address).map(|target| target.places).unwrap_or_default();
            for place in places {
                let mut heard = Heard::Refused;
                if place.is_private() {
                    heard = self.shared.book().hear(peer, place, FoundBy::Beacon, &roster, now);
                }
                match heard {
                    Heard::New => best = Heard::New,
                    Heard::Again if best == Heard::Refused => best = Heard::Again,
                    Heard::Again => {}
                    Heard::Refused => self.shared.counts.addresses_refused.add(),
                }
            }
        }
        let command = match best {
            Heard::New => Command::HeardElsewhere { key: peer },
            Heard::Again => Command::Heard { key: peer },
            Heard::Refused => return,
        };
        // A mesh that has ended dials nobody.
        let _ = self.commands.send(command).await;
    }

    fn check_private(&self, places: &[Place], text: &str) -> Result<(), AddressError> {
        if self.shared.private_only && !places.iter().all(|place| place.is_private()) {
            return Err(AddressError::NotPrivate { text: text.to_owned() });
        }
        Ok(())
    }

    /// Returns every address of roster peers and of peers not identified yet.
    pub fn known(&self) -> Vec<KnownAddress> {
        let roster = self.shared.roster().clone();
        self.shared.book().known(&roster)
    }

    /// Returns the addresses heard of peers that are not in the roster: candidates to join at.
    pub fn seen_strangers(&self) -> Vec<KnownAddress> {
        let roster = self.shared.roster().clone();
        self.shared.book().strangers(&roster)
    }

    /// Dials an address, whoever is there, and opens a join stream on a connection of its own.
    ///
    /// # Errors
    /// Nobody there, somebody else than `/p2p/` says, or nobody who speaks the join protocol; at most 10 seconds later.
    ///
    /// # Cancel safety
    /// Safe: a connection that nobody waits for is closed.
    pub async fn open_join(&self, address: &str) -> Result<JoinStream, MeshError> {
        let Target { places, key, normalised } = Target::parse(address)?;
        self.check_private(&places, &normalised)?;
        let mut attempts = FuturesUnordered::new();
        for (at, place) in (0u32..).zip(places) {
            attempts.push(async move {
                sleep(HEAD_START.saturating_mul(at)).await;
                let (reply, answer) = oneshot::channel();
                let address = place.to_multiaddr().to_string();
                let ask = Ask { place, key, reply };
                self.commands.send(Command::Join(ask)).await.map_err(|_| MeshError::Stopped)?;
                // A swarm task that ends takes the question with it; if it failed, its successor may be asked again.
                answer.await.unwrap_or_else(|_| match self.commands.is_closed() {
                    true => Err(MeshError::Stopped),
                    false => Err(MeshError::Unreachable {
                        address,
                        reason: "the network of this device has ended".to_owned(),
                    }),
                })
            });
        }
        let race = async {
            let mut failed = None;
            while let Some(result) = attempts.next().await {
                match result {
                    Ok(stream) => return Ok(stream),
                    // Somebody who is there but does not speak with us says more than nobody.
                    Err(error) if matches!(failed, Some(MeshError::NoJoin { .. })) => drop(error),
                    Err(error) => failed = Some(error),
                }
            }
            Err(failed.unwrap_or(MeshError::Stopped))
        };
        timeout(OPEN_JOIN, race).await.unwrap_or_else(|_| {
            let reason = "no answer in time".to_owned();
            Err(MeshError::Unreachable { address: normalised, reason })
        })
    }

    /// Closes the connections to a peer. It may come back: the roster decides who is admitted.
    pub async fn disconnect(&self, key: TransportKey) {
        let (done, is_done) = oneshot::channel();
        if self.commands.send(Command::Disconnect { key, done }).await.is_ok() {
            let _ = is_done.await;
        }
    }

    /// Returns the live links.
    pub fn peers(&self) -> Vec<PeerInfo> {
        self.shared.peers()
    }

    /// Returns how the network task stands.
    pub fn health(&self) -> Health {
        *self.shared.health()
    }

    /// Returns what has made tasks fail.
    pub fn quarantine(&self) -> Quarantine {
        self.shared.quarantine.clone()
    }

    /// Returns what was refused or went wrong since the start.
    pub fn counters(&self) -> Counters {
        self.shared.counts.read()
    }

    /// Closes every link and stops; returns when the sockets are closed.
    pub async fn shutdown(&self) {
        if self.commands.send(Command::Shutdown).await.is_ok() {
            let mut ended = self.ended.clone();
            // Nothing is ever sent on it: it ends with the supervisor.
            let _ = ended.changed().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::Listen, quarantine::Source};
    use zeroize::Zeroizing;

    async fn begin(seed: u8) -> (Mesh, mpsc::Receiver<MeshEvent>) {
        let listen = Listen::Explicit(vec!["/ip4/127.0.0.1/tcp/0".to_owned()]);
        let transport_secret = Zeroizing::new([seed; 32]);
        start(MeshConfig {
            transport_secret,
            listen,
            mdns: false,
            beacon: false,
            private_only: true,
        })
        .await
        .unwrap()
    }

    /// Waits for an event that fits; how long is the test runner's affair.
    async fn wait(
        events: &mut mpsc::Receiver<MeshEvent>,
        fits: fn(&MeshEvent) -> bool,
    ) -> MeshEvent {
        loop {
            let event = events.recv().await.unwrap();
            if fits(&event) {
                return event;
            }
        }
    }

    #[tokio::test]
    async fn a_swarm_task_that_panics_takes_its_links_along_and_nothing_else() {
        let (a, mut events_a) = begin(1).await;
        let (b, mut events_b) = begin(2).await;
        a.allow([b.local_key()].into()).await;
        b.allow([a.local_key()].into()).await;
        a.learn(None, &b.listening()[0], FoundBy::Typed).await.unwrap();
        let up = |event: &MeshEvent| matches!(event, MeshEvent::Up(_));
        let _links = (wait(&mut events_a, up).await, wait(&mut events_b, up).await);
        a.commands.send(Command::Panic).await.unwrap();
        let fault = DownReason::Fault;
        let MeshEvent::Down { reason, .. } =
            wait(&mut events_a, |event| matches!(event, MeshEvent::Down { .. })).await
        else {
            panic!("not down")
        };
        assert_eq!((reason, a.counters().faults), (fault, 1));
        // Roster and addresses are still known, so the link comes back by itself.
        wait(&mut events_a, up).await;
        wait(&mut events_b, up).await;
    }

    /// Links two, both gossiping; returns the links, which live as long as they are held.
    async fn linked() -> [(Mesh, mpsc::Receiver<MeshEvent>); 2] {
        let ((a, mut events_a), (b, mut events_b)) = (begin(1).await, begin(2).await);
        for mesh in [&a, &b] {
            mesh.subscribe(Topic::of(&[9; 32].into())).await;
        }
        a.allow([b.local_key()].into()).await;
        b.allow([a.local_key()].into()).await;
        // Whoever fails listens elsewhere afterwards, so it is the one that dials.
        b.learn(None, &a.listening()[0], FoundBy::Typed).await.unwrap();
        both_up(&mut events_a, &mut events_b).await;
        [(a, events_a), (b, events_b)]
    }

    /// Waits until both have the link. The links are left to themselves: they stay as long as nobody drops their ends.
    async fn both_up(a: &mut mpsc::Receiver<MeshEvent>, b: &mut mpsc::Receiver<MeshEvent>) {
        let up = |event: &MeshEvent| matches!(event, MeshEvent::Up(_));
        for link in [wait(a, up).await, wait(b, up).await] {
            std::mem::forget(link);
        }
    }

    /// Publishes until it comes out: a subscription may still be on its way.
    async fn gossip(from: &Mesh, to: &mut mpsc::Receiver<MeshEvent>, data: &'static [u8]) {
        let mut number = 0_u32;
        loop {
            // The same bytes would go round only once.
            let mut bytes = data.to_vec();
            bytes.extend_from_slice(&number.to_be_bytes());
            number += 1;
            from.publish(bytes.into()).unwrap();
            let came = wait(to, |event| matches!(event, MeshEvent::Gossip(_)));
            if let Ok(MeshEvent::Gossip(message)) = timeout(Duration::from_millis(200), came).await
                && message.data.starts_with(data)
            {
                return;
            }
        }
    }

    #[tokio::test]
    async fn bytes_that_make_the_network_task_fail_are_caught_and_it_goes_on_without_them() {
        let [(a, mut events_a), (b, mut events_b)] = linked().await;
        gossip(&a, &mut events_b, b"before").await;
        let (quarantine, bad) = (b.quarantine(), b"poison");
        quarantine.inject(move |source, bytes| source == Source::Gossip && bytes == bad);
        a.publish(Bytes::from_static(bad)).unwrap();
        let down = wait(&mut events_b, |event| matches!(event, MeshEvent::Down { .. })).await;
        assert!(matches!(down, MeshEvent::Down { reason: DownReason::Fault, .. }));
        let caught = quarantine.next().await;
        assert_eq!((&caught.bytes[..], caught.source), (&bad[..], Source::Gossip));
        // Commands are answered meanwhile, and the links come back.
        b.allow([a.local_key()].into()).await;
        both_up(&mut events_a, &mut events_b).await;
        gossip(&a, &mut events_b, b"after").await;
        assert_eq!((b.counters().faults, b.health()), (1, Health::Well));
        // Neighbours that have them still do not make it fail again: somebody else publishes the same bytes.
        drop((a, events_a));
        let (c, mut events_c) = begin(3).await;
        c.subscribe(Topic::of(&[9; 32].into())).await;
        c.allow([b.local_key()].into()).await;
        b.allow([c.local_key()].into()).await;
        b.learn(None, &c.listening()[0], FoundBy::Typed).await.unwrap();
        both_up(&mut events_b, &mut events_c).await;
        gossip(&c, &mut events_b, b"third").await;
        c.publish(Bytes::from_static(bad)).unwrap();
        gossip(&c, &mut events_b, b"fourth").await;
        assert_eq!((b.counters().faults, quarantine.refused(), quarantine.caught()), (1, 1, 1));
    }

    /// What the test above would see without a supervisor.
    #[tokio::test]
    async fn without_a_supervisor_one_panic_ends_the_network() {
        let (commands, receiver) = mpsc::channel(COMMANDS);
        let (_publications, published) = queue::bounded(PUBLISH, PUBLISH_BYTES);
        let mut secret = [7; 32];
        let keypair = Keypair::ed25519_from_bytes(&mut secret).unwrap();
        let public = keypair.public().try_into_ed25519().unwrap();
        let key = TransportKey::from(public.to_bytes());
        let listen = Listen::Explicit(vec!["/ip4/127.0.0.1/tcp/0".to_owned()]);
        let plan = Plan { keypair, listen, mdns: false, shared: Arc::new(Shared::new(key, true)) };
        let inlets = Inlets {
            commands: Arc::new(Mutex::new(receiver)),
            publications: Arc::new(Mutex::new(published)),
        };
        let (events, mut owner) = mpsc::channel(EVENTS);
        let driver = inlets.driver(&plan, &events).await.unwrap();
        drop(events);
        let task = tokio::spawn(driver.run());
        commands.send(Command::Panic).await.unwrap();
        assert!(task.await.unwrap_err().is_panic());
        assert!(owner.recv().await.is_none(), "nobody tells anything any more");
        let (done, is_done) = oneshot::channel();
        commands.send(Command::Allow { roster: BTreeSet::new(), done }).await.unwrap();
        let answer = timeout(Duration::from_millis(500), is_done).await;
        assert!(answer.is_err(), "nobody answers any more");
    }

    #[tokio::test(start_paused = true)]
    async fn a_network_task_that_goes_on_failing_is_given_up_and_the_rest_is_answered() {
        let (a, mut events) = begin(1).await;
        let mut failures = 0;
        while a.health() != Health::GivenUp {
            if a.health() == Health::Well && a.counters().faults == failures {
                a.commands.send(Command::Panic).await.unwrap();
                failures += 1;
            }
            tokio::task::yield_now().await;
            sleep(Duration::from_millis(50)).await;
        }
        assert_eq!((failures, a.counters().faults), (9, 9));
        // Whoever asks for something gets an answer, and the end is the end.
        a.allow(BTreeSet::new()).await;
        a.disconnect(a.local_key()).await;
        assert!(a.open_join("/ip4/127.0.0.1/tcp/9").await.is_err());
        a.shutdown().await;
        while events.recv().await.is_some() {}
    }

    #[tokio::test]
    async fn a_mesh_that_nobody_holds_any_more_ends() {
        let (a, mut events) = begin(1).await;
        drop(a);
        while events.recv().await.is_some() {}
    }
}
