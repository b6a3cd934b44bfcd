//! Bytes from anybody, at every door: refused, never a panic.

use crate::people::{Device, fresh, org};
use oob_crypto::{
    Bundle, BundleSecrets, DhPublic, InChannel, JoinHandshake, OLM_NORMAL, OLM_PREKEY, OlmAccount,
    OutChannel, PairSession, Prekey, PublicKey, open_grant, signed,
};
use oob_proto::{Message, signing::SignedType, wire};
use proptest::prelude::*;
use std::sync::LazyLock;

struct Doors {
    dana: Device,
    noor: Device,
    flight: Vec<u8>,
    session: Vec<u8>,
    prekey: Vec<u8>,
    normal: Vec<u8>,
}

static DOORS: LazyLock<Doors> = LazyLock::new(|| {
    let (dana, noor) = (Device::new(1), Device::new(2));
    let flight = dana.write_to(&noor, 0, b"x").unwrap().1.ct;
    let mut a = PairSession::outbound(&dana.olm, &noor.bundle()).unwrap();
    let (_, prekey) = a.encrypt(b"x").unwrap();
    let (mut b, _) = PairSession::inbound(&noor.secrets, &dana.olm.identity(), &prekey).unwrap();
    let (_, normal) = b.encrypt(b"y").unwrap();
    let session = a.export_secret().to_vec();
    Doors { dana, noor, flight, session, prekey, normal }
});

fn knock(bytes: &[u8]) {
    let Doors { dana, noor, session, .. } = &*DOORS;
    let _ = (PublicKey::parse(bytes), DhPublic::parse(bytes), Bundle::parse(bytes));
    let _ = noor.open(bytes);
    let _ = open_grant(&noor.secrets, &org(), &noor.id, bytes);
    let _ = Prekey::read(bytes);
    let _ = PairSession::inbound(&noor.secrets, &dana.olm.identity(), bytes);
    let mut pair = PairSession::from_secret(session).unwrap();
    let _ = (pair.decrypt(OLM_PREKEY, bytes), pair.decrypt(OLM_NORMAL, bytes));
    let _ = (OutChannel::from_secret(bytes), InChannel::from_secret(bytes));
    let _ = (OlmAccount::from_secret(bytes), BundleSecrets::from_secret(bytes));
    let _ = PairSession::from_secret(bytes);
    let waiting = JoinHandshake::responder(&mut fresh(), &org(), &noor.dnk).unwrap();
    let _ = waiting.read(bytes);
    let (waiting, _) = JoinHandshake::initiator(&mut fresh(), &org(), &dana.dnk).unwrap();
    let _ = waiting.read(bytes);
    let sigs = vec![wire::Sig { key: bytes.to_vec(), sig: bytes.to_vec() }];
    let signed = wire::Signed { payload: bytes.to_vec(), sigs };
    let _ = signed::verify(SignedType::Op, &org(), &signed, &[]);
    if let Ok(key) = PublicKey::parse(bytes) {
        assert!(signed::verify(SignedType::Op, &org(), &signed, &[key]).is_err());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        knock(&bytes);
        knock(&[&[1], bytes.as_slice()].concat());
        knock(&[&[3], bytes.as_slice()].concat());
        knock(&[&[4], bytes.as_slice()].concat());
    }

    #[test]
    fn thirty_two_bytes_never_panic(bytes: [u8; 32]) {
        knock(&bytes);
    }

    #[test]
    fn flights_of_the_right_form_never_panic(
        kem_ct in prop::collection::vec(any::<u8>(), 1_088),
        noise in prop::collection::vec(any::<u8>(), 936),
    ) {
        let bundle = DOORS.noor.secrets.id().to_vec();
        let flight = wire::FirstFlight { bundle, kem_ct, noise }.encode_to_vec();
        assert_eq!(flight.len(), 2_048);
        prop_assert!(DOORS.noor.open(&flight).is_err());
    }

    /// Near misses of what was once true.
    #[test]
    fn true_bytes_bent_never_panic(
        which in 0usize..5,
        at: prop::sample::Index,
        cut: prop::sample::Index,
        byte: u8,
    ) {
        let Doors { noor, flight, session, prekey, normal, .. } = &*DOORS;
        let mut bytes = match which {
            0 => flight.clone(),
            1 => session.clone(),
            2 => prekey.clone(),
            3 => normal.clone(),
            _ => noor.payload.clone(),
        };
        *at.get_mut(&mut bytes) = byte;
        knock(&bytes);
        knock(&bytes[..cut.index(bytes.len())]);
    }
}
