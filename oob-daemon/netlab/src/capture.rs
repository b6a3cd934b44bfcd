//! What went over the bridge, as a file for whoever looks for what should not be in it.

use rustix::process::{Pid, Signal, kill_process};
use std::{
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use crate::tool::{self, Unavailable};

/// A running capture. It ends with [`Capture::stop`], or when dropped.
#[derive(Debug)]
pub struct Capture {
    file: PathBuf,
    tcpdump: Option<Child>,
}

impl Capture {
    /// Starts tcpdump on the bridge of `namespace` and waits until it listens.
    pub(crate) fn start(namespace: &str, file: &Path) -> Result<Self, Unavailable> {
        let unavailable = |reason: String| Unavailable { reason };
        let program =
            tool::find("tcpdump").ok_or_else(|| unavailable("tcpdump is missing".to_owned()))?;
        let mut command = tool::inside(namespace, program);
        // Every packet whole, written at once, and as the user who reads the file afterwards.
        command
            .args([
                "-i",
                "br0",
                "--immediate-mode",
                "-U",
                "-s",
                "0",
                "-B",
                "16384",
                "-Z",
                "root",
                "-w",
            ])
            .arg(file);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut tcpdump =
            command.spawn().map_err(|error| unavailable(format!("tcpdump: {error}")))?;
        let mut said = String::new();
        if let Some(stderr) = tcpdump.stderr.take() {
            let mut lines = BufReader::new(stderr);
            while !said.contains("listening on") {
                match lines.read_line(&mut said) {
                    Ok(0) | Err(_) => {
                        let _ = tcpdump.wait();
                        return Err(unavailable(format!("tcpdump: {}", said.trim())));
                    }
                    Ok(_) => {}
                }
            }
            // tcpdump says one more line at its end, and must not be killed by having nobody to say it to.
            std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        }
        Ok(Self { file: file.to_owned(), tcpdump: Some(tcpdump) })
    }

    /// Ends the capture and returns the file, complete.
    pub fn stop(mut self) -> PathBuf {
        self.end();
        std::mem::take(&mut self.file)
    }

    fn end(&mut self) {
        let Some(mut tcpdump) = self.tcpdump.take() else { return };
        // `ip netns exec` becomes the program it runs, so this is tcpdump itself; asked kindly, it writes what it has.
        if let Some(pid) = i32::try_from(tcpdump.id()).ok().and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::INT);
        }
        let _ = tcpdump.wait();
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.end();
    }
}
