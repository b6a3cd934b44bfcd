//! Bytes from outside that made a task of ours fail. They are known by their hash and never given to that task again; a copy
//! goes to whoever looks after them.

use bytes::Bytes;
use std::{
    collections::VecDeque,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::Notify;

/// Hashes known at once. Each stands for a defect of ours that somebody found; the oldest is forgotten beyond that.
const KNOWN: usize = 256;

/// Copies that wait to be taken: 16 of the longest frame are a mebibyte.
const COPIES: usize = 16;

/// Where bytes came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// A message of gossip, in the network task.
    Gossip,
    /// A frame of a link, in its task.
    Frame,
    /// A frame or a message, in the screening.
    Screening,
    /// A beacon.
    Beacon,
}

impl Source {
    /// Returns the word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Gossip => "gossip",
            Self::Frame => "frame",
            Self::Screening => "screening",
            Self::Beacon => "beacon",
        }
    }
}

/// Bytes are known by this: the same bytes elsewhere are another matter.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CaughtId([u8; 32]);

impl CaughtId {
    fn of(source: Source, bytes: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(source.as_str().as_bytes()).update(&[0]).update(bytes);
        Self(*hasher.finalize().as_bytes())
    }

    /// Reads what [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        blake3::Hash::from_hex(text).ok().map(|hash| Self(*hash.as_bytes()))
    }
}

impl fmt::Display for CaughtId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for CaughtId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Bytes that were caught.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Caught {
    /// Which.
    pub id: CaughtId,
    /// Where they came in.
    pub source: Source,
    /// What they are.
    pub bytes: Bytes,
}

/// What is caught. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct Quarantine(Arc<Inner>);

#[derive(Default)]
struct Inner {
    /// How many hashes there are, so that nothing is hashed as long as there is none.
    known: AtomicU64,
    caught: AtomicU64,
    refused: AtomicU64,
    lists: Mutex<Lists>,
    more: Notify,
    #[cfg(any(test, feature = "inject"))]
    fault: Mutex<Option<Fault>>,
}

/// Says of which bytes a test wants a task to fail.
#[cfg(any(test, feature = "inject"))]
type Fault = Box<dyn Fn(Source, &[u8]) -> bool + Send>;

#[derive(Default)]
struct Lists {
    ids: VecDeque<CaughtId>,
    copies: VecDeque<Caught>,
}

impl fmt::Debug for Quarantine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Quarantine").field("caught", &self.caught()).finish_non_exhaustive()
    }
}

impl Quarantine {
    /// Does some work on bytes; bytes that made it panic before are not given to it, and nothing is returned. A panic is
    /// passed on once the bytes are caught.
    pub fn guard<T>(&self, source: Source, bytes: &Bytes, work: impl FnOnce() -> T) -> Option<T> {
        match self.attempt(source, bytes, work)? {
            Ok(done) => Some(done),
            Err(panic) => resume_unwind(panic),
        }
    }

    /// As [`Quarantine::guard`], but a panic ends here: it is counted, and nothing is returned.
    pub fn absorb<T>(&self, source: Source, bytes: &Bytes, work: impl FnOnce() -> T) -> Option<T> {
        self.attempt(source, bytes, work)?.ok()
    }

    fn attempt<T>(
        &self,
        source: Source,
        bytes: &Bytes,
        work: impl FnOnce() -> T,
    ) -> Option<std::thread::Result<T>> {
        if self.holds(source, bytes) {
            self.0.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        // Whatever the work had begun is dropped with it: the caller ends, or treats the bytes as nobody's.
        let attempt = catch_unwind(AssertUnwindSafe(|| {
            #[cfg(any(test, feature = "inject"))]
            self.fail_if_asked(source, bytes);
            work()
        }));
        if attempt.is_err() {
            self.catch(source, bytes);
        }
        Some(attempt)
    }

    fn holds(&self, source: Source, bytes: &[u8]) -> bool {
        self.0.known.load(Ordering::Acquire) > 0
            && self.lists().ids.contains(&CaughtId::of(source, bytes))
    }

    fn catch(&self, source: Source, bytes: &Bytes) {
        let id = CaughtId::of(source, bytes);
        // The panic's own words stay with the process's panic hook: they may hold what nobody should read in a log.
        tracing::error!(source = source.as_str(), %id, len = bytes.len(), "a task failed on bytes from outside");
        self.0.caught.fetch_add(1, Ordering::Relaxed);
        self.know(id);
        let mut lists = self.lists();
        // A copy of the whole: a view would keep a larger buffer alive. Who comes when all wait is known by hash alone.
        if lists.copies.len() < COPIES {
            let bytes = Bytes::copy_from_slice(bytes);
            lists.copies.push_back(Caught { id, source, bytes });
        }
        drop(lists);
        self.0.more.notify_one();
    }

    /// Holds bytes that were caught before.
    pub fn know(&self, id: CaughtId) {
        let mut lists = self.lists();
        if !lists.ids.contains(&id) {
            if lists.ids.len() >= KNOWN {
                lists.ids.pop_front();
            }
            lists.ids.push_back(id);
        }
        let known = u64::try_from(lists.ids.len()).unwrap_or(u64::MAX);
        self.0.known.store(known, Ordering::Release);
    }

    /// Waits for the next copy.
    ///
    /// # Cancel safety
    /// Safe: a copy is returned or waits.
    pub async fn next(&self) -> Caught {
        loop {
            if let Some(caught) = self.lists().copies.pop_front() {
                // Perhaps there is another one, and only one word of it.
                self.0.more.notify_one();
                return caught;
            }
            self.0.more.notified().await;
        }
    }

    /// Returns how many times bytes made a task fail since the start.
    pub fn caught(&self) -> u64 {
        self.0.caught.load(Ordering::Relaxed)
    }

    /// Returns how many times such bytes came again and were given to nobody.
    pub fn refused(&self) -> u64 {
        self.0.refused.load(Ordering::Relaxed)
    }

    /// Returns how many are known.
    pub fn known(&self) -> u64 {
        self.0.known.load(Ordering::Acquire)
    }

    fn lists(&self) -> MutexGuard<'_, Lists> {
        self.0.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes tasks fail on bytes of this kind, for tests.
    #[cfg(any(test, feature = "inject"))]
    pub fn inject(&self, fails: impl Fn(Source, &[u8]) -> bool + Send + 'static) {
        *self.0.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(fails));
    }

    #[cfg(any(test, feature = "inject"))]
    #[expect(clippy::panic, reason = "what tests ask for; not built otherwise")]
    fn fail_if_asked(&self, source: Source, bytes: &[u8]) {
        let fails = self.0.fault.lock().unwrap_or_else(PoisonError::into_inner);
        let asked = fails.as_ref().is_some_and(|fails| fails(source, bytes));
        drop(fails);
        if asked {
            panic!("asked to");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fails_on_x(quarantine: &Quarantine) {
        quarantine.inject(|_, bytes| bytes.first() == Some(&b'x'));
    }

    #[tokio::test]
    async fn what_made_a_task_fail_is_kept_and_never_given_to_it_again() {
        let quarantine = Quarantine::default();
        fails_on_x(&quarantine);
        let try_it = |bytes: &'static [u8], source| {
            quarantine.absorb(source, &Bytes::from_static(bytes), || true)
        };
        assert_eq!(try_it(b"fine", Source::Screening), Some(true));
        assert_eq!(try_it(b"x1", Source::Screening), None);
        assert_eq!((quarantine.caught(), quarantine.refused(), quarantine.known()), (1, 0, 1));
        // Even though it would be harmless now.
        quarantine.inject(|_, _| false);
        assert_eq!(try_it(b"x1", Source::Screening), None);
        assert_eq!((quarantine.caught(), quarantine.refused()), (1, 1));
        // The control: other bytes, and the same ones elsewhere, are.
        assert_eq!(try_it(b"x2", Source::Screening), Some(true));
        assert_eq!(try_it(b"x1", Source::Gossip), Some(true));
        let caught = quarantine.next().await;
        assert_eq!((&caught.bytes[..], caught.source), (&b"x1"[..], Source::Screening));
        // Another process knows it by what was written down.
        let later = Quarantine::default();
        later.know(CaughtId::parse(&caught.id.to_string()).unwrap());
        assert_eq!(later.absorb(Source::Screening, &caught.bytes, || true), None);
        assert_eq!(CaughtId::parse("no hash"), None);
    }

    #[test]
    fn a_panic_is_passed_on_when_the_bytes_are_caught() {
        let quarantine = Quarantine::default();
        fails_on_x(&quarantine);
        let bytes = Bytes::from_static(b"x");
        let run = || quarantine.guard(Source::Frame, &bytes, || ());
        assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
        assert_eq!(run(), None);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let quarantine = Quarantine::default();
        quarantine.inject(|_, _| true);
        for n in 0..1_000_u32 {
            quarantine.absorb(Source::Frame, &Bytes::copy_from_slice(&n.to_be_bytes()), || ());
        }
        assert_eq!((quarantine.caught(), quarantine.known()), (1_000, KNOWN as u64));
        assert_eq!(quarantine.lists().copies.len(), COPIES);
    }
}
