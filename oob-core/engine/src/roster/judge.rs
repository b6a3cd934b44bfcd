//! From the set of operations to who is in the organisation: a function of the set alone, never of the order they
//! came in or of anybody's clock (docs/protocol.md, section 3.3).
//!
//! One pass in the order (lamport, hash), which puts every operation behind its past and is the same everywhere. An
//! operation stands if its author may write it by what stands in its past, and if nothing that stands before it in
//! that order holds what it claims. Only what stands can take a place from anything: a claim that fails harms nobody.
//! Claims are made to keys that signed them (DSK and transport key); the same request in two operations is one claim.
//! Removals are found first: what they cut off does not stand, wherever it is in the order.

use super::{
    claim::{CertifiedDevice, Claim, DeviceKeys, JoinClaim},
    log::{Entry, Log},
    removal::{Cuts, Removals},
};
use crate::{
    model::{Device, Member, Name, RangeSet, Ring, Role},
    snapshot::RosterView,
};
use oob_crypto::{PublicKey, member_id};
use oob_proto::{
    DeviceId, DeviceShort, EpochId, Incarnation, MemberId, OpHash, OrgId, TransportKey, limits,
    wire::{self, op_body::Kind},
};
use std::collections::{BTreeMap, BTreeSet, btree_map};

/// Who is in the organisation, and what else its log says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Roster {
    pub(crate) view: RosterView,
    pub(crate) name: Option<Name>,
    pub(crate) invites: BTreeMap<OpHash, InviteFact>,
    /// The operations that made each device: more than one where two admitters took the same request.
    pub(crate) made_by: BTreeMap<DeviceId, Vec<OpHash>>,
    /// The operations that announced each epoch.
    pub(crate) epochs: BTreeMap<(Ring, EpochId), Vec<OpHash>>,
    /// Devices that stood and were taken out.
    pub(crate) former: BTreeMap<DeviceId, Device>,
    /// What still stands of them.
    pub(crate) removed: BTreeMap<DeviceId, Removed>,
}

/// The removal of a device that stood.
#[derive(Debug, Clone)]
pub(crate) struct Removed {
    /// Removals that stand.
    pub(crate) ops: Vec<OpHash>,
    pub(crate) cuts: Cuts,
    /// An admin is among those who removed it.
    pub(crate) by_admin: bool,
}

impl Removed {
    /// Whether a record of the device, envelope or certificate, still stands.
    pub(crate) fn record_stands(&self, life: Incarnation, seq: u64) -> bool {
        self.cuts.get(&life).is_some_and(|cut| cut.records.contains(seq))
    }
}

/// A standing invitation and the devices it admitted.
#[derive(Debug, Clone)]
pub(crate) struct InviteFact {
    pub(crate) key: PublicKey,
    pub(crate) role: Role,
    pub(crate) expires_ms: u64,
    pub(crate) uses: u32,
    pub(crate) name: Option<Name>,
    pub(crate) redeemed: Vec<DeviceId>,
}

/// Judges the whole log.
pub(crate) fn judge(log: &Log, version: u64) -> Roster {
    let mut pass = Pass::new(log);
    for (hash, entry) in log.ordered() {
        pass.take(hash, entry);
    }
    let mut roster = pass.roster;
    roster.view.version = version;
    roster
}

/// The pass under way.
struct Pass<'a> {
    log: &'a Log,
    removals: Removals,
    roster: Roster,
    admins: BTreeMap<PublicKey, Option<PublicKey>>,
    /// The operations that made each person.
    persons: BTreeMap<MemberId, Vec<OpHash>>,
    by_dsk: BTreeMap<PublicKey, DeviceId>,
    transports: BTreeSet<TransportKey>,
    shorts: BTreeSet<DeviceShort>,
    policy_round: Option<u64>,
}

/// A device that an operation adds.
struct Addition<'a> {
    member: MemberId,
    uik: PublicKey,
    keys: &'a DeviceKeys,
    /// Name of a new person.
    name: Option<&'a Name>,
}

impl<'a> Pass<'a> {
    fn new(log: &'a Log) -> Self {
        Self {
            log,
            removals: Removals::of(log),
            roster: Roster::default(),
            admins: BTreeMap::new(),
            persons: BTreeMap::new(),
            by_dsk: BTreeMap::new(),
            transports: BTreeSet::new(),
            shorts: BTreeSet::new(),
            policy_round: None,
        }
    }

    fn take(&mut self, hash: &OpHash, entry: &Entry) {
        let author = &entry.header.author;
        let by_admin = self.admins.contains_key(author);
        let alone = self.admins.len() == 1;
        match (&entry.body, entry.claim.as_deref()) {
            (Some(Kind::Genesis(genesis)), _) => self.genesis(genesis),
            (Some(Kind::Member(member)), _) if by_admin && alone => self.member(hash, member),
            (Some(Kind::Policy(policy)), _) if by_admin && alone => self.policy(policy),
            (Some(Kind::Invite(invite)), _) if by_admin => {
                if let Some(fact) = invite_fact(invite) {
                    self.roster.invites.insert(*hash, fact);
                }
            }
            (Some(Kind::Device(_)), Some(Claim::Device(certified))) => {
                self.device(hash, author, certified)
            }
            (Some(Kind::InviteRedeemed(_)), Some(Claim::Join(claim))) => {
                self.redeemed(hash, entry, claim)
            }
            (Some(Kind::EpochKey(epoch)), _) => self.epoch(hash, author, epoch),
            // Only an admin's word can tell that this version is too old to judge.
            (None, _) => self.roster.view.update_needed |= entry.header.critical && by_admin,
            _ => {}
        }
    }

    fn genesis(&mut self, genesis: &wire::Genesis) {
        let admins = genesis.admins.iter().filter_map(|admin| {
            Some((PublicKey::parse(&admin.key).ok()?, PublicKey::parse(&admin.uik).ok()))
        });
        self.admins.extend(admins);
    }

    fn member(&mut self, hash: &OpHash, member: &wire::Member) {
        let (Ok(uik), Ok(name)) = (PublicKey::parse(&member.uik), Name::parse(&member.name)) else {
            return;
        };
        let id = member_id(self.log.org(), &uik);
        self.persons.entry(id).or_default().push(*hash);
        let mut roles = vec![Role::Responder];
        if self.admins.values().flatten().any(|admin| *admin == uik) {
            roles.push(Role::Admin);
        }
        self.roster.view.members.entry(id).or_insert(Member {
            id,
            uik,
            name,
            roles,
            devices: Vec::new(),
        });
    }

    /// The higher round; of two equal ones the first in order.
    fn policy(&mut self, policy: &wire::Policy) {
        let Ok(name) = Name::parse(&policy.org_name) else { return };
        if self.policy_round.is_none_or(|round| policy.round > round) {
            self.policy_round = Some(policy.round);
            self.roster.name = Some(name);
        }
    }

    fn device(&mut self, hash: &OpHash, uik: &PublicKey, certified: &CertifiedDevice) {
        let member = member_id(self.log.org(), uik);
        let known = self.persons.get(&member).is_some_and(|made| self.any_before(made, hash));
        let stands = self.removals.person_stands(self.log, uik, hash);
        if certified.member == member && known && stands {
            self.add(hash, &Addition { member, uik: *uik, keys: &certified.keys, name: None });
        }
    }

    fn redeemed(&mut self, hash: &OpHash, entry: &Entry, claim: &JoinClaim) {
        let Some(fact) = self.roster.invites.get(&claim.invite) else { return };
        let stands = claim.invite_key == fact.key
            && fact.role == Role::Responder
            && entry.header.time_ms <= fact.expires_ms
            && fact.name.as_ref().is_none_or(|name| name.resembles(claim.name.as_str()))
            && self.log.is_before(&claim.invite, hash)
            && self.is_device(&entry.header.author, hash);
        let again = fact.redeemed.contains(&claim.keys.id);
        let room = fact.redeemed.len() < usize::try_from(fact.uses).unwrap_or(usize::MAX);
        if !stands || !(again || room) {
            return;
        }
        let member = member_id(self.log.org(), &claim.uik);
        let addition =
            Addition { member, uik: claim.uik, keys: &claim.keys, name: Some(&claim.name) };
        let added = self.add(hash, &addition);
        if added
            && !again
            && let Some(fact) = self.roster.invites.get_mut(&claim.invite)
        {
            fact.redeemed.push(claim.keys.id);
        }
    }

    fn epoch(&mut self, hash: &OpHash, author: &PublicKey, epoch: &wire::EpochKey) {
        let ring = u8::try_from(epoch.ring).ok().and_then(Ring::from_code);
        let (Some(ring), Ok(id)) = (ring, EpochId::try_from(epoch.epoch_id.as_slice())) else {
            return;
        };
        if self.is_device(author, hash) {
            self.roster.epochs.entry((ring, id)).or_default().push(*hash);
        }
    }

    /// Whether a key is that of a standing device, made in the past of an operation, or of a removed one that had
    /// written this operation before.
    fn is_device(&self, dsk: &PublicKey, hash: &OpHash) -> bool {
        let Some(id) = self.by_dsk.get(dsk) else { return false };
        let made = self.roster.made_by.get(id);
        made.is_some_and(|made| self.any_before(made, hash))
            && self.removals.device_stands(self.log, id, hash)
    }

    fn any_before(&self, ops: &[OpHash], hash: &OpHash) -> bool {
        ops.iter().any(|op| self.log.is_before(op, hash))
    }

    /// Adds a device if nothing that stands holds its keys; returns whether the operation stands.
    fn add(&mut self, hash: &OpHash, addition: &Addition<'_>) -> bool {
        let Addition { member, uik, keys, name } = addition;
        let transport = keys.transport_key();
        let removal = self.removals.of_device(&keys.id);
        let known = self.roster.view.devices.get(&keys.id);
        if let Some(known) = known.or_else(|| self.roster.former.get(&keys.id)) {
            let same =
                known.member == *member && known.transport == transport && known.dnk == keys.dnk;
            if same {
                self.roster.made_by.entry(keys.id).or_default().push(*hash);
                self.persons.entry(*member).or_default().push(*hash);
            }
            return same;
        }
        if self.transports.contains(&transport) || self.shorts.contains(&keys.id.short()) {
            return false;
        }
        // Out is out: what a removed device signed with comes back under no other id.
        if removal.is_none() && self.removals.holds(&transport, keys.id.short()) {
            return false;
        }
        let person = match (self.roster.view.members.entry(*member), name) {
            (btree_map::Entry::Occupied(entry), _) => entry.into_mut(),
            (btree_map::Entry::Vacant(entry), Some(name)) => entry.insert(Member {
                id: *member,
                uik: *uik,
                name: (*name).clone(),
                roles: vec![Role::Responder],
                devices: Vec::new(),
            }),
            (btree_map::Entry::Vacant(_), None) => return false,
        };
        if removal.is_none() {
            if person.devices.len() >= limits::DEVICES_PER_MEMBER {
                return false;
            }
            person.devices.push(keys.id);
            person.devices.sort_unstable();
        }
        self.persons.entry(*member).or_default().push(*hash);
        self.roster.made_by.entry(keys.id).or_default().push(*hash);
        self.by_dsk.insert(keys.dsk, keys.id);
        self.transports.insert(transport);
        self.shorts.insert(keys.id.short());
        let device = Device {
            id: keys.id,
            member: *member,
            dsk: keys.dsk,
            dnk: keys.dnk,
            olm_id: keys.olm_id,
            transport,
            class: keys.class,
            site: keys.site.clone(),
        };
        match removal {
            None => {
                self.roster.view.devices.insert(keys.id, device);
            }
            Some(removal) => {
                let removed = Removed {
                    ops: removal.ops.clone(),
                    cuts: removal.cuts.clone(),
                    by_admin: removal.by_admin,
                };
                self.roster.removed.insert(keys.id, removed);
                self.roster.former.insert(keys.id, device);
            }
        }
        true
    }
}

impl Roster {
    /// The hash an epoch names: who was in when it was made.
    pub(crate) fn hash(&self, org: &OrgId) -> [u8; 32] {
        let mut bytes = [b"oob/1 roster\0".as_slice(), org.as_bytes()].concat();
        for (id, device) in &self.view.devices {
            let roles = self
                .view
                .members
                .get(&device.member)
                .map(|member| member.roles.as_slice())
                .unwrap_or_default();
            let bits = roles
                .iter()
                .fold(0u16, |bits, role| bits | 1u16.checked_shl(role.code()).unwrap_or(0));
            bytes.extend_from_slice(id.as_bytes());
            bytes.extend_from_slice(device.member.as_bytes());
            bytes.push(Ring::Core.code());
            bytes.extend_from_slice(&bits.to_be_bytes());
        }
        oob_crypto::sha256(&bytes)
    }

    /// The device of a record, if it stands: one of the roster, or one taken out that had written this record before.
    pub(crate) fn author_of(
        &self,
        device: &DeviceId,
        life: Incarnation,
        seq: u64,
    ) -> Option<&Device> {
        self.view.devices.get(device).or_else(|| {
            let stands = self.removed.get(device)?.record_stands(life, seq);
            self.former.get(device).filter(|_| stands)
        })
    }

    /// The records that stand of each life of each device taken out.
    pub(crate) fn record_cuts(&self) -> BTreeMap<DeviceId, BTreeMap<Incarnation, RangeSet>> {
        let lives = |removed: &Removed| {
            removed.cuts.iter().map(|(life, cut)| (*life, cut.records.clone())).collect()
        };
        self.removed.iter().map(|(device, removed)| (*device, lives(removed))).collect()
    }

    /// All devices, those taken out behind those that stand.
    pub(crate) fn with_former(&self) -> impl Iterator<Item = &Device> {
        self.view.devices.values().chain(self.former.values())
    }

    pub(crate) fn by_transport(&self, key: &TransportKey) -> Option<&Device> {
        self.view.by_transport(key)
    }
}

fn invite_fact(invite: &wire::Invite) -> Option<InviteFact> {
    let name = if invite.name.is_empty() { None } else { Some(Name::parse(&invite.name).ok()?) };
    Some(InviteFact {
        key: PublicKey::parse(&invite.invite_key).ok()?,
        role: Role::from_code(invite.role)?,
        expires_ms: invite.expires,
        uses: invite.uses,
        name,
        redeemed: Vec::new(),
    })
}
