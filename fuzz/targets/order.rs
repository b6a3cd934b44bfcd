//! Fuzzes `oob_fuzz::order`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = oob_fuzz::order(bytes);
});
