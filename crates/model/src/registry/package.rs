//! Taking a package apart: a model's folder, or a `.tar` or `.tar.gz` of one. What is in it was made elsewhere, so that
//! nothing of it may lead out of the folder it is put into, and nothing may fill the disk.

use std::{
    fs::{self, File},
    io::{self, BufReader, Read, Write},
    os::unix::fs::{MetadataExt, PermissionsExt, lchown},
    path::{Component, Path, PathBuf},
};

use flate2::read::MultiGzDecoder;

use super::MANIFEST;
use gridwatch_base::error::Class;

/// All files together. Networks for these boxes are 1 to 200 MB.
const MAX_BYTES: u64 = 512 << 20;
/// Files and folders.
const MAX_ENTRIES: usize = 512;
/// Folders in folders.
const MAX_DEPTH: usize = 4;

/// Why a package cannot be taken apart.
#[derive(Debug, thiserror::Error)]
pub enum PackageError {
    /// It is neither.
    #[error("{}: a package is a model's folder, or a .tar or .tar.gz of one: {what}", .package.display())]
    NotOne {
        /// The package.
        package: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Something in it must not be there.
    #[error("{}: {entry}: {what}; nothing of it was kept", .package.display())]
    Entry {
        /// The package.
        package: PathBuf,
        /// What is in it.
        entry: String,
        /// What is wrong.
        what: String,
    },
    /// It holds no model, or several.
    #[error("{}: there is no model.toml in it, neither at its top nor in the only folder there", .package.display())]
    NoManifest {
        /// The package.
        package: PathBuf,
    },
    /// It cannot be read, or not be written here.
    #[error("{}: {source}", .path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl PackageError {
    /// What to do about it.
    pub fn class(&self) -> Class {
        match self {
            Self::NotOne { .. } | Self::Entry { .. } | Self::NoManifest { .. } => Class::Data,
            Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => Class::Config,
            Self::Io { .. } => Class::Transient,
        }
    }
}

/// Copies what `package` holds into the empty folder `into`, and gives the folder there that holds `model.toml`.
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
        let mut file = BufReader::new(File::open(package).map_err(io(package))?);
        let mut magic = [0; 2];
        let is_gzip = file.read_exact(&mut magic).is_ok() && magic == [0x1f, 0x8b];
        let file = BufReader::new(File::open(package).map_err(io(package))?);
        // Headers count, too: a length of names that never ends must.
        let most = 2 * MAX_BYTES;
        if is_gzip {
            extraction.take_archive(MultiGzDecoder::new(file).take(most))?;
        } else {
            extraction.take_archive(file.take(most))?;
        }
    }
    let root = root(into).ok_or_else(|| PackageError::NoManifest {
        package: package.to_path_buf(),
    })?;
    // A temporary folder is its maker's alone; a version is for the daemon to read.
    fs::set_permissions(&root, fs::Permissions::from_mode(0o755)).map_err(io(&root))?;
    Ok(root)
}

/// The folder itself, or the only one in it: `tar` of a folder holds that folder.
fn root(into: &Path) -> Option<PathBuf> {
    let holds = |dir: &Path| dir.join(MANIFEST).is_file();
    if holds(into) {
        return Some(into.to_path_buf());
    }
    let mut inside = fs::read_dir(into).ok()?.filter_map(|e| Some(e.ok()?.path()));
    let only = inside.next()?;
    (inside.next().is_none() && holds(&only)).then_some(only)
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
            entry: entry.display().to_string(),
            what: what.into(),
        })
    }

    fn count(&mut self, entry: &Path) -> Result<(), PackageError> {
        self.entries += 1;
        if self.entries > MAX_ENTRIES {
            return self.refuse(entry, format!("a package has {MAX_ENTRIES} files at most"));
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
            // Of the entry itself, not of what it leads to.
            let kind = entry.file_type().map_err(io(&path))?;
            if kind.is_dir() {
                self.folder(&name)?;
                self.copy_folder(&path, &name)?;
            } else if kind.is_file() {
                let mut file = File::open(&path).map_err(io(&path))?;
                self.file(&name, &mut file)?;
            } else {
                return self.refuse(&name, "neither a file nor a folder; links are not followed");
            }
        }
        Ok(())
    }

    fn take_archive(&mut self, read: impl Read) -> Result<(), PackageError> {
        let mut archive = tar::Archive::new(read);
        let not_one = |source: io::Error| PackageError::NotOne {
            package: self.package.to_path_buf(),
            what: source.to_string(),
        };
        for entry in archive.entries().map_err(not_one)? {
            let mut entry = entry.map_err(|source| PackageError::NotOne {
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
                        return self.refuse(&name, "leads out of the package");
                    }
                }
            }
            match entry.header().entry_type() {
                tar::EntryType::Directory => self.folder(&inside)?,
                tar::EntryType::Regular | tar::EntryType::Continuous => self.file(&inside, &mut entry)?,
                other => return self.refuse(&name, format!("neither a file nor a folder but {other:?}")),
            }
        }
        Ok(())
    }

    fn folder(&mut self, name: &Path) -> Result<(), PackageError> {
        if name.components().count() > MAX_DEPTH {
            return self.refuse(name, format!("a package has {MAX_DEPTH} folders in each other at most"));
        }
        let path = self.root.join(name);
        fs::create_dir_all(&path).map_err(|source| PackageError::Io { path, source })
    }

    fn file(&mut self, name: &Path, from: &mut impl Read) -> Result<(), PackageError> {
        if let Some(folder) = name.parent() {
            self.folder(folder)?;
        }
        let path = self.root.join(name);
        let mut file = match File::create_new(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => return self.refuse(name, "is in the package twice"),
            Err(source) => return Err(PackageError::Io { path, source }),
        };
        let mut bounded = from.take(self.bytes_left + 1);
        let written = io::copy(&mut bounded, &mut file)
            .and_then(|n| file.flush().map(|()| n))
            .map_err(|source| PackageError::Io { path, source })?;
        match self.bytes_left.checked_sub(written) {
            Some(bytes_left) => self.bytes_left = bytes_left,
            None => return self.refuse(name, format!("a package has {} MiB at most", MAX_BYTES >> 20)),
        }
        Ok(())
    }
}

/// Gives what lies at `path`, and in it, to whoever owns the folder around it: an operator's root must leave nothing that the
/// daemon's user cannot read or append to. Whoever is not root cannot and need not.
pub(super) fn match_owner(path: &Path) {
    let Some(around) = path.parent().and_then(|p| fs::symlink_metadata(p).ok()) else {
        return;
    };
    chown_tree(path, around.uid(), around.gid());
}

fn chown_tree(path: &Path, user: u32, group: u32) {
    let Ok(its) = fs::symlink_metadata(path) else {
        return;
    };
    if its.uid() != user {
        // Where it is refused, whoever reads it says so.
        let _ = lchown(path, Some(user), Some(group));
    }
    if its.is_dir() {
        for entry in fs::read_dir(path).into_iter().flatten().filter_map(Result::ok) {
            chown_tree(&entry.path(), user, group);
        }
    }
}

/// Waits until the disk has every file of a folder, and the folder.
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

/// Waits until the disk has what a folder's entries are called.
pub(super) fn sync_folder(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
