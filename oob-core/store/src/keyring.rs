//! The keyring file: the root key under the passphrase, and the last checkpoint of the store.
//!
//! Two copies of 512 bytes, 4 KiB apart, written in turn, so that a power cut while one is written leaves the other:
//!
//! ```text
//! magic 16 | format u32 | generation u64 | store id 16 | memory KiB u32 | passes u32 | salt 16
//! | nonce 24 | XChaCha20-Poly1305(key-encryption key, AAD = format, store id, memory, passes, salt) of root key 32
//! | nonce 24 | XChaCha20-Poly1305(state key, AAD = everything before) of checkpoint 96
//! | SHA-256 of everything before
//! ```
//! The tag of the checkpoint authenticates the whole copy. The hash needs no key: it tells a damaged file from a wrong
//! passphrase.

use argon2::{Algorithm, Argon2, Params, Version};
use rand_core::CryptoRng;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::backend::Cells;
use crate::error::StoreError;
use crate::keys::{Key, Keys, expand};
use crate::limits::{KDF_CEILING_KIB, KDF_PASSES_CEILING};
use crate::passphrase::{Kdf, Passphrase};
use crate::seal::{open_raw, seal_raw};
use crate::tally::Tally;

const MAGIC: &[u8; 16] = b"oob/1 keyring\0\0\0";
const FORMAT: u32 = 1;
/// Far enough apart that no disk tears both in one write.
const STRIDE: u64 = 4096;
const COPY: usize = 512;
const CHECKPOINT: usize = 96;

/// How the files of a store looked when it was closed in peace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Rest {
    /// Length of the tree's file.
    pub(crate) len: u64,
    /// When it was last written, seconds since 1970.
    pub(crate) secs: u64,
    /// And the rest of a second.
    pub(crate) nanos: u32,
}

/// What the store held when the keyring was last written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Checkpoint {
    /// The commit.
    pub(crate) number: u64,
    /// What was stored then.
    pub(crate) tally: Tally,
    /// How many pairs of slots there were.
    pub(crate) pairs: u32,
    /// How the tree's file looked, if it was closed then.
    pub(crate) rest: Option<Rest>,
}

impl Checkpoint {
    fn to_bytes(self) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(CHECKPOINT + 16));
        out.extend_from_slice(&self.number.to_be_bytes());
        self.tally.write(&mut out);
        out.extend_from_slice(&self.pairs.to_be_bytes());
        out.push(self.rest.is_some().into());
        let rest = self.rest.unwrap_or_default();
        out.extend_from_slice(&rest.len.to_be_bytes());
        out.extend_from_slice(&rest.secs.to_be_bytes());
        out.extend_from_slice(&rest.nanos.to_be_bytes());
        out.resize(CHECKPOINT, 0);
        out
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (number, rest) = bytes.split_first_chunk::<8>()?;
        let (tally, rest) = Tally::read(rest)?;
        let (pairs, rest) = rest.split_first_chunk::<4>()?;
        let (closed, rest) = rest.split_first()?;
        let (len, rest) = rest.split_first_chunk::<8>()?;
        let (secs, rest) = rest.split_first_chunk::<8>()?;
        let (nanos, _) = rest.split_first_chunk::<4>()?;
        let rest = Rest {
            len: u64::from_be_bytes(*len),
            secs: u64::from_be_bytes(*secs),
            nanos: u32::from_be_bytes(*nanos),
        };
        Some(Self {
            number: u64::from_be_bytes(*number),
            tally,
            pairs: u32::from_be_bytes(*pairs),
            rest: (*closed == 1).then_some(rest),
        })
    }
}

/// The root key as it lies on disk, and what it takes to unwrap it.
#[derive(Clone)]
struct Wrapped {
    kdf: Kdf,
    salt: [u8; 16],
    nonce: [u8; 24],
    sealed: [u8; 48],
}

/// The keyring of an open store.
pub(crate) struct Keyring {
    cells: Box<dyn Cells>,
    generation: u64,
    /// The number of this store, drawn when it was made.
    pub(crate) store: [u8; 16],
    wrapped: Wrapped,
    root: Key,
    /// The last checkpoint written.
    pub(crate) checkpoint: Checkpoint,
}

/// One copy that was read whole but is not unlocked.
struct Copy {
    head: Vec<u8>,
    generation: u64,
    store: [u8; 16],
    wrapped: Wrapped,
    nonce: [u8; 24],
    sealed: Vec<u8>,
}

impl Keyring {
    /// Makes a keyring with a new root key, and writes it.
    pub(crate) fn create(
        cells: Box<dyn Cells>,
        passphrase: &Passphrase,
        kdf: Kdf,
        rng: &mut dyn CryptoRng,
    ) -> Result<(Self, Keys), StoreError> {
        let mut root = Zeroizing::new([0; 32]);
        let mut store = [0; 16];
        rng.fill_bytes(root.as_mut_slice());
        rng.fill_bytes(&mut store);
        let wrapped = Wrapped::wrap(&root, &store, passphrase, kdf, rng)?;
        let keys = Keys::derive(&root);
        let checkpoint = Checkpoint::default();
        let mut cells = cells;
        // The first copy goes behind this one's place; without room of its own the second could not be written on a full
        // disk.
        cells.write(0, &[0; COPY]).map_err(StoreError::io("make keyring"))?;
        Ok((Self { cells, generation: 0, store, wrapped, root, checkpoint }, keys))
    }

    /// Reads a keyring and unlocks it. Writes nothing.
    pub(crate) fn open(
        cells: Box<dyn Cells>,
        passphrase: &Passphrase,
    ) -> Result<(Self, Keys), StoreError> {
        let bytes = cells.read().map_err(StoreError::io("read keyring"))?;
        let copy = newest(&bytes)?;
        let root = copy.wrapped.unwrap(&copy.store, passphrase)?;
        let keys = Keys::derive(&root);
        let mut plain = Zeroizing::new(copy.sealed);
        let checkpoint = open_raw(&keys.state, &copy.nonce, &copy.head, &mut plain)
            .and_then(|()| Checkpoint::parse(&plain))
            .ok_or_else(|| StoreError::damaged("keyring was altered"))?;
        let Copy { generation, store, wrapped, .. } = copy;
        Ok((Self { cells, generation, store, wrapped, root, checkpoint }, keys))
    }

    /// Writes a checkpoint over the older copy; durable on return.
    pub(crate) fn write(
        &mut self,
        keys: &Keys,
        checkpoint: Checkpoint,
        rng: &mut dyn CryptoRng,
    ) -> Result<(), StoreError> {
        let generation = self.generation.saturating_add(1);
        let mut copy = Vec::with_capacity(COPY);
        copy.extend_from_slice(MAGIC);
        copy.extend_from_slice(&FORMAT.to_be_bytes());
        copy.extend_from_slice(&generation.to_be_bytes());
        copy.extend_from_slice(&self.store);
        self.wrapped.write(&mut copy);
        let mut nonce = [0; 24];
        rng.fill_bytes(&mut nonce);
        let mut sealed = checkpoint.to_bytes();
        seal_raw(&keys.state, &nonce, &copy, &mut sealed);
        copy.extend_from_slice(&nonce);
        copy.extend_from_slice(&sealed);
        let hash: [u8; 32] = Sha256::digest(&copy).into();
        copy.extend_from_slice(&hash);
        copy.resize(COPY, 0);
        self.cells
            .write(generation % 2 * STRIDE, &copy)
            .and_then(|()| self.cells.sync())
            .map_err(StoreError::io("write keyring"))?;
        self.generation = generation;
        self.checkpoint = checkpoint;
        Ok(())
    }

    /// Wraps the root key under another passphrase and overwrites both copies; durable on return.
    pub(crate) fn rewrap(
        &mut self,
        keys: &Keys,
        passphrase: &Passphrase,
        rng: &mut dyn CryptoRng,
    ) -> Result<(), StoreError> {
        self.wrapped = Wrapped::wrap(&self.root, &self.store, passphrase, self.wrapped.kdf, rng)?;
        // Twice, so that no copy under the old passphrase is left. A power cut between the two leaves the new one.
        self.write(keys, self.checkpoint, rng)?;
        self.write(keys, self.checkpoint, rng)
    }
}

impl Wrapped {
    fn wrap(
        root: &Key,
        store: &[u8; 16],
        passphrase: &Passphrase,
        kdf: Kdf,
        rng: &mut dyn CryptoRng,
    ) -> Result<Self, StoreError> {
        let (mut salt, mut nonce) = ([0; 16], [0; 24]);
        rng.fill_bytes(&mut salt);
        rng.fill_bytes(&mut nonce);
        let mut wrapped = Self { kdf, salt, nonce, sealed: [0; 48] };
        let key = wrapped.derive(passphrase)?;
        let mut buffer = Zeroizing::new(Vec::with_capacity(48));
        buffer.extend_from_slice(root.as_slice());
        seal_raw(&key, &nonce, &wrapped.aad(store), &mut buffer);
        wrapped.sealed.iter_mut().zip(buffer.iter()).for_each(|(to, from)| *to = *from);
        Ok(wrapped)
    }

    fn unwrap(&self, store: &[u8; 16], passphrase: &Passphrase) -> Result<Key, StoreError> {
        let key = self.derive(passphrase)?;
        let mut buffer = Zeroizing::new(self.sealed.to_vec());
        open_raw(&key, &self.nonce, &self.aad(store), &mut buffer)
            .and_then(|()| <[u8; 32]>::try_from(buffer.as_slice()).ok())
            .map(Zeroizing::new)
            .ok_or(StoreError::WrongPassphrase)
    }

    fn derive(&self, passphrase: &Passphrase) -> Result<Key, StoreError> {
        let refused = |_| StoreError::damaged("keyring asks for an impossible key derivation");
        let params =
            Params::new(self.kdf.memory_kib, self.kdf.passes, 1, Some(32)).map_err(refused)?;
        let mut out = Zeroizing::new([0; 32]);
        Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
            .hash_password_into(passphrase.as_bytes(), &self.salt, out.as_mut_slice())
            .map_err(refused)?;
        Ok(expand(out.as_slice(), b"oob/1 store passphrase"))
    }

    fn aad(&self, store: &[u8; 16]) -> Vec<u8> {
        let mut aad = FORMAT.to_be_bytes().to_vec();
        aad.extend_from_slice(store);
        aad.extend_from_slice(&self.kdf.memory_kib.to_be_bytes());
        aad.extend_from_slice(&self.kdf.passes.to_be_bytes());
        aad.extend_from_slice(&self.salt);
        aad
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.kdf.memory_kib.to_be_bytes());
        out.extend_from_slice(&self.kdf.passes.to_be_bytes());
        out.extend_from_slice(&self.salt);
        out.extend_from_slice(&self.nonce);
        out.extend_from_slice(&self.sealed);
    }
}

/// Returns what a try of the passphrase costs, from a keyring whose form is sound; no key is needed for that.
pub(crate) fn inspect(bytes: &[u8]) -> Result<Kdf, StoreError> {
    newest(bytes).map(|copy| copy.wrapped.kdf)
}

fn newest(bytes: &[u8]) -> Result<Copy, StoreError> {
    let mut best: Option<Copy> = None;
    let mut newer = None;
    for at in [0, STRIDE] {
        let copy = usize::try_from(at).ok().and_then(|at| bytes.get(at..)).and_then(Copy::parse);
        match copy {
            Some(Ok(copy)) if best.as_ref().is_none_or(|b| copy.generation > b.generation) => {
                best = Some(copy);
            }
            Some(Err(format)) => newer = Some(format),
            _ => {}
        }
    }
    match (newer, best) {
        (Some(found), _) => Err(StoreError::Newer { found, known: FORMAT }),
        (None, Some(copy)) => Ok(copy),
        (None, None) => Err(StoreError::damaged("keyring cannot be read")),
    }
}

impl Copy {
    /// Reads a copy; `None` if it is torn, the format if it is newer than ours.
    fn parse(bytes: &[u8]) -> Option<Result<Self, u32>> {
        let (magic, rest) = bytes.split_first_chunk::<16>()?;
        let (format, rest) = rest.split_first_chunk::<4>()?;
        if magic != MAGIC {
            return None;
        }
        let format = u32::from_be_bytes(*format);
        if format > FORMAT {
            return Some(Err(format));
        }
        let (generation, rest) = rest.split_first_chunk::<8>()?;
        let (store, rest) = rest.split_first_chunk::<16>()?;
        let (memory, rest) = rest.split_first_chunk::<4>()?;
        let (passes, rest) = rest.split_first_chunk::<4>()?;
        let (salt, rest) = rest.split_first_chunk::<16>()?;
        let (wrap_nonce, rest) = rest.split_first_chunk::<24>()?;
        let (wrap_sealed, rest) = rest.split_first_chunk::<48>()?;
        let head = bytes.get(..bytes.len() - rest.len())?;
        let (nonce, rest) = rest.split_first_chunk::<24>()?;
        let (sealed, rest) = rest.split_first_chunk::<{ CHECKPOINT + 16 }>()?;
        let (hash, _) = rest.split_first_chunk::<32>()?;
        let hashed = bytes.get(..bytes.len() - rest.len())?;
        let kdf =
            Kdf { memory_kib: u32::from_be_bytes(*memory), passes: u32::from_be_bytes(*passes) };
        let sound = hash.as_slice() == Sha256::digest(hashed).as_slice()
            && kdf.memory_kib <= KDF_CEILING_KIB
            && kdf.passes <= KDF_PASSES_CEILING;
        sound.then(|| {
            Ok(Self {
                head: head.to_vec(),
                generation: u64::from_be_bytes(*generation),
                store: *store,
                wrapped: Wrapped { kdf, salt: *salt, nonce: *wrap_nonce, sealed: *wrap_sealed },
                nonce: *nonce,
                sealed: sealed.to_vec(),
            })
        })
    }
}
