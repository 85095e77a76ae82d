#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| tcpls_fuzz_properties::joins(input));
