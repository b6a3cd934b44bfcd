//! The folder: whose it is, whether the store in it has its form, and whether there is room.

use super::{advice, fine, wrong};
use crate::{
    schema::{Check, Stamp},
    settings::Home,
};
use oob_core::{ErrorKind, Node};
use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// Below this the store soon refuses what comes: it is some thousand messages and a log.
const LEAST_FREE: u64 = 64 * 1024 * 1024;

/// Below this it is time to make room: months of messages.
const FEW_FREE: u64 = 512 * 1024 * 1024;

/// Files looked at in a home; the store has a few dozen.
const FILES: usize = 1_000;

/// The folder is there, this user's, and nobody else can read anything in it.
pub(super) fn folder(home: &Home) -> Check {
    const NAME: &str = "home";
    let path = home.path().display();
    let meta = match fs::metadata(home.path()) {
        Ok(meta) if meta.is_dir() => meta,
        Ok(_) => {
            return wrong(
                NAME,
                format!("{path} is not a folder"),
                "name another: oob --home DIR doctor",
            );
        }
        Err(e) => {
            return wrong(
                NAME,
                format!("there is no folder {path} ({e})"),
                "make an identity: oob init --name YOUR_NAME, or name its folder: oob --home DIR doctor",
            );
        }
    };
    let me = rustix::process::geteuid().as_raw();
    if meta.uid() != me {
        return wrong(
            NAME,
            format!("{path} belongs to user {}, and this is user {me}", meta.uid()),
            "run oob as the user whose folder it is",
        );
    }
    let mut open = Vec::new();
    let mut left = FILES;
    others_can_read(home.path(), &mut open, &mut left);
    match open.first() {
        None => fine(NAME, format!("{path} is this user's alone")),
        Some(first) => wrong(
            NAME,
            format!(
                "other users can read {} of the files of {path}, such as {}",
                open.len(),
                first.display()
            ),
            format!("close them: chmod -R go-rwx {path}"),
        ),
    }
}

fn others_can_read(path: &Path, open: &mut Vec<PathBuf>, left: &mut usize) {
    let Some(fewer) = left.checked_sub(1) else { return };
    *left = fewer;
    let Ok(meta) = fs::symlink_metadata(path) else { return };
    if !meta.is_symlink() && meta.mode() & 0o077 != 0 {
        open.push(path.to_owned());
    }
    if meta.is_dir()
        && let Ok(entries) = fs::read_dir(path)
    {
        for entry in entries.flatten() {
            others_can_read(&entry.path(), open, left);
        }
    }
}

/// The parts of the store are there and the keyring is whole; whether the rest is, its passphrase shows.
pub(super) fn store(home: &Home) -> Check {
    const NAME: &str = "store";
    if home.path().join("init.begun").exists() {
        return wrong(
            NAME,
            "making the identity was cut off",
            "finish it: oob init --name YOUR_NAME",
        );
    }
    match Node::inspect(home.path()) {
        Ok(kib) => fine(
            NAME,
            format!(
                "its parts are there and the keyring is whole; a try of the passphrase takes {} MiB. What is in it only the passphrase shows",
                kib / 1024
            ),
        ),
        Err(error) if error.kind() == ErrorKind::NotInitialised => {
            wrong(NAME, "there is no identity here yet", "make one: oob init --name YOUR_NAME")
        }
        Err(error) => wrong(
            NAME,
            error.to_string(),
            error.hint().unwrap_or_else(|| "put the whole folder back as it was".into()),
        ),
    }
}

/// What there is to go back to, and what was put aside.
pub(super) fn copies(path: &Path) -> Check {
    const NAME: &str = "copies";
    let kept = Node::keepsakes(path);
    let snapshots = match (kept.snapshots, kept.newest) {
        (0, _) | (_, None) => {
            "no snapshot yet; the daemon writes one when it is stopped, and every day".to_owned()
        }
        (1, Some(newest)) => format!("one snapshot, written {}", Stamp::from(newest).local()),
        (many, Some(newest)) => {
            format!("{many} snapshots, the newest written {}", Stamp::from(newest).local())
        }
    };
    match kept.quarantined.last() {
        None => fine(NAME, snapshots),
        Some(newest) => advice(
            NAME,
            format!("{snapshots}; a store that was put aside lies in {}", newest.display()),
            "once nothing is missed any more, remove it: it holds old messages and keys",
        ),
    }
}

/// There is room on the disk.
pub(super) fn disk(path: &Path) -> Check {
    const NAME: &str = "disk";
    // A folder that is not there yet lies where the nearest one above it does.
    let there = path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    match rustix::fs::statvfs(there) {
        Ok(found) => room(found.f_bavail.saturating_mul(found.f_frsize)),
        Err(e) => wrong(
            NAME,
            format!("the free space cannot be read: {e}"),
            "see whether the disk is there: df",
        ),
    }
}

fn room(free: u64) -> Check {
    let detail = format!("{} MiB are free", free / (1024 * 1024));
    match free {
        0..LEAST_FREE => {
            wrong("disk", detail, "free some space: messages are refused when the disk is full")
        }
        LEAST_FREE..FEW_FREE => advice("disk", detail, "free some space before it runs out"),
        _ => fine("disk", detail),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn at(path: &Path) -> Home {
        Home::resolve(Some(path)).unwrap()
    }

    #[test]
    fn a_folder_that_others_can_read_is_named_with_what_closes_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        assert!(folder(&at(dir.path())).ok);
        let inner = dir.path().join("store");
        fs::create_dir(&inner).unwrap();
        fs::set_permissions(&inner, fs::Permissions::from_mode(0o700)).unwrap();
        let file = inner.join("db");
        fs::write(&file, "x").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        let found = folder(&at(dir.path()));
        assert!(!found.ok && found.detail.ends_with("store/db"), "{found:?}");
        assert!(found.hint.unwrap().starts_with("close them: chmod -R go-rwx "));
        assert!(!folder(&at(&file)).ok);
        assert!(!folder(&at(&dir.path().join("nowhere"))).ok);
    }

    #[test]
    fn a_home_of_another_user_is_told_apart() {
        // The root folder is root's; where this user is root it has another fault.
        let found = folder(&at(Path::new("/")));
        assert!(!found.ok, "{found:?}");
    }

    #[test]
    fn a_store_without_its_parts_or_with_a_torn_keyring_is_named() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(store(&at(dir.path())).detail, "there is no identity here yet");
        fs::write(dir.path().join("keyring"), "torn").unwrap();
        let found = store(&at(dir.path()));
        assert!(!found.ok && found.detail.contains("missing"), "{found:?}");
        fs::write(dir.path().join("slots"), "").unwrap();
        fs::create_dir(dir.path().join("store")).unwrap();
        fs::write(dir.path().join("store/db"), "").unwrap();
        let found = store(&at(dir.path()));
        assert!(!found.ok && found.detail.contains("keyring"), "{found:?}");
        fs::write(dir.path().join("init.begun"), "").unwrap();
        assert!(store(&at(dir.path())).detail.contains("cut off"));
    }

    #[test]
    fn little_room_is_wrong_and_not_much_is_worth_a_word() {
        let told = [0, LEAST_FREE, FEW_FREE].map(|free| {
            let found = room(free);
            (found.ok, found.hint.is_some())
        });
        assert_eq!(told, [(false, true), (true, true), (true, false)]);
        assert!(disk(Path::new("/nowhere/at/all")).detail.contains("MiB"));
    }
}
