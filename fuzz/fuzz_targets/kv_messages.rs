#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    capmux_kv::fuzzing::kv_messages(data);
});
