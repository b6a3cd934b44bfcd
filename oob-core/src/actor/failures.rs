//! Tasks of the node that panic. Each ends alone and is begun again; the store and the local API do not notice.

use futures::FutureExt;
use oob_mesh::Restarts;
use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};
use tokio::time::{Instant, sleep};

/// Counts them, of all tasks together. Cheap to clone; all clones are one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Failures(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    count: AtomicU64,
    given_up: AtomicBool,
    /// What a test wants to fail.
    #[cfg(test)]
    asked: std::sync::Mutex<Option<&'static str>>,
}

impl Failures {
    /// Runs a task to its end; nothing is returned if it panics.
    pub(crate) async fn survive<T>(
        &self,
        what: &'static str,
        task: impl Future<Output = T>,
    ) -> Option<T> {
        // What it shares with others it changes in one step each, or through queues.
        match AssertUnwindSafe(task).catch_unwind().await {
            Ok(done) => Some(done),
            Err(_) => {
                self.0.count.fetch_add(1, Ordering::Relaxed);
                // The panic's own words stay with the process's panic hook.
                tracing::error!("{what} failed");
                None
            }
        }
    }

    /// Waits until what failed may be begun again, by the count of its own failures; says whether it may.
    pub(crate) async fn pause(&self, restarts: &mut Restarts) -> bool {
        match restarts.failed(Instant::now()) {
            Some(wait) => {
                sleep(wait).await;
                true
            }
            None => {
                tracing::error!("it failed too often in a row and is not begun again");
                self.0.given_up.store(true, Ordering::Relaxed);
                false
            }
        }
    }

    /// Makes a task fail the next time it looks, for tests.
    #[cfg(test)]
    pub(crate) fn ask_to_fail(&self, what: &'static str) {
        *self.0.asked.lock().unwrap() = Some(what);
    }

    /// Fails where a test asked for it.
    #[cfg(test)]
    pub(crate) fn fail_if_asked(&self, what: &'static str) {
        let asked = self.0.asked.lock().unwrap().take_if(|asked| *asked == what);
        assert!(asked.is_none(), "asked to");
    }

    /// Says whether one failed too often to be begun again.
    pub(crate) fn gave_up(&self) -> bool {
        self.0.given_up.load(Ordering::Relaxed)
    }

    /// Returns how many have failed since the start.
    pub(crate) fn count(&self) -> u64 {
        self.0.count.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_goes_on_failing_is_begun_again_eight_times() {
        let (failures, mut restarts) = (Failures::default(), Restarts::default());
        let mut begun = 0;
        loop {
            begun += 1;
            let done: Option<()> = failures.survive("a test", async { panic!("asked to") }).await;
            assert!(done.is_none());
            if !failures.pause(&mut restarts).await {
                break;
            }
        }
        assert_eq!((begun, failures.count(), failures.gave_up()), (9, 9, true));
        assert_eq!(failures.survive("a test", async { 7 }).await, Some(7));
        // Another task has not failed yet, whatever became of this one.
        assert!(failures.pause(&mut Restarts::default()).await);
    }
}
