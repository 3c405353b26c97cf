//! What the registry takes and what it refuses: whole packages, their sums and signatures, and nothing that leads out of it.
#![expect(clippy::unwrap_used, reason = "a test that cannot be set up must fail")]

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
};

use crate::packages::{MODEL, package, raise};
use gridwatch_base::error::Class;
use gridwatch_custody::SigningKey;
use gridwatch_model::{
    Model,
    registry::{Event, PackageError, Registry, RegistryError},
};
use tempfile::TempDir;

struct Place {
    dir: TempDir,
    registry: Registry,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let registry = Registry::new(&dir.path().join("state"), Vec::new());
    Place { dir, registry }
}

impl Place {
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// What lies in the registry, folders of installations under way among it.
    fn holds(&self) -> Vec<String> {
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

fn refusal(place: &Place, package: &Path) -> RegistryError {
    let refused = place.registry.install(package, accept).unwrap_err();
    assert_eq!(place.holds(), [""; 0], "{refused}");
    assert!(!refused.to_string().is_empty());
    refused
}

/// A tar whose headers say what they are told to, as no honest program writes it.
fn tar_of(path: &Path, entries: &[(&str, tar::EntryType, &[u8])]) {
    let mut archive = tar::Builder::new(fs::File::create(path).unwrap());
    for (name, kind, data) in entries {
        let mut header = tar::Header::new_ustar();
        // `set_path` refuses what is tried here.
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
fn a_package_is_installed_once_whatever_its_form() {
    let place = place();
    let folder = package(&place.path("package"), "1.0.1");
    let arrival = place.registry.install(&folder, accept).unwrap();
    assert!(!arrival.was_there && arrival.dir.ends_with(format!("models/{MODEL}/1.0.1")));
    assert_eq!(arrival.model.manifest().version, "1.0.1");
    for name in ["model.onnx", "model.toml", "CARD.md"] {
        assert_eq!(
            fs::read(arrival.dir.join(name)).unwrap(),
            fs::read(folder.join(name)).unwrap()
        );
    }
    // The same again, in the other forms.
    let zipped = place.path("garbage.tar.gz");
    archive_of(&folder, &zipped);
    let never = |_: &Model| -> Result<(), String> { panic!("what is there is not tried again") };
    for form in [&folder, &zipped] {
        assert!(place.registry.install(form, never).unwrap().was_there);
    }
    let told = place.registry.journal().read().unwrap();
    let installed = told
        .entries
        .iter()
        .filter(|e| matches!(e.event, Event::Installed { .. }));
    assert_eq!((installed.count(), told.entries.len()), (1, 1));
    assert_eq!(place.holds(), [MODEL, "journal.jsonl"]);
    place.registry.load(MODEL, "1.0.1").unwrap();
}

#[test]
fn what_an_operators_root_installs_belongs_to_the_owner_of_the_state() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

    let place = place();
    let state = place.path("state");
    fs::create_dir(&state).unwrap();
    // Anybody: whoever runs this is given the state directory only if it is root.
    let owner = if chown(&state, Some(12345), Some(12345)).is_ok() {
        12345
    } else {
        fs::metadata(&state).unwrap().uid()
    };
    let folder = package(&place.path("package"), "1.0.1");
    let arrival = place.registry.install(&folder, accept).unwrap();
    let journal = place.registry.journal();
    for path in [
        &arrival.dir,
        &arrival.dir.join("model.onnx"),
        &arrival.dir.join("model.toml"),
        journal.path(),
    ] {
        assert_eq!(fs::metadata(path).unwrap().uid(), owner, "{}", path.display());
    }
    assert_eq!(fs::metadata(&arrival.dir).unwrap().permissions().mode() & 0o777, 0o755);
}

#[test]
fn a_version_never_changes() {
    let place = place();
    let folder = package(&place.path("package"), "1.0.1");
    place.registry.install(&folder, accept).unwrap();
    let toml = folder.join("model.toml");
    let changed = fs::read_to_string(&toml).unwrap() + "\n# another threshold, perhaps\n";
    fs::write(&toml, changed).unwrap();
    let refused = place.registry.install(&folder, accept).unwrap_err();
    assert!(matches!(refused, RegistryError::VersionConflict { .. }), "{refused}");
    raise(&folder, "1.0.2");
    assert!(!place.registry.install(&folder, accept).unwrap().was_there);
}

#[test]
fn what_whoever_asks_does_not_want_is_not_kept() {
    let place = place();
    let folder = package(&place.path("package"), "1.0.1");
    let refused = place
        .registry
        .install(&folder, |_| Err("it sees nothing".into()))
        .unwrap_err();
    assert_eq!(refused.class(), Class::Data);
    assert!(refused.to_string().contains("it sees nothing"), "{refused}");
    assert_eq!(place.holds(), [""; 0]);
}

#[test]
fn weights_of_another_sum_and_faulty_manifests_are_refused() {
    let place = place();
    let folder = package(&place.path("package"), "1.0.1");
    let onnx = folder.join("model.onnx");
    let mut weights = fs::read(&onnx).unwrap();
    let middle = weights.len() / 2;
    weights[middle] ^= 1;
    fs::write(&onnx, weights).unwrap();
    assert!(matches!(refusal(&place, &folder), RegistryError::Model(_)));
    raise(&folder, "");
    assert!(matches!(refusal(&place, &folder), RegistryError::Model(_)));
    fs::remove_file(&onnx).unwrap();
    refusal(&place, &folder);
}

#[test]
fn a_version_that_leads_elsewhere_is_refused() {
    let place = place();
    for version in ["../../escaped", ".", "..", ".hidden", "1/2", "a b"] {
        let folder = package(&place.path("package"), version);
        let refused = refusal(&place, &folder);
        assert!(
            matches!(refused, RegistryError::InvalidVersion { .. } | RegistryError::Model(_)),
            "{version}: {refused}"
        );
    }
    assert!(!place.path("escaped").exists());
    for version in ["../1.0.1", "", ".."] {
        let refused = place.registry.load(MODEL, version).unwrap_err();
        assert!(matches!(refused, RegistryError::UnknownVersion { .. }), "{refused}");
    }
}

#[test]
fn an_archive_that_leads_out_of_itself_is_refused() {
    let place = place();
    let path = place.path("evil.tar");
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
        let refused = refusal(&place, &path);
        assert!(
            matches!(refused, RegistryError::Package(PackageError::Entry { .. })),
            "{name}: {refused}"
        );
        let told = name.strip_suffix("/f").unwrap_or(name);
        assert!(refused.to_string().contains(told), "{refused}");
    }
    tar_of(&path, &[("model.toml", file, b"a"), ("./model.toml", file, b"b")]);
    assert!(matches!(
        refusal(&place, &path),
        RegistryError::Package(PackageError::Entry { .. })
    ));
    assert!(!place.path("escaped").exists() && !place.path("state/escaped").exists());
}

#[test]
fn an_archive_that_fills_the_disk_is_refused_before_it_does() {
    let place = place();
    let path = place.path("bomb.tar.gz");
    // 600 MiB of noughts are 600 kB zipped.
    let gzip = flate2::write::GzEncoder::new(fs::File::create(&path).unwrap(), flate2::Compression::fast());
    let mut archive = tar::Builder::new(gzip);
    let mut header = tar::Header::new_ustar();
    let size = 600 << 20;
    header.set_path("model.onnx").unwrap();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_cksum();
    let noughts = std::io::Read::take(std::io::repeat(0), size);
    archive.append(&header, noughts).unwrap();
    archive.into_inner().unwrap().finish().unwrap();
    assert!(matches!(
        refusal(&place, &path),
        RegistryError::Package(PackageError::Entry { .. })
    ));

    let many: Vec<String> = (0..600).map(|i| format!("f{i}")).collect();
    let entries: Vec<_> = many
        .iter()
        .map(|n| (n.as_str(), tar::EntryType::Regular, &b""[..]))
        .collect();
    tar_of(&path, &entries);
    assert!(matches!(
        refusal(&place, &path),
        RegistryError::Package(PackageError::Entry { .. })
    ));
}

#[test]
fn what_is_no_package_is_told() {
    let place = place();
    let path = place.path("model.onnx");
    for bytes in [&b"no tar"[..], &[0x1f, 0x8b, 1, 2, 3], &[7; 2048]] {
        fs::write(&path, bytes).unwrap();
        assert!(matches!(refusal(&place, &path), RegistryError::Package(_)), "{bytes:?}");
    }
    let missing = refusal(&place, &place.path("nowhere"));
    assert_eq!(missing.class(), Class::Config);
    fs::create_dir(place.path("empty")).unwrap();
    let empty = refusal(&place, &place.path("empty"));
    assert!(matches!(empty, RegistryError::Package(PackageError::NoManifest { .. })));
}

#[test]
fn a_folder_with_a_link_is_refused() {
    let place = place();
    let folder = package(&place.path("package"), "1.0.1");
    std::os::unix::fs::symlink("/etc/passwd", folder.join("notes")).unwrap();
    assert!(matches!(
        refusal(&place, &folder),
        RegistryError::Package(PackageError::Entry { .. })
    ));
}

#[test]
fn with_keys_only_what_is_signed_is_installed_and_only_that_looks() {
    let place = place();
    let (_, maker) = SigningKey::generate().unwrap();
    let (_, other) = SigningKey::generate().unwrap();
    let state = place.path("state");
    let locked = Registry::new(&state, vec![maker.public()]);
    let folder = package(&place.path("package"), "1.0.1");
    let unsigned = locked.install(&folder, accept).unwrap_err();
    assert!(matches!(unsigned, RegistryError::Unsigned { .. }), "{unsigned}");
    let toml = fs::read(folder.join("model.toml")).unwrap();
    for spoiled in [other.sign(&toml), maker.sign(b"something else"), String::new()] {
        fs::write(folder.join("model.sig"), spoiled).unwrap();
        let refused = locked.install(&folder, accept).unwrap_err();
        assert!(matches!(refused, RegistryError::BadSignature { .. }), "{refused}");
    }
    fs::write(folder.join("model.sig"), maker.sign(&toml)).unwrap();
    let arrival = locked.install(&folder, accept).unwrap();
    assert_eq!(arrival.signed_by, Some(maker.public()));
    locked.load(MODEL, "1.0.1").unwrap();

    // Changed where it lies: neither the weights nor what is said of them can be.
    let toml = arrival.dir.join("model.toml");
    let text = fs::read_to_string(&toml).unwrap();
    fs::write(&toml, text + "# changed\n").unwrap();
    assert!(matches!(
        locked.load(MODEL, "1.0.1").unwrap_err(),
        RegistryError::BadSignature { .. }
    ));
    // What another box signed, or was installed before keys were asked for.
    let strict = Registry::new(&state, vec![other.public()]);
    assert!(matches!(
        strict.load(MODEL, "1.0.1").unwrap_err(),
        RegistryError::BadSignature { .. }
    ));
}

#[test]
fn an_installation_that_was_cut_off_is_mended_by_the_next() {
    let place = place();
    let folder = package(&place.path("package"), "1.0.1");
    let home = place.path("state/models");
    fs::create_dir_all(home.join(".installing-x")).unwrap();
    fs::write(home.join(".installing-x/model.onnx"), "half").unwrap();
    // The folder was renamed, and the power went before the journal had its line.
    let arrival = place.registry.install(&folder, accept).unwrap();
    fs::remove_file(place.registry.journal().path()).unwrap();
    assert!(place.registry.install(&folder, accept).unwrap().was_there);
    assert!(
        place
            .registry
            .state()
            .unwrap()
            .known(MODEL)
            .installed
            .contains_key("1.0.1")
    );
    assert_eq!(place.holds(), [MODEL, "journal.jsonl"]);
    // A file that spoiled where it lies is noticed and not called installed.
    fs::write(arrival.dir.join("model.onnx"), "spoiled").unwrap();
    assert!(place.registry.install(&folder, accept).is_err());
}

#[test]
fn a_daemon_that_watches_is_known_while_it_does() {
    let place = place();
    assert!(!place.registry.is_daemon_running());
    let watching = place.registry.lock_for_daemon().unwrap();
    assert!(place.registry.is_daemon_running());
    drop(watching);
    assert!(!place.registry.is_daemon_running());
}
