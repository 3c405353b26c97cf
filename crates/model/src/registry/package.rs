//! Unpacks a package: a model folder, or a `.tar` or `.tar.gz` of one. Packages are untrusted: no entry may leave the target folder,
//! and size, number of entries and depth are limited.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read, Seek, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, lchown},
    path::{Component, Path, PathBuf},
};

use flate2::read::MultiGzDecoder;

use super::MANIFEST;
use gridwatch_base::{disk, error::Class, file, text::printable};

/// Maximum total size of the files. Models for these boxes take 1 to 200 MB.
const MAX_BYTES: u64 = 512 << 20;
/// Maximum number of files and folders.
const MAX_ENTRIES: usize = 512;
/// Maximum size of an entry's attributes.
const MAX_ATTRIBUTES: u64 = 64 << 10;
const LONG_NAME: &str = "a name over 100 characters, or one that the pax format stores apart (not ASCII); shorten it, or use tar --format=gnu";
/// Maximum nesting of folders.
const MAX_DEPTH: usize = 4;

/// A package cannot be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// Neither a folder nor a readable archive.
    #[error("{}: not a model folder, nor a .tar or .tar.gz of one: {what}", .package.display())]
    NotAPackage {
        /// The package.
        package: PathBuf,
        /// The fault.
        what: String,
    },
    /// An entry is not allowed.
    #[error("{}: {entry}: {what}; nothing was installed", .package.display())]
    Entry {
        /// The package.
        package: PathBuf,
        /// The entry.
        entry: String,
        /// The fault.
        what: String,
    },
    /// It contains no model, or several.
    #[error("{}: no model.toml at the top level or in a single top-level folder", .package.display())]
    NoManifest {
        /// The package.
        package: PathBuf,
    },
    /// Reading the package or writing its files failed.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The I/O error.
        source: io::Error,
    },
}

impl PackageError {
    /// Error class, which decides between retry, quarantine and exit.
    pub fn class(&self) -> Class {
        match self {
            Self::NotAPackage { .. } | Self::Entry { .. } | Self::NoManifest { .. } => Class::Data,
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::InvalidInput | io::ErrorKind::FileTooLarge => Class::Config,
                // Of the archive: it is cut off, or damaged.
                io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => Class::Data,
                _ => Class::Transient,
            },
        }
    }
}

/// Unpacks `package` into the empty folder `into`; returns the folder that contains `model.toml`.
pub(super) fn unpack(package: &Path, into: &Path) -> Result<PathBuf, PackageError> {
    let io = |path: &Path| {
        let path = path.to_path_buf();
        move |source| PackageError::Io { path, source }
    };
    let mut extraction = Extraction {
        package,
        root: into,
        bytes_left: MAX_BYTES,
        entries: 0,
    };
    if fs::metadata(package).map_err(io(package))?.is_dir() {
        extraction.copy_folder(package, Path::new(""))?;
    } else {
        // Limits the headers as well, such as endless long-name records.
        let limit = 2 * MAX_BYTES;
        let mut file = BufReader::new(file::open(package, limit).map_err(io(package))?);
        let mut magic = [0; 2];
        let is_gzip = file.read_exact(&mut magic).is_ok() && magic == [0x1f, 0x8b];
        file.rewind().map_err(io(package))?;
        if is_gzip {
            extraction.take_archive(MultiGzDecoder::new(file).take(limit))?;
        } else {
            extraction.take_archive(file.take(limit))?;
        }
    }
    let root = find_root(into).ok_or_else(|| PackageError::NoManifest {
        package: package.to_path_buf(),
    })?;
    // A temporary folder is private to its creator; the daemon's user must be able to read a version.
    fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).map_err(io(&root))?;
    Ok(root)
}

/// The folder with the manifest: `into` itself or, as in a `tar` of a folder, its only entry.
fn find_root(into: &Path) -> Option<PathBuf> {
    let has_manifest = |dir: &Path| dir.join(MANIFEST).is_file();
    if has_manifest(into) {
        return Some(into.to_path_buf());
    }
    let mut inside = fs::read_dir(into).ok()?.filter_map(|e| Some(e.ok()?.path()));
    let only = inside.next()?;
    (inside.next().is_none() && has_manifest(&only)).then_some(only)
}

struct Extraction<'a> {
    package: &'a Path,
    root: &'a Path,
    bytes_left: u64,
    entries: usize,
}

impl Extraction<'_> {
    fn refuse<T>(&self, entry: &Path, what: impl Into<String>) -> Result<T, PackageError> {
        Err(PackageError::Entry {
            package: self.package.to_path_buf(),
            entry: printable(&entry.display().to_string()),
            what: what.into(),
        })
    }

    fn count(&mut self, entry: &Path) -> Result<(), PackageError> {
        self.entries += 1;
        if self.entries > MAX_ENTRIES {
            return self.refuse(entry, format!("more than {MAX_ENTRIES} files and folders"));
        }
        Ok(())
    }

    fn copy_folder(&mut self, from: &Path, below: &Path) -> Result<(), PackageError> {
        let io = |path: &Path| {
            let path = path.to_path_buf();
            move |source| PackageError::Io { path, source }
        };
        for entry in fs::read_dir(from).map_err(io(from))? {
            let entry = entry.map_err(io(from))?;
            let (path, name) = (entry.path(), below.join(entry.file_name()));
            self.count(&name)?;
            // The type of the entry itself, not of a link's target.
            let kind = entry.file_type().map_err(io(&path))?;
            if kind.is_dir() {
                self.folder(&name)?;
                self.copy_folder(&path, &name)?;
            } else if kind.is_file() {
                let mut file = File::open(&path).map_err(io(&path))?;
                self.file(&name, &mut file)?;
            } else {
                return self.refuse(&name, "neither a regular file nor a folder; links are not followed");
            }
        }
        Ok(())
    }

    fn take_archive(&mut self, read: impl Read) -> Result<(), PackageError> {
        let mut archive = tar::Archive::new(read);
        let not_a_package = |source: io::Error| PackageError::NotAPackage {
            package: self.package.to_path_buf(),
            what: source.to_string(),
        };
        // Raw: otherwise the library reads long names into memory before they can be refused.
        for entry in archive.entries().map_err(not_a_package)?.raw(true) {
            let mut entry = entry.map_err(|source| PackageError::NotAPackage {
                package: self.package.to_path_buf(),
                what: source.to_string(),
            })?;
            let name = match entry.path() {
                Ok(path) => path.into_owned(),
                Err(e) => return self.refuse(Path::new("?"), e.to_string()),
            };
            self.count(&name)?;
            let mut inside = PathBuf::new();
            for part in name.components() {
                match part {
                    Component::Normal(part) => inside.push(part),
                    Component::CurDir => {}
                    Component::RootDir | Component::ParentDir | Component::Prefix(_) => {
                        return self.refuse(&name, "path leads outside the package");
                    }
                }
            }
            match entry.header().entry_type() {
                tar::EntryType::XHeader | tar::EntryType::XGlobalHeader => self.attributes(&name, &mut entry)?,
                tar::EntryType::GNULongName | tar::EntryType::GNULongLink => {
                    return self.refuse(&name, LONG_NAME);
                }
                tar::EntryType::Directory => self.folder(&inside)?,
                tar::EntryType::Regular | tar::EntryType::Continuous => self.file(&inside, &mut entry)?,
                other => return self.refuse(&name, format!("neither a regular file nor a folder, but {other:?}")),
            }
        }
        Ok(())
    }

    /// The attributes of an entry, which some programs write for its times. Of these, only a name would matter.
    fn attributes(&self, name: &Path, from: &mut impl Read) -> Result<(), PackageError> {
        let mut attributes = Vec::new();
        let read = from.take(MAX_ATTRIBUTES + 1).read_to_end(&mut attributes);
        read.map_err(|source| PackageError::Io {
            path: self.package.to_path_buf(),
            source,
        })?;
        if attributes.len() as u64 > MAX_ATTRIBUTES {
            return self.refuse(name, format!("more than {MAX_ATTRIBUTES} bytes of attributes"));
        }
        let names =
            |key: &[u8]| key == b"path" || key == b"linkpath" || key == b"size" || key.starts_with(b"GNU.sparse");
        let mut records = tar::PaxExtensions::new(&attributes);
        if records.any(|record| record.map_or(true, |r| names(r.key_bytes()))) {
            return self.refuse(name, LONG_NAME);
        }
        Ok(())
    }

    fn folder(&mut self, name: &Path) -> Result<(), PackageError> {
        if name.components().count() > MAX_DEPTH {
            return self.refuse(name, format!("more than {MAX_DEPTH} nested folders"));
        }
        let path = self.root.join(name);
        disk::create_private_dir(&path).map_err(|source| PackageError::Io { path, source })
    }

    fn file(&mut self, name: &Path, from: &mut impl Read) -> Result<(), PackageError> {
        if let Some(folder) = name.parent() {
            self.folder(folder)?;
        }
        let path = self.root.join(name);
        let mut file = match File::options()
            .write(true)
            .create_new(true)
            .mode(disk::PRIVATE_FILE)
            .open(&path)
        {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return self.refuse(name, "duplicate entry"),
            Err(source) => return Err(PackageError::Io { path, source }),
        };
        let mut bounded = from.take(self.bytes_left + 1);
        let written = io::copy(&mut bounded, &mut file)
            .and_then(|n| file.flush().map(|()| n))
            .map_err(|source| PackageError::Io { path, source })?;
        match self.bytes_left.checked_sub(written) {
            Some(bytes_left) => self.bytes_left = bytes_left,
            None => return self.refuse(name, format!("the package is larger than {} MiB", MAX_BYTES >> 20)),
        }
        Ok(())
    }
}

/// Gives `path` and its contents to the owner of its parent folder, so that files created by root stay accessible to the daemon's
/// user. Without root privileges this has no effect and is not needed.
pub(super) fn match_owner(path: &Path) {
    let Some(parent) = path.parent().and_then(|p| fs::symlink_metadata(p).ok()) else {
        return;
    };
    chown_tree(path, parent.uid(), parent.gid());
}

fn chown_tree(path: &Path, user: u32, group: u32) {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return;
    };
    if metadata.uid() != user {
        // On failure, reading the file reports the error.
        let _ = lchown(path, Some(user), Some(group));
    }
    if metadata.is_dir() {
        for entry in fs::read_dir(path).into_iter().flatten().filter_map(Result::ok) {
            chown_tree(&entry.path(), user, group);
        }
    }
}

/// Flushes every file of a folder, and the folder itself, to disk.
pub(super) fn sync_files(dir: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_files(&entry.path())?;
        } else {
            File::open(entry.path())?.sync_all()?;
        }
    }
    sync_folder(dir)
}

/// Flushes the entries of a folder to disk.
pub(super) fn sync_folder(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
