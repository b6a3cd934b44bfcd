//! `alert`: raises one to everybody, shows who has answered, answers one.

use super::{
    args::{self, AlertVerb},
    connect,
    printer::Printer,
    send::read_input,
    status::ago,
};
use crate::{
    client::Client,
    failure::Failure,
    plain::plain_line,
    schema::{AckRequest, Alert, AlertAck, AlertRequest, Alerts, Me, Members},
    service::millis,
    settings::Home,
};

/// Letters of an id that a list shows: enough to tell a few thousand alerts apart, few enough to type.
const SHORT: usize = 8;

/// Characters of an alert's first line that a list shows.
const GLANCE: usize = 60;

pub(super) async fn run(
    verb: &AlertVerb,
    yes: bool,
    home: &Home,
    printer: &Printer,
) -> Result<(), Failure> {
    match verb {
        AlertVerb::Send(options) => send(options, yes, home, printer).await,
        AlertVerb::List => list(home, printer).await,
        AlertVerb::Show { id } => show(id, home, printer).await,
        AlertVerb::Ack { id, answer } => ack(id, answer.as_deref(), yes, home, printer).await,
    }
}

async fn send(
    options: &args::AlertSend,
    yes: bool,
    home: &Home,
    printer: &Printer,
) -> Result<(), Failure> {
    let text = if options.text == "-" { read_input()? } else { options.text.clone() };
    let mut client = connect(home).await?;
    if !yes && printer.can_ask() && !confirmed(&mut client, options, printer).await? {
        return Err(Failure::new("declined", "nobody was alerted")
            .hint("write to one person instead: oob send NAME TEXT"));
    }
    let request = AlertRequest {
        text,
        severity: Some(options.severity.as_str().to_owned()),
        to: options.to.clone(),
        life_ms: Some(millis(options.expires)),
        answers: None,
    };
    let alert: Alert = client.post("/api/v1/alerts", &request).await?;
    printer.data(&alert, |alert| {
        let (near, asked) = (alert.pending.len(), alert.asked());
        format!(
            "{} alert to {}, {near} in reach now  {}",
            alert.severity,
            people(asked),
            alert.short()
        )
    });
    printer.talk(&format!("see who has answered: oob alert show {}", alert.short()));
    Ok(())
}

async fn confirmed(
    client: &mut Client,
    options: &args::AlertSend,
    printer: &Printer,
) -> Result<bool, Failure> {
    let members: Members = client.get("/api/v1/members").await?;
    let others = members.members.iter().filter(|member| !member.me).count();
    let severity = options.severity.as_str();
    Ok(printer.confirm(&format!("A {severity} alert to {}. Send it?", people(others))))
}

async fn list(home: &Home, printer: &Printer) -> Result<(), Failure> {
    let mut client = connect(home).await?;
    let me: Me = client.get("/api/v1/me").await?;
    let all: Alerts = client.get("/api/v1/alerts").await?;
    for alert in &all.alerts {
        if !printer.data(alert, |alert| alert.line(me.member.as_deref())) {
            break;
        }
    }
    if all.alerts.is_empty() {
        printer.talk("no alerts");
    }
    Ok(())
}

async fn show(id: &str, home: &Home, printer: &Printer) -> Result<(), Failure> {
    let mut client = connect(home).await?;
    let me: Me = client.get("/api/v1/me").await?;
    let alert: Alert = client.get(&format!("/api/v1/alerts/{}", segment(id)?)).await?;
    let commands = |text: &str| printer.commands(text);
    printer.data(&alert, |alert| alert.page(me.member.as_deref(), commands));
    Ok(())
}

async fn ack(
    id: &str,
    answer: Option<&str>,
    yes: bool,
    home: &Home,
    printer: &Printer,
) -> Result<(), Failure> {
    let mut client = connect(home).await?;
    if let Some(word) = answer
        && !yes
        && printer.can_ask()
    {
        let alert: Alert = client.get(&format!("/api/v1/alerts/{}", segment(id)?)).await?;
        // One that is not offered is refused anyway; where none is, any goes out, also one mistyped.
        if alert.answers.is_empty() && !printer.confirm(&alert.asks(word)) {
            return Err(Failure::new("declined", "nothing was answered")
                .hint(format!("acknowledge it without a word: oob alert ack {}", alert.short())));
        }
    }
    let request = AckRequest { answer: answer.map(str::to_owned) };
    let alert: Alert =
        client.post(&format!("/api/v1/alerts/{}/ack", segment(id)?), &request).await?;
    printer.data(&alert, |alert| {
        let name = plain_line(&alert.author_name);
        let counted = format!("{} of {}", alert.acked.len(), people(alert.asked()));
        match (alert.outgoing, &request.answer) {
            (true, _) => format!("this alert is yours; {counted} have acknowledged it"),
            (false, None) => format!("acknowledged to {name}; {counted} so far"),
            (false, Some(word)) => {
                format!("answered {name} with {:?}; {counted} so far", plain_line(word))
            }
        }
    });
    Ok(())
}

/// An id as it may stand in a path; what cannot be one is not sent.
fn segment(id: &str) -> Result<&str, Failure> {
    let id = id.trim();
    if !id.is_empty() && id.chars().all(|c| matches!(c, 'a'..='z' | '2'..='7')) {
        return Ok(id);
    }
    Err(Failure::new("not_found", format!("{id:?} is no alert's id"))
        .hint("ids have the letters a to z and the digits 2 to 7; see them: oob alert list"))
}

impl Alert {
    /// People who were asked.
    fn asked(&self) -> usize {
        self.acked.len() + self.pending.len() + self.unreachable.len()
    }

    fn short(&self) -> String {
        self.id.chars().take(SHORT).collect()
    }

    /// The question before a word goes out that nobody offered.
    fn asks(&self, word: &str) -> String {
        let name = plain_line(&self.author_name);
        format!(
            "{name} asked for no word. Answer {:?} to {name}'s alert, for all to see?",
            plain_line(word)
        )
    }

    /// One line of a list.
    fn line(&self, me: Option<&str>) -> String {
        let first = self.text.trim().lines().next().unwrap_or_default();
        let mut glance: String = first.chars().take(GLANCE).collect();
        if first.chars().count() > GLANCE || self.text.trim().lines().count() > 1 {
            glance.push('…');
        }
        let state = if self.expired { ", expired" } else { "" };
        format!(
            "{}  {:8}  {}  {}: {}  ({} of {}{state}{})",
            self.short(),
            self.severity,
            ago(self.issued),
            plain_line(&self.author_name),
            plain_line(&glance),
            self.acked.len(),
            people(self.asked()),
            match self.mine(me) {
                Mine::Author | Mine::Answered => "",
                Mine::Owed => "; you have not answered",
            }
        )
    }

    /// Everything about it, for somebody who was just woken: what, from whom, then who is missing.
    fn page(&self, me: Option<&str>, commands: impl Fn(&str) -> String) -> String {
        let mut lines = vec![format!(
            "{} alert from {}, {} ({}){}",
            self.severity.to_uppercase(),
            plain_line(&self.author_name),
            ago(self.issued),
            self.issued.local(),
            if self.expired { ", EXPIRED" } else { "" }
        )];
        lines.extend(self.text.trim_end().lines().map(|line| format!("    {line}")));
        lines.push(format!("id            {}", self.id));
        let until = if self.expired { "was until" } else { "until" };
        lines.push(format!("{until:12}  {}", self.expires.local()));
        if !self.answers.is_empty() {
            lines.push(format!("answers       {}", names(&self.answers)));
        }
        let asked = self.asked();
        let acked: Vec<String> = self.acked.iter().map(AlertAck::words).collect();
        lines.push(format!("acknowledged  {} of {}", acked.len(), people(asked)));
        lines.extend(acked.iter().map(|line| format!("    {line}")));
        if !self.pending.is_empty() {
            lines.push(format!("not yet       {}", names(&self.pending_names)));
        }
        if !self.unreachable.is_empty() {
            lines.push(format!("out of reach  {}", names(&self.unreachable_names)));
        }
        if matches!(self.mine(me), Mine::Owed) && !self.expired {
            lines.push(commands(&format!("yours         oob alert ack {}", self.short())));
        }
        lines.join("\n")
    }

    fn mine(&self, me: Option<&str>) -> Mine {
        if self.outgoing {
            Mine::Author
        } else if self.acked.iter().any(|ack| Some(ack.member.as_str()) == me) {
            Mine::Answered
        } else {
            Mine::Owed
        }
    }
}

/// What the user has to do with an alert.
enum Mine {
    Author,
    Answered,
    Owed,
}

impl AlertAck {
    fn words(&self) -> String {
        let name = plain_line(&self.name);
        match &self.answer {
            None => format!("{name}, {}", self.time.local()),
            Some(word) => format!("{name}, {}: {}", self.time.local(), plain_line(word)),
        }
    }
}

fn names(names: &[String]) -> String {
    names.iter().map(|name| plain_line(name)).collect::<Vec<_>>().join(", ")
}

fn people(count: usize) -> String {
    match count {
        1 => "1 person".to_owned(),
        _ => format!("{count} people"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::Stamp;

    fn alert() -> Alert {
        let issued = Stamp::now().before(std::time::Duration::from_secs(300));
        let ack = |name: &str, answer: Option<&str>| AlertAck {
            member: name.to_lowercase(),
            name: name.to_owned(),
            time: issued,
            answer: answer.map(str::to_owned),
        };
        Alert {
            id: "abcdefgh234567abcdefgh234567".to_owned(),
            author: "dana".to_owned(),
            author_name: "Dana".to_owned(),
            severity: "critical".to_owned(),
            text: "Do not log in.\nMeet in room 4.".to_owned(),
            issued,
            expires: issued,
            outgoing: false,
            expired: false,
            answers: Vec::new(),
            acked: vec![ack("Sam", Some("on my way")), ack("Rosa", None)],
            pending: vec!["eli".to_owned()],
            pending_names: vec!["Eli".to_owned()],
            unreachable: vec!["noor".to_owned(), "ada".to_owned()],
            unreachable_names: vec!["Noor".to_owned(), "Ada".to_owned()],
        }
    }

    #[test]
    fn a_page_says_what_from_whom_and_who_is_missing() {
        let alert = alert();
        let at = alert.issued.local();
        let page = format!(
            "CRITICAL alert from Dana, 5 min ago ({at})\n    Do not log in.\n    Meet in room 4.\n\
             id            abcdefgh234567abcdefgh234567\nuntil         {at}\n\
             acknowledged  2 of 5 people\n    Sam, {at}: on my way\n    Rosa, {at}\n\
             not yet       Eli\nout of reach  Noor, Ada\nyours         oob alert ack abcdefgh"
        );
        assert_eq!(alert.page(Some("eli"), str::to_owned), page);
        assert!(!alert.page(Some("sam"), str::to_owned).contains("yours"));
        let expired = Alert { expired: true, ..alert };
        assert!(
            expired
                .page(Some("eli"), str::to_owned)
                .starts_with("CRITICAL alert from Dana, 5 min ago")
        );
        assert!(expired.page(Some("eli"), str::to_owned).contains("EXPIRED"));
    }

    #[test]
    fn a_line_shows_the_first_words_and_what_is_owed() {
        let alert = alert();
        let line = "abcdefgh  critical  5 min ago  Dana: Do not log in.…  (2 of 5 people";
        assert_eq!(alert.line(Some("eli")), format!("{line}; you have not answered)"));
        assert_eq!(alert.line(Some("sam")), format!("{line})"));
        let forged = Alert { author_name: "Da\u{1b}[2Jna".to_owned(), ..alert };
        assert!(!forged.line(None).contains('\u{1b}'));
    }

    #[test]
    fn what_cannot_be_an_id_is_not_asked_for() {
        assert_eq!(segment(" abc234 ").unwrap(), "abc234");
        for bad in ["", "../status", "a b", "ABC", "a%2f"] {
            let failure = segment(bad).unwrap_err();
            assert_eq!((failure.code(), failure.exit()), ("not_found", 4), "{bad}");
        }
    }
}
