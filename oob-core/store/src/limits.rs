//! The bounds of a store, each with its reason.

/// The longest value of one record. The largest thing the rules keep is a frame of 64 KiB; this leaves room for one
/// record per commit and peer of the outbox.
pub const VALUE_BYTES: usize = 1 << 20;

/// The longest name of a secret record. Names are made of a word and an id or two of 32 bytes.
pub const NAME_BYTES: usize = 255;

/// Values are padded to multiples of this, so that a thief of the disk cannot tell a "yes" from a "no".
pub const PAD_BYTES: usize = 256;

/// The least memory of the key derivation: below it a rented graphics card tries passphrases by the million.
pub const KDF_FLOOR_KIB: u32 = 64 * 1024;

/// The most memory of the key derivation that a keyring file may ask for: the file is read before it is trusted, and
/// it must not be able to make the machine swap.
pub const KDF_CEILING_KIB: u32 = 2 * 1024 * 1024;

/// The most passes a keyring file may ask for, for the same reason: at 256 MiB this is about ten seconds.
pub const KDF_PASSES_CEILING: u32 = 32;

/// The keyring takes a new checkpoint when this much has been written since the last one.
pub const CHECKPOINT_BYTES: u64 = 8 << 20;

/// The keyring takes a new checkpoint when the last one is this old, so that at most half a minute of a store can be
/// taken back without being noticed by the keyring alone.
pub const CHECKPOINT_AGE: std::time::Duration = std::time::Duration::from_secs(30);

/// A slot that was overwritten is made durable by `idle` at the latest after this time: how long the passphrase and a
/// seized disk still open the last message.
pub const IDLE_WITHIN: std::time::Duration = std::time::Duration::from_secs(1);

/// What the file system must have left beyond the batch itself before a commit is tried. sled grows by segments of
/// 512 KiB, and a commit may touch the current one, the next and one being cleaned, twice over.
pub const FREE_BYTES: u64 = 3 << 20;

/// The room kept back for deletions on a full disk: some thousand of them, and little for a disk that holds a system.
pub const RESERVE_BYTES: u64 = 8 << 20;

/// What must be left beyond the reserve when it is taken: enough that taking it does not make the disk full.
pub const RESERVE_SPARE: u64 = 2 * FREE_BYTES;

/// The most pairs of key slots: one for each session and bundle. 65,536 sessions are 8 MiB of slots.
pub const PAIRS: usize = 1 << 16;

/// The longest label of a bag in a copy: a word and two ids of 32 bytes are the longest there are, with room.
pub const LABEL_BYTES: usize = 255;

/// The longest owner's name in a copy; names of people are shorter.
pub const OWNER_BYTES: usize = 255;

/// Local snapshots kept: the newest, and one more in case it is the newest that is damaged.
pub const SNAPSHOTS: usize = 2;

/// Memory for what is overwritten while a copy of one moment is written. A copy takes seconds, in which ordinary traffic
/// overwrites a megabyte or two; where it is more, the copy is given up and not the memory.
pub const MOMENT_BYTES: usize = 32 << 20;

/// Records put back in one commit while a copy is restored: each commit costs a sync, and this is a megabyte or two.
pub const RESTORE_RECORDS: usize = 2_048;

/// Bytes put back in one commit, for copies of large records.
pub const RESTORE_BYTES: usize = 8 << 20;

/// Bytes of each half of the journal: some hundred commits one at a time, so that what they all write anew reaches the tree
/// once; and little enough that both tables in memory and the reading of the file at opening cost next to nothing.
pub const JOURNAL_HALF_BYTES: usize = 2 << 20;
