//! Gets the passphrase: from a file, from standard input, or from a person, who does not see it on the screen.

use crate::failure::Failure;
use rustix::termios::{self, LocalModes, OptionalActions, Termios};
use std::{
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal, Read, Write},
    path::Path,
    process,
    sync::{
        Mutex, Once, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::sync_channel,
    },
    thread,
};
use tokio::signal::unix::{SignalKind, signal};

/// Longest passphrase: longer than anybody types, and short enough that a wrong file is seen as one.
const BYTES: u64 = 4 * 1024;

/// Reads the passphrase that opens a home.
pub(super) fn read(file: Option<&Path>) -> Result<String, Failure> {
    match file {
        Some(file) => from_file(file),
        None => ask("passphrase: "),
    }
}

/// Reads the passphrase for a new home; a person types it twice.
pub(super) fn choose(file: Option<&Path>) -> Result<String, Failure> {
    if let Some(file) = file {
        return from_file(file);
    }
    let first = ask("new passphrase: ")?;
    if ask("the same again: ")? != first {
        return Err(Failure::new("passphrase_differs", "the two passphrases differ")
            .hint("run it again and type the same twice"));
    }
    Ok(first)
}

/// Reads the passphrase of a backup.
pub(super) fn read_of_backup(file: Option<&Path>) -> Result<String, Failure> {
    match file {
        Some(file) => from_file(file),
        None => ask("passphrase of the backup: "),
    }
}

/// Reads the passphrase for a new backup; a person types it twice.
pub(super) fn choose_for_backup(file: Option<&Path>) -> Result<String, Failure> {
    if let Some(file) = file {
        return from_file(file);
    }
    let first = ask("new passphrase, for the backup: ")?;
    if ask("the same again: ")? != first {
        return Err(Failure::new("passphrase_differs", "the two passphrases differ")
            .hint("run it again and type the same twice"));
    }
    Ok(first)
}

fn from_file(path: &Path) -> Result<String, Failure> {
    if path == Path::new("-") {
        return first_line(&mut io::stdin().lock(), "standard input");
    }
    let named = path.display().to_string();
    let file = File::open(path)
        .map_err(|e| Failure::file(format!("passphrase file {named} cannot be read"), &e))?;
    first_line(&mut BufReader::new(file), &named)
}

/// Reads up to the first line end, which is not part of it; what follows stays unread.
fn first_line(input: &mut impl BufRead, name: &str) -> Result<String, Failure> {
    let mut line = Vec::new();
    let read = input.take(BYTES + 1).read_until(b'\n', &mut line);
    read.map_err(|e| Failure::file(format!("the passphrase cannot be read from {name}"), &e))?;
    let line = line.strip_suffix(b"\n").unwrap_or(&line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if u64::try_from(line.len()).unwrap_or(u64::MAX) > BYTES {
        return Err(Failure::new(
            "too_long",
            format!("the first line of {name} has over {BYTES} bytes"),
        )
        .hint("name a file with the passphrase in its first line"));
    }
    let text = std::str::from_utf8(line).map_err(|_| {
        Failure::new("bad_request", format!("the first line of {name} is not text"))
            .hint("name a file with the passphrase in its first line")
    })?;
    accept(text.to_owned())
}

fn accept(passphrase: String) -> Result<String, Failure> {
    if passphrase.is_empty() {
        return Err(Failure::new("passphrase_empty", "the passphrase is empty")
            .hint("choose one of several words; whoever has the disk will try short ones"));
    }
    Ok(passphrase)
}

fn ask(question: &str) -> Result<String, Failure> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::new(
            "passphrase_needed",
            "a passphrase is needed, and standard input is not a terminal to ask on",
        )
        .hint(
            "give a file whose first line it is: --passphrase-file FILE, or - for standard input",
        ));
    }
    hear_interrupts();
    let mut stderr = io::stderr().lock();
    let _shown = write!(stderr, "{question}").and_then(|()| stderr.flush());
    let typed = {
        let _silent = Silent::begin()?;
        first_line(&mut stdin.lock(), "the terminal")
    };
    let _line_end = writeln!(stderr);
    typed
}

/// A terminal that does not show what is typed, until this is dropped.
struct Silent;

/// How the terminal was before it was silenced, while it is.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// Whether a signal still ends the process here, and not in order by what runs meanwhile.
static ENDS: AtomicBool = AtomicBool::new(true);

/// From now on this process hears signals elsewhere; without a question asked before, this changes nothing.
pub(super) fn leave_signals() {
    ENDS.store(false, Ordering::SeqCst);
}

/// From now on a signal that ends this process makes the terminal show again what is typed. A second call does nothing.
fn hear_interrupts() {
    static HEARING: Once = Once::new();
    HEARING.call_once(|| {
        let (ready, hears) = sync_channel(1);
        // For as long as the process lives: a signal once heard has its usual effect by this thread only.
        thread::spawn(move || {
            let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build()
            else {
                return;
            };
            runtime.block_on(async move {
                let (Ok(mut interrupt), Ok(mut terminate), Ok(mut hang_up)) = (
                    signal(SignalKind::interrupt()),
                    signal(SignalKind::terminate()),
                    signal(SignalKind::hangup()),
                ) else {
                    return;
                };
                let _asked = ready.send(());
                loop {
                    let kind = tokio::select! {
                        _ = interrupt.recv() => SignalKind::interrupt(),
                        _ = terminate.recv() => SignalKind::terminate(),
                        _ = hang_up.recv() => SignalKind::hangup(),
                    };
                    if ENDS.load(Ordering::SeqCst) {
                        restore();
                        process::exit(128_i32.saturating_add(kind.as_raw_value()));
                    }
                }
            });
        });
        // Ends either way: where signals cannot be heard, the other end is dropped.
        let _heard = hears.recv();
    });
}

fn restore() {
    let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(before) = before {
        let _restored = termios::tcsetattr(io::stdin(), OptionalActions::Flush, &before);
    }
}

impl Silent {
    fn begin() -> Result<Self, Failure> {
        let unsafe_here = |e| {
            Failure::internal("this terminal cannot hide what is typed")
                .cause(e)
                .hint("give a file: --passphrase-file FILE")
        };
        let before = termios::tcgetattr(io::stdin()).map_err(unsafe_here)?;
        let mut silent = before.clone();
        silent.local_modes.remove(LocalModes::ECHO);
        silent.local_modes.remove(LocalModes::ECHONL);
        // Held until both are done, so that an interruption comes before or after.
        let mut kept = BEFORE.lock().unwrap_or_else(PoisonError::into_inner);
        termios::tcsetattr(io::stdin(), OptionalActions::Flush, &silent).map_err(unsafe_here)?;
        *kept = Some(before);
        Ok(Self)
    }
}

impl Drop for Silent {
    fn drop(&mut self) {
        restore();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_counts_without_its_end() {
        let read = |text: &[u8]| {
            first_line(&mut io::Cursor::new(text.to_vec()), "x")
                .map_err(|failure| failure.code().to_owned())
        };
        assert_eq!(read(b"four words make one\nrest").unwrap(), "four words make one");
        assert_eq!(read(b" spaces count \r\n").unwrap(), " spaces count ");
        assert_eq!(read(b"no end").unwrap(), "no end");
        assert_eq!(read(b"").unwrap_err(), "passphrase_empty");
        assert_eq!(read(b"\nnot this").unwrap_err(), "passphrase_empty");
        assert_eq!(read(&[b'x'; 5000]).unwrap_err(), "too_long");
        assert_eq!(read(&[0xff, 0xfe]).unwrap_err(), "bad_request");
    }
}
