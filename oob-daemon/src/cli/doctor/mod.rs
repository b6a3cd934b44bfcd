//! `doctor`: looks at everything that oob needs and says in plain words what is wrong and what to do. It changes nothing and
//! sends nothing off this machine.

mod daemon;
mod home;
mod machine;
mod network;

use super::{connect, printer::Printer, progress::Progress};
use crate::{
    failure::Failure,
    schema::{Check, Checks},
    settings::Home,
};
use std::{path::Path, process::ExitCode};

/// Exit code when anything is not as it should be.
const FOUND: u8 = 10;

pub(super) async fn run(home: &Home, printer: &Printer) -> Result<ExitCode, Failure> {
    let progress = Progress::start(printer, "looking");
    let running = daemon::look(home).await;
    let mut checks = vec![
        home::folder(home),
        home::store(home),
        home::copies(home.path()),
        home::disk(home.path()),
    ];
    checks.push(running.check());
    checks.push(daemon::faults(home, running.told()));
    checks.extend(network::port(running.told()));
    let interfaces = network::Interfaces::read();
    checks.push(interfaces.check());
    progress.say("sending to this machine itself by multicast");
    checks.push(interfaces.multicast(daemon::found_here(running.told())));
    checks.push(network::firewall(Path::new("/"), running.told()));
    checks.extend(daemon::elsewhere(running.told()));
    checks.extend(daemon::people(running.told()));
    checks.push(machine::clock(home, running.told()));
    checks.push(machine::memory(Path::new("/proc"), home, running.told().is_some()));
    checks.push(machine::core_dumps(Path::new("/proc"), running.pid()));
    checks.push(machine::swap(Path::new("/proc")));
    drop(progress);
    for check in &mut checks {
        check.hint = check.hint.take().map(|hint| printer.commands(&hint));
    }
    let checks = Checks { checks };
    let found = checks.checks.iter().any(|check| !check.ok);
    printer.data(&checks, words);
    Ok(if found { ExitCode::from(FOUND) } else { ExitCode::SUCCESS })
}

fn words(checks: &Checks) -> String {
    let width = checks.checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    let mut lines = Vec::new();
    for check in &checks.checks {
        let mark = match (check.ok, &check.hint) {
            (true, None) => "ok    ",
            (true, Some(_)) => "advice",
            (false, _) => "WRONG ",
        };
        lines.push(format!("{mark}  {:<width$}  {}", check.name, check.detail));
        if let Some(hint) = &check.hint {
            lines.push(format!("        {:<width$}  hint: {hint}", ""));
        }
    }
    let wrong = checks.checks.iter().filter(|check| !check.ok).count();
    lines.push(match wrong {
        0 => "nothing is wrong".to_owned(),
        1 => "1 thing is wrong".to_owned(),
        more => format!("{more} things are wrong"),
    });
    lines.join("\n")
}

/// As it should be.
fn fine(name: &str, detail: impl Into<String>) -> Check {
    Check { name: name.to_owned(), ok: true, detail: detail.into(), hint: None }
}

/// Works, and could be better.
fn advice(name: &str, detail: impl Into<String>, hint: impl Into<String>) -> Check {
    Check { hint: Some(hint.into()), ..fine(name, detail) }
}

/// Has to be mended.
fn wrong(name: &str, detail: impl Into<String>, hint: impl Into<String>) -> Check {
    Check { ok: false, ..advice(name, detail, hint) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_stands_out_without_colour() {
        let checks = Checks {
            checks: vec![
                fine("home", "is there"),
                advice("swap", "is on", "encrypt it"),
                wrong("clock", "shows 1970", "set it"),
            ],
        };
        assert_eq!(
            words(&checks),
            "ok      home   is there\n\
             advice  swap   is on\n               hint: encrypt it\n\
             WRONG   clock  shows 1970\n               hint: set it\n\
             1 thing is wrong"
        );
    }
}
