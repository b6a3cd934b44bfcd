//! Measures the store alone, as large as years of use make it; see the README of this folder.

use clap::Parser;
use oob_benches::{Sorted, Usage, fsync_p50};
use oob_store::{Area, Bag, Kdf, Order, Passphrase, Store, StoreError, View};
use rand::{
    RngExt, SeedableRng,
    rngs::{StdRng, SysRng},
};
use serde::{Deserialize, Serialize};
use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

/// First argument with which this program opens a store and reads in it, in a process of its own: memory is counted by
/// process, and what filled the store has used some.
const AS_READER: &str = "read-store";

/// Passphrase of a home that is gone after the run.
const PASSPHRASE: &str = "measured in the harbour";

/// Bytes of each value: a message with all that belongs to it.
const VALUE_BYTES: usize = 512;

/// Conversations all records are spread over.
const CONVERSATIONS: u64 = 1_000;

/// Records of the one conversation that is searched, at most.
const SEARCHED: u64 = 100_000;

/// Records of a page, as somebody scrolls.
const PAGE: usize = 50;

/// Pages read.
const PAGES: u32 = 2_000;

/// Records a search holds in memory at once.
const SEARCH_CHUNK: usize = 1_000;

/// Records of a commit while nothing is measured.
const FILL: u64 = 4_096;

/// How long each rate is measured.
const SPAN: Duration = Duration::from_secs(3);

/// Measures the store alone.
#[derive(Debug, Parser)]
struct Args {
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// How many records the store holds when it is opened and read; the bars are for a million.
    #[arg(long, default_value_t = 1_000_000, value_parser = clap::value_parser!(u64).range(1_000..=10_000_000))]
    records: u64,
    /// Where the store is made and removed again, instead of the folder for temporary files.
    #[arg(long)]
    folder: Option<PathBuf>,
}

/// The figures of one run.
#[derive(Debug, Default, Serialize)]
struct Figures {
    /// Records in the store while it was opened and read.
    records: u64,
    /// Durable records a second, one in each commit.
    puts_per_s_group_1: u64,
    /// The same, 64 in each commit.
    puts_per_s_group_64: u64,
    /// As many commits of one record as syncs fit into a second: the floor under the first, and 64 times that under the
    /// second.
    commits_per_s_at_best: u64,
    /// A record appended and synced to the same disk.
    fsync_p50_us: u64,
    /// One commit of one record in terms of a sync: 1 is what the disk allows.
    group_1_in_syncs: f64,
    /// The newest 50 of a conversation right after an opening: its part of the records is compared first.
    first_50_us: u64,
    /// The newest 50 of a conversation, half of all times, once all records were compared.
    last_50_p50_us: u64,
    /// The same, 99 of 100 times.
    last_50_p99_us: u64,
    /// Opening after a peaceful close, without the passphrase.
    open_ms: u64,
    /// From the end of that opening until all records were compared behind it, with nothing else to do.
    verify_ms: u64,
    /// Opening after a kill: all is looked at in a copy first.
    open_after_kill_ms: u64,
    /// Reading all files of the store once, as an opening must.
    read_files_ms: u64,
    /// How much of an opening the passphrase takes at the cheapest derivation, not counted above.
    kdf_ms: u64,
    /// Searching every record of one conversation for what is not in it.
    search_ms: u64,
    /// Records searched.
    searched: u64,
    /// Memory after opening, the pages and the search.
    rss_kib: u64,
    /// Bytes of all files.
    disk_bytes: u64,
}

/// What a process of its own found.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Read {
    open_ms: u64,
    verify_ms: u64,
    kdf_ms: u64,
    first_50_us: u64,
    last_50_p50_us: u64,
    last_50_p99_us: u64,
    search_ms: u64,
    searched: u64,
    rss_kib: u64,
}

/// Why nothing was measured.
#[derive(Debug)]
struct Broken(String);

impl From<StoreError> for Broken {
    fn from(error: StoreError) -> Self {
        Self(error.to_string())
    }
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self(error.to_string())
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let done = match (arguments.next(), arguments.next(), arguments.next()) {
        (Some(first), Some(home), records) if first == AS_READER => {
            let records = records.and_then(|text| text.to_str()?.parse().ok()).unwrap_or(0);
            read(Path::new(&home), records)
        }
        _ => report(&Args::parse()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(Broken(why)) => {
            eprintln!("error: {why}");
            ExitCode::from(1)
        }
    }
}

fn report(args: &Args) -> Result<(), Broken> {
    let figures = measure(args)?;
    let text = if args.json {
        serde_json::to_string(&figures).map_err(|error| Broken(error.to_string()))?
    } else {
        figures.to_table()
    };
    println!("{text}");
    Ok(())
}

fn measure(args: &Args) -> Result<Figures, Broken> {
    let base = match &args.folder {
        Some(folder) => tempfile::tempdir_in(folder)?,
        None => tempfile::tempdir()?,
    };
    let home = base.path().join("home");
    let mut store = Store::create(&home, &passphrase(), Kdf::FLOOR, rng()?)?.store;
    let mut figures = Figures { records: args.records, ..Figures::default() };

    say("one record in each commit");
    figures.puts_per_s_group_1 = rate(&mut store, 1)?;
    say("64 records in each commit");
    figures.puts_per_s_group_64 = rate(&mut store, 64)?;
    figures.fsync_p50_us = fsync_p50(base.path())?.unwrap_or(0);
    figures.commits_per_s_at_best = 1_000_000 / figures.fsync_p50_us.max(1);
    figures.group_1_in_syncs =
        figures.commits_per_s_at_best as f64 / figures.puts_per_s_group_1.max(1) as f64;

    fill(&mut store, args.records)?;
    store.close()?;
    say("opening and reading");
    let found = in_a_process(&home, args.records)?;
    say("opening after a kill");
    let again = in_a_process(&home, 0)?;
    let began = Instant::now();
    figures.disk_bytes = read_files(&home)?;
    figures.read_files_ms = millis(began.elapsed());
    Ok(Figures {
        last_50_p50_us: found.last_50_p50_us,
        last_50_p99_us: found.last_50_p99_us,
        open_ms: found.open_ms,
        verify_ms: found.verify_ms,
        first_50_us: found.first_50_us,
        open_after_kill_ms: again.open_ms,
        kdf_ms: found.kdf_ms,
        search_ms: found.search_ms,
        searched: found.searched,
        rss_kib: found.rss_kib,
        ..figures
    })
}

fn rng() -> Result<StdRng, Broken> {
    StdRng::try_from_rng(&mut SysRng).map_err(|error| Broken(error.to_string()))
}

fn passphrase() -> Passphrase {
    Passphrase::new(PASSPHRASE)
}

fn conversation(number: u64) -> Bag {
    Bag::new(Area(1), &number.to_be_bytes())
}

fn searched() -> Bag {
    Bag::new(Area(2), b"searched")
}

fn value(number: u64) -> Vec<u8> {
    let text = format!("{number:012} the harbour is closed until the wind turns ");
    text.bytes().cycle().take(VALUE_BYTES).collect()
}

/// Returns how many records a second are durable with so many in each commit.
fn rate(store: &mut Store, group: u64) -> Result<u64, Broken> {
    let bag = Bag::new(Area(3), b"rate");
    let first = store.last_seq(&bag)?.map_or(0, |last| last + 1);
    let mut next = first;
    let began = Instant::now();
    while began.elapsed() < SPAN {
        for _ in 0..group {
            store.put(&bag, next, &value(next));
            next += 1;
        }
        store.commit()?;
    }
    Ok(((next - first) as f64 / began.elapsed().as_secs_f64()) as u64)
}

/// Puts all records, a part of them into the conversation that is searched.
fn fill(store: &mut Store, records: u64) -> Result<(), Broken> {
    let apart = SEARCHED.min(records / 2);
    let step = (records / 10).max(1);
    for number in 0..records {
        if number < apart {
            store.put(&searched(), number, &value(number));
        } else {
            // As they come: a little here, a little there.
            store.put(&conversation(number % CONVERSATIONS), number, &value(number));
        }
        if (number + 1).is_multiple_of(FILL) || number + 1 == records {
            store.commit()?;
        }
        if (number + 1).is_multiple_of(step) {
            say(&format!("{} of {records} records", number + 1));
        }
    }
    Ok(())
}

/// Opens the store and reads in it if there is anything to read, and ends as if it were killed.
fn read(home: &Path, records: u64) -> Result<(), Broken> {
    let began = Instant::now();
    let opened = Store::open(home, &passphrase(), rng()?)?;
    let took = began.elapsed();
    let mut found = Read {
        open_ms: millis(took.saturating_sub(opened.kdf)),
        kdf_ms: millis(opened.kdf),
        ..Read::default()
    };
    let view = opened.store.view();
    if records > 0 {
        let began = Instant::now();
        view.scan(&conversation(CONVERSATIONS / 2), .., Order::Descending, PAGE)?;
        found.first_50_us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        let began = Instant::now();
        opened.store.verify()?;
        found.verify_ms = millis(began.elapsed());
        let pages = pages(&view)?;
        found.last_50_p50_us = pages.percentile_us(50).unwrap_or(0);
        found.last_50_p99_us = pages.percentile_us(99).unwrap_or(0);
        let began = Instant::now();
        found.searched = search(&view, b"nowhere to be found")?;
        found.search_ms = millis(began.elapsed());
    }
    found.rss_kib = Usage::of(std::process::id()).map_or(0, |usage| usage.rss_kib);
    println!("{}", serde_json::to_string(&found).map_err(|error| Broken(error.to_string()))?);
    // Without closing the store: the next opening is one after a kill.
    std::process::exit(0)
}

/// Reads the newest page of conversations chosen by chance.
fn pages(view: &View) -> Result<Sorted, Broken> {
    let mut random = StdRng::seed_from_u64(1);
    let mut times = Vec::new();
    for _ in 0..PAGES {
        let bag = conversation(random.random_range(0..CONVERSATIONS));
        let began = Instant::now();
        let page = view.scan(&bag, .., Order::Descending, PAGE)?;
        times.push(began.elapsed());
        if page.is_empty() {
            return Err(Broken("a conversation is empty".into()));
        }
    }
    Ok(Sorted::new(times))
}

/// Looks through one conversation, newest first; returns how many records it read.
fn search(view: &View, words: &[u8]) -> Result<u64, Broken> {
    let mut end = u64::MAX;
    let mut seen = 0;
    loop {
        let chunk = view.scan(&searched(), ..end, Order::Descending, SEARCH_CHUNK)?;
        let Some((oldest, _)) = chunk.last() else { return Ok(seen) };
        end = *oldest;
        seen += chunk.len() as u64;
        let hit =
            chunk.iter().any(|(_, text)| text.windows(words.len()).any(|window| window == words));
        if hit {
            return Err(Broken("the search found what is not there".into()));
        }
    }
}

fn in_a_process(home: &Path, records: u64) -> Result<Read, Broken> {
    let done = Command::new(std::env::current_exe()?)
        .arg(AS_READER)
        .arg(home)
        .arg(records.to_string())
        .stderr(Stdio::inherit())
        .output()?;
    if !done.status.success() {
        return Err(Broken(format!("the reading process ended with {}", done.status)));
    }
    serde_json::from_slice(&done.stdout).map_err(|error| Broken(error.to_string()))
}

/// Reads every file in a folder once, and returns how many bytes there were.
fn read_files(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        bytes += match path.is_dir() {
            true => read_files(&path)?,
            false => io::copy(&mut fs::File::open(&path)?, &mut io::sink())?,
        };
    }
    Ok(bytes)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn say(what: &str) {
    eprintln!("{what}");
}

impl Figures {
    /// Writes them as a table for people, each beside its bar and what the machine can do at best.
    fn to_table(&self) -> String {
        let fsync = format!("{} us a sync", self.fsync_p50_us);
        let best = |group: u64| format!("{} at {fsync}", self.commits_per_s_at_best * group);
        let files = format!("{} ms to read the files", self.read_files_ms);
        let rows = [
            ("", "figure".to_owned(), "bar".to_owned(), "at best".to_owned()),
            ("records", self.records.to_string(), "1000000".into(), String::new()),
            ("puts_per_s_group_1", self.puts_per_s_group_1.to_string(), ">= 6000".into(), best(1)),
            (
                "puts_per_s_group_64",
                self.puts_per_s_group_64.to_string(),
                ">= 50000".into(),
                best(64),
            ),
            (
                "group_1_in_syncs",
                format!("{:.2}", self.group_1_in_syncs),
                String::new(),
                "1".into(),
            ),
            ("first_50_us", self.first_50_us.to_string(), String::new(), String::new()),
            ("last_50_p50_us", self.last_50_p50_us.to_string(), String::new(), String::new()),
            ("last_50_p99_us", self.last_50_p99_us.to_string(), "<= 500".into(), String::new()),
            ("open_ms", self.open_ms.to_string(), "<= 1000".into(), files.clone()),
            ("verify_ms", self.verify_ms.to_string(), String::new(), files.clone()),
            ("open_after_kill_ms", self.open_after_kill_ms.to_string(), String::new(), files),
            ("kdf_ms", self.kdf_ms.to_string(), String::new(), String::new()),
            ("search_ms", self.search_ms.to_string(), "<= 600".into(), String::new()),
            ("searched", self.searched.to_string(), SEARCHED.to_string(), String::new()),
            ("rss_kib", self.rss_kib.to_string(), "<= 262144".into(), String::new()),
            ("disk_bytes", self.disk_bytes.to_string(), String::new(), String::new()),
            ("fsync_p50_us", self.fsync_p50_us.to_string(), String::new(), String::new()),
        ];
        let lines: Vec<String> = rows
            .into_iter()
            .map(|(name, value, bar, best)| {
                format!("{name:<20} {value:>12} {bar:>12}   {best}").trim_end().to_owned()
            })
            .collect();
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_store_is_filled_searched_and_paged() {
        let mut store = Store::in_memory(rng().unwrap()).unwrap();
        fill(&mut store, 5_000).unwrap();
        assert_eq!(search(&store.view(), b"nowhere to be found").unwrap(), 2_500);
        // The control: a word that is there is found.
        assert!(search(&store.view(), b"harbour").is_err());
        assert!(pages(&store.view()).unwrap().percentile_us(99).is_some());
    }

    #[test]
    fn the_table_names_every_field() {
        let figures = Figures::default();
        let (table, json) = (figures.to_table(), serde_json::to_value(&figures).unwrap());
        for field in json.as_object().unwrap().keys() {
            let told = match field.as_str() {
                "commits_per_s_at_best" => "0 at 0 us a sync",
                "read_files_ms" => "ms to read the files",
                field => field,
            };
            assert!(table.contains(told), "{field}");
        }
    }
}
