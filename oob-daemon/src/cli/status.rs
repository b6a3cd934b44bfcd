//! `status`: who can be reached.

use super::{connect, printer::Printer};
use crate::{
    failure::Failure,
    place,
    plain::plain_line,
    schema::{Peer, Stamp, Status},
    settings::Home,
};

/// What helps where nobody is in reach.
const UNREACHED: &str =
    "hint: if they are up: run oob status on their laptop, then here: oob address add IP:PORT";

pub(super) async fn run(home: &Home, printer: &Printer) -> Result<(), Failure> {
    let status: Status = connect(home).await?.get("/api/v1/status").await?;
    printer.data(&status, words);
    Ok(())
}

fn words(status: &Status) -> String {
    let mut lines = Vec::new();
    match &status.org_name {
        None => {
            lines.push(format!("You are {}, in no organisation yet.", plain_line(&status.name)))
        }
        Some(org) => {
            let near = status.peers.iter().filter(|peer| peer.reachable).count();
            let all = status.peers.len();
            let you = format!("You are {} in {}", plain_line(&status.name), plain_line(org));
            match (near, all) {
                (_, 0) => {
                    lines.push(format!("{you}."));
                    lines.push("Nobody else yet; next: oob invite --out FILE".to_owned());
                }
                (0, _) => {
                    lines.push(format!("{you}."));
                    lines.push(format!("Nobody can be reached now (0 of {all})."));
                    lines.push(UNREACHED.to_owned());
                }
                _ => lines.push(format!("{you}, {near} of {all} others reachable.")),
            }
        }
    }
    let width = status.peers.iter().map(|peer| peer.member_name.chars().count()).max().unwrap_or(0);
    lines.extend(status.peers.iter().map(|peer| {
        let name = plain_line(&peer.member_name);
        format!("  {name:width$}  {}", whereabouts(peer))
    }));
    if status.outbox > 0 {
        lines.push(format!("{} not delivered yet.", count(status.outbox, "message")));
    }
    if status.held > 0 {
        lines.push(format!("{} held for others.", count(status.held, "message")));
    }
    lines.extend(
        place::listening(&status.listen).iter().map(|at| format!("others reach you at {at}")),
    );
    lines.extend(status.note.iter().map(|note| format!("note: {note}")));
    lines.join("\n")
}

fn whereabouts(peer: &Peer) -> String {
    let mut text = match (peer.reachable, peer.last_heard) {
        (true, _) => "reachable".to_owned(),
        (false, Some(heard)) => format!("last heard {}", ago(heard)),
        (false, None) => "never heard".to_owned(),
    };
    if let Some(transport) = &peer.transport {
        text.push_str(&format!(", {transport}"));
    }
    if let Some(found_by) = &peer.found_by {
        text.push_str(&format!(", found {}", place::found(found_by)));
    }
    text
}

pub(super) fn ago(moment: Stamp) -> String {
    let seconds = moment.age().as_secs();
    match seconds {
        0..60 => format!("{seconds} s ago"),
        60..3600 => format!("{} min ago", seconds / 60),
        3600..86_400 => format!("{} h ago", seconds / 3600),
        _ => format!("{} days ago", seconds / 86_400),
    }
}

fn count(number: u64, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}
