//! Changes the file of a view's approved signs ([`raw::Signs`]), as `gridwatch signs record` writes it: comments stay, and the file is
//! replaced whole. Saves wait for the lock of the configuration.

use std::{
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, Value, value};

use super::{
    EditError, invalid,
    write::{self, Lock, Ownership, Staged},
};
use crate::{check, raw};
use gridwatch_base::{digest::sha256_hex, document::Document, file, message};

/// Mode of a new file: the daemon may run as another user than who recorded it.
const READABLE: u32 = 0o644;

/// Decimals of a new box: 0.2 pixels at 1080p.
const DECIMALS: f64 = 1e4;

/// Signs of a view, at most.
pub const MAX_SIGNS: usize = 500;

/// A view's approved signs, as read.
#[derive(Debug, Clone)]
pub struct SignsFile {
    /// SHA-256 of the file.
    pub revision: String,
    /// What it says.
    pub signs: raw::Signs,
}

impl SignsFile {
    /// Reads the file; `None` if there is none yet.
    ///
    /// # Errors
    /// [`EditError::Faults`] if it has faults.
    pub fn open(path: &Path) -> Result<Option<Self>, EditError> {
        let Some(bytes) = read(path)? else { return Ok(None) };
        let revision = sha256_hex(&bytes);
        let signs = parse(path, bytes)?;
        Ok(Some(Self { revision, signs }))
    }
}

/// A sign that is to be in the file.
#[derive(Debug, Clone)]
pub struct EditedSign {
    /// Its place among those that were read, from 0; `None`: it is new.
    pub index: Option<usize>,
    /// What it is to be. The number and the text that were read on a sign, and the day of its record, stay if this has none.
    pub sign: raw::Sign,
}

/// What is to be saved.
#[derive(Debug, Clone)]
pub struct SignsSave {
    /// The view.
    pub view: String,
    /// Revision of the file that the edits are for; `None`: there was none.
    pub expected: Option<String>,
    /// All signs that are to be there; others are removed.
    pub signs: Vec<EditedSign>,
    /// Time of this recording (RFC 3339), and the models that found the signs; `None`: nothing was recorded, only edited.
    pub recorded: Option<(String, String)>,
}

/// What a save did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedSigns {
    /// Revision of the file now.
    pub revision: String,
    /// New signs.
    pub added: usize,
    /// Signs that were removed.
    pub removed: usize,
}

/// Writes the approved signs of a view into the file at `path`, which may be new. `main` is the configuration's main file.
///
/// # Errors
/// [`EditError::Conflict`] if the file is not the one that was read, [`EditError::Faults`] if the result would have faults, and the errors
/// of writing. Nothing was changed then.
pub fn save_signs(main: &Path, path: &Path, save: &SignsSave) -> Result<SavedSigns, EditError> {
    if save.signs.len() > MAX_SIGNS {
        return Err(invalid(
            "signs",
            message!("too many; at most 500 can be approved in a view"),
        ));
    }
    let _lock = Lock::take(main)?;
    let before = read(path)?;
    let found = before.as_deref().map(sha256_hex);
    if found != save.expected {
        return Err(conflict(save.expected.clone(), found));
    }
    let known = match &before {
        Some(bytes) => parse(path, bytes.clone())?.signs.len(),
        None => 0,
    };
    let text = String::from_utf8(before.clone().unwrap_or_default()).unwrap_or_default();
    let text = edited(&text, save)?;
    let kept = save.signs.iter().filter(|sign| sign.index.is_some()).count();
    let bytes = text.into_bytes();
    parse(path, bytes.clone())?;
    put(&stage(path, &bytes)?, path, before.as_deref())?;
    Ok(SavedSigns {
        revision: sha256_hex(&bytes),
        added: save.signs.len() - kept,
        removed: known.saturating_sub(kept),
    })
}

/// Copies the approved signs of a view to the file of the view's new name; the old file stays. What is at `to` already is not replaced.
///
/// # Errors
/// [`EditError::Exists`] for `to`, [`EditError::Faults`] for a file with faults, and the errors of writing.
pub fn copy_signs(main: &Path, from: &Path, to: &Path, view: &str) -> Result<(), EditError> {
    let _lock = Lock::take(main)?;
    expect_free(to)?;
    let bytes = fs::read(from).map_err(EditError::io("read", from))?;
    parse(from, bytes.clone())?;
    let mut document = document(&String::from_utf8(bytes).unwrap_or_default())?;
    set(document.as_table_mut(), "camera", Some(view.into()));
    let bytes = document.to_string().into_bytes();
    parse(to, bytes.clone())?;
    let staged = stage(to, &bytes)?;
    // An editor knows no lock.
    expect_free(to)?;
    staged.replace()
}

fn expect_free(path: &Path) -> Result<(), EditError> {
    if path.symlink_metadata().is_ok() {
        return Err(EditError::Exists {
            path: path.display().to_string(),
        });
    }
    Ok(())
}

fn conflict(expected: Option<String>, found: Option<String>) -> EditError {
    EditError::Conflict {
        expected: expected.unwrap_or_default(),
        found: found.unwrap_or_default(),
        changes: None,
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, EditError> {
    match file::read(path, file::MAX_TEXT) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(EditError::io("read", path)(error)),
    }
}

fn parse(path: &Path, bytes: Vec<u8>) -> Result<raw::Signs, EditError> {
    let parsed = check::parse_signs(Document::of(path, Ok(bytes)));
    parsed.map(|(_, signs)| signs).map_err(EditError::Faults)
}

/// Writes the new file beside the old one.
fn stage(path: &Path, bytes: &[u8]) -> Result<Staged, EditError> {
    let directory = match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory.to_owned(),
        _ => PathBuf::from("."),
    };
    write::make_directory(&directory, 0o755)?;
    let of_directory = directory.metadata().map_err(EditError::io("read", &directory))?;
    let new = Ownership {
        uid: of_directory.uid(),
        gid: of_directory.gid(),
        mode: READABLE,
    };
    write::stage(path, bytes, new)
}

/// Replaces the file at `path`, if it still is what it was before: an editor, which knows no lock, may have saved meanwhile.
fn put(staged: &Staged, path: &Path, before: Option<&[u8]>) -> Result<(), EditError> {
    let now = read(path)?;
    if now.as_deref() != before {
        return Err(conflict(before.map(sha256_hex), now.as_deref().map(sha256_hex)));
    }
    staged.replace()
}

fn document(text: &str) -> Result<DocumentMut, EditError> {
    let text = file::without_mark(text);
    text.parse()
        .map_err(|_| invalid("signs", message!("invalid TOML; mend the file first")))
}

/// The text with the signs of `save`.
fn edited(text: &str, save: &SignsSave) -> Result<String, EditError> {
    let is_new = text.is_empty();
    let mut document = document(if is_new { HEAD } else { text })?;
    let root = document.as_table_mut();
    set(root, "camera", Some(save.view.as_str().into()));
    match &save.recorded {
        Some((at, model)) => {
            set(root, "recorded", Some(at.as_str().into()));
            set(root, "model", Some(model.as_str().into()));
        }
        None if is_new => {
            return Err(invalid(
                "recorded",
                message!("a new file needs the time and the models of a recording"),
            ));
        }
        None => {}
    }
    let tables = match root.remove("signs") {
        None => ArrayOfTables::new(),
        Some(Item::ArrayOfTables(tables)) => tables,
        // `signs = []` of a hand.
        Some(Item::Value(Value::Array(list))) if list.is_empty() => ArrayOfTables::new(),
        Some(_) => {
            return Err(invalid(
                "signs",
                message!("write each sign as a [[signs]] table; then it can be edited here"),
            ));
        }
    };
    let mut new = ArrayOfTables::new();
    for (index, table) in tables.iter().enumerate() {
        let mut kept = save.signs.iter().filter(|sign| sign.index == Some(index));
        let Some(sign) = kept.next() else { continue };
        if kept.next().is_some() {
            return Err(invalid("signs", message!("a sign of the file is named twice")));
        }
        let mut table = table.clone();
        renumber(&mut table, new.len() + 1);
        update(&mut table, &sign.sign);
        new.push(table);
    }
    if save
        .signs
        .iter()
        .any(|sign| sign.index.is_some_and(|index| index >= tables.len()))
    {
        return Err(invalid("signs", message!("the file has fewer signs")));
    }
    for sign in save.signs.iter().filter(|sign| sign.index.is_none()) {
        let mut table = Table::new();
        table.decor_mut().set_prefix(format!("\n# {}\n", new.len() + 1));
        update(&mut table, &sign.sign);
        new.push(table);
    }
    if !new.is_empty() {
        root.insert("signs", Item::ArrayOfTables(new));
    }
    Ok(document.to_string())
}

/// Begins a new file; as `gridwatch signs record` writes it.
const HEAD: &str = "\
# Approved signs in this camera's view. Rules with except_approved file a case for any other sign, so delete the blocks of
# signs that are not approved, and write the owner and permit of the others to `note` and `permit`. A box is [left, top, right,
# bottom] as fractions of the picture. `gridwatch signs record` appends new signs and leaves the rest unchanged.
camera = \"\"
recorded = \"\"
model = \"\"
";

/// The numbers that are written above the signs follow when one before was removed.
fn renumber(table: &mut Table, number: usize) {
    let Some(prefix) = table.decor().prefix().and_then(|prefix| prefix.as_str()) else {
        return;
    };
    let is_number = |line: &str| {
        let digits = line.trim().strip_prefix('#').map(str::trim);
        digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let lines = prefix.split_inclusive('\n');
    let lines = lines.map(|line| match is_number(line) {
        true => format!("# {number}\n"),
        false => line.to_owned(),
    });
    let prefix: String = lines.collect();
    table.decor_mut().set_prefix(prefix);
}

/// Makes the table say what the sign says.
fn update(table: &mut Table, sign: &raw::Sign) {
    let corners = sign.corners.map(|side| (f64::from(side) * DECIMALS).round() / DECIMALS);
    let old = table.get("box").and_then(Item::as_array);
    let old: Option<Vec<f64>> = old.map(|list| list.iter().filter_map(number).collect());
    let is_same =
        old.is_some_and(|old| old.len() == 4 && old.iter().zip(&corners).all(|(a, b)| (a - b).abs() < 1.0 / DECIMALS));
    if !is_same {
        set(
            table,
            "box",
            Some(corners.into_iter().collect::<toml_edit::Array>().into()),
        );
    }
    set(table, "label", Some(sign.label.as_str().into()));
    for (key, read) in [("number", &sign.number), ("text", &sign.text), ("added", &sign.added)] {
        if let Some(read) = read {
            set(table, key, Some(read.as_str().into()));
        }
    }
    let fields = [
        ("note", &sign.note),
        ("permit", &sign.permit),
        ("valid_until", &sign.valid_until),
    ];
    for (key, text) in fields {
        let text = text.as_deref().filter(|text| !text.is_empty());
        set(table, key, text.map(Into::into));
    }
}

fn number(value: &Value) -> Option<f64> {
    value.as_float().or_else(|| value.as_integer().map(|n| n as f64))
}

/// Sets a field, which keeps the comment behind it, or removes it.
fn set(table: &mut Table, key: &str, new: Option<Value>) {
    let Some(mut new) = new else {
        // An empty one says the same, and its comment stays.
        if table.get(key).is_some_and(|old| old.as_str() != Some("")) {
            table.remove(key);
        }
        return;
    };
    match table.get_mut(key).and_then(Item::as_value_mut) {
        Some(old) if old.as_str().is_some() && old.as_str() == new.as_str() => {}
        Some(old) => {
            *new.decor_mut() = old.decor().clone();
            *old = new;
        }
        None => {
            table.insert(key, value(new));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# head
camera = \"gate\"   # the view
recorded = \"2026-11-22T10:05:00+08:00\"
model = \"m@1\"

# 1
[[signs]]
box = [0.1210, 0.1420, 0.3350, 0.2260]
label = \"sign\"   # of the model
note = \"pharmacy\"
added = \"2026-11-22\"

# 2
# with care
[[signs]]
box = [0.402, 0.155, 0.448, 0.291]
label = \"sign\"
number = \"13800138000\"
";

    fn sign(index: Option<usize>, left: f32) -> EditedSign {
        EditedSign {
            index,
            sign: raw::Sign {
                corners: [left, 0.155, 0.448, 0.291],
                label: "sign".into(),
                number: None,
                text: None,
                note: Some("bookshop".into()),
                permit: Some("2026-7".into()),
                valid_until: None,
                added: None,
            },
        }
    }

    fn save(signs: Vec<EditedSign>) -> SignsSave {
        SignsSave {
            view: "gate".into(),
            expected: None,
            signs,
            recorded: None,
        }
    }

    #[test]
    fn comments_stay_and_numbers_follow() {
        let text = edited(TEXT, &save(vec![sign(Some(1), 0.40201), sign(None, 0.2)])).unwrap();
        assert_eq!(
            text,
            "\
# head
camera = \"gate\"   # the view
recorded = \"2026-11-22T10:05:00+08:00\"
model = \"m@1\"

# 1
# with care
[[signs]]
box = [0.402, 0.155, 0.448, 0.291]
label = \"sign\"
number = \"13800138000\"
note = \"bookshop\"
permit = \"2026-7\"

# 2
[[signs]]
box = [0.2, 0.155, 0.448, 0.291]
label = \"sign\"
note = \"bookshop\"
permit = \"2026-7\"
"
        );
        assert!(edited(TEXT, &save(vec![sign(Some(2), 0.4)])).is_err(), "no such sign");
        assert!(edited(TEXT, &save(vec![sign(Some(1), 0.4), sign(Some(1), 0.4)])).is_err());
        assert!(edited("", &save(Vec::new())).is_err(), "no time of a recording");
    }

    #[test]
    fn an_edit_by_hand_after_the_new_file_was_written_is_not_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("gate.toml");
        for before in [None, Some(TEXT.as_bytes())] {
            let staged = stage(&path, b"new").unwrap();
            fs::write(&path, "by hand").unwrap();
            assert!(matches!(
                put(&staged, &path, before),
                Err(EditError::Conflict { found, .. }) if found == sha256_hex(b"by hand")
            ));
            drop(staged);
            assert_eq!(fs::read_to_string(&path).unwrap(), "by hand");
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "the new file is removed");
        }
        put(&stage(&path, b"new").unwrap(), &path, Some(b"by hand".as_slice())).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_is_written_read_and_not_overwritten_by_another() {
        let dir = tempfile::tempdir().unwrap();
        let (main, path) = (dir.path().join("edge.toml"), dir.path().join("signs/gate.toml"));
        assert!(SignsFile::open(&path).unwrap().is_none());
        let mut first = save(vec![sign(None, 0.1)]);
        first.recorded = Some(("2026-11-22T10:05:00+08:00".into(), "m@1".into()));
        let saved = save_signs(&main, &path, &first).unwrap();
        assert_eq!((saved.added, saved.removed), (1, 0));
        let read = SignsFile::open(&path).unwrap().unwrap();
        assert_eq!(
            (read.revision.as_str(), read.signs.signs.len()),
            (saved.revision.as_str(), 1)
        );
        assert!(matches!(
            save_signs(&main, &path, &first),
            Err(EditError::Conflict { .. })
        ));
        let mut wrong = save(vec![sign(None, 0.9)]);
        wrong.expected = Some(saved.revision.clone());
        assert!(
            matches!(save_signs(&main, &path, &wrong), Err(EditError::Faults(_))),
            "left is right of right"
        );
        assert_eq!(SignsFile::open(&path).unwrap().unwrap().revision, saved.revision);
        let copy = dir.path().join("signs/gate.north.toml");
        copy_signs(&main, &path, &copy, "gate.north").unwrap();
        assert_eq!(SignsFile::open(&copy).unwrap().unwrap().signs.camera, "gate.north");
        assert!(matches!(
            copy_signs(&main, &path, &copy, "x"),
            Err(EditError::Exists { .. })
        ));
        let mut none = save(Vec::new());
        none.expected = Some(saved.revision);
        assert_eq!(save_signs(&main, &path, &none).unwrap().removed, 1);
        assert!(
            SignsFile::open(&path).unwrap().unwrap().signs.signs.is_empty(),
            "none is approved"
        );
    }
}
