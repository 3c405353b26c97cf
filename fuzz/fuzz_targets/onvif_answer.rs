#![no_main]

use gridwatch_onvif::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| fuzzing::answer(data));
