//! Starts daemons as processes of their own: in the background for `up`, tied to this process for the demo, benches and tests.

use crate::{
    client::Client,
    failure::Failure,
    schema::{Me, Ready, Report},
    service::millis,
};
use std::{
    env,
    ffi::OsString,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

/// How long a daemon may take to be ready: the dearest key derivation on a slow machine takes half of it.
const READY_TIME: Duration = Duration::from_secs(120);

/// How long a daemon may take to stop by itself before it is ended: longer than it gives its own store.
const STOP_TIME: Duration = Duration::from_secs(15);

/// Longest line of a report, and most of what a failed start may say.
const REPORT_BYTES: u64 = 256 * 1024;

/// What a daemon is started with.
#[derive(Debug, Clone)]
pub struct Launch {
    program: PathBuf,
    lead: Vec<OsString>,
    home: PathBuf,
    passphrase: String,
    options: Vec<OsString>,
}

impl Launch {
    /// Starts this very program again, on a home.
    ///
    /// # Errors
    /// The system does not tell which program this is.
    pub fn this_program(home: &Path, passphrase: &str) -> Result<Self, Failure> {
        let program = env::current_exe()
            .map_err(|e| Failure::internal("this program cannot find itself").cause(e))?;
        Ok(Self::program(program, home, passphrase))
    }

    /// Starts another program that is an `oob`.
    pub fn program(program: PathBuf, home: &Path, passphrase: &str) -> Self {
        Self {
            program,
            lead: Vec::new(),
            home: home.to_owned(),
            passphrase: passphrase.to_owned(),
            options: Vec::new(),
        }
    }

    /// Puts arguments before all others: a program that is more than an `oob` knows itself by them.
    #[must_use]
    pub fn lead(mut self, argument: impl Into<OsString>) -> Self {
        self.lead.push(argument.into());
        self
    }

    /// Adds an argument of `up`.
    #[must_use]
    pub fn option(mut self, argument: impl Into<OsString>) -> Self {
        self.options.push(argument.into());
        self
    }

    /// Listens on free ports of the loopback interface only and neither looks nor answers by mDNS: for daemons on one machine.
    #[must_use]
    pub fn loopback(self) -> Self {
        [
            "--no-mdns",
            "--listen",
            "/ip4/127.0.0.1/tcp/0",
            "--listen",
            "/ip4/127.0.0.1/udp/0/quic-v1",
        ]
        .into_iter()
        .fold(self, Self::option)
    }

    /// Makes the home, with the cheapest key derivation there is.
    ///
    /// # Errors
    /// What `init` says.
    pub async fn init(&self, name: &str, org: Option<&str>) -> Result<Me, Failure> {
        let mut command = self.command("init");
        command.args(["--json", "--kdf-memory", "64MiB", "--name", name]);
        if let Some(org) = org {
            command.args(["--org", org]);
        }
        let mut child = spawn(command, Bond::Tied)?;
        hand_over(&mut child, &self.passphrase).await?;
        let output = timeout(READY_TIME, child.wait_with_output())
            .await
            .map_err(|_| too_slow("the home was not made"))?
            .map_err(|e| Failure::internal("a started program was lost").cause(e))?;
        if !output.status.success() {
            return Err(failure_of(&output.stderr));
        }
        serde_json::from_slice(&output.stdout)
            .map_err(|e| Failure::internal("init printed what cannot be read").cause(e))
    }

    /// Starts the daemon, tied to this process: it stops when this one ends, however it does.
    ///
    /// # Errors
    /// What the daemon says, or that it was not ready in time; it is ended then.
    pub async fn start(&self) -> Result<Launched, Failure> {
        let began = Instant::now();
        let (child, stdin, ready) = self.begin(Bond::Tied, |_| {}).await?;
        Ok(Launched {
            child,
            stdin: Some(stdin),
            home: self.home.clone(),
            ready,
            began,
            ready_ms: millis(began.elapsed()),
        })
    }

    /// Starts the daemon in the background and leaves it there.
    pub(crate) async fn start_detached(&self, note: impl FnMut(String)) -> Result<Ready, Failure> {
        let (_left_running, _stdin, ready) = self.begin(Bond::Detached, note).await?;
        Ok(ready)
    }

    async fn begin(
        &self,
        bond: Bond,
        note: impl FnMut(String),
    ) -> Result<(Child, ChildStdin, Ready), Failure> {
        let mut command = self.command("up");
        command.args(["--foreground", "--child", bond.word()]).args(&self.options);
        let mut child = spawn(command, bond)?;
        let stdin = hand_over(&mut child, &self.passphrase).await;
        let stdout = child
            .stdout
            .take()
            .ok_or_else(|| Failure::internal("a started program has no output"))?;
        match timeout(READY_TIME, reports(stdout, note)).await {
            Ok(Ok(Some(ready))) => Ok((child, stdin?, ready)),
            Ok(Ok(None)) => {
                let mut said = Vec::new();
                if let Some(stderr) = child.stderr.take() {
                    let _read = stderr.take(REPORT_BYTES).read_to_end(&mut said).await;
                }
                Err(failure_of(&said))
            }
            Ok(Err(failure)) => Err(failure),
            Err(_) => {
                let _ended = child.kill().await;
                Err(too_slow("the daemon was not ready"))
            }
        }
    }

    fn command(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.program);
        command
            .args(&self.lead)
            .arg(verb)
            .arg("--home")
            .arg(&self.home)
            .args(["--passphrase-file", "-"]);
        command
    }
}

/// A daemon tied to this process. Dropping it ends the daemon at once.
#[derive(Debug)]
pub struct Launched {
    child: Child,
    stdin: Option<ChildStdin>,
    home: PathBuf,
    ready: Ready,
    began: Instant,
    ready_ms: u64,
}

impl Launched {
    /// Returns what it said when it was ready.
    pub fn ready(&self) -> &Ready {
        &self.ready
    }

    /// Returns milliseconds from the start of its process until it answered.
    pub fn ready_ms(&self) -> u64 {
        self.ready_ms
    }

    /// Returns how long ago it was started.
    pub fn age(&self) -> Duration {
        self.began.elapsed()
    }

    /// Connects to it.
    ///
    /// # Errors
    /// It is gone.
    pub async fn client(&self) -> Result<Client, Failure> {
        Client::connect(&self.home).await
    }

    /// Asks it to stop and waits until its process is gone; ends it if it takes too long.
    ///
    /// # Errors
    /// It had to be ended, or it stopped with a failure.
    pub async fn stop(mut self) -> Result<(), Failure> {
        drop(self.stdin.take());
        match timeout(STOP_TIME, self.child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(Failure::internal(format!(
                "the daemon of {} ended with {status}",
                self.home.display()
            ))),
            Ok(Err(e)) => Err(Failure::internal("a started program was lost").cause(e)),
            Err(_) => {
                let _ended = self.child.kill().await;
                Err(too_slow("the daemon did not stop"))
            }
        }
    }

    /// Ends its process at once, as a power cut would, and waits until it is gone.
    ///
    /// # Errors
    /// The process was not ours to end.
    pub async fn kill(mut self) -> Result<(), Failure> {
        self.child
            .kill()
            .await
            .map_err(|e| Failure::internal("a started program was lost").cause(e))
    }
}

/// What becomes of a started daemon when this process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bond {
    /// It ends too.
    Tied,
    /// It goes on, in a session of its own.
    Detached,
}

impl Bond {
    const fn word(self) -> &'static str {
        match self {
            Self::Tied => "tied",
            Self::Detached => "detached",
        }
    }
}

fn spawn(mut command: Command, bond: Bond) -> Result<Child, Failure> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if bond == Bond::Tied {
        // In a group of its own, so that Ctrl-C reaches this process alone, which then stops it in order.
        command.kill_on_drop(true).process_group(0);
    }
    command.spawn().map_err(|e| Failure::internal("this program cannot be started again").cause(e))
}

/// Gives the passphrase through the pipe: arguments and environment can be read by others.
async fn hand_over(child: &mut Child, passphrase: &str) -> Result<ChildStdin, Failure> {
    let mut stdin =
        child.stdin.take().ok_or_else(|| Failure::internal("a started program has no input"))?;
    let given = async {
        stdin.write_all(passphrase.as_bytes()).await?;
        stdin.write_all(b"\n").await?;
        stdin.flush().await
    };
    given
        .await
        .map_err(|e| Failure::internal("a started program did not take its passphrase").cause(e))?;
    Ok(stdin)
}

/// Reads reports until the daemon is ready, failed (an error) or silent (none).
async fn reports(
    stdout: ChildStdout,
    mut note: impl FnMut(String),
) -> Result<Option<Ready>, Failure> {
    let mut lines = BufReader::new(stdout.take(REPORT_BYTES)).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        match serde_json::from_str(&line) {
            Ok(Report::Note(text)) => note(text),
            Ok(Report::Ready(ready)) => return Ok(Some(ready)),
            Ok(Report::Error(error)) => return Err(crate::schema::ErrorLine { error }.into()),
            Err(e) => {
                return Err(Failure::internal("the daemon reported what cannot be read").cause(e));
            }
        }
    }
    Ok(None)
}

fn failure_of(stderr: &[u8]) -> Failure {
    let text = String::from_utf8_lossy(stderr);
    let line = text
        .lines()
        .rev()
        .find_map(|line| serde_json::from_str::<crate::schema::ErrorLine>(line).ok());
    line.map_or_else(
        || {
            Failure::internal("the daemon ended before it was ready")
                .cause(text.trim().lines().last().unwrap_or("it said nothing"))
        },
        Failure::from,
    )
}

fn too_slow(what: &str) -> Failure {
    Failure::new("timeout", format!("{what} in time"))
        .hint("this machine may be overloaded or short of memory; look at oob.log in the home")
}
