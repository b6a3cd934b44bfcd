//! What the rules cost: from a text handed to one device until another tells it, everything sealed, signed, stored and
//! receipted, with stores in memory and no network between. One thread does both sides' work.

use super::{
    Failed,
    crew::Crew,
    rounds::{Effort, Row, Times},
};
use crate::TEXT_BYTES;
use std::time::{Duration, Instant};

const GROUP: &str = "engine";

/// Who receives in the fan-out.
const READERS: usize = 10;

/// Rounds of the fan-out that are under way at once.
const UNDER_WAY: usize = 8;

/// Messages before anything counts: the first flight, and the first turn of the ratchet.
const WARM_UP: usize = 20;

/// Measures the rules of two devices and of eleven; `crypto_us` is what the crypto of one text takes by itself.
///
/// # Errors
/// A text does not arrive.
pub fn engine(effort: Effort, crypto_us: f64) -> Result<Vec<Row>, Failed> {
    const LIMIT: &str = "the crypto of one text, sealed and opened";
    let text: String = "harbour ".repeat(TEXT_BYTES.div_ceil(8)).chars().take(TEXT_BYTES).collect();
    let mut crew = Crew::new(1)?;
    let one = |crew: &mut Crew| -> Result<Duration, Failed> {
        let start = Instant::now();
        crew.write(1, &text)?;
        crew.post()?;
        arrived(crew.take(1)?, 1)?;
        let time = start.elapsed();
        crew.settle()?;
        Ok(time)
    };
    for _ in 0..WARM_UP {
        one(&mut crew)?;
    }
    let times = repeat(effort, || one(&mut crew))?;
    let mut rows = vec![Row::new(GROUP, "a text, one at a time", &times).beside(LIMIT, crypto_us)];
    for (what, window) in [("64 texts in a batch", 64), ("512 texts, in batches of 64", 512)] {
        let per_window = Effort { rounds: effort.rounds.div_ceil(window).max(8), ..effort };
        let times = repeat(per_window, || {
            let start = Instant::now();
            for _ in 0..window / 64 {
                for _ in 0..64 {
                    crew.write(1, &text)?;
                }
                crew.post()?;
            }
            arrived(crew.take(1)?, window)?;
            crew.settle()?;
            Ok(start.elapsed())
        })?;
        let rate = window as f64 * 1e6 / times.us(50);
        rows.push(
            Row::new(GROUP, what, &times).rate(rate).beside(LIMIT, crypto_us * window as f64),
        );
    }
    let mut crew = Crew::new(READERS)?;
    let fan_out = |crew: &mut Crew| -> Result<Duration, Failed> {
        let start = Instant::now();
        for reader in 1..=READERS {
            crew.write(reader, &text)?;
        }
        crew.post()?;
        for reader in 1..=READERS {
            arrived(crew.take(reader)?, 1)?;
        }
        let time = start.elapsed();
        crew.settle()?;
        Ok(time)
    };
    for _ in 0..WARM_UP {
        fan_out(&mut crew)?;
    }
    let began = Instant::now();
    let few = Effort { rounds: effort.rounds.div_ceil(10), ..effort };
    let mut count = 0_u32;
    let times = repeat(few, || {
        count += 1;
        fan_out(&mut crew)
    })?;
    let rate = f64::from(count) / began.elapsed().as_secs_f64();
    rows.push(
        Row::new(GROUP, "to 10 people, last told", &times)
            .rate(rate)
            .beside(LIMIT, crypto_us * READERS as f64),
    );
    // The rate above is of rounds one after the other, each waiting for the receipts of the one before.
    let few = Effort { rounds: effort.rounds.div_ceil(10 * UNDER_WAY), ..effort };
    let times = repeat(few, || {
        let start = Instant::now();
        for reader in (0..UNDER_WAY).flat_map(|_| 1..=READERS) {
            crew.write(reader, &text)?;
        }
        crew.post()?;
        for reader in 1..=READERS {
            arrived(crew.take(reader)?, UNDER_WAY)?;
        }
        crew.settle()?;
        Ok(start.elapsed())
    })?;
    let rate = UNDER_WAY as f64 * 1e6 / times.us(50);
    rows.push(
        Row::new(GROUP, "to 10 people, 8 rounds under way", &times)
            .rate(rate)
            .beside(LIMIT, crypto_us * (READERS * UNDER_WAY) as f64),
    );
    Ok(rows)
}

fn repeat(
    effort: Effort,
    mut act: impl FnMut() -> Result<Duration, Failed>,
) -> Result<Times, Failed> {
    let began = Instant::now();
    let mut times = Vec::with_capacity(effort.rounds);
    while times.len() < effort.rounds && began.elapsed() < effort.span {
        times.push(act()?);
    }
    Ok(Times::of(times))
}

fn arrived(told: usize, expected: usize) -> Result<(), Failed> {
    if told == expected {
        return Ok(());
    }
    Err(format!("{told} texts arrived, not {expected}").into())
}
