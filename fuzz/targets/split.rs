//! Fuzzes `oob_fuzz::split`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = oob_fuzz::split(bytes);
});
