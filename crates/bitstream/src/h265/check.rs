//! Whether the slices of an intra picture are intact.
//!
//! Slice data is coded arithmetically, so that a wrong bit changes the meaning of all that follow. Read to the end, it then hardly ever ends where
//! it should: with a bin that says so behind the last coding tree unit before the next slice segment, a stop bit, and nothing else.

use std::mem;

use super::{
    header::{self, Header, HeaderFault, HeaderStart, SliceSettings},
    nal_type::{PPS, SPS, VPS},
    neighbours::{Available, Neighbours},
    pps::Pps,
    slice::{Fault, Saved, SliceData},
    sps::{SetFault, Sps},
    tiles::{Cursor, Tiles},
};
use crate::{
    bits::BitReader,
    check::{Damage, MAX_LUMA_SAMPLES, SliceFault, Stop},
    nal,
};

/// Marks a coding tree block that no slice has covered.
const NO_SLICE: u32 = u32::MAX;

/// Checks keyframes one after the other. Its buffers are reused.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    payload: Vec<u8>,
    tiles: Tiles,
    /// `SliceAddrRs` of each coding tree block.
    slice_of: Vec<u32>,
    neighbours: Neighbours,
}

/// The parameter sets that a slice refers to.
struct ActiveSets {
    pps_id: u32,
    sps: Sps,
    pps: Pps,
}

/// What is carried from slice segment to slice segment.
struct Picture {
    nal_type: u8,
    sets: ActiveSets,
    /// The slice that is being decoded.
    slice: Option<SliceSettings>,
    /// Slice segments so far.
    segments: usize,
    /// Where the next slice segment must begin; `None` after the last block.
    next: Option<Cursor>,
    /// The state at the end of the last slice segment.
    at_end: Option<Saved>,
    /// The state after the second block of the row of blocks above (wavefronts).
    of_row: Option<Saved>,
}

impl Checker {
    /// Checks an access unit with its parameter sets in Annex B.
    pub(crate) fn check(&mut self, data: &[u8]) -> Result<(), Stop> {
        let mut sets = Sets::default();
        let mut picture: Option<Picture> = None;
        for nal in nal::split(data) {
            let &[first, second, ..] = nal else {
                continue;
            };
            let (nal_type, layer) = (first >> 1 & 0x3f, (first & 1) << 5 | second >> 3);
            match nal_type {
                _ if layer != 0 => {}
                SPS => sets.sequence.push(nal),
                PPS => sets.picture.push(nal),
                VPS.. => {}
                _ if first >> 7 == 1 || second & 7 == 0 => return Err(Damage::NalHeader.into()),
                _ => picture = Some(self.slice_segment(nal, nal_type, &sets, picture.take())?),
            }
        }
        match picture {
            Some(picture) => Ok(self.expect_complete(&picture)?),
            None => Err(Damage::NoSlices.into()),
        }
    }

    /// Whether the picture has all its blocks.
    fn expect_complete(&self, picture: &Picture) -> Result<(), Damage> {
        match picture.next {
            None => Ok(()),
            Some(next) => Err(Damage::Slice {
                number: picture.segments,
                fault: SliceFault::EndsEarly {
                    missing: picture.blocks() - self.tiles.index(next),
                },
            }),
        }
    }

    /// Reads a slice segment of `picture`, or the first of a picture.
    fn slice_segment(
        &mut self,
        nal: &[u8],
        nal_type: u8,
        sets: &Sets<'_>,
        picture: Option<Picture>,
    ) -> Result<Picture, Stop> {
        let mut payload = mem::take(&mut self.payload);
        nal::unescape(&nal[2..], &mut payload);
        let result = self.read_segment(&payload, nal_type, sets, picture);
        self.payload = payload;
        result
    }

    fn read_segment(
        &mut self,
        payload: &[u8],
        nal_type: u8,
        sets: &Sets<'_>,
        picture: Option<Picture>,
    ) -> Result<Picture, Stop> {
        let number = picture.as_ref().map_or(1, |p| p.segments + 1);
        let damage = |fault| Stop::Damaged(Damage::Slice { number, fault });
        let mut bits = BitReader::unescaped(payload);
        let start = HeaderStart::parse(&mut bits, nal_type).ok_or_else(|| damage(SliceFault::Header))?;
        let mut picture = if start.is_first {
            if let Some(previous) = picture {
                self.expect_complete(&previous)?;
            }
            self.start_picture(nal_type, sets.activate(start.pps_id)?)?
        } else {
            let mut picture = picture.ok_or(Damage::NoFirstSlice)?;
            if picture.nal_type != nal_type {
                return Err(Damage::NalHeader.into());
            }
            if picture.sets.pps_id != start.pps_id {
                picture.sets = sets.activate(start.pps_id)?;
                self.set_tiles(&picture.sets)?;
            }
            picture
        };
        picture.segments += 1;
        let header = {
            let sets = (&picture.sets.sps, &picture.sets.pps);
            header::parse(bits, start, nal_type, sets, picture.slice)
        };
        let header = header.map_err(|fault| match fault {
            HeaderFault::Invalid => damage(SliceFault::Header),
            HeaderFault::Predicted => Stop::Unknown("a predicted picture"),
        })?;
        self.expect_position(&picture, &header, number)?;
        picture.slice = Some(header.settings);
        self.read_blocks(&mut picture, &header).map_err(damage)?;
        Ok(picture)
    }

    fn start_picture(&mut self, nal_type: u8, sets: ActiveSets) -> Result<Picture, Stop> {
        if sets.sps.head.separate_colour_planes {
            return Err(Stop::Unknown("separate colour planes"));
        }
        let size = sets.sps.head.coded;
        if u64::from(size.width) * u64::from(size.height) > MAX_LUMA_SAMPLES {
            return Err(Stop::Unknown("a picture larger than any level allows"));
        }
        let (width, height) = sets.sps.size_in_ctbs();
        self.slice_of.clear();
        self.slice_of.resize((width * height) as usize, NO_SLICE);
        self.neighbours.set_width(width << sets.sps.ctb_log2);
        self.set_tiles(&sets)?;
        Ok(Picture {
            nal_type,
            sets,
            slice: None,
            segments: 0,
            next: self.tiles.first(),
            at_end: None,
            of_row: None,
        })
    }

    fn set_tiles(&mut self, sets: &ActiveSets) -> Result<(), Damage> {
        let (width, height) = sets.sps.size_in_ctbs();
        let layout = sets.pps.tiles.as_ref();
        self.tiles
            .set(layout, width, height)
            .ok_or(Damage::ParameterSet("picture"))
    }

    /// Slice segments cover the blocks in order, without gaps.
    fn expect_position(&self, picture: &Picture, header: &Header<'_>, number: usize) -> Result<(), Damage> {
        let (width, _) = picture.sets.sps.size_in_ctbs();
        let expected = picture.next.map_or(picture.blocks(), |next| self.tiles.index(next));
        let starts_at = self
            .tiles
            .index_of(header.address % width, header.address / width)
            .unwrap_or_default();
        if starts_at == expected && picture.next.is_some() {
            return Ok(());
        }
        Err(if starts_at > expected {
            Damage::Slice {
                number: number - 1,
                fault: SliceFault::EndsEarly {
                    missing: starts_at - expected,
                },
            }
        } else {
            Damage::Slice {
                number,
                fault: SliceFault::Repeats,
            }
        })
    }

    /// Reads the blocks of a slice segment, `slice_segment_data()` (7.3.8.1).
    fn read_blocks(&mut self, picture: &mut Picture, header: &Header<'_>) -> Result<(), SliceFault> {
        let (sps, pps) = (&picture.sets.sps, &picture.sets.pps);
        let (width, _) = sps.size_in_ctbs();
        let mut at = picture.next.ok_or(SliceFault::Repeats)?;
        let initial = Saved::initial(header.settings.qp);
        let at_end = picture.at_end.filter(|_| header.is_dependent);
        let mut slice = SliceData::new(
            header.data,
            (sps, pps),
            header.settings,
            at_end.unwrap_or(initial),
            &mut self.neighbours,
        );
        loop {
            let block = self.tiles.index(at);
            let invalid = |fault| match fault {
                Fault::Ended => SliceFault::Ended { block },
                Fault::Invalid(what) => SliceFault::Invalid { block, what },
            };
            let tile = at.tile;
            let address = (at.y * width + at.x) as usize;
            let same_slice =
                |address: Option<usize>| address.and_then(|a| self.slice_of.get(a)) == Some(&header.settings.address);
            let left = at.x > tile.left && same_slice(address.checked_sub(1));
            let above = at.y > tile.top && same_slice(address.checked_sub(width as usize));
            let (starts_tile, starts_row) = ((at.x, at.y) == (tile.left, tile.top), at.x == tile.left);
            // 9.3.1.
            if starts_tile {
                slice.restore(&initial);
            } else if pps.wavefront && starts_row {
                let is_in_tile = at.x + 1 < tile.right && at.y > tile.top;
                let synchronises = is_in_tile && same_slice((address + 1).checked_sub(width as usize));
                let saved = picture.of_row.as_ref().filter(|_| synchronises);
                slice.restore(saved.unwrap_or(&initial));
            }
            if let Some(slice_of) = self.slice_of.get_mut(address) {
                *slice_of = header.settings.address;
            }
            let (x, y) = (at.x << sps.ctb_log2, at.y << sps.ctb_log2);
            slice
                .coding_tree_unit(x, y, Available { left, above })
                .map_err(invalid)?;
            // The second block of a row, in tiles of one column the first.
            if pps.wavefront && at.x == tile.left + 1 {
                picture.of_row = Some(slice.save());
            }
            let is_end = slice.cabac.terminate();
            let next = self.tiles.next(at);
            if is_end {
                picture.at_end = pps.dependent_slices.then(|| slice.save());
                picture.next = next;
                let end = slice.cabac.end().ok_or(SliceFault::Unaligned { block })?;
                // Nothing but zero words may follow (7.3.2.9).
                if slice.cabac.rest(end).iter().any(|b| *b != 0) {
                    return Err(SliceFault::EndsBeforeData { block });
                }
                return Ok(());
            }
            at = next.ok_or(SliceFault::EndsLate)?;
            let is_other_tile = at.tile != tile;
            if is_other_tile || (pps.wavefront && at.x == at.tile.left) {
                // end_of_subset_one_bit. Whether this is an entry point is not compared: some encoders count them wrongly (kvazaar with a
                // slice segment for each row), and decoding in order does not need them.
                let end = slice.cabac.terminate().then(|| slice.cabac.end()).flatten();
                let end = end.ok_or(SliceFault::Substream { block })?;
                slice.cabac.restart(end);
            }
        }
    }
}

impl Picture {
    fn blocks(&self) -> u32 {
        let (width, height) = self.sets.sps.size_in_ctbs();
        width * height
    }
}

/// The parameter sets before the slices, as NAL units.
#[derive(Default)]
struct Sets<'a> {
    sequence: Vec<&'a [u8]>,
    picture: Vec<&'a [u8]>,
}

impl Sets<'_> {
    /// Reads the sets that a slice refers to. Of several with the same id, the last counts.
    fn activate(&self, pps_id: u32) -> Result<ActiveSets, Stop> {
        let of_pps = |nal: &[u8]| BitReader::new(nal.get(2..)?).ue_up_to(63);
        let of_sps = |nal: &[u8]| super::sps_id(nal.get(2..)?);
        let pps = self.picture.iter().rfind(|nal| of_pps(nal) == Some(pps_id));
        let pps = pps.ok_or(Damage::NoParameterSet("picture"))?;
        let pps = Pps::parse(&pps[2..]).map_err(|fault| stop(fault, "picture"))?;
        let sps = self.sequence.iter().rfind(|nal| of_sps(nal) == Some(pps.sps_id));
        let sps = sps.ok_or(Damage::NoParameterSet("sequence"))?;
        let sps = Sps::parse(&sps[2..]).map_err(|fault| stop(fault, "sequence"))?;
        Ok(ActiveSets { pps_id, sps, pps })
    }
}

fn stop(fault: SetFault, kind: &'static str) -> Stop {
    match fault {
        SetFault::Invalid => Damage::ParameterSet(kind).into(),
        SetFault::Unsupported(what) => Stop::Unknown(what),
    }
}
