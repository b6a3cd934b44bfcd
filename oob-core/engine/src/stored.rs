//! Where everything lies in the store: one function per bag, and records as protobuf. The area numbers are stored for
//! ever; none is used twice (docs/storage.md, "Areas").

use oob_proto::{AlertId, ConversationId, DeviceId, Incarnation, Message};
use oob_store::{Area, Bag, Store, StoreError, View};

/// Why a record could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What the store gave back is not what was put there.
    #[error("a record of area {area} cannot be read")]
    Unreadable {
        /// Which.
        area: &'static str,
    },
}

/// Seq of a bag that holds a single record.
pub(crate) const ONLY: u64 = 0;

/// The one bag of this device's own keys, membership and life, by seq.
pub(crate) fn own() -> Bag {
    Bag::new(Area(1), &[])
}
pub(crate) const OWN_IDENTITY: u64 = 0;
pub(crate) const OWN_MEMBERSHIP: u64 = 1;
pub(crate) const OWN_LIFE: u64 = 2;
/// In copies, and in what was made of one: the life of the store the copy was made of, which nobody may go on with.
pub(crate) const OWN_FORMER: u64 = 3;
/// Runs in which this device said its words.
pub(crate) const OWN_RUNS: u64 = 4;

/// Operations of the log, in the order they were taken.
pub(crate) fn log() -> Bag {
    Bag::carry(Area(2), &[])
}

/// Epoch secrets, in the order they were learned.
pub(crate) fn epochs() -> Bag {
    Bag::new(Area(3), &[])
}

/// Relay certificates of a device, by (incarnation, generation).
pub(crate) fn relay_certs(device: &DeviceId) -> Bag {
    Bag::carry(Area(4), device.as_bytes())
}

/// The newest prekey bundle of a device.
pub(crate) fn bundles(device: &DeviceId) -> Bag {
    Bag::carry(Area(5), device.as_bytes())
}

/// What is here of a device's records, by incarnation.
pub(crate) fn seen(device: &DeviceId) -> Bag {
    Bag::carry(Area(6), device.as_bytes())
}

/// What is owed to a device, by the first envelope's number.
pub(crate) fn outbox(device: &DeviceId) -> Bag {
    Bag::carry(Area(7), device.as_bytes())
}

/// Ids of all conversations, in the order they began.
pub(crate) fn conversation_index() -> Bag {
    Bag::new(Area(8), &[])
}

/// State of a conversation.
pub(crate) fn conversation(conversation: &ConversationId) -> Bag {
    Bag::new(Area(14), conversation.as_bytes())
}

/// Messages of a conversation, by number.
pub(crate) fn messages(conversation: &ConversationId) -> Bag {
    Bag::new(Area(9), conversation.as_bytes())
}

/// Olm messages before their turn, by `olm_n`.
pub(crate) fn held_olm(session: &[u8]) -> Bag {
    Bag::new(Area(10), session)
}

/// Events, by the number of the first of a batch.
pub(crate) fn events() -> Bag {
    Bag::new(Area(11), &[])
}

/// What is remembered of a neighbour.
pub(crate) fn neighbour(device: &DeviceId) -> Bag {
    Bag::carry(Area(12), device.as_bytes())
}

/// Addresses typed by people.
pub(crate) fn typed_addresses() -> Bag {
    Bag::carry(Area(13), &[])
}

/// Records carried of one life of a device, by number.
pub(crate) fn carried(device: &DeviceId, incarnation: Incarnation) -> Bag {
    let id = [device.as_bytes().as_slice(), &incarnation.0.to_be_bytes()].concat();
    Bag::carry(Area(15), &id)
}

/// Who carries own records.
pub(crate) fn holders() -> Bag {
    Bag::carry(Area(16), &[])
}

/// Proofs that envelopes were opened, in the order they were noted.
pub(crate) fn releases() -> Bag {
    Bag::carry(Area(17), &[])
}

/// Alerts, by place.
pub(crate) fn alerts() -> Bag {
    Bag::new(Area(20), &[])
}

/// Where the alert of an id lies.
pub(crate) fn alert_place(alert: &AlertId) -> Bag {
    Bag::new(Area(21), alert.as_bytes())
}

/// Answers to an alert, by hash of alert and device.
pub(crate) fn alert_acks(alert: &AlertId) -> Bag {
    Bag::new(Area(22), alert.as_bytes())
}

/// Answers read of one alert: five devices each of five hundred people, with room.
pub(crate) const ALERT_ACKS: usize = 4_096;

/// Answers whose alert has not come, in the order they came.
pub(crate) fn awaited_alerts() -> Bag {
    Bag::new(Area(23), &[])
}

/// The hybrid clock of answers.
pub(crate) fn alert_clock() -> Bag {
    Bag::new(Area(24), &[])
}

/// What names of secret records of sessions begin with.
pub(crate) const PEER_PREFIX: &[u8] = b"peer/";

/// Name of the secret record of a device's sessions.
pub(crate) fn peer_secret(device: &DeviceId) -> Vec<u8> {
    [PEER_PREFIX, device.as_bytes()].concat()
}

/// What names of bundle secrets begin with.
pub(crate) const BUNDLE_PREFIX: &[u8] = b"bundle/";

/// Name of the secret record of an own bundle.
pub(crate) fn bundle_secret(bundle: &[u8]) -> Vec<u8> {
    [BUNDLE_PREFIX, bundle].concat()
}

/// Reads one record.
pub(crate) fn read<T: Message + Default>(
    store: &Store,
    bag: &Bag,
    seq: u64,
    area: &'static str,
) -> Result<Option<T>, RecordError> {
    store.get(bag, seq)?.map(|bytes| decode(&bytes, area)).transpose()
}

/// Reads one committed record.
pub(crate) fn view<T: Message + Default>(
    store: &View,
    bag: &Bag,
    seq: u64,
    area: &'static str,
) -> Result<Option<T>, RecordError> {
    store.get(bag, seq)?.map(|bytes| decode(&bytes, area)).transpose()
}

/// Reads the bytes of one record.
pub(crate) fn decode<T: Message + Default>(
    bytes: &[u8],
    area: &'static str,
) -> Result<T, RecordError> {
    T::decode(bytes).map_err(|_| RecordError::Unreadable { area })
}

/// Writes one record into the pending batch.
pub(crate) fn write(store: &mut Store, bag: &Bag, seq: u64, record: &impl Message) {
    store.put(bag, seq, &record.encode_to_vec());
}
