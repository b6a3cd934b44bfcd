//! The addresses of this machine, and being told when they change.

use futures::StreamExt;
use if_addrs::IfAddr;
use if_watch::tokio::IfWatcher;
use std::{
    collections::BTreeSet,
    future,
    net::{IpAddr, Ipv4Addr},
    time::Duration,
};
use tokio::time::{Instant, sleep_until};

/// Addresses that are looked at: a machine has a handful, one with many containers some dozens. What is above is as if it
/// were not there.
const MOST: usize = 256;

/// How long after the first word of a change the addresses are read: a cable brings several at once.
const SETTLE: Duration = Duration::from_millis(20);

/// How often they are read unasked: a cable that is pulled leaves its addresses where they are, and there are systems
/// that tell nothing.
const UNASKED: Duration = Duration::from_secs(1);

/// One address of an interface that is up and is not loopback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Local {
    pub(crate) ip: IpAddr,
    /// The number of its interface.
    pub(crate) index: u32,
    /// Where everybody in its network hears, if there is such a place.
    pub(crate) broadcast: Option<Ipv4Addr>,
}

/// Returns the addresses there are now; none if the system does not tell.
pub(crate) fn list() -> BTreeSet<Local> {
    let all = if_addrs::get_if_addrs().unwrap_or_else(|error| {
        tracing::debug!(%error, "cannot read the addresses of this machine");
        Vec::new()
    });
    all.into_iter()
        .filter(|interface| !interface.is_loopback() && interface.is_oper_up())
        .filter_map(|interface| {
            let broadcast = match &interface.addr {
                IfAddr::V4(address) => address.broadcast,
                IfAddr::V6(_) => None,
            };
            Some(Local { ip: interface.ip(), index: interface.index?, broadcast })
        })
        .take(MOST)
        .collect()
}

/// Tells of changes.
pub(crate) struct Watch {
    watcher: Option<IfWatcher>,
    next: Instant,
}

impl Watch {
    pub(crate) fn new() -> Self {
        let watcher = IfWatcher::new();
        if let Err(error) = &watcher {
            tracing::debug!(%error, "no word of changed addresses; they are read every second");
        }
        Self { watcher: watcher.ok(), next: Instant::now() + UNASKED }
    }

    /// Waits until it is time to read the addresses.
    ///
    /// # Cancel safety
    /// Safe: a change heard of brings the next reading closer, whoever waits for it.
    pub(crate) async fn due(&mut self) {
        loop {
            tokio::select! {
                event = told(&mut self.watcher) => match event {
                    true => self.next = self.next.min(Instant::now() + SETTLE),
                    false => self.watcher = None,
                },
                () = sleep_until(self.next) => {
                    self.next = Instant::now() + UNASKED;
                    return;
                }
            }
        }
    }
}

/// Waits for word of a change; false when there will be no more.
async fn told(watcher: &mut Option<IfWatcher>) -> bool {
    match watcher {
        Some(watcher) => matches!(watcher.next().await, Some(Ok(_))),
        None => future::pending().await,
    }
}
