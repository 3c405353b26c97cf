//! Judges fragmented MP4 with the tools that others play it with: ffprobe, ffmpeg and GStreamer.

use std::{path::PathBuf, process::Command};

use gridwatch_camera::live::LiveChunk;
use serde_json::Value;

/// A picture as ffprobe reads it. Times in ticks of 90 kHz.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet {
    pub shown: i64,
    pub decoded: i64,
    pub duration: i64,
    pub is_key: bool,
}

/// What a file has, by ffprobe.
#[derive(Debug)]
pub struct Played {
    pub codec: String,
    pub size: (u64, u64),
    pub packets: Vec<Packet>,
    /// Pictures that ffmpeg decodes.
    pub pictures: usize,
    /// Pictures that GStreamer decodes.
    pub gstreamer_pictures: usize,
}

/// Writes the file and plays it. Fails if a player complains of anything.
pub fn play(name: &str, bytes: &[u8]) -> Played {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.{}.mp4", std::process::id()));
    std::fs::write(&path, bytes).unwrap();
    let probed = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", "v:0", "-count_frames", "-of", "json"])
        .args(["-show_entries", "stream=codec_tag_string,width,height,nb_read_frames"])
        .args(["-show_entries", "packet=pts,dts,duration,flags"])
        .arg(&path)
        .output()
        .expect("ffprobe is installed (edge-deploy/setup.sh)");
    assert!(
        probed.status.success() && probed.stderr.is_empty(),
        "{name}: {}",
        String::from_utf8_lossy(&probed.stderr)
    );
    let json: Value = serde_json::from_slice(&probed.stdout).unwrap();
    let packet = |packet: &Value| Packet {
        shown: packet["pts"].as_i64().unwrap(),
        decoded: packet["dts"].as_i64().unwrap(),
        duration: packet["duration"].as_i64().unwrap(),
        is_key: packet["flags"].as_str().unwrap().starts_with('K'),
    };
    let stream = &json["streams"][0];
    let frames = gridwatch_camera::clip::frames(&path).unwrap();
    let played = Played {
        codec: stream["codec_tag_string"].as_str().unwrap().to_owned(),
        size: (stream["width"].as_u64().unwrap(), stream["height"].as_u64().unwrap()),
        packets: json["packets"].as_array().unwrap().iter().map(packet).collect(),
        pictures: stream["nb_read_frames"].as_str().unwrap().parse().unwrap(),
        gstreamer_pictures: frames.inspect(|frame| assert!(frame.is_ok())).count(),
    };
    std::fs::remove_file(&path).unwrap();
    played
}

/// The file that a viewer has received.
pub fn file(chunks: &[LiveChunk]) -> Vec<u8> {
    let mut file = Vec::new();
    for chunk in chunks {
        match chunk {
            LiveChunk::Init { bytes, .. } | LiveChunk::Fragment { bytes, .. } => file.extend_from_slice(bytes),
            LiveChunk::Ended { .. } => {}
        }
    }
    file
}
