//! `log`: shows a conversation, oldest first, and marks what it showed as read.

use super::{args, connect, encoded, printer::Printer, progress::Progress};
use crate::{
    failure::Failure,
    plain::plain_line,
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
    // On a terminal the messages themselves show that it goes on.
    let progress = Progress::start_beside(printer, "reading the conversation");
    let mut count = 0_u64;
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
            count = count.saturating_add(1);
        }
        progress.say(&format!("reading the conversation, {count} messages"));
        match page.next {
            Some(next) => after = next,
            None => break,
        }
    }
    drop(progress);
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
    if me != Some(message.author.as_str()) {
        return line;
    }
    if message.state == "held" && !message.held_by_names.is_empty() {
        return format!("{line}  (held by {})", listed(&message.held_by_names));
    }
    format!("{line}  ({})", message.state)
}

/// Writes names as people say them: `Sam`, `Sam and Rosa`, `Sam, Rosa and Eli`.
fn listed(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|name| plain_line(name)).collect();
    match names.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(state: &str, held_by: &[&str]) -> LogEntry {
        serde_json::from_value(serde_json::json!({
            "id": "m", "conversation": "c", "author": "dana", "text": "hello\nthere", "sent": "2026-11-22T01:00:00.000Z",
            "received": "2026-11-22T01:00:00.000Z", "state": state, "held_by": held_by, "held_by_names": held_by,
            "author_name": "Dana", "number": 1,
        }))
        .unwrap()
    }

    #[test]
    fn an_own_message_names_who_carries_it_as_long_as_somebody_must() {
        let said = |state: &str, held_by: &[&str], me: &str| {
            let line = words(&entry(state, held_by), Some(me));
            line.split_once("there").unwrap().1.to_owned()
        };
        assert_eq!(said("held", &["Sam"], "dana"), "  (held by Sam)");
        assert_eq!(
            said("held", &["Sam", "Ro\u{1b}sa", "Eli"], "dana"),
            "  (held by Sam, Ro\u{fffd}sa and Eli)"
        );
        assert_eq!(said("held", &[], "dana"), "  (held)");
        assert_eq!(said("delivered", &["Sam"], "dana"), "  (delivered)");
        assert_eq!(said("held", &["Sam"], "sam"), "");
    }
}
