//! A valid configuration in a folder of its own.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use gridwatch_config::{Config, Draft, examine_with};

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .canonicalize()
        .unwrap()
}

/// A folder with a configuration, `edge.toml`, and the credentials of its camera.
pub(crate) struct Folder {
    pub(crate) dir: tempfile::TempDir,
}

impl Folder {
    /// That of `tests/golden/good.toml`.
    pub(crate) fn new() -> Self {
        let this = Self {
            dir: tempfile::tempdir().unwrap(),
        };
        this.secret("gate.secret", "admin:hunter2\n");
        let text = fs::read_to_string(root().join("tests/golden/good.toml")).unwrap();
        this.write("edge.toml", &text);
        this
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn main(&self) -> PathBuf {
        self.path("edge.toml")
    }

    /// Writes a file; `@ROOT@` is the root of the repository.
    pub(crate) fn write(&self, name: &str, text: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text.replace("@ROOT@", root().to_str().unwrap())).unwrap();
    }

    pub(crate) fn secret(&self, name: &str, text: &str) {
        self.write(name, text);
        fs::set_permissions(self.path(name), fs::Permissions::from_mode(0o600)).unwrap();
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// Replaces the first `old`, which must occur in the file.
    pub(crate) fn replace(&self, name: &str, old: &str, new: &str) {
        let text = self.read(name);
        assert!(text.contains(old), "{old:?} is not in {name}");
        self.write(name, &text.replacen(old, new, 1));
    }

    pub(crate) fn examine(&self) -> Draft {
        examine_with(&self.main(), &|_| None)
    }

    pub(crate) fn load(&self) -> Config {
        self.examine().into_config().unwrap_or_else(|e| panic!("{e}"))
    }

    /// The faults as text, without the path of the folder.
    pub(crate) fn faults(&self) -> Vec<String> {
        let here = format!("{}/", self.dir.path().display());
        self.examine()
            .faults
            .iter()
            .map(|f| f.to_string().replace(&here, ""))
            .collect()
    }
}
