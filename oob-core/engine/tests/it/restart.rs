//! What a device acknowledged survives it.

use crate::world::World;
use oob_engine::{event::Event, input::Input};
use rand::{SeedableRng, rngs::StdRng};

#[test]
fn events_are_numbered_without_gaps_and_read_again_after_a_restart() {
    let mut world = World::organisation(&["Dana", "Sam"]);
    world.connect(0, 1);
    for i in 0..10 {
        world.send(0, 1, &format!("m{i}"));
        world.settle();
    }
    let live = world.devices[0].events.clone();
    world.kill(0);
    world.start(0);
    let (stored, missed) = world.history(0).events(0, 10_000).unwrap();
    assert_eq!(missed, 0);
    assert_eq!(
        stored.iter().map(|numbered| numbered.number).collect::<Vec<_>>(),
        (1..=live.len() as u64).collect::<Vec<_>>()
    );
    let kind = |event: &Event| match event {
        Event::Message(message) => format!("message {}", message.number),
        Event::Receipt(receipt) => format!("receipt {} {}", receipt.message, receipt.state),
        other => format!("{other:?}"),
    };
    let stored: Vec<String> = stored.iter().map(|numbered| kind(&numbered.event)).collect();
    assert_eq!(stored, live.iter().map(kind).collect::<Vec<_>>());
    let (rest, _) = world.history(0).events(7, 10_000).unwrap();
    assert_eq!(rest.first().unwrap().number, 8);
}

/// Every frame that leaves speaks of something durable: power may fail between any commit and the next, and whatever
/// the other side has been told is still so. The control is the store's own: without its sync this fails.
#[test]
fn nothing_leaves_that_a_power_cut_could_take_back() {
    let mut rng = StdRng::seed_from_u64(7);
    for round in 0..12u64 {
        let mut world = World::organisation(&["Dana", "Sam"]);
        world.connect(0, 1);
        world.settle();
        let mut sent = 0;
        for step in 0..20 {
            world.send(0, 1, &format!("m{sent}"));
            sent += 1;
            for _ in 0..(round + step) % 5 {
                if let Some(flying) = world.flying.pop_front()
                    && world.links.contains_key(&flying.link)
                {
                    world.arrive(&flying);
                }
            }
            if step % 4 == round % 4 {
                let device = usize::from((step + round) % 2 == 0);
                world.kill(device);
                world.devices[device].disk.power_cut(&mut rng);
                world.start(device);
                world.connect(0, 1);
            }
        }
        world.settle();
        assert_eq!(
            world.texts(1, 0),
            (0..sent).map(|i| format!("m{i}")).collect::<Vec<_>>(),
            "round {round}"
        );
        assert_eq!(world.texts(0, 1).len(), sent, "round {round}");
    }
}

#[test]
fn a_full_disk_refuses_the_sender_and_loses_nothing() {
    let mut world = World::organisation(&["Dana", "Sam"]);
    world.connect(0, 1);
    world.send(0, 1, "before");
    world.settle();
    world.devices[0].disk.set_free(Some(0));
    let to = world.member(1);
    let text = oob_engine::model::Text::parse("does not fit").unwrap();
    let refused = world.command(0, oob_engine::input::Command::Send { to, text });
    assert!(matches!(refused, Err(oob_engine::effect::CommandError::Store(_))), "{refused:?}");
    assert_eq!(world.texts(0, 1), ["before"], "reading works");
    // From here on it is refused at the door: nothing is loaded, nothing written, and the store is asked once a second.
    let before = world.devices[0].disk.steps();
    for _ in 0..3 {
        world.connect(0, 1);
        world.settle();
        assert!(world.links.is_empty(), "a link to a device that can keep nothing is closed");
        let to = world.member(1);
        let text = oob_engine::model::Text::parse("nor does this").unwrap();
        let again = world.command(0, oob_engine::input::Command::Send { to, text });
        assert!(matches!(again, Err(oob_engine::effect::CommandError::Store(_))), "{again:?}");
        let now = world.now(0).mono_ms;
        assert_eq!(world.engine(0).next_deadline(), Some(now + 1_000));
    }
    assert_eq!(world.devices[0].disk.steps(), before);
    world.devices[0].disk.set_free(None);
    world.connect(0, 1);
    world.send(0, 1, "after");
    world.settle();
    assert_eq!(world.texts(1, 0), ["before", "after"]);
}

/// The simulator found it: the first operation after this device joined made it load what was stored of everybody, over
/// what the same batch had changed; the channel to Dana went back, and its next message was taken for the one before.
#[test]
fn a_batch_that_changes_the_roster_keeps_what_else_it_changed() {
    let mut world = World::organisation(&["Dana", "Sam"]);
    world.send(1, 0, "one");
    let link = world.invite(0);
    let to = world.member(0);
    let now = world.now(1);
    let text = oob_engine::model::Text::parse("two".to_owned()).unwrap();
    let commands = [
        oob_engine::input::Command::Send { to, text },
        oob_engine::input::Command::Learn { ops: link.ops },
    ];
    for (i, command) in (100..).zip(commands) {
        let ticket = oob_engine::input::Ticket(i);
        let command = Box::new(command);
        world.engine(1).handle(Input::Command { ticket, command }, now);
    }
    assert!(world.commit(1).iter().all(Result::is_ok));
    world.send(1, 0, "three");
    assert_eq!(world.engine(1).snapshot().outbox, 3);
    world.connect(0, 1);
    world.settle();
    assert_eq!(world.texts(0, 1), ["one", "two", "three"]);
}

#[test]
fn a_batch_of_many_inputs_is_one_commit() {
    let mut world = World::organisation(&["Dana", "Sam"]);
    let to = world.member(1);
    let before = world.devices[0].disk.steps();
    world.input(0, Input::Tick);
    let idle = world.devices[0].disk.steps() - before;
    assert_eq!(idle, 0, "nothing to do costs nothing");
    let now = world.now(0);
    for i in 0..64u64 {
        let text = oob_engine::model::Text::parse(format!("m{i}")).unwrap();
        let command = Box::new(oob_engine::input::Command::Send { to, text });
        world
            .engine(0)
            .handle(Input::Command { ticket: oob_engine::input::Ticket(i), command }, now);
    }
    assert_eq!(world.commit(0).len(), 64);
    let steps = world.devices[0].disk.steps() - before;
    assert!(steps < 20, "{steps} steps of the disk for 64 messages");
}
