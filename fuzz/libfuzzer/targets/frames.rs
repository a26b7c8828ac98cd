//! Drives `antiphon_fuzz::frames` with coverage.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| antiphon_fuzz::frames(data));
