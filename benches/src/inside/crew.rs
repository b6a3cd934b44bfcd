//! Devices in one process: engines over stores in memory, joined by links that lose nothing and take no time.

use super::Failed;
use oob_crypto::JoinHandshake;
use oob_engine::{
    Engine, Outcome,
    effect::{Answer, Effect},
    envelope::{Refusal, Screened, Verdict, screen},
    event::Event,
    input::{Arrived, Command, Input, LinkId, Ticket},
    model::{Name, Now, Role, Text},
};
use oob_proto::{
    MemberId, TransportKey,
    wire::{Frame, frame::Kind},
};
use oob_store::Store;
use rand::{SeedableRng, rngs::StdRng};
use std::{
    collections::BTreeMap,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

/// One device.
struct Device {
    engine: Engine,
    key: TransportKey,
    member: Option<MemberId>,
    /// Frames that came and are not handed in yet, by link.
    inbox: BTreeMap<LinkId, Vec<Vec<u8>>>,
}

/// The first device has a link to each other one.
pub(super) struct Crew {
    devices: Vec<Device>,
    began: Instant,
    ticket: u64,
}

impl Crew {
    /// One who writes and so many who read, members of one organisation, who have greeted each other.
    pub(super) fn new(readers: usize) -> Result<Self, Failed> {
        let mut crew = Self { devices: Vec::new(), began: Instant::now(), ticket: 0 };
        for n in 0..=readers {
            let seed = u64::try_from(n)?;
            let store = Store::in_memory(StdRng::seed_from_u64(seed))?;
            let rng = Box::new(StdRng::seed_from_u64(1_000 + seed));
            let name = Name::parse(&format!("Reader {n}"))?;
            let engine = Engine::create(store, rng, name, crew.now())?;
            let key = engine.snapshot().me.transport;
            crew.devices.push(Device { engine, key, member: None, inbox: BTreeMap::new() });
        }
        let name = Name::parse("Harbour Clinic")?;
        crew.join(0, Command::Found { name })?;
        for reader in 1..=readers {
            crew.admit(reader)?;
            let link = link_to(reader);
            for (device, other) in [(0, reader), (reader, 0)] {
                let peer = crew.device(other)?.key;
                crew.handle(device, Input::LinkUp { link, peer })?;
                crew.commit(device)?;
            }
        }
        crew.settle()?;
        Ok(crew)
    }

    fn now(&self) -> Now {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now {
            wall_ms: u64::try_from(wall.as_millis()).unwrap_or(u64::MAX),
            mono_ms: u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX),
        }
    }

    fn device(&mut self, n: usize) -> Result<&mut Device, Failed> {
        self.devices.get_mut(n).ok_or_else(|| format!("there is no device {n}").into())
    }

    fn handle(&mut self, n: usize, input: Input) -> Result<(), Failed> {
        let now = self.now();
        self.device(n)?.engine.handle(input, now);
        Ok(())
    }

    /// Ends a batch: frames are in the other's inbox afterwards.
    fn commit(&mut self, n: usize) -> Result<Outcome, Failed> {
        let now = self.now();
        let mut outcome = self.device(n)?.engine.commit(now)?;
        for effect in outcome.effects.drain(..) {
            if let Effect::Send { link, frame } = effect {
                let to = if n == 0 { usize::try_from(link.0)? } else { 0 };
                self.device(to)?.inbox.entry(link).or_default().push(frame);
            }
        }
        Ok(outcome)
    }

    fn command(&mut self, n: usize, command: Command) -> Result<Answer, Failed> {
        self.queue(n, command)?;
        let reply = self.commit(n)?.replies.pop().ok_or("a command without a reply")?;
        Ok(reply.result?)
    }

    fn queue(&mut self, n: usize, command: Command) -> Result<(), Failed> {
        self.ticket += 1;
        let ticket = Ticket(self.ticket);
        self.handle(n, Input::Command { ticket, command: Box::new(command) })
    }

    fn join(&mut self, n: usize, command: Command) -> Result<(), Failed> {
        let Answer::Org { member, .. } = self.command(n, command)? else {
            return Err("not in an organisation".into());
        };
        self.device(n)?.member = Some(member);
        Ok(())
    }

    fn admit(&mut self, joiner: usize) -> Result<(), Failed> {
        let invite =
            Command::Invite { role: Role::Responder, uses: 1, life_ms: 900_000, name: None };
        let Answer::Invited { link, .. } = self.command(0, invite)? else {
            return Err("no invitation".into());
        };
        let org = link.org_id.as_slice().try_into()?;
        let mine = self.device(joiner)?.engine.local_keys().dnk;
        let theirs = self.device(0)?.engine.local_keys().dnk;
        let mut rng = StdRng::seed_from_u64(u64::try_from(joiner)?);
        let (second, one) = JoinHandshake::initiator(&mut rng, &org, &mine)?;
        let (third, two) = JoinHandshake::responder(&mut rng, &org, &theirs)?.read(&one)?;
        let (out, three) = second.read(&two)?;
        let inn = third.read(&three)?;
        let handshake_hash = *out.handshake_hash();
        let Answer::Proof(proof) = self.command(0, Command::JoinProof)? else {
            return Err("no proof".into());
        };
        let transport = self.device(0)?.key;
        let dnk = *out.remote();
        let prepare =
            Command::PrepareJoin { link, name: None, proof, handshake_hash, dnk, transport };
        let Answer::Ask(ask) = self.command(joiner, prepare)? else {
            return Err("no request".into());
        };
        let transport = self.device(joiner)?.key;
        let admit = Command::Admit { ask: *ask, handshake_hash, dnk: *inn.remote(), transport };
        let Answer::Answer(answer) = self.command(0, admit)? else {
            return Err("no answer".into());
        };
        self.join(joiner, Command::FinishJoin { answer: *answer })
    }

    /// Hands the first device a text for a reader; nothing leaves before its batch ends.
    pub(super) fn write(&mut self, reader: usize, text: &str) -> Result<(), Failed> {
        let to = self.device(reader)?.member.ok_or("not a member")?;
        self.queue(0, Command::Send { to, text: Text::parse(text)? })
    }

    /// Ends the first device's batch.
    pub(super) fn post(&mut self) -> Result<(), Failed> {
        for reply in self.commit(0)?.replies {
            reply.result?;
        }
        Ok(())
    }

    /// Lets a device take all that came, as one batch; returns how many texts of others it was told.
    pub(super) fn take(&mut self, n: usize) -> Result<usize, Failed> {
        for (link, frames) in std::mem::take(&mut self.device(n)?.inbox) {
            let keys = self.device(n)?.engine.snapshot().screening.clone();
            let frames = frames.iter().map(|bytes| {
                let frame = match Frame::read(bytes).ok().and_then(|frame| frame.kind) {
                    None => Screened::Refused(Refusal::Malformed),
                    Some(Kind::Envelope(envelope)) => match screen(&keys, envelope) {
                        Verdict::Accept(verified) => Screened::Envelope(verified),
                        Verdict::NotYet(_) => Screened::Refused(Refusal::NotInTime),
                        Verdict::Refuse(refusal) => Screened::Refused(refusal),
                    },
                    Some(kind) => Screened::Other(kind),
                };
                let bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
                Arrived { bytes, age_s: 0, frame }
            });
            let frames = frames.collect();
            self.handle(n, Input::Frames { link, frames })?;
        }
        let me = self.device(n)?.engine.snapshot().me.device;
        let events = self.commit(n)?.events;
        let told = events.iter().filter(
            |event| matches!(&event.event, Event::Message(message) if message.device != me),
        );
        Ok(told.count())
    }

    /// Lets everything arrive until nobody has anything to say.
    pub(super) fn settle(&mut self) -> Result<(), Failed> {
        while let Some(n) = self.devices.iter().position(|device| !device.inbox.is_empty()) {
            self.take(n)?;
        }
        Ok(())
    }
}

/// The link to a reader has its number.
fn link_to(reader: usize) -> LinkId {
    LinkId(u64::try_from(reader).unwrap_or(u64::MAX))
}
