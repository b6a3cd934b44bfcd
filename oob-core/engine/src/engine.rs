//! Routes each input to its rule, and ends a batch: what rules changed becomes durable, then what they want done leaves.

use crate::{
    alert::Raise,
    conversation::History,
    copying::Copied,
    cx::{Cx, Out, Rng},
    effect::{Answer, CommandError, Effect, Reply},
    event::{Event, Numbered},
    input::{Command, Input},
    join::Shaken,
    model::{DeviceClass, LinkId, MessageState, Name, Now},
    own::{Behind, Identity, Life, next_run},
    snapshot::Snapshot,
    state::{State, TYPED_ADDRESSES},
    stored::{self, RecordError},
};
use oob_crypto::DhSecret;
use oob_proto::{limits, wire};
use oob_store::{About, Contents, CopyWriter, Draft, Order, Stop, Store, StoreError};
use rand_core::CryptoRng;
use std::{fmt, io::Write, sync::Arc};
use zeroize::Zeroizing;

/// Old keys are looked at this often.
const HOUSEKEEPING_MS: u64 = 60_000;

/// Events kept for readers that come back; a busy week.
const EVENTS_KEPT: u64 = 100_000;

/// Events in one record; each has less than 100 bytes.
const EVENTS_PER_RECORD: usize = 4_096;

/// How far the numbers of events leap when another life begins: more than were told since any copy worth restoring.
const EVENTS_UNKNOWN: u64 = 1_000_000_000;

/// Event batches dropped at once when there are too many.
const EVENTS_PRUNED: usize = 256;

/// Room there must be after a full disk before anything is tried again: more than a busy batch takes, so that a disk at the
/// brink does not let every second batch through.
const ROOM_BYTES: u64 = 1 << 20;

/// How often a full disk is asked for room while nothing comes in.
const ROOM_ASKED_MS: u64 = 1_000;

/// What callers and links are told.
const FULL: &str = "the disk is full";

/// Why an engine could not be made or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The store refused for good.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store gave back something else than was put there.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The store holds no identity: nobody was ever made here.
    #[error("the store holds no identity")]
    NoIdentity,
    /// The store holds one already.
    #[error("the store holds an identity already")]
    HasIdentity,
}

/// The rules of one device, over its store.
pub struct Engine {
    store: Store,
    rng: Rng,
    state: State,
    out: Out,
    /// Set by a rule that could not read the store: the batch is given up.
    broken: Option<RecordError>,
    /// The disk was full and is to be asked again at this time, in `Now::mono_ms`. Until it has room everything is refused
    /// before it touches the state, which otherwise would be loaded anew for each batch.
    full: Option<u64>,
    /// An input was handled since the last commit.
    begun: bool,
    version: u64,
    next_event: u64,
    oldest_event: u64,
    housekeeping_ms: u64,
    snapshot: Arc<Snapshot>,
}

/// A snapshot that was begun and is to be written; dropped, it leaves nothing.
#[derive(Debug)]
pub struct SnapshotDraft {
    draft: Draft,
    copied: Copied,
}

impl SnapshotDraft {
    /// Returns what stops the writing from elsewhere, without waiting for it.
    pub fn stop(&self) -> Stop {
        self.draft.stop()
    }

    /// Writes it and makes it durable; `step` is told the number of each record. Blocks: seconds for a hundred thousand
    /// messages.
    ///
    /// # Errors
    /// It was stopped, too much changed meanwhile, the store was closed, the disk refuses. There is no snapshot then.
    pub fn write(self, step: &mut dyn FnMut(u64)) -> Result<Contents, EngineError> {
        let Self { mut draft, copied } = self;
        let stop = draft.stop();
        let (moment, to) = draft.parts();
        let mut step = |done| {
            step(done);
            stop.check()
        };
        copied.copy_to(moment, to, &mut step)?;
        Ok(draft.keep()?)
    }
}

/// Secrets that the network's part of a node needs.
#[derive(Clone)]
pub struct LocalKeys {
    /// Ed25519 secret of the libp2p identity.
    pub transport_secret: Zeroizing<[u8; 32]>,
    /// Static key of join handshakes.
    pub dnk: DhSecret,
}

impl fmt::Debug for LocalKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("LocalKeys(..)")
    }
}

/// What leaves after a batch, all of it durable.
#[derive(Debug, Default)]
pub struct Outcome {
    /// For the network, in order.
    pub effects: Vec<Effect>,
    /// For callers.
    pub replies: Vec<Reply>,
    /// For readers, in order.
    pub events: Vec<Numbered>,
    /// If anything in it changed.
    pub snapshot: Option<Arc<Snapshot>>,
}

impl Engine {
    /// Makes the identity of a device in a fresh store; durable on return.
    ///
    /// # Errors
    /// A store that holds an identity, or that refuses.
    pub fn create(
        store: Store,
        rng: Box<dyn CryptoRng + Send>,
        name: Name,
        now: Now,
    ) -> Result<Self, EngineError> {
        if Identity::load(&store)?.is_some() {
            return Err(EngineError::HasIdentity);
        }
        let (mut store, mut rng) = (store, rng);
        let identity = Identity::generate(&mut rng, name);
        identity.save(&mut store);
        let mut life = Life::generate(&mut rng);
        life.save_if_dirty(&mut store);
        store.commit()?;
        Ok(Self::with(store, rng, State::new(identity, life), 1, 1, now))
    }

    /// Opens the state of a device from its store. In a store that was made of a copy the device begins another life, which
    /// is durable on return.
    ///
    /// # Errors
    /// [`EngineError::NoIdentity`] if [`Self::create`] never ran on it; a store that cannot be read.
    pub fn open(
        store: Store,
        rng: Box<dyn CryptoRng + Send>,
        now: Now,
    ) -> Result<Self, EngineError> {
        let mut store = store;
        if let (Some(mut former), None) = (Life::load_former(&store)?, Life::load(&store)?) {
            former.touch();
            former.save_if_dirty(&mut store);
            let state = State::load(&store)?.ok_or(EngineError::NoIdentity)?;
            let (oldest, next) = event_numbers(&store)?;
            let mut engine = Self::with(store, rng, state, oldest, next, now);
            engine.renew(Behind::default(), None, now)?;
            return Ok(engine);
        }
        let mut state = State::load(&store)?.ok_or(EngineError::NoIdentity)?;
        let mut rng = rng;
        state.life.doubt(next_run(&mut rng));
        let (oldest, next) = event_numbers(&store)?;
        Ok(Self::with(store, rng, state, oldest, next, now))
    }

    /// Begins another life, alone in its batch. `doubtful_from` is the first record of the one before whose number others
    /// may know another record by.
    fn renew(
        &mut self,
        behind: Behind,
        doubtful_from: Option<u64>,
        now: Now,
    ) -> Result<(), EngineError> {
        let Self { store, rng, state, out, .. } = self;
        let elapsed_ms = state.life.pass(now.mono_ms);
        let cx = &mut Cx { store, rng, now, elapsed_ms, out };
        state.renew(cx, behind, doubtful_from)?;
        state.with_direct(|direct, post| direct.post_acks(cx, post));
        state.spread_own(cx);
        state.save(cx.store, elapsed_ms);
        // Numbers of events that were told and are not known here are not given twice.
        self.next_event = self.next_event.saturating_add(EVENTS_UNKNOWN);
        let place = self.next_event;
        stored::write(&mut self.store, &stored::events(), place, &wire::StoredEvents::default());
        self.store.commit()?;
        // Nobody is connected: everything is offered to whoever comes.
        self.out = Out::default();
        tracing::warn!("this device begins another life: its store was put back from a copy");
        let _ = self.publish(now);
        Ok(())
    }

    /// Begins a snapshot of the records beside the store, if the store is in a folder: everything but secrets. Whoever has
    /// it writes it, on any thread, while the rules go on.
    ///
    /// # Errors
    /// When the disk refuses or has too little room; the store is as before.
    pub fn begin_snapshot(&mut self, now: Now) -> Result<Option<SnapshotDraft>, EngineError> {
        let owner = self.snapshot.me.name.as_str();
        let draft = self.store.begin_snapshot(now.wall_ms, owner)?;
        Ok(draft.map(|draft| SnapshotDraft { draft, copied: self.state.copied() }))
    }

    /// Writes the records to a backup: everything but secrets. `step` is told the number of each.
    ///
    /// # Errors
    /// When the store cannot be read or the output cannot be written.
    pub fn back_up<W: Write>(
        &mut self,
        to: &mut CopyWriter<W>,
        step: &mut dyn FnMut(u64),
    ) -> Result<(), EngineError> {
        let moment = self.store.moment();
        let mut step = |done| {
            step(done);
            Ok(())
        };
        Ok(self.state.copied().copy_to(&moment, to, &mut step)?)
    }

    /// What a copy made now tells of itself.
    pub fn about(&self, now: Now) -> About {
        About {
            written_ms: now.wall_ms,
            commit: self.store.commit_number(),
            owner: self.snapshot.me.name.to_string(),
        }
    }

    /// Returns how many records the store has, secrets among them: about how many a copy will have.
    pub fn records(&self) -> u64 {
        self.store.records()
    }

    fn with(
        store: Store,
        rng: Rng,
        mut state: State,
        oldest_event: u64,
        next_event: u64,
        now: Now,
    ) -> Self {
        let snapshot = Arc::new(state.snapshot(1, next_event.saturating_sub(1), now));
        Self {
            store,
            rng,
            state,
            out: Out::default(),
            broken: None,
            full: None,
            begun: false,
            version: 1,
            next_event,
            oldest_event,
            housekeeping_ms: now.mono_ms,
            snapshot,
        }
    }

    /// Handles one input; nothing leaves before [`Self::commit`].
    pub fn handle(&mut self, input: Input, now: Now) {
        // Once in a batch: all of it is refused or none.
        let first = !std::mem::replace(&mut self.begun, true);
        if first && self.full.is_some() && self.store.has_room(ROOM_BYTES) {
            tracing::info!("the disk has room again");
            self.full = None;
        }
        if self.full.is_some() {
            return self.refuse(input);
        }
        if now.mono_ms >= self.housekeeping_ms {
            self.housekeeping_ms = now.mono_ms.saturating_add(HOUSEKEEPING_MS);
            if let Err(error) = self.keep_house(now) {
                self.broken.get_or_insert(error);
            }
        }
        let Self { store, rng, state, out, .. } = self;
        let elapsed_ms = state.life.pass(now.mono_ms);
        // Of frames, the rules that take them say it.
        out.pressing |= !matches!(input, Input::Frames { .. });
        let cx = &mut Cx { store, rng, now, elapsed_ms, out };
        let result = match input {
            Input::Command { ticket, command } => {
                let result = command_of(state, cx, *command);
                cx.out.replies.push(Reply { ticket, result });
                Ok(())
            }
            Input::LinkUp { link, peer } => {
                state.link_up(cx, link, &peer);
                Ok(())
            }
            Input::LinkDown { link } => {
                state.link_down(cx, link);
                Ok(())
            }
            Input::Frames { link, frames } => state.frames(cx, link, frames),
            Input::Gossip { from, frame } => state.gossip(cx, &from, *frame),
            Input::Listening { addresses } => {
                state.listening = addresses;
                Ok(())
            }
            Input::Tick => Ok(()),
        };
        if let Err(error) = result {
            self.broken.get_or_insert(error);
        }
    }

    /// Answers an input for which there is no room. There are no links: all were closed when the disk was found full, and
    /// so is each that comes up since.
    fn refuse(&mut self, input: Input) {
        match input {
            Input::Command { ticket, .. } => {
                let result = Err(CommandError::Store(FULL.to_owned()));
                self.out.replies.push(Reply { ticket, result });
            }
            Input::LinkUp { link, .. } => {
                self.out.effects.push(Effect::Close { link, reason: FULL });
            }
            Input::Listening { addresses } => self.state.listening = addresses,
            Input::LinkDown { .. } | Input::Frames { .. } | Input::Gossip { .. } | Input::Tick => {}
        }
    }

    /// Replaces keys that served long enough, and forgets those nothing can still be under way for.
    fn keep_house(&mut self, now: Now) -> Result<(), RecordError> {
        let Self { store, rng, state, out, .. } = self;
        let elapsed_ms = state.life.pass(now.mono_ms);
        let cx = &mut Cx { store, rng, now, elapsed_ms, out };
        let Some(org) = state.org_id() else { return Ok(()) };
        if state.life.relay_key_is_old(now.wall_ms) {
            state.life.next_relay_key(cx.rng, &state.identity, &org, now.wall_ms);
        }
        if state.life.bundle_is_old(now.wall_ms) {
            let secrets = state.life.publish_bundle(cx, &state.identity, &org);
            state.bundles.publish(cx, secrets);
        }
        state.bundles.forget_old(cx);
        state.rekeyed |= state.epochs.forget_old(cx);
        state.alerts.keep_house(cx)?;
        state.expire(cx)
    }

    /// Ends the batch: durable on return, and only then does anything leave.
    ///
    /// When the store is full, every caller is told so, nothing else leaves, all streams are ended, and the state is
    /// what the store holds. Until there is room, inputs are refused as they come.
    ///
    /// # Errors
    /// The store failed for good; the engine must not be used any more.
    pub fn commit(&mut self, now: Now) -> Result<Outcome, EngineError> {
        self.begun = false;
        if self.full.is_some() {
            self.full = Some(now.mono_ms.saturating_add(ROOM_ASKED_MS));
            let Out { effects, replies, .. } = std::mem::take(&mut self.out);
            return Ok(Outcome { effects, replies, ..Outcome::default() });
        }
        match self.finish(now) {
            Ok(outcome) => Ok(outcome),
            Err(EngineError::Store(StoreError::Full { free, needed })) => {
                tracing::warn!(
                    free,
                    needed,
                    "the disk is full: everything is refused until it has room"
                );
                self.full = Some(now.mono_ms.saturating_add(ROOM_ASKED_MS));
                self.start_over(FULL, now)
            }
            Err(EngineError::Store(StoreError::ValueTooLong { len })) => {
                tracing::error!(len, "a batch was given up: a record would be too long");
                self.start_over("a record would be too long", now)
            }
            Err(EngineError::Record(error)) => {
                tracing::error!(%error, "a batch was given up");
                self.start_over("a record cannot be read", now)
            }
            Err(error) => Err(error),
        }
    }

    fn finish(&mut self, now: Now) -> Result<Outcome, EngineError> {
        if let Some(error) = self.broken.take() {
            return Err(error.into());
        }
        if let Some(behind) = self.state.behind.take() {
            // Nothing of this batch leaves: it was done with counters and ratchets that others have seen further on.
            let doubtful_from = self.state.life.doubtful_from();
            let outcome = self.start_over("this device was put back from a copy", now)?;
            match self.renew(behind, doubtful_from, now) {
                Ok(()) => {}
                // Callers are told and streams end all the same. Whoever comes when there is room shows it again.
                Err(EngineError::Store(StoreError::Full { free, needed })) => {
                    tracing::warn!(free, needed, "no room to begin another life");
                    self.full = Some(now.mono_ms.saturating_add(ROOM_ASKED_MS));
                    self.start_over(FULL, now)?;
                }
                Err(error) => return Err(error),
            }
            return Ok(Outcome { snapshot: Some(self.snapshot()), ..outcome });
        }
        let Self { store, rng, state, out, .. } = self;
        let elapsed_ms = state.life.pass(now.mono_ms);
        let cx = &mut Cx { store, rng, now, elapsed_ms, out };
        refresh(state, cx)?;
        if state.rotate_in_turn(cx) {
            refresh(state, cx)?;
        }
        state.hold_back_no_longer(cx.now.mono_ms);
        state.send_again(cx)?;
        state.with_direct(|direct, post| direct.post_acks(cx, post));
        state.keep_own_keys(cx);
        state.publish_releases(cx);
        if state.straight.asks_for_floor() {
            state.write_floor(cx);
        }
        state.spread_own(cx);
        state.spread_late(cx.now.mono_ms);
        state.push_links(cx)?;
        state.save(cx.store, elapsed_ms);
        let events = self.number_events();
        self.make_durable()?;
        let effects = std::mem::take(&mut self.out.effects);
        let replies = std::mem::take(&mut self.out.replies);
        self.out.pressing = false;
        let snapshot = self.publish(now);
        Ok(Outcome { effects, replies, events, snapshot })
    }

    fn make_durable(&mut self) -> Result<(), StoreError> {
        #[cfg(feature = "sim")]
        if self.state.rig.puts_off() {
            return Ok(());
        }
        self.store.commit().map(drop)
    }

    /// Takes safeguards away, for the controls of the simulator.
    #[cfg(feature = "sim")]
    pub fn set_faults(&mut self, faults: crate::rig::Faults) {
        self.state.rig.faults = faults;
    }

    /// Lets the simulator look at what no user of an engine needs.
    #[cfg(feature = "sim")]
    pub(crate) fn inside(&self) -> &State {
        &self.state
    }

    fn number_events(&mut self) -> Vec<Numbered> {
        let events = std::mem::take(&mut self.out.events);
        if events.is_empty() {
            return Vec::new();
        }
        let first = self.next_event;
        for (place, chunk) in
            (first..).step_by(EVENTS_PER_RECORD).zip(events.chunks(EVENTS_PER_RECORD))
        {
            let raw = wire::StoredEvents { events: chunk.iter().map(stored_event).collect() };
            stored::write(&mut self.store, &stored::events(), place, &raw);
        }
        let numbered: Vec<Numbered> =
            (first..).zip(events).map(|(number, event)| Numbered { number, event }).collect();
        self.next_event = numbered.last().map_or(first, |last| last.number.saturating_add(1));
        self.prune_events();
        numbered
    }

    fn prune_events(&mut self) {
        let floor = self.next_event.saturating_sub(EVENTS_KEPT);
        // Only once a tenth too many are kept, so that most batches do not look.
        if self.oldest_event.saturating_add(EVENTS_KEPT / 10) > floor {
            return;
        }
        let bag = stored::events();
        let Ok(page) = self.store.scan(&bag, ..floor, Order::Ascending, EVENTS_PRUNED) else {
            return;
        };
        for (first, _) in page {
            self.store.delete(&bag, first);
            self.oldest_event = first.saturating_add(1);
        }
    }

    fn publish(&mut self, now: Now) -> Option<Arc<Snapshot>> {
        let state = &self.state;
        let changed = state.changed || state.nearer || state.reheld;
        let rekeyed = state.rekeyed;
        let last_event = self.next_event.saturating_sub(1);
        let outbox = self.state.outbox.messages();
        if !changed
            && !rekeyed
            && self.snapshot.outbox == outbox
            && self.snapshot.held == self.state.custody.envelopes()
            && self.snapshot.not_carried == self.state.custody.refused()
            && self.snapshot.last_event == last_event
            && Arc::ptr_eq(&self.snapshot.seen, self.state.seen.view())
        {
            return None;
        }
        self.version = self.version.saturating_add(1);
        self.snapshot = Arc::new(self.state.snapshot(self.version, last_event, now));
        Some(Arc::clone(&self.snapshot))
    }

    /// Gives the batch up and goes on with what the store holds.
    fn start_over(&mut self, why: &str, now: Now) -> Result<Outcome, EngineError> {
        self.store.discard();
        let links: Vec<LinkId> = self.state.links.iter().map(|link| link.id).collect();
        let listening = std::mem::take(&mut self.state.listening);
        let carry_limit = self.state.custody.limit();
        // Nothing of the batch got out, so the words that were said are those that the store knows.
        let run = self.state.life.run();
        #[cfg(feature = "sim")]
        let rig = std::mem::take(&mut self.state.rig);
        self.state = State::load(&self.store)?.ok_or(EngineError::NoIdentity)?;
        self.state.life.doubt(run);
        self.state.listening = listening;
        self.state.custody.set_limit(carry_limit);
        #[cfg(feature = "sim")]
        {
            self.state.rig = rig;
        }
        if let Some(organisation) = &mut self.state.organisation {
            organisation.continue_versions(self.snapshot.roster.version);
        }
        let (oldest, next) = event_numbers(&self.store)?;
        (self.oldest_event, self.next_event) = (oldest, next);
        let out = std::mem::take(&mut self.out);
        let replies = out.replies.into_iter().map(|reply| Reply {
            ticket: reply.ticket,
            result: Err(CommandError::Store(why.to_owned())),
        });
        let effects = links
            .into_iter()
            .map(|link| Effect::Close { link, reason: "the store could not take it" });
        let (replies, effects) = (replies.collect(), effects.collect());
        let snapshot = self.publish(now);
        Ok(Outcome { effects, replies, events: Vec::new(), snapshot })
    }

    /// Returns when [`Input::Tick`] is wanted next, in `Now::mono_ms`.
    pub fn next_deadline(&self) -> Option<u64> {
        if self.full.is_some() {
            return self.full;
        }
        let links = self.state.links.iter().filter_map(|link| link.due_ms());
        let held_back = Some(self.state.held_back_ms).filter(|until| *until > 0);
        let others = [
            self.state.releases_due_ms(),
            self.state.rotation.due_ms(),
            self.state.straight.due_ms(),
            held_back,
        ];
        let due = links.chain(others.into_iter().flatten()).min();
        Some(due.unwrap_or(u64::MAX).min(self.housekeeping_ms))
    }

    /// Whether somebody waits for the batch under way to end. What does not press may wait a moment for company: then one
    /// commit makes both durable.
    pub fn is_pressing(&self) -> bool {
        self.out.pressing || self.broken.is_some()
    }

    /// Sets how many bytes are carried for others at most: a part of what is free on the disk.
    pub fn set_carry_limit(&mut self, bytes: u64) {
        self.state.custody.set_limit(bytes);
    }

    /// Returns the newest snapshot.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot)
    }

    /// Returns a reader of what is committed, for any thread.
    pub fn history(&self) -> History {
        History::new(self.store.view(), self.state.identity.device)
    }

    /// Returns the secrets that the network's part of a node needs.
    pub fn local_keys(&self) -> LocalKeys {
        LocalKeys {
            transport_secret: self.state.identity.transport.export_secret(),
            dnk: self.state.identity.dnk.clone(),
        }
    }

    /// Says whether [`Self::idle`] is wanted within a second.
    pub fn needs_idle(&self) -> bool {
        self.store.needs_idle()
    }

    /// Makes the erasure of replaced keys durable; called when nothing is queued.
    ///
    /// # Errors
    /// The store failed for good.
    pub fn idle(&mut self) -> Result<(), EngineError> {
        Ok(self.store.idle()?)
    }

    /// Closes the store.
    ///
    /// # Errors
    /// The last checkpoint could not be written; nothing that was committed is lost.
    pub fn close(self) -> Result<(), EngineError> {
        Ok(self.store.close()?)
    }
}

fn command_of(
    state: &mut State,
    cx: &mut Cx<'_>,
    command: Command,
) -> Result<Answer, CommandError> {
    match command {
        Command::Found { name } => state.found(cx, &name),
        Command::Invite { role, uses, life_ms, name } => {
            state.invite(cx, role, uses, life_ms, name)
        }
        Command::JoinProof => state.join_proof(cx),
        Command::Admit { ask, handshake_hash, dnk, transport } => {
            state.admit(cx, &ask, &Shaken { handshake_hash, dnk, transport })
        }
        Command::PrepareJoin { link, name, proof, handshake_hash, dnk, transport } => {
            state.prepare_join(cx, &link, name, &proof, &Shaken { handshake_hash, dnk, transport })
        }
        Command::FinishJoin { answer } => state.finish_join(cx, &answer),
        Command::JoinShow => state.join_show(cx),
        Command::Learn { ops } => state.learn(cx, &ops),
        Command::RevokeDevice { device } => {
            refresh(state, cx)?;
            let answer = state.revoke_device(cx, &device)?;
            refresh(state, cx)?;
            if state.device(&device).is_some() {
                return Err(CommandError::Internal("a removal that does not stand"));
            }
            state.rotate_now(cx);
            Ok(answer)
        }
        Command::OfferAdmin => {
            refresh(state, cx)?;
            state.offer_admin(cx)
        }
        Command::ProposeAdmins { members, k } => {
            refresh(state, cx)?;
            let op = state.propose_admins(cx, &members, k)?;
            refresh(state, cx)?;
            state.proposed(op)
        }
        Command::ProposeName { name } => {
            refresh(state, cx)?;
            let op = state.propose_name(cx, &name)?;
            refresh(state, cx)?;
            state.proposed(op)
        }
        Command::SignProposal { op } => {
            refresh(state, cx)?;
            state.sign_proposal(cx, op)?;
            refresh(state, cx)?;
            state.proposed(op)
        }
        Command::Send { to, text } => {
            refresh(state, cx)?;
            // Whoever writes does not wait for a turn.
            state.rotate_now(cx);
            let sent = state.with_direct(|direct, post| direct.send(cx, post, &to, &text));
            let (message, conversation, number) = sent.ok_or(CommandError::NoOrg)??;
            Ok(Answer::Sent { message, conversation, number })
        }
        Command::MarkRead { conversation, up_to } => {
            let marked = state.with_direct(|direct, _| direct.mark_read(cx, &conversation, up_to));
            marked.ok_or(CommandError::NoOrg)?.map(|()| Answer::Done)
        }
        Command::RaiseAlert { severity, text, life_ms, answers } => {
            refresh(state, cx)?;
            let raise = Raise { severity, text, life_ms, answers };
            let made = state.with_alerts(|alerts| alerts.raise(cx, raise));
            let (id, made) = made.ok_or(CommandError::NoOrg)??;
            state.pass_on(cx, None, made.record, &made.kind, 0);
            Ok(Answer::Alert { id })
        }
        Command::AckAlert { id, answer } => {
            let made = state.with_alerts(|alerts| alerts.answer(cx, &id, answer));
            if let Some(made) = made.ok_or(CommandError::NoOrg)?? {
                state.pass_on(cx, None, made.record, &made.kind, 0);
            }
            Ok(Answer::Done)
        }
        Command::AddAddress { address } => add_address(state, cx, address),
        Command::SetDevice { class, site } => set_device(state, cx, class, site),
    }
}

fn refresh(state: &mut State, cx: &mut Cx<'_>) -> Result<(), RecordError> {
    for link in state.refresh_roster(cx)? {
        state.link_down(cx, link);
        cx.out.effects.push(Effect::Close { link, reason: "not in the roster any more" });
    }
    // Each set has new keys, so whoever is one of several admins has the next at hand.
    if state.lacks_offer()
        && let Err(error) = state.offer_admin(cx)
    {
        tracing::warn!(%error, "no key is offered for the next set of admins");
    }
    Ok(())
}

fn add_address(
    state: &mut State,
    cx: &mut Cx<'_>,
    address: String,
) -> Result<Answer, CommandError> {
    if state.typed.contains(&address) {
        return Ok(Answer::Done);
    }
    if state.typed.len() >= TYPED_ADDRESSES || address.len() > limits::ADDRESS_BYTES {
        return Err(CommandError::TooManyAddresses { most: TYPED_ADDRESSES });
    }
    let place = u64::try_from(state.typed.len()).unwrap_or(u64::MAX);
    cx.store.put(&stored::typed_addresses(), place, address.as_bytes());
    state.typed.push(address);
    state.changed = true;
    Ok(Answer::Done)
}

fn set_device(
    state: &mut State,
    cx: &mut Cx<'_>,
    class: DeviceClass,
    site: String,
) -> Result<Answer, CommandError> {
    if state.organisation.is_some() {
        return Err(CommandError::HasOrg);
    }
    state.identity.class = class;
    state.identity.site = site;
    state.identity.save(cx.store);
    Ok(Answer::Done)
}

/// Number of the oldest event kept, and of the next.
fn event_numbers(store: &Store) -> Result<(u64, u64), RecordError> {
    let bag = stored::events();
    let first = store.scan(&bag, .., Order::Ascending, 1)?.first().map_or(1, |(first, _)| *first);
    let Some((last, bytes)) = store.scan(&bag, .., Order::Descending, 1)?.pop() else {
        return Ok((first, 1));
    };
    let raw: wire::StoredEvents = stored::decode(&bytes, "events")?;
    let count = u64::try_from(raw.events.len()).unwrap_or(u64::MAX);
    Ok((first, last.saturating_add(count)))
}

fn stored_event(event: &Event) -> wire::StoredEvent {
    use wire::stored_event::Kind;
    let kind = match event {
        Event::Message(message) => Kind::Message(wire::StoredMessageEvent {
            conversation: message.conversation.to_vec(),
            number: message.number,
        }),
        Event::Receipt(receipt) => Kind::Receipt(wire::StoredReceiptEvent {
            conversation: receipt.conversation.to_vec(),
            message: receipt.message.to_vec(),
            state: match receipt.state {
                MessageState::Stored => 0,
                MessageState::Held => 1,
                MessageState::Delivered => 2,
                MessageState::Read => 3,
                MessageState::Expired => 4,
                MessageState::Removed => 5,
            },
            delivered: receipt.delivered,
            expected: receipt.expected,
        }),
        Event::Joined { member, device } => Kind::Joined(wire::StoredJoinedEvent {
            member: member.to_vec(),
            device: device.to_vec(),
        }),
        Event::Org { org } => Kind::Org(org.to_vec()),
        Event::Alert(alert) => Kind::Alert(wire::StoredAlertEvent { alert: alert.id.to_vec() }),
        Event::AlertAcked { alert, member, answer, time_ms, acked, expected } => {
            Kind::AlertAcked(wire::StoredAlertAckedEvent {
                alert: alert.to_vec(),
                member: member.to_vec(),
                answer: answer.clone().unwrap_or_default(),
                time_ms: *time_ms,
                acked: *acked,
                expected: *expected,
            })
        }
    };
    wire::StoredEvent { kind: Some(kind) }
}
