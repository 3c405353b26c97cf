//! The folder `views` in the state directory: learned views, and the exchange between the daemon and `gridwatch view`.
//!
//! | File | Written by | Content |
//! |---|---|---|
//! | `CAMERA.view` | daemon | the references ([`SavedView`]), encrypted |
//! | `CAMERA.change` | daemon, every six hours and after news | the [`ChangeMap`], encrypted |
//! | `CAMERA.status.json` | daemon, at each change | [`ViewStatus`] |
//! | `CAMERA.changes.json` | daemon, when new regions change, at most every minute | [`ChangeStatus`] |
//! | `CAMERA.newest` | daemon, when the camera was moved and on request | the newest look as PNG in greyscale, 320 pixels across, encrypted |
//! | `CAMERA.request.json` | `gridwatch view` | [`ViewRequest`], processed at the next look |
//!
//! Pictures are not masked, so they are encrypted with the key of the originals ([`VaultKey::seal_file`]); references of older
//! versions, which are not, are read and written anew. Files are written atomically. A corrupt reference file or change map is
//! renamed, never deleted.

mod status;

use std::{
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use image::GrayImage;
use jiff::Timestamp;
use serde::de::DeserializeOwned;

pub use self::status::{ChangeStanding, ChangeStatus, RegionStatus, Standing, ViewRequest, ViewStatus};
use crate::{Luma, SavedView, change::ChangeMap};
use gridwatch_base::{disk, error::Class};
use gridwatch_custody::vault::{VaultKey, is_sealed};
use gridwatch_engine::CameraId;

/// Why a file of the folder could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ViewsError {
    /// A file system error.
    #[error("cannot {doing} {}: {source}", .path.display())]
    Io {
        /// The operation: `read`, `write` or `remove`.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file is encrypted, and there is no key.
    #[error("{} is encrypted with the key of the originals, which is not there", .path.display())]
    NoKey {
        /// The file.
        path: PathBuf,
    },
    /// The file is corrupt.
    #[error("{} is corrupt: {reason}", .path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// The fault.
        reason: String,
    },
}

impl ViewsError {
    /// How the caller should handle the error.
    pub fn class(&self) -> Class {
        match self {
            Self::Io { .. } => Class::Transient,
            Self::NoKey { .. } => Class::Config,
            Self::Corrupt { .. } => Class::Data,
        }
    }
}

/// The files of one camera or preset.
#[derive(Debug, Clone)]
pub struct ViewFiles {
    folder: PathBuf,
    camera: CameraId,
    /// Encrypts the pictures; `None` for who reads and writes none.
    key: Option<Arc<VaultKey>>,
}

impl ViewFiles {
    /// The files below `state_dir`, with the key of the originals if pictures are read or written. Creates nothing.
    pub fn new(state_dir: &Path, camera: CameraId, key: Option<Arc<VaultKey>>) -> Self {
        Self {
            folder: state_dir.join("views"),
            camera,
            key,
        }
    }

    /// Path of the file with this suffix, such as `view`.
    pub fn path(&self, suffix: &str) -> PathBuf {
        self.folder.join(format!("{}.{suffix}", self.camera))
    }

    /// Reads the references; `None` if none are saved.
    ///
    /// # Errors
    /// The file cannot be read or is corrupt.
    pub fn load(&self) -> Result<Option<SavedView>, ViewsError> {
        let path = self.path(VIEW);
        let Some(bytes) = self.read_picture(VIEW)? else {
            return Ok(None);
        };
        SavedView::from_bytes(&bytes)
            .map(Some)
            .map_err(|reason| ViewsError::Corrupt {
                path,
                reason: reason.into(),
            })
    }

    /// Like [`Self::load`], but logs errors and renames a corrupt file to `CAMERA.view.corrupt`.
    pub fn load_or_set_aside(&self) -> Option<SavedView> {
        if let Err(error) = remove(&self.path(UNENCRYPTED_NEWEST)) {
            tracing::warn!(camera = %self.camera, %error, "Cannot delete a picture that is not encrypted");
        }
        let error = match self.load() {
            Ok(saved) => {
                self.encrypt(saved.as_ref());
                return saved;
            }
            Err(error) => error,
        };
        let (from, to) = (self.path(VIEW), self.path("view.corrupt"));
        if matches!(error, ViewsError::Corrupt { .. }) && fs::rename(&from, &to).is_ok() {
            tracing::warn!(camera = %self.camera, %error, renamed_to = %to.display(), "Corrupt view file renamed; learning the current view instead. Check that the camera points where its zones were drawn (gridwatch view show)");
        } else {
            tracing::warn!(camera = %self.camera, %error, "Cannot read the view file; learning the current view instead. Check that the camera points where its zones were drawn (gridwatch view show)");
        }
        None
    }

    /// Writes references anew that an older version left unencrypted.
    fn encrypt(&self, saved: Option<&SavedView>) {
        let is_sealed = fs::read(self.path(VIEW)).is_ok_and(|bytes| is_sealed(&bytes));
        if let (false, Some(saved)) = (is_sealed, saved)
            && let Err(error) = self.save(saved)
        {
            tracing::warn!(camera = %self.camera, %error, "Cannot encrypt the view file of an older version");
        }
    }

    /// Writes the references.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, saved: &SavedView) -> Result<(), ViewsError> {
        self.write_picture(VIEW, &saved.to_bytes())
    }

    /// Deletes the references.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn delete(&self) -> Result<(), ViewsError> {
        remove(&self.path(VIEW))
    }

    /// Restores the change map of an earlier run into `map`, if one is saved. Logs errors, and renames a corrupt file to
    /// `CAMERA.change.corrupt`; the map then learns anew.
    pub fn restore_change(&self, map: &mut ChangeMap) {
        let path = self.path(CHANGE);
        let restored = match self.read_picture(CHANGE) {
            Ok(None) => return,
            Ok(Some(bytes)) => map.restore(&bytes).map_err(|reason| ViewsError::Corrupt {
                path: path.clone(),
                reason: reason.into(),
            }),
            Err(error) => Err(error),
        };
        let Err(error) = restored else { return };
        let to = self.path("change.corrupt");
        if matches!(error, ViewsError::Corrupt { .. }) && fs::rename(&path, &to).is_ok() {
            tracing::warn!(camera = %self.camera, %error, renamed_to = %to.display(), "Corrupt change map renamed; learning the background anew");
        } else {
            tracing::warn!(camera = %self.camera, %error, "Cannot read the change map; learning the background anew");
        }
    }

    /// Writes the change map, if it has seen a look.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save_change(&self, map: &ChangeMap) -> Result<(), ViewsError> {
        match map.to_bytes() {
            Some(bytes) => self.write_picture(CHANGE, &bytes),
            None => Ok(()),
        }
    }

    /// Deletes the change map, and what was published about it.
    ///
    /// # Errors
    /// A file cannot be removed.
    pub fn delete_change(&self) -> Result<(), ViewsError> {
        remove(&self.path(CHANGES))?;
        remove(&self.path(CHANGE))
    }

    /// Reads what was published about the change map; `None` if it was not yet, or no longer applies.
    ///
    /// # Errors
    /// The file cannot be read or is corrupt.
    pub fn change_status(&self) -> Result<Option<ChangeStatus>, ViewsError> {
        read_json(&self.path(CHANGES))
    }

    /// Publishes the state of the change map.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_change_status(&self, status: &ChangeStatus) -> Result<(), ViewsError> {
        self.write(CHANGES, &serde_json::to_vec(status).unwrap_or_default())
    }

    /// Reads the status; `None` before the first look.
    ///
    /// # Errors
    /// The file cannot be read or is corrupt.
    pub fn status(&self) -> Result<Option<ViewStatus>, ViewsError> {
        read_json(&self.path(STATUS))
    }

    /// Writes the status.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_status(&self, status: &ViewStatus) -> Result<(), ViewsError> {
        self.write(STATUS, &serde_json::to_vec(status).unwrap_or_default())
    }

    /// Reads the newest look on disk and the time when it was written; `None` if there is none.
    ///
    /// # Errors
    /// The file cannot be read or is corrupt.
    pub fn newest(&self) -> Result<Option<(GrayImage, Timestamp)>, ViewsError> {
        let path = self.path(NEWEST);
        let Some(bytes) = self.read_picture(NEWEST)? else {
            return Ok(None);
        };
        let io = |source| ViewsError::Io {
            doing: "read",
            path: path.clone(),
            source,
        };
        let written = fs::metadata(&path).and_then(|m| m.modified()).map_err(io)?;
        let picture = image::load_from_memory(&bytes).map_err(|e| ViewsError::Corrupt {
            path: path.clone(),
            reason: e.to_string(),
        })?;
        Ok(Some((
            picture.into_luma8(),
            Timestamp::try_from(written).unwrap_or(Timestamp::UNIX_EPOCH),
        )))
    }

    /// Writes the newest look.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write_newest(&self, luma: &Luma) -> Result<(), ViewsError> {
        let mut png = Vec::new();
        let written = luma
            .to_gray()
            .map(|p| p.write_to(&mut io::Cursor::new(&mut png), image::ImageFormat::Png));
        match written {
            Some(Ok(())) => self.write_picture(NEWEST, &png),
            _ => Err(ViewsError::Corrupt {
                path: self.path(NEWEST),
                reason: "the number of samples does not match the size".into(),
            }),
        }
    }

    /// Reads and removes the pending request, if there is one.
    ///
    /// # Errors
    /// The file cannot be read or removed. A corrupt request is removed and reported.
    pub fn take_request(&self) -> Result<Option<ViewRequest>, ViewsError> {
        let path = self.path(REQUEST);
        let request = read_json(&path);
        if !matches!(request, Ok(None)) {
            remove(&path)?;
        }
        request
    }

    /// Writes a request, to be processed at the daemon's next look.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn request(&self, request: ViewRequest) -> Result<(), ViewsError> {
        self.write(REQUEST, &serde_json::to_vec(&request).unwrap_or_default())
    }

    /// True while a request is pending.
    pub fn has_request(&self) -> bool {
        self.path(REQUEST).exists()
    }

    /// Removes the pending request, if there is one.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn cancel_request(&self) -> Result<(), ViewsError> {
        remove(&self.path(REQUEST))
    }

    /// The decrypted content of a file with a picture.
    fn read_picture(&self, suffix: &str) -> Result<Option<Vec<u8>>, ViewsError> {
        let path = self.path(suffix);
        let Some(bytes) = read(&path)? else { return Ok(None) };
        if !is_sealed(&bytes) {
            return Ok(Some(bytes));
        }
        let Some(key) = &self.key else {
            return Err(ViewsError::NoKey { path });
        };
        let content = key.open_file(&self.sealed_name(suffix), &bytes);
        content.map(Some).ok_or_else(|| ViewsError::Corrupt {
            path,
            reason: "it cannot be decrypted: it was changed, or the key of the originals was replaced".into(),
        })
    }

    fn write_picture(&self, suffix: &str, content: &[u8]) -> Result<(), ViewsError> {
        let sealed = self
            .key
            .as_ref()
            .map(|key| key.seal_file(&self.sealed_name(suffix), content));
        match sealed {
            Some(Some(sealed)) => self.write(suffix, &sealed),
            Some(None) => Err(ViewsError::Io {
                doing: "write",
                path: self.path(suffix),
                source: io::Error::other("no random numbers from the operating system"),
            }),
            None => Err(ViewsError::NoKey {
                path: self.path(suffix),
            }),
        }
    }

    fn sealed_name(&self, suffix: &str) -> String {
        format!("view {}.{suffix}", self.camera)
    }

    fn write(&self, suffix: &str, bytes: &[u8]) -> Result<(), ViewsError> {
        let path = self.path(suffix);
        let written = || {
            disk::create_private_dir(&self.folder)?;
            let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
            file.write_all(bytes)?;
            file.as_file().sync_all()?;
            file.persist(&path)?;
            Ok(())
        };
        written().map_err(|source| ViewsError::Io {
            doing: "write",
            path: path.clone(),
            source,
        })
    }
}

const VIEW: &str = "view";
const CHANGE: &str = "change";
const STATUS: &str = "status.json";
const CHANGES: &str = "changes.json";
const NEWEST: &str = "newest";
/// Of older versions: not encrypted.
const UNENCRYPTED_NEWEST: &str = "newest.png";
const REQUEST: &str = "request.json";

/// Largest file that is read: a change map with three variants of the finest setting.
const MAX_FILE: u64 = 64 << 20;

fn read(path: &Path) -> Result<Option<Vec<u8>>, ViewsError> {
    let read = || -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        fs::File::open(path)?.take(MAX_FILE).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => Ok(Some(bytes)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ViewsError::Io {
            doing: "read",
            path: path.to_path_buf(),
            source,
        }),
    }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, ViewsError> {
    let Some(bytes) = read(path)? else { return Ok(None) };
    serde_json::from_slice(&bytes)
        .map(Some)
        .map_err(|e| ViewsError::Corrupt {
            path: path.to_path_buf(),
            reason: e.to_string(),
        })
}

fn remove(path: &Path) -> Result<(), ViewsError> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(ViewsError::Io {
            doing: "remove",
            path: path.to_path_buf(),
            source: e,
        }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIZE: (usize, usize) = (64, 36);

    /// A bright square on dark ground.
    fn luma() -> Luma {
        let mut samples = vec![20; SIZE.0 * SIZE.1];
        samples[64 * 10..64 * 20].fill(200);
        Luma {
            width: SIZE.0,
            height: SIZE.1,
            samples,
        }
    }

    fn files(dir: &Path, key: Option<u8>) -> ViewFiles {
        let key = key.map(|byte| Arc::new(VaultKey::new(&[byte; 32]).unwrap()));
        ViewFiles::new(dir, "gate".into(), key)
    }

    #[test]
    fn pictures_are_read_with_the_key_only() {
        let dir = tempfile::tempdir().unwrap();
        files(dir.path(), Some(7)).write_newest(&luma()).unwrap();
        let written = fs::read(files(dir.path(), None).path(NEWEST)).unwrap();
        assert!(is_sealed(&written) && image::load_from_memory(&written).is_err());
        let (picture, _) = files(dir.path(), Some(7)).newest().unwrap().unwrap();
        assert_eq!(picture, luma().to_gray().unwrap());
        assert!(matches!(
            files(dir.path(), None).newest(),
            Err(ViewsError::NoKey { .. })
        ));
        assert!(matches!(
            files(dir.path(), Some(8)).newest(),
            Err(ViewsError::Corrupt { .. })
        ));
        let other = files(dir.path(), Some(7));
        fs::rename(other.path(NEWEST), other.path(VIEW)).unwrap();
        assert!(
            matches!(other.load(), Err(ViewsError::Corrupt { .. })),
            "another file's content"
        );
    }

    #[test]
    fn a_corrupt_change_map_is_set_aside_and_the_view_learned_anew() {
        use crate::change::{ChangeBuffers, ChangeMap, ChangeSettings};
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path(), Some(7));
        let picture = image::RgbImage::from_fn(320, 180, |x, y| image::Rgb([((x * 7) ^ (y * 13)) as u8; 3]));
        let frame = gridwatch_frame::Frame::from_rgb(&picture, Timestamp::UNIX_EPOCH).unwrap();
        let mut map = ChangeMap::new(ChangeSettings::default());
        files.save_change(&map).unwrap();
        assert!(!files.path(CHANGE).exists(), "nothing is learned");
        map.look(&frame, &[], &mut ChangeBuffers::default()).unwrap();
        files.save_change(&map).unwrap();
        assert!(is_sealed(&fs::read(files.path(CHANGE)).unwrap()));
        let mut restored = ChangeMap::new(ChangeSettings::default());
        files.restore_change(&mut restored);
        assert_eq!(restored.to_bytes(), map.to_bytes());

        files.write_picture(CHANGE, b"gridwatch change 1\nno more").unwrap();
        let mut fresh = ChangeMap::new(ChangeSettings::default());
        files.restore_change(&mut fresh);
        assert_eq!(fresh.to_bytes(), None);
        assert!(!files.path(CHANGE).exists() && files.path("change.corrupt").exists());
    }

    #[test]
    fn what_an_older_version_left_unencrypted_is_encrypted_at_the_next_start() {
        let dir = tempfile::tempdir().unwrap();
        let files = files(dir.path(), Some(7));
        let saved = SavedView::default();
        files.write(VIEW, &saved.to_bytes()).unwrap();
        files.write(UNENCRYPTED_NEWEST, b"png").unwrap();
        assert!(files.load_or_set_aside().is_some());
        assert!(is_sealed(&fs::read(files.path(VIEW)).unwrap()));
        assert!(files.load_or_set_aside().is_some());
        assert!(!files.path(UNENCRYPTED_NEWEST).exists());
    }
}
