//! `status`: who can be reached, and what is known of those who cannot.

use super::{args, connect, printer::Printer};
use crate::{
    failure::Failure,
    place,
    plain::plain_line,
    schema::{Away, Island, Peer, Stamp, Status},
    settings::Home,
};
use std::time::Duration;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{MissedTickBehavior, interval},
};

/// What helps where nobody is in reach.
const UNREACHED: &str =
    "hint: if they are up: run oob status on their laptop, then here: oob address add IP:PORT";

/// Said where two machines run one identity.
pub(super) const ELSEWHERE: &str = "this identity runs on another machine too; what others write may reach either; stop one of the two";

/// How long after its start a daemon is still looking: mDNS and beacons take a second or two, and dials up to eight.
const LOOKS_MS: u64 = 10_000;

/// How often it is drawn again while it is watched.
const REDRAW: Duration = Duration::from_secs(2);

/// People named one by one in the sentence about those who are away; the list below has them all.
const NAMED: usize = 3;

pub(super) async fn run(
    options: &args::Status,
    home: &Home,
    printer: &Printer,
) -> Result<(), Failure> {
    let mut client = connect(home).await?;
    let words = |status: &Status| words(status, |hint| printer.commands(hint));
    if !options.watch {
        let status: Status = client.get("/api/v1/status").await?;
        printer.data(&status, words);
        return Ok(());
    }
    let mut interrupt = signal(SignalKind::interrupt())
        .map_err(|e| Failure::internal("signals cannot be heard").cause(e))?;
    let mut redraw = interval(REDRAW);
    redraw.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = interrupt.recv() => return Ok(()),
            _ = redraw.tick() => {}
        }
        let status: Status = client.get("/api/v1/status").await?;
        if !printer.again(&status, |status| format!("{}\n", words(status))) {
            // Whoever read this has gone away.
            return Ok(());
        }
    }
}

fn words(status: &Status, commands: impl Fn(&str) -> String) -> String {
    let mut lines = Vec::new();
    match &status.org_name {
        None => {
            lines.push(format!("You are {}, in no organisation yet.", plain_line(&status.name)))
        }
        Some(org) => {
            let you = format!("You are {} in {}", plain_line(&status.name), plain_line(org));
            let island = island(&status.island);
            if status.peers.is_empty() {
                lines.push(format!("{you}."));
                lines.push(commands("Nobody else yet; next: oob invite --out FILE"));
            } else if status.peers.iter().any(|peer| peer.reachable) {
                lines.push(format!("{you}; {island}"));
            } else {
                lines.push(format!("{you}."));
                let all = status.peers.len();
                if status.faults.network == "given_up" {
                    lines
                        .push("The network of this daemon has failed and was given up.".to_owned());
                    lines.push(commands(
                        "hint: begin again: oob down, then oob up; and see: oob doctor",
                    ));
                } else if is_looking(status) {
                    let seconds = status.up_ms / 1_000;
                    lines.push(format!(
                        "Looking for the others since {seconds} s; nobody is found yet (0 of {all})."
                    ));
                } else {
                    lines.push(format!("Nobody can be reached now (0 of {all})."));
                    lines.push(commands(UNREACHED));
                }
                lines.push(island);
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
    lines.extend(status.restored.map(|at| {
        let began = at.local();
        format!("note: this home came from a copy and began anew at {began}; messages it had confirmed later than that copy are not in it")
    }));
    lines.extend(status.note.iter().map(|note| format!("note: {note}")));
    lines.extend(status.elsewhere.iter().map(|_| format!("note: {ELSEWHERE}")));
    lines.join("\n")
}

/// Says whether a daemon has just begun and met nobody yet.
fn is_looking(status: &Status) -> bool {
    let up = Duration::from_millis(status.up_ms);
    let met = |peer: &Peer| peer.last_heard.is_some_and(|heard| heard.age() < up);
    status.up_ms < LOOKS_MS && !status.peers.iter().any(met)
}

/// Says with whom this node is, and of those who are away when and by whom they were last heard.
fn island(island: &Island) -> String {
    let mut parts = vec![format!("you are with {} of {}", island.with, island.of)];
    for away in island.away.iter().take(NAMED) {
        parts.extend(absence(away));
    }
    match island.away.len().saturating_sub(NAMED) {
        0 => {}
        1 => parts.push("1 more is away".to_owned()),
        more => parts.push(format!("{more} more are away")),
    }
    parts.join("; ")
}

fn absence(away: &Away) -> Vec<String> {
    let name = plain_line(&away.name);
    let mut said = match away.last_heard {
        Some(heard) => format!("{name} last heard {}", ago(heard)),
        None => format!("{name} never heard"),
    };
    if let Some(by) = &away.heard_by_name {
        said.push_str(&format!(" by {}", plain_line(by)));
    }
    let mut parts = vec![said];
    if away.held > 0 {
        parts.push(format!("{} held for {name}", count(away.held, "message")));
    }
    parts
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

#[cfg(test)]
mod tests {
    use super::*;

    fn away(name: &str, ago_s: u64, by: Option<&str>, held: u64) -> Away {
        Away {
            member: name.to_lowercase(),
            name: name.to_owned(),
            last_heard: Some(Stamp::now().before(Duration::from_secs(ago_s))),
            heard_by: by.map(str::to_lowercase),
            heard_by_name: by.map(str::to_owned),
            held,
        }
    }

    #[test]
    fn the_island_is_one_sentence() {
        let mut told = Island { with: 2, of: 3, away: vec![away("Rosa", 245, Some("Sam"), 2)] };
        assert_eq!(
            island(&told),
            "you are with 2 of 3; Rosa last heard 4 min ago by Sam; 2 messages held for Rosa"
        );
        told.away[0].held = 1;
        told.away[0].heard_by_name = None;
        assert_eq!(
            island(&told),
            "you are with 2 of 3; Rosa last heard 4 min ago; 1 message held for Rosa"
        );
        told.away[0] = Away { last_heard: None, held: 0, ..told.away[0].clone() };
        assert_eq!(island(&told), "you are with 2 of 3; Rosa never heard");
        assert_eq!(island(&Island { with: 3, of: 3, away: Vec::new() }), "you are with 3 of 3");
    }

    #[test]
    fn a_daemon_that_has_just_begun_is_looking_and_one_without_a_network_says_so() {
        let mut status: Status = serde_json::from_value(serde_json::json!({
            "member": "m", "device": "d", "org": "o", "listen": [], "held": 0, "outbox": 0, "name": "Dana", "org_name": "Clinic",
            "note": null, "island": {"with": 1, "of": 2, "away": []}, "up_ms": 2_400, "faults": crate::schema::Faults::default(),
            "peers": [{"member": "s", "device": "e", "reachable": false, "last_heard": null, "transport": null,
                       "found_by": null, "member_name": "Sam"}],
        }))
        .unwrap();
        let named = |hint: &str| hint.replace("oob ", "oob --home /d ");
        let said = words(&status, named);
        assert!(
            said.contains("\nLooking for the others since 2 s; nobody is found yet (0 of 1).\n"),
            "{said}"
        );
        assert!(!said.contains("Nobody can be reached") && !said.contains("hint:"), "{said}");
        // Who was met since and is gone is not looked for.
        status.peers[0].last_heard = Some(Stamp::now());
        assert!(words(&status, named).contains("Nobody can be reached now"));
        status.peers[0].last_heard = Some(Stamp::now().before(Duration::from_secs(60)));
        assert!(words(&status, named).contains("Looking for"));
        status.up_ms = LOOKS_MS;
        let said = words(&status, named);
        assert!(said.contains("\nNobody can be reached now (0 of 1).\nhint: "), "{said}");
        assert!(
            said.contains("run oob --home /d status on") && !said.contains("Looking"),
            "{said}"
        );
        status.faults.network = "given_up".to_owned();
        let said = words(&status, named);
        assert!(said.contains("was given up.\nhint: begin again: oob --home /d down,"), "{said}");
    }

    #[test]
    fn many_who_are_away_are_counted_and_a_name_stays_on_its_line() {
        let all = (0..6).map(|n| away(&format!("P{n}\n\u{1b}"), 7200, None, 0)).collect();
        let said = island(&Island { with: 1, of: 7, away: all });
        assert!(said.ends_with("; 3 more are away") && said.lines().count() == 1, "{said}");
        assert!(!said.contains('\u{1b}'));
    }
}
