//! The licence texts of the linked crates. Most licences require that they go with the program.

use std::{
    collections::BTreeMap,
    fmt::Write,
    fs,
    path::{Path, PathBuf},
};

use super::{
    SbomError,
    crates::{Crate, LinkedCrates},
    read_text,
};

/// Beginnings of the names of files with licence texts and notices, in capitals.
const NAMES: [&str; 6] = ["LICENSE", "LICENCE", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"];

const RULE: &str = "================================================================================";

/// Permission notice of the MIT licence, for crates that state the licence but do not include its text.
const MIT: &str = "\
Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation files (the
\"Software\"), to deal in the Software without restriction, including without limitation the rights to use, copy, modify, merge, publish,
distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is furnished to do so, subject to
the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED \"AS IS\", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF
MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY
CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE
SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
";

/// The crates with their licences, then each text once, with the crates that contain it.
pub(super) fn text(crates: &LinkedCrates, rust_version: &str) -> Result<String, SbomError> {
    let mut by_text = BTreeMap::<String, Vec<String>>::new();
    let (mut list, mut without) = (String::new(), String::new());
    for c in crates.foreign() {
        let label = format!("{} {}", c.name, c.version);
        // Writing to a String cannot fail.
        let _ = writeln!(list, "{label}: {}", c.licence);
        let files = licence_files(&c.folder)?;
        if files.is_empty() {
            let _ = writeln!(without, "{label}: {}. {}", c.licence, holders(c));
        }
        for file in files {
            // Line ends and margins differ between otherwise identical files.
            let text = read_text(&file)?;
            let text = text.lines().map(str::trim_end).collect::<Vec<_>>().join("\n");
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            let users = by_text.entry(text.trim_matches('\n').to_owned()).or_default();
            users.push(format!("{label} ({name})"));
        }
    }
    let mut texts: Vec<_> = by_text.into_iter().collect();
    texts.sort_by(|a, b| a.1.cmp(&b.1));

    let mut out = format!(
        "The gridwatch program contains the crates below, the standard library of Rust {rust_version} (MIT OR Apache-2.0, The Rust Project\n\
         contributors) and SQLite (public domain). The crates' licence texts and notices follow, each once.\n\n{list}"
    );
    if !without.is_empty() {
        let _ = write!(
            out,
            "\n{RULE}\nCrates that contain no licence text. The text of Apache-2.0 is below; that of MIT is:\n\n{MIT}\n{without}"
        );
    }
    for (text, users) in texts {
        let _ = write!(out, "\n{RULE}\n{}\n\n{text}\n", users.join("\n"));
    }
    Ok(out)
}

/// Licence files in the root of a crate's source, and in a folder `LICENSES` there.
fn licence_files(folder: &Path) -> Result<Vec<PathBuf>, SbomError> {
    let mut files = Vec::new();
    for entry in list(folder)? {
        let name = entry
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .to_ascii_uppercase();
        if !NAMES.iter().any(|n| name.starts_with(n)) {
            continue;
        }
        if entry.is_dir() {
            files.extend(list(&entry)?.into_iter().filter(|f| f.is_file()));
        } else if entry.is_file() {
            files.push(entry);
        }
    }
    Ok(files)
}

fn list(folder: &Path) -> Result<Vec<PathBuf>, SbomError> {
    let entries =
        fs::read_dir(folder).and_then(|entries| entries.map(|e| Ok(e?.path())).collect::<Result<Vec<_>, _>>());
    let mut paths = entries.map_err(|source| SbomError::File {
        path: folder.to_owned(),
        source,
    })?;
    paths.sort_unstable();
    Ok(paths)
}

/// Who holds the rights, as far as the manifest says.
fn holders(c: &Crate) -> String {
    let who = if c.authors.is_empty() {
        format!("the authors of {}", c.name)
    } else {
        c.authors.join(", ")
    };
    match &c.repository {
        Some(repository) => format!("Copyright (c) {who}; {repository}"),
        None => format!("Copyright (c) {who}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licence_files_are_found_by_name_and_in_a_folder_of_licences() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("LICENSES")).unwrap();
        for name in [
            "LICENSE-MIT",
            "licence.md",
            "NOTICE",
            "README.md",
            "LICENSES/BSD-3-Clause.txt",
        ] {
            fs::write(dir.path().join(name), "text").unwrap();
        }
        let found = licence_files(dir.path()).unwrap();
        let names: Vec<_> = found
            .iter()
            .map(|f| f.strip_prefix(dir.path()).unwrap().to_str().unwrap())
            .collect();
        assert_eq!(
            names,
            ["LICENSE-MIT", "LICENSES/BSD-3-Clause.txt", "NOTICE", "licence.md"]
        );
    }
}
