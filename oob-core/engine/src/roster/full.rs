//! Tests of a log that is full, or nearly so.

use super::{
    Organisation,
    desk::{Desk, Keys, announced, revoke, standing},
    log::{LATE_EPOCHS, SHARES},
    op::{OpError, hash_of},
};
use crate::model::LinkId;
use oob_crypto::SigningKey;
use oob_proto::{
    DeviceId, Message, OpHash,
    wire::{self, op_body::Kind},
};
use rand::{RngExt as _, SeedableRng, rngs::StdRng, seq::SliceRandom};
use std::collections::BTreeSet;

/// Whoever has filled the log has not put an end to removals, nor to the epochs that follow them.
#[test]
fn a_full_log_still_takes_an_admins_removal_and_the_epochs_that_follow() {
    let mut desk = Desk::new(10);
    let dana = desk.person(1, "Dana");
    let danas = desk.device(&dana, 1);
    let mallorys: Vec<SigningKey> = (2..4).map(|life| desk.person(life, "Mallory")).collect();
    let stolen = desk.device(&mallorys[0], 1);
    let other = desk.device(&mallorys[1], 1);
    let mut organisation = Organisation::new(desk.org);
    organisation.log.set_most(64);
    for op in desk.ops.clone() {
        organisation.take(op).unwrap();
    }
    let mut take = |desk: &mut Desk| organisation.take(desk.ops.pop().unwrap()).map(drop);
    // Both of hers write what their share lets them, and both of their devices epochs.
    let base = desk.last;
    for life in 10..40 {
        for key in &mallorys {
            desk.write(key, (life, 0), None, &[base], revoke(danas.id(), &[]));
            let _ = take(&mut desk);
        }
    }
    for life in 10..40 {
        for key in [&stolen.dsk, &other.dsk] {
            let (body, _) = desk.epoch();
            desk.write(key, (life, 0), None, &[base], body);
            let _ = take(&mut desk);
        }
    }
    desk.write(&mallorys[0], (99, 0), None, &[base], revoke(danas.id(), &[]));
    assert_eq!(take(&mut desk), Err(OpError::Full), "control: it is full for her");
    let (body, _) = desk.epoch();
    desk.write(&other.dsk, (99, 0), None, &[base], body);
    assert_eq!(take(&mut desk), Err(OpError::Full), "control: of epochs too");
    // An admin's other words end before removals do.
    let mut refused = 0;
    for life in 50..60 {
        let admin = SigningKey::from_secret(&desk.admin.export_secret());
        let policy = wire::Policy { round: life.into(), org_name: "Harbour Clinic".into() };
        desk.write(&admin, (life, 0), None, &[base], Kind::Policy(policy));
        refused += u32::from(take(&mut desk).is_err());
    }
    assert!((1..10).contains(&refused), "{refused}");
    let admin = SigningKey::from_secret(&desk.admin.export_secret());
    desk.write(&admin, (60, 0), None, &[base], revoke(stolen.id(), &[]));
    take(&mut desk).unwrap();
    organisation.refresh();
    assert!(!organisation.roster().view.devices.contains_key(&stolen.id()));
}

/// The share that is kept for epochs is not one device's.
#[test]
fn a_log_nearly_full_takes_a_few_epochs_of_each_device() {
    let mut desk = Desk::new(11);
    let dana = desk.person(1, "Dana");
    let danas = desk.device(&dana, 1);
    let mallory = desk.person(2, "Mallory");
    let hers = desk.device(&mallory, 1);
    let mut organisation = Organisation::new(desk.org);
    organisation.log.set_most(320);
    for op in desk.ops.clone() {
        organisation.take(op).unwrap();
    }
    let base = desk.last;
    let mut taken = |desk: &mut Desk, key: &SigningKey| -> usize {
        let take = |life| {
            let (body, _) = desk.epoch();
            desk.write(key, (life, 0), None, &[base], body);
            organisation.take(desk.ops.pop().unwrap()).is_ok()
        };
        (100..500).map(take).filter(|taken| *taken).count()
    };
    let by_mallory = taken(&mut desk, &hers.dsk);
    assert!((280..300).contains(&by_mallory), "{by_mallory}");
    assert_eq!(taken(&mut desk, &danas.dsk), LATE_EPOCHS, "there is room for Dana's");
}

/// A log that an admin's device took until there was no room, the removal it then wrote, and the epoch that followed.
struct Nearly {
    desk: Desk,
    /// All of it, as it was written.
    ops: Vec<wire::Op>,
    whole: Organisation,
    stolen: DeviceId,
    /// Of a device that is not in it.
    others: Keys,
}

fn nearly_full(seed: u64, most: usize) -> Nearly {
    let mut rng = StdRng::seed_from_u64(1_000 + seed);
    let mut desk = Desk::new(100 + seed);
    let dana = desk.person(1, "Dana");
    let danas = desk.device(&dana, 1);
    let mallory = desk.person(2, "Mallory");
    let stolen = desk.device(&mallory, 1);
    let base = desk.last;
    let others = desk.device(&mallory, 2);
    let mut whole = Organisation::new(desk.org);
    whole.log.set_most(most);
    for op in desk.ops.clone() {
        whole.take(op).unwrap();
    }
    let (mut ops, mut own) = (desk.ops.clone(), None);
    let admin = SigningKey::from_secret(&desk.admin.export_secret());
    let mut devices = vec![(SigningKey::from_secret(&stolen.dsk.export_secret()), base)];
    for n in 0..u32::try_from(most).unwrap() * 2 {
        let back = rng.random_range(1..=ops.len().min(40));
        let at = ops.len().saturating_sub(back);
        let prev = hash_of(&ops[at]).unwrap();
        let written = match rng.random_range(0..20) {
            0 => {
                let (seq, prev) = (own.map_or(0, |(_, seq)| seq + 1), [prev]);
                let policy = wire::Policy { round: n.into(), org_name: "Harbour Clinic".into() };
                let own_prev = own.map(|(hash, _)| hash);
                let prev = if own_prev == Some(prev[0]) { &[][..] } else { &prev[..] };
                let hash = desk.write(&admin, (900, seq), own_prev, prev, Kind::Policy(policy));
                (hash, Some(seq))
            }
            1 => {
                let uik = SigningKey::generate(&mut desk.rng);
                let member = wire::Member { uik: uik.public().to_vec(), name: "Eli".to_owned() };
                let member =
                    desk.write(&admin, (n + 10_000, 0), None, &[prev], Kind::Member(member));
                let Ok(Some(_)) = whole.take(desk.ops.last().unwrap().clone()) else {
                    continue;
                };
                ops.push(desk.ops.last().unwrap().clone());
                let keys = desk.keys();
                let body = desk.certificate(&uik, &keys);
                let dsk = SigningKey::from_secret(&keys.dsk.export_secret());
                let made = desk.write(&uik, (n, 0), None, &[member], body);
                devices.push((dsk, made));
                (made, None)
            }
            _ => {
                let (key, made) = &devices[rng.random_range(0..devices.len())];
                let (body, _) = desk.epoch();
                // Beside others, behind what made its author; when there are many heads, behind all.
                let heads = whole.heads();
                let prev: BTreeSet<OpHash> = match heads.len() > 30 {
                    true => heads.iter().copied().chain([*made]).collect(),
                    false => BTreeSet::from([*made, prev]),
                };
                let prev: Vec<OpHash> = prev.into_iter().collect();
                (desk.write(key, (n, 0), None, &prev, body), None)
            }
        };
        if whole.take(desk.ops.last().unwrap().clone()).is_ok() {
            ops.push(desk.ops.last().unwrap().clone());
            own = written.1.map(|seq| (written.0, seq)).or(own);
        }
    }
    let left = most - ops.len();
    assert!(left <= most / SHARES * 2, "control: {left} are left of {most}");
    let heads: Vec<OpHash> = whole.heads().iter().copied().collect();
    let (own_prev, seq) = own.map_or((None, 0), |(hash, seq)| (Some(hash), seq + 1));
    let prev: Vec<OpHash> = heads.into_iter().filter(|head| Some(*head) != own_prev).collect();
    let body = revoke(stolen.id(), &[(1, 0, 9)]);
    let removal = desk.write(&admin, (900, seq), own_prev, &prev, body);
    let (body, _) = desk.epoch();
    desk.write(&danas.dsk, (7, 0), None, &[removal], body);
    for op in desk.ops[desk.ops.len() - 2..].iter() {
        whole.take(op.clone()).unwrap();
        ops.push(op.clone());
    }
    whole.refresh();
    let stolen = stolen.id();
    assert!(!standing(&whole, &stolen));
    Nearly { desk, ops, whole, stolen, others }
}

/// Gives operations to a device as a neighbour does, parents first, in some such order.
fn give(to: &mut Organisation, ops: &[wire::Op], rng: &mut StdRng) {
    let mut left: Vec<&wire::Op> = ops.iter().collect();
    let mut waits: BTreeSet<Vec<u8>> = ops.iter().map(|op| hash_of(op).unwrap().to_vec()).collect();
    while !left.is_empty() {
        left.shuffle(rng);
        left.retain(|op| {
            let header = wire::OpHeader::decode(op.header.as_ref().unwrap().payload.as_slice());
            let header = header.unwrap();
            let own = Some(&header.self_prev).filter(|own| !own.is_empty());
            let ready = header.prev.iter().chain(own).all(|hash| !waits.contains(hash));
            // Not all at once that could be: the order is to differ.
            let now = ready && rng.random_bool(0.5);
            if now {
                waits.remove(hash_of(op).unwrap().as_bytes().as_slice());
                let _ = to.take_from(Some(LinkId(1)), op);
            }
            !now
        });
    }
    to.refresh();
}

/// Room was kept for some kinds by how much was there when one came: in another order others were refused, and with them
/// whatever was built on them, a removal too.
#[test]
fn any_order_of_a_nearly_full_log_gives_one_roster_and_the_removal_stands() {
    for seed in 0..6 {
        let all = nearly_full(seed, 160);
        let hash = all.whole.roster().hash(&all.desk.org);
        let mut refused = 0;
        for order in 0..5 {
            let mut rng = StdRng::seed_from_u64(seed * 100 + order);
            let mut other = Organisation::new(all.desk.org);
            other.log.set_most(160);
            let (before, last) = all.ops.split_at(all.ops.len() - 2);
            give(&mut other, before, &mut rng);
            refused += before.iter().filter(|op| !other.contains(&hash_of(op).unwrap())).count();
            give(&mut other, &[before, last].concat(), &mut rng);
            let lacks = all.ops.iter().filter(|op| !other.contains(&hash_of(op).unwrap())).count();
            assert_eq!(lacks, 0, "seed {seed}, order {order}");
            assert!(!standing(&other, &all.stolen));
            assert_eq!(other.roster().hash(&all.desk.org), hash, "seed {seed}, order {order}");
            assert_eq!(announced(&other), announced(&all.whole));
            // What is stored is taken again in the order it was taken in.
            let mut again = Organisation::new(all.desk.org);
            again.log.set_most(160);
            let mut stored: Vec<(u64, &wire::Op)> = all
                .ops
                .iter()
                .map(|op| (other.log.get(&hash_of(op).unwrap()).unwrap().place, op))
                .collect();
            stored.sort_unstable_by_key(|(place, _)| *place);
            for (_, op) in stored {
                again.take_shown(op.clone()).unwrap();
            }
            assert_eq!(again.log.late_taken(), other.log.late_taken());
        }
        assert!(refused > 0, "control: without the removal something is refused");
    }
}

/// Mallory gave the admin's device her one half, and another device the other.
#[test]
fn an_admins_removal_reaches_a_log_that_was_filled_with_something_else() {
    let all = nearly_full(50, 160);
    let mut desk = all.desk;
    let mut other = Organisation::new(desk.org);
    other.log.set_most(160);
    for op in &all.ops[..9] {
        let _ = other.take(op.clone());
    }
    let base = hash_of(&all.ops[6]).unwrap();
    let mut full = false;
    for life in 10_000..10_400 {
        let (body, _) = desk.epoch();
        desk.write(&all.others.dsk, (life, 0), None, &[base], body);
        full |= other.take(desk.ops.pop().unwrap()).is_err();
    }
    assert!(full, "control");
    let mut rng = StdRng::seed_from_u64(3);
    let (before, last) = all.ops.split_at(all.ops.len() - 2);
    give(&mut other, before, &mut rng);
    let lacks = before.iter().filter(|op| !other.contains(&hash_of(op).unwrap())).count();
    assert!(lacks > 80, "control: {lacks}");
    assert!(standing(&other, &all.stolen));
    give(&mut other, last, &mut rng);
    assert!(all.ops.iter().all(|op| other.contains(&hash_of(op).unwrap())));
    assert!(!standing(&other, &all.stolen));
    assert_eq!(other.roster().hash(&desk.org), all.whole.roster().hash(&desk.org));
}
