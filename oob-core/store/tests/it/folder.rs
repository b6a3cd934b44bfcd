//! The folder: who may read it, who has it open, and what is legible in it.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use oob_store::{Area, Bag, Kdf, Order, Passphrase, Store, StoreError};
use tempfile::tempdir;

use crate::{FAST, contents, create, open, passphrase, rng};

#[test]
fn files_are_0600_and_folders_0700_whatever_they_were() {
    let base = tempdir().unwrap();
    let dir = base.path().join("home");
    fs::create_dir(&dir).unwrap();
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).unwrap();
    let mut store = create(&dir);
    store.put(&Bag::new(Area(1), b"large"), 1, &vec![1; 600_000]);
    store.put_secret(b"session", b"x");
    store.commit().unwrap();
    let check = || {
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&dir), 0o700);
        assert_eq!(mode(&dir.join("lock")), 0o600);
        let all = contents(&dir);
        assert!(all.len() >= 7, "{:?}", all.keys());
        for (name, (mode, _)) in all {
            let wanted = if dir.join(&name).is_dir() { 0o700 } else { 0o600 };
            assert_eq!(mode, wanted, "{name} has {mode:o}");
        }
    };
    check();
    drop(store);
    for name in ["keyring", "slots", "lock", "store/db"] {
        fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o644)).unwrap();
    }
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o755)).unwrap();
    let store = open(&dir).unwrap();
    check();
    assert_eq!(store.get(&Bag::new(Area(1), b"large"), 1).unwrap().unwrap().len(), 600_000);
}

#[test]
fn a_look_without_the_passphrase_names_what_is_wrong_and_changes_nothing() {
    let base = tempdir().unwrap();
    let dir = base.path().join("home");
    assert!(matches!(Store::inspect(&dir), Err(StoreError::Missing { .. })));
    assert!(!dir.exists());
    let store = create(&dir);
    // Also while it is open, which it is when somebody wonders.
    assert_eq!(Store::inspect(&dir).unwrap(), FAST);
    store.close().unwrap();
    let before = contents(&dir);
    assert_eq!(Store::inspect(&dir).unwrap(), FAST);
    let whole = fs::read(dir.join("keyring")).unwrap();
    fs::write(dir.join("keyring"), &whole[..300]).unwrap();
    assert!(matches!(Store::inspect(&dir), Err(StoreError::Damaged { .. })));
    fs::write(dir.join("keyring"), &whole).unwrap();
    assert_eq!(contents(&dir), before);
    fs::rename(dir.join("slots"), dir.join("aside")).unwrap();
    assert!(matches!(Store::inspect(&dir), Err(StoreError::Damaged { .. })));
}

#[test]
fn a_store_is_made_once_and_opened_again() {
    let base = tempdir().unwrap();
    let dir = base.path().join("a/b/home");
    assert!(!Store::exists(&dir));
    assert!(matches!(open(&dir), Err(StoreError::Missing { .. })));
    assert!(!dir.exists(), "a refused open makes nothing");

    let bag = Bag::new(Area(1), b"messages");
    let mut store = create(&dir);
    assert!(Store::exists(&dir));
    store.put(&bag, 1, b"one");
    store.put_secret(b"session", b"s1");
    store.commit().unwrap();
    store.put(&bag, 2, b"never committed");
    store.close().unwrap();
    let again = Store::create(&dir, &passphrase(), FAST, rng(1));
    assert!(matches!(again, Err(StoreError::Exists { .. })));

    let opened = Store::open(&dir, &passphrase(), rng(3)).unwrap();
    assert!(opened.kdf > std::time::Duration::ZERO);
    let mut store = opened.store;
    assert_eq!(store.commit_number(), 1);
    let all = store.scan(&bag, .., Order::Ascending, 10).unwrap();
    assert_eq!(all, [(1, b"one".to_vec())]);
    store.put_secret(b"session", b"s2");
    store.commit().unwrap();
    drop(store);
    let store = open(&dir).unwrap();
    assert_eq!(store.secret(b"session").unwrap().unwrap().as_slice(), b"s2");
}

#[test]
fn a_store_forgotten_open_is_found_whole() {
    let base = tempdir().unwrap();
    let mut store = create(base.path());
    let bag = Bag::new(Area(1), b"messages");
    for seq in 0..50 {
        store.put(&bag, seq, b"acknowledged");
        store.put_secret(b"session", &[seq as u8]);
        store.commit().unwrap();
    }
    // What a kill leaves: the files as they are now, in another place since this one is locked.
    let other = tempdir().unwrap();
    crate::copy(base.path(), other.path());
    let killed = open(other.path()).unwrap();
    assert_eq!(killed.commit_number(), 50);
    assert_eq!(killed.last_seq(&bag).unwrap(), Some(49));
    assert_eq!(killed.secret(b"session").unwrap().unwrap().as_slice(), [49]);
    assert!(!other.path().join("trial").exists());
}

#[test]
fn second_opener_is_told_who_has_it() {
    let base = tempdir().unwrap();
    let store = create(base.path());
    let before = contents(base.path());
    match open(base.path()) {
        Err(StoreError::Busy { pid }) => assert_eq!(pid, std::process::id()),
        other => panic!("{other:?}"),
    }
    assert_eq!(contents(base.path()), before);
    assert!(matches!(
        Store::create(base.path(), &passphrase(), FAST, rng(1)),
        Err(StoreError::Exists { .. })
    ));
    drop(store);
    open(base.path()).unwrap();
}

#[test]
fn lock_file_of_a_dead_process_is_no_obstacle() {
    let base = tempdir().unwrap();
    create(base.path()).close().unwrap();
    fs::File::create(base.path().join("lock")).unwrap().write_all(b"4194304\n").unwrap();
    open(base.path()).unwrap();
}

#[test]
fn weak_key_derivation_is_refused() {
    let base = tempdir().unwrap();
    let dir = base.path().join("home");
    for kdf in [
        Kdf { memory_kib: 64 * 1024 - 1, passes: 3 },
        Kdf { memory_kib: 64 * 1024, passes: 0 },
        Kdf { memory_kib: u32::MAX, passes: 3 },
    ] {
        let made = Store::create(&dir, &passphrase(), kdf, rng(1));
        assert!(matches!(made, Err(StoreError::Derivation { .. })));
        assert!(!dir.exists());
    }
    assert_eq!(Kdf::default(), Kdf { memory_kib: 256 * 1024, passes: 3 });
}

#[test]
fn half_made_store_is_none_and_is_made_anew() {
    let base = tempdir().unwrap();
    create(base.path()).close().unwrap();
    // As a crash while it is being made leaves it.
    fs::write(base.path().join("making"), b"").unwrap();
    fs::write(base.path().join("keyring"), b"half a keyr").unwrap();
    assert!(!Store::exists(base.path()));
    assert!(matches!(open(base.path()), Err(StoreError::Missing { .. })));
    let store = create(base.path());
    assert_eq!(store.commit_number(), 0);
    drop(store);
    open(base.path()).unwrap();
}

#[test]
fn changed_passphrase_opens_and_the_old_one_does_not() {
    let base = tempdir().unwrap();
    let mut store = create(base.path());
    store.put(&Bag::new(Area(1), b"x"), 1, b"kept");
    store.commit().unwrap();
    let new = Passphrase::new("a kettle and nine umbrellas");
    store.change_passphrase(&new).unwrap();
    store.close().unwrap();
    assert!(matches!(open(base.path()), Err(StoreError::WrongPassphrase)));
    let store = Store::open(base.path(), &new, rng(3)).unwrap().store;
    assert_eq!(store.get(&Bag::new(Area(1), b"x"), 1).unwrap().unwrap(), b"kept");
}

#[test]
fn nothing_in_the_folder_can_be_read() {
    let markers: [&[u8]; 5] = [
        b"marker-of-a-body",
        b"marker-of-an-id",
        b"marker-of-a-secret",
        b"marker-of-a-name",
        b"marker-of-mail",
    ];
    let hits =
        |bytes: &[u8]| markers.iter().filter(|m| bytes.windows(m.len()).any(|w| w == **m)).count();
    let base = tempdir().unwrap();
    let mut store = create(base.path());
    for seq in 0..100 {
        store.put(&Bag::new(Area(1), markers[1]), seq, markers[0]);
        store.put(&Bag::carry(Area(1), markers[1]), seq, markers[4]);
        store.put_secret(markers[3], markers[2]);
        store.commit().unwrap();
    }
    let found = |dir: &Path| -> usize {
        contents(dir).iter().map(|(name, (_, bytes))| hits(bytes) + hits(name.as_bytes())).sum()
    };
    assert_eq!(found(base.path()), 0);
    store.close().unwrap();
    assert_eq!(found(base.path()), 0);
    // The control: the same values in a bare tree are found by the same search.
    let clear = tempdir().unwrap();
    let mut tree = oob_store::backend::SledTree::open(&clear.path().join("store")).unwrap();
    let writes = markers.iter().map(|m| (m.to_vec(), Some(m.to_vec())));
    oob_store::backend::Backend::apply(&mut tree, &oob_store::backend::Batch::of(writes)).unwrap();
    oob_store::backend::Backend::sync(&mut tree).unwrap();
    assert!(found(clear.path()) >= markers.len());
}

/// Written anew beside and renamed, every earlier state of these files would stay on the disk: in a measurement all of 32
/// overwritten keys were found in the raw image then, and none when they were overwritten in place.
#[test]
fn slots_and_keyring_are_overwritten_in_place_and_never_replaced() {
    let base = tempdir().unwrap();
    let mut store = create(base.path());
    store.put_secret(b"ratchet", b"state 0");
    store.commit().unwrap();
    store.idle().unwrap();
    let look = |name: &str| {
        let path = base.path().join(name);
        (fs::metadata(&path).unwrap().ino(), fs::read(path).unwrap())
    };
    let before = ["slots", "keyring"].map(look);
    for number in 1..10 {
        store.put_secret(b"ratchet", format!("state {number}").as_bytes());
        store.commit().unwrap();
        store.idle().unwrap();
    }
    store.change_passphrase(&Passphrase::new("nine lanterns in a quiet street")).unwrap();
    store.close().unwrap();
    for (name, (inode, bytes)) in ["slots", "keyring"].into_iter().zip(before) {
        let (now, then) = (look(name), (inode, bytes));
        assert_eq!(now.0, then.0, "{name} is another file");
        assert_eq!(now.1.len(), then.1.len(), "{name}");
        assert_ne!(now.1, then.1, "control: {name} was written to");
    }
}

#[test]
fn passphrase_is_not_printed() {
    assert_eq!(format!("{:?}", passphrase()), "Passphrase(..)");
}
