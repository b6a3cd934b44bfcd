//! Olm: the traps that shape how the engine keeps sessions.

use crate::people::{Device, fields, rng};
use oob_crypto::{
    Bundle, BundleSecrets, OLM_NORMAL, OLM_PREKEY, OlmAccount, OlmError, PairSession, Prekey,
};
use vodozemac::olm::{Account, OlmMessage, SessionConfig};

/// Dana's end and Noor's end, answered once in each direction.
fn pair() -> (PairSession, PairSession) {
    let (dana, noor) = (Device::new(1), Device::new(2));
    let mut a = PairSession::outbound(&dana.olm, &noor.bundle()).unwrap();
    let (kind, first) = a.encrypt(b"hello").unwrap();
    assert_eq!(kind, OLM_PREKEY);
    let (mut b, text) = PairSession::inbound(&noor.secrets, &dana.olm.identity(), &first).unwrap();
    assert_eq!(text.as_slice(), b"hello");
    let (kind, answer) = b.encrypt(b"hello back").unwrap();
    assert_eq!(kind, OLM_NORMAL);
    assert_eq!(a.decrypt(kind, &answer).unwrap().as_slice(), b"hello back");
    (a, b)
}

#[test]
fn a_session_has_one_name_at_both_ends_and_survives_the_store() {
    let (a, b) = pair();
    assert_eq!(a.id(), b.id());
    let mut a = PairSession::from_secret(&a.export_secret()).unwrap();
    let mut b = PairSession::from_secret(&b.export_secret()).unwrap();
    for n in 0..20u8 {
        let (from, to) = if n % 2 == 0 { (&mut a, &mut b) } else { (&mut b, &mut a) };
        let (kind, message) = from.encrypt(&[n]).unwrap();
        assert_eq!(
            (kind, to.decrypt(kind, &message).unwrap().as_slice()),
            (OLM_NORMAL, [n].as_slice())
        );
    }
    let stored = b.export_secret();
    assert!(stored.len() < 8_192, "a stored session has {} bytes", stored.len());
    assert!(PairSession::from_secret(&stored[..stored.len() - 1]).is_err());
    assert_eq!(format!("{b:?}"), "PairSession(..)");
}

/// Somebody who only reads never answers by Olm, and every message to them had the keys that begin the session: with them
/// a text of 256 bytes takes an envelope of twice the size.
#[test]
fn whoever_has_the_session_opens_messages_without_the_keys_that_begin_it() {
    let (dana, noor) = (Device::new(1), Device::new(2));
    let mut a = PairSession::outbound(&dana.olm, &noor.bundle()).unwrap();
    let (_, first) = a.encrypt(b"hello").unwrap();
    let (kind, short) = a.encrypt_begun(b"again").unwrap();
    let (long_kind, long) = a.encrypt(b"again").unwrap();
    assert_eq!((kind, long_kind), (OLM_NORMAL, OLM_PREKEY));
    assert!(short.len() + 100 < long.len(), "{} and {} bytes", short.len(), long.len());
    let (mut b, _) = PairSession::inbound(&noor.secrets, &dana.olm.identity(), &first).unwrap();
    assert_eq!(b.decrypt(kind, &short).unwrap().as_slice(), b"again");
    assert_eq!(b.decrypt(long_kind, &long).unwrap().as_slice(), b"again");
}

/// Mail to somebody away for weeks: every message can begin the session, and all open in order.
#[test]
fn five_thousand_unacknowledged_messages_open_in_order() {
    let (dana, noor) = (Device::new(1), Device::new(2));
    let mut a = PairSession::outbound(&dana.olm, &noor.bundle()).unwrap();
    let sent: Vec<Vec<u8>> = (0..5_000u32)
        .map(|n| {
            let (kind, message) = a.encrypt(&n.to_be_bytes()).unwrap();
            assert_eq!(kind, OLM_PREKEY);
            message
        })
        .collect();
    assert!(!a.is_answered());
    let (mut b, first) =
        PairSession::inbound(&noor.secrets, &dana.olm.identity(), &sent[0]).unwrap();
    assert_eq!(first.as_slice(), 0u32.to_be_bytes());
    for (n, message) in (1u32..).zip(&sent[1..]) {
        let text = b.decrypt(OLM_PREKEY, message).unwrap();
        assert_eq!(text.as_slice(), n.to_be_bytes());
    }
    assert!(b.export_secret().len() < 8_192, "no skipped keys were kept");
}

/// The control of the rule above: out of order only the last 40 passed over are kept, and a gap over 2,000 is refused.
#[test]
fn out_of_order_forty_keys_are_kept_and_long_gaps_refused() {
    let (mut a, mut b) = pair();
    let sent: Vec<Vec<u8>> = (0..100).map(|_| a.encrypt(b"x").unwrap().1).collect();
    b.decrypt(OLM_NORMAL, &sent[99]).unwrap();
    assert_eq!(b.decrypt(OLM_NORMAL, &sent[58]).map(drop), Err(OlmError::Closed));
    for message in &sent[59..99] {
        b.decrypt(OLM_NORMAL, message).unwrap();
    }

    let (mut a, mut b) = pair();
    let sent: Vec<Vec<u8>> = (0..2_002).map(|_| a.encrypt(b"x").unwrap().1).collect();
    assert_eq!(b.decrypt(OLM_NORMAL, &sent[2_001]).map(drop), Err(OlmError::Closed));
    b.decrypt(OLM_NORMAL, &sent[0]).unwrap();
    assert!(b.decrypt(OLM_NORMAL, &sent[2_000]).is_ok(), "control: 1,999 passed over");
}

#[test]
fn a_message_five_turns_old_never_opens() {
    for (turns, opens) in [(4, true), (5, false)] {
        let (mut a, mut b) = pair();
        let (kind, late) = a.encrypt(b"late").unwrap();
        // The message after it opens, so the chain is known and the late one's key is kept with it.
        let (_, next) = a.encrypt(b"next").unwrap();
        b.decrypt(kind, &next).unwrap();
        for _ in 0..turns {
            let (kind, back) = b.encrypt(b"turn").unwrap();
            a.decrypt(kind, &back).unwrap();
            let (kind, forth) = a.encrypt(b"turn").unwrap();
            b.decrypt(kind, &forth).unwrap();
        }
        assert_eq!(b.decrypt(kind, &late).is_ok(), opens, "{turns} turns");
    }
}

/// Why every bundle has its own copy of the account.
#[test]
fn an_account_forgets_a_fallback_key_after_two_newer_ones_and_a_bundle_does_not() {
    // vodozemac as it comes.
    let config = SessionConfig::version_2();
    for (rotations, opens) in [(1, true), (2, false)] {
        let (mut account, sender) = (Account::new(), Account::new());
        account.generate_fallback_key();
        let fallback = *account.fallback_key().values().next().unwrap();
        let identity = account.curve25519_key();
        let mut session = sender.create_outbound_session(config, identity, fallback).unwrap();
        let OlmMessage::PreKey(first) = session.encrypt(b"x").unwrap() else {
            panic!("a first message is a prekey message");
        };
        for _ in 0..rotations {
            account.generate_fallback_key();
        }
        let inbound = account.create_inbound_session(config, sender.curve25519_key(), &first);
        assert_eq!(inbound.is_ok(), opens, "{rotations} rotations");
    }

    // Ours: the first of ten bundles still opens.
    let (dana, noor) = (Device::new(1), Device::new(2));
    let mut a = PairSession::outbound(&dana.olm, &noor.bundle()).unwrap();
    let (_, first) = a.encrypt(b"x").unwrap();
    let later: Vec<BundleSecrets> = (1..10)
        .map(|seq| BundleSecrets::generate(&mut rng(seq), &noor.olm, &fields(noor.id, seq)).1)
        .collect();
    let identity = dana.olm.identity();
    assert!(PairSession::inbound(&noor.secrets, &identity, &first).is_ok());
    for secrets in &later {
        let result = PairSession::inbound(secrets, &identity, &first);
        assert_eq!(result.map(drop), Err(OlmError::OtherBundle));
    }
}

#[test]
fn a_first_message_tells_its_session_before_it_is_opened() {
    let (dana, noor) = (Device::new(1), Device::new(2));
    let mut a = PairSession::outbound(&dana.olm, &noor.bundle()).unwrap();
    let (_, first) = a.encrypt(b"1").unwrap();
    let (_, second) = a.encrypt(b"2").unwrap();
    let prekey = Prekey::read(&first).unwrap();
    assert_eq!(prekey, Prekey::read(&second).unwrap(), "the same session");
    assert_eq!((prekey.session, prekey.identity), (a.id(), dana.olm.identity()));
    // An unknown field outside what the MAC covers would be a second message with the same content.
    let respelled = [first.as_slice(), &[0x50, 1]].concat();
    assert_eq!(Prekey::read(&respelled), Err(OlmError::Malformed { olm_type: OLM_PREKEY }));
    // Both begin the session, so the engine asks first whether the name is known.
    let identity = dana.olm.identity();
    let (one, _) = PairSession::inbound(&noor.secrets, &identity, &first).unwrap();
    let (two, _) = PairSession::inbound(&noor.secrets, &identity, &second).unwrap();
    assert_eq!((one.id(), two.id()), (prekey.session, prekey.session));

    let mut other = PairSession::outbound(&dana.olm, &noor.bundle()).unwrap();
    let (_, elsewhere) = other.encrypt(b"3").unwrap();
    let mut one = one;
    assert_eq!(one.decrypt(OLM_PREKEY, &elsewhere).map(drop), Err(OlmError::OtherSession));
    assert_ne!(Prekey::read(&elsewhere).unwrap().base_key, prekey.base_key);
}

#[test]
fn another_identity_is_refused() {
    let (dana, noor, thief) = (Device::new(1), Device::new(2), Device::new(3));
    let mut a = PairSession::outbound(&thief.olm, &noor.bundle()).unwrap();
    let (_, first) = a.encrypt(b"x").unwrap();
    let as_dana = PairSession::inbound(&noor.secrets, &dana.olm.identity(), &first);
    assert_eq!(as_dana.map(drop), Err(OlmError::Identity));
    assert!(PairSession::inbound(&noor.secrets, &thief.olm.identity(), &first).is_ok());
}

#[test]
fn a_message_that_does_not_open_leaves_the_session_as_it_was() {
    let (mut a, mut b) = pair();
    let (kind, good) = a.encrypt(b"good").unwrap();
    let before = b.export_secret();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x40;
        assert!(b.decrypt(kind, &bad).is_err(), "{at}");
    }
    assert!(matches!(b.decrypt(2, &good), Err(OlmError::Malformed { olm_type: 2 })));
    assert!(b.decrypt(OLM_PREKEY, &good).is_err());
    assert_eq!(b.export_secret(), before);
    assert_eq!(b.decrypt(kind, &good).unwrap().as_slice(), b"good");
    assert_eq!(b.decrypt(kind, &good).map(drop), Err(OlmError::Closed), "and only once");
}

/// A thief copies Noor's session. He reads what comes until she has answered and been answered; then no more.
#[test]
fn a_cloned_session_dies_after_one_round_trip() {
    let (mut a, mut b) = pair();
    let mut stolen = PairSession::from_secret(&b.export_secret()).unwrap();
    let (kind, message) = a.encrypt(b"1").unwrap();
    assert!(b.decrypt(kind, &message).is_ok());
    assert!(stolen.decrypt(kind, &message).is_ok(), "control: a copy reads on");
    let (kind, back) = b.encrypt(b"2").unwrap();
    a.decrypt(kind, &back).unwrap();
    let (kind, message) = a.encrypt(b"3").unwrap();
    assert!(b.decrypt(kind, &message).is_ok());
    assert_eq!(stolen.decrypt(kind, &message).map(drop), Err(OlmError::Closed));
}

#[test]
fn an_account_survives_the_store() {
    let account = OlmAccount::generate();
    let again = OlmAccount::from_secret(&account.export_secret()).unwrap();
    assert_eq!(again.identity(), account.identity());
    assert_eq!(format!("{again:?}"), "OlmAccount(..)");
    let (payload, _) = BundleSecrets::generate(&mut rng(1), &again, &fields(Device::new(1).id, 0));
    assert_eq!(Bundle::parse(&payload).unwrap().olm_id(), &account.identity());
}
