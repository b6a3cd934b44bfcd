//! What was said, and what each node was told of it: every promise is checked against this book.

use super::alarm::{AlarmMark, Alarms};
use crate::{
    Engine,
    effect::{Answer, CommandError},
    event::{Event, Numbered},
    model::{Message, MessageState},
};
use oob_proto::{ConversationId, Incarnation, MemberId, MessageId};
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
    /// The lives it was written in, of those the addressee was shown it in: more than one of hostile authors only.
    shown: BTreeSet<Incarnation>,
    /// The furthest the author was told.
    state: MessageState,
    /// Its author was put back to before it wrote this: nobody owes it any more.
    forgotten: bool,
    /// Its addressee was put back to before it had this.
    missed: bool,
    /// Its addressee was put back to before it marked this as read.
    was_read: bool,
}

/// One conversation as one node was told it.
#[derive(Default, Clone)]
struct Thread {
    id: Option<ConversationId>,
    /// By number less one, which message and under which id.
    messages: Vec<(usize, MessageId)>,
    /// The newest of the other's, by the life it was written in.
    newest: BTreeMap<Incarnation, usize>,
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
    /// Of these, those that began another life. It may be their second in a minute, and then what they lack is sealed again
    /// behind what is new; and of what they wrote themselves they may have put something else in the place of a part.
    pub(super) renewed: BTreeSet<usize>,
    /// Who was put back to a copy.
    were_put_back: BTreeSet<usize>,
}

/// What the book says of one node at a moment it may be put back to.
pub(super) struct Mark {
    /// By message of its own, the furthest it was told.
    states: BTreeMap<usize, MessageState>,
    /// By partner.
    threads: BTreeMap<usize, Thread>,
    alarms: AlarmMark,
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
            shown: BTreeSet::new(),
            state: MessageState::Stored,
            forgotten: false,
            missed: false,
            was_read: false,
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
            Ok(Answer::Sent { message, number, .. }) => {
                ensure(said.id == Some(*message), || {
                    format!("message {place} was acknowledged and its event has not come")
                })?;
                let thread = self.threads.get(&(said.from, said.to));
                let at = thread.and_then(|thread| thread.messages.get(index(*number)));
                ensure(at == Some(&(place, *message)), || {
                    format!("message {place} has another number")
                })
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

    /// A hostile device runs a genuine engine: what it is told of messages must be so. Its alerts and receipts may be about
    /// what it forged itself; of alerts that were raised before it was removed nothing is promised to it.
    fn told_to_hostile(&mut self, node: usize, event: &Event) -> Checked {
        match event {
            Event::Alert(alert) => {
                self.alarms.told_to_hostile(node, self.removed == Some(node), alert)
            }
            Event::Message(message) => self.message(node, message),
            _ => Ok(()),
        }
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
            // Whose own forgeries make it begin another life writes again, with new ids, what nobody vouched for.
            let hostile = self.hostile.contains(&said.from);
            let again = !said.shown.insert(message.id.incarnation());
            ensure(!again && (hostile || said.arrived.is_none()), || {
                format!("message {place} was shown twice")
            })?;
            ensure(said.id.is_some(), || format!("message {place} left before it was durable"))?;
            ensure(hostile || said.id == Some(message.id), || {
                format!("message {place} was shown under another id")
            })?;
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
        thread.messages.push((place, message.id));
        if node == said.to {
            // What was written before another life began may arrive behind what was written in it.
            let before = thread.newest.insert(message.id.incarnation(), place);
            let in_order = before.is_none_or(|before| before < place);
            // What both forgot, one that it had it, the other that it was told so, comes again when it comes.
            let late = said.missed && self.were_put_back.contains(&said.from);
            let renewed = [node, said.from].iter().any(|end| self.renewed.contains(end));
            ensure(in_order || late || renewed, || {
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
            ensure(said.arrived.is_some() || said.missed, || {
                format!("message {place} is {state}, and its addressee does not have it")
            })?;
            let read = self.threads.get(&(said.to, said.from)).map_or(0, |thread| thread.read);
            let was_read = said.was_read || said.arrived.is_some_and(|arrived| arrived <= read);
            ensure(state == MessageState::Delivered || was_read, || {
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

    /// Notes what a node was told so far.
    pub(super) fn mark(&self, node: usize) -> Mark {
        let own = (0..).zip(&self.said).filter(|(_, said)| said.from == node && said.id.is_some());
        let threads = self.threads.range((node, 0)..(node + 1, 0));
        Mark {
            states: own.map(|(place, said)| (place, said.state)).collect(),
            threads: threads.map(|((_, to), thread)| (*to, thread.clone())).collect(),
            alarms: self.alarms.mark(node),
        }
    }

    /// A node was put back to what a mark says. What it had been shown since and receipted stays lost; what it had not
    /// comes once more; what it wrote since may still arrive, and is not its own any more.
    pub(super) fn put_back(&mut self, node: usize, mark: Mark) {
        self.were_put_back.insert(node);
        for (place, said) in (0..).zip(&mut self.said) {
            if said.from == node {
                match mark.states.get(&place) {
                    Some(state) => said.state = *state,
                    None => {
                        said.forgotten = true;
                        self.by_id.retain(|_, of| *of != place);
                    }
                }
            } else if let Some(arrived) = said.arrived.filter(|_| said.to == node) {
                let kept = mark.threads.get(&said.from);
                let kept =
                    kept.is_some_and(|kept| kept.messages.iter().any(|(of, _)| *of == place));
                let now = self.threads.get(&(node, said.from)).map_or(0, |thread| thread.read);
                said.was_read |= arrived <= now;
                if !kept {
                    (said.arrived, said.missed) = (None, true);
                    said.shown.clear();
                }
            }
        }
        self.threads.retain(|(of, _), _| *of != node);
        let threads = mark.threads.into_iter();
        self.threads.extend(threads.map(|(partner, thread)| ((node, partner), thread)));
        self.alarms.put_back(node, &mark.alarms);
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
            let told: Vec<Option<usize>> =
                thread.messages.iter().map(|(place, _)| Some(*place)).collect();
            ensure(places == told, || {
                let missing: Vec<_> = told.iter().filter(|place| !places.contains(place)).collect();
                format!(
                    "history with {partner} has {} messages, told of {}; missing: {missing:?}",
                    places.len(),
                    told.len()
                )
            })?;
            for (message, (place, id)) in messages.iter().zip(&thread.messages) {
                let said = &self.said[*place];
                ensure(message.text == said.text, || format!("message {place} was altered"))?;
                // In another life it writes again what nobody vouched for, under other ids.
                let anew = node == said.from && self.hostile.contains(&node);
                let same =
                    message.id == *id || (anew && message.id.incarnation() != id.incarnation());
                ensure(same, || format!("message {place} has another id"))?;
                ensure(anew || node != said.from || message.state >= said.state, || {
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
            let out = |end: &usize| Some(*end) == self.removed || self.hostile.contains(end);
            !said.forgotten && !ends.iter().any(out)
        };
        for said in self.said.iter().filter(counts) {
            let place = place_of(&said.text).unwrap_or_default();
            let known = said.id.is_some();
            match (known, said.arrived) {
                // It had told its author that it has it; asking for it again is not built.
                (true, None) if said.missed && said.state >= MessageState::Delivered => {}
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
