//! Signatures over exact bytes: `"oob/1 <type>\0" + org_id + payload` (docs/protocol.md, section 2).

use crate::keys::{PublicKey, SignatureError, SigningKey};
use oob_proto::{
    OrgId,
    signing::{SignedType, signing_input},
    wire,
};

/// Signs a payload with each key, in this order.
pub fn sign(kind: SignedType, org: &OrgId, payload: Vec<u8>, keys: &[&SigningKey]) -> wire::Signed {
    let input = signing_input(kind, org, &payload);
    let sigs = keys
        .iter()
        .map(|key| wire::Sig { key: key.public().to_vec(), sig: key.sign_raw(&input).to_vec() })
        .collect();
    wire::Signed { payload, sigs }
}

/// Verifies that exactly these keys signed, in this order, and no others.
///
/// # Errors
/// The first thing that does not fit, see [`SignatureError`].
pub fn verify(
    kind: SignedType,
    org: &OrgId,
    signed: &wire::Signed,
    keys: &[PublicKey],
) -> Result<(), SignatureError> {
    if signed.sigs.len() != keys.len() {
        return Err(SignatureError::Count { expected: keys.len(), found: signed.sigs.len() });
    }
    let input = signing_input(kind, org, &signed.payload);
    for (index, (sig, key)) in signed.sigs.iter().zip(keys).enumerate() {
        if sig.key != key.as_bytes() {
            return Err(SignatureError::Key { index });
        }
        let bytes: &[u8; 64] = sig
            .sig
            .as_slice()
            .try_into()
            .map_err(|_| SignatureError::Length { index, found: sig.sig.len() })?;
        key.verify_raw(&input, bytes).map_err(|_| SignatureError::Invalid { index })?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use data_encoding::HEXLOWER as HEX;

    fn keys() -> [SigningKey; 2] {
        [[1; 32], [2; 32]].map(|secret| SigningKey::from_secret(&secret))
    }

    /// Computed once with another implementation of Ed25519.
    #[test]
    fn golden_signature_of_every_type() {
        let [key, _] = keys();
        let org = OrgId::from([3; 32]);
        for kind in SignedType::ALL {
            let expected = match kind {
                SignedType::Op => {
                    "aeba9d93f4460202a1b5588bef50536d0f7b37211cf21382c1867b643828593ea6ce3c494a1b9f5038a24c95b981018d635c6a667db89a6bfef2d740792c5602"
                }
                SignedType::Device => {
                    "957b5ef11e8da7af0e289c71c41cf769ebb4f3592ba5cf37cc91ecc34f61b229604070c0c29136f41f2d2bd5082382581de2e8634d5be9ed0f94a49f8e427b00"
                }
                SignedType::Join => {
                    "0772fd086f160f35079bb470189265a893632071c55756e39d459f23d648e375a3154a4f6ffb79817b726df1f7573a92dd735b7d9b02dd1365a792f455b7830f"
                }
                SignedType::Bundle => {
                    "13dee54200df6ebc106ad1978c54d32ef0ec5d59a583f598779163d266e3d1dbcdd5d737631d1214cd1c483c72b8457612a99639c743c8420e0f80028073280e"
                }
                SignedType::RelayCert => {
                    "f00d57400c7a91db2aaaf1da5b77d75c570798bed0bdcac42860f4c1529426825e318668b274a039c91e9ef2a357bd2013b4befa7ecefb98daff798472371100"
                }
                SignedType::Have => {
                    "abd4b57ca4270c0b107e346ca788b3636f69d49f73697f5f5e57b68eb6761a0ea80a99cbde0320160f80f51fba619cadd58f2a673ea480dea8c233ac7b634c0b"
                }
                SignedType::Alert => {
                    "900083ee41283eb06af26816e56c504a46958f17cb455f818f27bed20f4216ce0e7e01b0eea855bd32ca1fe2859463d5b79fd3cd28fc2bfd7c6a07eefa6bd606"
                }
                SignedType::AlertAck => {
                    "e7004ffe7649cb535883b08699c5f846685bcbdd5b5dd6a6606a102310aba1840b378cfe813244aff0202c283f59b0b9e1458a6f6e2d290163fa8c77effd280c"
                }
                SignedType::Floor => {
                    "6abaa73cab65dda03a8224ab8d0083d74013413a13b30eaec040612f291ef4617223b434feb6a696746501a74842b8f0d8404f815df28cded64bccd64d947a0f"
                }
                SignedType::AdminOffer => {
                    "1d10fde6cf281e0835f6849692631134d77e7c674aa623b269077e711cb75055c54d1fc74baa8a30798d447aab1172d4dead2a507b232d65baba25ed8ce1ef0f"
                }
                other => panic!("no golden bytes for {other:?}"),
            };
            let signed = sign(kind, &org, b"payload".to_vec(), &[&key]);
            assert_eq!(HEX.encode(&signed.sigs[0].sig), expected, "{kind:?}");
            assert_eq!(signed.sigs[0].key, key.public().as_bytes());
            assert_eq!(signed.payload, b"payload");
        }
    }

    #[test]
    fn exactly_the_keys_asked_for_in_their_order() {
        let [a, b] = keys();
        let org = OrgId::from([3; 32]);
        let good = sign(SignedType::Join, &org, b"payload".to_vec(), &[&a, &b]);
        let both = [a.public(), b.public()];
        let check = |signed: &wire::Signed| verify(SignedType::Join, &org, signed, &both);
        assert_eq!(check(&good), Ok(()), "control");

        let mut fewer = good.clone();
        fewer.sigs.pop();
        assert_eq!(check(&fewer), Err(SignatureError::Count { expected: 2, found: 1 }));
        let mut more = good.clone();
        more.sigs.push(good.sigs[0].clone());
        assert_eq!(check(&more), Err(SignatureError::Count { expected: 2, found: 3 }));
        let mut swapped = good.clone();
        swapped.sigs.swap(0, 1);
        assert_eq!(check(&swapped), Err(SignatureError::Key { index: 0 }));
        let mut cut = good.clone();
        cut.sigs[1].sig.pop();
        assert_eq!(check(&cut), Err(SignatureError::Length { index: 1, found: 63 }));
        let mut altered = good.clone();
        altered.payload[0] ^= 1;
        assert_eq!(check(&altered), Err(SignatureError::Invalid { index: 0 }));
        // Signed by the right key, as another kind of thing or for another organisation.
        assert!(verify(SignedType::Op, &org, &good, &both).is_err());
        assert!(verify(SignedType::Join, &OrgId::from([4; 32]), &good, &both).is_err());
    }

    /// A signature has one form: s + L verifies with a lenient verifier, and would be a second record.
    #[test]
    fn a_malleated_signature_does_not_stand() {
        const ORDER: [u8; 32] = [
            0xed, 0xd3, 0xf5, 0x5c, 0x1a, 0x63, 0x12, 0x58, 0xd6, 0x9c, 0xf7, 0xa2, 0xde, 0xf9,
            0xde, 0x14, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
        ];
        let [key, _] = keys();
        let org = OrgId::from([3; 32]);
        let mut signed = sign(SignedType::Op, &org, b"payload".to_vec(), &[&key]);
        let mut carry = 0u16;
        for (byte, add) in signed.sigs[0].sig[32..].iter_mut().zip(ORDER) {
            let sum = u16::from(*byte) + u16::from(add) + carry;
            *byte = sum.to_le_bytes()[0];
            carry = sum >> 8;
        }
        assert_eq!(
            verify(SignedType::Op, &org, &signed, &[key.public()]),
            Err(SignatureError::Invalid { index: 0 })
        );
    }
}
