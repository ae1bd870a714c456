//! Arbitrary bytes as what `lifeboat::repository::fuzzing::pack_header` reads.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    lifeboat::repository::fuzzing::pack_header(bytes);
});
