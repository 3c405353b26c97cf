use gridwatch_bitstream::nal;

use super::*;
use crate::{
    Slot,
    live::{LiveLimits, LiveView},
};

const H264: &[u8] = include_bytes!("../../../../rtsp/fixtures/slices.h264");
/// The GOP of the fixture: four pictures.
const GOP: usize = 4;

/// A slot whose receiver sends the pictures of a clip, one every 40 ms of media time.
struct Camera {
    slot: Arc<Slot>,
    units: Vec<(Vec<u8>, UnitKind)>,
    sent: usize,
    at: Instant,
}

impl Camera {
    fn new() -> Self {
        let mut units: Vec<(Vec<u8>, UnitKind)> = Vec::new();
        for nal in nal::split(H264) {
            if nal[0] & 0x1f == 9 {
                units.push((Vec::new(), UnitKind::Delta));
            }
            let unit = units.last_mut().unwrap();
            unit.0.extend([&nal::START_CODE, nal].concat());
            if nal[0] & 0x1f == 5 {
                unit.1 = UnitKind::Keyframe;
            }
        }
        // Three GOPs without the last picture, which begins a fourth.
        units.truncate(3 * GOP);
        let slot = Slot::new("c".into(), Arc::default());
        slot.live().open(VideoSource::Pending);
        slot.live().begin(VideoSource::Video {
            codec: Codec::H264,
            clock_rate: 90_000,
        });
        Self {
            slot,
            units,
            sent: 0,
            at: Instant::now(),
        }
    }

    fn send_one(&mut self, is_complete: bool) {
        let (data, kind) = self.units[self.sent % self.units.len()].clone();
        self.slot.live().offer(&AccessUnit {
            kind,
            data,
            rtp_timestamp: self.sent as u32 * 3_600,
            first_packet_at: self.at,
            last_packet_at: self.at,
            is_complete,
        });
        self.sent += 1;
    }

    fn send(&mut self, count: usize) {
        for _ in 0..count {
            self.send_one(true);
        }
    }

    fn watch(&self) -> LiveView {
        self.slot.watch(&LiveLimits::default()).unwrap()
    }
}

/// What is there for a viewer: `i` an initialization segment, `k` and `d` fragments, `!` before one after a gap, `e` an end.
fn ready(view: &mut LiveView) -> String {
    let mut found = String::new();
    while let Next::Chunk(chunk) = view.hub.next(&mut view.position) {
        match chunk {
            LiveChunk::Init { .. } => found.push('i'),
            LiveChunk::Fragment {
                is_key, is_after_gap, ..
            } => {
                found.push_str(if is_after_gap { "!" } else { "" });
                found.push(if is_key { 'k' } else { 'd' });
            }
            LiveChunk::Ended { .. } => found.push('e'),
        }
    }
    found
}

#[test]
fn a_viewer_starts_at_a_keyframe_and_a_second_one_at_the_newest() {
    let mut camera = Camera::new();
    camera.send(2);
    assert_eq!(camera.slot.live_stats(), LiveStats::default(), "nobody watches");
    let mut first = camera.watch();
    camera.send(2);
    assert_eq!(ready(&mut first), "");
    // One picture is held back.
    camera.send(GOP);
    assert_eq!(ready(&mut first), "ikdd");
    let mut second = camera.watch();
    assert_eq!(ready(&mut second), "ikdd");
    camera.send(3);
    assert_eq!((ready(&mut first), ready(&mut second)), ("dkd".into(), "dkd".into()));
    let mut third = camera.watch();
    assert_eq!(
        ready(&mut third),
        "ikd",
        "from the newest keyframe, not from the one before"
    );
}

#[test]
fn the_last_viewer_that_goes_takes_everything_with_it() {
    let mut camera = Camera::new();
    let limits = LiveLimits::new(2, 1 << 20);
    for _ in 0..100 {
        let first = camera.slot.watch(&limits).unwrap();
        let second = camera.slot.watch(&limits).unwrap();
        let refused = camera.slot.watch(&limits).unwrap_err();
        assert_eq!(refused, NotAvailable::TooManyViews { limit: 2 });
        camera.send(3 * GOP);
        drop(first);
        let stats = camera.slot.live_stats();
        assert!(camera.slot.live().is_watched() && stats.kept > 0 && stats.kept_bytes > 0);
        assert_eq!((stats.views, limits.open_views()), (1, 1));
        drop(second);
        let stats = camera.slot.live_stats();
        assert!(!camera.slot.live().is_watched());
        assert_eq!(
            (stats.views, stats.kept, stats.kept_bytes, limits.open_views()),
            (0, 0, 0, 0)
        );
        let shared = camera.slot.live().lock();
        assert!(shared.muxer.is_none() && shared.kept.fragments.capacity() == 0);
    }
    assert_eq!(Arc::strong_count(camera.slot.live()), 1);
}

#[test]
fn a_slow_viewer_goes_on_at_the_newest_keyframe() {
    let mut camera = Camera::new();
    let (mut slow, mut fast) = (camera.watch(), camera.watch());
    camera.send(2);
    assert_eq!(ready(&mut slow), "ik");
    let mut seen = ready(&mut fast);
    for _ in 0..20 {
        camera.send(GOP);
        seen += &ready(&mut fast);
    }
    assert_eq!(seen.len(), 1 + 80 + 1, "{seen}");
    assert!(!seen.contains('!'));
    let found = ready(&mut slow);
    assert!(found.starts_with("!k") && found.len() <= 1 + GOP, "{found}");
    assert_eq!(camera.slot.live_stats().skips, 1);
    // A little late is no reason to skip.
    camera.send(2 * GOP);
    assert_eq!(ready(&mut slow).len(), 2 * GOP);
}

#[test]
fn the_limit_of_bytes_holds_and_without_a_keyframe_a_new_viewer_waits() {
    let mut camera = Camera::new();
    let limits = LiveLimits::new(2, 2_000);
    let mut first = camera.slot.watch(&limits).unwrap();
    for _ in 0..10 {
        camera.send(1);
        let stats = camera.slot.live_stats();
        assert!(stats.kept_bytes <= 2_000 || stats.kept == 1, "{stats:?}");
        ready(&mut first);
    }
    let mut second = camera.slot.watch(&limits).unwrap();
    let waits = camera.slot.live().lock().kept.keyframes.is_empty();
    assert_eq!(ready(&mut second).is_empty(), waits);
    camera.send(GOP + 1);
    assert!(!ready(&mut first).contains('!'), "who keeps up misses nothing");
}

#[test]
fn damaged_pictures_and_those_after_them_are_left_out() {
    let mut camera = Camera::new();
    let mut view = camera.watch();
    camera.send(2);
    assert_eq!(ready(&mut view), "ik");
    camera.send_one(false);
    camera.send(2);
    camera.slot.live().skip_to_keyframe();
    camera.send(5);
    assert_eq!(ready(&mut view), "dkk");
    assert_eq!(camera.slot.live_stats().left_out, 1);
}

#[test]
fn a_camera_that_goes_down_is_told_once_and_the_view_goes_on_when_it_is_back() {
    let mut camera = Camera::new();
    let video = camera.slot.live().lock().source;
    let mut view = camera.watch();
    camera.send(2);
    for _ in 0..3 {
        camera.slot.live().interrupt("no route to the camera");
    }
    assert_eq!(ready(&mut view), "ikde", "the held picture comes before the end");
    let mut late = camera.watch();
    assert_eq!(ready(&mut late), "e", "who comes now is told at once");
    camera.slot.live().begin(video);
    assert_eq!(ready(&mut view), "");
    camera.sent = 0;
    camera.send(3);
    assert_eq!((ready(&mut view), ready(&mut late)), ("ikd".into(), "ikd".into()));
    camera.slot.live().waits_for_keyframe("no keyframes");
    assert_eq!(ready(&mut view), "", "video comes");
}

#[test]
fn pictures_that_cannot_be_written_are_told_as_an_end() {
    let mut camera = Camera::new();
    let mut view = camera.watch();
    camera.send(2);
    let whole = camera.units.clone();
    for (data, _) in &mut camera.units {
        *data = vec![0, 0, 1, 0x65, 0xff];
    }
    camera.send(GOP);
    assert_eq!(ready(&mut view), "ikdde");
    camera.units = whole;
    camera.sent = 0;
    camera.send(3);
    assert_eq!(ready(&mut view), "ikd");
}

#[test]
fn views_end_with_their_receiver_and_with_another_kind_of_stream() {
    let camera = Camera::new();
    let mut view = camera.watch();
    camera.slot.live().begin(VideoSource::MotionJpeg);
    assert_eq!((ready(&mut view), ready(&mut view)), ("e".into(), String::new()));
    assert!(matches!(view.hub.next(&mut view.position), Next::Over));
    assert!(!camera.slot.live().is_watched());
    let refused = |slot: &Slot| slot.watch(&LiveLimits::default()).unwrap_err();
    assert_eq!(refused(&camera.slot), NotAvailable::MotionJpeg);
    let gstreamer = camera.slot.live().open(VideoSource::Gstreamer);
    assert_eq!(refused(&camera.slot), NotAvailable::Gstreamer);
    camera.slot.live().open(VideoSource::Pending);
    camera.slot.live().close(gstreamer);
    let mut next = camera.watch();
    drop(view);
    assert!(camera.slot.live().is_watched(), "the old view no longer counts");
    let receiver = camera.slot.live().lock().receiver;
    camera.slot.live().close(receiver);
    assert_eq!(ready(&mut next), "e");
    assert_eq!(refused(&camera.slot), NotAvailable::NotReceived);
}

#[test]
fn a_waiting_viewer_is_woken() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .unwrap();
    let mut camera = Camera::new();
    let mut view = camera.watch();
    let wakes = runtime.block_on(async {
        let viewer = tokio::task::spawn(async move {
            let mut found = 0;
            while view.next().await.is_some() {
                found += 1;
            }
            found
        });
        for _ in 0..3 * GOP {
            tokio::task::yield_now().await;
            camera.send_one(true);
        }
        tokio::task::yield_now().await;
        let receiver = camera.slot.live().lock().receiver;
        camera.slot.live().close(receiver);
        tokio::time::timeout(Duration::from_secs(60), viewer).await
    });
    // The segment, all pictures but the held one, and the end.
    assert_eq!(wakes.unwrap().unwrap(), 1 + 3 * GOP - 1 + 1);
}
