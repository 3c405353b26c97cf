//! A ledger file: name, header, frames, and what can be wrong with them.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use super::LedgerError;

const MAGIC: [u8; 8] = *b"GWLEDGER";
/// Version of the format. A reader rejects newer ones.
pub(super) const VERSION: u16 = 4;
/// Size of the file header.
pub(super) const HEADER_BYTES: u64 = 24;
/// Size of the frame header.
pub(super) const FRAME_HEADER_BYTES: u64 = 8;
/// Longer payloads are treated as a corrupt length. The largest real ones, looks with thousands of boxes, are far
/// smaller.
const MAX_PAYLOAD: u32 = 16 << 20;
/// Suffix appended to the name of a damaged file.
const DAMAGED_SUFFIX: &str = "damaged";

/// A file in the ledger directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LedgerFile {
    /// Number in the name; files are read in this order.
    pub(super) number: u64,
    pub(super) path: PathBuf,
    /// Renamed earlier because it is damaged.
    pub(super) is_damaged: bool,
}

pub(super) fn file_name(number: u64) -> String {
    format!("ledger-{number:08}.gwl")
}

/// Name of a file after it was found damaged.
pub(super) fn damaged_name(path: &Path) -> PathBuf {
    PathBuf::from(format!("{}.{DAMAGED_SUFFIX}", path.display()))
}

/// The ledger files in `dir`, oldest first; other files are ignored.
pub(super) fn list(dir: &Path) -> Result<Vec<LedgerFile>, LedgerError> {
    let entries = fs::read_dir(dir).map_err(|e| LedgerError::io("read", dir, e))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.map_err(|e| LedgerError::io("read", dir, e))?.path();
        let Some(name) = path.file_name().and_then(|n| n.to_str()) else {
            continue;
        };
        let (stem, is_damaged) = match name.strip_suffix(DAMAGED_SUFFIX).and_then(|n| n.strip_suffix('.')) {
            Some(stem) => (stem, true),
            None => (name, false),
        };
        let number = stem
            .strip_prefix("ledger-")
            .and_then(|n| n.strip_suffix(".gwl"))
            .and_then(|n| n.parse().ok());
        if let Some(number) = number {
            files.push(LedgerFile {
                number,
                path,
                is_damaged,
            });
        }
    }
    files.sort_by(|a, b| (a.number, &a.path).cmp(&(b.number, &b.path)));
    Ok(files)
}

/// The header of a file started at `started_at`, truncated to milliseconds (see [`to_header_precision`]).
pub(super) fn header(started_at: Timestamp) -> [u8; HEADER_BYTES as usize] {
    let mut bytes = [0; HEADER_BYTES as usize];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
    bytes[12..20].copy_from_slice(&started_at.as_millisecond().to_le_bytes());
    let crc = crc32fast::hash(&bytes[..20]);
    bytes[20..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// Truncates a time to the precision of the header.
pub(super) fn to_header_precision(at: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at)
}

/// Appends a frame with the payload that `payload` writes.
pub(super) fn frame(out: &mut Vec<u8>, payload: impl FnOnce(&mut Vec<u8>)) {
    let start = open_frame(out);
    payload(out);
    close_frame(out, start);
}

/// Reserves space for a frame header; the payload is appended after it. Returns the position of the frame.
pub(super) fn open_frame(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_HEADER_BYTES as usize]);
    start
}

/// Fills in the frame header reserved by [`open_frame`].
pub(super) fn close_frame(out: &mut [u8], start: usize) {
    let (front, payload) = out[start..].split_at_mut(FRAME_HEADER_BYTES as usize);
    front[..4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    front[4..].copy_from_slice(&crc32fast::hash(payload).to_le_bytes());
}

/// Why reading a file stops.
#[derive(Debug)]
pub(super) enum FrameError {
    /// An I/O error.
    Io(io::Error),
    /// The file has a newer format version.
    Newer(u16),
    /// There is no valid frame at `offset`.
    Broken {
        offset: u64,
        reason: &'static str,
        /// A valid frame follows: the file is damaged in the middle, not truncated.
        frame_follows: bool,
    },
}

impl From<io::Error> for FrameError {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

/// Reads the frames of a file.
#[derive(Debug)]
pub(super) struct FrameReader {
    reader: BufReader<File>,
    /// Position of the next frame.
    offset: u64,
    length: u64,
    payload: Vec<u8>,
    /// Start time in the header.
    pub(super) started_at: Timestamp,
}

impl FrameReader {
    pub(super) fn open(path: &Path) -> Result<Self, FrameError> {
        let file = gridwatch_base::file::open(path, u64::MAX)?;
        let length = file.metadata()?.len();
        let mut reader = BufReader::with_capacity(256 << 10, file);
        let broken = |reason| FrameError::Broken {
            offset: 0,
            reason,
            frame_follows: false,
        };
        let mut bytes = [0; HEADER_BYTES as usize];
        if length < HEADER_BYTES {
            return Err(broken("shorter than a ledger header"));
        }
        reader.read_exact(&mut bytes)?;
        let (front, crc) = bytes.split_at(20);
        if front[..8] != MAGIC || crc != crc32fast::hash(front).to_le_bytes() {
            return Err(broken("not a ledger header"));
        }
        let version = u16::from_le_bytes([front[8], front[9]]);
        if version > VERSION {
            return Err(FrameError::Newer(version));
        }
        let mut ms = [0; 8];
        ms.copy_from_slice(&front[12..20]);
        let started_at =
            Timestamp::from_millisecond(i64::from_le_bytes(ms)).map_err(|_| broken("invalid time in the header"))?;
        Ok(Self {
            reader,
            offset: HEADER_BYTES,
            length,
            payload: Vec::new(),
            started_at,
        })
    }

    /// Position of the next frame; everything before it is valid.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Length of the file when it was opened.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// The next payload; `None` at the end of the file.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>, FrameError> {
        let left = self.length - self.offset;
        if left == 0 {
            return Ok(None);
        }
        let offset = self.offset;
        let torn = |reason| FrameError::Broken {
            offset,
            reason,
            frame_follows: false,
        };
        if left < FRAME_HEADER_BYTES {
            return Err(torn("truncated frame header"));
        }
        let (length, crc) = self.frame_header()?;
        if length == 0 || length > MAX_PAYLOAD {
            return Err(torn("invalid frame length"));
        }
        if left - FRAME_HEADER_BYTES < u64::from(length) {
            return Err(torn("truncated frame"));
        }
        self.read(length)?;
        if crc32fast::hash(&self.payload) != crc {
            return Err(FrameError::Broken {
                offset,
                reason: "checksum mismatch",
                frame_follows: self.is_followed(offset + FRAME_HEADER_BYTES + u64::from(length)),
            });
        }
        self.offset += FRAME_HEADER_BYTES + u64::from(length);
        Ok(Some(&self.payload))
    }

    fn frame_header(&mut self) -> io::Result<(u32, u32)> {
        let mut word = [0; 4];
        self.reader.read_exact(&mut word)?;
        let length = u32::from_le_bytes(word);
        self.reader.read_exact(&mut word)?;
        Ok((length, u32::from_le_bytes(word)))
    }

    fn read(&mut self, length: u32) -> io::Result<()> {
        self.payload.resize(length as usize, 0);
        self.reader.read_exact(&mut self.payload)
    }

    /// True if a valid frame starts at `offset`. Moves the read position, so nothing can be read afterwards.
    fn is_followed(&mut self, offset: u64) -> bool {
        let mut whole = || -> io::Result<bool> {
            self.reader.seek(SeekFrom::Start(offset))?;
            let (length, crc) = self.frame_header()?;
            if length == 0 || length > MAX_PAYLOAD || offset + FRAME_HEADER_BYTES + u64::from(length) > self.length {
                return Ok(false);
            }
            self.read(length)?;
            Ok(crc32fast::hash(&self.payload) == crc)
        };
        whole().unwrap_or(false)
    }
}
