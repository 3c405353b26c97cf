//! One camera of the farm: a media factory whose pipeline is fed from a clip for ever.
//!
//! Owns the clip's position. Time never jumps at the loop's seam or at a swap: each pass starts where the last one's
//! duration ended.

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

/// A camera, as long as the farm lives; stopped or not.
pub(super) struct Mount {
    name: String,
    offset: Duration,
    shown: Arc<Shown>,
}

/// What all pipelines of a mount show.
struct Shown {
    clip: std::sync::Mutex<Arc<Clip>>,
    /// Counts swaps, so that a feeder takes the lock only when there is something new.
    version: AtomicU64,
}

impl Shown {
    fn clip(&self) -> Arc<Clip> {
        match self.clip.lock() {
            Ok(clip) => Arc::clone(&clip),
            // Nothing panics while it holds this lock; an `Arc` is whole either way.
            Err(poisoned) => Arc::clone(&poisoned.into_inner()),
        }
    }
}

impl Mount {
    pub(super) fn new(config: MountConfig) -> Arc<Self> {
        Arc::new(Self {
            name: config.name,
            offset: config.offset,
            shown: Arc::new(Shown {
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
        let has = self.shown.clip().codec();
        if has != clip.codec() {
            return Err(FarmError::Codec {
                name: self.name.clone(),
                has,
                wanted: clip.codec(),
            });
        }
        match self.shown.clip.lock() {
            Ok(mut shown) => *shown = clip,
            Err(poisoned) => *poisoned.into_inner() = clip,
        }
        self.shown.version.fetch_add(1, Ordering::Release);
        Ok(())
    }

    /// A factory that builds one pipeline for all clients and feeds it.
    pub(super) fn factory(&self) -> rtsp::RTSPMediaFactory {
        let factory = rtsp::RTSPMediaFactory::new();
        let (form, payloader) = match self.shown.clip().codec() {
            Codec::H264 => ("video/x-h264", "rtph264pay"),
            Codec::H265 => ("video/x-h265", "rtph265pay"),
        };
        // No parser: the units are cut and carry their parameter sets, from which the payloader makes the SDP.
        factory.set_launch(&format!(
            "( appsrc name=src is-live=true format=time block=false max-buffers=2 max-bytes=0 max-time=0 \
               caps={form},stream-format=byte-stream,alignment=au \
             ! {payloader} name=pay0 pt=96 config-interval=-1 )"
        ));
        factory.set_shared(true);
        let (shown, offset) = (Arc::clone(&self.shown), self.offset);
        factory.connect_media_configure(move |_, media| {
            let source = media
                .element()
                .dynamic_cast::<gst::Bin>()
                .ok()
                .and_then(|bin| bin.by_name("src"))
                .and_then(|e| e.dynamic_cast::<gst_app::AppSrc>().ok());
            if let Some(source) = source {
                feed(&source, &shown, offset);
            }
        });
        factory
    }
}

/// Hands over a unit whenever the pipeline asks for one. The sinks keep the time, so no thread of ours does.
fn feed(source: &gst_app::AppSrc, shown: &Arc<Shown>, offset: Duration) {
    let mut feeder = Feeder::new(Arc::clone(shown), offset);
    source.set_callbacks(
        gst_app::AppSrcCallbacks::builder()
            .need_data(move |source, _| {
                // Refused only while the pipeline shuts down.
                let _ = source.push_buffer(feeder.next());
            })
            .build(),
    );
}

/// Walks the clip for ever.
struct Feeder {
    shown: Arc<Shown>,
    version: u64,
    clip: Arc<Clip>,
    next: usize,
    /// Nanoseconds from a unit's time in the clip to its time in the stream. Below nought in a first pass that begins
    /// inside the clip.
    shift: i64,
}

impl Feeder {
    fn new(shown: Arc<Shown>, offset: Duration) -> Self {
        let version = shown.version.load(Ordering::Acquire);
        let clip = shown.clip();
        // A decoder, and the payloader's SDP, begin with a keyframe: the last one not after the offset.
        let at = offset.as_nanos() % u128::from(clip.duration().nseconds().max(1));
        let next = clip
            .units()
            .iter()
            .rposition(|u| u.keyframe && u128::from(u.dts.nseconds()) <= at)
            .unwrap_or(0);
        let skipped = clip.units().get(next).map_or(0, |u| nanos(u.dts));
        Self {
            shown,
            version,
            clip,
            next,
            shift: -skipped,
        }
    }

    fn next(&mut self) -> gst::Buffer {
        let version = self.shown.version.load(Ordering::Acquire);
        if version != self.version {
            // The new clip goes on when the old one's next unit would have.
            let now = self.time_of_next();
            self.version = version;
            self.clip = self.shown.clip();
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
            buffer.set_pts(self.at(unit.pts));
            buffer.set_dts(self.at(unit.dts));
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

    fn at(&self, in_clip: gst::ClockTime) -> gst::ClockTime {
        gst::ClockTime::from_nseconds((nanos(in_clip) + self.shift).max(0).unsigned_abs())
    }
}

/// Nanoseconds in `i64` last 292 years.
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

    fn shown(clip: Arc<Clip>) -> Arc<Shown> {
        Arc::new(Shown {
            clip: std::sync::Mutex::new(clip),
            version: AtomicU64::new(0),
        })
    }

    fn walk(feeder: &mut Feeder, n: usize) -> Vec<(Vec<u8>, u64)> {
        (0..n)
            .map(|_| {
                let b = feeder.next();
                let data = b.map_readable().unwrap().to_vec();
                (data, b.dts().unwrap().mseconds())
            })
            .collect()
    }

    #[test]
    fn time_goes_on_over_the_seam() {
        gst::init().unwrap();
        let mut f = Feeder::new(shown(clip(b'a', 10)), Duration::ZERO);
        let seen = walk(&mut f, 25);
        assert!(seen.windows(2).all(|w| w[1].1 == w[0].1 + 40), "{seen:?}");
        assert_eq!(seen[10].0, [b'a', 0]);
    }

    #[test]
    fn an_offset_starts_at_a_keyframe_and_at_time_nought() {
        gst::init().unwrap();
        let mut f = Feeder::new(shown(clip(b'a', 10)), Duration::from_millis(330));
        let seen = walk(&mut f, 6);
        assert_eq!(seen[0], (vec![b'a', 5], 0));
        assert_eq!(seen[5], (vec![b'a', 0], 200));
    }

    #[test]
    fn a_swap_begins_the_new_clip_without_a_jump() {
        gst::init().unwrap();
        let shown = shown(clip(b'a', 10));
        let mut f = Feeder::new(Arc::clone(&shown), Duration::ZERO);
        walk(&mut f, 3);
        *shown.clip.lock().unwrap() = clip(b'b', 10);
        shown.version.fetch_add(1, Ordering::Release);
        assert_eq!(walk(&mut f, 2), [(vec![b'b', 0], 120), (vec![b'b', 1], 160)]);
    }
}
