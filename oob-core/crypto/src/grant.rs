//! How an epoch's secret is handed over: in a first flight of its own, which opens no channel
//! (docs/protocol.md, section 6).

use crate::{
    bundle::BundleSecrets,
    dh::DhPublic,
    epoch::{EpochSecret, Ring},
    first_flight::{self, FirstContact},
    plaintext::ChannelError,
};
use oob_proto::{DeviceId, EpochId, OrgId};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

const CONTEXT: &[u8; 12] = b"oob/1 grant\0";
/// Bytes of a grant: context, sender, ring, epoch, secret.
const GRANT: usize = CONTEXT.len() + 32 + 1 + 16 + 32;
/// Bytes of an encoded grant; no class of envelopes has this length.
pub const GRANT_BYTES: usize = first_flight::OVERHEAD + GRANT;

/// An epoch somebody handed over.
#[derive(Debug)]
pub struct Grant {
    /// The device the sender says it is. It must be the neighbour on this connection.
    pub from: DeviceId,
    /// The Noise key it proved to hold, which must be that device's.
    pub dnk: DhPublic,
    /// Whose epoch.
    pub ring: Ring,
    /// The secret; its id was checked.
    pub secret: EpochSecret,
}

/// Seals an epoch's secret to a bundle; the result is the `first_flight` of an EpochGrant.
///
/// # Errors
/// A bundle whose keys do not work.
pub fn seal_grant(
    rng: &mut impl CryptoRng,
    contact: &FirstContact<'_>,
    ring: Ring,
    secret: &EpochSecret,
) -> Result<Vec<u8>, ChannelError> {
    let payload = Zeroizing::new(
        [
            CONTEXT.as_slice(),
            contact.my_device.as_bytes(),
            &[ring.code()],
            secret.id().as_bytes(),
            secret.export_secret().as_slice(),
        ]
        .concat(),
    );
    Ok(first_flight::write(rng, contact, &payload)?.encoded)
}

/// Opens a grant with the secrets of the bundle it names.
///
/// # Errors
/// See [`ChannelError`]; [`ChannelError::Form`] also when the epoch's id is not that of its secret.
pub fn open_grant(
    secrets: &BundleSecrets,
    org: &OrgId,
    my_device: &DeviceId,
    encoded: &[u8],
) -> Result<Grant, ChannelError> {
    if encoded.len() != GRANT_BYTES {
        return Err(ChannelError::Malformed);
    }
    let read = first_flight::read(secrets, org, my_device, encoded)?;
    let rest = read.payload.strip_prefix(CONTEXT).ok_or(ChannelError::Form)?;
    let (from, rest) = rest.split_first_chunk::<32>().ok_or(ChannelError::Form)?;
    let ([ring], rest) = rest.split_first_chunk::<1>().ok_or(ChannelError::Form)?;
    let (id, rest) = rest.split_first_chunk::<16>().ok_or(ChannelError::Form)?;
    let secret = EpochSecret::from_secret(rest.try_into().map_err(|_| ChannelError::Form)?);
    if secret.id() != EpochId::from(*id) {
        return Err(ChannelError::Form);
    }
    Ok(Grant {
        from: (*from).into(),
        dnk: read.dnk,
        ring: Ring::from_code(*ring).ok_or(ChannelError::Form)?,
        secret,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bundle::{Bundle, BundleFields, OlmAccount};
    use crate::dh::DhSecret;
    use oob_proto::Incarnation;
    use rand::{SeedableRng, rngs::StdRng};

    /// A member may say anything inside a grant; what does not fit together is not an epoch.
    #[test]
    fn a_grant_whose_parts_do_not_fit_is_refused() {
        let mut rng = StdRng::seed_from_u64(1);
        let (org, dana, noor) =
            (OrgId::from([1; 32]), DeviceId::from([2; 32]), DeviceId::from([3; 32]));
        let fields = BundleFields {
            device: noor,
            seq: 0,
            not_after: 0,
            incarnation: Incarnation(1),
            record_seq: 2,
        };
        let (payload, secrets) =
            BundleSecrets::generate(&mut rng, &OlmAccount::generate(), &fields);
        let bundle = Bundle::parse(&payload).unwrap();
        let dnk = DhSecret::generate(&mut rng);
        let contact =
            FirstContact { org: &org, my_dnk: &dnk, my_device: &dana, to: &noor, bundle: &bundle };
        let id = EpochSecret::from_secret(&[7; 32]).id();
        let mut open = |context: &[u8], ring: u8, id: &[u8; 16]| {
            let payload = [context, dana.as_bytes(), &[ring], id, &[7; 32]].concat();
            let encoded = first_flight::write(&mut rng, &contact, &payload).unwrap().encoded;
            open_grant(&secrets, &org, &noor, &encoded).map(|grant| grant.ring)
        };
        assert_eq!(open(CONTEXT, 1, id.as_bytes()), Ok(Ring::Audience), "control");
        assert_eq!(open(CONTEXT, 1, &[0; 16]), Err(ChannelError::Form));
        assert_eq!(open(CONTEXT, 2, id.as_bytes()), Err(ChannelError::Form));
        assert_eq!(open(b"oob/1 other\0", 1, id.as_bytes()), Err(ChannelError::Form));
        assert_eq!(open(b"oob/1 gran\0", 1, id.as_bytes()), Err(ChannelError::Malformed));
    }
}
