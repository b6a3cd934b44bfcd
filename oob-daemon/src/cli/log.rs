//! `log`: shows a conversation, oldest first, and marks what it showed as read.

use super::{args, connect, printer::Printer};
use crate::{
    failure::Failure,
    schema::{LogEntry, Me, MessagePage, Nothing, ReadRequest, Stamp},
    settings::Home,
};

pub(super) async fn run(
    options: &args::Log,
    home: &Home,
    printer: &Printer,
) -> Result<(), Failure> {
    let mut client = connect(home).await?;
    let me: Me = client.get("/api/v1/me").await?;
    let since = options.since.map(|since| Stamp::now().before(since));
    let mut after = 0;
    let mut shown = None;
    let mut any = false;
    'pages: loop {
        let mut path =
            format!("/api/v1/messages?target={}&after={after}", encoded(&options.target));
        if let Some(since) = since {
            path.push_str(&format!("&since={since}"));
        }
        let page: MessagePage = client.get(&path).await?;
        for message in &page.messages {
            any = true;
            if !printer.data(message, |message| words(message, me.member.as_deref())) {
                // Whoever read this has gone away and did not see the rest.
                break 'pages;
            }
            shown = Some((page.conversation.clone(), message.number));
        }
        match page.next {
            Some(next) => after = next,
            None => break,
        }
    }
    if let Some((conversation, up_to)) = shown {
        // What lies before a moment asked for was not shown, and must not be called read.
        if since.is_some() {
            return Ok(());
        }
        let path = format!("/api/v1/conversations/{conversation}/read");
        let Nothing {} = client.post(&path, &ReadRequest { up_to }).await?;
    } else if !any {
        printer.talk("no messages");
    }
    Ok(())
}

/// Writes one message; how far it has come is said of this person's own ones.
fn words(message: &LogEntry, me: Option<&str>) -> String {
    let text = message.text.trim_end().replace('\n', "\n    ");
    let line = format!("{} {}: {text}", message.received.local(), message.author_name);
    if me == Some(message.author.as_str()) { format!("{line}  ({})", message.state) } else { line }
}

/// Writes a text as one value of a query: everything but letters and digits as percent and hex.
fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
