#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    capmux_pex::fuzzing::pex_messages(data);
});
