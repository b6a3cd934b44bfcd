//! The steps of the demo, each with its evidence from the receiving end.

use super::{
    actor::{actor, await_state, enter, is_gone, logged, next, nobody, send, something, text_of},
    stage::{AUTHOR, CARRIER, RECEIVER, Stage},
};
use crate::{
    failure::Failure,
    launch::Launch,
    schema::{
        Conversations, Event, Invite, InviteRequest, JoinRequest, Joined, Members, Nothing,
        ReadRequest, Sent, Status,
    },
    service::millis,
};
use futures::future::try_join_all;
use serde_json::{Value, json};
use std::time::Instant;

/// The organisation and its people, all invented; the first founds it.
const ORG: &str = "Harbour Clinic";
const NAMES: [&str; 3] = ["Dana", "Sam", "Rosa"];
const TEXTS: [&str; 2] = ["Mail is compromised. Talk here.", "Understood, switching over."];

/// The alert, and what the others answer to it.
const ALERT: &str = "Ransomware on the file server. Leave your laptops on, unplug the network.";
const ANSWER: &str = "unplugged";

/// What is written to the one who is away.
const LATE: &str = "Backups are clean. Restore starts at noon.";

impl Stage<'_> {
    /// Evidence: the first daemon itself says that it is in the organisation.
    pub(super) async fn found(&mut self) -> Result<Value, Failure> {
        for name in NAMES {
            let home = self.folder.join(name.to_lowercase());
            self.launches.push(Launch::this_program(&home, &self.passphrase)?.loopback());
        }
        let founders = [Some(ORG), None, None];
        let all = NAMES.iter().zip(&self.launches).zip(founders);
        let starts = all.map(|((name, launch), founds)| async move {
            launch.init(name, founds).await?;
            enter(name, launch).await
        });
        self.actors = try_join_all(starts).await?.into_iter().map(Some).collect();
        let founder = actor(&mut self.actors, 0)?;
        let status: Status = founder.client.get("/api/v1/status").await?;
        let (Some(ORG), Some(member)) = (status.org_name.as_deref(), status.member) else {
            return Err(Failure::internal(format!(
                "{} is not in {ORG} after founding it",
                founder.name
            )));
        };
        founder.member = member;
        Ok(
            json!({ "org": ORG, "by": founder.name, "kdf_memory": "64MiB", "ready_ms": founder.daemon.ready().ready_ms, "kdf_ms": founder.daemon.ready().kdf_ms }),
        )
    }

    /// Evidence: two different links of the founder's daemon, good for one person each; whether they are, joining shows.
    pub(super) async fn invite(&mut self) -> Result<(Vec<Invite>, Value), Failure> {
        let founder = actor(&mut self.actors, 0)?;
        let mut invites = Vec::new();
        for _ in 1..NAMES.len() {
            let request =
                InviteRequest { role: Some("responder".into()), uses: Some(1), life_ms: None };
            let invite: Invite = founder.client.post("/api/v1/invites", &request).await?;
            if !invite.link.starts_with("oob:join:") || invites.contains(&invite) {
                return Err(Failure::internal("an invitation is not one"));
            }
            invites.push(invite);
        }
        let expires = invites.first().map(|invite| invite.expires);
        let detail = json!({ "by": founder.name, "invites": invites.len(), "role": "responder", "expires": expires });
        Ok((invites, detail))
    }

    /// Evidence: the founder's daemon has both in its log of members and a link to them.
    pub(super) async fn join(&mut self, invites: Vec<Invite>) -> Result<Value, Failure> {
        let (founder, others) = self.actors.split_first_mut().ok_or_else(nobody)?;
        let founder = founder.as_mut().ok_or_else(nobody)?;
        let mut names = Vec::new();
        // One after the other, as people hand invitations over: the second hears from the founder where the first is.
        for (other, invite) in others.iter_mut().flatten().zip(invites) {
            let joined: Joined = other
                .client
                .post("/api/v1/join", &JoinRequest { invite: invite.link, name: None })
                .await?;
            loop {
                let members: Members = founder.client.get("/api/v1/members").await?;
                let status: Status = founder.client.get("/api/v1/status").await?;
                if members.members.iter().any(|known| known.member == joined.member)
                    && status
                        .peers
                        .iter()
                        .any(|peer| peer.member == joined.member && peer.reachable)
                {
                    break;
                }
                something(founder).await?;
            }
            names.push(other.name);
            other.member = joined.member;
        }
        Ok(json!({ "members": names, "seen_by": founder.name, "in": ORG }))
    }

    /// Evidence: each daemon says that it has a link to both others, and which rung of discovery found them.
    pub(super) async fn discover(&mut self) -> Result<Value, Failure> {
        let mut found = serde_json::Map::new();
        for actor in self.actors.iter_mut().flatten() {
            let status = loop {
                let status: Status = actor.client.get("/api/v1/status").await?;
                let near = status.peers.iter().filter(|peer| peer.reachable).count();
                if near == NAMES.len() - 1 {
                    break status;
                }
                self.seen = json!(format!(
                    "{} has a link to {near} of {} others",
                    actor.name,
                    NAMES.len() - 1
                ));
                something(actor).await?;
            };
            let rungs = status.peers.iter().map(|peer| {
                let rung = format!(
                    "{} over {}",
                    peer.found_by.as_deref().unwrap_or("unknown"),
                    peer.transport.as_deref().unwrap_or("unknown")
                );
                (peer.member_name.clone(), Value::from(rung))
            });
            found.insert(actor.name.to_owned(), Value::Object(rungs.collect()));
        }
        Ok(Value::Object(found))
    }

    /// Evidence: the event of the receiving daemon has the same id and text, and the author's daemon has the signed receipt.
    pub(super) async fn deliver(&mut self) -> Result<(Vec<Sent>, Value), Failure> {
        let mut sent = Vec::new();
        let mut trips = Vec::new();
        // From the founder to one who joined, then between the two who joined: nothing passes through the founder.
        for ((from, to), text) in [(0, 1), (1, 2)].into_iter().zip(TEXTS) {
            let target = format!("person:{}", actor(&mut self.actors, to)?.name);
            let author = actor(&mut self.actors, from)?;
            let (author_name, began) = (author.name, Instant::now());
            let message = send(author, target, text).await?;
            let receiver = actor(&mut self.actors, to)?;
            loop {
                if let Event::Message { id, text: received, author_name: by, .. } =
                    next(receiver).await?
                    && id == message.id
                    && received == text
                    && by == author_name
                {
                    break;
                }
            }
            trips.push(json!(format!(
                "{author_name} to {} in {} ms",
                receiver.name,
                millis(began.elapsed())
            )));
            await_state(actor(&mut self.actors, from)?, &message, &["delivered", "read"]).await?;
            sent.push(message);
        }
        Ok((sent, json!({ "messages": trips })))
    }

    /// Evidence: the author's daemon has the reader's signed receipt.
    pub(super) async fn read(&mut self, sent: &[Sent]) -> Result<Value, Failure> {
        let mut readers = Vec::new();
        for ((from, to), message) in [(0, 1), (1, 2)].into_iter().zip(sent) {
            let reader = actor(&mut self.actors, to)?;
            let all: Conversations = reader.client.get("/api/v1/conversations").await?;
            let conversation = all
                .conversations
                .into_iter()
                .find(|found| found.conversation == message.conversation);
            let latest =
                conversation.and_then(|conversation| conversation.latest).ok_or_else(|| {
                    Failure::internal("the message is not in the log of its receiver")
                })?;
            let path = format!("/api/v1/conversations/{}/read", message.conversation);
            let Nothing {} =
                reader.client.post(&path, &ReadRequest { up_to: latest.number }).await?;
            readers.push(json!(reader.name));
            await_state(actor(&mut self.actors, from)?, message, &["read"]).await?;
        }
        Ok(json!({ "by": readers }))
    }

    /// Evidence: the daemons of both others have the alert, with its author and text.
    pub(super) async fn raise(&mut self) -> Result<(String, Value), Failure> {
        let author = actor(&mut self.actors, AUTHOR)?;
        let request = json!({ "text": ALERT, "severity": "critical" });
        let raised: Value = author.client.post("/api/v1/alerts", &request).await?;
        let id = text_of(&raised, "id")?;
        let by = author.member.clone();
        let mut reached = Vec::new();
        for place in [CARRIER, RECEIVER] {
            let other = actor(&mut self.actors, place)?;
            while !other.has_alert(&id, &by, ALERT).await? {
                self.seen = json!({ "reached": reached });
                something(other).await?;
            }
            reached.push(other.name);
        }
        let detail = json!({ "by": NAMES.first(), "severity": "critical", "text": ALERT, "reached": reached });
        Ok((id, detail))
    }

    /// Evidence: the author's daemon counts both, by what they signed.
    pub(super) async fn acknowledge(&mut self, id: &str) -> Result<Value, Failure> {
        let mut wanted = Vec::new();
        for place in [CARRIER, RECEIVER] {
            let other = actor(&mut self.actors, place)?;
            let path = format!("/api/v1/alerts/{id}/ack");
            let _alert: Value = other.client.post(&path, &json!({ "answer": ANSWER })).await?;
            wanted.push(other.member.clone());
        }
        let author = actor(&mut self.actors, AUTHOR)?;
        loop {
            let alert: Value = author.client.get(&format!("/api/v1/alerts/{id}")).await?;
            let acked = alert["acked"].as_array().map(Vec::as_slice).unwrap_or_default();
            let counts = |member: &String| {
                acked.iter().any(|ack| ack["member"] == **member && ack["answer"] == ANSWER)
            };
            if wanted.iter().all(counts) {
                let names: Vec<&Value> = acked.iter().map(|ack| &ack["name"]).collect();
                return Ok(
                    json!({ "seen_by": author.name, "acknowledged": acked.len(), "of": wanted.len(), "by": names, "answer": ANSWER }),
                );
            }
            self.seen = json!({ "acknowledged": acked.len(), "of": wanted.len() });
            something(author).await?;
        }
    }

    /// Evidence: the process is gone, and the daemons of both others have no link to it any more.
    pub(super) async fn stop_receiver(&mut self) -> Result<Value, Failure> {
        let (name, member, pid) = self.stop(RECEIVER).await?;
        for place in [AUTHOR, CARRIER] {
            let other = actor(&mut self.actors, place)?;
            while other.reaches(&member).await? {
                self.seen = json!(format!("{} still thinks that {name} is in reach", other.name));
                something(other).await?;
            }
        }
        Ok(json!({ "name": name, "pid": pid, "missed_by": NAMES.get(..RECEIVER) }))
    }

    /// Evidence: it is in the log of its author's daemon, and not delivered.
    pub(super) async fn send_late(&mut self) -> Result<(Sent, Value), Failure> {
        let to = NAMES.get(RECEIVER).ok_or_else(nobody)?;
        let author = actor(&mut self.actors, AUTHOR)?;
        let sent = send(author, format!("person:{to}"), LATE).await?;
        let entry = logged(author, to, &sent.id)
            .await?
            .ok_or_else(|| Failure::internal("the message is not in the log of its author"))?;
        if entry.text != LATE || !matches!(entry.state.as_str(), "stored" | "held") {
            return Err(Failure::internal(format!("the message is {} already", entry.state)));
        }
        let detail = json!({ "from": author.name, "to": to, "text": LATE, "state": entry.state });
        Ok((sent, detail))
    }

    /// Evidence: the author's daemon has the signed word of the third's that it carries the message.
    pub(super) async fn held(&mut self, late: &Sent) -> Result<Value, Failure> {
        let to = NAMES.get(RECEIVER).ok_or_else(nobody)?;
        let carrier = actor(&mut self.actors, CARRIER)?.member.clone();
        let author = actor(&mut self.actors, AUTHOR)?;
        loop {
            let entry = logged(author, to, &late.id).await?;
            if let Some(entry) = entry.filter(|entry| entry.held_by.contains(&carrier)) {
                return Ok(
                    json!({ "held_by": entry.held_by, "names": entry.held_by_names, "for": to, "state": entry.state }),
                );
            }
            something(author).await?;
        }
    }

    /// Evidence: the process is gone.
    pub(super) async fn stop_sender(&mut self) -> Result<(u32, Value), Failure> {
        let (name, _, pid) = self.stop(AUTHOR).await?;
        Ok((pid, json!({ "name": name, "pid": pid })))
    }

    /// Evidence: a new process of the same person has a link to the third, and to nobody else.
    pub(super) async fn restart_receiver(&mut self) -> Result<Value, Failure> {
        let carrier = actor(&mut self.actors, CARRIER)?.member.clone();
        let (Some(name), Some(launch)) = (NAMES.get(RECEIVER), self.launches.get(RECEIVER)) else {
            return Err(nobody());
        };
        let back = enter(name, launch).await?;
        let place = self.actors.get_mut(RECEIVER).ok_or_else(nobody)?;
        let back = place.insert(back);
        while !back.reaches(&carrier).await? {
            something(back).await?;
        }
        let status: Status = back.client.get("/api/v1/status").await?;
        let near: Vec<String> = status
            .peers
            .into_iter()
            .filter(|peer| peer.reachable)
            .map(|peer| peer.member_name)
            .collect();
        back.member = status.member.ok_or_else(nobody)?;
        Ok(
            json!({ "name": name, "pid": back.daemon.ready().pid, "ready_ms": back.daemon.ready().ready_ms, "in_reach": near }),
        )
    }

    /// Evidence: the receiver's daemon has the text in its log, while no process of its author's is left and the third is the
    /// only one it has a link to.
    pub(super) async fn delivered_late(
        &mut self,
        late: &Sent,
        author_pid: u32,
    ) -> Result<Value, Failure> {
        let (author, carrier_name) = (NAMES.get(AUTHOR).ok_or_else(nobody)?, NAMES.get(CARRIER));
        let carrier = actor(&mut self.actors, CARRIER)?.member.clone();
        let receiver = actor(&mut self.actors, RECEIVER)?;
        let entry = loop {
            match logged(receiver, author, &late.id).await? {
                Some(entry) => break entry,
                None => something(receiver).await?,
            }
        };
        let status: Status = receiver.client.get("/api/v1/status").await?;
        let near = status.peers.iter().filter(|peer| peer.reachable);
        let near: Vec<&str> = near.map(|peer| peer.member.as_str()).collect();
        if entry.text != LATE || near != [carrier.as_str()] || !is_gone(author_pid) {
            return Err(Failure::internal("the message did not come from the third alone"));
        }
        Ok(
            json!({ "from": carrier, "from_name": carrier_name, "author": author, "author_gone": true, "to": receiver.name, "text": entry.text }),
        )
    }
}
