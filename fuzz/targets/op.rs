//! Fuzzes `oob_fuzz::op`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = oob_fuzz::op(bytes);
});
