//! The sums: what the records of each part of the tree must add up to, written down when the store is closed in peace.
//!
//! ```text
//! magic 16 | format u32 | store id 16 | commit u64 | for each part: count u64, four sums u64 | BLAKE3_keyed of everything before
//! ```
//! A part is one of 4,096 ranges of keys of the same length. All parts together add up to what the ledger says, so the file
//! promises nothing that the ledger does not; it lets a part be compared without the others. Without the file, or with one that
//! is not of this commit, a store is read whole as it is opened.

use crate::backend::KeyRange;
use crate::keys::Key;
use crate::tally::Tally;

/// How many parts: at a million records some hundreds are in each, which takes a millisecond or two to compare, and the sums of
/// all take 160 KiB of memory.
pub(crate) const PARTS: usize = 1 << PART_BITS;
const PART_BITS: u32 = 12;

const MAGIC: &[u8; 16] = b"oob/1 sums\0\0\0\0\0\0";
const FORMAT: u32 = 1;
const HEAD: usize = 16 + 4 + 16 + 8;

/// What each part must add up to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sums(Vec<Tally>);

impl Sums {
    /// The sums of nothing.
    pub(crate) fn new() -> Self {
        Self(vec![Tally::default(); PARTS])
    }

    /// Returns what a part must add up to.
    pub(crate) fn of(&self, part: usize) -> Tally {
        self.0.get(part).copied().unwrap_or_default()
    }

    /// Returns what a part must add up to, to be brought up to date.
    pub(crate) fn at(&mut self, part: usize) -> Option<&mut Tally> {
        self.0.get_mut(part)
    }

    /// Returns what all parts add up to.
    pub(crate) fn total(&self) -> Tally {
        self.0.iter().fold(Tally::default(), |total, part| total.and(part))
    }

    /// Writes the sums of a commit of a store.
    pub(crate) fn to_bytes(&self, key: &Key, store: &[u8; 16], commit: u64) -> Vec<u8> {
        let mut out = head(store, commit);
        self.0.iter().for_each(|part| part.write(&mut out));
        let hash = blake3::keyed_hash(key, &out);
        out.extend_from_slice(hash.as_bytes());
        out
    }

    /// Reads what [`Self::to_bytes`] wrote for this commit of this store; nothing if it is anything else.
    pub(crate) fn parse(bytes: &[u8], key: &Key, store: &[u8; 16], commit: u64) -> Option<Self> {
        let (said, hash) = bytes.split_last_chunk::<32>()?;
        // Compared in constant time.
        if blake3::keyed_hash(key, said) != blake3::Hash::from_bytes(*hash) {
            return None;
        }
        let mut rest = said.strip_prefix(head(store, commit).as_slice())?;
        let mut parts = Vec::with_capacity(PARTS);
        for _ in 0..PARTS {
            let (part, behind) = Tally::read(rest)?;
            parts.push(part);
            rest = behind;
        }
        rest.is_empty().then_some(Self(parts))
    }
}

/// The longest such file there can be.
pub(crate) const FILE_BYTES: usize = HEAD + PARTS * 40 + 32;

fn head(store: &[u8; 16], commit: u64) -> Vec<u8> {
    let mut head = Vec::with_capacity(FILE_BYTES);
    head.extend_from_slice(MAGIC);
    head.extend_from_slice(&FORMAT.to_be_bytes());
    head.extend_from_slice(store);
    head.extend_from_slice(&commit.to_be_bytes());
    head
}

/// Returns the part a key belongs to: its first bits.
pub(crate) fn part_of(key: &[u8]) -> usize {
    let mut bits = key.iter().copied().chain([0, 0]);
    let first = u16::from_be_bytes([bits.next().unwrap_or(0), bits.next().unwrap_or(0)]);
    usize::from(first >> (u16::BITS - PART_BITS))
}

/// Returns all keys of a part, shorter and longer ones than ours among them.
pub(crate) fn range_of(part: usize) -> KeyRange {
    let part = u16::try_from(part % PARTS).unwrap_or(0);
    let first = part << (u16::BITS - PART_BITS);
    let mut low = first.to_be_bytes().to_vec();
    while low.last() == Some(&0) {
        low.pop();
    }
    let mut high = (first | (u16::MAX >> PART_BITS)).to_be_bytes().to_vec();
    high.extend_from_slice(&[0xff; 30]);
    KeyRange { first: low, last: high }
}

/// What a batch changes, part by part, until it is durable.
pub(crate) type Changes = Vec<(usize, Tally)>;

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    #[test]
    fn every_key_lies_in_the_range_of_its_part_and_in_no_other() {
        for key in [
            &b""[..],
            &[0],
            &[0, 0],
            &[0, 15, 9],
            &[0, 16],
            &[1],
            &[7, 0xff],
            &[7; 24],
            &[0xff; 24],
            &[0xff, 0xf0],
        ] {
            let part = part_of(key);
            for other in [0, 1, part.saturating_sub(1), part, part + 1, PARTS - 1] {
                let range = range_of(other);
                let lies = range.first.as_slice() <= key && key <= range.last.as_slice();
                assert_eq!(lies, other % PARTS == part, "{key:?} in {other}");
            }
        }
    }

    #[test]
    fn sums_read_back_for_their_store_and_commit_and_nothing_else_does() {
        let (key, other) = (Zeroizing::new([1; 32]), Zeroizing::new([2; 32]));
        let mut sums = Sums::new();
        sums.at(part_of(b"ward-3")).unwrap().add(&key, b"ward-3", b"x");
        let bytes = sums.to_bytes(&key, &[7; 16], 9);
        assert_eq!(bytes.len(), FILE_BYTES);
        assert_eq!(Sums::parse(&bytes, &key, &[7; 16], 9).as_ref(), Some(&sums));
        assert_eq!(Sums::parse(&bytes, &key, &[7; 16], 8), None);
        assert_eq!(Sums::parse(&bytes, &key, &[8; 16], 9), None);
        assert_eq!(Sums::parse(&bytes, &other, &[7; 16], 9), None);
        for at in [0, 20, HEAD, HEAD + 50, bytes.len() / 2, bytes.len() - 1] {
            let mut altered = bytes.clone();
            altered[at] ^= 1;
            assert_eq!(Sums::parse(&altered, &key, &[7; 16], 9), None, "{at}");
            assert_eq!(Sums::parse(&bytes[..at], &key, &[7; 16], 9), None, "{at}");
        }
    }
}
