//! What the log says of devices taken out, found before anything else is judged: a removal works on operations that
//! come before it in order, too (docs/protocol.md, section 3.3).

use super::{
    claim::Claim,
    council::Council,
    cut::CUT_RANGES,
    log::{Entry, Log},
};
use crate::model::RangeSet;
use oob_crypto::PublicKey;
use oob_proto::{
    DeviceId, DeviceShort, Incarnation, OpHash, TransportKey,
    wire::{self, op_body::Kind},
};
use std::collections::{BTreeMap, BTreeSet};

/// What of one life of a removed device stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Operations with a number below this.
    pub(crate) ops: u64,
    /// Records with these numbers.
    pub(crate) records: RangeSet,
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
    entry: &'a Entry,
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
    pub(crate) fn of(log: &Log, council: &Council) -> Self {
        let written: Vec<Written<'_>> = log.ordered().filter_map(Written::read).collect();
        if written.is_empty() {
            return Self::default();
        }
        let (by_admins, by_others): (Vec<_>, Vec<_>) =
            written.iter().partition(|removal| council.is_admins(log, removal.hash, removal.entry));
        let made = made(log, &written.iter().map(|removal| removal.device).collect());
        let mut all = Self::default();
        // Admins' removals first: nothing but the log's shape decides on them.
        for removal in by_admins {
            let Some(made) = made.get(&removal.device) else { continue };
            if !made.iter().any(|made| log.is_before(made.hash, removal.hash)) {
                continue;
            }
            // One admin must not take the others' devices away, with which they decide.
            let decides = made.iter().any(|made| council.holds_a_seat(&made.uik));
            if decides && !council.is_signed(log, removal.hash, removal.entry) {
                continue;
            }
            for made in made {
                all.persons.entry(made.uik).or_default().push(*removal.hash);
            }
            all.take(removal, made, true);
        }
        for removal in by_others {
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
        Some(Self { hash, entry, author: entry.header.author, device, cuts })
    }
}

/// Reads cuts; none if a life is named twice, they do not ascend, or they name too much.
fn read_cuts(cuts: &[wire::Cut]) -> Option<Cuts> {
    let ascending = cuts.is_sorted_by(|a, b| a.incarnation < b.incarnation);
    let ranges: usize = cuts.iter().map(|cut| cut.ranges.len()).sum();
    let cut = |cut: &wire::Cut| {
        let mut records = RangeSet::from_wire(&cut.ranges, CUT_RANGES);
        records.insert_range(0, cut.records);
        (Incarnation(cut.incarnation), Cut { ops: cut.ops, records })
    };
    (ascending && ranges <= CUT_RANGES).then(|| cuts.iter().map(cut).collect())
}

/// Leaves what both let stand.
fn narrow(cuts: &mut Cuts, other: &Cuts) {
    cuts.retain(|life, cut| {
        let Some(other) = other.get(life) else { return false };
        cut.ops = cut.ops.min(other.ops);
        cut.records = cut.records.common(&other.records);
        true
    });
}

/// What was claimed for some devices.
fn made<'a>(log: &'a Log, of: &BTreeSet<DeviceId>) -> BTreeMap<DeviceId, Vec<Made<'a>>> {
    let mut all: BTreeMap<DeviceId, Vec<Made<'a>>> = BTreeMap::new();
    for (hash, entry) in log.ordered() {
        let (keys, uik) = match entry.claim.as_deref() {
            Some(Claim::Device(certified)) => (&certified.keys, entry.header.author),
            Some(Claim::Join(claim)) => (&claim.keys, claim.uik),
            Some(Claim::Offer(_) | Claim::Set(_)) | None => continue,
        };
        if of.contains(&keys.id) {
            let made = Made { hash, uik, transport: keys.transport_key() };
            all.entry(keys.id).or_default().push(made);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::{
        Organisation,
        desk::{Desk, Keys, announced, revoke, standing},
        op::{OpError, hash_of},
    };
    use super::*;
    use crate::model::Ring;
    use oob_crypto::SigningKey;
    use rand::{SeedableRng, rngs::StdRng, seq::SliceRandom};

    /// One removed device, and everything its holder may try: later operations, others numbered like old ones, another
    /// life, a successor.
    #[test]
    fn shuffled_and_duplicated_operations_with_removals_give_one_roster() {
        let mut desk = Desk::new(1);
        let dana = desk.person(1, "Dana");
        let danas = desk.device(&dana, 1);
        let sam = desk.person(2, "Sam");
        let stolen = desk.device(&sam, 1);
        let other = desk.device(&sam, 2);
        let made = desk.last;
        let (body, before) = desk.epoch();
        let first = desk.write(&stolen.dsk, (1, 0), None, &[made], body);
        desk.last = first;
        let removal = desk.admin(3, revoke(stolen.id(), &[(1, 1, 5)]));
        let (body, _) = desk.epoch();
        desk.write(&stolen.dsk, (1, 1), Some(first), &[], body);
        let (body, _) = desk.epoch();
        desk.write(&stolen.dsk, (1, 0), None, &[made], body);
        let (body, _) = desk.epoch();
        desk.write(&stolen.dsk, (2, 0), None, &[made], body);
        let (body, _) = desk.epoch();
        desk.write(&stolen.dsk, (3, 0), None, &[removal], body);
        let successor = desk.keys();
        let body = desk.certificate(&sam, &successor);
        desk.write(&sam, (3, 0), None, &[made], body);
        let (body, after) = desk.epoch();
        desk.write(&danas.dsk, (1, 0), None, &[removal], body);

        let judged = desk.judged();
        let hash = judged.roster().hash(&desk.org);
        assert_eq!(announced(&judged), BTreeSet::from([before, after]));
        let devices: BTreeSet<DeviceId> = judged.roster().view.devices.keys().copied().collect();
        assert_eq!(devices, BTreeSet::from([danas.id(), other.id()]));
        assert_eq!(judged.roster().former.keys().copied().collect::<Vec<_>>(), [stolen.id()]);
        let holders = |id| judged.epoch(Ring::Core, id).unwrap().holders;
        assert_eq!((holders(before), holders(after)), (1, 0));
        let removed = &judged.roster().removed[&stolen.id()];
        assert!(removed.record_stands(Incarnation(1), 5));
        assert!(!removed.record_stands(Incarnation(1), 6));
        assert!(!removed.record_stands(Incarnation(2), 1));

        for seed in 0..60 {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut organisation = Organisation::new(desk.org);
            let mut left: Vec<wire::Op> = desk.ops.iter().chain(&desk.ops).cloned().collect();
            while !left.is_empty() {
                left.shuffle(&mut rng);
                left.retain(|op| matches!(organisation.take(op.clone()), Err(OpError::Orphan)));
                // Judging halfway changes nothing of the end.
                organisation.refresh();
            }
            assert_eq!(organisation.roster().hash(&desk.org), hash, "seed {seed}");
            assert_eq!(announced(&organisation), announced(&judged), "seed {seed}");
        }
    }

    #[test]
    fn without_the_removal_all_that_it_cuts_off_stands() {
        let mut desk = Desk::new(2);
        let sam = desk.person(1, "Sam");
        let stolen = desk.device(&sam, 1);
        let made = desk.last;
        let mut all = BTreeSet::new();
        for life in [1, 2] {
            let (body, id) = desk.epoch();
            desk.next(&stolen.dsk, life, body);
            all.insert(id);
        }
        let successor = desk.device(&sam, 2);
        let control = desk.judged();
        assert_eq!(announced(&control), all);
        assert!(standing(&control, &successor.id()) && standing(&control, &stolen.id()));

        // Nobody else's word removes it: not another person's, not a device's.
        let noor = desk.person(2, "Noor");
        let noors = desk.device(&noor, 1);
        desk.next(&noor, 2, revoke(stolen.id(), &[]));
        assert!(standing(&desk.judged(), &stolen.id()));
        let by_device = desk.write(&noors.dsk, (1, 0), None, &[made], revoke(stolen.id(), &[]));
        let op = desk.ops.pop().unwrap();
        assert_eq!(hash_of(&op), Some(by_device));
        assert_eq!(desk.judged().take(op).unwrap_err(), OpError::Stranger);

        desk.admin(3, revoke(stolen.id(), &[(1, 1, 0)]));
        let judged = desk.judged();
        assert!(!standing(&judged, &stolen.id()) && standing(&judged, &successor.id()));
        assert_eq!(announced(&judged).len(), 1, "the first of life 1 is at the cut");
    }

    #[test]
    fn the_keys_of_a_removed_device_do_not_come_back() {
        let mut desk = Desk::new(3);
        let sam = desk.person(1, "Sam");
        let person = desk.last;
        desk.person(2, "Noor");
        let old = desk.device(&sam, 1);
        desk.next(&sam, 2, revoke(old.id(), &[(1, 0, 9)]));
        // The person's own word leaves the person's key in force: a new device stands.
        let new = desk.device(&sam, 3);
        assert!(standing(&desk.judged(), &new.id()), "control");
        let again = desk.certificate(&sam, &old);
        desk.next(&sam, 4, again);
        let transport = SigningKey::from_secret(&old.transport.export_secret());
        let other_dsk = Keys { transport, ..desk.keys() };
        let body = desk.certificate(&sam, &other_dsk);
        // Even where it comes before the removed device itself in order.
        desk.write(&sam, (5, 0), None, &[person], body.clone());
        desk.next(&sam, 6, body);
        let judged = desk.judged();
        assert!(!standing(&judged, &old.id()) && !standing(&judged, &other_dsk.id()));
        let members = &judged.roster().view.members;
        let devices: Vec<DeviceId> =
            members.values().flat_map(|member| &member.devices).copied().collect();
        assert_eq!(devices, [new.id()]);
    }

    #[test]
    fn a_person_stays_a_member_when_the_last_device_is_taken_out() {
        let mut desk = Desk::new(4);
        let sam = desk.person(1, "Sam");
        let only = desk.device(&sam, 1);
        desk.admin(2, revoke(only.id(), &[]));
        let judged = desk.judged();
        let members = &judged.roster().view.members;
        assert_eq!(members.len(), 1);
        assert!(members.values().all(|member| member.devices.is_empty()));
    }

    /// Whoever has a stolen device has its person's key, and may cut off all the device ever did.
    #[test]
    fn an_admin_restores_what_a_thief_cut_off() {
        let mut desk = Desk::new(5);
        let sam = desk.person(1, "Sam");
        let stolen = desk.device(&sam, 1);
        let (body, id) = desk.epoch();
        desk.next(&stolen.dsk, 1, body);
        desk.next(&sam, 2, revoke(stolen.id(), &[]));
        assert!(announced(&desk.judged()).is_empty(), "the thief's word alone");
        desk.admin(2, revoke(stolen.id(), &[(1, 1, 7)]));
        let judged = desk.judged();
        assert_eq!(announced(&judged), BTreeSet::from([id]));
        assert!(judged.roster().removed[&stolen.id()].record_stands(Incarnation(1), 7));
        // Nor does what the thief writes afterwards, or dates back, cut anything off again.
        desk.next(&sam, 3, revoke(stolen.id(), &[]));
        assert_eq!(announced(&desk.judged()), BTreeSet::from([id]));
    }

    #[test]
    fn of_two_removals_by_the_same_hand_the_lower_cut_counts() {
        let mut desk = Desk::new(6);
        let sam = desk.person(1, "Sam");
        let old = desk.device(&sam, 1);
        desk.admin(2, revoke(old.id(), &[(1, 4, 9), (2, 1, 1)]));
        desk.admin(3, revoke(old.id(), &[(1, 6, 3)]));
        let judged = desk.judged();
        let cuts = &judged.roster().removed[&old.id()].cuts;
        let mut records = RangeSet::new();
        records.insert_range(0, 3);
        assert_eq!(cuts, &Cuts::from([(Incarnation(1), Cut { ops: 4, records })]));
        // Lives twice or out of order are no removal at all.
        let mut desk = Desk::new(7);
        let sam = desk.person(1, "Sam");
        let old = desk.device(&sam, 1);
        desk.admin(2, revoke(old.id(), &[(1, 4, 9), (1, 6, 3)]));
        assert!(standing(&desk.judged(), &old.id()));
    }

    /// Announcing an epoch again, in the knowledge of a removal, does not take its secret from the removed.
    #[test]
    fn an_epoch_announced_again_is_still_the_removed_ones() {
        let mut desk = Desk::new(8);
        let dana = desk.person(1, "Dana");
        let danas = desk.device(&dana, 1);
        let sam = desk.person(2, "Sam");
        let old = desk.device(&sam, 1);
        let (body, id) = desk.epoch();
        desk.next(&danas.dsk, 1, body.clone());
        desk.admin(3, revoke(old.id(), &[]));
        desk.next(&danas.dsk, 2, body);
        assert_eq!(desk.judged().epoch(Ring::Core, id).unwrap().holders, 1);
    }

    /// Both removals count: what one knew of and the other did not does not stand.
    #[test]
    fn ranges_behind_a_cut_stand_where_every_removal_names_them() {
        let mut desk = Desk::new(9);
        let sam = desk.person(1, "Sam");
        let old = desk.device(&sam, 1);
        let revoke = |ranges: &[(u64, u64)]| {
            let ranges =
                ranges.iter().map(|(first, last)| wire::Range { first: *first, last: *last });
            let cut = wire::Cut { incarnation: 1, ops: 4, records: 9, ranges: ranges.collect() };
            Kind::DeviceRevoke(wire::DeviceRevoke { device: old.id().to_vec(), cuts: vec![cut] })
        };
        desk.admin(2, revoke(&[(5_000, 5_009), (9_000, 9_000)]));
        let stands = |desk: &Desk, seq| {
            desk.judged().roster().removed[&old.id()].record_stands(Incarnation(1), seq)
        };
        let all = [9, 10, 5_000, 5_009, 5_010, 9_000];
        let said = all.map(|seq| stands(&desk, seq));
        assert_eq!(said, [true, false, true, true, false, true]);
        desk.admin(3, revoke(&[(5_000, 5_003)]));
        assert_eq!(all.map(|seq| stands(&desk, seq)), [true, false, true, false, false, false]);
        // One that names more than is allowed is none.
        let many: Vec<(u64, u64)> = (0..=64).map(|n| (10 * n + 100, 10 * n + 100)).collect();
        desk.admin(4, revoke(&many));
        assert!(stands(&desk, 5_000));
    }
}
