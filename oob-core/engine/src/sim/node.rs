//! One device: an engine over a disk that can lose power, its clock, and the reader of its streams.

use super::{foe::Foe, story::Fall};
use crate::{
    Engine,
    envelope::{HELD_BYTES, HELD_RECORDS, Refusal, Screened, Verdict, screen_with},
    input::{Arrived, LinkId},
    model::Now,
    snapshot::{Novelty, ScreenKeys},
};
use oob_crypto::envelope::{Claim, EnvelopeError, signed_bytes, verify_origin};
use oob_proto::{
    DeviceId, EnvelopeId, Incarnation, MemberId, TransportKey,
    wire::{self, Frame, frame::Kind},
};
use oob_store::{Passphrase, backend::CrashDisk};
use sha2::{Digest as _, Sha256};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

/// When every world begins, milliseconds since 1970.
pub(super) const START_MS: u64 = 1_770_000_000_000;

/// How long one waits for it.
const HELD_FOR_MS: u64 = 600_000;

/// A device and its person.
pub(super) struct Node {
    pub(super) engine: Option<Engine>,
    pub(super) disk: CrashDisk,
    pub(super) key: TransportKey,
    pub(super) device: DeviceId,
    /// Once in the organisation.
    pub(super) member: Option<MemberId>,
    /// How far its clock is ahead.
    pub(super) ahead_ms: i64,
    /// When its process began.
    pub(super) boot_ms: u64,
    /// Which of its processes this is.
    pub(super) process: u64,
    /// When a tick is under way.
    pub(super) wake_ms: Option<u64>,
    pub(super) idles: bool,
    /// Something was handed in and is not committed yet.
    pub(super) waits: bool,
    /// Number of the newest event its person was told of.
    pub(super) told: u64,
    pub(super) keys: Arc<ScreenKeys>,
    /// Envelopes that cannot be judged yet, by stream.
    pub(super) held: BTreeMap<LinkId, VecDeque<Waiting>>,
    /// How it goes down at the next thing it makes durable, and when it comes back.
    pub(super) doom: Option<(Fall, u64)>,
    pub(super) tickets: u64,
    /// What makes it hostile, if it is.
    pub(super) foe: Option<Foe>,
    /// The life its engine is in.
    pub(super) life: Incarnation,
    /// It began another life since it was last told of anything: the numbers of events leap then.
    pub(super) leaps: bool,
}

/// Signatures of envelopes that were found good, by a hash of what was signed, the key and the signature: the same bytes
/// come to every device, and to most of them twice.
pub(super) struct Verified {
    good: BTreeSet<[u8; 32]>,
    /// For a control: nobody looks.
    blind: bool,
}

/// Signatures remembered; those of a whole run are fewer.
const VERIFIED: usize = 262_144;

impl Verified {
    pub(super) fn new(blind: bool) -> Self {
        Self { good: BTreeSet::new(), blind }
    }

    fn verify(&mut self, claim: &Claim<'_>) -> Result<EnvelopeId, EnvelopeError> {
        if claim.origin.device != claim.device.short() {
            return Err(EnvelopeError::Device);
        }
        let Claim { org, epoch, device, rlk, origin, cover } = claim;
        let signed = signed_bytes(org, epoch, device, origin, cover);
        let id = EnvelopeId::from(<[u8; 32]>::from(Sha256::digest(&signed)));
        let whole = Sha256::new().chain_update(id.as_bytes()).chain_update(rlk.as_bytes());
        let whole: [u8; 32] = whole.chain_update(origin.sig).finalize().into();
        if self.blind || self.good.contains(&whole) {
            return Ok(id);
        }
        let id = verify_origin(claim)?;
        if self.good.len() < VERIFIED {
            self.good.insert(whole);
        }
        Ok(id)
    }
}

/// An envelope that cannot be judged yet.
pub(super) struct Waiting {
    since_ms: u64,
    bytes: u64,
    age_s: u32,
    envelope: wire::Envelope,
}

/// What a first look at a frame gives.
pub(super) enum Judged {
    Now(Arrived),
    NotYet(Waiting),
}

/// The passphrase of all stores: it costs nothing to try here.
pub(super) fn passphrase() -> Passphrase {
    Passphrase::new("correct horse battery staple")
}

impl Node {
    pub(super) fn new(engine: Engine, disk: CrashDisk, ahead_ms: i64) -> Self {
        let snapshot = engine.snapshot();
        let life = engine.inside().life.incarnation;
        Self {
            key: snapshot.me.transport,
            device: snapshot.me.device,
            keys: Arc::clone(&snapshot.screening),
            engine: Some(engine),
            disk,
            member: None,
            ahead_ms,
            boot_ms: 0,
            process: 0,
            wake_ms: None,
            idles: false,
            waits: false,
            told: 0,
            held: BTreeMap::new(),
            doom: None,
            tickets: 0,
            foe: None,
            life,
            leaps: false,
        }
    }

    /// Takes note of the life its engine is in; returns whether it is another one.
    pub(super) fn look_at_life(&mut self) -> bool {
        let Some(engine) = &self.engine else { return false };
        let life = engine.inside().life.incarnation;
        let another = self.life != life && self.member.is_some();
        self.leaps |= another;
        self.life = life;
        another
    }

    /// Takes the number of an event; returns whether it may be the next.
    pub(super) fn takes(&mut self, number: u64) -> bool {
        let expected = self.told + 1;
        let leapt = number > expected && std::mem::take(&mut self.leaps);
        self.told = number;
        number == expected || leapt
    }

    pub(super) fn runs(&self) -> bool {
        self.engine.is_some()
    }

    pub(super) fn engine(&self) -> &Engine {
        self.engine.as_ref().expect("the device runs")
    }

    pub(super) fn clock(&self, now_ms: u64) -> Now {
        Now {
            wall_ms: (START_MS + now_ms).saturating_add_signed(self.ahead_ms),
            mono_ms: now_ms.saturating_sub(self.boot_ms),
        }
    }

    /// Judges a frame as the reader of a stream does.
    pub(super) fn judge(&self, bytes: &[u8], now_ms: u64, known: &mut Verified) -> Judged {
        let len = bytes.len() as u64;
        let read = Frame::read(bytes);
        let age_s = read.as_ref().map_or(0, |frame| frame.age);
        let frame = match read.map(|frame| frame.kind) {
            Ok(Some(Kind::Envelope(envelope))) => {
                let waiting = Waiting { since_ms: now_ms, bytes: len, age_s, envelope };
                return self.judge_envelope(waiting, known);
            }
            Ok(Some(kind)) => Screened::Other(kind),
            Ok(None) | Err(_) => Screened::Refused(Refusal::Malformed),
        };
        Judged::Now(Arrived { bytes: len, age_s, frame })
    }

    fn judge_envelope(&self, waiting: Waiting, known: &mut Verified) -> Judged {
        let Waiting { since_ms, bytes, age_s, envelope } = waiting;
        let frame = match screen_with(&self.keys, envelope, |claim| known.verify(claim)) {
            Verdict::Accept(verified) => Screened::Envelope(verified),
            Verdict::Refuse(refusal) => Screened::Refused(refusal),
            Verdict::NotYet(envelope) => {
                return Judged::NotYet(Waiting { since_ms, bytes, age_s, envelope });
            }
        };
        Judged::Now(Arrived { bytes, age_s, frame })
    }

    /// Holds an envelope; where there is no room the oldest give way and are given back as refused.
    pub(super) fn hold(&mut self, link: LinkId, waiting: Waiting) -> Vec<Arrived> {
        let held = self.held.entry(link).or_default();
        held.push_back(waiting);
        let mut bytes: u64 = held.iter().map(|one| one.bytes).sum();
        let mut refused = Vec::new();
        while (held.len() > HELD_RECORDS || bytes > HELD_BYTES)
            && let Some(oldest) = held.pop_front()
        {
            bytes = bytes.saturating_sub(oldest.bytes);
            refused.push(oldest.refused());
        }
        refused
    }

    /// Judges again what is held, under new keys; gives what can be judged now, and what waited too long.
    pub(super) fn judge_held(
        &mut self,
        now_ms: u64,
        known: &mut Verified,
    ) -> Vec<(LinkId, Vec<Arrived>)> {
        let mut ready = Vec::new();
        for (link, waiting) in std::mem::take(&mut self.held) {
            let mut arrived = Vec::new();
            for one in waiting {
                if now_ms.saturating_sub(one.since_ms) > HELD_FOR_MS {
                    arrived.push(one.refused());
                    continue;
                }
                match self.judge_envelope(one, known) {
                    Judged::Now(now) => arrived.push(now),
                    Judged::NotYet(still) => self.held.entry(link).or_default().push_back(still),
                }
            }
            if !arrived.is_empty() {
                ready.push((link, arrived));
            }
        }
        ready
    }

    /// Whether the newest snapshot says that an envelope came here before.
    pub(super) fn knows_record(&self, arrived: &Arrived) -> bool {
        let Screened::Envelope(of) = &arrived.frame else { return false };
        let seen = self.engine().snapshot();
        seen.seen.novelty(&of.device, of.incarnation, of.seq) == Novelty::Known
    }

    /// Returns the member a transport key belongs to, as far as this device knows.
    pub(super) fn knows(&self, key: &TransportKey) -> bool {
        self.engine
            .as_ref()
            .is_some_and(|engine| engine.snapshot().roster.by_transport(key).is_some())
    }
}

impl Waiting {
    fn refused(self) -> Arrived {
        Arrived {
            bytes: self.bytes,
            age_s: self.age_s,
            frame: Screened::Refused(Refusal::NotInTime),
        }
    }
}
