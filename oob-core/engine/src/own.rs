//! This device: its long-lived keys, its place in the organisation, and this life of its store with the counters that
//! must never go back.

use crate::{
    cx::{Cx, Rng},
    model::{CouncilView, DeviceClass, Name},
    runs::Runs,
    stored::{self, RecordError},
};
use oob_crypto::{
    BundleFields, BundleSecrets, DhSecret, OlmAccount, PublicKey, SigningKey, device_id, member_id,
    signed::sign,
};
use oob_proto::{
    DeviceId, Incarnation, MemberId, Message, MessageId, OpHash, OrgId, TransportKey,
    signing::SignedType, wire,
};
use oob_store::Store;
use rand_core::Rng as _;
use std::collections::BTreeSet;
use zeroize::Zeroizing;

/// A new bundle is published when the newest is this old.
pub(crate) const BUNDLE_LIFE_MS: u64 = 7 * 86_400_000;

/// Secrets of a bundle are kept this long after its successor: the longest life of an envelope and a day.
pub(crate) const BUNDLE_KEPT_MS: u64 = 22 * 86_400_000;

/// The time a life has been running is saved at least this often.
const ELAPSED_SAVED_MS: u64 = 600_000;

/// How far the numbers of bundles leap when another life begins: more than were published since any copy worth restoring,
/// at one a week.
const BUNDLES_UNKNOWN: u64 = 1_024;

/// How often another life is begun because others know a later bundle of this identity: a copy that was restored twice asks
/// for one. Two machines that run one identity would overtake each other for ever.
const OVERTAKEN: u32 = 3;

/// After this time it may happen once more.
const OVERTAKEN_MS: u64 = 86_400_000;

/// Own certificates kept: those of 22 days, and room for a clock that jumps; as many as others keep of one device.
const RELAY_CERTS: usize = 32;

/// How long the key of an admin is kept after another took its place, of running time.
const FORMER_MS: u64 = 22 * 86_400_000;

/// A relay key signs this long, about a day.
pub(crate) const RELAY_LIFE_MS: u64 = 86_400_000;

/// Keys made once and kept.
pub(crate) struct Identity {
    pub(crate) uik: SigningKey,
    pub(crate) dsk: SigningKey,
    pub(crate) dnk: DhSecret,
    pub(crate) transport: SigningKey,
    pub(crate) olm: OlmAccount,
    pub(crate) name: Name,
    pub(crate) class: DeviceClass,
    pub(crate) site: String,
    pub(crate) admin: Option<SigningKey>,
    /// Keys this device would be an admin with, the newest last.
    pub(crate) offered: Vec<SigningKey>,
    /// Keys of an admin whose time is over, and the running time at which they are forgotten.
    pub(crate) former: Vec<(SigningKey, u64)>,
    pub(crate) device: DeviceId,
}

impl Identity {
    pub(crate) fn generate(rng: &mut Rng, name: Name) -> Self {
        let dsk = SigningKey::generate(rng);
        let device = device_id(&dsk.public());
        Self {
            uik: SigningKey::generate(rng),
            dnk: DhSecret::generate(rng),
            transport: SigningKey::generate(rng),
            olm: OlmAccount::generate(),
            class: DeviceClass::Unknown,
            site: String::new(),
            admin: None,
            offered: Vec::new(),
            former: Vec::new(),
            name,
            device,
            dsk,
        }
    }

    /// The key this device signs as an admin with; none where it is none's.
    pub(crate) fn admin_in(&self, office: &CouncilView) -> Option<&SigningKey> {
        let former = self.former.iter().map(|(key, _)| key);
        self.admin.iter().chain(&self.offered).chain(former).find(|key| is_seated(key, office))
    }

    /// Signs with another key once that is in office, and forgets those whose time has been over for long: until then somebody who was
    /// away may bring word of a later set in place of the same ones. Says whether anything changed.
    pub(crate) fn follow_office(&mut self, office: &CouncilView, elapsed_ms: u64) -> bool {
        let before = self.former.len();
        self.former.retain(|(key, until_ms)| *until_ms > elapsed_ms || is_seated(key, office));
        let mut changed = self.former.len() != before;
        if !office.seats.is_empty()
            && let Some(old) = self.admin.take_if(|key| !is_seated(key, office))
        {
            self.former.push((old, elapsed_ms.saturating_add(FORMER_MS)));
            changed = true;
        }
        if self.admin.is_none() {
            let offered = self.offered.iter().position(|key| is_seated(key, office));
            let former = self.former.iter().position(|(key, _)| is_seated(key, office));
            self.admin = match (offered, former) {
                (Some(place), _) => Some(self.offered.remove(place)),
                (None, Some(place)) => Some(self.former.remove(place).0),
                (None, None) => None,
            };
            changed |= self.admin.is_some();
        }
        changed
    }

    pub(crate) fn transport_key(&self) -> TransportKey {
        TransportKey::from(*self.transport.public().as_bytes())
    }

    pub(crate) fn load(store: &Store) -> Result<Option<Self>, RecordError> {
        const AREA: &str = "identity";
        let unreadable = || RecordError::Unreadable { area: AREA };
        let Some(bytes) = store.get(&stored::own(), stored::OWN_IDENTITY)? else { return Ok(None) };
        let bytes = Zeroizing::new(bytes);
        let raw: wire::StoredIdentity = stored::decode(&bytes, AREA)?;
        let dsk = signing_key(&raw.dsk).ok_or_else(unreadable)?;
        let admin = match raw.admin_key.is_empty() {
            true => None,
            false => Some(signing_key(&raw.admin_key).ok_or_else(unreadable)?),
        };
        Ok(Some(Self {
            uik: signing_key(&raw.uik).ok_or_else(unreadable)?,
            dnk: DhSecret::from_secret(raw.dnk.as_slice().try_into().map_err(|_| unreadable())?),
            transport: signing_key(&raw.transport_key).ok_or_else(unreadable)?,
            olm: OlmAccount::from_secret(&raw.olm_account).map_err(|_| unreadable())?,
            name: Name::parse(&raw.name).map_err(|_| unreadable())?,
            class: DeviceClass::from_code(raw.class),
            site: raw.site,
            admin,
            offered: raw
                .offered_keys
                .iter()
                .map(|key| signing_key(key).ok_or_else(unreadable))
                .collect::<Result<_, _>>()?,
            former: raw
                .former_keys
                .iter()
                .map(|former| {
                    let key = signing_key(&former.key).ok_or_else(unreadable)?;
                    Ok::<_, RecordError>((key, former.until_ms))
                })
                .collect::<Result<_, _>>()?,
            device: device_id(&dsk.public()),
            dsk,
        }))
    }

    pub(crate) fn save(&self, store: &mut Store) {
        let mut raw = wire::StoredIdentity {
            uik: self.uik.export_secret().to_vec(),
            dsk: self.dsk.export_secret().to_vec(),
            dnk: self.dnk.export_secret().to_vec(),
            transport_key: self.transport.export_secret().to_vec(),
            olm_account: self.olm.export_secret().to_vec(),
            name: self.name.as_str().to_owned(),
            class: self.class.code(),
            site: self.site.clone(),
            admin_key: self
                .admin
                .as_ref()
                .map(|key| key.export_secret().to_vec())
                .unwrap_or_default(),
            offered_keys: self.offered.iter().map(|key| key.export_secret().to_vec()).collect(),
            former_keys: self
                .former
                .iter()
                .map(|(key, until_ms)| wire::StoredFormerKey {
                    key: key.export_secret().to_vec(),
                    until_ms: *until_ms,
                })
                .collect(),
        };
        let bytes = Zeroizing::new(raw.encode_to_vec());
        store.put(&stored::own(), stored::OWN_IDENTITY, &bytes);
        for secret in [
            &mut raw.uik,
            &mut raw.dsk,
            &mut raw.dnk,
            &mut raw.transport_key,
            &mut raw.olm_account,
            &mut raw.admin_key,
        ]
        .into_iter()
        .chain(&mut raw.offered_keys)
        .chain(raw.former_keys.iter_mut().map(|former| &mut former.key))
        {
            zeroize::Zeroize::zeroize(secret);
        }
    }
}

fn is_seated(key: &SigningKey, office: &CouncilView) -> bool {
    office.seats.iter().any(|seat| seat.key == key.public())
}

/// Draws what a run is told by; 0 tells none.
pub(crate) fn next_run(rng: &mut Rng) -> u32 {
    rng.next_u32().max(1)
}

fn signing_key(bytes: &[u8]) -> Option<SigningKey> {
    bytes.try_into().ok().map(SigningKey::from_secret)
}

/// Which organisation this device is in, or has asked to join.
#[derive(Debug, Clone)]
pub(crate) struct Membership {
    pub(crate) org: OrgId,
    pub(crate) member: MemberId,
    /// None while a request is under way.
    pub(crate) admitted_by: Option<OpHash>,
    /// The name asked for.
    pub(crate) name: Name,
}

impl Membership {
    pub(crate) fn load(store: &Store, uik: &PublicKey) -> Result<Option<Self>, RecordError> {
        const AREA: &str = "membership";
        let raw: Option<wire::StoredMembership> =
            stored::read(store, &stored::own(), stored::OWN_MEMBERSHIP, AREA)?;
        let Some(raw) = raw else { return Ok(None) };
        let unreadable = |_| RecordError::Unreadable { area: AREA };
        let org = OrgId::try_from(raw.org_id.as_slice()).map_err(unreadable)?;
        let admitted_by = match raw.admitted_by.is_empty() {
            true => None,
            false => Some(OpHash::try_from(raw.admitted_by.as_slice()).map_err(unreadable)?),
        };
        let name = Name::parse(&raw.name).map_err(|_| RecordError::Unreadable { area: AREA })?;
        Ok(Some(Self { org, member: member_id(&org, uik), admitted_by, name }))
    }

    pub(crate) fn save(&self, store: &mut Store) {
        let raw = wire::StoredMembership {
            org_id: self.org.to_vec(),
            admitted_by: self.admitted_by.map(|op| op.to_vec()).unwrap_or_default(),
            invite: Vec::new(),
            name: self.name.as_str().to_owned(),
        };
        stored::write(store, &stored::own(), stored::OWN_MEMBERSHIP, &raw);
    }
}

/// Why this device has to begin another life.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Behind {
    /// The number its next bundle has to have at least.
    pub(crate) bundle_floor: u64,
    /// Others know a later bundle, and nothing of the life it is in that it does not know itself.
    pub(crate) overtaken: bool,
}

/// This life of the store: incarnation, relay key, record numbers.
pub(crate) struct Life {
    pub(crate) incarnation: Incarnation,
    pub(crate) rlk_gen: u32,
    pub(crate) rlk: SigningKey,
    rlk_since_ms: u64,
    next_record: u64,
    next_bundle: u64,
    have_number: u64,
    /// Drawn when the store was opened: the words of this run have it.
    run: u32,
    /// Those before it in this life.
    runs: Runs,
    /// Own certificates whose envelopes may still be under way, oldest first, with the elapsed time at which a newer one
    /// was made; 0 for the last.
    relay_certs: Vec<(wire::Signed, u64)>,
    pub(crate) bundle: Option<wire::Signed>,
    bundle_since_ms: u64,
    elapsed_ms: u64,
    saved_elapsed_ms: u64,
    /// When this life took the place of another; 0 for the first.
    restored_ms: u64,
    /// The first record that may have a number others know another record by; 0 while there is none.
    doubtful_from: u64,
    /// How often lately another life was begun because others knew a later bundle, and elapsed time since when that counts.
    overtaken: u32,
    overtaken_ms: u64,
    /// When it was found that this identity runs elsewhere too, by this device's clock; 0 if it was not.
    elsewhere_ms: u64,
    last_mono_ms: Option<u64>,
    dirty: bool,
    /// Own certificates or the own bundle changed since somebody asked.
    keys_changed: bool,
}

impl Life {
    /// Begins a life: a random incarnation, a first relay key, and no record yet.
    pub(crate) fn generate(rng: &mut Rng) -> Self {
        Self {
            incarnation: Incarnation(rng.next_u32()),
            run: next_run(rng),
            runs: Runs::default(),
            rlk_gen: 0,
            rlk: SigningKey::generate(rng),
            rlk_since_ms: 0,
            next_record: 1,
            next_bundle: 0,
            have_number: 0,
            relay_certs: Vec::new(),
            bundle: None,
            bundle_since_ms: 0,
            elapsed_ms: 0,
            saved_elapsed_ms: 0,
            restored_ms: 0,
            doubtful_from: 0,
            overtaken: 0,
            overtaken_ms: 0,
            elsewhere_ms: 0,
            last_mono_ms: None,
            dirty: true,
            keys_changed: false,
        }
    }

    pub(crate) fn load(store: &Store) -> Result<Option<Self>, RecordError> {
        const AREA: &str = "life";
        let raw: Option<wire::StoredLife> =
            stored::read(store, &stored::own(), stored::OWN_LIFE, AREA)?;
        let Some(mut raw) = raw else { return Ok(None) };
        let runs = Runs::load(store, std::mem::take(&mut raw.runs))?;
        Ok(Some(Self { runs, ..Self::from_stored(raw)? }))
    }

    /// Loads the life of the store that this one was made a copy of, if it is a copy nobody has opened yet.
    pub(crate) fn load_former(store: &Store) -> Result<Option<Self>, RecordError> {
        let raw = stored::read(store, &stored::own(), stored::OWN_FORMER, "former life")?;
        raw.map(Self::from_stored).transpose()
    }

    /// Writes the life of this store as a copy has it: without the key that signs.
    pub(crate) fn to_former(&self) -> Vec<u8> {
        let (overtaken, elsewhere_ms) = (0, 0);
        wire::StoredLife { rlk: vec![0; 32], overtaken, elsewhere_ms, ..self.to_stored() }
            .encode_to_vec()
    }

    fn from_stored(raw: wire::StoredLife) -> Result<Self, RecordError> {
        const AREA: &str = "life";
        Ok(Self {
            incarnation: Incarnation(raw.incarnation),
            rlk_gen: raw.rlk_gen,
            rlk: signing_key(&raw.rlk).ok_or(RecordError::Unreadable { area: AREA })?,
            rlk_since_ms: raw.rlk_since_ms,
            next_record: raw.next_record,
            next_bundle: raw.next_bundle,
            have_number: raw.have_number,
            run: raw.run,
            runs: Runs::default(),
            relay_certs: raw
                .relay_certs
                .into_iter()
                .filter_map(|stored| Some((stored.cert?, stored.superseded_ms)))
                .collect(),
            bundle: raw.bundle,
            bundle_since_ms: raw.bundle_since_ms,
            elapsed_ms: raw.elapsed_ms,
            saved_elapsed_ms: raw.elapsed_ms,
            restored_ms: raw.restored_ms,
            doubtful_from: raw.doubtful_from,
            overtaken: raw.overtaken,
            overtaken_ms: raw.overtaken_ms,
            elsewhere_ms: raw.elsewhere_ms,
            last_mono_ms: None,
            dirty: false,
            keys_changed: true,
        })
    }

    /// Has it saved whether anything of it changed or not.
    pub(crate) fn touch(&mut self) {
        self.dirty = true;
    }

    /// Puts what changed into the pending batch.
    pub(crate) fn save_if_dirty(&mut self, store: &mut Store) {
        if !std::mem::take(&mut self.dirty) {
            return;
        }
        self.saved_elapsed_ms = self.elapsed_ms;
        let bytes = Zeroizing::new(self.to_stored().encode_to_vec());
        store.put(&stored::own(), stored::OWN_LIFE, &bytes);
        self.runs.save_if_dirty(store);
    }

    fn to_stored(&self) -> wire::StoredLife {
        wire::StoredLife {
            incarnation: self.incarnation.0,
            rlk_gen: self.rlk_gen,
            rlk: self.rlk.export_secret().to_vec(),
            rlk_since_ms: self.rlk_since_ms,
            next_record: self.next_record,
            next_bundle: self.next_bundle,
            have_number: self.have_number,
            relay_certs: self
                .relay_certs
                .iter()
                .map(|(cert, superseded_ms)| wire::StoredRelayCert {
                    cert: Some(cert.clone()),
                    superseded_ms: *superseded_ms,
                })
                .collect(),
            bundle: self.bundle.clone(),
            bundle_since_ms: self.bundle_since_ms,
            elapsed_ms: self.elapsed_ms,
            restored_ms: self.restored_ms,
            doubtful_from: self.doubtful_from,
            overtaken: self.overtaken,
            overtaken_ms: self.overtaken_ms,
            elsewhere_ms: self.elsewhere_ms,
            run: self.run,
            // Where they were before they were a record of their own.
            runs: Vec::new(),
        }
    }

    /// Begins another life: of the one before nothing goes on that others have seen the end of. Its certificates stay, for
    /// what it signed is still under way, and so does the time it ran.
    pub(crate) fn renew(&mut self, rng: &mut Rng, bundle_floor: u64, now_ms: u64) {
        let before = self.incarnation;
        while self.incarnation == before {
            self.incarnation = Incarnation(rng.next_u32());
        }
        self.rlk = SigningKey::generate(rng);
        (self.rlk_gen, self.rlk_since_ms) = (0, 0);
        (self.next_record, self.have_number) = (1, 0);
        self.run = next_run(rng);
        self.runs.clear();
        // Bundles are told apart by their number, across lives: a few may have been published that nobody here knows of. The
        // same copy may be restored again, too: by the clock the later life has the higher number. Where the clock does not
        // say so, whoever knows the other bundle shows it.
        let by_clock = now_ms / 1_000;
        let unknown = self.next_bundle.saturating_add(BUNDLES_UNKNOWN);
        self.next_bundle = unknown.max(bundle_floor).max(by_clock);
        self.bundle = None;
        self.restored_ms = now_ms.max(1);
        self.doubtful_from = 0;
        self.dirty = true;
    }

    /// Takes note that another life is begun because others know a later bundle. The second time in a row is said: one copy
    /// that was restored twice asks for one.
    pub(crate) fn count_overtaken(&mut self, now_ms: u64) {
        // Another life is begun from what is stored, where what was forgiven when it was asked for is not yet.
        self.forgive();
        if self.overtaken == 0 {
            self.overtaken_ms = self.elapsed_ms;
        }
        self.overtaken = self.overtaken.saturating_add(1);
        if self.overtaken > 1 {
            self.elsewhere_ms = now_ms.max(1);
        }
        self.dirty = true;
    }

    /// Gives no bundle a number below this.
    pub(crate) fn skip_bundles(&mut self, next: u64) {
        self.next_bundle = self.next_bundle.max(next);
        self.dirty = true;
    }

    /// Whether another life may be begun because others know a later bundle. If not, this identity runs elsewhere too: two
    /// would go on overtaking each other, and whoever is at either must be told.
    pub(crate) fn may_be_overtaken(&mut self, now_ms: u64) -> bool {
        self.forgive();
        let may = self.overtaken < OVERTAKEN;
        if !may {
            self.elsewhere_ms = now_ms.max(1);
            self.dirty = true;
        }
        may
    }

    /// Forgets one of the lives begun so for each day that passed.
    fn forgive(&mut self) {
        let days = self.elapsed_ms.saturating_sub(self.overtaken_ms) / OVERTAKEN_MS;
        let forgiven = u32::try_from(days).unwrap_or(u32::MAX).min(self.overtaken);
        if forgiven > 0 {
            self.overtaken = self.overtaken.saturating_sub(forgiven);
            self.overtaken_ms =
                self.overtaken_ms.saturating_add(OVERTAKEN_MS.saturating_mul(forgiven.into()));
            self.dirty = true;
        }
    }

    /// When it was found that this identity runs elsewhere too, by this device's clock; 0 if it was not, or all of it is forgiven.
    pub(crate) fn elsewhere_ms(&self) -> u64 {
        let days = self.elapsed_ms.saturating_sub(self.overtaken_ms) / OVERTAKEN_MS;
        if u64::from(self.overtaken) > days { self.elsewhere_ms } else { 0 }
    }

    /// Takes note that the store was opened: whether it is the newest there ever was, nothing in it says.
    /// The words that follow are told by `run`.
    pub(crate) fn doubt(&mut self, run: u32) {
        if self.doubtful_from == 0 {
            self.doubtful_from = self.next_record;
        }
        if self.run == run {
            return;
        }
        // It is written with the first word that has it.
        self.runs.end(self.run, self.have_number);
        self.run = run;
    }

    /// What tells the words of this run from those of another.
    pub(crate) fn run(&self) -> u32 {
        self.run
    }

    /// Whether this store knows a word of this life: numbers alone do not tell, since whoever was put back gives them again.
    pub(crate) fn knows_word(&self, run: u32, number: u64) -> bool {
        match run == 0 || run == self.run {
            true => number <= self.have_number,
            false => self.runs.know(run, number),
        }
    }

    /// Takes note that a neighbour knows the last word of this life to be the one that is known here.
    pub(crate) fn vouched(&mut self) {
        self.dirty |= std::mem::take(&mut self.doubtful_from) != 0;
    }

    /// The first record that may have a number others know another record by, if there is one.
    pub(crate) fn doubtful_from(&self) -> Option<u64> {
        Some(self.doubtful_from).filter(|from| *from > 0)
    }

    /// When this life took the place of another, by this device's clock; 0 for the first.
    pub(crate) fn restored_ms(&self) -> u64 {
        self.restored_ms
    }

    /// The number the next bundle will have.
    pub(crate) fn next_bundle(&self) -> u64 {
        self.next_bundle
    }

    /// The number of the newest Have.
    #[cfg(feature = "sim")]
    pub(crate) fn have_number(&self) -> u64 {
        self.have_number
    }

    /// Own lives whose records may still be under way.
    pub(crate) fn lives(&self) -> BTreeSet<Incarnation> {
        let certs = self.relay_certs();
        let certs = certs.filter_map(|cert| wire::RelayCert::decode(cert.payload.as_slice()).ok());
        certs.map(|cert| Incarnation(cert.incarnation)).chain([self.incarnation]).collect()
    }

    /// Lets time pass by the clock that never goes back; returns how long this life has been running.
    pub(crate) fn pass(&mut self, mono_ms: u64) -> u64 {
        let last = self.last_mono_ms.replace(mono_ms).unwrap_or(mono_ms);
        self.elapsed_ms = self.elapsed_ms.saturating_add(mono_ms.saturating_sub(last));
        if self.elapsed_ms.saturating_sub(self.saved_elapsed_ms) >= ELAPSED_SAVED_MS {
            self.dirty = true;
        }
        self.elapsed_ms
    }

    /// How long this life has been running, and what the clock of this run said then, as of the last [`Self::pass`].
    pub(crate) fn running(&self) -> (u64, u64) {
        (self.elapsed_ms, self.last_mono_ms.unwrap_or(0))
    }

    /// Whether own certificates or the own bundle changed since this was last asked.
    pub(crate) fn take_keys_changed(&mut self) -> bool {
        std::mem::take(&mut self.keys_changed)
    }

    /// Own relay certificates to show, oldest first.
    pub(crate) fn relay_certs(&self) -> impl Iterator<Item = &wire::Signed> {
        self.relay_certs.iter().map(|(cert, _)| cert)
    }

    /// The certificate of the key that signs now.
    pub(crate) fn relay_cert(&self) -> Option<&wire::Signed> {
        self.relay_certs.last().map(|(cert, _)| cert)
    }

    /// Takes the next number of this device's records: certificates, bundles and envelopes share one counter.
    pub(crate) fn take_record(&mut self) -> u64 {
        self.dirty = true;
        let number = self.next_record;
        self.next_record = self.next_record.saturating_add(1);
        number
    }

    /// The number the next record will have.
    pub(crate) fn next_record(&self) -> u64 {
        self.next_record
    }

    pub(crate) fn take_have(&mut self) -> u64 {
        self.dirty = true;
        self.have_number = self.have_number.saturating_add(1);
        self.have_number
    }

    /// The id a message gets whose first envelope is the next record.
    pub(crate) fn next_message_id(&self, device: &DeviceId) -> MessageId {
        MessageId::new(device.short(), self.incarnation, self.next_record)
    }

    /// Certifies the relay key of this life for an organisation.
    pub(crate) fn certify(&mut self, identity: &Identity, org: &OrgId, now_ms: u64) {
        let record_seq = self.take_record();
        let cert = wire::RelayCert {
            device: identity.device.to_vec(),
            incarnation: self.incarnation.0,
            r#gen: self.rlk_gen,
            rlk: self.rlk.public().to_vec(),
            record_seq,
        };
        self.rlk_since_ms = now_ms;
        let elapsed_ms = self.elapsed_ms;
        self.relay_certs.retain(|(_, superseded)| {
            *superseded == 0 || elapsed_ms.saturating_sub(*superseded) <= BUNDLE_KEPT_MS
        });
        if let Some((_, superseded)) = self.relay_certs.last_mut() {
            *superseded = elapsed_ms.max(1);
        }
        let signed = sign(SignedType::RelayCert, org, cert.encode_to_vec(), &[&identity.dsk]);
        self.relay_certs.push((signed, 0));
        let many = self.relay_certs.len().saturating_sub(RELAY_CERTS);
        self.relay_certs.drain(..many);
        self.keys_changed = true;
    }

    /// Draws the next relay key and certifies it.
    pub(crate) fn next_relay_key(
        &mut self,
        rng: &mut Rng,
        identity: &Identity,
        org: &OrgId,
        now_ms: u64,
    ) {
        self.rlk = SigningKey::generate(rng);
        self.rlk_gen = self.rlk_gen.saturating_add(1);
        self.certify(identity, org, now_ms);
    }

    /// Publishes a new bundle and keeps its secrets under a key slot of their own.
    pub(crate) fn publish_bundle(
        &mut self,
        cx: &mut Cx<'_>,
        identity: &Identity,
        org: &OrgId,
    ) -> BundleSecrets {
        let fields = BundleFields {
            device: identity.device,
            seq: self.next_bundle,
            not_after: cx.now.wall_ms.saturating_add(BUNDLE_LIFE_MS),
            incarnation: self.incarnation,
            record_seq: self.take_record(),
        };
        let (payload, secrets) = BundleSecrets::generate(cx.rng, &identity.olm, &fields);
        self.next_bundle = self.next_bundle.saturating_add(1);
        self.bundle_since_ms = cx.now.wall_ms;
        self.bundle = Some(sign(SignedType::Bundle, org, payload, &[&identity.dsk]));
        self.keys_changed = true;
        let raw =
            wire::StoredBundle { secrets: secrets.export_secret().to_vec(), superseded_ms: 0 };
        let name = stored::bundle_secret(secrets.id().as_bytes());
        cx.store.put_secret(&name, &Zeroizing::new(raw.encode_to_vec()));
        secrets
    }

    /// Whether the newest bundle is old enough for a successor. A clock that went back counts like one that went on.
    pub(crate) fn bundle_is_old(&self, now_ms: u64) -> bool {
        self.bundle.is_some() && now_ms.abs_diff(self.bundle_since_ms) >= BUNDLE_LIFE_MS
    }

    /// Whether the relay key has signed long enough.
    pub(crate) fn relay_key_is_old(&self, now_ms: u64) -> bool {
        !self.relay_certs.is_empty() && now_ms.abs_diff(self.rlk_since_ms) >= RELAY_LIFE_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng as _, rngs::StdRng};

    /// Lives that two machines of one identity begin after a month, where one was begun for a reason before. What was forgiven
    /// when another life was asked for was lost when it was begun from what is stored, and forgiven again each time.
    #[test]
    fn a_month_of_peace_is_forgiven_once() {
        let mut rng: Rng = Box::new(StdRng::seed_from_u64(1));
        let mut life = Life::generate(&mut rng);
        life.count_overtaken(1);
        life.elapsed_ms = 30 * OVERTAKEN_MS;
        let mut begun = 0;
        while begun < 40 {
            let stored = life.to_stored();
            if !life.may_be_overtaken(2) {
                break;
            }
            life = Life::from_stored(stored).unwrap();
            life.count_overtaken(2);
            begun += 1;
        }
        assert_eq!(begun, OVERTAKEN);
    }
}
