//! The node: one identity, its store, its rules, its mesh.

use crate::{
    actor,
    api::{
        Addresses, Alerts, Cursor, Events, Faults, Identity, Invite, Message, Org, Person, Receipt,
        Status,
    },
    backup::{self, BackupInfo, Keepsakes, Recovered},
    config::{Config, Preset},
    error::Error,
    handle::Handle,
    home::{self, Home},
    join, query,
};
use oob_engine::{
    effect::Answer,
    input::Command,
    model::{DeviceClass, Name},
};
use oob_proto::ConversationId;
use oob_store::{Kdf, Passphrase};
use std::{fmt, path::PathBuf, sync::Arc, time::Instant};
use tokio::sync::Semaphore;

/// A running node. Cheap to clone; it ends with [`Node::shutdown`], or when the last clone and everything taken from it
/// is dropped.
#[derive(Clone)]
pub struct Node {
    handle: Arc<Handle>,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("home", &self.handle.home).finish_non_exhaustive()
    }
}

/// How a node is started.
#[derive(Debug, Clone)]
#[must_use = "nothing starts before spawn"]
pub struct NodeBuilder {
    home: Home,
    config: Config,
}

impl NodeBuilder {
    /// Gives the name of the person; with it an identity is made if there is none yet.
    pub fn identity(mut self, name: impl Into<String>) -> Self {
        self.home.name = Some(name.into());
        self
    }

    /// Gives what unlocks the store.
    pub fn passphrase(mut self, passphrase: Passphrase) -> Self {
        self.home.passphrase = Some(passphrase);
        self
    }

    /// Chooses how far the node reaches out.
    pub fn preset(mut self, preset: Preset) -> Self {
        self.config.preset = preset;
        self
    }

    /// Gives the multiaddrs to listen on, all of which must be free. Without any: TCP and UDP port 4801 on every
    /// interface, or the next free port.
    pub fn listen(mut self, addresses: Vec<String>) -> Self {
        self.config.listen = addresses;
        self
    }

    /// Chooses whether to find others, and be found, by mDNS. It is on unless switched off.
    pub fn mdns(mut self, on: bool) -> Self {
        self.config.mdns = on;
        self
    }

    /// Chooses whether to find members, and be found by them, by beacons on the local networks. They tell nobody else
    /// anything. It is on unless switched off; who listens on loopback only sends none.
    pub fn beacon(mut self, on: bool) -> Self {
        self.config.beacon = on;
        self
    }

    /// Chooses the memory that a try of the passphrase costs, for a store that is made now: 65,536 to 2,097,152 KiB.
    pub fn kdf_memory_kib(mut self, kib: u32) -> Self {
        self.config.kdf = Kdf { memory_kib: kib, ..Kdf::default() };
        self
    }

    /// Keeps everything in memory: nothing is written, nothing survives, no passphrase is needed.
    pub fn in_memory(mut self) -> Self {
        self.home.folder = None;
        self
    }

    /// Says what kind of device this is and where it stands; heard only while an identity is made.
    pub fn device(mut self, class: DeviceClass, site: impl Into<String>) -> Self {
        self.config.class = class;
        self.config.site = site.into();
        self
    }

    /// Starts the node. Returns when its store is open and it listens, not when anybody is found.
    ///
    /// # Errors
    /// No identity in the folder and no name given, a wrong passphrase, a store that is damaged, foreign, rolled back or
    /// open elsewhere, an address to listen on that is taken. Nothing in the folder was changed by a refusal.
    ///
    /// # Cancel safety
    /// Safe: what was begun is undone, though the store may stay locked until its opening has ended.
    pub async fn spawn(self) -> Result<Node, Error> {
        let started = Instant::now();
        let Self { home, config } = self;
        let kept = home.folder.clone();
        let folder = kept.clone().unwrap_or_default();
        let opening = config.clone();
        let opened = tokio::task::spawn_blocking(move || home::open_or_make(home, &opening))
            .await
            .map_err(|_| Error::internal("opening the store was interrupted"))??;
        let keys = opened.engine.local_keys();
        let mesh = oob_mesh::start(config.mesh(keys.transport_secret.clone())).await;
        let (mesh, mesh_events) = match mesh {
            Ok(started) => started,
            Err(error) => {
                home::close(opened.engine).await?;
                return Err(error.into());
            }
        };
        let parts = actor::start(opened.engine, kept, keys, mesh, mesh_events).await?;
        let handle = Handle {
            gate: parts.gate,
            history: parts.history,
            events: parts.events,
            last_event: parts.last_event,
            home: folder,
            kdf: opened.kdf,
            ready: started.elapsed(),
            failures: parts.failures,
            #[cfg(test)]
            links: parts.links,
            joining: Semaphore::new(1),
            task: parts.task,
        };
        Ok(Node { handle: Arc::new(handle) })
    }

    /// Makes the identity, founds an organisation if one is named, and closes again, with no network at all.
    ///
    /// # Errors
    /// An identity that exists already, no name, a name that is refused, a folder that cannot be written.
    pub async fn init_only(self, org: Option<&str>) -> Result<Identity, Error> {
        let org = org.map(Name::parse).transpose()?;
        let Self { home, config } = self;
        tokio::task::spawn_blocking(move || {
            let folder = home.folder.clone().unwrap_or_default();
            let mut engine = home::make(home, &config)?;
            if let Some(name) = org {
                home::run(&mut engine, Command::Found { name })?;
            }
            let identity = Identity::of(&engine.snapshot(), &folder);
            engine.close()?;
            Ok(identity)
        })
        .await
        .map_err(|_| Error::internal("making the identity was interrupted"))?
    }
}

impl NodeBuilder {
    /// Writes everything but ratchets and other secrets of the moment to a file that must not be there yet, sealed under a
    /// passphrase of its own. `step` is told how many records are done, and about how many there are.
    ///
    /// # Errors
    /// A node that runs on the folder, a store that does not open, a file that cannot be made. There is no file then.
    pub async fn write_backup(
        self,
        file: impl Into<PathBuf>,
        passphrase: Passphrase,
        mut step: impl FnMut(u64, u64) + Send + 'static,
    ) -> Result<BackupInfo, Error> {
        let (Self { home, config }, file) = (self, file.into());
        blocking(move || backup::write(home, &config, &file, &passphrase, &mut step)).await
    }

    /// Makes the folder's store of a backup; there must be none yet. The device begins another life when it is started.
    ///
    /// # Errors
    /// A store in the folder, a wrong passphrase of the backup, a backup that is not whole. There is no store then.
    pub async fn restore_backup(
        self,
        file: impl Into<PathBuf>,
        backup_passphrase: Passphrase,
        mut step: impl FnMut(u64) + Send + 'static,
    ) -> Result<Recovered, Error> {
        let (Self { home, config }, file) = (self, file.into());
        blocking(move || backup::restore(&home, &config, &file, &backup_passphrase, &mut step))
            .await
    }

    /// Puts a store that is damaged, rolled back or not of this folder aside, and makes one of the newest snapshot that
    /// opens. Nothing is deleted. The device begins another life when it is started.
    ///
    /// # Errors
    /// A store that is whole, no snapshot that opens, a wrong passphrase, a node that runs on the folder.
    pub async fn recover(self) -> Result<Recovered, Error> {
        let Self { home, .. } = self;
        blocking(move || backup::recover(&home)).await
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Error::internal("work on the store was interrupted"))?
}

impl Node {
    /// Reads a backup or snapshot to its end, changing nothing, and returns what it holds. `step` is told the number of each
    /// record.
    ///
    /// # Errors
    /// A wrong passphrase, a file that is no backup or not whole.
    pub async fn verify_backup(
        file: impl Into<PathBuf>,
        passphrase: Passphrase,
        mut step: impl FnMut(u64) + Send + 'static,
    ) -> Result<BackupInfo, Error> {
        let file = file.into();
        blocking(move || backup::verify(&file, &passphrase, &mut step)).await
    }

    /// Looks at what a folder keeps beside its store, without its passphrase and without changing anything.
    pub fn keepsakes(folder: &std::path::Path) -> Keepsakes {
        backup::keepsakes(folder)
    }

    /// Looks at the store in a folder without its passphrase and without changing anything: its parts are there and its
    /// keyring is whole. Returns the KiB of memory that a try of the passphrase takes.
    ///
    /// # Errors
    /// No identity there, or a store that is damaged or written by a newer version.
    pub fn inspect(folder: &std::path::Path) -> Result<u32, Error> {
        Ok(oob_store::Store::inspect(folder)?.memory_kib)
    }

    /// Returns when the node of a folder last stopped by itself, and why: a store that failed, or a defect. The mark stays until
    /// somebody removes the file `fault` there.
    pub fn stopped_by_itself(folder: &std::path::Path) -> Option<(std::time::SystemTime, String)> {
        Faults::stopped(folder)
    }

    /// Returns how many copies of bytes that made a task fail are kept in a folder.
    pub fn quarantined(folder: &std::path::Path) -> usize {
        std::fs::read_dir(actor::quarantined(folder)).map_or(0, Iterator::count)
    }

    #[cfg(test)]
    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// Begins to describe a node whose store is in a folder.
    pub fn builder(folder: impl Into<PathBuf>) -> NodeBuilder {
        NodeBuilder { home: Home::new(folder.into()), config: Config::default() }
    }

    /// Returns this device, its person and their organisation.
    pub fn me(&self) -> Identity {
        Identity::of(&self.handle.snapshot(), &self.handle.home)
    }

    /// Founds an organisation with this device's person as its first admin.
    ///
    /// # Errors
    /// A device that belongs to one already, a bad name, a full disk.
    ///
    /// # Cancel safety
    /// Safe: it is founded wholly or not at all.
    pub async fn found(&self, name: &str) -> Result<Org, Error> {
        let name = Name::parse(name)?;
        match self.handle.commands().run(Command::Found { name }).await? {
            Answer::Org { .. } => self.joined(),
            _ => Err(Error::internal("the rules answered a founding with something else")),
        }
    }

    /// Returns the organisation, once founded or joined.
    pub fn org(&self) -> Option<Org> {
        Org::of(&self.handle)
    }

    /// Joins the organisation of an invitation: looks for a member at the invitation's addresses and by mDNS, for at
    /// most 30 seconds, and returns once this device is admitted and that is durable.
    ///
    /// # Errors
    /// An invitation that is expired, used or not valid, a name that is taken, nobody in reach who could admit, a device
    /// that belongs to an organisation already. Joining again with the same invitation is safe.
    ///
    /// # Cancel safety
    /// Safe: this device is admitted or not; joining again finishes what was begun.
    pub async fn join(&self, invite: Invite) -> Result<Org, Error> {
        self.ask(&invite, None).await
    }

    /// As [`Node::join`], under another name than the one the identity was made with.
    ///
    /// # Errors
    /// As [`Node::join`], and a bad name.
    pub async fn join_as(&self, invite: Invite, name: &str) -> Result<Org, Error> {
        let name = Name::parse(name)?;
        self.ask(&invite, Some(name)).await
    }

    async fn ask(&self, invite: &Invite, name: Option<Name>) -> Result<Org, Error> {
        join::ask(&self.handle.gate, &self.handle.joining, invite.link(), name).await?;
        self.joined()
    }

    fn joined(&self) -> Result<Org, Error> {
        self.org().ok_or_else(|| Error::internal("the organisation is not in the snapshot"))
    }

    /// Returns whom this device's person talks to in a conversation.
    pub fn person_of(&self, conversation: ConversationId) -> Option<Person> {
        let snapshot = self.handle.snapshot();
        let (org, me) = (snapshot.org.as_ref()?, snapshot.me.member?);
        let id = snapshot
            .roster
            .members
            .keys()
            .find(|id| oob_crypto::direct_conversation(&org.id, &me, id) == conversation)?;
        Person::of(&self.handle, id)
    }

    /// Returns one message of a conversation.
    ///
    /// # Errors
    /// No such message, a store that cannot be read.
    pub async fn message(
        &self,
        conversation: ConversationId,
        number: u64,
    ) -> Result<Message, Error> {
        let found = query::message(&self.handle, conversation, number).await?;
        Ok(Message::of(found, &self.handle.snapshot()))
    }

    /// Returns how far an own message has come.
    ///
    /// # Errors
    /// No such message, a store that cannot be read.
    pub async fn message_state(
        &self,
        conversation: ConversationId,
        number: u64,
    ) -> Result<Receipt, Error> {
        Ok(Receipt::of(query::receipt(&self.handle, conversation, number).await?))
    }

    /// Returns how things stand.
    pub fn status(&self) -> Status {
        Status::of(&self.handle)
    }

    /// Returns the addresses this node knows, and the way to type in another.
    pub fn addresses(&self) -> Addresses {
        Addresses::of(&self.handle)
    }

    /// Returns the alerts, and the way to raise and answer them.
    pub fn alerts(&self) -> Alerts {
        Alerts::of(&self.handle)
    }

    /// Returns what happens from `cursor` on. Subscribe before acting, and nothing is missed.
    pub fn events(&self, cursor: Cursor) -> Events {
        Events::of(&self.handle, cursor)
    }

    /// Returns why the node stopped by itself, if it did: a store that failed, or a defect.
    pub fn failure(&self) -> Option<Error> {
        self.handle.commands().fate().failure().cloned()
    }

    /// Waits until the node has ended: by [`Node::shutdown`], or by itself, which [`Node::failure`] tells.
    ///
    /// # Cancel safety
    /// Safe: nothing is lost by waiting again.
    pub async fn stopped(&self) {
        self.handle.task.stopped().await;
    }

    /// Ends links, makes everything durable, closes the store. Every later call answers [`crate::ErrorKind::Closed`].
    ///
    /// # Errors
    /// Why the node had stopped before, or why the store could not be closed cleanly.
    ///
    /// # Cancel safety
    /// Safe: it ends all the same; calling again waits for it.
    pub async fn shutdown(&self) -> Result<(), Error> {
        self.handle.task.shutdown().await
    }
}
