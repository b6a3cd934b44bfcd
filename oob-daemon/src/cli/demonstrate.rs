//! `demo`: prints the steps as they are earned.

use super::{args, printer::Printer, progress::Progress};
use crate::{demo, failure::Failure, schema::Step, service::millis};
use std::process::ExitCode;

pub(super) async fn run(options: &args::Demo, printer: &Printer) -> Result<ExitCode, Failure> {
    printer.talk("three daemons on this machine, in folders of their own, with the cheapest key derivation (64 MiB)");
    let progress = Progress::start(printer, "starting three daemons");
    let plan =
        demo::Plan { once: options.once, keep: options.keep.clone(), limit: options.timeout };
    let outcome = demo::run(plan, |told| match told {
        demo::Told::Step(step) => {
            progress.aside(|| printer.data(step, words));
        }
        demo::Told::Waiting(what) => progress.say(what),
        demo::Told::Running { folder } => {
            progress.say("running until Ctrl-C");
            progress.aside(|| {
                printer.talk(&format!(
                    "they go on until Ctrl-C; this version has no web page yet, but you can be one of them in another terminal:\n  \
                     oob --home {}/dana status\n  oob --home {0}/dana send sam \"Hello from the terminal\"",
                    folder.display()
                ));
            });
        }
    })
    .await;
    drop(progress);
    outcome.map(|spent| {
        printer.talk(&format!("every step done in {} ms", millis(spent)));
        ExitCode::SUCCESS
    })
}

fn words(step: &Step) -> String {
    let mark = if step.ok { "ok" } else { "FAILED" };
    format!("{:<11} {mark:<6} {:>6} ms  {}", step.step, step.ms, sentence(&step.detail))
}

/// Writes the detail of a step as `key: value, …`, nested ones in brackets.
fn sentence(detail: &serde_json::Value) -> String {
    match detail {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| match value {
                serde_json::Value::Object(_) => format!("{key} ({})", sentence(value)),
                _ => format!("{key}: {}", sentence(value)),
            })
            .collect::<Vec<_>>()
            .join(", "),
        serde_json::Value::Array(items) => {
            items.iter().map(sentence).collect::<Vec<_>>().join(" and ")
        }
        other => other.to_string(),
    }
}
