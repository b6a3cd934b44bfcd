//! Golden bytes of everything that is sent, signed or stored: `tests/fixtures/version-1.txt` has each message of the `.proto`
//! files with every field set, each kind of a choice in a line of its own. They are written from the descriptors, by
//! hand as it were, and must go on being read, field by field: what is read and written again must be the same bytes.
//!
//! A message, or a field, that has no line fails. `OOB_REGENERATE=1 cargo test -p oob-proto --test it golden` appends what is
//! missing; it never changes a line that is there, since what was written once is on disks and under signatures.

use oob_proto::{Message, signing::SignedType, wire};
use protox::prost_reflect::{
    Cardinality, DescriptorPool, FieldDescriptor, Kind, MessageDescriptor,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    path::{Path, PathBuf},
};

/// The messages by name, each with how it is read and written again by the types everybody uses.
macro_rules! types {
    ($($name:ident)*) => {
        fn again(name: &str, bytes: &[u8]) -> Option<Vec<u8>> {
            match name {
                $(stringify!($name) => wire::$name::decode(bytes).ok().map(|it| it.encode_to_vec()),)*
                _ => None,
            }
        }
        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}
types! {
    Ack Addresses Admin AdminCut AdminOffer AdminSet Alert AlertAck Body Credit Cut Device DeviceCert DeviceRevoke Endorse Envelope EpochGrant EpochKey FirstFlight
    Floor FloorEntry Frame Genesis Have HaveEntry HaveMark Heard Heartbeat Hello Inner Invite InviteLink InviteRedeemed JoinAnswer
    JoinAsk JoinFrame JoinProof JoinRefused JoinRequest JoinShow Member Nearby OfferedKey Op OpBody OpHeader PeerAddresses Policy
    PrekeyBundle Range RelayCert Release SealedAlert Sig Signed StoredAlert StoredAlertAck StoredAlertAckedEvent
    StoredAlertClock StoredAlertEvent StoredAlertPlace StoredAwaited StoredBundle StoredCarried StoredConversation
    StoredEpoch StoredEvent StoredEvents StoredFormerKey StoredHeldOlm StoredHolder StoredHolders StoredIdentity StoredInChannel
    StoredJoinedEvent StoredLife StoredMembership StoredMessage StoredMessageEvent StoredNeighbour StoredOlm
    StoredOutChannel StoredOutbox StoredOutboxItem StoredPeer StoredRanges StoredReceiptEvent StoredReceipts
    StoredRelayCert StoredRelease StoredReleases StoredRun StoredRuns StoredWaiting Text
}

#[test]
fn golden_bytes_of_every_message_and_field() {
    let messages = messages();
    let declared: BTreeSet<&str> = messages.iter().map(MessageDescriptor::name).collect();
    let listed: BTreeSet<&str> = NAMES.iter().copied().collect();
    assert_eq!(
        declared, listed,
        "name it under types! above, then run OOB_REGENERATE=1 cargo test -p oob-proto golden"
    );
    let path = fixture_path();
    let mut text = fs::read_to_string(&path).unwrap();
    if env::var_os("OOB_REGENERATE").is_some() {
        for line in missing(&messages, &lines(&text)) {
            text += &format!("{line}\n");
        }
        fs::write(&path, &text).unwrap();
    }
    let golden = lines(&text);
    assert!(golden.len() > messages.len(), "only {} lines", golden.len());
    assert_eq!(faults(&messages, &golden), [""; 0]);
}

/// What is signed, by what the `.proto` files say of it, by what the code signs, and by what has a golden signature
/// (`golden_signature_of_every_type` in oob-crypto goes through the same list).
#[test]
fn every_signed_type_is_in_the_list_that_golden_signatures_are_made_of() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: PathBuf| fs::read_to_string(path).unwrap();
    let named = |text: &str, before: &str, after: &str| -> BTreeSet<String> {
        let rest = text.split(before).skip(1);
        rest.map(|rest| rest.split(after).next().unwrap().to_owned()).collect()
    };
    let mut said = BTreeSet::new();
    for entry in fs::read_dir(root.join("proto/oob/v1")).unwrap() {
        said.extend(named(&read(entry.unwrap().path()), "Type: \"", "\""));
    }
    let code = read(root.join("src/signing.rs"));
    let signed = named(&code, "=> b\"oob/1 ", "\\0");
    let listed: BTreeSet<String> = SignedType::ALL
        .iter()
        .map(|kind| kind.context().strip_prefix(b"oob/1 ").unwrap().strip_suffix(b"\0").unwrap())
        .map(|name| String::from_utf8(name.to_vec()).unwrap())
        .collect();
    assert_eq!(signed, listed, "SignedType::ALL has all of them");
    assert_eq!(said, listed, "each is told by a comment of the .proto files, and nothing else is");
}

/// The control: a line that is gone, a field that is gone, bytes that no longer mean the same.
#[test]
fn a_message_or_field_without_golden_bytes_is_found() {
    let messages = messages();
    let text = fs::read_to_string(fixture_path()).unwrap();
    let without = |name: &str| {
        let mut golden = lines(&text);
        golden.remove(name).unwrap();
        faults(&messages, &golden)
    };
    assert_eq!(
        without("RelayCert"),
        ["RelayCert has no golden bytes of its field device, and 4 more"]
    );
    assert_eq!(without("Frame.floor"), ["Frame has no golden bytes of its field floor"]);

    let with = |name: &str, bytes: Vec<u8>| {
        let mut golden = lines(&text);
        *golden.get_mut(name).unwrap() = bytes;
        faults(&messages, &golden)
    };
    // As it would be had field 5 got the number 6.
    let mut moved = lines(&text)["RelayCert"].clone();
    let at = moved.len() - 3;
    assert_eq!(moved[at], 5 << 3);
    moved[at] = 6 << 3;
    assert_eq!(
        with("RelayCert", moved),
        [
            "RelayCert has no golden bytes of its field record_seq",
            "RelayCert is not read as it was written"
        ]
    );
    assert_eq!(
        with("Credit", vec![0x0a]),
        [
            "Credit has no golden bytes of its field records, and 1 more",
            "Credit is not read as it was written"
        ]
    );
}

fn fixture_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/version-1.txt")
}

/// The fixture: a name, a blank, the bytes. What follows a point in the name tells several lines of a message apart.
fn lines(text: &str) -> BTreeMap<String, Vec<u8>> {
    let mut golden = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, hex) = line.split_once(' ').unwrap();
        let bytes = data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap();
        assert!(golden.insert(name.to_owned(), bytes).is_none(), "{name} stands twice");
    }
    golden
}

fn messages() -> Vec<MessageDescriptor> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let files = fs::read_dir(folder.join("oob/v1")).unwrap().map(|entry| entry.unwrap().path());
    let mut compiler = protox::Compiler::new([&folder]).unwrap();
    compiler.open_files(files.collect::<Vec<_>>()).unwrap();
    let pool: DescriptorPool = compiler.descriptor_pool();
    let all: Vec<_> = pool.all_messages().filter(|it| it.package_name() == "oob.v1").collect();
    assert!(all.iter().all(|it| it.parent_message().is_none()), "nested ones are not looked at");
    all
}

fn of<'a>(
    message: &'a MessageDescriptor,
    golden: &'a BTreeMap<String, Vec<u8>>,
) -> impl Iterator<Item = (&'a String, &'a Vec<u8>)> {
    golden.iter().filter(|(name, _)| name.split('.').next() == Some(message.name()))
}

fn faults(messages: &[MessageDescriptor], golden: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    let mut faults = Vec::new();
    for message in messages {
        let open = uncovered(message, golden);
        if let Some((first, more)) = open.split_first() {
            let more = match more.len() {
                0 => String::new(),
                more => format!(", and {more} more"),
            };
            faults.push(format!(
                "{} has no golden bytes of its field {}{more}",
                message.name(),
                first.name()
            ));
        }
        for (name, bytes) in of(message, golden) {
            if again(message.name(), bytes).as_ref() != Some(bytes) {
                faults.push(format!("{name} is not read as it was written"));
            }
        }
    }
    let known: BTreeSet<&str> = messages.iter().map(MessageDescriptor::name).collect();
    let strangers = golden.keys().filter(|name| !known.contains(name.split('.').next().unwrap()));
    faults.extend(strangers.map(|name| format!("{name} is no message any more")));
    faults
}

/// Fields of a message that no line sets.
fn uncovered(
    message: &MessageDescriptor,
    golden: &BTreeMap<String, Vec<u8>>,
) -> Vec<FieldDescriptor> {
    let set: BTreeSet<u32> = of(message, golden).flat_map(|(_, bytes)| numbers(bytes)).collect();
    let mut fields: Vec<_> =
        message.fields().filter(|field| !set.contains(&field.number())).collect();
    fields.sort_by_key(FieldDescriptor::number);
    fields
}

/// The numbers of the fields at the top of an encoded message, as far as it can be read.
fn numbers(mut bytes: &[u8]) -> Vec<u32> {
    let mut found = Vec::new();
    while let Some((key, rest)) = number(bytes) {
        bytes = match (key & 7, number(rest)) {
            (0, Some((_, rest))) => rest,
            (2, Some((len, rest))) if len as usize <= rest.len() => &rest[len as usize..],
            _ => break,
        };
        found.push((key >> 3) as u32);
    }
    found
}

fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (i, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[i + 1..]));
        }
    }
    None
}

/// Lines for what has none: one with every plain field and the first kind of the choice, one for each further kind.
fn missing(messages: &[MessageDescriptor], golden: &BTreeMap<String, Vec<u8>>) -> Vec<String> {
    let mut lines = Vec::new();
    for message in messages {
        let open: Vec<u32> =
            uncovered(message, golden).iter().map(FieldDescriptor::number).collect();
        if open.is_empty() {
            continue;
        }
        let kinds: Vec<_> =
            choices(message).filter(|field| open.contains(&field.number())).collect();
        let mut line = |name: String, kind: Option<u32>| {
            lines
                .push(format!("{name} {}", data_encoding::HEXLOWER.encode(&filled(message, kind))));
        };
        for kind in &kinds {
            line(format!("{}.{}", message.name(), kind.name()), Some(kind.number()));
        }
        if kinds.is_empty() {
            let name = match of(message, golden).count() {
                0 => message.name().to_owned(),
                earlier => format!("{}.{}", message.name(), earlier + 1),
            };
            line(name, None);
        }
    }
    lines
}

/// The kinds of a message that is one of several things.
fn choices(message: &MessageDescriptor) -> impl Iterator<Item = FieldDescriptor> {
    message
        .fields()
        .filter(|field| field.containing_oneof().is_some_and(|choice| !choice.is_synthetic()))
}

/// The bytes of a message with every field set, of a choice this kind or the lowest. In the order prost writes: a choice
/// stands where its lowest number does.
fn filled(message: &MessageDescriptor, kind: Option<u32>) -> Vec<u8> {
    let of_choice: BTreeSet<u32> = choices(message).map(|field| field.number()).collect();
    let lowest = of_choice.first().copied();
    let taken = kind.or(lowest);
    let mut fields: Vec<_> = message
        .fields()
        .filter(|it| !of_choice.contains(&it.number()) || Some(it.number()) == taken)
        .collect();
    fields.sort_by_key(|field| match of_choice.contains(&field.number()) {
        true => lowest.unwrap(),
        false => field.number(),
    });
    let mut out = Vec::new();
    for field in fields {
        let times = if field.cardinality() == Cardinality::Repeated { 2 } else { 1 };
        for turn in 0..times {
            put_field(&mut out, &field, turn);
        }
    }
    out
}

fn put_field(out: &mut Vec<u8>, field: &FieldDescriptor, turn: u32) {
    let n = field.number();
    let fill = u8::try_from(n + 64 * turn).unwrap();
    let body = match field.kind() {
        Kind::Uint32 => return put_number(out, n, u64::from(n + 300)),
        Kind::Uint64 => return put_number(out, n, u64::from(n) * 1_000 + 7),
        Kind::Bool => return put_number(out, n, 1),
        Kind::Bytes => vec![fill; 3],
        Kind::String => format!("text {n} {turn}").into_bytes(),
        Kind::Message(inner) => filled(&inner, None),
        other => panic!("{} is of a kind this test cannot write: {other:?}", field.full_name()),
    };
    put(out, u64::from(n) << 3 | 2);
    put(out, body.len() as u64);
    out.extend(body);
}

fn put_number(out: &mut Vec<u8>, field: u32, value: u64) {
    put(out, u64::from(field) << 3);
    put(out, value);
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value > 0x7f {
        out.push(value as u8 & 0x7f | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
