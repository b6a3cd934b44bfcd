//! Fuzzes `oob_daemon::doors::api`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let _ = oob_daemon::doors::api(bytes);
});
