//! Reads: never through the rules, so that a slow one delays no message.

use crate::{
    error::{Error, ErrorKind},
    handle::Handle,
};
use oob_engine::{
    History, RecordError,
    event::Numbered,
    model::{Alert, AlertAck, Message, Receipt},
};
use oob_proto::{AlertId, ConversationId};
use std::sync::Arc;

/// Most messages one read gives: 8 MiB of text at the longest.
pub(crate) const PAGE: usize = 1_000;

/// Runs a read of the store on a thread that may block.
async fn read<T: Send + 'static>(
    handle: &Handle,
    read: impl FnOnce(&History) -> Result<T, RecordError> + Send + 'static,
) -> Result<T, Error> {
    handle.check()?;
    let history = handle.history.clone();
    let done = tokio::task::spawn_blocking(move || read(&history)).await;
    done.map_err(|_| Error::internal("a read of the history was interrupted"))?.map_err(Error::from)
}

/// Messages with a number above `after`, oldest first.
pub(crate) async fn messages(
    handle: &Arc<Handle>,
    conversation: ConversationId,
    after: u64,
    limit: usize,
) -> Result<Vec<Message>, Error> {
    let limit = limit.min(PAGE);
    read(handle, move |h| h.messages(&conversation, after, limit)).await
}

/// The newest messages, oldest of them first.
pub(crate) async fn latest(
    handle: &Arc<Handle>,
    conversation: ConversationId,
    limit: usize,
) -> Result<Vec<Message>, Error> {
    let limit = limit.min(PAGE);
    read(handle, move |h| h.latest(&conversation, limit)).await
}

/// The newest messages with a number below `before`, oldest of them first.
pub(crate) async fn before(
    handle: &Arc<Handle>,
    conversation: ConversationId,
    before: u64,
    limit: usize,
) -> Result<Vec<Message>, Error> {
    let limit = limit.min(PAGE);
    read(handle, move |h| h.before(&conversation, before, limit)).await
}

/// How many messages were not shown yet, at most `limit`.
pub(crate) async fn unread(
    handle: &Arc<Handle>,
    conversation: ConversationId,
    limit: usize,
) -> Result<usize, Error> {
    let limit = limit.min(PAGE);
    read(handle, move |h| h.unread(&conversation, limit)).await
}

/// One message.
pub(crate) async fn message(
    handle: &Arc<Handle>,
    conversation: ConversationId,
    number: u64,
) -> Result<Message, Error> {
    let found = read(handle, move |h| h.message(&conversation, number)).await?;
    found.ok_or_else(|| no_message("message", number))
}

/// How far one own message has come.
pub(crate) async fn receipt(
    handle: &Arc<Handle>,
    conversation: ConversationId,
    number: u64,
) -> Result<Receipt, Error> {
    let found = read(handle, move |h| h.receipt(&conversation, number)).await?;
    found.ok_or_else(|| no_message("own message", number))
}

/// Events with a number above `after`, and how many of them were pruned.
pub(crate) async fn events(
    handle: &Arc<Handle>,
    after: u64,
    limit: usize,
) -> Result<(Vec<Numbered>, u64), Error> {
    read(handle, move |h| h.events(after, limit)).await
}

/// Most alerts one read gives: with the answers of 500 people each they stay under 32 MiB as JSON.
const ALERTS: usize = 200;

/// The newest alerts, newest first, each with its answers.
pub(crate) async fn alerts(handle: &Arc<Handle>) -> Result<Vec<(Alert, Vec<AlertAck>)>, Error> {
    read(handle, move |h| h.alerts(ALERTS)).await
}

/// One alert with its answers.
pub(crate) async fn alert(
    handle: &Arc<Handle>,
    id: AlertId,
) -> Result<(Alert, Vec<AlertAck>), Error> {
    let found = read(handle, move |h| h.alert(&id)).await?;
    found.ok_or_else(|| no_alert(&id.to_string()))
}

/// The ids of all alerts.
pub(crate) async fn alert_ids(handle: &Arc<Handle>) -> Result<Vec<AlertId>, Error> {
    read(handle, |h| h.alert_ids()).await
}

/// Says that there is no alert of an id, or of its beginning.
pub(crate) fn no_alert(id: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("no alert {id:?}"))
        .with_hint("see which there are: oob alert list")
}

fn no_message(what: &str, number: u64) -> Error {
    Error::new(ErrorKind::NotFound, format!("no {what} {number} in this conversation"))
        .with_hint("read the conversation first: oob log NAME")
}
