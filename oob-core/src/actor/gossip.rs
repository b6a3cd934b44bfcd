//! What comes by gossip: screened on a worker, judged for its neighbours, then given to the rules.
//!
//! The verdict goes back to the mesh before the rules run: a member's envelope is passed on while this device still
//! writes its own copy. What only the rules can check is not passed on here; they hand it on by the streams if it is news
//! (gossip takes no bytes twice, so they could not publish what came by it).

use super::failures::Failures;
use crate::{
    commands::Commands,
    error::Error,
    screen::{Heard, Held, Judged, judge_gossip},
};
use oob_engine::{
    Input,
    envelope::{Screened, VerifiedEnvelope},
    input::Arrived,
    snapshot::{Novelty, ScreenKeys, Snapshot},
};
use oob_mesh::{Gossip, Mesh, Quarantine, Restarts, Verdict};
use oob_proto::{DeviceId, TransportKey};
use std::{collections::BTreeMap, sync::Arc, time::Instant};
use tokio::{
    sync::{mpsc, watch},
    time::sleep_until,
};

/// Messages that may wait for the screening: the mesh lets no more exist at a time.
const WAITING: usize = 4_096;

/// Messages taken at once, and the bytes after which no further one is.
const BATCH: usize = 64;
const BATCH_BYTES: usize = 256 * 1024;

/// What one neighbour passes on of one author unasked, per second over a while and at once. What is above comes by sync,
/// which is paced by whoever receives.
const RATE: f64 = 50.0;
const BURST: f64 = 200.0;

/// Pairs of neighbour and author that are counted: 64 neighbours of 64 devices.
const PAIRS: usize = 4_096;

/// Envelopes of one neighbour that cannot be judged yet, bytes, and neighbours of whom such are held. The stream of a
/// neighbour holds more; gossip is a short cut and may be lost.
const HELD_BYTES: u64 = 1024 * 1024;
const HELD_NEIGHBOURS: usize = 64;

/// How much each neighbour may still pass on of each author; of records whose author only the rules can tell, under none.
#[derive(Default)]
struct Budgets(BTreeMap<(TransportKey, Option<DeviceId>), (f64, Instant)>);

impl Budgets {
    /// Takes one message; says whether there was room for it.
    fn take(&mut self, from: TransportKey, author: Option<DeviceId>, now: Instant) -> bool {
        let refilled = |left: f64, at: Instant| {
            (left + now.saturating_duration_since(at).as_secs_f64() * RATE).min(BURST)
        };
        if self.0.len() >= PAIRS && !self.0.contains_key(&(from, author)) {
            // Whoever has all of it is as good as new.
            self.0.retain(|_, (left, at)| refilled(*left, *at) < BURST);
            if self.0.len() >= PAIRS {
                return false;
            }
        }
        let (left, at) = self.0.entry((from, author)).or_insert((BURST, now));
        *left = refilled(*left, *at);
        *at = now;
        if *left < 1.0 {
            return false;
        }
        *left -= 1.0;
        true
    }
}

/// What is to be done with one message.
struct Fate {
    verdict: Verdict,
    for_rules: Option<Arrived>,
}

impl Fate {
    const fn ends(verdict: Verdict) -> Self {
        Self { verdict, for_rules: None }
    }
}

/// The task that takes gossip.
pub(super) struct Reader {
    pub(super) messages: mpsc::Receiver<Gossip>,
    pub(super) mesh: Mesh,
    pub(super) commands: Commands,
    pub(super) snapshots: watch::Receiver<Arc<Snapshot>>,
    pub(super) quarantine: Quarantine,
    pub(super) failures: Failures,
}

/// What the task remembers.
#[derive(Default)]
struct Memory {
    budgets: Budgets,
    held: BTreeMap<TransportKey, Held>,
    judged_under: Arc<ScreenKeys>,
}

impl Reader {
    /// Takes gossip until the mesh or the rules have ended.
    pub(super) async fn run(mut self) {
        let (failures, mut restarts) = (self.failures.clone(), Restarts::default());
        // An error is the end of the rules; there is nobody to tell it to.
        while failures.survive("the reader of gossip", self.read()).await.is_none()
            && failures.pause(&mut restarts).await
        {}
    }

    async fn read(&mut self) -> Result<(), Error> {
        let mut memory = Memory::default();
        loop {
            let first = tokio::select! {
                biased;
                message = self.messages.recv() => match message {
                    Some(message) => Some(message),
                    None => return Ok(()),
                },
                changed = self.snapshots.changed(), if !memory.held.is_empty() => {
                    if changed.is_err() {
                        return Ok(());
                    }
                    None
                }
                () = late(&memory.held) => None,
            };
            let keys = Arc::clone(&self.snapshots.borrow_and_update().screening);
            self.retry(&mut memory, &keys).await?;
            if let Some(first) = first {
                let batch = self.gather(first);
                self.pass(batch, &keys, &mut memory).await?;
            }
        }
    }

    fn gather(&mut self, first: Gossip) -> Vec<Gossip> {
        let mut bytes = first.data.len();
        let mut batch = vec![first];
        while batch.len() < BATCH
            && bytes < BATCH_BYTES
            && let Ok(message) = self.messages.try_recv()
        {
            bytes = bytes.saturating_add(message.data.len());
            batch.push(message);
        }
        batch
    }

    async fn pass(
        &self,
        batch: Vec<Gossip>,
        keys: &Arc<ScreenKeys>,
        memory: &mut Memory,
    ) -> Result<(), Error> {
        let bytes = batch.iter().map(|message| message.data.clone()).collect();
        let heard = judge_gossip(bytes, keys, &self.quarantine).await;
        // The verdicts of a batch first, so that nobody further on waits for our disk.
        let mut for_rules = Vec::new();
        for (message, heard) in batch.into_iter().zip(heard) {
            let author = self.device_of(&message.from);
            let novelty = |envelope: &VerifiedEnvelope| self.novelty(envelope);
            let fate = decide(memory, message.from, author, heard, novelty, Instant::now());
            self.mesh.verdict(message.id, message.from, fate.verdict).await;
            for_rules.extend(fate.for_rules.map(|arrived| (message, arrived)));
        }
        for (message, arrived) in for_rules {
            // The message keeps its share of what may wait until here.
            self.give(message.from, arrived).await?;
        }
        Ok(())
    }

    fn device_of(&self, key: &TransportKey) -> Option<DeviceId> {
        self.snapshots.borrow().roster.by_transport(key).map(|device| device.id)
    }

    /// Whether an envelope came here before, as far as the newest snapshot says. What this device wrote is no news to it.
    fn novelty(&self, envelope: &VerifiedEnvelope) -> Novelty {
        let snapshot = self.snapshots.borrow();
        match envelope.device == snapshot.me.device {
            true => Novelty::Known,
            false => snapshot.seen.novelty(&envelope.device, envelope.incarnation, envelope.seq),
        }
    }

    async fn retry(&self, memory: &mut Memory, keys: &Arc<ScreenKeys>) -> Result<(), Error> {
        let other_keys = !Arc::ptr_eq(keys, &memory.judged_under);
        memory.judged_under = Arc::clone(keys);
        let now = Instant::now();
        let mut known = Vec::new();
        for (from, held) in &mut memory.held {
            if other_keys {
                known.extend(
                    held.retry(keys, &self.quarantine)
                        .await
                        .into_iter()
                        .map(|arrived| (*from, arrived)),
                );
            }
            // What waited too long is not refused to anybody: it was given to us unasked.
            drop(held.expire(now));
        }
        memory.held.retain(|_, held| !held.is_empty());
        for (from, arrived) in known {
            if matches!(arrived.frame, Screened::Envelope(_)) {
                self.give(from, arrived).await?;
            }
        }
        Ok(())
    }

    async fn give(&self, from: TransportKey, arrived: Arrived) -> Result<(), Error> {
        self.commands.input(Input::Gossip { from, frame: Box::new(arrived) }).await
    }
}

/// Decides about one message; `neighbour` is the device that passed it on.
fn decide(
    memory: &mut Memory,
    from: TransportKey,
    neighbour: Option<DeviceId>,
    heard: Heard,
    novelty: impl Fn(&VerifiedEnvelope) -> Novelty,
    now: Instant,
) -> Fate {
    let judged = match heard {
        Heard::Judged(judged) => *judged,
        Heard::Altered => return Fate::ends(Verdict::Ignore),
        Heard::NotForGossip => return Fate::ends(Verdict::Reject),
    };
    let arrived = match judged {
        Judged::Now(arrived) => arrived,
        Judged::NotYet(waiting) => {
            if memory.held.len() < HELD_NEIGHBOURS || memory.held.contains_key(&from) {
                let held = memory.held.entry(from).or_insert_with(|| Held::of(HELD_BYTES));
                drop(held.push(waiting, now));
            }
            return Fate::ends(Verdict::Ignore);
        }
    };
    match &arrived.frame {
        Screened::Envelope(envelope) => {
            let author = envelope.device;
            let novelty = novelty(envelope);
            // Whoever replays what it once got has it passed on by nobody, and the rules are not asked.
            if novelty == Novelty::Known {
                return Fate::ends(Verdict::Ignore);
            }
            let room = memory.budgets.take(from, Some(author), now);
            if room && novelty == Novelty::New {
                Fate { verdict: Verdict::Accept, for_rules: Some(arrived) }
            } else {
                // What its author gives us itself is not passed on so fast, but it is ours to have; what is too old to tell
                // by the snapshot, too, as fast as anything.
                let own = neighbour == Some(author) || (room && novelty == Novelty::Old);
                Fate { verdict: Verdict::Ignore, for_rules: own.then_some(arrived) }
            }
        }
        Screened::Other(_) => {
            let room = memory.budgets.take(from, None, now);
            Fate { verdict: Verdict::Ignore, for_rules: room.then_some(arrived) }
        }
        Screened::Refused(refusal) => {
            tracing::debug!(?refusal, "refused a message of a neighbour");
            // What a correct neighbour may have passed on goes no further, and costs it nothing.
            Fate::ends(if refusal.is_guilt() { Verdict::Reject } else { Verdict::Ignore })
        }
    }
}

/// Passes messages of one neighbour, one a millisecond; returns how many were given further, and how many to the rules.
#[cfg(feature = "doors")]
pub async fn gossip_door(messages: Vec<Vec<u8>>, keys: Arc<ScreenKeys>) -> (usize, usize) {
    let (mut memory, start) = (Memory::default(), Instant::now());
    let (mut further, mut inward) = (0, 0);
    let quarantine = Quarantine::default();
    for (number, message) in (0..).zip(messages) {
        for heard in judge_gossip(vec![message.into()], &keys, &quarantine).await {
            let now = start + std::time::Duration::from_millis(number);
            let fate = decide(&mut memory, [1; 32].into(), None, heard, |_| Novelty::New, now);
            further += usize::from(fate.verdict == Verdict::Accept);
            inward += usize::from(fate.for_rules.is_some());
        }
    }
    for held in memory.held.values_mut() {
        held.retry(&keys, &quarantine).await;
        held.expire(start + crate::screen::HELD_FOR * 2);
        assert!(held.is_empty(), "something is held for ever");
    }
    (further, inward)
}

/// Waits until the oldest held envelope has waited too long; for ever where nothing is held.
async fn late(held: &BTreeMap<TransportKey, Held>) {
    match held.values().filter_map(Held::deadline).min() {
        Some(deadline) => sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

/// Makes the queue to the task.
pub(super) fn queue() -> (mpsc::Sender<Gossip>, mpsc::Receiver<Gossip>) {
    mpsc::channel(WAITING)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        commands::{Next, Work},
        home,
        screen::tests::{Author, author, keys, sealed},
    };
    use oob_engine::{
        Engine,
        model::{Name, Now},
    };
    use oob_mesh::{FoundBy, Listen, MeshConfig, MeshEvent, Topic};
    use oob_proto::{
        Message,
        wire::{self, Frame, frame::Kind},
    };
    use oob_store::{Passphrase, Store, backend::CrashDisk};
    use std::time::Duration;
    use zeroize::Zeroizing;

    const A: [u8; 32] = [1; 32];
    const B: [u8; 32] = [2; 32];

    async fn fate(memory: &mut Memory, keys: &Arc<ScreenKeys>, bytes: Vec<u8>) -> Fate {
        let heard =
            judge_gossip(vec![bytes.into()], keys, &Quarantine::default()).await.pop().unwrap();
        decide(memory, A.into(), None, heard, |_| Novelty::New, Instant::now())
    }

    fn frame(kind: Kind) -> Vec<u8> {
        Frame::new(kind).encode_to_vec()
    }

    #[tokio::test]
    async fn a_members_envelope_is_passed_on_a_forged_one_by_nobody_and_garbage_is_the_neighbours_fault()
     {
        let author = author();
        let keys = keys(&author, true);
        let mut memory = Memory::default();
        let good = fate(&mut memory, &keys, sealed(&author, 1).to_vec()).await;
        assert_eq!(good.verdict, Verdict::Accept);
        assert!(good.for_rules.is_some());

        let forger = Author::like(&author);
        let forged = fate(&mut memory, &keys, sealed(&forger, 2).to_vec()).await;
        assert!(forged.verdict == Verdict::Ignore && forged.for_rules.is_none());
        for bytes in [vec![], vec![0xff; 40], frame(Kind::Hello(wire::Hello::default()))] {
            let refused = fate(&mut memory, &keys, bytes).await;
            assert!(refused.verdict == Verdict::Reject && refused.for_rules.is_none());
        }
        let mut long = sealed(&author, 3).to_vec();
        long.resize(20_000, 0);
        assert_eq!(fate(&mut memory, &keys, long).await.verdict, Verdict::Reject);
    }

    /// A member kept what it once got and gives it to the mesh again, after everybody's memory of message ids has run out:
    /// everybody passed it on to everybody, as often as it liked.
    #[tokio::test]
    async fn what_came_before_is_passed_on_by_nobody() {
        let author = author();
        let keys = keys(&author, true);
        let mut memory = Memory::default();
        let mut fate = async |novelty| {
            let heard = judge_gossip(vec![sealed(&author, 7)], &keys, &Quarantine::default())
                .await
                .pop()
                .unwrap();
            let fate = decide(&mut memory, A.into(), None, heard, |_| novelty, Instant::now());
            (fate.verdict, fate.for_rules.is_some())
        };
        assert_eq!(fate(Novelty::New).await, (Verdict::Accept, true), "control");
        for _ in 0..1_000 {
            assert_eq!(fate(Novelty::Known).await, (Verdict::Ignore, false));
        }
        assert_eq!(fate(Novelty::Old).await, (Verdict::Ignore, true));
    }

    /// Bytes that mean the same would go round under a new id each, as often as somebody alters them.
    #[tokio::test]
    async fn the_same_envelope_in_other_bytes_goes_nowhere() {
        let author = author();
        let keys = keys(&author, true);
        let mut memory = Memory::default();
        let bytes = sealed(&author, 1);
        let mut aged = Frame::read(&bytes).unwrap();
        aged.age = 7;
        let mut unknown = bytes.to_vec();
        unknown.extend_from_slice(&[0xf8, 0x07, 0x01]);
        for altered in [aged.encode_to_vec(), unknown] {
            let fate = fate(&mut memory, &keys, altered).await;
            assert!(fate.verdict == Verdict::Ignore && fate.for_rules.is_none());
        }
    }

    #[tokio::test]
    async fn what_only_the_rules_can_check_goes_to_them_and_no_further() {
        let keys = keys(&author(), true);
        let mut memory = Memory::default();
        let signed = wire::Signed { payload: vec![1], ..Default::default() };
        for kind in [Kind::RelayCert(signed.clone()), Kind::AlertAck(signed)] {
            let fate = fate(&mut memory, &keys, frame(kind)).await;
            assert!(fate.verdict == Verdict::Ignore && fate.for_rules.is_some());
        }
    }

    #[tokio::test]
    async fn what_cannot_be_judged_yet_is_held_within_bounds_and_not_passed_on() {
        let author = author();
        let keys = keys(&author, false);
        let mut memory = Memory::default();
        for seq in 0..3_000 {
            let fate = fate(&mut memory, &keys, sealed(&author, seq).to_vec()).await;
            assert!(fate.verdict == Verdict::Ignore && fate.for_rules.is_none());
        }
        assert_eq!(memory.held.len(), 1);
        let known = crate::screen::tests::keys(&author, true);
        let back = memory
            .held
            .values_mut()
            .next()
            .unwrap()
            .retry(&known, &Quarantine::default())
            .await
            .len();
        assert!((1_000..2_500).contains(&back), "{back} of a mebibyte");
    }

    #[test]
    fn one_neighbour_passes_on_so_much_of_one_author_and_as_much_of_another() {
        let mut budgets = Budgets::default();
        let start = Instant::now();
        let (one, other) = (Some(DeviceId::from([1; 32])), Some(DeviceId::from([2; 32])));
        let mut burst = |from: [u8; 32], author, now| {
            (0..1_000).filter(|_| budgets.take(from.into(), author, now)).count()
        };
        assert_eq!(burst(A, one, start), 200);
        assert_eq!(burst(A, other, start), 200);
        assert_eq!(burst(B, one, start), 200);
        assert_eq!(burst(A, one, start + Duration::from_secs(1)), 50);
        assert_eq!(burst(A, one, start + Duration::from_secs(60)), 200);
    }

    #[test]
    fn made_up_pairs_take_no_more_room_than_there_is() {
        let mut budgets = Budgets::default();
        let start = Instant::now();
        for n in 0..10_000_u32 {
            let mut device = [0; 32];
            device[..4].copy_from_slice(&n.to_be_bytes());
            budgets.take(A.into(), Some(device.into()), start);
        }
        assert_eq!(budgets.0.len(), PAIRS);
        assert!(!budgets.take(B.into(), None, start));
        assert!(budgets.take(B.into(), None, start + Duration::from_secs(9)));
    }

    /// What a new device knows.
    fn snapshot() -> Snapshot {
        let disk = CrashDisk::new();
        let passphrase = Passphrase::new("correct horse");
        let store = Store::with_backend(disk.parts(), &passphrase, home::rng()).unwrap().store;
        let now = Now { wall_ms: home::wall_ms(), mono_ms: 0 };
        let name = Name::parse("Dana").unwrap();
        let engine = Engine::create(store, Box::new(home::rng()), name, now).unwrap();
        (*engine.snapshot()).clone()
    }

    /// A mesh on loopback that gossips under one topic.
    async fn mesh(seed: u8) -> (Mesh, mpsc::Receiver<MeshEvent>) {
        let started = oob_mesh::start(MeshConfig {
            transport_secret: Zeroizing::new([seed; 32]),
            listen: Listen::Explicit(vec!["/ip4/127.0.0.1/tcp/0".into()]),
            mdns: false,
            beacon: false,
            private_only: true,
        });
        let (mesh, events) = started.await.unwrap();
        mesh.subscribe(Topic::of(&[9; 32].into())).await;
        (mesh, events)
    }

    /// Links two meshes, and waits until they gossip.
    async fn link(
        one: &mut (Mesh, mpsc::Receiver<MeshEvent>),
        other: &mut (Mesh, mpsc::Receiver<MeshEvent>),
    ) -> (MeshEvent, MeshEvent) {
        let key = other.0.local_key();
        one.0.learn(Some(key), &other.0.listening()[0], FoundBy::Typed).await.unwrap();
        let links = (one.1.recv().await.unwrap(), other.1.recv().await.unwrap());
        let gossips =
            |mesh: &Mesh, with| mesh.peers().iter().any(|peer| peer.key == with && peer.gossips);
        while !gossips(&one.0, key) || !gossips(&other.0, one.0.local_key()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        links
    }

    /// From a mesh, through screening, to the rules and to the next mesh; and a forged one to neither.
    #[tokio::test]
    async fn an_envelope_reaches_the_rules_and_the_next_neighbour() {
        let author = author();
        let (mut a, mut b, mut c) = (mesh(1).await, mesh(2).await, mesh(3).await);
        let [a_key, b_key, c_key] = [&a, &b, &c].map(|mesh| mesh.0.local_key());
        a.0.allow([b_key].into()).await;
        b.0.allow([a_key, c_key].into()).await;
        c.0.allow([b_key].into()).await;
        let _links = (link(&mut a, &mut b).await, link(&mut b, &mut c).await);

        let (gossips, messages) = queue();
        let (commands, rules) = crate::commands::queue(Arc::default());
        let mut snapshot = snapshot();
        snapshot.screening = keys(&author, true);
        let (_sender, snapshots) = watch::channel(Arc::new(snapshot));
        let (quarantine, failures) = (b.0.quarantine(), Failures::default());
        let mesh = b.0.clone();
        let reader = Reader { messages, mesh, commands, snapshots, quarantine, failures };
        tokio::spawn(reader.run());
        tokio::spawn(async move {
            while let Some(event) = b.1.recv().await {
                if let MeshEvent::Gossip(message) = event {
                    gossips.send(message).await.unwrap();
                }
            }
        });

        let forged = sealed(&Author::like(&author), 1);
        let good = sealed(&author, 2);
        a.0.publish(forged).unwrap();
        a.0.publish(vec![0xff; 40].into()).unwrap();
        a.0.publish(good.clone()).unwrap();
        loop {
            // The first that comes is the good one.
            if let MeshEvent::Gossip(message) = c.1.recv().await.unwrap() {
                assert_eq!(message.data, good);
                break;
            }
        }
        let given = tokio::task::spawn_blocking(move || rules.next(Duration::from_secs(30)));
        let Next::Work(Work::Input(Input::Gossip { from, frame })) = given.await.unwrap() else {
            panic!("nothing for the rules")
        };
        let Screened::Envelope(envelope) = frame.frame else { panic!("no envelope") };
        assert_eq!((from, envelope.seq), (a_key, 2));
        assert_eq!(b.0.counters().gossip_rejected, 1, "what is no frame alone");
    }
}
