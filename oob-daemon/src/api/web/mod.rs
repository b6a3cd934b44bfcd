//! The web page and its way in. The page itself is no secret and is served to anybody who can reach this machine's loopback
//! interface; what it shows comes from the local API, which a browser enters with a session.
//!
//! ```text
//!   oob web ── POST web/ticket (socket or token) ──> URL#t=TICKET        good once, for a minute
//!   browser ── POST web/session {ticket} ──────────> Set-Cookie, key     HttpOnly, SameSite=Strict, twelve hours
//!   browser ── the API, with cookie and key ───────> answers             while the daemon runs
//! ```

mod assets;
mod doorway;
mod entry;

pub(super) use assets::{guarded, is_public, routes as assets};
pub(crate) use doorway::Doorway;
pub(super) use doorway::Visit;
pub(super) use entry::{KEY, SESSION_PATH, logout, session, ticket};
