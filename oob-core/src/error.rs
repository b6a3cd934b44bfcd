//! The one error that callers see: a kind to match, a message, a cause, and what to do next.

use oob_engine::{
    EngineError, RecordError,
    effect::{CommandError, JoinError},
    model::{AlertTextError, NameError, TextError},
};
use oob_mesh::{AddressError, MeshError};
use oob_proto::link::LinkError;
use oob_store::StoreError;
use std::{borrow::Cow, error::Error as StdError, fmt, sync::Arc};

/// What went wrong, coarse enough to match on. Each kind has one stable word, which the local API and `--json` print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no identity in this folder yet.
    NotInitialised,
    /// There is one already.
    AlreadyInitialised,
    /// The passphrase does not unlock the store.
    WrongPassphrase,
    /// A part of the store is missing or altered.
    Damaged,
    /// A part of the store belongs to another home.
    Foreign,
    /// The store is older than it must be.
    RolledBack,
    /// A newer version wrote the store.
    NewerStore,
    /// A backup or snapshot that is none, or was altered or cut.
    BadBackup,
    /// There is no snapshot to go back to.
    NoSnapshot,
    /// The store is whole, so there is nothing to go back from.
    NotDamaged,
    /// Another process has the store open.
    Busy,
    /// The disk is full.
    StoreFull,
    /// The key derivation asked for is outside what is allowed.
    BadKdf,
    /// This device belongs to no organisation yet.
    NoOrg,
    /// It belongs to one already.
    HasOrg,
    /// Only an admin may.
    NotAdmin,
    /// No such person, conversation or message.
    NotFound,
    /// A name that several people have.
    Ambiguous,
    /// A text or name over its limit.
    TooLong,
    /// A text or name with nothing in it.
    Empty,
    /// A name with a character that could disguise it.
    BadName,
    /// Not an invitation, altered, or not valid in that organisation.
    BadInvite,
    /// The invitation's last valid moment has passed.
    InviteExpired,
    /// As many people as it was good for have used it.
    InviteUsed,
    /// Somebody of that name is a member.
    NameTaken,
    /// Nobody who could admit this device answered.
    NobodyReachable,
    /// Members answered, none of them admitted this device.
    NotAdmitted,
    /// Not an address anybody can be reached at.
    BadAddress,
    /// Another program listens there.
    AddressInUse,
    /// Too many of something are kept already.
    TooMany,
    /// That person's device has published no keys here yet.
    NoKeys,
    /// The target is this device's own person.
    Yourself,
    /// This device's admin signed it, or something that excludes it, already.
    SignedAlready,
    /// A proposal that is not what it seems.
    BadProposal,
    /// Something that this version does not do yet.
    NotYet,
    /// A number or duration outside what is allowed.
    OutOfRange,
    /// It did not happen in time.
    Timeout,
    /// The node was shut down.
    Closed,
    /// The operating system refused something.
    Io,
    /// A defect of oob, or a store that stopped writing.
    Internal,
}

impl ErrorKind {
    /// All kinds, for tables and tests.
    pub const ALL: [Self; 40] = [
        Self::NotInitialised,
        Self::AlreadyInitialised,
        Self::WrongPassphrase,
        Self::Damaged,
        Self::Foreign,
        Self::RolledBack,
        Self::NewerStore,
        Self::BadBackup,
        Self::NoSnapshot,
        Self::NotDamaged,
        Self::Busy,
        Self::StoreFull,
        Self::BadKdf,
        Self::NoOrg,
        Self::HasOrg,
        Self::NotAdmin,
        Self::NotFound,
        Self::Ambiguous,
        Self::TooLong,
        Self::Empty,
        Self::BadName,
        Self::BadInvite,
        Self::InviteExpired,
        Self::InviteUsed,
        Self::NameTaken,
        Self::NobodyReachable,
        Self::NotAdmitted,
        Self::BadAddress,
        Self::AddressInUse,
        Self::TooMany,
        Self::NoKeys,
        Self::Yourself,
        Self::SignedAlready,
        Self::BadProposal,
        Self::NotYet,
        Self::OutOfRange,
        Self::Timeout,
        Self::Closed,
        Self::Io,
        Self::Internal,
    ];

    /// Returns the stable word for it.
    pub const fn code(self) -> &'static str {
        match self {
            Self::NotInitialised => "not_initialised",
            Self::AlreadyInitialised => "already_initialised",
            Self::WrongPassphrase => "wrong_passphrase",
            Self::Damaged => "damaged",
            Self::Foreign => "foreign",
            Self::RolledBack => "rolled_back",
            Self::NewerStore => "newer_store",
            Self::BadBackup => "bad_backup",
            Self::NoSnapshot => "no_snapshot",
            Self::NotDamaged => "not_damaged",
            Self::Busy => "busy",
            Self::StoreFull => "store_full",
            Self::BadKdf => "bad_kdf",
            Self::NoOrg => "no_org",
            Self::HasOrg => "has_org",
            Self::NotAdmin => "not_admin",
            Self::NotFound => "not_found",
            Self::Ambiguous => "ambiguous",
            Self::TooLong => "too_long",
            Self::Empty => "empty",
            Self::BadName => "bad_name",
            Self::BadInvite => "bad_invite",
            Self::InviteExpired => "invite_expired",
            Self::InviteUsed => "invite_used",
            Self::NameTaken => "name_taken",
            Self::NobodyReachable => "nobody_reachable",
            Self::NotAdmitted => "not_admitted",
            Self::BadAddress => "bad_address",
            Self::AddressInUse => "address_in_use",
            Self::TooMany => "too_many",
            Self::NoKeys => "no_keys",
            Self::Yourself => "yourself",
            Self::SignedAlready => "signed_already",
            Self::BadProposal => "bad_proposal",
            Self::NotYet => "not_yet",
            Self::OutOfRange => "out_of_range",
            Self::Timeout => "timeout",
            Self::Closed => "closed",
            Self::Io => "io",
            Self::Internal => "internal",
        }
    }

    /// What usually helps, where the place that raised the error knows nothing better.
    const fn usual_hint(self) -> &'static str {
        match self {
            Self::NotInitialised => "make an identity first: oob init --name YOUR_NAME",
            Self::AlreadyInitialised => "use it with: oob up, or choose another folder: --home DIR",
            Self::WrongPassphrase => {
                "try again; nothing was changed, and without the passphrase nobody can open it"
            }
            Self::Damaged | Self::Foreign | Self::RolledBack => {
                "go back to the last snapshot of this folder: oob backup recover (what is there now is put \
                 aside, nothing is deleted). Nothing was changed by this attempt"
            }
            Self::BadBackup => {
                "fetch it again from where it was copied, or use another: oob backup verify FILE"
            }
            Self::NoSnapshot => {
                "restore a backup into a new folder: oob --home NEW_DIR backup restore FILE; without one, \
                 join again from a new folder: oob --home NEW_DIR init --name YOUR_NAME"
            }
            Self::NotDamaged => "use it: oob up",
            Self::NewerStore => "use the newer version of oob that wrote it",
            Self::Busy => {
                "stop the other one first: oob down, or choose another folder: --home DIR"
            }
            Self::StoreFull => {
                "make room on the disk and try again; nothing stored before was lost"
            }
            Self::BadKdf => "give from 64MiB to 2GiB, for example: --kdf-memory 256MiB",
            Self::NoOrg => {
                "join one: `oob join FILE`; to found one, start in a new folder: \
                 `oob --home DIR init --name YOUR_NAME --org ORG_NAME`"
            }
            Self::HasOrg => "use another folder for another organisation: --home DIR",
            Self::NotAdmin => "ask an admin of your organisation to do it",
            Self::NotFound => "see who is there: oob status",
            Self::Ambiguous => "ask the people concerned which of them joined last",
            Self::TooLong => "shorten it, or send it in parts",
            Self::Empty => "give at least one visible character",
            Self::BadName => "use letters, digits, spaces and ordinary punctuation",
            Self::BadInvite => {
                "ask for a new one: oob invite --out FILE, and hand the file over whole"
            }
            Self::InviteExpired | Self::InviteUsed => {
                "ask an admin for a new one: oob invite --out FILE"
            }
            Self::NameTaken => "join under another name: oob join FILE --name OTHER_NAME",
            Self::NobodyReachable => {
                "multicast may be blocked here; ask for the address that `oob status` shows there and say \
                 it here: oob address add 192.168.1.7:4801, then join again: oob join FILE"
            }
            Self::NotAdmitted => {
                "ask whoever invited you to run `oob up`, then try again: oob join FILE"
            }
            Self::BadAddress => {
                "give an IP address and a port, for example: oob address add 192.168.1.7:4801"
            }
            Self::AddressInUse => {
                "stop the other program, or listen elsewhere: oob up --listen 0.0.0.0:4802"
            }
            Self::TooMany => "remove some first",
            Self::NoKeys => "wait until they have been in reach once, see: oob status",
            Self::Yourself => "name somebody else; oob status shows who is there",
            Self::SignedAlready => "see what waits for whom: oob org status",
            Self::BadProposal => "do not sign it; ask who proposed it",
            Self::NotYet => "this comes with a later version",
            Self::OutOfRange => "give a value within these bounds",
            Self::Timeout => "look who is in reach: oob status, then try again",
            Self::Closed => "start it again: oob up",
            Self::Io => "look at the path, whose it is, and the room on its disk",
            Self::Internal => {
                "start it again: oob up; if it comes back, report it with oob.log of the home folder"
            }
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// Why a call did not do what it was asked. Nothing was changed unless the method says otherwise.
///
/// ```
/// use oob_core::{ErrorKind, Invite};
///
/// let error = "https://example.org".parse::<Invite>().unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::BadInvite);
/// assert_eq!(error.code(), "bad_invite");
/// assert!(error.hint().is_some());
/// ```
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: Cow<'static, str>,
    hint: Option<Cow<'static, str>>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Inner { kind, message: message.into(), hint: None, source: None }))
    }

    pub(crate) fn with_hint(mut self, hint: impl Into<Cow<'static, str>>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    pub(crate) fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.0.source = Some(Arc::new(source));
        self
    }

    pub(crate) fn internal(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    pub(crate) fn closed() -> Self {
        Self::new(ErrorKind::Closed, "the node has been shut down")
    }

    pub(crate) fn no_org() -> Self {
        Self::new(ErrorKind::NoOrg, "this device belongs to no organisation yet")
    }

    /// Returns what went wrong, to match on.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Returns the stable word of the kind.
    pub fn code(&self) -> &'static str {
        self.0.kind.code()
    }

    /// Returns what to do next, if anything is known to help.
    pub fn hint(&self) -> Option<String> {
        match &self.0.hint {
            Some(hint) => Some(hint.to_string()),
            None => Some(self.0.kind.usual_hint().to_owned()),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &self.0.message)
            .field("hint", &self.hint())
            .field("source", &self.0.source)
            .finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.0.source {
            Some(source) => Some(&**source),
            None => None,
        }
    }
}

impl From<std::io::Error> for Error {
    fn from(error: std::io::Error) -> Self {
        Self::new(ErrorKind::Io, error.to_string()).with_source(error)
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        let kind = match &error {
            StoreError::Missing { .. } => ErrorKind::NotInitialised,
            StoreError::Exists { .. } => ErrorKind::AlreadyInitialised,
            StoreError::Busy { .. } => ErrorKind::Busy,
            StoreError::WrongPassphrase => ErrorKind::WrongPassphrase,
            StoreError::Derivation { .. } => ErrorKind::BadKdf,
            StoreError::Damaged { .. } => ErrorKind::Damaged,
            StoreError::RolledBack { .. } => ErrorKind::RolledBack,
            StoreError::Foreign { .. } => ErrorKind::Foreign,
            StoreError::Newer { .. } => ErrorKind::NewerStore,
            StoreError::BadCopy { .. } => ErrorKind::BadBackup,
            StoreError::NoSnapshot { .. } => ErrorKind::NoSnapshot,
            StoreError::Full { .. } => ErrorKind::StoreFull,
            StoreError::Closed => ErrorKind::Closed,
            StoreError::Io { .. } => ErrorKind::Io,
            _ => ErrorKind::Internal,
        };
        Self::new(kind, error.to_string()).with_source_of(error)
    }
}

impl Error {
    /// Keeps what lies below `error`, whose own words are the message already.
    fn with_source_of(self, error: StoreError) -> Self {
        match error {
            StoreError::Io { source, .. } => self.with_source(source),
            _ => self,
        }
    }
}

impl From<RecordError> for Error {
    fn from(error: RecordError) -> Self {
        match error {
            RecordError::Store(error) => error.into(),
            error => Self::new(ErrorKind::Damaged, error.to_string()),
        }
    }
}

impl From<EngineError> for Error {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::NoIdentity => {
                Self::new(ErrorKind::NotInitialised, "there is no identity here yet")
            }
            EngineError::HasIdentity => Self::new(ErrorKind::AlreadyInitialised, error.to_string()),
            EngineError::Store(error) => error.into(),
            EngineError::Record(error) => error.into(),
            error => Self::internal(error.to_string()),
        }
    }
}

impl From<NameError> for Error {
    fn from(error: NameError) -> Self {
        let kind = match &error {
            NameError::Empty => ErrorKind::Empty,
            NameError::TooLong { .. } => ErrorKind::TooLong,
            _ => ErrorKind::BadName,
        };
        let long = matches!(error, NameError::TooLong { .. });
        let error = Self::new(kind, error.to_string());
        if long { error.with_hint("choose a shorter name") } else { error }
    }
}

impl From<TextError> for Error {
    fn from(error: TextError) -> Self {
        let kind = match &error {
            TextError::Empty => ErrorKind::Empty,
            TextError::TooLong { .. } => ErrorKind::TooLong,
            _ => ErrorKind::Internal,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<LinkError> for Error {
    fn from(error: LinkError) -> Self {
        Self::new(ErrorKind::BadInvite, error.to_string())
    }
}

impl From<AddressError> for Error {
    fn from(error: AddressError) -> Self {
        let kind = match &error {
            AddressError::Stopped => ErrorKind::Closed,
            _ => ErrorKind::BadAddress,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<MeshError> for Error {
    fn from(error: MeshError) -> Self {
        let kind = match &error {
            MeshError::Address(_) => ErrorKind::BadAddress,
            MeshError::AddressInUse { .. } | MeshError::NoPort { .. } => ErrorKind::AddressInUse,
            MeshError::Listen { .. } => ErrorKind::BadAddress,
            MeshError::Unreachable { .. } | MeshError::NoJoin { .. } => ErrorKind::NobodyReachable,
            MeshError::Stopped => ErrorKind::Closed,
            _ => ErrorKind::Internal,
        };
        let message = error.to_string();
        match error {
            MeshError::Listen { source, .. } => Self::new(kind, message)
                .with_hint("listen on an address of this machine: oob up --listen 0.0.0.0:4805")
                .with_source(source),
            // Of what a mesh is asked only where to listen is refused this way.
            MeshError::Address(_) => Self::new(kind, message)
                .with_hint("give an IP address and a port: oob up --listen 0.0.0.0:4805"),
            _ => Self::new(kind, message),
        }
    }
}

impl From<AlertTextError> for Error {
    fn from(error: AlertTextError) -> Self {
        let kind = match &error {
            AlertTextError::Empty | AlertTextError::NoAnswer => ErrorKind::Empty,
            AlertTextError::TooLong { .. } | AlertTextError::LongAnswer { .. } => {
                ErrorKind::TooLong
            }
            AlertTextError::Character { .. } => ErrorKind::BadName,
            _ => ErrorKind::Internal,
        };
        Self::new(kind, error.to_string())
    }
}

impl From<CommandError> for Error {
    fn from(error: CommandError) -> Self {
        let kind = match &error {
            CommandError::NoOrg => ErrorKind::NoOrg,
            CommandError::HasOrg => ErrorKind::HasOrg,
            CommandError::NotAdmin | CommandError::NotAlerter => ErrorKind::NotAdmin,
            CommandError::NoOffer { .. } | CommandError::NoProposal => ErrorKind::NotFound,
            CommandError::BadCouncil { .. } => ErrorKind::OutOfRange,
            CommandError::Signed | CommandError::SignedAnother => ErrorKind::SignedAlready,
            CommandError::StrangeKey { .. } | CommandError::Undoes => ErrorKind::BadProposal,
            CommandError::AdminsDevice => ErrorKind::NotAdmin,
            CommandError::NoAlert => ErrorKind::NotFound,
            CommandError::NotOffered { .. } => ErrorKind::OutOfRange,
            CommandError::TooManyAlerts { .. } => ErrorKind::TooMany,
            CommandError::RoleNotYet { .. } => ErrorKind::NotYet,
            CommandError::OutOfRange { .. } => ErrorKind::OutOfRange,
            CommandError::NoMember | CommandError::NoConversation | CommandError::NoDevice => {
                ErrorKind::NotFound
            }
            CommandError::Yourself | CommandError::ThisDevice => ErrorKind::Yourself,
            CommandError::NoKeys { .. } => ErrorKind::NoKeys,
            CommandError::Join(JoinError::Expired) => ErrorKind::InviteExpired,
            CommandError::Join(JoinError::Used) => ErrorKind::InviteUsed,
            CommandError::Join(JoinError::NameTaken) => ErrorKind::NameTaken,
            CommandError::Join(JoinError::Invalid) => ErrorKind::BadInvite,
            CommandError::Join(_) => ErrorKind::NotAdmitted,
            CommandError::TooManyAddresses { .. } => ErrorKind::TooMany,
            CommandError::Store(_) => ErrorKind::StoreFull,
            _ => ErrorKind::Internal,
        };
        let message = error.to_string();
        match error {
            CommandError::NoAlert => {
                Self::new(kind, message).with_hint("see which there are: oob alert list")
            }
            CommandError::NotOffered { .. } => {
                Self::new(kind, message).with_hint("answer with one of these words, or with none")
            }
            CommandError::NoOffer { .. } => Self::new(kind, message)
                .with_hint("they make one on their device: oob org admin offer"),
            CommandError::NoProposal => {
                Self::new(kind, message).with_hint("see which there are: oob org status")
            }
            CommandError::BadCouncil { .. } => Self::new(kind, message)
                .with_hint("three admins of whom two sign, or five of whom three, are usual"),
            CommandError::Signed => {
                Self::new(kind, message).with_hint("see who is missing: oob org status")
            }
            CommandError::StrangeKey { .. } => Self::new(kind, message).with_hint(
                "ask who proposed it, and whoever is named, in another way; do not sign it",
            ),
            CommandError::Undoes => Self::new(kind, message)
                .with_hint("have it proposed again with this version: oob org propose admins NAME..."),
            CommandError::AdminsDevice => Self::new(kind, message)
                .with_hint("first have others be admins: oob org propose admins NAME..."),
            CommandError::SignedAnother => Self::new(kind, message).with_hint(
                "have the one you want proposed again, then sign that: oob org propose admins NAME...",
            ),
            CommandError::TooManyAlerts { .. } => Self::new(kind, message)
                .with_hint("ask somebody else to alert, or send messages: oob send NAME TEXT"),
            CommandError::RoleNotYet { .. } => {
                Self::new(kind, message).with_hint("leave the role out: oob invite --out FILE")
            }
            CommandError::OutOfRange { least, most, .. } => {
                Self::new(kind, message).with_hint(format!("give a value from {least} to {most}"))
            }
            _ => Self::new(kind, message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_kind_has_its_own_code_and_what_a_user_causes_has_a_hint() {
        let codes: BTreeSet<_> = ErrorKind::ALL.iter().map(|kind| kind.code()).collect();
        assert_eq!(codes.len(), ErrorKind::ALL.len());
        for kind in ErrorKind::ALL {
            let code = kind.code();
            assert!(code.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{code}");
            assert!(!kind.usual_hint().is_empty(), "{code}");
        }
    }

    #[test]
    fn messages_and_hints_follow_the_written_style() {
        for kind in ErrorKind::ALL {
            let hint = kind.usual_hint();
            assert!(!hint.ends_with('.') && !hint.contains("  "), "{hint}");
            assert!(hint.chars().next().is_some_and(char::is_lowercase), "{hint}");
            assert!(!hint.contains(['#', '!', '@']), "{hint}");
        }
        let error = Error::from(TextError::TooLong { len: 9000 });
        assert_eq!((error.code(), error.to_string().contains("9000")), ("too_long", true));
    }

    #[test]
    fn a_cause_is_kept_and_shown_once() {
        let io = std::io::Error::other("disk on fire");
        let error = Error::from(StoreError::Io { what: "reading the keyring", source: io });
        assert_eq!(error.kind(), ErrorKind::Io);
        assert_eq!(error.source().map(ToString::to_string).as_deref(), Some("disk on fire"));
    }
}
