//! The software bill of materials of a box, as CycloneDX 1.6, and the licence texts that its program must carry.
//!
//! Everything is taken from what the build itself uses: the crates from cargo, the names of the Debian packages and the hashes of ONNX Runtime
//! from `edge-deploy/setup.sh`, versions of packages from dpkg, the models from their manifests. No list is kept here, and nothing is
//! downloaded. The same commit, toolchain and installed packages give the same bytes.

mod crates;
mod debian;
mod document;
mod licence;
mod model_folders;
mod notices;
mod setup;
mod toolchain;

use std::{
    io,
    path::{Path, PathBuf},
    process::Command,
};

use gridwatch_base::{document::Faults, error::Class, file};

use self::{crates::LinkedCrates, debian::InstalledPackages, setup::Setup, toolchain::Toolchain};
pub use self::{
    document::{
        Bom, Component, ComponentKind, Dependency, ExternalReference, Hash, Metadata, Pedigree, Property, Tools,
    },
    licence::{Licence, LicenceChoice},
};

/// What is described.
#[derive(Debug, Clone)]
pub struct Sources {
    /// The checkout that the program was built from.
    pub checkout: PathBuf,
    /// The program: every shared library that it needs must belong to a package of the bill. `None`: not checked.
    pub program: Option<PathBuf>,
}

/// The bill and the licence texts of one build.
#[derive(Debug)]
pub struct SupplyChain {
    /// What a box gets.
    pub bom: Bom,
    /// Licence and notice files of the crates that are linked into the program.
    pub notices: String,
    /// Licence expressions of the crates from the registry, in one order of alternatives, with the number of crates of each.
    pub licences: Vec<(String, usize)>,
    /// Names of the Debian packages that the set-up installs on a box; the bill has their dependencies, too.
    pub packages: Vec<String>,
    /// Neither a commit nor `SOURCE_DATE_EPOCH` gave a timestamp.
    pub is_undated: bool,
}

impl Sources {
    /// Collects the bill and the licence texts.
    ///
    /// # Errors
    /// A tool, a package or the source of a crate is missing, a model differs from its manifest, or the program needs a library that no package
    /// of the bill holds.
    pub fn collect(&self) -> Result<SupplyChain, SbomError> {
        let toolchain = Toolchain::query()?;
        let crates = LinkedCrates::of(&self.checkout, &toolchain.host)?;
        let setup = Setup::of(&self.checkout)?;
        let installed = InstalledPackages::query()?;
        let packages = installed.closure(&setup.packages)?;
        if let Some(program) = &self.program {
            debian::check_libraries(program, &packages)?;
        }

        let rust = toolchain.component();
        let onnx_runtime = setup.onnx_runtime();
        let models = model_folders::components(&self.checkout.join("models"))?;
        let direct = setup.packages.iter().filter_map(|name| installed.reference(name));
        let needs: Vec<String> = [&rust, &onnx_runtime]
            .into_iter()
            .chain(&models)
            .map(|c| c.reference.clone())
            .chain(direct)
            .chain(crates.needs_of_root())
            .collect();
        let mut dependencies = vec![Dependency::new(crates.root_reference(), needs)];
        dependencies.extend(crates.dependencies());
        dependencies.extend(packages.iter().map(|p| installed.dependency(p)));
        let mut components = vec![rust, onnx_runtime];
        components.extend(models);
        components.extend(crates.components()?);
        components.extend(packages.iter().map(|p| installed.component(p)));

        let commit = toolchain::commit(&self.checkout);
        let timestamp = toolchain::timestamp(&self.checkout)?;
        Ok(SupplyChain {
            is_undated: timestamp.is_none(),
            bom: Bom::new(
                Metadata::new(crates.root_component(commit), timestamp),
                components,
                dependencies,
            ),
            notices: notices::text(&crates, &toolchain.version)?,
            licences: crates.licence_counts(),
            packages: setup.packages,
        })
    }
}

/// Why no bill was written.
#[derive(Debug, thiserror::Error)]
pub enum SbomError {
    /// A program could not be started.
    #[error(
        "cannot run `{command}`: {source}; the bill is made on the Debian machine that builds gridwatch, after `make setup`"
    )]
    Start {
        /// The command.
        command: String,
        /// The cause.
        source: io::Error,
    },
    /// A program failed.
    #[error("`{command}` failed:\n{message}")]
    Failed {
        /// The command.
        command: String,
        /// What it wrote to standard error.
        message: String,
    },
    /// The output of a program is not of the expected form.
    #[error("`{command}`: unexpected output: {line:?}")]
    Output {
        /// The command.
        command: String,
        /// The line that was not understood.
        line: String,
    },
    /// A file cannot be read.
    #[error("{}: {source}", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file has not the expected contents.
    #[error("{}: {fault}", .path.display())]
    Contents {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        fault: String,
    },
    /// A model's manifest is invalid.
    #[error("{0}")]
    Manifest(Faults),
    /// Packages of the set-up, or that they depend on, are not installed here, so their versions are unknown.
    #[error("Debian packages not installed: {}; run `make setup`", .0.join(", "))]
    NotInstalled(Vec<String>),
    /// The program needs a library that the set-up does not install.
    #[error(
        "{}: needs {library}, which no package of `edge-deploy/setup.sh --list` nor their dependencies contain; add its package to the list there",
        .program.display()
    )]
    Library {
        /// The program.
        program: PathBuf,
        /// The library's soname.
        library: String,
    },
    /// `SOURCE_DATE_EPOCH` is not a time.
    #[error("SOURCE_DATE_EPOCH: expected seconds since 1970, found {0:?}")]
    SourceDate(String),
}

impl SbomError {
    /// How to handle it.
    pub fn class(&self) -> Class {
        match self {
            Self::Output { .. } => Class::Bug,
            _ => Class::Config,
        }
    }
}

/// Standard output of a command that must succeed.
fn output_of(command: &mut Command) -> Result<String, SbomError> {
    let shown = || {
        let words = std::iter::once(command.get_program()).chain(command.get_args());
        let words: Vec<_> = words.map(|w| w.to_string_lossy().into_owned()).collect();
        words.join(" ")
    };
    let shown = shown();
    let output = command.output().map_err(|source| SbomError::Start {
        command: shown.clone(),
        source,
    })?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(SbomError::Failed {
            command: shown,
            message: String::from_utf8_lossy(&output.stderr).trim_end().to_owned(),
        })
    }
}

fn read_text(path: &Path) -> Result<String, SbomError> {
    let bytes = file::read(path, file::MAX_TEXT).map_err(|source| SbomError::File {
        path: path.to_owned(),
        source,
    })?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
