#![no_main]

use gridwatch_fmp4::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| fuzzing::mux(data));
