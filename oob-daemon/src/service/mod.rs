//! The daemon: one process that keeps one home open and serves its local API until it is told to stop.

mod api_file;
mod log;
mod socket;
mod stdio;

pub(crate) use api_file::read as read_api_file;
pub(crate) use stdio::{detach, silence, stop_with_stdin};

use crate::{
    api::{self, Access, Doorway, Shared},
    failure::Failure,
    schema::Ready,
    settings::Home,
};
use oob_core::{Node, Passphrase};
use rand::RngExt;
use sd_notify::NotifyState;
use std::{
    fs::DirBuilder,
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::fs::DirBuilderExt,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    net::{TcpListener, TcpSocket},
    signal::unix::{SignalKind, signal},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// How long the node may take to close its store; behind it the process ends anyway, which the store survives.
const CLOSE_TIME: Duration = Duration::from_secs(10);

/// Connections that the kernel keeps until they are taken: where it drops one, whoever asked tries again a second later.
const QUEUE: u32 = 1_024;

/// Bytes of the token: as hard to guess as a key.
const TOKEN_BYTES: usize = 32;

/// What a daemon is started with.
pub(crate) struct Start {
    pub(crate) home: Home,
    pub(crate) passphrase: Passphrase,
    /// Multiaddrs; with none the settings decide, else the default port.
    pub(crate) listen: Vec<String>,
    /// Where the local API listens besides the socket; port 0 takes a free one.
    pub(crate) api: SocketAddr,
    pub(crate) mdns: bool,
    pub(crate) beacon: bool,
}

/// Refuses every address that others could reach: the local API is for this machine. Of the loopback addresses only the two
/// that a request's Host may name.
pub(crate) fn check_api_address(api: SocketAddr) -> Result<(), Failure> {
    if api.ip() == Ipv4Addr::LOCALHOST || api.ip() == Ipv6Addr::LOCALHOST {
        return Ok(());
    }
    let fact = if api.ip().is_loopback() {
        format!("the local API listens at 127.0.0.1 or [::1], not at {}", api.ip())
    } else {
        format!("the local API does not listen at {api}, which other machines can reach")
    };
    Err(Failure::new("api_not_loopback", fact)
        .hint("leave it out, or say: oob up --api 127.0.0.1:0"))
}

/// Runs a daemon until it is stopped by a signal, by `shutdown`, or by `stop`. `ready` is called once it answers, with what to
/// tell the user about its port, if anything.
pub(crate) async fn serve(
    start: Start,
    stop: CancellationToken,
    ready: impl FnOnce(Ready, Option<String>),
) -> Result<(), Failure> {
    let began = Instant::now();
    check_api_address(start.api)?;
    let settings = start.home.settings()?;
    // A passphrase or a key in a core file would outlive everything else.
    let _no_core = rustix::process::setrlimit(
        rustix::process::Resource::Core,
        rustix::process::Rlimit { current: Some(0), maximum: Some(0) },
    );
    let listen = if start.listen.is_empty() { settings.listen } else { start.listen };
    let node = Node::builder(start.home.path())
        .passphrase(start.passphrase)
        .listen(listen)
        .mdns(start.mdns && settings.mdns.unwrap_or(true))
        .beacon(start.beacon && settings.beacon.unwrap_or(true))
        .spawn()
        .await?;
    if let Some((_, why)) = Node::stopped_by_itself(start.home.path()) {
        tracing::warn!("an earlier run stopped by itself: {why}");
    }
    // From here on the home's lock is ours, and with it the right to its log, socket and api.json.
    let served = match log::start(&start.home.log_file()) {
        Ok(()) => serve_node(&start.home, start.api, &node, stop, began, ready).await,
        Err(failure) => Err(failure),
    };
    tracing::info!("stopping");
    tell_manager(NotifyState::Stopping);
    let closed = match timeout(CLOSE_TIME, node.shutdown()).await {
        Ok(closed) => closed.map_err(Failure::from),
        Err(_) => Err(Failure::internal("the store did not close within 10 s")),
    };
    served.and(closed)
}

async fn serve_node(
    home: &Home,
    api: SocketAddr,
    node: &Node,
    stop: CancellationToken,
    began: Instant,
    ready: impl FnOnce(Ready, Option<String>),
) -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate())
        .map_err(|e| Failure::internal("signals cannot be heard").cause(e))?;
    let mut interrupt = signal(SignalKind::interrupt())
        .map_err(|e| Failure::internal("signals cannot be heard").cause(e))?;

    let tcp = listen(api).map_err(|e| api_taken(api, &e))?;
    let address = tcp.local_addr().map_err(|e| api_taken(api, &e))?;
    let socket = socket::bind(home)?;
    let token = rand::rng()
        .random::<[u8; TOKEN_BYTES]>()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<String>();
    let url = format!("http://{address}");
    let file = api_file::write(home, &url, &token, socket.path())?;

    let doorway = Arc::new(Doorway::new(address));
    let shared =
        Shared { node: node.clone(), stop: stop.clone(), doorway: Arc::clone(&doorway), began };
    let tasks = TaskTracker::new();
    let (access, places) = (Access::new(address.port(), token, doorway), api::places());
    tasks.spawn(api::serve_tcp(tcp, shared.clone(), access, places));
    let socket_path = socket.path().display().to_string();
    let (listener, socket_guard) = socket.into_parts();
    tasks.spawn(api::serve_socket(listener, shared, places));
    tasks.close();

    let status = node.status();
    tracing::info!(listen = ?status.listening, "ready");
    let note = status.moved_port.map(api::port_note);
    ready(
        Ready {
            pid: std::process::id(),
            socket: socket_path,
            api: url,
            listen: status.listening,
            ready_ms: millis(began.elapsed()),
            kdf_ms: millis(status.kdf),
        },
        note,
    );
    // Only now: whoever is started after this one finds the socket there.
    tell_manager(NotifyState::Ready);
    tokio::select! {
        () = stop.cancelled() => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        // A node that ended by itself leaves nothing to serve; its shutdown says why, and whoever watches starts it again.
        () = node.stopped() => tracing::error!("the node ended by itself"),
    }
    stop.cancel();
    // New commands find nobody from now on; those that are being answered still are.
    drop(file);
    drop(socket_guard);
    tasks.wait().await;
    Ok(())
}

/// Tells a service manager how the daemon stands, where there is one (`NOTIFY_SOCKET`).
fn tell_manager(state: NotifyState<'_>) {
    if let Err(e) = sd_notify::notify(&[state]) {
        tracing::warn!("the service manager cannot be told: {e}");
    }
}

fn listen(api: SocketAddr) -> io::Result<TcpListener> {
    let socket = if api.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(api)?;
    socket.listen(QUEUE)
}

fn api_taken(api: SocketAddr, error: &io::Error) -> Failure {
    let code = if error.kind() == io::ErrorKind::AddrInUse { "address_in_use" } else { "io" };
    Failure::new(code, format!("the local API cannot listen at {api}"))
        .cause(error)
        .hint("take any free port: oob up --api 127.0.0.1:0")
}

/// Returns whole milliseconds.
pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Makes a folder, and those above it, for this user alone.
pub(crate) fn private_folder(path: &std::path::Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_local_api_takes_no_address_that_nobody_may_name() {
        for (api, fine) in [
            ("127.0.0.1:0", true),
            ("[::1]:4000", true),
            ("127.0.0.2:0", false),
            ("0.0.0.0:0", false),
            ("[::]:0", false),
            ("192.168.1.7:80", false),
        ] {
            let refused = check_api_address(api.parse().unwrap()).err();
            assert_eq!(refused.is_none(), fine, "{api}");
            assert!(refused.is_none_or(|failure| failure.code() == "api_not_loopback"));
        }
    }

    /// A daemon whose node had ended by itself went on to answer every command with "closed".
    #[tokio::test]
    async fn a_daemon_ends_when_its_node_does() {
        let dir = tempfile::tempdir().unwrap();
        let home = Home::resolve(Some(dir.path())).unwrap();
        let node = Node::builder("")
            .in_memory()
            .identity("Dana")
            .listen(vec!["/ip4/127.0.0.1/tcp/0".into()])
            .mdns(false)
            .spawn()
            .await
            .unwrap();
        let (tell, ready) = tokio::sync::oneshot::channel();
        let api = "127.0.0.1:0".parse().unwrap();
        let (stop, began) = (CancellationToken::new(), Instant::now());
        let serving = {
            let (home, node, stop) = (home.clone(), node.clone(), stop.clone());
            tokio::spawn(async move {
                let told = |ready, _| tell.send(ready).unwrap();
                serve_node(&home, api, &node, stop, began, told).await
            })
        };
        let ready = ready.await.unwrap();
        assert!(home.api_file().exists() && std::path::Path::new(&ready.socket).exists());
        assert!(!stop.is_cancelled());
        node.shutdown().await.unwrap();
        timeout(Duration::from_secs(20), serving).await.unwrap().unwrap().unwrap();
        assert!(stop.is_cancelled() && !home.api_file().exists());
    }
}
