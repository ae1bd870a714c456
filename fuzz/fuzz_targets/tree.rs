//! Arbitrary bytes as what `lifeboat::repository::fuzzing::tree` reads.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    lifeboat::repository::fuzzing::tree(bytes);
});
