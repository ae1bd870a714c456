//! Arbitrary bytes as what `lifeboat::repository::fuzzing::key` reads.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    lifeboat::repository::fuzzing::key(bytes);
});
