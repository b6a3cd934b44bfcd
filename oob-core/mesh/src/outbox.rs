//! Events that wait for the owner of the mesh. Whatever happens while it does not look, at most one Up and one Down per
//! peer wait here, so a slow owner costs memory by peers and not by time.

use std::collections::VecDeque;

use crate::event::MeshEvent;

/// Events in order, those that cancel each other left out.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    waiting: VecDeque<MeshEvent>,
}

impl Outbox {
    pub(crate) fn push(&mut self, event: MeshEvent) {
        match &event {
            MeshEvent::Down { key, .. } => {
                let up = |event: &MeshEvent| matches!(event, MeshEvent::Up(l) if l.key == *key);
                if let Some(at) = self.waiting.iter().position(up) {
                    // Nobody has seen this link yet; now nobody will.
                    self.waiting.remove(at);
                    return;
                }
            }
            MeshEvent::NotAdmitted { key, .. } => {
                let same = |event: &MeshEvent| matches!(event, MeshEvent::NotAdmitted { key: other, .. } if other == key);
                self.waiting.retain(|event| !same(event));
            }
            MeshEvent::Listening(_) => {
                self.waiting.retain(|event| !matches!(event, MeshEvent::Listening(_)));
            }
            MeshEvent::BeaconDue => {
                self.waiting.retain(|event| !matches!(event, MeshEvent::BeaconDue));
            }
            // Each is one of the links, join streams or messages whose number is bounded where they are made.
            MeshEvent::Up(_)
            | MeshEvent::Join(_)
            | MeshEvent::Gossip(_)
            | MeshEvent::Beacon { .. } => {}
        }
        self.waiting.push_back(event);
    }

    pub(crate) fn pop(&mut self) -> Option<MeshEvent> {
        self.waiting.pop_front()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        address::{FoundBy, Transport},
        event::{DownReason, Link},
        queue,
    };
    use oob_proto::TransportKey;

    fn up(n: u8) -> MeshEvent {
        let (sender, receiver) = queue::bounded(1, 1);
        MeshEvent::Up(Link {
            key: TransportKey::from([n; 32]),
            outgoing: true,
            transport: Transport::Tcp,
            found_by: FoundBy::Typed,
            address: String::new(),
            sender,
            receiver,
        })
    }

    fn down(n: u8) -> MeshEvent {
        MeshEvent::Down { key: TransportKey::from([n; 32]), reason: DownReason::Closed }
    }

    #[test]
    fn what_happens_while_nobody_looks_takes_room_by_peers_and_not_by_time() {
        let mut outbox = Outbox::default();
        outbox.push(up(1));
        assert!(matches!(outbox.pop(), Some(MeshEvent::Up(_))));
        for _ in 0..1_000 {
            outbox.push(down(1));
            outbox.push(up(1));
            outbox.push(up(2));
            outbox.push(down(2));
            outbox.push(MeshEvent::Listening(Vec::new()));
            outbox.push(down(1));
            outbox.push(up(1));
            outbox.push(down(1));
            assert!(outbox.waiting.len() <= 2, "{outbox:?}");
            outbox.push(up(1));
            assert!(matches!(outbox.pop(), Some(MeshEvent::Down { .. })));
            assert!(matches!(outbox.pop(), Some(MeshEvent::Listening(_))));
            assert!(matches!(outbox.pop(), Some(MeshEvent::Up(_))));
            assert!(outbox.is_empty());
        }
    }
}
