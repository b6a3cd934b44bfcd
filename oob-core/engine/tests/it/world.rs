//! A few devices in one process: each an engine over a disk that can lose power, joined by links that a test opens,
//! cuts and listens to.

use oob_crypto::{JoinHandshake, sha256};
use oob_engine::{
    Engine, History,
    effect::{Answer, CommandError, Effect},
    envelope::{Screened, Verdict, screen},
    event::Event,
    input::{Arrived, Command, Input, LinkId, Ticket},
    model::{Message, Name, Now, Role, Text},
};
use oob_proto::{
    ConversationId, MemberId, TransportKey,
    wire::{self, Frame, frame::Kind},
};
use oob_store::{Passphrase, Store, backend::CrashDisk};
use rand::{SeedableRng, rngs::StdRng};
use std::collections::{BTreeMap, VecDeque};

/// When the worlds of these tests begin.
pub(crate) const START_MS: u64 = 1_770_000_000_000;

/// One device.
pub(crate) struct Device {
    pub(crate) engine: Option<Engine>,
    pub(crate) disk: CrashDisk,
    pub(crate) key: TransportKey,
    /// Once in an organisation.
    pub(crate) member: Option<MemberId>,
    pub(crate) events: Vec<Event>,
    pub(crate) clock_ahead_ms: i64,
    seed: u64,
    ticket: u64,
}

/// A frame under way.
#[derive(Debug, Clone)]
pub(crate) struct Flying {
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) link: LinkId,
    pub(crate) frame: Vec<u8>,
}

/// All devices, their links and what is under way.
pub(crate) struct World {
    pub(crate) devices: Vec<Device>,
    /// Both ends of a link have the same id here.
    pub(crate) links: BTreeMap<LinkId, (usize, usize)>,
    pub(crate) flying: VecDeque<Flying>,
    /// Everything that ever left, for replays and scans.
    pub(crate) wire: Vec<Flying>,
    pub(crate) mono_ms: u64,
    /// What was given to the mesh, and by whom.
    pub(crate) published: Vec<(usize, Vec<u8>)>,
    /// The same, ever.
    pub(crate) spoken: Vec<Vec<u8>>,
    /// The mesh loses everything.
    pub(crate) deaf: bool,
    next_link: u64,
}

pub(crate) fn pass() -> Passphrase {
    Passphrase::new("correct horse battery staple")
}

impl World {
    /// Devices of these people, none in an organisation.
    pub(crate) fn new(names: &[&str]) -> Self {
        let mut world = Self {
            devices: Vec::new(),
            links: BTreeMap::new(),
            flying: VecDeque::new(),
            wire: Vec::new(),
            mono_ms: 0,
            published: Vec::new(),
            spoken: Vec::new(),
            deaf: false,
            next_link: 1,
        };
        // Other people, other keys.
        let crowd: u64 = names
            .iter()
            .flat_map(|name| name.bytes())
            .fold(7, |sum, byte| sum * 31 % 1_000_003 + u64::from(byte));
        for (i, name) in names.iter().enumerate() {
            let seed = crowd * 1_000 + i as u64;
            let disk = CrashDisk::new();
            let store = Store::with_backend(disk.parts(), &pass(), StdRng::seed_from_u64(seed))
                .unwrap()
                .store;
            let now = Now { wall_ms: START_MS, mono_ms: 0 };
            let rng = Box::new(StdRng::seed_from_u64(seed + 500));
            let engine = Engine::create(store, rng, Name::parse(name).unwrap(), now).unwrap();
            let key = engine.snapshot().me.transport;
            let events = Vec::new();
            world.devices.push(Device {
                engine: Some(engine),
                disk,
                key,
                member: None,
                events,
                clock_ahead_ms: 0,
                seed,
                ticket: 0,
            });
        }
        world
    }

    /// The first founds an organisation, the others join by an invitation each; no link is open yet.
    pub(crate) fn organisation(names: &[&str]) -> Self {
        let mut world = Self::new(names);
        world.found(0);
        for joiner in 1..names.len() {
            let link = world.invite(0);
            world.join(joiner, 0, &link).unwrap();
        }
        world
    }

    pub(crate) fn now(&self, device: usize) -> Now {
        let wall = (START_MS + self.mono_ms) as i64 + self.devices[device].clock_ahead_ms;
        Now { wall_ms: wall as u64, mono_ms: self.mono_ms }
    }

    pub(crate) fn engine(&mut self, device: usize) -> &mut Engine {
        self.devices[device].engine.as_mut().expect("device is running")
    }

    pub(crate) fn history(&self, device: usize) -> History {
        self.devices[device].engine.as_ref().expect("device is running").history()
    }

    /// Hands one input in and ends the batch.
    pub(crate) fn input(&mut self, device: usize, input: Input) {
        let now = self.now(device);
        self.engine(device).handle(input, now);
        self.commit(device);
    }

    /// Ends a batch; its effects are under way afterwards.
    pub(crate) fn commit(&mut self, device: usize) -> Vec<Result<Answer, CommandError>> {
        let now = self.now(device);
        let outcome = self.engine(device).commit(now).expect("the store works");
        self.devices[device]
            .events
            .extend(outcome.events.into_iter().map(|numbered| numbered.event));
        for effect in outcome.effects {
            match effect {
                Effect::Send { link, frame } => {
                    let Some((a, b)) = self.links.get(&link).copied() else { continue };
                    let to = if a == device { b } else { a };
                    let flying = Flying { from: device, to, link, frame };
                    self.wire.push(flying.clone());
                    self.flying.push_back(flying);
                }
                Effect::Publish { frame } => {
                    self.spoken.push(frame.clone());
                    self.published.push((device, frame));
                }
                Effect::Close { link, .. } => self.cut(link),
                _ => {}
            }
        }
        outcome.replies.into_iter().map(|reply| reply.result).collect()
    }

    pub(crate) fn command(
        &mut self,
        device: usize,
        command: Command,
    ) -> Result<Answer, CommandError> {
        let now = self.now(device);
        self.devices[device].ticket += 1;
        let ticket = Ticket(self.devices[device].ticket);
        self.engine(device).handle(Input::Command { ticket, command: Box::new(command) }, now);
        let mut replies = self.commit(device);
        assert_eq!(replies.len(), 1, "one command, one reply");
        replies.pop().unwrap()
    }

    pub(crate) fn found(&mut self, device: usize) {
        let answer = self
            .command(device, Command::Found { name: Name::parse("Harbour Clinic").unwrap() })
            .unwrap();
        let Answer::Org { member, .. } = answer else { panic!("{answer:?}") };
        self.devices[device].member = Some(member);
    }

    pub(crate) fn invite(&mut self, device: usize) -> wire::InviteLink {
        self.invite_for(device, 1, 900_000)
    }

    pub(crate) fn invite_for(
        &mut self,
        device: usize,
        uses: u32,
        life_ms: u64,
    ) -> wire::InviteLink {
        let command = Command::Invite { role: Role::Responder, uses, life_ms, name: None };
        match self.command(device, command).unwrap() {
            Answer::Invited { link, .. } => *link,
            other => panic!("{other:?}"),
        }
    }

    /// Runs the join stream between two devices.
    pub(crate) fn join(
        &mut self,
        joiner: usize,
        admitter: usize,
        link: &wire::InviteLink,
    ) -> Result<MemberId, CommandError> {
        self.join_with(joiner, admitter, link, |_| {})
    }

    /// The same with a hand in the request.
    pub(crate) fn join_with(
        &mut self,
        joiner: usize,
        admitter: usize,
        link: &wire::InviteLink,
        alter: impl FnOnce(&mut wire::JoinAsk),
    ) -> Result<MemberId, CommandError> {
        let org = link.org_id.as_slice().try_into().unwrap();
        let (mine, theirs) =
            (self.engine(joiner).local_keys().dnk, self.engine(admitter).local_keys().dnk);
        let mut rng = StdRng::seed_from_u64(self.mono_ms + self.next_link);
        let (second, one) = JoinHandshake::initiator(&mut rng, &org, &mine).unwrap();
        let (third, two) =
            JoinHandshake::responder(&mut rng, &org, &theirs).unwrap().read(&one).unwrap();
        let (out, three) = second.read(&two).unwrap();
        let inn = third.read(&three).unwrap();
        assert_eq!(out.handshake_hash(), inn.handshake_hash());
        let hash = *out.handshake_hash();

        let Answer::Proof(proof) = self.command(admitter, Command::JoinProof)? else {
            panic!("no proof")
        };
        let prepare = Command::PrepareJoin {
            link: Box::new(link.clone()),
            name: None,
            proof,
            handshake_hash: hash,
            dnk: *out.remote(),
            transport: self.devices[admitter].key,
        };
        let Answer::Ask(mut ask) = self.command(joiner, prepare)? else { panic!("no request") };
        alter(&mut ask);
        let transport = self.devices[joiner].key;
        let admit =
            Command::Admit { ask: *ask, handshake_hash: hash, dnk: *inn.remote(), transport };
        let Answer::Answer(answer) = self.command(admitter, admit)? else { panic!("no answer") };
        match self.command(joiner, Command::FinishJoin { answer: *answer })? {
            Answer::Org { member, .. } => {
                self.devices[joiner].member = Some(member);
                Ok(member)
            }
            other => panic!("{other:?}"),
        }
    }

    /// Opens a stream between two devices; both greet.
    pub(crate) fn connect(&mut self, a: usize, b: usize) -> LinkId {
        let link = LinkId(self.next_link);
        self.next_link += 1;
        self.links.insert(link, (a, b));
        let (to_a, to_b) = (self.devices[b].key, self.devices[a].key);
        self.input(a, Input::LinkUp { link, peer: to_a });
        if self.links.contains_key(&link) {
            self.input(b, Input::LinkUp { link, peer: to_b });
        }
        link
    }

    /// Ends a stream; what is under way on it is lost.
    pub(crate) fn cut(&mut self, link: LinkId) {
        let Some((a, b)) = self.links.remove(&link) else { return };
        self.flying.retain(|flying| flying.link != link);
        for device in [a, b] {
            if self.devices[device].engine.is_some() {
                self.input(device, Input::LinkDown { link });
            }
        }
    }

    /// Screens one frame as the reader of a stream does.
    pub(crate) fn screened(&mut self, device: usize, bytes: &[u8]) -> Arrived {
        let keys = self.engine(device).snapshot().screening.clone();
        let age_s = Frame::read(bytes).map_or(0, |frame| frame.age);
        let frame = match Frame::read(bytes).ok().and_then(|frame| frame.kind) {
            None => Screened::Refused(oob_engine::envelope::Refusal::Malformed),
            Some(Kind::Envelope(envelope)) => match screen(&keys, envelope) {
                Verdict::Accept(verified) => Screened::Envelope(verified),
                Verdict::NotYet(_) => Screened::Refused(oob_engine::envelope::Refusal::NotInTime),
                Verdict::Refuse(refusal) => Screened::Refused(refusal),
            },
            Some(kind) => Screened::Other(kind),
        };
        Arrived { bytes: bytes.len() as u64, age_s, frame }
    }

    /// Lets one frame arrive.
    pub(crate) fn arrive(&mut self, flying: &Flying) {
        let arrived = self.screened(flying.to, &flying.frame);
        self.input(flying.to, Input::Frames { link: flying.link, frames: vec![arrived] });
    }

    /// Lets everything arrive until nothing is under way.
    pub(crate) fn settle(&mut self) {
        let mut steps = 0;
        while !self.flying.is_empty() || (!self.deaf && !self.published.is_empty()) {
            for (from, frame) in std::mem::take(&mut self.published) {
                self.gossip(from, &frame);
            }
            let Some(flying) = self.flying.pop_front() else { continue };
            steps += 1;
            assert!(steps < 200_000, "the devices never fall silent");
            if self.devices[flying.to].engine.is_some() && self.links.contains_key(&flying.link) {
                self.arrive(&flying);
            }
        }
    }

    /// Gives a published frame to everybody streams lead to, by the last neighbour on the way.
    pub(crate) fn gossip(&mut self, from: usize, frame: &[u8]) {
        if self.deaf {
            return;
        }
        let mut reached = vec![from];
        let mut next = 0;
        while let Some(by) = reached.get(next).copied() {
            next += 1;
            let ends: Vec<(usize, usize)> = self.links.values().copied().collect();
            for (a, b) in ends {
                let to = if a == by { b } else { a };
                let near = a == by || b == by;
                if !near || reached.contains(&to) || self.devices[to].engine.is_none() {
                    continue;
                }
                reached.push(to);
                let frame = Box::new(self.screened(to, frame));
                let from = self.devices[by].key;
                self.input(to, Input::Gossip { from, frame });
            }
        }
    }

    /// Lets time pass; every running device is woken when it asked to be.
    pub(crate) fn pass(&mut self, ms: u64) {
        self.mono_ms += ms;
        for device in 0..self.devices.len() {
            if self.devices[device].engine.is_some() {
                self.input(device, Input::Tick);
            }
        }
    }

    /// Lets half a minute pass in which everybody says what there is to say.
    pub(crate) fn rest(&mut self) {
        for _ in 0..6 {
            self.settle();
            self.pass(6_000);
        }
        self.settle();
    }

    /// Ends a device as a kill does; links to it end too.
    pub(crate) fn kill(&mut self, device: usize) {
        self.devices[device].engine = None;
        let links: Vec<LinkId> = self
            .links
            .iter()
            .filter(|(_, ends)| ends.0 == device || ends.1 == device)
            .map(|(id, _)| *id)
            .collect();
        for link in links {
            self.cut(link);
        }
    }

    /// Starts a device again from its disk.
    pub(crate) fn start(&mut self, device: usize) {
        let now = self.now(device);
        let it = &mut self.devices[device];
        it.seed += 10_000;
        let rng = StdRng::seed_from_u64(it.seed);
        let store =
            Store::with_backend(it.disk.parts(), &pass(), rng).expect("the store opens").store;
        it.engine = Some(
            Engine::open(store, Box::new(StdRng::seed_from_u64(it.seed + 1)), now)
                .expect("the state loads"),
        );
    }

    pub(crate) fn member(&self, device: usize) -> MemberId {
        self.devices[device].member.expect("a member")
    }

    pub(crate) fn send(&mut self, from: usize, to: usize, text: &str) -> (ConversationId, u64) {
        let to = self.member(to);
        match self.command(from, Command::Send { to, text: Text::parse(text).unwrap() }).unwrap() {
            Answer::Sent { conversation, number, .. } => (conversation, number),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn conversation(&self, a: usize, b: usize) -> ConversationId {
        let org = self.devices[a].engine.as_ref().unwrap().snapshot().org.as_ref().unwrap().id;
        oob_crypto::direct_conversation(&org, &self.member(a), &self.member(b))
    }

    pub(crate) fn log(&self, device: usize, with: usize) -> Vec<Message> {
        self.history(device).messages(&self.conversation(device, with), 0, 100_000).unwrap()
    }

    pub(crate) fn texts(&self, device: usize, with: usize) -> Vec<String> {
        self.log(device, with).into_iter().map(|message| message.text).collect()
    }

    pub(crate) fn roster_names(&self, device: usize) -> Vec<String> {
        let snapshot = self.devices[device].engine.as_ref().unwrap().snapshot();
        let mut names: Vec<String> =
            snapshot.roster.members.values().map(|member| member.name.to_string()).collect();
        names.sort();
        names
    }
}

/// A link as text and back, as it goes through a file.
pub(crate) fn through_text(link: &wire::InviteLink) -> wire::InviteLink {
    oob_proto::link::from_text(&oob_proto::link::to_text(link, sha256), sha256).unwrap()
}
