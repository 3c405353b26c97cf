//! Finds gridwatch's own data files: the models and the example configurations.

use std::{
    env,
    path::{Path, PathBuf},
};

use super::Failure;
use gridwatch_base::error::Class;

const VARIABLE: &str = "GRIDWATCH_SHARE";
const INSTALLED: [&str; 2] = ["/usr/lib/gridwatch", "/usr/share/gridwatch"];

/// The folder with `models/` and `configs/`: `$GRIDWATCH_SHARE`; above the executable, for one that was built in a clone; or where
/// it is installed. Never the working directory, which anyone may have prepared.
///
/// # Errors
/// If none of these holds the files, or the variable names another folder.
pub fn share() -> Result<PathBuf, Failure> {
    if let Some(named) = env::var_os(VARIABLE).filter(|v| !v.is_empty()).map(PathBuf::from) {
        return match named.canonicalize() {
            Ok(dir) if has_files(&dir) => Ok(dir),
            _ => Err(Failure::new(
                Class::Config,
                format!(
                    "{VARIABLE}={}: no models and configs there; set it to a clone of gridwatch, or unset it",
                    named.display()
                ),
            )),
        };
    }
    // Cargo names the package under `cargo run` and `cargo test`, whose target folder may lie elsewhere.
    let starts = [
        env::current_exe().ok(),
        env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from),
    ];
    let above = starts.iter().flatten().flat_map(|start| start.ancestors());
    let mut places = above.chain(INSTALLED.map(Path::new)).filter(|dir| dir.is_absolute());
    places.find(|dir| has_files(dir)).map(Path::to_path_buf).ok_or_else(|| {
        let places = INSTALLED.join(" or ");
        Failure::new(
            Class::Config,
            format!("gridwatch's models and configs are neither above the program nor in {places}; set {VARIABLE} to a clone of gridwatch"),
        )
    })
}

fn has_files(dir: &Path) -> bool {
    dir.join("configs/categories/default.toml").is_file() && dir.join("models").is_dir()
}
