//! From the set of operations to who is in the organisation: a function of the set alone, never of the order they
//! came in or of anybody's clock (docs/protocol.md, section 3.3).
//!
//! Two passes. The first looks at each operation with its past: may its author do this? The second resolves what two
//! operations both claim: of two, the one in the other's past stands, else the one with the lower hash.

use super::{
    claim::{Claim, DeviceKeys},
    log::{Entry, Log},
};
use crate::{
    model::{Device, Member, Name, Ring, Role},
    snapshot::RosterView,
};
use oob_crypto::{PublicKey, member_id};
use oob_proto::{
    DeviceId, EpochId, MemberId, OpHash, OrgId, limits,
    wire::{self, op_body::Kind},
};
use std::collections::{BTreeMap, BTreeSet};

/// Who is in the organisation, and what else its log says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Roster {
    pub(crate) view: RosterView,
    pub(crate) name: Option<Name>,
    pub(crate) admins: Vec<PublicKey>,
    pub(crate) invites: BTreeMap<OpHash, InviteFact>,
    /// The operation that made each device.
    pub(crate) made_by: BTreeMap<DeviceId, OpHash>,
    pub(crate) epochs: BTreeSet<(Ring, EpochId)>,
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

/// One operation that adds a device, past the first pass.
struct Addition {
    op: OpHash,
    member: MemberId,
    uik: PublicKey,
    keys: DeviceKeys,
    /// Name of a new person, and the invitation they came by.
    joined: Option<(Name, OpHash)>,
    /// Device whose owner had to be a member, for a redemption.
    admitter: Option<DeviceId>,
}

/// Judges the whole log.
pub(crate) fn judge(log: &Log, version: u64) -> Roster {
    let mut roster = Roster::default();
    roster.view.version = version;
    roster.view.update_needed =
        log.ordered().any(|(_, entry)| entry.body.is_none() && entry.header.critical);
    let Some((_, Kind::Genesis(genesis))) =
        log.ordered().find_map(|(hash, entry)| Some((hash, entry.body.clone()?)))
    else {
        return roster;
    };
    let admins: BTreeMap<PublicKey, Option<PublicKey>> = genesis
        .admins
        .iter()
        .filter_map(|admin| {
            Some((PublicKey::parse(&admin.key).ok()?, PublicKey::parse(&admin.uik).ok()))
        })
        .collect();
    roster.admins = admins.keys().copied().collect();
    let mut candidates = Candidates::default();
    for (hash, entry) in log.ordered() {
        candidates.take(log, &admins, hash, entry);
    }
    let lost = candidates.conflicts(log);
    candidates.settle(log.org(), &admins, &lost, &mut roster);
    roster
}

/// What the first pass found, in the log's order.
#[derive(Default)]
struct Candidates {
    members: BTreeMap<MemberId, (OpHash, PublicKey, Name)>,
    additions: Vec<Addition>,
    by_dsk: BTreeMap<PublicKey, usize>,
    invites: BTreeMap<OpHash, InviteFact>,
    epochs: Vec<(PublicKey, Ring, EpochId)>,
    policy: Option<(u64, OpHash, Name)>,
}

impl Candidates {
    fn take(
        &mut self,
        log: &Log,
        admins: &BTreeMap<PublicKey, Option<PublicKey>>,
        hash: &OpHash,
        entry: &Entry,
    ) {
        let author = entry.header.author;
        let by_admin = admins.contains_key(&author);
        let alone = admins.len() == 1;
        match &entry.body {
            Some(Kind::Member(member)) if by_admin && alone => {
                let (Ok(uik), Ok(name)) =
                    (PublicKey::parse(&member.uik), Name::parse(&member.name))
                else {
                    return;
                };
                self.members.entry(member_id(log.org(), &uik)).or_insert((*hash, uik, name));
            }
            Some(Kind::Policy(policy)) if by_admin && alone => {
                let Ok(name) = Name::parse(&policy.org_name) else { return };
                // Higher round, then the lower hash.
                let newer = self.policy.as_ref().is_none_or(|(round, old, _)| {
                    (policy.round, std::cmp::Reverse(hash)) > (*round, std::cmp::Reverse(old))
                });
                if newer {
                    self.policy = Some((policy.round, *hash, name));
                }
            }
            Some(Kind::Invite(invite)) if by_admin => {
                if let Some(fact) = invite_fact(invite) {
                    self.invites.insert(*hash, fact);
                }
            }
            Some(Kind::Device(_)) => self.take_device(log, hash, entry),
            Some(Kind::InviteRedeemed(_)) => self.take_redeemed(log, hash, entry),
            Some(Kind::EpochKey(epoch)) => {
                let ring = u8::try_from(epoch.ring).ok().and_then(Ring::from_code);
                if let (Some(ring), Ok(id)) = (ring, EpochId::try_from(epoch.epoch_id.as_slice())) {
                    self.epochs.push((author, ring, id));
                }
            }
            _ => {}
        }
    }

    fn take_device(&mut self, log: &Log, hash: &OpHash, entry: &Entry) {
        let Some(Claim::Device(certified)) = entry.claim.as_deref() else { return };
        // The certificate's member must be the author's, and known in this operation's past.
        let uik = entry.header.author;
        let member = member_id(log.org(), &uik);
        let known = match self.members.get(&member) {
            Some((made, _, _)) => log.is_before(made, hash),
            None => self.additions.iter().any(|a| a.member == member && log.is_before(&a.op, hash)),
        };
        if certified.member != member || !known {
            return;
        }
        self.push(Addition {
            op: *hash,
            member,
            uik,
            keys: certified.keys.clone(),
            joined: None,
            admitter: None,
        });
    }

    fn take_redeemed(&mut self, log: &Log, hash: &OpHash, entry: &Entry) {
        let Some(Claim::Join(claim)) = entry.claim.as_deref() else { return };
        let invite = claim.invite;
        let Some(fact) = self.invites.get(&invite) else { return };
        let Some(admitter) =
            self.by_dsk.get(&entry.header.author).and_then(|i| self.additions.get(*i))
        else {
            return;
        };
        let stands = claim.invite_key == fact.key
            && entry.header.time_ms <= fact.expires_ms
            && fact.name.as_ref().is_none_or(|name| name.resembles(claim.name.as_str()))
            && log.is_before(&invite, hash)
            && log.is_before(&admitter.op, hash);
        if !stands {
            return;
        }
        let admitter = Some(admitter.keys.id);
        let member = member_id(log.org(), &claim.uik);
        let joined = Some((claim.name.clone(), invite));
        self.push(Addition {
            op: *hash,
            member,
            uik: claim.uik,
            keys: claim.keys.clone(),
            joined,
            admitter,
        });
    }

    fn push(&mut self, addition: Addition) {
        self.by_dsk.entry(addition.keys.dsk).or_insert(self.additions.len());
        self.additions.push(addition);
    }

    /// The operations that lose what they claim to another.
    fn conflicts(&self, log: &Log) -> BTreeSet<OpHash> {
        let mut claims: BTreeMap<Vec<u8>, Vec<usize>> = BTreeMap::new();
        for (i, a) in self.additions.iter().enumerate() {
            let short = a.keys.id.short();
            let short = short.as_bytes();
            let keys: [(u8, &[u8]); 5] = [
                (0, a.keys.dsk.as_bytes()),
                (1, a.keys.dnk.as_bytes()),
                (2, &a.keys.olm_id),
                (3, a.keys.transport.as_bytes()),
                (4, short.as_slice()),
            ];
            for (kind, key) in keys {
                claims.entry([&[kind], key].concat()).or_default().push(i);
            }
        }
        let mut lost = BTreeSet::new();
        for rivals in claims.values().filter(|rivals| rivals.len() > 1) {
            let rivals: Vec<&OpHash> =
                rivals.iter().filter_map(|i| self.additions.get(*i)).map(|a| &a.op).collect();
            lost.extend(losers(log, &rivals, 1));
        }
        for (invite, fact) in &self.invites {
            let redeemed = self
                .additions
                .iter()
                .filter(|a| a.joined.as_ref().is_some_and(|(_, by)| by == invite));
            let rivals: Vec<&OpHash> =
                redeemed.map(|a| &a.op).filter(|op| !lost.contains(*op)).collect();
            lost.extend(losers(log, &rivals, usize::try_from(fact.uses).unwrap_or(usize::MAX)));
        }
        lost
    }

    fn settle(
        self,
        org: &OrgId,
        admins: &BTreeMap<PublicKey, Option<PublicKey>>,
        lost: &BTreeSet<OpHash>,
        roster: &mut Roster,
    ) {
        roster.name = self.policy.map(|(_, _, name)| name);
        roster.invites = self.invites;
        let admin_members: BTreeSet<MemberId> =
            admins.values().flatten().map(|uik| member_id(org, uik)).collect();
        for (id, (_, uik, name)) in self.members {
            let mut roles = vec![Role::Responder];
            if admin_members.contains(&id) {
                roles.push(Role::Admin);
            }
            roster.view.members.insert(id, Member { id, uik, name, roles, devices: Vec::new() });
        }
        for addition in self.additions {
            let admitted = addition
                .admitter
                .is_none_or(|admitter| roster.view.devices.contains_key(&admitter));
            if lost.contains(&addition.op) || !admitted {
                continue;
            }
            roster.add(addition);
        }
        let standing: BTreeSet<&PublicKey> =
            roster.view.devices.values().map(|device| &device.dsk).collect();
        roster.epochs = self
            .epochs
            .iter()
            .filter(|(by, _, _)| standing.contains(by))
            .map(|(_, ring, id)| (*ring, *id))
            .collect();
    }
}

impl Roster {
    fn add(&mut self, addition: Addition) {
        let Addition { op, member, uik, keys, joined, .. } = addition;
        let entry = match (self.view.members.entry(member), &joined) {
            (std::collections::btree_map::Entry::Occupied(entry), _) => entry.into_mut(),
            (std::collections::btree_map::Entry::Vacant(entry), Some((name, _))) => {
                entry.insert(Member {
                    id: member,
                    uik,
                    name: name.clone(),
                    roles: vec![Role::Responder],
                    devices: Vec::new(),
                })
            }
            (std::collections::btree_map::Entry::Vacant(_), None) => return,
        };
        if entry.devices.len() >= limits::DEVICES_PER_MEMBER {
            return;
        }
        entry.devices.push(keys.id);
        entry.devices.sort_unstable();
        if let Some((_, invite)) = joined
            && let Some(fact) = self.invites.get_mut(&invite)
        {
            fact.redeemed.push(keys.id);
        }
        self.made_by.insert(keys.id, op);
        let transport = keys.transport_key();
        let DeviceKeys { id, dsk, dnk, olm_id, class, site, .. } = keys;
        self.view
            .devices
            .insert(id, Device { id, member, dsk, dnk, olm_id, transport, class, site });
    }

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

    pub(crate) fn by_transport(&self, key: &oob_proto::TransportKey) -> Option<&Device> {
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

/// Of operations that claim the same, those beyond the first `places`: an operation comes after those in its past and
/// after concurrent ones of a lower hash.
fn losers(log: &Log, rivals: &[&OpHash], places: usize) -> Vec<OpHash> {
    let before = |a: &OpHash, b: &OpHash| log.is_before(a, b) || (!log.is_before(b, a) && a < b);
    let beaten =
        |op: &OpHash| rivals.iter().filter(|other| **other != op && before(other, op)).count();
    rivals.iter().filter(|op| beaten(op) >= places).map(|op| **op).collect()
}
