//! Writing operations of this device's own.

use super::{
    Organisation,
    op::{Circle, Draft, OpError, write},
};
use crate::{
    cx::Cx,
    model::{Name, Ring},
    own::{Identity, Life},
};
use oob_crypto::{EpochSecret, SigningKey, member_id, op_hash, signed::sign};
use oob_proto::{
    EpochId, Incarnation, Message, OpHash, OrgId, limits,
    signing::SignedType,
    wire::{self, op_body::Kind},
};
use rand_core::Rng as _;

/// Writes one operation at the heads of the log and stores it in the pending batch.
pub(crate) fn author(
    cx: &mut Cx<'_>,
    organisation: &mut Organisation,
    incarnation: Incarnation,
    by: &SigningKey,
    circle: Circle,
    body: Kind,
) -> Result<(OpHash, wire::Op), OpError> {
    let key = by.public();
    let (self_prev, seq) = match organisation.log.chain_end(&key, incarnation) {
        Some((hash, seq, life)) if life == incarnation => (Some(hash), seq.saturating_add(1)),
        Some((hash, _, _)) => (Some(hash), 0),
        None => (None, 0),
    };
    let heads = organisation.heads().iter().filter(|head| Some(**head) != self_prev);
    // More heads than one operation may name are joined by the next ones.
    let prev: Vec<OpHash> = heads.copied().take(limits::OP_PARENTS).collect();
    let parents = self_prev.iter().chain(&prev);
    let lamport = parents
        .filter_map(|hash| organisation.log.get(hash))
        .map(|entry| entry.header.lamport)
        .max();
    let draft = Draft {
        incarnation,
        seq,
        self_prev,
        prev,
        lamport: lamport.map_or(0, |lamport| lamport.saturating_add(1)),
        time_ms: cx.now.wall_ms,
        circle,
        body,
        author: by,
    };
    let op = write(Some(&organisation.id), draft);
    let hash = organisation.learn(cx, &op)?.ok_or(OpError::Chain)?;
    Ok((hash, op))
}

/// Announces an epoch of a ring, which follows those that none follows yet, for who is in it now.
pub(crate) fn announce(
    cx: &mut Cx<'_>,
    organisation: &mut Organisation,
    incarnation: Incarnation,
    dsk: &SigningKey,
    ring: Ring,
    id: EpochId,
) -> Result<OpHash, OpError> {
    let parents = organisation.newest_epochs(ring);
    let key = Kind::EpochKey(wire::EpochKey {
        ring: u32::from(ring.code()),
        epoch_id: id.to_vec(),
        parents: parents.iter().take(limits::OP_PARENTS).map(EpochId::to_vec).collect(),
        roster_hash: organisation.roster().hash(&organisation.id).to_vec(),
    });
    let circle = match ring {
        Ring::Core => Circle::Core,
        Ring::Audience => Circle::All,
    };
    let (hash, _) = author(cx, organisation, incarnation, dsk, circle, key)?;
    Ok(hash)
}

/// What founding gives.
pub(crate) struct Founded {
    pub(crate) organisation: Organisation,
    pub(crate) admin: SigningKey,
    /// The operation that made this device.
    pub(crate) device: OpHash,
    pub(crate) epochs: Vec<(Ring, EpochSecret)>,
}

/// Founds an organisation: Genesis with one admin, the person, the policy with its name, the device, and the first
/// epoch of both rings (docs/protocol.md, section 3.4).
pub(crate) fn found(
    cx: &mut Cx<'_>,
    identity: &Identity,
    life: &Life,
    name: &Name,
) -> Result<Founded, OpError> {
    let admin = SigningKey::generate(cx.rng);
    let uik = identity.uik.public();
    let mut salt = vec![0; 16];
    cx.rng.fill_bytes(&mut salt);
    let genesis = Kind::Genesis(wire::Genesis {
        version: u32::from(limits::VERSION),
        k: 1,
        admins: vec![wire::Admin { key: admin.public().to_vec(), uik: uik.to_vec() }],
        salt,
    });
    let incarnation = life.incarnation;
    let genesis = write(
        None,
        Draft {
            incarnation,
            seq: 0,
            self_prev: None,
            prev: Vec::new(),
            lamport: 0,
            time_ms: cx.now.wall_ms,
            circle: Circle::All,
            body: genesis,
            author: &admin,
        },
    );
    let payload =
        genesis.header.as_ref().map(|header| header.payload.as_slice()).unwrap_or_default();
    let org = oob_crypto::org_id_of(&op_hash(payload));
    let mut organisation = Organisation::new(org);
    organisation.learn(cx, &genesis)?;

    let member =
        Kind::Member(wire::Member { uik: uik.to_vec(), name: identity.name.as_str().to_owned() });
    author(cx, &mut organisation, incarnation, &admin, Circle::Core, member)?;
    let policy = Kind::Policy(wire::Policy { round: 1, org_name: name.as_str().to_owned() });
    author(cx, &mut organisation, incarnation, &admin, Circle::Core, policy)?;
    let device = Kind::Device(wire::Device { certificate: Some(certify(&org, identity)) });
    let (device, _) =
        author(cx, &mut organisation, incarnation, &identity.uik, Circle::Core, device)?;
    organisation.refresh();

    let mut epochs = Vec::new();
    for ring in Ring::ALL {
        let secret = EpochSecret::generate(cx.rng);
        announce(cx, &mut organisation, incarnation, &identity.dsk, ring, secret.id())?;
        epochs.push((ring, secret));
    }
    organisation.refresh();
    Ok(Founded { organisation, admin, device, epochs })
}

/// The certificate of this device, by its person.
fn certify(org: &OrgId, identity: &Identity) -> wire::Signed {
    let cert = wire::DeviceCert {
        member: member_id(org, &identity.uik.public()).to_vec(),
        dsk: identity.dsk.public().to_vec(),
        dnk: identity.dnk.public().to_vec(),
        olm_id: identity.olm.identity().to_vec(),
        transport_key: identity.transport.public().to_vec(),
        class: identity.class.code(),
        site: identity.site.clone(),
    };
    sign(
        SignedType::Device,
        org,
        cert.encode_to_vec(),
        &[&identity.uik, &identity.dsk, &identity.transport],
    )
}
