//! A small organisation, made once: Dana founded it, Sam and Rosa are members, one invitation is open and Mallory holds it.
//! Sam and Mallory, and for [`Hand::Admin`] Dana too, are the attacker: their keys are known here.

use oob_crypto::{
    DhPublic, DhSecret, EpochSecret, OlmAccount, PublicKey, SigningKey, invite_key, op_hash,
    signed::sign,
};
use oob_engine::{
    Engine, Outcome,
    effect::{Answer, CommandError, Effect},
    envelope::Screened,
    input::{Arrived, Command, Input, LinkId, Ticket},
    model::{Name, Now, Role},
};
use oob_proto::{
    DeviceId, Incarnation, MemberId, Message, OpHash, OrgId, TransportKey, limits,
    signing::SignedType,
    wire::{self, Frame, frame::Kind, op_body},
};
use oob_store::{Area, Bag, Order, Passphrase, Store, backend::CrashDisk};
use rand::{Rng as _, SeedableRng, rngs::StdRng};
use std::sync::LazyLock;

/// All of it happens at once.
pub const NOW: Now = Now { wall_ms: 1_770_000_000_000, mono_ms: 0 };

/// The Noise handshake of every join here.
pub const HANDSHAKE: [u8; 32] = [7; 32];

/// The stream from Sam to Dana.
pub const LINK: LinkId = LinkId(1);

/// Added to a person's seed for the engine that founds or joins, and for those that start from a copy.
const FOR_GOOD: u64 = 100;
const AS_A_COPY: u64 = 200;

/// Somebody's device: what is on its disk, and the keys the attacker would have taken from it.
pub struct Person {
    disk: CrashDisk,
    seed: u64,
    pub uik: SigningKey,
    pub dsk: SigningKey,
    pub transport: SigningKey,
    pub dnk: DhPublic,
    pub device: DeviceId,
}

/// The organisation.
pub struct Cast {
    pub org: OrgId,
    pub dana: Person,
    pub sam: Person,
    pub rosa: Person,
    pub mallory: Person,
    pub admin: SigningKey,
    /// What else Sam has on his disk.
    pub loot: Loot,
    /// Sam's relay key, life and first bundle.
    pub rlk: SigningKey,
    pub life: Incarnation,
    pub bundle: wire::PrekeyBundle,
    /// The whole log, parents first.
    pub ops: Vec<wire::Op>,
    /// Mallory's invitation, and the key derived from it.
    pub link: wire::InviteLink,
    pub invite_key: SigningKey,
    pub proof: wire::JoinProof,
    /// The request that admits Mallory, and the answer to it.
    pub request: wire::JoinRequest,
    pub answer: wire::JoinAnswer,
}

/// Secrets out of Sam's own store.
pub struct Loot {
    pub dnk: DhSecret,
    pub olm: Vec<u8>,
    /// The epoch everybody sends under.
    pub epoch: EpochSecret,
}

/// Who signs an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hand {
    Device,
    Person,
    Admin,
}

pub static CAST: LazyLock<Cast> = LazyLock::new(Cast::assemble);

impl Person {
    fn new(seed: u64, name: &str) -> Self {
        let disk = CrashDisk::new();
        let rng = Box::new(StdRng::seed_from_u64(seed));
        let name = Name::parse(name).expect("a name");
        let engine = Engine::create(store(&disk), rng, name, NOW).expect("a fresh store");
        let me = engine.snapshot().me.clone();
        let own = |place| nth_key(seed, place);
        let (dsk, uik, transport) = (own(0), own(1), own(3));
        assert_eq!(oob_crypto::device_id(&dsk.public()), me.device, "keys come in another order");
        assert_eq!(transport.public().as_bytes(), me.transport.as_bytes());
        let dnk = engine.local_keys().dnk.public();
        Self { disk, seed, uik, dsk, transport, dnk, device: me.device }
    }

    /// Starts the device on a copy of its disk: whatever happens, the next one starts from the same.
    pub fn start(&self) -> Engine {
        self.start_on(&self.copy(), NOW, 0)
    }

    /// Returns a copy of its disk.
    pub fn copy(&self) -> CrashDisk {
        self.disk.image()
    }

    /// Starts the device on a copy of its disk that is somebody's to keep, for the so-many-th time.
    pub fn start_on(&self, copy: &CrashDisk, now: Now, before: u64) -> Engine {
        let rng = Box::new(StdRng::seed_from_u64(self.seed + AS_A_COPY + 1_000 * before));
        Engine::open(store(copy), rng, now).expect("its own state")
    }

    /// Returns who this is in an organisation.
    pub fn member(&self, org: &OrgId) -> MemberId {
        oob_crypto::member_id(org, &self.uik.public())
    }

    fn start_for_good(&self) -> Engine {
        let rng = Box::new(StdRng::seed_from_u64(self.seed + FOR_GOOD));
        Engine::open(store(&self.disk), rng, NOW).expect("its own state")
    }

    pub fn transport_key(&self) -> TransportKey {
        TransportKey::from(*self.transport.public().as_bytes())
    }
}

impl Loot {
    fn of(person: &Person) -> Self {
        let store = store(&person.copy());
        let own = store.get(&Bag::new(Area(1), &[]), 0).expect("it reads").expect("an identity");
        let own = wire::StoredIdentity::decode(own.as_slice()).expect("an identity");
        let epochs = store.scan(&Bag::new(Area(3), &[]), .., Order::Ascending, 9).expect("epochs");
        let core = epochs.into_iter().find_map(|(_, bytes)| {
            let epoch = wire::StoredEpoch::decode(bytes.as_slice()).expect("an epoch");
            (epoch.ring == 0).then(|| epoch.secret.as_slice().try_into().expect("32 bytes"))
        });
        Self {
            dnk: DhSecret::from_secret(own.dnk.as_slice().try_into().expect("32 bytes")),
            olm: own.olm_account,
            epoch: EpochSecret::from_secret(&core.expect("an epoch of the core")),
        }
    }

    /// The account that Sam's certificate names.
    pub fn account(&self) -> OlmAccount {
        OlmAccount::from_secret(&self.olm).expect("Sam's own")
    }
}

fn store(disk: &CrashDisk) -> Store {
    let rng = StdRng::seed_from_u64(99);
    Store::with_backend(disk.parts(), &Passphrase::new(""), rng).expect("a disk in memory").store
}

/// Returns the key made from the given 32 bytes of a generator's stream: the engine draws its own keys first of all.
fn nth_key(seed: u64, place: usize) -> SigningKey {
    let mut rng = StdRng::seed_from_u64(seed);
    for _ in 0..place {
        rng.fill_bytes(&mut [0; 32]);
    }
    SigningKey::generate(&mut rng)
}

/// Looks for a key further down a generator's stream.
fn find_key(seed: u64, public: &[u8]) -> SigningKey {
    let after = |skipped: usize| {
        let mut rng = StdRng::seed_from_u64(seed);
        for _ in 0..skipped {
            rng.next_u32();
        }
        SigningKey::generate(&mut rng)
    };
    (0..1_024)
        .map(after)
        .find(|key| key.public().as_bytes() == public)
        .expect("the key was made by this generator")
}

/// Hands one input in and ends the batch.
pub fn give(engine: &mut Engine, input: Input) -> Outcome {
    engine.handle(input, NOW);
    engine.commit(NOW).expect("memory takes everything")
}

/// Asks for one thing.
pub fn ask(engine: &mut Engine, command: Command) -> Result<Answer, CommandError> {
    let input = Input::Command { ticket: Ticket(1), command: Box::new(command) };
    give(engine, input).replies.pop().expect("one command, one reply").result
}

/// Lets frames arrive at Dana.
pub fn arrive(dana: &mut Engine, frames: Vec<Screened>) -> Outcome {
    let frames = frames.into_iter().map(|frame| Arrived { bytes: 100, age_s: 0, frame }).collect();
    give(dana, Input::Frames { link: LINK, frames })
}

impl Cast {
    fn assemble() -> Self {
        const DANA: u64 = 1;
        const SAM: u64 = 2;
        let (dana, sam) = (Person::new(DANA, "Dana"), Person::new(SAM, "Sam"));
        let (mallory, rosa) = (Person::new(3, "Mallory"), Person::new(4, "Rosa"));

        let mut at_dana = dana.start_for_good();
        let name = Name::parse("Harbour Clinic").expect("a name");
        let Ok(Answer::Org { org, .. }) = ask(&mut at_dana, Command::Found { name }) else {
            panic!("not founded")
        };
        let proof = match ask(&mut at_dana, Command::JoinProof) {
            Ok(Answer::Proof(proof)) => proof,
            other => panic!("{other:?}"),
        };
        let sams = joins(&sam, &dana, &mut at_dana, &proof);
        joins(&rosa, &dana, &mut at_dana, &proof);

        let link = invite(&mut at_dana);
        drop(at_dana);
        let mut at_mallory = mallory.start_for_good();
        let joining = prepare(&mut at_mallory, &dana, &link, proof.clone());
        drop(at_mallory);
        let answer = admit(&mut dana.start(), &mallory, joining.clone()).expect("a fresh one");

        let ops = whole_log(&mut dana.start(), &sam);
        let founder = ops.iter().find_map(|op| match body(op)? {
            op_body::Kind::Genesis(genesis) => Some(genesis.admins.first()?.key.clone()),
            _ => None,
        });
        let admin = find_key(DANA + FOR_GOOD, &founder.expect("the log begins with Genesis"));
        let bundle = sams.bundle.expect("a request has one").payload;
        let bundle = wire::PrekeyBundle::decode(bundle.as_slice()).expect("a bundle");
        let cert = sams.relay_cert.expect("a request has one").payload;
        let cert = wire::RelayCert::decode(cert.as_slice()).expect("a certificate");
        let rlk = find_key(SAM + FOR_GOOD, &cert.rlk);
        let secret = link.secret.as_slice().try_into().expect("32 bytes");
        Self {
            org,
            loot: Loot::of(&sam),
            dana,
            sam,
            rosa,
            mallory,
            admin,
            rlk,
            life: Incarnation(cert.incarnation),
            bundle,
            ops,
            invite_key: invite_key(secret),
            link,
            proof,
            request: request_of(&joining),
            answer: *answer,
        }
    }

    pub fn key(&self, hand: Hand) -> &SigningKey {
        match hand {
            Hand::Device => &self.sam.dsk,
            Hand::Person => &self.sam.uik,
            Hand::Admin => &self.admin,
        }
    }

    /// Returns the header that continues a key's chain at the heads of the log and some operations more.
    pub fn next_header(&self, author: &PublicKey, more: &[wire::Op]) -> wire::OpHeader {
        let headers: Vec<(OpHash, wire::OpHeader)> =
            self.ops.iter().chain(more).filter_map(header).collect();
        let parents: Vec<&Vec<u8>> =
            headers.iter().flat_map(|(_, h)| h.prev.iter().chain([&h.self_prev])).collect();
        let last = headers.iter().rfind(|(_, h)| h.author == author.as_bytes());
        let self_prev = last.map(|(hash, _)| hash.to_vec()).unwrap_or_default();
        let mut prev: Vec<Vec<u8>> = headers
            .iter()
            .map(|(hash, _)| hash.to_vec())
            .filter(|hash| !parents.contains(&hash) && *hash != self_prev)
            .collect();
        prev.sort();
        let highest = headers
            .iter()
            .filter(|(hash, _)| prev.contains(&hash.to_vec()) || hash.to_vec() == self_prev)
            .map(|(_, header)| header.lamport)
            .max();
        wire::OpHeader {
            author: author.to_vec(),
            incarnation: last.map_or(0, |(_, header)| header.incarnation),
            seq: last.map_or(0, |(_, header)| header.seq + 1),
            self_prev,
            prev,
            lamport: highest.map_or(0, |highest| highest + 1),
            time: NOW.wall_ms,
            ..Default::default()
        }
    }

    /// Signs a request of Mallory's: hers where the bytes say nothing else.
    pub fn sign_request(&self, over: &[u8]) -> wire::Signed {
        let keys =
            [&self.invite_key, &self.mallory.uik, &self.mallory.dsk, &self.mallory.transport];
        let payload = laid_over(&self.request, over).encode_to_vec();
        sign(SignedType::Join, &self.org, payload, &keys)
    }

    /// Signs a certificate that makes Mallory's device a second one of whose key `uik` is.
    pub fn sign_device(&self, uik: &SigningKey, over: &[u8]) -> wire::Signed {
        let cert = wire::DeviceCert {
            member: oob_crypto::member_id(&self.org, &uik.public()).to_vec(),
            dsk: self.mallory.dsk.public().to_vec(),
            dnk: self.mallory.dnk.to_vec(),
            olm_id: self.request.olm_id.clone(),
            transport_key: self.mallory.transport.public().to_vec(),
            ..Default::default()
        };
        let payload = laid_over(&cert, over).encode_to_vec();
        let keys = [uik, &self.mallory.dsk, &self.mallory.transport];
        sign(SignedType::Device, &self.org, payload, &keys)
    }
}

/// Lays bytes over a message as protobuf merges two; bytes that are no message change nothing.
pub fn laid_over<M: Message + Clone>(message: &M, over: &[u8]) -> M {
    let mut merged = message.clone();
    if merged.merge(over).is_ok() { merged } else { message.clone() }
}

/// Reads an operation's header and its hash.
pub fn header(op: &wire::Op) -> Option<(OpHash, wire::OpHeader)> {
    let payload = &op.header.as_ref()?.payload;
    Some((op_hash(payload), wire::OpHeader::decode(payload.as_slice()).ok()?))
}

fn body(op: &wire::Op) -> Option<op_body::Kind> {
    wire::OpBody::decode(op.body.as_slice()).ok()?.kind
}

fn invite(at: &mut Engine) -> wire::InviteLink {
    let command = Command::Invite { role: Role::Responder, uses: 1, life_ms: 900_000, name: None };
    match ask(at, command) {
        Ok(Answer::Invited { link, .. }) => *link,
        other => panic!("{other:?}"),
    }
}

/// Has somebody admitted for good; returns the request.
fn joins(
    who: &Person,
    dana: &Person,
    at_dana: &mut Engine,
    proof: &wire::JoinProof,
) -> wire::JoinRequest {
    let mut at = who.start_for_good();
    let invite = invite(at_dana);
    let joining = prepare(&mut at, dana, &invite, proof.clone());
    let answer = admit(at_dana, who, joining.clone());
    let finish = Command::FinishJoin { answer: *answer.expect("it is admitted") };
    assert!(matches!(ask(&mut at, finish), Ok(Answer::Org { .. })));
    request_of(&joining)
}

/// Makes a request by a link, after a look at what the admitter shows.
pub fn prepare_with(
    at: &mut Engine,
    admitter: &Person,
    link: &wire::InviteLink,
    proof: wire::JoinProof,
) -> Result<Answer, CommandError> {
    let prepare = Command::PrepareJoin {
        link: Box::new(link.clone()),
        name: None,
        proof,
        handshake_hash: HANDSHAKE,
        dnk: admitter.dnk,
        transport: admitter.transport_key(),
    };
    ask(at, prepare)
}

fn prepare(
    at: &mut Engine,
    admitter: &Person,
    link: &wire::InviteLink,
    proof: wire::JoinProof,
) -> wire::JoinAsk {
    match prepare_with(at, admitter, link, proof) {
        Ok(Answer::Ask(ask)) => *ask,
        other => panic!("{other:?}"),
    }
}

/// Hands a request of a joiner to an admitter.
pub fn admit(
    at: &mut Engine,
    joiner: &Person,
    request: wire::JoinAsk,
) -> Result<Box<wire::JoinAnswer>, CommandError> {
    let command = Command::Admit {
        ask: request,
        handshake_hash: HANDSHAKE,
        dnk: joiner.dnk,
        transport: joiner.transport_key(),
    };
    ask(at, command).map(|answer| match answer {
        Answer::Answer(answer) => answer,
        other => panic!("{other:?}"),
    })
}

fn request_of(ask: &wire::JoinAsk) -> wire::JoinRequest {
    let payload = &ask.request.as_ref().expect("a request").payload;
    wire::JoinRequest::decode(payload.as_slice()).expect("a request")
}

/// Everything Dana tells a neighbour who knows nothing.
fn whole_log(dana: &mut Engine, sam: &Person) -> Vec<wire::Op> {
    give(dana, Input::LinkUp { link: LINK, peer: sam.transport_key() });
    let hello = wire::Hello { version: u32::from(limits::VERSION), ..Default::default() };
    let outcome = arrive(dana, vec![Screened::Other(Kind::Hello(hello))]);
    let frames = outcome.effects.iter().filter_map(|effect| match effect {
        Effect::Send { frame, .. } => Frame::read(frame).ok()?.kind,
        _ => None,
    });
    let ops: Vec<wire::Op> = frames
        .filter_map(|kind| match kind {
            Kind::Log(op) => Some(op),
            _ => None,
        })
        .collect();
    assert!(ops.len() > 5, "only {} operations were told", ops.len());
    ops
}
