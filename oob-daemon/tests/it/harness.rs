//! Homes and daemons of a test. Each has its own folder and free ports of the loopback interface, and ends with the test.

use serde_json::Value;
use std::{
    env, fs,
    io::{Read, Write},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};
use tempfile::TempDir;

pub(crate) const PASSPHRASE: &str = "four words make one";

/// Longest a test waits for one answer of the local API.
const ANSWER: Duration = Duration::from_secs(60);

/// The program that homes and daemons of tests run: the one built with them, or that of `OOB_BIN`.
pub(crate) fn binary() -> PathBuf {
    env::var_os("OOB_BIN").map_or_else(|| env!("CARGO_BIN_EXE_oob").into(), PathBuf::from)
}

/// What a command did.
pub(crate) struct Done {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Done {
    pub(crate) fn of(output: &Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout.clone()).unwrap(),
            stderr: String::from_utf8(output.stderr.clone()).unwrap(),
        }
    }

    /// The one JSON object on standard output.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.code, 0, "{}{}", self.stdout, self.stderr);
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {:?}", self.stdout))
    }

    /// The JSON objects on standard output, one a line.
    #[track_caller]
    pub(crate) fn lines(&self) -> Vec<Value> {
        self.stdout
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect()
    }

    /// The one error on standard error, with what every error must have.
    #[track_caller]
    pub(crate) fn error(&self, code: &str, exit: i32) -> Value {
        let line: Value = serde_json::from_str(self.stderr.trim())
            .unwrap_or_else(|e| panic!("{e}: {:?}", self.stderr));
        let error = line["error"].clone();
        assert_eq!((error["code"].as_str(), self.code), (Some(code), exit), "{error}");
        assert_eq!(error["exit"], exit);
        assert!(error["causes"].is_array());
        assert!(error["hint"].as_str().is_some_and(|hint| !hint.is_empty()), "no hint: {error}");
        let message = error["message"].as_str().unwrap();
        assert!(!message.is_empty() && !message.ends_with('.'), "{message:?}");
        error
    }
}

/// A folder with an identity, and the daemon that a test starts on it.
pub(crate) struct Home {
    pub(crate) dir: TempDir,
}

impl Home {
    pub(crate) fn new() -> Self {
        let dir = TempDir::with_prefix("oob-it-").unwrap();
        fs::write(dir.path().join("pass"), format!("{PASSPHRASE}\n")).unwrap();
        Self { dir }
    }

    /// A home with an identity in it.
    #[track_caller]
    pub(crate) fn of(name: &str, org: Option<&str>) -> Self {
        let home = Self::new();
        let mut args = vec!["--json", "init", "--kdf-memory", "64MiB", "--name", name];
        args.extend(org.map(|org| ["--org", org]).into_iter().flatten());
        home.oob(&args).json();
        home
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("home")
    }

    pub(crate) fn pass(&self) -> PathBuf {
        self.dir.path().join("pass")
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        self.wrap(Command::new(binary()), args)
    }

    /// Adds what every command of this home has to a program that runs `oob`.
    pub(crate) fn wrap(&self, mut command: Command, args: &[&str]) -> Command {
        if args.iter().any(|arg| matches!(*arg, "init" | "up"))
            && !args.contains(&"--passphrase-file")
        {
            command.arg("--passphrase-file").arg(self.pass());
        }
        // By the environment, so that the hints of a test name no folder of it.
        command.args(args).stdin(Stdio::null()).env("OOB_HOME", self.path()).env("TZ", "UTC");
        command
    }

    pub(crate) fn oob(&self, args: &[&str]) -> Done {
        Done::of(&self.command(args).output().unwrap())
    }

    /// Starts the daemon on free ports of the loopback interface.
    #[track_caller]
    pub(crate) fn up(&self) -> Value {
        self.oob(&[
            "--json",
            "up",
            "--no-mdns",
            "--listen",
            "/ip4/127.0.0.1/tcp/0",
            "--listen",
            "/ip4/127.0.0.1/udp/0/quic-v1",
        ])
        .json()
    }

    #[track_caller]
    pub(crate) fn down(&self) {
        self.oob(&["--json", "down"]).json();
    }

    #[track_caller]
    pub(crate) fn json(&self, args: &[&str]) -> Value {
        let mut all = vec!["--json"];
        all.extend(args);
        self.oob(&all).json()
    }

    /// What a command prints, whatever its exit code is.
    #[track_caller]
    pub(crate) fn json_of_any(&self, args: &[&str]) -> Value {
        let mut all = vec!["--json"];
        all.extend(args);
        serde_json::from_str(&self.oob(&all).stdout).unwrap()
    }

    /// `api.json`.
    pub(crate) fn api(&self) -> Value {
        serde_json::from_slice(&fs::read(self.path().join("api.json")).unwrap()).unwrap()
    }

    /// Comes in as a browser does.
    #[track_caller]
    pub(crate) fn session(&self) -> Session {
        let api = self.api();
        let url = self.json(&["web", "--no-open"])["url"].as_str().unwrap().to_owned();
        let (origin, ticket) = url.split_once("/#t=").unwrap();
        assert_eq!(origin, api["url"].as_str().unwrap());
        let answer = exchange(&api, enter(origin, ticket).as_bytes());
        let set = answer.lines().find_map(|line| line.strip_prefix("set-cookie: "));
        let set = set.unwrap_or_else(|| panic!("no cookie: {answer}"));
        let cookie = set.split(';').next().unwrap().to_owned();
        let body: Value = serde_json::from_str(&parts(&answer).1).unwrap();
        Session { cookie, key: body["key"].as_str().unwrap().to_owned() }
    }

    pub(crate) fn invite(&self) -> PathBuf {
        let path = self
            .dir
            .path()
            .join(format!("{}.invite", fs::read_dir(self.dir.path()).unwrap().count()));
        self.json(&["invite", "--out", path.to_str().unwrap()]);
        path
    }
}

/// What a page of ours shows: what the browser adds by itself, and what the page says.
pub(crate) struct Session {
    pub(crate) cookie: String,
    pub(crate) key: String,
}

impl Session {
    /// Both as lines of a request.
    pub(crate) fn headers(&self) -> String {
        let Self { cookie, key } = self;
        format!("Cookie: {cookie}\r\nOob-Page-Key: {key}\r\n")
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        // A daemon that this test left running, by its own socket.
        if self.path().join("api.json").exists() {
            let _stopped = self.command(&["down"]).output();
        }
    }
}

/// Two people of one organisation who have a link.
pub(crate) struct Two {
    pub(crate) dana: Home,
    pub(crate) sam: Home,
}

impl Two {
    #[track_caller]
    pub(crate) fn met() -> Self {
        let dana = Home::of("Dana", Some("Harbour Clinic"));
        dana.up();
        let sam = Home::of("Sam", None);
        sam.up();
        sam.json(&["join", dana.invite().to_str().unwrap()]);
        // Says that keys and links are there: it waits for the receipt itself.
        dana.json(&["send", "sam", "first", "--wait", "delivered", "--timeout", "90s"]);
        Self { dana, sam }
    }
}

/// Sends bytes to the TCP side of a local API and returns the status and the body.
pub(crate) fn http(api: &Value, request: &[u8]) -> (u16, String) {
    parts(&exchange(api, request))
}

/// Sends bytes to the TCP side of a local API and returns the whole answer.
pub(crate) fn exchange(api: &Value, request: &[u8]) -> String {
    let address = api["url"].as_str().unwrap().strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(ANSWER)).unwrap();
    stream.write_all(request).unwrap();
    whole(&mut stream)
}

pub(crate) fn answer(stream: &mut impl Read) -> (u16, String) {
    parts(&whole(stream))
}

fn whole(stream: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    // A daemon that closes early resets the rest; what it said before counts.
    let _ended = stream.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Splits an answer into its status and its body.
pub(crate) fn parts(text: &str) -> (u16, String) {
    let status = text
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3))
        .and_then(|code| code.parse().ok())
        .unwrap_or(0);
    let body = text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default();
    (status, body)
}

/// The request of a page that trades its ticket.
pub(crate) fn enter(origin: &str, ticket: &str) -> String {
    let host = origin.strip_prefix("http://").unwrap();
    let body = format!("{{\"ticket\":\"{ticket}\"}}");
    let length = body.len();
    format!(
        "POST /api/v1/web/session HTTP/1.1\r\nHost: {host}\r\nOrigin: {origin}\r\nConnection: close\r\n\
         Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

/// Every file below a folder.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if fs::symlink_metadata(&path).unwrap().is_dir() {
            found.extend(files(&path));
        }
        found.push(path);
    }
    found
}

/// Replaces what differs from run to run: ids, times, numbers of milliseconds and processes, paths and addresses.
pub(crate) fn shape(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| {
                let value = match (key.as_str(), value) {
                    (_, Value::Null) => Value::Null,
                    (key, Value::Number(_))
                        if key.ends_with("_ms") || key == "pid" || key == "ms" =>
                    {
                        "<number>".into()
                    }
                    ("home" | "socket" | "invite", Value::String(_)) => "<path>".into(),
                    ("api", Value::String(_)) => "<url>".into(),
                    ("link", Value::String(_)) => "<link>".into(),
                    (
                        "id" | "member" | "device" | "org" | "conversation" | "author",
                        Value::String(id),
                    ) => {
                        assert!(
                            id.chars().all(|c| matches!(c, 'a'..='z' | '2'..='7')),
                            "{key} {id}"
                        );
                        "<id>".into()
                    }
                    ("sent" | "received" | "expires" | "last_heard", Value::String(time)) => {
                        assert!(
                            time.len() == 24 && time.ends_with('Z') && time.as_bytes()[19] == b'.',
                            "{time}"
                        );
                        "<time>".into()
                    }
                    ("listen", Value::Array(_)) => "<addresses>".into(),
                    ("address", Value::String(_)) => "<address>".into(),
                    (_, value) => shape(value),
                };
                (key.clone(), value)
            })
            .collect(),
        Value::Array(items) => items.iter().map(shape).collect(),
        other => other.clone(),
    }
}
