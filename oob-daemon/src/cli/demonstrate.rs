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
        demo::Told::Running { folder, page } => {
            progress.say("running until Ctrl-C");
            progress.aside(|| {
                printer.talk(&format!(
                    "Sam and Rosa go on until Ctrl-C; be one of them in another terminal:\n  \
                     oob --home {}/sam status\n  oob --home {0}/sam send rosa \"Hello from the terminal\"",
                    folder.display()
                ));
                match page {
                    Some(page) => printer.talk(&format!("or as Rosa in a browser, once: {page}")),
                    None => printer.talk("this version has no web page"),
                }
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
    let told = if step.ok { story(step) } else { None };
    let told = told.unwrap_or_else(|| sentence(&step.detail));
    format!("{:<18} {mark:<6} {:>6} ms  {told}", step.step, step.ms)
}

/// Says what a person would say of a step; none for one that is not known here.
fn story(step: &Step) -> Option<String> {
    let said = |field: &str| sentence(&step.detail[field]);
    Some(match step.step.as_str() {
        "found" => format!(
            "{} founded {}; three daemons run (key derivation took {} ms, on purpose)",
            said("by"),
            said("org"),
            said("kdf_ms")
        ),
        "invited" => {
            format!("{} made {} invitations, good for one person each", said("by"), said("invites"))
        }
        "joined" => format!("{} joined; {} sees them", said("members"), said("seen_by")),
        "discovered" => format!("everybody has a link to everybody: {}", sentence(&step.detail)),
        "delivered" => format!("messages went over: {}", said("messages")),
        "read" => format!("{} read them, and the authors know", said("by")),
        "alert_raised" => {
            format!("{} raised: {:?}; {} have it", said("by"), said("text"), said("reached"))
        }
        "alert_acknowledged" => format!(
            "{} of {} acknowledged, as {} counts: {} answered {:?}",
            said("acknowledged"),
            said("of"),
            said("seen_by"),
            said("by"),
            said("answer")
        ),
        "receiver_stopped" => format!("{} is away; {} noticed", said("name"), said("missed_by")),
        "sent_late" => {
            format!("{} wrote to {} all the same: {:?}", said("from"), said("to"), said("text"))
        }
        "held" => format!("{} carries it for {}, sealed", said("names"), said("for")),
        "sender_stopped" => {
            format!("{} is away too: process {} is gone", said("name"), said("pid"))
        }
        "receiver_restarted" => format!("{} is back; in reach: {}", said("name"), said("in_reach")),
        "delivered_late" => format!(
            "{} has it, from {}, while {} is still away: {:?}",
            said("to"),
            said("from_name"),
            said("author"),
            said("text")
        ),
        _ => return None,
    })
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
