//! One file: its name, its header, its frames, and what is wrong with them.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use jiff::Timestamp;

use super::LedgerError;

const MAGIC: [u8; 8] = *b"GWLEDGER";
/// Of the format. A reader refuses a higher one.
pub(super) const VERSION: u16 = 2;
/// Bytes of the header.
pub(super) const HEADER_BYTES: u64 = 24;
/// Bytes before a frame's payload.
pub(super) const FRAME_HEADER_BYTES: u64 = 8;
/// A longer payload is a broken length: the largest real one, a look with thousands of boxes, is far below.
const MAX_PAYLOAD: u32 = 16 << 20;
/// Appended to the name of a file that was found damaged.
const DAMAGED_SUFFIX: &str = "damaged";

/// A file of the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LedgerFile {
    /// Its place in the order.
    pub(super) number: u64,
    pub(super) path: PathBuf,
    /// It was found damaged before and set apart by its name.
    pub(super) is_damaged: bool,
}

pub(super) fn file_name(number: u64) -> String {
    format!("ledger-{number:08}.gwl")
}

/// What the file is called once it was found damaged.
pub(super) fn damaged_name(path: &Path) -> PathBuf {
    PathBuf::from(format!("{}.{DAMAGED}", path.display()))
}

/// The files of `dir`, oldest first. Others that lie there are left alone.
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

/// The header of a file begun at `begun`, to the millisecond: see [`begun`].
pub(super) fn header(begun: Timestamp) -> [u8; HEADER_BYTES as usize] {
    let mut bytes = [0; HEADER_BYTES as usize];
    bytes[..8].copy_from_slice(&MAGIC);
    bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
    bytes[12..20].copy_from_slice(&begun.as_millisecond().to_le_bytes());
    let crc = crc32fast::hash(&bytes[..20]);
    bytes[20..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

/// What a header can hold of a time.
pub(super) fn begun(at: Timestamp) -> Timestamp {
    Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at)
}

/// A frame around what `payload` writes.
pub(super) fn frame(out: &mut Vec<u8>, payload: impl FnOnce(&mut Vec<u8>)) {
    let start = open_frame(out);
    payload(out);
    close_frame(out, start);
}

/// Leaves room for a frame's length and checksum; the payload goes behind it.
pub(super) fn open_frame(out: &mut Vec<u8>) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_HEADER_BYTES as usize]);
    start
}

/// Fills in what [`open_frame`] left room for.
pub(super) fn close_frame(out: &mut [u8], start: usize) {
    let (front, payload) = out[start..].split_at_mut(FRAME_HEADER_BYTES as usize);
    front[..4].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    front[4..].copy_from_slice(&crc32fast::hash(payload).to_le_bytes());
}

/// Why a file cannot be read on.
#[derive(Debug)]
pub(super) enum FrameError {
    /// The system does not give the bytes.
    Io(io::Error),
    /// A newer program's.
    Newer(u16),
    /// The bytes from `offset` on are no frame.
    Broken {
        offset: u64,
        reason: &'static str,
        /// A whole frame follows: the middle was damaged, not the end torn off.
        frame_follows: bool,
    },
}

impl From<io::Error> for FrameError {
    fn from(e: io::Error) -> Self {
        Self::Io(e)
    }
}

/// Reads a file's frames.
#[derive(Debug)]
pub(super) struct FrameReader {
    reader: BufReader<File>,
    /// Where the next frame begins.
    offset: u64,
    length: u64,
    payload: Vec<u8>,
    /// See the header.
    pub(super) begun: Timestamp,
}

impl FrameReader {
    pub(super) fn open(path: &Path) -> Result<Self, FrameError> {
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        let mut reader = BufReader::with_capacity(256 << 10, file);
        let broken = |reason| FrameError::Broken {
            offset: 0,
            reason,
            frame_follows: false,
        };
        let mut bytes = [0; HEADER_BYTES as usize];
        if length < HEADER_BYTES {
            return Err(broken("it is shorter than its header"));
        }
        reader.read_exact(&mut bytes)?;
        let (front, crc) = bytes.split_at(20);
        if front[..8] != MAGIC || crc != crc32fast::hash(front).to_le_bytes() {
            return Err(broken("its header is not that of a ledger"));
        }
        let version = u16::from_le_bytes([front[8], front[9]]);
        if version > VERSION {
            return Err(FrameError::Newer(version));
        }
        let mut ms = [0; 8];
        ms.copy_from_slice(&front[12..20]);
        let begun =
            Timestamp::from_millisecond(i64::from_le_bytes(ms)).map_err(|_| broken("its header's time is none"))?;
        Ok(Self {
            reader,
            offset: HEADER_BYTES,
            length,
            payload: Vec::new(),
            begun,
        })
    }

    /// Where the next frame begins: all before is whole.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// How long the file was when it was opened.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// The next payload; `None` at the end.
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
            return Err(torn("a record begins and does not go on"));
        }
        let (length, crc) = self.front()?;
        if length == 0 || length > MAX_PAYLOAD {
            return Err(torn("a record's length cannot be"));
        }
        if left - FRAME_HEADER_BYTES < u64::from(length) {
            return Err(torn("a record begins and does not go on"));
        }
        self.read(length)?;
        if crc32fast::hash(&self.payload) != crc {
            return Err(FrameError::Broken {
                offset,
                reason: "a record's checksum is wrong",
                frame_follows: self.is_followed(offset + FRAME_HEADER_BYTES + u64::from(length)),
            });
        }
        self.offset += FRAME_HEADER_BYTES + u64::from(length);
        Ok(Some(&self.payload))
    }

    fn front(&mut self) -> io::Result<(u32, u32)> {
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

    /// True where a whole frame begins at `offset`. Only asked once nothing else is read any more.
    fn is_followed(&mut self, offset: u64) -> bool {
        let mut whole = || -> io::Result<bool> {
            self.reader.seek(SeekFrom::Start(offset))?;
            let (length, crc) = self.front()?;
            if length == 0 || length > MAX_PAYLOAD || offset + FRAME_HEADER_BYTES + u64::from(length) > self.length {
                return Ok(false);
            }
            self.read(length)?;
            Ok(crc32fast::hash(&self.payload) == crc)
        };
        whole().unwrap_or(false)
    }
}
