//! How a new record leaves this device: straight to every neighbour, or by gossip to whoever is further away
//! (docs/protocol.md, section 10.6). Neither is relied on: what was not there after a while is found by comparing.

use super::{link::Urgency, links::Links};
use crate::{effect::Effect, record::RecordRef};
use oob_proto::DeviceId;

/// An own record on its way out.
pub(crate) struct Departing<'a> {
    pub(crate) of: RecordRef,
    /// Encoded, of age 0.
    pub(crate) frame: &'a [u8],
    pub(crate) urgency: Urgency,
    /// Whom it is for, if it is for one device.
    pub(crate) to: Option<DeviceId>,
    /// Whether the mesh takes records of its kind: those that are small and of use at once.
    pub(crate) by_gossip: bool,
}

/// A way out.
pub(crate) trait Carrier {
    /// Sends a record, or queues it where it goes by a stream.
    fn carry(
        &self,
        links: &mut Links,
        effects: &mut Vec<Effect>,
        record: &Departing<'_>,
        now_ms: u64,
    );
}

/// Pushes on every live stream: one hop and one copy each. Enough while everybody who is up is a neighbour.
pub(crate) struct Direct;

/// Pushes on the stream to the addressee, and nowhere else for now: what it has nobody needs to carry.
pub(crate) struct Alone;

/// Publishes to the mesh, which carries it over as many hops as it takes; the addressee's own stream is used as well.
pub(crate) struct Gossip;

impl Carrier for Direct {
    fn carry(&self, links: &mut Links, _: &mut Vec<Effect>, record: &Departing<'_>, _: u64) {
        for link in links.iter_mut() {
            let direct = record.to == Some(link.device);
            link.queue(&record.of, if direct { Urgency::Direct } else { record.urgency });
        }
    }
}

impl Carrier for Alone {
    fn carry(&self, links: &mut Links, _: &mut Vec<Effect>, record: &Departing<'_>, now_ms: u64) {
        for link in links.iter_mut() {
            match record.to == Some(link.device) {
                true => link.queue(&record.of, Urgency::Direct),
                false => link.telling.pass_over(now_ms),
            }
        }
    }
}

impl Carrier for Gossip {
    fn carry(
        &self,
        links: &mut Links,
        effects: &mut Vec<Effect>,
        record: &Departing<'_>,
        now_ms: u64,
    ) {
        if !record.by_gossip {
            return Direct.carry(links, effects, record, now_ms);
        }
        effects.push(Effect::Publish { frame: record.frame.to_vec() });
        for link in links.iter_mut() {
            if record.to == Some(link.device) {
                link.queue(&record.of, Urgency::Direct);
            } else {
                link.expect(&record.of, now_ms);
            }
        }
    }
}
