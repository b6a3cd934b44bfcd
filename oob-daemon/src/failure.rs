//! What went wrong, as people, scripts and the local API are told it: one table from code to exit code and HTTP status.

use crate::schema::{ErrorBody, ErrorLine, Problem};
use std::{error::Error as _, io};

/// Every code with the exit code of the command line and the status of the local API. Codes are never renamed.
pub(crate) const CODES: &[(&str, u8, u16)] = &[
    // 1: refused, the user can fix it.
    ("not_initialised", 1, 409),
    ("already_initialised", 1, 409),
    ("already_running", 1, 409),
    ("busy", 1, 409),
    ("store_full", 1, 507),
    ("no_org", 1, 409),
    ("has_org", 1, 409),
    ("ambiguous", 1, 409),
    ("too_long", 1, 422),
    ("empty", 1, 422),
    ("bad_name", 1, 422),
    ("bad_target", 1, 422),
    ("invite_expired", 1, 410),
    ("invite_used", 1, 410),
    ("name_taken", 1, 409),
    ("bad_address", 1, 422),
    ("bad_role", 1, 422),
    ("bad_settings", 1, 422),
    ("address_in_use", 1, 409),
    ("no_keys", 1, 409),
    ("bad_kdf", 1, 422),
    ("too_many", 1, 409),
    ("out_of_range", 1, 422),
    ("io", 1, 500),
    ("yourself", 1, 422),
    ("signed_already", 1, 409),
    ("bad_proposal", 9, 422),
    ("not_yet", 1, 501),
    ("file", 1, 500),
    ("file_exists", 1, 409),
    ("no_home", 1, 500),
    ("api_not_loopback", 1, 422),
    ("passphrase_needed", 1, 401),
    ("passphrase_empty", 1, 422),
    ("passphrase_differs", 1, 422),
    ("demo_failed", 1, 500),
    ("declined", 1, 409),
    ("no_snapshot", 1, 409),
    ("not_damaged", 1, 409),
    // 2: misuse.
    ("usage", 2, 400),
    ("bad_request", 2, 400),
    ("unsupported_media_type", 2, 415),
    ("body_too_large", 2, 413),
    ("no_such_resource", 2, 404),
    ("method_not_allowed", 2, 405),
    // 3: no daemon.
    ("not_running", 3, 503),
    ("closed", 3, 503),
    // 4: not found.
    ("not_found", 4, 404),
    // 5: not permitted.
    ("not_admin", 5, 403),
    ("not_admitted", 5, 403),
    ("forbidden", 5, 403),
    ("bad_host", 5, 403),
    ("bad_origin", 5, 403),
    ("unauthorized", 5, 401),
    // 6: `send --wait` ended, the message is queued.
    ("queued", 6, 504),
    // 8: any other wait.
    ("timeout", 8, 504),
    ("nobody_reachable", 8, 504),
    // 9: verification failed.
    ("wrong_passphrase", 9, 403),
    ("damaged", 9, 500),
    ("foreign", 9, 500),
    ("rolled_back", 9, 500),
    ("newer_store", 9, 500),
    ("bad_backup", 9, 422),
    ("bad_invite", 9, 422),
    // 70: ours.
    ("internal", 70, 500),
];

/// Why something was not done: a stable code, the fact, what caused it, and what to do next.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    code: String,
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
}

impl Failure {
    /// Makes a failure with a code and the fact.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.to_owned(), message: message.into(), causes: Vec::new(), hint: None }
    }

    /// Adds what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds one cause, the nearest first.
    #[must_use]
    pub fn cause(mut self, cause: impl ToString) -> Self {
        self.causes.push(cause.to_string());
        self
    }

    /// Makes a failure of a file operation; `what` names the file and what was tried.
    pub(crate) fn file(what: impl Into<String>, error: &io::Error) -> Self {
        let hint = match error.kind() {
            io::ErrorKind::PermissionDenied => {
                "this user may not do that there; see who owns it: ls -ld"
            }
            io::ErrorKind::NotFound => "see that the path is right",
            io::ErrorKind::StorageFull => "the disk is full; free some space and run it again",
            _ => "see that the path is right and the disk is not full",
        };
        Self::new("file", what).cause(error).hint(hint)
    }

    /// Makes a failure nobody but us can mend.
    pub(crate) fn internal(what: impl Into<String>) -> Self {
        Self::new("internal", what)
            .hint("look at the end of oob.log in the home, then run the command again")
    }

    /// Returns the stable code.
    pub fn code(&self) -> &str {
        &self.code
    }

    /// Returns what to do next.
    pub fn next(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Returns the exit code of the command line.
    pub fn exit(&self) -> u8 {
        self.row().1
    }

    pub(crate) fn status(&self) -> u16 {
        self.row().2
    }

    fn row(&self) -> (&'static str, u8, u16) {
        CODES
            .iter()
            .copied()
            .find(|(code, _, _)| *code == self.code)
            .unwrap_or(("internal", 70, 500))
    }

    pub(crate) fn causes(&self) -> &[String] {
        &self.causes
    }

    /// Puts other words, one or several, in the place of each cause.
    #[must_use]
    pub(crate) fn causes_by(mut self, words: impl Fn(&str) -> Vec<String>) -> Self {
        self.causes = self.causes.iter().flat_map(|cause| words(cause)).collect();
        self
    }

    pub(crate) fn to_line(&self) -> ErrorLine {
        ErrorLine {
            error: ErrorBody {
                code: self.code.clone(),
                message: self.message.clone(),
                causes: self.causes.clone(),
                hint: self.hint.clone(),
                exit: self.exit(),
            },
        }
    }

    pub(crate) fn to_problem(&self) -> Problem {
        Problem {
            kind: "about:blank".into(),
            title: self.message.clone(),
            status: self.status(),
            code: self.code.clone(),
            hint: self.hint.clone(),
            causes: self.causes.clone(),
        }
    }
}

impl From<ErrorLine> for Failure {
    fn from(line: ErrorLine) -> Self {
        let ErrorBody { code, message, causes, hint, .. } = line.error;
        Self { code, message, causes, hint }
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        Self {
            code: problem.code,
            message: problem.title,
            causes: problem.causes,
            hint: problem.hint,
        }
    }
}

impl From<oob_core::Error> for Failure {
    fn from(error: oob_core::Error) -> Self {
        let mut causes = Vec::new();
        let mut next = error.source();
        while let Some(cause) = next {
            causes.push(cause.to_string());
            next = cause.source();
        }
        let message = error.to_string();
        // Some errors are their cause in other words; saying it twice helps nobody.
        causes.retain(|cause| *cause != message);
        Self { code: error.kind().code().to_owned(), message, causes, hint: error.hint() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_code_stands_once_and_has_a_documented_exit_code() {
        let codes: BTreeSet<_> = CODES.iter().map(|(code, _, _)| code).collect();
        assert_eq!(codes.len(), CODES.len());
        for (code, exit, status) in CODES {
            assert!([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 70].contains(exit), "{code}");
            assert!((400..600).contains(status), "{code}");
        }
    }

    #[test]
    fn a_failure_survives_the_local_api() {
        let failure = Failure::new("not_found", "nobody is called dan")
            .cause("there is a Dana")
            .hint("try: oob send dana TEXT");
        assert_eq!(Failure::from(failure.to_problem()), failure);
        assert_eq!(Failure::from(failure.to_line()), failure);
        assert_eq!((failure.exit(), failure.status()), (4, 404));
    }

    #[test]
    fn every_kind_of_the_library_has_its_row() {
        for kind in oob_core::ErrorKind::ALL {
            assert!(CODES.iter().any(|(code, _, _)| *code == kind.code()), "{kind}");
        }
    }

    #[test]
    fn a_code_nobody_knows_is_ours() {
        assert_eq!(Failure::new("surprise", "x").exit(), 70);
    }
}
