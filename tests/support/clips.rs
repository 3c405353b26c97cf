//! Test clips (a test pattern with noise), encoded once with ffmpeg and cached under `target/`.

use std::{path::PathBuf, process::Command, sync::Arc};

use gridwatch_farm::Clip;

/// Encoding parameters of a clip.
#[derive(Clone, Copy)]
pub struct Spec {
    pub h265: bool,
    pub width: u32,
    pub height: u32,
    /// Number of frames.
    pub frames: u32,
    /// Keyframe interval in frames.
    pub gop: u32,
    pub b_frames: u32,
    /// ffmpeg's pixel format.
    pub pixels: &'static str,
    /// More x264 or x265 parameters, separated by colons.
    pub more: &'static str,
}

/// Two seconds of 320×240 at 25 fps with a keyframe per second.
pub const SMALL: Spec = Spec {
    h265: false,
    width: 320,
    height: 240,
    frames: 50,
    gop: 25,
    b_frames: 0,
    pixels: "yuv420p",
    more: "",
};

/// The clip's file; encodes it if it does not exist.
pub fn file(spec: Spec) -> PathBuf {
    let Spec {
        h265,
        width,
        height,
        frames,
        gop,
        b_frames,
        pixels,
        more,
    } = spec;
    let codec = if h265 { "265" } else { "264" };
    let name: String = format!(
        "{codec}-{width}x{height}-{frames}-g{gop}-b{b_frames}-{more}{}",
        pixels.trim_start_matches("yuv420p")
    )
    .chars()
    .map(|c| if c.is_alphanumeric() { c } else { '-' })
    .collect();
    let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("clips");
    std::fs::create_dir_all(&dir).unwrap();
    let done = dir.join(format!("{name}.mp4"));
    if done.exists() {
        return done;
    }
    // Tests run in parallel: each encodes its own copy, and the last rename wins. All copies are equal.
    let mine = dir.join(format!(
        "{name}.{}-{:?}.mp4",
        std::process::id(),
        std::thread::current().id()
    ));
    let options = format!(
        "keyint={gop}:min-keyint={gop}:scenecut=0:bframes={b_frames}:log-level=error{}{more}",
        if more.is_empty() { "" } else { ":" },
    );
    let out = Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-f", "lavfi", "-i"])
        .arg(format!("testsrc2=size={width}x{height}:rate=25,noise=alls=12:allf=t"))
        .args(["-frames:v", &frames.to_string(), "-pix_fmt", pixels])
        .args(["-c:v", if h265 { "libx265" } else { "libx264" }])
        .args(["-preset", "ultrafast"])
        .args([if h265 { "-x265-params" } else { "-x264-params" }, options.as_str()])
        .arg(&mine)
        .output()
        .expect("ffmpeg is installed (edge-deploy/setup.sh)");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    std::fs::rename(&mine, &done).unwrap();
    done
}

/// Reads the clip.
pub fn clip(spec: Spec) -> Arc<Clip> {
    gridwatch_farm::clip(file(spec)).unwrap()
}
