//! Keys, sessions and sealing of oob: everything the engine must not get wrong, in one small crate.
//!
//! No I/O, no clock, no rules: who may do what is the engine's to know. Randomness is an argument, except in vodozemac,
//! which asks the operating system itself ([`OlmAccount::generate`], [`PairSession`]).
//!
//! # How a message is wrapped
//!
//! ```text
//! text -> PairSession::encrypt      the ratchet of two devices (Olm)
//!      -> OutChannel::seal          the hybrid channel of two devices: ML-KEM-768 and X25519, padded to a class
//!      -> envelope::seal            who sent it, for members only; signed by the relay key
//!      == what members carry ==
//!      -> envelope::Cover::read     lengths and codes, before any cryptography
//!      -> envelope::open_origin, envelope::verify_origin
//!      -> InChannel::open           found by its tag; InChannel::mark when durable
//!      -> PairSession::decrypt
//! ```
//!
//! ```
//! use oob_crypto::{
//!     Bundle, BundleFields, BundleSecrets, DhSecret, FirstContact, OlmAccount, OutChannel, PairSession, SigningKey,
//!     device_id, open_first_flight,
//! };
//! use oob_proto::{Incarnation, OrgId};
//!
//! let mut rng = rand::rng();
//! let org = OrgId::from([1; 32]);
//! let (dana, noor) = (SigningKey::generate(&mut rng), SigningKey::generate(&mut rng));
//! let (dana_id, noor_id) = (device_id(&dana.public()), device_id(&noor.public()));
//!
//! // Noor publishes a bundle, signed by her device; then she closes her laptop.
//! let fields = BundleFields {
//!     device: noor_id, seq: 0, not_after: 0, incarnation: Incarnation(7), record_seq: 2,
//! };
//! let (payload, secrets) = BundleSecrets::generate(&mut rng, &OlmAccount::generate(), &fields);
//!
//! // Dana writes to it.
//! let bundle = Bundle::parse(&payload)?;
//! let (account, dnk) = (OlmAccount::generate(), DhSecret::generate(&mut rng));
//! let mut session = PairSession::outbound(&account, &bundle)?;
//! let (_, olm) = session.encrypt(b"mail is compromised, talk here")?;
//! let contact =
//!     FirstContact { org: &org, my_dnk: &dnk, my_device: &dana_id, to: &noor_id, bundle: &bundle };
//! let (_channel, sealed) = OutChannel::open(&mut rng, &contact, 0, &olm)?;
//!
//! // Noor, days later: the Noise key and the Olm identity must be those of one certificate, Dana's.
//! let opened = open_first_flight(&secrets, &org, &noor_id, &sealed.ct)?;
//! assert_eq!((opened.from, opened.dnk), (dana_id, dnk.public()));
//! let (_session, text) =
//!     PairSession::inbound(&secrets, &account.identity(), &opened.plain.inner)?;
//! assert_eq!(text.as_slice(), b"mail is compromised, talk here");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What it promises, and what not
//!
//! * Secret types are wiped when dropped, print as `Name(..)`, cannot be compared, and leave only by `export_secret`.
//!   snow's handshake state and the buffers of serializers are wiped as far as they let us.
//! * What comes from outside is parsed into a type that cannot be wrong, or refused; arbitrary bytes never panic.
//! * A message that does not open changes no state.
//! * A state is not safe to use twice. Whoever restores an old copy of an [`OutChannel`] or [`PairSession`] and sends
//!   with it reuses keys and numbers: the engine makes the advanced state durable first and never restores ratchets.
//! * Errors are for the local log. To a peer every failure must look the same.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

// layer: hashes and stored bytes
mod kdf;
mod stored;
// layer: keys that sign
mod keys;
// layer: keys that agree, names, signatures
mod dh;
mod epoch;
mod ids;
pub mod signed;
// layer: beacon
mod beacon;
// layer: envelope
pub mod envelope;
// layer: parts of a contact
mod alert;
mod bundle;
mod noise;
mod plaintext;
mod window;
// layer: contact
mod first_flight;
// layer: sessions
mod channel;
mod grant;
mod join;
mod olm;

pub use alert::{AlertError, open_alert, seal_alert};
pub use beacon::{BEACON_ADDRESSES, BEACON_BYTES, Beacon, BeaconError};
pub use bundle::{BUNDLE_BYTES, Bundle, BundleError, BundleFields, BundleSecrets, OlmAccount};
pub use channel::{
    CHANNEL_MESSAGES, FIRST_INNER_BYTES, INNER_BYTES, InChannel, Opened, OutChannel,
    open_first_flight,
};
pub use dh::{DhPublic, DhSecret};
pub use epoch::{AlertKey, BeaconKey, EpochSecret, HeaderKey, Ring};
pub use first_flight::FirstContact;
pub use grant::{GRANT_BYTES, Grant, open_grant, seal_grant};
pub use ids::{
    alert_id, body_hash, bundle_id, device_id, direct_conversation, member_id, op_hash, org_id_of,
};
pub use join::{
    AwaitFirst, AwaitSecond, AwaitThird, JOIN_CHUNK_BYTES, JoinChannel, JoinError, JoinHandshake,
};
pub use kdf::sha256;
pub use keys::{KeyError, PublicKey, SignatureError, SigningKey, invite_key};
pub use olm::{OLM_NORMAL, OLM_PREKEY, OlmError, PairSession, Prekey};
pub use plaintext::{ChannelError, Plain, Sealed};
pub use stored::StoredError;
