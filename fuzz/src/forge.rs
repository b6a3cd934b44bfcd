//! What a hostile member can make with the keys of its own device: records of every kind that hold, with anything laid over
//! them before they are signed or sealed.

use super::{
    cast::{CAST, laid_over},
    rules::signed_op,
};
use oob_crypto::{
    Bundle, EpochSecret, FirstContact, OutChannel, PairSession, Ring, SigningKey,
    direct_conversation,
    envelope::{EnvelopeKeys, Head, Life, seal},
    seal_alert, seal_grant,
    signed::sign,
};
use oob_proto::{
    Incarnation, Message,
    signing::SignedType,
    wire::{self, frame::Kind, inner},
};
use rand::{SeedableRng, rngs::StdRng};

/// Operations that continue one another; more of the same shows nothing new, and each is looked for in all.
const OPS: usize = 32;

/// Sam's bench. Records 1 and 2 of his device are its first certificate and bundle.
pub(crate) struct Forge {
    rng: StdRng,
    /// Sam's life, of which he may have many; his keys of the first serve in all.
    mine: Incarnation,
    seq: u64,
    number: u64,
    body_seq: u64,
    ops: Vec<wire::Op>,
    /// Dana's newest bundle and life, as her greeting says.
    bundle: Option<Bundle>,
    life: Incarnation,
    channel: Option<OutChannel>,
    session: Option<(PairSession, u64)>,
}

impl Forge {
    pub(crate) fn new() -> Self {
        Self {
            rng: StdRng::seed_from_u64(7),
            mine: CAST.life,
            seq: 2,
            number: 0,
            body_seq: 0,
            ops: Vec::new(),
            bundle: None,
            life: Incarnation(0),
            channel: None,
            session: None,
        }
    }

    /// Takes Dana's greeting.
    pub(crate) fn hears(&mut self, hello: &wire::Hello) {
        if let Some(signed) = &hello.bundle {
            self.bundle = Bundle::parse(&signed.payload).ok();
        }
        let newest = hello.relay_certs.last();
        let cert = newest.and_then(|signed| wire::RelayCert::decode(&*signed.payload).ok());
        self.life = cert.map_or(self.life, |cert| Incarnation(cert.incarnation));
    }

    fn next(&mut self) -> u64 {
        self.seq += 1;
        self.seq
    }

    /// A record signed by the device or its relay key: which kind u8, then what is laid over it.
    pub(crate) fn signed(&mut self, which: u8, over: &[u8]) -> Kind {
        let (device, incarnation) = (CAST.sam.device.to_vec(), self.mine.0);
        let signed = |kind, payload, key: &SigningKey| sign(kind, &CAST.org, payload, &[key]);
        let dsk = &CAST.sam.dsk;
        match which % 6 {
            0 => {
                let rlk = CAST.rlk.public().to_vec();
                let record_seq = self.next();
                let cert = wire::RelayCert { device, incarnation, r#gen: 0, rlk, record_seq };
                let payload = laid_over(&cert, over).encode_to_vec();
                Kind::RelayCert(signed(SignedType::RelayCert, payload, dsk))
            }
            1 => {
                let bundle = wire::PrekeyBundle {
                    seq: self.number,
                    record_seq: self.next(),
                    ..CAST.bundle.clone()
                };
                self.number += 1;
                let payload = laid_over(&bundle, over).encode_to_vec();
                Kind::Bundle(signed(SignedType::Bundle, payload, dsk))
            }
            2 => {
                self.number += 1;
                let number = (1 << 32) + self.number;
                let have =
                    wire::Have { device, incarnation, r#gen: 0, number, ..wire::Have::default() };
                let payload = laid_over(&have, over).encode_to_vec();
                Kind::Have(signed(SignedType::Have, payload, &CAST.rlk))
            }
            3 => {
                let floor =
                    wire::Floor { device, incarnation, record_seq: self.next(), gone: Vec::new() };
                let payload = laid_over(&floor, over).encode_to_vec();
                Kind::Floor(signed(SignedType::Floor, payload, dsk))
            }
            4 => {
                let alert = wire::Alert {
                    device,
                    incarnation,
                    record_seq: self.next(),
                    severity: 2,
                    issued: super::cast::NOW.wall_ms,
                    life_s: 3_600,
                    text: "Mail is compromised".into(),
                    ..Default::default()
                };
                let payload = laid_over(&alert, over).encode_to_vec();
                let signed = signed(SignedType::Alert, payload, dsk);
                let epoch = &CAST.loot.epoch;
                let sealed = seal_alert(&mut self.rng, &epoch.alert_key(), &epoch.id(), &signed);
                Kind::Alert(sealed.unwrap_or_default())
            }
            _ => {
                let record_seq = self.next();
                let ack = wire::AlertAck {
                    device,
                    incarnation,
                    record_seq,
                    hlc: 1,
                    ..Default::default()
                };
                let payload = laid_over(&ack, over).encode_to_vec();
                Kind::AlertAck(signed(SignedType::AlertAck, payload, dsk))
            }
        }
    }

    /// An operation of Sam's, see [`signed_op`].
    pub(crate) fn op(&mut self, bytes: &[u8]) -> Option<Kind> {
        let op = signed_op(bytes, &self.ops, false)?;
        if self.ops.len() < OPS {
            self.ops.push(op.clone());
        }
        Some(Kind::Log(op))
    }

    /// An epoch, all of whose secret is one byte, and the operation that announces it.
    pub(crate) fn epoch(&mut self, of: u8, over: &[u8]) -> Option<[Kind; 2]> {
        let secret = EpochSecret::from_secret(&[of; 32]);
        let ring = if of.is_multiple_of(2) { Ring::Core } else { Ring::Audience };
        let key = wire::EpochKey {
            ring: u32::from(ring.code()),
            epoch_id: secret.id().to_vec(),
            parents: vec![CAST.loot.epoch.id().to_vec()],
            roster_hash: vec![6; 32],
        };
        let body = wire::OpBody { kind: Some(wire::op_body::Kind::EpochKey(key)) };
        let announced = self.op(&[&[0, 0, 0], &*body.encode_to_vec()].concat())?;
        let contact = FirstContact {
            org: &CAST.org,
            my_dnk: &CAST.loot.dnk,
            my_device: &CAST.sam.device,
            to: &CAST.dana.device,
            bundle: self.bundle.as_ref()?,
        };
        let first_flight = seal_grant(&mut self.rng, &contact, ring, &secret).ok()?;
        let ring = u32::from(ring.code());
        let grant = wire::EpochGrant { ring, epoch_id: secret.id().to_vec(), first_flight };
        Some([announced, Kind::Epoch(laid_over(&grant, over))])
    }

    /// A message to Dana: what its body says is laid over one that is right.
    pub(crate) fn body(&mut self, over: &[u8]) -> Option<Kind> {
        self.body_seq += 1;
        let short = CAST.sam.device.short();
        let (life, seq) = (self.mine.0.to_be_bytes(), (self.seq + 1).to_be_bytes());
        let id = [short.as_bytes().as_slice(), &life, &seq];
        let body = wire::Body {
            id: id.concat(),
            conversation: self.conversation(),
            seq: self.body_seq,
            lamport: self.body_seq,
            time: super::cast::NOW.wall_ms,
            content: Some(wire::body::Content::Text(wire::Text { text: "here".into() })),
            ..Default::default()
        };
        let body = laid_over(&body, over).encode_to_vec();
        if self.session.is_none() {
            let session = PairSession::outbound(&CAST.loot.account(), self.bundle.as_ref()?);
            self.session = Some((session.ok()?, 0));
        }
        let (session, olm_n) = self.session.as_mut()?;
        let (olm_type, olm) = session.encrypt(&body).ok()?;
        let olm_session = session.id().to_vec();
        let n = *olm_n;
        *olm_n += 1;
        let k = Some(inner::K::Olm(olm));
        self.inner(&wire::Inner { olm_session, olm_n: n, olm_type, k }.encode_to_vec())
    }

    /// A receipt to Dana for all she wrote, with anything laid over it.
    pub(crate) fn ack(&mut self, over: &[u8]) -> Option<Kind> {
        let ack = wire::Ack {
            conversation: self.conversation(),
            device: CAST.dana.device.to_vec(),
            incarnation: self.life.0,
            ..Default::default()
        };
        let k = Some(inner::K::Ack(laid_over(&ack, over)));
        self.inner(&wire::Inner { k, ..Default::default() }.encode_to_vec())
    }

    fn conversation(&self) -> Vec<u8> {
        let (sam, dana) = (CAST.sam.member(&CAST.org), CAST.dana.member(&CAST.org));
        direct_conversation(&CAST.org, &sam, &dana).to_vec()
    }

    /// Anything, through the channel from Sam to Dana.
    pub(crate) fn inner(&mut self, inner: &[u8]) -> Option<Kind> {
        let first = self.channel.is_none();
        let sealed = match &mut self.channel {
            Some(channel) => channel.seal(&mut self.rng, inner).ok()?,
            None => {
                let contact = FirstContact {
                    org: &CAST.org,
                    my_dnk: &CAST.loot.dnk,
                    my_device: &CAST.sam.device,
                    to: &CAST.dana.device,
                    bundle: self.bundle.as_ref()?,
                };
                let (channel, sealed) = OutChannel::open(&mut self.rng, &contact, 0, inner).ok()?;
                self.channel = Some(channel);
                sealed
            }
        };
        let head = Head {
            first_flight: first,
            class: sealed.class,
            life: Life::ThreeWeeks,
            tag: sealed.tag,
            release: sealed.release,
        };
        self.envelope(&head, sealed.ct)
    }

    /// The next first flight opens another channel.
    pub(crate) fn forget_channel(&mut self) {
        self.channel = None;
    }

    /// The next message begins another session.
    pub(crate) fn forget_session(&mut self) {
        self.session = None;
    }

    /// What follows is of another life.
    pub(crate) fn lives(&mut self, life: u8) {
        self.mine = Incarnation(CAST.life.0.wrapping_add(life.into()));
    }

    /// The next record has so many numbers between itself and the one before.
    pub(crate) fn skip(&mut self, records: u64) {
        self.seq = self.seq.saturating_add(records).min(u64::MAX / 2);
    }

    /// A ciphertext of anything under Sam's origin.
    pub(crate) fn envelope(&mut self, head: &Head, mut ct: Vec<u8>) -> Option<Kind> {
        ct.resize(head.class.len(), 0);
        let header_key = CAST.loot.epoch.header_key();
        let keys = EnvelopeKeys {
            org: &CAST.org,
            epoch: CAST.loot.epoch.id(),
            header_key: &header_key,
            device: &CAST.sam.device,
            incarnation: self.mine,
            rlk_gen: 0,
            rlk: &CAST.rlk,
        };
        let seq = self.next();
        Some(Kind::Envelope(seal(&mut self.rng, &keys, seq, head, ct).ok()?.0))
    }
}
