//! Compresses the files in `assets/` and writes the table of them that `src/assets.rs` includes.
//!
//! Done at build time, so that the daemon neither compresses nor hashes what never changes.

use std::{
    env,
    fmt::Write as _,
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use flate2::{Compression, write::GzEncoder};
use sha2::{Digest, Sha256};

/// Kinds of files that are served, by extension.
const TYPES: [(&str, &str); 10] = [
    ("css", "text/css; charset=utf-8"),
    ("html", "text/html; charset=utf-8"),
    ("js", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("map", "application/json"),
    ("pbf", "application/x-protobuf"),
    ("png", "image/png"),
    ("svg", "image/svg+xml"),
    ("txt", "text/plain; charset=utf-8"),
    ("woff2", "font/woff2"),
];

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=assets");
    let root = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default()).join("assets");
    let out = PathBuf::from(env::var_os("OUT_DIR").unwrap_or_default());
    let mut files = Vec::new();
    collect(&root, &mut files)?;
    files.sort();
    let mut digest = Sha256::new();
    let mut table = String::new();
    for (number, path) in files.iter().enumerate() {
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        let Some((_, mime)) = TYPES.iter().find(|(known, _)| *known == extension) else {
            continue; // Notes beside the files.
        };
        let name = path.strip_prefix(&root).unwrap_or(path).to_string_lossy().into_owned();
        let bytes = fs::read(path)?;
        digest.update(name.as_bytes());
        digest.update((bytes.len() as u64).to_le_bytes());
        digest.update(&bytes);
        let packed = out.join(format!("{number}.gz"));
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(&bytes)?;
        let gzip = encoder.finish()?;
        let gains = gzip.len() < bytes.len();
        fs::write(&packed, gzip)?;
        let gzip = if gains {
            format!("Some(include_bytes!({packed:?}))")
        } else {
            "None".into()
        };
        let _ = writeln!(
            table,
            "    Asset {{ name: {name:?}, mime: {mime:?}, plain: include_bytes!({path:?}), gzip: {gzip} }},"
        );
    }
    let version: String = digest
        .finalize()
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let source = format!(
        "/// All assets.\npub(crate) static BUNDLE: Bundle = Bundle {{\n    version: {version:?},\n    files: &[\n{table}],\n}};\n"
    );
    fs::write(out.join("assets.rs"), source)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}
