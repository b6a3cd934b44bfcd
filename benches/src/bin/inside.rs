//! Measures parts of oob inside this process; see the README of this folder.

use clap::{Parser, ValueEnum};
use oob_benches::inside::{Effort, Failed, Row, codec, crypto, engine, to_table};
use std::{process::ExitCode, time::Duration};

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Group {
    /// Sealing, opening, checking.
    Crypto,
    /// A text from one device's rules to another's.
    Engine,
    /// Writing and reading frames.
    Codec,
}

/// Measures what the parts cost, each beside a limit of the same run.
#[derive(Debug, Parser)]
struct Args {
    /// Print one JSON object a line for each figure.
    #[arg(long)]
    json: bool,
    /// Rounds of each figure.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(50..=100_000))]
    rounds: u32,
    /// What to measure; everything if nothing is named.
    groups: Vec<Group>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    match measure(&args) {
        Ok(rows) if args.json => {
            for row in &rows {
                println!("{}", serde_json::to_string(row).unwrap_or_default());
            }
            ExitCode::SUCCESS
        }
        Ok(rows) => {
            println!("{}", to_table(&rows));
            ExitCode::SUCCESS
        }
        Err(failed) => {
            eprintln!("error: {failed}");
            ExitCode::FAILURE
        }
    }
}

fn measure(args: &Args) -> Result<Vec<Row>, Failed> {
    let wanted = |group| args.groups.is_empty() || args.groups.contains(&group);
    let rounds = usize::try_from(args.rounds)?;
    let effort = Effort { rounds, span: Duration::from_secs(20) };
    let mut rows = Vec::new();
    if wanted(Group::Crypto) || wanted(Group::Engine) {
        let parts = crypto(effort)?;
        let of = |start: &str| {
            parts
                .iter()
                .filter(|row| row.what.starts_with(start))
                .map(|row| row.p50_us)
                .sum::<f64>()
        };
        let both = of("seal a text") + of("open a text");
        if wanted(Group::Crypto) {
            rows.extend(parts);
        }
        if wanted(Group::Engine) {
            rows.extend(engine(effort, both)?);
        }
    }
    if wanted(Group::Codec) {
        rows.extend(codec(effort)?);
    }
    Ok(rows)
}
