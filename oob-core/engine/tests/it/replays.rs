//! Whoever carries messages may lose them, repeat them and change their order. What is shown is never out of order and
//! never twice, whatever comes; and all of it is shown once all of it came.

use crate::world::{Flying, World};
use oob_engine::{envelope::Screened, input::Input};
use rand::{RngExt as _, SeedableRng, rngs::StdRng, seq::SliceRandom as _};

/// Orders tried: few in an ordinary run; `OOB_PERMUTATIONS=100000` tries what the design asks for.
fn permutations() -> usize {
    std::env::var("OOB_PERMUTATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(150)
}

/// Rounds of one world; then a new one begins, so that nothing of a long run is held in memory.
const ROUNDS: usize = 50;

/// Every run is the same; another number, other orders.
const SEED: u64 = 7;

/// Messages of a round.
const BATCH: usize = 8;

const DAY_MS: u64 = 86_400_000;

/// Hands an envelope over as it comes by gossip: in no order, and without a stream that would notice a loss.
fn hand(world: &mut World, flying: &Flying) {
    let arrived = world.screened(1, &flying.frame);
    assert!(matches!(arrived.frame, Screened::Envelope(_)), "{arrived:?}");
    let from = world.devices[0].key;
    world.input(1, Input::Gossip { from, frame: Box::new(arrived) });
    world.flying.clear();
}

fn is_envelope(flying: &Flying) -> bool {
    matches!(crate::removal::kind(flying), oob_proto::wire::frame::Kind::Envelope(_))
}

#[test]
fn in_any_order_with_losses_and_repetitions_each_message_is_shown_once_and_in_order() {
    let (mut tried, mut holes, mut first_flights) = (0, 0, 0);
    let mut rng = StdRng::seed_from_u64(SEED);
    while tried < permutations() {
        let mut world = World::organisation(&["Dana", "Sam"]);
        let mut expected: Vec<String> = Vec::new();
        let mut kept: Vec<Flying> = Vec::new();
        for round in 0..ROUNDS.min(permutations() - tried) {
            // A new channel now and then, an answer in most rounds.
            if round % 5 == 4 {
                world.pass(DAY_MS + 1);
            }
            let link = world.connect(0, 1);
            world.settle();
            // Not on the day of a new channel: a receipt of the answer would open it.
            if round % 5 != 4 && rng.random_bool(0.7) {
                world.send(1, 0, "answer");
                world.settle();
            }
            for i in 0..BATCH {
                world.send(0, 1, &format!("{round} {i}"));
            }
            let sent: Vec<Flying> = world.flying.drain(..).filter(is_envelope).collect();
            assert_eq!(sent.len(), BATCH);
            world.cut(link);
            first_flights += sent
                .iter()
                .filter(|flying| match crate::removal::kind(flying) {
                    oob_proto::wire::frame::Kind::Envelope(envelope) => envelope.head[1] == 1,
                    _ => false,
                })
                .count();

            // Some are lost, some come twice, old ones come again; in any order.
            let lost: Vec<bool> = (0..BATCH).map(|_| rng.random_bool(0.15)).collect();
            let mut under_way: Vec<Flying> = Vec::new();
            for (flying, lost) in sent.iter().zip(&lost) {
                let copies = if *lost { 0 } else { rng.random_range(1..3) };
                under_way.extend(std::iter::repeat_n(flying.clone(), copies));
            }
            under_way.extend(kept.iter().filter(|_| rng.random_bool(0.1)).cloned());
            under_way.shuffle(&mut rng);
            for flying in &under_way {
                hand(&mut world, flying);
            }
            let hole = lost.iter().position(|lost| *lost).unwrap_or(BATCH);
            holes += usize::from(hole < BATCH);
            expected.extend((0..hole).map(|i| format!("{round} {i}")));
            assert_eq!(shown(&world, round), expected[first_of(round)..], "the {tried}th");

            // All of it again, in another order: now nothing is missing, and nothing comes twice.
            let mut again = sent.clone();
            again.shuffle(&mut rng);
            for flying in &again {
                hand(&mut world, flying);
            }
            expected.extend((hole..BATCH).map(|i| format!("{round} {i}")));
            assert_eq!(shown(&world, round), expected[first_of(round)..], "the {tried}th");
            kept.extend(sent);
            tried += 1;
        }
        assert_eq!(texts_of_dana(&world, 0), expected, "none came twice at any time");
    }
    assert!(holes * 2 > tried, "control: something was missing in {holes} of {tried}");
    assert!(first_flights * 10 > tried, "control: {first_flights} opened a channel");
}

/// Where the messages of a round begin.
fn first_of(round: usize) -> usize {
    round * BATCH
}

/// What Sam was shown of this round, and anything behind it.
fn shown(world: &World, round: usize) -> Vec<String> {
    texts_of_dana(world, first_of(round))
}

fn texts_of_dana(world: &World, skip: usize) -> Vec<String> {
    let texts = world.texts(1, 0).into_iter().filter(|text| text != "answer");
    texts.skip(skip).collect()
}
