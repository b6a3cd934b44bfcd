//! Tests of who the admins are, and of what enough of them must sign.

use super::{
    Organisation,
    council::AdminSet,
    desk::{Desk, revoke, standing},
    op::{OpError, hash_of},
};
use oob_crypto::{PublicKey, SigningKey};
use oob_proto::{
    OpHash,
    wire::{self, op_body::Kind},
};
use rand::{RngExt as _, SeedableRng, rngs::StdRng, seq::SliceRandom};
use std::collections::BTreeSet;

fn copy(key: &SigningKey) -> SigningKey {
    SigningKey::from_secret(&key.export_secret())
}

fn keys(desk: &mut Desk, count: usize) -> Vec<SigningKey> {
    (0..count).map(|_| SigningKey::generate(&mut desk.rng)).collect()
}

/// What is let stand of somebody: lives, and how many operations of each.
type Lives<'a> = &'a [(u32, u64)];

/// A set that takes the place of another, of keys on paper, and what of others it lets stand.
fn set_on(
    base: OpHash,
    round: u64,
    k: u32,
    keys: &[&SigningKey],
    cuts: &[(&SigningKey, Lives<'_>)],
) -> Kind {
    let seats: Vec<(&SigningKey, Option<&SigningKey>)> =
        keys.iter().map(|key| (*key, None)).collect();
    set_of(base, round, k, &seats, cuts)
}

/// The same, of keys and of the persons who hold them.
fn set_of(
    base: OpHash,
    round: u64,
    k: u32,
    seats: &[(&SigningKey, Option<&SigningKey>)],
    cuts: &[(&SigningKey, Lives<'_>)],
) -> Kind {
    let admins = seats.iter().map(|(key, uik)| wire::Admin {
        key: key.public().to_vec(),
        uik: uik.map(|uik| uik.public().to_vec()).unwrap_or_default(),
    });
    let cut = |(key, lives): &(&SigningKey, Lives<'_>)| {
        let life = |(incarnation, ops): &(u32, u64)| wire::Cut {
            incarnation: *incarnation,
            ops: *ops,
            ..wire::Cut::default()
        };
        wire::AdminCut { key: key.public().to_vec(), lives: lives.iter().map(life).collect() }
    };
    Kind::AdminSet(wire::AdminSet {
        base: base.to_vec(),
        round,
        k,
        admins: admins.collect(),
        cuts: cuts.iter().map(cut).collect(),
    })
}

fn endorsement(op: OpHash) -> Kind {
    Kind::Endorse(wire::Endorse { op: op.to_vec() })
}

fn invite(key: &SigningKey) -> Kind {
    let invite_key = key.public().to_vec();
    Kind::Invite(wire::Invite { invite_key, uses: 1, ..wire::Invite::default() })
}

fn policy(round: u64, name: &str) -> Kind {
    Kind::Policy(wire::Policy { round, org_name: name.to_owned() })
}

fn in_office(organisation: &Organisation) -> AdminSet {
    organisation.roster().council.in_office().unwrap().clone()
}

fn seats(of: &[&SigningKey]) -> BTreeSet<PublicKey> {
    of.iter().map(|key| key.public()).collect()
}

fn seated(organisation: &Organisation) -> BTreeSet<PublicKey> {
    in_office(organisation).seats.keys().copied().collect()
}

/// An organisation with so many admins, of whom so many must sign.
fn hall(seed: u64, admins: usize, k: u32) -> (Desk, Vec<SigningKey>, OpHash) {
    let mut desk = Desk::new(seed);
    let genesis = desk.last;
    let all = keys(&mut desk, admins);
    let founder = copy(&desk.admin);
    let each: Vec<&SigningKey> = all.iter().collect();
    let set =
        desk.next(&founder, 1, set_on(genesis, 1, k, &each, &[(&founder, &[(0, 1), (1, 1)])]));
    assert_eq!(seated(&desk.judged()), seats(&each), "the founder alone may begin");
    (desk, all, set)
}

#[test]
fn a_set_counts_once_enough_of_those_before_signed_it() {
    let (mut desk, all, base) = hall(1, 3, 2);
    let [a, b, c] = [&all[0], &all[1], &all[2]];
    let d = SigningKey::generate(&mut desk.rng);
    let next = desk.next(a, 2, set_on(base, 1, 2, &[a, b, &d], &[(c, &[])]));
    let before = in_office(&desk.judged());
    assert_eq!(before.op, base, "one of two");
    // Who was, and whoever signed already; who is to be is not even heard.
    let founder = copy(&desk.admin);
    for (key, life) in [(&founder, 4), (a, 5)] {
        desk.endorse(key, life, next);
        assert_eq!(in_office(&desk.judged()), before);
    }
    desk.write(&d, (3, 0), None, &[next], endorsement(next));
    let op = desk.ops.pop().unwrap();
    assert_eq!(desk.judged().take(op).unwrap_err(), OpError::Stranger);
    desk.endorse(c, 6, next);
    let judged = desk.judged();
    assert_eq!((in_office(&judged).op, seated(&judged)), (next, seats(&[a, b, &d])));
    // Who went signs nothing more; who came does.
    let named = desk.next(a, 7, policy(1, "North Ward"));
    desk.endorse(c, 8, named);
    assert_eq!(desk.judged().roster().name, None);
    desk.endorse(&d, 9, named);
    assert_eq!(desk.judged().roster().name.as_ref().unwrap().as_str(), "North Ward");
}

/// Everything that needs k, by every part of five admins: with fewer than three nothing changes, with three it does.
#[test]
fn every_subset_smaller_than_k_changes_nothing_that_needs_k() {
    for part in 1_u32..32 {
        for what in ["name", "admins"] {
            let (mut desk, all, base) = hall(2, 5, 3);
            let who: Vec<&SigningKey> =
                (0..5).filter(|place| part & (1 << place) != 0).map(|place| &all[place]).collect();
            let office = in_office(&desk.judged());
            let fresh = keys(&mut desk, 3);
            let theirs: Vec<&SigningKey> = fresh.iter().collect();
            let body = match what {
                "name" => policy(1, "Taken Over"),
                _ => set_on(base, 1, 2, &theirs, &[]),
            };
            let op = desk.next(who[0], 10, body);
            // Each signs it, and again in another life, which counts once.
            for (life, key) in (11..).zip(who.iter().chain(&who)) {
                desk.endorse(key, life, op);
            }
            let judged = desk.judged();
            let changed = match what {
                "name" => judged.roster().name.is_some(),
                _ => in_office(&judged) != office,
            };
            assert_eq!(changed, who.len() >= 3, "{part:05b} {what}");
        }
    }
}

/// Whoever signed a proposal that came to nothing signs the next; that somebody completes the first later changes nothing.
#[test]
fn the_higher_round_takes_the_place_of_what_was_given_up() {
    let (mut desk, all, base) = hall(3, 3, 2);
    let [a, b, c] = [&all[0], &all[1], &all[2]];
    let [x, y] = [0; 2].map(|_| SigningKey::generate(&mut desk.rng));
    let given_up = desk.next(a, 2, set_on(base, 1, 2, &[a, c, &x], &[(b, &[])]));
    let fork = desk.last;
    let later = desk.next(a, 3, set_on(base, 2, 2, &[a, b, &y], &[(c, &[])]));
    assert_eq!(in_office(&desk.judged()).op, base);
    desk.endorse(b, 2, later);
    assert_eq!(in_office(&desk.judged()).op, later);
    desk.write(c, (2, 0), None, &[fork], endorsement(given_up));
    assert_eq!(in_office(&desk.judged()).op, later, "the later word counts");
    // The control: without the later one the first would stand now.
    desk.ops.retain(|op| ![Some(later)].contains(&hash_of(op)));
    let mut organisation = Organisation::new(desk.org);
    for op in &desk.ops {
        let _ = organisation.take(op.clone());
    }
    organisation.refresh();
    assert_eq!(in_office(&organisation).op, given_up);
}

#[test]
fn of_two_of_one_round_the_same_one_stands_everywhere() {
    let (mut desk, all, base) = hall(4, 3, 2);
    let [a, b, c] = [&all[0], &all[1], &all[2]];
    let [x, y] = [0; 2].map(|_| SigningKey::generate(&mut desk.rng));
    let fork = desk.last;
    let one = desk.next(a, 2, set_on(base, 1, 2, &[a, b, &x], &[(c, &[])]));
    desk.endorse(b, 2, one);
    desk.last = fork;
    let other = desk.next(c, 2, set_on(base, 1, 2, &[c, b, &y], &[(a, &[])]));
    desk.write(b, (3, 0), None, &[other], endorsement(other));
    let stands = in_office(&desk.judged()).op;
    assert_eq!(stands, one.min(other));
    desk.ops.reverse();
    let mut organisation = Organisation::new(desk.org);
    let mut left = desk.ops.clone();
    while !left.is_empty() {
        left.retain(|op| matches!(organisation.take(op.clone()), Err(OpError::Orphan)));
    }
    organisation.refresh();
    assert_eq!(in_office(&organisation).op, stands);
}

#[test]
fn who_was_taken_out_cannot_date_back() {
    let (mut desk, all, base) = hall(5, 3, 2);
    let [a, b, c] = [&all[0], &all[1], &all[2]];
    let d = SigningKey::generate(&mut desk.rng);
    let fork = desk.last;
    let kept = desk.next(c, 2, policy(1, "Before"));
    desk.endorse(a, 2, kept);
    // Known, and cut off: they say that c was somebody else's by then.
    let cut_off = desk.next(c, 3, invite(&d));
    assert!(desk.judged().roster().invites.contains_key(&cut_off));
    let next = desk.next(a, 3, set_on(base, 1, 2, &[a, b, &d], &[(c, &[(2, 1)])]));
    desk.endorse(b, 3, next);
    let judged = desk.judged();
    assert_eq!(judged.roster().name.as_ref().unwrap().as_str(), "Before", "what was known stands");
    let invites = judged.roster().invites.len();
    assert_eq!(invites, 0, "what was cut off fell");
    // From where nothing of it was known: a name, a set of a later round, an invitation, and one numbered like what stands.
    let end = desk.last;
    let set = set_on(base, 2, 2, &[c, a, &d], &[(b, &[])]);
    for (life, body) in [(4, policy(2, "After")), (5, set), (6, invite(&d)), (2, invite(&d))] {
        let op = desk.write(c, (life, 0), None, &[fork], body);
        desk.write(c, (100 + life, 0), None, &[op], endorsement(op));
    }
    desk.last = end;
    let judged = desk.judged();
    assert_eq!(in_office(&judged).op, next);
    assert_eq!(judged.roster().name.as_ref().unwrap().as_str(), "Before");
    assert_eq!(judged.roster().invites.len(), invites);
}

/// A proposal lies open for days, and meanwhile people work.
#[test]
fn what_those_who_signed_knew_of_stands_and_nothing_else_of_that_time() {
    let (mut desk, all, base) = hall(9, 3, 2);
    let [a, b, c] = [&all[0], &all[1], &all[2]];
    let fresh = keys(&mut desk, 4);
    let people = keys(&mut desk, 3);
    let seats: Vec<_> = fresh.iter().zip(people.iter().map(Some)).collect();
    let cuts: [(&SigningKey, Lives<'_>); 2] = [(a, &[(2, 1)]), (b, &[(3, 1), (4, 1)])];
    let next = desk.next(a, 2, set_of(base, 1, 2, &seats, &cuts));
    let known = desk.next(b, 3, invite(&fresh[3]));
    let unknown = desk.write(b, (4, 0), None, &[next], invite(&fresh[3]));
    desk.last = known;
    desk.endorse(c, 2, next);
    let judged = desk.judged();
    assert_eq!(in_office(&judged).op, next);
    let invites = &judged.roster().invites;
    assert!(invites.contains_key(&known) && !invites.contains_key(&unknown));
}

/// What was signed with old keys ends with them, so that old keys taken later are worth nothing.
#[test]
fn every_set_has_new_keys_but_those_on_paper() {
    let (mut desk, all, base) = hall(10, 3, 2);
    let [a, b, c] = [&all[0], &all[1], &all[2]];
    let people = keys(&mut desk, 3);
    let fresh = keys(&mut desk, 9);
    let turn =
        |of: &'static [usize]| -> Vec<(usize, usize)> { of.iter().copied().zip(0..).collect() };
    let mut life = 10;
    let mut stands = |desk: &mut Desk, by: [&SigningKey; 2], body: Kind| {
        life += 1;
        let op = desk.next(by[0], life, body);
        desk.endorse(by[1], life, op);
        (op, in_office(&desk.judged()).op == op)
    };
    let seats = |of: &[(usize, usize)]| -> Vec<(&SigningKey, Option<&SigningKey>)> {
        of.iter().map(|(key, person)| (&fresh[*key], Some(&people[*person]))).collect()
    };
    let (first, does) =
        stands(&mut desk, [a, b], set_of(base, 1, 2, &seats(&turn(&[0, 1, 2])), &[]));
    assert!(does, "control: new keys");
    let by = [&fresh[0], &fresh[1]];
    let again = set_of(first, 1, 2, &seats(&turn(&[0, 4, 5])), &[]);
    assert!(!stands(&mut desk, by, again).1, "a key that has a seat");
    let mut with_old = seats(&turn(&[3, 4, 5]));
    with_old[2] = (c, None);
    assert!(!stands(&mut desk, by, set_of(first, 1, 2, &with_old, &[])).1, "one that had one");
    let (_, does) = stands(&mut desk, by, set_of(first, 1, 2, &seats(&turn(&[6, 7, 8])), &[]));
    assert!(does);
}

/// Somebody who wrote in so many lives that no proposal has room for them could not be taken out: nobody would sign one.
#[test]
fn who_wrote_in_many_lives_can_be_taken_out_and_a_few_are_all_let_stand() {
    let (mut desk, all, base) = hall(14, 3, 2);
    let [a, b, c] = [&all[0], &all[1], &all[2]];
    let x = SigningKey::generate(&mut desk.rng);
    let said: Vec<(u32, u64)> = (1..=300).map(|life| (life, 1)).collect();
    let (few, many) = (&said[..3], &said[3..]);
    let proposed = |desk: &mut Desk, life, cut: Lives<'_>| {
        let op = desk.next(a, life, set_on(base, 1, 2, &[a, b, &x], &[(c, cut)]));
        desk.judged().cuts_nothing(&op)
    };
    for (life, _) in few {
        desk.next(c, *life, policy(1, "Harbour"));
    }
    assert!(proposed(&mut desk, 1, few));
    assert!(!proposed(&mut desk, 2, &few[..2]), "one is left out");
    assert!(!proposed(&mut desk, 3, &[(1, 0), (2, 1), (3, 1)]), "one is cut short");
    for (life, _) in many {
        desk.next(c, *life, policy(1, "Harbour"));
    }
    assert!(proposed(&mut desk, 4, &said[..256]));
    assert!(!proposed(&mut desk, 5, &said[..255]), "there was room for one more");
}

/// Whoever writes the highest round there is would have the last word.
#[test]
fn rounds_do_not_leap() {
    let (mut desk, all, base) = hall(11, 3, 2);
    let [a, b, c] = [&all[0], &all[1], &all[2]];
    let x = SigningKey::generate(&mut desk.rng);
    for (life, body) in [
        (2, set_on(base, u64::MAX, 2, &[a, b, &x], &[(c, &[])])),
        (3, policy(u64::MAX, "Last Word")),
    ] {
        let op = desk.next(c, life, body);
        desk.endorse(b, life, op);
    }
    let judged = desk.judged();
    assert_eq!((in_office(&judged).op, &judged.roster().name), (base, &None));
    assert_eq!((judged.highest_round(), judged.roster().highest_policy), (0, 0));
    let op = desk.next(c, 4, policy(1, "Harbour Clinic"));
    desk.endorse(b, 4, op);
    assert!(desk.judged().roster().name.is_some(), "control");
}

/// Else a single admin would have as many others fill the log as fit a proposal.
#[test]
fn who_is_named_in_a_proposal_that_nobody_else_signed_writes_nothing() {
    let (mut desk, all, base) = hall(12, 3, 2);
    let [a, b] = [&all[0], &all[1]];
    let fresh = keys(&mut desk, 3);
    let named: Vec<&SigningKey> = fresh.iter().collect();
    let set = desk.next(a, 2, set_on(base, 1, 2, &named, &[]));
    desk.write(&fresh[0], (1, 0), None, &[set], policy(1, "Mine"));
    let op = desk.ops.pop().unwrap();
    assert_eq!(desk.judged().take(op).unwrap_err(), OpError::Stranger);
    let signed = desk.endorse(b, 2, set);
    // In the eyes of whoever did not hear of the second signature it still is not.
    desk.write(&fresh[0], (2, 0), None, &[set], policy(1, "Mine"));
    let op = desk.ops.pop().unwrap();
    assert_eq!(desk.judged().take(op).unwrap_err(), OpError::Stranger);
    desk.write(&fresh[0], (3, 0), None, &[signed], policy(1, "Mine"));
    desk.judged();
}

#[test]
fn one_admin_cannot_take_the_device_of_another() {
    let mut desk = Desk::new(13);
    let genesis = desk.last;
    let people: Vec<SigningKey> =
        (1..4).map(|life| desk.person(life, ["Dana", "Sam", "Noor"][life as usize - 1])).collect();
    let devices: Vec<_> = people.iter().map(|person| desk.device(person, 1).id()).collect();
    let founder = copy(&desk.admin);
    let fresh = keys(&mut desk, 3);
    let seats: Vec<_> = fresh.iter().zip(people.iter().map(Some)).collect();
    let all: Lives<'_> = &[(0, 1), (1, 1), (2, 1), (3, 1), (4, 1)];
    desk.next(&founder, 4, set_of(genesis, 1, 2, &seats, &[(&founder, all)]));
    let removal = desk.next(&fresh[0], 5, revoke(devices[1], &[(1, 9, 9)]));
    assert!(standing(&desk.judged(), &devices[1]));
    desk.endorse(&fresh[2], 5, removal);
    assert!(!standing(&desk.judged(), &devices[1]), "two may");
}

/// Else one old key, or two, could go back to when that was enough.
#[test]
fn a_set_that_asks_for_more_signatures_has_new_keys() {
    let (mut desk, all, base) = hall(6, 3, 2);
    let each: Vec<&SigningKey> = all.iter().collect();
    let fresh = keys(&mut desk, 5);
    let new: Vec<&SigningKey> = fresh.iter().collect();
    let cuts: Vec<(&SigningKey, &[(u32, u64)])> =
        all.iter().map(|key| (key, [].as_slice())).collect();
    for (life, members, stands) in
        [(11, vec![each[0], new[1], new[2], new[3], new[4]], false), (12, new.clone(), true)]
    {
        let op = desk.next(each[0], life, set_on(base, 1, 3, &members, &cuts));
        desk.endorse(each[1], life, op);
        assert_eq!(in_office(&desk.judged()).op == op, stands, "{life}");
    }
    // Nor does any other form count: one too few or too many to sign, two alone, a key twice, none.
    let last = in_office(&desk.judged()).op;
    let d = SigningKey::generate(&mut desk.rng);
    let forms: [(u32, Vec<&SigningKey>); 6] = [
        (1, vec![new[0], new[1], &d]),
        (3, vec![new[0], new[1], &d]),
        (2, vec![new[0], &d]),
        (2, vec![new[0], new[0], &d]),
        (0, vec![&d]),
        (0, vec![]),
    ];
    let end = desk.last;
    for (round, (k, members)) in (1..).zip(forms) {
        let life = 20 + round as u32;
        desk.write(new[0], (life, 0), None, &[end], set_on(last, round, k, &members, &[]));
        let op = desk.ops.pop().unwrap();
        assert_eq!(desk.judged().take(op).unwrap_err(), OpError::Stranger, "form {round}");
    }
    let op = desk.next(new[0], 30, set_on(last, 1, 2, &[new[0], new[1], &d], &[]));
    desk.endorse(new[1], 30, op);
    desk.endorse(new[2], 30, op);
    assert_eq!(in_office(&desk.judged()).op, op, "control: the same with a sound form");
}

/// One admin may still take a device out; an admin who is none any more may not.
#[test]
fn removals_are_for_those_in_office() {
    let mut desk = Desk::new(7);
    let genesis = desk.last;
    let sam = desk.person(1, "Sam");
    let [one, other] = [1, 2].map(|life| desk.device(&sam, life));
    let founder = copy(&desk.admin);
    let all = keys(&mut desk, 3);
    let each: Vec<&SigningKey> = all.iter().collect();
    let fork = desk.last;
    desk.next(&founder, 2, set_on(genesis, 1, 2, &each, &[(&founder, &[(0, 1), (1, 1), (2, 1)])]));
    let end = desk.last;
    desk.write(&founder, (9, 0), None, &[fork], revoke(one.id(), &[]));
    assert!(standing(&desk.judged(), &one.id()), "by who was");
    desk.last = end;
    desk.next(each[0], 3, revoke(other.id(), &[]));
    let judged = desk.judged();
    assert!(standing(&judged, &one.id()) && !standing(&judged, &other.id()));
    // Nor does anybody become a member by one admin's word any more.
    let key = SigningKey::generate(&mut desk.rng);
    let member = wire::Member { uik: key.public().to_vec(), name: "Rosa".to_owned() };
    desk.next(each[1], 4, Kind::Member(member));
    assert_eq!(desk.judged().roster().view.members.len(), 1);
}

/// Whoever decides alone may write sets without end; others must be able to judge them, on the stack that they have.
#[test]
fn a_chain_of_sets_without_end_is_followed_so_far() {
    let mut desk = Desk::new(8);
    let mut base = desk.last;
    let mut own = copy(&desk.admin);
    let mut sets = Vec::new();
    for life in 1..=400_u32 {
        let next = SigningKey::generate(&mut desk.rng);
        base = desk.next(&own, life, set_on(base, 1, 1, &[&next], &[]));
        sets.push(base);
        own = next;
    }
    let judged = std::thread::Builder::new()
        .stack_size(1 << 20)
        .spawn(move || in_office(&desk.judged()).op)
        .unwrap();
    // Genesis is the first of 256.
    assert_eq!(judged.join().unwrap(), sets[254]);
}

/// Sets of several rounds on several bases, by who may and who may not, with words for any of them from anywhere in the log: in any
/// order and twice each, every log takes the same operations and finds the same admins.
#[test]
fn any_order_and_repetition_of_what_admins_sign_gives_one_council() {
    let (mut replaced, mut later) = (0, 0);
    for seed in 0..24_u64 {
        let mut rng = StdRng::seed_from_u64(seed);
        let (mut desk, all, base) = hall(100 + seed, 4, 3);
        let extra = keys(&mut desk, 4);
        let both: Vec<&SigningKey> = all.iter().chain(&extra).collect();
        let (mut sets, mut rounds) = (vec![base], Vec::new());
        let mut known = vec![desk.last];
        let mut mirror = desk.judged();
        // What is refused is offered to every log, and nothing else builds on it.
        let mut heard = |desk: &Desk, op: OpHash| {
            let taken = mirror.take(desk.ops.last().unwrap().clone()).is_ok();
            taken.then_some(op)
        };
        for step in 0..20_u32 {
            let mut drawn = both.clone();
            drawn.shuffle(&mut rng);
            let newest = rng.random_range(0..2) > 0;
            let on = if newest { *sets.last().unwrap() } else { *pick(&sets, &mut rng) };
            let highest = rounds.iter().filter(|(of, _)| *of == on).map(|(_, round)| *round).max();
            let round = highest.map_or(1, |round| round + u64::from(rng.random_range(0..2_u32)));
            let cut: [(&SigningKey, Lives<'_>); 1] = [(drawn[5], &[(100, 1)])];
            let body = set_on(on, round, 3, &drawn[..4], &cut[..rng.random_range(0..2)]);
            let mut prev: Vec<OpHash> = vec![*known.last().unwrap(), *pick(&known, &mut rng)];
            prev.dedup();
            let author: &SigningKey = both[rng.random_range(0..both.len())];
            let set = desk.write(author, (100 + step, 0), None, &prev, body);
            let Some(set) = heard(&desk, set) else { continue };
            sets.push(set);
            rounds.push((on, round));
            known.push(set);
            for (turn, key) in (0..).zip(drawn.iter().take(7)) {
                let mut prev = vec![set, *pick(&known, &mut rng)];
                prev.dedup();
                let life = 1_000 + 10 * step + turn;
                let op = desk.write(key, (life, 0), None, &prev, endorsement(set));
                known.extend(heard(&desk, op));
            }
        }
        let mut first: Option<(AdminSet, usize, BTreeSet<OpHash>)> = None;
        for round in 0..4 {
            let mut organisation = Organisation::new(desk.org);
            let mut left: Vec<wire::Op> = desk.ops.iter().chain(&desk.ops).cloned().collect();
            if round > 0 {
                left.shuffle(&mut rng);
            }
            let (mut before, mut taken) = (usize::MAX, 0);
            while left.len() < before {
                before = left.len();
                left.retain(|op| match organisation.take(op.clone()) {
                    Ok(new) => {
                        taken += usize::from(new.is_some());
                        false
                    }
                    Err(error) => error == OpError::Orphan,
                });
                // Judging halfway changes nothing of the end.
                organisation.refresh();
            }
            let office = organisation.roster().council.in_office().unwrap().clone();
            let state = (office, taken, organisation.heads().clone());
            let first = first.get_or_insert_with(|| state.clone());
            assert_eq!(*first, state, "seed {seed}, round {round}");
        }
        let (office, ..) = first.unwrap();
        replaced += u32::from(office.op != base);
        later += u32::from(office.round > 1);
    }
    // The control: it was about something.
    assert!(replaced >= 8 && later >= 3, "{replaced} replaced, {later} in a later round");
}

fn pick<'a, T>(of: &'a [T], rng: &mut StdRng) -> &'a T {
    use rand::seq::IndexedRandom as _;
    of.choose(rng).unwrap()
}
