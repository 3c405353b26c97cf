//! Finds sample formats that cannot be judged in a keyframe's parameter sets, before it reaches a decoder.
//!
//! Looks and evidence work on 8-bit samples, so a deeper format is refused by name. 4:0:0, 4:2:2 and 4:4:4 with 8 bits are converted.
//!
//! [`unsupported`] needs three values of an SPS and reads no further. Where a receiver has parsed the parameter sets already, its values replace
//! [`sample_formats`].

use crate::{Codec, annexb};

/// Bytes of an SPS that are looked at: the fields read here end long before.
const MAX_SPS_BYTES: usize = 512;

/// The sample format of an SPS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SampleFormat {
    profile: u8,
    /// 0: 4:0:0, 1: 4:2:0, 2: 4:2:2, 3: 4:4:4.
    chroma: u8,
    /// The larger of the luma and the chroma depth.
    bits: u8,
}

/// The name of the format, if no SPS of the keyframe has one that can be judged.
pub(super) fn unsupported(codec: Codec, data: &[u8]) -> Option<String> {
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
    annexb::nal_units(data)
        .take_while(move |nal| match (codec, nal) {
            (Codec::H264, [h, ..]) => !matches!(h & 0x1f, 1..=5),
            (Codec::H265, [h, ..]) => (h >> 1) & 0x3f >= 32,
            _ => true,
        })
        .filter_map(move |nal| match (codec, nal) {
            (Codec::H264, [h, sps @ ..]) if h & 0x1f == 7 => h264(sps),
            (Codec::H265, [h, _, sps @ ..]) if (h >> 1) & 0x3f == 33 => h265(sps),
            _ => None,
        })
}

/// H.264 7.3.2.1.1, up to `bit_depth_chroma_minus8`.
fn h264(sps: &[u8]) -> Option<SampleFormat> {
    let bytes = unescaped(sps);
    let profile = *bytes.first()?;
    let mut bits = Bits::new(bytes.get(3..)?);
    bits.ue()?;
    if !matches!(
        profile,
        44 | 83 | 86 | 100 | 110 | 118 | 122 | 128 | 134 | 135 | 138 | 139 | 244
    ) {
        return Some(SampleFormat {
            profile,
            chroma: 1,
            bits: 8,
        });
    }
    let chroma = bits.ue().filter(|c| *c <= 3)?;
    if chroma == 3 {
        bits.skip(1);
    }
    format(profile, chroma, bits.ue()?, bits.ue()?)
}

/// H.265 7.3.2.2.1, up to `bit_depth_chroma_minus8`.
fn h265(sps: &[u8]) -> Option<SampleFormat> {
    let bytes = unescaped(sps);
    let sub_layers = u32::from(*bytes.first()? >> 1 & 7);
    let profile = *bytes.get(1)? & 0x1f;
    // Profile, tier and level of the stream: 12 bytes (7.3.3).
    let mut bits = Bits::new(bytes.get(13..)?);
    if sub_layers > 0 {
        let present: Vec<(u32, u32)> = (0..sub_layers)
            .map(|_| Some((bits.take(1)?, bits.take(1)?)))
            .collect::<Option<_>>()?;
        bits.skip(2 * (8 - sub_layers));
        for (has_profile, has_level) in present {
            bits.skip(88 * has_profile + 8 * has_level);
        }
    }
    bits.ue()?;
    let chroma = bits.ue().filter(|c| *c <= 3)?;
    if chroma == 3 {
        bits.skip(1);
    }
    // Width and height.
    bits.ue()?;
    bits.ue()?;
    if bits.take(1)? == 1 {
        for _ in 0..4 {
            bits.ue()?;
        }
    }
    format(profile, chroma, bits.ue()?, bits.ue()?)
}

fn format(profile: u8, chroma: u32, luma: u32, chroma_depth: u32) -> Option<SampleFormat> {
    let deepest = luma.max(chroma_depth);
    // Both standards end at 16 bits.
    (deepest <= 8).then_some(SampleFormat {
        profile,
        chroma: chroma as u8,
        bits: 8 + deepest as u8,
    })
}

/// The start of a NAL unit without its emulation prevention bytes (7.4.1 of both standards).
fn unescaped(nal: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    let mut zeros = 0;
    for &byte in nal.iter().take(MAX_SPS_BYTES) {
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    out
}

struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Bits<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    fn skip(&mut self, count: u32) {
        self.at += count as usize;
    }

    fn take(&mut self, count: u32) -> Option<u32> {
        (0..count).try_fold(0, |value, _| {
            let bit = self.bytes.get(self.at / 8)? >> (7 - self.at % 8) & 1;
            self.at += 1;
            Some(value << 1 | u32::from(bit))
        })
    }

    /// ue(v), H.264 9.1, up to 2^16.
    fn ue(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while self.take(1)? == 0 {
            zeros += 1;
            if zeros > 16 {
                return None;
            }
        }
        Some((1 << zeros) - 1 + self.take(zeros)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deep_samples_are_named_and_eight_bits_are_left_to_the_decoder() {
        let deep: &[u8] = include_bytes!("../../../../tests/fixtures/streams/gray10.h265");
        assert_eq!(
            unsupported(Codec::H265, deep).unwrap(),
            "10-bit monochrome H.265 (range extensions)"
        );
        for (codec, data) in [
            (
                Codec::H264,
                &include_bytes!("../../../../src/cli/check/keyframe.h264")[..],
            ),
            (
                Codec::H265,
                &include_bytes!("../../../../src/cli/check/keyframe.h265")[..],
            ),
        ] {
            let formats: Vec<_> = sample_formats(codec, data).collect();
            assert!(formats.iter().all(|f| (f.chroma, f.bits) == (1, 8)), "{formats:?}");
            assert_eq!((formats.len(), unsupported(codec, data)), (1, None));
        }
    }

    #[test]
    fn a_keyframe_is_taken_if_one_of_its_parameter_sets_has_eight_bits() {
        let deep: &[u8] = include_bytes!("../../../../tests/fixtures/streams/gray10.h265");
        let both = [&include_bytes!("../../../../src/cli/check/keyframe.h265")[..300], deep].concat();
        assert_eq!(unsupported(Codec::H265, &both), None);
    }

    #[test]
    fn an_unreadable_parameter_set_is_left_to_the_decoder() {
        for sps in [&[0, 0, 1, 0x67][..], &[0, 0, 1, 0x67, 110, 0, 10, 0, 0, 0, 0, 0]] {
            assert_eq!(unsupported(Codec::H264, sps), None);
        }
        for len in 0..40 {
            let sps = [&[0, 0, 1, 33 << 1, 1][..], &[0x5a; 40][..len]].concat();
            let _ = unsupported(Codec::H265, &sps);
        }
    }
}
