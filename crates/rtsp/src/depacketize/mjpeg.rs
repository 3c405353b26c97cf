//! The payload format of JPEG (RFC 2435): headers of the packets, and the JFIF header that the pictures need.

mod header;
mod tables;

use std::time::Instant;

use self::header::{JpegHeader, QuantizationTables, write_header};
use crate::{
    outputs::Outputs,
    parameter_sets::fmtp_value,
    problem::StreamProblem,
    rtp::RtpPacket,
    unit::UnitEnds,
    video::{AccessUnit, UnitKind, VideoCodec, VideoParameters},
};

/// Quantisation tables kept by their Q. Cameras use one Q, or a few when they adapt to the line.
const MAX_CACHED_TABLES: usize = 8;
/// The end of a JPEG.
const END_OF_IMAGE: [u8; 2] = [0xff, 0xd9];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum PictureState {
    /// The first fragment has not come.
    Beginning,
    /// So many bytes of entropy-coded data came, in order.
    Scan { expected_offset: u32 },
    /// The beginning or a part is lost, or cannot be used.
    Unusable,
    /// Handed out or dropped.
    Done,
}

#[derive(Debug)]
struct Picture {
    timestamp: u32,
    first_packet_at: Instant,
    last_packet_at: Instant,
    state: PictureState,
    is_marked: bool,
    is_damaged: bool,
}

/// Assembles the pictures of one stream.
#[derive(Debug)]
pub(crate) struct JpegAssembler {
    limit: usize,
    /// Width and height by SDP, for pictures larger than the 2,040 pixels that the packets can say.
    size_by_sdp: Option<(u16, u16)>,
    picture: Option<Picture>,
    data: Vec<u8>,
    picture_len: usize,
    loss_before: bool,
    ends: UnitEnds,
    tables: Vec<(u8, QuantizationTables)>,
    parameters: Option<VideoParameters>,
}

impl JpegAssembler {
    pub(crate) fn new(fmtp: &str, limit: usize) -> Self {
        Self {
            limit,
            size_by_sdp: size_by_sdp(fmtp),
            picture: None,
            data: Vec::new(),
            picture_len: 0,
            loss_before: false,
            ends: UnitEnds::default(),
            tables: Vec::new(),
            parameters: None,
        }
    }

    pub(crate) fn parameters(&self) -> Option<&VideoParameters> {
        self.parameters.as_ref()
    }

    pub(crate) fn packet(&mut self, packet: &RtpPacket<'_>, after_loss: bool, at: Instant, out: &mut Outputs) {
        if after_loss {
            self.loss_before = true;
            self.ends.lost(at);
            self.damage();
        }
        if packet.payload.is_empty() {
            return;
        }
        let header = JpegHeader::parse(packet.payload);
        let is_beginning = header.as_ref().is_some_and(|(header, _)| header.offset == 0);
        self.enter_picture(packet.timestamp, is_beginning, at, out);
        match header {
            Some((header, rest)) => self.fragment(&header, rest, at, out),
            None => {
                out.counters.malformed_packets += 1;
                self.damage();
            }
        }
        self.loss_before = false;
        if let Some(picture) = &mut self.picture {
            picture.is_marked = packet.marker;
        }
        if packet.marker && self.ends.is_marker_trusted() {
            self.finish(out);
        }
    }

    /// Makes the picture of this timestamp the current one. A second beginning is a second picture, whatever the
    /// timestamp.
    fn enter_picture(&mut self, timestamp: u32, is_beginning: bool, at: Instant, out: &mut Outputs) {
        if let Some(picture) = &mut self.picture {
            if picture.timestamp == timestamp && !(is_beginning && picture.state != PictureState::Beginning) {
                if picture.is_marked {
                    self.ends.marker_was_wrong();
                }
                self.ends
                    .pause(at.saturating_duration_since(picture.last_packet_at), at);
                picture.last_packet_at = at;
                return;
            }
            self.ends.unit_ended(picture.is_marked, !picture.is_damaged);
        }
        self.finish(out);
        out.counters.access_units += 1;
        self.picture = Some(Picture {
            timestamp,
            first_packet_at: at,
            last_packet_at: at,
            state: PictureState::Beginning,
            is_marked: false,
            is_damaged: self.loss_before,
        });
    }

    fn fragment(&mut self, header: &JpegHeader, mut rest: &[u8], at: Instant, out: &mut Outputs) {
        let Some(state) = self.picture.as_ref().map(|picture| picture.state) else {
            return;
        };
        let expected = match state {
            PictureState::Beginning if header.offset == 0 => match self.begin(header, rest, out) {
                Ok(scan) => {
                    rest = scan;
                    0
                }
                Err(reason) => {
                    out.problem(StreamProblem::UnusableJpeg { reason }, at);
                    return self.give_up();
                }
            },
            PictureState::Scan { expected_offset } => expected_offset,
            PictureState::Done => return,
            PictureState::Beginning | PictureState::Unusable => return self.give_up(),
        };
        if header.offset != expected {
            return self.give_up();
        }
        if self.data.len() + rest.len() + END_OF_IMAGE.len() > self.limit {
            out.counters.oversized += 1;
            out.problem(StreamProblem::OversizedUnit { limit: self.limit }, at);
            self.data = Vec::new();
            self.set_state(PictureState::Done);
            return;
        }
        self.data.extend_from_slice(rest);
        // The limit is far below 2³².
        self.set_state(PictureState::Scan {
            expected_offset: expected + rest.len() as u32,
        });
    }

    /// Writes the header of a picture. Returns the entropy-coded data of its first packet, or why there can be no
    /// header.
    fn begin<'a>(&mut self, header: &JpegHeader, rest: &'a [u8], out: &mut Outputs) -> Result<&'a [u8], &'static str> {
        let (tables, scan) = match header.q {
            0 => return Err("the value 0 of Q is reserved; update the camera's firmware"),
            q @ 1..=127 => (QuantizationTables::standard(q), rest),
            q => {
                let (in_band, scan) = QuantizationTables::parse(rest)
                    .ok_or("a quantisation table is cut off; update the camera's firmware")?;
                let tables = match in_band {
                    Some(tables) => self.remember(q, tables),
                    None => self.recall(q).ok_or("its quantisation tables have not come yet")?,
                };
                (tables, scan)
            }
        };
        let (width, height) = match (header.width, header.height) {
            (0, _) | (_, 0) => self
                .size_by_sdp
                .ok_or("it is larger than 2040 pixels and SDP has no x-dimensions; lower the camera's resolution")?,
            size => size,
        };
        if header.chroma_format_idc().is_none() {
            out.counters.unsupported_packets += 1;
            return Err("its type is not 0, 1, 64 or 65; set the camera to H.264");
        }
        self.parameters = Some(VideoParameters {
            codec: VideoCodec::Jpeg,
            profile_idc: 0,
            level_idc: 0,
            chroma_format_idc: header.chroma_format_idc().unwrap_or(1),
            separate_colour_planes: false,
            bit_depth_luma: 8,
            bit_depth_chroma: 8,
            width: width.into(),
            height: height.into(),
        });
        self.data = Vec::with_capacity((self.picture_len + self.picture_len / 8).min(self.limit));
        write_header(&mut self.data, header, &tables, width, height);
        Ok(scan)
    }

    fn remember(&mut self, q: u8, tables: QuantizationTables) -> QuantizationTables {
        self.tables.retain(|(of, _)| *of != q);
        if self.tables.len() == MAX_CACHED_TABLES {
            self.tables.remove(0);
        }
        // Tables of Q 255 change from picture to picture (RFC 2435, 4.2).
        if q != 255 {
            self.tables.push((q, tables.clone()));
        }
        tables
    }

    fn recall(&self, q: u8) -> Option<QuantizationTables> {
        self.tables
            .iter()
            .find(|(of, _)| *of == q)
            .map(|(_, tables)| tables.clone())
    }

    fn set_state(&mut self, state: PictureState) {
        if let Some(picture) = &mut self.picture {
            picture.state = state;
        }
    }

    fn damage(&mut self) {
        if let Some(picture) = &mut self.picture {
            picture.is_damaged = true;
        }
    }

    /// A fragment is missing or unusable. What came before it is still handed out, marked as incomplete.
    fn give_up(&mut self) {
        self.damage();
        self.set_state(PictureState::Unusable);
    }

    fn finish(&mut self, out: &mut Outputs) {
        let Some(picture) = &mut self.picture else { return };
        if picture.state == PictureState::Done {
            return;
        }
        picture.state = PictureState::Done;
        let mut data = std::mem::take(&mut self.data);
        if data.is_empty() {
            // Not even its header: there is nothing to hand out.
            out.counters.damaged_keyframes += 1;
            return;
        }
        if !data.ends_with(&END_OF_IMAGE) {
            data.extend_from_slice(&END_OF_IMAGE);
        }
        if data.capacity() - data.len() > data.len() / 4 {
            data.shrink_to_fit();
        }
        self.picture_len = data.len();
        out.unit(AccessUnit {
            kind: UnitKind::Keyframe,
            data,
            rtp_timestamp: picture.timestamp,
            first_packet_at: picture.first_packet_at,
            last_packet_at: picture.last_packet_at,
            is_complete: !picture.is_damaged,
        });
    }

    fn is_marked(&self) -> bool {
        self.picture.as_ref().is_some_and(|picture| picture.is_marked)
    }

    pub(crate) fn restart(&mut self, out: &mut Outputs) {
        if !self.ends.is_end_certain(self.is_marked()) {
            self.damage();
        }
        self.finish(out);
        self.picture = None;
        self.loss_before = false;
    }

    pub(crate) fn flush(&mut self, out: &mut Outputs) {
        self.finish(out);
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        let picture = self.picture.as_ref()?;
        let is_open = matches!(picture.state, PictureState::Scan { .. });
        is_open
            .then(|| self.ends.quiet_end(picture.is_marked, picture.last_packet_at))
            .flatten()
    }

    pub(crate) fn timeout(&mut self, now: Instant, out: &mut Outputs) {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.finish(out);
        }
    }
}

/// The size of pictures in SDP: `x-dimensions` as Axis writes it, or the `framesize` of 3GPP (TS 26.234, 5.3.3.2), if
/// the caller has put them among the format parameters. Any separator counts.
fn size_by_sdp(fmtp: &str) -> Option<(u16, u16)> {
    let value = fmtp_value(fmtp, "x-dimensions").or_else(|| {
        let value = fmtp_value(fmtp, "framesize")?;
        // The payload type may come first.
        Some(value.rsplit(char::is_whitespace).next().unwrap_or(value))
    })?;
    let mut numbers = value
        .split(|c: char| !c.is_ascii_digit())
        .filter(|number| !number.is_empty())
        .map(|number| number.parse().ok().filter(|n| *n > 0));
    Some((numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests;
