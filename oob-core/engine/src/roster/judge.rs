//! From the set of operations to who is in the organisation: a function of the set alone, never of the order they
//! came in or of anybody's clock (docs/protocol.md, section 3.3).
//!
//! One pass in the order (lamport, hash), which puts every operation behind its past and is the same everywhere. An
//! operation stands if its author may write it by what stands in its past, and if nothing that stands before it in
//! that order holds what it claims. Only what stands can take a place from anything: a claim that fails harms nobody.
//! Claims are made to keys that signed them (DSK and transport key); the same request in two operations is one claim.
//! Who the admins are, and what enough of them signed, is found first (`council.rs`); then removals: what they cut off does not
//! stand, wherever it is in the order.

use super::{
    claim::{CertifiedDevice, Claim, DeviceKeys, JoinClaim, OfferClaim},
    council::{AdminSet, Council},
    log::{Entry, Log},
    removal::{Cuts, Removals},
};
use crate::{
    model::{Change, CouncilView, Device, Member, Name, Proposal, RangeSet, Ring, Role, Seat},
    snapshot::RosterView,
};
use oob_crypto::{PublicKey, member_id};
use oob_proto::{
    DeviceId, DeviceShort, EpochId, Incarnation, MemberId, OpHash, OrgId, TransportKey, limits,
    wire::{self, op_body::Kind},
};
use std::{
    collections::{BTreeMap, BTreeSet, btree_map},
    sync::Arc,
};

/// Policies one key may propose: each is compared with those before it.
const POLICIES: usize = 256;

/// Proposals shown of each admin, the newest.
const PROPOSALS: usize = 8;

/// Who is in the organisation, and what else its log says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Roster {
    pub(crate) view: RosterView,
    pub(crate) name: Option<Name>,
    pub(crate) council: Council,
    /// The highest round of any policy by an admin.
    pub(crate) highest_policy: u64,
    /// Keys that people would be admins with: whose, and what stands on the paper.
    pub(crate) offers: BTreeMap<PublicKey, Offer>,
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

/// A key that somebody would be an admin with, or wrote on paper.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) member: MemberId,
    /// Of all offers that stand, in the order of the log.
    pub(crate) number: usize,
    /// None where the key lies on the device.
    pub(crate) paper: Option<Name>,
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
    let view = pass.council_view();
    let Pass { mut roster, council, policies, .. } = pass;
    roster.highest_policy = policies.iter().map(|(_, round, _)| *round).max().unwrap_or(0);
    roster.view.version = version;
    roster.view.council = Arc::new(view);
    roster.council = council;
    roster
}

/// The pass under way.
struct Pass<'a> {
    log: &'a Log,
    council: Council,
    removals: Removals,
    roster: Roster,
    /// The operations that made each person.
    persons: BTreeMap<MemberId, Vec<OpHash>>,
    by_dsk: BTreeMap<PublicKey, DeviceId>,
    transports: BTreeSet<TransportKey>,
    shorts: BTreeSet<DeviceShort>,
    policy_round: Option<u64>,
    /// Policies by admins, signed by enough or not.
    policies: Vec<(OpHash, u64, PublicKey)>,
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
        let council = Council::of(log);
        Self {
            log,
            removals: Removals::of(log, &council),
            council,
            roster: Roster::default(),
            persons: BTreeMap::new(),
            by_dsk: BTreeMap::new(),
            transports: BTreeSet::new(),
            shorts: BTreeSet::new(),
            policy_round: None,
            policies: Vec::new(),
        }
    }

    fn take(&mut self, hash: &OpHash, entry: &Entry) {
        let author = &entry.header.author;
        let (log, council) = (self.log, &self.council);
        match (&entry.body, entry.claim.as_deref()) {
            (Some(Kind::Member(member)), _) if council.is_only_admins(log, hash, entry) => {
                self.member(hash, member)
            }
            (Some(Kind::Policy(policy)), _) => self.policy(hash, entry, policy),
            (Some(Kind::Invite(invite)), _) if council.is_admins(log, hash, entry) => {
                if let Some(fact) = invite_fact(invite) {
                    self.roster.invites.insert(*hash, fact);
                }
            }
            (_, Some(Claim::Offer(claim))) => self.offer(hash, author, claim),
            (Some(Kind::Device(_)), Some(Claim::Device(certified))) => {
                self.device(hash, author, certified)
            }
            (Some(Kind::InviteRedeemed(_)), Some(Claim::Join(claim))) => {
                self.redeemed(hash, entry, claim)
            }
            (Some(Kind::EpochKey(epoch)), _) => self.epoch(hash, author, epoch),
            // Only an admin's word can tell that this version is too old to judge.
            (None, _) if entry.header.critical && council.is_admins(log, hash, entry) => {
                self.roster.view.update_needed = true;
            }
            _ => {}
        }
    }

    /// What people see of who decides.
    fn council_view(&self) -> CouncilView {
        let Some(office) = self.council.in_office() else { return CouncilView::default() };
        let policies: BTreeMap<OpHash, u64> =
            self.policies.iter().map(|(op, round, _)| (*op, *round)).collect();
        let open =
            |op: &OpHash| self.policy_round.is_none_or(|round| policies.get(op) > Some(&round));
        let mut proposals = Vec::new();
        // A few of each, so that nobody hides the others' behind their own.
        let mut left: BTreeMap<PublicKey, usize> =
            office.seats.keys().map(|key| (*key, PROPOSALS)).collect();
        for (hash, entry) in self.log.ordered().rev() {
            let Some(left) = left.get_mut(&entry.header.author).filter(|left| **left > 0) else {
                continue;
            };
            let change = match (&entry.body, entry.claim.as_deref()) {
                (_, Some(Claim::Set(set))) if self.council.is_open(hash) => Some(Change::Admins {
                    k: set.k,
                    round: set.round,
                    seats: set
                        .seats
                        .iter()
                        .map(|(key, uik)| self.seat(key, uik.as_ref()))
                        .collect(),
                }),
                (Some(Kind::Policy(policy)), _) if policies.contains_key(hash) && open(hash) => {
                    Name::parse(&policy.org_name).ok().map(Change::Name)
                }
                _ => None,
            };
            if let Some(change) = change {
                let author = &entry.header.author;
                let mut signed = self.council.signed_by(hash, author);
                signed.remove(author);
                let signed = [*author].into_iter().chain(signed).collect();
                let time_ms = entry.header.time_ms;
                proposals.push(Proposal { op: *hash, time_ms, change, signed });
                *left = left.saturating_sub(1);
            }
        }
        proposals.reverse();
        let mut offers: Vec<(usize, Seat)> = self
            .roster
            .offers
            .iter()
            .filter(|(key, _)| !office.seats.contains_key(key) && !self.council.was_used(key))
            .map(|(key, offer)| (offer.number, self.seat(key, None)))
            .collect();
        offers.sort_by_key(|(number, _)| *number);
        CouncilView {
            seats: self.seats(office),
            k: office.k,
            proposals,
            offers: offers.into_iter().map(|(_, seat)| seat).collect(),
        }
    }

    fn seats(&self, set: &AdminSet) -> Vec<Seat> {
        set.seats.iter().map(|(key, uik)| self.seat(key, uik.as_ref())).collect()
    }

    fn seat(&self, key: &PublicKey, uik: Option<&PublicKey>) -> Seat {
        let offer = self.roster.offers.get(key);
        let paper = offer.and_then(|offer| offer.paper.clone());
        let holder = uik.map(|uik| member_id(self.log.org(), uik));
        let offered = offer.filter(|offer| offer.paper.is_none()).map(|offer| offer.member);
        let known = match (&holder, offer) {
            (Some(_), _) => offered.is_some() && offered == holder,
            (None, Some(offer)) => offer.paper.is_some(),
            (None, None) => false,
        };
        Seat { key: *key, member: holder.or(offered), paper, offered: known }
    }

    /// What a new person may do.
    fn roles(&self, uik: &PublicKey) -> Vec<Role> {
        let mut roles = vec![Role::Responder];
        if self
            .council
            .in_office()
            .is_some_and(|set| set.seats.values().flatten().any(|of| of == uik))
        {
            roles.push(Role::Admin);
        }
        roles
    }

    fn member(&mut self, hash: &OpHash, member: &wire::Member) {
        let (Ok(uik), Ok(name)) = (PublicKey::parse(&member.uik), Name::parse(&member.name)) else {
            return;
        };
        let id = member_id(self.log.org(), &uik);
        self.persons.entry(id).or_default().push(*hash);
        let roles = self.roles(&uik);
        self.roster.view.members.entry(id).or_insert(Member {
            id,
            uik,
            name,
            roles,
            devices: Vec::new(),
        });
    }

    /// The higher round; of two equal ones the first in order. One round after the other, so that nobody takes the last there is.
    fn policy(&mut self, hash: &OpHash, entry: &Entry, policy: &wire::Policy) {
        let Ok(name) = Name::parse(&policy.org_name) else { return };
        if !self.council.is_admins(self.log, hash, entry) {
            return;
        }
        let author = entry.header.author;
        if self.policies.iter().filter(|(_, _, by)| *by == author).count() >= POLICIES {
            return;
        }
        let before = self.policies.iter().filter(|(op, ..)| self.log.is_before(op, hash));
        let highest = before.map(|(_, round, _)| *round).max().unwrap_or(0);
        if policy.round > highest.saturating_add(1) {
            return;
        }
        self.policies.push((*hash, policy.round, author));
        if self.policy_round.is_none_or(|round| policy.round > round)
            && self.council.is_signed(self.log, hash, entry)
        {
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

    /// Of two devices that offer one key the first in order has it.
    fn offer(&mut self, hash: &OpHash, author: &PublicKey, claim: &OfferClaim) {
        let device = self.roster.view.devices.get(&claim.device);
        let Some(device) = device.filter(|device| device.dsk == *author) else { return };
        let number = self.roster.offers.len();
        let offer = Offer { member: device.member, number, paper: claim.paper.clone() };
        if self.is_device(author, hash) {
            self.roster.offers.entry(claim.key).or_insert(offer);
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
        let roles = self.roles(uik);
        let person = match (self.roster.view.members.entry(*member), name) {
            (btree_map::Entry::Occupied(entry), _) => entry.into_mut(),
            (btree_map::Entry::Vacant(entry), Some(name)) => entry.insert(Member {
                id: *member,
                uik: *uik,
                name: (*name).clone(),
                roles,
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
