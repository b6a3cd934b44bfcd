//! When a connection stops asking and begins to be answered. Until the whole of a request has come it may give way to another
//! connection (`places`): a body that does not come holds nobody's place, whoever sends its head, and nothing is done for a
//! request whose connection gives way.

use super::places::{Answering, Place};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use std::{
    io,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};

/// One request of a connection.
#[derive(Clone)]
pub(super) struct Asking(Arc<Inner>);

struct Inner {
    place: Place,
    /// Set once everything has come, or the answer is there without; none if the connection gave way before.
    answering: OnceLock<Option<Answering>>,
}

impl Asking {
    pub(super) fn new(place: Place) -> Self {
        Self(Arc::new(Inner { place, answering: OnceLock::new() }))
    }

    /// Says that the connection is being answered from now on, for as long as this request is kept. Returns false if it gives
    /// way: its other end hears no more.
    pub(super) fn answers(&self) -> bool {
        self.0.answering.get_or_init(|| self.0.place.answers()).is_some()
    }
}

/// The body of a request, which ends the asking when it has come.
pub(super) struct Asked {
    body: Incoming,
    asking: Asking,
}

impl Asked {
    /// Returns nothing if the connection gave way already.
    pub(super) fn new(body: Incoming, asking: Asking) -> Option<Self> {
        (!body.is_end_stream() || asking.answers()).then_some(Self { body, asking })
    }
}

impl Body for Asked {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let whole = frame.is_none() || self.body.is_end_stream();
        if whole && !self.asking.answers() {
            let gone = io::Error::new(io::ErrorKind::ConnectionAborted, "gave way to another");
            return Poll::Ready(Some(Err(gone.into())));
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
