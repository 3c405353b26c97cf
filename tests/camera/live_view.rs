//! Live views of cameras received over RTSP: what a viewer gets is played, by one viewer or several, while looks go on; and it ends and goes
//! on with the camera.

use std::{path::Path, sync::Arc, time::Duration};

use crate::support::{
    Camera, TIMEOUT,
    clips::{self, SMALL, Spec},
    farm, fmp4, mount,
    odd_camera::{OddCamera, Oddities},
    scripted_camera::{Script, ScriptedCamera},
    settings, until, workers,
};
use gridwatch_camera::{
    CameraState, Slot,
    gst_source::{self, GstSource, SourceSettings},
    live::{LiveChunk, LiveLimits, LiveView, NotAvailable},
};
use gridwatch_farm::{Farm, FarmConfig};

/// A viewer on a thread of its own runtime.
struct Viewer {
    runtime: tokio::runtime::Runtime,
    view: LiveView,
    got: Vec<LiveChunk>,
}

impl Viewer {
    fn open(slot: &Slot) -> Self {
        Self::of(slot.watch(&LiveLimits::default()).unwrap())
    }

    fn of(view: LiveView) -> Self {
        Self {
            runtime: tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .unwrap(),
            view,
            got: Vec::new(),
        }
    }

    fn next(&mut self) -> Option<LiveChunk> {
        let chunk = self
            .runtime
            .block_on(async { tokio::time::timeout(TIMEOUT, self.view.next()).await })
            .expect("a chunk comes");
        self.got.extend(chunk.clone());
        chunk
    }

    /// Takes so many fragments, and whatever comes between them.
    fn take(&mut self, mut count: usize) {
        while count > 0 {
            match self.next().unwrap() {
                LiveChunk::Fragment { .. } => count -= 1,
                LiveChunk::Init { .. } => {}
                LiveChunk::Ended { reason } => panic!("{reason}"),
            }
        }
    }

    /// Takes what comes up to the end, which it returns.
    fn take_until_ended(&mut self) -> String {
        loop {
            if let LiveChunk::Ended { reason } = self.next().unwrap() {
                return reason;
            }
        }
    }

    fn fragments(&self) -> Vec<(bool, Duration, bool)> {
        let fragments = self.got.iter().filter_map(|chunk| match chunk {
            LiveChunk::Fragment {
                is_key,
                shown_at,
                is_after_gap,
                ..
            } => Some((*is_key, *shown_at, *is_after_gap)),
            _ => None,
        });
        fragments.collect()
    }

    /// Has what was received played, and returns the number of pictures.
    fn play(&self, name: &str) -> usize {
        let played = fmp4::play(name, &fmp4::file(&self.got));
        let count = self.fragments().len();
        assert_eq!((played.packets.len(), played.pictures), (count, count), "{name}");
        count
    }
}

/// The codec and size of an initialization segment.
fn init(chunk: Option<LiveChunk>) -> (String, u32, u32) {
    match chunk {
        Some(LiveChunk::Init {
            codec, width, height, ..
        }) => (codec, width, height),
        other => panic!("no initialization segment but {other:?}"),
    }
}

#[test]
fn two_viewers_are_played_and_looks_go_on() {
    let farm = farm(&clips::clip(SMALL), None);
    let camera = Camera::receive(settings(&farm.url("cam")));
    let before = camera.keyframe_after(0).seq;
    let mut first = Viewer::open(camera.slot());
    let (codec, width, height) = init(first.next());
    assert!(codec.starts_with("avc1.") && (width, height) == (320, 240), "{codec}");
    // One GOP and a half.
    first.take(38);
    assert!(first.fragments()[0].0, "the first fragment is a keyframe");
    // The second starts from the GOP that is kept, without waiting.
    let mut second = Viewer::open(camera.slot());
    init(second.next());
    second.take(26);
    first.take(26);
    for (name, viewer) in [("first", &first), ("second", &second)] {
        viewer.play(name);
        let fragments = viewer.fragments();
        assert!(fragments.iter().all(|(_, _, is_after_gap)| !is_after_gap), "{name}");
        for pair in fragments.windows(2) {
            let step = pair[1].1 - pair[0].1;
            assert!(
                step.abs_diff(Duration::from_millis(40)) < Duration::from_millis(1),
                "{name}: {step:?}"
            );
        }
    }
    let stats = camera.slot().live_stats();
    assert_eq!((stats.views, stats.left_out, stats.skips), (2, 0, 0));
    drop((first, second));
    let after = camera.keyframe_after(camera.slot().seq()).seq;
    assert!(after > before + 2, "{before} to {after}");
    let stats = camera.slot().stats();
    assert_eq!((stats.damaged, stats.lost_packets, stats.reconnects), (0, 0, 0));
    assert_eq!(camera.slot().state(), CameraState::Live);
}

#[test]
fn h265_and_bidirectional_pictures_are_played() {
    for (name, h265) in [("live-h264-b", false), ("live-h265-b", true)] {
        let clip = clips::clip(Spec {
            h265,
            b_frames: 3,
            ..SMALL
        });
        let farm = farm(&clip, None);
        let camera = Camera::receive(settings(&farm.url("cam")));
        let mut viewer = Viewer::open(camera.slot());
        let (codec, ..) = init(viewer.next());
        assert!(codec.starts_with(if h265 { "hvc1." } else { "avc1." }), "{codec}");
        // Up to the end of a GOP: pictures that are shown before one that is missing are not decoded.
        viewer.take(50);
        viewer.play(name);
    }
}

#[test]
fn a_camera_that_dies_ends_the_view_and_it_goes_on_when_the_camera_is_back() {
    let farm = farm(&clips::clip(SMALL), None);
    let camera = Camera::receive(settings(&farm.url("cam")));
    let mut viewer = Viewer::open(camera.slot());
    viewer.take(30);
    farm.stop("cam").unwrap();
    let reason = viewer.take_until_ended();
    assert!(!reason.is_empty());
    let before = viewer.fragments();
    // Who comes now is told why there is nothing.
    let mut late = Viewer::open(camera.slot());
    late.take_until_ended();
    farm.restart("cam").unwrap();
    // The first attempts may fail with other reasons.
    let resumed = loop {
        match viewer.next() {
            Some(LiveChunk::Ended { .. }) => {}
            other => break init(other),
        }
    };
    assert!(resumed.0.starts_with("avc1."));
    viewer.take(30);
    let (is_key, shown_at, _) = viewer.fragments()[before.len()];
    let (_, last, _) = *before.last().unwrap();
    assert!(is_key, "a player can go on");
    let step = shown_at - last;
    assert!(
        step < Duration::from_millis(100),
        "the timeline goes on without a gap: {step:?}"
    );
    viewer.play("resumed");
}

#[test]
fn another_resolution_begins_another_initialization_segment() {
    let farm = Farm::start(FarmConfig {
        mounts: vec![mount("cam", &clips::clip(SMALL))],
        ..FarmConfig::default()
    })
    .unwrap();
    let camera = Camera::receive(settings(&farm.url("cam")));
    let mut viewer = Viewer::open(camera.slot());
    assert_eq!(init(viewer.next()).1, 320);
    viewer.take(5);
    let larger = Spec {
        width: 640,
        height: 480,
        ..SMALL
    };
    farm.swap("cam", clips::clip(larger)).unwrap();
    let (_, width, height) = loop {
        let chunk = viewer.next();
        if matches!(chunk, Some(LiveChunk::Init { .. })) {
            break init(chunk);
        }
    };
    assert_eq!((width, height), (640, 480));
    viewer.got.drain(..viewer.got.len() - 1);
    viewer.take(30);
    assert!(viewer.fragments()[0].0, "a keyframe follows");
    viewer.play("larger");
}

#[test]
fn nothing_is_left_of_a_hundred_views() {
    let clip = clips::clip(Spec { gop: 5, ..SMALL });
    let server = ScriptedCamera::start(&clip, Script::default());
    let camera = Camera::receive(settings(&server.url()));
    camera.keyframe_after(0);
    for n in 0..100 {
        let mut viewer = Viewer::open(camera.slot());
        // Some leave before anything came.
        if n % 3 > 0 {
            viewer.take(n % 3);
        }
    }
    let left = camera.slot().live_stats();
    assert_eq!((left.views, left.kept, left.kept_bytes), (0, 0, 0));
    // Back at keyframes: pictures come, and none becomes a fragment.
    let frames = camera.slot().stats().frames;
    until("fifty more pictures", || {
        (camera.slot().stats().frames > frames + 50).then_some(())
    });
    assert_eq!(camera.slot().live_stats(), left);
    assert_eq!((server.connections(), camera.slot().stats().damaged), (1, 0));
}

#[test]
fn pictures_with_lost_packets_are_left_out_up_to_the_next_keyframe() {
    let clip = clips::clip(Spec { gop: 10, ..SMALL });
    let script = Script {
        // In every other GOP the picture in the middle loses a packet.
        mangle: Arc::new(|at, packet| {
            let is_lost = at.unit / 10 % 2 == 1 && at.unit % 10 == 5 && at.packet == 0;
            if is_lost { Vec::new() } else { vec![packet] }
        }),
        ..Script::default()
    };
    let server = ScriptedCamera::start(&clip, script);
    let camera = Camera::receive(settings(&server.url()));
    let mut viewer = Viewer::open(camera.slot());
    viewer.take(60);
    assert!(camera.slot().live_stats().left_out > 0);
    let fragments = viewer.fragments();
    let longest = fragments.windows(2).map(|pair| pair[1].1 - pair[0].1).max();
    assert!(
        longest > Some(Duration::from_millis(150)),
        "the last intact picture is shown until the keyframe"
    );
    assert!(
        fragments
            .windows(2)
            .all(|pair| pair[1].1 - pair[0].1 < Duration::from_millis(150) || pair[1].0)
    );
    // A decoder complains of every picture that it lacks.
    viewer.play("lossy");
}

#[test]
fn a_slow_viewer_skips_to_a_keyframe_and_holds_up_nobody() {
    let clip = clips::clip(Spec { gop: 10, ..SMALL });
    let server = ScriptedCamera::start(&clip, Script::default());
    let camera = Camera::receive(settings(&server.url()));
    let (mut slow, mut fast) = (Viewer::open(camera.slot()), Viewer::open(camera.slot()));
    slow.take(3);
    // More than is kept: at 100 pictures a second with timestamps of 25, two seconds of video are 50 of them.
    fast.take(200);
    assert!(fast.fragments().iter().all(|(_, _, is_after_gap)| !is_after_gap));
    slow.take(20);
    let fragments = slow.fragments();
    let gaps: Vec<_> = fragments.iter().filter(|(_, _, is_after_gap)| *is_after_gap).collect();
    assert!(
        !gaps.is_empty() && gaps.iter().all(|(is_key, ..)| *is_key),
        "{fragments:?}"
    );
    slow.play("slow");
    assert_eq!(camera.slot().stats().damaged, 0);
}

#[test]
fn cameras_without_access_units_say_why_there_is_no_live_view() {
    let refusal = |slot: &Slot| slot.watch(&LiveLimits::default()).err();
    let nobody = Slot::new("nobody".into(), Arc::default());
    assert_eq!(refusal(&nobody), Some(NotAvailable::NotReceived));

    let jpeg = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/rtsp/fixtures/420.jpg");
    let server = OddCamera::start(
        &clips::clip(SMALL),
        Oddities {
            jpeg: Some(std::fs::read(jpeg).unwrap()),
            ..Oddities::default()
        },
    );
    let camera = Camera::receive(settings(&server.url()));
    // Before the camera has described its stream, a view may open; it ends with the reason.
    let early = camera.slot().watch(&LiveLimits::default());
    until("a Motion JPEG picture", || (camera.slot().seq() > 0).then_some(()));
    assert_eq!(refusal(camera.slot()), Some(NotAvailable::MotionJpeg));
    if let Ok(view) = early {
        let mut viewer = Viewer::of(view);
        assert_eq!(viewer.take_until_ended(), NotAvailable::MotionJpeg.to_string());
        assert!(viewer.next().is_none());
    }

    let slot = Slot::new("file".into(), Arc::default());
    let _source = GstSource::spawn(
        SourceSettings {
            camera: "file".into(),
            url: gst_source::file_url(&clips::file(SMALL)).unwrap(),
            credentials: None,
            ca_file: None,
            every: Duration::from_millis(100),
            looped: true,
            idle: Duration::from_secs(20),
            mode: workers(),
        },
        Arc::clone(&slot),
    )
    .unwrap();
    assert_eq!(refusal(&slot), Some(NotAvailable::Gstreamer));
}

#[test]
fn views_end_when_the_camera_is_removed() {
    let farm = farm(&clips::clip(SMALL), None);
    let camera = Camera::receive(settings(&farm.url("cam")));
    let slot = Arc::clone(camera.slot());
    let mut viewer = Viewer::open(&slot);
    viewer.take(2);
    drop(camera);
    assert_eq!(viewer.take_until_ended(), "the camera is no longer received");
    assert!(viewer.next().is_none());
    assert_eq!(
        slot.watch(&LiveLimits::default()).err(),
        Some(NotAvailable::NotReceived)
    );
}
