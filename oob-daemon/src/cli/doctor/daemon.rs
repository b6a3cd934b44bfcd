//! The daemon: whether it runs and answers, and whether anybody is in reach of it.

use super::{super::printer::shell_word, advice, fine, wrong};
use crate::{
    failure::Failure,
    place,
    plain::plain_line,
    schema::{Addresses, Check, Stamp, Status},
    settings::Home,
};
use oob_core::Node;
use std::fs;

/// Longest number read from the lock file.
const PID_BYTES: usize = 16;

/// What a running daemon says of itself.
pub(super) struct Told {
    pub(super) status: Status,
    pub(super) addresses: Addresses,
}

/// Whether there is a daemon.
pub(super) enum Running {
    Answers {
        pid: Option<i32>,
        told: Box<Told>,
    },
    /// Why it does not, and which process has the home all the same.
    Silent {
        failure: Failure,
        holder: Option<u32>,
    },
}

/// Asks the daemon of a home, if there is one.
pub(super) async fn look(home: &Home) -> Running {
    let asked = async {
        let mut client = super::connect(home).await?;
        let status = client.get("/api/v1/status").await?;
        let addresses = client.get("/api/v1/addresses").await?;
        Ok::<_, Failure>((client.pid(), Box::new(Told { status, addresses })))
    };
    match asked.await {
        Ok((pid, told)) => Running::Answers { pid, told },
        Err(failure) => Running::Silent { failure, holder: holder(home) },
    }
}

/// Returns the process that has the store open, 0 where its number cannot be read.
fn holder(home: &Home) -> Option<u32> {
    let file = fs::File::open(home.path().join("lock")).ok()?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockShared) {
        // Given back when the file is closed, at once.
        Ok(()) => None,
        Err(_) => {
            let text = fs::read_to_string(home.path().join("lock")).unwrap_or_default();
            let text: String = text.chars().take(PID_BYTES).collect();
            Some(text.trim().parse().unwrap_or(0))
        }
    }
}

impl Running {
    pub(super) fn told(&self) -> Option<&Told> {
        match self {
            Self::Answers { told, .. } => Some(told),
            Self::Silent { .. } => None,
        }
    }

    pub(super) fn pid(&self) -> Option<i32> {
        match self {
            Self::Answers { pid, .. } => *pid,
            Self::Silent { .. } => None,
        }
    }

    pub(super) fn check(&self) -> Check {
        const NAME: &str = "daemon";
        match self {
            Self::Answers { pid: Some(pid), .. } => {
                fine(NAME, format!("runs as process {pid} and answers"))
            }
            Self::Answers { pid: None, .. } => fine(NAME, "runs and answers"),
            // `kill 0` would end whoever types it.
            Self::Silent { holder: Some(0), .. } => wrong(
                NAME,
                "a process that cannot be named has the store open and does not answer",
                "it may still be starting; if it stays so, look for it: ps -C oob; end it by its number, then: oob up",
            ),
            Self::Silent { holder: Some(pid), .. } => wrong(
                NAME,
                format!("process {pid} has the store open and does not answer"),
                format!(
                    "it may still be starting; if it stays so, end it: kill {pid}, then: oob up"
                ),
            ),
            Self::Silent { failure, holder: None } => wrong(
                NAME,
                format!(
                    "{failure}; not looked at therefore: where it listens, and who is in reach"
                ),
                failure.next().unwrap_or("start it: oob up"),
            ),
        }
    }
}

/// Returns how many devices in reach were found on this network, by multicast or broadcast.
pub(super) fn found_here(told: Option<&Told>) -> usize {
    let peers = told.map_or(&[][..], |told| &told.status.peers);
    let rungs = ["beacon", "mdns"];
    let found = |rung: &Option<String>| rung.as_deref().is_some_and(|rung| rungs.contains(&rung));
    peers.iter().filter(|peer| peer.reachable && found(&peer.found_by)).count()
}

/// Said only where this identity was found to run on another machine too.
pub(super) fn elsewhere(told: Option<&Told>) -> Option<Check> {
    told?.status.elsewhere.as_ref()?;
    Some(wrong(
        "elsewhere",
        super::super::status::ELSEWHERE,
        "stop the daemon on all machines but one: oob down; what is to run on two needs two identities",
    ))
}

/// Somebody is in reach, or why nobody is. Needs the daemon.
pub(super) fn people(told: Option<&Told>) -> Option<Check> {
    const NAME: &str = "people";
    let Told { status, addresses } = told?;
    if status.org.is_none() {
        return Some(advice(
            NAME,
            "this device belongs to no organisation yet",
            "join one: oob join FILE",
        ));
    }
    let all = status.peers.len();
    let near: Vec<_> = status.peers.iter().filter(|peer| peer.reachable).collect();
    if all == 0 {
        return Some(advice(
            NAME,
            "there is nobody else in the organisation yet",
            "invite somebody: oob invite --out FILE",
        ));
    }
    if !near.is_empty() {
        let rungs = near.iter().filter_map(|peer| peer.found_by.as_deref()).map(place::found);
        let mut rungs: Vec<&str> = rungs.collect();
        rungs.sort_unstable();
        rungs.dedup();
        let found = if rungs.is_empty() {
            String::new()
        } else {
            format!(", found {}", rungs.join(" and "))
        };
        return Some(fine(
            NAME,
            format!("{} of {all} other devices are in reach{found}", near.len()),
        ));
    }
    let heard = |rung: &str| addresses.addresses.iter().any(|known| known.found_by == rung);
    let why = match (heard("beacon"), heard("mdns")) {
        (false, false) => "no beacon was heard and no mDNS answer came",
        (true, _) => "a beacon was heard, and no link came of it",
        (false, true) => "mDNS answered, and no link came of it",
    };
    let tried = addresses.addresses.iter().filter(|known| known.device.is_some()).count();
    Some(wrong(
        NAME,
        format!(
            "none of the {all} other devices is in reach: {why}; {tried} remembered addresses are tried"
        ),
        "see that they are up; then read the address on their laptop with oob status, and here: oob address add IP:PORT; \
         multicast or the port may be blocked (see the checks above)",
    ))
}

/// Tasks that failed and were begun again, and why an earlier run stopped by itself.
pub(super) fn faults(home: &Home, told: Option<&Told>) -> Check {
    const NAME: &str = "faults";
    let faults = told.map(|told| told.status.faults.clone()).unwrap_or_default();
    let kept = Node::quarantined(home.path());
    if faults.network == "given_up" {
        return wrong(
            NAME,
            format!(
                "the network failed {} times in a row and was given up: nobody can be reached; the store goes on",
                faults.network_failed
            ),
            format!("begin again: oob down, then oob up; {}", report(home)),
        );
    }
    let mut said = Vec::new();
    if let Some((at, why)) = Node::stopped_by_itself(home.path()) {
        let at = Stamp::from(at).local();
        said.push(format!("a run stopped by itself on {at}: {}", plain_line(&why)));
    }
    let failed = faults.network_failed.saturating_add(faults.tasks_failed);
    if failed > 0 {
        said.push(format!("{failed} tasks have failed and were begun again"));
    }
    if kept > 0 {
        said.push(format!(
            "{kept} things that came from outside made a task fail, and are given to nobody again"
        ));
    }
    if said.is_empty() {
        return fine(NAME, "no task has failed");
    }
    advice(NAME, said.join("; "), report(home))
}

fn report(home: &Home) -> String {
    let word = |name: &str| shell_word(&home.path().join(name).display().to_string());
    let [log, fault, evidence] = ["oob.log", "fault", "evidence"].map(word);
    format!(
        "for whoever looks after oob: {log} and {evidence}; when they have them: rm -rf {fault} {evidence}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(peers: serde_json::Value, found_by: &[&str], org: Option<&str>) -> Told {
        let status = json!({
            "member": "m", "device": "d", "org": org, "listen": [], "peers": peers, "held": 0, "outbox": 0, "name": "Dana",
            "org_name": org, "note": null, "island": {"with": 1, "of": 2, "away": []},
            "up_ms": 60_000, "faults": crate::schema::Faults::default(),
        });
        let addresses: Vec<_> = found_by
            .iter()
            .map(|by| json!({"address": "/ip4/10.0.0.2/tcp/4801", "found_by": by, "device": null, "member_name": null}))
            .collect();
        Told {
            status: serde_json::from_value(status).unwrap(),
            addresses: serde_json::from_value(json!({ "addresses": addresses })).unwrap(),
        }
    }

    fn sam(reachable: bool) -> serde_json::Value {
        json!([{"member": "s", "device": "e", "reachable": reachable, "last_heard": null, "transport": null,
                "found_by": reachable.then_some("mdns"), "member_name": "Sam"}])
    }

    #[test]
    fn nobody_in_reach_is_told_with_what_was_heard() {
        let detail = |found_by: &[&str]| {
            let found = people(Some(&told(sam(false), found_by, Some("o")))).unwrap();
            assert!(!found.ok && found.hint.is_some());
            found.detail
        };
        assert!(detail(&["typed"]).contains("no beacon was heard and no mDNS answer came"));
        assert!(detail(&["mdns"]).contains("mDNS answered, and no link"));
        assert!(detail(&["mdns", "beacon"]).contains("a beacon was heard"));
    }

    #[test]
    fn an_identity_that_runs_on_two_machines_is_told_to_whoever_is_at_either() {
        let mut told = told(sam(true), &[], Some("o"));
        assert_eq!(elsewhere(Some(&told)), None);
        told.status.elsewhere = Some(Stamp::now());
        let found = elsewhere(Some(&told)).unwrap();
        assert!(!found.ok && found.hint.is_some(), "{found:?}");
    }

    #[test]
    fn being_alone_by_choice_is_no_fault() {
        let near = people(Some(&told(sam(true), &[], Some("o")))).unwrap();
        assert_eq!(
            (near.ok, near.detail.as_str()),
            (true, "1 of 1 other devices are in reach, found on this network (mDNS)")
        );
        for lonely in [told(json!([]), &[], Some("o")), told(json!([]), &[], None)] {
            let found = people(Some(&lonely)).unwrap();
            assert!(found.ok && found.hint.is_some(), "{found:?}");
        }
        assert!(people(None).is_none());
    }

    #[test]
    fn failures_that_were_survived_are_told_and_a_network_that_was_given_up_is_wrong() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::resolve(Some(dir.path())).unwrap();
        let mut told = told(sam(true), &[], Some("o"));
        assert_eq!(faults(&home, Some(&told)).hint, None);
        told.status.faults.network_failed = 2;
        let found = faults(&home, Some(&told));
        assert!(
            found.ok && found.hint.is_some() && found.detail.starts_with("2 tasks"),
            "{found:?}"
        );
        told.status.faults.network = "given_up".into();
        assert!(!faults(&home, Some(&told)).ok);
        // Without a daemon the home still tells.
        fs::write(dir.path().join("fault"), "1700000000000 a defect in the rules\n").unwrap();
        fs::create_dir(dir.path().join("evidence")).unwrap();
        fs::write(dir.path().join("evidence/gossip-00"), "x").unwrap();
        let found = faults(&home, None);
        assert!(found.detail.contains("a defect in the rules"), "{found:?}");
        assert!(found.detail.contains("1 things that came from outside"), "{found:?}");
    }

    #[test]
    fn a_process_that_holds_the_home_and_says_nothing_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::resolve(Some(dir.path())).unwrap();
        assert_eq!(holder(&home), None);
        fs::write(dir.path().join("lock"), "4711\n").unwrap();
        // A number alone is what a process that ended left behind.
        assert_eq!(holder(&home), None);
        let held = fs::File::open(dir.path().join("lock")).unwrap();
        rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();
        assert_eq!(holder(&home), Some(4711));
        let failure = Failure::new("not_running", "no daemon is running");
        let found = Running::Silent { failure: failure.clone(), holder: Some(4711) }.check();
        assert!(!found.ok && found.hint.unwrap().contains("kill 4711"));
        fs::write(dir.path().join("lock"), "-1\n").unwrap();
        assert_eq!(holder(&home), Some(0));
        let found = Running::Silent { failure: failure.clone(), holder: holder(&home) }.check();
        assert!(!found.ok && !found.hint.unwrap().contains("kill 0"));
        let found = Running::Silent { failure, holder: None }.check();
        assert!(!found.ok && found.hint.unwrap().contains("oob up"));
    }
}
