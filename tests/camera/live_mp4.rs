//! Clips written as fragmented MP4 are what they were: ffprobe, ffmpeg and GStreamer read every picture at its time.

use std::{
    collections::BTreeSet,
    path::Path,
    time::{Duration, Instant},
};

use crate::support::{
    clips::{self, SMALL, Spec},
    fmp4::{self, Played},
};
use gridwatch_farm::Clip;
use gridwatch_fmp4::{Fragment, Muxer, TIMESCALE, Unit};

/// RTP timestamp of the first picture: it wraps within the second.
const FIRST: u64 = (1 << 32) - 40_000;

fn ticks(nanoseconds: u64) -> u64 {
    (u128::from(nanoseconds) * u128::from(TIMESCALE) + 500_000_000) as u64 / 1_000_000_000
}

/// All fragments of a clip.
fn fragments(clip: &Clip) -> Vec<Fragment> {
    let mut muxer = Muxer::new(clip.codec(), TIMESCALE);
    let began = Instant::now();
    let mut fragments = Vec::new();
    for unit in clip.units() {
        let unit = Unit {
            data: &unit.data,
            is_keyframe: unit.keyframe,
            rtp_timestamp: (FIRST + ticks(unit.pts.nseconds())) as u32,
            received_at: began + Duration::from_nanos(unit.dts.nseconds()),
        };
        fragments.extend(muxer.push(unit).unwrap());
    }
    fragments.extend(muxer.flush());
    fragments
}

/// Writes a clip and has it played; compares what is played with the clip.
fn is_played_as_it_was(name: &str, clip: &Clip) -> Played {
    let fragments = fragments(clip);
    let mut file = fragments[0].init.bytes.to_vec();
    fragments.iter().for_each(|f| file.extend_from_slice(&f.bytes));
    let played = fmp4::play(name, &file);
    let count = clip.units().len();
    assert_eq!(fragments.len(), count, "{name}");
    assert_eq!(
        (played.packets.len(), played.pictures, played.gstreamer_pictures),
        (count, count, count),
        "{name}"
    );
    let first = (played.packets[0].shown, ticks(clip.units()[0].pts.nseconds()) as i64);
    for (n, (packet, unit)) in played.packets.iter().zip(clip.units()).enumerate() {
        let shown = ticks(unit.pts.nseconds()) as i64 - first.1;
        assert_eq!(packet.shown - first.0, shown, "{name}, picture {n}");
        assert_eq!(packet.is_key, unit.keyframe, "{name}, picture {n}");
        assert!(packet.decoded <= packet.shown, "{name}, picture {n}: {packet:?}");
    }
    for (n, pair) in played.packets.windows(2).enumerate() {
        let step = pair[1].decoded - pair[0].decoded;
        assert_eq!(
            ticks(fragments[n].duration.as_nanos() as u64) as i64,
            step,
            "{name}, picture {n}"
        );
        // Before the first ones of a clip with reordering the frame rate is not known, and ffprobe takes it from the others.
        assert!(pair[0].duration == step || n < 4, "{name}, picture {n}: {pair:?}");
    }
    played
}

#[test]
fn h264_clips_are_played_as_they_were() {
    for b_frames in [0, 1, 3] {
        let clip = clips::clip(Spec { b_frames, ..SMALL });
        let played = is_played_as_it_was(&format!("h264-b{b_frames}"), &clip);
        assert_eq!((played.codec.as_str(), played.size), ("avc1", (320, 240)));
        let steps = played.packets.windows(2).map(|p| p[1].decoded - p[0].decoded);
        assert!(
            steps.clone().all(|step| step == 3_600),
            "{:?}",
            steps.collect::<Vec<_>>()
        );
    }
}

#[test]
fn h265_clips_are_played_as_they_were() {
    for b_frames in [0, 3] {
        let clip = clips::clip(Spec {
            h265: true,
            b_frames,
            ..SMALL
        });
        let played = is_played_as_it_was(&format!("h265-b{b_frames}"), &clip);
        assert_eq!((played.codec.as_str(), played.size), ("hvc1", (320, 240)));
    }
}

#[test]
fn odd_sizes_and_several_slices_are_played() {
    let odd = Spec {
        width: 322,
        height: 242,
        more: "slices=4",
        ..SMALL
    };
    let played = is_played_as_it_was("odd", &clips::clip(odd));
    assert_eq!(played.size, (322, 242));
}

#[test]
fn the_demo_clips_are_played_as_they_were() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/clips");
    let mut codecs = BTreeSet::new();
    for name in ["street-a", "street-b", "square-c"] {
        let clip = gridwatch_farm::clip(folder.join(format!("{name}.mp4"))).unwrap();
        codecs.insert(is_played_as_it_was(name, &clip).codec);
    }
    assert_eq!(codecs.len(), 2, "both codecs: {codecs:?}");
}

#[test]
fn h264_is_named_as_ffmpeg_names_it() {
    // By `ffmpeg -f dash`, whose manifest names the codec of the same clip; it does so for H.264 only.
    for spec in [
        SMALL,
        Spec {
            width: 1_920,
            height: 1_080,
            frames: 5,
            b_frames: 2,
            more: "level=40",
            ..SMALL
        },
    ] {
        let ours = fragments(&clips::clip(spec))[0].init.codec.clone();
        let folder = tempfile::tempdir().unwrap();
        let output = std::process::Command::new("ffmpeg")
            .args(["-v", "error", "-i"])
            .arg(clips::file(spec))
            .args(["-c", "copy", "-f", "dash", "out.mpd"])
            .current_dir(&folder)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let manifest = std::fs::read_to_string(folder.path().join("out.mpd")).unwrap();
        let (_, after) = manifest.split_once("codecs=\"").unwrap();
        let theirs = after.split('"').next().unwrap();
        // Hexadecimal digits in either case.
        assert_eq!(ours.to_lowercase(), theirs.to_lowercase());
    }
}
