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
    time::Duration,
};
use tokio::time::timeout;

/// Most read from standard input: more than a message may have, so that the daemon says what the limit is.
const INPUT_BYTES: u64 = 64 * 1024;

pub(super) async fn run(
    options: &args::Send,
    home: &Home,
    printer: &Printer,
) -> Result<(), Failure> {
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
        return Ok(());
    };
    // Listening first: the receipt may come before the answer does.
    let events = client.events(None).await?;
    let mut sent: Sent = client.post("/api/v1/messages", &request).await?;
    let progress = Progress::start(printer, "stored here, waiting");
    let reached = wait_for(wait, &mut sent, events, client, options.timeout, &progress).await;
    drop(progress);
    printer.data(&sent, words);
    reached
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
    outcome.unwrap_or_else(|_| {
        let word = match wait {
            Wait::Held => "held",
            Wait::Delivered => "delivered",
            Wait::Read => "read",
        };
        Err(Failure::new(
            "queued",
            format!("not {word} within {} s; the message stays queued", limit.as_secs_f64()),
        )
        .hint("it goes out by itself once they can be reached; see: oob status"))
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

fn read_input() -> Result<String, Failure> {
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
