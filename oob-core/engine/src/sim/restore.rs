//! Devices that are put back to a copy they made some minutes earlier, as `oob backup recover` does: what came since is
//! forgotten, and another life begins.

use super::{
    book::Mark,
    node::passphrase,
    story::Fall,
    world::{Happening, World},
};
use oob_proto::{DeviceId, Incarnation};
use oob_store::{CopyReader, CopyWriter, Kdf, Store, backend::CrashDisk};

/// What the key of a copy is derived with: as little as the store takes.
const KDF: Kdf = Kdf { memory_kib: Kdf::FLOOR.memory_kib, passes: 1 };

/// How long until a device that could make no copy tries again.
const AGAIN_MS: u64 = 1_000;

/// How long a device that was put back stays away.
const BACK_MS: std::ops::RangeInclusive<u64> = 500..=30_000;

/// A copy, and what the device had been told of when it was made.
pub(super) struct Copied {
    bytes: Vec<u8>,
    mark: Mark,
    told: u64,
    /// The whole disk, for the control.
    disk: CrashDisk,
}

impl World {
    /// A device makes a copy of its store.
    pub(super) fn copy(&mut self, node: usize) {
        if self.healed || self.copies.contains_key(&node) {
            return;
        }
        if self.nodes[node].waits {
            self.end_batch(node);
        }
        let it = &mut self.nodes[node];
        let now = it.clock(self.now_ms);
        let (Some(engine), None, Some(_)) = (&mut it.engine, &it.doom, it.member) else {
            return self.after(AGAIN_MS, Happening::Copy { node });
        };
        let mut rng = self.copy_dice.fork();
        let about = engine.about(now);
        let written = CopyWriter::backup(Vec::new(), &passphrase(), KDF, about, &mut rng)
            .map_err(|error| error.to_string())
            .and_then(|mut to| {
                engine.back_up(&mut to, &mut |_| {}).map_err(|error| error.to_string())?;
                to.finish().map_err(|error| error.to_string())
            });
        let bytes = match written {
            Ok((bytes, _)) => bytes,
            Err(error) => return self.fail(node, format!("no copy could be made: {error}")),
        };
        let (mark, told, disk) = (self.book.mark(node), it.told, it.disk.image());
        self.copies.insert(node, Copied { bytes, mark, told, disk });
        self.note(node, "copy", String::new(), told.to_string());
    }

    /// A device is put back to the copy it made.
    pub(super) fn put_back(&mut self, node: usize) {
        let gone = self.book.removed == Some(node) || self.revoking == Some(node);
        let it = &self.nodes[node];
        if self.healed || gone || !it.runs() || it.doom.is_some() {
            return;
        }
        let Some(copied) = self.copies.remove(&node) else { return };
        let disk = match self.settings.faults.same_life {
            true => copied.disk,
            false => match self.disk_of(&copied.bytes) {
                Ok(disk) => disk,
                Err(error) => return self.fail(node, format!("a copy cannot be used: {error}")),
            },
        };
        let it = &mut self.nodes[node];
        (it.engine, it.disk, it.told) = (None, disk, copied.told);
        self.book.put_back(node, copied.mark);
        self.counts.restores += 1;
        self.note(node, "put back", String::new(), copied.told.to_string());
        let back_ms = self.copy_dice.between(BACK_MS);
        self.gone(node, Fall::Kill, back_ms);
    }

    fn disk_of(&mut self, copy: &[u8]) -> Result<CrashDisk, oob_store::StoreError> {
        let disk = CrashDisk::new();
        let opened = Store::with_backend(disk.parts(), &passphrase(), self.copy_dice.fork())?;
        let mut store = opened.store;
        let mut reader = CopyReader::open(copy, &passphrase())?;
        while let Some((bag, seq, value)) = reader.next_record()? {
            store.put(&bag, seq, &value);
        }
        store.commit()?;
        drop(store);
        Ok(disk.image())
    }

    /// Whether a life is one that a device ended: what it wrote in it behind a copy only others know.
    pub(super) fn is_former(&self, node: usize, life: &(DeviceId, Incarnation)) -> bool {
        let it = &self.nodes[node];
        life.0 == it.device && life.1 != it.life
    }
}
