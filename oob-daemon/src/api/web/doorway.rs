//! Tickets and sessions of browsers. Only their hashes are kept, in memory: they end with the daemon.

use rand::RngExt;
use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Bytes of a ticket and of a session: as hard to guess as a key.
const SECRET_BYTES: usize = 32;

/// How long a ticket is good: a browser may have to start first.
const TICKET_LIFE: Duration = Duration::from_secs(60);

/// Tickets waiting at once; a person opens one page at a time. Where there are more the oldest is void.
const TICKETS: usize = 16;

/// How long a session lasts: a long shift. Whoever stays longer runs `oob web` again.
pub(super) const SESSION_LIFE: Duration = Duration::from_secs(12 * 60 * 60);

/// Sessions at once: each `oob web` makes one. Where there are more the oldest ends.
const SESSIONS: usize = 64;

/// Who may come in through a browser.
#[derive(Debug)]
pub(crate) struct Doorway {
    origin: String,
    cookie: String,
    passes: Mutex<Passes>,
}

#[derive(Debug, Default)]
struct Passes {
    tickets: VecDeque<Pass>,
    sessions: VecDeque<Pass>,
}

#[derive(Debug)]
struct Pass {
    hash: blake3::Hash,
    /// Of the key that the page must show besides, where this is a session.
    key: Option<blake3::Hash>,
    visit: Visit,
}

/// What a browser that comes in is given.
pub(super) struct Entrance {
    /// The value of `Set-Cookie`.
    pub(super) cookie: String,
    /// What the page says in a header of every request. A browser sends the cookie to every port of this machine, and no
    /// other page can read this.
    pub(super) key: String,
}

/// How long a request's session lasts: what outlives the request, as a stream does, ends with it.
#[derive(Debug, Clone)]
pub(crate) struct Visit {
    /// When it ends by itself.
    pub(crate) until: Instant,
    /// Cancelled when it is ended before that.
    pub(crate) left: CancellationToken,
}

impl Visit {
    fn lasting(life: Duration, now: Instant) -> Self {
        Self { until: now + life, left: CancellationToken::new() }
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(self) {
        tokio::select! {
            () = self.left.cancelled() => {}
            () = tokio::time::sleep_until(self.until) => {}
        }
    }
}

impl Doorway {
    /// Makes the way in of a daemon whose local API is at this port of this machine.
    pub(crate) fn new(address: std::net::SocketAddr) -> Self {
        Self {
            origin: format!("http://{address}"),
            // A browser keeps cookies by host and not by port: two daemons of one machine must not share a name.
            cookie: format!("oob_{}", address.port()),
            passes: Mutex::default(),
        }
    }

    /// Makes a ticket and returns the address that carries it.
    pub(super) fn issue(&self, now: Instant) -> String {
        let ticket = Secret::generate();
        let visit = Visit::lasting(TICKET_LIFE, now);
        let pass = Pass { hash: ticket.hash(), key: None, visit };
        keep(&mut self.passes(now).tickets, pass, TICKETS);
        // Behind `#`, so that no browser sends it anywhere by itself.
        format!("{}/#t={}", self.origin, ticket.as_str())
    }

    /// Takes a ticket, which is then void, and returns a new session.
    pub(super) fn redeem(&self, ticket: &str, now: Instant) -> Option<Entrance> {
        let wanted = hash(ticket);
        let mut passes = self.passes(now);
        let place = passes.tickets.iter().position(|pass| pass.hash == wanted)?;
        passes.tickets.remove(place)?;
        let (session, key) = (Secret::generate(), Secret::generate());
        let visit = Visit::lasting(SESSION_LIFE, now);
        let pass = Pass { hash: session.hash(), key: Some(key.hash()), visit };
        keep(&mut passes.sessions, pass, SESSIONS);
        let cookie = self.set_cookie(session.as_str(), SESSION_LIFE);
        Some(Entrance { cookie, key: key.0 })
    }

    /// Returns the session that a `Cookie` header names, if there is one and the key is its own.
    pub(crate) fn visit(&self, cookies: &str, key: &str, now: Instant) -> Option<Visit> {
        let key = Some(hash(key));
        let passes = self.passes(now);
        self.named(cookies).find_map(|session| {
            let wanted = hash(session);
            let known = passes.sessions.iter().find(|pass| pass.hash == wanted)?;
            (known.key == key).then(|| known.visit.clone())
        })
    }

    /// Ends the sessions that a `Cookie` header names and returns the value of `Set-Cookie` that forgets them.
    pub(super) fn leave(&self, cookies: &str, now: Instant) -> String {
        let mut passes = self.passes(now);
        for session in self.named(cookies) {
            let ended = hash(session);
            passes.sessions.retain(|pass| {
                let stays = pass.hash != ended;
                if !stays {
                    pass.visit.left.cancel();
                }
                stays
            });
        }
        self.set_cookie("", Duration::ZERO)
    }

    /// Returns every value under our name. Another program of this machine may have set one of that name too, so it is not the
    /// first that counts but the one that is known.
    fn named<'a>(&'a self, cookies: &'a str) -> impl Iterator<Item = &'a str> {
        cookies
            .split(';')
            .filter_map(|pair| pair.trim().split_once('='))
            .filter(|(name, _)| *name == self.cookie)
            .map(|(_, value)| value)
    }

    fn set_cookie(&self, value: &str, life: Duration) -> String {
        let seconds = life.as_secs();
        format!("{}={value}; HttpOnly; SameSite=Strict; Path=/; Max-Age={seconds}", self.cookie)
    }

    /// Returns what is still good at this moment.
    fn passes(&self, now: Instant) -> MutexGuard<'_, Passes> {
        // Nothing that is done with the lock held can stop half-way.
        let mut passes = self.passes.lock().unwrap_or_else(PoisonError::into_inner);
        passes.tickets.retain(|pass| pass.visit.until > now);
        passes.sessions.retain(|pass| pass.visit.until > now);
        passes
    }
}

fn keep(passes: &mut VecDeque<Pass>, pass: Pass, most: usize) {
    while passes.len() >= most {
        if let Some(oldest) = passes.pop_front() {
            oldest.visit.left.cancel();
        }
    }
    passes.push_back(pass);
}

/// A random value as hexadecimal digits: what a browser is given.
struct Secret(String);

impl Secret {
    fn generate() -> Self {
        let bytes = rand::rng().random::<[u8; SECRET_BYTES]>();
        Self(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    fn as_str(&self) -> &str {
        &self.0
    }

    fn hash(&self) -> blake3::Hash {
        hash(&self.0)
    }
}

/// Hashes are compared in constant time, so how long a wrong guess takes says nothing.
fn hash(text: &str) -> blake3::Hash {
    blake3::hash(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn doorway() -> Doorway {
        Doorway::new(([127, 0, 0, 1], 4900).into())
    }

    fn ticket(doorway: &Doorway, now: Instant) -> String {
        let url = doorway.issue(now);
        url.strip_prefix("http://127.0.0.1:4900/#t=").unwrap().to_owned()
    }

    /// The `Cookie` header a browser sends after it came in, and the key of its page.
    fn come_in(doorway: &Doorway, now: Instant) -> (String, String) {
        let Entrance { cookie, key } = doorway.redeem(&ticket(doorway, now), now).unwrap();
        (cookie.split(';').next().unwrap().to_owned(), key)
    }

    #[test]
    fn a_ticket_is_good_once_and_for_a_minute() {
        let (doorway, now) = (doorway(), Instant::now());
        let first = ticket(&doorway, now);
        assert_eq!(first.len(), 64);
        assert!(doorway.redeem(&first[1..], now).is_none());
        let set = doorway.redeem(&first, now + TICKET_LIFE - MS).unwrap().cookie;
        assert!(set.ends_with("; HttpOnly; SameSite=Strict; Path=/; Max-Age=43200"), "{set}");
        assert!(doorway.redeem(&first, now).is_none());
        let late = ticket(&doorway, now);
        assert!(doorway.redeem(&late, now + TICKET_LIFE).is_none());
        assert!(doorway.redeem("", now).is_none());
    }

    #[test]
    fn a_ticket_is_no_session_and_a_session_no_ticket() {
        let (doorway, now) = (doorway(), Instant::now());
        let first = ticket(&doorway, now);
        assert!(doorway.visit(&format!("oob_4900={first}"), &first, now).is_none());
        let (session, key) = come_in(&doorway, now);
        let value = session.strip_prefix("oob_4900=").unwrap();
        assert!(doorway.redeem(value, now).is_none() && doorway.redeem(&key, now).is_none());
        assert!(doorway.visit(&session, &key, now).is_some());
    }

    #[test]
    fn a_cookie_without_the_key_of_its_page_is_nothing() {
        let (doorway, now) = (doorway(), Instant::now());
        let ((one, key), (other, others)) = (come_in(&doorway, now), come_in(&doorway, now));
        let value = one.strip_prefix("oob_4900=").unwrap();
        for wrong in ["", &key[1..], value, &others] {
            assert!(doorway.visit(&one, wrong, now).is_none(), "{wrong}");
        }
        assert!(doorway.visit(&format!("oob_4900={key}"), &key, now).is_none());
        assert!(doorway.visit(&one, &key, now).is_some());
        assert!(doorway.visit(&other, &others, now).is_some());
        // A browser sends both where it has both; the key says which is meant.
        assert!(doorway.visit(&format!("{one}; {other}"), &others, now).is_some());
    }

    #[test]
    fn a_session_ends_after_twelve_hours_or_when_it_is_left() {
        let (doorway, now) = (doorway(), Instant::now());
        let (session, key) = come_in(&doorway, now);
        assert!(doorway.visit(&session, &key, now + SESSION_LIFE - MS).is_some());
        let visit = doorway.visit(&session, &key, now).unwrap();
        assert!(doorway.leave(&session, now).contains("Max-Age=0"));
        assert!(visit.left.is_cancelled());
        assert!(doorway.visit(&session, &key, now).is_none());
        let (session, key) = come_in(&doorway, now);
        assert!(doorway.visit(&session, &key, now + SESSION_LIFE).is_none());
    }

    #[test]
    fn a_cookie_of_another_program_under_our_name_does_not_lock_out() {
        let (doorway, now) = (doorway(), Instant::now());
        let (session, key) = come_in(&doorway, now);
        let both = format!("oob_4900=tossed; theme=dark; {session}");
        assert!(doorway.visit(&both, &key, now).is_some());
        assert!(doorway.visit("oob_4900=tossed; theme", &key, now).is_none());
        let other = session.replace("oob_4900", "oob_4901");
        assert!(doorway.visit(&other, &key, now).is_none());
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_oldest_goes_first() {
        let (doorway, now) = (doorway(), Instant::now());
        let tickets: Vec<_> = (0..=TICKETS).map(|_| ticket(&doorway, now)).collect();
        assert!(doorway.redeem(&tickets[0], now).is_none());
        assert!(doorway.redeem(&tickets[1], now).is_some());
        let sessions: Vec<_> = (0..=SESSIONS).map(|_| come_in(&doorway, now)).collect();
        assert!(doorway.visit(&sessions[0].0, &sessions[0].1, now).is_none());
        assert!(doorway.visit(&sessions[1].0, &sessions[1].1, now).is_some());
        let passes = doorway.passes(now);
        assert_eq!((passes.tickets.len(), passes.sessions.len()), (TICKETS - 1, SESSIONS));
    }

    #[test]
    fn nothing_kept_opens_anything() {
        let (doorway, now) = (doorway(), Instant::now());
        let waiting = ticket(&doorway, now);
        let (session, key) = come_in(&doorway, now);
        let kept = format!("{:?}", doorway.passes(now));
        assert!(!kept.contains(&waiting) && !kept.contains(&session[9..]) && !kept.contains(&key));
    }
}
