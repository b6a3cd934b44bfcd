//! `join`: goes into an organisation with an invitation from a file or a link.

use super::{args, connect, printer::Printer, progress::Progress};
use crate::{
    failure::Failure,
    schema::{JoinRequest, Joined},
    settings::Home,
};
use std::{fs::File, io::Read, path::Path};

/// What every link starts with.
const LINK: &str = "oob:";

/// Longest file read: several times the longest link.
const FILE_BYTES: u64 = 64 * 1024;

pub(super) async fn run(
    options: &args::Join,
    home: &Home,
    printer: &Printer,
) -> Result<(), Failure> {
    let mut client = connect(home).await?;
    let invite = if options.invite.trim_start().starts_with(LINK) {
        options.invite.clone()
    } else {
        read(Path::new(&options.invite))?
    };
    let progress = Progress::start(printer, "looking for somebody who can admit this device");
    let joined =
        client.post("/api/v1/join", &JoinRequest { invite, name: options.name.clone() }).await;
    drop(progress);
    let joined: Joined = joined?;
    printer.data(&joined, |joined| format!("You are {} in {}", joined.name, joined.org_name));
    Ok(())
}

fn read(path: &Path) -> Result<String, Failure> {
    let failed = |e| {
        Failure::file(format!("invitation {} cannot be read", path.display()), &e).hint(
            "name the file that was handed to you, or the link itself, which starts with oob:join:",
        )
    };
    let mut bytes = Vec::new();
    File::open(path)
        .map_err(failed)?
        .take(FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    let bad = || {
        Failure::new("bad_invite", format!("{} is not an invitation", path.display()))
            .hint("ask for a new one: oob invite --out FILE")
    };
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > FILE_BYTES {
        return Err(bad());
    }
    String::from_utf8(bytes).map_err(|_| bad())
}
