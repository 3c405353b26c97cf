//! Parameter sets in the format parameters of SDP: `sprop-parameter-sets` (RFC 6184, 8.1), `sprop-vps`, `sprop-sps` and
//! `sprop-pps` (RFC 7798, 7.1). Cameras leave out padding, add spaces and commas, put start codes in them and sort them
//! wrongly, so each NAL unit counts as what its header says.

use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use gridwatch_bitstream::nal;

use super::{MAX_SET_BYTES, MAX_SETS, ParameterSets, set_type};

/// Base64 with or without padding and with stray bits in the last character.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The value of a format parameter, whatever the case of its name. Values may contain `=`.
pub(crate) fn fmtp_value<'a>(fmtp: &'a str, name: &str) -> Option<&'a str> {
    fmtp.split(';').find_map(|parameter| {
        let (key, value) = parameter.split_once('=')?;
        // The first parameter may still have the payload type before it.
        let key = key.trim().rsplit(char::is_whitespace).next()?;
        key.eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"'))
    })
}

/// Stores every set in `fmtp`. What cannot be read is left out: most cameras repeat their sets in band.
pub(crate) fn from_fmtp(sets: &mut ParameterSets, fmtp: &str) {
    for name in ["sprop-vps", "sprop-sps", "sprop-pps", "sprop-parameter-sets"] {
        let Some(value) = fmtp_value(fmtp, name) else {
            continue;
        };
        for entry in value.split(',').take(MAX_SETS) {
            if let Some(bytes) = decode(entry) {
                for nal in nal::split(&bytes) {
                    if let Some(kind) = nal.first().and_then(|header| set_type(sets.codec, *header)) {
                        sets.insert(kind, nal);
                    }
                }
            }
        }
    }
}

fn decode(entry: &str) -> Option<Vec<u8>> {
    let mut clean: Vec<u8> = entry.bytes().filter(|b| !b.is_ascii_whitespace()).collect();
    if clean.is_empty() || clean.len() > MAX_SET_BYTES * 4 / 3 + 4 {
        return None;
    }
    // The alphabet of URLs is used by mistake now and then.
    for byte in &mut clean {
        match byte {
            b'-' => *byte = b'+',
            b'_' => *byte = b'/',
            _ => {}
        }
    }
    let kept = clean.iter().rposition(|b| *b != b'=').map_or(0, |last| last + 1);
    // One character alone holds no byte.
    let kept = if kept % 4 == 1 { kept - 1 } else { kept };
    LENIENT.decode(&clean[..kept]).ok()
}
