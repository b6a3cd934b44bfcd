//! File systems of a test's own, in a mount namespace that goes with it. They need root.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::heavy;

/// Set for the process that has the namespace.
const INSIDE: &str = "OOB_STORE_INSIDE";

/// Runs a test in a mount namespace of its own, or says aloud why not. `test` is the path of the test that calls this.
pub(crate) fn inside(test: &str, tools: &[&str], run: impl FnOnce()) {
    if env::var_os(INSIDE).is_some() {
        return run();
    }
    if !heavy() {
        eprintln!("SKIPPED: needs root and takes a while; run it with OOB_HEAVY=1");
        return;
    }
    if !rustix::process::geteuid().is_root() {
        eprintln!("SKIPPED: {test} makes file systems, which needs root");
        return;
    }
    for tool in ["unshare", "mount", "umount"].iter().chain(tools) {
        if !quietly(Command::new("which").arg(tool)) {
            eprintln!("SKIPPED: {test} needs {tool}, which is not installed");
            return;
        }
    }
    if !quietly(private("true").arg("--version")) {
        eprintln!("SKIPPED: {test} needs a mount namespace, which is refused here");
        return;
    }
    let done = private(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(INSIDE, "1")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    eprint!("{said}");
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stdout));
}

/// A command whose mounts nobody else sees.
fn private(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "--"]).arg(program);
    command
}

fn quietly(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|done| done.success())
}

#[track_caller]
fn run(command: &mut Command) {
    let done = command.output().unwrap();
    assert!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// A file system in a file, whose power can be cut.
pub(crate) struct Ground {
    image: PathBuf,
    mount: PathBuf,
    _base: TempDir,
}

impl Ground {
    /// Makes a file system of this kind and mounts it; nothing if this machine cannot.
    pub(crate) fn new(kind: &str, bytes: u64) -> Option<Self> {
        let base = tempfile::tempdir().unwrap();
        let (image, mount) = (base.path().join("image"), base.path().join("mount"));
        fs::create_dir(&mount).unwrap();
        File::create(&image).unwrap().set_len(bytes).unwrap();
        if !quietly(Command::new(format!("mkfs.{kind}")).arg("-q").arg(&image)) {
            eprintln!("SKIPPED: mkfs.{kind} is not installed or refuses");
            return None;
        }
        let ground = Self { image, mount, _base: base };
        if !quietly(&mut ground.mounting()) {
            eprintln!("SKIPPED: a loop device cannot be mounted here as {kind}");
            return None;
        }
        Some(ground)
    }

    /// Mounts so many bytes of memory, which are full when they are full.
    pub(crate) fn memory(bytes: u64) -> Self {
        let base = tempfile::tempdir().unwrap();
        let mount = base.path().join("mount");
        fs::create_dir(&mount).unwrap();
        let size = format!("size={bytes}");
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &size, "none"]).arg(&mount));
        Self { image: PathBuf::new(), mount, _base: base }
    }

    /// Gives memory more room.
    pub(crate) fn grow(&self, bytes: u64) {
        let size = format!("remount,size={bytes}");
        run(Command::new("mount").args(["-o", &size]).arg(&self.mount));
    }

    fn mounting(&self) -> Command {
        let mut command = Command::new("mount");
        command.args(["-o", "loop"]).args([&self.image, &self.mount]);
        command
    }

    /// Where the store lies.
    pub(crate) fn home(&self) -> PathBuf {
        self.mount.join("home")
    }

    /// The folder the file system is mounted on.
    pub(crate) fn folder(&self) -> &Path {
        &self.mount
    }

    /// Every write and sync fails from now on, and what the file system had only in memory, its log included, is lost:
    /// what a power cut leaves, but for what the disk itself had not written down.
    pub(crate) fn cut(&self) {
        run(Command::new("xfs_io").args(["-x", "-c", "shutdown"]).arg(&self.mount));
    }

    /// Turns the power on again: the file system repairs itself from its log.
    pub(crate) fn restore(&self) {
        self.leave();
        run(&mut self.mounting());
    }

    /// Unmounts, so that everything is in the image, and returns the image.
    pub(crate) fn image(&self) -> File {
        self.leave();
        File::open(&self.image).unwrap()
    }

    fn leave(&self) {
        run(Command::new("umount").arg(&self.mount));
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        // Nothing is mounted if the test took the image.
        quietly(Command::new("umount").arg(&self.mount));
    }
}
