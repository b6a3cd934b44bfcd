//! Copying a device's records for snapshots and backups: everything but what must never be put back.
//!
//! Left out are the secret records, the messages that wait for a turn of a ratchet, and the life of the store: a copy has
//! the life it was made in only as the former one, so nothing that is made of a copy can go on with its counters.

use crate::{
    state::State,
    stored::{self, RecordError},
};
use oob_proto::{AlertId, wire};
use oob_store::{Bag, CopyWriter, Order, Store};
use std::io::Write;

/// Records read at a time.
const PAGE: usize = 512;

impl State {
    /// Puts a device's records into a copy; `step` is told the number of each.
    pub(crate) fn copy_to<W: Write>(
        &self,
        store: &Store,
        to: &mut CopyWriter<W>,
        step: &mut dyn FnMut(u64),
    ) -> Result<(), RecordError> {
        for bag in self.bags(store)? {
            let own = bag == stored::own();
            let mut next = 0;
            loop {
                let page = store.scan(&bag, next.., Order::Ascending, PAGE)?;
                let Some((last, _)) = page.last() else { break };
                let after = last.checked_add(1);
                for (seq, value) in &page {
                    match (own, *seq) {
                        (true, stored::OWN_LIFE) => {
                            to.put(&bag, stored::OWN_FORMER, &self.life.to_former())?;
                        }
                        (true, stored::OWN_FORMER) => continue,
                        _ => to.put(&bag, *seq, value)?,
                    }
                    step(to.records());
                }
                let Some(after) = after else { break };
                next = after;
            }
        }
        Ok(())
    }

    /// Every bag there is of which something goes into a copy.
    fn bags(&self, store: &Store) -> Result<Vec<Bag>, RecordError> {
        let mut bags = vec![
            stored::own(),
            stored::log(),
            stored::epochs(),
            stored::typed_addresses(),
            stored::holders(),
            stored::releases(),
            stored::events(),
            stored::conversation_index(),
            stored::alerts(),
            stored::awaited_alerts(),
            stored::alert_clock(),
        ];
        for conversation in self.conversations.ids() {
            bags.extend([stored::conversation(conversation), stored::messages(conversation)]);
        }
        let me = self.identity.device;
        bags.extend(self.life.lives().into_iter().map(|life| stored::carried(&me, life)));
        let devices = self.organisation.iter().flat_map(|org| org.roster().with_former());
        for device in devices.map(|device| device.id) {
            bags.extend([
                stored::relay_certs(&device),
                stored::bundles(&device),
                stored::seen(&device),
                stored::outbox(&device),
                stored::neighbour(&device),
            ]);
            let lives = self.seen.lives_of(&device);
            bags.extend(lives.filter(|_| device != me).map(|life| stored::carried(&device, life)));
        }
        let mut alerts: Vec<AlertId> = Vec::new();
        for (_, bytes) in store.scan(&stored::alerts(), .., Order::Ascending, usize::MAX)? {
            let alert: wire::StoredAlert = stored::decode(&bytes, "alert")?;
            alerts.extend(AlertId::try_from(alert.id.as_slice()));
        }
        for (_, bytes) in store.scan(&stored::awaited_alerts(), .., Order::Ascending, usize::MAX)? {
            let awaited: wire::StoredAwaited = stored::decode(&bytes, "awaited alert")?;
            alerts.extend(AlertId::try_from(awaited.alert.as_slice()));
        }
        alerts.sort_unstable();
        alerts.dedup();
        for alert in &alerts {
            bags.extend([stored::alert_place(alert), stored::alert_acks(alert)]);
        }
        Ok(bags)
    }
}
