//! What can be made with all the keys of one device: records of its own with any number, words that are not so, and the
//! outside of others' records under its own name.

use super::{dice::Dice, foe::Foe};
use crate::{Engine, model::Ring, state::State};
use oob_crypto::{
    SigningKey,
    envelope::{Class, Cover, EnvelopeKeys, Head, Life, open_origin, seal},
    seal_alert,
    signed::sign,
};
use oob_proto::{
    AlertId, DeviceId, DeviceShort, Incarnation, Message,
    signing::SignedType,
    wire::{self, Frame, frame::Kind},
};

/// A device's keys, at work.
pub(super) struct Forger<'a> {
    state: &'a State,
    pub(super) dice: &'a mut Dice,
    pub(super) wall_ms: u64,
}

impl<'a> Forger<'a> {
    /// None before the device is in an organisation.
    pub(super) fn new(engine: &'a Engine, dice: &'a mut Dice, wall_ms: u64) -> Option<Self> {
        let state = engine.inside();
        state.org_id().is_some().then_some(Self { state, dice, wall_ms })
    }

    fn me(&self) -> DeviceId {
        self.state.identity.device
    }

    fn signed(&self, kind: SignedType, payload: Vec<u8>, key: &SigningKey) -> wire::Signed {
        let org = self.state.org_id().expect("in an organisation");
        sign(kind, &org, payload, &[key])
    }

    /// One of the other devices and a life of its.
    pub(super) fn somebody(&mut self) -> Option<(DeviceId, Incarnation)> {
        let lives: Vec<(DeviceId, Incarnation)> =
            self.state.seen.lives().map(|(key, _, _)| key).collect();
        self.dice.pick(&lives)
    }

    fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| self.dice.below(256) as u8)
    }

    /// An envelope of a number, under this device's name and relay key.
    pub(super) fn envelope(
        &mut self,
        seq: u64,
        head: &Head,
        ct: Vec<u8>,
    ) -> Option<wire::Envelope> {
        let (me, life) = (self.me(), self.state.life.incarnation);
        self.envelope_as(me, life, self.state.life.rlk_gen, seq, head, ct)
    }

    /// The same under any name; the relay key is this device's all the same.
    fn envelope_as(
        &mut self,
        device: DeviceId,
        incarnation: Incarnation,
        rlk_gen: u32,
        seq: u64,
        head: &Head,
        ct: Vec<u8>,
    ) -> Option<wire::Envelope> {
        let epoch = self.state.epochs.to_send(Ring::Core)?;
        let keys = EnvelopeKeys {
            org: &self.state.org_id()?,
            epoch: epoch.id,
            header_key: &epoch.header,
            device: &device,
            incarnation,
            rlk_gen,
            rlk: &self.state.life.rlk,
        };
        seal(self.dice.rng(), &keys, seq, head, ct).ok().map(|(envelope, _)| envelope)
    }

    /// The outside of an envelope that nobody can open.
    pub(super) fn junk(&mut self) -> (Head, Vec<u8>) {
        let class = Class::for_len(1).expect("the smallest class");
        let (tag, release) = (self.bytes(), self.bytes());
        let head = Head {
            first_flight: self.dice.chance(300),
            class,
            life: Life::ThreeWeeks,
            tag,
            release,
        };
        let byte = self.dice.below(256) as u8;
        (head, vec![byte; class.len()])
    }

    /// The outside of a frame's envelope.
    pub(super) fn outside(frame: &[u8]) -> Option<(Head, Vec<u8>)> {
        let Ok(Frame { kind: Some(Kind::Envelope(envelope)), .. }) = Frame::read(frame) else {
            return None;
        };
        let head = *Cover::read(&envelope).ok()?.head();
        Some((head, envelope.ct))
    }

    /// Whose record a frame holds, where it holds one; an alert is taken for somebody else's.
    pub(super) fn is_own(&self, kind: &Kind) -> bool {
        let me = self.me();
        let named = |device: &[u8]| device == me.as_bytes();
        match kind {
            Kind::Envelope(envelope) => {
                self.origin(envelope).is_some_and(|(device, _)| device == me.short())
            }
            Kind::RelayCert(signed) => wire::RelayCert::decode(signed.payload.as_slice())
                .is_ok_and(|raw| named(&raw.device)),
            Kind::Bundle(signed) => wire::PrekeyBundle::decode(signed.payload.as_slice())
                .is_ok_and(|raw| named(&raw.device)),
            Kind::Floor(signed) => {
                wire::Floor::decode(signed.payload.as_slice()).is_ok_and(|raw| named(&raw.device))
            }
            Kind::AlertAck(signed) => wire::AlertAck::decode(signed.payload.as_slice())
                .is_ok_and(|raw| named(&raw.device)),
            Kind::Release(release) => release.device == me.short().as_bytes(),
            _ => false,
        }
    }

    fn origin(&self, envelope: &wire::Envelope) -> Option<(DeviceShort, u64)> {
        let cover = Cover::read(envelope).ok()?;
        let mut epochs = self.state.epochs.preferred_first();
        let origin = epochs.find_map(|epoch| open_origin(&epoch.header, &cover).ok())?;
        Some((origin.device, origin.seq))
    }

    /// Another envelope with the number of an own one.
    pub(super) fn twin(&mut self, envelope: &wire::Envelope) -> Option<wire::Envelope> {
        let (device, seq) = self.origin(envelope)?;
        let (head, ct) = self.junk();
        (device == self.me().short()).then(|| self.envelope(seq, &head, ct))?
    }

    /// An envelope in somebody else's name, with a number that comes next there.
    pub(super) fn in_anothers_name(&mut self) -> Option<wire::Envelope> {
        let relays: Vec<_> = self.state.directory.relays().into_iter().collect();
        let keys: Vec<usize> = (0..relays.len()).collect();
        let ((_, life, generation), (device, _)) = relays.get(self.dice.pick(&keys)?)?;
        let next = self.state.came(device, *life).last().unwrap_or(0).saturating_add(1);
        let seq = next.saturating_add(self.dice.between(0..=20));
        let (head, ct) = self.junk();
        self.envelope_as(*device, *life, *generation, seq, &head, ct)
    }

    /// An answer to some alert; `of` says in whose name.
    pub(super) fn answer(&mut self, of: (DeviceId, Incarnation), seq: u64) -> Kind {
        let known: Vec<AlertId> = self.state.alerts.ids().collect();
        let alert = match self.dice.pick(&known).filter(|_| self.dice.chance(500)) {
            Some(alert) => alert,
            None => AlertId::from(self.bytes()),
        };
        let raw = wire::AlertAck {
            alert: alert.to_vec(),
            device: of.0.to_vec(),
            incarnation: of.1.0,
            record_seq: seq,
            hlc: self.wall_ms.saturating_add(self.dice.between(0..=1 << 40)),
            answer: "safe".to_owned(),
        };
        let dsk = &self.state.identity.dsk;
        Kind::AlertAck(self.signed(SignedType::AlertAck, raw.encode_to_vec(), dsk))
    }

    /// An own answer.
    pub(super) fn own_answer(&mut self, seq: u64) -> Kind {
        self.answer((self.me(), self.state.life.incarnation), seq)
    }

    /// An alert: where there is one admin and no alerter, everybody may.
    pub(super) fn alert(&mut self, seq: u64) -> Option<Kind> {
        let raw = wire::Alert {
            device: self.me().to_vec(),
            incarnation: self.state.life.incarnation.0,
            record_seq: seq,
            severity: 2,
            issued: self.wall_ms,
            life_s: 86_400,
            text: "run".to_owned(),
            ..wire::Alert::default()
        };
        let signed = self.signed(SignedType::Alert, raw.encode_to_vec(), &self.state.identity.dsk);
        let epoch = self.state.epochs.to_send(Ring::Core)?;
        let key = epoch.secret.alert_key();
        seal_alert(self.dice.rng(), &key, &epoch.id, &signed).ok().map(Kind::Alert)
    }

    /// A word that gives up own records, and some that never were.
    pub(super) fn floor(&mut self, seq: u64) -> Kind {
        let ranges = (0..200u64).map(|n| wire::Range { first: seq + 3 * n, last: seq + 3 * n });
        let entry = |incarnation: u32, ranges| wire::FloorEntry { incarnation, ranges };
        let life = self.state.life.incarnation.0;
        let other = self.dice.below(1 << 30) as u32;
        let raw = wire::Floor {
            device: self.me().to_vec(),
            incarnation: life,
            record_seq: seq,
            gone: vec![entry(life, ranges.clone().collect()), entry(other, ranges.collect())],
        };
        Kind::Floor(self.signed(SignedType::Floor, raw.encode_to_vec(), &self.state.identity.dsk))
    }

    /// A relay key of a generation, certified.
    pub(super) fn certificate(&mut self, generation: u32, seq: u64) -> Kind {
        let rlk = SigningKey::from_secret(&self.bytes());
        let raw = wire::RelayCert {
            device: self.me().to_vec(),
            incarnation: self.state.life.incarnation.0,
            r#gen: generation,
            rlk: rlk.public().to_vec(),
            record_seq: seq,
        };
        let dsk = &self.state.identity.dsk;
        Kind::RelayCert(self.signed(SignedType::RelayCert, raw.encode_to_vec(), dsk))
    }

    /// A proof for a record of somebody's that proves nothing.
    pub(super) fn release(&mut self) -> Option<Kind> {
        let (device, incarnation) = self.somebody()?;
        let last = self.state.came(&device, incarnation).last().unwrap_or(0);
        Some(Kind::Release(wire::Release {
            device: device.short().to_vec(),
            incarnation: incarnation.0,
            seq: self.dice.between(1..=last.max(1)),
            preimage: self.bytes::<16>().to_vec(),
        }))
    }

    /// Everybody is connected with this device, and was heard this moment.
    pub(super) fn nearby(&self) -> Kind {
        let roster =
            self.state.organisation.iter().flat_map(|all| all.roster().view.devices.keys());
        let by = self.me().short();
        let heard = roster.map(|device| wire::Heard {
            device: device.short().to_vec(),
            by: by.to_vec(),
            ago_s: 0,
        });
        Kind::Nearby(wire::Nearby { heard: heard.collect() })
    }

    /// A word on what it has, of a number and with entries of one's choice.
    pub(super) fn have(&self, number: u64, entries: Vec<wire::HaveEntry>) -> Kind {
        let life = &self.state.life;
        let raw = wire::Have {
            device: self.me().to_vec(),
            incarnation: life.incarnation.0,
            r#gen: life.rlk_gen,
            number,
            entries,
            run: life.run(),
            ..wire::Have::default()
        };
        Kind::Have(self.signed(SignedType::Have, raw.encode_to_vec(), &life.rlk))
    }

    /// The word that its engine gave, in parts.
    pub(super) fn read_have(signed: &wire::Signed) -> Option<wire::Have> {
        wire::Have::decode(signed.payload.as_slice()).ok()
    }

    /// All that others wrote and will write is here.
    pub(super) fn has_everything(&self, mut entries: Vec<wire::HaveEntry>) -> Vec<wire::HaveEntry> {
        let me = self.me();
        for entry in entries.iter_mut().filter(|entry| entry.device != me.as_bytes()) {
            let last = entry.gone.iter().map(|range| range.last).max().unwrap_or(0);
            entry.have = vec![wire::Range { first: 1, last: last.saturating_add(1_000) }];
        }
        entries
    }

    /// Nothing that others wrote is needed; it has what nobody wrote.
    pub(super) fn lies(&mut self, mut entries: Vec<wire::HaveEntry>) -> Vec<wire::HaveEntry> {
        let me = self.me();
        for entry in entries.iter_mut().filter(|entry| entry.device != me.as_bytes()) {
            if self.dice.chance(500) {
                entry.have.clear();
                entry.gone = vec![wire::Range { first: 1, last: u64::MAX }];
            }
        }
        let far =
            (0..100u64).map(|n| wire::Range { first: u64::MAX - 2 * n, last: u64::MAX - 2 * n });
        let device = self.bytes::<32>().to_vec();
        let incarnation = self.dice.below(1 << 30) as u32;
        entries.push(wire::HaveEntry {
            device,
            incarnation,
            have: far.collect(),
            gone: Vec::new(),
            cut: false,
        });
        entries
    }

    /// The number of the newest own word.
    pub(super) fn have_number(&self) -> u64 {
        self.state.life.have_number()
    }

    /// A few entries to begin with.
    pub(super) fn entries(&self) -> Vec<wire::HaveEntry> {
        self.state.have_parts().into_iter().next().map(|part| part.entries).unwrap_or_default()
    }

    /// A greeting that names heads which are not there and forgets some that are.
    pub(super) fn greeting(&mut self, mut hello: wire::Hello) -> wire::Hello {
        hello.heads.retain(|_| self.dice.chance(500));
        hello.heads.push(self.bytes::<32>().to_vec());
        hello.landmarks.clear();
        hello.epochs.clear();
        hello.equality = [vec![1], self.bytes::<32>().to_vec()].concat();
        hello
    }
}

impl Foe {
    /// One of the captured frames.
    pub(super) fn pick(&self, dice: &mut Dice) -> Option<Vec<u8>> {
        (!self.captured.is_empty()).then(|| self.captured[dice.below(self.captured.len())].clone())
    }
}
