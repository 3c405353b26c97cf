//! Shared by the GStreamer modules: initialisation, converting a sample to a [`Frame`] without copying, and counting
//! libav's concealment messages.
//!
//! libav conceals slices that it cannot decode and only logs it; the buffer's CORRUPTED flag stays unset. So a log
//! function counts the concealment messages of the category `libav` per streaming thread. With one thread per decoder,
//! the count belongs to the picture being decoded.

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

use gridwatch_frame::{Frame, FrameError, Layout, Matrix, Plane};

/// Number of concealment messages of one decoder.
pub(super) type ConcealmentCount = Arc<AtomicU32>;

thread_local! {
    /// The counter of the decoder that runs on this thread.
    static COUNT_OF_THREAD: RefCell<Option<ConcealmentCount>> = const { RefCell::new(None) };
}

/// Parts of libav messages (`h264_slice.c`, `error_resilience.c`, `hevcdec.c`, `hevc_cabac.c`) that mean that samples were
/// concealed. Other errors do not count: some cameras send malformed SEI messages all the time with intact pictures.
const CONCEALMENT_MESSAGES: [&str; 6] = [
    "concealing",
    "error while decoding MB",
    "cu_qp_delta",
    "CABAC_MAX_BIN",
    "slice_qp_y",
    "entry_point_offset",
];

/// Initialises GStreamer, once per process.
///
/// # Errors
/// GStreamer cannot be initialised.
pub(super) fn init() -> Result<(), glib::Error> {
    static DONE: OnceLock<Result<(), glib::Error>> = OnceLock::new();
    DONE.get_or_init(|| {
        gst::init()?;
        // The default log function would print the libav messages enabled below to stderr. It stays if the user has
        // set GST_DEBUG.
        if std::env::var_os("GST_DEBUG").is_none() {
            gst::log::remove_default_log_function();
        }
        gst::log::add_log_function(|category, level, _, _, _, _, message| {
            if level <= gst::DebugLevel::Info && category.name() == "libav" {
                let is_concealment = message
                    .get()
                    .is_some_and(|m| CONCEALMENT_MESSAGES.iter().any(|part| m.contains(part)));
                if is_concealment {
                    COUNT_OF_THREAD.with_borrow(|count| {
                        if let Some(count) = count {
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

/// Counts in `count` the concealment messages of threads that push buffers into `pad`, a decoder's sink pad.
pub(super) fn count_concealments(pad: &gst::Pad, count: &ConcealmentCount) {
    let count = Arc::clone(count);
    pad.add_probe(gst::PadProbeType::BUFFER, move |_, _| {
        COUNT_OF_THREAD.with_borrow_mut(|current| {
            if current.as_ref().is_none_or(|c| !Arc::ptr_eq(c, &count)) {
                *current = Some(Arc::clone(&count));
            }
        });
        gst::PadProbeReturn::Ok
    });
}

/// An appsink for the two layouts of [`Frame`] that takes the decoder's own buffers.
pub(super) fn frame_sink() -> gst_app::AppSink {
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
    // Without GstVideoMeta in the answer to this query, decoders copy each picture into a buffer without padding.
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

/// Why a decoder's sample cannot be used as a frame.
#[derive(Debug, thiserror::Error)]
pub(super) enum SampleError {
    #[error("decoder output without a buffer or caps")]
    Empty,
    #[error("unsupported decoder output format {0}; expected I420 or NV12")]
    Format(String),
    #[error("decoder output cannot be mapped into system memory")]
    Unmappable,
    #[error("decoder output without plane offsets or strides")]
    Planes,
    #[error(transparent)]
    Frame(#[from] FrameError),
}

/// The sample's frame, sharing its memory.
pub(super) fn frame(sample: &gst::Sample, captured_at: Timestamp) -> Result<Frame, SampleError> {
    let caps = sample.caps().ok_or(SampleError::Empty)?;
    let info = gst_video::VideoInfo::from_caps(caps).map_err(|_| SampleError::Empty)?;
    let layout = match info.format() {
        gst_video::VideoFormat::I420 => Layout::I420,
        gst_video::VideoFormat::Nv12 => Layout::Nv12,
        other => return Err(SampleError::Format(other.to_string())),
    };
    let buffer = sample.buffer_owned().ok_or(SampleError::Empty)?;
    let mut planes = [Plane { offset: 0, stride: 0 }; 3];
    let meta = buffer.meta::<gst_video::VideoMeta>();
    for (i, plane) in planes.iter_mut().enumerate().take(info.n_planes() as usize) {
        let (offset, stride) = match &meta {
            Some(m) => (m.offset().get(i).copied(), m.stride().get(i).copied()),
            None => (info.offset().get(i).copied(), info.stride().get(i).copied()),
        };
        *plane = Plane {
            offset: offset.ok_or(SampleError::Planes)?,
            stride: stride
                .and_then(|s| usize::try_from(s).ok())
                .ok_or(SampleError::Planes)?,
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
        .map_err(|_| SampleError::Unmappable)?;
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
    frame.validate()?;
    Ok(frame)
}

/// The first error on the pipeline's bus. Discards all other messages.
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
