#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    capmux::fuzzing::dial_schedule(data);
});
