//! File format of learned views.
//!
//! The magic line `gridwatch view 1\n`; the length of the header (`u32`) and the header (JSON); for each reference its mean
//! edge field (`i16`), the edge field it was learned with (`i8`) and a small greyscale picture; the CRC-32 of all before it
//! (`u32`). Numbers are little-endian.

use serde::{Deserialize, Serialize};

use super::{
    Luma, Reference,
    edge_field::{ONE, WIDTH},
    reference::{FINE, ReferenceInfo},
};
use gridwatch_engine::Light;

const MAGIC: &[u8] = b"gridwatch view 1\n";

/// The saved references of a view, each with a look that matched it, for display.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SavedView {
    /// At most one per light.
    pub references: Vec<(Light, Reference, Luma)>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    light: Light,
    height: usize,
    about: ReferenceInfo,
    /// Width and height.
    picture: [usize; 2],
}

/// Why a file is invalid.
pub(super) type FormatError = &'static str;

impl SavedView {
    /// Encodes the content of the file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let header = |(light, reference, picture): &(Light, Reference, Luma)| Header {
            light: *light,
            height: reference.height,
            about: reference.about.clone(),
            picture: [picture.width, picture.height],
        };
        let headers: Vec<Header> = self.references.iter().map(header).collect();
        // Cannot fail: the header has only strings and numbers.
        let headers = serde_json::to_vec(&headers).unwrap_or_default();
        let mut out = MAGIC.to_vec();
        out.extend((headers.len() as u32).to_le_bytes());
        out.extend(headers);
        for (_, reference, picture) in &self.references {
            out.extend(reference.mean.iter().flat_map(|n| n.to_le_bytes()));
            out.extend(reference.anchor.iter().flat_map(|n| n.to_le_bytes()));
            out.extend(&picture.samples);
        }
        let sum = crc32fast::hash(&out);
        out.extend(sum.to_le_bytes());
        out
    }

    /// Decodes the content of a file.
    ///
    /// # Errors
    /// The fault, if the file is invalid.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FormatError> {
        const TRUNCATED: FormatError = "truncated file";
        let (content, sum) = bytes.split_last_chunk().ok_or(TRUNCATED)?;
        let mut rest = content.strip_prefix(MAGIC).ok_or("not a gridwatch view file")?;
        if crc32fast::hash(content) != u32::from_le_bytes(*sum) {
            return Err("checksum mismatch");
        }
        let mut take = |n: usize| {
            let (taken, after) = rest.split_at_checked(n).ok_or(TRUNCATED)?;
            rest = after;
            Ok::<_, FormatError>(taken)
        };
        let length = take(4)?.first_chunk().map_or(0, |n| u32::from_le_bytes(*n));
        let headers: Vec<Header> = serde_json::from_slice(take(length as usize)?).map_err(|_| "invalid header")?;
        let mut references = Vec::new();
        for Header {
            light,
            height,
            about,
            picture: [picture_width, picture_height],
        } in headers
        {
            let numbers = height.checked_mul(2 * WIDTH).ok_or(TRUNCATED)?;
            let mean = take(numbers.checked_mul(2).ok_or(TRUNCATED)?)?;
            let mean: Vec<i16> = mean.chunks_exact(2).map(|n| i16::from_le_bytes([n[0], n[1]])).collect();
            let anchor: Vec<i8> = take(numbers)?.iter().map(|n| *n as i8).collect();
            let samples = take(picture_width.checked_mul(picture_height).ok_or(TRUNCATED)?)?.to_vec();
            let limit = i32::from(ONE) * FINE;
            let is_valid = samples.len() >= picture_width.max(picture_height).max(1)
                && mean.iter().all(|n| i32::from(*n).abs() <= limit)
                && anchor.iter().all(|n| i16::from(*n).abs() <= ONE);
            if !is_valid {
                return Err("values out of range");
            }
            let picture = Luma {
                width: picture_width,
                height: picture_height,
                samples,
            };
            let reference = Reference {
                height,
                mean,
                anchor,
                about,
            };
            references.push((light, reference, picture));
        }
        Ok(Self { references })
    }
}
