//! Letting go of the terminal, and holding on to a parent.

use crate::failure::Failure;
use std::{
    fs::OpenOptions,
    io::{self, Read},
    thread,
};
use tokio_util::sync::CancellationToken;

/// Leaves the session of the terminal the daemon was started from, so that closing that does not end it.
pub(crate) fn detach() -> Result<(), Failure> {
    rustix::process::setsid()
        .map(drop)
        .map_err(|e| Failure::internal("the daemon cannot leave its terminal").cause(e))
}

/// Puts nothing in the place of the standard streams: whoever started a background daemon must not wait for them to close.
pub(crate) fn silence() -> io::Result<()> {
    let nothing = OpenOptions::new().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&nothing)?;
    rustix::stdio::dup2_stdout(&nothing)?;
    rustix::stdio::dup2_stderr(&nothing)?;
    Ok(())
}

/// Stops when the other end of standard input closes, which happens however the parent ends.
pub(crate) fn stop_with_stdin(stop: CancellationToken) -> Result<(), Failure> {
    let watch = move || {
        let mut discarded = [0; 256];
        let mut stdin = io::stdin().lock();
        loop {
            match stdin.read(&mut discarded) {
                Ok(0) => break,
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        stop.cancel();
    };
    // A thread of its own, since this read cannot be taken back; it ends with the process.
    let spawned = thread::Builder::new().name("parent".into()).spawn(watch);
    spawned.map(drop).map_err(|e| Failure::internal("no thread to watch the parent with").cause(e))
}
