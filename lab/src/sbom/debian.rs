//! The Debian packages that a box needs, with their dependencies, as dpkg lists them on this machine.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Command,
};

use super::{Component, ComponentKind, Dependency, ExternalReference, SbomError, output_of, read_text};

/// One installed package.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Package {
    name: String,
    version: String,
    architecture: String,
    source: String,
    /// Each entry is satisfied by one of its names.
    depends: Vec<Vec<String>>,
}

/// What dpkg lists as installed, for this machine's architecture.
#[derive(Debug)]
pub(super) struct InstalledPackages {
    /// Such as `debian`.
    distribution: String,
    /// Such as `12`.
    release: String,
    packages: BTreeMap<String, Package>,
    /// For each virtual package the packages that provide it.
    providers: BTreeMap<String, Vec<String>>,
}

impl InstalledPackages {
    pub(super) fn query() -> Result<Self, SbomError> {
        let architecture = output_of(Command::new("dpkg").arg("--print-architecture"))?;
        let fields = "${db:Status-Status}\t${Package}\t${Version}\t${Architecture}\t${source:Package}\t${Pre-Depends}\t${Depends}\t${Provides}\n";
        let list = output_of(Command::new("dpkg-query").args(["--show", "--showformat", fields]))?;
        let release = read_text(Path::new("/etc/os-release"))?;
        Self::parse(&list, architecture.trim(), &release)
    }

    fn parse(list: &str, native: &str, os_release: &str) -> Result<Self, SbomError> {
        let field = |name: &str| {
            let value = os_release.lines().find_map(|l| l.strip_prefix(name));
            value.unwrap_or_default().trim_matches('"').to_owned()
        };
        let (mut packages, mut providers) = (BTreeMap::new(), BTreeMap::<String, Vec<String>>::new());
        for line in list.lines() {
            let [
                status,
                name,
                version,
                architecture,
                source,
                pre_depends,
                depends,
                provides,
            ] = line.split('\t').collect::<Vec<_>>()[..]
            else {
                return Err(SbomError::Output {
                    command: "dpkg-query --show".into(),
                    line: line.into(),
                });
            };
            if status != "installed" || !["all", native].contains(&architecture) {
                continue;
            }
            for virtual_package in relations(provides).into_iter().flatten() {
                providers.entry(virtual_package).or_default().push(name.to_owned());
            }
            let package = Package {
                name: name.to_owned(),
                version: version.to_owned(),
                architecture: architecture.to_owned(),
                source: source.to_owned(),
                depends: [relations(pre_depends), relations(depends)].concat(),
            };
            packages.insert(package.name.clone(), package);
        }
        Ok(Self {
            distribution: field("ID="),
            release: field("VERSION_ID="),
            packages,
            providers,
        })
    }

    /// These packages and everything that they need, in order of their names.
    pub(super) fn closure(&self, names: &[String]) -> Result<Vec<&Package>, SbomError> {
        let missing: Vec<String> = names
            .iter()
            .filter(|n| !self.packages.contains_key(*n))
            .cloned()
            .collect();
        if !missing.is_empty() {
            return Err(SbomError::NotInstalled(missing));
        }
        let (mut found, mut left) = (BTreeSet::new(), names.to_vec());
        while let Some(name) = left.pop() {
            if found.contains(&name) {
                continue;
            }
            let needs = self.needs(&self.packages[&name]);
            left.extend(
                needs
                    .map(|n| n.map(|p| p.name.clone()))
                    .collect::<Result<Vec<_>, _>>()?,
            );
            found.insert(name);
        }
        Ok(found.iter().map(|name| &self.packages[name]).collect())
    }

    /// The installed packages that satisfy what `package` needs: of alternatives the first that is installed.
    fn needs<'a>(&'a self, package: &'a Package) -> impl Iterator<Item = Result<&'a Package, SbomError>> {
        package.depends.iter().map(move |alternatives| {
            let mut real = alternatives.iter().filter_map(|name| self.packages.get(name));
            let provided = || {
                let providers = alternatives.iter().filter_map(|name| self.providers.get(name));
                providers.flatten().find_map(|name| self.packages.get(name))
            };
            let missing = || format!("{} (needed by {})", alternatives.join(" or "), package.name);
            real.next()
                .or_else(provided)
                .ok_or_else(|| SbomError::NotInstalled(vec![missing()]))
        })
    }

    fn purl(&self, package: &Package) -> String {
        let escaped = |text: &str| text.replace('%', "%25").replace('+', "%2B");
        format!(
            "pkg:deb/{0}/{1}@{2}?arch={3}&distro={0}-{4}&upstream={5}",
            self.distribution,
            escaped(&package.name),
            escaped(&package.version),
            package.architecture,
            self.release,
            escaped(&package.source),
        )
    }

    /// The reference of an installed package.
    pub(super) fn reference(&self, name: &str) -> Option<String> {
        self.packages.get(name).map(|p| self.purl(p))
    }

    /// The package, with a link to its licences: dpkg knows none, and one package often has many.
    pub(super) fn component(&self, package: &Package) -> Component {
        let purl = self.purl(package);
        Component {
            version: Some(package.version.clone()),
            purl: Some(purl.clone()),
            external_references: vec![ExternalReference {
                kind: "license",
                url: format!("file:///usr/share/doc/{}/copyright", package.name),
                hashes: Vec::new(),
            }],
            ..Component::new(ComponentKind::Library, purl, &package.name)
        }
    }

    pub(super) fn dependency(&self, package: &Package) -> Dependency {
        let needs = self.needs(package).flatten().map(|p| self.purl(p));
        Dependency::new(self.purl(package), needs)
    }
}

/// Every library that the program names must belong to one of the packages.
pub(super) fn check_libraries(program: &Path, packages: &[&Package]) -> Result<(), SbomError> {
    let dynamic = output_of(Command::new("readelf").arg("--dynamic").arg("--wide").arg(program))?;
    for library in needed(&dynamic) {
        let files = output_of(Command::new("dpkg-query").args(["--search", &format!("*/{library}")]));
        let is_listed = files.is_ok_and(|text| owners(&text).any(|name| packages.iter().any(|p| p.name == name)));
        if !is_listed {
            return Err(SbomError::Library {
                program: program.to_owned(),
                library: library.to_owned(),
            });
        }
    }
    Ok(())
}

/// `0x… (NEEDED) Shared library: [libc.so.6]`.
fn needed(dynamic: &str) -> impl Iterator<Item = &str> {
    let lines = dynamic.lines().filter(|l| l.contains("(NEEDED)"));
    lines.filter_map(|l| l.split_once('[')?.1.strip_suffix(']'))
}

/// `libc6:amd64, libc6-i386: /lib/…/libc.so.6`: names of packages.
fn owners(search: &str) -> impl Iterator<Item = &str> {
    let names = search.lines().filter_map(|l| Some(l.split_once(": ")?.0));
    names
        .flat_map(|n| n.split(", "))
        .map(|n| n.split(':').next().unwrap_or(n))
}

/// `libc6 (>= 2.34), default-mta | mail-transport-agent`: the names, without versions and architectures.
fn relations(field: &str) -> Vec<Vec<String>> {
    let name = |relation: &str| {
        let relation = relation.trim_start();
        let end = relation.find([' ', '(', ':', '[']).unwrap_or(relation.len());
        relation[..end].to_owned()
    };
    let entries = field.split(',').filter(|entry| !entry.trim().is_empty());
    entries.map(|entry| entry.split('|').map(name).collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = "\
installed\tplugins\t1.0-2+deb12u1\tamd64\tplugins1.0\t\tlibold | libnew:any (>= 2), ca-data\t
installed\tlibnew\t2.0\tamd64\tnew\tlibc6 (>= 2.34)\t\t
installed\tlibnew\t2.0\ti386\tnew\tlibc6 (>= 2.34)\t\t
installed\tlibc6\t2.36\tamd64\tglibc\t\tlibnew\t
installed\tcertificates\t1:3\tall\tcertificates\t\t\tca-data (= 1)
installed\tunrelated\t1\tall\tunrelated\t\t\t
config-files\tlibold\t1.0\tamd64\told\t\t\t
";

    fn installed() -> InstalledPackages {
        let os_release = "PRETTY_NAME=\"Debian\"\nVERSION_ID=\"12\"\nID=debian\n";
        InstalledPackages::parse(LIST, "amd64", os_release).unwrap()
    }

    #[test]
    fn the_closure_follows_alternatives_virtual_packages_and_cycles() {
        let installed = installed();
        let closure = installed.closure(&["plugins".to_owned()]).unwrap();
        let names: Vec<&str> = closure.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names, ["certificates", "libc6", "libnew", "plugins"]);
        assert_eq!(
            installed.purl(closure[3]),
            "pkg:deb/debian/plugins@1.0-2%2Bdeb12u1?arch=amd64&distro=debian-12&upstream=plugins1.0"
        );
    }

    #[test]
    fn a_package_that_is_not_installed_is_named() {
        let error = installed().closure(&["plugins".into(), "libold".into()]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "Debian packages not installed: libold; run `make setup`"
        );
    }

    #[test]
    fn the_owner_of_a_library_is_found() {
        let dynamic = " 0x0000000000000001 (NEEDED)             Shared library: [libc.so.6]\n 0x000000000000000e (SONAME) Library soname: [x.so]\n";
        assert_eq!(needed(dynamic).collect::<Vec<_>>(), ["libc.so.6"]);
        let search = "libc6:amd64, libc6-i386: /lib/libc.so.6\nlibfake: /opt/libc.so.6\n";
        assert_eq!(owners(search).collect::<Vec<_>>(), ["libc6", "libc6-i386", "libfake"]);
    }
}
