//! The encrypted, durable key-value store of one oob device.
//!
//! Records live in [`Bag`]s, ordered by a sequence number. Writes gather in one pending batch; [`Store::commit`] returns
//! when all of it would survive a power cut. On disk nothing has a name and nothing is in the clear.
//!
//! ```
//! use oob_store::{Area, Bag, Order, Store};
//! # use rand::{SeedableRng, rngs::StdRng};
//! # let rng = StdRng::seed_from_u64(1); // for keeps: the operating system's generator
//!
//! let mut store = Store::in_memory(rng)?;
//! let messages = Bag::new(Area(1), b"incident-42");
//! store.put(&messages, 1, b"Mail is compromised.");
//! store.put(&messages, 2, b"Talk here.");
//! store.put_secret(b"session/dana", b"a ratchet");
//! let commit = store.commit()?; // durable, all of it or nothing
//! assert_eq!(commit, 1);
//!
//! let newest = store.scan(&messages, .., Order::Descending, 1)?;
//! assert_eq!(newest, [(2, b"Talk here.".to_vec())]);
//!
//! // Putting a secret again destroys what it was: not hidden, not unlinked, its key overwritten.
//! store.put_secret(b"session/dana", b"the ratchet, one step on");
//! store.commit()?;
//! store.idle()?;
//! store.close()?;
//! # Ok::<(), oob_store::StoreError>(())
//! ```
//!
//! # How the parts fit
//!
//! ```text
//!  Store        one owner, one pending batch          View   reads, any thread
//!    |                                                  |
//!    |  seal: XChaCha20-Poly1305, padded; bags blinded by HMAC
//!    |                                                  |
//!  keyring      slots                    journal: what is durable and not in the tree yet, sorted in memory
//!  root key     keys overwritten           |
//!  under the    in place, two per        tree: sled with the barrier it lacks; memory; a crashing disk for tests
//!  passphrase   secret, used in turn     records, and the ledger: which commit this is, a count and hash of all there must be
//! ```
//!
//! A commit is: sync of the slots if dirty, one batch into the journal, sync of the journal, overwrite of the slots that open
//! what was replaced. What many commits wrote reaches the tree together, when half of the journal is full. The overwrite is made durable by the next commit or by [`Store::idle`].
//!
//! # What it promises
//!
//! - A commit that returned is there after a power cut; a commit that did not is there whole or not at all.
//! - Whoever takes the folder and knows the passphrase reads what is in the store, and no earlier state of any secret.
//! - Whoever takes the folder and does not know it learns how much there is, roughly, and when it was written.
//! - A store that lost something, or was taken back to an earlier state than its own other files know, or is
//!   pieced together from two, is refused with an error that says so. Nothing is changed by the refusal.
//!
//! # What it does not
//!
//! - A folder taken back as a whole, keyring included, looks like what it was then. Only others can tell; the engine
//!   listens to them.
//! - Deleting a plain record hides it. Only secrets are destroyed, and only as far as the disk overwrites in place: an
//!   SSD, a copying file system or a snapshot may keep an old key, still under the passphrase.
//!
//! [`Store::begin_snapshot`] and [`CopyWriter::backup`] write sealed copies of the records; [`Store::recover`] and
//! [`Store::restore`] make a store of one.
//!
//! Not here yet: content-addressed blobs for files, burning of single messages, and the locked mode, whose `carry` keys
//! are already in the format ([`Bag::carry`]).
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

// layer: bounds
pub mod limits;
// layer: words
mod bag;
mod error;
mod passphrase;
// layer: disk
pub mod backend;
// layer: keys
mod keys;
// layer: sealing
mod seal;
mod slots;
mod tally;
// layer: sums
mod sums;
// layer: streams
mod stream;
// layer: keyring
mod keyring;
// layer: copies
mod sealed_copy;
// layer: folder
mod home;
mod reserve;
// layer: proof
mod proof;
// layer: reading
mod pending;
mod view;
// layer: moments
mod moment;
// layer: secrets
mod secrets;
// layer: store
mod store;
// layer: snapshots
mod snapshots;
// layer: opening
mod opening;
// layer: recovery
mod recovery;
// layer: attacks
#[cfg(test)]
mod thief;

pub use bag::{Area, Bag, Order};
pub use error::StoreError;
pub use moment::Moment;
pub use passphrase::{Kdf, Passphrase};
pub use recovery::Restored;
pub use sealed_copy::{About, Contents, CopyKind, CopyReader, CopyWriter};
pub use snapshots::{Draft, Kept, Snapshot, Stop};
pub use store::{Opened, Store};
pub use view::View;
