//! The tally: which commit this is, and a count and hash of everything stored, kept in one record that every commit
//! rewrites in its own batch.
//!
//! The tree below may lose the end of its log, or a page in the middle, and say nothing. A tree that does not hold
//! exactly what its tally says has lost something; a tree whose tally is older than the keyring or the slot file
//! know has been taken back.

use zeroize::Zeroizing;

use crate::keys::Key;

/// A count and a keyed hash of a set of records, which does not depend on their order and can be brought up to date
/// one record at a time.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    /// How many records.
    pub(crate) count: u64,
    sums: [u64; 4],
}

impl Tally {
    /// Counts a record in.
    pub(crate) fn add(&mut self, key: &Key, place: &[u8], stored: &[u8]) {
        self.count = self.count.wrapping_add(1);
        self.combine(key, place, stored, u64::wrapping_add);
    }

    /// Counts a record out.
    pub(crate) fn remove(&mut self, key: &Key, place: &[u8], stored: &[u8]) {
        self.count = self.count.wrapping_sub(1);
        self.combine(key, place, stored, u64::wrapping_sub);
    }

    // Sums of a keyed hash: whoever cannot compute the hash of a record cannot choose records that add up.
    fn combine(&mut self, key: &Key, place: &[u8], stored: &[u8], with: fn(u64, u64) -> u64) {
        let mut hasher = blake3::Hasher::new_keyed(key);
        hasher.update(place).update(stored);
        let hash = hasher.finalize();
        for (sum, part) in self.sums.iter_mut().zip(hash.as_bytes().as_chunks::<8>().0) {
            *sum = with(*sum, u64::from_be_bytes(*part));
        }
    }

    /// Adds up two sets that have no record in common, or takes in what a batch changes.
    pub(crate) fn and(&self, other: &Self) -> Self {
        let mut both = *self;
        both.count = both.count.wrapping_add(other.count);
        for (sum, part) in both.sums.iter_mut().zip(other.sums) {
            *sum = sum.wrapping_add(part);
        }
        both
    }

    /// Writes the tally behind what is there already: 40 bytes.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.count.to_be_bytes());
        for sum in self.sums {
            out.extend_from_slice(&sum.to_be_bytes());
        }
    }

    /// Reads a tally off the front.
    pub(crate) fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (count, mut rest) = bytes.split_first_chunk::<8>()?;
        let mut sums = [0; 4];
        for sum in &mut sums {
            let (part, left) = rest.split_first_chunk::<8>()?;
            *sum = u64::from_be_bytes(*part);
            rest = left;
        }
        Some((Self { count: u64::from_be_bytes(*count), sums }, rest))
    }
}

/// The record that says what the tree must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ledger {
    /// The store this is.
    pub(crate) store: [u8; 16],
    /// The number of the last commit.
    pub(crate) number: u64,
    /// Everything stored but this record.
    pub(crate) tally: Tally,
}

/// The format of everything in the tree. Since 2 there is a journal before it and a record of the journal's in it, and since 3 large
/// values lie in slices; whoever knows less would take either for damage.
pub(crate) const FORMAT: u32 = 3;

/// Why a ledger could not be read.
pub(crate) enum LedgerError {
    /// A newer format.
    Newer(u32),
    /// Not a ledger.
    Malformed,
}

impl Ledger {
    /// Encodes the ledger.
    pub(crate) fn to_bytes(self) -> Zeroizing<Vec<u8>> {
        let mut out = Vec::with_capacity(68);
        out.extend_from_slice(&FORMAT.to_be_bytes());
        out.extend_from_slice(&self.store);
        out.extend_from_slice(&self.number.to_be_bytes());
        self.tally.write(&mut out);
        Zeroizing::new(out)
    }

    /// Says whether a ledger that can be read is of an earlier format.
    pub(crate) fn is_older(bytes: &[u8]) -> bool {
        bytes.first_chunk().is_some_and(|format| u32::from_be_bytes(*format) < FORMAT)
    }

    /// Decodes a ledger.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, LedgerError> {
        let (format, rest) = bytes.split_first_chunk::<4>().ok_or(LedgerError::Malformed)?;
        let format = u32::from_be_bytes(*format);
        if format > FORMAT {
            return Err(LedgerError::Newer(format));
        }
        let parts = || {
            let (store, rest) = rest.split_first_chunk::<16>()?;
            let (number, rest) = rest.split_first_chunk::<8>()?;
            let (tally, rest) = Tally::read(rest)?;
            rest.is_empty().then_some(Self {
                store: *store,
                number: u64::from_be_bytes(*number),
                tally,
            })
        };
        parts().ok_or(LedgerError::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_records_does_not_matter_and_removal_undoes() {
        let key = Zeroizing::new([1; 32]);
        let (mut a, mut b) = (Tally::default(), Tally::default());
        a.add(&key, b"1", b"x");
        a.add(&key, b"2", b"y");
        b.add(&key, b"2", b"y");
        b.add(&key, b"3", b"z");
        b.add(&key, b"1", b"x");
        assert_ne!(a, b);
        b.remove(&key, b"3", b"z");
        assert_eq!(a, b);
    }

    #[test]
    fn a_ledger_reads_back_and_nothing_else_does() {
        let mut tally = Tally::default();
        tally.add(&Zeroizing::new([1; 32]), b"1", b"x");
        let ledger = Ledger { store: [7; 16], number: 9, tally };
        let bytes = ledger.to_bytes();
        assert!(matches!(Ledger::parse(&bytes), Ok(read) if read == ledger));
        for cut in 0..bytes.len() {
            assert!(matches!(Ledger::parse(&bytes[..cut]), Err(LedgerError::Malformed)));
        }
        let newer = [&[0, 0, 0, 4], &bytes[4..]].concat();
        assert!(matches!(Ledger::parse(&newer), Err(LedgerError::Newer(4))));
        // What versions before the journal and before slices wrote, and what they refuse by name and not as damage.
        for format in [1, 2] {
            let older = [&[0, 0, 0, format], &bytes[4..]].concat();
            assert!(matches!(Ledger::parse(&older), Ok(read) if read == ledger));
            assert!(Ledger::is_older(&older) && !Ledger::is_older(&bytes));
        }
        assert_eq!(bytes[..4], [0, 0, 0, 3]);
    }
}
