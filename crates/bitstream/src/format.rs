//! Finds sample formats of more than 8 bits in a keyframe's parameter sets, before it reaches a decoder.

use crate::{Codec, h264, h265, nal};

/// The sample format of an SPS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SampleFormat {
    profile: u8,
    /// 0: 4:0:0, 1: 4:2:0, 2: 4:2:2, 3: 4:4:4.
    chroma: u8,
    /// The larger of the luma and the chroma depth.
    bits: u8,
}

/// The name of the format, such as `10-bit H.265 (Main 10)`, if no SPS of the keyframe has samples of 8 bits.
pub fn deeper_than_8_bits(codec: Codec, data: &[u8]) -> Option<String> {
    let mut refused = None;
    for format in sample_formats(codec, data) {
        if format.bits <= 8 {
            return None;
        }
        refused = refused.or(Some(format));
    }
    refused.map(|format| format.name(codec))
}

impl SampleFormat {
    fn name(self, codec: Codec) -> String {
        let (codec, profile) = match (codec, self.profile) {
            (Codec::H264, 110) => ("H.264", "High 10"),
            (Codec::H264, 122) => ("H.264", "High 4:2:2"),
            (Codec::H264, 244) => ("H.264", "High 4:4:4 Predictive"),
            (Codec::H264, _) => ("H.264", ""),
            (Codec::H265, 2) => ("H.265", "Main 10"),
            (Codec::H265, 4) => ("H.265", "range extensions"),
            (Codec::H265, _) => ("H.265", ""),
        };
        let chroma = match self.chroma {
            0 => "monochrome ",
            2 => "4:2:2 ",
            3 => "4:4:4 ",
            _ => "",
        };
        let profile = if profile.is_empty() {
            format!(" (profile {})", self.profile)
        } else {
            format!(" ({profile})")
        };
        format!("{}-bit {chroma}{codec}{profile}", self.bits)
    }
}

/// The formats of the SPSs before the first slice; one that cannot be read is left to the decoder.
fn sample_formats(codec: Codec, data: &[u8]) -> impl Iterator<Item = SampleFormat> {
    nal::starts(data)
        .take_while(move |nal| match (codec, nal) {
            (Codec::H264, [h, ..]) => !matches!(h & 0x1f, 1..=5),
            (Codec::H265, [h, ..]) => (h >> 1) & 0x3f >= 32,
            _ => true,
        })
        .filter_map(move |nal| match (codec, nal) {
            (Codec::H264, [h, ..]) if h & 0x1f == 7 => {
                let sps = h264::SpsHead::parse(nal)?;
                Some(SampleFormat {
                    profile: sps.profile_idc,
                    chroma: sps.chroma_format_idc,
                    bits: sps.bit_depth_luma.max(sps.bit_depth_chroma),
                })
            }
            (Codec::H265, [h, ..]) if (h >> 1) & 0x3f == 33 => {
                let sps = h265::SpsHead::parse(nal)?;
                Some(SampleFormat {
                    profile: sps.profile_idc,
                    chroma: sps.chroma_format_idc,
                    bits: sps.bit_depth_luma.max(sps.bit_depth_chroma),
                })
            }
            _ => None,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deep_samples_are_named_and_eight_bits_are_left_to_the_decoder() {
        let deep: &[u8] = include_bytes!("../../../tests/fixtures/streams/gray10.h265");
        assert_eq!(
            deeper_than_8_bits(Codec::H265, deep).unwrap(),
            "10-bit monochrome H.265 (range extensions)"
        );
        for (codec, data) in [
            (Codec::H264, &include_bytes!("../../../src/cli/check/keyframe.h264")[..]),
            (Codec::H265, &include_bytes!("../../../src/cli/check/keyframe.h265")[..]),
        ] {
            let formats: Vec<_> = sample_formats(codec, data).collect();
            assert!(formats.iter().all(|f| (f.chroma, f.bits) == (1, 8)), "{formats:?}");
            assert_eq!((formats.len(), deeper_than_8_bits(codec, data)), (1, None));
        }
    }

    #[test]
    fn a_keyframe_is_taken_if_one_of_its_parameter_sets_has_eight_bits() {
        let deep: &[u8] = include_bytes!("../../../tests/fixtures/streams/gray10.h265");
        let both = [&include_bytes!("../../../src/cli/check/keyframe.h265")[..300], deep].concat();
        assert_eq!(deeper_than_8_bits(Codec::H265, &both), None);
    }

    #[test]
    fn an_unreadable_parameter_set_is_left_to_the_decoder() {
        for sps in [&[0, 0, 1, 0x67][..], &[0, 0, 1, 0x67, 110, 0, 10, 0, 0, 0, 0, 0]] {
            assert_eq!(deeper_than_8_bits(Codec::H264, sps), None);
        }
        for len in 0..40 {
            let sps = [&[0, 0, 1, 33 << 1, 1][..], &[0x5a; 40][..len]].concat();
            let _ = deeper_than_8_bits(Codec::H265, &sps);
        }
    }
}
