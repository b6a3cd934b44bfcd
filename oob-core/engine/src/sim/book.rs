//! What was said, and what each node was told of it: every promise is checked against this book.

use super::alarm::Alarms;
use crate::{
    Engine,
    effect::{Answer, CommandError},
    event::{Event, Numbered},
    model::{Message, MessageState},
};
use oob_proto::{ConversationId, MemberId, MessageId};
use std::collections::{BTreeMap, BTreeSet};

/// Something that must never happen, and did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Virtual milliseconds since the run began.
    pub at_ms: u64,
    /// Where.
    pub node: usize,
    /// What.
    pub what: String,
}

/// One message that somebody tried to send.
struct Said {
    from: usize,
    to: usize,
    text: String,
    /// Its author knew of the removal: the removed device must not read it.
    behind_removal: bool,
    /// The author was told that it is durable: by the reply, or by the event.
    id: Option<MessageId>,
    /// Its author was told that nothing was written.
    refused: bool,
    /// Its number in the addressee's history, once the addressee was told.
    arrived: Option<u64>,
    /// The furthest the author was told.
    state: MessageState,
}

/// One conversation as one node was told it.
#[derive(Default)]
struct Thread {
    id: Option<ConversationId>,
    /// By number less one, which message.
    messages: Vec<usize>,
    /// The newest of the other's.
    newest: Option<usize>,
    /// The person asked to have everything up to here marked as read.
    read: u64,
}

/// The book.
#[derive(Default)]
pub(super) struct Book {
    said: Vec<Said>,
    by_id: BTreeMap<MessageId, usize>,
    members: BTreeMap<MemberId, usize>,
    /// By node and partner.
    threads: BTreeMap<(usize, usize), Thread>,
    pub(super) alarms: Alarms,
    /// Whose device was taken out.
    pub(super) removed: Option<usize>,
    /// Whose devices are hostile: nothing is promised to them, nor of what they write but that it is not altered.
    pub(super) hostile: BTreeSet<usize>,
}

pub(super) type Checked = Result<(), String>;

pub(super) fn ensure(holds: bool, what: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(what()) }
}

impl Book {
    pub(super) fn joined(&mut self, node: usize, member: MemberId) {
        self.members.insert(member, node);
    }

    /// Notes what somebody is about to say; returns its text.
    pub(super) fn say(
        &mut self,
        from: usize,
        to: usize,
        padding: usize,
        behind_removal: bool,
    ) -> (usize, String) {
        let place = self.said.len();
        let text = format!("#{place} from {from} to {to} {}", "lorem ".repeat(padding));
        self.said.push(Said {
            from,
            to,
            text: text.clone(),
            behind_removal,
            id: None,
            refused: false,
            arrived: None,
            state: MessageState::Stored,
        });
        (place, text)
    }

    /// Takes the reply to it.
    pub(super) fn replied(
        &mut self,
        place: usize,
        reply: &Result<Answer, CommandError>,
    ) -> Checked {
        let said = &mut self.said[place];
        match reply {
            Ok(Answer::Sent { .. }) if self.hostile.contains(&said.from) => Ok(()),
            Ok(Answer::Sent { message, number, .. }) => {
                ensure(said.id == Some(*message), || {
                    format!("message {place} was acknowledged and its event has not come")
                })?;
                let thread = self.threads.get(&(said.from, said.to));
                let at = thread.and_then(|thread| thread.messages.get(index(*number)));
                ensure(at == Some(&place), || format!("message {place} has another number"))
            }
            Ok(other) => Err(format!("message {place} was answered by {other:?}")),
            Err(_) => {
                said.refused = true;
                ensure(said.id.is_none(), || format!("message {place} was refused and stored"))
            }
        }
    }

    /// What an event says, in the words of the trace.
    pub(super) fn words(&self, event: &Event) -> String {
        match event {
            Event::Message(message) => match place_of(&message.text) {
                Some(place) => format!("#{place}"),
                None => "a text nobody wrote".to_owned(),
            },
            Event::Receipt(receipt) => match self.by_id.get(&receipt.message) {
                Some(place) => format!("#{place} {}", receipt.state),
                None => "a receipt for nothing".to_owned(),
            },
            Event::Joined { .. } => "somebody joined".to_owned(),
            Event::Org { .. } => "joined".to_owned(),
            Event::Alert(_) => "alerted".to_owned(),
            Event::AlertAcked { .. } => "somebody answered".to_owned(),
        }
    }

    /// Takes an event that a node is told of.
    pub(super) fn told(&mut self, node: usize, numbered: &Numbered) -> Checked {
        if self.hostile.contains(&node) {
            return self.told_to_hostile(node, &numbered.event);
        }
        match &numbered.event {
            Event::Message(message) => self.message(node, message),
            Event::Receipt(receipt) => {
                let place = *self
                    .by_id
                    .get(&receipt.message)
                    .ok_or("a receipt for a message that nobody wrote")?;
                self.receipt(node, place, receipt.state)
            }
            Event::Alert(alert) => {
                let author = self.members.get(&alert.author).copied();
                self.alarms.alert(node, author, self.removed == Some(node), alert)
            }
            Event::AlertAcked { alert, member, answer, .. } => {
                let by = self.members.get(member).copied();
                self.alarms.answered(node, alert, by, answer)
            }
            Event::Joined { .. } | Event::Org { .. } => Ok(()),
        }
    }

    /// A hostile device may be told anything, but for what was written behind its removal.
    fn told_to_hostile(&mut self, node: usize, event: &Event) -> Checked {
        if let Event::Alert(alert) = event {
            return self.alarms.told_to_hostile(node, self.removed == Some(node), alert);
        }
        let Event::Message(message) = event else { return Ok(()) };
        let place = place_of(&message.text).filter(|place| *place < self.said.len());
        let Some(said) = place.and_then(|place| self.said.get_mut(place)) else { return Ok(()) };
        if node == said.from {
            said.id = Some(message.id);
            self.by_id.extend(place.map(|place| (message.id, place)));
        }
        let place = place.unwrap_or_default();
        ensure(!(said.behind_removal && self.removed == Some(node)), || {
            format!("message {place} was read by a device that had been removed")
        })
    }

    fn message(&mut self, node: usize, message: &Message) -> Checked {
        let place = place_of(&message.text).filter(|place| *place < self.said.len());
        let place = place.ok_or_else(|| format!("a text that nobody wrote: {:?}", message.text))?;
        let author = self.members.get(&message.author).copied();
        let said = &mut self.said[place];
        ensure(said.text == message.text, || format!("message {place} was altered"))?;
        ensure(author == Some(said.from), || format!("message {place} has another author"))?;
        ensure(!said.refused, || format!("message {place} was refused and appeared"))?;
        let partner = if node == said.from {
            ensure(said.id.is_none(), || format!("message {place} was stored twice"))?;
            said.id = Some(message.id);
            self.by_id.insert(message.id, place);
            said.to
        } else {
            ensure(node == said.to, || format!("message {place} was shown to somebody else"))?;
            // Whose own forgeries make it begin another life writes again what nobody vouched for.
            let hostile = self.hostile.contains(&said.from);
            ensure(hostile || said.arrived.is_none(), || {
                format!("message {place} was shown twice")
            })?;
            ensure(said.id.is_some(), || format!("message {place} left before it was durable"))?;
            ensure(!(said.behind_removal && self.removed == Some(node)), || {
                format!("message {place} was read by a device that had been removed")
            })?;
            said.arrived = Some(message.number);
            said.from
        };
        let thread = self.threads.entry((node, partner)).or_default();
        let id = *thread.id.get_or_insert(message.conversation);
        ensure(id == message.conversation, || {
            format!("message {place} is in another conversation")
        })?;
        ensure(index(message.number) == thread.messages.len(), || {
            let (found, expected) = (message.number, thread.messages.len() + 1);
            format!("message {place} has number {found}, expected {expected}")
        })?;
        thread.messages.push(place);
        if node == said.to {
            let before = thread.newest.replace(place);
            let hostile = self.hostile.contains(&said.from);
            ensure(hostile || before.is_none_or(|before| before < place), || {
                format!("message {place} was shown behind a later one: {before:?}")
            })?;
        }
        Ok(())
    }

    fn receipt(&mut self, node: usize, place: usize, state: MessageState) -> Checked {
        let said = &mut self.said[place];
        ensure(node == said.from, || format!("a receipt for message {place} of somebody else"))?;
        ensure(state > said.state, || {
            format!("message {place} went from {} to {state}", said.state)
        })?;
        said.state = state;
        let hostile = self.hostile.contains(&said.to);
        if !hostile && matches!(state, MessageState::Delivered | MessageState::Read) {
            let arrived = said.arrived.ok_or_else(|| {
                format!("message {place} is {state}, and its addressee does not have it")
            })?;
            let read = self.threads.get(&(said.to, said.from)).map_or(0, |thread| thread.read);
            ensure(state == MessageState::Delivered || arrived <= read, || {
                format!("message {place} is read, and nobody read it")
            })?;
        }
        Ok(())
    }

    /// One of a node's conversations, and how many messages the node was told of in it.
    pub(super) fn conversations(&self, node: usize) -> Vec<(usize, ConversationId, u64)> {
        self.threads
            .range((node, 0)..(node + 1, 0))
            .filter_map(|((_, partner), thread)| {
                Some((*partner, thread.id?, thread.messages.len() as u64))
            })
            .collect()
    }

    /// Notes that a person asks to have messages marked as read.
    pub(super) fn reads(&mut self, node: usize, partner: usize, up_to: u64) {
        let thread = self.threads.entry((node, partner)).or_default();
        thread.read = thread.read.max(up_to);
    }

    /// Compares what a node has with what it was told: nothing less, nothing more, in the same order.
    pub(super) fn compare(&self, node: usize, engine: &Engine) -> Checked {
        let history = engine.history();
        let found = history.conversations().map_err(|error| error.to_string())?;
        let known = self.conversations(node);
        let ids: BTreeSet<ConversationId> = found.iter().map(|(id, _)| *id).collect();
        let told: BTreeSet<ConversationId> = known.iter().map(|(_, id, _)| *id).collect();
        ensure(ids == told, || format!("{} conversations, told of {}", ids.len(), told.len()))?;
        for (partner, conversation, _) in known {
            let thread = &self.threads[&(node, partner)];
            let messages = history
                .messages(&conversation, 0, usize::MAX)
                .map_err(|error| error.to_string())?;
            let places: Vec<Option<usize>> =
                messages.iter().map(|message| place_of(&message.text)).collect();
            let told: Vec<Option<usize>> = thread.messages.iter().copied().map(Some).collect();
            ensure(places == told, || {
                let missing: Vec<_> = told.iter().filter(|place| !places.contains(place)).collect();
                format!(
                    "history with {partner} has {} messages, told of {}; missing: {missing:?}",
                    places.len(),
                    told.len()
                )
            })?;
            for (message, place) in messages.iter().zip(&thread.messages) {
                let said = &self.said[*place];
                ensure(message.text == said.text, || format!("message {place} was altered"))?;
                ensure(Some(message.id) == said.id, || format!("message {place} has another id"))?;
                ensure(node != said.from || message.state >= said.state, || {
                    format!("message {place} is {}, told {}", message.state, said.state)
                })?;
            }
        }
        Ok(())
    }

    /// Checks, at the end, that everything acknowledged reached its addressee and that its author knows.
    pub(super) fn complete(&self) -> Result<(), (usize, String)> {
        let counts = |said: &&Said| {
            let ends = [said.from, said.to];
            !ends.iter().any(|end| Some(*end) == self.removed || self.hostile.contains(end))
        };
        for said in self.said.iter().filter(counts) {
            let place = place_of(&said.text).unwrap_or_default();
            let known = said.id.is_some();
            match (known, said.arrived) {
                (true, None) => {
                    return Err((said.to, format!("message {place} of {} was lost", said.from)));
                }
                (false, Some(_)) => {
                    let what = format!("message {place} was delivered, and its author forgot it");
                    return Err((said.from, what));
                }
                (true, Some(_)) if said.state < MessageState::Delivered => {
                    let what = format!("message {place} is {}, and was delivered", said.state);
                    return Err((said.from, what));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Checks, at the end, that a device has every alert and every answer.
    pub(super) fn alerts_complete(&self, node: usize, engine: &Engine) -> Checked {
        let mut but = self.hostile.clone();
        but.extend(self.removed);
        self.alarms.complete(node, engine, &self.members, &but)
    }

    /// Messages that were acknowledged.
    pub(super) fn acknowledged(&self) -> u64 {
        self.said.iter().filter(|said| said.id.is_some()).count() as u64
    }
}

fn place_of(text: &str) -> Option<usize> {
    text.strip_prefix('#')?.split_once(' ')?.0.parse().ok()
}

fn index(number: u64) -> usize {
    usize::try_from(number.saturating_sub(1)).unwrap_or(usize::MAX)
}
