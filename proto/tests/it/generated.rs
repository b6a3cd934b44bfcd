//! The checked-in generated code is what the `.proto` files say.

use std::{env, fs, path::Path};

#[test]
fn generated_code_is_current() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = root.join("proto");
    let files = ["org", "envelope", "sync", "join", "stored"]
        .map(|name| folder.join(format!("oob/v1/{name}.proto")));
    let set = protox::compile(files, [&folder]).expect("the .proto files compile");
    let out = tempfile::tempdir().unwrap();
    let mut config = prost_build::Config::new();
    config.out_dir(out.path());
    config.compile_fds(set).expect("prost writes the code");
    let fresh = fs::read_to_string(out.path().join("oob.v1.rs")).unwrap();
    let checked_in = root.join("src/generated/oob.v1.rs");
    if env::var_os("OOB_REGENERATE").is_some() {
        fs::write(&checked_in, &fresh).unwrap();
        return;
    }
    let current = fs::read_to_string(&checked_in).unwrap_or_default();
    assert!(
        current == fresh,
        "src/generated/oob.v1.rs is not current; run: OOB_REGENERATE=1 cargo test -p oob-proto generated"
    );
}
