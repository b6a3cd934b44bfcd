//! Bytes written by version 1 of every format, kept in `tests/fixtures/version-1.txt`: they must go on being read. The
//! first flight and the grant in it were also opened by another implementation, written from docs/protocol.md alone.

use crate::people::{Device, org, rng};
use data_encoding::HEXLOWER as HEX;
use oob_crypto::{
    Bundle, BundleSecrets, DhSecret, EpochSecret, InChannel, OLM_NORMAL, OlmAccount, OutChannel,
    PairSession, Ring, open_first_flight, open_grant, seal_grant,
};
use oob_proto::DeviceId;
use std::collections::BTreeMap;

const FIXTURE: &str = include_str!("../fixtures/version-1.txt");

fn fixture() -> BTreeMap<&'static str, Vec<u8>> {
    FIXTURE
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(' '))
        .map(|(name, hex)| (name, HEX.decode(hex.as_bytes()).unwrap()))
        .collect()
}

#[test]
fn what_version_1_wrote_is_still_read() {
    let at = fixture();
    let id = |name: &str| DeviceId::try_from(at[name].as_slice()).unwrap();
    let (dana, noor) = (id("dana"), id("noor"));
    let bundle = Bundle::parse(&at["bundle"]).unwrap();
    let secrets = BundleSecrets::from_secret(&at["bundle-secrets"]).unwrap();
    assert_eq!((bundle.id(), bundle.device()), (secrets.id(), &noor));

    let opened = open_first_flight(&secrets, &org(), &noor, &at["first-flight"]).unwrap();
    let dnk = DhSecret::from_secret(at["dana-dnk"].as_slice().try_into().unwrap());
    assert_eq!((opened.from, opened.dnk), (dana, dnk.public()));
    assert_eq!((opened.replaced_count, opened.plain.inner.as_slice()), (41, b"first".as_slice()));
    assert_eq!(opened.channel.id().as_slice(), at["channel-id"]);
    assert_eq!(opened.channel.open(0, &at["message-0"]).unwrap().inner, b"second");
    assert_eq!(opened.channel.tag(0).as_slice(), at["tag-0"]);

    let mut out = OutChannel::from_secret(&at["out-channel"]).unwrap();
    let channel = InChannel::from_secret(&at["in-channel"]).unwrap();
    assert_eq!((out.count(), out.id()), (1, channel.id()));
    assert_eq!(channel.wanted().next(), Some(1));
    let sealed = out.seal(&mut rng(1), b"third").unwrap();
    assert_eq!(channel.open(1, &sealed.ct).unwrap().inner, b"third");

    let grant = open_grant(&secrets, &org(), &noor, &at["grant"]).unwrap();
    assert_eq!((grant.from, grant.dnk, grant.ring), (dana, dnk.public(), Ring::Audience));
    assert_eq!(grant.secret.export_secret().as_slice(), at["epoch-secret"]);

    let account = OlmAccount::from_secret(&at["olm-account"]).unwrap();
    assert_eq!(account.identity().as_slice(), at["olm-identity"]);
    let (session, text) =
        PairSession::inbound(&secrets, &account.identity(), &at["olm-first"]).unwrap();
    assert_eq!(text.as_slice(), b"hello");
    let mut stored = PairSession::from_secret(&at["olm-session"]).unwrap();
    assert_eq!(stored.id(), session.id());
    assert_eq!(stored.decrypt(OLM_NORMAL, &at["olm-second"]).unwrap().as_slice(), b"again");
}

/// Prints a new fixture, for a new version: `cargo test -p oob-crypto --test it -- --ignored --nocapture prints`.
#[test]
#[ignore = "prints a new fixture, checks nothing"]
fn prints_a_fixture() {
    let (dana, noor) = (Device::new(1), Device::new(2));
    let bundle = noor.bundle();
    let contact = dana.contact(&noor, &bundle);
    let (mut out, first) = OutChannel::open(&mut rng(3), &contact, 41, b"first").unwrap();
    let mut channel = noor.open(&first.ct).unwrap().channel;
    let second = out.seal(&mut rng(4), b"second").unwrap();
    channel.mark(0);
    let epoch = EpochSecret::generate(&mut rng(5));
    let grant = seal_grant(&mut rng(6), &contact, Ring::Audience, &epoch).unwrap();

    let mut a = PairSession::outbound(&dana.olm, &bundle).unwrap();
    let (_, hello) = a.encrypt(b"hello").unwrap();
    let (mut b, _) = PairSession::inbound(&noor.secrets, &dana.olm.identity(), &hello).unwrap();
    let (kind, back) = b.encrypt(b"back").unwrap();
    a.decrypt(kind, &back).unwrap();
    let (_, again) = a.encrypt(b"again").unwrap();

    println!("# Written by version 1. Secrets of nobody.");
    for (name, bytes) in [
        ("dana", dana.id.to_vec()),
        ("noor", noor.id.to_vec()),
        ("dana-dnk", dana.dnk.export_secret().to_vec()),
        ("bundle", noor.payload.clone()),
        ("bundle-secrets", noor.secrets.export_secret().to_vec()),
        ("first-flight", first.ct),
        ("channel-id", channel.id().to_vec()),
        ("message-0", second.ct),
        ("tag-0", second.tag.to_vec()),
        ("out-channel", out.export_secret().to_vec()),
        ("in-channel", channel.export_secret().to_vec()),
        ("epoch-secret", epoch.export_secret().to_vec()),
        ("grant", grant),
        ("olm-account", dana.olm.export_secret().to_vec()),
        ("olm-identity", dana.olm.identity().to_vec()),
        ("olm-first", hello),
        ("olm-session", b.export_secret().to_vec()),
        ("olm-second", again),
    ] {
        println!("{name} {}", HEX.encode(&bytes));
    }
}
