//! The handshake of the join stream.

use crate::people::{Device, fresh, org};
use oob_crypto::{JOIN_CHUNK_BYTES, JoinChannel, JoinError, JoinHandshake};
use oob_proto::OrgId;

fn join(joiner: &Device, admitter: &Device) -> (JoinChannel, JoinChannel) {
    let mut rng = fresh();
    let waiting = JoinHandshake::responder(&mut rng, &org(), &admitter.dnk).unwrap();
    let (second, one) = JoinHandshake::initiator(&mut rng, &org(), &joiner.dnk).unwrap();
    let (third, two) = waiting.read(&one).unwrap();
    let (joiner, three) = second.read(&two).unwrap();
    assert_eq!((one.len(), two.len(), three.len()), (32, 96, 64));
    (joiner, third.read(&three).unwrap())
}

#[test]
fn both_sides_know_each_other_and_share_a_hash() {
    let (dana, noor) = (Device::new(1), Device::new(2));
    let (mut a, mut b) = join(&dana, &noor);
    assert_eq!(a.remote(), &noor.dnk.public());
    assert_eq!(b.remote(), &dana.dnk.public());
    assert_eq!(a.handshake_hash(), b.handshake_hash());
    let (other, _) = join(&dana, &noor);
    assert_ne!(a.handshake_hash(), other.handshake_hash(), "each handshake has its own");

    for len in [0, 1, 1_000, JOIN_CHUNK_BYTES] {
        let sealed = a.seal(&vec![7; len]).unwrap();
        assert_eq!(b.open(&sealed).unwrap().as_slice(), vec![7; len]);
        let back = b.seal(b"back").unwrap();
        assert_eq!(a.open(&back).unwrap().as_slice(), b"back");
    }
    let len = JOIN_CHUNK_BYTES + 1;
    assert_eq!(a.seal(&vec![7; len]), Err(JoinError::TooLong { len }));
}

#[test]
fn altered_repeated_and_reordered_messages_do_not_open() {
    let (mut a, mut b) = join(&Device::new(1), &Device::new(2));
    let [one, two] = [a.seal(b"1").unwrap(), a.seal(b"2").unwrap()];
    assert_eq!(b.open(&two).map(drop), Err(JoinError::Closed));
    let mut bad = one.clone();
    bad[0] ^= 1;
    assert_eq!(b.open(&bad).map(drop), Err(JoinError::Closed));
    assert_eq!(b.open(&one).unwrap().as_slice(), b"1", "control");
    assert_eq!(b.open(&one).map(drop), Err(JoinError::Closed));
    assert_eq!(b.open(&two).unwrap().as_slice(), b"2");
    assert_eq!(b.open(&[]).map(drop), Err(JoinError::Closed));
}

#[test]
fn another_organisation_does_not_get_past_message_two() {
    let (dana, noor) = (Device::new(1), Device::new(2));
    let mut rng = fresh();
    let elsewhere = OrgId::from([4; 32]);
    let waiting = JoinHandshake::responder(&mut rng, &elsewhere, &noor.dnk).unwrap();
    let (second, one) = JoinHandshake::initiator(&mut rng, &org(), &dana.dnk).unwrap();
    let (_, two) = waiting.read(&one).unwrap();
    assert_eq!(second.read(&two).map(drop), Err(JoinError::Handshake));
}

#[test]
fn a_zero_ephemeral_key_and_a_payload_are_refused() {
    let noor = Device::new(2);
    let waiting = || JoinHandshake::responder(&mut fresh(), &org(), &noor.dnk).unwrap();
    assert_eq!(waiting().read(&[0; 32]).map(drop), Err(JoinError::Handshake));
    let (_, one) = JoinHandshake::initiator(&mut fresh(), &org(), &Device::new(1).dnk).unwrap();
    assert!(waiting().read(&one).is_ok(), "control");
    let with = [one.as_slice(), b"hello"].concat();
    assert_eq!(waiting().read(&with).map(drop), Err(JoinError::Payload { len: 5 }));
    assert_eq!(waiting().read(&one[..31]).map(drop), Err(JoinError::Handshake));
}
