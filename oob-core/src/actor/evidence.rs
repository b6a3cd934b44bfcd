//! What is left of failures in the home: copies of bytes that made a task fail, and why the rules stopped, for whoever looks
//! for the cause. The copies are as they came from the network, sealed where their author sealed them.

use oob_mesh::{Caught, CaughtId};
use std::{
    fs::{self, DirBuilder, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

/// Copies kept: each stands for a defect of ours, and a few are enough to find it. Four mebibytes of the longest frame.
const COPIES: usize = 64;

/// Longest mark read: it has one line.
const MARK_BYTES: u64 = 300;

/// Where copies are: not where stores are put aside, which nobody may be told to delete.
pub(crate) fn folder(home: &Path) -> PathBuf {
    home.join("evidence")
}

/// Where it stands why the rules stopped.
fn mark_of(home: &Path) -> PathBuf {
    home.join("fault")
}

/// Returns what was caught in earlier runs.
pub(super) fn known(home: &Path) -> Vec<CaughtId> {
    let Ok(entries) = fs::read_dir(folder(home)) else { return Vec::new() };
    let names = entries.flatten().take(COPIES).map(|entry| entry.file_name());
    names.filter_map(|name| CaughtId::parse(name.to_str()?.rsplit('-').next()?)).collect()
}

/// Keeps a copy; beyond so many the newest are known until the end of this run only.
pub(super) fn keep(home: &Path, caught: &Caught) -> io::Result<()> {
    let folder = folder(home);
    DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    if fs::read_dir(&folder)?.count() >= COPIES {
        return Ok(());
    }
    let name = format!("{}-{}", caught.source.as_str(), caught.id);
    private(&folder.join(name))?.write_all(&caught.bytes)
}

/// Marks the home: the rules stopped, at this moment and for this reason.
pub(super) fn mark(home: &Path, wall_ms: u64, why: &str) -> io::Result<()> {
    private(&mark_of(home))?.write_all(format!("{wall_ms} {why}\n").as_bytes())
}

/// Returns when the rules last stopped by themselves, in milliseconds since 1970, and why.
pub(crate) fn marked(home: &Path) -> Option<(u64, String)> {
    let mut text = String::new();
    fs::File::open(mark_of(home)).ok()?.take(MARK_BYTES).read_to_string(&mut text).ok()?;
    let (wall_ms, why) = text.trim_end().split_once(' ')?;
    Some((wall_ms.parse().ok()?, why.to_owned()))
}

fn private(path: &Path) -> io::Result<fs::File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use oob_mesh::{Quarantine, Source};
    use std::os::unix::fs::PermissionsExt;

    #[tokio::test]
    async fn what_was_caught_is_known_in_the_next_run_and_bounded() {
        let home = tempfile::tempdir().unwrap();
        assert!(known(home.path()).is_empty());
        let quarantine = Quarantine::default();
        quarantine.inject(|_, _| true);
        for n in 0..100_u32 {
            let bytes = n.to_be_bytes().to_vec().into();
            quarantine.absorb(Source::Screening, &bytes, || ());
            keep(home.path(), &quarantine.next().await).unwrap();
        }
        let later = Quarantine::default();
        known(home.path()).into_iter().for_each(|id| later.know(id));
        assert_eq!(later.known(), COPIES as u64);
        assert_eq!(
            later.absorb(Source::Screening, &0_u32.to_be_bytes().to_vec().into(), || ()),
            None
        );
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let copy = fs::read_dir(folder(home.path())).unwrap().next().unwrap().unwrap().path();
        assert_eq!((mode(&folder(home.path())), mode(&copy)), (0o700, 0o600));
        assert_eq!(fs::read(copy).unwrap().len(), 4);
    }

    #[test]
    fn a_mark_says_when_and_why() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(marked(home.path()), None);
        mark(home.path(), 7, "a defect in the rules").unwrap();
        assert_eq!(marked(home.path()), Some((7, "a defect in the rules".to_owned())));
        fs::write(home.path().join("fault"), "nonsense").unwrap();
        assert_eq!(marked(home.path()), None);
    }
}
