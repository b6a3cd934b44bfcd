//! Fuzzes `oob_fuzz::gossip`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = oob_fuzz::gossip(bytes);
});
