//! When a neighbour is told what is here: often enough for people who wait for the word that somebody holds what they sent,
//! and seldom while much goes on.

/// Have is told at most this often on a live stream: people wait for the word that somebody holds what they sent.
const HAVE_EVERY_MS: u64 = 1_000;

/// While much goes on, Have is told so often: each costs a signature on both sides, and says what the next one says too.
const BUSY_HAVE_EVERY_MS: u64 = 5_000;

/// So many may go out one after the other before it counts as busy.
const HAVE_BURST: u32 = 3;

/// A neighbour that was given none of so many own records, since others got them alone, is told at once which of them nobody
/// needs: each is a hole in what it knows of this device, and it writes them all with every record that comes.
const PASSED_OVER: u32 = 128;

/// Even then Have is told at most this often.
const PASSED_OVER_HAVE_MS: u64 = 100;

/// When the next Have is due on one stream.
pub(crate) struct Telling {
    due_ms: Option<u64>,
    last_ms: Option<u64>,
    told: bool,
    left: u32,
    /// Own records the neighbour was not given since it was last told.
    passed_over: u32,
}

impl Default for Telling {
    fn default() -> Self {
        Self { due_ms: None, last_ms: None, told: false, left: HAVE_BURST, passed_over: 0 }
    }
}

impl Telling {
    /// Notes that there is something new to tell of.
    pub(crate) fn changed(&mut self, now_ms: u64) {
        let wait_ms = if self.left == 0 { BUSY_HAVE_EVERY_MS } else { HAVE_EVERY_MS };
        let at = self.last_ms.map_or(now_ms, |last| last.saturating_add(wait_ms));
        self.due_ms.get_or_insert(at.max(now_ms));
    }

    /// Notes that an own record goes to somebody else alone.
    pub(crate) fn pass_over(&mut self, now_ms: u64) {
        self.passed_over = self.passed_over.saturating_add(1);
        if self.passed_over >= PASSED_OVER {
            let last = self.last_ms.unwrap_or(0);
            let at = last.saturating_add(PASSED_OVER_HAVE_MS).max(now_ms);
            self.due_ms = Some(self.due_ms.map_or(at, |due| due.min(at)));
        }
    }

    pub(super) fn due_ms(&self) -> Option<u64> {
        self.due_ms
    }

    /// Whether it is told now.
    pub(super) fn take_due(&mut self, now_ms: u64) -> bool {
        if self.due_ms.is_none_or(|due| due > now_ms) {
            return false;
        }
        (self.due_ms, self.passed_over) = (None, 0);
        // The one that follows the greeting does not hold up the word on what comes next.
        if std::mem::replace(&mut self.told, true) {
            let quiet_ms = self.last_ms.map_or(0, |last| now_ms.saturating_sub(last));
            let earned = u32::try_from(quiet_ms / BUSY_HAVE_EVERY_MS).unwrap_or(HAVE_BURST);
            self.left = self.left.saturating_add(earned).min(HAVE_BURST).saturating_sub(1);
            self.last_ms = Some(now_ms);
        }
        true
    }
}
