//! The initialization segment: `ftyp` and `moov` with the sample entry of the codec (`avc1` or `hvc1`), and the codec's name for
//! `MediaSource.isTypeSupported` (RFC 6381).

use bytes::Bytes;
use gridwatch_bitstream::{Codec, h264, h265, nal};

use crate::{
    InitSegment, TIMESCALE,
    boxes::BoxWriter,
    parameter_sets::{ParameterSets, header_len},
};

/// Bytes of an SPS payload up to the end of `general_level_idc` (H.265, 7.3.2.2 and 7.3.3): a byte of the SPS, then 12 of the profile.
const H265_PROFILE_END: usize = 13;
/// Bytes of each length before a NAL unit in a sample, less one.
const LENGTH_SIZE_MINUS_ONE: u8 = 3;

/// The duration that the segment states, in ticks: a year. Without one, Chromium takes the stream for a live one that must not be buffered, and
/// then drops nearly every picture of a camera with 10 pictures a second or fewer. A player may set `MediaSource.duration` to infinity afterwards.
const STATED_DURATION: u64 = 365 * 24 * 3_600 * TIMESCALE as u64;

/// What a stream's samples are.
pub(crate) struct SampleEntry {
    pub(crate) init: InitSegment,
    /// Pictures that may be reordered, if the SPS says.
    pub(crate) reordered: Option<u32>,
}

/// The initialization segment of a stream with these parameter sets, of which `sps` is in use. `None` if the SPS cannot be read.
pub(crate) fn sample_entry(codec: Codec, sets: &ParameterSets<&[u8]>, sps: &[u8]) -> Option<SampleEntry> {
    let (name, size, configuration, reordered) = match codec {
        Codec::H264 => {
            let head = h264::SpsHead::parse(sps)?;
            let &[profile, constraints, level] = sps.get(1..)?.first_chunk::<3>()?;
            (
                format!("avc1.{profile:02X}{constraints:02X}{level:02X}"),
                head.cropped,
                avc_configuration([profile, constraints, level], &head, sets),
                h264::reorder_frames(sps),
            )
        }
        Codec::H265 => {
            let head = h265::SpsHead::parse(sps)?;
            let profile = H265Profile::parse(sps)?;
            (
                profile.name(),
                head.cropped,
                hevc_configuration(&profile, &head, sets),
                h265::reorder_pictures(sps),
            )
        }
    };
    // The size of a sample entry has 16 bits.
    let (width, height) = (u16::try_from(size.width).ok()?, u16::try_from(size.height).ok()?);
    let bytes = segment(codec, (width, height), &configuration);
    Some(SampleEntry {
        init: InitSegment {
            codec: name,
            bytes: Bytes::from(bytes),
            width: size.width,
            height: size.height,
        },
        reordered,
    })
}

/// `AVCDecoderConfigurationRecord` (ISO/IEC 14496-15, 5.3.3.1).
fn avc_configuration(profile: [u8; 3], head: &h264::SpsHead, sets: &ParameterSets<&[u8]>) -> Vec<u8> {
    let mut b = BoxWriter::default();
    b.u8(1);
    b.raw(&profile);
    b.u8(0xfc | LENGTH_SIZE_MINUS_ONE);
    b.u8(0xe0 | sets.sequence.len() as u8);
    put_sets(&mut b, &sets.sequence);
    b.u8(sets.picture.len() as u8);
    put_sets(&mut b, &sets.picture);
    // Of all profiles but Baseline, Main and Extended.
    if !matches!(profile[0], 66 | 77 | 88) {
        b.u8(0xfc | head.chroma_format_idc);
        b.u8(0xf8 | (head.bit_depth_luma - 8));
        b.u8(0xf8 | (head.bit_depth_chroma - 8));
        // No extensions of SPSs: they are for auxiliary pictures.
        b.u8(0);
    }
    b.into_bytes()
}

/// The head of `profile_tier_level()` (H.265, 7.3.3), as it stands in the SPS.
struct H265Profile {
    /// `sps_max_sub_layers_minus1` u(3) and `sps_temporal_id_nesting_flag` u(1).
    sub_layers_minus_one: u8,
    is_nested: bool,
    /// `general_profile_space` u(2), `general_tier_flag` u(1), `general_profile_idc` u(5); then 32 flags of compatibility, 48 of constraints,
    /// and `general_level_idc`.
    general: [u8; 12],
}

impl H265Profile {
    fn parse(sps: &[u8]) -> Option<Self> {
        let escaped = sps.get(header_len(Codec::H265)..)?;
        let mut payload = Vec::new();
        // At most one byte of three is for emulation prevention.
        nal::unescape(&escaped[..escaped.len().min(2 * H265_PROFILE_END)], &mut payload);
        let first = *payload.first()?;
        Some(Self {
            sub_layers_minus_one: first >> 1 & 7,
            is_nested: first & 1 == 1,
            general: *payload.get(1..H265_PROFILE_END)?.first_chunk()?,
        })
    }

    /// `hvc1.` with profile, compatibility, tier and level, and constraints (ISO/IEC 14496-15, E.3).
    fn name(&self) -> String {
        let [head, c0, c1, c2, c3, constraints @ .., level] = self.general;
        let space = ["", "A", "B", "C"][usize::from(head >> 6)];
        let tier = if head & 0x20 == 0 { 'L' } else { 'H' };
        let compatibility = u32::from_be_bytes([c0, c1, c2, c3]).reverse_bits();
        let mut name = format!("hvc1.{space}{}.{compatibility:X}.{tier}{level}", head & 0x1f);
        let used = constraints
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1);
        for byte in &constraints[..used] {
            name.push_str(&format!(".{byte:X}"));
        }
        name
    }
}

/// `HEVCDecoderConfigurationRecord` (ISO/IEC 14496-15, 8.3.3.1).
fn hevc_configuration(profile: &H265Profile, head: &h265::SpsHead, sets: &ParameterSets<&[u8]>) -> Vec<u8> {
    let mut b = BoxWriter::default();
    b.u8(1);
    b.raw(&profile.general);
    // min_spatial_segmentation_idc and parallelismType: unknown.
    b.u16(0xf000);
    b.u8(0xfc);
    b.u8(0xfc | head.chroma_format_idc);
    b.u8(0xf8 | (head.bit_depth_luma - 8));
    b.u8(0xf8 | (head.bit_depth_chroma - 8));
    // avgFrameRate and constantFrameRate: unknown.
    b.u16(0);
    b.u8((profile.sub_layers_minus_one + 1) << 3 | u8::from(profile.is_nested) << 2 | LENGTH_SIZE_MINUS_ONE);
    let arrays = [(32, &sets.video), (33, &sets.sequence), (34, &sets.picture)];
    b.u8(arrays.iter().filter(|(_, sets)| !sets.is_empty()).count() as u8);
    for (nal_type, sets) in arrays {
        if !sets.is_empty() {
            // array_completeness: there are none in samples.
            b.u8(0x80 | nal_type);
            b.u16(sets.len() as u16);
            put_sets(&mut b, sets);
        }
    }
    b.into_bytes()
}

/// Each set behind 16 bits of length. Their lengths and counts were checked.
fn put_sets(b: &mut BoxWriter, sets: &[&[u8]]) {
    for nal in sets {
        b.u16(nal.len() as u16);
        b.raw(nal);
    }
}

fn segment(codec: Codec, size: (u16, u16), configuration: &[u8]) -> Vec<u8> {
    let mut b = BoxWriter::default();
    b.put(b"ftyp", |b| {
        // iso6: `tfdt`, and offsets from `moof`.
        b.raw(b"iso6");
        b.u32(0);
        b.raw(b"iso6mp41");
    });
    b.put(b"moov", |b| {
        b.put_full(b"mvhd", 0, 0, |b| {
            b.zeros(8);
            b.u32(TIMESCALE);
            b.u32(0);
            // Rate 1.0, volume 1.0.
            b.u32(0x0001_0000);
            b.u16(0x0100);
            b.zeros(10);
            put_matrix(b);
            b.zeros(24);
            // next_track_ID.
            b.u32(2);
        });
        put_track(b, codec, size, configuration);
        b.put(b"mvex", |b| {
            b.put_full(b"mehd", 1, 0, |b| b.u64(STATED_DURATION));
            b.put_full(b"trex", 0, 0, |b| {
                // track_ID, default_sample_description_index, then defaults that every fragment overrides.
                b.u32(1);
                b.u32(1);
                b.zeros(12);
            });
        });
    });
    b.into_bytes()
}

fn put_track(b: &mut BoxWriter, codec: Codec, (width, height): (u16, u16), configuration: &[u8]) {
    b.put(b"trak", |b| {
        // track_enabled, track_in_movie.
        b.put_full(b"tkhd", 0, 3, |b| {
            b.zeros(8);
            b.u32(1);
            b.zeros(24);
            put_matrix(b);
            b.u32(u32::from(width) << 16);
            b.u32(u32::from(height) << 16);
        });
        b.put(b"mdia", |b| {
            b.put_full(b"mdhd", 0, 0, |b| {
                b.zeros(8);
                b.u32(TIMESCALE);
                b.u32(0);
                // The language "und".
                b.u16(0x55c4);
                b.u16(0);
            });
            b.put_full(b"hdlr", 0, 0, |b| {
                b.u32(0);
                b.raw(b"vide");
                // Reserved, and an empty name.
                b.zeros(13);
            });
            b.put(b"minf", |b| {
                b.put_full(b"vmhd", 0, 1, |b| b.zeros(8));
                b.put(b"dinf", |b| {
                    b.put_full(b"dref", 0, 0, |b| {
                        b.u32(1);
                        // The media is in this file.
                        b.put_full(b"url ", 0, 1, |_| {});
                    });
                });
                put_sample_table(b, codec, (width, height), configuration);
            });
        });
    });
}

fn put_sample_table(b: &mut BoxWriter, codec: Codec, (width, height): (u16, u16), configuration: &[u8]) {
    let (entry, record) = match codec {
        Codec::H264 => (b"avc1", b"avcC"),
        Codec::H265 => (b"hvc1", b"hvcC"),
    };
    b.put(b"stbl", |b| {
        b.put_full(b"stsd", 0, 0, |b| {
            b.u32(1);
            b.put(entry, |b| {
                b.zeros(6);
                // data_reference_index.
                b.u16(1);
                b.zeros(16);
                b.u16(width);
                b.u16(height);
                // 72 dpi, both ways.
                b.u32(0x0048_0000);
                b.u32(0x0048_0000);
                b.u32(0);
                // frame_count, compressorname, depth.
                b.u16(1);
                b.zeros(32);
                b.u16(0x18);
                b.u16(0xffff);
                b.put(record, |b| b.raw(configuration));
            });
        });
        // All samples are in fragments.
        b.put_full(b"stts", 0, 0, |b| b.u32(0));
        b.put_full(b"stsc", 0, 0, |b| b.u32(0));
        b.put_full(b"stsz", 0, 0, |b| b.zeros(8));
        b.put_full(b"stco", 0, 0, |b| b.u32(0));
    });
}

/// The unity matrix: no rotation, no scaling.
fn put_matrix(b: &mut BoxWriter) {
    for value in [0x0001_0000, 0, 0, 0, 0x0001_0000, 0, 0, 0, 0x4000_0000] {
        b.u32(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h265_names_follow_annex_e() {
        let name = |general| {
            let profile = H265Profile {
                sub_layers_minus_one: 0,
                is_nested: true,
                general,
            };
            profile.name()
        };
        // The examples of ISO/IEC 14496-15, E.3, and one with a profile space and the high tier.
        assert_eq!(name([1, 0x60, 0, 0, 0, 0xb0, 0, 0, 0, 0, 0, 93]), "hvc1.1.6.L93.B0");
        assert_eq!(
            name([0x62, 0x20, 0, 0, 0, 0xb0, 0, 8, 0, 0, 0, 120]),
            "hvc1.A2.4.H120.B0.0.8"
        );
        assert_eq!(name([4, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 30]), "hvc1.4.10.L30");
    }
}
