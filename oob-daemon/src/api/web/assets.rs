//! The page: files of the folder `web`, built into the program, each with headers that leave a mistake in the page nothing to
//! work with: no script but ours, no connection but to us, no frame around it.

use crate::{api::problem::Refusal, failure::Failure};
use axum::{
    Router,
    extract::{Path, Request},
    middleware::Next,
    response::{IntoResponse, Response},
    routing::get,
};
use hyper::header::{self, HeaderName, HeaderValue};
use rust_embed::RustEmbed;

#[derive(RustEmbed)]
#[folder = "web/"]
struct Files;

const PAGE: &str = "index.html";

/// Where everything but the page itself is.
const ASSETS: &str = "/assets/";

/// What the browser is told to allow the page. Strings are never markup: nothing may turn one into it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' blob:; \
     media-src 'self' blob:; require-trusted-types-for 'script'; trusted-types 'none'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";

/// Headers of every answer over TCP: what a person wrote stays out of caches, and other pages cannot take it in.
const HEADERS: [(HeaderName, HeaderValue); 6] = [
    (header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY)),
    (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (
        HeaderName::from_static("cross-origin-opener-policy"),
        HeaderValue::from_static("same-origin"),
    ),
    (
        HeaderName::from_static("cross-origin-resource-policy"),
        HeaderValue::from_static("same-origin"),
    ),
];

/// Says whether a path is part of the page, which holds no secret.
pub(in crate::api) fn is_public(path: &str) -> bool {
    path == "/" || path.starts_with(ASSETS)
}

/// Returns the routes of the page.
pub(in crate::api) fn routes() -> Router {
    Router::new()
        .route("/", get(|| async { file(PAGE) }))
        .route("/assets/{name}", get(|Path(name): Path<String>| async move { asset(&name) }))
}

/// Adds the headers to an answer.
pub(in crate::api) async fn guarded(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    response.headers_mut().extend(HEADERS);
    response
}

fn asset(name: &str) -> Response {
    if name == PAGE { none() } else { file(name) }
}

fn file(name: &str) -> Response {
    match (Files::get(name), kind(name)) {
        (Some(file), Some(kind)) => {
            ([(header::CONTENT_TYPE, kind)], file.data.into_owned()).into_response()
        }
        _ => none(),
    }
}

fn none() -> Response {
    let failure =
        Failure::new("no_such_resource", "there is no such file").hint("the page is at /");
    Refusal(failure).into_response()
}

/// Returns the media type of a file by the end of its name.
fn kind(name: &str) -> Option<&'static str> {
    match name.rsplit_once('.')?.1 {
        "html" => Some("text/html; charset=utf-8"),
        "js" => Some("text/javascript; charset=utf-8"),
        "css" => Some("text/css; charset=utf-8"),
        "svg" => Some("image/svg+xml"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_file_has_a_kind_and_every_script_is_reached() {
        let names: Vec<_> = Files::iter().collect();
        assert!(names.iter().any(|name| name == PAGE));
        for name in &names {
            assert!(kind(name).is_some() && !name.contains('/'), "{name} is not served");
        }
        let text = |name: &str| String::from_utf8(Files::get(name).unwrap().data.into()).unwrap();
        let all: String = names.iter().map(|name| text(name)).collect();
        for name in names.iter().filter(|name| *name != PAGE) {
            assert!(
                all.contains(&format!("/assets/{name}")) || all.contains(&format!("\"./{name}\"")),
                "nothing uses {name}"
            );
        }
    }

    #[test]
    fn nothing_in_the_page_makes_markup_of_text_or_asks_elsewhere() {
        for name in Files::iter() {
            let text = String::from_utf8(Files::get(&name).unwrap().data.into()).unwrap();
            for banned in [
                "innerHTML",
                "outerHTML",
                "insertAdjacentHTML",
                "document.write",
                "eval(",
                "new Function",
                "DOMParser",
                "createContextualFragment",
                "srcdoc",
                "javascript:",
                "https://",
                "localStorage",
                " style=\"",
                " onclick=",
            ] {
                assert!(!text.contains(banned), "{name} has {banned}");
            }
        }
    }
}
