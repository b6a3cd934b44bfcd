//! Fuzzes `oob_fuzz::disk`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = oob_fuzz::disk(bytes);
});
