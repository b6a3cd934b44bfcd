//! The programs of the system that do the work, and what they say when they do not.

use std::{
    io,
    path::PathBuf,
    process::{Command, Stdio},
};

/// Why there can be no lab here. Tests print it and skip.
#[derive(Debug, thiserror::Error)]
#[error("no network lab here: {reason}")]
pub struct Unavailable {
    /// What is missing.
    pub reason: String,
}

/// Why a lab could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabError {
    /// A program of the system refused.
    #[error("`{command}` said: {stderr}")]
    Refused {
        /// What was run.
        command: String,
        /// What it said.
        stderr: String,
    },
    /// A program of the system could not be started.
    #[error("`{command}` could not be run")]
    NotRun {
        /// What was to be run.
        command: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// A host's name is taken, or is no name for a namespace.
    #[error("{name:?} cannot be the name of another host")]
    Name {
        /// The name.
        name: String,
    },
    /// There is no bridge to take a host off.
    #[error("{name} has cables to its neighbours and no port on a bridge")]
    NoBridge {
        /// The host.
        name: String,
    },
    /// More hosts than the subnet has addresses.
    #[error("the lab has {hosts} hosts, no more have an address")]
    Crowded {
        /// How many there are.
        hosts: usize,
    },
}

/// Finds a program; labs run as root, whose PATH may lack the sbin folders.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).collect::<Vec<_>>();
    let sbin = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from);
    folders.into_iter().chain(sbin).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// Runs a command to its end.
pub(crate) fn run(mut command: Command) -> Result<String, LabError> {
    let shown = || {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    };
    let shown = shown();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|source| LabError::NotRun { command: shown.clone(), source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(LabError::Refused { command: shown, stderr })
}

/// Runs `ip` with these words.
pub(crate) fn ip(words: &[&str]) -> Result<String, LabError> {
    let mut command = Command::new(find("ip").unwrap_or_else(|| "ip".into()));
    command.args(words);
    run(command)
}

/// Prepares a program inside a namespace.
pub(crate) fn inside(namespace: &str, program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new(find("ip").unwrap_or_else(|| "ip".into()));
    command.args(["netns", "exec", namespace]).arg(program);
    command
}
