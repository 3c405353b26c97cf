//! `gridwatch-lab sbom`: writes the bill of materials and the licence texts of a build.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use crate::sbom::{SbomError, Sources};
use gridwatch::cli::{Failure, print};
use gridwatch_base::{error::Class, text::counted};

/// CycloneDX's name for such a file.
const BILL: &str = "gridwatch.cdx.json";
const NOTICES: &str = "THIRD-PARTY-LICENSES.txt";

/// Write the software bill of materials of a box (CycloneDX 1.6), and the licence texts of the linked crates
///
/// The bill lists the crates that are linked into `gridwatch`, the models, ONNX Runtime, and the Debian packages that the set-up installs on a
/// box, with their dependencies, in the versions that are installed on this machine. The same commit, compiler and installed packages give the
/// same bytes. Run it after `make build`, in the checkout (`make sbom`); it needs no network.
#[derive(Debug, clap::Args)]
pub struct SbomArgs {
    /// Output folder, created if it does not exist: gets gridwatch.cdx.json and THIRD-PARTY-LICENSES.txt.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// The built program: fail if it needs a shared library that no package of the bill contains.
    #[arg(long, value_name = "FILE")]
    program: Option<PathBuf>,
    /// The checkout that the program was built from.
    #[arg(long, value_name = "DIR", default_value = ".")]
    checkout: PathBuf,
}

pub(super) fn run(args: SbomArgs) -> Result<ExitCode, Failure> {
    let sources = Sources {
        checkout: args.checkout,
        program: args.program,
    };
    let chain = sources.collect()?;
    if chain.is_undated {
        eprintln!("warning: no time and commit in the bill: not a git checkout; set SOURCE_DATE_EPOCH for the time");
    }
    let bill = serde_json::to_string_pretty(&chain.bom).map_err(|e| Failure::new(Class::Bug, e.to_string()))?;
    write(&args.out, BILL, &format!("{bill}\n"))?;
    write(&args.out, NOTICES, &chain.notices)?;
    let count = counted(chain.bom.components.len(), "component", "components");
    print(&format!("{}: {count}\n", args.out.join(BILL).display()))?;
    Ok(ExitCode::SUCCESS)
}

fn write(folder: &Path, name: &str, text: &str) -> Result<(), Failure> {
    let path = folder.join(name);
    fs::create_dir_all(folder)
        .and_then(|()| fs::write(&path, text))
        .map_err(|e| Failure::new(Class::Config, format!("{}: {e}", path.display())))
}

impl From<SbomError> for Failure {
    fn from(error: SbomError) -> Self {
        Self::new(error.class(), error.to_string())
    }
}
