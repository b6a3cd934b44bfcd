//! Shows that something is going on, on a terminal only.

use super::printer::Printer;
use indicatif::{ProgressBar, ProgressStyle};
use std::{io::IsTerminal, time::Duration};

/// How often it turns.
const TICK: Duration = Duration::from_millis(120);

/// A spinner; it goes away when it is dropped.
pub(super) struct Progress(Option<ProgressBar>);

impl Progress {
    pub(super) fn start(printer: &Printer, what: &str) -> Self {
        if !printer.may_animate() {
            return Self(None);
        }
        let bar = ProgressBar::new_spinner().with_message(what.to_owned());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(TICK);
        Self(Some(bar))
    }

    /// As [`Progress::start`], where results go elsewhere than to the terminal: between lines on it a spinner is in the way.
    pub(super) fn start_beside(printer: &Printer, what: &str) -> Self {
        if std::io::stdout().is_terminal() { Self(None) } else { Self::start(printer, what) }
    }

    /// A bar; it is told how far it is from any thread.
    pub(super) fn bar(printer: &Printer, what: &str) -> Self {
        if !printer.may_animate() {
            return Self(None);
        }
        let bar = ProgressBar::new(0).with_message(what.to_owned());
        if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {pos} of {len} records") {
            bar.set_style(style);
        }
        Self(Some(bar))
    }

    /// What to call with the number done and, where it is known, of how many.
    pub(super) fn steps(&self) -> impl FnMut(u64, Option<u64>) + Send + 'static {
        let bar = self.0.clone();
        move |done, all| {
            if let Some(bar) = &bar {
                bar.set_length(all.unwrap_or(done).max(done));
                bar.set_position(done);
            }
        }
    }

    pub(super) fn say(&self, what: &str) {
        if let Some(bar) = &self.0 {
            bar.set_message(what.to_owned());
        }
    }

    /// Runs something that prints, without the spinner in its line.
    pub(super) fn aside<T>(&self, print: impl FnOnce() -> T) -> T {
        match &self.0 {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}
