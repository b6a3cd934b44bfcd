//! What people do: found, join, write, read.

use super::{
    story::Act,
    world::{Happening, World},
};
use crate::{
    effect::{Answer, CommandError, JoinError},
    input::Command,
    model::{Name, Role, Text},
};
use oob_crypto::JoinHandshake;
use oob_proto::{MemberId, OrgId};

/// How long until somebody who was not let in tries again.
const AGAIN_MS: std::ops::RangeInclusive<u64> = 500..=3_000;

/// Of a thousand answers to a request to join, how many are lost.
const ANSWERS_LOST: u64 = 100;

/// The longest life of an invitation.
const INVITE_LIFE_MS: u64 = 30 * 86_400_000;

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
            let (place, text) = self.book.say(from, to, padding as usize);
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
