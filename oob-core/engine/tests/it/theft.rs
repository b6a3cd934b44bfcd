//! A thief takes an image of Sam's disk and the passphrase, and has everything that ever went over the wire. What opens,
//! and what does not: a message is read where its text comes out of the ratchet.

use crate::world::{Flying, World, pass};
use oob_crypto::{BundleSecrets, InChannel, OLM_PREKEY, PairSession, open_first_flight};
use oob_proto::{
    DeviceId, Message, OrgId,
    wire::{self, Frame, frame::Kind},
};
use oob_store::{Store, backend::CrashDisk};
use rand::{SeedableRng, rngs::StdRng};

const DAY_MS: u64 = 86_400_000;

/// Everything of a stolen home that opens messages: more than its owner would try.
pub(crate) struct Loot {
    me: DeviceId,
    org: OrgId,
    bundles: Vec<BundleSecrets>,
    sessions: Vec<PairSession>,
}

impl Loot {
    pub(crate) fn of(world: &mut World, device: usize, disk: &CrashDisk) -> Self {
        let me = world.engine(device).snapshot().me.device;
        let org = world.engine(device).snapshot().org.as_ref().unwrap().id;
        let store =
            Store::with_backend(disk.parts(), &pass(), StdRng::seed_from_u64(1)).unwrap().store;
        let all = |prefix: &[u8]| -> Vec<Vec<u8>> {
            let names = store.secret_names(prefix);
            names.iter().map(|name| store.secret(name).unwrap().unwrap().to_vec()).collect()
        };
        let bundles = all(b"bundle/").into_iter().map(|bytes| {
            let stored = wire::StoredBundle::decode(bytes.as_slice()).unwrap();
            BundleSecrets::from_secret(&stored.secrets).unwrap()
        });
        let peers = all(b"peer/");
        let sessions = peers.iter().flat_map(|bytes| {
            let peer = wire::StoredPeer::decode(bytes.as_slice()).unwrap();
            let states = peer.sessions.into_iter().map(|olm| olm.state);
            states.map(|state| PairSession::from_secret(&state).unwrap()).collect::<Vec<_>>()
        });
        Self { me, org, bundles: bundles.collect(), sessions: sessions.collect() }
    }

    /// Opens what it can: how many envelopes without their padding, and the texts.
    pub(crate) fn open(
        &mut self,
        wire: &[Flying],
        to: usize,
        author: &[u8; 32],
    ) -> (usize, Vec<String>) {
        let mut channels: Vec<InChannel> = Vec::new();
        let (mut bare, mut texts) = (0, Vec::new());
        for flying in wire.iter().filter(|flying| flying.to == to) {
            let Some(Kind::Envelope(envelope)) = Frame::read(&flying.frame).unwrap().kind else {
                continue;
            };
            let first = self.bundles.iter().find_map(|secrets| {
                open_first_flight(secrets, &self.org, &self.me, &envelope.ct).ok()
            });
            let plain = if let Some(opened) = first {
                if channels.iter().any(|channel| channel.id() == opened.channel.id()) {
                    continue;
                }
                channels.push(opened.channel);
                opened.plain
            } else {
                let opened = channels.iter_mut().find_map(|channel| {
                    let n = channel.wanted().find(|n| channel.tag(*n) == envelope.head[4..20])?;
                    let plain = channel.open(n, &envelope.ct).ok()?;
                    channel.mark(n);
                    Some(plain)
                });
                let Some(plain) = opened else { continue };
                plain
            };
            bare += 1;
            let inner = wire::Inner::decode(plain.inner.as_slice()).unwrap();
            if let Some(wire::inner::K::Olm(ciphertext)) = inner.k {
                texts.extend(self.ratchet(inner.olm_type, &ciphertext, author));
            }
        }
        (bare, texts)
    }

    /// Tries every session there is, and every one that can still be begun.
    fn ratchet(&mut self, kind: u32, ciphertext: &[u8], author: &[u8; 32]) -> Option<String> {
        let known =
            self.sessions.iter_mut().find_map(|session| session.decrypt(kind, ciphertext).ok());
        let begun = || {
            let begin = |secrets| PairSession::inbound(secrets, author, ciphertext).ok();
            self.bundles.iter().filter(|_| kind == OLM_PREKEY).find_map(begin)
        };
        let bytes = match known {
            Some(bytes) => bytes,
            None => {
                let (session, bytes) = begun()?;
                self.sessions.push(session);
                bytes
            }
        };
        let body = wire::Body::decode(bytes.as_slice()).unwrap();
        match body.content {
            Some(wire::body::Content::Text(text)) => Some(text.text),
            None => None,
        }
    }
}

/// The Olm identity of a device, which is public: it stands in its bundle.
pub(crate) fn olm_identity(world: &World, device: usize) -> [u8; 32] {
    let bundle = world.wire.iter().filter(|flying| flying.from == device).find_map(|flying| {
        match Frame::read(&flying.frame).unwrap().kind {
            Some(Kind::Hello(hello)) => hello.bundle,
            _ => None,
        }
    });
    let bundle = wire::PrekeyBundle::decode(bundle.unwrap().payload.as_slice()).unwrap();
    bundle.olm_id.try_into().unwrap()
}

/// Everybody has written to everybody else's answer, `turns` times.
fn talk(world: &mut World, turns: usize, what: &str) {
    for turn in 0..turns {
        world.send(0, 1, &format!("{what} {turn}"));
        world.settle();
        world.send(1, 0, &format!("answer to {what} {turn}"));
        world.settle();
    }
}

/// What opens of all that was ever sent to Sam, with the disk as it is now.
fn opened(world: &mut World, disk: &CrashDisk) -> (usize, Vec<String>) {
    let author = olm_identity(world, 0);
    Loot::of(world, 1, disk).open(&world.wire, 1, &author)
}

fn begun(texts: &[String], what: &str) -> usize {
    texts.iter().filter(|text| text.starts_with(what)).count()
}

/// Two people: five messages before anybody answered, twenty behind the first answer, and what has to become durable for
/// the old keys to be overwritten.
fn two_who_talked() -> World {
    let mut world = World::organisation(&["Dana", "Sam"]);
    world.connect(0, 1);
    world.settle();
    for n in 0..5 {
        world.send(0, 1, &format!("unanswered {n}"));
        world.settle();
    }
    world.send(1, 0, "the first answer");
    world.settle();
    talk(&mut world, 20, "talk");
    world.engine(1).idle().unwrap();
    world
}

/// The promise, and its limit: behind the first answer nothing that came before the theft opens. What somebody wrote
/// before it was ever answered is sealed to the fallback key of a bundle, and opens until that is gone.
#[test]
fn home_and_passphrase_open_no_earlier_message_behind_the_first_answer() {
    let mut world = two_who_talked();
    assert_eq!(world.texts(1, 0).len(), 46, "all of it was read by Sam");
    let disk = world.devices[1].disk.image();
    let (bare, texts) = opened(&mut world, &disk);
    assert!(bare >= 45, "control: the thief gets as far as the ratchet, {bare} times");
    assert_eq!(begun(&texts, "talk"), 0, "{texts:?}");
    assert_eq!(begun(&texts, "unanswered"), 5, "said in docs/threat-model.md, under old secrets");
}

/// The control: with the disk as it was before the messages came all of them open, so the search finds what there is.
#[test]
fn a_home_stolen_before_messages_came_opens_them() {
    let mut world = World::organisation(&["Dana", "Sam"]);
    world.connect(0, 1);
    world.settle();
    talk(&mut world, 1, "before");
    world.engine(1).idle().unwrap();
    let disk = world.devices[1].disk.image();
    for n in 0..20 {
        world.send(0, 1, &format!("later {n}"));
        world.settle();
    }
    assert_eq!(begun(&opened(&mut world, &disk).1, "later"), 20);
}

/// Secrets of bundles and replaced channels are kept for 22 days of running; behind that not even the padding comes off.
#[test]
fn a_month_later_nothing_captured_opens_at_all() {
    let mut world = two_who_talked();
    let captured = world.wire.clone();
    let author = olm_identity(&world, 0);
    for _ in 0..31 {
        world.pass(DAY_MS);
        world.settle();
        talk(&mut world, 1, "daily");
    }
    world.engine(1).idle().unwrap();
    let disk = world.devices[1].disk.image();
    let mut loot = Loot::of(&mut world, 1, &disk);
    assert!(!loot.bundles.is_empty() && !loot.sessions.is_empty(), "control: there is something");
    let (bare, texts) = loot.open(&captured, 1, &author);
    assert_eq!((bare, texts), (0, Vec::new()));
    assert!(loot.open(&world.wire, 1, &author).0 > 10, "control: newer ones still do");
}

/// Whoever copied the home once reads on until both have written: then the ratchet has turned without the copy.
#[test]
fn a_cloned_home_reads_nothing_behind_the_next_round_trip() {
    let mut world = two_who_talked();
    let clone = world.devices[1].disk.image();
    world.send(0, 1, "at once");
    world.settle();
    talk(&mut world, 1, "turning");
    talk(&mut world, 10, "turned");
    let (_, texts) = opened(&mut world, &clone);
    assert_eq!(begun(&texts, "at once"), 1, "control: the copy reads what comes next");
    assert_eq!(begun(&texts, "turning"), 1, "and until Sam has answered");
    assert_eq!(begun(&texts, "turned"), 0, "{texts:?}");
}
