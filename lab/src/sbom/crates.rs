//! The crates that are linked into `gridwatch`, as cargo resolves them for `make build`.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    path::{Path, PathBuf},
    process::Command,
};

use serde::Deserialize;

use super::{
    Component, ComponentKind, Dependency, Hash, LicenceChoice, SbomError, licence, output_of, read_text, toolchain,
};

/// The program on a box.
const ROOT: &str = "gridwatch";

/// The crate that compiles SQLite from its own copy of the source.
const SQLITE_CRATE: &str = "libsqlite3-sys";

/// Name and version, which identify a crate: `deny.toml` allows one registry only.
type Key = (String, String);

/// A crate that is linked into the program.
#[derive(Debug)]
pub(super) struct Crate {
    pub(super) name: String,
    pub(super) version: String,
    /// SPDX expression of its manifest.
    pub(super) licence: String,
    pub(super) authors: Vec<String>,
    pub(super) repository: Option<String>,
    /// Folder of its source.
    pub(super) folder: PathBuf,
    /// SHA-256 of the package in the registry; none for the crates of the workspace.
    checksum: Option<String>,
}

impl Crate {
    /// Whether it comes from the registry.
    pub(super) fn is_foreign(&self) -> bool {
        self.checksum.is_some()
    }

    fn purl(&self) -> String {
        // The version of a crate has no character but `+` that a package URL escapes.
        format!("pkg:cargo/{}@{}", self.name, self.version.replace('+', "%2B"))
    }

    /// Crates of the workspace have no package URL: they are not published, and it would name a stranger's crate.
    fn reference(&self) -> String {
        if self.is_foreign() {
            self.purl()
        } else {
            format!("{}@{}", self.name, self.version)
        }
    }

    fn component(&self) -> Component {
        Component {
            version: Some(self.version.clone()),
            hashes: self.checksum.iter().map(Hash::sha256).collect(),
            licences: vec![LicenceChoice::spdx(&self.licence)],
            purl: self.is_foreign().then(|| self.purl()),
            ..Component::new(ComponentKind::Library, self.reference(), &self.name)
        }
    }
}

/// The crates and what each needs.
#[derive(Debug)]
pub(super) struct LinkedCrates {
    root: Key,
    crates: BTreeMap<Key, Crate>,
    needs: BTreeMap<Key, BTreeSet<Key>>,
}

impl LinkedCrates {
    /// Asks cargo, which must have downloaded the crates (`make build` does). `host`: target triple.
    pub(super) fn of(checkout: &Path, host: &str) -> Result<Self, SbomError> {
        // Both packages, as `make build` builds them together, which unifies their features.
        let tree = cargo(checkout, "tree")
            .args(["--target", host, "-p", ROOT, "-p", "gridwatch-lab"])
            .args(["-e", "normal,no-proc-macro", "--prefix", "depth", "--format", "|{p}"])
            .output_of()?;
        let metadata = cargo(checkout, "metadata")
            .args(["--format-version", "1", "--filter-platform", host])
            .output_of()?;
        let metadata: CargoMetadata = serde_json::from_str(&metadata).map_err(|e| SbomError::Output {
            command: "cargo metadata".into(),
            line: e.to_string(),
        })?;
        let lock = checkout.join("Cargo.lock");
        let checksums = checksums(&lock)?;

        let (root, graph) = parse_tree(&tree)?;
        let mut packages: BTreeMap<Key, CargoPackage> = metadata
            .packages
            .into_iter()
            .map(|p| ((p.name.clone(), p.version.clone()), p))
            .collect();
        let (mut crates, mut needs) = (BTreeMap::new(), BTreeMap::new());
        let mut left = vec![root.clone()];
        while let Some(key) = left.pop() {
            if crates.contains_key(&key) {
                continue;
            }
            let package = packages.remove(&key).ok_or_else(|| SbomError::Output {
                command: "cargo metadata".into(),
                line: format!("no package {} {}", key.0, key.1),
            })?;
            let direct = graph.get(&key).cloned().unwrap_or_default();
            left.extend(direct.iter().cloned());
            crates.insert(key.clone(), package.into_crate(checksums.get(&key).cloned())?);
            needs.insert(key, direct);
        }
        Ok(Self { root, crates, needs })
    }

    /// The crates from the registry.
    pub(super) fn foreign(&self) -> impl Iterator<Item = &Crate> {
        self.crates.values().filter(|c| c.is_foreign())
    }

    pub(super) fn root_reference(&self) -> String {
        self.crates[&self.root].reference()
    }

    /// The program itself.
    pub(super) fn root_component(&self, commit: Option<String>) -> Component {
        Component {
            kind: ComponentKind::Application,
            properties: commit.iter().map(|c| toolchain::commit_property(c)).collect(),
            ..self.crates[&self.root].component()
        }
    }

    /// All but the program itself, and SQLite.
    pub(super) fn components(&self) -> Result<Vec<Component>, SbomError> {
        let linked = self.crates.iter().filter(|(key, _)| **key != self.root);
        linked
            .map(|(_, c)| {
                let mut component = c.component();
                if c.name == SQLITE_CRATE {
                    component.components.push(sqlite(c)?);
                }
                Ok(component)
            })
            .collect()
    }

    pub(super) fn needs_of_root(&self) -> impl Iterator<Item = String> {
        self.needs[&self.root].iter().map(|k| self.crates[k].reference())
    }

    /// What the crates need, but for the program itself.
    pub(super) fn dependencies(&self) -> impl Iterator<Item = Dependency> {
        self.needs
            .iter()
            .filter(|(key, _)| **key != self.root)
            .map(|(key, on)| {
                Dependency::new(
                    self.crates[key].reference(),
                    on.iter().map(|k| self.crates[k].reference()),
                )
            })
    }

    /// Licences of the crates from the registry, most frequent first.
    pub(super) fn licence_counts(&self) -> Vec<(String, usize)> {
        let mut counts = BTreeMap::<String, usize>::new();
        for c in self.foreign() {
            *counts.entry(licence::canonical(&c.licence)).or_default() += 1;
        }
        let mut counts: Vec<_> = counts.into_iter().collect();
        counts.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
        counts
    }
}

/// SQLite's version is in its header; it is compiled from the crate's copy (feature `bundled`).
fn sqlite(owner: &Crate) -> Result<Component, SbomError> {
    let path = owner.folder.join("sqlite3/sqlite3.h");
    let text = read_text(&path)?;
    let version = text.lines().find_map(|l| l.strip_prefix("#define SQLITE_VERSION "));
    let Some(version) = version.map(|v| v.trim().trim_matches('"').to_owned()) else {
        let fault = "no SQLITE_VERSION; adapt lab/src/sbom/crates.rs to this libsqlite3-sys".into();
        return Err(SbomError::Contents { path, fault });
    };
    let purl = format!("pkg:generic/sqlite@{version}");
    Ok(Component {
        cpe: Some(format!("cpe:2.3:a:sqlite:sqlite:{version}:*:*:*:*:*:*:*")),
        licences: vec![LicenceChoice::spdx("blessing")],
        version: Some(version),
        purl: Some(purl.clone()),
        ..Component::new(ComponentKind::Library, purl, "sqlite")
    })
}

fn parse_tree(text: &str) -> Result<(Key, BTreeMap<Key, BTreeSet<Key>>), SbomError> {
    let mut graph = BTreeMap::<Key, BTreeSet<Key>>::new();
    let (mut root, mut path) = (None, Vec::<Key>::new());
    for line in text.lines().filter(|l| !l.is_empty()) {
        let unexpected = || SbomError::Output {
            command: "cargo tree".into(),
            line: line.into(),
        };
        // `2|bytes v1.12.1 (*)`: the mark tells that the crate's needs are listed elsewhere.
        let (depth, package) = line.split_once('|').ok_or_else(unexpected)?;
        let depth: usize = depth.parse().map_err(|_| unexpected())?;
        let mut words = package.split(' ');
        let (Some(name), Some(version)) = (words.next(), words.next().and_then(|v| v.strip_prefix('v'))) else {
            return Err(unexpected());
        };
        let key: Key = (name.to_owned(), version.to_owned());
        if depth > path.len() {
            return Err(unexpected());
        }
        path.truncate(depth);
        match path.last() {
            Some(parent) => {
                graph.entry(parent.clone()).or_default().insert(key.clone());
            }
            None if name == ROOT => root = Some(key.clone()),
            None => {}
        }
        path.push(key);
    }
    let root = root.ok_or_else(|| SbomError::Output {
        command: "cargo tree".into(),
        line: format!("no package {ROOT}"),
    })?;
    Ok((root, graph))
}

fn checksums(lock: &Path) -> Result<BTreeMap<Key, String>, SbomError> {
    let lockfile: Lockfile = toml::from_str(&read_text(lock)?).map_err(|e| SbomError::Contents {
        path: lock.to_owned(),
        fault: e.to_string(),
    })?;
    let listed = lockfile.package.into_iter();
    Ok(listed
        .filter_map(|p| p.checksum.map(|c| ((p.name, p.version), c)))
        .collect())
}

#[derive(Deserialize)]
struct Lockfile {
    package: Vec<LockedPackage>,
}

#[derive(Deserialize)]
struct LockedPackage {
    name: String,
    version: String,
    checksum: Option<String>,
}

#[derive(Deserialize)]
struct CargoMetadata {
    packages: Vec<CargoPackage>,
}

#[derive(Deserialize)]
struct CargoPackage {
    name: String,
    version: String,
    license: Option<String>,
    authors: Vec<String>,
    repository: Option<String>,
    manifest_path: PathBuf,
}

impl CargoPackage {
    fn into_crate(self, checksum: Option<String>) -> Result<Crate, SbomError> {
        let Some(licence) = self.license else {
            let fault = "`license` is missing; a crate without a licence must not be linked".into();
            let path = self.manifest_path;
            return Err(SbomError::Contents { path, fault });
        };
        let folder = self.manifest_path.parent().map(Path::to_owned).unwrap_or_default();
        Ok(Crate {
            name: self.name,
            version: self.version,
            licence,
            authors: self.authors,
            repository: self.repository,
            folder,
            checksum,
        })
    }
}

/// A cargo command that changes and downloads nothing.
struct Cargo(Command);

fn cargo(checkout: &Path, command: &str) -> Cargo {
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.args([command, "--locked", "--offline"]).current_dir(checkout);
    Cargo(cargo)
}

impl Cargo {
    fn args<'a>(mut self, arguments: impl IntoIterator<Item = &'a str>) -> Self {
        self.0.args(arguments);
        self
    }

    fn output_of(mut self) -> Result<String, SbomError> {
        output_of(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        (name.into(), "1.0.0".into())
    }

    #[test]
    fn needs_that_cargo_lists_once_belong_to_every_place() {
        let (root, graph) = parse_tree(
            "0|gridwatch v1.0.0 (/checkout)\n1|a v1.0.0\n2|b v1.0.0\n3|c v1.0.0\n1|b v1.0.0 (*)\n\n\
             0|gridwatch-lab v1.0.0 (/checkout/lab)\n1|d v1.0.0\n",
        )
        .unwrap();
        assert_eq!(root, key("gridwatch"));
        assert_eq!(graph[&key("gridwatch")], BTreeSet::from([key("a"), key("b")]));
        assert_eq!(graph[&key("b")], BTreeSet::from([key("c")]));
        assert_eq!(graph[&key("gridwatch-lab")], BTreeSet::from([key("d")]));
    }

    #[test]
    fn an_unexpected_line_is_an_error() {
        for text in [
            "",
            "0|other v1.0.0\n",
            "0|gridwatch\n",
            "gridwatch v1.0.0\n",
            "2|gridwatch v1.0.0\n",
        ] {
            assert!(matches!(parse_tree(text), Err(SbomError::Output { .. })), "{text}");
        }
    }

    #[test]
    fn a_crate_without_a_licence_is_refused() {
        let package = CargoPackage {
            name: "a".into(),
            version: "1.0.0".into(),
            license: None,
            authors: Vec::new(),
            repository: None,
            manifest_path: "/a/Cargo.toml".into(),
        };
        let error = package.into_crate(None).unwrap_err();
        assert!(
            error.to_string().starts_with("/a/Cargo.toml: `license` is missing"),
            "{error}"
        );
    }
}
