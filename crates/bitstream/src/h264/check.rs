//! Whether the slices of an intra picture are intact. The macroblocks are read, and every slice must end exactly where it should; see
//! [`crate::h265`] for why this finds damage.

use std::mem;

use super::{
    cabac_data::CabacData,
    cavlc_data::CavlcData,
    header::{self, Header, HeaderStart, INTRA},
    macroblock::{Fault, Macroblock},
    nal_type::{IDR, PARTITION_A, PARTITION_C, PPS, SLICE, SPS},
    pps::{self, Pps},
    sps::{self, Sps},
};
use crate::{
    bits::BitReader,
    check::{Damage, MAX_LUMA_SAMPLES, SliceFault, Stop},
    nal,
};

/// `profile_idc` of the Baseline profile, in which slices may come in any order.
const BASELINE: u8 = 66;

/// Checks keyframes one after the other. Its buffers are reused.
#[derive(Debug, Default)]
pub(crate) struct Checker {
    payload: Vec<u8>,
    /// The newest macroblock of each column, and the number of its slice.
    above: Vec<(usize, Macroblock)>,
}

/// The parameter sets that a slice refers to.
struct ActiveSets {
    pps_id: u32,
    sps: Sps,
    pps: Pps,
}

/// What is carried from slice to slice.
struct Picture {
    sets: ActiveSets,
    /// Slices so far.
    slices: usize,
    /// The macroblock that comes next.
    next: u32,
}

impl Picture {
    fn blocks(&self) -> u32 {
        let (width, height) = self.sets.sps.size_in_mbs;
        width * height
    }
}

/// The macroblocks of a slice in either coding.
#[expect(clippy::large_enum_variant, reason = "there is one at a time, on the stack")]
enum SliceData<'a> {
    Cabac(CabacData<'a>),
    Cavlc(CavlcData<'a>),
}

impl Checker {
    /// Checks an access unit with its parameter sets in Annex B.
    pub(crate) fn check(&mut self, data: &[u8]) -> Result<(), Stop> {
        let mut sets = Sets::default();
        let mut picture: Option<Picture> = None;
        for nal in nal::split(data) {
            let &[header, ..] = nal else {
                continue;
            };
            match header & 0x1f {
                SPS => sets.sequence.push(nal),
                PPS => sets.picture.push(nal),
                SLICE | IDR if header >> 7 == 1 => return Err(Damage::NalHeader.into()),
                SLICE | IDR => picture = Some(self.slice(nal, &sets, picture.take())?),
                PARTITION_A..=PARTITION_C => return Err(Stop::Unknown("data partitions")),
                _ => {}
            }
        }
        match picture {
            Some(picture) => Ok(expect_complete(&picture)?),
            None => Err(Damage::NoSlices.into()),
        }
    }

    fn slice(&mut self, nal: &[u8], sets: &Sets<'_>, picture: Option<Picture>) -> Result<Picture, Stop> {
        let mut payload = mem::take(&mut self.payload);
        nal::unescape(&nal[1..], &mut payload);
        let result = self.read_slice(nal[0], &payload, sets, picture);
        self.payload = payload;
        result
    }

    fn read_slice(
        &mut self,
        nal_header: u8,
        payload: &[u8],
        sets: &Sets<'_>,
        picture: Option<Picture>,
    ) -> Result<Picture, Stop> {
        let number = picture.as_ref().map_or(1, |p| p.slices + 1);
        let damage = |fault| Stop::Damaged(Damage::Slice { number, fault });
        let mut bits = BitReader::unescaped(payload);
        let start = HeaderStart::parse(&mut bits).ok_or_else(|| damage(SliceFault::Header))?;
        let is_complete = picture.as_ref().is_some_and(|p| p.next == p.blocks());
        let mut picture = match picture {
            Some(picture) if !(is_complete && start.first_mb == 0) => picture,
            _ => self.start_picture(sets.activate(start.pps_id)?)?,
        };
        if picture.sets.pps_id != start.pps_id {
            picture.sets = sets.activate(start.pps_id)?;
        }
        let (sps, pps) = (&picture.sets.sps, &picture.sets.pps);
        expect_supported(sps, pps)?;
        match start.slice_type {
            INTRA => {}
            _ if nal_header & 0x1f == IDR => return Err(damage(SliceFault::Header)),
            _ => return Err(Stop::Unknown("a predicted picture")),
        }
        let header = header::parse(&mut bits, nal_header, sps, pps).ok_or_else(|| damage(SliceFault::Header))?;
        if header.is_field {
            return Err(Stop::Unknown("fields"));
        }
        if header.is_redundant {
            return Ok(picture);
        }
        expect_position(&picture, start.first_mb, number)?;
        picture.slices = number;
        self.read_blocks(&mut picture, &header, bits, payload).map_err(damage)?;
        Ok(picture)
    }

    fn start_picture(&mut self, sets: ActiveSets) -> Result<Picture, Stop> {
        let (width, height) = sets.sps.size_in_mbs;
        if u64::from(width) * u64::from(height) * 256 > MAX_LUMA_SAMPLES {
            return Err(Stop::Unknown("a picture larger than any level allows"));
        }
        self.above.clear();
        self.above.resize(width as usize, (0, Macroblock::UNAVAILABLE));
        Ok(Picture {
            sets,
            slices: 0,
            next: 0,
        })
    }

    /// Reads the macroblocks of a slice, `slice_data()` (7.3.4).
    fn read_blocks(
        &mut self,
        picture: &mut Picture,
        header: &Header,
        bits: BitReader<'_>,
        payload: &[u8],
    ) -> Result<(), SliceFault> {
        let (sps, pps) = (&picture.sets.sps, &picture.sets.pps);
        let (number, width) = (picture.slices, picture.sets.sps.size_in_mbs.0 as usize);
        let mut data = if pps.is_arithmetic {
            let rest = bits.aligned_to_ones().ok_or(SliceFault::Header)?;
            SliceData::Cabac(CabacData::new(rest, header.qp, sps.head, pps.transform_8x8))
        } else {
            let at = payload.len() * 8 - bits.bits_left();
            let data = CavlcData::new(payload, at, sps.head, pps.transform_8x8);
            SliceData::Cavlc(data.ok_or(SliceFault::Header)?)
        };
        let mut left: Option<Macroblock> = None;
        let total = picture.blocks();
        loop {
            let block = picture.next;
            if block >= total {
                return Err(SliceFault::EndsLate);
            }
            let column = block as usize % width;
            if column == 0 {
                left = None;
            }
            let place = self.above.get_mut(column).ok_or(SliceFault::EndsLate)?;
            let above = Some(&place.1).filter(|_| place.0 == number);
            let read = match &mut data {
                SliceData::Cabac(data) => data.macroblock(
                    left.as_ref().unwrap_or(&Macroblock::UNAVAILABLE),
                    above.unwrap_or(&Macroblock::UNAVAILABLE),
                ),
                SliceData::Cavlc(data) => data.macroblock(left.as_ref(), above),
            };
            let read = read.map_err(|fault| match fault {
                Fault::Ended => SliceFault::Ended { block },
                Fault::Invalid(what) => SliceFault::Invalid { block, what },
            })?;
            *place = (number, read);
            left = Some(read);
            picture.next += 1;
            let is_end = match &mut data {
                SliceData::Cabac(data) => data.cabac.terminate(),
                SliceData::Cavlc(data) => !data.has_more(),
            };
            match &mut data {
                _ if !is_end => {}
                SliceData::Cavlc(_) => return Ok(()),
                SliceData::Cabac(data) => {
                    let end = data.cabac.loose_end().ok_or(SliceFault::Unaligned { block })?;
                    // Nothing but cabac_zero_words may follow (7.3.2.10).
                    if data.cabac.rest(end).iter().any(|byte| *byte != 0) {
                        return Err(SliceFault::EndsBeforeData { block });
                    }
                    return Ok(());
                }
            }
        }
    }
}

/// Whether the picture has all its macroblocks.
fn expect_complete(picture: &Picture) -> Result<(), Damage> {
    match picture.blocks() - picture.next {
        0 => Ok(()),
        missing => Err(Damage::Slice {
            number: picture.slices,
            fault: SliceFault::EndsEarly { missing },
        }),
    }
}

/// Slices cover the macroblocks in order, without gaps.
fn expect_position(picture: &Picture, first: u32, number: usize) -> Result<(), Stop> {
    if first == picture.next {
        return Ok(());
    }
    if picture.sets.sps.head.profile_idc == BASELINE {
        return Err(Stop::Unknown("slices in any order"));
    }
    let damage = match first.checked_sub(picture.next) {
        Some(missing) if number > 1 => Damage::Slice {
            number: number - 1,
            fault: SliceFault::EndsEarly { missing },
        },
        Some(_) => Damage::NoFirstSlice,
        None => Damage::Slice {
            number,
            fault: SliceFault::Repeats,
        },
    };
    Err(damage.into())
}

fn expect_supported(sps: &Sps, pps: &Pps) -> Result<(), Stop> {
    let unsupported = [
        (sps.head.chroma_format_idc == 3, "4:4:4"),
        (sps.adaptive_fields, "macroblocks of fields in frames"),
        (pps.has_slice_groups, "slice groups"),
    ];
    match unsupported.into_iter().find(|(is_used, _)| *is_used) {
        Some((_, what)) => Err(Stop::Unknown(what)),
        None => Ok(()),
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
    fn activate(&self, pps_id: u32) -> Result<ActiveSets, Damage> {
        let ids = |nal: &[u8]| pps::pps_ids(nal.get(1..)?);
        let mut sets = self.picture.iter().rev();
        let found = sets.find_map(|nal| Some((nal, ids(nal)?)).filter(|(_, (id, _))| *id == pps_id));
        let (pps, (_, sps_id)) = found.ok_or(Damage::NoParameterSet("picture"))?;
        let of_sps = |nal: &[u8]| sps::sps_id(nal.get(1..)?);
        let sps = self.sequence.iter().rfind(|nal| of_sps(nal) == Some(sps_id));
        let sps = sps.ok_or(Damage::NoParameterSet("sequence"))?;
        let sps = Sps::parse(&sps[1..]).ok_or(Damage::ParameterSet("sequence"))?;
        let pps = Pps::parse(&pps[1..], &sps).ok_or(Damage::ParameterSet("picture"))?;
        Ok(ActiveSets { pps_id, sps, pps })
    }
}
