//! The NAL units of an access unit: which begin a picture, which are parameter sets, and what is written.

use std::time::Instant;

use gridwatch_bitstream::{
    h264, h265,
    nal::{self, START_CODE},
};
use memchr::memmem;

use super::{NalAssembler, OpenFragment, UnitState};
use crate::{
    depacketize::{Fragment, NalKind, Syntax},
    outputs::Outputs,
    parameter_sets::{MAX_SET_BYTES, SetOutcome, SetType},
    problem::StreamProblem,
    video::Assemble,
};

/// Bytes of SEI and the like kept before the first slice of a unit; what is beyond is left out, because no picture
/// needs it.
const MAX_PREFIX: usize = 16 << 10;
/// Capacity that the buffer of a fragmented SEI or parameter set keeps.
const MAX_IDLE_SCRATCH: usize = 4 << 10;

impl NalAssembler {
    /// Takes a NAL unit, or what some cameras send in its place: several of them with start codes. Returns whether
    /// there was a slice.
    pub(super) fn nal_or_stream(&mut self, nal: &[u8], at: Instant, out: &mut Outputs) -> bool {
        let header = header(nal);
        let is_slice = matches!(self.syntax.kind(header), NalKind::Slice { .. }) && !self.syntax.is_forbidden(header);
        // A start code within a slice is right where it is: the slices after it are written along with it.
        if is_slice || memmem::find(nal, &START_CODE[1..]).is_none() {
            return self.nal(nal, at, out);
        }
        let mut has_slice = false;
        for nal in nal::split(nal) {
            has_slice |= self.nal(nal, at, out);
        }
        has_slice
    }

    fn nal(&mut self, nal: &[u8], at: Instant, out: &mut Outputs) -> bool {
        self.close_fragment(at, out);
        let header = header(nal);
        let is_forbidden = self.syntax.is_forbidden(header);
        self.damage_if_forbidden(header);
        match self.syntax.kind(header) {
            NalKind::Slice { is_random_access } => {
                let body = nal.get(self.syntax.header_len()..).unwrap_or_default();
                if self.slice_begins(is_random_access, header, body, at, out) {
                    self.damage_if_forbidden(header);
                    self.write(&[&START_CODE, nal], at, out);
                }
                true
            }
            NalKind::Set(kind) if !is_forbidden => {
                self.set(kind, nal, at, out);
                false
            }
            NalKind::Other if !is_forbidden => {
                self.write_other(nal, at, out);
                false
            }
            _ => false,
        }
    }

    fn damage_if_forbidden(&mut self, header: [u8; 2]) {
        if self.syntax.is_forbidden(header) {
            self.damage();
        }
    }

    /// Takes a part of a NAL unit. Returns whether it is of a slice.
    pub(super) fn fragment(&mut self, fragment: &Fragment<'_>, at: Instant, out: &mut Outputs) -> bool {
        let kind = self.syntax.kind(fragment.header);
        let is_slice = matches!(kind, NalKind::Slice { .. });
        self.damage_if_forbidden(fragment.header);
        if fragment.is_start {
            self.close_fragment(at, out);
            self.fragment_begins(kind, fragment, at, out);
        } else {
            self.fragment_continues(kind, fragment, at, out);
        }
        if fragment.is_end {
            // One that is also the start stands for a whole NAL unit behind a decoding order number.
            self.has_end_bits |= !fragment.is_start;
            // Some cameras put a whole access unit into what begins as a parameter set.
            return self.end_fragment(at, out) || is_slice;
        }
        is_slice
    }

    fn fragment_begins(&mut self, kind: NalKind, fragment: &Fragment<'_>, at: Instant, out: &mut Outputs) {
        let header = fragment.header;
        let written = &header[..self.syntax.header_len()];
        match kind {
            NalKind::Slice { is_random_access } => {
                self.fragment = OpenFragment::Ignored(header);
                if self.slice_begins(is_random_access, header, fragment.data, at, out) {
                    self.damage_if_forbidden(header);
                    self.fragment = OpenFragment::Slice(header);
                    self.write(&[&START_CODE, written, fragment.data], at, out);
                }
            }
            NalKind::Dispensable => self.fragment = OpenFragment::Ignored(header),
            NalKind::Set(_) | NalKind::Other => {
                self.fragment = OpenFragment::Other(header);
                self.scratch.clear();
                self.scratch.extend_from_slice(written);
                self.collect(fragment.data, at, out);
            }
        }
    }

    fn fragment_continues(&mut self, kind: NalKind, fragment: &Fragment<'_>, at: Instant, out: &mut Outputs) {
        match self.fragment {
            OpenFragment::Slice(header) if header == fragment.header => {
                self.slice_continues();
                self.write(&[fragment.data], at, out);
            }
            OpenFragment::Other(header) if header == fragment.header => self.collect(fragment.data, at, out),
            OpenFragment::Ignored(header) if header == fragment.header => self.slice_continues(),
            // Its beginning is missing.
            _ => {
                self.damage();
                self.fragment = OpenFragment::Lost;
                if let NalKind::Slice { is_random_access } = kind {
                    self.slice_without_beginning(is_random_access, at, out);
                }
            }
        }
    }

    /// The end bit came. Returns whether the unit turned out to contain a slice.
    fn end_fragment(&mut self, at: Instant, out: &mut Outputs) -> bool {
        let fragment = std::mem::replace(&mut self.fragment, OpenFragment::None);
        if !matches!(fragment, OpenFragment::Other(_)) {
            return false;
        }
        let mut scratch = std::mem::take(&mut self.scratch);
        let has_slice = self.nal_or_stream(&scratch, at, out);
        if scratch.capacity() <= MAX_IDLE_SCRATCH {
            scratch.clear();
            self.scratch = scratch;
        }
        has_slice
    }

    /// Another NAL unit begins. An open fragment is complete if no packet was lost and the camera never sets the end
    /// bit.
    fn close_fragment(&mut self, at: Instant, out: &mut Outputs) {
        match self.fragment {
            OpenFragment::None | OpenFragment::Lost => {}
            _ if self.has_end_bits => self.damage(),
            _ => {
                self.end_fragment(at, out);
            }
        }
        self.fragment = OpenFragment::None;
    }

    fn collect(&mut self, data: &[u8], at: Instant, out: &mut Outputs) {
        if self.scratch.len() + self.data.len() + data.len() > self.limit {
            self.oversized(at, out);
            return;
        }
        self.scratch.extend_from_slice(data);
    }

    /// A slice begins: decides what becomes of its unit. Returns whether it is to be written.
    fn slice_begins(&mut self, is_random: bool, header: [u8; 2], body: &[u8], at: Instant, out: &mut Outputs) -> bool {
        let is_first = self.syntax.is_first_slice(body);
        let Some(unit) = &self.unit else { return false };
        let (timestamp, state) = (unit.timestamp, unit.state);
        // Two pictures under one timestamp, unless they may be the fields of one frame.
        let starts_picture = is_first
            && match state {
                UnitState::Undecided => false,
                UnitState::Skipped => is_random,
                UnitState::Done => is_random && self.are_pictures_frames(),
                UnitState::Keyframe | UnitState::Delta => self.are_pictures_frames() && unit.has_slice,
            };
        if starts_picture {
            self.begin_unit(timestamp, at, out);
        } else {
            self.slice_continues();
        }
        match self.unit.as_ref().map(|unit| unit.state) {
            Some(UnitState::Undecided) => {
                self.decide(is_random, is_first, slice_pps(self.syntax, header, body), at, out)
            }
            Some(UnitState::Keyframe | UnitState::Delta) => true,
            _ => false,
        }
    }

    /// A slice, or a part of one, that starts no picture: the marker before it did not end the unit.
    fn slice_continues(&mut self) {
        if self.is_marked() {
            self.ends.marker_was_wrong();
        }
    }

    fn slice_without_beginning(&mut self, is_random: bool, at: Instant, out: &mut Outputs) {
        self.slice_continues();
        if self
            .unit
            .as_ref()
            .is_some_and(|unit| unit.state == UnitState::Undecided)
        {
            self.decide(is_random, false, None, at, out);
        }
    }

    fn are_pictures_frames(&self) -> bool {
        self.syntax != Syntax::H264 || self.sets.parameters().is_some_and(|p| p.frames_only)
    }

    /// The first slice of a unit came. Returns whether the unit is assembled.
    fn decide(&mut self, is_random: bool, is_first: bool, pps: Option<u32>, at: Instant, out: &mut Outputs) -> bool {
        out.counters.access_units += 1;
        let is_decodable = self.sets.is_decodable();
        let Some(unit) = &mut self.unit else { return false };
        if !is_random {
            out.delta_begins(at);
            if self.assemble == Assemble::Keyframes {
                unit.state = UnitState::Skipped;
                self.prefix.clear();
                return false;
            }
        }
        unit.state = if is_random {
            UnitState::Keyframe
        } else {
            UnitState::Delta
        };
        unit.is_keyframe = is_random;
        unit.is_damaged |= !is_first;
        let sets_len = if is_random || self.sets_came {
            self.sets.written_len()
        } else {
            0
        };
        let usual = if is_random {
            self.keyframe_len + self.keyframe_len / 8
        } else {
            0
        };
        self.data = Vec::with_capacity((sets_len + self.prefix.len()).max(usual).min(self.limit));
        if is_random {
            self.sets.activate(pps);
            if !is_decodable {
                unit.is_damaged = true;
                out.problem(StreamProblem::MissingParameterSets, at);
            }
        }
        if sets_len > 0 {
            self.sets.write(&mut self.data);
        }
        self.data.extend_from_slice(&self.prefix);
        self.prefix.clear();
        true
    }

    fn set(&mut self, kind: SetType, nal: &[u8], at: Instant, out: &mut Outputs) {
        self.sets_came = true;
        match self.sets.insert(kind, nal) {
            SetOutcome::Known => {}
            // Between the slices of a unit: a later slice may refer to it.
            SetOutcome::Stored if self.is_assembling() => self.write(&[&START_CODE, nal], at, out),
            SetOutcome::Stored => {}
            SetOutcome::Refused => {
                out.counters.refused_parameter_sets += 1;
                out.problem(StreamProblem::UnreadableParameterSet { limit: MAX_SET_BYTES }, at);
                self.damage();
            }
        }
    }

    fn write_other(&mut self, nal: &[u8], at: Instant, out: &mut Outputs) {
        if self.is_assembling() {
            self.write(&[&START_CODE, nal], at, out);
        } else if self
            .unit
            .as_ref()
            .is_some_and(|unit| unit.state == UnitState::Undecided)
            && self.prefix.len() + nal.len() <= MAX_PREFIX
        {
            self.prefix.extend_from_slice(&START_CODE);
            self.prefix.extend_from_slice(nal);
        }
    }

    fn is_assembling(&self) -> bool {
        let state = self.unit.as_ref().map(|unit| unit.state);
        matches!(state, Some(UnitState::Keyframe | UnitState::Delta))
    }

    /// Appends to the unit, within its limit.
    fn write(&mut self, parts: &[&[u8]], at: Instant, out: &mut Outputs) {
        if !self.is_assembling() {
            return;
        }
        let len: usize = parts.iter().map(|part| part.len()).sum();
        if self.data.len() + len > self.limit {
            self.oversized(at, out);
            return;
        }
        for part in parts {
            self.data.extend_from_slice(part);
        }
    }

    fn oversized(&mut self, at: Instant, out: &mut Outputs) {
        out.counters.oversized += 1;
        out.problem(StreamProblem::OversizedUnit { limit: self.limit }, at);
        self.data = Vec::new();
        self.scratch = Vec::new();
        self.prefix.clear();
        self.fragment = OpenFragment::Lost;
        if let Some(unit) = &mut self.unit {
            unit.state = UnitState::Done;
        }
    }
}

/// The first two bytes; missing ones are 0.
fn header(nal: &[u8]) -> [u8; 2] {
    let byte = |at: usize| nal.get(at).copied().unwrap_or_default();
    [byte(0), byte(1)]
}

/// Id of the PPS of a slice.
fn slice_pps(syntax: Syntax, header: [u8; 2], body: &[u8]) -> Option<u32> {
    match syntax {
        Syntax::H264 => h264::slice_pps_id(body),
        Syntax::H265 { .. } => h265::slice_pps_id(header[0], body),
    }
}
