//! Sealed copies of a store's records in one file: backups and local snapshots (docs/storage.md, "Sealed copies").
//!
//! ```text
//! magic 16 | format u32 | kind u32 | id 16 | memory KiB u32 | passes u32 | salt 16
//! | nonce 24 | XChaCha20-Poly1305(key of the passphrase, AAD = 1 u32, id, memory, passes, salt) of key 32
//! | stream salt 32 | SHA-256 of everything before
//! | sealed stream of: written u64 | commit u64 | length u16 | owner
//!                     | for each record: 1 | class u8 | length u16 | label | seq u64 | length u32 | value
//!                     | 0 | count u64 | SHA-256 of the stream before this
//! ```
//! A copy holds no secret record: a ratchet that is put back would be used twice. Which records go in is decided by the
//! owner of the store, and what a copy names by its bags can be put into any store, whatever its keys are.

use std::fmt;
use std::io::{self, Read, Write};

use rand_core::CryptoRng;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::bag::{Bag, KeyClass};
use crate::error::StoreError;
use crate::keyring::Wrapped;
use crate::keys::{Key, expand};
use crate::limits::{LABEL_BYTES, OWNER_BYTES, VALUE_BYTES};
use crate::passphrase::{Kdf, Passphrase};
use crate::stream::{Opener, Sealer, StreamError};

const MAGIC: &[u8; 16] = b"oob/1 copy\0\0\0\0\0\0";
const FORMAT: u32 = 1;
/// Everything before the hash.
const HEAD: usize = 16 + 4 + 4 + 16 + Wrapped::LEN + 32;
const INFO: &[u8] = b"oob/1 store copy";
const RECORD: u8 = 1;
const END: u8 = 0;

/// What a copy was made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CopyKind {
    /// By a person, under a passphrase of its own.
    Backup,
    /// By the device, under the passphrase of its store.
    Snapshot,
}

impl CopyKind {
    const fn code(self) -> u32 {
        match self {
            Self::Backup => 1,
            Self::Snapshot => 2,
        }
    }
}

/// What a copy tells of itself once it is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct About {
    /// When it was written, by the clock of the device, in milliseconds since 1970.
    pub written_ms: u64,
    /// The commit it holds the records of.
    pub commit: u64,
    /// Whose it is, for people.
    pub owner: String,
}

/// What a copy that was read to its end holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// What it was made for.
    pub kind: CopyKind,
    /// What it tells of itself.
    pub about: About,
    /// How many records.
    pub records: u64,
    /// Bytes of their values.
    pub bytes: u64,
}

/// Writes a copy.
pub struct CopyWriter<W> {
    stream: Sealer<W>,
    hash: Sha256,
    kind: CopyKind,
    about: About,
    records: u64,
    bytes: u64,
}

impl<W> fmt::Debug for CopyWriter<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CopyWriter").field("records", &self.records).finish_non_exhaustive()
    }
}

impl<W: Write> CopyWriter<W> {
    /// Begins a backup, under a passphrase of its own. It has a key of its own too, so whoever learns that passphrase has
    /// this file and nothing else of the device.
    ///
    /// # Errors
    /// [`StoreError::Derivation`] if `kdf` is too weak; when the output cannot be written.
    pub fn backup(
        out: W,
        passphrase: &Passphrase,
        kdf: Kdf,
        about: About,
        rng: &mut dyn CryptoRng,
    ) -> Result<Self, StoreError> {
        let kdf = kdf.check()?;
        let mut key = Zeroizing::new([0; 32]);
        let mut id = [0; 16];
        rng.fill_bytes(key.as_mut_slice());
        rng.fill_bytes(&mut id);
        let wrapped = Wrapped::wrap(&key, &id, passphrase, kdf, rng)?;
        Self::begin(out, CopyKind::Backup, &id, &wrapped, &key, about, rng)
    }

    /// Begins a copy under a key that is wrapped already.
    pub(crate) fn begin(
        mut out: W,
        kind: CopyKind,
        id: &[u8; 16],
        wrapped: &Wrapped,
        key: &Key,
        mut about: About,
        rng: &mut dyn CryptoRng,
    ) -> Result<Self, StoreError> {
        let mut salt = [0; 32];
        rng.fill_bytes(&mut salt);
        let mut head = Vec::with_capacity(HEAD);
        head.extend_from_slice(MAGIC);
        head.extend_from_slice(&FORMAT.to_be_bytes());
        head.extend_from_slice(&kind.code().to_be_bytes());
        head.extend_from_slice(id);
        wrapped.write(&mut head);
        head.extend_from_slice(&salt);
        let hash: [u8; 32] = Sha256::digest(&head).into();
        out.write_all(&head).and_then(|()| out.write_all(&hash)).map_err(writing)?;
        while about.owner.len() > OWNER_BYTES {
            about.owner.pop();
        }
        let mut writer = Self {
            stream: Sealer::new(out, stream_key(key, &salt), hash),
            hash: Sha256::new(),
            kind,
            about,
            records: 0,
            bytes: 0,
        };
        let owner = writer.about.owner.clone();
        let len = u16::try_from(owner.len()).unwrap_or(u16::MAX);
        let (written_ms, commit) = (writer.about.written_ms, writer.about.commit);
        writer.write(&[
            &written_ms.to_be_bytes(),
            &commit.to_be_bytes(),
            &len.to_be_bytes(),
            owner.as_bytes(),
        ])?;
        Ok(writer)
    }

    /// Adds a record.
    ///
    /// # Errors
    /// [`StoreError::ValueTooLong`], or when the output cannot be written; the copy is useless then.
    pub fn put(&mut self, bag: &Bag, seq: u64, value: &[u8]) -> Result<(), StoreError> {
        let (Ok(label), Ok(len)) = (u16::try_from(bag.label.len()), u32::try_from(value.len()))
        else {
            return Err(StoreError::ValueTooLong { len: value.len() });
        };
        if usize::from(label) > LABEL_BYTES || value.len() > VALUE_BYTES {
            return Err(StoreError::ValueTooLong { len: value.len() });
        }
        let class = match bag.class {
            KeyClass::Home => 0,
            KeyClass::Carry => 1,
        };
        self.write(&[
            &[RECORD, class],
            &label.to_be_bytes(),
            &bag.label,
            &seq.to_be_bytes(),
            &len.to_be_bytes(),
            value,
        ])?;
        self.records = self.records.saturating_add(1);
        self.bytes = self.bytes.saturating_add(u64::from(len));
        Ok(())
    }

    /// Says how many records were added.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Ends the copy and returns the output and what it holds. Without this the copy never opens.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn finish(mut self) -> Result<(W, Contents), StoreError> {
        let records = self.records;
        self.write(&[&[END], &records.to_be_bytes()])?;
        let hash: [u8; 32] = self.hash.clone().finalize().into();
        self.stream.write(&hash).map_err(writing)?;
        let Self { stream, kind, about, records, bytes, .. } = self;
        let out = stream.finish().map_err(writing)?;
        Ok((out, Contents { kind, about, records, bytes }))
    }

    fn write(&mut self, parts: &[&[u8]]) -> Result<(), StoreError> {
        for part in parts {
            self.hash.update(part);
            self.stream.write(part).map_err(writing)?;
        }
        Ok(())
    }
}

/// Reads a copy. What it gives is authentic record by record, but only after the last is it known that all are there.
pub struct CopyReader<R> {
    stream: Opener<R>,
    hash: Sha256,
    kind: CopyKind,
    about: About,
    kdf: Kdf,
    records: u64,
    bytes: u64,
    ended: bool,
}

impl<R> fmt::Debug for CopyReader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CopyReader").field("kind", &self.kind).finish_non_exhaustive()
    }
}

/// The part of a copy that is read before any key is known.
pub(crate) struct Head {
    kind: CopyKind,
    pub(crate) id: [u8; 16],
    wrapped: Wrapped,
    salt: [u8; 32],
    hash: [u8; 32],
}

impl Head {
    /// Reads the head off an input of any origin.
    pub(crate) fn read(input: &mut impl Read) -> Result<Self, StoreError> {
        let mut bytes = Vec::with_capacity(HEAD + 32);
        let most = u64::try_from(HEAD + 32).unwrap_or(u64::MAX);
        input.by_ref().take(most).read_to_end(&mut bytes).map_err(reading)?;
        Self::parse(&bytes)
    }

    fn parse(bytes: &[u8]) -> Result<Self, StoreError> {
        let (_, rest) = bytes
            .split_first_chunk::<16>()
            .filter(|(magic, _)| *magic == MAGIC)
            .ok_or_else(|| StoreError::bad_copy("it is not a copy of a store"))?;
        let short = || StoreError::bad_copy("it ends in the middle of its header");
        let (format, rest) = rest.split_first_chunk::<4>().ok_or_else(short)?;
        let format = u32::from_be_bytes(*format);
        if format > FORMAT {
            return Err(StoreError::Newer { found: format, known: FORMAT });
        }
        let (kind, rest) = rest.split_first_chunk::<4>().ok_or_else(short)?;
        let (id, rest) = rest.split_first_chunk::<16>().ok_or_else(short)?;
        let (wrapped, rest) = rest.split_first_chunk::<{ Wrapped::LEN }>().ok_or_else(short)?;
        let (salt, rest) = rest.split_first_chunk::<32>().ok_or_else(short)?;
        let hash = rest.first_chunk::<32>().ok_or_else(short)?;
        let altered = || StoreError::bad_copy("its header was altered");
        let head = bytes.get(..HEAD).ok_or_else(short)?;
        if hash.as_slice() != Sha256::digest(head).as_slice() || format != FORMAT {
            return Err(altered());
        }
        let kind = match u32::from_be_bytes(*kind) {
            1 => CopyKind::Backup,
            2 => CopyKind::Snapshot,
            _ => return Err(altered()),
        };
        let wrapped = Wrapped::read(wrapped).ok_or_else(altered)?;
        Ok(Self { kind, id: *id, wrapped, salt: *salt, hash: *hash })
    }

    pub(crate) fn kdf(&self) -> Kdf {
        self.wrapped.kdf
    }

    pub(crate) fn unwrap(&self, passphrase: &Passphrase) -> Result<Key, StoreError> {
        self.wrapped.unwrap(&self.id, passphrase)
    }
}

impl<R: Read> CopyReader<R> {
    /// Opens a copy with its passphrase.
    ///
    /// # Errors
    /// [`StoreError::BadCopy`] for what is no copy or was altered, [`StoreError::Newer`],
    /// [`StoreError::WrongPassphrase`]; when the input cannot be read.
    pub fn open(mut input: R, passphrase: &Passphrase) -> Result<Self, StoreError> {
        let head = Head::read(&mut input)?;
        let key = head.unwrap(passphrase)?;
        Self::with_key(input, &head, &key)
    }

    /// Opens a copy whose key is known.
    pub(crate) fn with_key(input: R, head: &Head, key: &Key) -> Result<Self, StoreError> {
        let mut reader = Self {
            stream: Opener::new(input, stream_key(key, &head.salt), head.hash),
            hash: Sha256::new(),
            kind: head.kind,
            about: About { written_ms: 0, commit: 0, owner: String::new() },
            kdf: head.wrapped.kdf,
            records: 0,
            bytes: 0,
            ended: false,
        };
        reader.about.written_ms = u64::from_be_bytes(reader.array()?);
        reader.about.commit = u64::from_be_bytes(reader.array()?);
        let len = usize::from(u16::from_be_bytes(reader.array()?));
        let owner = reader.vec(len, OWNER_BYTES)?;
        let owner = std::str::from_utf8(&owner).map_err(|_| malformed())?;
        reader.about.owner = owner.to_owned();
        Ok(reader)
    }

    /// Returns what the copy tells of itself.
    pub fn about(&self) -> &About {
        &self.about
    }

    /// Returns what a try of its passphrase costs.
    pub fn kdf(&self) -> Kdf {
        self.kdf
    }

    /// Returns the next record; none once all were read and their number and hash are right.
    ///
    /// # Errors
    /// [`StoreError::BadCopy`] if it was altered or cut; when the input cannot be read.
    #[expect(clippy::type_complexity, reason = "a record: bag, number, value")]
    pub fn next_record(&mut self) -> Result<Option<(Bag, u64, Zeroizing<Vec<u8>>)>, StoreError> {
        if self.ended {
            return Ok(None);
        }
        let [kind] = self.array()?;
        match kind {
            RECORD => {}
            END => return self.end().map(|()| None),
            _ => return Err(malformed()),
        }
        let class = match self.array()? {
            [0] => KeyClass::Home,
            [1] => KeyClass::Carry,
            _ => return Err(malformed()),
        };
        let len = usize::from(u16::from_be_bytes(self.array()?));
        let label = self.vec(len, LABEL_BYTES)?.to_vec();
        let seq = u64::from_be_bytes(self.array()?);
        let len = u32::from_be_bytes(self.array()?);
        let value = self.vec(usize::try_from(len).unwrap_or(usize::MAX), VALUE_BYTES)?;
        self.records = self.records.saturating_add(1);
        self.bytes = self.bytes.saturating_add(u64::from(len));
        Ok(Some((Bag { class, label }, seq, value)))
    }

    /// Reads the whole copy and returns what it holds; `step` is told the number of each record.
    ///
    /// # Errors
    /// As [`Self::next_record`].
    pub fn verify(mut self, step: &mut dyn FnMut(u64)) -> Result<Contents, StoreError> {
        while self.next_record()?.is_some() {
            step(self.records);
        }
        Ok(self.contents())
    }

    /// What was read so far.
    pub(crate) fn contents(self) -> Contents {
        let Self { kind, about, records, bytes, .. } = self;
        Contents { kind, about, records, bytes }
    }

    fn end(&mut self) -> Result<(), StoreError> {
        let count = u64::from_be_bytes(self.array()?);
        let expected: [u8; 32] = self.hash.clone().finalize().into();
        let hash: [u8; 32] = self.array()?;
        if count != self.records || hash != expected || !self.stream.is_at_end() {
            return Err(malformed());
        }
        self.ended = true;
        Ok(())
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], StoreError> {
        let mut bytes = [0; N];
        self.stream.read(&mut bytes).map_err(stream_error)?;
        self.hash.update(bytes);
        Ok(bytes)
    }

    /// Reads so many bytes. The length was authentic, and is still not allocated before it is checked: a copy is a file
    /// somebody handed over with its passphrase.
    fn vec(&mut self, len: usize, most: usize) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        if len > most {
            return Err(malformed());
        }
        let mut bytes = Zeroizing::new(vec![0; len]);
        self.stream.read(&mut bytes).map_err(stream_error)?;
        self.hash.update(bytes.as_slice());
        Ok(bytes)
    }
}

fn stream_key(key: &Key, salt: &[u8; 32]) -> Key {
    expand(key.as_slice(), &[INFO, salt].concat())
}

fn malformed() -> StoreError {
    StoreError::bad_copy("what it holds is not in the form of a copy")
}

fn stream_error(error: StreamError) -> StoreError {
    match error {
        StreamError::Altered => StoreError::bad_copy("it was altered or cut short"),
        StreamError::Io(error) => reading(error),
    }
}

fn reading(source: io::Error) -> StoreError {
    StoreError::Io { what: "read copy", source }
}

fn writing(source: io::Error) -> StoreError {
    StoreError::Io { what: "write copy", source }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;
    use crate::bag::Area;

    fn about() -> About {
        About { written_ms: 1_770_000_000_000, commit: 7, owner: "Dana".into() }
    }

    fn passphrase() -> Passphrase {
        Passphrase::new("a rope across the yard")
    }

    /// A copy under a derivation that costs nothing, which a backup may not have.
    fn written(records: &[(Bag, u64, Vec<u8>)]) -> Vec<u8> {
        written_by(1, records)
    }

    fn written_by(seed: u64, records: &[(Bag, u64, Vec<u8>)]) -> Vec<u8> {
        let mut rng = StdRng::seed_from_u64(seed);
        let (key, id) = (Zeroizing::new([5; 32]), [6; 16]);
        let wrapped = Wrapped::wrap(&key, &id, &passphrase(), Kdf::MEMORY_ONLY, &mut rng).unwrap();
        let mut writer = CopyWriter::begin(
            Vec::new(),
            CopyKind::Snapshot,
            &id,
            &wrapped,
            &key,
            about(),
            &mut rng,
        )
        .unwrap();
        records.iter().for_each(|(bag, seq, value)| writer.put(bag, *seq, value).unwrap());
        writer.finish().unwrap().0
    }

    fn read(bytes: &[u8]) -> Result<Vec<(Bag, u64, Vec<u8>)>, StoreError> {
        let mut reader = CopyReader::open(bytes, &passphrase())?;
        assert_eq!(*reader.about(), about());
        let mut records = Vec::new();
        while let Some((bag, seq, value)) = reader.next_record()? {
            records.push((bag, seq, value.to_vec()));
        }
        Ok(records)
    }

    fn some(count: usize, len: usize) -> Vec<(Bag, u64, Vec<u8>)> {
        (0..count)
            .map(|n| {
                let id = [u8::try_from(n % 256).unwrap(); 32];
                let bag = match n % 2 {
                    0 => Bag::new(Area(9), &id),
                    _ => Bag::carry(Area(15), &id),
                };
                (bag, n as u64, vec![u8::try_from(n % 251).unwrap(); len])
            })
            .collect()
    }

    #[test]
    fn the_header_is_as_the_page_says() {
        let bytes = written(&[]);
        assert_eq!(&bytes[..16], b"oob/1 copy\0\0\0\0\0\0");
        assert_eq!(bytes[16..24], [0, 0, 0, 1, 0, 0, 0, 2], "format 1, a snapshot");
        assert_eq!(bytes[24..40], [6; 16], "id");
        assert_eq!(bytes[40..48], [0, 0, 0, 8, 0, 0, 0, 1], "8 KiB, one pass");
        let hash: [u8; 32] = Sha256::digest(&bytes[..168]).into();
        assert_eq!(bytes[168..200], hash);
        // Written and commit 16, owner 2 + 4, end 1 + 8 + 32, one seal 16.
        assert_eq!(bytes.len(), 200 + 16 + 6 + 41 + 16);
        // Seeded: a change of these bytes is a change of the format.
        let digest: [u8; 32] = Sha256::digest(&bytes).into();
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, GOLDEN);
    }

    const GOLDEN: &str = "f8d2e3914a214f2d3f880816b0ec3b98f912ab2bb92b264372df44c6690d6001";

    #[test]
    fn a_copy_reads_back_record_by_record() {
        for (count, len) in [(0, 0), (1, 0), (3, 70_000), (500, 300), (1, VALUE_BYTES)] {
            let records = some(count, len);
            assert_eq!(read(&written(&records)).unwrap(), records);
        }
    }

    #[test]
    fn what_is_no_copy_or_newer_or_under_another_passphrase_is_told_apart() {
        let bytes = written(&some(2, 10));
        assert!(matches!(read(b""), Err(StoreError::BadCopy { .. })));
        assert!(matches!(read(b"a letter to Sam"), Err(StoreError::BadCopy { .. })));
        let mut newer = bytes.clone();
        newer[19] = 2;
        assert!(matches!(read(&newer), Err(StoreError::Newer { found: 2, known: 1 })));
        let other = Passphrase::new("a rope across the road");
        let refused = CopyReader::open(bytes.as_slice(), &other).map(drop);
        assert!(matches!(refused, Err(StoreError::WrongPassphrase)));
    }

    /// The file may come from anybody: a header that asks for a terabyte of memory must not get it.
    #[test]
    fn a_header_that_asks_for_too_much_is_refused_before_any_work() {
        let mut bytes = written(&[]);
        bytes[40..44].copy_from_slice(&u32::MAX.to_be_bytes());
        let hash: [u8; 32] = Sha256::digest(&bytes[..168]).into();
        bytes[168..200].copy_from_slice(&hash);
        assert!(matches!(read(&bytes), Err(StoreError::BadCopy { .. })));
    }

    #[test]
    fn chunks_in_another_order_are_refused() {
        let bytes = written(&some(3, 70_000));
        let chunk = crate::stream::CHUNK + crate::stream::TAG;
        let (head, body) = bytes.split_at(200);
        assert!(body.len() > 3 * chunk);
        assert!(read(&bytes).is_ok(), "control");
        let moved = [head, &body[chunk..2 * chunk], &body[..chunk], &body[2 * chunk..]].concat();
        assert!(matches!(read(&moved), Err(StoreError::BadCopy { .. })));
        let missing = [head, &body[..chunk], &body[2 * chunk..]].concat();
        assert!(matches!(read(&missing), Err(StoreError::BadCopy { .. })));
        // The stream of one copy behind the head of another.
        let other = [head, &written_by(2, &some(3, 70_000))[200..]].concat();
        assert!(matches!(read(&other), Err(StoreError::BadCopy { .. })));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(300))]

        #[test]
        fn any_flipped_bit_and_any_cut_is_refused(
            at in any::<prop::sample::Index>(),
            bit in 0u8..8,
            cut in any::<prop::sample::Index>(),
        ) {
            let bytes = written(&some(5, 30_000));
            let mut flipped = bytes.clone();
            flipped[at.index(bytes.len())] ^= 1 << bit;
            prop_assert!(read(&flipped).is_err());
            prop_assert!(read(&bytes[..cut.index(bytes.len())]).is_err());
            prop_assert!(read(&bytes).is_ok());
        }

        #[test]
        fn arbitrary_bytes_behind_the_magic_never_panic(tail in prop::collection::vec(any::<u8>(), 0..400)) {
            let bytes = [MAGIC.as_slice(), &tail].concat();
            prop_assert!(read(&bytes).is_err());
        }
    }
}
