//! The two protocols, and how their streams are negotiated on one connection.

use futures::future::{Ready, ready};
use libp2p::{
    Stream,
    core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo},
    swarm::{
        ConnectionHandler, ConnectionHandlerEvent, StreamUpgradeError, SubstreamProtocol,
        handler::{
            ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
        },
    },
};
use std::{
    collections::VecDeque,
    convert::Infallible,
    task::{Context, Poll, Waker},
    time::Duration,
};

/// Longest negotiation of a stream; the same 3 seconds after which a silent peer is given up.
const NEGOTIATION: Duration = Duration::from_secs(3);

/// Negotiated streams that may wait for the swarm task; more are dropped.
const WAITING: usize = 4;

/// A protocol of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// The live stream between roster peers.
    Sync,
    /// The stream on which somebody asks to be admitted.
    Join,
}

impl AsRef<str> for Protocol {
    fn as_ref(&self) -> &str {
        match self {
            Self::Sync => "/oob/sync/1",
            Self::Join => "/oob/join/1",
        }
    }
}

/// The protocols one side is ready to speak.
#[derive(Debug, Clone)]
pub(crate) struct Offer(Vec<Protocol>);

impl UpgradeInfo for Offer {
    type Info = Protocol;
    type InfoIter = std::vec::IntoIter<Protocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.clone().into_iter()
    }
}

impl InboundUpgrade<Stream> for Offer {
    type Output = (Protocol, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, chosen: Protocol) -> Self::Future {
        ready(Ok((chosen, stream)))
    }
}

impl OutboundUpgrade<Stream> for Offer {
    type Output = (Protocol, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, chosen: Protocol) -> Self::Future {
        ready(Ok((chosen, stream)))
    }
}

/// What the handler of a connection reports.
#[derive(Debug)]
pub(crate) enum Negotiated {
    /// The other side opened a stream.
    Inbound(Protocol, Stream),
    /// Our stream is open.
    Outbound(Protocol, Stream),
    /// The other side does not speak this protocol with us.
    Refused(Protocol),
    /// The stream broke while it was negotiated.
    Failed(Protocol),
}

/// Negotiates the streams of one connection. What it offers is fixed when the connection is made: a stranger is never
/// offered the sync stream, whatever happens later.
#[derive(Debug)]
pub(crate) struct Handler {
    offer: Offer,
    waiting: VecDeque<ConnectionHandlerEvent<Offer, Protocol, Negotiated>>,
    waker: Option<Waker>,
}

impl Handler {
    pub(crate) fn new(offer: &[Protocol]) -> Self {
        Self { offer: Offer(offer.to_vec()), waiting: VecDeque::new(), waker: None }
    }

    fn push(&mut self, event: ConnectionHandlerEvent<Offer, Protocol, Negotiated>) {
        self.waiting.push_back(event);
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Protocol;
    type ToBehaviour = Negotiated;
    type InboundProtocol = Offer;
    type OutboundProtocol = Offer;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Protocol;

    fn listen_protocol(&self) -> SubstreamProtocol<Offer> {
        SubstreamProtocol::new(self.offer.clone(), ()).with_timeout(NEGOTIATION)
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Offer, Protocol, Negotiated>> {
        match self.waiting.pop_front() {
            Some(event) => Poll::Ready(event),
            None => {
                self.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn on_behaviour_event(&mut self, protocol: Protocol) {
        let protocol = SubstreamProtocol::new(Offer(vec![protocol]), protocol);
        self.push(ConnectionHandlerEvent::OutboundSubstreamRequest {
            protocol: protocol.with_timeout(NEGOTIATION),
        });
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<Offer, Offer, (), Protocol>) {
        let report = match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (protocol, stream),
                ..
            }) => {
                if self.waiting.len() >= WAITING {
                    return;
                }
                Negotiated::Inbound(protocol, stream)
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound {
                protocol: (protocol, stream),
                ..
            }) => Negotiated::Outbound(protocol, stream),
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info, error }) => match error {
                StreamUpgradeError::NegotiationFailed => Negotiated::Refused(info),
                _ => Negotiated::Failed(info),
            },
            _ => return,
        };
        self.push(ConnectionHandlerEvent::NotifyBehaviour(report));
    }
}
