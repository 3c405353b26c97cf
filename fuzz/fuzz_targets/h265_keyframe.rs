#![no_main]

use gridwatch_bitstream::{Codec, fuzzing};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| fuzzing::keyframe(Codec::H265, data));
