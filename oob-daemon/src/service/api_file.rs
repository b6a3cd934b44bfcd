//! `api.json`: how programs of this user find and enter the local API.

use crate::{failure::Failure, schema::ApiFile, settings::Home};
use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// Removes the file when it is dropped: the token ends with the daemon.
pub(super) struct Guard(PathBuf);

impl Drop for Guard {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_file(&self.0) {
            tracing::debug!("api.json was gone already: {e}");
        }
    }
}

/// Writes the file for this user alone, in one step, so that nobody reads half of it.
pub(super) fn write(home: &Home, url: &str, token: &str, socket: &Path) -> Result<Guard, Failure> {
    let path = home.api_file();
    let content = ApiFile {
        url: url.to_owned(),
        token: token.to_owned(),
        socket: socket.display().to_string(),
        pid: std::process::id(),
    };
    let text = serde_json::to_vec(&content)
        .map_err(|e| Failure::internal("api.json cannot be written").cause(e))?;
    let draft = path.with_extension("json.new");
    let written = (|| -> io::Result<()> {
        // Left by a daemon that was killed in this very moment, perhaps with other permissions.
        match fs::remove_file(&draft) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
        file.write_all(&text)?;
        file.write_all(b"\n")?;
        fs::rename(&draft, &path)
    })();
    written.map_err(|e| Failure::file(format!("{} cannot be written", path.display()), &e))?;
    Ok(Guard(path))
}

/// Reads the file of a running daemon, none if there is no such file.
pub(crate) fn read(home: &Home) -> Option<ApiFile> {
    serde_json::from_slice(&fs::read(home.api_file()).ok()?).ok()
}
