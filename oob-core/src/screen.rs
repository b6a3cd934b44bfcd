//! Bytes of a neighbour to what the rules are given (docs/protocol.md, section 7): judged against the newest snapshot, on
//! a worker thread, before anything is believed. What cannot be judged yet is held.

use bytes::Bytes;
use oob_engine::{
    envelope::{self, HELD_BYTES, HELD_RECORDS, Refusal, Screened, Verdict},
    input::Arrived,
    snapshot::ScreenKeys,
};
use oob_mesh::{Quarantine, Source};
use oob_proto::{
    Message, limits,
    wire::{Envelope, Frame, frame::Kind},
};
use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

/// How long an envelope waits for them: a neighbour that has not sent them by then does not have them.
pub(crate) const HELD_FOR: Duration = Duration::from_secs(600);

/// From how many envelopes on a batch is judged on a thread for blocking work: a signature takes 50 µs, the way to such a
/// thread and back about as much.
const INLINE: usize = 4;

/// One frame after a first look.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all frames are the large one")]
pub(crate) enum Judged {
    /// For the rules.
    Now(Arrived),
    /// For later.
    NotYet(Waiting),
}

/// An envelope that cannot be judged yet. It is kept as the frame it came in: what makes us fail is known by its bytes.
#[derive(Debug)]
pub(crate) struct Waiting(Bytes);

/// What a message of gossip is.
#[derive(Debug)]
pub(crate) enum Heard {
    /// A record that gossip may carry.
    Judged(Box<Judged>),
    /// Such a record, in other bytes than its author made of it.
    Altered,
    /// Nothing that gossip may carry.
    NotForGossip,
}

/// Longest message of gossip: the longest envelope in its frame.
const GOSSIP: usize = limits::ENVELOPE_BYTES + 16;

/// Judges messages of gossip in their order.
pub(crate) async fn judge_gossip(
    messages: Vec<Bytes>,
    keys: &Arc<ScreenKeys>,
    quarantine: &Quarantine,
) -> Vec<Heard> {
    let quarantine = quarantine.clone();
    on_worker(messages.len(), keys, move |keys| {
        let hear = |message: &Bytes| {
            // Nobody is blamed for what makes us fail: whoever passed it on could not know.
            let heard = quarantine.absorb(Source::Screening, message, || hear(message, keys));
            heard.unwrap_or(Heard::Altered)
        };
        messages.iter().map(hear).collect()
    })
    .await
}

fn hear(bytes: &Bytes, keys: &ScreenKeys) -> Heard {
    let Some(frame) = Some(bytes).filter(|bytes| bytes.len() <= GOSSIP) else {
        return Heard::NotForGossip;
    };
    let Ok(frame) = Frame::read(frame) else { return Heard::NotForGossip };
    let Some(kind) = frame.kind else { return Heard::NotForGossip };
    let carried = matches!(
        kind,
        Kind::Envelope(_)
            | Kind::RelayCert(_)
            | Kind::Alert(_)
            | Kind::AlertAck(_)
            | Kind::Release(_)
    );
    if !carried {
        return Heard::NotForGossip;
    }
    // A message is known by its bytes. Who alters them, by an age or a field that nobody knows, would have everybody pass
    // on the same record again and again.
    if Frame::new(kind.clone()).encode_to_vec() != **bytes {
        return Heard::Altered;
    }
    Heard::Judged(Box::new(match kind {
        Kind::Envelope(envelope) => judge_envelope(bytes, envelope, 0, keys),
        kind => Judged::Now(Arrived { bytes: len(bytes), age_s: 0, frame: Screened::Other(kind) }),
    }))
}

fn len(bytes: &Bytes) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

/// Judges frames in their order.
pub(crate) async fn judge_all(
    frames: Vec<Bytes>,
    keys: &Arc<ScreenKeys>,
    quarantine: &Quarantine,
) -> VecDeque<Judged> {
    let quarantine = quarantine.clone();
    on_worker(frames.len(), keys, move |keys| {
        let judge = |frame: &Bytes| {
            let judged = quarantine.absorb(Source::Screening, frame, || judge(frame, keys));
            // Its length still counts for the credit of whoever sent it.
            judged.unwrap_or_else(|| malformed(frame))
        };
        frames.iter().map(judge).collect()
    })
    .await
}

fn malformed(bytes: &Bytes) -> Judged {
    Judged::Now(refused(bytes, Refusal::Malformed))
}

fn refused(bytes: &Bytes, refusal: Refusal) -> Arrived {
    Arrived { bytes: len(bytes), age_s: 0, frame: Screened::Refused(refusal) }
}

/// Judges again what of a batch could not be judged under other keys.
pub(crate) async fn judge_again(
    judged: VecDeque<Judged>,
    keys: &Arc<ScreenKeys>,
    quarantine: &Quarantine,
) -> VecDeque<Judged> {
    let quarantine = quarantine.clone();
    let early = judged.iter().filter(|judged| matches!(judged, Judged::NotYet(_))).count();
    on_worker(early, keys, move |keys| {
        let again = judged.into_iter().map(|judged| match judged {
            Judged::NotYet(waiting) => waiting.judge(keys, &quarantine),
            judged => judged,
        });
        again.collect()
    })
    .await
}

/// Does the work of judging so many envelopes where it holds up no other task.
async fn on_worker<T: Default + Send + 'static>(
    envelopes: usize,
    keys: &Arc<ScreenKeys>,
    work: impl FnOnce(&ScreenKeys) -> T + Send + 'static,
) -> T {
    if envelopes <= INLINE {
        return work(keys);
    }
    let keys = Arc::clone(keys);
    // Interrupted only when the runtime ends, and then nobody reads the answer.
    tokio::task::spawn_blocking(move || work(&keys)).await.unwrap_or_default()
}

/// Judges one frame.
pub(crate) fn judge(bytes: &Bytes, keys: &ScreenKeys) -> Judged {
    let (age_s, frame) = match Frame::read(bytes).map(|frame| (frame.age, frame.kind)) {
        Ok((age_s, Some(Kind::Envelope(envelope)))) => {
            return judge_envelope(bytes, envelope, age_s, keys);
        }
        Ok((age_s, Some(kind))) => (age_s, Screened::Other(kind)),
        Ok((_, None)) | Err(_) => (0, Screened::Refused(Refusal::Malformed)),
    };
    Judged::Now(Arrived { bytes: len(bytes), age_s, frame })
}

/// Judges the envelope of a frame.
fn judge_envelope(bytes: &Bytes, envelope: Envelope, age_s: u32, keys: &ScreenKeys) -> Judged {
    let frame = match envelope::screen(keys, envelope) {
        Verdict::Accept(verified) => Screened::Envelope(verified),
        Verdict::Refuse(refusal) => Screened::Refused(refusal),
        // A copy of the whole: a view would keep a larger buffer alive.
        Verdict::NotYet(_) => return Judged::NotYet(Waiting(Bytes::copy_from_slice(bytes))),
    };
    Judged::Now(Arrived { bytes: len(bytes), age_s, frame })
}

/// Says whether a frame, once committed, may change what screening knows.
pub(crate) fn changes_keys(frame: &Screened) -> bool {
    matches!(
        frame,
        Screened::Other(Kind::Log(_) | Kind::Epoch(_) | Kind::RelayCert(_) | Kind::Hello(_))
    )
}

impl Waiting {
    /// Judges it again; what makes that fail is caught as it would have been the first time.
    fn judge(self, keys: &ScreenKeys, quarantine: &Quarantine) -> Judged {
        let judged = quarantine.absorb(Source::Screening, &self.0, || judge(&self.0, keys));
        judged.unwrap_or_else(|| malformed(&self.0))
    }

    fn refused(self) -> Arrived {
        refused(&self.0, Refusal::NotInTime)
    }
}

/// What one neighbour sent and nobody can judge yet, in its order.
///
/// Its credit is given back only when it is judged or dropped, so of a stream no more than a quarter of the credit is here.
#[derive(Debug)]
pub(crate) struct Held {
    waiting: VecDeque<(Instant, Waiting)>,
    bytes: u64,
    most: u64,
    records: usize,
}

impl Default for Held {
    fn default() -> Self {
        Self { records: HELD_RECORDS, ..Self::of(HELD_BYTES) }
    }
}

impl Held {
    /// Holds so many bytes at most, of what nothing is credited for.
    pub(crate) fn of(most: u64) -> Self {
        Self { waiting: VecDeque::new(), bytes: 0, most, records: usize::MAX }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Holds one more; the oldest give way where there is no room.
    pub(crate) fn push(&mut self, waiting: Waiting, now: Instant) -> Vec<Arrived> {
        self.bytes = self.bytes.saturating_add(len(&waiting.0));
        self.waiting.push_back((now, waiting));
        let mut dropped = Vec::new();
        while (self.bytes > self.most || self.waiting.len() > self.records)
            && let Some(oldest) = self.pop()
        {
            dropped.push(oldest.refused());
        }
        dropped
    }

    /// Drops what waited too long.
    pub(crate) fn expire(&mut self, now: Instant) -> Vec<Arrived> {
        let mut expired = Vec::new();
        while self.deadline().is_some_and(|deadline| deadline <= now)
            && let Some(oldest) = self.pop()
        {
            expired.push(oldest.refused());
        }
        expired
    }

    /// Judges everything again.
    ///
    /// # Cancel safety
    /// Not safe: what is held is lost.
    pub(crate) async fn retry(
        &mut self,
        keys: &Arc<ScreenKeys>,
        quarantine: &Quarantine,
    ) -> Vec<Arrived> {
        let quarantine = quarantine.clone();
        let waiting = std::mem::take(&mut self.waiting);
        let (still, known) = on_worker(waiting.len(), keys, move |keys| {
            let (mut still, mut known) = (VecDeque::new(), Vec::new());
            for (since, waiting) in waiting {
                match waiting.judge(keys, &quarantine) {
                    Judged::Now(arrived) => known.push(arrived),
                    Judged::NotYet(waiting) => still.push_back((since, waiting)),
                }
            }
            (still, known)
        })
        .await;
        self.waiting = still;
        self.bytes = self.waiting.iter().map(|(_, waiting)| len(&waiting.0)).sum();
        known
    }

    /// Returns when the oldest has waited too long.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.waiting.front().and_then(|(since, _)| since.checked_add(HELD_FOR))
    }

    fn pop(&mut self) -> Option<Waiting> {
        let (_, waiting) = self.waiting.pop_front()?;
        self.bytes = self.bytes.saturating_sub(len(&waiting.0));
        Some(waiting)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use oob_crypto::{
        EpochSecret, SigningKey, device_id,
        envelope::{Class, EnvelopeKeys, Head, Life, seal},
    };
    use oob_proto::{Incarnation, Message, OrgId, wire};

    pub(crate) struct Author {
        rlk: SigningKey,
        epoch: EpochSecret,
        device: oob_proto::DeviceId,
    }

    impl Author {
        /// Another member, who knows the epoch and signs in the author's name with a key of his own.
        pub(crate) fn like(author: &Self) -> Self {
            let rlk = SigningKey::generate(&mut rand::rng());
            let epoch = EpochSecret::from_secret(&author.epoch.export_secret());
            Self { rlk, epoch, device: author.device }
        }
    }

    const ORG: [u8; 32] = [9; 32];
    const LIFE: Incarnation = Incarnation(3);

    pub(crate) fn author() -> Author {
        let mut rng = rand::rng();
        Author {
            rlk: SigningKey::generate(&mut rng),
            epoch: EpochSecret::generate(&mut rng),
            device: device_id(&SigningKey::generate(&mut rng).public()),
        }
    }

    pub(crate) fn keys(author: &Author, with_relay: bool) -> Arc<ScreenKeys> {
        let mut keys = ScreenKeys {
            org: Some(OrgId::from(ORG)),
            headers: vec![(author.epoch.id(), author.epoch.header_key())],
            ..ScreenKeys::default()
        };
        if with_relay {
            keys.relays
                .insert((author.device.short(), LIFE, 0), (author.device, author.rlk.public()));
        }
        Arc::new(keys)
    }

    pub(crate) fn sealed(author: &Author, seq: u64) -> Bytes {
        let header_key = author.epoch.header_key();
        let keys = EnvelopeKeys {
            org: &OrgId::from(ORG),
            epoch: author.epoch.id(),
            header_key: &header_key,
            device: &author.device,
            incarnation: LIFE,
            rlk_gen: 0,
            rlk: &author.rlk,
        };
        let class = Class::for_len(1).unwrap();
        let life = Life::ALL[3];
        let head = Head { first_flight: false, class, life, tag: [1; 16], release: [2; 16] };
        let (envelope, _) =
            seal(&mut rand::rng(), &keys, seq, &head, vec![0; class.len()]).unwrap();
        Frame::new(Kind::Envelope(envelope)).encode_to_vec().into()
    }

    fn seqs(arrived: &[Arrived]) -> Vec<u64> {
        arrived
            .iter()
            .map(|arrived| match &arrived.frame {
                Screened::Envelope(envelope) => envelope.seq,
                other => panic!("not an envelope: {other:?}"),
            })
            .collect()
    }

    #[tokio::test]
    async fn a_members_envelope_passes_and_an_altered_one_does_not() {
        let author = author();
        let keys = keys(&author, true);
        let good = sealed(&author, 7);
        let Judged::Now(arrived) = judge(&good, &keys) else { panic!("not judged") };
        assert_eq!(seqs(&[arrived]), [7]);

        // The origin covers the ciphertext, so a flipped bit of it opens under no epoch.
        let mut altered = good.to_vec();
        *altered.last_mut().unwrap() ^= 1;
        let altered = judge(&altered.into(), &keys);
        assert!(!matches!(altered, Judged::Now(Arrived { frame: Screened::Envelope(_), .. })));

        // The header key is shared by all members: with it another member can make an origin, but not the signature.
        let impostor = Author { rlk: SigningKey::generate(&mut rand::rng()), ..author };
        let forged = judge(&sealed(&impostor, 8), &keys);
        assert!(matches!(
            forged,
            Judged::Now(Arrived { frame: Screened::Refused(Refusal::Forged), bytes, .. }) if bytes > 0
        ));
    }

    #[tokio::test]
    async fn any_other_bytes_are_refused_and_their_length_is_kept_for_the_credit() {
        let keys = keys(&author(), true);
        for bytes in [&b""[..], b"\xff\xff", &[0; 70_000], b"hello"] {
            let judged = judge(&Bytes::copy_from_slice(bytes), &keys);
            let expected = bytes.len() as u64;
            assert!(matches!(
                judged,
                Judged::Now(Arrived { bytes, frame: Screened::Refused(Refusal::Malformed), .. })
                    if bytes == expected
            ));
        }
    }

    /// A panic in the screening once took the whole batch along, and the credit of whoever sent it.
    #[tokio::test]
    async fn a_frame_that_makes_the_screening_fail_is_refused_and_the_others_of_its_batch_are_judged()
     {
        let author = author();
        let keys = keys(&author, true);
        let frames: Vec<_> = (1..=20).map(|seq| sealed(&author, seq)).collect();
        let quarantine = Quarantine::default();
        let bad = frames[7].clone();
        quarantine.inject({
            let bad = bad.clone();
            move |source, bytes| source == Source::Screening && bytes == bad
        });
        for round in 1..=2 {
            let judged = judge_all(frames.clone(), &keys, &quarantine).await;
            let mut passed = 0;
            for (at, judged) in judged.into_iter().enumerate() {
                let Judged::Now(arrived) = judged else { panic!("not judged") };
                assert_eq!(arrived.bytes, frames[at].len() as u64);
                let refused = matches!(arrived.frame, Screened::Refused(Refusal::Malformed));
                assert_eq!(refused, at == 7);
                passed += usize::from(!refused);
            }
            let heard = judge_gossip(frames.clone(), &keys, &quarantine).await;
            assert_eq!(
                heard.iter().filter(|heard| matches!(heard, Heard::Judged(_))).count(),
                passed
            );
            // It failed once, and was given to nobody afterwards.
            assert_eq!((quarantine.caught(), quarantine.refused()), (1, round * 2 - 1));
        }
        assert_eq!(quarantine.next().await.bytes, bad);
        // The control: without the fault, and known to nobody, it passes.
        let judged = judge_all(frames, &keys, &Quarantine::default()).await;
        assert!(judged.iter().all(|judged| {
            matches!(judged, Judged::Now(Arrived { frame: Screened::Envelope(_), .. }))
        }));
    }

    #[tokio::test]
    async fn what_is_early_is_held_in_order_and_judged_when_the_key_is_there() {
        let author = author();
        let (before, after) = (keys(&author, false), keys(&author, true));
        let frames: Vec<_> = (1..=20).map(|seq| sealed(&author, seq)).collect();
        let now = Instant::now();
        let mut held = Held::default();
        for judged in judge_all(frames, &before, &Quarantine::default()).await {
            let Judged::NotYet(waiting) = judged else { panic!("judged without a relay key") };
            assert!(held.push(waiting, now).is_empty());
        }
        let quarantine = Quarantine::default();
        assert!(held.retry(&before, &quarantine).await.is_empty());
        assert_eq!(seqs(&held.retry(&after, &quarantine).await), (1..=20).collect::<Vec<_>>());
        assert!(held.is_empty() && held.bytes == 0);
    }

    /// What is held was judged again outside the quarantine: one envelope that made that fail took all that its neighbour had
    /// here along, and was known to nobody afterwards.
    #[tokio::test]
    async fn what_is_held_and_makes_the_second_look_fail_is_refused_alone() {
        let author = author();
        let (before, after) = (keys(&author, false), keys(&author, true));
        for count in [3, 20] {
            let frames: Vec<_> = (1..=count).map(|seq| sealed(&author, seq)).collect();
            let (quarantine, mut held) = (Quarantine::default(), Held::default());
            for judged in judge_all(frames.clone(), &before, &quarantine).await {
                let Judged::NotYet(waiting) = judged else { panic!("judged without a relay key") };
                held.push(waiting, Instant::now());
            }
            let (first, second) = (frames[0].clone(), frames[1].clone());
            quarantine.inject(move |_, bytes| bytes == first || bytes == second);
            let early = judge(&frames[0], &before);
            let again = judge_again([early].into(), &after, &quarantine).await;
            let refused = |arrived: &Arrived| {
                matches!(arrived.frame, Screened::Refused(Refusal::Malformed)) && arrived.bytes > 0
            };
            assert!(matches!(&again[0], Judged::Now(arrived) if refused(arrived)), "{again:?}");
            let arrived = held.retry(&after, &quarantine).await;
            assert!(refused(&arrived[0]) && refused(&arrived[1]), "{arrived:?}");
            assert_eq!(seqs(&arrived[2..]), (3..=count).collect::<Vec<_>>());
            // The first was known from the look before.
            assert_eq!((quarantine.caught(), quarantine.refused()), (2, 1));
        }
    }

    #[tokio::test]
    async fn what_waits_too_long_or_is_too_much_is_refused() {
        let author = author();
        let before = keys(&author, false);
        let now = Instant::now();
        let waiting = |seq| match judge(&sealed(&author, seq), &before) {
            Judged::NotYet(waiting) => waiting,
            Judged::Now(_) => panic!("judged without a relay key"),
        };
        let mut held = Held::default();
        held.push(waiting(1), now);
        let late = held.deadline().unwrap();
        assert_eq!(late, now + HELD_FOR);
        held.push(waiting(2), now + Duration::from_secs(1));
        assert!(held.expire(late - Duration::from_millis(1)).is_empty());
        let dropped = held.expire(late);
        assert!(matches!(
            dropped.as_slice(),
            [Arrived { frame: Screened::Refused(Refusal::NotInTime), .. }]
        ));
        assert_eq!(held.expire(late + HELD_FOR).len(), 1);
        assert!(held.is_empty() && held.bytes == 0);
        let mut dropped = 0;
        for _ in 0..3 {
            let big = vec![0; usize::try_from(HELD_BYTES / 2).unwrap()];
            dropped += held.push(Waiting(big.into()), now).len();
        }
        assert_eq!((dropped, held.bytes), (1, HELD_BYTES));
    }

    /// What waits is not credited: a thousand envelopes of one author whose relay key is not everywhere took all the credit
    /// between two neighbours, and for ten minutes neither told the other anything.
    #[test]
    fn what_waits_for_a_key_leaves_most_of_the_credit() {
        let now = Instant::now();
        let mut held = Held::default();
        let small = || Waiting(vec![0; 700].into());
        let credited: usize =
            (0..limits::CREDIT_RECORDS).map(|_| held.push(small(), now).len()).sum();
        assert_eq!(credited as u64, limits::CREDIT_RECORDS - 256, "the oldest");
        let mut held = Held::default();
        let large = || Waiting(vec![0; 16_384].into());
        let dropped: usize = (0..64).map(|_| held.push(large(), now).len()).sum();
        assert_eq!((dropped, held.bytes * 4), (48, limits::CREDIT_BYTES));
    }

    #[test]
    fn frames_that_change_keys_are_known() {
        assert!(changes_keys(&Screened::Other(Kind::Log(wire::Op::default()))));
        assert!(changes_keys(&Screened::Other(Kind::Hello(wire::Hello::default()))));
        assert!(!changes_keys(&Screened::Other(Kind::Credit(wire::Credit::default()))));
    }
}
