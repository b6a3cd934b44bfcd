//! All of a device's state in memory, loaded from its store and saved to it once per batch.

use crate::{
    alert::{Alerts, Broadcast},
    conversation::{Conversations, Direct},
    custody::Custody,
    cx::Cx,
    directory::Directory,
    effect::CommandError,
    epochs::{Epochs, Rotation},
    holders::Holders,
    model::{Device, Now, Ring},
    outbox::{Carries, Outbox},
    own::{Behind, Identity, Life, Membership},
    post::Post,
    releases::Releases,
    roster::Organisation,
    seen::Seen,
    session::{OwnBundles, Peers},
    snapshot::{Me, Nearby, OrgInfo, Owed, RosterView, ScreenKeys, Snapshot},
    stored::{self, RecordError},
    sync::{HeardOf, Links, Straight, Word},
};
use oob_crypto::BeaconKey;
use oob_proto::{DeviceId, EpochId, Incarnation, MemberId, OrgId, TransportKey, wire};
use oob_store::{Order, Store};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// Typed addresses kept; people type a handful.
pub(crate) const TYPED_ADDRESSES: usize = 64;

/// Everything a rule may need.
pub(crate) struct State {
    pub(crate) identity: Identity,
    pub(crate) membership: Option<Membership>,
    pub(crate) life: Life,
    pub(crate) organisation: Option<Organisation>,
    pub(crate) epochs: Epochs,
    pub(crate) rotation: Rotation,
    pub(crate) directory: Directory,
    pub(crate) bundles: OwnBundles,
    pub(crate) peers: Peers,
    pub(crate) seen: Seen,
    pub(crate) outbox: Outbox,
    pub(crate) custody: Custody,
    pub(crate) releases: Releases,
    pub(crate) holders: Holders,
    pub(crate) conversations: Conversations,
    pub(crate) alerts: Alerts,
    pub(crate) links: Links,
    /// Own envelopes that only their addressees were given.
    pub(crate) straight: Straight,
    pub(crate) listening: Vec<String>,
    pub(crate) neighbours: BTreeMap<DeviceId, wire::StoredNeighbour>,
    pub(crate) typed: Vec<String>,
    /// Who was heard by others.
    pub(crate) nearby: BTreeMap<DeviceId, HeardOf>,
    /// Neighbours that sent too much that was bad, and until when they are shut out.
    pub(crate) shunned: BTreeMap<DeviceId, u64>,
    /// What version of what is known here each neighbour was told last.
    pub(crate) told: BTreeMap<DeviceId, u64>,
    /// What is handled just now came by gossip.
    pub(crate) by_gossip: bool,
    /// Wall and running time of the batch the last snapshot is of.
    pub(crate) snapshot_time: (u64, u64),
    /// Devices whose state is in memory.
    loaded: BTreeSet<DeviceId>,
    /// Newest words of neighbours heard since the start: shown to them should they come back with older ones.
    pub(crate) last_words: BTreeMap<DeviceId, Word>,
    /// Who said one in this batch.
    pub(crate) spoke: BTreeSet<DeviceId>,
    /// Up to which of its own records each one's stored word tells, and of which life.
    pub(crate) stored_words: BTreeMap<DeviceId, (Incarnation, u64)>,
    /// Devices that began another life and are to be sent again what they lack.
    pub(crate) lost: BTreeSet<DeviceId>,
    /// Who knows no later word of this device than it does, as of this start.
    pub(crate) vouched_by: BTreeSet<DeviceId>,
    /// Until when nothing of this device's own goes out, because a neighbour says it knows later words of it, and who brought
    /// that about when.
    pub(crate) held_back_ms: u64,
    pub(crate) held_back_by: BTreeMap<DeviceId, u64>,
    /// A record of this device's own came that lies beyond its counters: the store was taken back.
    pub(crate) behind: Option<Behind>,
    /// Version of the roster that [`Self::refresh_roster`] acted on.
    applied: u64,
    /// Screening keys changed in this batch.
    pub(crate) rekeyed: bool,
    /// Something else that a snapshot shows changed in this batch.
    pub(crate) changed: bool,
    /// Who is near changed in this batch.
    pub(crate) nearer: bool,
    /// Who carries own messages changed in this batch, or whose devices are whose.
    pub(crate) reheld: bool,
    view: Arc<RosterView>,
    screening: Arc<ScreenKeys>,
    beacons: Arc<Vec<(EpochId, BeaconKey)>>,
    addresses: Arc<Vec<(Option<TransportKey>, String)>>,
    last_heard: Arc<BTreeMap<DeviceId, u64>>,
    near: Arc<BTreeMap<DeviceId, Nearby>>,
    owed: Arc<BTreeMap<MemberId, Owed>>,
    #[cfg(feature = "sim")]
    pub(crate) rig: crate::rig::Rig,
}

impl State {
    /// State of a device that has an identity and nothing else.
    pub(crate) fn new(identity: Identity, life: Life) -> Self {
        Self {
            identity,
            life,
            membership: None,
            organisation: None,
            epochs: Epochs::default(),
            rotation: Rotation::default(),
            directory: Directory::default(),
            bundles: OwnBundles::default(),
            peers: Peers::default(),
            seen: Seen::default(),
            outbox: Outbox::default(),
            custody: Custody::default(),
            releases: Releases::default(),
            holders: Holders::default(),
            conversations: Conversations::default(),
            alerts: Alerts::default(),
            links: Links::default(),
            straight: Straight::default(),
            listening: Vec::new(),
            neighbours: BTreeMap::new(),
            typed: Vec::new(),
            nearby: BTreeMap::new(),
            shunned: BTreeMap::new(),
            told: BTreeMap::new(),
            by_gossip: false,
            snapshot_time: (0, 0),
            last_words: BTreeMap::new(),
            spoke: BTreeSet::new(),
            stored_words: BTreeMap::new(),
            lost: BTreeSet::new(),
            vouched_by: BTreeSet::new(),
            held_back_ms: 0,
            held_back_by: BTreeMap::new(),
            behind: None,
            loaded: BTreeSet::new(),
            applied: 0,
            rekeyed: true,
            changed: true,
            nearer: true,
            reheld: true,
            view: Arc::default(),
            screening: Arc::default(),
            beacons: Arc::default(),
            addresses: Arc::default(),
            last_heard: Arc::default(),
            near: Arc::default(),
            owed: Arc::default(),
            #[cfg(feature = "sim")]
            rig: crate::rig::Rig::default(),
        }
    }

    /// Loads the state; none if no identity was made.
    pub(crate) fn load(store: &Store) -> Result<Option<Self>, RecordError> {
        let Some(identity) = Identity::load(store)? else { return Ok(None) };
        let life = Life::load(store)?.ok_or(RecordError::Unreadable { area: "life" })?;
        let mut state = Self::new(identity, life);
        state.membership = Membership::load(store, &state.identity.uik.public())?;
        state.bundles = OwnBundles::load(store)?;
        state.conversations = Conversations::load(store)?;
        state.alerts = Alerts::load(store)?;
        for (_, bytes) in
            store.scan(&stored::typed_addresses(), .., Order::Ascending, TYPED_ADDRESSES)?
        {
            state.typed.extend(String::from_utf8(bytes));
        }
        let Some(Membership { org, admitted_by: Some(_), .. }) = state.membership else {
            return Ok(Some(state));
        };
        let organisation = Organisation::load(store, org)?;
        state.epochs = Epochs::load(store)?;
        state.epochs.judge(&organisation);
        state.releases = Releases::load(store)?;
        state.holders = Holders::load(store)?;
        let me = state.identity.device;
        for life in state.life.lives() {
            state.custody.load(store, &me, life)?;
        }
        let devices: Vec<Device> = organisation.roster().with_former().cloned().collect();
        state.organisation = Some(organisation);
        for device in &devices {
            state.load_device(store, &org, device)?;
        }
        Ok(Some(state))
    }

    /// Loads what is kept of one device, once: when the state is loaded, or when the device comes into the roster, which
    /// it may have been in before.
    fn load_device(
        &mut self,
        store: &Store,
        org: &OrgId,
        device: &Device,
    ) -> Result<(), RecordError> {
        if device.id == self.identity.device || !self.loaded.insert(device.id) {
            return Ok(());
        }
        // What came of it in this batch already, its certificates at least, is newer than anything stored.
        if self.seen.lives_of(&device.id).next().is_some() {
            return Ok(());
        }
        self.directory.load(store, org, device)?;
        self.peers.load(store, &device.id)?;
        self.seen.load(store, &device.id)?;
        let lives: Vec<Incarnation> = self.seen.lives_of(&device.id).collect();
        for life in lives {
            self.custody.load(store, &device.id, life)?;
        }
        let Self { outbox, conversations, .. } = self;
        outbox.load(store, &device.id, |carries| match carries {
            Carries::Message { conversation, life, body_seq, .. } => {
                conversations.is_done(conversation, &device.id, *life, *body_seq)
            }
            Carries::Ack { .. } => false,
        })?;
        let known = stored::read(store, &stored::neighbour(&device.id), stored::ONLY, "neighbour")?;
        if let Some(known) = known {
            let known: wire::StoredNeighbour = known;
            if known.lost {
                self.lost.insert(device.id);
            }
            self.neighbours.insert(device.id, known);
        }
        Ok(())
    }

    /// Saves everything that changed into the pending batch.
    pub(crate) fn save(&mut self, store: &mut Store, elapsed_ms: u64) {
        self.seen.save_dirty(store);
        self.conversations.save_dirty(store);
        self.peers.save_dirty(store, elapsed_ms);
        self.releases.save_fresh(store);
        self.holders.save_if_dirty(store);
        self.save_words(store);
        self.life.save_if_dirty(store);
    }

    pub(crate) fn org(&self) -> Result<&Organisation, CommandError> {
        self.organisation.as_ref().ok_or(CommandError::NoOrg)
    }

    pub(crate) fn org_id(&self) -> Option<OrgId> {
        self.organisation.as_ref().map(|organisation| organisation.id)
    }

    pub(crate) fn member(&self) -> Option<MemberId> {
        self.organisation.as_ref().and(self.membership.as_ref()).map(|membership| membership.member)
    }

    /// A device of the roster.
    pub(crate) fn device(&self, id: &DeviceId) -> Option<Device> {
        self.organisation.as_ref()?.roster().view.devices.get(id).cloned()
    }

    /// The device of a record, if it stands: see `Roster::author_of`.
    pub(crate) fn author_of(&self, id: &DeviceId, life: Incarnation, seq: u64) -> Option<Device> {
        self.organisation.as_ref()?.roster().author_of(id, life, seq).cloned()
    }

    /// Runs a rule of conversations with what it may touch; nothing without an organisation.
    pub(crate) fn with_direct<T>(
        &mut self,
        rule: impl FnOnce(&mut Direct<'_>, &mut Post<'_>) -> T,
    ) -> Option<T> {
        let organisation = self.organisation.as_ref()?;
        let me = self.membership.as_ref()?.member;
        let life = self.life.incarnation;
        let mut post = Post {
            org: &organisation.id,
            identity: &self.identity,
            life: &mut self.life,
            epochs: &self.epochs,
            directory: &self.directory,
            peers: &mut self.peers,
            outbox: &mut self.outbox,
        };
        let mut direct = Direct {
            all: &mut self.conversations,
            roster: &organisation.roster().view,
            org: &organisation.id,
            me: &me,
            device: &self.identity.device,
            life,
            #[cfg(feature = "sim")]
            shows_again: self.rig.faults.no_duplicate_check,
        };
        Some(rule(&mut direct, &mut post))
    }

    /// Runs a rule of alerts with what it may touch; nothing without an organisation.
    pub(crate) fn with_alerts<T>(
        &mut self,
        rule: impl FnOnce(&mut Broadcast<'_>) -> T,
    ) -> Option<T> {
        let organisation = self.organisation.as_ref()?;
        let mut broadcast = Broadcast {
            all: &mut self.alerts,
            roster: &organisation.roster().view,
            authors: organisation.roster(),
            org: &organisation.id,
            me: &self.membership.as_ref()?.member,
            identity: &self.identity,
            life: &mut self.life,
            epochs: &self.epochs,
        };
        Some(rule(&mut broadcast))
    }

    /// Judges the log again if it grew, and takes what it brings: certificates in requests to join. Streams of devices
    /// that are not in the roster any more are to be closed by the caller.
    pub(crate) fn refresh_roster(
        &mut self,
        cx: &mut Cx<'_>,
    ) -> Result<Vec<crate::model::LinkId>, RecordError> {
        let Some(organisation) = &mut self.organisation else { return Ok(Vec::new()) };
        // A rule may have judged it before, for a look at who is in.
        organisation.refresh();
        let version = organisation.roster().view.version;
        if std::mem::replace(&mut self.applied, version) == version {
            return Ok(Vec::new());
        }
        self.changed = true;
        self.rekeyed = true;
        self.reheld = true;
        let org = organisation.id;
        let office = Arc::clone(&organisation.roster().view.council);
        if self.identity.follow_office(&office, cx.elapsed_ms) {
            self.identity.save(cx.store);
        }
        let devices: Vec<Device> = organisation.roster().with_former().cloned().collect();
        let standing: BTreeSet<DeviceId> =
            organisation.roster().view.devices.keys().copied().collect();
        self.epochs.judge(organisation);
        self.epochs.age(cx);
        for device in &devices {
            self.load_device(cx.store, &org, device)?;
        }
        let me = self.identity.device;
        let claims = self.organisation.iter().flat_map(|organisation| organisation.join_claims());
        // Where something newer is known, a certificate from the request to join says nothing.
        let new = claims
            .filter(|claim| claim.keys.id != me && self.directory.bundle(&claim.keys.id).is_none());
        let new: Vec<_> =
            new.map(|claim| (claim.relay_cert.clone(), claim.bundle.clone())).collect();
        for (relay_cert, bundle) in new {
            self.relay_cert(cx, None, &relay_cert);
            self.bundle(cx, None, &bundle);
        }
        self.apply_cuts(cx)?;
        self.retry_grants(cx);
        Ok(self.links.outside(&standing))
    }

    /// Notes when a neighbour was last heard.
    pub(crate) fn heard(&mut self, cx: &mut Cx<'_>, device: &DeviceId) {
        let known = self.neighbours.entry(*device).or_default();
        known.last_heard_ms = cx.now.wall_ms;
        stored::write(cx.store, &stored::neighbour(device), stored::ONLY, known);
        self.changed = true;
    }

    /// Builds the snapshot of what is durable now.
    pub(crate) fn snapshot(&mut self, version: u64, last_event: u64, now: Now) -> Snapshot {
        self.snapshot_time = (now.wall_ms, now.mono_ms);
        let name = match (&self.organisation, &self.membership) {
            (Some(organisation), Some(membership)) => {
                let member = organisation.roster().view.members.get(&membership.member);
                member.map_or(&self.identity.name, |member| &member.name).clone()
            }
            _ => self.identity.name.clone(),
        };
        if let Some(organisation) = &self.organisation
            && self.view.version != organisation.roster().view.version
        {
            self.view = Arc::new(organisation.roster().view.clone());
        }
        if std::mem::take(&mut self.rekeyed) {
            self.screening = Arc::new(ScreenKeys {
                org: self.org_id(),
                headers: self
                    .epochs
                    .preferred_first()
                    .map(|epoch| (epoch.id, epoch.header.clone()))
                    .collect(),
                relays: self.directory.relays(),
                removed: self
                    .organisation
                    .as_ref()
                    .map(|organisation| organisation.roster().record_cuts())
                    .unwrap_or_default(),
            });
            let core = self.epochs.preferred_first().filter(|epoch| epoch.ring == Ring::Core);
            self.beacons =
                Arc::new(core.map(|epoch| (epoch.id, epoch.secret.beacon_key())).collect());
        }
        let changed = std::mem::take(&mut self.changed);
        if changed {
            self.addresses = Arc::new(self.all_addresses());
            // A device of which only the addresses were told has not been heard.
            let heard = self.neighbours.iter().filter(|(_, known)| known.last_heard_ms > 0);
            self.last_heard =
                Arc::new(heard.map(|(id, known)| (*id, known.last_heard_ms)).collect());
        }
        // What neighbours say of who is near is no reason to look at anything else.
        if std::mem::take(&mut self.nearer) || changed {
            self.near = Arc::new(self.nearby_view());
        }
        if std::mem::take(&mut self.reheld) {
            self.owed = Arc::new(self.owed_view(&self.owed, true));
            #[cfg(feature = "sim")]
            self.rig.walked();
        } else if self.owed.values().map(|of| of.messages).sum::<u64>() != self.outbox.messages() {
            self.owed = Arc::new(self.owed_view(&self.owed, false));
        }
        Snapshot {
            version,
            me: Me {
                member: self.member(),
                device: self.identity.device,
                name,
                transport: self.identity.transport_key(),
                restored_ms: Some(self.life.restored_ms()).filter(|ms| *ms > 0),
                elsewhere_ms: Some(self.life.elsewhere_ms()).filter(|ms| *ms > 0),
            },
            org: self.organisation.as_ref().and_then(|organisation| {
                Some(OrgInfo { id: organisation.id, name: organisation.roster().name.clone()? })
            }),
            roster: Arc::clone(&self.view),
            screening: Arc::clone(&self.screening),
            beacons: Arc::clone(&self.beacons),
            outbox: self.outbox.messages(),
            held: self.custody.envelopes(),
            carried_bytes: self.custody.bytes(),
            not_carried: self.custody.refused(),
            last_heard: Arc::clone(&self.last_heard),
            nearby: Arc::clone(&self.near),
            owed: Arc::clone(&self.owed),
            addresses: Arc::clone(&self.addresses),
            last_event,
            seen: Arc::clone(self.seen.view()),
        }
    }

    fn all_addresses(&self) -> Vec<(Option<TransportKey>, String)> {
        let typed = self.typed.iter().map(|address| (None, address.clone()));
        let learned = self.neighbours.iter().filter_map(|(id, known)| {
            let key = self.organisation.as_ref()?.roster().view.devices.get(id)?.transport;
            Some(known.addresses.iter().map(move |address| (Some(key), address.clone())))
        });
        typed.chain(learned.flatten()).collect()
    }
}
