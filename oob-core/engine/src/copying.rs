//! Copying a device's records for snapshots and backups: everything but what must never be put back.
//!
//! Left out are the secret records, the messages that wait for a turn of a ratchet, and the life of the store: a copy has
//! the life it was made in only as the former one, so nothing that is made of a copy can go on with its counters.

use crate::{
    state::State,
    stored::{self, RecordError},
};
use oob_proto::{AlertId, wire};
use oob_store::{Bag, CopyWriter, Moment, StoreError};
use std::{collections::BTreeSet, io::Write};

/// Records read at a time: a reader of the store waits for nobody, and what is read lies in memory.
const PAGE: usize = 128;

/// What a copy of one moment is made of. What of it only the rules know is in here, so that whoever writes the copy needs no
/// rules: the records are read from the moment.
#[derive(Debug)]
pub(crate) struct Copied {
    bags: Vec<Bag>,
    /// The life of the store, as the former one.
    life: Vec<u8>,
}

impl State {
    /// Tells what a copy made now is made of. Costs no read of the store.
    pub(crate) fn copied(&self) -> Copied {
        Copied { bags: self.bags(), life: self.life.to_former() }
    }

    /// Every bag there is of which something goes into a copy, but those of single alerts.
    fn bags(&self) -> Vec<Bag> {
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
        bags
    }
}

impl Copied {
    /// Puts a device's records into a copy; `step` is told the number of each, and may refuse to go on.
    pub(crate) fn copy_to<W: Write>(
        &self,
        moment: &Moment,
        to: &mut CopyWriter<W>,
        step: &mut dyn FnMut(u64) -> Result<(), StoreError>,
    ) -> Result<(), RecordError> {
        let mut alerts = BTreeSet::new();
        for bag in &self.bags {
            self.copy_bag(bag, moment, to, &mut alerts, step)?;
        }
        for alert in &alerts {
            for bag in [stored::alert_place(alert), stored::alert_acks(alert)] {
                self.copy_bag(&bag, moment, to, &mut BTreeSet::new(), step)?;
            }
        }
        Ok(())
    }

    /// Copies one bag, and notes of which alerts it tells.
    fn copy_bag<W: Write>(
        &self,
        bag: &Bag,
        moment: &Moment,
        to: &mut CopyWriter<W>,
        alerts: &mut BTreeSet<AlertId>,
        step: &mut dyn FnMut(u64) -> Result<(), StoreError>,
    ) -> Result<(), RecordError> {
        let own = *bag == stored::own();
        let mut next = Some(0);
        while let Some(from) = next {
            let page = moment.page(bag, from, PAGE)?;
            next = page.last().and_then(|(last, _)| last.checked_add(1));
            for (seq, value) in &page {
                match (own, *seq) {
                    (true, stored::OWN_LIFE) => to.put(bag, stored::OWN_FORMER, &self.life)?,
                    (true, stored::OWN_FORMER) => continue,
                    _ => to.put(bag, *seq, value)?,
                }
                alerts.extend(alert_of(bag, value)?);
                step(to.records())?;
            }
        }
        Ok(())
    }
}

/// Which alert a record tells of, if it is one of those that have bags of their own.
fn alert_of(bag: &Bag, value: &[u8]) -> Result<Option<AlertId>, RecordError> {
    let id = if *bag == stored::alerts() {
        stored::decode::<wire::StoredAlert>(value, "alert")?.id
    } else if *bag == stored::awaited_alerts() {
        stored::decode::<wire::StoredAwaited>(value, "awaited alert")?.alert
    } else {
        return Ok(None);
    };
    Ok(AlertId::try_from(id.as_slice()).ok())
}
