//! The command line: one file for each noun. Each asks the daemon and hands what it got to the printer.

mod args;
mod passphrase;
mod printer;
mod progress;

mod address;
mod alert;
mod backup;
mod completions;
mod demonstrate;
mod doctor;
mod down;
mod init;
mod invite;
mod join;
mod log;
mod org;
mod send;
mod status;
mod up;
mod web;

#[cfg(feature = "doors")]
pub(crate) use args::door as arguments;

use crate::{client::Client, failure::Failure, schema::Me, settings::Home};
use args::{AddressVerb, Args, Complete, Verb};
use printer::Printer;
use std::{
    ffi::OsString, fs, future::Future, os::unix::fs::MetadataExt, path::Path, process::ExitCode,
};

/// Runs a command line, the first argument being the program's name, and returns its exit code.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    // Before any file, socket or folder is made.
    rustix::process::umask(rustix::fs::Mode::RWXG | rustix::fs::Mode::RWXO);
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let args = match args::parse(&arguments) {
        Ok(args) => args,
        Err(args::Unparsed::Shown(text)) => return Printer::new(false, false).show(&text),
        Err(args::Unparsed::Misuse { json, failure }) => {
            return Printer::new(json, false).failed(&failure);
        }
    };
    let named = args::named_home(&arguments, &args);
    let printer = Printer::new(args.json, args.quiet).with_home(named.as_deref());
    match dispatch(&args, &printer) {
        Ok(code) => printer.finish(code),
        Err(failure) => printer.failed(&failure),
    }
}

fn dispatch(args: &Args, printer: &Printer) -> Result<ExitCode, Failure> {
    let home = || Home::resolve(args.home.as_deref());
    let done = |()| ExitCode::SUCCESS;
    match &args.verb {
        Verb::Init(options) => block_on(init::run(options, args, &home()?, printer)).map(done),
        Verb::Up(options) => up::run(options, args, &home()?, printer).map(done),
        Verb::Down => block_on(down::run(&home()?, printer)).map(done),
        Verb::Status(options) => block_on(status::run(options, &home()?, printer)).map(done),
        Verb::Invite(options) => {
            block_on(invite::run(options, args.yes, &home()?, printer)).map(done)
        }
        Verb::Join(options) => block_on(join::run(options, &home()?, printer)).map(done),
        Verb::Address { verb: AddressVerb::Add { address } } => {
            block_on(address::add(address, &home()?, printer)).map(done)
        }
        Verb::Address { verb: AddressVerb::List } => {
            block_on(address::list(&home()?, printer)).map(done)
        }
        Verb::Send(options) => block_on(send::run(options, &home()?, printer)),
        Verb::Log(options) => block_on(log::run(options, &home()?, printer)).map(done),
        Verb::Org { verb } => block_on(org::run(verb, args.yes, &home()?, printer)).map(done),
        Verb::Alert { verb } => block_on(alert::run(verb, args.yes, &home()?, printer)).map(done),
        Verb::Backup { verb } => {
            block_on(backup::run(verb, args, args.yes, &home()?, printer)).map(done)
        }
        Verb::Doctor => block_on(doctor::run(&home()?, printer)),
        Verb::Completions { shell } => {
            completions::completions(*shell, printer);
            Ok(ExitCode::SUCCESS)
        }
        Verb::Man { out } => completions::man(out.as_deref(), printer).map(done),
        Verb::Complete { what: Complete::People { begin } } => {
            block_on(completions::people(begin, &home()?, printer)).map(done)
        }
        Verb::Web(options) => block_on(web::run(options, args.json, &home()?, printer)).map(done),
        Verb::Demo(options) => block_on(demonstrate::run(options, printer)),
    }
}

/// Runs what a command does. One thread is enough: it waits for the daemon most of the time.
fn block_on<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::internal("no runtime").cause(e))?;
    runtime.block_on(work)
}

/// Connects to the daemon of a home, or says what is missing.
async fn connect(home: &Home) -> Result<Client, Failure> {
    let own = match home.socket() {
        Ok(socket) => Client::connect_to(socket).await,
        Err(failure) => Err(failure),
    };
    let Err(failure) = own else { return own };
    // Where the path is too long the daemon chose the folder, perhaps with another environment than this one's.
    if let Some(file) = crate::service::read_api_file(home)
        && home.socket().ok().is_none_or(|own| own.as_os_str() != file.socket.as_str())
        && let Ok(mut client) = Client::connect_to(file.socket.into()).await
    {
        return match client.get::<Me>("/api/v1/me").await?.home {
            theirs if is_same_folder(home.path(), Path::new(&theirs)) => Ok(client),
            theirs => Err(copied(home, &theirs)),
        };
    }
    if failure.code() == "not_running" && !is_initialised(home) {
        return Err(Failure::new(
            "not_running",
            format!("no daemon is running, and there is no identity in {}", home.path().display()),
        )
        .hint("make one first: oob init --name YOUR_NAME, then: oob up"));
    }
    Err(failure)
}

/// Says whether two paths lead to one folder, whatever they are called.
fn is_same_folder(one: &Path, other: &Path) -> bool {
    match (fs::metadata(one), fs::metadata(other)) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    }
}

/// Refuses to command the daemon of the folder that this one is a copy of.
fn copied(home: &Home, theirs: &str) -> Failure {
    Failure::new("not_running", format!("no daemon is running on {}", home.path().display()))
        .cause(format!("this folder is a copy of {theirs}, whose daemon runs"))
        .hint(format!("for that one: oob --home {theirs} COMMAND; never start a copy while the other is in use"))
}

/// Says whether anything of an identity is in a home.
fn is_initialised(home: &Home) -> bool {
    ["keyring", "store", "slots"].iter().any(|name| home.path().join(name).exists())
}

/// Writes a text as one value of a query: everything but letters and digits as percent and hex.
fn encoded(text: &str) -> String {
    let mut out = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
