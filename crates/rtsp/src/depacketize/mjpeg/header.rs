//! The headers of RFC 2435, 3.1, and the JPEG header made of them (RFC 2435, appendix B; ITU-T T.81, annex B).

use super::tables;

/// The main header, with the restart header of types 64 and 65.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct JpegHeader {
    /// Of the packet's data within the scan.
    pub(super) offset: u32,
    kind: u8,
    pub(super) q: u8,
    /// In pixels; 0 if it does not fit into 8 bits of 8 pixels.
    pub(super) width: u16,
    pub(super) height: u16,
    restart_interval: Option<u16>,
}

impl JpegHeader {
    /// The header, and what follows it.
    pub(super) fn parse(payload: &[u8]) -> Option<(Self, &[u8])> {
        let (&[_, o0, o1, o2, kind, q, width, height], mut rest) = payload.split_first_chunk::<8>()?;
        let mut restart_interval = None;
        if (64..128).contains(&kind) {
            // The flags and count after the interval are for those who decode fragments on their own.
            let (&[hi, lo, _, _], after) = rest.split_first_chunk::<4>()?;
            restart_interval = Some(u16::from_be_bytes([hi, lo]));
            rest = after;
        }
        let header = Self {
            offset: u32::from_be_bytes([0, o0, o1, o2]),
            kind,
            q,
            width: u16::from(width) * 8,
            height: u16::from(height) * 8,
            restart_interval,
        };
        Some((header, rest))
    }

    /// 2 (4:2:2) for types 0 and 64, 1 (4:2:0) for 1 and 65.
    pub(super) fn chroma_format_idc(&self) -> Option<u8> {
        match self.kind {
            0 | 64 => Some(2),
            1 | 65 => Some(1),
            _ => None,
        }
    }
}

/// Up to four tables in zigzag order, as DQT has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct QuantizationTables {
    /// Bit i: table i has 16-bit values.
    precision: u8,
    bytes: Vec<u8>,
}

impl QuantizationTables {
    /// The tables that the Independent JPEG Group's quality factor gives (RFC 2435, 4.2). Values above 99 are reserved,
    /// and sent by cameras that mean 99.
    pub(super) fn standard(q: u8) -> Self {
        let factor = u32::from(q.clamp(1, 99));
        let scale = if factor < 50 { 5_000 / factor } else { 200 - factor * 2 };
        let bytes = tables::LUMA_QUANTIZER.iter().chain(&tables::CHROMA_QUANTIZER);
        Self {
            precision: 0,
            bytes: bytes
                .map(|v| ((u32::from(*v) * scale + 50) / 100).clamp(1, 255) as u8)
                .collect(),
        }
    }

    /// The quantisation table header (3.1.8): its tables, `None` if it has none, and what follows it. The outer `None`:
    /// it is cut off, or its tables are incomplete.
    pub(super) fn parse(payload: &[u8]) -> Option<(Option<Self>, &[u8])> {
        let (&[_, precision, hi, lo], rest) = payload.split_first_chunk::<4>()?;
        let (bytes, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes([hi, lo])))?;
        if bytes.is_empty() {
            return Some((None, rest));
        }
        let tables = Self {
            precision,
            bytes: bytes.to_vec(),
        };
        // Those past the second are not used, but some cameras send them.
        tables.table(0)?;
        Some((Some(tables), rest))
    }

    /// A table and whether it has 16-bit values. `None` if it is missing or a value is 0.
    pub(super) fn table(&self, index: u8) -> Option<(&[u8], bool)> {
        let len = |i: u8| if self.precision >> i & 1 == 1 { 128 } else { 64 };
        let start: usize = (0..index).map(len).sum();
        let table = self.bytes.get(start..start + len(index))?;
        Some((table, len(index) == 128))
    }

    fn has_chroma(&self) -> bool {
        self.table(1).is_some()
    }
}

/// Writes everything before the scan.
pub(super) fn write_header(
    out: &mut Vec<u8>,
    header: &JpegHeader,
    tables: &QuantizationTables,
    width: u16,
    height: u16,
) {
    // SOI, APP0 with JFIF 1.1 and square pixels.
    out.extend_from_slice(b"\xff\xd8\xff\xe0\0\x10JFIF\0\x01\x01\0\0\x01\0\x01\0\0");
    for index in 0..2 {
        if let Some((table, is_wide)) = tables.table(index) {
            out.extend_from_slice(&[0xff, 0xdb, 0, table.len() as u8 + 3, u8::from(is_wide) << 4 | index]);
            out.extend_from_slice(table);
        }
    }
    if let Some(interval) = header.restart_interval.filter(|interval| *interval > 0) {
        let [hi, lo] = interval.to_be_bytes();
        out.extend_from_slice(&[0xff, 0xdd, 0, 4, hi, lo]);
    }
    // SOF0: 8 bits, three components; luma is sampled twice as often across, and in 4:2:0 also down.
    let luma_sampling = if header.chroma_format_idc() == Some(2) {
        0x21
    } else {
        0x22
    };
    let chroma_table = u8::from(tables.has_chroma());
    let ([h0, h1], [w0, w1]) = (height.to_be_bytes(), width.to_be_bytes());
    out.extend_from_slice(&[0xff, 0xc0, 0, 17, 8, h0, h1, w0, w1, 3]);
    out.extend_from_slice(&[1, luma_sampling, 0, 2, 0x11, chroma_table, 3, 0x11, chroma_table]);
    for (class_and_id, lengths, symbols) in tables::HUFFMAN {
        let len = 3 + lengths.len() + symbols.len();
        out.extend_from_slice(&[0xff, 0xc4, 0, len as u8, *class_and_id]);
        out.extend_from_slice(lengths);
        out.extend_from_slice(symbols);
    }
    // SOS: the components with their tables, the whole spectrum.
    out.extend_from_slice(&[0xff, 0xda, 0, 12, 3, 1, 0, 2, 0x11, 3, 0x11, 0, 63, 0]);
}
