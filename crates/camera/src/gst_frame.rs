//! What all GStreamer rooms share: start-up, a sample as a [`Frame`] without copying, and the ear for libav's complaints.
//!
//! libav conceals what it cannot decode and says so only in its log; the picture's own CORRUPTED flag stays unset. So
//! the log category `libav` is listened to, and what it says is counted for the streaming thread that it says it on:
//! with one thread per decoder that is exactly the picture being decoded.

use std::{
    cell::RefCell,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
};

use bytes::Bytes;
use gstreamer as gst;
use gstreamer::{glib, prelude::*};
use gstreamer_app as gst_app;
use gstreamer_video as gst_video;
use jiff::Timestamp;

use gridwatch_frame::{Frame, Layout, Matrix, Plane};

/// Counts the complaints of one decoder.
pub(super) type Complaints = Arc<AtomicU32>;

thread_local! {
    /// Whose complaints this thread's are.
    static HERE: RefCell<Option<Complaints>> = const { RefCell::new(None) };
}

/// Parts of libav messages that mean that samples were made up: `h264_slice.c`, `error_resilience.c`, `hevcdec.c`,
/// `hevc_cabac.c`. Not simply all errors: cameras write broken SEI messages for years, and the picture is whole.
const MADE_UP: [&str; 6] = [
    "concealing",
    "error while decoding MB",
    "cu_qp_delta",
    "CABAC_MAX_BIN",
    "slice_qp_y",
    "entry_point_offset",
];

/// Starts GStreamer once a process.
///
/// # Errors
/// Its core does not start.
pub(super) fn init() -> Result<(), glib::Error> {
    static DONE: OnceLock<Result<(), glib::Error>> = OnceLock::new();
    DONE.get_or_init(|| {
        gst::init()?;
        // The default log writes to stderr whatever passes a threshold, and one is about to be lowered. Whoever sets
        // GST_DEBUG wants to read it.
        if std::env::var_os("GST_DEBUG").is_none() {
            gst::log::remove_default_log_function();
        }
        gst::log::add_log_function(|category, level, _, _, _, _, message| {
            if level <= gst::DebugLevel::Info && category.name() == "libav" {
                let made_up = message
                    .get()
                    .is_some_and(|m| MADE_UP.iter().any(|part| m.contains(part)));
                if made_up {
                    HERE.with_borrow(|here| {
                        if let Some(count) = here {
                            count.fetch_add(1, Ordering::Relaxed);
                        }
                    });
                }
            }
        });
        gst::log::set_threshold_from_string("libav:4", false);
        Ok(())
    })
    .clone()
}

/// Counts what libav says on the threads that push into `pad`, a decoder's sink pad.
pub(super) fn listen(pad: &gst::Pad, complaints: &Complaints) {
    let complaints = Arc::clone(complaints);
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        HERE.with_borrow_mut(|here| {
            if here.as_ref().is_none_or(|h| !Arc::ptr_eq(h, &complaints)) {
                *here = Some(Arc::clone(&complaints));
            }
        });
        gst::PadProbeReturn::Ok
    });
}

/// A sink that takes pictures in the two layouts that [`Frame`] knows, in the decoder's own buffers.
pub(super) fn picture_sink() -> gst_app::AppSink {
    let caps = gst_video::VideoCapsBuilder::new()
        .format_list([gst_video::VideoFormat::I420, gst_video::VideoFormat::Nv12])
        .build();
    let sink = gst_app::AppSink::builder()
        .caps(&caps)
        .sync(false)
        .async_(false)
        .enable_last_sample(false)
        .wait_on_eos(false)
        .build();
    // Without this answer a decoder believes that we do not know strides, and copies each picture into a packed buffer.
    if let Some(pad) = sink.static_pad("sink") {
        pad.add_probe(gst::PadProbeType::QUERY_DOWNSTREAM, |_, info| {
            if let Some(query) = info.query_mut()
                && let gst::QueryViewMut::Allocation(allocation) = query.view_mut()
            {
                allocation.add_allocation_meta::<gst_video::VideoMeta>(None);
                return gst::PadProbeReturn::Handled;
            }
            gst::PadProbeReturn::Ok
        });
    }
    sink
}

/// Why a sample is no picture.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotAPicture {
    #[error("the decoder's output has no buffer or no format")]
    Empty,
    #[error("the decoder's output is {0}, neither I420 nor NV12")]
    Format(String),
    #[error("the decoder's output cannot be read by the processor")]
    Unreadable,
    #[error("the decoder's planes lie outside its buffer")]
    Planes,
}

/// The sample's picture, sharing its memory.
pub(super) fn frame(sample: &gst::Sample, captured_at: Timestamp) -> Result<Frame, NotAPicture> {
    let caps = sample.caps().ok_or(NotAPicture::Empty)?;
    let info = gst_video::VideoInfo::from_caps(caps).map_err(|_| NotAPicture::Empty)?;
    let layout = match info.format() {
        gst_video::VideoFormat::I420 => Layout::I420,
        gst_video::VideoFormat::Nv12 => Layout::Nv12,
        other => return Err(NotAPicture::Format(other.to_string())),
    };
    let buffer = sample.buffer_owned().ok_or(NotAPicture::Empty)?;
    let mut planes = [Plane { offset: 0, stride: 0 }; 3];
    let meta = buffer.meta::<gst_video::VideoMeta>();
    for (i, plane) in planes.iter_mut().enumerate().take(info.n_planes() as usize) {
        let (offset, stride) = match &meta {
            Some(m) => (m.offset().get(i).copied(), m.stride().get(i).copied()),
            None => (info.offset().get(i).copied(), info.stride().get(i).copied()),
        };
        *plane = Plane {
            offset: offset.ok_or(NotAPicture::Planes)?,
            stride: stride
                .and_then(|s| usize::try_from(s).ok())
                .ok_or(NotAPicture::Planes)?,
        };
    }
    let (width, height) = (info.width(), info.height());
    let colour = info.colorimetry();
    let matrix = match colour.matrix() {
        gst_video::VideoColorMatrix::Bt709 => Matrix::Bt709,
        gst_video::VideoColorMatrix::Bt601 | gst_video::VideoColorMatrix::Fcc => Matrix::Bt601,
        _ if height >= 720 => Matrix::Bt709,
        _ => Matrix::Bt601,
    };
    let mapped = buffer
        .into_mapped_buffer_readable()
        .map_err(|_| NotAPicture::Unreadable)?;
    let frame = Frame {
        width,
        height,
        layout,
        matrix,
        full_range: colour.range() == gst_video::VideoColorRange::Range0_255,
        planes,
        data: Bytes::from_owner(mapped),
        captured_at,
    };
    if fits(&frame) {
        Ok(frame)
    } else {
        Err(NotAPicture::Planes)
    }
}

/// True where every row of every plane lies inside the buffer. Whoever reads a frame counts on it.
fn fits(f: &Frame) -> bool {
    let (w, h) = (f.width as usize, f.height as usize);
    let (half_w, half_h) = (w.div_ceil(2), h.div_ceil(2));
    let rows: &[(usize, usize)] = match f.layout {
        Layout::I420 => &[(w, h), (half_w, half_h), (half_w, half_h)],
        Layout::Nv12 => &[(w, h), (2 * half_w, half_h)],
    };
    w >= 2
        && h >= 2
        && rows
            .iter()
            .zip(&f.planes)
            .all(|(&(len, rows), p)| p.stride >= len && p.offset + p.stride * (rows - 1) + len <= f.data.len())
}

/// What the pipeline's bus says went wrong, and everything else on it gone.
pub(super) fn bus_error(pipeline: &gst::Pipeline) -> Option<String> {
    let bus = pipeline.bus()?;
    let mut found = None;
    while let Some(message) = bus.pop() {
        if let gst::MessageView::Error(e) = message.view() {
            found.get_or_insert_with(|| e.error().to_string());
        }
    }
    found
}
