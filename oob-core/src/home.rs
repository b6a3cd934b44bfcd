//! The folder of an identity: made once, opened at every start. Everything here blocks.

use crate::{
    config::Config,
    error::{Error, ErrorKind},
};
use oob_engine::{
    Engine, EngineError, Input,
    effect::Answer,
    input::{Command, Ticket},
    model::{DeviceClass, Name, Now},
};
use oob_store::{Passphrase, Store};
use rand::{CryptoRng, rngs::SysRng};
use rand_core::UnwrapErr;
use std::{
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};

/// Where an identity is kept and what opens it.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    /// None: in memory.
    pub(crate) folder: Option<PathBuf>,
    pub(crate) name: Option<String>,
    pub(crate) passphrase: Option<Passphrase>,
}

/// A home that was opened or made.
pub(crate) struct Opened {
    pub(crate) engine: Engine,
    pub(crate) kdf: Duration,
}

impl Home {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder: Some(folder), name: None, passphrase: None }
    }
}

/// The operating system's generator, which the system keeps seeded; it never fails once a process runs.
pub(crate) fn rng() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

fn boxed_rng() -> Box<dyn CryptoRng + Send> {
    Box::new(rng())
}

/// The moment, for what runs before the clock of the rules' thread starts.
pub(crate) fn now() -> Now {
    Now { wall_ms: wall_ms(), mono_ms: 0 }
}

/// The moment, by the clock of the rules' thread, which started then.
pub(crate) fn now_after(start: Instant) -> Now {
    let mono_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    Now { wall_ms: wall_ms(), mono_ms }
}

/// Milliseconds since 1970 by this device's clock; 0 for a clock before that.
pub(crate) fn wall_ms() -> u64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Opens the identity, or makes it if there is none and a name was given.
pub(crate) fn open_or_make(home: Home, config: &Config) -> Result<Opened, Error> {
    let name = home.name.as_deref().map(Name::parse).transpose()?;
    let Some(folder) = &home.folder else {
        let store = Store::in_memory(rng())?;
        let name = name.ok_or_else(no_identity)?;
        return Ok(Opened { engine: create(store, name, config)?, kdf: Duration::ZERO });
    };
    let passphrase = passphrase(&home)?;
    if !Store::exists(folder) {
        let name = name.ok_or_else(no_identity)?;
        let opened = Store::create(folder, passphrase, config.kdf, rng())?;
        return Ok(Opened { engine: create(opened.store, name, config)?, kdf: opened.kdf });
    }
    let opened = Store::open(folder, passphrase, rng())?;
    let kdf = opened.kdf;
    match (Engine::open(opened.store, boxed_rng(), now()), name) {
        (Ok(engine), _) => Ok(Opened { engine, kdf }),
        // Interrupted between making the store and making the identity.
        (Err(EngineError::NoIdentity), Some(name)) => {
            let opened = Store::open(folder, passphrase, rng())?;
            Ok(Opened { engine: create(opened.store, name, config)?, kdf })
        }
        (Err(EngineError::NoIdentity), None) => Err(no_identity()),
        (Err(error), _) => Err(error.into()),
    }
}

/// Makes the identity; one that exists is refused.
pub(crate) fn make(home: Home, config: &Config) -> Result<Engine, Error> {
    let name = home.name.as_deref().map(Name::parse).transpose()?.ok_or_else(|| {
        Error::new(ErrorKind::Empty, "an identity needs a name")
            .with_hint("say who you are: oob init --name YOUR_NAME")
    })?;
    if let Some(folder) = &home.folder
        && Store::exists(folder)
    {
        let empty = passphrase(&home).and_then(|passphrase| {
            let opened = Store::open(folder, passphrase, rng())?;
            match Engine::open(opened.store, boxed_rng(), now()) {
                Err(EngineError::NoIdentity) => Ok(()),
                _ => Err(Error::closed()),
            }
        });
        if empty.is_err() {
            return Err(Error::new(
                ErrorKind::AlreadyInitialised,
                format!("there is an identity in {} already", folder.display()),
            ));
        }
    }
    Ok(open_or_make(Home { name: Some(name.to_string()), ..home }, config)?.engine)
}

/// Runs one command on rules that have no thread of their own yet.
pub(crate) fn run(engine: &mut Engine, command: Command) -> Result<Answer, Error> {
    let ticket = Ticket(0);
    engine.handle(Input::Command { ticket, command: Box::new(command) }, now());
    let outcome = engine.commit(now())?;
    let reply = outcome.replies.into_iter().find(|reply| reply.ticket == ticket);
    let reply = reply.ok_or_else(|| Error::internal("the rules did not answer a command"))?;
    Ok(reply.result?)
}

/// Closes a store that no thread owns yet.
pub(crate) async fn close(engine: Engine) -> Result<(), Error> {
    tokio::task::spawn_blocking(move || engine.close())
        .await
        .map_err(|_| Error::internal("closing the store was interrupted"))?
        .map_err(Error::from)
}

fn create(store: Store, name: Name, config: &Config) -> Result<Engine, Error> {
    let mut engine = Engine::create(store, boxed_rng(), name, now())?;
    if config.class != DeviceClass::Unknown || !config.site.is_empty() {
        let command = Command::SetDevice { class: config.class, site: config.site.clone() };
        run(&mut engine, command)?;
    }
    Ok(engine)
}

pub(crate) fn passphrase(home: &Home) -> Result<&Passphrase, Error> {
    home.passphrase.as_ref().ok_or_else(|| {
        Error::new(ErrorKind::WrongPassphrase, "no passphrase was given")
            .with_hint("give one: oob up --passphrase-file FILE")
    })
}

fn no_identity() -> Error {
    Error::new(ErrorKind::NotInitialised, "there is no identity here yet")
}
