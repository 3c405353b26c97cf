//! A token of SoftHSM 2, which keeps its keys in files.
#![allow(dead_code, unreachable_pub, reason = "each test uses what it needs")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

/// Where Debian installs the module.
pub const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
pub const PIN: &str = "271828";

/// A token with the label `gridwatch`, and a file with its PIN.
pub struct SoftToken {
    dir: tempfile::TempDir,
}

impl SoftToken {
    pub fn new() -> Self {
        assert!(
            Path::new(MODULE).exists(),
            "{MODULE} is missing: install softhsm2 (edge-deploy/setup.sh does)"
        );
        let token = Self {
            dir: tempfile::tempdir().expect("a temporary folder"),
        };
        fs::create_dir(token.path("tokens")).expect("the folder is writable");
        let text = format!(
            "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n",
            token.path("tokens").display()
        );
        fs::write(token.conf(), text).expect("the folder is writable");
        token.util(&[
            "--init-token",
            "--free",
            "--label",
            "gridwatch",
            "--pin",
            PIN,
            "--so-pin",
            "161803",
        ]);
        token.set_pin(PIN);
        token
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The value of `SOFTHSM2_CONF` for processes that use the token.
    pub fn conf(&self) -> PathBuf {
        self.path("softhsm2.conf")
    }

    pub fn set_pin(&self, pin: &str) {
        let file = self.path("pin");
        fs::write(&file, format!("{pin}\n")).expect("the folder is writable");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("the file is ours");
    }

    /// The URI of the key with that label.
    pub fn uri(&self, object: &str) -> String {
        let pin = self.path("pin");
        format!(
            "pkcs11:token=gridwatch;object={object}?module-path={MODULE}&pin-source=file:{}",
            pin.display()
        )
    }

    /// Runs `softhsm2-util`.
    pub fn util(&self, arguments: &[&str]) {
        let output = Command::new("softhsm2-util")
            .args(arguments)
            .env("SOFTHSM2_CONF", self.conf())
            .output()
            .expect("softhsm2-util is installed");
        assert!(output.status.success(), "{output:?}");
    }

    /// Takes the token away.
    pub fn remove(&self) {
        fs::rename(self.path("tokens"), self.path("away")).expect("the token is there");
    }

    /// Puts it back.
    pub fn insert(&self) {
        fs::rename(self.path("away"), self.path("tokens")).expect("the token was removed");
    }
}
