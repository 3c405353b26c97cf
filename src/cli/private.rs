//! Writes pictures that only this user may read, because they may show faces and plates.

use std::{
    fs::{self, File},
    io::{self, Cursor, Write},
    path::Path,
};

use image::{ImageError, ImageFormat, RgbImage};

/// Writes `picture` to `path` with mode 0600; an existing file is replaced, so that a full disk costs no earlier picture.
///
/// # Errors
/// The format cannot be written, or the error of the file system.
pub(super) fn save_picture(picture: &RgbImage, format: ImageFormat, path: &Path) -> Result<(), ImageError> {
    let mut bytes = Vec::new();
    picture.write_to(&mut Cursor::new(&mut bytes), format)?;
    write(path, &bytes).map_err(ImageError::IoError)
}

/// Like [`save_picture`], in the format that the extension of `path` names.
pub(super) fn save_picture_as_named(picture: &RgbImage, path: &Path) -> Result<(), ImageError> {
    save_picture(picture, ImageFormat::from_path(path)?, path)
}

/// Writes a file with mode 0600. What is not a regular file, such as /dev/stdout, is written to as it is.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|file| !file.is_file() && !file.is_dir()) {
        return File::options().write(true).open(path)?.write_all(bytes);
    }
    let mut file = new_beside(path)?;
    file.write_all(bytes)?;
    file.persist(path).map_err(|e| e.error)?;
    Ok(())
}

/// A file under a temporary name beside `path`, readable by this user only.
pub(super) fn new_beside(path: &Path) -> io::Result<tempfile::NamedTempFile> {
    let folder = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new(".")))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_picture_is_readable_by_its_owner_only_whatever_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        fs::write(&path, "of everybody").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        save_picture_as_named(&RgbImage::new(8, 4), &path).unwrap();
        assert_eq!(image::image_dimensions(&path).unwrap(), (8, 4));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);

        assert!(save_picture_as_named(&RgbImage::new(8, 4), &dir.path().join("a.txt")).is_err());
        let link = dir.path().join("null.png");
        std::os::unix::fs::symlink("/dev/null", &link).unwrap();
        save_picture_as_named(&RgbImage::new(8, 4), &link).unwrap();
        assert!(
            link.symlink_metadata().unwrap().is_symlink(),
            "a device is not replaced"
        );
    }
}
