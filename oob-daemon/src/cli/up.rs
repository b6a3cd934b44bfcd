//! `up`: starts the daemon, in the background unless told.

use super::{
    args,
    args::{Args, Child},
    block_on, is_initialised, passphrase,
    printer::{self, Printer},
    progress::Progress,
};
use crate::{
    client::Client,
    failure::Failure,
    launch::Launch,
    schema::{Ready, Report},
    service::{self, Start},
    settings::Home,
};
use oob_core::Passphrase;
use std::process;
use tokio_util::sync::CancellationToken;

pub(super) fn run(
    options: &args::Up,
    args: &Args,
    home: &Home,
    printer: &Printer,
) -> Result<(), Failure> {
    if options.child == Some(Child::Detached) {
        service::detach()?;
    }
    let outcome = start(options, args, home, printer);
    match (options.child, outcome) {
        (Some(_), Err(failure)) => {
            // Said once, to the process that started this one, and in its own words there.
            printer::report(&Report::Error(failure.to_line().error));
            process::exit(i32::from(failure.exit()));
        }
        (_, outcome) => outcome,
    }
}

fn start(options: &args::Up, args: &Args, home: &Home, printer: &Printer) -> Result<(), Failure> {
    service::check_api_address(options.api)?;
    // Before a person is asked for a passphrase, and before it costs a second to try it.
    if !is_initialised(home) {
        return Err(Failure::new(
            "not_initialised",
            format!("there is no identity in {}", home.path().display()),
        )
        .hint("make one first: oob init --name YOUR_NAME"));
    }
    home.settings()?;
    let socket = home.socket()?;
    if let Ok(client) = block_on(Client::connect_to(socket)) {
        let process = client.pid().map_or_else(String::new, |pid| format!(" as process {pid}"));
        return Err(Failure::new(
            "already_running",
            format!("a daemon is running on {}{process}", home.path().display()),
        )
        .hint("see how it stands: oob status; or stop it: oob down"));
    }
    let passphrase = passphrase::read(args.passphrase_file.as_deref())?;
    if options.foreground {
        serve(options, home, passphrase, printer)
    } else {
        block_on(background(options, home, &passphrase, printer))
    }
}

async fn background(
    options: &args::Up,
    home: &Home,
    passphrase: &str,
    printer: &Printer,
) -> Result<(), Failure> {
    let mut launch = Launch::this_program(home.path(), passphrase)?
        .option("--api")
        .option(options.api.to_string());
    for address in &options.listen {
        launch = launch.option("--listen").option(address);
    }
    if options.no_mdns {
        launch = launch.option("--no-mdns");
    }
    if options.no_beacon {
        launch = launch.option("--no-beacon");
    }
    let progress = Progress::start(printer, "opening the store");
    let ready = launch.start_detached(|note| progress.aside(|| printer.notice(&note))).await?;
    drop(progress);
    printer.data(&ready, words);
    Ok(())
}

fn serve(
    options: &args::Up,
    home: &Home,
    passphrase: String,
    printer: &Printer,
) -> Result<(), Failure> {
    let stop = CancellationToken::new();
    if options.child == Some(Child::Tied) {
        service::stop_with_stdin(stop.clone())?;
    }
    let start = Start {
        home: home.clone(),
        passphrase: Passphrase::new(passphrase),
        listen: options.listen.clone(),
        api: options.api,
        mdns: !options.no_mdns,
        beacon: !options.no_beacon,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::internal("no runtime").cause(e))?;
    let progress = Progress::start(printer, "opening the store");
    runtime.block_on(service::serve(start, stop, move |ready, note| {
        drop(progress);
        passphrase::leave_signals();
        tell(options.child, &ready, note, printer);
    }))
}

fn tell(child: Option<Child>, ready: &Ready, note: Option<String>, printer: &Printer) {
    match (child, note) {
        (Some(_), Some(note)) => printer::report(&Report::Note(note)),
        (None, Some(note)) => printer.notice(&note),
        (_, None) => {}
    }
    if child.is_some() {
        printer::report(&Report::Ready(ready.clone()));
    } else {
        printer.data(ready, words);
    }
    if child == Some(Child::Detached)
        && let Err(e) = service::silence()
    {
        tracing::warn!("the standard streams stay open: {e}");
    }
}

fn words(ready: &Ready) -> String {
    let mut text = format!("ready after {} ms, process {}", ready.ready_ms, ready.pid);
    for address in &ready.listen {
        text.push_str("\nlistening at ");
        text.push_str(address);
    }
    text
}
