//! One camera of the farm: a media factory whose pipeline is fed a clip in a loop.
//!
//! Stream time is continuous across the end of the clip and across a swap: each pass starts where the last one ended.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use gstreamer as gst;
use gstreamer_app as gst_app;
use gstreamer_rtsp_server::{self as rtsp, prelude::*};

use super::{Clip, FarmError, MountConfig};
use gridwatch_camera::Codec;

/// A camera, running or stopped.
pub(super) struct Mount {
    name: String,
    offset: Duration,
    current: Arc<CurrentClip>,
}

/// The clip served by all pipelines of a mount.
struct CurrentClip {
    clip: std::sync::Mutex<Arc<Clip>>,
    /// Number of swaps, so that feeders take the lock only after a swap.
    version: AtomicU64,
}

impl CurrentClip {
    fn clip(&self) -> Arc<Clip> {
        match self.clip.lock() {
            Ok(clip) => Arc::clone(&clip),
            // No holder of this lock can panic, and an `Arc` is valid in any case.
            Err(poisoned) => Arc::clone(&poisoned.into_inner()),
        }
    }
}

impl Mount {
    pub(super) fn new(config: MountConfig) -> Arc<Self> {
        Arc::new(Self {
            name: config.name,
            offset: config.offset,
            current: Arc::new(CurrentClip {
                clip: std::sync::Mutex::new(config.clip),
                version: AtomicU64::new(0),
            }),
        })
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn path(&self) -> String {
        format!("/{}", self.name)
    }

    pub(super) fn swap(&self, clip: Arc<Clip>) -> Result<(), FarmError> {
        let has = self.current.clip().codec();
        if has != clip.codec() {
            return Err(FarmError::Codec {
                name: self.name.clone(),
                has,
                wanted: clip.codec(),
            });
        }
        match self.current.clip.lock() {
            Ok(mut current) => *current = clip,
            Err(poisoned) => *poisoned.into_inner() = clip,
        }
        self.current.version.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// A factory that builds one pipeline for all clients and feeds it.
    pub(super) fn factory(&self) -> rtsp::RTSPMediaFactory {
        let factory = rtsp::RTSPMediaFactory::new();
        let (media_type, payloader) = match self.current.clip().codec() {
            Codec::H264 => ("video/x-h264", "rtph264pay"),
            Codec::H265 => ("video/x-h265", "rtph265pay"),
        };
        // No parser is needed: keyframes carry their parameter sets, from which the payloader makes the SDP.
        factory.set_launch(&format!(
            "( appsrc name=src is-live=true format=time block=false max-buffers=2 max-bytes=0 max-time=0 \
               caps={media_type},stream-format=byte-stream,alignment=au \
             ! {payloader} name=pay0 pt=96 config-interval=-1 )"
        ));
        factory.set_shared(true);
        let (current, offset) = (Arc::clone(&self.current), self.offset);
        factory.connect_media_configure(move |_, media| {
            let source = media
                .element()
                .dynamic_cast::<gst::Bin>()
                .ok()
                .and_then(|bin| bin.by_name("src"))
                .and_then(|e| e.dynamic_cast::<gst_app::AppSrc>().ok());
            if let Some(source) = source {
                feed(&source, &current, offset);
            }
        });
        factory
    }
}

/// Pushes an access unit whenever the pipeline asks for one. The sinks pace the stream.
fn feed(source: &gst_app::AppSrc, current: &Arc<CurrentClip>, offset: Duration) {
    let mut feeder = Feeder::new(Arc::clone(current), offset);
    source.set_callbacks(
        gst_app::AppSrcCallbacks::builder()
            .need_data(move |source, _| {
                // Fails only while the pipeline shuts down.
                let _ = source.push_buffer(feeder.next());
            })
            .build(),
    );
}

/// Iterates over the clip in a loop.
struct Feeder {
    current: Arc<CurrentClip>,
    version: u64,
    clip: Arc<Clip>,
    next: usize,
    /// Stream time minus time in the clip, in nanoseconds. Negative in a first pass that starts inside the clip.
    shift: i64,
}

impl Feeder {
    fn new(current: Arc<CurrentClip>, offset: Duration) -> Self {
        let version = current.version.load(Ordering::Acquire);
        let clip = current.clip();
        // Decoders and the payloader's SDP need a keyframe first: the last one at or before the offset.
        let at = offset.as_nanos() % u128::from(clip.duration().nseconds().max(1));
        let next = clip
            .units()
            .iter()
            .rposition(|u| u.keyframe && u128::from(u.dts.nseconds()) <= at)
            .unwrap_or(0);
        let skipped = clip.units().get(next).map_or(0, |u| nanos(u.dts));
        Self {
            current,
            version,
            clip,
            next,
            shift: -skipped,
        }
    }

    fn next(&mut self) -> gst::Buffer {
        let version = self.current.version.load(Ordering::Acquire);
        if version != self.version {
            // The new clip starts at the time of the old clip's next unit.
            let now = self.time_of_next();
            self.version = version;
            self.clip = self.current.clip();
            self.next = 0;
            self.shift = now;
        } else if self.next == self.clip.units().len() {
            self.next = 0;
            self.shift += nanos(self.clip.duration());
        }
        let unit = &self.clip.units()[self.next];
        self.next += 1;
        let mut buffer = gst::Buffer::from_slice(unit.data.clone());
        if let Some(buffer) = buffer.get_mut() {
            buffer.set_pts(self.stream_time(unit.pts));
            buffer.set_dts(self.stream_time(unit.dts));
            if !unit.keyframe {
                buffer.set_flags(gst::BufferFlags::DELTA_UNIT);
            }
        }
        buffer
    }

    fn time_of_next(&self) -> i64 {
        let in_clip = self.clip.units().get(self.next).map(|u| u.dts);
        nanos(in_clip.unwrap_or(self.clip.duration())) + self.shift
    }

    fn stream_time(&self, in_clip: gst::ClockTime) -> gst::ClockTime {
        gst::ClockTime::from_nseconds((nanos(in_clip) + self.shift).max(0).unsigned_abs())
    }
}

/// Nanoseconds as an `i64`, which suffices for 292 years.
fn nanos(t: gst::ClockTime) -> i64 {
    i64::try_from(t.nseconds()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::AccessUnit;
    use bytes::Bytes;

    fn clip(name: u8, count: u64) -> Arc<Clip> {
        let units = (0..count)
            .map(|i| AccessUnit {
                data: Bytes::copy_from_slice(&[name, i as u8]),
                pts: gst::ClockTime::from_mseconds(40 * i + 80),
                dts: gst::ClockTime::from_mseconds(40 * i),
                keyframe: i % 5 == 0,
            })
            .collect();
        Arc::new(Clip::from_units(
            Codec::H264,
            units,
            gst::ClockTime::from_mseconds(40 * count),
        ))
    }

    fn current(clip: Arc<Clip>) -> Arc<CurrentClip> {
        Arc::new(CurrentClip {
            clip: std::sync::Mutex::new(clip),
            version: AtomicU64::new(0),
        })
    }

    /// Data and DTS (in milliseconds) of the next `n` buffers.
    fn take(feeder: &mut Feeder, n: usize) -> Vec<(Vec<u8>, u64)> {
        (0..n)
            .map(|_| {
                let b = feeder.next();
                let data = b.map_readable().unwrap().to_vec();
                (data, b.dts().unwrap().mseconds())
            })
            .collect()
    }

    #[test]
    fn stream_time_is_continuous_across_the_end_of_the_clip() {
        gst::init().unwrap();
        let mut f = Feeder::new(current(clip(b'a', 10)), Duration::ZERO);
        let buffers = take(&mut f, 25);
        assert!(buffers.windows(2).all(|w| w[1].1 == w[0].1 + 40), "{buffers:?}");
        assert_eq!(buffers[10].0, [b'a', 0]);
    }

    #[test]
    fn offset_starts_at_a_keyframe_and_at_stream_time_zero() {
        gst::init().unwrap();
        let mut f = Feeder::new(current(clip(b'a', 10)), Duration::from_millis(330));
        let buffers = take(&mut f, 6);
        assert_eq!(buffers[0], (vec![b'a', 5], 0));
        assert_eq!(buffers[5], (vec![b'a', 0], 200));
    }

    #[test]
    fn swap_starts_the_new_clip_without_a_time_jump() {
        gst::init().unwrap();
        let current = current(clip(b'a', 10));
        let mut f = Feeder::new(Arc::clone(&current), Duration::ZERO);
        take(&mut f, 3);
        *current.clip.lock().unwrap() = clip(b'b', 10);
        current.version.fetch_add(1, Ordering::Release);
        assert_eq!(take(&mut f, 2), [(vec![b'b', 0], 120), (vec![b'b', 1], 160)]);
    }
}
