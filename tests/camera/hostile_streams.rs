//! Streams that crash native decoders, received in the two ways in which every picture is decoded: the process that decodes ends, this one and the other
//! cameras go on.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};

use crate::support::{
    Camera,
    clips::{self, SMALL, Spec},
    odd_camera::{self, OddCamera, Oddities},
    scripted_camera::{Script, ScriptedCamera},
    settings, until, workers,
};
use gridwatch_camera::{
    CameraState, Codec, Picture, Slot,
    decode::DecodeMode,
    gst_source::{self, GstSource, SourceSettings},
    receive::ReceiverSettings,
};

/// 10-bit monochrome H.265 with one keyframe, which ends a process that decodes it with GStreamer 1.22.
fn deep_clip(dir: &Path) -> PathBuf {
    let file = dir.join("deep.mp4");
    let out = Command::new("ffmpeg")
        .args(["-v", "error", "-y", "-f", "lavfi", "-i", "testsrc=size=320x240:rate=10"])
        .args([
            "-frames:v",
            "50",
            "-pix_fmt",
            "gray10le",
            "-c:v",
            "libx265",
            "-tag:v",
            "hvc1",
            "-x265-params",
        ])
        .arg("log-level=none:keyint=50:min-keyint=50:open-gop=0:bframes=0")
        .arg(&file)
        .output()
        .expect("ffmpeg is installed (edge-deploy/setup.sh)");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    file
}

fn source(file: &Path, mode: &DecodeMode) -> GstSource {
    source_of(gst_source::file_url(file).unwrap(), mode)
}

fn source_of(url: url::Url, mode: &DecodeMode) -> GstSource {
    let settings = SourceSettings {
        camera: "cam".into(),
        url,
        credentials: None,
        ca_file: None,
        every: Duration::from_millis(200),
        looped: true,
        idle: Duration::from_secs(10),
        mode: mode.clone(),
    };
    let slot = Slot::new(settings.camera.clone(), Default::default());
    GstSource::spawn(settings, slot).unwrap()
}

#[test]
fn a_file_that_crashes_gstreamer_ends_its_process_and_is_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let good = source(&clips::file(SMALL), &workers());
    until("a picture", || (good.slot().seq() > 0).then_some(()));
    let bad = source(&deep_clip(dir.path()), &workers());
    let until_set_aside = || match bad.slot().state() {
        CameraState::SetAside { reason, .. } => Some(reason),
        _ => None,
    };
    let reason = until("it is set aside", until_set_aside);
    assert!(reason.contains("SIGSEGV"), "{reason}");
    assert_eq!(bad.slot().stats().crashes, 3);
    assert_eq!(good.slot().stats().reconnects, 0);
    let seen = good.slot().seq();
    until("more pictures of the other", || {
        (good.slot().seq() > seen + 2).then_some(())
    });
}

/// What a process that reads a source does on the order in its URL.
#[cfg(debug_assertions)]
fn obeying(order: &str) -> GstSource {
    let url = format!("http://127.0.0.1:8/gridwatch-test-fault:{order}");
    source_of(url.parse().unwrap(), &workers())
}

#[cfg(debug_assertions)]
#[test]
fn a_process_that_reads_a_source_reaches_no_other_file_and_port() {
    let source = obeying("reach");
    let error = until("what it reaches", || match source.slot().state() {
        CameraState::Down { error, .. } => Some(error.to_string()),
        _ => None,
    });
    assert_eq!(error, "confined true, read /dev/null");
}

#[cfg(debug_assertions)]
#[test]
fn a_process_that_reads_a_source_and_ends_or_lies_is_set_aside() {
    for (order, cause) in [
        ("exit", "exit status: 7"),
        ("execute", "signal: 31"),
        ("noise", "invalid answer"),
        ("large", "invalid answer"),
        ("greedy", "invalid answer"),
    ] {
        let source = obeying(order);
        let reason = until(order, || match source.slot().state() {
            CameraState::SetAside { reason, .. } => Some(reason),
            _ => None,
        });
        assert!(reason.contains(cause), "{order}: {reason}");
        assert_eq!(source.slot().stats().crashes, 3, "{order}");
    }
}

#[test]
fn a_stream_without_keyframes_that_would_crash_the_decoder_is_named_or_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let clip = gridwatch_farm::clip(deep_clip(dir.path())).unwrap();
    let set = |data: &[u8], kind: u8| {
        let mut sets = odd_camera::nals(data).filter(|nal| odd_camera::nal_kind(Codec::H265, nal) == kind);
        BASE64_STANDARD.encode(sets.next().unwrap())
    };
    let first = &clip.units()[0].data;
    // An SPS that is not used, and is of a format that can be looked at, comes first. No keyframe tells the format.
    let harmless = include_bytes!("../../src/cli/check/keyframe.h265");
    let sdp = format!(
        "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=odd\r\nt=0 0\r\na=control:*\r\nm=video 0 RTP/AVP 96\r\n\
         a=rtpmap:96 H265/90000\r\na=fmtp:96 sprop-vps={};sprop-sps={},{};sprop-pps={}\r\na=control:track1\r\n",
        set(first, 32),
        set(harmless, 33),
        set(first, 33),
        set(first, 34)
    );
    let odd = OddCamera::start(
        &clip,
        Oddities {
            sdp: Some(sdp),
            no_keyframes: true,
            ..Oddities::default()
        },
    );
    let camera = Camera::receive(ReceiverSettings {
        full_decoding: workers(),
        ..settings(&odd.url())
    });
    let state = until("it is named or set aside", || match camera.slot().state() {
        state @ (CameraState::SetAside { .. } | CameraState::Unsupported { .. }) => Some(state),
        _ => None,
    });
    let crashes = camera.slot().stats().crashes;
    let expected = if matches!(state, CameraState::Unsupported { .. }) {
        0
    } else {
        3
    };
    assert_eq!(crashes, expected, "{state}");
}

/// The decoder is ordered to crash by an access unit in the middle of the stream; see `decode::faults`.
#[cfg(debug_assertions)]
#[test]
fn a_decoder_of_all_pictures_that_crashes_is_replaced_and_pictures_come_again() {
    let clip = clips::clip(Spec {
        frames: 1000,
        gop: 50,
        more: "intra-refresh=1",
        ..SMALL
    });
    let orders = Arc::new(AtomicU32::new(0));
    let server = ScriptedCamera::start(
        &clip,
        Script {
            sets_in_sdp_only: true,
            mangle: Arc::new({
                let orders = Arc::clone(&orders);
                move |at, mut packet| {
                    // The only keyframe of the clip, when it begins again.
                    if at.unit > 0 && at.unit % 1000 == 0 {
                        return Vec::new();
                    }
                    if at.packet + 1 == at.packets
                        && let Ok(left) =
                            orders.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
                    {
                        packet
                            .payload
                            .extend(format!("gridwatch-test-fault:crash {left}").bytes());
                    }
                    vec![packet]
                }
            }),
            ..Script::default()
        },
    );
    let camera = Camera::receive(ReceiverSettings {
        full_decoding: workers(),
        ..settings(&server.url())
    });
    let frame_after = |seen: u64| {
        until("a decoded frame", || match camera.slot().latest() {
            Some((seq, Picture::Frame(f))) if seq > seen => Some(f),
            _ => None,
        })
    };
    assert_eq!(frame_after(0).width, 320);
    orders.store(1, Ordering::Relaxed);
    until("a crash", || (camera.slot().stats().crashes == 1).then_some(()));
    frame_after(camera.slot().seq());
    assert_eq!(camera.slot().stats().reconnects, 0);
}
