//! Cost of checking a keyframe of 1080p video at 4 Mb/s. Run with `cargo bench --bench slice_check`; FFmpeg encodes the keyframes.
//! `ffmpeg -threads 1 -benchmark -i FILE -f null -` tells what decoding them costs.

use std::{path::Path, process::Command};

use divan::{Bencher, black_box, counter::BytesCount};
use gridwatch_bitstream::{Codec, Finding, SliceCheck};

fn main() {
    divan::main();
}

/// A keyframe of a test pattern with noise like that of a camera at night.
fn keyframe(encoder: &str) -> Vec<u8> {
    let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("keyframe-{encoder}"));
    if !file.exists() {
        let format = if encoder == "libx265" { "hevc" } else { "h264" };
        let status = Command::new("ffmpeg")
            .args(["-v", "error", "-y", "-f", "lavfi", "-i"])
            .arg("testsrc2=size=1920x1080:rate=25,eq=brightness=-0.3,noise=alls=6:allf=t")
            .args(["-frames:v", "1", "-pix_fmt", "yuv420p", "-c:v", encoder, "-crf", "30"])
            .args(["-preset", "veryfast", "-f", format])
            .arg(&file)
            .status();
        assert!(status.is_ok_and(|s| s.success()), "ffmpeg with {encoder} is installed");
    }
    std::fs::read(file).expect("the keyframe that ffmpeg encoded")
}

#[divan::bench(args = [Codec::H264, Codec::H265])]
fn full_hd(bencher: Bencher, codec: Codec) {
    let data = keyframe(match codec {
        Codec::H264 => "libx264",
        Codec::H265 => "libx265",
    });
    let mut check = SliceCheck::default();
    bencher.counter(BytesCount::of_slice(&data)).bench_local(|| {
        let finding = check.check(codec, black_box(&data));
        assert_eq!(finding, Finding::Intact);
    });
}
