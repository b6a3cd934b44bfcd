//! Fuzzes `oob_fuzz::line`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = oob_fuzz::line(bytes);
});
