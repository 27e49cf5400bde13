#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| ph_fuzzing::run("seven_bit", input));
