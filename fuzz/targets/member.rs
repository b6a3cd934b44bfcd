//! Fuzzes `oob_fuzz::member`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = oob_fuzz::member(bytes);
});
