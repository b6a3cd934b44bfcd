//! Messages between two people: delivered and read, in order, once.

use crate::world::World;
use oob_engine::{
    event::Event,
    input::{Command, Input},
    model::MessageState,
};

#[test]
fn a_message_is_stored_then_delivered_then_read() {
    let mut world = World::organisation(&["Dana", "Sam"]);
    let (conversation, number) = world.send(0, 1, "Mail is compromised. Talk here.");
    assert_eq!(
        world.history(0).message(&conversation, number).unwrap().unwrap().state,
        MessageState::Stored
    );
    assert_eq!(world.engine(0).snapshot().outbox, 1);
    world.connect(0, 1);
    world.settle();
    assert_eq!(world.texts(1, 0), ["Mail is compromised. Talk here."]);
    assert_eq!(
        world.history(0).receipt(&conversation, number).unwrap().unwrap().state,
        MessageState::Delivered
    );
    assert_eq!(world.engine(0).snapshot().outbox, 0);
    world.command(1, Command::MarkRead { conversation, up_to: 1 }).unwrap();
    world.settle();
    assert_eq!(
        world.history(0).receipt(&conversation, number).unwrap().unwrap().state,
        MessageState::Read
    );
    let states: Vec<MessageState> = world.devices[0]
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Receipt(receipt) => Some(receipt.state),
            _ => None,
        })
        .collect();
    assert_eq!(states, [MessageState::Delivered, MessageState::Read]);
}

/// What nobody waits for may stay open for company; what somebody waits for must not.
#[test]
fn a_receipt_alone_presses_nobody_and_a_message_does() {
    let mut world = World::organisation(&["Dana", "Sam"]);
    world.connect(0, 1);
    let (conversation, _) = world.send(0, 1, "hello");
    world.settle();
    assert!(!world.engine(0).is_pressing() && !world.engine(1).is_pressing());
    let (_, number) = world.send(0, 1, "Mail is compromised.");
    for (device, presses) in [(1, true), (0, false)] {
        let flying: Vec<_> = world.flying.drain(..).collect();
        assert!(flying.iter().all(|flying| flying.to == device) && !flying.is_empty());
        let frames = flying.iter().map(|flying| world.screened(device, &flying.frame)).collect();
        let (link, now) = (flying[0].link, world.now(device));
        world.engine(device).handle(Input::Frames { link, frames }, now);
        assert_eq!(world.engine(device).is_pressing(), presses, "device {device}");
        world.commit(device);
        assert!(!world.engine(device).is_pressing());
    }
    let receipt = world.history(0).receipt(&conversation, number).unwrap().unwrap();
    assert_eq!(receipt.state, MessageState::Delivered);
    let now = world.now(0);
    world.engine(0).handle(Input::Tick, now);
    assert!(world.engine(0).is_pressing(), "what is due by the clock is not put off");
}

/// Somebody who only reads never answers by the ratchet, and every text to them went in an envelope of twice the size.
#[test]
fn texts_to_somebody_who_only_reads_are_small_once_the_first_was_received() {
    let mut world = World::organisation(&["Dana", "Sam"]);
    world.connect(0, 1);
    world.settle();
    let longest = |world: &mut World| {
        world.wire.clear();
        world.send(0, 1, &"x".repeat(256));
        world.send(0, 1, &"y".repeat(256));
        let sent = world.wire.iter().filter(|flying| flying.from == 0);
        sent.map(|flying| flying.frame.len()).max().unwrap()
    };
    let before = longest(&mut world);
    assert!(before > 1_100, "the keys that begin the session are in it: {before}");
    world.settle();
    let after = longest(&mut world);
    assert!(after < 720, "{after} bytes");
    world.settle();
    assert_eq!(world.texts(1, 0).len(), 4);
    // What was said to have been received is not kept: a start begins with it again.
    world.kill(0);
    world.start(0);
    world.connect(0, 1);
    world.settle();
    assert!(longest(&mut world) > 1_100);
    world.settle();
    assert_eq!(world.texts(1, 0).len(), 6);
}

/// The simulator found it: Sam's receipt was the first flight of Sam's channel, was lost on its way, and a later receipt
/// took its place in the outbox; Dana could then open nothing of that channel any more.
#[test]
fn a_receipt_that_opens_a_channel_is_kept_until_it_arrived() {
    let mut world = World::organisation(&["Dana", "Sam"]);
    let (conversation, number) = world.send(0, 1, "Mail is compromised. Talk here.");
    let link = world.connect(0, 1);
    while world.texts(1, 0).is_empty() {
        let flying = world.flying.pop_front().unwrap();
        world.arrive(&flying);
    }
    world.cut(link);
    world.command(1, Command::MarkRead { conversation, up_to: 1 }).unwrap();
    world.connect(0, 1);
    world.settle();
    assert_eq!(
        world.history(0).receipt(&conversation, number).unwrap().unwrap().state,
        MessageState::Read
    );
}

#[test]
fn a_conversation_goes_both_ways_through_hundreds_of_messages() {
    let mut world = World::organisation(&["Dana", "Sam"]);
    world.connect(0, 1);
    world.settle();
    for i in 0..600 {
        world.send(0, 1, &format!("d{i}"));
        if i % 3 == 0 {
            world.send(1, 0, &format!("s{i}"));
        }
        if i % 50 == 0 {
            world.settle();
        }
    }
    world.settle();
    let from_dana: Vec<String> =
        world.texts(1, 0).into_iter().filter(|text| text.starts_with('d')).collect();
    assert_eq!(from_dana, (0..600).map(|i| format!("d{i}")).collect::<Vec<_>>());
    let mut both = [world.texts(0, 1), world.texts(1, 0)];
    both.iter_mut().for_each(|texts| texts.sort());
    assert_eq!(both[0], both[1]);
    assert_eq!(both[0].len(), 800);
}

#[test]
fn both_writing_first_at_once_settles_on_one_session_and_loses_nothing() {
    let mut world = World::organisation(&["Dana", "Sam"]);
    for i in 0..20 {
        world.send(0, 1, &format!("d{i}"));
        world.send(1, 0, &format!("s{i}"));
    }
    world.connect(0, 1);
    world.settle();
    for i in 20..40 {
        world.send(0, 1, &format!("d{i}"));
        world.send(1, 0, &format!("s{i}"));
        world.settle();
    }
    for (device, with, other) in [(0, 1, 's'), (1, 0, 'd')] {
        let theirs: Vec<String> =
            world.texts(device, with).into_iter().filter(|text| text.starts_with(other)).collect();
        assert_eq!(theirs, (0..40).map(|i| format!("{other}{i}")).collect::<Vec<_>>());
    }
}

#[test]
fn fifty_messages_to_somebody_away_arrive_once_and_in_order() {
    let mut world = World::organisation(&["Dana", "Sam"]);
    world.connect(0, 1);
    world.send(0, 1, "before");
    world.settle();
    world.kill(1);
    for i in 0..50 {
        world.send(0, 1, &format!("m{i}"));
    }
    world.start(1);
    world.connect(0, 1);
    world.settle();
    let expected: Vec<String> =
        std::iter::once("before".to_owned()).chain((0..50).map(|i| format!("m{i}"))).collect();
    assert_eq!(world.texts(1, 0), expected);
    assert_eq!(world.engine(0).snapshot().outbox, 0);
}

#[test]
fn streams_that_break_at_every_frame_lose_and_repeat_nothing() {
    let mut world = World::organisation(&["Dana", "Sam"]);
    let mut sent = 0;
    for round in 0..60 {
        let link = world.connect(0, 1);
        for _ in 0..3 {
            world.send(0, 1, &format!("m{sent}"));
            sent += 1;
        }
        for _ in 0..round % 13 {
            if let Some(flying) = world.flying.pop_front()
                && world.links.contains_key(&flying.link)
            {
                world.arrive(&flying);
            }
        }
        world.cut(link);
    }
    world.connect(0, 1);
    world.settle();
    assert_eq!(world.texts(1, 0), (0..sent).map(|i| format!("m{i}")).collect::<Vec<_>>());
}

#[test]
fn more_than_the_credit_of_a_stream_goes_over_in_the_end() {
    let mut world = World::organisation(&["Dana", "Sam"]);
    for i in 0..1_500 {
        world.send(0, 1, &format!("m{i}"));
    }
    world.connect(0, 1);
    let mut most = 0;
    while let Some(flying) = world.flying.pop_front() {
        world.arrive(&flying);
        most = most.max(world.flying.iter().filter(|flying| flying.to == 1).count());
    }
    assert_eq!(world.texts(1, 0).len(), 1_500);
    assert!(most <= 1_024 + 64, "{most} records were under way at once");
    assert_eq!(world.engine(0).snapshot().outbox, 0);
}

#[test]
fn three_people_talk_in_pairs() {
    let mut world = World::organisation(&["Dana", "Sam", "Noor"]);
    // Sam hears of Noor from Dana.
    for (a, b) in [(0, 1), (0, 2), (1, 2)] {
        world.connect(a, b);
        world.settle();
    }
    for i in 0..30 {
        world.send(0, 1 + i % 2, &format!("d{i}"));
        world.send(1, 2, &format!("s{i}"));
        world.settle();
    }
    assert_eq!(world.texts(2, 1).len(), 30);
    assert_eq!(world.texts(1, 0).len(), 15);
    assert_eq!(world.texts(2, 0).len(), 15);
}

#[test]
fn keys_that_served_long_enough_are_replaced_and_nothing_is_lost() {
    let mut world = World::organisation(&["Dana", "Sam"]);
    world.connect(0, 1);
    world.settle();
    let bundles = |world: &mut World| world.engine(0).snapshot().screening.relays.len();
    let before = bundles(&mut world);
    let mut expected = Vec::new();
    for day in 0..30 {
        let text = format!("day {day}");
        world.send(0, 1, &text);
        world.settle();
        world.send(1, 0, &text);
        world.settle();
        expected.extend([text.clone(), text]);
        world.pass(86_400_000);
        world.settle();
    }
    assert_eq!(world.texts(1, 0), expected);
    assert_eq!(world.texts(0, 1), expected);
    assert!(bundles(&mut world) > before + 20, "a relay key a day");
}

#[test]
fn a_message_to_oneself_or_to_nobody_is_refused() {
    use oob_engine::{effect::CommandError, model::Text};
    let mut world = World::organisation(&["Dana", "Sam"]);
    let me = world.member(0);
    let text = || Text::parse("x").unwrap();
    assert_eq!(
        world.command(0, Command::Send { to: me, text: text() }).unwrap_err(),
        CommandError::Yourself
    );
    let nobody = oob_proto::MemberId::from([7; 32]);
    assert_eq!(
        world.command(0, Command::Send { to: nobody, text: text() }).unwrap_err(),
        CommandError::NoMember
    );
    let mut alone = World::new(&["Kim"]);
    assert_eq!(
        alone.command(0, Command::Send { to: nobody, text: text() }).unwrap_err(),
        CommandError::NoOrg
    );
}

/// Relay keys change daily and envelopes wait for days: every certificate whose envelopes may be under way is shown to
/// whoever comes back. Once it was only the newest, and everything before it was lost.
#[test]
fn somebody_away_for_a_week_reads_every_day_of_it() {
    let mut world = World::organisation(&["Dana", "Sam"]);
    let link = world.connect(0, 1);
    world.send(0, 1, "before");
    world.settle();
    world.cut(link);
    let mut expected = vec!["before".to_owned()];
    for day in 0..9 {
        world.pass(86_400_000);
        expected.push(format!("day {day}"));
        world.send(0, 1, &format!("day {day}"));
    }
    world.connect(0, 1);
    world.settle();
    assert_eq!(world.texts(1, 0), expected);
    assert_eq!(world.engine(0).snapshot().outbox, 0);
}

/// Keeping goes by time that passed here, so a clock that visits another century forgets nothing; and keys go on being
/// replaced after it came back.
#[test]
fn a_clock_at_2099_or_1999_loses_nothing_and_stops_no_rotation() {
    const CENTURY_MS: i64 = 73 * 365 * 86_400_000;
    for away in [CENTURY_MS, -27 * 365 * 86_400_000] {
        let mut world = World::organisation(&["Dana", "Sam"]);
        for i in 0..5 {
            world.send(0, 1, &format!("m{i}"));
        }
        world.devices[1].clock_ahead_ms = away;
        world.pass(60_000);
        world.pass(60_000);
        world.devices[1].clock_ahead_ms = 0;
        world.pass(60_000);
        world.connect(0, 1);
        world.settle();
        assert_eq!(world.texts(1, 0), (0..5).map(|i| format!("m{i}")).collect::<Vec<_>>());
        let relays = |world: &mut World| world.engine(0).snapshot().screening.relays.len();
        let before = relays(&mut world);
        for _ in 0..3 {
            world.pass(86_400_000);
            world.settle();
        }
        assert!(relays(&mut world) >= before + 2, "Sam's relay keys are replaced as ever");
        world.send(1, 0, "back in this century");
        world.settle();
        assert_eq!(world.texts(0, 1).last().unwrap(), "back in this century");
    }
}
