//! A store whose files somebody has had in hands: keyring, slots, records. It opens as the right one, or not at all.

use oob_store::{
    Area, Bag, Passphrase, Store, StoreError,
    backend::{Batch, Cells, CrashDisk, KeyRange, Kv, MemoryCells, Parts},
};
use rand::{SeedableRng, rngs::StdRng};
use std::sync::LazyLock;

/// Two commits, closed in peace.
static DISK: LazyLock<CrashDisk> = LazyLock::new(|| {
    let disk = CrashDisk::new();
    let mut store = open(disk.parts()).expect("a disk in memory");
    store.put(&bag(), 1, b"value");
    store.put_secret(b"session", b"one");
    store.commit().expect("memory takes everything");
    store.put_secret(b"session", b"two");
    store.commit().expect("memory takes everything");
    store.close().expect("memory takes everything");
    disk
});

fn bag() -> Bag {
    Bag::new(Area(1), b"x")
}

fn open(parts: Parts) -> Result<Store, StoreError> {
    let rng = StdRng::seed_from_u64(5);
    Store::with_backend(parts, &Passphrase::new("candle"), rng).map(|opened| opened.store)
}

/// Which part u8, then what becomes of it; taken if it opens.
///
/// 0, 1: the keyring, the slots anew. 2, 3: `place u16, bits u8` to turn in them, each. 4: `which record u8`, then its bytes
/// anew, none to take it away. 5: one record more, 24 bytes of key. 6: `place u16, bits u8` to turn in the records.
pub fn disk(bytes: &[u8]) -> bool {
    let Some((part, rest)) = bytes.split_first() else { return false };
    let image = DISK.image();
    let mut parts = image.parts();
    match part % 7 {
        // Zeros are no keyring yet.
        0 if rest.iter().any(|byte| *byte != 0) => parts.keyring = cells(rest),
        0 => return false,
        1 => parts.slots = cells(rest),
        2 => parts.keyring = turned(&*parts.keyring, rest),
        3 => parts.slots = turned(&*parts.slots, rest),
        4 => {
            let Some((which, value)) = rest.split_first() else { return false };
            let all = records(&parts);
            let (key, _) = &all[usize::from(*which) % all.len()];
            let value = (!value.is_empty()).then(|| value.to_vec());
            write(&mut parts, vec![(key.clone(), value)]);
        }
        5 => {
            let Some((key, value)) = rest.split_first_chunk::<24>() else { return false };
            write(&mut parts, vec![(key.to_vec(), Some(value.to_vec()))]);
        }
        _ => {
            let mut all = records(&parts);
            for [high, low, bits] in rest.as_chunks::<3>().0 {
                let place = usize::from(u16::from_be_bytes([*high, *low]));
                let which = place % all.len();
                let value = &mut all[which].1;
                let at = place / 8 % value.len();
                value[at] ^= bits;
            }
            write(&mut parts, all.into_iter().map(|(key, value)| (key, Some(value))).collect());
        }
    }
    match open(parts) {
        Ok(store) => {
            let secret = store.secret(b"session").expect("what opens can be read");
            assert_eq!(secret.as_deref().map(Vec::as_slice), Some(b"two".as_slice()));
            let value = store.get(&bag(), 1).expect("what opens can be read");
            assert_eq!(value.as_deref(), Some(b"value".as_slice()));
            true
        }
        Err(
            StoreError::Damaged { .. }
            | StoreError::Foreign { .. }
            | StoreError::RolledBack { .. }
            | StoreError::WrongPassphrase
            | StoreError::Newer { .. },
        ) => false,
        Err(error) => panic!("refused for another reason: {error}"),
    }
}

fn cells(bytes: &[u8]) -> Box<dyn Cells> {
    let mut cells = MemoryCells::new();
    cells.write(0, bytes).expect("memory takes everything");
    Box::new(cells)
}

fn turned(of: &dyn Cells, turns: &[u8]) -> Box<dyn Cells> {
    let mut bytes = of.read().expect("memory gives everything");
    for [high, low, bits] in turns.as_chunks::<3>().0 {
        let len = bytes.len();
        bytes[usize::from(u16::from_be_bytes([*high, *low])) % len] ^= bits;
    }
    cells(&bytes)
}

fn records(parts: &Parts) -> Vec<Kv> {
    let everything = KeyRange { first: Vec::new(), last: vec![0xff; 32] };
    parts.tree.reader().scan(&everything, false, 100).expect("memory gives everything")
}

fn write(parts: &mut Parts, writes: Vec<(Vec<u8>, Option<Vec<u8>>)>) {
    parts.tree.apply(&Batch::of(writes)).expect("memory takes everything");
}
