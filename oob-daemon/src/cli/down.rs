//! `down`: stops the daemon and waits until its process is gone.

use super::{connect, printer::Printer, progress::Progress};
use crate::{failure::Failure, schema::Stopped, settings::Home};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fd::OwnedFd,
    process::{Pid, PidfdFlags, pidfd_open},
};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How long a daemon may take: its own bounds for open requests and for the store, with room.
const GONE_TIME: Duration = Duration::from_secs(30);

/// How often the socket is tried where the kernel cannot tell that the process has ended.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

pub(super) async fn run(home: &Home, printer: &Printer) -> Result<(), Failure> {
    let mut client = connect(home).await.map_err(nothing_to_stop)?;
    // Held before it is asked to stop, so that the number cannot come to mean another process.
    let process = client
        .pid()
        .and_then(Pid::from_raw)
        .and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
    let progress = Progress::start(printer, "stopping");
    let stopping = client.shutdown().await?;
    drop(client);
    let gone = gone(process, home).await;
    drop(progress);
    if !gone {
        return Err(Failure::new(
            "timeout",
            format!("process {} did not stop within 30 s", stopping.pid),
        )
        .hint(format!(
            "look at the end of oob.log in the home; end it with: kill {}",
            stopping.pid
        )));
    }
    printer.data(&Stopped { stopped: true, pid: stopping.pid }, |stopped| {
        format!("stopped, process {}", stopped.pid)
    });
    Ok(())
}

/// Whoever wants a daemon stopped is not told to start one.
fn nothing_to_stop(failure: Failure) -> Failure {
    match failure.code() {
        // Where there is a cause the hint is about that.
        "not_running" if failure.causes().is_empty() => {
            failure.hint("there is nothing to stop; for another home: oob --home DIR down")
        }
        _ => failure,
    }
}

async fn gone(process: Option<OwnedFd>, home: &Home) -> bool {
    if let Some(process) = process {
        // Readable once the process has ended, whether or not anybody has asked how. Nothing else runs on this thread.
        let limit =
            Timespec { tv_sec: i64::try_from(GONE_TIME.as_secs()).unwrap_or(i64::MAX), tv_nsec: 0 };
        if let Ok(ended) = poll(&mut [PollFd::new(&process, PollFlags::IN)], Some(&limit)) {
            return ended > 0;
        }
    }
    let unanswered = async {
        while connect(home).await.is_ok() {
            sleep(LOOK_AGAIN).await;
        }
    };
    timeout(GONE_TIME, unanswered).await.is_ok()
}
