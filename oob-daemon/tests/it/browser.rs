//! The page in a real browser. The checks themselves are scripts in tests/browser.

use crate::harness::{Home, Two};
use serde_json::{Value, json};
use std::{
    env, fs,
    path::Path,
    process::{Command, Stdio},
};

/// Exit code of the scripts where something they need is missing.
const SKIPPED: i32 = 77;

/// Dana and Sam, who talk, and Rosa, who joined and went away.
#[test]
fn the_page_holds_what_it_must_in_a_browser() {
    if env::var_os("OOB_HEAVY").is_none() {
        eprintln!("SKIPPED: needs node and chromium and takes a while; run it with OOB_HEAVY=1");
        return;
    }
    let has_node = Command::new("node").arg("--version").stdout(Stdio::null()).status();
    if !has_node.is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: no node here");
        return;
    }
    let two = Two::met();
    // A name is text from elsewhere too.
    let rosa = Home::of("Rosa<img src=x onerror=ran(6)>", None);
    rosa.up();
    let joined = rosa.json(&["join", two.dana.invite().to_str().unwrap()]);
    let member = joined["member"].as_str().unwrap();
    two.dana.json(&["send", member, "welcome", "--wait", "delivered", "--timeout", "90s"]);
    rosa.down();

    let source = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Named by whoever wants to look at the pictures, else gone with the test.
    let shots = env::var_os("OOB_BROWSER_SHOTS")
        .map_or_else(|| two.dana.dir.path().join("shots"), Into::into);
    fs::create_dir_all(&shots).unwrap();
    let person = |home: &Home| -> Value {
        json!({"oob": env!("CARGO_BIN_EXE_oob"), "home": home.path(), "pass": home.pass()})
    };
    let given = json!({
        "dana": person(&two.dana),
        "sam": person(&two.sam),
        "third": joined["member"],
        "web": source.join("web"),
        "shots": shots,
    });
    let only = env::var("OOB_BROWSER_ONLY").unwrap_or_default();
    let done = Command::new("node")
        .arg(source.join("tests/browser/run.mjs"))
        .args(only.split_whitespace())
        .env("OOB_BROWSER_TEST", given.to_string())
        .env_remove("OOB_HOME")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stdout);
    println!("{said}");
    if done.status.code() == Some(SKIPPED) {
        return;
    }
    // Named where whoever reads only the last lines finds them.
    let failed: Vec<_> = said.lines().filter_map(|line| line.strip_prefix("FAILED ")).collect();
    assert!(done.status.success() && failed.is_empty(), "{}: failed: {failed:?}", done.status);
}
