//! First flights, the channels they open, and grants.

use crate::people::{Device, fields, fresh, org, rng};
use oob_crypto::{
    Bundle, BundleError, BundleSecrets, ChannelError, EpochSecret, FIRST_INNER_BYTES, GRANT_BYTES,
    INNER_BYTES, InChannel, KeyError, OutChannel, Ring, StoredError, envelope::release_of,
    open_first_flight, open_grant, seal_grant,
};
use oob_proto::{DeviceId, Message, OrgId, wire};
use proptest::prelude::*;
use std::collections::HashSet;

#[test]
fn a_first_flight_says_who_it_is_from_and_opens_a_channel() {
    let (dana, noor) = (Device::new(1), Device::new(2));
    let (mut out, first) = dana.write_to(&noor, 41, b"first").unwrap();
    assert_eq!((first.n, first.ct.len()), (None, first.class.len()));
    assert!(noor.secrets.may_be_ours(&first.tag));
    let mut opened = noor.open(&first.ct).unwrap();
    assert_eq!((opened.from, opened.dnk), (dana.id, dana.dnk.public()));
    assert_eq!((opened.replaced_count, opened.plain.inner.as_slice()), (41, b"first".as_slice()));
    assert_eq!(release_of(&opened.plain.preimage), first.release);
    assert_eq!((out.count(), out.id()), (0, opened.channel.id()));

    for n in 0..3 {
        let sealed = out.seal(&mut fresh(), b"more").unwrap();
        assert_eq!((sealed.n, sealed.ct.len()), (Some(n), 512));
        let by_tag = opened.channel.tags().find(|(tag, _)| *tag == sealed.tag);
        assert_eq!(by_tag, Some((sealed.tag, n)));
        let plain = opened.channel.open(n, &sealed.ct).unwrap();
        assert_eq!(plain.inner, b"more");
        assert_eq!(release_of(&plain.preimage), sealed.release);
        assert!(opened.channel.mark(n));
        assert_eq!(opened.channel.open(n, &sealed.ct), Err(ChannelError::NotWanted { n }));
    }
    assert_eq!(out.count(), 3);
}

/// The figures of the design: 256 B of text need 1,666 B in a first flight and 376 B later, before padding.
#[test]
fn every_length_is_padded_to_a_class() {
    let (dana, noor) = (Device::new(1), Device::new(2));
    for len in [0, 1, 750, 751, 2_798, 2_799, 6_894, 6_895, FIRST_INNER_BYTES] {
        let inner = vec![0xa5; len];
        let (_, first) = dana.write_to(&noor, 0, &inner).unwrap();
        assert_eq!(first.ct.len(), first.class.len(), "{len}");
        assert_eq!(noor.open(&first.ct).unwrap().plain.inner, inner, "{len}");
    }
    assert_eq!(FIRST_INNER_BYTES, 14_702);
    assert_eq!(
        dana.write_to(&noor, 0, &vec![0; FIRST_INNER_BYTES + 1]).unwrap_err(),
        ChannelError::TooLong { len: FIRST_INNER_BYTES + 1, max: FIRST_INNER_BYTES }
    );

    let (mut out, first) = dana.write_to(&noor, 0, b"").unwrap();
    let channel = noor.open(&first.ct).unwrap().channel;
    for (n, len) in [0, 478, 479, 990, 991, INNER_BYTES].into_iter().enumerate() {
        let sealed = out.seal(&mut fresh(), &vec![1; len]).unwrap();
        assert_eq!(sealed.ct.len(), sealed.class.len());
        assert_eq!(channel.open(n as u64, &sealed.ct).unwrap().inner.len(), len);
    }
    assert_eq!(INNER_BYTES, 15_966);
    let count = out.count();
    assert!(out.seal(&mut fresh(), &vec![0; INNER_BYTES + 1]).is_err());
    assert_eq!(out.count(), count, "a refused message takes no number");
}

/// Stored secrets: version, hash, X25519, ML-KEM, inbox key, account. Whoever has only one of the two key pairs opens
/// nothing.
#[test]
fn neither_half_of_the_hybrid_alone_opens() {
    const SPK: std::ops::Range<usize> = 33..65;
    const KEM: std::ops::Range<usize> = 65..129;
    let (dana, noor, thief) = (Device::new(1), Device::new(2), Device::new(3));
    let (_, first) = dana.write_to(&noor, 0, b"secret").unwrap();
    let epoch = EpochSecret::generate(&mut rng(4));
    let bundle = noor.bundle();
    let grant = seal_grant(&mut rng(5), &dana.contact(&noor, &bundle), Ring::Core, &epoch).unwrap();
    let with = |ranges: &[std::ops::Range<usize>]| {
        let mut bytes = noor.secrets.export_secret().to_vec();
        for range in ranges {
            bytes[range.clone()].copy_from_slice(&thief.secrets.export_secret()[range.clone()]);
        }
        BundleSecrets::from_secret(&bytes).unwrap()
    };
    let open = |secrets: &BundleSecrets| {
        let flight = open_first_flight(secrets, &org(), &noor.id, &first.ct).map(drop);
        assert_eq!(flight, open_grant(secrets, &org(), &noor.id, &grant).map(drop));
        flight
    };
    assert_eq!(open(&with(&[])), Ok(()), "control");
    assert_eq!(open(&with(&[KEM])), Err(ChannelError::Closed), "X25519 alone");
    assert_eq!(open(&with(&[SPK])), Err(ChannelError::Closed), "ML-KEM alone");
    assert_eq!(open(&with(&[SPK, KEM])), Err(ChannelError::Closed));
}

#[test]
fn a_first_flight_is_bound_to_org_device_bundle_and_kem_ciphertext() {
    let (dana, noor, other) = (Device::new(1), Device::new(2), Device::new(3));
    let (_, first) = dana.write_to(&noor, 0, b"secret").unwrap();
    assert!(noor.open(&first.ct).is_ok(), "control");
    let elsewhere = open_first_flight(&noor.secrets, &OrgId::from([4; 32]), &noor.id, &first.ct);
    assert_eq!(elsewhere.unwrap_err(), ChannelError::Closed);
    let another = open_first_flight(&noor.secrets, &org(), &other.id, &first.ct);
    assert_eq!(another.unwrap_err(), ChannelError::Closed);
    assert_eq!(
        other.open(&first.ct).unwrap_err(),
        ChannelError::OtherBundle { expected: other.secrets.id(), found: noor.secrets.id() }
    );
    // Renamed to the other's bundle it still is not hers.
    let mut flight = wire::FirstFlight::decode(first.ct.as_slice()).unwrap();
    flight.bundle = other.secrets.id().to_vec();
    assert_eq!(other.open(&flight.encode_to_vec()).unwrap_err(), ChannelError::Closed);
    // A flight spliced from two.
    let (_, second) = dana.write_to(&noor, 0, b"secret").unwrap();
    let mut spliced = wire::FirstFlight::decode(first.ct.as_slice()).unwrap();
    spliced.kem_ct = wire::FirstFlight::decode(second.ct.as_slice()).unwrap().kem_ct;
    assert_eq!(noor.open(&spliced.encode_to_vec()).unwrap_err(), ChannelError::Closed);
}

/// Key-compromise impersonation: with Noor's secrets a thief reads her mail, but cannot write to her as Dana.
#[test]
fn a_sender_proves_its_own_noise_key() {
    let (dana, noor, thief) = (Device::new(1), Device::new(2), Device::new(3));
    let bundle = noor.bundle();
    let mut contact = thief.contact(&noor, &bundle);
    contact.my_device = &dana.id;
    let (_, first) = OutChannel::open(&mut rng(1), &contact, 0, b"i am dana").unwrap();
    let opened = noor.open(&first.ct).unwrap();
    assert_eq!(opened.from, dana.id, "what is said is said");
    assert_eq!(opened.dnk, thief.dnk.public(), "what is proved is the thief's own key");
}

#[test]
fn the_same_first_flight_opens_twice_as_the_same_channel() {
    let (dana, noor) = (Device::new(1), Device::new(2));
    let (_, first) = dana.write_to(&noor, 0, b"x").unwrap();
    let [a, b] = [noor.open(&first.ct).unwrap(), noor.open(&first.ct).unwrap()];
    assert_eq!(a.channel.id(), b.channel.id(), "so a known channel is not taken again");
    let (_, second) = dana.write_to(&noor, 0, b"x").unwrap();
    assert_ne!(noor.open(&second.ct).unwrap().channel.id(), a.channel.id());
}

#[test]
fn a_first_flight_in_another_encoding_is_refused() {
    let (dana, noor) = (Device::new(1), Device::new(2));
    let (_, first) = dana.write_to(&noor, 0, b"x").unwrap();
    let mut flight = wire::FirstFlight::decode(first.ct.as_slice()).unwrap();
    let doubled = [first.ct.as_slice(), &first.ct].concat();
    assert_eq!(noor.open(&doubled).unwrap_err(), ChannelError::Malformed, "4,096 bytes, a class");
    let order: Vec<u8> = [&first.ct[18..], &first.ct[..18]].concat();
    assert!(wire::FirstFlight::decode(order.as_slice()).unwrap() == flight, "control");
    assert_eq!(noor.open(&order).unwrap_err(), ChannelError::Malformed);
    flight.noise.pop();
    assert_eq!(noor.open(&flight.encode_to_vec()).unwrap_err(), ChannelError::Malformed);
}

#[test]
fn messages_open_in_any_order_once_each_and_stored_states_go_on() {
    let (dana, noor) = (Device::new(1), Device::new(2));
    let (mut out, first) = dana.write_to(&noor, 0, b"").unwrap();
    let mut channel = noor.open(&first.ct).unwrap().channel;
    let mut sent = Vec::new();
    for n in 0..200u64 {
        out = OutChannel::from_secret(&out.export_secret()).unwrap();
        sent.push(out.seal(&mut fresh(), &n.to_be_bytes()).unwrap());
    }
    let mut left: Vec<usize> = (0..200).rev().collect();
    let mut opened = Vec::new();
    while !left.is_empty() {
        // As a device does: whatever lies there and has a tag waited for now.
        let at = left
            .iter()
            .position(|n| channel.tags().any(|(tag, _)| tag == sent[*n].tag))
            .expect("something is waited for");
        let n = left.remove(at);
        let (_, number) = channel.tags().find(|(tag, _)| *tag == sent[n].tag).unwrap();
        assert_eq!(number, n as u64);
        opened.push(channel.open(number, &sent[n].ct).unwrap().inner);
        channel.mark(number);
        channel = InChannel::from_secret(&channel.export_secret()).unwrap();
    }
    opened.sort();
    assert_eq!(opened, (0..200u64).map(|n| n.to_be_bytes().to_vec()).collect::<Vec<_>>());
    assert!(!channel.is_done());
    channel.close_at(out.count());
    assert!(channel.is_done());
    assert!(channel.tags().next().is_none());
}

#[test]
fn a_forged_message_leaves_no_trace() {
    let (dana, noor) = (Device::new(1), Device::new(2));
    let (mut out, first) = dana.write_to(&noor, 0, b"").unwrap();
    let channel = noor.open(&first.ct).unwrap().channel;
    let sealed = out.seal(&mut fresh(), b"true").unwrap();
    let before = channel.export_secret();
    let mut forged = sealed.ct.clone();
    forged[100] ^= 1;
    assert_eq!(channel.open(0, &forged), Err(ChannelError::Closed));
    assert_eq!(channel.open(1, &sealed.ct), Err(ChannelError::Closed), "another number");
    assert_eq!(channel.open(65, &sealed.ct), Err(ChannelError::NotWanted { n: 65 }));
    assert_eq!(channel.export_secret(), before);
    assert_eq!(channel.open(0, &sealed.ct).unwrap().inner, b"true");
}

/// What happens when an old copy of a sending state is used again, and why the engine makes states durable first: both
/// messages have the same number and tag, the first to arrive is taken, the second refused. (They also share a key
/// stream, so whoever holds both ciphertexts learns the difference of the plaintexts.)
#[test]
fn a_cloned_sender_is_heard_once_per_number() {
    let (dana, noor) = (Device::new(1), Device::new(2));
    let (out, first) = dana.write_to(&noor, 0, b"").unwrap();
    let mut channel = noor.open(&first.ct).unwrap().channel;
    let copy = out.export_secret();
    let [one, two] = [b"one", b"two"]
        .map(|text| OutChannel::from_secret(&copy).unwrap().seal(&mut fresh(), text).unwrap());
    assert_eq!((one.n, one.tag), (two.n, two.tag));
    assert_eq!(channel.open(0, &one.ct).unwrap().inner, b"one");
    channel.mark(0);
    assert_eq!(channel.open(0, &two.ct), Err(ChannelError::NotWanted { n: 0 }));
}

#[test]
fn tags_of_first_flights_tell_one_device_in_64() {
    let (dana, noor) = (Device::new(1), Device::new(2));
    let tags: Vec<_> = (0..64).map(|_| dana.write_to(&noor, 0, b"").unwrap().1.tag).collect();
    assert!(tags.iter().all(|tag| noor.secrets.may_be_ours(tag)));
    let first: HashSet<u8> = tags.iter().map(|tag| tag[0] & 0b11).collect();
    assert_eq!(first.len(), 4, "the low two bits of the first byte are random");
    assert_eq!(tags.iter().collect::<HashSet<_>>().len(), 64);
    let ours = (0..=255u8).filter(|b| noor.secrets.may_be_ours(&[*b; 16])).count();
    assert_eq!(ours, 4);
}

#[test]
fn a_grant_hands_over_an_epoch_and_opens_no_channel() {
    let (dana, noor) = (Device::new(1), Device::new(2));
    let bundle = noor.bundle();
    let epoch = EpochSecret::generate(&mut rng(4));
    for ring in Ring::ALL {
        let sealed = seal_grant(&mut rng(5), &dana.contact(&noor, &bundle), ring, &epoch).unwrap();
        assert_eq!(sealed.len(), GRANT_BYTES);
        let grant = open_grant(&noor.secrets, &org(), &noor.id, &sealed).unwrap();
        assert_eq!((grant.from, grant.dnk, grant.ring), (dana.id, dana.dnk.public(), ring));
        assert_eq!(grant.secret.id(), epoch.id());
        assert_eq!(noor.open(&sealed).unwrap_err(), ChannelError::Malformed);
    }
    let (_, first) = dana.write_to(&noor, 0, b"").unwrap();
    let as_grant = open_grant(&noor.secrets, &org(), &noor.id, &first.ct);
    assert_eq!(as_grant.unwrap_err(), ChannelError::Malformed);
}

#[test]
fn stored_bundle_secrets_still_open() {
    let (dana, noor) = (Device::new(1), Device::new(2));
    let again = BundleSecrets::from_secret(&noor.secrets.export_secret()).unwrap();
    assert_eq!(again.id(), noor.bundle().id());
    let (_, first) = dana.write_to(&noor, 0, b"x").unwrap();
    assert!(open_first_flight(&again, &org(), &noor.id, &first.ct).is_ok());
    let bytes = noor.secrets.export_secret();
    assert_eq!(
        BundleSecrets::from_secret(&bytes[..bytes.len() - 1]).unwrap_err(),
        StoredError::Malformed { len: bytes.len() - 1 }
    );
    assert!(!format!("{:?}", noor.secrets).contains("spk"));
}

#[test]
fn a_bundle_with_a_bad_field_is_refused() {
    let noor = Device::new(2);
    let good = wire::PrekeyBundle::decode(noor.payload.as_slice()).unwrap();
    let parse = |bundle: wire::PrekeyBundle| Bundle::parse(&bundle.encode_to_vec()).map(drop);
    assert_eq!(parse(good.clone()), Ok(()), "control");
    let bundle = noor.bundle();
    assert_eq!(bundle.device(), &noor.id);
    assert_eq!(bundle.olm_id(), &noor.olm.identity());
    assert_eq!((bundle.fields().seq, bundle.fields().record_seq), (0, 2));

    for low in [[0; 32], {
        let mut one = [0; 32];
        one[0] = 1;
        one
    }] {
        for field in ["spk", "olm_id", "olm_fallback"] {
            let mut bad = good.clone();
            match field {
                "spk" => bad.spk = low.to_vec(),
                "olm_id" => bad.olm_id = low.to_vec(),
                _ => bad.olm_fallback = low.to_vec(),
            }
            let source = KeyError::LowOrder;
            assert_eq!(parse(bad), Err(BundleError::Key { field, source }));
        }
    }
    let mut bad = good.clone();
    bad.kem_pk[..2].fill(0xff);
    let source = KeyError::Invalid;
    assert_eq!(parse(bad), Err(BundleError::Key { field: "kem_pk", source }), "over the modulus");
    let mut bad = good.clone();
    bad.kem_pk.pop();
    assert!(matches!(parse(bad), Err(BundleError::Length { field: "kem_pk", found: 1_183, .. })));
    let mut bad = good.clone();
    bad.inbox_key.push(0);
    assert!(matches!(parse(bad), Err(BundleError::Length { field: "inbox_key", .. })));
    let mut bad = good;
    bad.device.clear();
    assert!(matches!(parse(bad), Err(BundleError::Length { field: "device", .. })));
    let unknown = [noor.payload.as_slice(), &[0x60, 1]].concat();
    assert_eq!(Bundle::parse(&unknown).map(drop), Err(BundleError::Malformed));
    let long = vec![0; 2_000];
    assert_eq!(Bundle::parse(&long).map(drop), Err(BundleError::TooLong { len: 2_000 }));
}

#[test]
fn bundles_of_one_device_differ_but_for_the_identity() {
    let noor = Device::new(2);
    let next = BundleSecrets::generate(&mut rng(9), &noor.olm, &fields(noor.id, 1));
    let next = Bundle::parse(&next.0).unwrap();
    assert_ne!(next.id(), noor.bundle().id());
    assert_eq!(next.olm_id(), noor.bundle().olm_id());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_sealed_opens(inner in prop::collection::vec(any::<u8>(), 0..3_000), count: u64) {
        let (dana, noor) = (Device::new(1), Device::new(2));
        let (mut out, first) = dana.write_to(&noor, count, &inner).unwrap();
        let opened = noor.open(&first.ct).unwrap();
        prop_assert_eq!(&opened.plain.inner, &inner);
        prop_assert_eq!(opened.replaced_count, count);
        let sealed = out.seal(&mut fresh(), &inner).unwrap();
        prop_assert_eq!(opened.channel.open(0, &sealed.ct).unwrap().inner, inner);
    }

    #[test]
    fn a_first_flight_with_one_bit_changed_never_opens(at in 0usize..2_048, bit in 0u8..8) {
        let (dana, noor) = (Device::new(1), Device::new(2));
        let (_, first) = dana.write_to(&noor, 0, b"x").unwrap();
        let mut bad = first.ct;
        bad[at] ^= 1 << bit;
        prop_assert!(noor.open(&bad).is_err());
    }

    #[test]
    fn a_bundle_from_any_device_id_reads_back(id: [u8; 32], seq: u64) {
        let noor = Device::new(2);
        let fields = fields(DeviceId::from(id), seq % u64::from(u32::MAX));
        let (payload, secrets) = BundleSecrets::generate(&mut rng(seq), &noor.olm, &fields);
        let bundle = Bundle::parse(&payload).unwrap();
        prop_assert_eq!(bundle.id(), secrets.id());
        prop_assert_eq!(bundle.fields().seq, fields.seq);
    }
}
