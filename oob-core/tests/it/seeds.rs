//! Seeds of the fuzzers' programs (`fuzz/README.md`): each begins where the rules are, so that chance need not find them.

use crate::corpus::fuzz;
use oob_proto::{
    Message,
    wire::{self, op_body},
};

/// One step of a program.
fn step(number: u8, argument: &[u8]) -> Vec<u8> {
    let len = u16::try_from(argument.len()).unwrap().to_be_bytes();
    [&[number], &len[..], argument].concat()
}

fn program(steps: &[(u8, Vec<u8>)]) -> Vec<u8> {
    steps.iter().flat_map(|(number, argument)| step(*number, argument)).collect()
}

fn behind(first: u8, message: &impl Message) -> Vec<u8> {
    [vec![first], message.encode_to_vec()].concat()
}

fn all() -> Vec<wire::Range> {
    vec![wire::Range { first: 0, last: u64::MAX }, wire::Range { first: 3, last: 2 }]
}

/// What a hostile member does to Dana.
pub(crate) fn member() -> Vec<(&'static str, Vec<u8>)> {
    let (dana, sam, life) = fuzz::names();
    let have = wire::Have {
        entries: [dana, sam]
            .map(|device| wire::HaveEntry {
                device: device.to_vec(),
                incarnation: life,
                have: all(),
                gone: all(),
                cut: false,
            })
            .into(),
        ..Default::default()
    };
    let gone = vec![wire::FloorEntry { incarnation: life, ranges: all() }];
    let floor = wire::Floor { gone, ..Default::default() };
    let alert = wire::Alert { answers: vec!["yes".into()], ..Default::default() };
    let alert_ack =
        wire::AlertAck { alert: vec![1; 32], answer: "yes".into(), ..Default::default() };
    let records = [
        (1, vec![0]),
        (1, vec![1]),
        (1, behind(2, &have)),
        (1, behind(3, &floor)),
        (1, behind(4, &alert)),
        (1, behind(5, &alert_ack)),
        (14, vec![2]),
        (12, vec![1]),
    ];
    let ack = wire::Ack { delivered: all(), read: all(), ..Default::default() };
    let body = wire::Body { seq: 7, lamport: 1 << 40, ..Default::default() };
    let talk = [
        (8, vec![0]),
        (4, ack.encode_to_vec()),
        (3, vec![]),
        (3, body.encode_to_vec()),
        (15, vec![1]),
        (3, vec![]),
        (15, vec![0]),
        (3, vec![]),
        (8, vec![4]),
        (11, vec![1]),
    ];
    let op = |kind: op_body::Kind| {
        [vec![0, 0, 0], wire::OpBody { kind: Some(kind) }.encode_to_vec()].concat()
    };
    let redeemed = wire::InviteRedeemed { request: Some(wire::Signed::default()), invite: vec![] };
    let device = wire::Device { certificate: Some(wire::Signed::default()) };
    let mut by_person = op(op_body::Kind::Device(device));
    by_person[0] = 1;
    let log = [
        (2, op(op_body::Kind::InviteRedeemed(redeemed))),
        (2, by_person),
        (7, vec![8]),
        (7, vec![10]),
        (8, vec![0]),
        (8, vec![9]),
    ];
    let time = [
        (8, vec![0]),
        (9, vec![20]),
        (3, vec![]),
        (9, vec![31, 2]),
        (11, vec![0]),
        (10, vec![0]),
        (9, vec![33]),
        (11, vec![2]),
        (10, vec![1]),
        (8, vec![1]),
        (9, vec![10, 1]),
    ];
    let gap = [
        (15, vec![2, 200]),
        (3, vec![]),
        (15, vec![3, 40]),
        (3, vec![]),
        (13, vec![1]),
        (3, vec![]),
    ];
    let revoked = [(3, vec![]), (8, vec![6, 0xed]), (3, vec![]), (10, vec![0]), (9, vec![15])];
    let flood = vec![(0, vec![0xff; 9]); 48];
    let nearby = wire::Nearby {
        heard: [dana, sam]
            .map(|by| wire::Heard { device: sam.to_vec(), by: by.to_vec(), ago_s: u32::MAX })
            .into(),
    };
    let frame = |kind| wire::Frame::new(kind).encode_to_vec();
    // Carried for somebody, opened by somebody, and again.
    let envelope = [&[1, 0, 1, 3][..], &[0; 32]].concat();
    let release = wire::Release {
        device: sam[..8].to_vec(),
        incarnation: life,
        seq: 3,
        preimage: vec![7; 16],
    };
    let release = frame(wire::frame::Kind::Release(release));
    let carried = [
        (6, envelope.clone()),
        (6, envelope.clone()),
        (0, release.clone()),
        (11, vec![1]),
        (10, vec![0]),
        (0, frame(wire::frame::Kind::Hello(wire::Hello { version: 1, ..Default::default() }))),
        (0, release),
        (14, vec![2]),
        (9, vec![31]),
    ];
    let lives = (0..16u8)
        .flat_map(|life| [(15, vec![4, life]), (1, vec![0]), (3, vec![]), (6, envelope.clone())]);
    let lives: Vec<_> = lives.take(47).collect();
    let mut junk = flood[..40].to_vec();
    junk.push((0, frame(wire::frame::Kind::Nearby(nearby))));
    vec![
        ("good-records", program(&records)),
        ("good-talk", program(&talk)),
        ("good-log", program(&log)),
        ("good-time", program(&time)),
        ("good-gap", program(&gap)),
        ("good-junk", program(&junk)),
        ("good-carried", program(&carried)),
        ("good-lives", program(&lives)),
        ("bad-revoked", program(&revoked)),
        ("bad-stranger", program(&[(10, vec![13])])),
        ("bad-greets-twice", program(&[(0, greeting()), (0, greeting())])),
    ]
}

fn greeting() -> Vec<u8> {
    let hello = wire::Hello { version: 1, ..Default::default() };
    wire::Frame::new(wire::frame::Kind::Hello(hello)).encode_to_vec()
}

/// What becomes of the parts of a store.
pub(crate) fn disk() -> Vec<(&'static str, Vec<u8>)> {
    let turns = (0..512u16).flat_map(|at| [at.to_be_bytes().as_slice(), &[1]].concat());
    let slots = [3].into_iter().chain(turns).collect();
    vec![
        ("good-untouched", vec![2]),
        ("good-other-copy-of-the-keyring", vec![2, 0x10, 0x20, 1]),
        ("bad-keyring", vec![0, 1, 2, 3]),
        ("bad-slots", vec![1, 1, 2, 3]),
        ("bad-slots-in-use", slots),
        ("bad-record-gone", vec![4, 0]),
        ("bad-record-of-noise", vec![4, 1, 7, 7, 7]),
        ("bad-record-too-many", [vec![5], vec![7; 60]].concat()),
        ("bad-bit-in-a-record", vec![6, 0, 9, 1]),
    ]
}

/// Sets of operations.
pub(crate) fn order() -> Vec<(&'static str, Vec<u8>)> {
    let (_, sam, life) = fuzz::names();
    let op = |hand: u8, kind: Option<op_body::Kind>| {
        [vec![hand, 0, 0], wire::OpBody { kind }.encode_to_vec()].concat()
    };
    let epoch = |of: u8| {
        let key = wire::EpochKey { epoch_id: vec![of; 16], ..Default::default() };
        op(0, Some(op_body::Kind::EpochKey(key)))
    };
    let revoke = |hand: u8, ops: u64| {
        let cuts = vec![wire::Cut { incarnation: life, ops, records: 2, ranges: Vec::new() }];
        let revoke = wire::DeviceRevoke { device: sam.to_vec(), cuts };
        op(hand, Some(op_body::Kind::DeviceRevoke(revoke)))
    };
    let invite = |of: u8| {
        let invite_key = oob_crypto::invite_key(&[of; 32]).public().to_vec();
        let invite = wire::Invite { invite_key, expires: u64::MAX, uses: 2, ..Default::default() };
        op(2, Some(op_body::Kind::Invite(invite)))
    };
    let policy = |round: u64| {
        let policy = wire::Policy { round, org_name: format!("Harbour {round}") };
        op(2, Some(op_body::Kind::Policy(policy)))
    };
    let redeemed = || {
        let request = Some(wire::Signed::default());
        op(0, Some(op_body::Kind::InviteRedeemed(wire::InviteRedeemed { request, invite: vec![] })))
    };
    let device = || {
        let certificate = Some(wire::Signed::default());
        op(1, Some(op_body::Kind::Device(wire::Device { certificate })))
    };
    let set = |all: Vec<(u8, Vec<u8>)>| program(&all);
    vec![
        ("good-chain", set(vec![(9, epoch(1)), (7, epoch(2)), (5, invite(3)), (3, policy(4))])),
        ("good-forks", set(vec![(8, epoch(1)), (6, epoch(2)), (4, policy(4)), (2, policy(5))])),
        (
            "good-removed",
            set(vec![(8, epoch(1)), (6, revoke(2, 0)), (4, redeemed()), (3, device())]),
        ),
        ("good-both-remove", set(vec![(8, revoke(1, 9)), (6, revoke(2, 0)), (5, epoch(2))])),
        ("good-one-person-twice", set(vec![(8, redeemed()), (6, device()), (5, epoch(2))])),
        ("bad-orphan", set(vec![(8, [&[0, 0, 36, 42, 34][..], &[7; 34]].concat())])),
        ("bad-empty", Vec::new()),
    ]
}

/// What is said of where somebody is.
pub(crate) fn beacon() -> Vec<(&'static str, Vec<u8>)> {
    let near: [u8; 16] = std::net::Ipv6Addr::from([0xfd00, 0, 0, 0, 0, 0, 0, 2]).octets();
    let mapped = std::net::Ipv4Addr::new(10, 0, 0, 9).to_ipv6_mapped().octets();
    let said = |who: u8, all: &[[u8; 16]]| [&[18, 193, 18, 194, who], &*all.concat()].concat();
    let link_local = std::net::Ipv6Addr::from([0xfe80, 0, 0, 0, 0, 0, 0, 2]).octets();
    vec![
        ("good-sams", said(0, &[])),
        ("good-many-addresses", said(0, &[near, mapped, near, link_local, mapped, near])),
        ("bad-link-local-only", said(0, &[link_local])),
        ("bad-own", said(1, &[mapped])),
        ("bad-nobodys", said(2, &[mapped])),
        ("bad-noise", vec![7; 184]),
        ("bad-empty", Vec::new()),
    ]
}

fn lines(messages: &[Vec<u8>]) -> Vec<u8> {
    let len = |message: &Vec<u8>| u16::try_from(message.len()).unwrap().to_be_bytes();
    messages.iter().flat_map(|message| [&len(message), &**message].concat()).collect()
}

/// What a neighbour passes on.
pub(crate) fn gossip() -> Vec<(&'static str, Vec<u8>)> {
    use wire::frame::Kind;
    let frame = |kind| wire::Frame::new(kind).encode_to_vec();
    let head = [&[1, 1, 2, 3][..], &[0; 32]].concat();
    let envelope = wire::Envelope { head: head.clone(), origin: vec![], ct: vec![7; 9] };
    let early = wire::Envelope { head, origin: vec![3; 128], ct: vec![7; 2_048] };
    let release = wire::Release { device: vec![1; 8], preimage: vec![2; 16], ..Default::default() };
    let others = vec![frame(Kind::Envelope(early.clone())), frame(Kind::Release(release))];
    let all = [others.clone(), vec![frame(Kind::Envelope(envelope))]].concat();
    let mut aged = wire::Frame::new(Kind::Envelope(early));
    aged.age = 7;
    let hello = frame(Kind::Hello(wire::Hello::default()));
    vec![
        ("good-members", lines(&all)),
        ("bad-early", lines(&others)),
        ("bad-aged", lines(&[aged.encode_to_vec()])),
        ("bad-hello", lines(&[hello])),
        ("bad-empty", lines(&[vec![]])),
    ]
}

/// What the other end of a join stream sends.
pub(crate) fn line() -> Vec<(&'static str, Vec<u8>)> {
    use wire::join_frame::Kind;
    let frame = |kind| wire::JoinFrame { kind: Some(kind) }.encode_to_vec();
    let refused = frame(Kind::Refused(wire::JoinRefused { code: 1 }));
    let show = frame(Kind::Show(wire::JoinShow { ops: vec![wire::Op::default(); 3] }));
    let script = |who: u8, steps: &[(u8, Vec<u8>)]| [vec![who], program(steps)].concat();
    let said = [(1, refused.clone()), (1, show)];
    // A frame of 64 kB: most of it in the first chunk, the rest in the second.
    let long = [(2, vec![7]), (1, vec![1])];
    vec![
        ("good-dialled", script(1, &said)),
        ("good-dials", script(0, &said)),
        ("bad-long-nonsense", script(1, &long)),
        (
            "bad-too-long",
            script(1, &[(2, vec![0]), (2, vec![0]), (2, vec![0]), (2, vec![0]), (2, vec![0])]),
        ),
        ("bad-short-chunk", script(0, &[(0, vec![0, 1])])),
        ("bad-unsealed", script(0, &[(3, refused)])),
        ("bad-handshake", script(3, &[(0, vec![9; 32]), (0, vec![9; 64])])),
        ("bad-no-handshake", script(2, &[])),
    ]
}

/// What a neighbour sends, in pieces.
pub(crate) fn split() -> Vec<(&'static str, Vec<u8>)> {
    let frame = |len: u32| [&len.to_be_bytes()[..], &vec![7; len as usize]].concat();
    let two = [frame(3), frame(9)].concat();
    vec![
        ("good-whole", [vec![255], two.clone()].concat()),
        ("good-byte-by-byte", [vec![1], two.clone()].concat()),
        ("bad-cut", [&[5], &two[..9]].concat()),
        ("bad-length-0", vec![9, 0, 0, 0, 0]),
        ("bad-length-2-to-the-32", vec![9, 0xff, 0xff, 0xff, 0xff, 1]),
    ]
}

/// What is typed for an address.
pub(crate) fn address() -> Vec<(&'static str, Vec<u8>)> {
    let seeds = [
        ("good-typed", "10.0.0.5:4801"),
        ("good-typed-6", " [fd00::1]:9 "),
        ("good-tcp", "/ip4/10.0.0.5/tcp/4801"),
        ("good-quic", "/ip6/fd00::2/udp/4801/quic-v1"),
        (
            "good-peer",
            "/ip4/10.0.0.5/tcp/4801/p2p/12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp",
        ),
        ("bad-name", "laptop.lan:4801"),
        ("bad-nowhere", "0.0.0.0:4801"),
        ("bad-dns", "/dns4/example.org/tcp/1"),
        ("bad-circuit", "/ip4/10.0.0.5/tcp/4801/p2p-circuit"),
        ("bad-empty", ""),
    ];
    seeds.map(|(name, text)| (name, text.as_bytes().to_vec())).into()
}
