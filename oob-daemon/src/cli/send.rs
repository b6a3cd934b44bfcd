//! `send`: one text to one target, and if wanted the wait for its receipt.

use super::{
    args::{self, Wait},
    connect,
    printer::Printer,
    progress::Progress,
};
use crate::{
    client::{Client, EventStream},
    failure::Failure,
    schema::{Event, SendRequest, Sent},
    settings::Home,
};
use std::{
    io::{self, Read},
    process::ExitCode,
    time::Duration,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::timeout,
};

/// Most read from standard input: more than a message may have, so that the daemon says what the limit is.
const INPUT_BYTES: u64 = 64 * 1024;

/// What a shell gives for a command that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

pub(super) async fn run(
    options: &args::Send,
    home: &Home,
    printer: &Printer,
) -> Result<ExitCode, Failure> {
    if options.wait == Some(Wait::Held) {
        return Err(Failure::new(
            "not_yet",
            "nobody keeps messages for others in this version, so there is no waiting for held",
        )
        .hint("wait for the addressee instead: --wait delivered"));
    }
    let text = if options.text == "-" { read_input()? } else { options.text.clone() };
    let request = SendRequest { target: options.target.clone(), text };
    let mut client = connect(home).await?;
    let Some(wait) = options.wait else {
        let sent = client.post("/api/v1/messages", &request).await?;
        printer.data(&sent, words);
        return Ok(ExitCode::SUCCESS);
    };
    // Listening first: the receipt may come before the answer does.
    let events = client.events(None).await?;
    let mut sent: Sent = client.post("/api/v1/messages", &request).await?;
    let progress = Progress::start(printer, "stored here, waiting");
    let mut interrupt = signal(SignalKind::interrupt())
        .map_err(|e| Failure::internal("signals cannot be heard").cause(e))?;
    let reached = tokio::select! {
        reached = wait_for(wait, &mut sent, events, client, options.timeout, &progress) => Some(reached),
        _ = interrupt.recv() => None,
    };
    drop(progress);
    printer.data(&sent, words);
    match reached {
        Some(reached) => reached.map(|()| ExitCode::SUCCESS),
        None => {
            printer.notice(if rank(&sent.state) >= Wait::Delivered {
                "stopped waiting; the message is delivered"
            } else {
                "stopped waiting; the message is stored and goes out by itself"
            });
            Ok(ExitCode::from(INTERRUPTED))
        }
    }
}

async fn wait_for(
    wait: Wait,
    sent: &mut Sent,
    mut events: EventStream,
    client: Client,
    limit: Duration,
    progress: &Progress,
) -> Result<(), Failure> {
    let arrival = async {
        while rank(&sent.state) < wait {
            match events.next().await? {
                None => {
                    return Err(Failure::new(
                        "queued",
                        "the daemon stopped; the message is stored and goes out when it runs again",
                    )
                    .hint("start it: oob up"));
                }
                Some(event) => {
                    if let Event::Receipt { id, state, .. } = event.event
                        && id == sent.id
                    {
                        sent.state = state;
                        progress.say(&format!("{}, waiting", sent.state));
                    }
                }
            }
        }
        Ok(())
    };
    let outcome = timeout(limit, arrival).await;
    drop(client);
    let seconds = limit.as_secs_f64();
    outcome.unwrap_or_else(|_| {
        Err(if rank(&sent.state) >= Wait::Delivered {
            Failure::new("queued", format!("delivered, but not read within {seconds} s"))
                .hint("nothing to do: it is on their device, and they read it with: oob log")
        } else {
            Failure::new(
                "queued",
                format!("not delivered within {seconds} s; it stays queued and goes out by itself"),
            )
            .hint("see who can be reached: oob status")
        })
    })
}

/// How far a state is, in terms of what can be waited for. Below the first there is only `stored`.
fn rank(state: &str) -> Wait {
    match state {
        "read" => Wait::Read,
        "delivered" => Wait::Delivered,
        _ => Wait::Held,
    }
}

fn words(sent: &Sent) -> String {
    format!("{}  {}", sent.state, sent.id)
}

pub(super) fn read_input() -> Result<String, Failure> {
    let mut bytes = Vec::new();
    io::stdin()
        .lock()
        .take(INPUT_BYTES)
        .read_to_end(&mut bytes)
        .map_err(|e| Failure::file("the text cannot be read from standard input", &e))?;
    let mut text = String::from_utf8(bytes).map_err(|_| {
        Failure::new("bad_request", "standard input is not text in UTF-8")
            .hint("send files as text only in this version")
    })?;
    // The line end that `echo` and editors put behind the last line is not part of what is said.
    if text.ends_with('\n') {
        text.pop();
    }
    Ok(text)
}
