//! The journal: a file of two halves, written from the front, in which a batch is durable with one write and one sync.
//!
//! ```text
//! record: check 16 | previous 16 | number u64 | pieces u64 | length u32 | body
//! body:   for each write: key length u16 | value length u32, all ones if the key is removed | key | value
//! ```
//! Each record begins at a sector of its own, so that writing one touches no sector of another, which is durable already.
//! `check` is the first half of BLAKE3 over everything behind it, `previous` the check of the record before. Numbers go up by
//! one over the whole life of the store. So a record that lies there from earlier, that was torn, or that belongs elsewhere
//! is not read. But a record is only begun once the one before is durable: a whole one with a later number than the last that
//! can be read says that some of what was durable was lost.
//!
//! `pieces` is how often the tree beneath had been written to by then, so that a tree that lost the end of its own log is not
//! taken for one that only lags behind.

use std::io;

use super::{Batch, Cells, Write};

/// What stands before the body of a record.
const HEAD: usize = 16 + 16 + 8 + 8 + 4;

/// Where records begin: what disks write whole or not at all, and what a write that is cut off may spoil.
const SECTOR: usize = 512;

/// The length that stands for "no value".
const REMOVED: u32 = u32::MAX;

/// Zeros written at a time while the file gets its length: a page. The kernel keeps what is written at once as one piece of its
/// cache, and counts all of that as written again with every record in it.
const BLOCK: usize = 4096;

/// The last record there is, or the last one that the tree beneath holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tip {
    /// Its number; 0 before the first.
    pub(super) number: u64,
    /// Its check.
    pub(super) check: [u8; 16],
}

impl Tip {
    /// The tip after a batch that went past the journal.
    pub(super) fn beyond(self, batch: &Batch) -> Self {
        let number = self.number.saturating_add(1);
        let mut hash = blake3::Hasher::new();
        hash.update(&self.check).update(&number.to_be_bytes());
        for (key, value) in &batch.writes {
            let length = value.as_ref().map_or(u64::MAX, |value| value.len() as u64);
            hash.update(key).update(&length.to_be_bytes());
            hash.update(value.as_deref().unwrap_or_default());
        }
        Self { number, check: half_of(&hash) }
    }
}

/// What the tree beneath says of itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Applied {
    /// The last batch it holds.
    pub(super) tip: Tip,
    /// How often it was written to.
    pub(super) pieces: u64,
}

impl Applied {
    /// Writes this as the tree beneath keeps it.
    pub(super) fn to_bytes(self) -> Vec<u8> {
        let Self { tip, pieces } = self;
        [&tip.number.to_be_bytes()[..], &tip.check, &pieces.to_be_bytes()].concat()
    }

    /// Reads what [`Self::to_bytes`] wrote.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let (number, rest) = bytes.split_first_chunk::<8>()?;
        let (check, pieces) = rest.split_first_chunk::<16>()?;
        let tip = Tip { number: u64::from_be_bytes(*number), check: *check };
        Some(Self { tip, pieces: u64::from_be_bytes(pieces.try_into().ok()?) })
    }
}

/// What a half of the journal holds beyond the tree beneath.
#[derive(Debug)]
pub(super) struct Run {
    /// Which half.
    pub(super) half: usize,
    /// Where the last record ends.
    pub(super) end: usize,
    /// The last record.
    pub(super) tip: Tip,
    /// How often the tree beneath had been written to by then.
    pub(super) pieces: u64,
    /// The batches, in order.
    pub(super) batches: Vec<Batch>,
}

/// The file.
pub(super) struct Journal {
    cells: Box<dyn Cells>,
    half_bytes: usize,
    /// The bytes it has on the disk; less than both halves before it is made, or after it was cut short.
    len: usize,
    half: usize,
    position: usize,
    tip: Tip,
    dirty: bool,
    /// What was read at opening, and where it lies.
    read: Vec<(u64, Vec<u8>)>,
    /// A record that is there and cannot follow the last one that was read.
    beyond: Option<u64>,
}

impl Journal {
    /// Reads the file, which may be empty or short; returns what it holds beyond `applied`, oldest first. Writes nothing.
    pub(super) fn open(
        cells: Box<dyn Cells>,
        half_bytes: usize,
        applied: Tip,
    ) -> io::Result<(Self, Vec<Run>)> {
        let bytes = cells.read()?;
        let halves = bytes.chunks(half_bytes).take(2).enumerate();
        let mut found: Vec<(usize, Vec<Record<'_>>)> =
            halves.map(|(half, bytes)| (half, find_records(bytes))).collect();
        let newest = found.iter().flat_map(|(_, records)| records).map(|it| it.tip.number).max();
        let mut tip = applied;
        let mut runs: Vec<Run> = Vec::new();
        // What follows may lie in either half, and what follows that in the other.
        for _ in 0..2 {
            let next =
                found.iter().position(|(half, records)| match read_run(*half, records, tip) {
                    Some(run) => {
                        tip = run.tip;
                        runs.push(run);
                        true
                    }
                    None => false,
                });
            let Some(at) = next else { break };
            found.remove(at);
        }
        let beyond = newest.filter(|number| *number > tip.number);
        let end = |run: &Run| (run.half, run.end.next_multiple_of(SECTOR));
        let (half, position) = runs.last().map_or((0, 0), end);
        let len = bytes.len();
        let part = |run: &Run| {
            let at = run.half.saturating_mul(half_bytes);
            let bytes = bytes.get(at..at.saturating_add(run.end)).unwrap_or_default();
            (at as u64, bytes.to_vec())
        };
        // An empty batch says only how often the tree was written to; what a peaceful close left is no reason to write.
        let says_more = |run: &&Run| run.batches.iter().any(|batch| !batch.writes.is_empty());
        let read = runs.iter().filter(says_more).map(part).collect();
        // Also where nothing is written again: the next record may only be begun once this one is durable.
        let dirty = !runs.is_empty();
        Ok((Self { cells, half_bytes, len, half, position, tip, dirty, read, beyond }, runs))
    }

    /// Returns the number of the newest record, if what it follows was lost.
    pub(super) fn beyond(&self) -> Option<u64> {
        self.beyond
    }

    /// Makes what was read at opening durable by writing it again. A sync alone is not enough: what a process that was killed
    /// left in memory it would write, but what a disk refused before lies there as if it were written.
    pub(super) fn settle(&mut self) -> io::Result<()> {
        for (at, bytes) in std::mem::take(&mut self.read) {
            self.dirty = true;
            self.cells.write(at, &bytes)?;
        }
        self.sync()
    }

    /// Returns the last record.
    pub(super) fn tip(&self) -> Tip {
        self.tip
    }

    /// Returns the bytes of each half.
    pub(super) fn half_bytes(&self) -> usize {
        self.half_bytes
    }

    /// Returns how far the half in use is written.
    pub(super) fn position(&self) -> usize {
        self.position
    }

    /// Says whether the file has its place on the disk.
    pub(super) fn is_made(&self) -> bool {
        self.len >= self.half_bytes.saturating_mul(2)
    }

    /// Gives the file its length by writing zeros, so that a sync of it has nothing but bytes to write; durable on return.
    pub(super) fn make(&mut self) -> io::Result<()> {
        let zeros = [0; BLOCK];
        let end = self.half_bytes.saturating_mul(2);
        while self.len < end {
            let some = zeros.get(..(end - self.len).min(BLOCK)).unwrap_or(&zeros);
            self.cells.write(self.len as u64, some)?;
            self.len = self.len.saturating_add(some.len());
        }
        self.dirty = true;
        self.sync()
    }

    /// Says whether a record of this length has room in the half in use.
    pub(super) fn fits(&self, record: usize) -> bool {
        self.position.saturating_add(record) <= self.half_bytes
    }

    /// Goes on at the front of the other half, all of whose records the tree beneath must hold.
    pub(super) fn turn(&mut self) {
        self.half ^= 1;
        self.position = 0;
    }

    /// Goes on behind a batch that went past the journal. The tree beneath must hold everything.
    pub(super) fn pass(&mut self, tip: Tip) {
        self.tip = tip;
        self.position = 0;
    }

    /// Writes a batch behind the others; durable after [`Self::sync`].
    pub(super) fn append(&mut self, batch: &Batch, pieces: u64) -> io::Result<()> {
        let number = self.tip.number.saturating_add(1);
        let (record, check) = encode(batch, self.tip.check, number, pieces)?;
        let at = self.half.saturating_mul(self.half_bytes).saturating_add(self.position);
        self.dirty = true;
        self.cells.write(at as u64, &record)?;
        self.position = self.position.saturating_add(record.len()).next_multiple_of(SECTOR);
        self.tip = Tip { number, check };
        Ok(())
    }

    /// Returns when everything appended would survive a power cut.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        if self.dirty {
            self.cells.sync()?;
            self.dirty = false;
        }
        Ok(())
    }
}

/// Returns the bytes the record of a batch takes.
pub(super) fn record_bytes(batch: &Batch) -> usize {
    let write =
        |(key, value): &Write| 6 + key.len() + value.as_ref().map_or(0, |value| value.len());
    HEAD + batch.writes.iter().map(write).sum::<usize>()
}

fn encode(
    batch: &Batch,
    previous: [u8; 16],
    number: u64,
    pieces: u64,
) -> io::Result<(Vec<u8>, [u8; 16])> {
    let long = |_| io::Error::other("a batch too long for the journal");
    let len = record_bytes(batch);
    let mut record = Vec::with_capacity(len);
    record.extend_from_slice(&[0; 16]);
    record.extend_from_slice(&previous);
    record.extend_from_slice(&number.to_be_bytes());
    record.extend_from_slice(&pieces.to_be_bytes());
    record.extend_from_slice(&u32::try_from(len - HEAD).map_err(long)?.to_be_bytes());
    for (key, value) in &batch.writes {
        record.extend_from_slice(&u16::try_from(key.len()).map_err(long)?.to_be_bytes());
        let value_len = value.as_ref().map_or(Ok(REMOVED), |value| u32::try_from(value.len()));
        record.extend_from_slice(&value_len.map_err(long)?.to_be_bytes());
        record.extend_from_slice(key);
        record.extend_from_slice(value.as_deref().unwrap_or_default());
    }
    let check = check_of(record.get(16..).unwrap_or_default());
    record.iter_mut().zip(check).for_each(|(to, from)| *to = from);
    Ok((record, check))
}

fn half_of(hash: &blake3::Hasher) -> [u8; 16] {
    let mut half = [0; 16];
    half.iter_mut().zip(hash.finalize().as_bytes()).for_each(|(to, from)| *to = *from);
    half
}

fn check_of(bytes: &[u8]) -> [u8; 16] {
    half_of(blake3::Hasher::new().update(bytes))
}

/// A record as it lies in the file.
struct Record<'a> {
    /// Where the next one may begin.
    end: usize,
    previous: [u8; 16],
    tip: Tip,
    pieces: u64,
    body: &'a [u8],
}

/// Finds every whole record of a half, those from earlier among them, however much between them is not.
fn find_records(bytes: &[u8]) -> Vec<Record<'_>> {
    let mut records = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        at = match bytes.get(at..).and_then(|rest| read_record(rest, at)) {
            Some(record) => {
                let end = record.end;
                records.push(record);
                end
            }
            // Those of earlier versions followed each other without a gap.
            None => at.saturating_add(1).next_multiple_of(SECTOR),
        };
    }
    records
}

/// Reads the record at the front, if it is whole.
fn read_record(bytes: &[u8], at: usize) -> Option<Record<'_>> {
    let (check, rest) = bytes.split_first_chunk::<16>()?;
    let (previous, fields) = rest.split_first_chunk::<16>()?;
    let (number, fields) = fields.split_first_chunk::<8>()?;
    let (pieces, fields) = fields.split_first_chunk::<8>()?;
    let (length, fields) = fields.split_first_chunk::<4>()?;
    // The length is believed only as far as there are bytes; the check covers it.
    let (body, _) = fields.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    if check_of(rest.get(..HEAD - 16 + body.len())?) != *check {
        return None;
    }
    let tip = Tip { number: u64::from_be_bytes(*number), check: *check };
    let pieces = u64::from_be_bytes(*pieces);
    let end = at.saturating_add(HEAD).saturating_add(body.len());
    Some(Record { end, previous: *previous, tip, pieces, body })
}

/// Reads what a half holds behind `applied`; nothing if what follows is not there.
fn read_run(half: usize, records: &[Record<'_>], applied: Tip) -> Option<Run> {
    let mut run = Run { half, end: 0, tip: applied, pieces: 0, batches: Vec::new() };
    for record in records {
        // Those from earlier do not, and none that belongs to another tree.
        let follows = record.previous == run.tip.check
            && run.tip.number.checked_add(1) == Some(record.tip.number);
        if !follows {
            continue;
        }
        let Some(batch) = parse_body(record.body) else { break };
        run.batches.push(batch);
        run.tip = record.tip;
        run.pieces = record.pieces;
        run.end = record.end;
    }
    (!run.batches.is_empty()).then_some(run)
}

fn parse_body(mut bytes: &[u8]) -> Option<Batch> {
    let mut batch = Batch::default();
    while !bytes.is_empty() {
        let (key_len, rest) = bytes.split_first_chunk::<2>()?;
        let (value_len, rest) = rest.split_first_chunk::<4>()?;
        let (key, rest) = rest.split_at_checked(u16::from_be_bytes(*key_len).into())?;
        let (value, rest) = match u32::from_be_bytes(*value_len) {
            REMOVED => (None, rest),
            len => {
                let (value, rest) = rest.split_at_checked(usize::try_from(len).ok()?)?;
                (Some(value.into()), rest)
            }
        };
        batch.writes.push((key.into(), value));
        bytes = rest;
    }
    Some(batch)
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::super::CrashDisk;
    use super::*;

    /// What a peaceful close wrote last has no batch in it, and a killed process may have left it in memory only. It is no reason to
    /// write anything, but the next record is begun behind it: were that one durable and this one not, the next opening would miss it
    /// and refuse a store that lost nothing.
    #[test]
    fn what_was_read_is_durable_before_the_next_record_is_begun() {
        let half = 16 << 10;
        let batch = |value: &[u8]| Batch::of([(b"key".to_vec(), Some(value.to_vec()))]);
        let missed = |settles: bool, seed: u64| {
            let disk = CrashDisk::new();
            let (mut journal, _) = Journal::open(disk.journal(), half, Tip::default()).unwrap();
            journal.make().unwrap();
            journal.append(&batch(b"1"), 0).unwrap();
            journal.sync().unwrap();
            // The tree beneath holds this much, and the record that says so is not synced.
            let applied = journal.tip();
            journal.append(&Batch::default(), 1).unwrap();
            drop(journal);
            let (mut journal, runs) = Journal::open(disk.journal(), half, applied).unwrap();
            assert_eq!(runs.len(), 1);
            if settles {
                journal.settle().unwrap();
            }
            journal.append(&batch(b"2"), 1).unwrap();
            drop(journal);
            disk.power_cut(&mut StdRng::seed_from_u64(seed));
            let (journal, _) = Journal::open(disk.journal(), half, applied).unwrap();
            journal.beyond().is_some()
        };
        assert_eq!((0..40).find(|seed| missed(true, *seed)), None);
        // The control: without it, the second may be there and the first not.
        assert!((0..40).any(|seed| missed(false, seed)));
    }
}
