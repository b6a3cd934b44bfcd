//! Devices that talk.

use oob_crypto::{
    Bundle, BundleFields, BundleSecrets, ChannelError, DhSecret, FirstContact, OlmAccount, Opened,
    OutChannel, Sealed, SigningKey, device_id, open_first_flight,
};
use oob_proto::{DeviceId, Incarnation, OrgId};
use rand::{SeedableRng, rngs::StdRng};
use std::sync::atomic::{AtomicU64, Ordering};

/// A device with one bundle published.
pub(crate) struct Device {
    pub(crate) org: OrgId,
    pub(crate) id: DeviceId,
    pub(crate) dnk: DhSecret,
    pub(crate) olm: OlmAccount,
    pub(crate) payload: Vec<u8>,
    pub(crate) secrets: BundleSecrets,
}

pub(crate) fn org() -> OrgId {
    OrgId::from([3; 32])
}

pub(crate) fn rng(seed: u64) -> StdRng {
    StdRng::seed_from_u64(seed)
}

/// A generator no other call gets.
pub(crate) fn fresh() -> StdRng {
    static NEXT: AtomicU64 = AtomicU64::new(1 << 32);
    rng(NEXT.fetch_add(1, Ordering::Relaxed))
}

impl Device {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = rng(seed);
        let id = device_id(&SigningKey::generate(&mut rng).public());
        let dnk = DhSecret::generate(&mut rng);
        let olm = OlmAccount::generate();
        let (payload, secrets) = BundleSecrets::generate(&mut rng, &olm, &fields(id, 0));
        Self { org: org(), id, dnk, olm, payload, secrets }
    }

    pub(crate) fn bundle(&self) -> Bundle {
        Bundle::parse(&self.payload).unwrap()
    }

    /// Opens a channel to another device.
    pub(crate) fn write_to(
        &self,
        to: &Device,
        replaces: u64,
        inner: &[u8],
    ) -> Result<(OutChannel, Sealed), ChannelError> {
        let bundle = to.bundle();
        OutChannel::open(&mut fresh(), &self.contact(to, &bundle), replaces, inner)
    }

    pub(crate) fn contact<'a>(&'a self, to: &'a Device, bundle: &'a Bundle) -> FirstContact<'a> {
        FirstContact { org: &self.org, my_dnk: &self.dnk, my_device: &self.id, to: &to.id, bundle }
    }

    pub(crate) fn open(&self, ct: &[u8]) -> Result<Opened, ChannelError> {
        open_first_flight(&self.secrets, &org(), &self.id, ct)
    }
}

/// What a device says in its bundle of this number.
pub(crate) fn fields(device: DeviceId, seq: u64) -> BundleFields {
    BundleFields {
        device,
        seq,
        not_after: 1_800_000_000_000,
        incarnation: Incarnation(7),
        record_seq: 2 + seq,
    }
}
