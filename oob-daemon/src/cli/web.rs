//! `web`: opens the page of the running daemon.

use super::{args, connect, printer::Printer};
use crate::{
    failure::Failure,
    schema::{Nothing, WebTicket},
    settings::Home,
};
use std::{
    env, fs,
    io::{self, IsTerminal, Write},
    os::unix::{fs::OpenOptionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

pub(super) async fn run(
    options: &args::Web,
    json: bool,
    home: &Home,
    printer: &Printer,
) -> Result<(), Failure> {
    let mut client = connect(home).await?;
    let ticket: WebTicket = client.post("/api/v1/web/ticket", &Nothing {}).await?;
    printer.data(&ticket, |ticket| ticket.url.clone());
    let opened = !options.no_open && !json && has_desktop() && open(home.path(), &ticket.url);
    printer.talk(if opened {
        "the page opens in your browser; this address is good once and for a minute"
    } else {
        "open this address in a browser on this machine; it is good once and for a minute"
    });
    Ok(())
}

/// Says whether somebody sits here who could see a browser.
fn has_desktop() -> bool {
    let named = |name| env::var_os(name).is_some_and(|value| !value.is_empty());
    io::stdout().is_terminal() && (named("WAYLAND_DISPLAY") || named("DISPLAY"))
}

/// Opens a browser at an address, and says whether it was asked to. Every user of this machine can read a command's arguments,
/// so the browser is given a file of this user's alone, which leads to the address.
fn open(home: &Path, url: &str) -> bool {
    let Ok(file) = write(home, url) else { return false };
    Command::new("xdg-open")
        .arg(file)
        // On its own, so that it goes on when the terminal is closed at once.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .is_ok()
}

/// Writes the file; what it leads to is void after a minute, and the next one takes its place.
fn write(home: &Path, url: &str) -> io::Result<PathBuf> {
    let path = home.join("web.html");
    match fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    // The address is ours: letters, digits and the marks of an address.
    writeln!(
        file,
        "<!doctype html><meta charset=\"utf-8\"><meta name=\"referrer\" content=\"no-referrer\">\
         <meta http-equiv=\"refresh\" content=\"0;url={url}\"><title>oob</title><a href=\"{url}\">Open oob</a>"
    )?;
    Ok(path)
}
