//! The folder `views` in the state directory: learned views, and the exchange between the daemon and `gridwatch view`.
//!
//! | File | Written by | Content |
//! |---|---|---|
//! | `CAMERA.view` | daemon | the references ([`SavedView`]) |
//! | `CAMERA.status.json` | daemon, at each change | [`ViewStatus`] |
//! | `CAMERA.newest.png` | daemon, when the camera was moved and on request | the newest look in greyscale, 320 pixels across |
//! | `CAMERA.request.json` | `gridwatch view` | [`ViewRequest`], processed at the next look |
//!
//! Files are written atomically. A corrupt reference file is renamed, never deleted.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use image::GrayImage;
use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Luma, SavedView, Shift};
use gridwatch_base::error::Class;
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
            Self::Corrupt { .. } => Class::Data,
        }
    }
}

/// State of a camera's aim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// No reference has been learned yet; the view is assumed to be right.
    Learning,
    /// The camera points at its learned view.
    Aimed,
    /// The camera was moved, or no longer comes to the preset. Nothing is confirmed or cleared there.
    Moved,
}

/// The status file of a camera or preset.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ViewStatus {
    /// State of the aim.
    pub standing: Standing,
    /// Time of the last change of `standing`.
    pub since: Timestamp,
    /// Displacement of the learned view, if the camera was moved and the view was found.
    #[serde(default)]
    pub shift: Option<Shift>,
}

/// A request of `gridwatch view` to the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ViewRequest {
    /// Write the newest look.
    Picture,
    /// Learn the current view as the right one.
    Confirm,
}

/// The files of one camera or preset.
#[derive(Debug, Clone)]
pub struct ViewFiles {
    folder: PathBuf,
    camera: CameraId,
}

impl ViewFiles {
    /// The files below `state_dir`. Creates nothing.
    pub fn new(state_dir: &Path, camera: CameraId) -> Self {
        Self {
            folder: state_dir.join("views"),
            camera,
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
        let Some(bytes) = read(&path)? else { return Ok(None) };
        SavedView::from_bytes(&bytes)
            .map(Some)
            .map_err(|reason| ViewsError::Corrupt {
                path,
                reason: reason.into(),
            })
    }

    /// Like [`Self::load`], but logs errors and renames a corrupt file to `CAMERA.view.corrupt`.
    pub fn load_or_set_aside(&self) -> Option<SavedView> {
        let error = match self.load() {
            Ok(saved) => return saved,
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

    /// Writes the references.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn save(&self, saved: &SavedView) -> Result<(), ViewsError> {
        self.write(VIEW, &saved.to_bytes())
    }

    /// Deletes the references.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn delete(&self) -> Result<(), ViewsError> {
        remove(&self.path(VIEW))
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
        let Some(bytes) = read(&path)? else { return Ok(None) };
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
            Some(Ok(())) => self.write(NEWEST, &png),
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

    fn write(&self, suffix: &str, bytes: &[u8]) -> Result<(), ViewsError> {
        let path = self.path(suffix);
        let written = || {
            fs::create_dir_all(&self.folder)?;
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
const STATUS: &str = "status.json";
const NEWEST: &str = "newest.png";
const REQUEST: &str = "request.json";

fn read(path: &Path) -> Result<Option<Vec<u8>>, ViewsError> {
    match fs::read(path) {
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
