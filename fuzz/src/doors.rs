//! Doors that know nothing of an organisation's rules: parsers, screening, and what only a key opens.

use oob_crypto::{
    Bundle, BundleSecrets, EpochSecret, InChannel, OLM_NORMAL, OLM_PREKEY, OlmAccount, PairSession,
    Prekey, SigningKey, device_id,
    envelope::{Class, Cover, EnvelopeKeys, Head, Life, seal},
    open_first_flight, open_grant, sha256,
};
use oob_engine::{
    envelope::{Verdict, screen},
    snapshot::ScreenKeys,
};
use oob_proto::{
    DeviceId, Incarnation, Message, OrgId, link as links,
    wire::{Envelope, Frame, InviteLink},
};
use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
};

/// Secrets of nobody and what was sealed to them, written by version 1.
const FIXTURE: &str = include_str!("../../oob-core/crypto/tests/fixtures/version-1.txt");

/// One frame.
pub fn frame(bytes: &[u8]) -> bool {
    let Ok(frame) = Frame::read(bytes) else { return false };
    let again = Frame::read(&frame.encode_to_vec()).expect("what was read can be written");
    assert_eq!(again, frame);
    true
}

/// An invitation, as text and as the bytes inside a text whose checksum fits.
pub fn link(bytes: &[u8]) -> bool {
    let text = std::str::from_utf8(bytes).ok();
    let read = text.and_then(|text| links::from_text(text, sha256).ok());
    let inside = InviteLink::decode(bytes)
        .ok()
        .and_then(|link| links::from_text(&links::to_text(&link, sha256), sha256).ok());
    let taken = read.is_some() || inside.is_some();
    for link in [read, inside].into_iter().flatten() {
        let again = links::from_text(&links::to_text(&link, sha256), sha256);
        assert_eq!(again.expect("what was read can be written"), link);
    }
    taken
}

/// An envelope, at a member who knows one author.
pub fn envelope(bytes: &[u8]) -> bool {
    let Ok(envelope) = Envelope::decode(bytes) else { return false };
    let covered = Cover::read(&envelope).is_ok();
    let accepted = matches!(screen(&AUTHOR.keys(), envelope), Verdict::Accept(_));
    assert!(covered || !accepted, "screened without a look at its cover");
    accepted
}

/// The author whom [`envelope`] knows.
struct Author {
    rlk: SigningKey,
    epoch: EpochSecret,
    device: DeviceId,
}

const ORG: [u8; 32] = [9; 32];
const LIFE: Incarnation = Incarnation(3);

static AUTHOR: LazyLock<Author> = LazyLock::new(|| Author {
    rlk: SigningKey::from_secret(&[1; 32]),
    epoch: EpochSecret::from_secret(&[2; 32]),
    device: device_id(&SigningKey::from_secret(&[3; 32]).public()),
});

impl Author {
    fn keys(&self) -> ScreenKeys {
        let relay = ((self.device.short(), LIFE, 0), (self.device, self.rlk.public()));
        ScreenKeys {
            org: Some(OrgId::from(ORG)),
            headers: vec![(self.epoch.id(), self.epoch.header_key())],
            relays: [relay].into(),
            ..ScreenKeys::default()
        }
    }
}

/// Returns an envelope that [`envelope`] takes, with a signature or with that of somebody else.
pub fn sealed_by_a_member(genuine: bool) -> Vec<u8> {
    let header_key = AUTHOR.epoch.header_key();
    let somebody = SigningKey::from_secret(&[4; 32]);
    let keys = EnvelopeKeys {
        org: &OrgId::from(ORG),
        epoch: AUTHOR.epoch.id(),
        header_key: &header_key,
        device: &AUTHOR.device,
        incarnation: LIFE,
        rlk_gen: 0,
        rlk: if genuine { &AUTHOR.rlk } else { &somebody },
    };
    let class = Class::for_len(1).expect("there is a smallest class");
    let head =
        Head { first_flight: false, class, life: Life::ALL[0], tag: [1; 16], release: [2; 16] };
    let (envelope, _) = seal(&mut rand::rng(), &keys, 7, &head, vec![0; class.len()])
        .expect("the length is that of the class");
    envelope.encode_to_vec()
}

/// The keys that [`envelope`] screens with.
pub(crate) fn screen_keys() -> Arc<ScreenKeys> {
    static KEYS: LazyLock<Arc<ScreenKeys>> = LazyLock::new(|| Arc::new(AUTHOR.keys()));
    Arc::clone(&KEYS)
}

/// Seals an envelope that has no origin as the member's whom [`envelope`] knows.
pub(crate) fn seal_as_a_member(envelope: Envelope, seq: u64) -> Option<Envelope> {
    let head = Head::parse(&envelope.head).ok()?;
    let mut ct = envelope.ct;
    ct.resize(head.class.len(), 0);
    let header_key = AUTHOR.epoch.header_key();
    let keys = EnvelopeKeys {
        org: &OrgId::from(ORG),
        epoch: AUTHOR.epoch.id(),
        header_key: &header_key,
        device: &AUTHOR.device,
        incarnation: LIFE,
        rlk_gen: 0,
        rlk: &AUTHOR.rlk,
    };
    let mut rng = <rand::rngs::StdRng as rand::SeedableRng>::seed_from_u64(seq);
    Some(seal(&mut rng, &keys, seq, &head, ct).ok()?.0)
}

/// What reaches somebody who was away, and what follows: everything that only his keys open.
pub fn contact(bytes: &[u8]) -> bool {
    let Noor { device, secrets, session, channel, olm } = &*NOOR;
    let org = OrgId::from([3; 32]);
    let mut session = PairSession::from_secret(session).expect("a session of version 1");
    let _ = Prekey::read(bytes);
    let taken = [
        Bundle::parse(bytes).is_ok(),
        open_first_flight(secrets, &org, device, bytes).is_ok(),
        open_grant(secrets, &org, device, bytes).is_ok(),
        PairSession::inbound(secrets, olm, bytes).is_ok(),
        session.decrypt(OLM_PREKEY, bytes).is_ok(),
        session.decrypt(OLM_NORMAL, bytes).is_ok(),
        (0..2).any(|n| channel.open(n, bytes).is_ok()),
    ];
    taken.contains(&true)
}

struct Noor {
    device: DeviceId,
    secrets: BundleSecrets,
    session: Vec<u8>,
    channel: InChannel,
    olm: [u8; 32],
}

static NOOR: LazyLock<Noor> = LazyLock::new(|| {
    let at = fixture();
    Noor {
        device: DeviceId::try_from(at["noor"].as_slice()).expect("an id"),
        secrets: BundleSecrets::from_secret(&at["bundle-secrets"]).expect("secrets of version 1"),
        session: at["olm-session"].clone(),
        channel: InChannel::from_secret(&at["in-channel"]).expect("a channel of version 1"),
        olm: OlmAccount::from_secret(&at["olm-account"]).expect("an account").identity(),
    }
});

/// Returns what the fixture holds, by name.
pub fn fixture() -> BTreeMap<&'static str, Vec<u8>> {
    let hex = |text: &str| -> Vec<u8> {
        let digit = |byte: u8| char::from(byte).to_digit(16).expect("a hex digit") as u8;
        text.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
    };
    FIXTURE
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(' '))
        .map(|(name, text)| (name, hex(text)))
        .collect()
}
