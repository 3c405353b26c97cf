//! The folder `views` of the state directory: what is kept of each camera's view, and what passes between the daemon and
//! `gridwatch view` through it.
//!
//! | File | Who writes it | What |
//! |---|---|---|
//! | `CAMERA.view` | the daemon | the references ([`Kept`]) |
//! | `CAMERA.status.json` | the daemon | [`Status`], at each change |
//! | `CAMERA.newest.png` | the daemon, when the camera is called moved and when asked | the newest look, small and grey |
//! | `CAMERA.request.json` | the command | [`Request`], taken at the next look |
//!
//! Files are whole or not there. A reference that cannot be read is set aside under another name, never deleted.

use std::{
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use image::GrayImage;
use jiff::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Kept, Luma, Shift};
use gridwatch_base::error::Class;
use gridwatch_engine::CameraId;

/// Why a file of the folder could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ViewsError {
    /// What the disk says.
    #[error("cannot {doing} {}: {source}", .path.display())]
    Io {
        /// What was tried.
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// It is not what it should be.
    #[error("{} cannot be used: {reason}", .path.display())]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

impl ViewsError {
    /// What to do about it.
    pub fn class(&self) -> Class {
        match self {
            Self::Io { .. } => Class::Transient,
            Self::Corrupt { .. } => Class::Data,
        }
    }
}

/// How a camera's aim is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Nothing to compare with yet: the view is taken for right.
    Learning,
    /// It looks where it did.
    Aimed,
    /// It looks elsewhere, and nothing is confirmed or cleared there.
    Moved,
}

/// How a camera's aim is, for people.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Status {
    /// How.
    pub standing: Standing,
    /// Since when.
    pub since: Timestamp,
    /// Where what it showed lies now, where that was found.
    #[serde(default)]
    pub shift: Option<Shift>,
}

/// What the command wants of the daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Write the newest look.
    Picture,
    /// What the camera looks at is right: learn it.
    Confirm,
}

/// The files of one camera.
#[derive(Debug, Clone)]
pub struct Files {
    folder: PathBuf,
    camera: CameraId,
}

impl Files {
    /// Those below `state_dir`. Nothing is made before it is written.
    pub fn new(state_dir: &Path, camera: CameraId) -> Self {
        Self {
            folder: state_dir.join("views"),
            camera,
        }
    }

    /// Where the one that ends like that is.
    pub fn path(&self, end: &str) -> PathBuf {
        self.folder.join(format!("{}.{end}", self.camera))
    }

    /// The references; `None` where there are none.
    ///
    /// # Errors
    /// The disk's, and [`ViewsError::Corrupt`].
    pub fn kept(&self) -> Result<Option<Kept>, ViewsError> {
        let path = self.path(VIEW);
        let Some(bytes) = read(&path)? else { return Ok(None) };
        Kept::from_bytes(&bytes)
            .map(Some)
            .map_err(|reason| ViewsError::Corrupt {
                path,
                reason: reason.into(),
            })
    }

    /// [`Self::kept`], for the daemon: what is corrupt is set aside.
    pub fn take_kept(&self) -> Option<Kept> {
        let error = match self.kept() {
            Ok(kept) => return kept,
            Err(error) => error,
        };
        let (from, to) = (self.path(VIEW), self.path("view.corrupt"));
        if matches!(error, ViewsError::Corrupt { .. }) && fs::rename(&from, &to).is_ok() {
            tracing::warn!(camera = %self.camera, %error, set_aside = %to.display(), "What was kept of a view cannot be used and was set aside. The view is learned again from what the camera shows now: see that it looks where its zones were drawn (gridwatch view show).");
        } else {
            tracing::warn!(camera = %self.camera, %error, "What was kept of a view cannot be read; the view is learned again from what the camera shows now.");
        }
        None
    }

    /// Keeps the references.
    ///
    /// # Errors
    /// The disk's.
    pub fn keep(&self, kept: &Kept) -> Result<(), ViewsError> {
        self.write(VIEW, &kept.to_bytes())
    }

    /// Drops the references, and what was told of them.
    ///
    /// # Errors
    /// The disk's.
    pub fn forget(&self) -> Result<(), ViewsError> {
        remove(&self.path(VIEW))
    }

    /// How the aim is; `None` before the first look.
    ///
    /// # Errors
    /// The disk's, and [`ViewsError::Corrupt`].
    pub fn status(&self) -> Result<Option<Status>, ViewsError> {
        parsed(&self.path(STATUS))
    }

    /// Says how the aim is.
    ///
    /// # Errors
    /// The disk's.
    pub fn say(&self, status: &Status) -> Result<(), ViewsError> {
        self.write(STATUS, &serde_json::to_vec(status).unwrap_or_default())
    }

    /// The newest look that was written, and when; `None` where none was.
    ///
    /// # Errors
    /// The disk's, and [`ViewsError::Corrupt`].
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
    /// The disk's.
    pub fn show(&self, luma: &Luma) -> Result<(), ViewsError> {
        let mut png = Vec::new();
        let written = luma
            .to_gray()
            .map(|p| p.write_to(&mut io::Cursor::new(&mut png), image::ImageFormat::Png));
        match written {
            Some(Ok(())) => self.write(NEWEST, &png),
            _ => Err(ViewsError::Corrupt {
                path: self.path(NEWEST),
                reason: "the look has no shape".into(),
            }),
        }
    }

    /// What is wanted, once.
    ///
    /// # Errors
    /// The disk's, and [`ViewsError::Corrupt`]: such a request is dropped.
    pub fn take_request(&self) -> Result<Option<Request>, ViewsError> {
        let path = self.path(REQUEST);
        let request = parsed(&path);
        if !matches!(request, Ok(None)) {
            remove(&path)?;
        }
        request
    }

    /// Asks the daemon for something at its next look.
    ///
    /// # Errors
    /// The disk's.
    pub fn request(&self, request: Request) -> Result<(), ViewsError> {
        self.write(REQUEST, &serde_json::to_vec(&request).unwrap_or_default())
    }

    /// True while a request waits.
    pub fn is_asked(&self) -> bool {
        self.path(REQUEST).exists()
    }

    /// Takes the request back.
    ///
    /// # Errors
    /// The disk's.
    pub fn take_back(&self) -> Result<(), ViewsError> {
        remove(&self.path(REQUEST))
    }

    fn write(&self, end: &str, bytes: &[u8]) -> Result<(), ViewsError> {
        let path = self.path(end);
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

fn parsed<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, ViewsError> {
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
