//! `log`: shows a conversation, oldest first, and marks what it showed as read.

use super::{args, connect, printer::Printer};
use crate::{
    failure::Failure,
    schema::{LogEntry, MessagePage, Nothing, ReadRequest, Stamp},
    settings::Home,
};

pub(super) async fn run(
    options: &args::Log,
    home: &Home,
    printer: &Printer,
) -> Result<(), Failure> {
    let mut client = connect(home).await?;
    let since = options.since.map(|since| Stamp::now().before(since));
    let mut after = 0;
    let mut shown = None;
    'pages: loop {
        let mut path =
            format!("/api/v1/messages?target={}&after={after}", encoded(&options.target));
        if let Some(since) = since {
            path.push_str(&format!("&since={since}"));
        }
        let page: MessagePage = client.get(&path).await?;
        for message in &page.messages {
            if !printer.data(message, words) {
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
        let path = format!("/api/v1/conversations/{conversation}/read");
        let Nothing {} = client.post(&path, &ReadRequest { up_to }).await?;
    } else {
        printer.talk("no messages");
    }
    Ok(())
}

fn words(message: &LogEntry) -> String {
    let text = message.text.trim_end().replace('\n', "\n    ");
    format!("{} {}: {text}  ({})", message.received.local(), message.author_name, message.state)
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
