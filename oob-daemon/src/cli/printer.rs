//! The only place that prints. Data goes to standard output, everything else to standard error; text from elsewhere is
//! cleaned before a terminal sees it, while JSON keeps it, escaped.

use super::args;
use crate::{
    failure::Failure,
    plain::{plain, plain_line},
};
use serde::Serialize;
use std::{
    io::{self, BufRead, IsTerminal, Write},
    path::Path,
    process::ExitCode,
    sync::OnceLock,
};

/// Moves a terminal to its upper left corner and clears it.
const CLEAR: &[u8] = b"\x1b[H\x1b[2J";

/// How this command prints.
#[derive(Debug)]
pub(super) struct Printer {
    json: bool,
    quiet: bool,
    /// The home that was named on this command line, for the commands of hints.
    home: Option<String>,
    /// Why a result could not be written, the first time it could not.
    unwritten: OnceLock<io::Error>,
}

impl Printer {
    pub(super) const fn new(json: bool, quiet: bool) -> Self {
        Self { json, quiet, home: None, unwritten: OnceLock::new() }
    }

    /// Names the home in every command that a hint tells: without it they would be about another one.
    pub(super) fn with_home(mut self, home: Option<&Path>) -> Self {
        self.home = home.map(|home| shell_word(&home.display().to_string()));
        self
    }

    /// Returns a text of ours with the home in each command of it.
    pub(super) fn commands(&self, text: &str) -> String {
        let Some(home) = &self.home else { return text.to_owned() };
        let mut parts = text.split("oob ");
        let mut out = parts.next().unwrap_or_default().to_owned();
        for part in parts {
            let verb = part.split(|c: char| !c.is_ascii_lowercase()).next().unwrap_or_default();
            let ours =
                !out.ends_with(|c: char| c.is_alphanumeric() || matches!(c, '/' | '-' | '.'));
            match ours && args::has_verb(verb) {
                true => out.push_str(&format!("oob --home {home} {part}")),
                false => out.push_str(&format!("oob {part}")),
            }
        }
        out
    }

    /// Prints a result: one JSON object, or what `words` makes of it. Says whether it could be written.
    pub(super) fn data<T: Serialize>(&self, value: &T, words: impl FnOnce(&T) -> String) -> bool {
        if !self.json {
            let text = words(value);
            return text.is_empty() || self.result(&plain(&text));
        }
        // Lone surrogates cannot be in a String, and escape characters are written as \u001b.
        match serde_json::to_string(value) {
            Ok(text) => self.result(&escaped(&text)),
            Err(_) => false,
        }
    }

    /// Prints a result of our own making, such as a script, whose every character counts.
    pub(super) fn verbatim<T: Serialize>(&self, value: &T, text: impl FnOnce(&T) -> &str) -> bool {
        if self.json {
            self.data(value, |_| String::new())
        } else {
            self.result(text(value).trim_end())
        }
    }

    /// Prints a result in the place of the one before where a terminal shows it, else below it.
    pub(super) fn again<T: Serialize>(&self, value: &T, words: impl FnOnce(&T) -> String) -> bool {
        if !self.json && io::stdout().is_terminal() {
            let mut stdout = io::stdout().lock();
            if stdout.write_all(CLEAR).is_err() {
                return false;
            }
        }
        self.data(value, words)
    }

    fn result(&self, text: &str) -> bool {
        match write(&mut io::stdout().lock(), text) {
            Ok(()) => true,
            Err(error) => {
                // Whoever reads through a pipe may leave before the end, as `head` does.
                if error.kind() != io::ErrorKind::BrokenPipe {
                    let _first = self.unwritten.set(error);
                }
                false
            }
        }
    }

    /// Returns the exit code, or that of the failure to write the results, after saying so.
    pub(super) fn finish(&self, code: ExitCode) -> ExitCode {
        match self.unwritten.get() {
            None => code,
            Some(error) => self.failed(
                &Failure::file("the result cannot be written to standard output", error).hint(
                    "what was asked for is done, only its output is lost; see that there is room where it goes",
                ),
            ),
        }
    }

    /// Prints help or the version.
    pub(super) fn show(&self, text: &str) -> ExitCode {
        self.result(text.trim_end());
        self.finish(ExitCode::SUCCESS)
    }

    /// Tells the user something that is not a result.
    pub(super) fn talk(&self, text: &str) {
        if !self.quiet && !self.json {
            line(&mut io::stderr().lock(), &plain(&self.commands(text)));
        }
    }

    /// Tells the user something that they should know even if they read JSON.
    pub(super) fn notice(&self, text: &str) {
        if !self.quiet {
            line(&mut io::stderr().lock(), &plain(text));
        }
    }

    /// Prints a failure and returns its exit code.
    pub(super) fn failed(&self, failure: &Failure) -> ExitCode {
        let failure = &match failure.next() {
            Some(hint) => failure.clone().hint(self.commands(hint)),
            None => failure.clone(),
        };
        let mut stderr = io::stderr().lock();
        if self.json {
            if let Ok(text) = serde_json::to_string(&failure.to_line()) {
                line(&mut stderr, &escaped(&text));
            }
        } else {
            line(&mut stderr, &format!("error: {}", plain_line(&failure.to_string())));
            for cause in failure.causes() {
                line(&mut stderr, &format!("  caused by: {}", plain_line(cause)));
            }
            if let Some(hint) = failure.next() {
                line(&mut stderr, &format!("hint: {}", plain_line(hint)));
            }
        }
        ExitCode::from(failure.exit())
    }

    /// Asks before something is destroyed; without a terminal the answer is no.
    pub(super) fn confirm(&self, question: &str) -> bool {
        if !self.can_ask() {
            return false;
        }
        let mut stderr = io::stderr().lock();
        if write!(stderr, "{} [y/N] ", plain_line(question)).and_then(|()| stderr.flush()).is_err()
        {
            return false;
        }
        let mut answer = String::new();
        io::stdin().lock().read_line(&mut answer).is_ok()
            && matches!(answer.trim(), "y" | "Y" | "yes")
    }

    /// Says whether there is somebody to ask.
    pub(super) fn can_ask(&self) -> bool {
        !self.json && io::stdin().is_terminal() && io::stderr().is_terminal()
    }

    /// Says whether a spinner may be drawn.
    pub(super) fn may_animate(&self) -> bool {
        !self.quiet && !self.json && io::stderr().is_terminal()
    }
}

/// Writes a path so that a shell reads it as one word.
pub(super) fn shell_word(path: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+,:@%".contains(c);
    if !path.is_empty() && path.chars().all(plain) {
        path.to_owned()
    } else {
        format!("'{}'", path.replace('\'', "'\\''"))
    }
}

/// Writes a report of a daemon to the process that started it.
pub(super) fn report(report: &crate::schema::Report) {
    if let Ok(text) = serde_json::to_string(report) {
        line(&mut io::stdout().lock(), &text);
    }
}

/// JSON has the controls below U+0020 escaped; a terminal also obeys those from U+007F to U+009F and the bidi ones.
fn escaped(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        if c.is_ascii() && c != '\u{7f}'
            || plain(c.encode_utf8(&mut [0; 4])) == *c.encode_utf8(&mut [0; 4])
        {
            text.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                text.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    text
}

/// Writes one line; a reader that has gone away is no reason to panic.
fn line(out: &mut impl Write, text: &str) -> bool {
    write(out, text).is_ok()
}

fn write(out: &mut impl Write, text: &str) -> io::Result<()> {
    writeln!(out, "{text}").and_then(|()| out.flush())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_of_hints_are_about_the_home_that_was_named() {
        let bare = Printer::new(false, false);
        let named = Printer::new(false, false).with_home(Some(Path::new("/tmp/dana")));
        let hint = "start it: oob up; or: oob down, then oob address add IP:PORT";
        assert_eq!(bare.commands(hint), hint);
        assert_eq!(
            named.commands(hint),
            "start it: oob --home /tmp/dana up; or: oob --home /tmp/dana down, then oob --home /tmp/dana address add IP:PORT"
        );
        // What names one itself, files, and words that are no commands stay as they are.
        for other in [
            "oob --home DIR up",
            "see oob.log",
            "/opt/oob up",
            "whoever looks after oob here",
            "oob",
        ] {
            assert_eq!(named.commands(other), other);
        }
        let odd = Printer::new(false, false).with_home(Some(Path::new("/tmp/it's here")));
        assert_eq!(odd.commands("oob up"), r"oob --home '/tmp/it'\''s here' up");
    }

    #[test]
    fn json_keeps_the_text_and_no_terminal_obeys_it() {
        let nasty = "a\u{1b}[2J\u{9b}2J\u{202e}b\u{e0041}\u{7f}é👩";
        let json = escaped(&serde_json::to_string(nasty).unwrap());
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), nasty);
        assert_eq!(plain(&json), json);
        assert!(json.contains("é👩") && !json.contains('\u{7f}'));
    }
}
