//! Lives of a device: copies restored again and again, homes put back as a whole, and members that begin lives to have others
//! work for them.

use crate::{
    removal::{id, kind, revoke},
    restored::{alert, connect_all, copy_of, count, lives, numbers, start_from},
    world::{Flying, World, pass},
};
use oob_crypto::{BundleFields, BundleSecrets, OlmAccount, SigningKey, signed::sign};
use oob_engine::{
    effect::Effect,
    input::{Arrived, Command, Input, Ticket},
    model::{MessageState, Text},
};
use oob_proto::{
    Incarnation, Message,
    signing::SignedType,
    wire::{self, Frame, frame::Kind},
};
use oob_store::{Area, Bag, Store};
use rand::{SeedableRng, rngs::StdRng};
use std::collections::BTreeSet;

const DAY_MS: u64 = 86_400_000;

/// The second store made of a copy gave its first bundle the number the first one's had: the others took it for the one they
/// knew, and sealed for secrets that were gone.
#[test]
fn a_copy_restored_twice_makes_a_device_that_is_heard_and_hears() {
    // With a clock that went on, and with one that stands where it stood.
    for stands in [false, true] {
        let mut world = World::organisation(&["Dana", "Sam", "Rosa"]);
        connect_all(&mut world);
        let (copy, _) = copy_of(&mut world, 1);
        let from = world.mono_ms;
        for round in 0..3 {
            world.kill(1);
            if stands {
                world.devices[1].clock_ahead_ms = from as i64 - world.mono_ms as i64;
            }
            start_from(&mut world, 1, &copy);
            connect_all(&mut world);
            connect_all(&mut world);
            world.send(0, 1, &format!("do you hear me, {round}"));
            world.send(1, 0, &format!("I am here, {round}"));
            world.rest();
            let (sams, danas) = (world.texts(1, 0), world.texts(0, 1));
            for texts in [&sams, &danas] {
                assert_eq!(count(texts, &format!("do you hear me, {round}")), 1, "{texts:?}");
                assert_eq!(count(texts, &format!("I am here, {round}")), 1, "{texts:?}");
            }
        }
    }
}

/// What is needed to write bundles as Mallory's engine never would: from her own disk.
struct Pen {
    dsk: SigningKey,
    olm: OlmAccount,
    next: u64,
}

impl Pen {
    fn of(world: &World, device: usize) -> Self {
        let disk = world.devices[device].disk.image();
        let store =
            Store::with_backend(disk.parts(), &pass(), StdRng::seed_from_u64(2)).unwrap().store;
        let own = store.get(&Bag::new(Area(1), &[]), 0).unwrap().unwrap();
        let identity = wire::StoredIdentity::decode(own.as_slice()).unwrap();
        Self {
            dsk: SigningKey::from_secret(&identity.dsk.try_into().unwrap()),
            olm: OlmAccount::from_secret(&identity.olm_account).unwrap(),
            next: 4_000_000_000,
        }
    }

    /// The next bundle, of some life.
    fn bundle(&mut self, world: &mut World, device: usize, life: u32) -> Kind {
        self.next += 1;
        self.numbered(world, device, (life, self.next, self.next))
    }

    /// A bundle of a life, with its own number and that of its record.
    fn numbered(
        &self,
        world: &mut World,
        device: usize,
        (life, seq, record_seq): (u32, u64, u64),
    ) -> Kind {
        let fields = BundleFields {
            device: id(world, device),
            seq,
            not_after: world.now(device).wall_ms + 7 * DAY_MS,
            incarnation: Incarnation(life),
            record_seq,
        };
        let mut rng = StdRng::seed_from_u64(seq);
        let (payload, _) = BundleSecrets::generate(&mut rng, &self.olm, &fields);
        let org = world.engine(device).snapshot().org.as_ref().unwrap().id;
        Kind::Bundle(sign(SignedType::Bundle, &org, payload, &[&self.dsk]))
    }
}

/// Lets arrive what two need to say before records go out, and nothing of what they then send.
fn greet_only(world: &mut World) {
    while let Some(flying) = world.flying.pop_front() {
        if matches!(kind(&flying), Kind::Hello(_) | Kind::Have(_) | Kind::RelayCert(_)) {
            world.arrive(&flying);
        }
    }
}

/// How often Dana seals ten messages again for Mallory, who begins another life every minute for forty minutes.
fn sealed_for_mallory(restarts: bool) -> usize {
    let mut world = World::organisation(&["Dana", "Sam", "Mallory"]);
    let mut link = world.connect(0, 2);
    world.rest();
    let mut pen = Pen::of(&world, 2);
    for n in 0..10 {
        world.send(0, 2, &format!("never confirmed {n}"));
    }
    world.flying.clear();
    for minute in 0..40 {
        if restarts && minute % 8 == 7 {
            world.cut(link);
            world.kill(0);
            world.start(0);
            link = world.connect(0, 2);
            greet_only(&mut world);
        }
        let bundle = Frame::new(pen.bundle(&mut world, 2, 1 + minute % 2)).encode_to_vec();
        let arrived = Arrived { age_s: 0, ..world.screened(0, &bundle) };
        world.input(0, Input::Frames { link, frames: vec![arrived] });
        world.flying.clear();
        world.pass(61_000);
        world.flying.clear();
    }
    let sealed = world.wire.iter().filter(|flying| flying.from == 0);
    assert!(sealed.filter(|flying| matches!(kind(flying), Kind::Envelope(_))).count() > 10);
    numbers(&mut world, 0, 2).len()
}

/// A bundle a minute had everybody seal again, each minute, all that its author never confirmed.
#[test]
fn alternating_lives_have_others_seal_again_ever_more_seldom() {
    let sealed = sealed_for_mallory(false);
    assert!((20..=80).contains(&sealed), "{sealed}");
}

/// A restart of whoever seals takes nothing back: what it owed is sealed, and the pause goes on.
#[test]
fn the_pause_before_sealing_again_outlives_a_restart() {
    let sealed = sealed_for_mallory(true);
    assert!((20..=100).contains(&sealed), "{sealed}");
}

/// Mallory began two lives within the pause, so what Dana wrote waited to be sealed again when Mallory was removed. It was owed to
/// nobody then, and read "stored" for ever.
#[test]
fn what_waited_to_be_sealed_again_for_a_removed_device_is_told_to_be_that() {
    let mut world = World::organisation(&["Dana", "Sam", "Mallory"]);
    let link = world.connect(0, 2);
    world.rest();
    let mut pen = Pen::of(&world, 2);
    let (conversation, number) = world.send(0, 2, "never confirmed");
    world.flying.clear();
    for life in [1, 2] {
        assert_eq!(world.engine(0).snapshot().outbox, 1);
        let bundle = Frame::new(pen.bundle(&mut world, 2, life)).encode_to_vec();
        let arrived = Arrived { age_s: 0, ..world.screened(0, &bundle) };
        world.input(0, Input::Frames { link, frames: vec![arrived] });
        world.flying.clear();
    }
    assert_eq!(world.engine(0).snapshot().outbox, 0, "control: it waits to be sealed again");
    let state =
        |world: &World| world.history(0).receipt(&conversation, number).unwrap().unwrap().state;
    assert!(state(&world) < MessageState::Removed);
    revoke(&mut world, 0, 2);
    assert_eq!(state(&world), MessageState::Removed);
    world.kill(0);
    world.start(0);
    assert_eq!(state(&world), MessageState::Removed);
}

/// A device of which sixteen lives were known was never heard again.
#[test]
fn a_device_that_begins_its_twentieth_life_is_still_heard() {
    let mut world = World::organisation(&["Dana", "Sam", "Rosa"]);
    connect_all(&mut world);
    let (copy, _) = copy_of(&mut world, 1);
    for life in 0..20 {
        world.kill(1);
        start_from(&mut world, 1, &copy);
        world.connect(0, 1);
        world.rest();
        let text = format!("from life {life}");
        world.send(1, 0, &text);
        world.rest();
        assert_eq!(count(&world.texts(0, 1), &text), 1, "{text}");
    }
    // Rosa was away for all of it, and hears it of Dana.
    world.send(1, 2, "to Rosa");
    world.rest();
    world.kill(1);
    world.connect(0, 2);
    world.rest();
    assert_eq!(count(&world.texts(2, 1), "to Rosa"), 1);
    let first = world.wire.iter().position(|flying| flying.from == 1 && flying.to == 0).unwrap();
    let old: Vec<_> =
        world.wire[first..].iter().filter(|flying| flying.from == 1).cloned().collect();
    let before = world.texts(0, 1);
    for flying in old.iter().filter(|flying| matches!(kind(flying), Kind::Envelope(_))) {
        let frame = Box::new(world.screened(0, &flying.frame));
        let from = world.devices[2].key;
        world.input(0, Input::Gossip { from, frame });
    }
    assert_eq!(world.texts(0, 1), before, "replays of dead lives are refused");
}

/// Sam's home is put back as a whole to where it was before he wrote three messages.
fn taken_back(world: &mut World) {
    let image = world.devices[1].disk.image();
    for n in 0..3 {
        world.send(1, 0, &format!("after the image {n}"));
        world.send(0, 1, &format!("after the image, back {n}"));
    }
    world.rest();
    world.kill(1);
    world.devices[1].disk = image;
    world.start(1);
}

/// The numbers of records that an alert and an answer got before the home met anybody were known to others as other records.
#[test]
fn what_was_raised_and_answered_before_a_home_put_back_met_anybody_arrives() {
    let mut world = World::organisation(&["Dana", "Sam", "Rosa"]);
    connect_all(&mut world);
    alert(&mut world, 0, "are you well?");
    world.rest();
    taken_back(&mut world);
    let asked = world.history(1).alerts(10).unwrap()[0].0.id;
    world.command(1, Command::AckAlert { id: asked, answer: None }).unwrap();
    alert(&mut world, 1, "the mail server is theirs");
    world.connect(0, 1);
    world.rest();
    connect_all(&mut world);
    assert!(world.engine(1).snapshot().me.restored_ms.is_some());
    for device in [0, 2] {
        let alerts = world.history(device).alerts(10).unwrap();
        let raised =
            alerts.iter().filter(|(alert, _)| alert.text.as_str().contains("mail server")).count();
        assert_eq!(raised, 1, "device {device}: {alerts:?}");
    }
    let (_, acks) = world.history(0).alert(&asked).unwrap().unwrap();
    assert!(acks.iter().any(|ack| ack.member == world.member(1)), "{acks:?}");
}

/// Rosa's word of Sam was as old as his home. That she knew nothing later ended the doubt for all others.
#[test]
fn a_neighbour_that_knows_nothing_later_does_not_speak_for_others() {
    let mut world = World::organisation(&["Dana", "Sam", "Rosa"]);
    connect_all(&mut world);
    for link in world.links.keys().copied().collect::<Vec<_>>() {
        world.cut(link);
    }
    let with_rosa = world.connect(1, 2);
    world.rest();
    world.cut(with_rosa);
    let image = world.devices[1].disk.image();
    world.connect(0, 1);
    world.rest();
    for n in 0..3 {
        world.send(1, 0, &format!("after the image {n}"));
        world.rest();
    }
    world.kill(1);
    world.devices[1].disk = image;
    world.start(1);
    world.send(1, 0, "written before he met anybody");
    let with_rosa = world.connect(1, 2);
    world.rest();
    world.cut(with_rosa);
    assert!(world.engine(1).snapshot().me.restored_ms.is_none(), "control: she cannot tell");
    world.connect(0, 1);
    world.rest();
    world.connect(0, 1);
    world.rest();
    assert!(world.engine(1).snapshot().me.restored_ms.is_some());
    assert_eq!(count(&world.texts(0, 1), "written before he met anybody"), 1);
}

/// A home put back as a whole says of its records what was so once; some numbers it has given to others since. Its neighbour
/// knows a later word, and dropped what it carried all the same.
#[test]
fn an_older_word_of_a_device_makes_nothing_of_it_gone() {
    let mut world = World::organisation(&["Dana", "Sam", "Rosa"]);
    connect_all(&mut world);
    world.kill(2);
    world.rest();
    let image = world.devices[1].disk.image();
    for n in 0..6 {
        world.send(1, 2, &format!("for Rosa {n}"));
        world.rest();
    }
    world.kill(1);
    world.devices[1].disk = image;
    world.start(1);
    // Alone for two weeks: keys were replaced twice, and the numbers of the first are not needed any more.
    world.pass(8 * DAY_MS);
    world.pass(8 * DAY_MS);
    world.connect(0, 1);
    world.rest();
    world.kill(1);
    world.start(2);
    world.connect(0, 2);
    world.rest();
    let rosas = world.texts(2, 1);
    assert_eq!(rosas.len(), 6, "{rosas:?}");
}

/// Two machines run one identity: each was shown the other's later bundle, began another life, and with it overtook the other.
#[test]
fn two_machines_of_one_identity_stop_beginning_lives_and_are_told() {
    let mut world = World::organisation(&["Dana", "Sam"]);
    world.connect(0, 1);
    world.rest();
    let image = world.devices[1].disk.image();
    let mut disks = [world.devices[1].disk.image(), image];
    let mut known = 0;
    for round in 0..16 {
        world.kill(1);
        world.devices[1].disk = disks[round % 2].clone();
        world.start(1);
        for _ in 0..2 {
            world.connect(0, 1);
            world.rest();
        }
        world.send(1, 0, &format!("from either {round}"));
        world.rest();
        disks[round % 2] = world.devices[1].disk.clone();
        let all = lives(&world, 1);
        if round == 9 {
            known = all.len();
            assert!(known <= 8, "{known} lives");
        }
    }
    assert_eq!(lives(&world, 1).len(), known, "none is begun any more");
    for disk in &disks {
        world.kill(1);
        world.devices[1].disk = disk.clone();
        world.start(1);
        assert!(world.engine(1).snapshot().me.elsewhere_ms.is_some(), "and it is said");
    }
    let danas = world.texts(0, 1);
    for round in 0..16 {
        assert_eq!(count(&danas, &format!("from either {round}")), 1, "{round}: {danas:?}");
    }
    // With one of them stopped the other is heard again after some days.
    world.kill(1);
    world.devices[1].disk = disks[0].clone();
    world.start(1);
    for _ in 0..8 {
        world.pass(DAY_MS);
        world.connect(0, 1);
        world.rest();
    }
    world.connect(0, 1);
    world.send(0, 1, "only one of you now");
    world.rest();
    assert_eq!(count(&world.texts(1, 0), "only one of you now"), 1);
    assert!(world.engine(1).snapshot().me.elsewhere_ms.is_none(), "and it is said no more");
}

/// Where there was no room for another life, callers waited for ever for their answer, and streams stayed.
#[test]
fn where_there_is_no_room_for_another_life_callers_are_told_and_streams_end() {
    let mut world = World::organisation(&["Dana", "Sam", "Rosa"]);
    connect_all(&mut world);
    taken_back(&mut world);
    let link = world.connect(0, 1);
    let sam = id(&mut world, 1);
    let shown = |flying: &Flying| match kind(flying) {
        Kind::Have(have) => {
            let have = wire::Have::decode(have.payload.as_slice()).unwrap();
            flying.from == 0 && have.device == sam.as_bytes()
        }
        _ => false,
    };
    let have = loop {
        let flying = world.flying.pop_front().expect("Dana shows Sam his own word");
        if shown(&flying) {
            break flying;
        }
        world.arrive(&flying);
    };
    let (to, now) = (world.member(0), world.now(1));
    let arrived = world.screened(1, &have.frame);
    world.devices[1].disk.set_free(Some(600));
    let text = Text::parse("is there room?").unwrap();
    let command = Box::new(Command::Send { to, text });
    let engine = world.engine(1);
    engine.handle(Input::Command { ticket: Ticket(9_999), command }, now);
    engine.handle(Input::Frames { link, frames: vec![arrived] }, now);
    let outcome = engine.commit(now).unwrap();
    assert_eq!(outcome.replies.len(), 1);
    assert!(outcome.replies.iter().all(|reply| reply.result.is_err()));
    let closes = |effect: &Effect| matches!(effect, Effect::Close { link: of, .. } if *of == link);
    assert!(outcome.effects.iter().any(closes), "{:?}", outcome.effects);
    assert!(world.engine(1).snapshot().me.restored_ms.is_none(), "control: there was no room");
    world.cut(link);
    world.devices[1].disk.set_free(None);
    connect_all(&mut world);
    connect_all(&mut world);
    assert!(world.engine(1).snapshot().me.restored_ms.is_some(), "with room it begins");
    world.send(1, 0, "there is");
    world.rest();
    assert_eq!(count(&world.texts(0, 1), "there is"), 1);
}

/// The numbers of all words that a device gave to anybody.
fn words(world: &World, device: usize) -> BTreeSet<u64> {
    let mine = world.wire.iter().filter(|flying| flying.from == device);
    let own = world.devices[device].engine.as_ref().unwrap().snapshot().me.device;
    mine.filter_map(|flying| match kind(flying) {
        Kind::Have(signed) => {
            let have = wire::Have::decode(signed.payload.as_slice()).unwrap();
            (have.device == own.as_bytes()).then_some(have.number)
        }
        _ => None,
    })
    .collect()
}

/// Dana's machine loses power, and so does Sam's, whose home comes from an image of a minute ago. What Dana had heard of Sam was
/// kept in memory alone until their stream ended in peace: she knew nothing of what he had said since, and he went on with
/// numbers that she knew.
#[test]
fn a_neighbour_that_was_killed_on_a_live_stream_knows_the_last_word() {
    for rests in [false, true] {
        let mut world = World::organisation(&["Dana", "Sam"]);
        world.connect(0, 1);
        world.rest();
        world.send(1, 0, "before");
        world.rest();
        let image = world.devices[1].disk.image();
        for n in 0..3 {
            world.send(1, 0, &format!("after the image {n}"));
            world.settle();
        }
        if rests {
            world.rest();
        }
        world.kill(0);
        world.start(0);
        world.kill(1);
        world.devices[1].disk = image;
        world.start(1);
        world.send(1, 0, "written before he met anybody");
        world.connect(0, 1);
        world.rest();
        assert!(world.engine(1).snapshot().me.restored_ms.is_some());
        world.connect(0, 1);
        world.rest();
        assert_eq!(count(&world.texts(0, 1), "written before he met anybody"), 1);
        numbers(&mut world, 1, 0);
    }
}

/// Sam's home is put back to where it was one word before the last, and speaks to Rosa before it meets Dana, or does not. Rosa
/// knows of nothing. By the number alone his words were as late as what Dana had heard.
fn behind_by_one_word(to_rosa: usize, starts: bool) {
    let mut world = World::organisation(&["Dana", "Sam", "Rosa"]);
    connect_all(&mut world);
    for link in world.links.keys().copied().collect::<Vec<_>>() {
        world.cut(link);
    }
    let link = world.connect(0, 1);
    world.rest();
    let image = world.devices[1].disk.image();
    let before = words(&world, 1).last().copied().unwrap();
    world.send(1, 0, "after the image");
    // Her receipt is lost, which would have him speak once more.
    while let Some(flying) = world.flying.pop_front() {
        if flying.from == 1 {
            world.arrive(&flying);
        }
    }
    world.cut(link);
    assert_eq!(words(&world, 1).last().copied(), Some(before + 1), "control: one word");
    world.kill(1);
    world.devices[1].disk = image;
    world.start(1);
    for _ in 0..to_rosa {
        let link = world.connect(1, 2);
        world.rest();
        world.send(1, 2, "to Rosa alone");
        world.rest();
        world.cut(link);
        if starts {
            world.kill(1);
            world.start(1);
        }
    }
    world.send(1, 0, "written before he met Dana");
    assert!(world.engine(1).snapshot().me.restored_ms.is_none(), "he cannot know yet");
    world.connect(0, 1);
    world.rest();
    assert!(world.engine(1).snapshot().me.restored_ms.is_some(), "{to_rosa}");
    connect_all(&mut world);
    connect_all(&mut world);
    assert_eq!(count(&world.texts(0, 1), "written before he met Dana"), 1);
    // Shown twice at worst: nobody could say which number she knows it by.
    assert!(count(&world.texts(2, 1), "to Rosa alone") >= to_rosa);
}

#[test]
fn a_home_that_is_one_word_behind_begins_another_life() {
    behind_by_one_word(0, false);
}

#[test]
fn words_said_to_others_since_do_not_hide_that_a_home_was_put_back() {
    behind_by_one_word(1, false);
    behind_by_one_word(3, false);
}

/// Sixteen starts at which he said anything, and he took her word for one of his.
#[test]
fn twenty_starts_since_do_not_hide_that_a_home_was_put_back() {
    behind_by_one_word(20, true);
}

/// Sam's image is of before his relay key was replaced. Put back, he makes the same generation once more, with another key: Dana
/// believed none of his words any more, and showed him nothing, since hers was no later.
#[test]
fn a_home_put_back_across_one_change_of_keys_begins_another_life() {
    let mut world = World::organisation(&["Dana", "Sam"]);
    let link = world.connect(0, 1);
    world.rest();
    let image = world.devices[1].disk.image();
    world.pass(DAY_MS);
    world.send(1, 0, "after the image");
    world.rest();
    let generations = |world: &mut World| {
        let sam = world.engine(1).snapshot().me.device;
        let keys = world.engine(0).snapshot().screening.clone();
        keys.relays.iter().filter(|(_, (of, _))| *of == sam).count()
    };
    assert_eq!(generations(&mut world), 2, "control: one change");
    world.cut(link);
    world.kill(1);
    world.devices[1].disk = image;
    world.start(1);
    world.send(1, 0, "written before he met Dana");
    assert!(world.engine(1).snapshot().me.restored_ms.is_none(), "he cannot know yet");
    world.connect(0, 1);
    world.rest();
    assert!(world.engine(1).snapshot().me.restored_ms.is_some());
    world.connect(0, 1);
    world.rest();
    assert_eq!(count(&world.texts(0, 1), "written before he met Dana"), 1);
}

/// Sam's home is put back across one change of bundles, and of nothing else: the one that others hold has the number of the one
/// he made since, and is another. By the number alone it was no later, and what was sealed for it never opened.
#[test]
fn another_bundle_of_ones_own_with_the_same_number_begins_another_life() {
    for is_other in [false, true] {
        let mut world = World::organisation(&["Dana", "Sam"]);
        world.connect(0, 1);
        world.rest();
        world.pass(8 * DAY_MS);
        world.rest();
        let bundles = world.wire.iter().filter(|flying| flying.from == 1);
        let mut newest = bundles.filter_map(|flying| match kind(flying) {
            Kind::Bundle(signed) => Some(signed),
            _ => None,
        });
        let newest = newest.next_back().expect("control: a week has passed");
        let raw = wire::PrekeyBundle::decode(newest.payload.as_slice()).unwrap();
        let of = (raw.incarnation, raw.seq, raw.record_seq);
        let shown = match is_other {
            true => Pen::of(&world, 1).numbered(&mut world, 1, of),
            false => Kind::Bundle(newest),
        };
        let link = *world.links.keys().next().unwrap();
        let frame = Frame::new(shown).encode_to_vec();
        world.arrive(&Flying { from: 0, to: 1, link, frame });
        let restored = world.engine(1).snapshot().me.restored_ms.is_some();
        assert_eq!(restored, is_other);
    }
}

/// The runs that words of a device were said in, since a place on the wire.
fn runs(world: &mut World, device: usize, since: usize) -> BTreeSet<u32> {
    let own = id(world, device);
    let mine = world.wire[since..].iter().filter(|flying| flying.from == device);
    mine.filter_map(|flying| match kind(flying) {
        Kind::Have(signed) => {
            let have = wire::Have::decode(signed.payload.as_slice()).unwrap();
            (have.device == own.as_bytes()).then_some(have.run)
        }
        _ => None,
    })
    .collect()
}

/// Each batch that was given up, for want of room or for a record that nobody can read, began another run: a few of them, which a
/// neighbour can bring about, and the runs were forgotten that would convict a home put back. Nor does it go on in the run
/// of before the start: another store made of the same image would have said its words in that.
#[test]
fn a_batch_that_was_given_up_leaves_the_run_of_words_as_it_was() {
    let mut world = World::organisation(&["Dana", "Sam"]);
    world.connect(0, 1);
    world.rest();
    let before = runs(&mut world, 1, 0);
    world.kill(1);
    world.start(1);
    let since = world.wire.len();
    let to = world.member(0);
    for n in 0..5 {
        world.devices[1].disk.set_free(Some(0));
        let text = Text::parse(format!("there is no room {n}")).unwrap();
        assert!(world.command(1, Command::Send { to, text }).is_err(), "control: given up");
        world.devices[1].disk.set_free(None);
        world.connect(0, 1);
        world.rest();
    }
    let mut said = runs(&mut world, 1, since);
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said.is_disjoint(&before), "{said:?} {before:?}");
    // The control: a start begins another.
    world.kill(1);
    world.start(1);
    world.connect(0, 1);
    world.rest();
    said.extend(runs(&mut world, 1, since));
    assert_eq!(said.len(), 2);
}

/// The control: whoever is restarted, in peace or not, is shown words that it said itself, and goes on in its life.
#[test]
fn a_device_that_was_only_restarted_goes_on_in_its_life() {
    let mut world = World::organisation(&["Dana", "Sam", "Rosa"]);
    connect_all(&mut world);
    world.kill(2);
    let (mut shown, since) = (0, world.wire.len());
    for round in 0..40 {
        // Rosa comes every twentieth time, and knows words of runs that Sam has long forgotten.
        if round % 20 == 19 {
            world.start(2);
            world.connect(1, 2);
            world.rest();
            world.kill(2);
        }
        world.send(1, 0, &format!("round {round}"));
        world.settle();
        world.kill(if round % 3 == 0 { 0 } else { 1 });
        world.start(if round % 3 == 0 { 0 } else { 1 });
        world.connect(0, 1);
        world.settle();
    }
    let sam = id(&mut world, 1);
    for flying in world.wire[since..].iter().filter(|flying| flying.to == 1) {
        if let Kind::Have(signed) = kind(flying) {
            let have = wire::Have::decode(signed.payload.as_slice()).unwrap();
            shown += usize::from(have.device == sam.as_bytes());
        }
    }
    assert!(shown > 10, "control: {shown} of his own words were shown to him");
    assert!(world.engine(1).snapshot().me.restored_ms.is_none());
    assert_eq!(lives(&world, 1).len(), 1);
    assert_eq!(world.texts(0, 1).len(), 40);
}
