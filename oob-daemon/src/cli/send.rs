//! `send`: one text to one target, and if wanted the wait for its receipt.

use super::{
    args::{self, Wait},
    connect, encoded,
    printer::Printer,
    progress::Progress,
};
use crate::{
    client::{Client, EventStream},
    failure::Failure,
    schema::{Event, MessagePage, SendRequest, Sent},
    settings::Home,
};
use oob_core::TEXT_BYTES;
use std::{
    io::{self, Read},
    process::ExitCode,
    time::Duration,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::timeout,
};

/// Most read from standard input: the longest text, a line end, and one byte more to tell that it is too long.
const INPUT_BYTES: u64 = TEXT_BYTES as u64 + 2;

/// What a shell gives for a command that Ctrl-C ended.
const INTERRUPTED: u8 = 130;

pub(super) async fn run(
    options: &args::Send,
    home: &Home,
    printer: &Printer,
) -> Result<ExitCode, Failure> {
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
        reached = wait_for(wait, &options.target, &mut sent, events, client, options.timeout, &progress) => Some(reached),
        _ = interrupt.recv() => None,
    };
    drop(progress);
    printer.data(&sent, words);
    match reached {
        Some(reached) => reached.map(|()| ExitCode::SUCCESS),
        None => {
            printer.notice(match reach(&sent.state) {
                Some(Wait::Delivered | Wait::Read) => "stopped waiting; the message is delivered",
                Some(Wait::Held) => {
                    "stopped waiting; the message is held by somebody who hands it on"
                }
                None => "stopped waiting; the message is stored and goes out by itself",
            });
            Ok(ExitCode::from(INTERRUPTED))
        }
    }
}

async fn wait_for(
    wait: Wait,
    target: &str,
    sent: &mut Sent,
    mut events: EventStream,
    mut client: Client,
    limit: Duration,
    progress: &Progress,
) -> Result<(), Failure> {
    let arrival = async {
        while reach(&sent.state) < Some(wait) {
            let event = events.next().await?.ok_or_else(|| {
                Failure::new(
                    "queued",
                    "the daemon stopped; the message is stored and goes out when it runs again",
                )
                .hint("start it: oob up")
            })?;
            let state = match event.event {
                Event::Receipt { id, state, .. } if id == sent.id => state,
                // The receipt may be among what was passed over.
                Event::Lagged { .. } => recorded(&mut client, target, sent).await?,
                _ => continue,
            };
            if state == "expired" {
                return Err(Failure::new("timeout", "the message expired before it was delivered")
                    .hint("send it again, and see who can be reached: oob status"));
            }
            if state == "removed" {
                let removed = "the device it was for was removed before it arrived";
                return Err(Failure::new("timeout", removed)
                    .hint("see who is in the organisation: oob status"));
            }
            sent.state = state;
            progress.say(&format!("{}, waiting", sent.state));
        }
        Ok(())
    };
    let outcome = timeout(limit, arrival).await;
    let seconds = limit.as_secs_f64();
    outcome.unwrap_or_else(|_| {
        Err(match reach(&sent.state) {
            Some(Wait::Delivered | Wait::Read) => {
                Failure::new("queued", format!("delivered, but not read within {seconds} s"))
                    .hint("nothing to do: it is on their device, and they read it with: oob log")
            }
            Some(Wait::Held) => Failure::new(
                "queued",
                format!("held by somebody who hands it on, but not delivered within {seconds} s"),
            )
            .hint("nothing to do: it goes over when they meet; see who carries it with: oob log"),
            None if wait == Wait::Held => Failure::new(
                "queued",
                format!(
                    "held by nobody else within {seconds} s; it stays queued and goes out by itself"
                ),
            )
            .hint("somebody other than its addressee must be near to hold it: oob status"),
            None => Failure::new(
                "queued",
                format!("not delivered within {seconds} s; it stays queued and goes out by itself"),
            )
            .hint("see who can be reached: oob status"),
        })
    })
}

/// Returns how far the daemon has recorded a message to have come.
async fn recorded(client: &mut Client, target: &str, sent: &Sent) -> Result<String, Failure> {
    let path = format!(
        "/api/v1/messages?target={}&after={}&limit=1",
        encoded(target),
        sent.number.saturating_sub(1)
    );
    let page: MessagePage = client.get(&path).await?;
    let found = page.messages.into_iter().find(|message| message.id == sent.id);
    Ok(found.map_or_else(|| sent.state.clone(), |message| message.state))
}

/// How far a state is, in terms of what can be waited for: nothing yet while it is only stored here.
fn reach(state: &str) -> Option<Wait> {
    match state {
        "read" => Some(Wait::Read),
        "delivered" => Some(Wait::Delivered),
        "held" => Some(Wait::Held),
        _ => None,
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
    text_of(bytes)
}

fn text_of(mut bytes: Vec<u8>) -> Result<String, Failure> {
    // The line end that `echo` and editors put behind the last line is not part of what is said.
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    // Length first: what was cut off may end within a character.
    if bytes.len() > TEXT_BYTES {
        return Err(Failure::new(
            "too_long",
            format!("the text on standard input is longer than {TEXT_BYTES} bytes"),
        )
        .hint("send it in several messages"));
    }
    String::from_utf8(bytes).map_err(|_| {
        Failure::new("bad_request", "standard input is not text in UTF-8")
            .hint("send files as text only in this version")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{Router, routing::get};
    use futures::StreamExt;
    use std::convert::Infallible;

    #[test]
    fn a_long_text_is_called_long_wherever_it_is_cut() {
        for (text, code) in [
            ("ü".repeat(TEXT_BYTES / 2), None),
            (format!("{}\n", "x".repeat(TEXT_BYTES)), None),
            ("x".repeat(TEXT_BYTES + 1), Some("too_long")),
            ("ü".repeat(TEXT_BYTES), Some("too_long")),
            (format!("x{}", "ü".repeat(TEXT_BYTES)), Some("too_long")),
        ] {
            let mut bytes = text.into_bytes();
            bytes.truncate(usize::try_from(INPUT_BYTES).unwrap());
            let refused = text_of(bytes).err();
            assert_eq!(refused.as_ref().map(Failure::code), code);
        }
        assert_eq!(text_of(vec![0xff]).unwrap_err().code(), "bad_request");
    }

    #[test]
    fn states_come_in_their_order() {
        let order = ["stored", "held", "delivered", "read"].map(reach);
        assert!(order.is_sorted() && order.windows(2).all(|pair| pair[0] != pair[1]));
        assert_eq!(reach("expired"), None);
    }

    /// A daemon whose event stream was overtaken in the moment of the receipt, and whose log says `state`.
    async fn wait_with_a_log_that_says(state: &'static str) -> Result<(), Failure> {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("oob.sock");
        let lagged = || async {
            let told = "data: {\"type\":\"lagged\",\"missed\":2000}\n\n";
            let told = futures::stream::iter([Ok::<_, Infallible>(told)]);
            axum::body::Body::from_stream(told.chain(futures::stream::pending()))
        };
        let page = move || async move {
            axum::Json(serde_json::json!({"conversation": "c", "next": null, "messages": [{
                "id": "m", "conversation": "c", "author": "a", "text": "x", "sent": "2026-11-22T01:00:00.000Z",
                "received": "2026-11-22T01:00:00.000Z", "state": state, "held_by": [], "author_name": "Dana", "number": 7,
            }]}))
        };
        let router =
            Router::new().route("/api/v1/events", get(lagged)).route("/api/v1/messages", get(page));
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let server = tokio::spawn(async move { axum::serve(listener, router).await });
        let client = Client::connect_to(socket).await.unwrap();
        let events = client.events(None).await.unwrap();
        let mut sent =
            Sent { id: "m".into(), conversation: "c".into(), state: "stored".into(), number: 7 };
        let quiet = Progress::start(&Printer::new(true, true), "");
        let limit = Duration::from_secs(if state == "stored" { 0 } else { 20 });
        let waited =
            wait_for(Wait::Delivered, "sam", &mut sent, events, client, limit, &quiet).await;
        server.abort();
        waited
    }

    #[tokio::test]
    async fn a_receipt_that_was_passed_over_is_found_in_the_log() {
        wait_with_a_log_that_says("delivered").await.unwrap();
        wait_with_a_log_that_says("read").await.unwrap();
        let expired = wait_with_a_log_that_says("expired").await.unwrap_err();
        assert_eq!(expired.code(), "timeout");
        let removed = wait_with_a_log_that_says("removed").await.unwrap_err();
        assert!(removed.to_string().contains("removed before it arrived"), "{removed}");
        // The control: a log that knows nothing of it lets the wait go on to its end.
        assert_eq!(wait_with_a_log_that_says("stored").await.unwrap_err().code(), "queued");
    }
}
