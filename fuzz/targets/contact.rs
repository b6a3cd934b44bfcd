//! Fuzzes `oob_fuzz::contact`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = oob_fuzz::contact(bytes);
});
