//! `invite`: makes an invitation and keeps it from others' eyes.

use super::{args, connect, printer::Printer};
use crate::{
    failure::Failure,
    schema::{Invite, InviteRequest},
    service::millis,
    settings::Home,
};
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

pub(super) async fn run(
    options: &args::Invite,
    yes: bool,
    home: &Home,
    printer: &Printer,
) -> Result<(), Failure> {
    let mut client = connect(home).await?;
    let request = InviteRequest {
        role: Some(options.role.clone()),
        uses: Some(options.uses),
        life_ms: Some(millis(options.expires)),
    };
    let Some(path) = &options.out else {
        let invite: Invite = client.post("/api/v1/invites", &request).await?;
        printer
            .talk("whoever has this link can join; hand it over by a way that nobody else reads");
        printer.data(&invite, |invite| invite.link.clone());
        return Ok(());
    };
    // The place for it comes first: an invitation that cannot be kept is one more that somebody could find.
    let place = Place::take(path, yes, printer)?;
    let mut invite: Invite = client.post("/api/v1/invites", &request).await?;
    place.fill(&invite.link)?;
    invite.invite = Some(path.display().to_string());
    printer.data(&invite, |invite| {
        let uses = if options.uses == 1 {
            "for one person".to_owned()
        } else {
            format!("for {} people", options.uses)
        };
        format!(
            "{} invites {uses} as {} until {}",
            path.display(),
            invite.role,
            invite.expires.local()
        )
    });
    printer.talk("whoever has this file can join; hand it over by a way that nobody else reads");
    Ok(())
}

/// An empty file beside the one that is wanted, for this user alone.
struct Place {
    /// Written through, so that nobody can put another file of its name in between.
    file: File,
    draft: PathBuf,
    wanted: PathBuf,
    replace: bool,
    filled: bool,
}

impl Place {
    fn take(wanted: &Path, yes: bool, printer: &Printer) -> Result<Self, Failure> {
        let exists = fs::symlink_metadata(wanted).is_ok();
        let replace = exists
            && (yes || printer.confirm(&format!("{} exists. Overwrite it?", wanted.display())));
        if exists && !replace {
            return Err(taken(wanted));
        }
        let mut name = wanted.as_os_str().to_owned();
        name.push(format!(".new-{}", std::process::id()));
        let draft = PathBuf::from(name);
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft);
        let file =
            made.map_err(|e| Failure::file(format!("{} cannot be written", wanted.display()), &e))?;
        Ok(Self { file, draft, wanted: wanted.to_owned(), replace, filled: false })
    }

    fn fill(self, link: &str) -> Result<(), Failure> {
        self.fill_by(link, |draft, wanted| fs::hard_link(draft, wanted))
    }

    fn fill_by(
        mut self,
        link: &str,
        hard_link: impl Fn(&Path, &Path) -> io::Result<()>,
    ) -> Result<(), Failure> {
        let written = (|| -> io::Result<()> {
            self.file.write_all(link.as_bytes())?;
            self.file.write_all(b"\n")?;
            self.file.sync_all()?;
            if self.replace {
                fs::rename(&self.draft, &self.wanted)?;
                self.filled = true;
                return Ok(());
            }
            // A link, unlike a rename, never takes the place of a file made meanwhile. USB sticks know no links: there
            // the name is taken first.
            match hard_link(&self.draft, &self.wanted) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                    OpenOptions::new()
                        .write(true)
                        .create_new(true)
                        .mode(0o600)
                        .open(&self.wanted)?;
                    fs::rename(&self.draft, &self.wanted)?;
                    self.filled = true;
                    Ok(())
                }
                other => other,
            }
        })();
        match written {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(taken(&self.wanted)),
            Err(e) => {
                Err(Failure::file(format!("{} cannot be written", self.wanted.display()), &e))
            }
            Ok(()) => Ok(()),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if !self.filled {
            let _removed = fs::remove_file(&self.draft);
        }
    }
}

fn taken(path: &Path) -> Failure {
    Failure::new("file_exists", format!("{} exists already", path.display()))
        .hint("choose another name, or overwrite it with --yes")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn linked(draft: &Path, wanted: &Path) -> io::Result<()> {
        fs::hard_link(draft, wanted)
    }

    /// What a file system without hard links says.
    fn none(_: &Path, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    #[test]
    fn without_hard_links_an_invitation_is_written_and_over_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let printer = Printer::new(true, true);
        for (name, link) in
            [("with", linked as fn(&Path, &Path) -> io::Result<()>), ("without", none)]
        {
            let wanted = dir.path().join(name);
            Place::take(&wanted, false, &printer).unwrap().fill_by("oob:join:x", link).unwrap();
            assert_eq!(fs::read_to_string(&wanted).unwrap(), "oob:join:x\n");
            assert_eq!(fs::metadata(&wanted).unwrap().permissions().mode() & 0o777, 0o600);

            // Somebody else's file of this name, made while the daemon was asked.
            let wanted = dir.path().join(format!("{name}-late"));
            let place = Place::take(&wanted, false, &printer).unwrap();
            fs::write(&wanted, "precious").unwrap();
            assert_eq!(place.fill_by("oob:join:x", link).unwrap_err().code(), "file_exists");
            assert_eq!(fs::read_to_string(&wanted).unwrap(), "precious");
        }
        // No drafts are left beside the four.
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4);
    }
}
