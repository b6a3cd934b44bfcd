//! Fuzzes `oob_fuzz::join`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = oob_fuzz::join(bytes);
});
