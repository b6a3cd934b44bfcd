//! Fuzzes `oob_fuzz::address`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = oob_fuzz::address(bytes);
});
