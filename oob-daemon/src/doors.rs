//! Ways in for the fuzzers: what programs of this machine send to the local API, and what is typed, piped or configured. Each
//! says whether it was taken.

use crate::{api, cli, client, plain, settings::Settings, target::Target};
use oob_core::Node;
use std::sync::{LazyLock, Mutex, PoisonError};
use tokio::runtime::{Builder, Runtime};

/// Connections to one node; then another takes its place, so that what is stored does not grow.
const CONNECTIONS: u32 = 500;

/// What would have the node dial somewhere.
const DIALS: [&[u8]; 2] = [b"addresses", b"join"];

/// A connection to the local API: by which way u8 (even: the socket), then all that is said on it. Taken if the first answer is.
pub fn api(bytes: &[u8]) -> bool {
    static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
        runtime.unwrap_or_else(|error| panic!("no runtime: {error}"))
    });
    static SERVING: Mutex<(Option<Node>, u32)> = Mutex::new((None, 0));
    let Some((way, said)) = bytes.split_first() else { return false };
    if DIALS.iter().any(|word| said.windows(word.len()).any(|part| part == *word)) {
        return false;
    }
    let mut serving = SERVING.lock().unwrap_or_else(PoisonError::into_inner);
    let (node, count) = &mut *serving;
    *count += 1;
    if *count > CONNECTIONS {
        if let Some(node) = node.take() {
            let ended = RUNTIME.block_on(node.shutdown());
            assert!(ended.is_ok(), "{ended:?}");
        }
        *count = 1;
    }
    let answer = RUNTIME.block_on(api::exchange(node, way & 1 != 0, said));
    let answer = answer.unwrap_or_else(|error| panic!("{error}"));
    let status =
        |code: &[u8]| answer.strip_prefix(b"HTTP/1.1 ").is_some_and(|rest| rest.starts_with(code));
    assert!(!status(b"500"), "{}", String::from_utf8_lossy(&answer));
    if let Some(error) = node.as_ref().and_then(Node::failure) {
        panic!("the node has stopped: {error}");
    }
    status(b"2")
}

/// A text: which kind u8, then it. 0: words of a command line, one a line; 1: settings; 2: events of a daemon; 3: to whom
/// something goes.
pub fn typed(bytes: &[u8]) -> bool {
    let Some((kind, rest)) = bytes.split_first() else { return false };
    if kind % 4 == 2 {
        let events = client::events(rest, usize::MAX);
        assert_eq!(client::events(rest, 1), events, "pieces matter");
        return events.is_some_and(|events| !events.is_empty());
    }
    let Ok(text) = std::str::from_utf8(rest) else { return false };
    let shown = plain(text);
    assert_eq!(plain(&shown), shown, "cleaned twice is cleaned otherwise");
    assert!(!shown.contains(|c: char| c.is_control() && c != '\n'), "{shown:?}");
    match kind % 4 {
        0 => cli::arguments(text),
        1 => toml::from_str::<Settings>(text).is_ok(),
        _ => Target::parse(text).is_ok(),
    }
}
