//! What happens, in order, resumable across restarts.

use super::{Alert, AlertAcked, Message, Receipt, message};
use crate::{actor::Live, error::Error, handle::Handle, query};
use oob_engine::{event::Numbered, snapshot::Snapshot};
use oob_proto::{DeviceId, MemberId, OrgId};
use std::{collections::VecDeque, fmt, sync::Arc};
use tokio::sync::broadcast::{self, error::RecvError};

/// Events read from the store at once while catching up.
const PAGE: usize = 256;

/// Where a stream of events begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cursor {
    /// With the oldest event still kept.
    Start,
    /// With the next event from now on.
    Last,
    /// Behind the event of this number: what was told last, before a restart perhaps.
    After(u64),
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A message was stored here, written here or by somebody else.
    Message(Message),
    /// An own message came further.
    Receipt(Receipt),
    /// Somebody joined the organisation.
    Joined {
        /// Who.
        member: MemberId,
        /// Their name.
        name: String,
        /// With which device.
        device: DeviceId,
    },
    /// This device founded or joined an organisation.
    Org {
        /// Which.
        id: OrgId,
        /// Its name.
        name: String,
    },
    /// An alert was raised, here or by somebody else.
    Alert(Alert),
    /// Somebody answered an alert, or answers something else than before.
    AlertAcked(AlertAcked),
    /// A device came into reach or left it. Not numbered: after a restart nobody is in reach.
    Peer(PeerChange),
    /// So many events were skipped, because this reader was slow or the store no longer has them. Read the history.
    Lagged {
        /// How many.
        missed: u64,
    },
}

/// A device came into reach or left it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PeerChange {
    /// Whose it is.
    pub member: MemberId,
    /// Their name.
    pub member_name: String,
    /// The device.
    pub device: DeviceId,
    /// Whether it is in reach now.
    pub reachable: bool,
}

/// A stream of events. Dropping it costs nothing; a slow reader never slows the node.
pub struct Events {
    handle: Arc<Handle>,
    live: broadcast::Receiver<Live>,
    /// Number of the last event told or skipped.
    at: u64,
    /// Everything up to here comes from the store, because it happened before `live` was there.
    stored_to: u64,
    ready: VecDeque<(Option<u64>, Event)>,
    /// The reader was overtaken; how much of it mattered is known with the next event.
    overtaken: Option<u64>,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("at", &self.at).finish_non_exhaustive()
    }
}

impl Events {
    pub(crate) fn of(handle: &Arc<Handle>, cursor: Cursor) -> Self {
        // First listen, then look how far the store is: nothing falls between, and what comes twice is told once.
        let live = handle.events.subscribe();
        let stored_to = handle.last_event();
        let at = match cursor {
            Cursor::Start => 0,
            Cursor::Last => stored_to,
            Cursor::After(number) => number.min(stored_to),
        };
        Self {
            handle: Arc::clone(handle),
            live,
            at,
            stored_to,
            ready: VecDeque::new(),
            overtaken: None,
        }
    }

    /// Waits for the next event; `None` once the node has stopped and everything was told.
    ///
    /// # Cancel safety
    /// Safe: an event is either returned or still to come.
    pub async fn next(&mut self) -> Option<Event> {
        self.next_numbered().await.map(|(_, event)| event)
    }

    /// As [`Events::next`], with the number to resume behind; peers coming and going, and gaps, have none.
    ///
    /// # Cancel safety
    /// Safe, as [`Events::next`].
    pub async fn next_numbered(&mut self) -> Option<(Option<u64>, Event)> {
        loop {
            if let Some((number, event)) = self.ready.pop_front() {
                self.at = number.unwrap_or(self.at).max(self.at);
                return Some((number, event));
            }
            if self.at < self.stored_to {
                match self.read_page().await {
                    Ok(()) => continue,
                    Err(error) => {
                        tracing::warn!(%error, "events cannot be read from the store");
                        return None;
                    }
                }
            }
            // What was told before the end is told; `biased` takes it first.
            let live = tokio::select! {
                biased;
                live = self.live.recv() => live,
                () = self.handle.task.stopped() => return None,
            };
            match live {
                Ok(live) => self.take(live),
                Err(RecvError::Lagged(skipped)) => {
                    self.overtaken = Some(self.overtaken.unwrap_or(0).saturating_add(skipped));
                }
                Err(RecvError::Closed) => return None,
            }
        }
    }

    /// Returns the number of the last event told; [`Cursor::After`] it resumes.
    pub fn cursor(&self) -> u64 {
        self.at
    }

    /// Reads what happened before the live part; every step of it can be repeated.
    async fn read_page(&mut self) -> Result<(), Error> {
        let (page, missed) = query::events(&self.handle, self.at, PAGE).await?;
        let snapshot = self.handle.snapshot();
        if missed > 0 {
            self.ready.push_back((None, Event::Lagged { missed }));
        }
        let to = self.stored_to;
        let before = self.ready.len();
        let page = page.into_iter().filter(|numbered| numbered.number <= to);
        self.ready.extend(page.map(|numbered| shown(numbered, &snapshot)));
        if self.ready.len() == before {
            self.at = to;
        }
        Ok(())
    }

    fn take(&mut self, live: Live) {
        let snapshot = self.handle.snapshot();
        match live {
            Live::Numbered(numbered) if numbered.number <= self.at => {}
            Live::Numbered(numbered) => {
                let missed = numbered.number.saturating_sub(self.at).saturating_sub(1);
                match self.overtaken.take() {
                    Some(_) if missed > 0 => self.ready.push_back((None, Event::Lagged { missed })),
                    Some(skipped) => {
                        self.ready.push_back((None, Event::Lagged { missed: skipped }));
                    }
                    None if missed > 0 => {
                        // Not overtaken, yet a hole: the store has it.
                        self.stored_to = numbered.number;
                        return;
                    }
                    None => {}
                }
                self.ready.push_back(shown((*numbered).clone(), &snapshot));
            }
            Live::Peer { device, reachable } => {
                let Some(device) = snapshot.roster.devices.get(&device) else { return };
                let change = PeerChange {
                    member: device.member,
                    member_name: message::name_of(&device.member, &snapshot),
                    device: device.id,
                    reachable,
                };
                self.ready.push_back((None, Event::Peer(change)));
            }
        }
    }
}

fn shown(numbered: Numbered, snapshot: &Snapshot) -> (Option<u64>, Event) {
    let event = match numbered.event {
        oob_engine::event::Event::Message(message) => {
            Event::Message(Message::of(message, snapshot))
        }
        oob_engine::event::Event::Receipt(receipt) => Event::Receipt(Receipt::of(receipt)),
        oob_engine::event::Event::Joined { member, device } => {
            Event::Joined { member, name: message::name_of(&member, snapshot), device }
        }
        oob_engine::event::Event::Org { org } => Event::Org {
            id: org,
            name: snapshot.org.as_ref().map(|org| org.name.to_string()).unwrap_or_default(),
        },
        oob_engine::event::Event::Alert(alert) => Event::Alert(Alert::of(alert, snapshot)),
        oob_engine::event::Event::AlertAcked {
            alert,
            member,
            answer,
            time_ms,
            acked,
            expected,
        } => Event::AlertAcked(AlertAcked {
            alert,
            member,
            name: message::name_of(&member, snapshot),
            time: message::time(time_ms),
            answer,
            acked,
            expected,
        }),
        // An event of a newer rule is one this reader cannot be told.
        _ => Event::Lagged { missed: 1 },
    };
    (Some(numbered.number), event)
}
