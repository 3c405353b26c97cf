//! NAL units in Annex B byte streams (ITU-T H.264 and H.265, annex B).

use memchr::memmem;

/// The start code written before each NAL unit.
pub const START_CODE: [u8; 4] = [0, 0, 0, 1];

const START_CODE_SUFFIX: [u8; 3] = [0, 0, 1];

/// For each NAL unit, the data from its header to the end of `data`. The end of a unit is not searched for, because that
/// would mean scanning slices of hundreds of kilobytes.
pub fn starts(data: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = data;
    std::iter::from_fn(move || {
        let code = memmem::find(rest, &START_CODE_SUFFIX)?;
        rest = &rest[code + START_CODE_SUFFIX.len()..];
        Some(rest)
    })
}

/// The NAL units of a byte stream; all of it if it has no start code. Zero bytes after a unit may still be there.
pub fn split(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = Some(bytes);
    std::iter::from_fn(move || {
        let bytes = rest?;
        let (nal, after) = match memmem::find(bytes, &START_CODE_SUFFIX) {
            Some(at) => (&bytes[..at], Some(&bytes[at + START_CODE_SUFFIX.len()..])),
            None => (bytes, None),
        };
        rest = after;
        Some(nal)
    })
    // The first zero of a start code of 4 bytes, and what was before the first start code.
    .map(|nal| nal.strip_suffix(&[0]).unwrap_or(nal))
    .filter(|nal| !nal.is_empty())
}

/// Writes a NAL unit's payload, which begins after its header, to `payload` without its emulation prevention bytes (7.4.1 of both
/// standards).
pub fn unescape(escaped: &[u8], payload: &mut Vec<u8>) {
    payload.clear();
    let mut rest = escaped;
    while let Some(at) = memmem::find(rest, &[0, 0, 3]) {
        payload.extend_from_slice(&rest[..at + 2]);
        rest = &rest[at + 3..];
    }
    payload.extend_from_slice(rest);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_found_after_short_and_long_start_codes() {
        let data = [9, 0, 0, 1, 0x67, 1, 0, 0, 0, 1, 0x68, 0, 0, 1, 0x65, 9, 0, 0, 1];
        let headers: Vec<_> = starts(&data).map(|unit| unit.first().copied()).collect();
        assert_eq!(headers, [Some(0x67), Some(0x68), Some(0x65), None]);
        assert_eq!(starts(&[]).count(), 0);
        assert_eq!(starts(&[0, 0]).count(), 0);
        let units: Vec<_> = split(&data).collect();
        assert_eq!(units, [&[9][..], &[0x67, 1], &[0x68], &[0x65, 9]]);
        assert_eq!(split(&[5, 6]).collect::<Vec<_>>(), [[5, 6]]);
    }

    #[test]
    fn emulation_prevention_bytes_are_removed() {
        let mut payload = vec![9];
        unescape(&[1, 0, 0, 3, 0, 0, 3, 1, 7, 0, 0, 3], &mut payload);
        assert_eq!(payload, [1, 0, 0, 0, 0, 1, 7, 0, 0]);
    }
}
