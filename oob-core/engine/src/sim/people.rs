//! What people do: found, join, write, read.

use super::{
    story::Act,
    world::{Happening, World},
};
use crate::{
    effect::{Answer, CommandError, JoinError},
    input::Command,
    model::{AlertAnswer, AlertText, Name, Role, Severity, Text},
};
use oob_crypto::JoinHandshake;
use oob_proto::{DeviceId, MemberId, OrgId};

/// How long until somebody who was not let in tries again.
const AGAIN_MS: std::ops::RangeInclusive<u64> = 500..=3_000;

/// Of a thousand answers to a request to join, how many are lost.
const ANSWERS_LOST: u64 = 100;

/// The longest life of an invitation.
const INVITE_LIFE_MS: u64 = 30 * 86_400_000;

/// Alerts of a run ask for attention until its end.
const ALERT_LIFE_MS: u64 = 7 * 86_400_000;

/// The longest text, in words of six bytes: an envelope of the largest class.
const LONG: u64 = 1_300;

impl World {
    pub(super) fn found(&mut self) {
        let name = Name::parse("Harbour Clinic").expect("a name");
        let founded = self.commands(0, "found", vec![Command::Found { name }]).pop();
        match founded {
            Some(Ok(Answer::Org { member, .. })) => {
                self.is_member(0, member);
            }
            other => self.fail(0, format!("could not found: {other:?}")),
        }
    }

    /// Somebody joins through any member in sight.
    pub(super) fn join(&mut self, node: usize) {
        if self.nodes[node].member.is_some() {
            return;
        }
        if !self.try_to_join(node) {
            let ms = self.dice.between(AGAIN_MS);
            self.after(ms, Happening::Act(Act::Join { node }));
        }
    }

    fn try_to_join(&mut self, node: usize) -> bool {
        if self.invite.is_none() && self.nodes[0].runs() {
            let uses = 2 * self.nodes.len() as u32;
            let invite = Command::Invite {
                role: Role::Responder,
                uses,
                life_ms: INVITE_LIFE_MS,
                name: None,
            };
            if let Some(Ok(Answer::Invited { link, .. })) =
                self.commands(0, "invite", vec![invite]).pop()
            {
                self.invite = Some(*link);
            }
        }
        let members = self.members();
        let near: Vec<usize> =
            members.into_iter().filter(|member| self.lines.see(node, *member)).collect();
        let Some(admitter) = self.dice.pick(&near) else { return false };
        let Some(Ok(answer)) = self.ask(node, admitter) else { return false };
        let Answer::Answer(answer) = answer else { return false };
        if self.dice.chance(ANSWERS_LOST) {
            return false;
        }
        let finish = Command::FinishJoin { answer: *answer };
        match self.commands(node, "finish", vec![finish]).pop() {
            Some(Ok(Answer::Org { member, .. })) => {
                self.is_member(node, member);
                true
            }
            // It may have gone down behind the commit: then it is a member when it is back.
            _ => false,
        }
    }

    /// Runs the join stream up to the admitter's answer; nothing where one of the two went down.
    fn ask(&mut self, node: usize, admitter: usize) -> Option<Result<Answer, CommandError>> {
        let link = self.invite.clone()?;
        let org = OrgId::try_from(link.org_id.as_slice()).ok()?;
        let mine = self.nodes[node].engine.as_ref()?.local_keys().dnk;
        let theirs = self.nodes[admitter].engine.as_ref()?.local_keys().dnk;
        let mut rng = self.dice.fork();
        let (second, one) = JoinHandshake::initiator(&mut rng, &org, &mine).ok()?;
        let (third, two) =
            JoinHandshake::responder(&mut rng, &org, &theirs).ok()?.read(&one).ok()?;
        let (out, three) = second.read(&two).ok()?;
        let inn = third.read(&three).ok()?;
        let handshake_hash = *out.handshake_hash();
        let Ok(Answer::Proof(proof)) =
            self.commands(admitter, "proof", vec![Command::JoinProof]).pop()?
        else {
            return None;
        };
        let prepare = Command::PrepareJoin {
            link: Box::new(link),
            name: None,
            proof,
            handshake_hash,
            dnk: *out.remote(),
            transport: self.nodes[admitter].key,
        };
        let prepared = self.commands(node, "prepare", vec![prepare]).pop()?;
        let Ok(Answer::Ask(ask)) = prepared else { return None };
        let transport = self.nodes[node].key;
        let admit = Command::Admit { ask: *ask, handshake_hash, dnk: *inn.remote(), transport };
        let admitted = self.commands(admitter, "admit", vec![admit]).pop()?;
        if admitter == 0 && matches!(admitted, Err(CommandError::Join(JoinError::Expired))) {
            self.invite = None;
        }
        Some(admitted)
    }

    /// Notes that a device is in the organisation now.
    pub(super) fn is_member(&mut self, node: usize, member: MemberId) {
        self.nodes[node].member = Some(member);
        self.book.joined(node, member);
        self.redial_all(node);
    }

    /// Somebody writes; where the one meant is not there, another does.
    pub(super) fn say(&mut self, from: usize, to: usize, count: usize, long: bool) {
        let members = self.members();
        let from = if members.contains(&from) { Some(from) } else { self.dice.pick(&members) };
        let Some(from) = from else { return };
        let known: Vec<usize> = (0..self.nodes.len())
            .filter(|other| *other != from && self.nodes[from].knows(&self.nodes[*other].key))
            .filter(|other| self.nodes[*other].member.is_some())
            .collect();
        let to = if known.contains(&to) { Some(to) } else { self.dice.pick(&known) };
        if let Some(to) = to {
            self.write(from, to, count, long);
        }
    }

    /// Writes so many messages in one batch.
    pub(super) fn write(&mut self, from: usize, to: usize, count: usize, long: bool) {
        let Some(member) = self.nodes[to].member else { return };
        let mut places = Vec::new();
        let mut commands = Vec::new();
        for _ in 0..count {
            let padding =
                if long { self.dice.between(100..=LONG) } else { self.dice.between(0..=30) };
            let behind = self.knows_removal(from);
            let (place, text) = self.book.say(from, to, padding as usize, behind);
            places.push(place);
            let text = Text::parse(text).expect("a text");
            commands.push(Command::Send { to: member, text });
        }
        let replies = self.commands(from, "send", commands);
        for (place, reply) in places.into_iter().zip(&replies) {
            let checked = self.book.replied(place, reply);
            self.check(from, checked);
        }
    }

    /// Whether a device knows that another was taken out.
    fn knows_removal(&self, node: usize) -> bool {
        let removed = self.book.removed.filter(|removed| *removed != node);
        removed.is_some_and(|removed| !self.nodes[node].knows(&self.nodes[removed].key))
    }

    /// The admin alerts everybody.
    pub(super) fn alert(&mut self) {
        if !self.nodes[0].runs() {
            return;
        }
        let behind = self.knows_removal(0);
        let (place, text) = self.book.alarms.raise(behind);
        let severity = self.dice.pick(&Severity::ALL).unwrap_or_default();
        let text = AlertText::parse(text).expect("an alert");
        let alert =
            Command::RaiseAlert { severity, text, life_ms: ALERT_LIFE_MS, answers: Vec::new() };
        if let Some(reply) = self.commands(0, "alert", vec![alert]).pop() {
            let checked = self.book.alarms.replied(place, &reply);
            self.check(0, checked);
        }
    }

    /// Somebody answers an alert: "safe", or that it was seen.
    pub(super) fn answer(&mut self, node: usize, safe: bool) {
        let open = self.book.alarms.open_at(node);
        let Some((place, id)) = self.dice.pick(&open) else { return };
        if !self.nodes[node].runs() {
            return;
        }
        let answer = safe.then(|| AlertAnswer::parse("safe").expect("an answer"));
        let words = answer.as_ref().map(|answer| answer.as_str().to_owned());
        self.book.alarms.answers(place, node, words);
        self.commands(node, "answer", vec![Command::AckAlert { id, answer }]);
    }

    /// The admin takes a device out, once everybody is in and known.
    pub(super) fn revoke(&mut self, node: usize) {
        if self.book.removed.is_some() || self.healed {
            return;
        }
        let key = self.nodes[node].key;
        let known = |other: usize| other == 0 || self.nodes[0].knows(&self.nodes[other].key);
        let ready = self.nodes[0].runs() && (0..self.nodes.len()).all(known);
        if let Some(device) = self.device_of(node).filter(|_| ready) {
            self.revoking = Some(node);
            self.commands(0, "revoke", vec![Command::RevokeDevice { device }]);
            self.look_for_removal();
        }
        if self.nodes[0].knows(&key) || !self.nodes[0].runs() {
            let ms = self.dice.between(AGAIN_MS);
            self.after(ms, Happening::Act(Act::Revoke { node }));
        }
    }

    /// Notes that a removal under way stands: also where the admin went down before it could say so.
    pub(super) fn look_for_removal(&mut self) {
        let Some(node) = self.revoking else { return };
        if self.nodes[0].runs() && !self.nodes[0].knows(&self.nodes[node].key) {
            self.book.removed = Some(node);
            self.revoking = None;
        }
    }

    fn device_of(&self, node: usize) -> Option<DeviceId> {
        let key = self.nodes[node].key;
        let snapshot = self.nodes[0].engine.as_ref()?.snapshot();
        snapshot.roster.by_transport(&key).map(|device| device.id)
    }

    /// Somebody reads one of the conversations up to some message.
    pub(super) fn read(&mut self, node: usize) {
        let conversations = self.book.conversations(node);
        let Some((partner, conversation, last)) = self.dice.pick(&conversations) else { return };
        if !self.nodes[node].runs() {
            return;
        }
        let up_to = self.dice.between(1..=last.max(1));
        self.book.reads(node, partner, up_to);
        self.commands(node, "read", vec![Command::MarkRead { conversation, up_to }]);
    }
}
