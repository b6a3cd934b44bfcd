//! Backups from outside: written, checked, put back; and a damaged store that goes back to its own snapshot.

use crate::harness::{Done, Home, Two};
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// A file with the backup's own passphrase.
fn paper(home: &Home) -> PathBuf {
    let path = home.dir.path().join("paper");
    fs::write(&path, "kept in the safe\n").unwrap();
    path
}

fn backup(home: &Home, verb: &str, file: &Path, key: &Path) -> Done {
    let (file, key, pass) = (file.to_str().unwrap(), key.to_str().unwrap(), home.pass());
    let mut args = vec!["--json", "backup", verb, file, "--backup-passphrase-file", key];
    args.extend(["--passphrase-file", pass.to_str().unwrap()]);
    if verb != "verify" {
        args.extend(["--kdf-memory", "64MiB"]);
    }
    home.oob(&args)
}

fn recover(home: &Home, yes: bool) -> Done {
    let pass = home.pass();
    let mut args = vec!["--json", "backup", "recover", "--passphrase-file", pass.to_str().unwrap()];
    args.extend(yes.then_some("--yes"));
    home.oob(&args)
}

fn texts(home: &Home, with: &str) -> Vec<String> {
    let done = home.oob(&["--json", "log", with]);
    done.lines().iter().filter_map(|line| line["text"].as_str().map(str::to_owned)).collect()
}

fn talk(one: &Home, to: &str, text: &str) {
    one.json(&["send", to, text, "--wait", "delivered", "--timeout", "90s"]);
}

#[test]
fn a_home_restored_from_a_backup_talks_to_the_others_again() {
    let Two { dana, sam } = Two::met();
    talk(&sam, "dana", "before the backup");
    let key = paper(&sam);
    let file = sam.dir.path().join("sam.oobcopy");
    let busy = backup(&sam, "write", &file, &key).error("busy", 1);
    assert!(busy["hint"].as_str().unwrap().contains("oob down"), "{busy}");
    assert!(!file.exists(), "a refusal left a file");
    sam.down();
    let written = backup(&sam, "write", &file, &key).json();
    assert_eq!(
        (written["owner"].as_str(), written["snapshot"].as_bool()),
        (Some("Sam"), Some(false))
    );
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    backup(&sam, "write", &file, &key).error("file_exists", 1);
    let read = backup(&sam, "verify", &file, &key).json();
    assert_eq!((&read["records"], &read["owner"]), (&written["records"], &written["owner"]));

    // The old home goes on after the backup; then its disk dies.
    sam.up();
    talk(&sam, "dana", "after the backup");
    sam.down();
    dana.json(&["send", "sam", "while he was away"]);

    let new = Home::new();
    let restored = backup(&new, "restore", &file, &key).json();
    assert_eq!(restored["backup"]["records"], written["records"]);
    assert!(restored["quarantine"].is_null());
    backup(&new, "restore", &file, &key).error("already_initialised", 1);
    new.up();
    assert!(new.json(&["status"])["restored"].is_string());
    let said = new.oob(&["status"]).stdout;
    assert!(said.contains("\nnote: this home came from a copy and began anew at "), "{said}");
    assert!(dana.json(&["status"])["restored"].is_null());
    assert!(!dana.oob(&["status"]).stdout.contains("copy"));
    talk(&new, "dana", "back again");
    talk(&dana, "sam", "good to hear");
    let theirs = texts(&new, "dana");
    for text in ["first", "before the backup", "while he was away", "back again", "good to hear"] {
        assert_eq!(theirs.iter().filter(|known| *known == text).count(), 1, "{text}: {theirs:?}");
    }
    let hers = texts(&dana, "sam");
    for text in ["after the backup", "back again"] {
        assert_eq!(hers.iter().filter(|known| *known == text).count(), 1, "{text}: {hers:?}");
    }
}

#[test]
fn what_is_no_whole_backup_is_refused_with_exit_code_9_and_makes_no_home() {
    let dana = Home::of("Dana", Some("Harbour Clinic"));
    let key = paper(&dana);
    let file = dana.dir.path().join("dana.oobcopy");
    backup(&dana, "write", &file, &key).json();
    backup(&dana, "verify", &file, &dana.pass()).error("wrong_passphrase", 9);
    let whole = fs::read(&file).unwrap();
    let (half, last) = (whole.len() / 2, whole.len() - 1);
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    let swapped = [&whole[..200], &whole[half..], &whole[200..half]].concat();
    let cases: [(&str, Vec<u8>); 6] = [
        ("cut", whole[..half].to_vec()),
        ("without its last byte", whole[..last].to_vec()),
        ("with a flipped bit", flipped(half)),
        ("with another header", flipped(100)),
        ("in another order", swapped),
        ("a letter", b"Dear Sam, the mail server is theirs".to_vec()),
    ];
    for (what, bytes) in cases {
        let bad = dana.dir.path().join("bad.oobcopy");
        fs::write(&bad, bytes).unwrap();
        println!("{what}");
        backup(&dana, "verify", &bad, &key).error("bad_backup", 9);
        let new = Home::new();
        backup(&new, "restore", &bad, &key).error("bad_backup", 9);
        assert!(!new.path().join("keyring").exists(), "{what}");
    }
    let nowhere = Path::new("/nowhere/dana.oobcopy");
    backup(&dana, "verify", nowhere, &key).error("file", 1);
}

#[test]
fn a_damaged_store_goes_back_to_its_snapshot_and_loses_nothing_that_others_have_for_it() {
    let Two { dana, sam } = Two::met();
    // Stopping in peace writes the first snapshot.
    sam.down();
    recover(&sam, true).error("not_damaged", 1);
    sam.up();
    talk(&sam, "dana", "after the snapshot");
    sam.down();
    dana.json(&["send", "sam", "while his disk was broken"]);
    let db = sam.path().join("store/db");
    let mut bytes = fs::read(&db).unwrap();
    bytes.iter_mut().step_by(61).for_each(|byte| *byte ^= 0x20);
    fs::write(&db, bytes).unwrap();
    let damaged = sam.oob(&["--json", "up"]).error("damaged", 9);
    assert!(damaged["hint"].as_str().unwrap().contains("oob backup recover"), "{damaged}");

    recover(&sam, false).error("declined", 1);
    let done = recover(&sam, true).json();
    let aside = PathBuf::from(done["quarantine"].as_str().unwrap());
    assert!(aside.starts_with(sam.path()) && aside.join("store/db").exists());
    assert_eq!(done["backup"]["snapshot"], true);
    sam.up();
    talk(&sam, "dana", "here again");
    talk(&dana, "sam", "good");
    let his = texts(&sam, "dana");
    for text in ["first", "while his disk was broken", "here again", "good"] {
        assert_eq!(his.iter().filter(|known| *known == text).count(), 1, "{text}: {his:?}");
    }
    let doctor = sam.oob(&["--json", "doctor"]);
    let checks: serde_json::Value = serde_json::from_str(&doctor.stdout).unwrap();
    let copies =
        checks["checks"].as_array().unwrap().iter().find(|check| check["name"] == "copies");
    let detail = copies.unwrap()["detail"].as_str().unwrap();
    assert!(detail.contains("put aside"), "{detail}");
    // What was put aside is no evidence of a fault, which people are told to delete.
    let faults = checks["checks"].as_array().unwrap();
    let faults = faults.iter().find(|check| check["name"] == "faults").unwrap();
    assert_eq!(faults["ok"], true, "{faults}");
    assert!(faults["hint"].is_null(), "{faults}");
}
