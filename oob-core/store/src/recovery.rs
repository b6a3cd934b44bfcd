//! Putting a copy back: a snapshot in the place of a damaged store, a backup into an empty home.
//!
//! The copy is read to its end before anything is made of it, and again while a new store is made of it in a folder of its
//! own. Only when that is whole and durable do the two change places, by renames that can be cut off anywhere and are then
//! finished by the next opening. Nothing is deleted: what was there lies in `quarantine/`.

use std::fs::File;
use std::io::{BufReader, Seek};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rand_core::CryptoRng;

use crate::backend::FileCells;
use crate::error::StoreError;
use crate::home::Home;
use crate::keyring::Keyring;
use crate::keys::Key;
use crate::limits::{RESTORE_BYTES, RESTORE_RECORDS};
use crate::passphrase::{Kdf, Passphrase};
use crate::sealed_copy::{Contents, CopyReader, Head};
use crate::snapshots;
use crate::store::Store;

/// Bytes read from a copy at a time.
const READ: usize = 256 * 1024;

/// What a copy was made into.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Restored {
    /// What the copy held.
    pub contents: Contents,
    /// Where the store that was there lies now, if there was one.
    pub quarantine: Option<PathBuf>,
    /// Newer copies that could not be used, and why.
    pub skipped: Vec<(PathBuf, String)>,
}

impl Store {
    /// Puts what is there of a store aside and makes a new one of the newest snapshot that opens. The passphrase is that of
    /// the store, and of the new one.
    ///
    /// The new store has everything of the snapshot and no secret record. Whoever owns it must not go on with any counter it
    /// finds there.
    ///
    /// # Errors
    /// [`StoreError::NoSnapshot`] if none opens, [`StoreError::WrongPassphrase`], [`StoreError::Busy`]; when the disk
    /// refuses. The store there is as before unless the exchange itself was cut off; then opening finishes it.
    pub fn recover(
        dir: &Path,
        passphrase: &Passphrase,
        rng: impl CryptoRng + Send + 'static,
    ) -> Result<Restored, StoreError> {
        let home = Home::new(dir);
        if !home.is_taken() {
            return Err(home.missing());
        }
        let _lock = home.lock()?;
        home.exchange()?;
        let mut skipped = Vec::new();
        let mut wrong = false;
        for snapshot in snapshots::list(&home) {
            let made = open_file(&snapshot.path)
                .and_then(|file| Source::open(&home, file, passphrase))
                .and_then(|mut source| {
                    source.verify(&mut |_| {})?;
                    Ok(source)
                });
            match made {
                Ok(source) => {
                    let kdf = source.kdf;
                    let contents = source.load(&home, passphrase, kdf, rng, &mut |_| {})?;
                    home.make_ready(&free_name(&home))?;
                    let quarantine = home.exchange()?;
                    return Ok(Restored { contents, quarantine, skipped });
                }
                Err(error) => {
                    wrong |= matches!(error, StoreError::WrongPassphrase);
                    skipped.push((snapshot.path, error.to_string()));
                }
            }
        }
        Err(match wrong {
            true => StoreError::WrongPassphrase,
            false => StoreError::NoSnapshot { dir: dir.to_path_buf() },
        })
    }

    /// Makes a store of a backup in a folder that has none. `step` is told the number of each record as it is put back.
    ///
    /// # Errors
    /// [`StoreError::Exists`], [`StoreError::Derivation`], [`StoreError::WrongPassphrase`] if that of the backup is not
    /// right, [`StoreError::BadCopy`] if it is not whole; when the disk refuses. There is no store then.
    pub fn restore(
        dir: &Path,
        backup: &Path,
        backup_passphrase: &Passphrase,
        passphrase: &Passphrase,
        kdf: Kdf,
        rng: impl CryptoRng + Send + 'static,
        step: &mut dyn FnMut(u64),
    ) -> Result<Restored, StoreError> {
        let kdf = kdf.check()?;
        let home = Home::new(dir);
        let taken = || StoreError::Exists { dir: dir.to_path_buf() };
        if home.is_taken() {
            return Err(taken());
        }
        let mut source = Source::open(&home, open_file(backup)?, backup_passphrase)?;
        source.verify(&mut |_| {})?;
        home.make_folder()?;
        let _lock = home.lock()?;
        if home.is_taken() {
            return Err(taken());
        }
        let contents = source.load(&home, passphrase, kdf, rng, step)?;
        home.make_ready(&free_name(&home))?;
        let quarantine = home.exchange()?;
        Ok(Restored { contents, quarantine, skipped: Vec::new() })
    }

    /// Reads a backup or snapshot to its end, changing nothing, and returns what it holds. `step` is told the number of each
    /// record.
    ///
    /// # Errors
    /// [`StoreError::WrongPassphrase`], [`StoreError::BadCopy`]; when the file cannot be read.
    pub fn verify_copy(
        path: &Path,
        passphrase: &Passphrase,
        step: &mut dyn FnMut(u64),
    ) -> Result<Contents, StoreError> {
        let input = BufReader::with_capacity(READ, open_file(path)?);
        CopyReader::open(input, passphrase)?.verify(step)
    }
}

/// A copy whose key is known, to be read more than once.
struct Source {
    file: File,
    key: Key,
    kdf: Kdf,
}

impl Source {
    fn open(home: &Home, mut file: File, passphrase: &Passphrase) -> Result<Self, StoreError> {
        let head = Head::read(&mut file)?;
        let key = match head.unwrap(passphrase) {
            // The passphrase was changed since the snapshot was written; the keyring has the same root key.
            Err(StoreError::WrongPassphrase) => root_of(home, &head, passphrase)?,
            other => other?,
        };
        Ok(Self { file, key, kdf: head.kdf() })
    }

    fn reader(&mut self) -> Result<CopyReader<BufReader<&File>>, StoreError> {
        self.file.rewind().map_err(StoreError::io("read copy"))?;
        let mut input = BufReader::with_capacity(READ, &self.file);
        let head = Head::read(&mut input)?;
        CopyReader::with_key(input, &head, &self.key)
    }

    fn verify(&mut self, step: &mut dyn FnMut(u64)) -> Result<Contents, StoreError> {
        self.reader()?.verify(step)
    }

    /// Makes a store of the copy in the folder for new ones. If that fails nothing of it is left: it takes as much room as the
    /// copy, and the next try may be a long time off.
    fn load(
        self,
        home: &Home,
        passphrase: &Passphrase,
        kdf: Kdf,
        rng: impl CryptoRng + Send + 'static,
        step: &mut dyn FnMut(u64),
    ) -> Result<Contents, StoreError> {
        let loaded = self.make(home, passphrase, kdf, rng, step);
        if loaded.is_err()
            && let Err(error) = home.clear_new()
        {
            tracing::warn!(%error, "what was made of the copy could not be removed");
        }
        loaded
    }

    fn make(
        mut self,
        home: &Home,
        passphrase: &Passphrase,
        kdf: Kdf,
        rng: impl CryptoRng + Send + 'static,
        step: &mut dyn FnMut(u64),
    ) -> Result<Contents, StoreError> {
        home.clear_new()?;
        let mut reader = self.reader()?;
        let mut store = Store::make(&home.new_store(), passphrase, kdf, rng)?.store;
        let (mut number, mut records, mut bytes) = (0u64, 0usize, 0usize);
        while let Some((bag, seq, value)) = reader.next_record()? {
            store.put(&bag, seq, &value);
            number = number.saturating_add(1);
            records = records.saturating_add(1);
            bytes = bytes.saturating_add(value.len());
            if records >= RESTORE_RECORDS || bytes >= RESTORE_BYTES {
                store.commit()?;
                (records, bytes) = (0, 0);
                step(number);
            }
        }
        store.commit()?;
        step(number);
        store.close()?;
        Ok(reader.contents())
    }
}

/// The root key of the keyring in a home, if it is the one a copy was written by.
fn root_of(home: &Home, head: &Head, passphrase: &Passphrase) -> Result<Key, StoreError> {
    let cells = FileCells::open(&home.keyring()).map_err(|_| StoreError::WrongPassphrase)?;
    let (keyring, _) =
        Keyring::open(Box::new(cells), passphrase).map_err(|_| StoreError::WrongPassphrase)?;
    match keyring.store == head.id {
        true => Ok(keyring.root.clone()),
        false => Err(StoreError::WrongPassphrase),
    }
}

fn open_file(path: &Path) -> Result<File, StoreError> {
    File::open(path).map_err(StoreError::io("open copy"))
}

/// A name for what is put aside now that nothing in quarantine has: the date, and a number if need be.
fn free_name(home: &Home) -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let date = date(since.as_secs());
    let taken = |name: &str| home.quarantine().join(name).exists();
    if !taken(&date) {
        return date;
    }
    (2u32..).map(|n| format!("{date}-{n}")).find(|name| !taken(name)).unwrap_or(date)
}

/// Writes a moment as `2026-11-22T052200Z`, the Gregorian calendar counted in eras of 400 years that begin in March.
fn date(secs: u64) -> String {
    let (days, rest) = (secs / 86_400, secs % 86_400);
    let shifted = days.saturating_add(719_468);
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let (hour, minute, second) = (rest / 3_600, rest % 3_600 / 60, rest % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}{minute:02}{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        assert_eq!(date(0), "1970-01-01T000000Z");
        assert_eq!(date(951_782_400), "2000-02-29T000000Z");
        assert_eq!(date(951_868_799), "2000-02-29T235959Z");
        assert_eq!(date(4_107_542_399), "2100-02-28T235959Z");
        assert_eq!(date(4_107_542_400), "2100-03-01T000000Z");
    }
}
