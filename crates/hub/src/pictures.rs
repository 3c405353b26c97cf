//! The pictures, by the SHA-256 of their bytes: a folder, or what `object_store` reaches.

use std::{path::PathBuf, sync::Arc};

use bytes::Bytes;
use gridwatch_base::disk::{create_private_dir, restrict_new_files};
use object_store::{ObjectStore, ObjectStoreExt as _, local::LocalFileSystem, path::Path};

use crate::HubError;

/// Largest picture, in bytes; boxes send at most 16 MiB.
pub const MAX_PICTURE: usize = 16 << 20;

/// Where the pictures are kept. Each is written once, under its hash, and never changed.
#[derive(Debug, Clone)]
pub struct Pictures {
    store: Arc<dyn ObjectStore>,
}

impl Pictures {
    /// A folder, made if it is missing, readable by its owner only. What [`Self::put`] has written is on the disk.
    ///
    /// # Errors
    /// The folder cannot be made or used.
    pub fn folder(folder: &std::path::Path) -> Result<Self, HubError> {
        let io = |source| HubError::Io {
            what: format!("pictures: {}", folder.display()),
            source,
        };
        restrict_new_files();
        create_private_dir(folder).map_err(io)?;
        let folder: PathBuf = folder.canonicalize().map_err(io)?;
        let store = LocalFileSystem::new_with_prefix(folder)?.with_fsync(true);
        Ok(Self { store: Arc::new(store) })
    }

    /// Keeps a picture whose hash is `sha256`.
    ///
    /// # Errors
    /// The store's; the picture is kept whole or not at all.
    pub async fn put(&self, sha256: &str, bytes: Bytes) -> Result<(), HubError> {
        self.store.put(&path(sha256), bytes.into()).await?;
        Ok(())
    }

    /// A picture's bytes; `None` if it is not there.
    ///
    /// # Errors
    /// The store's.
    pub async fn get(&self, sha256: &str) -> Result<Option<Bytes>, HubError> {
        match self.store.get(&path(sha256)).await {
            Ok(found) => Ok(Some(found.bytes().await?)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Two levels of folders: a city has millions of pictures.
fn path(sha256: &str) -> Path {
    Path::from_iter([
        sha256.get(..2).unwrap_or_default(),
        sha256.get(2..4).unwrap_or_default(),
        sha256,
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_picture_is_kept_under_its_hash_and_readable_by_its_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().expect("a folder");
        let pictures = Pictures::folder(&dir.path().join("pictures")).expect("a store");
        let hash = gridwatch_base::digest::sha256_hex(b"picture");
        assert_eq!(pictures.get(&hash).await.expect("an answer"), None);
        for _ in 0..2 {
            pictures.put(&hash, Bytes::from_static(b"picture")).await.expect("put");
        }
        assert_eq!(
            pictures.get(&hash).await.expect("an answer").as_deref(),
            Some(&b"picture"[..])
        );
        let file = dir
            .path()
            .join("pictures")
            .join(&hash[..2])
            .join(&hash[2..4])
            .join(&hash);
        assert_eq!(
            std::fs::metadata(file).expect("the file").permissions().mode() & 0o077,
            0
        );
    }
}
