//! Runs the simulator over a range of seeds (docs/testing.md, "The simulator").

use oob_engine::{
    Faults,
    sim::{Deeds, SeedReport, Settings, Vice, run_all, trace},
};
use std::{
    io::{IsTerminal as _, Write as _},
    num::NonZero,
    process::ExitCode,
    time::Instant,
};

const HELP: &str = "\
Runs many devices in one process under a virtual clock, with loss, partitions, power cuts and wrong clocks.

Usage: sim [OPTIONS]

  --seeds N         how many seeds to run [default: 20]
  --first-seed N    the first of them [default: 0]
  --nodes N         devices in each, 3 to 64 [default: 10]
  --minutes N       virtual minutes before everything is healed, 2 to 1440 [default: 10]
  --messages N      messages that are tried at least [default: 1400]
  --hostile N       hostile devices in each seed, or `drawn`: none to two, as the seed has it [default: 0]
  --vice NAME       the one thing they do: flood, replay, equivocate, withhold, reseal, forge, lie, past or future
  --restores N      devices put back to a copy they made minutes before, or `drawn`: none to two [default: 0]
  --jobs N          how many seeds run at a time [default: as many as there are cores]
  --control NAME    take a safeguard away: duplicates, durable, repair, gone, signatures or life
  --trace           print every step of the first seed and stop
  --json            one line of JSON on stdout
  --help            this text

It exits with 0 if no seed broke a promise, with 1 if one did, with 2 if it was called wrongly.

Example: sim --seeds 200
";

/// What was asked for.
struct Asked {
    seeds: u64,
    first: u64,
    settings: Settings,
    jobs: usize,
    control: Option<String>,
    trace: bool,
    json: bool,
}

/// Sums over all seeds.
#[derive(Default)]
struct Sums {
    seeds: u64,
    messages: u64,
    least_messages: Option<u64>,
    alerts: u64,
    removals: u64,
    partitions: u64,
    crashes: u64,
    leaves: u64,
    restores: u64,
    lines: u64,
    frames: u64,
    bytes: u64,
    lost: u64,
    hostile: u64,
    hostile_seeds: u64,
    deeds: Deeds,
    steps: u64,
    twice: u64,
    violations: u64,
    first_bad: Option<SeedReport>,
}

fn main() -> ExitCode {
    let asked = match parse(std::env::args().skip(1)) {
        Ok(Some(asked)) => asked,
        Ok(None) => {
            print!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Err(what) => {
            eprintln!("error: {what}\nhint: see `sim --help`");
            return ExitCode::from(2);
        }
    };
    if asked.trace {
        trace(asked.settings, asked.first).iter().for_each(|step| println!("{step}"));
        return ExitCode::SUCCESS;
    }
    let started = now();
    let mut sums = Sums::default();
    let bar = !asked.json && std::io::stderr().is_terminal();
    let seeds = asked.first..asked.first.saturating_add(asked.seeds);
    run_all(asked.settings, seeds, asked.jobs, |report| {
        if report.violation.is_some() {
            complain(&asked, &report);
        }
        sums.add(report);
        if bar {
            progress(sums.seeds, asked.seeds, sums.violations);
        }
    });
    if bar {
        eprintln!();
    }
    let ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    if asked.json {
        sums.print_json(ms)
    } else {
        sums.print(ms)
    }
    if sums.violations > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

#[expect(clippy::disallowed_methods, reason = "how long it took is for people; no rule sees it")]
fn now() -> Instant {
    Instant::now()
}

fn parse(args: impl Iterator<Item = String>) -> Result<Option<Asked>, String> {
    let mut asked = Asked {
        seeds: 20,
        first: 0,
        settings: Settings::default(),
        jobs: std::thread::available_parallelism().map_or(1, NonZero::get),
        control: None,
        trace: false,
        json: false,
    };
    let mut args = args;
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value"));
        let number = |text: String| {
            text.parse::<u64>().map_err(|_| format!("{arg} needs a number, not {text}"))
        };
        let size =
            |text: String| Ok::<_, String>(usize::try_from(number(text)?).unwrap_or(usize::MAX));
        match arg.as_str() {
            "--help" | "-h" => return Ok(None),
            "--json" => asked.json = true,
            "--trace" => asked.trace = true,
            "--seeds" => asked.seeds = number(value()?)?,
            "--first-seed" => asked.first = number(value()?)?,
            "--minutes" => asked.settings.minutes = number(value()?)?,
            "--nodes" => asked.settings.nodes = size(value()?)?,
            "--messages" => asked.settings.messages = size(value()?)?,
            "--hostile" => {
                let many = value()?;
                asked.settings.hostile = if many == "drawn" { None } else { Some(size(many)?) };
            }
            "--vice" => {
                let name = value()?;
                let vice = Vice::parse(&name).ok_or_else(|| format!("no vice {name}"))?;
                asked.settings.vice = Some(vice);
            }
            "--restores" => {
                let many = value()?;
                asked.settings.restores = if many == "drawn" { None } else { Some(size(many)?) };
            }
            "--jobs" => asked.jobs = size(value()?)?,
            "--control" => {
                let name = value()?;
                asked.settings.faults = faults(&name)?;
                if matches!(name.as_str(), "gone" | "signatures") {
                    // What only hostile members would use.
                    asked.settings.hostile = None;
                }
                if name == "life" {
                    asked.settings.restores = Some(2);
                }
                asked.control = Some(name);
            }
            other => return Err(format!("unknown option {other}")),
        }
    }
    if asked.settings != asked.settings.within_bounds() {
        return Err(
            "a run has 3 to 64 nodes, 1 to 100000 messages and lasts 2 to 1440 minutes".to_owned()
        );
    }
    Ok(Some(asked))
}

fn faults(name: &str) -> Result<Faults, String> {
    let none = Faults::default();
    match name {
        "duplicates" => Ok(Faults { no_duplicate_check: true, ..none }),
        "durable" => Ok(Faults { acknowledge_before_durable: true, ..none }),
        "repair" => Ok(Faults { no_repair: true, ..none }),
        "gone" => Ok(Faults { believe_gone: true, ..none }),
        "signatures" => Ok(Faults { no_signature_check: true, ..none }),
        "life" => Ok(Faults { same_life: true, ..none }),
        other => Err(format!(
            "no control {other}: there are duplicates, durable, repair, gone, signatures and life"
        )),
    }
}

fn progress(done: u64, all: u64, violations: u64) {
    const WIDTH: u64 = 40;
    let full = usize::try_from(done.saturating_mul(WIDTH) / all.max(1)).unwrap_or(0);
    let bar = format!("{}{}", "#".repeat(full), ".".repeat((WIDTH as usize).saturating_sub(full)));
    let mut out = std::io::stderr().lock();
    // A terminal that is gone is no reason to stop.
    let _ = write!(out, "\r[{bar}] {done} of {all} seeds, {violations} violations ");
    let _ = out.flush();
}

fn complain(asked: &Asked, report: &SeedReport) {
    let Some(violation) = &report.violation else { return };
    let Settings { nodes, minutes, messages, hostile, vice, restores, .. } = asked.settings;
    let restores = match restores {
        None => " --restores drawn".to_owned(),
        Some(0) => String::new(),
        Some(many) => format!(" --restores {many}"),
    };
    let hostile = match hostile {
        None => " --hostile drawn".to_owned(),
        Some(0) => String::new(),
        Some(many) => format!(" --hostile {many}"),
    };
    let vice = vice.map(|vice| format!(" --vice {}", vice.name()));
    let control = asked.control.as_ref().map(|name| format!(" --control {name}"));
    eprintln!(
        "\nseed {}: at {}.{:03} s, person {}: {}\nrepeat it: cargo run --release -p oob-engine --features sim \
         --bin sim -- --seeds 1 --first-seed {} --nodes {nodes} --minutes {minutes} --messages {messages}{}{}{restores}{}",
        report.seed,
        violation.at_ms / 1_000,
        violation.at_ms % 1_000,
        violation.node,
        violation.what,
        report.seed,
        hostile,
        vice.unwrap_or_default(),
        control.unwrap_or_default(),
    );
}

impl Sums {
    fn add(&mut self, report: SeedReport) {
        self.seeds += 1;
        self.messages += report.messages;
        self.least_messages =
            Some(self.least_messages.map_or(report.messages, |least| least.min(report.messages)));
        self.alerts += report.alerts;
        self.removals += report.removals;
        self.partitions += report.partitions;
        self.crashes += report.crashes;
        self.leaves += report.leaves;
        self.restores += report.restores;
        self.lines += report.lines;
        self.frames += report.frames;
        self.bytes += report.bytes;
        self.lost += report.lost;
        self.hostile += report.hostile;
        self.hostile_seeds += u64::from(report.hostile > 0);
        for (vice, count) in &report.deeds {
            *self.deeds.entry(*vice).or_default() += count;
        }
        self.steps += report.steps;
        self.twice += u64::from(report.twice);
        self.violations += u64::from(report.violation.is_some());
        let earlier = self.first_bad.as_ref().is_none_or(|bad| report.seed < bad.seed);
        if report.violation.is_some() && earlier {
            self.first_bad = Some(report);
        }
    }

    fn print_json(&self, ms: u64) {
        let first = self.first_bad.as_ref().map_or("null".to_owned(), |bad| bad.seed.to_string());
        let deeds = self.deeds.iter().map(|(vice, count)| format!("\"{}\":{count}", vice.name()));
        let deeds = deeds.collect::<Vec<_>>().join(",");
        println!(
            "{{\"seeds\":{},\"messages\":{},\"partitions\":{},\"crashes\":{},\"violations\":{},\
             \"first_bad_seed\":{first},\"least_messages\":{},\"alerts\":{},\"removals\":{},\"leaves\":{},\"restores\":{},\"lines\":{},\"frames\":{},\
             \"bytes\":{},\"lost\":{},\"hostile\":{},\"hostile_seeds\":{},\"deeds\":{{{deeds}}},\"steps\":{},\"run_twice\":{},\"ms\":{ms},\"ms_per_seed\":{}}}",
            self.seeds,
            self.messages,
            self.partitions,
            self.crashes,
            self.violations,
            self.least_messages.unwrap_or(0),
            self.alerts,
            self.removals,
            self.leaves,
            self.restores,
            self.lines,
            self.frames,
            self.bytes,
            self.lost,
            self.hostile,
            self.hostile_seeds,
            self.steps,
            self.twice,
            ms / self.seeds.max(1),
        );
    }

    fn print(&self, ms: u64) {
        let each = |all: u64| all as f64 / self.seeds.max(1) as f64;
        let lost = 100.0 * self.lost as f64 / self.frames.max(1) as f64;
        println!("seeds        {} ({} of them run twice and compared)", self.seeds, self.twice);
        println!(
            "messages     {} ({} in the quietest seed)",
            self.messages,
            self.least_messages.unwrap_or(0)
        );
        println!("alerts       {}, {} devices taken out", self.alerts, self.removals);
        println!("partitions   {} ({:.1} a seed)", self.partitions, each(self.partitions));
        println!(
            "crashes      {} ({:.1} a seed), {} left and came back, {} were put back to a copy",
            self.crashes,
            each(self.crashes),
            self.leaves,
            self.restores
        );
        println!("lines        {} ({:.0} a seed)", self.lines, each(self.lines));
        println!("frames       {} ({} MiB), {lost:.1} % lost", self.frames, self.bytes >> 20);
        let deeds = self.deeds.iter().map(|(vice, count)| format!("{} {count}", vice.name()));
        println!(
            "hostile      {} devices in {} seeds; {}",
            self.hostile,
            self.hostile_seeds,
            deeds.collect::<Vec<_>>().join(", ")
        );
        println!("steps        {}", self.steps);
        println!("time         {:.1} s ({:.2} s a seed)", ms as f64 / 1e3, each(ms) / 1e3);
        match &self.first_bad {
            None => println!("violations   none"),
            Some(bad) => {
                println!("violations   {}, the first in seed {}", self.violations, bad.seed)
            }
        }
    }
}
