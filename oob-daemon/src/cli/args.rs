//! What can be typed.

use crate::failure::Failure;
use clap::{CommandFactory, Parser, Subcommand, ValueEnum, error::ErrorKind};
use clap_complete::Shell;
use std::{ffi::OsString, net::SocketAddr, path::PathBuf, time::Duration};

/// Talk to your team when the network you are on can no longer be trusted.
#[derive(Debug, Parser)]
#[command(name = "oob", version, propagate_version = false)]
pub(super) struct Args {
    /// Use this folder instead of the user's own.
    #[arg(long, global = true, value_name = "DIR", env = "OOB_HOME", hide_env_values = true)]
    pub(super) home: Option<PathBuf>,
    /// Read the passphrase from the first line of this file; - is standard input.
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) passphrase_file: Option<PathBuf>,
    /// Print JSON, one object a line.
    #[arg(long, global = true)]
    pub(super) json: bool,
    /// Do not ask before overwriting.
    #[arg(long, global = true)]
    pub(super) yes: bool,
    /// Print results and errors only.
    #[arg(long, global = true)]
    pub(super) quiet: bool,
    #[command(subcommand)]
    pub(super) verb: Verb,
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Make your identity, and with --org an organisation.
    ///
    /// Example: oob init --name Dana --org "Harbour Clinic"
    Init(Init),
    /// Start the daemon.
    ///
    /// Example: oob up
    Up(Up),
    /// Stop the daemon and wait until it is gone.
    Down,
    /// Show who can be reached, and who was last heard when.
    ///
    /// Example: oob status --watch
    Status(Status),
    /// Invite somebody into the organisation.
    ///
    /// Example: oob invite --out sam.invite
    Invite(Invite),
    /// Join an organisation with an invitation.
    ///
    /// Example: oob join sam.invite
    Join(Join),
    /// Say where another device is, or list what is known.
    ///
    /// Example: oob address add 192.168.1.7:4801
    Address {
        #[command(subcommand)]
        verb: AddressVerb,
    },
    /// Send a text.
    ///
    /// Example: oob send dana "Mail is compromised. Talk here."
    Send(Send),
    /// Show a conversation, oldest first, and mark it as read.
    ///
    /// Example: oob log dana --since 1h
    Log(Log),
    /// Alert everybody, and see who has answered.
    ///
    /// Example: oob alert send "Do not log in. Mail is compromised." --severity critical
    Alert {
        #[command(subcommand)]
        verb: AlertVerb,
    },
    /// Show who decides in the organisation, propose, and sign what others proposed.
    ///
    /// Example: oob org show
    Org {
        #[command(subcommand)]
        verb: OrgVerb,
    },
    /// Copy this home to a file, make a home of one, or go back to a snapshot.
    ///
    /// Example: oob backup write /media/stick/dana.oobcopy
    Backup {
        #[command(subcommand)]
        verb: BackupVerb,
    },
    /// Look for what is wrong with this machine, this home and this network, and say what to do.
    ///
    /// It changes nothing, and sends nothing off this machine. Exit code 10 if anything is wrong.
    ///
    /// Example: oob doctor
    Doctor,
    /// Print what your shell needs to complete commands, options and names.
    ///
    /// Example: oob completions bash > ~/.local/share/bash-completion/completions/oob
    Completions {
        /// Which shell.
        shell: Shell,
    },
    /// Print the manual page, or write those of all commands into a folder.
    ///
    /// Example: oob man --out ~/.local/share/man/man1
    Man {
        /// The folder; it is made if it is not there.
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
    /// What the scripts for shells ask.
    #[command(name = "__complete", hide = true)]
    Complete {
        #[command(subcommand)]
        what: Complete,
    },
    /// Open the web page of the running daemon.
    ///
    /// Example: oob web
    Web(Web),
    /// Watch three daemons on this machine meet and talk.
    ///
    /// Example: oob demo --once
    Demo(Demo),
}

#[derive(Debug, Subcommand)]
pub(super) enum BackupVerb {
    /// Write everything but the secrets of the moment to a new file, under a passphrase of its own.
    ///
    /// The daemon must be stopped meanwhile.
    ///
    /// Example: oob backup write /media/stick/dana.oobcopy
    Write {
        /// The file, which must not be there yet.
        file: PathBuf,
        #[command(flatten)]
        key: BackupKey,
        /// Memory that each try of the backup's passphrase costs; 64MiB at least.
        #[arg(long, value_name = "SIZE", value_parser = memory, default_value = "256MiB")]
        kdf_memory: u32,
    },
    /// Read a backup to its end and say what it holds. Exit code 9 if it is not whole.
    ///
    /// Example: oob backup verify /media/stick/dana.oobcopy
    Verify {
        /// The file.
        file: PathBuf,
        #[command(flatten)]
        key: BackupKey,
    },
    /// Make a home of a backup, in a folder that has none.
    ///
    /// Example: oob --home ~/oob-new backup restore /media/stick/dana.oobcopy
    Restore {
        /// The file.
        file: PathBuf,
        #[command(flatten)]
        key: BackupKey,
        /// Memory that each try of the home's passphrase costs; 64MiB at least.
        #[arg(long, value_name = "SIZE", value_parser = memory, default_value = "256MiB")]
        kdf_memory: u32,
    },
    /// Put a damaged store aside and go on from the last snapshot that this device made by itself.
    ///
    /// Nothing is deleted: what is there goes into the folder quarantine of the home.
    ///
    /// Example: oob backup recover
    Recover,
}

/// The passphrase of a backup, which is another one than that of the home.
#[derive(Debug, clap::Args)]
pub(super) struct BackupKey {
    /// Read the backup's passphrase from the first line of this file; - is standard input.
    #[arg(long, value_name = "FILE")]
    pub(super) backup_passphrase_file: Option<PathBuf>,
}

/// What shells complete with the help of the daemon.
#[derive(Debug, Subcommand)]
pub(super) enum Complete {
    /// Names of the others.
    People {
        /// What was typed so far.
        #[arg(default_value = "", allow_hyphen_values = true)]
        begin: String,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Init {
    /// Your name, as the others shall see it.
    #[arg(long, value_name = "NAME")]
    pub(super) name: String,
    /// Found an organisation of this name.
    #[arg(long, value_name = "NAME")]
    pub(super) org: Option<String>,
    /// Memory that each try of the passphrase costs; 64MiB at least.
    #[arg(long, value_name = "SIZE", value_parser = memory, default_value = "256MiB")]
    pub(super) kdf_memory: u32,
}

#[derive(Debug, clap::Args)]
pub(super) struct Up {
    /// Stay in the foreground, as a service manager wants it.
    #[arg(long)]
    pub(super) foreground: bool,
    /// Listen at this IP:PORT or multiaddr instead of port 4801; may be given several times.
    #[arg(long, value_name = "ADDRESS")]
    pub(super) listen: Vec<String>,
    /// Serve the local API here; port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:0")]
    pub(super) api: SocketAddr,
    /// Neither look for others by mDNS nor answer.
    #[arg(long)]
    pub(super) no_mdns: bool,
    /// Send no beacons on the local networks, and listen to none.
    #[arg(long)]
    pub(super) no_beacon: bool,
    /// How this daemon was started by another process of oob.
    #[arg(long, hide = true, requires = "foreground")]
    pub(super) child: Option<Child>,
}

/// What ties a daemon to the process that started it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Child {
    /// Stop with it.
    Tied,
    /// Outlive it.
    Detached,
}

#[derive(Debug, clap::Args)]
pub(super) struct Status {
    /// Show it again every two seconds until Ctrl-C.
    #[arg(long)]
    pub(super) watch: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Invite {
    /// The role it gives.
    #[arg(long, value_name = "ROLE", default_value = "responder")]
    pub(super) role: String,
    /// How many people may use it.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) uses: u32,
    /// How long it is good.
    #[arg(long, value_name = "TIME", default_value = "15m", value_parser = duration)]
    pub(super) expires: Duration,
    /// Write it to this file instead of printing it.
    #[arg(long, value_name = "FILE")]
    pub(super) out: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Join {
    /// The file, or the link itself.
    #[arg(value_name = "FILE|LINK")]
    pub(super) invite: String,
    /// Join under another name.
    #[arg(long, value_name = "NAME")]
    pub(super) name: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(super) enum AddressVerb {
    /// Try this address from now on.
    Add {
        /// HOST:PORT or a multiaddr.
        #[arg(value_name = "ADDRESS")]
        address: String,
    },
    /// List the addresses known here.
    List,
}

#[derive(Debug, clap::Args)]
pub(super) struct Send {
    /// A name, or person:NAME.
    pub(super) target: String,
    /// What to say; - reads standard input.
    #[arg(allow_hyphen_values = true)]
    pub(super) text: String,
    /// Wait until it has come so far.
    #[arg(long, value_name = "STATE")]
    pub(super) wait: Option<Wait>,
    /// How long to wait.
    #[arg(long, value_name = "TIME", default_value = "10s", value_parser = duration, requires = "wait")]
    pub(super) timeout: Duration,
}

/// How far a message shall come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(super) enum Wait {
    /// Somebody keeps it for the addressee.
    Held,
    /// It is on the addressee's device.
    Delivered,
    /// It was shown there.
    Read,
}

#[derive(Debug, clap::Args)]
pub(super) struct Log {
    /// A name, or person:NAME.
    pub(super) target: String,
    /// Only what came within this time.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub(super) since: Option<Duration>,
}

#[derive(Debug, Subcommand)]
pub(super) enum OrgVerb {
    /// Show the organisation, its admins, and how many of them must sign.
    Show,
    /// Show what waits for signatures: who signed it and who has not.
    Status,
    /// Be an admin.
    Admin {
        #[command(subcommand)]
        verb: AdminVerb,
    },
    /// Propose something that several admins have to sign, and sign it.
    Propose {
        #[command(subcommand)]
        verb: ProposeVerb,
    },
    /// Sign what another admin proposed.
    ///
    /// Example: oob org sign k3vqx2mf
    Sign {
        /// Its id; a beginning that no other has is enough.
        id: String,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum AdminVerb {
    /// Make a key to be an admin with, and tell the others; it gives no right by itself.
    ///
    /// Example: oob org admin offer
    Offer,
}

#[derive(Debug, Subcommand)]
pub(super) enum ProposeVerb {
    /// Propose who the admins are: all of them by name, those who stay too.
    ///
    /// Each must have run `oob org admin offer`; so must those who are admins already if more signatures are asked for than before.
    ///
    /// Example: oob org propose admins dana sam noor --sign 2
    Admins {
        /// Names, or person:NAME.
        #[arg(required = true)]
        names: Vec<String>,
        /// How many of them must sign what one may not do alone; more than half, fewer than all.
        #[arg(long, value_name = "COUNT")]
        sign: Option<usize>,
    },
    /// Propose another name for the organisation.
    ///
    /// Example: oob org propose name "Harbour Clinic North"
    Name {
        /// The name.
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub(super) enum AlertVerb {
    /// Alert everybody.
    ///
    /// Example: oob alert send "Do not log in. Mail is compromised." --severity critical
    Send(AlertSend),
    /// List the alerts, newest first.
    List,
    /// Show one alert, who has acknowledged it, who has not, and who is out of reach.
    ///
    /// Example: oob alert show k3vqx2mf
    Show {
        /// Its id; a beginning that no other has is enough.
        id: String,
    },
    /// Acknowledge an alert.
    ///
    /// Example: oob alert ack k3vqx2mf --answer safe
    Ack {
        /// Its id; a beginning that no other has is enough.
        id: String,
        /// Say this word, such as safe; another one later replaces it. Where the alert offers words, one of them.
        #[arg(long, value_name = "WORD")]
        answer: Option<String>,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct AlertSend {
    /// What to say; - reads standard input.
    #[arg(allow_hyphen_values = true)]
    pub(super) text: String,
    /// How much it asks for.
    #[arg(long, value_name = "SEVERITY", default_value = "info")]
    pub(super) severity: Severity,
    /// Whom to alert; this version alerts everybody.
    #[arg(long, value_name = "AUDIENCE")]
    pub(super) to: Option<String>,
    /// How long it asks for attention, seven days at most.
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = duration)]
    pub(super) expires: Duration,
}

/// How much an alert asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Severity {
    /// To be known.
    Info,
    /// To be acted on.
    Warning,
    /// To be acted on at once.
    Critical,
}

impl Severity {
    /// Returns the word for it.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct Web {
    /// Print the address and open no browser.
    #[arg(long)]
    pub(super) no_open: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Demo {
    /// End after the last step.
    #[arg(long)]
    pub(super) once: bool,
    /// Use this folder and leave it there.
    #[arg(long, value_name = "DIR")]
    pub(super) keep: Option<PathBuf>,
    /// Give up after this time.
    #[arg(long, value_name = "TIME", default_value = "120s", value_parser = duration)]
    pub(super) timeout: Duration,
}

/// Why there are no arguments to act on.
pub(super) enum Unparsed {
    /// Help or the version was asked for.
    Shown(String),
    /// They make no sense.
    Misuse { json: bool, failure: Failure },
}

/// Says whether there is such a command.
pub(super) fn has_verb(word: &str) -> bool {
    Args::command().find_subcommand(word).is_some()
}

/// Returns the home named by `--home` itself: one of the environment is there for the next command too.
pub(super) fn named_home(arguments: &[OsString], args: &Args) -> Option<PathBuf> {
    let words = arguments.iter().take_while(|argument| *argument != "--");
    let named = |argument: &OsString| {
        argument == "--home" || argument.as_encoded_bytes().starts_with(b"--home=")
    };
    words.into_iter().any(named).then(|| args.home.clone()).flatten()
}

/// Returns the commands and options that people may see: scripts and manuals would list hidden ones too.
pub(super) fn visible() -> clap::Command {
    shown(&Args::command())
}

fn shown(command: &clap::Command) -> clap::Command {
    let mut copy = clap::Command::new(command.get_name().to_owned())
        .args(command.get_arguments().filter(|argument| !argument.is_hide_set()).cloned())
        .subcommands(command.get_subcommands().filter(|verb| !verb.is_hide_set()).map(shown));
    if let Some(about) = command.get_about() {
        copy = copy.about(about.clone());
    }
    if let Some(about) = command.get_long_about() {
        copy = copy.long_about(about.clone());
    }
    match command.get_version() {
        Some(version) => copy.version(version.to_owned()),
        None => copy,
    }
}

/// Reads the command line.
pub(super) fn parse(arguments: &[OsString]) -> Result<Args, Unparsed> {
    Args::try_parse_from(arguments).map_err(|error| {
        if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
            return Unparsed::Shown(error.render().to_string());
        }
        let json = arguments
            .iter()
            .take_while(|argument| *argument != "--")
            .any(|argument| argument == "--json");
        Unparsed::Misuse { json, failure: misuse(&error, arguments) }
    })
}

/// Reads a text as a duration, as an amount of memory, and, a word a line, as a command line; says whether it is one. What
/// is none has a failure with a way on.
#[cfg(feature = "doors")]
pub(crate) fn door(text: &str) -> bool {
    let _amounts = (duration(text), memory(text));
    let words: Vec<OsString> =
        ["oob"].into_iter().chain(text.lines()).map(OsString::from).collect();
    match parse(&words) {
        Ok(_) => true,
        Err(Unparsed::Shown(help)) => !help.is_empty(),
        Err(Unparsed::Misuse { failure, .. }) => {
            assert!(failure.next().is_some(), "{failure:?} leads nowhere");
            false
        }
    }
}

fn misuse(error: &clap::Error, arguments: &[OsString]) -> Failure {
    let command = command_of(arguments);
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        let fact = match command.strip_prefix("oob ") {
            Some(command) => format!("{command} needs a command of its own"),
            None => "no command was given".to_owned(),
        };
        return Failure::new("usage", fact).hint(format!("see what there is: {command} --help"));
    }
    let text = error.render().to_string();
    let mut paragraphs = text.split("\n\n");
    let fact = paragraphs.next().unwrap_or_default().trim().trim_start_matches("error: ");
    let fact = fact.split('\n').map(str::trim).collect::<Vec<_>>().join(" ");
    let tips = paragraphs
        .flat_map(str::lines)
        .find_map(|line| line.trim().strip_prefix("tip: ").map(str::to_owned));
    let help = format!("see how it is used: {command} --help");
    Failure::new("usage", fact).hint(match tips {
        Some(tip) => format!("{tip}; {help}"),
        None => help,
    })
}

/// Returns the command that was meant, as far as it can be told: `oob`, `oob send` or `oob address add`.
fn command_of(arguments: &[OsString]) -> String {
    let root = Args::command();
    let (mut command, mut path) = (&root, "oob".to_owned());
    let mut words = arguments.iter().skip(1).map(|argument| argument.to_string_lossy());
    while let Some(word) = words.next() {
        if word == "--" {
            break;
        }
        if let Some(option) = word.strip_prefix("--") {
            let known = root.get_arguments().find(|known| known.get_long() == Some(option));
            if known.is_some_and(|known| known.get_action().takes_values()) {
                let _value = words.next();
            }
        } else if let Some(next) = command.find_subcommand(word.as_ref()) {
            command = next;
            path = format!("{path} {}", next.get_name());
        }
    }
    path
}

/// Reads `90s`, `15m`, `1h`, `7d` or `500ms`.
fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit_ms = match unit.trim() {
        "ms" => 1_u64,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err("write a number and a unit: 500ms, 90s, 15m, 1h or 7d".into()),
    };
    let number: u64 = number
        .parse()
        .map_err(|_| "write a number and a unit: 500ms, 90s, 15m, 1h or 7d".to_owned())?;
    number
        .checked_mul(unit_ms)
        .map(Duration::from_millis)
        .ok_or_else(|| "this is longer than anything lasts".into())
}

/// Reads `256MiB` or `1GiB` as KiB.
fn memory(text: &str) -> Result<u32, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let unit_kib = match unit.trim() {
        "KiB" => 1_u32,
        "MiB" => 1024,
        "GiB" => 1024 * 1024,
        _ => return Err("write a number and a unit: 64MiB, 256MiB or 1GiB".into()),
    };
    let number: u32 = number
        .parse()
        .map_err(|_| "write a number and a unit: 64MiB, 256MiB or 1GiB".to_owned())?;
    number.checked_mul(unit_kib).ok_or_else(|| "no machine has so much memory".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn misuse_names_the_help_of_its_own_command() {
        for (line, help) in [
            ("oob", "oob --help"),
            ("oob --home send", "oob --help"),
            ("oob --home x address", "oob address --help"),
            ("oob address add", "oob address add --help"),
            ("oob address remove", "oob address --help"),
            ("oob send dana", "oob send --help"),
            ("oob invite --expires soon", "oob invite --help"),
            ("oob alert", "oob alert --help"),
            ("oob alert send x --severity huge", "oob alert send --help"),
        ] {
            let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            let Err(Unparsed::Misuse { failure, .. }) = parse(&arguments) else {
                panic!("{line} was understood")
            };
            let hint = failure.next().unwrap_or_default();
            assert!(hint.ends_with(&format!(": {help}")), "{line}: {hint}");
        }
    }

    #[test]
    fn help_can_be_asked_for_as_a_command() {
        for line in ["oob help", "oob help send", "oob help address add"] {
            let arguments: Vec<OsString> = line.split(' ').map(OsString::from).collect();
            assert!(matches!(parse(&arguments), Err(Unparsed::Shown(_))), "{line}");
        }
    }

    #[test]
    fn times_and_sizes_are_read_or_refused() {
        assert_eq!(duration("15m"), Ok(Duration::from_secs(900)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("7d"), Ok(Duration::from_secs(604_800)));
        for bad in [
            "",
            "m",
            "15",
            "15 fortnights",
            "-1s",
            "99999999999999999999s",
            "18446744073709551615d",
            "1.5h",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
        assert_eq!(memory("64MiB"), Ok(65_536));
        for bad in ["", "64", "64MB", "MiB", "99999999GiB"] {
            assert!(memory(bad).is_err(), "{bad}");
        }
    }
}
