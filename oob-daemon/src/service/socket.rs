//! The socket: one for each home, for its user alone.

use super::private_folder;
use crate::{failure::Failure, settings::Home};
use std::{
    fs::{self, Permissions},
    io,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};
use tokio::net::UnixListener;

/// A bound socket; its file goes with the guard.
pub(super) struct Socket {
    listener: UnixListener,
    guard: Guard,
}

/// Removes the socket's file when it is dropped.
pub(super) struct Guard(PathBuf);

impl Socket {
    pub(super) fn path(&self) -> &Path {
        &self.guard.0
    }

    pub(super) fn into_parts(self) -> (UnixListener, Guard) {
        (self.listener, self.guard)
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_file(&self.0) {
            tracing::debug!("the socket was gone already: {e}");
        }
    }
}

/// Binds the socket of a home whose lock this process holds: one that is there was left by a daemon that was killed.
pub(super) fn bind(home: &Home) -> Result<Socket, Failure> {
    let path = home.socket()?;
    let failed =
        |e: &io::Error| Failure::file(format!("the socket {} cannot be made", path.display()), e);
    if let Some(folder) = path.parent()
        && folder != home.path()
    {
        check_folder(folder)?;
    }
    match fs::symlink_metadata(&path) {
        Ok(found) if found.file_type().is_socket() => {
            fs::remove_file(&path).map_err(|e| failed(&e))?
        }
        Ok(_) => {
            return Err(Failure::new("file_exists", format!("{} is not a socket", path.display()))
                .hint("move it elsewhere, then run: oob up"));
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(failed(&e)),
    }
    let listener = UnixListener::bind(&path).map_err(|e| failed(&e))?;
    let guard = Guard(path.clone());
    fs::set_permissions(&path, Permissions::from_mode(0o600)).map_err(|e| failed(&e))?;
    Ok(Socket { listener, guard })
}

/// A folder outside the home must be this user's alone, or somebody else could put another socket there.
fn check_folder(folder: &Path) -> Result<(), Failure> {
    private_folder(folder)
        .map_err(|e| Failure::file(format!("folder {} cannot be made", folder.display()), &e))?;
    let found = fs::symlink_metadata(folder)
        .map_err(|e| Failure::file(format!("folder {}", folder.display()), &e))?;
    if found.is_dir()
        && found.uid() == rustix::process::geteuid().as_raw()
        && found.mode() & 0o022 == 0
    {
        return Ok(());
    }
    Err(Failure::new(
        "forbidden",
        format!("{} is not a folder of this user alone", folder.display()),
    )
    .hint("use a home with a shorter path, or set XDG_RUNTIME_DIR to a folder of your own"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_left_behind_is_replaced_and_another_file_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::resolve(Some(dir.path())).unwrap();
        let stale = std::os::unix::net::UnixListener::bind(dir.path().join("oob.sock")).unwrap();
        drop(stale);
        let socket = bind(&home).unwrap();
        assert_eq!(fs::metadata(socket.path()).unwrap().mode() & 0o777, 0o600);
        drop(socket);
        assert!(!dir.path().join("oob.sock").exists());
        fs::write(dir.path().join("oob.sock"), "mine").unwrap();
        assert_eq!(bind(&home).err().unwrap().code(), "file_exists");
        assert_eq!(fs::read(dir.path().join("oob.sock")).unwrap(), b"mine");
    }
}
