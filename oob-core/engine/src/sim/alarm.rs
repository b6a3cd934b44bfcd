//! Alerts as the book has them: who raised what, who was told, and what each person answered.

use super::book::{Checked, ensure};
use crate::{
    Engine,
    effect::{Answer, CommandError},
    model::Alert,
};
use oob_proto::{AlertId, MemberId};
use std::collections::{BTreeMap, BTreeSet};

/// One alert.
struct Alarm {
    text: String,
    /// Raised by somebody who knew of the removal: the removed device must not read it.
    behind_removal: bool,
    /// Once its author was told that it is durable.
    id: Option<AlertId>,
    told: BTreeSet<usize>,
    /// By person, the newest answer that the person's own device told of.
    answers: BTreeMap<usize, Option<String>>,
}

/// All alerts.
#[derive(Default)]
pub(super) struct Alarms {
    all: Vec<Alarm>,
    by_id: BTreeMap<AlertId, usize>,
    /// What people asked for: which alert, who, what.
    asked: BTreeSet<(usize, usize, Option<String>)>,
    /// Who may have said anything.
    pub(super) hostile: BTreeSet<usize>,
    /// Answers that their own author may have forgotten: which alert, whose.
    loose: BTreeSet<(usize, usize)>,
}

/// Which alerts one node was told of, and what it had answered, at a moment it may be put back to.
pub(super) struct AlarmMark(Vec<(bool, Option<Option<String>>)>);

impl Alarms {
    /// Notes what the admin is about to alert everybody of.
    pub(super) fn raise(&mut self, behind_removal: bool) -> (usize, String) {
        let place = self.all.len();
        let text = format!("!{place} mail is compromised");
        self.all.push(Alarm {
            text: text.clone(),
            behind_removal,
            id: None,
            told: BTreeSet::new(),
            answers: BTreeMap::new(),
        });
        (place, text)
    }

    /// Takes the reply to it.
    pub(super) fn replied(&self, place: usize, reply: &Result<Answer, CommandError>) -> Checked {
        let known = self.all[place].id;
        match reply {
            Ok(Answer::Alert { id }) => ensure(known == Some(*id), || {
                format!("alert {place} was acknowledged and its event has not come")
            }),
            Ok(other) => Err(format!("alert {place} was answered by {other:?}")),
            Err(_) => ensure(known.is_none(), || format!("alert {place} was refused and kept")),
        }
    }

    /// Takes the event of an alert; nobody but the first alerts.
    pub(super) fn alert(
        &mut self,
        node: usize,
        author: Option<usize>,
        removed: bool,
        alert: &Alert,
    ) -> Checked {
        // In an organisation of one admin, who named no alerters, everybody may alert.
        if author.is_some_and(|author| self.hostile.contains(&author)) {
            return Ok(());
        }
        let place = place_of(&alert.text).filter(|place| *place < self.all.len());
        let place = place.ok_or_else(|| format!("an alert nobody raised: {:?}", alert.text))?;
        let alarm = &mut self.all[place];
        ensure(alarm.text == alert.text, || format!("alert {place} was altered"))?;
        ensure(author == Some(0), || format!("alert {place} has another author"))?;
        ensure(alarm.told.insert(node), || format!("alert {place} was shown twice"))?;
        ensure(!(removed && alarm.behind_removal), || {
            format!("alert {place} was read by a device that had been removed")
        })?;
        if node == 0 {
            alarm.id = Some(alert.id);
            self.by_id.insert(alert.id, place);
        }
        ensure(alarm.id == Some(alert.id), || format!("alert {place} left before it was durable"))
    }

    /// Takes the event of an alert on a hostile device, which may answer it.
    pub(super) fn told_to_hostile(&mut self, node: usize, removed: bool, alert: &Alert) -> Checked {
        let place = place_of(&alert.text).filter(|place| *place < self.all.len());
        let Some(place) = place else { return Ok(()) };
        let alarm = &mut self.all[place];
        alarm.told.insert(node);
        ensure(!(removed && alarm.behind_removal), || {
            format!("alert {place} was read by a device that had been removed")
        })
    }

    /// Takes the event of an answer.
    pub(super) fn answered(
        &mut self,
        node: usize,
        alert: &AlertId,
        by: Option<usize>,
        answer: &Option<String>,
    ) -> Checked {
        if by.is_some_and(|by| self.hostile.contains(&by)) {
            return Ok(());
        }
        let place = *self.by_id.get(alert).ok_or("an answer to an alert that nobody raised")?;
        let by = by.ok_or_else(|| format!("an answer to alert {place} by nobody"))?;
        ensure(self.asked.contains(&(place, by, answer.clone())), || {
            format!("an answer to alert {place} that {by} did not give: {answer:?}")
        })?;
        if node == by {
            self.all[place].answers.insert(by, answer.clone());
        }
        Ok(())
    }

    /// The alerts a person was told of and may answer.
    pub(super) fn open_at(&self, node: usize) -> Vec<(usize, AlertId)> {
        let all = self.all.iter().enumerate();
        all.filter(|(_, alarm)| alarm.told.contains(&node))
            .filter_map(|(place, alarm)| Some((place, alarm.id?)))
            .collect()
    }

    /// Notes what a node was told so far.
    pub(super) fn mark(&self, node: usize) -> AlarmMark {
        let of = |alarm: &Alarm| (alarm.told.contains(&node), alarm.answers.get(&node).cloned());
        AlarmMark(self.all.iter().map(of).collect())
    }

    /// A node was put back: it is told again of what came since, and may not know what it answered since.
    pub(super) fn put_back(&mut self, node: usize, mark: &AlarmMark) {
        for (place, alarm) in self.all.iter_mut().enumerate() {
            let (told, answered) = mark.0.get(place).cloned().unwrap_or_default();
            if !told {
                alarm.told.remove(&node);
            }
            if alarm.answers.get(&node) != answered.as_ref() {
                self.loose.insert((place, node));
            }
        }
    }

    /// Notes what a person is about to answer.
    pub(super) fn answers(&mut self, place: usize, node: usize, answer: Option<String>) {
        self.asked.insert((place, node, answer));
    }

    /// Checks, at the end, that a device has every alert and every person's newest answer.
    pub(super) fn complete(
        &self,
        node: usize,
        engine: &Engine,
        members: &BTreeMap<MemberId, usize>,
        but: &BTreeSet<usize>,
    ) -> Checked {
        for (place, alarm) in self.all.iter().enumerate() {
            let Some(id) = alarm.id else { continue };
            ensure(alarm.told.contains(&node), || format!("alert {place} was lost"))?;
            let found = engine.history().alert(&id).map_err(|error| error.to_string())?;
            let (_, acks) = found.ok_or_else(|| format!("alert {place} is gone"))?;
            let acks: BTreeMap<usize, Option<String>> = acks
                .into_iter()
                .filter_map(|ack| Some((*members.get(&ack.member)?, ack.answer)))
                .filter(|(by, _)| !but.contains(by) && !self.loose.contains(&(place, *by)))
                .collect();
            let mut expected = alarm.answers.clone();
            expected.retain(|by, _| !but.contains(by) && !self.loose.contains(&(place, *by)));
            ensure(acks == expected, || {
                format!("alert {place} was answered {acks:?}, expected {expected:?}")
            })?;
        }
        Ok(())
    }

    /// Alerts that were acknowledged to their author.
    pub(super) fn raised(&self) -> u64 {
        self.by_id.len() as u64
    }
}

fn place_of(text: &str) -> Option<usize> {
    text.strip_prefix('!')?.split_once(' ')?.0.parse().ok()
}
