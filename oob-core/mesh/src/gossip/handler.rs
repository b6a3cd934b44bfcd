//! gossipsub's handler of one connection, let in when the connection carries the link.

use futures::{FutureExt, future, future::BoxFuture};
use libp2p::{
    Stream,
    core::upgrade::{InboundUpgrade, UpgradeInfo},
    gossipsub,
    swarm::{
        ConnectionHandler, ConnectionHandlerEvent, NetworkBehaviour, SubstreamProtocol,
        handler::{ConnectionEvent, FullyNegotiatedInbound, InboundUpgradeSend},
    },
};
use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep_until};

/// Packets of gossipsub taken from one neighbour per second over a while, and how many may come at once. Each message
/// has one, and one more for each neighbour that says it need not be sent again. Whoever sends more is read no faster:
/// gossipsub remembers every id for ten minutes, so this is also what bounds its memory.
const PACKETS: f64 = 500.0;
const PACKETS_AT_ONCE: f64 = 2_000.0;

/// How long nothing is read once they are used up: what 16 packets take.
const PAUSE: Duration = Duration::from_millis(32);

pub(super) type Inner = <gossipsub::Behaviour as NetworkBehaviour>::ConnectionHandler;
type InnerOrder = <Inner as ConnectionHandler>::FromBehaviour;
type Report = <Inner as ConnectionHandler>::ToBehaviour;
type Outbound = <Inner as ConnectionHandler>::OutboundProtocol;

/// What gossipsub offers to whoever opens a stream.
pub(super) type Offer = <Inner as ConnectionHandler>::InboundProtocol;
type Upgraded = <Offer as InboundUpgradeSend>::Output;

/// Returns what a handler of gossipsub offers.
pub(super) fn offer_of(handler: &Inner) -> Offer {
    handler.listen_protocol().into_upgrade().0
}

/// The offer to the other side of a connection: everything, or nothing at all to a stranger.
#[derive(Clone)]
pub(crate) struct Listening(Option<Offer>);

impl UpgradeInfo for Listening {
    type Info = <Offer as UpgradeInfo>::Info;
    type InfoIter = Vec<Self::Info>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.iter().flat_map(|offer| offer.protocol_info()).collect()
    }
}

impl InboundUpgrade<Stream> for Listening {
    type Output = Upgraded;
    type Error = <Offer as InboundUpgrade<Stream>>::Error;
    type Future = BoxFuture<'static, Result<Self::Output, Self::Error>>;

    fn upgrade_inbound(self, stream: Stream, chosen: Self::Info) -> Self::Future {
        match self.0 {
            Some(offer) => InboundUpgrade::upgrade_inbound(offer, stream, chosen).boxed(),
            // Nothing was offered, so nothing can have been chosen.
            None => future::pending().boxed(),
        }
    }
}

/// What the behaviour tells the handler of a connection.
pub(crate) enum Order {
    /// The connection carries the link now: gossip on it.
    Begin(Box<Inner>),
    /// For gossipsub's own handler.
    Inner(InnerOrder),
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Begin(_) => f.write_str("Begin(..)"),
            Self::Inner(order) => f.debug_tuple("Inner").field(order).finish(),
        }
    }
}

/// How much one neighbour is still listened to.
struct Rate {
    left: f64,
    at: Instant,
}

impl Rate {
    fn new(now: Instant) -> Self {
        Self { left: PACKETS_AT_ONCE, at: now }
    }

    /// Takes one packet; says whether there was one left.
    fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.at).as_secs_f64();
        self.left = (self.left + passed * PACKETS).min(PACKETS_AT_ONCE) - 1.0;
        self.at = now;
        self.left >= 0.0
    }
}

/// The handler of one connection. Strangers are offered nothing. A roster peer may open its stream before our side of the
/// link is up; the stream is kept until then, and gossipsub reads it first.
pub(crate) struct Handler {
    listening: Listening,
    early: Option<Upgraded>,
    inner: Option<Box<Inner>>,
    rate: Rate,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Handler {
    pub(super) fn new(offer: Option<Offer>) -> Self {
        let rate = Rate::new(Instant::now());
        Self { listening: Listening(offer), early: None, inner: None, rate, pause: None }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Order;
    type ToBehaviour = Report;
    type InboundProtocol = Listening;
    type OutboundProtocol = Outbound;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = ();

    fn listen_protocol(&self) -> SubstreamProtocol<Listening> {
        SubstreamProtocol::new(self.listening.clone(), ())
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Outbound, (), Report>> {
        // Whatever changes this is an order or an event of the connection, and each is followed by another poll.
        let Some(inner) = &mut self.inner else { return Poll::Pending };
        if let Some(pause) = &mut self.pause {
            if pause.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.pause = None;
        }
        let event = inner.poll(cx);
        if let Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(_)) = &event {
            let now = Instant::now();
            if !self.rate.take(now) {
                self.pause = Some(Box::pin(sleep_until(now + PAUSE)));
            }
        }
        event
    }

    fn on_behaviour_event(&mut self, order: Order) {
        match order {
            Order::Begin(mut inner) => {
                if let Some(protocol) = self.early.take() {
                    inner.on_connection_event(ConnectionEvent::FullyNegotiatedInbound(
                        FullyNegotiatedInbound { protocol, info: () },
                    ));
                }
                self.inner = Some(inner);
            }
            Order::Inner(order) => {
                if let Some(inner) = &mut self.inner {
                    inner.on_behaviour_event(order);
                }
            }
        }
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<Listening, Outbound>) {
        match (event, &mut self.inner) {
            (ConnectionEvent::FullyNegotiatedInbound(stream), Some(inner)) => {
                let FullyNegotiatedInbound { protocol, info } = stream;
                inner.on_connection_event(ConnectionEvent::FullyNegotiatedInbound(
                    FullyNegotiatedInbound { protocol, info },
                ));
            }
            // One stream waits; whoever opens another has given up the first.
            (ConnectionEvent::FullyNegotiatedInbound(stream), None) => {
                self.early = Some(stream.protocol);
            }
            (ConnectionEvent::FullyNegotiatedOutbound(stream), Some(inner)) => {
                inner.on_connection_event(ConnectionEvent::FullyNegotiatedOutbound(stream));
            }
            (ConnectionEvent::DialUpgradeError(error), Some(inner)) => {
                inner.on_connection_event(ConnectionEvent::DialUpgradeError(error));
            }
            // The others say nothing that gossipsub listens to.
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_neighbour_is_read_so_fast_and_no_faster() {
        let start = Instant::now();
        let mut rate = Rate::new(start);
        let mut now = start;
        let mut taken = 0_u32;
        while now < start + Duration::from_secs(10) {
            taken += 1;
            if !rate.take(now) {
                now += PAUSE;
            }
        }
        let most = PACKETS_AT_ONCE + 10.0 * PACKETS;
        assert!((most * 0.95..most * 1.05).contains(&f64::from(taken)), "{taken}");
    }
}
