//! A decoded picture: planar or semi-planar 4:2:0 YUV, shared without copying.
//!
//! Decoders hand over their own buffer (see [`Bytes::from_owner`]); letterbox, view health and evidence all read these
//! planes. Nothing here converts a whole picture to RGB except [`Frame::to_rgb`], which evidence alone uses.

use bytes::Bytes;
use jiff::Timestamp;

/// How the chroma samples lie in memory. Both are 4:2:0, 8 bits a sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Three planes: Y, U, V.
    I420,
    /// Two planes: Y, then U and V interleaved. What hardware decoders give.
    Nv12,
}

/// Which luma coefficients turn the samples into RGB (ITU-R BT.601-7 §2.5.1, BT.709-6 §3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Matrix {
    /// Standard definition, and what most cameras that say nothing mean below 720 lines.
    Bt601,
    /// High definition.
    Bt709,
}

/// One plane inside [`Frame::data`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plane {
    /// Where the plane's first row starts, in bytes from the start of the buffer.
    pub offset: usize,
    /// Bytes from one row to the next; at least the row's own length.
    pub stride: usize,
}

/// A decoded picture.
#[derive(Clone)]
pub struct Frame {
    /// Pixels across, at least 2.
    pub width: u32,
    /// Pixels down, at least 2.
    pub height: u32,
    /// How chroma lies.
    pub layout: Layout,
    /// Luma coefficients.
    pub matrix: Matrix,
    /// True where Y spans 0..=255, false where it spans 16..=235.
    pub full_range: bool,
    /// Y, U, V for I420; Y, UV (and an unused third) for NV12.
    pub planes: [Plane; 3],
    /// The samples.
    pub data: Bytes,
    /// Wall time at which the picture arrived at the box.
    pub captured_at: Timestamp,
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "Frame {}×{} {:?} at {}",
            self.width, self.height, self.layout, self.captured_at
        )
    }
}
