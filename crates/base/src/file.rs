//! Files that a person or a configuration names.
//!
//! Such a path may lead anywhere: opening a FIFO waits for a writer, `/dev/zero` never ends, and an editor may have put a byte
//! order mark before the text. So every such file is opened here: only a regular file, and only up to a size.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::{FileTypeExt, OpenOptionsExt},
    path::Path,
};

use zeroize::Zeroizing;

/// Maximum size of a key, certificate or credential. The largest in use, a bundle of all public CAs, has 230 kB.
pub const MAX_KEY: u64 = 4 << 20;
/// Maximum size of a configuration, manifest, template or label file.
pub const MAX_TEXT: u64 = 16 << 20;
/// Maximum size of a data file with a line or object for each of many cells, pictures or cases. COCO's largest has 450 MB.
pub const MAX_DATA: u64 = 1 << 30;
/// Maximum size of a picture file. A lossless picture with 8K has 100 MB.
pub const MAX_PICTURE: u64 = 256 << 20;
/// Maximum size of a model. Protocol Buffers, and so ONNX, allow no more.
pub const MAX_MODEL: u64 = 2 << 30;

/// Opens the regular file that `path` leads to, if it has at most `limit` bytes. Never waits.
///
/// # Errors
/// The error of the system, or what the path leads to instead.
pub fn open(path: &Path, limit: u64) -> io::Result<File> {
    open_with(path, limit, 0)
}

/// Like [`open`], but refuses a symbolic link as the last part of `path`.
///
/// # Errors
/// As [`open`].
pub fn open_unlinked(path: &Path, limit: u64) -> io::Result<File> {
    if path.symlink_metadata()?.is_symlink() {
        return Err(other("a symbolic link, not a regular file".into()));
    }
    // Refuses a link that has just taken the file's place.
    open_with(path, limit, libc::O_NOFOLLOW)
}

fn open_with(path: &Path, limit: u64, flags: i32) -> io::Result<File> {
    // Before it is opened: opening a device can have an effect.
    expect_regular(&path.metadata()?)?;
    let file = File::options()
        .read(true)
        // If a FIFO has just taken the file's place, opening it must not wait.
        .custom_flags(libc::O_NONBLOCK | flags)
        .open(path)?;
    let metadata = file.metadata()?;
    expect_regular(&metadata)?;
    if metadata.len() > limit {
        return Err(too_large(limit));
    }
    Ok(file)
}

/// Reads the regular file that `path` leads to, if it has at most `limit` bytes.
///
/// # Errors
/// As [`open`].
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    read_all(open(path, limit)?, limit)
}

/// Reads an opened file to its end, if that is at most `limit` bytes away: it may grow, and `/proc` states no sizes.
///
/// # Errors
/// The error of the system, or that the file is larger.
pub fn read_all(file: File, limit: u64) -> io::Result<Vec<u8>> {
    let size = file.metadata()?.len().min(limit);
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(too_large(limit));
    }
    Ok(bytes)
}

/// Reads a UTF-8 text file of at most `limit` bytes, without its byte order mark if it has one.
///
/// # Errors
/// As [`open`], or [`io::ErrorKind::InvalidData`] for other text than UTF-8.
pub fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    text(read(path, limit)?)
}

/// The UTF-8 text that a file holds, without its byte order mark if it has one.
///
/// # Errors
/// [`io::ErrorKind::InvalidData`] for other text than UTF-8.
pub fn text(bytes: Vec<u8>) -> io::Result<String> {
    match String::from_utf8(bytes) {
        Ok(text) if text.starts_with(MARK) => Ok(without_mark(&text).into()),
        Ok(text) => Ok(text),
        Err(e) => Err(not_utf8(e.utf8_error())),
    }
}

/// Like [`read_text`], for passwords, PINs and keys: the buffer is overwritten when dropped.
///
/// # Errors
/// As [`read_text`].
pub fn read_secret(path: &Path, limit: u64) -> io::Result<Zeroizing<String>> {
    let file = open(path, limit)?;
    // Reserved at once for a file of a secret's size: a buffer that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_BYTES));
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(too_large(limit));
    }
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(without_mark(text).to_owned())),
        Err(e) => Err(not_utf8(e)),
    }
}

/// Larger than keys and passwords are.
const SECRET_BYTES: usize = 16 << 10;

fn not_utf8(e: std::str::Utf8Error) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("invalid UTF-8 at byte {}; save the file as UTF-8", e.valid_up_to()),
    )
}

/// The text without a byte order mark, which editors on Windows put at the beginning.
pub fn without_mark(text: &str) -> &str {
    text.strip_prefix(MARK).unwrap_or(text)
}

/// The byte order mark.
const MARK: char = '\u{feff}';

fn expect_regular(metadata: &std::fs::Metadata) -> io::Result<()> {
    let kind = metadata.file_type();
    let what = if kind.is_file() {
        return Ok(());
    } else if kind.is_dir() {
        return Err(io::Error::new(
            io::ErrorKind::IsADirectory,
            "a folder, not a regular file",
        ));
    } else if kind.is_fifo() {
        "a FIFO"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    };
    Err(other(format!("{what}, not a regular file")))
}

fn other(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

fn too_large(limit: u64) -> io::Error {
    let limit = match limit {
        0..1024 => format!("{limit} bytes"),
        1024..1_048_576 => format!("{} KiB", limit >> 10),
        _ => format!("{} MiB", limit >> 20),
    };
    io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {limit}"))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    fn message(result: io::Result<impl Sized>) -> String {
        result.err().unwrap().to_string()
    }

    #[test]
    fn only_a_regular_file_is_opened_and_nothing_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        rustix::fs::mknodat(
            rustix::fs::CWD,
            at("fifo"),
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR,
            0,
        )
        .unwrap();
        symlink("/dev/zero", at("endless")).unwrap();
        assert_eq!(message(read(&at("fifo"), 9)), "a FIFO, not a regular file");
        assert_eq!(message(read(&at("endless"), 9)), "a device, not a regular file");
        assert_eq!(message(read(dir.path(), 9)), "a folder, not a regular file");
        assert_eq!(read(&at("none"), 9).unwrap_err().kind(), io::ErrorKind::NotFound);

        fs::write(at("file"), "nine long").unwrap();
        symlink(at("file"), at("link")).unwrap();
        assert_eq!(read(&at("link"), 9).unwrap(), b"nine long");
        assert_eq!(
            message(open_unlinked(&at("link"), 9)),
            "a symbolic link, not a regular file"
        );
        assert!(open_unlinked(&at("file"), 9).is_ok());
    }

    #[test]
    fn a_file_over_the_limit_is_refused_even_if_it_states_no_size() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "nine long").unwrap();
        assert_eq!(message(read(&path, 8)), "larger than 8 bytes");
        // A hole: nothing of it is read or reserved.
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_len(1 << 40)
            .unwrap();
        assert_eq!(message(read(&path, MAX_PICTURE)), "larger than 256 MiB");
        let proc = Path::new("/proc/self/status");
        assert_eq!(proc.metadata().unwrap().len(), 0);
        assert_eq!(message(read(proc, 5)), "larger than 5 bytes");
        assert!(read_text(proc, MAX_KEY).unwrap().starts_with("Name:"));
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_text() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, "\u{feff}user:password").unwrap();
        assert_eq!(read_text(&path, MAX_KEY).unwrap(), "user:password");
        fs::write(&path, b"caf\xe9").unwrap();
        assert!(message(read_text(&path, MAX_KEY)).starts_with("invalid UTF-8 at byte 3"));
        assert!(message(read_secret(&path, MAX_KEY)).starts_with("invalid UTF-8 at byte 3"));
        fs::write(&path, "\u{feff}user:password").unwrap();
        assert_eq!(*read_secret(&path, MAX_KEY).unwrap(), "user:password");
        assert_eq!(message(read_secret(&path, 15)), "larger than 15 bytes");
    }
}
