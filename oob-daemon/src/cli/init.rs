//! `init`: makes an identity, and an organisation if one is named.

use super::{args, args::Args, is_initialised, passphrase, printer::Printer, progress::Progress};
use crate::{failure::Failure, schema::Me, service, settings::Home};
use oob_core::{Node, Passphrase};
use std::fs;

/// A file that is in the home while an identity is made there, and stays if that was cut off: then `init` may finish it.
const BEGUN: &str = "init.begun";

pub(super) async fn run(
    options: &args::Init,
    args: &Args,
    home: &Home,
    printer: &Printer,
) -> Result<(), Failure> {
    let begun = home.path().join(BEGUN);
    // Before a person thinks of a passphrase.
    if is_initialised(home) && !begun.exists() {
        return Err(Failure::new(
            "already_initialised",
            format!("there is an identity in {} already", home.path().display()),
        )
        .hint("use it with: oob up, or choose another folder: --home DIR"));
    }
    let passphrase = passphrase::choose(args.passphrase_file.as_deref())?;
    service::private_folder(home.path()).map_err(|e| {
        Failure::file(format!("folder {} cannot be made", home.path().display()), &e)
    })?;
    fs::write(&begun, "")
        .map_err(|e| Failure::file(format!("{} cannot be written", begun.display()), &e))?;
    let progress = Progress::start(printer, "deriving the key that locks this folder");
    let made = Node::builder(home.path())
        .identity(options.name.as_str())
        .passphrase(Passphrase::new(passphrase))
        .kdf_memory_kib(options.kdf_memory)
        .init_only(options.org.as_deref())
        .await;
    drop(progress);
    if made.is_ok() || !is_initialised(home) {
        let _removed = fs::remove_file(&begun);
    }
    let made = made?;
    printer.data(&Me::from(made), |me| match &me.org_name {
        Some(org) => format!("You are {} and have founded {org}, in {}", me.name, me.home),
        None => format!("You are {}, in {}", me.name, me.home),
    });
    printer.talk(if options.org.is_some() {
        "next: oob up, then: oob invite --out FILE"
    } else {
        "next: oob up, then: oob join FILE"
    });
    Ok(())
}
