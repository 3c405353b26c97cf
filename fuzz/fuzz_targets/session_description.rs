#![no_main]

use gridwatch_rtsp::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| fuzzing::session_description(data));
