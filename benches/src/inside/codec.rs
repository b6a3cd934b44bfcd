//! What writing and reading frames cost, beside copying as many bytes.

use super::{
    Failed,
    rounds::{Effort, Row, Times, plain},
};
use oob_proto::{
    Message,
    wire::{Envelope, Frame, Have, HaveEntry, Range, frame::Kind},
};
use std::hint::black_box;

const GROUP: &str = "codec";

/// What one round does as often: a single time is too short for the clock.
const OFTEN: usize = 64;

/// Devices and ranges in the Have that is measured: a day's worth in an organisation of ten.
const DEVICES: u8 = 10;
const RANGES: u64 = 32;

/// Measures what writing and reading frames cost.
///
/// # Errors
/// What was written cannot be read.
pub fn codec(effort: Effort) -> Result<Vec<Row>, Failed> {
    let frame = Frame::new(Kind::Envelope(Envelope {
        head: vec![1; 36],
        origin: vec![2; 128],
        ct: vec![3; 512],
    }));
    let bytes = frame.encode_to_vec();
    let copy = often(effort, || Ok(black_box(&bytes).clone()))?;
    let write = often(effort, || Ok(black_box(&frame).encode_to_vec()))?;
    let read = often(effort, || Ok(Frame::read(black_box(&bytes))?))?;
    let have = Have {
        entries: (0..DEVICES)
            .map(|device| HaveEntry {
                device: vec![device; 32],
                incarnation: 7,
                have: (0..RANGES)
                    .map(|n| Range { first: n * 1_000, last: n * 1_000 + 900 })
                    .collect(),
                gone: vec![Range { first: 1, last: RANGES * 1_000 }],
                ..HaveEntry::default()
            })
            .collect(),
        ..Have::default()
    };
    let told = have.encode_to_vec();
    let copy_told = often(effort, || Ok(black_box(&told).clone()))?;
    let write_told = often(effort, || Ok(black_box(&have).encode_to_vec()))?;
    let read_told = often(effort, || Ok(Have::decode(black_box(told.as_slice()))?))?;
    let row = |what, times: &Times, limit: &Times| {
        let mut row = Row::new(GROUP, what, times);
        for us in [&mut row.p50_us, &mut row.p99_us] {
            *us /= OFTEN as f64;
        }
        row.beside("copying as many bytes", limit.us(50) / OFTEN as f64)
    };
    Ok(vec![
        row("write an envelope's frame", &write, &copy),
        row("read an envelope's frame", &read, &copy),
        row("write a have of 10 devices, 320 ranges", &write_told, &copy_told),
        row("read a have of 10 devices, 320 ranges", &read_told, &copy_told),
    ])
}

fn often<O>(effort: Effort, mut act: impl FnMut() -> Result<O, Failed>) -> Result<Times, Failed> {
    plain(effort, || {
        for _ in 0..OFTEN {
            black_box(act()?);
        }
        Ok(())
    })
}
