//! `backup`: copies a home to a file, makes one of a file, or goes back to a snapshot. All of it works on the home itself, so
//! the daemon must not run meanwhile; the store's lock sees to that.

use super::{
    args::{Args, BackupVerb},
    is_initialised, passphrase,
    printer::Printer,
    progress::Progress,
};
use crate::{
    failure::Failure,
    schema::{Backup, Recovered, Skipped, Stamp},
    settings::Home,
};
use oob_core::{BackupInfo, Node, NodeBuilder, Passphrase};
use std::path::Path;

pub(super) async fn run(
    verb: &BackupVerb,
    args: &Args,
    yes: bool,
    home: &Home,
    printer: &Printer,
) -> Result<(), Failure> {
    match verb {
        BackupVerb::Write { file, key, kdf_memory } => {
            let key = key.backup_passphrase_file.as_deref();
            write(file, key, *kdf_memory, args, home, printer).await
        }
        BackupVerb::Verify { file, key } => {
            verify(file, key.backup_passphrase_file.as_deref(), printer).await
        }
        BackupVerb::Restore { file, key, kdf_memory } => {
            let key = key.backup_passphrase_file.as_deref();
            restore(file, key, *kdf_memory, args, home, printer).await
        }
        BackupVerb::Recover => recover(args, yes, home, printer).await,
    }
}

async fn write(
    file: &Path,
    key: Option<&Path>,
    kdf_memory: u32,
    args: &Args,
    home: &Home,
    printer: &Printer,
) -> Result<(), Failure> {
    needs_identity(home)?;
    // Before anybody is asked anything. The file is made so that it cannot take the place of another later either.
    if file.symlink_metadata().is_ok() {
        return Err(Failure::new("file_exists", format!("{} is there already", file.display()))
            .hint("choose another name; a backup is never written over another"));
    }
    let builder = opened(home, args)?.kdf_memory_kib(kdf_memory);
    let key = Passphrase::new(passphrase::choose_for_backup(key)?);
    let progress = Progress::bar(printer, "writing");
    let mut step = progress.steps();
    let written = builder.write_backup(file, key, move |done, all| step(done, Some(all))).await;
    drop(progress);
    printer.data(&of(written?, Some(file)), |backup| {
        format!("{} records of {} are in {}", backup.records, backup.owner, file.display())
    });
    printer.talk(&format!(
        "read it once where it will lie: oob backup verify {}\n\
         without its passphrase nobody can use it, you neither",
        file.display()
    ));
    Ok(())
}

async fn verify(file: &Path, key: Option<&Path>, printer: &Printer) -> Result<(), Failure> {
    needs_file(file)?;
    let key = Passphrase::new(passphrase::read_of_backup(key)?);
    let progress = Progress::bar(printer, "reading");
    let mut step = progress.steps();
    let read = Node::verify_backup(file, key, move |done| step(done, None)).await;
    drop(progress);
    printer.data(&of(read?, Some(file)), |backup| {
        format!(
            "whole: {} records of {}, written {}",
            backup.records,
            backup.owner,
            backup.written.local()
        )
    });
    Ok(())
}

async fn restore(
    file: &Path,
    key: Option<&Path>,
    kdf_memory: u32,
    args: &Args,
    home: &Home,
    printer: &Printer,
) -> Result<(), Failure> {
    if is_initialised(home) {
        return Err(Failure::new(
            "already_initialised",
            format!("there is an identity in {} already", home.path().display()),
        )
        .hint("restore into another folder: oob --home NEW_DIR backup restore FILE"));
    }
    needs_file(file)?;
    let key = Passphrase::new(passphrase::read_of_backup(key)?);
    let chosen = Passphrase::new(passphrase::choose(args.passphrase_file.as_deref())?);
    let builder = Node::builder(home.path()).passphrase(chosen).kdf_memory_kib(kdf_memory);
    let progress = Progress::bar(printer, "putting back");
    let mut step = progress.steps();
    let restored = builder.restore_backup(file, key, move |done| step(done, None)).await;
    drop(progress);
    printer.data(&recovered(restored?, Some(file), home), |restored| {
        format!(
            "{} records of {} are in {}",
            restored.backup.records, restored.backup.owner, restored.home
        )
    });
    printer.talk(
        "next: oob up. The others notice that this device was restored and send it again what it lacks.\n\
         Never run the old home again: two homes of one device take each other's messages",
    );
    Ok(())
}

async fn recover(args: &Args, yes: bool, home: &Home, printer: &Printer) -> Result<(), Failure> {
    needs_identity(home)?;
    let kept = Node::keepsakes(home.path());
    if let (Some(newest), false) = (kept.newest, yes) {
        let question = format!(
            "Put the store in {} aside and go back to the snapshot of {}?",
            home.path().display(),
            Stamp::from(newest).local()
        );
        if !printer.confirm(&question) {
            return Err(Failure::new("declined", "nothing was changed")
                .hint("to go back without being asked: oob backup recover --yes"));
        }
    }
    let builder = opened(home, args)?;
    let progress = Progress::start(printer, "reading the snapshot");
    let done = builder.recover().await;
    drop(progress);
    printer.data(&recovered(done?, None, home), |done| {
        let mut text = format!(
            "{} records, as they were {}",
            done.backup.records,
            done.backup.written.local()
        );
        if let Some(aside) = &done.quarantine {
            text.push_str(&format!("\nwhat was there lies in {aside}"));
        }
        for skipped in &done.skipped {
            text.push_str(&format!("\nnot used: {} ({})", skipped.file, skipped.reason));
        }
        text
    });
    printer.talk("next: oob up. The others send this device again what it had not confirmed");
    Ok(())
}

/// A node on a home that is there, with its passphrase.
fn opened(home: &Home, args: &Args) -> Result<NodeBuilder, Failure> {
    let text = passphrase::read(args.passphrase_file.as_deref())?;
    Ok(Node::builder(home.path()).passphrase(Passphrase::new(text)))
}

fn needs_identity(home: &Home) -> Result<(), Failure> {
    if is_initialised(home) {
        return Ok(());
    }
    let fact = format!("there is no identity in {}", home.path().display());
    Err(Failure::new("not_initialised", fact)
        .hint("name its folder: oob --home DIR backup …, or make one: oob init --name YOUR_NAME"))
}

fn needs_file(file: &Path) -> Result<(), Failure> {
    match file.metadata() {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::file(format!("{} cannot be read", file.display()), &error)),
    }
}

fn of(info: BackupInfo, file: Option<&Path>) -> Backup {
    Backup {
        file: file.map(|file| file.display().to_string()),
        owner: info.owner,
        written: info.written.into(),
        snapshot: info.snapshot,
        records: info.records,
        bytes: info.bytes,
    }
}

fn recovered(done: oob_core::Recovered, file: Option<&Path>, home: &Home) -> Recovered {
    Recovered {
        home: home.path().display().to_string(),
        backup: of(done.copy, file),
        quarantine: done.quarantine.map(|path| path.display().to_string()),
        skipped: done
            .skipped
            .into_iter()
            .map(|(file, reason)| Skipped { file: file.display().to_string(), reason })
            .collect(),
    }
}
