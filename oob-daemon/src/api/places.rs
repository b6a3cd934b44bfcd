//! Who has one of the few places of a listener. Where all are taken and somebody new comes, whoever has been quiet for longest
//! gives way: a connection that has not finished asking, or has had its answer. So half-open connections keep nobody out,
//! however many there are, and nothing that is being answered is cut off.

use crate::failure::Failure;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// Connections at once on each of the two listeners, and as many event streams apart from them. Each costs some tens of
/// kilobytes, and apart so that whoever fills TCP does not keep the user's own command line out.
const MOST: usize = 64;

/// Places where the system allows few open files: enough for a person, a page and a bot.
const LEAST: usize = 8;

/// Files that the store, the log, the mesh's listeners and the links of one crowded room need besides.
const OTHER_FILES: u64 = 64;

/// Files asked of the system if it gives fewer by itself: the store, 320 connections of the mesh, four times 64 places.
const FILES: u64 = 1_024;

/// Returns how many places each listener has, after asking the system for as many files as all of them need.
pub(crate) fn places() -> usize {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.map_or(FILES, |maximum| maximum.min(FILES));
    let files = match current {
        Some(current) if current < wanted => {
            let raised =
                setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).is_ok();
            if raised { wanted } else { current }
        }
        Some(current) => current,
        None => FILES,
    };
    of_files(files)
}

/// Returns the places for so many files: four kinds share half of what is left.
fn of_files(files: u64) -> usize {
    let each = files.saturating_sub(OTHER_FILES) / 8;
    usize::try_from(each).unwrap_or(MOST).clamp(LEAST, MOST)
}

/// The places of one listener.
#[derive(Clone)]
pub(super) struct Places {
    free: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    quiet: Arc<Quiet>,
    most: usize,
}

/// Connections that nobody is answering, in the order in which they fell quiet.
#[derive(Default)]
struct Quiet {
    waiting: Mutex<Waiting>,
    more: Notify,
}

#[derive(Default)]
struct Waiting {
    next: u64,
    /// What ends each of them.
    since: BTreeMap<u64, CancellationToken>,
}

impl Quiet {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        // Nothing that is done with the lock held can stop half-way.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, ends: &CancellationToken) -> u64 {
        let mut waiting = self.lock();
        let number = waiting.next;
        waiting.next = waiting.next.wrapping_add(1);
        waiting.since.insert(number, ends.clone());
        drop(waiting);
        self.more.notify_one();
        number
    }

    /// Says whether it was there still; one that was not is being ended.
    fn remove(&self, number: u64) -> bool {
        self.lock().since.remove(&number).is_some()
    }

    /// Ends the one that has been quiet for longest; says whether there was one.
    fn end_oldest(&self) -> bool {
        let oldest = self.lock().since.pop_first();
        oldest.is_some_and(|(_, ends)| {
            ends.cancel();
            true
        })
    }
}

impl Places {
    pub(super) fn new(most: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(most)),
            streams: Arc::new(Semaphore::new(most)),
            quiet: Arc::default(),
            most,
        }
    }

    /// Waits for a place for a connection that is here already.
    ///
    /// # Cancel safety
    /// Safe: at worst a quiet connection has given way for nobody.
    pub(super) async fn take(&self) -> Place {
        let mut gives_way = false;
        loop {
            if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
                return self.place(Some(permit));
            }
            gives_way = gives_way || self.make_room();
            tokio::select! {
                permit = Arc::clone(&self.free).acquire_owned() => return self.place(permit.ok()),
                () = self.quiet.more.notified(), if !gives_way => {}
            }
        }
    }

    /// Ends the connection that has been quiet for longest; says whether there was one.
    pub(super) fn make_room(&self) -> bool {
        self.quiet.end_oldest()
    }

    fn place(&self, permit: Option<OwnedSemaphorePermit>) -> Place {
        let ends = CancellationToken::new();
        let number = self.quiet.add(&ends);
        Place(Arc::new(Held {
            permit: Mutex::new(permit),
            places: self.clone(),
            ends,
            quiet: Mutex::new(Some(number)),
            is_stream: AtomicBool::new(false),
        }))
    }
}

/// What a connection takes up: one of the places of its listener, or, once it carries an event stream, one of those for
/// streams. Given back when the connection ends.
#[derive(Clone)]
pub(super) struct Place(Arc<Held>);

struct Held {
    permit: Mutex<Option<OwnedSemaphorePermit>>,
    places: Places,
    ends: CancellationToken,
    /// Its number among the quiet ones, while it is.
    quiet: Mutex<Option<u64>>,
    /// Whether it has a place for streams: then its end makes room for no connection.
    is_stream: AtomicBool,
}

impl Held {
    fn set_quiet(&self, number: Option<u64>) -> bool {
        let before = {
            let mut quiet = self.quiet.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *quiet, number)
        };
        before.is_none_or(|before| self.places.quiet.remove(before))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.set_quiet(None);
    }
}

impl Place {
    /// Waits until this connection is to give way to another.
    pub(super) async fn gives_way(&self) {
        self.0.ends.cancelled().await;
    }

    /// Says that a request is being answered until what is returned is dropped. None where the connection gives way to
    /// another already: then nothing may be done for it.
    pub(super) fn answers(&self) -> Option<Answering> {
        // Whoever takes the number out of the list first has it: the request, or who needs the place.
        self.0.set_quiet(None).then(|| Answering(self.clone()))
    }

    /// Moves to a place for streams, so that the next connection finds the one that was held.
    ///
    /// # Errors
    /// As many streams are open as there may be.
    pub(super) fn becomes_stream(&self) -> Result<(), Failure> {
        let Places { streams, most, .. } = &self.0.places;
        let stream = Arc::clone(streams).try_acquire_owned().map_err(|_| {
            Failure::new("too_many", format!("{most} event streams are open already"))
                .hint("close a page, a bot or a waiting command that reads events, then try again")
        })?;
        // A second stream of the same connection, after the first has ended, gives the first one's place back here.
        *self.0.permit.lock().unwrap_or_else(PoisonError::into_inner) = Some(stream);
        self.0.is_stream.store(true, Ordering::Relaxed);
        Ok(())
    }
}

/// A connection whose request is being answered: it does not give way.
pub(super) struct Answering(Place);

impl Drop for Answering {
    fn drop(&mut self) {
        let held = &self.0.0;
        // One whose stream has ended is closed soon by the time that the next head may take.
        if held.is_stream.load(Ordering::Relaxed) {
            return;
        }
        let _ = held.set_quiet(Some(held.places.quiet.add(&held.ends)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    /// Both could happen: the request was carried out, and its connection was cut off before it was told.
    #[tokio::test]
    async fn a_connection_that_gives_way_answers_nothing_any_more() {
        let places = Places::new(1);
        let first = places.take().await;
        let answering = first.answers().unwrap();
        assert!(!places.make_room());
        drop(answering);
        assert!(places.make_room());
        assert!(first.answers().is_none());
        assert!(first.gives_way().now_or_never().is_some());
    }

    fn at_once(places: &Places) -> Option<Place> {
        places.take().now_or_never()
    }

    #[tokio::test]
    async fn whoever_was_quiet_for_longest_gives_way_and_nobody_who_is_answered() {
        let places = Places::new(2);
        let (first, second) = (places.take().await, places.take().await);
        let answering = first.answers().unwrap();
        // The first came before, and is being answered.
        let mut third = Box::pin(places.take());
        assert!(third.as_mut().now_or_never().is_none());
        assert!(second.gives_way().now_or_never().is_some());
        assert!(first.gives_way().now_or_never().is_none());
        drop(second);
        let third = third.await;
        // Nobody is quiet: whoever comes waits, until one is.
        let also = third.answers().unwrap();
        let mut fourth = Box::pin(places.take());
        assert!(fourth.as_mut().now_or_never().is_none());
        drop(answering);
        assert!(fourth.as_mut().now_or_never().is_none());
        assert!(first.gives_way().now_or_never().is_some());
        assert!(third.gives_way().now_or_never().is_none());
        drop(first);
        fourth.await;
        drop(also);
    }

    #[tokio::test]
    async fn a_stream_gives_its_first_place_back_and_does_not_give_way() {
        let places = Places::new(1);
        let stream = places.take().await;
        let answering = stream.answers().unwrap();
        stream.becomes_stream().unwrap();
        let next = at_once(&places).unwrap();
        assert_eq!(next.becomes_stream().unwrap_err().code(), "too_many");
        assert!(stream.gives_way().now_or_never().is_none());
        // A stream that has ended keeps nobody from making room.
        drop(answering);
        let mut third = Box::pin(places.take());
        assert!(third.as_mut().now_or_never().is_none());
        assert!(next.gives_way().now_or_never().is_some());
        assert!(stream.gives_way().now_or_never().is_none());
        drop((stream, next));
        third.await.becomes_stream().unwrap();
    }

    #[test]
    fn there_are_as_many_places_as_the_files_allow() {
        assert_eq!(
            [0, 64, 128, 256, 576, 1_024, u64::MAX].map(of_files),
            [8, 8, 8, 24, 64, 64, 64]
        );
    }
}
