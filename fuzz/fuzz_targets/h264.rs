#![no_main]

use gridwatch_rtsp::{VideoCodec, fuzzing};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| fuzzing::video(VideoCodec::H264, data));
