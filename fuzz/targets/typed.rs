//! Fuzzes `oob_daemon::doors::typed`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = oob_daemon::doors::typed(bytes);
});
