//! Arbitrary bytes as what `lifeboat::repository::fuzzing::lock` reads.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    lifeboat::repository::fuzzing::lock(bytes);
});
