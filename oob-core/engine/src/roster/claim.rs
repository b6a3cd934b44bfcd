//! What a device says of itself: the certificate of a linked device and the request of a joining one. Both are checked
//! whole, nested signatures too, before anything in them is looked at (docs/protocol.md, sections 3.2 and 5).

use crate::model::{DeviceClass, Name};
use oob_crypto::{Bundle, DhPublic, PublicKey, device_id, signed::verify};
use oob_proto::{
    DeviceId, Incarnation, MemberId, Message, OpHash, OrgId, TransportKey, limits,
    signing::SignedType, wire,
};
use std::{collections::BTreeMap, sync::Arc};

/// A claim did not hold; peers learn nothing more, and neither does the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a device's claim does not hold")]
pub(crate) struct ClaimError;

/// The keys of a device, each of the form it must have.
#[derive(Debug, Clone)]
pub(crate) struct DeviceKeys {
    pub(crate) id: DeviceId,
    pub(crate) dsk: PublicKey,
    pub(crate) dnk: DhPublic,
    pub(crate) olm_id: [u8; 32],
    pub(crate) transport: PublicKey,
    pub(crate) class: DeviceClass,
    pub(crate) site: String,
}

impl DeviceKeys {
    pub(crate) fn transport_key(&self) -> TransportKey {
        TransportKey::from(*self.transport.as_bytes())
    }

    fn parse(
        dsk: &[u8],
        dnk: &[u8],
        olm_id: &[u8],
        transport: &[u8],
        class: u32,
        site: &str,
    ) -> Result<Self, ClaimError> {
        let dsk = PublicKey::parse(dsk).map_err(|_| ClaimError)?;
        let site = if site.is_empty() {
            String::new()
        } else {
            Name::parse(site).map_err(|_| ClaimError)?.as_str().to_owned()
        };
        // Olm keys are X25519 keys too; a low-order one would make every secret known.
        DhPublic::parse(olm_id).map_err(|_| ClaimError)?;
        Ok(Self {
            id: device_id(&dsk),
            dsk,
            dnk: DhPublic::parse(dnk).map_err(|_| ClaimError)?,
            olm_id: olm_id.try_into().map_err(|_| ClaimError)?,
            transport: PublicKey::parse(transport).map_err(|_| ClaimError)?,
            class: DeviceClass::from_code(class),
            site,
        })
    }
}

/// A certificate whose three signatures hold.
#[derive(Debug, Clone)]
pub(crate) struct CertifiedDevice {
    pub(crate) member: MemberId,
    pub(crate) keys: DeviceKeys,
}

impl CertifiedDevice {
    pub(crate) fn parse(
        org: &OrgId,
        uik: &PublicKey,
        signed: &wire::Signed,
    ) -> Result<Self, ClaimError> {
        let raw = wire::DeviceCert::decode(signed.payload.as_slice()).map_err(|_| ClaimError)?;
        let keys = DeviceKeys::parse(
            &raw.dsk,
            &raw.dnk,
            &raw.olm_id,
            &raw.transport_key,
            raw.class,
            &raw.site,
        )?;
        verify(SignedType::Device, org, signed, &[*uik, keys.dsk, keys.transport])
            .map_err(|_| ClaimError)?;
        let member = MemberId::try_from(raw.member.as_slice()).map_err(|_| ClaimError)?;
        Ok(Self { member, keys })
    }
}

/// A join request whose four signatures, bundle and relay certificate hold. Whether its invite key is that of an
/// invitation is for the roster to say.
#[derive(Debug, Clone)]
pub(crate) struct JoinClaim {
    pub(crate) invite: OpHash,
    pub(crate) invite_key: PublicKey,
    pub(crate) uik: PublicKey,
    pub(crate) keys: DeviceKeys,
    pub(crate) name: Name,
    pub(crate) handshake_hash: [u8; 32],
    pub(crate) bundle: wire::Signed,
    pub(crate) relay_cert: wire::Signed,
}

impl JoinClaim {
    pub(crate) fn parse(org: &OrgId, signed: &wire::Signed) -> Result<Self, ClaimError> {
        let raw = wire::JoinRequest::decode(signed.payload.as_slice()).map_err(|_| ClaimError)?;
        let keys = DeviceKeys::parse(
            &raw.dsk,
            &raw.dnk,
            &raw.olm_id,
            &raw.transport_key,
            raw.class,
            &raw.site,
        )?;
        let uik = PublicKey::parse(&raw.uik).map_err(|_| ClaimError)?;
        let first = signed.sigs.first().ok_or(ClaimError)?;
        let invite_key = PublicKey::parse(&first.key).map_err(|_| ClaimError)?;
        verify(SignedType::Join, org, signed, &[invite_key, uik, keys.dsk, keys.transport])
            .map_err(|_| ClaimError)?;
        let bundle = raw.bundle.ok_or(ClaimError)?;
        let relay_cert = raw.relay_cert.ok_or(ClaimError)?;
        BundleClaim::parse(org, &keys.dsk, &keys.olm_id, &bundle)?;
        RelayClaim::parse(org, &keys.dsk, &relay_cert)?;
        Ok(Self {
            invite: OpHash::try_from(raw.invite.as_slice()).map_err(|_| ClaimError)?,
            invite_key,
            uik,
            keys,
            name: Name::parse(&raw.name).map_err(|_| ClaimError)?,
            handshake_hash: raw.handshake_hash.as_slice().try_into().map_err(|_| ClaimError)?,
            bundle,
            relay_cert,
        })
    }
}

/// Admins of one set, paper counted.
pub(crate) const ADMINS: usize = 32;

/// The keys of admins, and the identity key of who holds each; none for paper.
pub(crate) type Seats = BTreeMap<PublicKey, Option<PublicKey>>;

/// Reads the admins of a set; none if one is no key, is there twice, or they are too many.
pub(crate) fn seats(admins: &[wire::Admin]) -> Result<Arc<Seats>, ClaimError> {
    if admins.is_empty() || admins.len() > ADMINS {
        return Err(ClaimError);
    }
    let mut seats = BTreeMap::new();
    for admin in admins {
        let uik = match admin.uik.is_empty() {
            true => None,
            false => Some(PublicKey::parse(&admin.uik).map_err(|_| ClaimError)?),
        };
        let key = PublicKey::parse(&admin.key).map_err(|_| ClaimError)?;
        if seats.insert(key, uik).is_some() {
            return Err(ClaimError);
        }
    }
    Ok(Arc::new(seats))
}

/// A set of admins as somebody proposed it, of the form it must have. Whether enough signed it is for the council to say.
#[derive(Debug, Clone)]
pub(crate) struct SetClaim {
    pub(crate) base: OpHash,
    pub(crate) round: u64,
    pub(crate) k: usize,
    pub(crate) seats: Arc<Seats>,
    /// Of keys that go, how many operations of each life stand.
    pub(crate) cuts: BTreeMap<PublicKey, BTreeMap<Incarnation, u64>>,
}

impl SetClaim {
    fn parse(set: &wire::AdminSet) -> Result<Self, ClaimError> {
        let seats = seats(&set.admins)?;
        let k = usize::try_from(set.k).map_err(|_| ClaimError)?;
        let enough = match seats.len() {
            1 => k == 1,
            2 => false,
            n => k > n / 2 && k < n,
        };
        if set.round == 0 || !enough || set.cuts.len() > ADMINS {
            return Err(ClaimError);
        }
        let mut cuts = BTreeMap::new();
        for cut in &set.cuts {
            let key = PublicKey::parse(&cut.key).map_err(|_| ClaimError)?;
            let lives: BTreeMap<Incarnation, u64> =
                cut.lives.iter().map(|life| (Incarnation(life.incarnation), life.ops)).collect();
            if lives.len() != cut.lives.len() || cuts.insert(key, lives).is_some() {
                return Err(ClaimError);
            }
        }
        let base = OpHash::try_from(set.base.as_slice()).map_err(|_| ClaimError)?;
        Ok(Self { base, round: set.round, k, seats, cuts })
    }
}

/// A key that a device offers, to be an admin's, whose signature holds.
#[derive(Debug, Clone)]
pub(crate) struct OfferClaim {
    pub(crate) key: PublicKey,
    pub(crate) device: DeviceId,
    /// What stands on the paper; none where the key lies on the device.
    pub(crate) paper: Option<Name>,
}

impl OfferClaim {
    fn parse(org: &OrgId, signed: &wire::Signed) -> Result<Self, ClaimError> {
        let raw = wire::OfferedKey::decode(signed.payload.as_slice()).map_err(|_| ClaimError)?;
        let key = PublicKey::parse(&raw.key).map_err(|_| ClaimError)?;
        verify(SignedType::AdminOffer, org, signed, &[key]).map_err(|_| ClaimError)?;
        let paper = match raw.paper.is_empty() {
            true => None,
            false => Some(Name::parse(&raw.paper).map_err(|_| ClaimError)?),
        };
        let device = DeviceId::try_from(raw.device.as_slice()).map_err(|_| ClaimError)?;
        Ok(Self { key, device, paper })
    }
}

/// A relay certificate whose signature holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RelayClaim {
    pub(crate) incarnation: Incarnation,
    pub(crate) generation: u32,
    pub(crate) rlk: PublicKey,
}

impl RelayClaim {
    pub(crate) fn parse(
        org: &OrgId,
        dsk: &PublicKey,
        signed: &wire::Signed,
    ) -> Result<Self, ClaimError> {
        let raw = wire::RelayCert::decode(signed.payload.as_slice()).map_err(|_| ClaimError)?;
        verify(SignedType::RelayCert, org, signed, &[*dsk]).map_err(|_| ClaimError)?;
        if raw.device != device_id(dsk).as_bytes() {
            return Err(ClaimError);
        }
        Self::read(signed).ok_or(ClaimError)
    }

    /// Reads what a certificate says, before anything is believed.
    pub(crate) fn read(signed: &wire::Signed) -> Option<Self> {
        let raw = wire::RelayCert::decode(signed.payload.as_slice()).ok()?;
        let rlk = PublicKey::parse(&raw.rlk).ok()?;
        Some(Self { incarnation: Incarnation(raw.incarnation), generation: raw.r#gen, rlk })
    }

    /// Reads of which life a certificate is, and its number there, before anything is believed.
    pub(crate) fn record_of(signed: &wire::Signed) -> Option<(Incarnation, u64)> {
        let raw = wire::RelayCert::decode(signed.payload.as_slice()).ok()?;
        Some((Incarnation(raw.incarnation), raw.record_seq))
    }
}

/// A prekey bundle whose signature and keys hold.
#[derive(Debug, Clone)]
pub(crate) struct BundleClaim {
    pub(crate) bundle: Bundle,
    pub(crate) seq: u64,
    pub(crate) incarnation: Incarnation,
}

impl BundleClaim {
    pub(crate) fn parse(
        org: &OrgId,
        dsk: &PublicKey,
        olm_id: &[u8; 32],
        signed: &wire::Signed,
    ) -> Result<Self, ClaimError> {
        if signed.payload.len() > limits::FRAME_BYTES {
            return Err(ClaimError);
        }
        verify(SignedType::Bundle, org, signed, &[*dsk]).map_err(|_| ClaimError)?;
        let bundle = Bundle::parse(&signed.payload).map_err(|_| ClaimError)?;
        let raw = wire::PrekeyBundle::decode(signed.payload.as_slice()).map_err(|_| ClaimError)?;
        if raw.device != device_id(dsk).as_bytes() || raw.olm_id != olm_id {
            return Err(ClaimError);
        }
        Ok(Self { bundle, seq: raw.seq, incarnation: Incarnation(raw.incarnation) })
    }

    /// Reads of which life a bundle is, and its number there, before anything is believed.
    pub(crate) fn record_of(signed: &wire::Signed) -> Option<(Incarnation, u64)> {
        let raw = wire::PrekeyBundle::decode(signed.payload.as_slice()).ok()?;
        Some((Incarnation(raw.incarnation), raw.record_seq))
    }
}

/// What an operation says of a device, checked once when the operation comes in.
#[derive(Debug)]
pub(crate) enum Claim {
    Device(Box<CertifiedDevice>),
    Join(Box<JoinClaim>),
    Offer(Box<OfferClaim>),
    Set(Box<SetClaim>),
}

impl Claim {
    /// Reads the claim in an operation's body; none if there is none, or it does not hold.
    pub(crate) fn of(org: &OrgId, author: &PublicKey, body: &wire::op_body::Kind) -> Option<Self> {
        match body {
            wire::op_body::Kind::Device(device) => {
                CertifiedDevice::parse(org, author, device.certificate.as_ref()?)
                    .ok()
                    .map(|certified| Self::Device(Box::new(certified)))
            }
            wire::op_body::Kind::InviteRedeemed(redeemed) => {
                JoinClaim::parse(org, redeemed.request.as_ref()?)
                    .ok()
                    .filter(|claim| claim.invite.as_bytes() == redeemed.invite.as_slice())
                    .map(|claim| Self::Join(Box::new(claim)))
            }
            wire::op_body::Kind::AdminOffer(offer) => OfferClaim::parse(org, offer.offer.as_ref()?)
                .ok()
                .map(|claim| Self::Offer(Box::new(claim))),
            wire::op_body::Kind::AdminSet(set) => {
                SetClaim::parse(set).ok().map(|claim| Self::Set(Box::new(claim)))
            }
            _ => None,
        }
    }
}
