//! Every file of the fuzzers' corpora, through the functions the fuzzers call: what must be taken is taken, what must be
//! refused is refused, and nothing panics. `OOB_REGENERATE=1` writes the seeds anew; see `fuzz/README.md`.

use oob_proto::{
    Message, limits,
    link::to_text,
    wire::{self, Frame, JoinFrame, frame::Kind, join_frame, op_body},
};
use std::{
    fs,
    path::{Path, PathBuf},
    sync::Once,
};

#[path = "../../../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "it is the library of the fuzzers' own workspace")]
pub(crate) mod fuzz;

type Door = fn(&[u8]) -> bool;

const DOORS: [(&str, Door); 15] = [
    ("frame", fuzz::frame),
    ("link", fuzz::link),
    ("envelope", fuzz::envelope),
    ("contact", fuzz::contact),
    ("stream", fuzz::stream),
    ("op", fuzz::op),
    ("join", fuzz::join),
    ("member", fuzz::member),
    ("disk", fuzz::disk),
    ("order", fuzz::order),
    ("beacon", fuzz::beacon),
    ("gossip", fuzz::gossip),
    ("line", fuzz::line),
    ("split", fuzz::split),
    ("address", fuzz::address),
];

/// Returns the files of one target, with seeds written anew if that is asked for.
fn files(target: &str) -> Vec<PathBuf> {
    static WRITTEN: Once = Once::new();
    WRITTEN.call_once(|| {
        if std::env::var_os("OOB_REGENERATE").is_some() {
            write_seeds();
        }
    });
    fs::read_dir(corpus(target)).unwrap().map(|entry| entry.unwrap().path()).collect()
}

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target)
}

#[test]
fn every_file_of_the_corpora_is_taken_or_refused_as_its_name_says() {
    for (target, door) in DOORS {
        let (mut good, mut bad) = (0, 0);
        for path in files(target) {
            let taken = door(&fs::read(&path).unwrap());
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.starts_with("seed-good-") {
                good += 1;
                assert!(taken, "{target}: {name} was refused");
            } else if name.starts_with("seed-bad-") {
                bad += 1;
                assert!(!taken, "{target}: {name} was taken");
            }
        }
        assert!(good > 0 && bad > 0, "{target}: {good} seeds to take, {bad} to refuse");
    }
}

/// Were the hostile member's records refused for their form, its programs would try nothing.
#[test]
fn what_the_hostile_member_forges_is_believed() {
    let heard = |wanted: &str| {
        let seeds = crate::seeds::member();
        fuzz::heard(&seeds.into_iter().find(|(name, _)| *name == wanted).unwrap().1)
    };
    let talk = heard("good-talk");
    assert!(talk.texts >= 4 && talk.delivered == 1, "{talk:?}");
    let records = heard("good-records");
    assert!(records.alerts == 1 && records.ops == 0, "{records:?}");
    let log = heard("good-log");
    assert!(log.ops >= 4 && log.epochs >= 3, "{log:?}");
}

/// A run of the fuzzer leaves thousands of other files beside the seeds.
fn is_seed(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("seed-"))
}

/// Seeds bent a little: each cut short and with one byte changed, at a few places.
#[test]
fn bent_seeds_never_panic() {
    for (target, door) in DOORS {
        // A program runs for a while.
        let places = if ["member", "order"].contains(&target) { 3 } else { 12 };
        for path in files(target).iter().filter(|path| is_seed(path)) {
            let bytes = fs::read(path).unwrap();
            for place in 0..places.min(bytes.len()) {
                let at = place * bytes.len() / places.min(bytes.len());
                let mut bent = bytes.clone();
                bent[at] ^= 1 << (place % 8);
                door(&bent);
                door(&bytes[..at]);
            }
        }
    }
}

fn write_seeds() {
    for (target, _) in DOORS {
        fs::create_dir_all(corpus(target)).unwrap();
        for entry in fs::read_dir(corpus(target)).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if name.starts_with("seed-good-") || name.starts_with("seed-bad-") {
                fs::remove_file(path).unwrap();
            }
        }
    }
    let write = |target: &str, name: &str, bytes: &[u8]| {
        fs::write(corpus(target).join(format!("seed-{name}")), bytes).unwrap();
    };
    for (name, kind) in frames() {
        write("frame", &format!("good-{name}"), &Frame::new(kind).encode_to_vec());
    }
    write("frame", "bad-empty", b"");
    write("frame", "bad-unknown-kind", &[0xa2, 0x06, 0x00]);
    write("frame", "bad-length-2-to-the-32", &[0x82, 0x01, 0xff, 0xff, 0xff, 0xff, 0x0f]);

    let link = wire::InviteLink {
        org_id: vec![1; 32],
        secret: vec![2; 32],
        ops: vec![wire::Op::default()],
        addresses: vec!["/ip4/10.0.0.1/tcp/4801".into()],
    };
    let text = to_text(&link, oob_crypto::sha256);
    write("link", "good-text", text.as_bytes());
    write("link", "good-bytes", &link.encode_to_vec());
    write("link", "bad-cut", &text.as_bytes()[..text.len() - 3]);
    write("link", "bad-no-secret", &wire::InviteLink { secret: vec![], ..link }.encode_to_vec());

    write("envelope", "good-member", &fuzz::sealed_by_a_member(true));
    write("envelope", "bad-impostor", &fuzz::sealed_by_a_member(false));
    write("envelope", "bad-empty", b"");

    let fixture = fuzz::fixture();
    for name in ["bundle", "first-flight", "grant", "olm-first", "olm-second"] {
        write("contact", &format!("good-{name}"), &fixture[name]);
    }
    let mut out = oob_crypto::OutChannel::from_secret(&fixture["out-channel"]).unwrap();
    write("contact", "good-message", &out.seal(&mut rand::rng(), b"third").unwrap().ct);
    write("contact", "bad-message-used", &fixture["message-0"]);
    write(
        "contact",
        "bad-halves",
        &[&fixture["first-flight"][..900], &fixture["grant"][900..]].concat(),
    );
    write("contact", "bad-empty", b"");

    write_engine_seeds(&write);
    let seeds = [
        ("member", crate::seeds::member()),
        ("disk", crate::seeds::disk()),
        ("order", crate::seeds::order()),
        ("beacon", crate::seeds::beacon()),
        ("gossip", crate::seeds::gossip()),
        ("line", crate::seeds::line()),
        ("split", crate::seeds::split()),
        ("address", crate::seeds::address()),
    ];
    for (target, seeds) in seeds {
        for (name, bytes) in seeds {
            write(target, name, &bytes);
        }
    }
}

fn write_engine_seeds(write: &dyn Fn(&str, &str, &[u8])) {
    let lines = |kinds: Vec<Kind>| -> Vec<u8> {
        let frames = kinds.into_iter().map(|kind| Frame::new(kind).encode_to_vec());
        frames
            .flat_map(|f| [&u16::try_from(f.len()).unwrap().to_be_bytes()[..], &f].concat())
            .collect()
    };
    let all: Vec<Kind> = frames().into_iter().map(|(_, kind)| kind).collect();
    let mut greeted_first = all.clone();
    greeted_first.sort_by_key(|kind| !matches!(kind, Kind::Hello(_)));
    write("stream", "good-one-of-each", &lines(greeted_first));
    let other = wire::Hello { version: 9, ..hello() };
    write("stream", "bad-other-version", &lines(vec![Kind::Hello(other)]));
    write("stream", "bad-greets-twice", &lines(vec![Kind::Hello(hello()), Kind::Hello(hello())]));

    let op = |hand: u8, over: &wire::OpHeader, kind: Option<op_body::Kind>| -> Vec<u8> {
        let over = over.encode_to_vec();
        let len = u16::try_from(over.len()).unwrap().to_be_bytes();
        [&[hand], &len[..], &over, &wire::OpBody { kind }.encode_to_vec()].concat()
    };
    let plain = wire::OpHeader::default();
    let unsigned = || Some(wire::Signed::default());
    let epoch =
        wire::EpochKey { epoch_id: vec![5; 16], roster_hash: vec![6; 32], ..Default::default() };
    let device = wire::Device { certificate: unsigned() };
    let redeemed = wire::InviteRedeemed { request: unsigned(), invite: vec![] };
    let invite = wire::Invite {
        invite_key: oob_crypto::invite_key(&[8; 32]).public().to_vec(),
        expires: u64::MAX,
        uses: u32::MAX,
        ..Default::default()
    };
    let member = wire::Member { uik: invite.invite_key.clone(), name: "Noor".into() };
    let policy = wire::Policy { round: u64::MAX, org_name: "Harbour Clinic North".into() };
    write("op", "good-epoch", &op(0, &plain, Some(op_body::Kind::EpochKey(epoch))));
    write("op", "good-redeemed", &op(0, &plain, Some(op_body::Kind::InviteRedeemed(redeemed))));
    write("op", "good-device", &op(1, &plain, Some(op_body::Kind::Device(device))));
    write("op", "good-invite", &op(2, &plain, Some(op_body::Kind::Invite(invite))));
    write("op", "good-member", &op(2, &plain, Some(op_body::Kind::Member(member.clone()))));
    write("op", "good-policy", &op(2, &plain, Some(op_body::Kind::Policy(policy))));
    write("op", "good-unknown", &op(0, &plain, None));
    let late = wire::OpHeader { lamport: u64::MAX, ..Default::default() };
    let orphan = wire::OpHeader { prev: vec![vec![0xff; 32]], ..Default::default() };
    write("op", "bad-lamport", &op(0, &late, None));
    write("op", "bad-orphan", &op(0, &orphan, Some(op_body::Kind::Member(member))));
    let genesis = op_body::Kind::Genesis(wire::Genesis::default());
    write("op", "bad-second-genesis", &op(2, &plain, Some(genesis)));

    let frame = |kind: join_frame::Kind| JoinFrame { kind: Some(kind) }.encode_to_vec();
    let ask = |over: wire::JoinRequest| {
        let request = Some(wire::Signed { payload: over.encode_to_vec(), sigs: vec![] });
        frame(join_frame::Kind::Request(wire::JoinAsk { request, ops: vec![] }))
    };
    write("join", "good-request", &ask(wire::JoinRequest::default()));
    write("join", "good-proof", &frame(join_frame::Kind::Proof(wire::JoinProof::default())));
    write("join", "good-answer", &frame(join_frame::Kind::Answer(wire::JoinAnswer::default())));
    let handshake_hash = vec![8; 32];
    write(
        "join",
        "bad-other-handshake",
        &ask(wire::JoinRequest { handshake_hash, ..Default::default() }),
    );
    let name = "Dana".into();
    write("join", "bad-name-taken", &ask(wire::JoinRequest { name, ..Default::default() }));
    let ops = vec![wire::Op::default()];
    write(
        "join",
        "bad-proof",
        &frame(join_frame::Kind::Proof(wire::JoinProof { ops: ops.clone() })),
    );
    let redeemed = wire::JoinAnswer { redeemed: vec![0; 32], ..Default::default() };
    write("join", "bad-answer", &frame(join_frame::Kind::Answer(redeemed)));
    write("join", "bad-show", &frame(join_frame::Kind::Show(wire::JoinShow { ops })));
    write("join", "bad-refused", &frame(join_frame::Kind::Refused(wire::JoinRefused { code: 1 })));
}

fn hello() -> wire::Hello {
    wire::Hello {
        version: u32::from(limits::VERSION),
        addresses: vec!["/ip4/10.0.0.1/tcp/4801".into()],
        ..Default::default()
    }
}

/// One of each kind, most of them without a signature that would hold.
fn frames() -> Vec<(&'static str, Kind)> {
    let signed = || wire::Signed {
        payload: vec![1; 40],
        sigs: vec![wire::Sig { key: vec![2; 32], sig: vec![3; 64] }],
    };
    // Version 1, a first flight, the fourth class, the last life; the engine's door seals it as a member's.
    let head = [&[1, 1, 2, 3][..], &[0; 32]].concat();
    let envelope = wire::Envelope { head, origin: vec![], ct: vec![7; 100] };
    let grant = wire::EpochGrant { ring: 0, epoch_id: vec![4; 16], first_flight: vec![5; 600] };
    let op = wire::Op { header: Some(signed()), body: vec![6; 20] };
    vec![
        ("hello", Kind::Hello(hello())),
        ("log", Kind::Log(op)),
        ("epoch", Kind::Epoch(grant)),
        ("relay-cert", Kind::RelayCert(signed())),
        ("bundle", Kind::Bundle(signed())),
        ("envelope", Kind::Envelope(envelope)),
        ("have", Kind::Have(signed())),
        ("heartbeat", Kind::Heartbeat(wire::Heartbeat { time: u64::MAX })),
        ("credit", Kind::Credit(wire::Credit { records: u64::MAX, bytes: u64::MAX })),
    ]
}
