//! `oob.log`: what the daemon did, bounded, cleaned of what a terminal would obey, and never a text, key or passphrase.

use crate::{failure::Failure, plain::plain};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    panic,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};
use tracing_subscriber::{filter::Targets, fmt::MakeWriter, layer::SubscriberExt};

/// Size at which a log becomes `oob.log.1`; the one before is dropped. Two of them hold weeks at the default level.
const LOG_BYTES: u64 = 4 * 1024 * 1024;

/// What is logged unless `OOB_LOG` says otherwise: levels by module, the longest name that fits counts.
const LEVELS: &str =
    "info,libp2p=error,libp2p_mdns=error,libp2p_swarm=error,libp2p_gossipsub=off,quinn_udp=error";

/// Starts logging to a file; where a thread panicked goes there too, and to standard error. What it said does not: it may
/// hold a message, and files and journals outlive it.
pub(super) fn start(path: &Path) -> Result<(), Failure> {
    let log = Log::open(path)
        .map_err(|e| Failure::file(format!("{} cannot be written", path.display()), &e))?;
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(log)
        .finish()
        .with(levels(std::env::var("OOB_LOG").ok().as_deref()));
    // Set already where a test starts two daemons in one process; the first log is as good then.
    if tracing::subscriber::set_global_default(subscriber).is_ok() {
        panic::set_hook(Box::new(|info| {
            let words = panicked(info);
            tracing::error!("{words}");
            // There may be nobody to read it.
            let _told = writeln!(io::stderr(), "{words}");
        }));
    }
    Ok(())
}

/// Returns what is asked for, or what is usual where nothing is asked for that can be read.
fn levels(asked: Option<&str>) -> Targets {
    let asked = asked.filter(|asked| !asked.is_empty()).and_then(|asked| asked.parse().ok());
    asked.or_else(|| LEVELS.parse().ok()).unwrap_or_default()
}

fn panicked(info: &panic::PanicHookInfo<'_>) -> String {
    match info.location() {
        Some(at) => format!("a thread panicked at {at}"),
        None => "a thread panicked".to_owned(),
    }
}

#[derive(Clone)]
struct Log(Arc<Mutex<State>>);

struct State {
    path: PathBuf,
    file: File,
    len: u64,
    most: u64,
}

impl Log {
    fn open(path: &Path) -> io::Result<Self> {
        let (file, len) = append(path)?;
        Ok(Self(Arc::new(Mutex::new(State { path: path.to_owned(), file, len, most: LOG_BYTES }))))
    }
}

fn append(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
    file.set_permissions(fs::Permissions::from_mode(0o600))?;
    let len = file.metadata()?.len();
    Ok((file, len))
}

impl State {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        let text = String::from_utf8_lossy(line);
        let clean = plain(&text);
        let len = u64::try_from(clean.len()).unwrap_or(u64::MAX);
        if self.len > 0 && self.len.saturating_add(len) > self.most {
            let mut older = self.path.clone().into_os_string();
            older.push(".1");
            fs::rename(&self.path, older)?;
            (self.file, self.len) = append(&self.path)?;
        }
        self.file.write_all(clean.as_bytes())?;
        self.len = self.len.saturating_add(len);
        Ok(())
    }
}

/// One line; it reaches the file in one piece.
struct Line(Log);

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.write(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Line;

    fn make_writer(&'a self) -> Line {
        Line(self.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_told_by_its_place_and_not_by_its_words() {
        let (tell, told) = std::sync::mpsc::sync_channel(1);
        let before = panic::take_hook();
        // Other tests may panic meanwhile, and what they say matters.
        panic::set_hook(Box::new(move |info| match std::thread::current().name() {
            Some("panics") => tell.send((panicked(info), info.to_string())).unwrap(),
            _ => before(info),
        }));
        let thread = std::thread::Builder::new().name("panics".into());
        let text = "meet at the quartz gate";
        thread.spawn(move || panic!("not a text: {text:?}")).unwrap().join().unwrap_err();
        let (words, usual) = told.recv().unwrap();
        assert!(words.contains("log.rs:") && !words.contains("quartz"), "{words}");
        // The control: what is usually said of a panic holds it.
        assert!(usual.contains("quartz"));
    }

    #[test]
    fn levels_are_those_asked_for_and_else_the_usual_ones() {
        use tracing::Level;
        for asked in [None, Some(""), Some("oob_core=loud")] {
            let usual = levels(asked);
            assert!(usual.would_enable("oob_core::actor", &Level::INFO), "{asked:?}");
            assert!(!usual.would_enable("oob_core::actor", &Level::DEBUG));
            assert!(usual.would_enable("libp2p_tcp", &Level::ERROR));
            assert!(!usual.would_enable("libp2p_tcp", &Level::WARN));
            assert!(!usual.would_enable("libp2p_gossipsub::behaviour", &Level::ERROR));
        }
        let asked = levels(Some("warn,oob_mesh=debug"));
        assert!(asked.would_enable("oob_mesh::driver", &Level::DEBUG));
        assert!(!asked.would_enable("oob_core", &Level::INFO));
    }

    #[test]
    fn a_log_stays_bounded_private_and_clean() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("oob.log");
        let log = Log::open(&path).unwrap();
        log.0.lock().unwrap().most = 1000;
        for round in 0..100 {
            Line(log.clone())
                .write_all(format!("line {round} \u{1b}[2J of forty bytes or so\n").as_bytes())
                .unwrap();
        }
        let newest = fs::read_to_string(&path).unwrap();
        assert!(newest.contains("line 99") && !newest.contains('\u{1b}'));
        for name in ["oob.log", "oob.log.1"] {
            let meta = fs::metadata(dir.path().join(name)).unwrap();
            assert!(meta.len() <= 1000);
            assert_eq!(meta.permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    }
}
