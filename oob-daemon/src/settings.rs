//! Where the home is, what stands in its `oob.toml`, and the names of its files.

use crate::failure::Failure;
use serde::Deserialize;
use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

/// Longest path a Unix socket may have with room to spare: the kernel's limit is 108 bytes, other systems' is 104.
pub(crate) const SOCKET_PATH_BYTES: usize = 100;

/// Longest `oob.toml`: it has a handful of lines, so anything longer is another file.
const SETTINGS_BYTES: u64 = 64 * 1024;

/// The folder of one identity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Home(PathBuf);

impl Home {
    /// Takes the folder given with `--home` or `OOB_HOME`, else the user's own: `$XDG_DATA_HOME/oob` or `~/.local/share/oob`.
    pub(crate) fn resolve(given: Option<&Path>) -> Result<Self, Failure> {
        let named =
            |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let path = given
            .map(Path::to_path_buf)
            .or_else(|| {
                named("XDG_DATA_HOME")
                    .filter(|path| path.is_absolute())
                    .map(|path| path.join("oob"))
            })
            .or_else(|| named("HOME").map(|path| path.join(".local/share/oob")))
            .ok_or_else(|| {
                Failure::new("no_home", "this user has no home folder")
                    .hint("name a folder: oob --home DIR …, or set OOB_HOME")
            })?;
        if path.as_os_str().is_empty() {
            return Err(Failure::new("no_home", "the home folder has no name")
                .hint("name a folder: oob --home DIR …"));
        }
        // The daemon may run from another folder than the command, so both must mean the same one.
        std::path::absolute(&path)
            .map(Self)
            .map_err(|e| Failure::file(format!("home {}", path.display()), &e))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Returns the socket's path, outside the home where the home's own path is too long for a socket.
    pub(crate) fn socket(&self) -> Result<PathBuf, Failure> {
        let inside = self.0.join("oob.sock");
        if inside.as_os_str().len() <= SOCKET_PATH_BYTES {
            return Ok(inside);
        }
        let uid = rustix::process::geteuid().as_raw();
        let folder = env::var_os("XDG_RUNTIME_DIR")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute())
            .or_else(|| {
                Some(PathBuf::from(format!("/run/user/{uid}"))).filter(|path| path.is_dir())
            })
            .unwrap_or_else(|| env::temp_dir().join(format!("oob-{uid}")));
        let outside = folder.join(format!("oob-{:016x}.sock", fingerprint(&self.0)));
        if outside.as_os_str().len() > SOCKET_PATH_BYTES {
            return Err(Failure::new(
                "no_home",
                format!(
                    "no folder with a short enough path for the socket of {}",
                    self.0.display()
                ),
            )
            .hint("use a home with a shorter path: oob --home DIR …"));
        }
        Ok(outside)
    }

    pub(crate) fn api_file(&self) -> PathBuf {
        self.0.join("api.json")
    }

    pub(crate) fn log_file(&self) -> PathBuf {
        self.0.join("oob.log")
    }

    /// Reads `oob.toml`; a home without one has the defaults.
    pub(crate) fn settings(&self) -> Result<Settings, Failure> {
        let path = self.0.join("oob.toml");
        let bad = |why: &dyn ToString| {
            Failure::new("bad_settings", format!("{} cannot be used", path.display()))
                .cause(why.to_string().trim_end())
                .hint("correct it; it may hold: listen = [\"ADDRESS\"], mdns and beacon = true or false")
        };
        match fs::metadata(&path) {
            Ok(meta) if meta.len() > SETTINGS_BYTES => {
                return Err(bad(&"it is longer than 64 KiB"));
            }
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Settings::default()),
            Err(e) => return Err(bad(&e)),
        }
        let text = fs::read_to_string(&path).map_err(|e| bad(&e))?;
        toml::from_str(&text).map_err(|e| bad(&e))
    }
}

/// What `oob.toml` may say. The command line wins over it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    /// Multiaddrs to listen at instead of the default port.
    #[serde(default)]
    pub(crate) listen: Vec<String>,
    /// Whether to look and answer by mDNS.
    #[serde(default)]
    pub(crate) mdns: Option<bool>,
    /// Whether to send and hear beacons.
    #[serde(default)]
    pub(crate) beacon: Option<bool>,
}

/// FNV-1a: names a socket by its home, the same in every process and version. Not a secret and not a check.
fn fingerprint(path: &Path) -> u64 {
    path.as_os_str().as_encoded_bytes().iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_refuse_what_they_do_not_know() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::resolve(Some(dir.path())).unwrap();
        assert_eq!(home.settings().unwrap(), Settings::default());
        fs::write(
            dir.path().join("oob.toml"),
            "listen = [\"/ip4/127.0.0.1/tcp/0\"]\nmdns = false\nbeacon = false\n",
        )
        .unwrap();
        let settings = home.settings().unwrap();
        assert_eq!((settings.listen.len(), settings.mdns), (1, Some(false)));
        assert_eq!(settings.beacon, Some(false));
        for bad in ["mdsn = false", "mdns = 3", "listen = \"x\"", "\u{0}", "[other]\nx = 1"] {
            fs::write(dir.path().join("oob.toml"), bad).unwrap();
            let failure = home.settings().unwrap_err();
            assert_eq!((failure.code(), failure.exit()), ("bad_settings", 1), "{bad}");
        }
    }

    #[test]
    fn a_deep_home_has_its_socket_elsewhere() {
        let near = Home::resolve(Some(Path::new("/h"))).unwrap();
        assert_eq!(near.socket().unwrap(), Path::new("/h/oob.sock"));
        let deep = Home::resolve(Some(Path::new(&format!("/{}", "d".repeat(120))))).unwrap();
        let socket = deep.socket().unwrap();
        assert!(!socket.starts_with(deep.path()));
        assert!(socket.as_os_str().len() <= SOCKET_PATH_BYTES);
        assert_eq!(socket, deep.socket().unwrap());
        let other = Home::resolve(Some(Path::new(&format!("/{}", "e".repeat(120))))).unwrap();
        assert_ne!(socket, other.socket().unwrap());
    }
}
