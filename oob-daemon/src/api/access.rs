//! Who gets an answer over TCP. A web page the user visits can make the browser send requests here, so a request must show
//! three things a foreign page cannot: our Host (against a name that points to this machine), no or our own Origin, and the
//! token. Our own page has no token but a session. Its cookie the browser adds to a foreign page's requests as well where that
//! page is on this machine, and sends to every server on it; so a cookie counts only with the key that our page alone knows,
//! and only if the browser says that nobody else asks.

use super::{
    problem::Refusal,
    web::{self, Doorway, Visit},
};
use crate::failure::Failure;
use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use hyper::{HeaderMap, Method, Uri, header};
use std::sync::Arc;
use subtle::ConstantTimeEq;
use tokio::time::Instant;

/// Answers without a token: it says nothing but that somebody is there.
const OPEN_PATH: &str = "/api/v1/health";

/// What a request over TCP must show.
#[derive(Debug)]
pub(crate) struct Access {
    hosts: [String; 3],
    origins: [String; 3],
    token: String,
    doorway: Arc<Doorway>,
}

/// How a request came in.
enum Entry {
    /// Anybody may ask this, or whoever knows the token does.
    Known,
    /// A browser, for as long as its session lasts.
    Browser(Visit),
}

impl Access {
    /// Allows this machine's names with this port, this token, and browsers that came in by this door.
    pub(crate) fn new(port: u16, token: String, doorway: Arc<Doorway>) -> Self {
        let hosts =
            [format!("127.0.0.1:{port}"), format!("localhost:{port}"), format!("[::1]:{port}")];
        let origins = hosts.clone().map(|host| format!("http://{host}"));
        Self { hosts, origins, token, doorway }
    }

    /// Checks a request's head in the order Host, Origin, token or session.
    fn check(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<Entry, Failure> {
        let host = only(headers, &header::HOST).ok_or_else(|| bad_host("none or several"))?;
        // In the absolute form of a request line the name stands there and the header may say anything.
        let named = uri.authority().map_or(host, |authority| authority.as_str());
        for name in [host, named] {
            if !self.hosts.iter().any(|allowed| allowed == name) {
                return Err(bad_host(name));
            }
        }
        if headers.contains_key(header::ORIGIN) {
            let origin = only(headers, &header::ORIGIN).unwrap_or("several");
            if !self.origins.iter().any(|allowed| allowed == origin) {
                return Err(bad_origin());
            }
        }
        if uri.path() == OPEN_PATH || web::is_public(uri.path()) {
            return Ok(Entry::Known);
        }
        if uri.path() == web::SESSION_PATH && *method == Method::POST {
            return from_our_page(method, host, headers).map(|()| Entry::Known);
        }
        // Whoever sends a token is judged by it alone.
        if headers.contains_key(header::AUTHORIZATION) {
            let given = only(headers, &header::AUTHORIZATION)
                .and_then(|value| value.strip_prefix("Bearer "))
                .unwrap_or("");
            return match bool::from(given.as_bytes().ct_eq(self.token.as_bytes())) {
                true => Ok(Entry::Known),
                false => Err(unauthorized()),
            };
        }
        let visit = only(headers, &header::COOKIE)
            .zip(only(headers, &web::KEY))
            .and_then(|(cookies, key)| self.doorway.visit(cookies, key, Instant::now()))
            .ok_or_else(unauthorized)?;
        from_our_page(method, host, headers)?;
        Ok(Entry::Browser(visit))
    }
}

/// Checks what the browser says of who made it ask: for what changes something the Origin, which must be the very host asked,
/// and for everything the site, where the browser tells it.
fn from_our_page(method: &Method, host: &str, headers: &HeaderMap) -> Result<(), Failure> {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    let origin = only(headers, &header::ORIGIN).and_then(|origin| origin.strip_prefix("http://"));
    let silent = reads && !headers.contains_key(header::ORIGIN);
    let site = headers.contains_key(SITE).then(|| only(headers, &SITE).unwrap_or("several"));
    if (silent || origin == Some(host)) && matches!(site, None | Some("same-origin" | "none")) {
        return Ok(());
    }
    Err(bad_origin())
}

/// Who made the browser ask, as it says itself: no script can set it.
const SITE: header::HeaderName = header::HeaderName::from_static("sec-fetch-site");

fn bad_origin() -> Failure {
    Failure::new("bad_origin", "requests from this web page are not answered")
        .hint("only pages of this daemon itself may ask it")
}

fn unauthorized() -> Failure {
    Failure::new("unauthorized", "the token or the session is missing or wrong").hint(
        "for a browser run: oob web; else send the header Authorization: Bearer TOKEN with the token of api.json in the home",
    )
}

fn bad_host(name: &str) -> Failure {
    let shown: String = name.chars().take(80).collect();
    Failure::new("bad_host", format!("requests for the host {shown:?} are not answered"))
        .hint("use the url of api.json in the home")
}

/// Returns a header's value if it stands there once and is text.
fn only<'a>(headers: &'a HeaderMap, name: &header::HeaderName) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

/// Lets a request through that shows what it must.
pub(super) async fn admit(
    State(access): State<Arc<Access>>,
    mut request: Request,
    next: Next,
) -> Response {
    match access.check(request.method(), request.uri(), request.headers()) {
        Ok(Entry::Known) => next.run(request).await,
        Ok(Entry::Browser(visit)) => {
            request.extensions_mut().insert(visit);
            next.run(request).await
        }
        Err(failure) => Refusal(failure).into_response(),
    }
}

/// Refuses bodies that a plain web form can send. A request that changes something always says that it is JSON.
pub(super) async fn json_only(request: Request, next: Next) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    let kind = only(request.headers(), &header::CONTENT_TYPE).map(essence);
    if reads || matches!(kind, Some("application/json" | "application/x-ndjson")) {
        return next.run(request).await;
    }
    let failure = Failure::new("unsupported_media_type", "the body must be JSON")
        .hint("send the header Content-Type: application/json");
    Refusal(failure).into_response()
}

/// Returns a media type without its parameters.
pub(super) fn essence(kind: &str) -> &str {
    kind.split(';').next().unwrap_or("").trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            map.append(
                header::HeaderName::from_bytes(name.as_bytes()).unwrap(),
                value.parse().unwrap(),
            );
        }
        map
    }

    #[test]
    fn two_hosts_or_an_absolute_form_cannot_smuggle_a_name() {
        let access = {
            let doorway = Doorway::new(([127, 0, 0, 1], 80).into());
            Access::new(80, "t".into(), Arc::new(doorway))
        };
        let code = |uri: &str, pairs: &[(&str, &str)]| {
            access
                .check(&Method::GET, &uri.parse().unwrap(), &headers(pairs))
                .err()
                .map(|failure| failure.code().to_owned())
        };
        let token = ("authorization", "Bearer t");
        assert_eq!(code("/api/v1/me", &[("host", "localhost:80"), token]), None);
        assert_eq!(
            code("/api/v1/me", &[("host", "localhost:80"), ("host", "evil"), token]).as_deref(),
            Some("bad_host")
        );
        assert_eq!(
            code("http://evil/api/v1/me", &[("host", "localhost:80"), token]).as_deref(),
            Some("bad_host")
        );
        assert_eq!(
            code("/api/v1/me", &[("host", "localhost:80"), ("authorization", "Bearer t2")])
                .as_deref(),
            Some("unauthorized")
        );
        assert_eq!(code("/api/v1/health", &[("host", "localhost:80")]), None);
        assert_eq!(
            code("/api/v1/health", &[("host", "rebound.example:80")]).as_deref(),
            Some("bad_host")
        );
    }
}
