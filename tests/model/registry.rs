//! Packages that the registry installs or refuses: formats, checksums, signatures, and entries that lead outside the package.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use crate::packages::{MODEL, package, set_version};
use gridwatch_base::error::Class;
use gridwatch_custody::SigningKey;
use gridwatch_model::{
    Model,
    registry::{Event, PackageError, Registry, RegistryError},
};
use tempfile::TempDir;

struct Setup {
    dir: TempDir,
    registry: Registry,
}

fn setup() -> Setup {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::new(&dir.path().join("state"), Vec::new());
    Setup { dir, registry }
}

impl Setup {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Entries of the registry folder, staging folders included.
    fn entries(&self) -> Vec<String> {
        let walk = fs::read_dir(self.dir.path().join("state/models")).into_iter().flatten();
        let mut names: Vec<String> = walk
            .map(|e| e.unwrap().file_name().to_string_lossy().into_owned())
            .filter(|name| !name.ends_with(".lock"))
            .collect();
        names.sort();
        names
    }
}

fn accept(_: &Model) -> Result<(), String> {
    Ok(())
}

fn refusal(setup: &Setup, package: &Path) -> RegistryError {
    let refused = setup.registry.install(package, accept).unwrap_err();
    assert_eq!(setup.entries(), [""; 0], "{refused}");
    assert!(!refused.to_string().is_empty());
    refused
}

/// A tar archive with arbitrary, possibly malicious headers.
fn tar_of(path: &Path, entries: &[(&str, tar::EntryType, &[u8])]) {
    let mut archive = tar::Builder::new(fs::File::create(path).unwrap());
    for (name, kind, data) in entries {
        let mut header = tar::Header::new_ustar();
        // `set_path` rejects such paths.
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        if kind.is_symlink() || kind.is_hard_link() {
            header.set_link_name("/etc/passwd").unwrap();
        }
        header.set_cksum();
        archive.append(&header, *data).unwrap();
    }
    archive.finish().unwrap();
}

fn archive_of(folder: &Path, to: &Path) {
    let gzip = flate2::write::GzEncoder::new(fs::File::create(to).unwrap(), flate2::Compression::fast());
    let mut archive = tar::Builder::new(gzip);
    archive.append_dir_all("garbage", folder).unwrap();
    archive.into_inner().unwrap().finish().unwrap().flush().unwrap();
}

#[test]
fn a_package_is_installed_once_in_any_format() {
    let setup = setup();
    let folder = package(&setup.path("package"), "1.0.1");
    let installed = setup.registry.install(&folder, accept).unwrap();
    assert!(!installed.was_installed && installed.dir.ends_with(format!("models/{MODEL}/1.0.1")));
    assert_eq!(installed.model.manifest().version, "1.0.1");
    for name in ["model.onnx", "model.toml", "CARD.md"] {
        assert_eq!(
            fs::read(installed.dir.join(name)).unwrap(),
            fs::read(folder.join(name)).unwrap()
        );
    }
    // The same package again, in other formats.
    let zipped = setup.path("garbage.tar.gz");
    archive_of(&folder, &zipped);
    let never = |_: &Model| -> Result<(), String> { panic!("an installed version is not tested again") };
    for format in [&folder, &zipped] {
        assert!(setup.registry.install(format, never).unwrap().was_installed);
    }
    let journal = setup.registry.journal().read().unwrap();
    let install_events = journal
        .entries
        .iter()
        .filter(|e| matches!(e.event, Event::Installed { .. }));
    assert_eq!((install_events.count(), journal.entries.len()), (1, 1));
    assert_eq!(setup.entries(), [MODEL, "journal.jsonl"]);
    setup.registry.load(MODEL, "1.0.1").unwrap();
}

#[test]
fn files_installed_by_root_belong_to_the_owner_of_the_state_directory() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

    let setup = setup();
    let state = setup.path("state");
    fs::create_dir(&state).unwrap();
    // An arbitrary other user; changing the owner works only as root.
    let owner = if chown(&state, Some(12345), Some(12345)).is_ok() {
        12345
    } else {
        fs::metadata(&state).unwrap().uid()
    };
    let folder = package(&setup.path("package"), "1.0.1");
    let installed = setup.registry.install(&folder, accept).unwrap();
    let journal = setup.registry.journal();
    for path in [
        &installed.dir,
        &installed.dir.join("model.onnx"),
        &installed.dir.join("model.toml"),
        journal.path(),
    ] {
        assert_eq!(fs::metadata(path).unwrap().uid(), owner, "{}", path.display());
    }
    assert_eq!(
        fs::metadata(&installed.dir).unwrap().permissions().mode() & 0o777,
        0o755
    );
}

#[test]
fn an_installed_version_is_immutable() {
    let setup = setup();
    let folder = package(&setup.path("package"), "1.0.1");
    setup.registry.install(&folder, accept).unwrap();
    let toml = folder.join("model.toml");
    let changed = fs::read_to_string(&toml).unwrap() + "\n# another comment\n";
    fs::write(&toml, changed).unwrap();
    let refused = setup.registry.install(&folder, accept).unwrap_err();
    assert!(matches!(refused, RegistryError::VersionConflict { .. }), "{refused}");
    set_version(&folder, "1.0.2");
    assert!(!setup.registry.install(&folder, accept).unwrap().was_installed);
}

#[test]
fn a_version_rejected_by_the_caller_is_not_installed() {
    let setup = setup();
    let folder = package(&setup.path("package"), "1.0.1");
    let refused = setup
        .registry
        .install(&folder, |_| Err("it finds nothing".into()))
        .unwrap_err();
    assert_eq!(refused.class(), Class::Data);
    assert!(refused.to_string().contains("it finds nothing"), "{refused}");
    assert_eq!(setup.entries(), [""; 0]);
}

#[test]
fn wrong_checksums_and_invalid_manifests_are_refused() {
    let setup = setup();
    let folder = package(&setup.path("package"), "1.0.1");
    let onnx = folder.join("model.onnx");
    let mut weights = fs::read(&onnx).unwrap();
    let middle = weights.len() / 2;
    weights[middle] ^= 1;
    fs::write(&onnx, weights).unwrap();
    assert!(matches!(refusal(&setup, &folder), RegistryError::Model(_)));
    set_version(&folder, "");
    assert!(matches!(refusal(&setup, &folder), RegistryError::Model(_)));
    fs::remove_file(&onnx).unwrap();
    refusal(&setup, &folder);
}

#[test]
fn a_version_that_is_not_a_safe_folder_name_is_refused() {
    let setup = setup();
    for version in ["../../escaped", ".", "..", ".hidden", "1/2", "a b"] {
        let folder = package(&setup.path("package"), version);
        let refused = refusal(&setup, &folder);
        assert!(
            matches!(refused, RegistryError::InvalidVersion { .. } | RegistryError::Model(_)),
            "{version}: {refused}"
        );
    }
    assert!(!setup.path("escaped").exists());
    for version in ["../1.0.1", "", ".."] {
        let refused = setup.registry.load(MODEL, version).unwrap_err();
        assert!(matches!(refused, RegistryError::UnknownVersion { .. }), "{refused}");
    }
}

#[test]
fn an_archive_with_paths_outside_itself_is_refused() {
    let setup = setup();
    let path = setup.path("evil.tar");
    let file = tar::EntryType::Regular;
    let cases: [(&str, tar::EntryType); 8] = [
        ("/absolute", file),
        ("../escaped", file),
        ("garbage/../../escaped", file),
        ("link", tar::EntryType::Symlink),
        ("hard", tar::EntryType::Link),
        ("device", tar::EntryType::Block),
        ("pipe", tar::EntryType::Fifo),
        ("a/b/c/d/e/f", file),
    ];
    for (name, kind) in cases {
        let data: &[u8] = if kind == file { b"evil" } else { b"" };
        tar_of(&path, &[(name, kind, data)]);
        let refused = refusal(&setup, &path);
        assert!(
            matches!(refused, RegistryError::Package(PackageError::Entry { .. })),
            "{name}: {refused}"
        );
        let reported = name.strip_suffix("/f").unwrap_or(name);
        assert!(refused.to_string().contains(reported), "{refused}");
    }
    tar_of(&path, &[("model.toml", file, b"a"), ("./model.toml", file, b"b")]);
    assert!(matches!(
        refusal(&setup, &path),
        RegistryError::Package(PackageError::Entry { .. })
    ));
    assert!(!setup.path("escaped").exists() && !setup.path("state/escaped").exists());
}

#[test]
fn an_oversized_archive_is_refused_before_it_fills_the_disk() {
    let setup = setup();
    let path = setup.path("bomb.tar.gz");
    // 600 MiB of zeros compress to 600 kB.
    let gzip = flate2::write::GzEncoder::new(fs::File::create(&path).unwrap(), flate2::Compression::fast());
    let mut archive = tar::Builder::new(gzip);
    let mut header = tar::Header::new_ustar();
    let size = 600 << 20;
    header.set_path("model.onnx").unwrap();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    let zeros = std::io::Read::take(std::io::repeat(0), size);
    archive.append(&header, zeros).unwrap();
    archive.into_inner().unwrap().finish().unwrap();
    assert!(matches!(
        refusal(&setup, &path),
        RegistryError::Package(PackageError::Entry { .. })
    ));

    let many: Vec<String> = (0..600).map(|i| format!("f{i}")).collect();
    let entries: Vec<_> = many
        .iter()
        .map(|n| (n.as_str(), tar::EntryType::Regular, &b""[..]))
        .collect();
    tar_of(&path, &entries);
    assert!(matches!(
        refusal(&setup, &path),
        RegistryError::Package(PackageError::Entry { .. })
    ));
}

/// Names and attributes are read only as far as a package needs: not into memory, as much as their header says.
#[test]
fn names_of_a_gigabyte_are_refused_unread_and_times_are_accepted() {
    let setup = setup();
    let path = setup.path("names.tar");
    let long = vec![b'a'; 2 << 20];
    let record = |key: &str, value: &str| {
        // The length of a record includes its own digits.
        let rest = format!(" {key}={value}\n");
        format!("{}{rest}", rest.len() + 2).into_bytes()
    };
    let (time, name) = (record("mtime", "1750000000.25"), record("path", "other"));
    for (kind, data, what) in [
        (tar::EntryType::GNULongName, &long, "a name over 100 characters"),
        (tar::EntryType::XHeader, &long, "bytes of attributes"),
        (tar::EntryType::XHeader, &name, "a name over 100 characters"),
    ] {
        tar_of(
            &path,
            &[("model.toml", tar::EntryType::Regular, b""), ("next", kind, data)],
        );
        let refused = refusal(&setup, &path).to_string();
        assert!(refused.contains(what), "{refused}");
    }
    // Reaches the manifest, which is empty.
    tar_of(
        &path,
        &[
            ("next", tar::EntryType::XHeader, &time),
            ("model.toml", tar::EntryType::Regular, b""),
        ],
    );
    assert!(!matches!(refusal(&setup, &path), RegistryError::Package(_)));
}

#[test]
fn anything_but_a_package_is_refused() {
    let setup = setup();
    let path = setup.path("model.onnx");
    for bytes in [&b"no tar"[..], &[0x1f, 0x8b, 1, 2, 3], &[7; 2048]] {
        fs::write(&path, bytes).unwrap();
        assert!(matches!(refusal(&setup, &path), RegistryError::Package(_)), "{bytes:?}");
    }
    let missing = refusal(&setup, &setup.path("nowhere"));
    assert_eq!(missing.class(), Class::Config);
    fs::create_dir(setup.path("empty")).unwrap();
    let empty = refusal(&setup, &setup.path("empty"));
    assert!(matches!(empty, RegistryError::Package(PackageError::NoManifest { .. })));
}

#[test]
fn a_folder_with_a_link_is_refused() {
    let setup = setup();
    let folder = package(&setup.path("package"), "1.0.1");
    std::os::unix::fs::symlink("/etc/passwd", folder.join("notes")).unwrap();
    assert!(matches!(
        refusal(&setup, &folder),
        RegistryError::Package(PackageError::Entry { .. })
    ));
}

#[test]
fn with_keys_only_signed_versions_are_installed_and_loaded() {
    let setup = setup();
    let (_, maker) = SigningKey::generate().unwrap();
    let (_, other) = SigningKey::generate().unwrap();
    let state = setup.path("state");
    let locked = Registry::new(&state, vec![maker.public()]);
    let folder = package(&setup.path("package"), "1.0.1");
    let unsigned = locked.install(&folder, accept).unwrap_err();
    assert!(matches!(unsigned, RegistryError::Unsigned { .. }), "{unsigned}");
    let toml = fs::read(folder.join("model.toml")).unwrap();
    for wrong in [other.sign(&toml), maker.sign(b"something else"), String::new()] {
        fs::write(folder.join("model.sig"), wrong).unwrap();
        let refused = locked.install(&folder, accept).unwrap_err();
        assert!(matches!(refused, RegistryError::BadSignature { .. }), "{refused}");
    }
    fs::write(folder.join("model.sig"), maker.sign(&toml)).unwrap();
    let installed = locked.install(&folder, accept).unwrap();
    assert_eq!(installed.signed_by, Some(maker.public()));
    locked.load(MODEL, "1.0.1").unwrap();

    // An installed manifest, and with it the checksum of the weights, cannot be modified.
    let toml = installed.dir.join("model.toml");
    let text = fs::read_to_string(&toml).unwrap();
    fs::write(&toml, text + "# changed\n").unwrap();
    assert!(matches!(
        locked.load(MODEL, "1.0.1").unwrap_err(),
        RegistryError::BadSignature { .. }
    ));
    // A version signed with another key, for example installed before the keys were configured.
    let strict = Registry::new(&state, vec![other.public()]);
    assert!(matches!(
        strict.load(MODEL, "1.0.1").unwrap_err(),
        RegistryError::BadSignature { .. }
    ));
}

#[test]
fn an_interrupted_installation_is_repaired_by_the_next() {
    let setup = setup();
    let folder = package(&setup.path("package"), "1.0.1");
    let models = setup.path("state/models");
    fs::create_dir_all(models.join(".installing-x")).unwrap();
    fs::write(models.join(".installing-x/model.onnx"), "half").unwrap();
    // Power failed after the rename and before the journal entry.
    let installed = setup.registry.install(&folder, accept).unwrap();
    fs::remove_file(setup.registry.journal().path()).unwrap();
    assert!(setup.registry.install(&folder, accept).unwrap().was_installed);
    assert!(
        setup
            .registry
            .state()
            .unwrap()
            .model(MODEL)
            .installed
            .contains_key("1.0.1")
    );
    assert_eq!(setup.entries(), [MODEL, "journal.jsonl"]);
    // A corrupted file is noticed, and the version is not reported as installed.
    fs::write(installed.dir.join("model.onnx"), "corrupted").unwrap();
    assert!(setup.registry.install(&folder, accept).is_err());
}

#[test]
fn a_running_daemon_is_detected_by_its_lock() {
    let setup = setup();
    assert!(!setup.registry.is_daemon_running());
    let lock = setup.registry.lock_for_daemon().unwrap();
    assert!(setup.registry.is_daemon_running());
    drop(lock);
    assert!(!setup.registry.is_daemon_running());
}
