//! File format of a change map.
//!
//! The magic line `gridwatch change 1\n`; the length of the header (`u32`) and the header (JSON); for each variant its planes
//! of pixels (gradients x and y, `i8`) and of cells (brightness, red, blue, `i16`; peak, clips, learned, `u8`; usual residual,
//! `f32`); for each cell what occupies it (8 bytes); the CRC-32 of all before it (`u32`). Numbers are little-endian. The
//! candidate is not saved: the first look after a start renews it.

use serde::{Deserialize, Serialize};

use super::{
    background::{Background, LEARN_LOOKS},
    grid::Grid,
    learned::{CellState, Learned, MAX_VARIANTS},
    map::ChangeMap,
    tracked::TrackedRegion,
    types::Occupant,
};
use gridwatch_engine::Light;

const MAGIC: &[u8] = b"gridwatch change 1\n";
/// Longest header: some hundred regions.
const MAX_HEADER: usize = 1 << 20;
const MAX_REGIONS: usize = 1024;
/// Bytes of a cell's state.
const CELL_BYTES: usize = 8;

/// Why a file is invalid.
pub type FormatError = &'static str;

const TRUNCATED: FormatError = "truncated file";
const OUT_OF_RANGE: FormatError = "values out of range";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    columns: usize,
    rows: usize,
    looks: u64,
    current: usize,
    variants: Vec<VariantHeader>,
    regions: Vec<TrackedRegion>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct VariantHeader {
    light: Light,
    used: u64,
}

impl ChangeMap {
    /// Encodes the content of the file; `None` before the first look.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        let learned = self.learned.as_ref()?;
        let header = Header {
            columns: learned.grid.columns,
            rows: learned.grid.rows,
            looks: learned.looks,
            current: learned.current,
            variants: learned
                .variants
                .iter()
                .map(|v| VariantHeader {
                    light: v.light,
                    used: v.used,
                })
                .collect(),
            regions: learned.regions.iter().take(MAX_REGIONS).cloned().collect(),
        };
        // Cannot fail: the header has only strings and numbers.
        let header = serde_json::to_vec(&header).unwrap_or_default();
        let mut out = MAGIC.to_vec();
        out.extend((header.len() as u32).to_le_bytes());
        out.extend(header);
        for v in &learned.variants {
            out.extend(v.x.iter().chain(&v.y).map(|n| *n as u8));
            let numbers = v.brightness.iter().chain(&v.red).chain(&v.blue);
            out.extend(numbers.flat_map(|n| n.to_le_bytes()));
            out.extend(v.peak.iter().chain(&v.clips).chain(&v.learned));
            out.extend(v.usual.iter().flat_map(|n| n.to_le_bytes()));
        }
        out.extend(learned.cells.iter().flat_map(|cell| to_bytes(*cell)));
        let sum = crc32fast::hash(&out);
        out.extend(sum.to_le_bytes());
        Some(out)
    }

    /// Restores the content of a file. On an error nothing is changed.
    ///
    /// # Errors
    /// The fault, if the file is invalid.
    pub fn restore(&mut self, bytes: &[u8]) -> Result<(), FormatError> {
        let (content, sum) = bytes.split_last_chunk().ok_or(TRUNCATED)?;
        let mut rest = content.strip_prefix(MAGIC).ok_or("not a gridwatch change file")?;
        if crc32fast::hash(content) != u32::from_le_bytes(*sum) {
            return Err("checksum mismatch");
        }
        let length = take(&mut rest, 4)?.first_chunk().map_or(0, |n| u32::from_le_bytes(*n)) as usize;
        if length > MAX_HEADER {
            return Err(OUT_OF_RANGE);
        }
        let header: Header = serde_json::from_slice(take(&mut rest, length)?).map_err(|_| "invalid header")?;
        let grid = Grid::of_cells(header.columns, header.rows).ok_or(OUT_OF_RANGE)?;
        let is_valid = (1..=MAX_VARIANTS).contains(&header.variants.len())
            && header.current < header.variants.len()
            && header.regions.len() <= MAX_REGIONS
            && header.regions.iter().all(TrackedRegion::is_valid);
        if !is_valid {
            return Err(OUT_OF_RANGE);
        }
        let variants = header.variants.iter().map(|v| variant(&mut rest, grid, v));
        let variants = variants.collect::<Result<Vec<_>, _>>()?;
        let cells = take(&mut rest, grid.cells() * CELL_BYTES)?;
        let cells = cells.as_chunks::<CELL_BYTES>().0.iter().map(from_bytes);
        let cells = cells.collect::<Option<Vec<_>>>().ok_or(OUT_OF_RANGE)?;
        if !rest.is_empty() {
            return Err("data after the end");
        }
        self.learned = Some(Learned::restored(
            grid,
            variants,
            header.current,
            cells,
            header.looks,
            header.regions,
        ));
        Ok(())
    }
}

fn take<'a>(rest: &mut &'a [u8], n: usize) -> Result<&'a [u8], FormatError> {
    let (taken, after) = rest.split_at_checked(n).ok_or(TRUNCATED)?;
    *rest = after;
    Ok(taken)
}

fn variant(rest: &mut &[u8], grid: Grid, header: &VariantHeader) -> Result<Background, FormatError> {
    let (pixels, cells) = (grid.pixels(), grid.cells());
    let mut gradients = || Ok::<_, FormatError>(take(rest, pixels)?.iter().map(|n| *n as i8).collect::<Vec<i8>>());
    let (x, y) = (gradients()?, gradients()?);
    let mut numbers = || {
        let taken = take(rest, cells * 2)?;
        Ok::<_, FormatError>(
            taken
                .as_chunks::<2>()
                .0
                .iter()
                .map(|n| i16::from_le_bytes(*n))
                .collect::<Vec<i16>>(),
        )
    };
    let (brightness, red, blue) = (numbers()?, numbers()?, numbers()?);
    let mut bytes = || Ok::<_, FormatError>(take(rest, cells)?.to_vec());
    let (peak, clips, learned) = (bytes()?, bytes()?, bytes()?);
    let usual = take(rest, cells * 4)?;
    let usual: Vec<f32> = usual
        .as_chunks::<4>()
        .0
        .iter()
        .map(|n| f32::from_le_bytes(*n))
        .collect();
    // No residual exceeds the energy of two gradients of opposite signs.
    let is_valid = usual.iter().all(|v| (0.0..=1e6).contains(v))
        && learned.iter().all(|n| *n <= LEARN_LOOKS)
        && x.iter().chain(&y).all(|n| *n != i8::MIN);
    is_valid
        .then_some(Background {
            light: header.light,
            used: header.used,
            x,
            y,
            brightness,
            red,
            blue,
            peak,
            clips,
            usual,
            learned,
        })
        .ok_or(OUT_OF_RANGE)
}

fn to_bytes(cell: CellState) -> [u8; CELL_BYTES] {
    let occupant = match cell.occupant {
        None => 0,
        Some(Occupant::Person) => 1,
        Some(Occupant::Animal) => 2,
        Some(Occupant::Vehicle) => 3,
    };
    let [a, b, c, d] = cell.since.to_le_bytes();
    [cell.count, cell.gap, cell.covered, occupant, a, b, c, d]
}

fn from_bytes(&[count, gap, covered, occupant, a, b, c, d]: &[u8; CELL_BYTES]) -> Option<CellState> {
    let occupant = match occupant {
        0 => None,
        1 => Some(Occupant::Person),
        2 => Some(Occupant::Animal),
        3 => Some(Occupant::Vehicle),
        _ => return None,
    };
    Some(CellState {
        count,
        gap,
        covered,
        occupant,
        since: u32::from_le_bytes([a, b, c, d]),
    })
}
