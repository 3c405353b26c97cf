//! The messages between the daemon and a decode worker, each one packet of a `SOCK_SEQPACKET` socket.
//!
//! The daemon believes nothing of what a worker writes: an answer is a few bounded numbers and texts, the layout of a picture follows from its width and height
//! on both sides, and buffers are chosen by the daemon alone.

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    time::Duration,
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};

use super::WorkerKind;
use crate::{Backend, Codec};
use gridwatch_frame::{Layout, MAX_SIDE, Matrix, Plane};

/// Longest message: the settings of a source.
const MAX_MESSAGE: usize = 16 << 10;
/// Longest text in a message, in bytes.
const MAX_TEXT: usize = 400;
/// Descriptors in one message.
const MAX_FDS: usize = 1;
/// The number of a buffer that is used once.
pub(super) const SINGLE_USE: u8 = 255;
/// Largest picture: 8192×8192 in 4:2:0.
pub(super) const MAX_PICTURE: usize = 96 << 20;
/// Rows begin at multiples of this many bytes.
const ROW_ALIGN: usize = 32;

/// Oldest age of a picture that a worker can state.
const MAX_AGE: Duration = Duration::from_secs(60);

/// From the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Request {
    /// Decode the keyframe.
    Decode { codec: Codec, transfer: Transfer },
    /// Decode the next access unit of the stream.
    Unit {
        codec: Codec,
        info: UnitInfo,
        transfer: Transfer,
    },
    /// The next picture of the source, into this buffer; [`SINGLE_USE`] stands for none. If there is none yet, it is waited for.
    Next { buffer: u8, wait_ms: u32 },
    /// A buffer for the picture that did not fit. It comes along and replaces the one of the same number.
    Buffer { buffer: u8 },
}

/// To the template: fork a worker, whose socket comes along.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ForkRequest {
    pub(super) kind: WorkerKind,
    pub(super) backend: Backend,
    pub(super) name: String,
}

impl ForkRequest {
    pub(super) fn encode(&self) -> Vec<u8> {
        [self.kind.as_str(), self.backend.as_str(), &self.name]
            .join("\n")
            .into()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut words = std::str::from_utf8(bytes).ok()?.splitn(3, '\n');
        Some(Self {
            kind: words.next()?.parse().ok()?,
            backend: words.next()?.parse().ok()?,
            name: words.next()?.to_owned(),
        })
    }
}

/// What a request says about memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Transfer {
    /// Bytes of the input that count.
    pub(super) len: u32,
    /// The buffer for the picture; [`SINGLE_USE`] stands for none.
    pub(super) buffer: u8,
    /// A new input comes along.
    pub(super) input: bool,
}

/// What an access unit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UnitInfo {
    /// Arrival since the stream began, in microseconds.
    pub(crate) at_us: u64,
    /// It is a complete keyframe.
    pub(crate) is_keyframe: bool,
    /// Packets in it or right before it were lost.
    pub(crate) is_damaged: bool,
    /// The newest picture is wanted.
    pub(crate) wants_picture: bool,
}

/// From the worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// The worker is confined and waits for requests.
    Ready {
        /// How much of it the kernel enforces.
        landlock: Enforced,
        seccomp: Enforced,
        /// The hardware decoders it may use; empty if there are none.
        hardware: String,
    },
    /// The template has loaded the plugins, and knows these hardware decoders.
    Loaded { hardware: String },
    /// The template has forked a worker.
    Forked { id: u32 },
    /// The picture lies in the buffer. It is `age` older than the request.
    Picture {
        shape: Shape,
        age: Duration,
        element: String,
    },
    /// There is no new picture.
    Nothing,
    /// The source has ended: a file that plays once.
    Ended,
    /// The picture takes this many bytes.
    TooSmall { bytes: u32 },
    /// It was not decoded.
    Failed { failure: Failure, text: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Enforced {
    No = 0,
    Partly = 1,
    Fully = 2,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The keyframe is damaged.
    Damaged = 0,
    /// No element works; the text lists those tried.
    NoDecoder = 1,
    /// The same, and no more files can be opened.
    NoFiles = 2,
    /// Anything else.
    Broken = 3,
    /// The camera refused the login.
    Refused = 4,
    /// The camera's certificate is not trusted; the text has its faults.
    Untrusted = 5,
    /// GStreamer or a plugin is missing.
    Missing = 6,
    /// The certificates of `ca_file` cannot be read.
    CaFile = 7,
}

/// What the daemon needs to know of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) layout: Layout,
    pub(super) matrix: Matrix,
    pub(super) full_range: bool,
}

impl Shape {
    /// The planes in a buffer, and the bytes that they take; `None` for a size that no picture has.
    pub(super) fn planes(&self) -> Option<([Plane; 3], usize)> {
        if !(2..=MAX_SIDE).contains(&self.width) || !(2..=MAX_SIDE).contains(&self.height) {
            return None;
        }
        let (width, height) = (self.width as usize, self.height as usize);
        let (chroma_width, chroma_height) = (width.div_ceil(2), height.div_ceil(2));
        let sizes = match self.layout {
            Layout::I420 => [
                (width, height),
                (chroma_width, chroma_height),
                (chroma_width, chroma_height),
            ],
            Layout::Nv12 => [(width, height), (2 * chroma_width, chroma_height), (0, 0)],
        };
        let mut end = 0;
        let planes = sizes.map(|(row, rows)| {
            let stride = row.next_multiple_of(ROW_ALIGN);
            let plane = Plane { offset: end, stride };
            end += stride * rows;
            plane
        });
        (end <= MAX_PICTURE).then_some((planes, end))
    }

    /// Length and number of the rows of a plane.
    pub(super) fn rows(&self, plane: usize) -> (usize, usize) {
        let (width, height) = (self.width as usize, self.height as usize);
        match (plane, self.layout) {
            (0, _) => (width, height),
            (1, Layout::Nv12) => (2 * width.div_ceil(2), height.div_ceil(2)),
            (_, Layout::Nv12) => (0, 0),
            (_, Layout::I420) => (width.div_ceil(2), height.div_ceil(2)),
        }
    }
}

impl Request {
    pub(super) fn encode(self) -> Vec<u8> {
        let transferred = |kind: u8, codec, Transfer { len, buffer, input }| {
            let codec = match codec {
                Codec::H264 => 4,
                Codec::H265 => 5,
            };
            let head = [kind, codec, buffer, u8::from(input)];
            [&head[..], &len.to_le_bytes()].concat()
        };
        match self {
            Self::Decode { codec, transfer } => transferred(0, codec, transfer),
            Self::Buffer { buffer } => vec![1, buffer],
            Self::Unit { codec, info, transfer } => {
                let mut message = transferred(2, codec, transfer);
                message.extend([info.is_keyframe, info.is_damaged, info.wants_picture].map(u8::from));
                message.extend(info.at_us.to_le_bytes());
                message
            }
            Self::Next { buffer, wait_ms } => [&[3, buffer][..], &wait_ms.to_le_bytes()].concat(),
        }
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut read = Reader(bytes);
        Some(match read.byte()? {
            0 => {
                let (codec, transfer) = read.transfer()?;
                Self::Decode { codec, transfer }
            }
            1 => Self::Buffer { buffer: read.byte()? },
            2 => {
                let (codec, transfer) = read.transfer()?;
                let info = UnitInfo {
                    is_keyframe: read.flag()?,
                    is_damaged: read.flag()?,
                    wants_picture: read.flag()?,
                    at_us: u64::from(read.number()?) | u64::from(read.number()?) << 32,
                };
                Self::Unit { codec, info, transfer }
            }
            3 => Self::Next {
                buffer: read.byte()?,
                wait_ms: read.number()?,
            },
            _ => return None,
        })
    }
}

impl Answer {
    pub(super) fn encode(&self) -> Vec<u8> {
        let with_text =
            |head: &[u8], text: &str| [head, text.as_bytes().get(..MAX_TEXT).unwrap_or(text.as_bytes())].concat();
        match self {
            Self::Ready {
                landlock,
                seccomp,
                hardware,
            } => with_text(&[0, *landlock as u8, *seccomp as u8], hardware),
            Self::Picture { shape, age, element } => {
                let mut head = vec![1];
                head.extend(u32::try_from(age.as_millis()).unwrap_or(u32::MAX).to_le_bytes());
                head.extend(shape.width.to_le_bytes());
                head.extend(shape.height.to_le_bytes());
                head.extend([
                    u8::from(shape.layout == Layout::Nv12),
                    u8::from(shape.matrix == Matrix::Bt709),
                    u8::from(shape.full_range),
                ]);
                with_text(&head, element)
            }
            Self::TooSmall { bytes } => [&[2][..], &bytes.to_le_bytes()].concat(),
            Self::Failed { failure, text } => with_text(&[3, *failure as u8], text),
            Self::Loaded { hardware } => with_text(&[6], hardware),
            Self::Forked { id } => [&[7][..], &id.to_le_bytes()].concat(),
            Self::Nothing => vec![4],
            Self::Ended => vec![5],
        }
    }

    /// `None` if the message is not one that a sound worker sends.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut read = Reader(bytes);
        Some(match read.byte()? {
            0 => Self::Ready {
                landlock: read.enforced()?,
                seccomp: read.enforced()?,
                hardware: read.text(),
            },
            1 => Self::Picture {
                age: Duration::from_millis(read.number()?.into()).min(MAX_AGE),
                shape: Shape {
                    width: read.number()?,
                    height: read.number()?,
                    layout: if read.flag()? { Layout::Nv12 } else { Layout::I420 },
                    matrix: if read.flag()? { Matrix::Bt709 } else { Matrix::Bt601 },
                    full_range: read.flag()?,
                },
                element: read.text(),
            },
            2 => Self::TooSmall { bytes: read.number()? },
            3 => Self::Failed {
                failure: match read.byte()? {
                    0 => Failure::Damaged,
                    1 => Failure::NoDecoder,
                    2 => Failure::NoFiles,
                    3 => Failure::Broken,
                    4 => Failure::Refused,
                    5 => Failure::Untrusted,
                    6 => Failure::Missing,
                    7 => Failure::CaFile,
                    _ => return None,
                },
                text: read.text(),
            },
            4 => Self::Nothing,
            5 => Self::Ended,
            6 => Self::Loaded { hardware: read.text() },
            7 => Self::Forked { id: read.number()? },
            _ => return None,
        })
    }
}

struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    fn transfer(&mut self) -> Option<(Codec, Transfer)> {
        let codec = match self.byte()? {
            4 => Codec::H264,
            5 => Codec::H265,
            _ => return None,
        };
        let (buffer, input, len) = (self.byte()?, self.flag()?, self.number()?);
        Some((codec, Transfer { len, buffer, input }))
    }

    fn enforced(&mut self) -> Option<Enforced> {
        match self.byte()? {
            0 => Some(Enforced::No),
            1 => Some(Enforced::Partly),
            2 => Some(Enforced::Fully),
            _ => None,
        }
    }

    fn number(&mut self) -> Option<u32> {
        let (first, rest) = self.0.split_first_chunk::<4>()?;
        self.0 = rest;
        Some(u32::from_le_bytes(*first))
    }

    /// The rest as a text that may be logged.
    fn text(&mut self) -> String {
        let bytes = self.0.get(..MAX_TEXT).unwrap_or(self.0);
        let text = String::from_utf8_lossy(bytes);
        text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
    }
}

/// Sends a message with its descriptors.
pub(super) fn send(socket: impl AsFd, message: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    sendmsg(socket, &[IoSlice::new(message)], &mut ancillary, SendFlags::NOSIGNAL)?;
    Ok(())
}

/// Receives a message with its descriptors; `None` if the other side has closed the socket.
pub(super) fn receive(socket: impl AsFd) -> io::Result<Option<(Vec<u8>, Vec<OwnedFd>)>> {
    let mut message = vec![0; MAX_MESSAGE];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        recvmsg(
            &socket,
            &mut [IoSliceMut::new(&mut message)],
            &mut ancillary,
            RecvFlags::CMSG_CLOEXEC,
        )
    })?;
    let mut fds = Vec::new();
    for part in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = part {
            fds.extend(rights);
        }
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    if received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "oversized message"));
    }
    message.truncate(received.bytes);
    Ok(Some((message, fds)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shape(width: u32, height: u32, layout: Layout) -> Shape {
        Shape {
            width,
            height,
            layout,
            matrix: Matrix::Bt709,
            full_range: true,
        }
    }

    #[test]
    fn messages_survive_the_wire() {
        let transfer = Transfer {
            len: 70_000,
            buffer: 3,
            input: true,
        };
        let requests = [
            Request::Decode {
                codec: Codec::H265,
                transfer,
            },
            Request::Unit {
                codec: Codec::H264,
                info: UnitInfo {
                    at_us: 1 << 40 | 7,
                    is_keyframe: false,
                    is_damaged: true,
                    wants_picture: true,
                },
                transfer,
            },
            Request::Next {
                buffer: SINGLE_USE,
                wait_ms: 200,
            },
            Request::Buffer { buffer: 9 },
        ];
        for request in requests {
            assert_eq!(Request::decode(&request.encode()), Some(request));
        }
        let answers = [
            Answer::Ready {
                landlock: Enforced::Partly,
                seccomp: Enforced::Fully,
                hardware: String::new(),
            },
            Answer::Picture {
                shape: shape(1920, 1080, Layout::Nv12),
                age: Duration::from_millis(40),
                element: "avdec_h264".into(),
            },
            Answer::TooSmall { bytes: 5 },
            Answer::Nothing,
            Answer::Ended,
            Answer::Loaded {
                hardware: "vah264dec".into(),
            },
            Answer::Forked { id: 4711 },
            Answer::Failed {
                failure: Failure::Broken,
                text: "why".into(),
            },
        ];
        for answer in answers {
            assert_eq!(Answer::decode(&answer.encode()), Some(answer));
        }
    }

    #[test]
    fn a_fork_request_survives_the_wire() {
        let request = ForkRequest {
            kind: WorkerKind::Stream,
            backend: Backend::Auto,
            name: "stream-gate".into(),
        };
        assert_eq!(ForkRequest::decode(&request.encode()), Some(request));
        assert_eq!(ForkRequest::decode(b"source"), None);
    }

    #[test]
    fn a_text_from_a_worker_cannot_forge_log_lines() {
        let text = "a\n2026 ERROR b\x1b[2J".to_owned() + &"x".repeat(900);
        let answer = Answer::Failed {
            failure: Failure::Damaged,
            text,
        };
        let Some(Answer::Failed { text, .. }) = Answer::decode(&answer.encode()) else {
            panic!("a failure");
        };
        assert!(
            text.starts_with("a?2026 ERROR b?[2J") && text.len() == MAX_TEXT,
            "{text}"
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Request::decode(&bytes);
            if let Some(Answer::Picture { shape, .. }) = Answer::decode(&bytes) {
                let _ = shape.planes();
            }
        }

        #[test]
        fn planes_lie_behind_each_other(width in 0..20_000u32, height in 0..20_000u32, nv12: bool) {
            let shape = shape(width, height, if nv12 { Layout::Nv12 } else { Layout::I420 });
            let Some((planes, size)) = shape.planes() else { return Ok(()) };
            let mut end = 0;
            for (i, plane) in planes.iter().enumerate() {
                let (row, rows) = shape.rows(i);
                prop_assert!(plane.offset >= end && plane.stride >= row);
                end = plane.offset + plane.stride * rows;
            }
            prop_assert!(end == size && size <= MAX_PICTURE);
        }
    }
}
