//! What the log says of devices taken out, found before anything else is judged: a removal works on operations that
//! come before it in order, too (docs/protocol.md, section 3.3).

use super::{
    claim::Claim,
    log::{Entry, Log},
};
use oob_crypto::PublicKey;
use oob_proto::{
    DeviceId, DeviceShort, Incarnation, OpHash, TransportKey,
    wire::{self, op_body::Kind},
};
use std::collections::{BTreeMap, BTreeSet};

/// Up to where one life of a removed device stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Operations with a number below this.
    pub(crate) ops: u64,
    /// Records with a number up to this.
    pub(crate) records: u64,
}

/// The cuts of one removal, or what several leave; a life that is not named does not stand at all.
pub(crate) type Cuts = BTreeMap<Incarnation, Cut>;

/// What stands of the removal of one device.
#[derive(Debug, Clone)]
pub(crate) struct Removal {
    /// Every removal of it that stands: an epoch that follows one of them is not the device's.
    pub(crate) ops: Vec<OpHash>,
    /// What still stands of the device.
    pub(crate) cuts: Cuts,
    /// An admin's word is among them: then it alone says what stands.
    pub(crate) by_admin: bool,
    /// Those whose word on that counts. The device's operations must be known to all of them.
    bounds: Vec<OpHash>,
}

/// All removals that stand.
#[derive(Debug, Default)]
pub(crate) struct Removals {
    by_device: BTreeMap<DeviceId, Removal>,
    /// Keys that the removed devices signed with; nobody can come in with them again.
    transports: BTreeSet<TransportKey>,
    shorts: BTreeSet<DeviceShort>,
    /// Persons' keys, with the admins' removals of their devices. In this version a person's key lies on the device:
    /// who took the device has it, and would certify a successor.
    persons: BTreeMap<PublicKey, Vec<OpHash>>,
}

/// A removal as somebody wrote it.
struct Written<'a> {
    hash: &'a OpHash,
    author: PublicKey,
    device: DeviceId,
    cuts: Cuts,
}

/// One operation that makes a device, whether or not it stands: person's key, device's keys and, where it holds, the
/// signatures of both.
struct Made<'a> {
    hash: &'a OpHash,
    uik: PublicKey,
    transport: TransportKey,
}

impl Removals {
    /// Finds all that stand.
    pub(crate) fn of(log: &Log) -> Self {
        let written: Vec<Written<'_>> = log.ordered().filter_map(Written::read).collect();
        if written.is_empty() {
            return Self::default();
        }
        let admins = admins(log);
        let made = made(log, &written.iter().map(|removal| removal.device).collect());
        let mut all = Self::default();
        // Admins' removals first: nothing but the log's shape decides on them.
        for removal in written.iter().filter(|removal| admins.contains(&removal.author)) {
            let Some(made) = made.get(&removal.device) else { continue };
            if !made.iter().any(|made| log.is_before(made.hash, removal.hash)) {
                continue;
            }
            for made in made {
                all.persons.entry(made.uik).or_default().push(*removal.hash);
            }
            all.take(removal, made, true);
        }
        for removal in written.iter().filter(|removal| !admins.contains(&removal.author)) {
            let Some(made) = made.get(&removal.device) else { continue };
            let own = made
                .iter()
                .any(|made| made.uik == removal.author && log.is_before(made.hash, removal.hash));
            if own && all.person_stands(log, &removal.author, removal.hash) {
                all.take(removal, made, false);
            }
        }
        all
    }

    fn take(&mut self, removal: &Written<'_>, made: &[Made<'_>], by_admin: bool) {
        self.shorts.insert(removal.device.short());
        self.transports.extend(made.iter().map(|made| made.transport));
        match self.by_device.get_mut(&removal.device) {
            None => {
                let first = Removal {
                    ops: vec![*removal.hash],
                    cuts: removal.cuts.clone(),
                    by_admin,
                    bounds: vec![*removal.hash],
                };
                self.by_device.insert(removal.device, first);
            }
            Some(known) => {
                known.ops.push(*removal.hash);
                // Whoever has the device can write in its person's name; that must not undo what an admin left.
                if by_admin == known.by_admin {
                    known.bounds.push(*removal.hash);
                    narrow(&mut known.cuts, &removal.cuts);
                }
            }
        }
    }

    /// Whether a device was taken out.
    pub(crate) fn of_device(&self, device: &DeviceId) -> Option<&Removal> {
        self.by_device.get(device)
    }

    /// Whether keys are those of a removed device, which may come in under no other id.
    pub(crate) fn holds(&self, transport: &TransportKey, short: DeviceShort) -> bool {
        self.transports.contains(transport) || self.shorts.contains(&short)
    }

    /// Whether an operation by a device still stands if it was taken out. The number alone does not tell: a thief may
    /// number another operation like an old one, but not put it into the past of the removal.
    pub(crate) fn device_stands(&self, log: &Log, device: &DeviceId, op: &OpHash) -> bool {
        let Some(removal) = self.by_device.get(device) else { return true };
        let Some(entry) = log.get(op) else { return false };
        let cut = removal.cuts.get(&entry.header.incarnation);
        cut.is_some_and(|cut| entry.header.seq < cut.ops)
            && removal.bounds.iter().all(|bound| log.is_before(op, bound))
    }

    /// Whether an operation by a person's key still stands.
    pub(crate) fn person_stands(&self, log: &Log, uik: &PublicKey, op: &OpHash) -> bool {
        let mut bounds = self.persons.get(uik).into_iter().flatten();
        bounds.all(|bound| log.is_before(op, bound))
    }
}

impl<'a> Written<'a> {
    fn read((hash, entry): (&'a OpHash, &'a Entry)) -> Option<Self> {
        let Some(Kind::DeviceRevoke(revoke)) = &entry.body else { return None };
        let device = DeviceId::try_from(revoke.device.as_slice()).ok()?;
        let cuts = read_cuts(&revoke.cuts)?;
        Some(Self { hash, author: entry.header.author, device, cuts })
    }
}

/// Reads cuts; none if a life is named twice or they do not ascend.
fn read_cuts(cuts: &[wire::Cut]) -> Option<Cuts> {
    let ascending = cuts.is_sorted_by(|a, b| a.incarnation < b.incarnation);
    let cut = |cut: &wire::Cut| {
        (Incarnation(cut.incarnation), Cut { ops: cut.ops, records: cut.records })
    };
    ascending.then(|| cuts.iter().map(cut).collect())
}

/// Leaves what both let stand.
fn narrow(cuts: &mut Cuts, other: &Cuts) {
    cuts.retain(|life, cut| {
        let Some(other) = other.get(life) else { return false };
        (cut.ops, cut.records) = (cut.ops.min(other.ops), cut.records.min(other.records));
        true
    });
}

fn admins(log: &Log) -> BTreeSet<PublicKey> {
    let bodies = log.ordered().filter_map(|(_, entry)| entry.body.as_ref());
    let genesis = bodies.filter_map(|body| match body {
        Kind::Genesis(genesis) => Some(genesis),
        _ => None,
    });
    let keys = genesis.flat_map(|genesis| &genesis.admins);
    keys.filter_map(|admin| PublicKey::parse(&admin.key).ok()).collect()
}

/// What was claimed for some devices.
fn made<'a>(log: &'a Log, of: &BTreeSet<DeviceId>) -> BTreeMap<DeviceId, Vec<Made<'a>>> {
    let mut all: BTreeMap<DeviceId, Vec<Made<'a>>> = BTreeMap::new();
    for (hash, entry) in log.ordered() {
        let (keys, uik) = match entry.claim.as_deref() {
            Some(Claim::Device(certified)) => (&certified.keys, entry.header.author),
            Some(Claim::Join(claim)) => (&claim.keys, claim.uik),
            None => continue,
        };
        if of.contains(&keys.id) {
            let made = Made { hash, uik, transport: keys.transport_key() };
            all.entry(keys.id).or_default().push(made);
        }
    }
    all
}
