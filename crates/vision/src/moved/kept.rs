//! A view's references as bytes and back.
//!
//! `gridwatch view 1\n`; the length of the header, 4 bytes, and the header, JSON; then for each reference in turn its mean
//! (little-endian `i16`), the edges it was learned with (`i8`) and a small grey picture; then the CRC-32 of all before it.
//! Numbers are little-endian.

use serde::{Deserialize, Serialize};

use super::{
    Luma, Reference,
    field::{ONE, WIDTH},
    reference::{About, FINE},
};
use gridwatch_engine::Light;

const MAGIC: &[u8] = b"gridwatch view 1\n";

/// What is kept of a view: for each light the reference, and a picture that agreed with it, for people.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Kept {
    /// At most one a light.
    pub references: Vec<(Light, Reference, Luma)>,
}

#[derive(Serialize, Deserialize)]
struct Header {
    light: Light,
    height: usize,
    about: About,
    picture: [usize; 2],
}

/// Why bytes are no view: what is wrong, for a person.
pub(super) type Nonsense = &'static str;

impl Kept {
    /// The file's content.
    pub fn to_bytes(&self) -> Vec<u8> {
        let header = |(light, reference, picture): &(Light, Reference, Luma)| Header {
            light: *light,
            height: reference.height,
            about: reference.about.clone(),
            picture: [picture.width, picture.height],
        };
        let headers: Vec<Header> = self.references.iter().map(header).collect();
        // Nothing in it that JSON cannot hold.
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

    /// Reads a file's content.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Nonsense> {
        const SHORT: Nonsense = "it ends too soon";
        let (content, sum) = bytes.split_last_chunk().ok_or(SHORT)?;
        let mut rest = content.strip_prefix(MAGIC).ok_or("it is no view of this program's")?;
        if crc32fast::hash(content) != u32::from_le_bytes(*sum) {
            return Err("its checksum is wrong");
        }
        let mut take = |n: usize| {
            let (taken, after) = rest.split_at_checked(n).ok_or(SHORT)?;
            rest = after;
            Ok::<_, Nonsense>(taken)
        };
        let length = take(4)?.first_chunk().map_or(0, |n| u32::from_le_bytes(*n));
        let headers: Vec<Header> =
            serde_json::from_slice(take(length as usize)?).map_err(|_| "its header cannot be read")?;
        let mut references = Vec::new();
        for Header {
            light,
            height,
            about,
            picture: [width, down],
        } in headers
        {
            let numbers = height.checked_mul(2 * WIDTH).ok_or(SHORT)?;
            let mean = take(numbers.checked_mul(2).ok_or(SHORT)?)?;
            let mean: Vec<i16> = mean.chunks_exact(2).map(|n| i16::from_le_bytes([n[0], n[1]])).collect();
            let anchor: Vec<i8> = take(numbers)?.iter().map(|n| *n as i8).collect();
            let samples = take(width.checked_mul(down).ok_or(SHORT)?)?.to_vec();
            let limit = i32::from(ONE) * FINE;
            let is_sound = samples.len() >= width.max(down).max(1)
                && mean.iter().all(|n| i32::from(*n).abs() <= limit)
                && anchor.iter().all(|n| i16::from(*n).abs() <= ONE);
            if !is_sound {
                return Err("it holds numbers that a view cannot have");
            }
            let picture = Luma {
                width,
                height: down,
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
