//! The coding tree of an intra slice segment (7.3.8).

use super::{
    contexts::{
        self, CBF_CHROMA, CBF_LUMA, CHROMA_QP_OFFSET_FLAG, CHROMA_QP_OFFSET_INDEX, Contexts, INTRA_CHROMA, PART_MODE,
        PREV_INTRA_LUMA, QP_DELTA, RES_SCALE, RES_SCALE_SIGN, SAO_MERGE, SAO_TYPE, SPLIT_CU, SPLIT_TRANSFORM,
        TRANSQUANT_BYPASS,
    },
    header::SliceSettings,
    neighbours::{Available, DC, Neighbours},
    pps::Pps,
    residual::{self, Block, Coding, RiceStatistics},
    scan::Scan,
    sps::{Pcm, Sps},
};
use crate::cabac::Cabac;

const PLANAR: u8 = 0;
const HORIZONTAL: u8 = 10;
const VERTICAL: u8 = 26;
/// `intra_chroma_pred_mode` 4: the mode of luma.
const DERIVED: u8 = 4;

/// What is wrong with the data of a slice segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The data ends within a coding tree unit.
    Ended,
    /// A value that no encoder writes.
    Invalid(&'static str),
}

/// What WPP and dependent slice segments carry over (9.3.2.4).
#[derive(Debug, Clone, Copy)]
pub(super) struct Saved {
    contexts: Contexts,
    rice_statistics: RiceStatistics,
}

impl Saved {
    /// The state at the start of a slice.
    pub(super) fn initial(qp: i32) -> Self {
        Self {
            contexts: contexts::initial(qp),
            rice_statistics: [0; 4],
        }
    }
}

/// A coding unit.
struct CodingUnit {
    is_lossless: bool,
    /// `PART_NxN`: four prediction blocks.
    is_split: bool,
    /// Modes of the prediction blocks, luma and chroma.
    luma: [u8; 4],
    chroma: [u8; 4],
    /// Which chroma modes are those of luma.
    is_derived: [bool; 4],
}

/// A node of a transform tree.
#[derive(Clone, Copy)]
struct Node {
    x: u32,
    y: u32,
    log2: u8,
    depth: u8,
    /// Index of the node among its siblings.
    index: u8,
    /// Index of its prediction block.
    part: u8,
    /// `cbf_cb` and `cbf_cr`; in 4:2:2, bit 1 is that of the lower half.
    cb: u8,
    cr: u8,
}

/// The state within the data of a slice segment.
pub(super) struct SliceData<'a> {
    pub(super) cabac: Cabac<'a>,
    contexts: Contexts,
    rice_statistics: RiceStatistics,
    sps: &'a Sps,
    pps: &'a Pps,
    settings: SliceSettings,
    coding: Coding,
    /// `ChromaArrayType`.
    chroma: u8,
    neighbours: &'a mut Neighbours,
    is_qp_delta_coded: bool,
    is_chroma_qp_offset_coded: bool,
}

impl<'a> SliceData<'a> {
    pub(super) fn new(
        data: &'a [u8],
        sets: (&'a Sps, &'a Pps),
        settings: SliceSettings,
        start: Saved,
        neighbours: &'a mut Neighbours,
    ) -> Self {
        let (sps, pps) = sets;
        Self {
            cabac: Cabac::new(data),
            contexts: start.contexts,
            rice_statistics: start.rice_statistics,
            sps,
            pps,
            settings,
            coding: Coding {
                max_skip_log2: if pps.transform_skip {
                    pps.range.max_transform_skip_log2
                } else {
                    0
                },
                sign_hiding: pps.sign_data_hiding,
                skip_context: sps.range.transform_skip_context,
                implicit_rdpcm: sps.range.implicit_rdpcm,
                persistent_rice: sps.range.persistent_rice,
            },
            chroma: sps.head.chroma_array_type(),
            neighbours,
            is_qp_delta_coded: false,
            is_chroma_qp_offset_coded: false,
        }
    }

    pub(super) fn save(&self) -> Saved {
        Saved {
            contexts: self.contexts,
            rice_statistics: self.rice_statistics,
        }
    }

    pub(super) fn restore(&mut self, saved: &Saved) {
        self.contexts = saved.contexts;
        self.rice_statistics = saved.rice_statistics;
    }

    /// `coding_tree_unit()` at column and row of samples `x` and `y`.
    pub(super) fn coding_tree_unit(&mut self, x: u32, y: u32, available: Available) -> Result<(), Fault> {
        let size = 1 << self.sps.ctb_log2;
        self.neighbours.enter(x, size, available);
        if self.settings.sao_luma || self.settings.sao_chroma {
            self.sample_adaptive_offset(available);
        }
        self.coding_quadtree(x, y, self.sps.ctb_log2, 0)?;
        if self.cabac.is_past_end() {
            Err(Fault::Ended)
        } else {
            Ok(())
        }
    }

    /// `sao()` (7.3.8.3).
    fn sample_adaptive_offset(&mut self, available: Available) {
        let cabac = &mut self.cabac;
        let merges = available.left && cabac.flag(&mut self.contexts[SAO_MERGE]);
        if merges || (available.above && cabac.flag(&mut self.contexts[SAO_MERGE])) {
            return;
        }
        let mut sao_type = 0;
        for component in 0..if self.chroma == 0 { 1 } else { 3 } {
            let (is_on, depth) = if component == 0 {
                (self.settings.sao_luma, self.sps.head.bit_depth_luma)
            } else {
                (self.settings.sao_chroma, self.sps.head.bit_depth_chroma)
            };
            if !is_on {
                continue;
            }
            // Both chroma components share their type and class.
            if component < 2 {
                sao_type = match cabac.bin(&mut self.contexts[SAO_TYPE]) {
                    0 => 0,
                    _ => 1 + cabac.bypass(),
                };
            }
            if sao_type == 0 {
                continue;
            }
            let max = (1 << (depth.min(10) - 5)) - 1;
            let mut not_zero = 0;
            for _ in 0..4 {
                let mut offset = 0;
                while offset < max && cabac.bypass() == 1 {
                    offset += 1;
                }
                not_zero += u32::from(offset > 0);
            }
            if sao_type == 1 {
                // Signs and band position.
                cabac.bypass_bits(not_zero + 5);
            } else if component < 2 {
                cabac.bypass_bits(2);
            }
        }
    }

    /// `coding_quadtree()` (7.3.8.4). The depth is at most 3.
    fn coding_quadtree(&mut self, x: u32, y: u32, log2: u8, depth: u8) -> Result<(), Fault> {
        let sps = self.sps;
        let (size, picture) = (1 << log2, sps.head.coded);
        let may_split = log2 > sps.min_cb_log2;
        let is_split = if x + size <= picture.width && y + size <= picture.height && may_split {
            let context = self.neighbours.deeper(x, y, depth);
            self.cabac.flag(&mut self.contexts[SPLIT_CU + context])
        } else {
            may_split
        };
        if self
            .pps
            .qp_delta_depth
            .is_some_and(|depth| log2 + depth >= sps.ctb_log2)
        {
            self.is_qp_delta_coded = false;
        }
        let offsets = self.pps.range.chroma_qp_offsets;
        if self.settings.chroma_qp_offsets && offsets.is_some_and(|o| log2 + o.depth >= sps.ctb_log2) {
            self.is_chroma_qp_offset_coded = false;
        }
        if !is_split {
            return self.coding_unit(x, y, log2, depth);
        }
        let half = size / 2;
        for (x, y) in [(x, y), (x + half, y), (x, y + half), (x + half, y + half)] {
            if x < picture.width && y < picture.height {
                self.coding_quadtree(x, y, log2 - 1, depth + 1)?;
            }
        }
        Ok(())
    }

    /// `coding_unit()` (7.3.8.5).
    fn coding_unit(&mut self, x: u32, y: u32, log2: u8, depth: u8) -> Result<(), Fault> {
        let is_lossless = self.pps.transquant_bypass && self.cabac.flag(&mut self.contexts[TRANSQUANT_BYPASS]);
        let is_split = log2 == self.sps.min_cb_log2 && !self.cabac.flag(&mut self.contexts[PART_MODE]);
        self.neighbours.note_depth(x, y, log2, depth);
        if let Some(pcm) = self.sps.pcm
            && !is_split
            && (pcm.min_log2..=pcm.max_log2).contains(&log2)
            && self.cabac.terminate()
        {
            self.neighbours.note_mode(x, y, log2, DC);
            return self.skip_pcm(pcm, log2);
        }
        let mut unit = CodingUnit {
            is_lossless,
            is_split,
            luma: [0; 4],
            chroma: [0; 4],
            is_derived: [false; 4],
        };
        self.prediction(&mut unit, x, y, log2);
        let chroma = u8::from(self.chroma != 0);
        self.transform_tree(
            &unit,
            Node {
                x,
                y,
                log2,
                depth: 0,
                index: 0,
                part: 0,
                cb: chroma,
                cr: chroma,
            },
        )
    }

    /// `pcm_sample()` (7.3.8.7), after which the arithmetic decoder starts anew.
    fn skip_pcm(&mut self, pcm: Pcm, log2: u8) -> Result<(), Fault> {
        let start = self.cabac.end().ok_or(Fault::Invalid("alignment"))?;
        let samples = 1_usize << (2 * log2);
        let chroma = match self.chroma {
            0 => 0,
            1 => samples / 2,
            2 => samples,
            _ => samples * 2,
        };
        let bits = samples * usize::from(pcm.bits_luma) + chroma * usize::from(pcm.bits_chroma);
        self.cabac.restart(start + bits.div_ceil(8));
        Ok(())
    }

    /// The prediction modes of a coding unit.
    fn prediction(&mut self, unit: &mut CodingUnit, x: u32, y: u32, log2: u8) {
        let parts = if unit.is_split { 4 } else { 1 };
        let mut is_probable = [false; 4];
        for flag in &mut is_probable[..parts] {
            *flag = self.cabac.flag(&mut self.contexts[PREV_INTRA_LUMA]);
        }
        let part_log2 = log2 - u8::from(unit.is_split);
        let half = 1_u32 << part_log2;
        for (part, is_probable) in is_probable[..parts].iter().enumerate() {
            let (x, y) = (x + half * (part as u32 & 1), y + half * (part as u32 >> 1));
            let mode = self.luma_mode(*is_probable, x, y);
            unit.luma[part] = mode;
            self.neighbours.note_mode(x, y, part_log2, mode);
        }
        if !unit.is_split {
            unit.luma = [unit.luma[0]; 4];
        }
        match self.chroma {
            0 => {}
            3 => {
                for part in 0..parts {
                    (unit.chroma[part], unit.is_derived[part]) = self.chroma_mode(unit.luma[part]);
                }
                if !unit.is_split {
                    unit.chroma = [unit.chroma[0]; 4];
                    unit.is_derived = [unit.is_derived[0]; 4];
                }
            }
            _ => {
                let (mode, is_derived) = self.chroma_mode(unit.luma[0]);
                let mode = if self.chroma == 2 {
                    MODES_4_2_2[usize::from(mode) % MODES_4_2_2.len()]
                } else {
                    mode
                };
                (unit.chroma, unit.is_derived) = ([mode; 4], [is_derived; 4]);
            }
        }
    }

    /// `mpm_idx` or `rem_intra_luma_pred_mode`, and the mode it stands for (8.4.2).
    fn luma_mode(&mut self, is_probable: bool, x: u32, y: u32) -> u8 {
        let (left, above) = self.neighbours.modes(x, y);
        let mut probable = if left != above {
            let third = [PLANAR, DC, VERTICAL].into_iter().find(|m| *m != left && *m != above);
            [left, above, third.unwrap_or(VERTICAL)]
        } else if left < 2 {
            [PLANAR, DC, VERTICAL]
        } else {
            [left, 2 + (left + 29) % 32, 2 + (left - 2 + 1) % 32]
        };
        if is_probable {
            let index = match self.cabac.bypass() {
                0 => 0,
                _ => 1 + self.cabac.bypass(),
            };
            return probable[index as usize % 3];
        }
        let mut mode = self.cabac.bypass_bits(5) as u8;
        probable.sort_unstable();
        for candidate in probable {
            mode += u8::from(mode >= candidate);
        }
        mode
    }

    /// `intra_chroma_pred_mode`, and the mode it stands for (8.4.3) before the conversion for 4:2:2; whether it is that of luma.
    fn chroma_mode(&mut self, luma: u8) -> (u8, bool) {
        let coded = match self.cabac.bin(&mut self.contexts[INTRA_CHROMA]) {
            0 => DERIVED,
            _ => self.cabac.bypass_bits(2) as u8,
        };
        let mode = match coded {
            0 => PLANAR,
            1 => VERTICAL,
            2 => HORIZONTAL,
            3 => DC,
            _ => return (luma, true),
        };
        (if mode == luma { 34 } else { mode }, false)
    }

    /// `transform_tree()` (7.3.8.8); `node` has the flags of its parent. The depth is at most 4.
    fn transform_tree(&mut self, unit: &CodingUnit, mut node: Node) -> Result<(), Fault> {
        let (sps, log2, depth) = (self.sps, node.log2, node.depth);
        let is_forced = unit.is_split && depth == 0;
        let may_split = log2 <= sps.max_tb_log2
            && log2 > sps.min_tb_log2
            && depth < sps.max_transform_depth + u8::from(unit.is_split)
            && !is_forced;
        let is_split = if may_split {
            self.cabac
                .flag(&mut self.contexts[SPLIT_TRANSFORM + usize::from(5 - log2.min(5))])
        } else {
            log2 > sps.max_tb_log2 || is_forced
        };
        if (log2 > 2 && self.chroma != 0) || self.chroma == 3 {
            let has_two = self.chroma == 2 && (!is_split || log2 == 3);
            node.cb = self.cbf_chroma(node.cb, depth, has_two);
            node.cr = self.cbf_chroma(node.cr, depth, has_two);
        }
        if !is_split {
            let has_luma = self.cabac.flag(&mut self.contexts[CBF_LUMA + usize::from(depth == 0)]);
            return self.transform_unit(unit, node, has_luma);
        }
        let half = 1 << (log2 - 1);
        for index in 0..4 {
            let (right, down) = (u32::from(index & 1), u32::from(index >> 1));
            self.transform_tree(
                unit,
                Node {
                    x: node.x + half * right,
                    y: node.y + half * down,
                    log2: log2 - 1,
                    depth: depth + 1,
                    index,
                    part: if is_forced { index } else { node.part },
                    ..node
                },
            )?;
        }
        Ok(())
    }

    /// `cbf_cb` or `cbf_cr` of a node; `parent` is that of its parent.
    #[inline]
    fn cbf_chroma(&mut self, parent: u8, depth: u8, has_two: bool) -> u8 {
        if parent == 0 {
            return 0;
        }
        let context = CBF_CHROMA + usize::from(depth.min(4));
        let mut flags = self.cabac.bin(&mut self.contexts[context]) as u8;
        if has_two {
            flags |= (self.cabac.bin(&mut self.contexts[context]) as u8) << 1;
        }
        flags
    }

    /// `transform_unit()` (7.3.8.10).
    fn transform_unit(&mut self, unit: &CodingUnit, node: Node, has_luma: bool) -> Result<(), Fault> {
        let has_chroma = node.cb | node.cr != 0;
        if !has_luma && !has_chroma {
            return Ok(());
        }
        self.qp_delta()?;
        if has_chroma && !unit.is_lossless {
            self.chroma_qp_offset();
        }
        let part = usize::from(node.part & 3);
        if has_luma {
            self.residual(unit, node.log2, false, unit.luma[part])?;
        }
        if self.chroma == 0 {
            return Ok(());
        }
        // Four luma blocks of 4×4 share the chroma blocks of the last.
        let is_shared = node.log2 == 2 && self.chroma != 3;
        if is_shared && node.index != 3 {
            return Ok(());
        }
        let log2 = if self.chroma == 3 {
            node.log2
        } else {
            (node.log2 - 1).max(2)
        };
        let may_predict = self.pps.range.cross_component_prediction && has_luma && unit.is_derived[part];
        for (component, flags) in [node.cb, node.cr].into_iter().enumerate() {
            if self.chroma == 3 && may_predict {
                self.cross_component_prediction(component);
            }
            for half in 0..if self.chroma == 2 { 2 } else { 1 } {
                if flags >> half & 1 == 1 {
                    self.residual(unit, log2, true, unit.chroma[part])?;
                }
            }
        }
        Ok(())
    }

    /// `delta_qp()` (7.3.8.14).
    fn qp_delta(&mut self) -> Result<(), Fault> {
        if self.pps.qp_delta_depth.is_none() || self.is_qp_delta_coded {
            return Ok(());
        }
        self.is_qp_delta_coded = true;
        let mut value = 0;
        while value < 5 && self.cabac.flag(&mut self.contexts[QP_DELTA + usize::from(value > 0)]) {
            value += 1;
        }
        if value == 5 {
            let mut order = 0;
            while self.cabac.bypass() == 1 {
                order += 1;
                if order > 7 {
                    return Err(Fault::Invalid("quantiser"));
                }
            }
            value += (1 << order) - 1 + self.cabac.bypass_bits(order) as i32;
        }
        if value > 0 && self.cabac.bypass() == 1 {
            value = -value;
        }
        // 7.4.9.14.
        let spare = 3 * (i32::from(self.sps.head.bit_depth_luma) - 8);
        if (-(26 + spare)..=25 + spare).contains(&value) {
            Ok(())
        } else {
            Err(Fault::Invalid("quantiser"))
        }
    }

    /// `chroma_qp_offset()` (7.3.8.14).
    fn chroma_qp_offset(&mut self) {
        let Some(offsets) = self.pps.range.chroma_qp_offsets else {
            return;
        };
        if !self.settings.chroma_qp_offsets || self.is_chroma_qp_offset_coded {
            return;
        }
        self.is_chroma_qp_offset_coded = true;
        if self.cabac.flag(&mut self.contexts[CHROMA_QP_OFFSET_FLAG]) {
            let mut index = 0;
            while index < offsets.max_index && self.cabac.flag(&mut self.contexts[CHROMA_QP_OFFSET_INDEX]) {
                index += 1;
            }
        }
    }

    /// `cross_comp_pred()` (7.3.8.12).
    fn cross_component_prediction(&mut self, component: usize) {
        let mut scale = 0;
        while scale < 4 && self.cabac.flag(&mut self.contexts[RES_SCALE + 4 * component + scale]) {
            scale += 1;
        }
        if scale > 0 {
            self.cabac.bin(&mut self.contexts[RES_SCALE_SIGN + component]);
        }
    }

    fn residual(&mut self, unit: &CodingUnit, log2: u8, is_chroma: bool, mode: u8) -> Result<(), Fault> {
        // 7.4.9.11: small blocks are scanned across the direction of prediction.
        let depends_on_mode = log2 == 2 || (log2 == 3 && (!is_chroma || self.chroma == 3));
        let scan = match mode {
            6..=14 if depends_on_mode => Scan::Vertical,
            22..=30 if depends_on_mode => Scan::Horizontal,
            _ => Scan::Diagonal,
        };
        let block = Block {
            log2,
            is_chroma,
            mode,
            scan,
            is_lossless: unit.is_lossless,
        };
        residual::read(
            &mut self.cabac,
            &mut self.contexts,
            &mut self.rice_statistics,
            self.coding,
            block,
        )
    }
}

/// Table 8-3: modes of 4:2:2 chroma by those of 4:4:4.
static MODES_4_2_2: [u8; 35] = [
    0, 1, 2, 2, 2, 2, 3, 5, 7, 8, 10, 11, 13, 15, 16, 18, 19, 20, 21, 22, 23, 23, 24, 24, 25, 25, 26, 27, 27, 28, 28,
    29, 29, 30, 31,
];
